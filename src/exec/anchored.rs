//! `Anchored`: a value that one thread alone may touch, in a place that any thread may have.
//!
//! # Safety
//! The value lies on the heap, in a box of [`AtHome`], whose field only this file can name. Two
//! threads come near it: home, which is the thread that made it, and whoever has the `Anchored`.
//!
//! - *A reference to the value, or the value itself, is made at home only.* Home is known by a
//!   number that each thread takes once and no other thread ever has. A value that is no more
//!   `Send` than an `Rc` is therefore used where it always was.
//! - *It is dropped at home only.* Elsewhere the box goes to the inbox of home's runtime, unopened.
//!   All that takes a box out of an inbox runs on that runtime's thread, which is home, since the
//!   runtime was entered there when the value was anchored and can change its thread no more than
//!   any other value without `Send`. If the inbox gives the box back, it is leaked.
//! - *Whoever moves the box from thread to thread orders the accesses before and after*: the owner
//!   who sends the `Anchored`, and the lock of the inbox.
//! - *It may be dropped long after the `Anchored`*, so it borrows nothing: `T: 'static`.
//! - *It is pinned if the `Anchored` is.* [`Anchored::get_pin_mut`] gives the field out pinned.
//!   What could move it takes the `Anchored` by value or by `&mut`, and nobody has these of one that
//!   is pinned, unless `T` is `Unpin`; `Anchored` itself is no more `Unpin` than `T`. The drop moves
//!   the box, and never what is in it.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::Stream;

use super::mailbox::Mailbox;
use super::with_local;
use crate::counters;

/// A value of any type that may be named, moved and dropped on any thread, and is used on one.
///
/// Libraries often ask for `Send` though a program has one thread, or none that matters: handlers
/// of axum, upgrades of hyper, boxed services of tower. The types of this crate are not `Send`,
/// since they belong to a ring, and a ring to a thread. `Anchored<T>` is `Send` and `Sync` for
/// every `T`. It is bound to *home*: the thread that made it, and the runtime that was entered
/// there. Only at home it gives the value out, which is checked each time, by one comparison.
///
/// ```
/// use std::rc::Rc;
/// use annulus::{Anchored, time};
///
/// /// As the handlers of axum are.
/// async fn serve(handler: impl Future<Output = usize> + Send) -> usize {
///     handler.await
/// }
///
/// # annulus::block_on(async {
/// let shared = Rc::new(5);
/// let handler = async move {
///     time::sleep(std::time::Duration::from_millis(1)).await;
///     *shared // an `Rc` across an await: this future is not `Send`
/// };
/// assert_eq!(serve(Anchored::new(handler)).await, 5);
/// # });
/// ```
///
/// # Elsewhere
/// On every other thread the value is out of reach: [`get`](Anchored::get) and its kin say `None`,
/// [`into_inner`](Anchored::into_inner) gives the `Anchored` back, the traits for streams of bytes
/// return an [`io::Error`](std::io::Error), and `Future` and `Stream`, which have no way to say it,
/// panic. Another runtime of the home thread is not elsewhere.
///
/// # Drop
/// At home the value is dropped at once. Elsewhere it goes back: the home runtime drops it in its
/// next turn, or when it ends, whichever is earlier. Its loop's wait ends for that. Between two
/// calls of [`block_on`](crate::Runtime::block_on) it waits there. A panic of its destructor is
/// then caught, since it has nobody to go to. There is no bound on how many values may wait.
///
/// If the runtime has ended by then, the value is *leaked*, since its destructor may touch what
/// others on its thread have, and that thread may never run code of this crate again.
/// [`Metrics::anchored_leaked`](crate::Metrics::anchored_leaked) counts these. So let what has the
/// `Anchored` end before the runtime does.
///
/// Since the drop may come late, a value may borrow nothing (`'static`).
pub struct Anchored<T: 'static> {
    /// `None` only while it is taken apart.
    value: Option<Box<AtHome<T>>>,
    /// The number of the thread that made it.
    home: u64,
    /// The way back.
    mailbox: Mailbox,
    /// The value is pinned if this is.
    _pinned: PhantomData<AtHome<T>>,
}

/// A value that is touched at home alone.
struct AtHome<T>(T);

// SAFETY: on other threads than home the field is neither read, written nor dropped; see above.
unsafe impl<T> Send for AtHome<T> {}
// SAFETY: as above: a reference to this is opened at home only.
unsafe impl<T> Sync for AtHome<T> {}

/// The number of the next thread that anchors a value. None has 0.
static THREADS: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The number of this thread, or 0 while it has anchored nothing. It has no destructor, so it
    /// can be asked at any time of a thread's life.
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

fn this_thread() -> u64 {
    if THREAD.get() == 0 {
        THREAD.set(THREADS.fetch_add(1, Ordering::Relaxed));
    }
    THREAD.get()
}

impl<T> Anchored<T> {
    /// Binds a value to this thread and to the runtime that is entered on it.
    ///
    /// # Panics
    /// Outside a runtime.
    #[track_caller]
    pub fn new(value: T) -> Anchored<T> {
        let Some(mailbox) = with_local(|executor| executor.mailbox()) else {
            panic!(
                "Anchored::new: there is no annulus runtime on this thread, to which the value could come back"
            )
        };
        Anchored {
            value: Some(Box::new(AtHome(value))),
            home: this_thread(),
            mailbox,
            _pinned: PhantomData,
        }
    }

    #[inline]
    fn is_home(&self) -> bool {
        THREAD.get() == self.home
    }

    /// The value. `None` elsewhere.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.is_home() { self.value.as_ref().map(|value| &value.0) } else { None }
    }

    /// The value, to be changed. `None` elsewhere.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if self.is_home() { self.value.as_mut().map(|value| &mut value.0) } else { None }
    }

    /// The value, pinned. `None` elsewhere.
    #[inline]
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Option<Pin<&mut T>> {
        if !self.is_home() {
            return None;
        }
        // SAFETY: the field is pinned with its `Anchored`, see the top of the file.
        Some(unsafe {
            self.map_unchecked_mut(|anchored| &mut anchored.value.as_mut().expect(TAKEN_LAST).0)
        })
    }

    /// The value, free of the anchor.
    ///
    /// # Errors
    /// Elsewhere: the `Anchored` itself.
    pub fn into_inner(mut self) -> Result<T, Anchored<T>> {
        if !self.is_home() {
            return Err(self);
        }
        Ok(self.value.take().expect(TAKEN_LAST).0)
    }

    /// As [`get_pin_mut`](Anchored::get_pin_mut), for the traits that return errors.
    #[cfg(any(feature = "futures-io", feature = "tokio-io", feature = "hyper"))]
    pub(crate) fn try_pin_mut(self: Pin<&mut Self>) -> std::io::Result<Pin<&mut T>> {
        self.get_pin_mut().ok_or_else(|| std::io::Error::other(ELSEWHERE))
    }

    /// As [`get_pin_mut`](Anchored::get_pin_mut), for the traits that return none.
    #[track_caller]
    fn expect_pin_mut(self: Pin<&mut Self>) -> Pin<&mut T> {
        match self.get_pin_mut() {
            Some(value) => value,
            None => panic!("{ELSEWHERE}"),
        }
    }
}

const TAKEN_LAST: &str = "only `into_inner` and the drop take the value";

const ELSEWHERE: &str = "this is an `Anchored` of another thread, and only that thread can use it: poll it in a task of the runtime in which it was made";

impl<T> Drop for Anchored<T> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else { return };
        if self.is_home() {
            return drop(value);
        }
        if let Err(value) = self.mailbox.give_back(value) {
            mem::forget(value);
            counters::count_leak();
        }
    }
}

impl<F: Future> Future for Anchored<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.expect_pin_mut().poll(context)
    }
}

impl<S: Stream> Stream for Anchored<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.expect_pin_mut().poll_next(context)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.get().map_or((0, None), Stream::size_hint)
    }
}

/// It never looks inside.
impl<T> fmt::Debug for Anchored<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anchored").field("is_home", &self.is_home()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
