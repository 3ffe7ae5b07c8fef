//! Panics of destructors, of wakers, and of what panics carry: none of them gets past its net.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use annulus::buf::{IoBuf, IoBufMut};
use annulus::net::UnixStream;
use annulus::{JoinSet, spawn, time};

use crate::common::{
    self, assert_descriptors_are, bounded, open_descriptors, poll_once, run_here, turns,
};
use crate::{Drops, Guard, hold};

thread_local! {
    /// How many more drops of what a panic carries panic.
    static NESTED: Cell<u32> = const { Cell::new(0) };
}

/// What a panic carries, whose drop panics with another of them, so many times. It takes no memory,
/// since it may be leaked.
struct Nested;

impl Nested {
    fn panic() -> ! {
        NESTED.set(3);
        resume_unwind(Box::new(Nested))
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        if let Some(left) = NESTED.get().checked_sub(1) {
            NESTED.set(left);
            resume_unwind(Box::new(Nested));
        }
    }
}

/// Panics when it is dropped, with something whose drop panics.
struct Bomb(#[expect(dead_code, reason = "kept to be dropped")] Guard);

impl Drop for Bomb {
    fn drop(&mut self) {
        Nested::panic();
    }
}

/// A waker whose wake, or whose drop, panics in that way.
struct BombWaker {
    when_woken: bool,
}

impl Wake for BombWaker {
    fn wake(self: Arc<Self>) {
        if self.when_woken {
            Nested::panic();
        }
    }
}

impl Drop for BombWaker {
    fn drop(&mut self) {
        if !self.when_woken {
            Nested::panic();
        }
    }
}

/// The panic's payload is as bad as the value was: nobody drops it here.
fn caught<T>(body: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(body)).map_err(std::mem::forget).ok()
}

#[test]
fn a_future_whose_drop_panics_with_something_whose_drop_panics_is_dropped_once() {
    let drops = Drops::default();
    run_here(async {
        for _ in 0..3 {
            // The output is a bomb too: it goes before the panic of the future is kept.
            let (in_future, in_output) = (Bomb(drops.guard()), Bomb(drops.guard()));
            let mut output = Some(in_output);
            let task =
                spawn(Holds(in_future, move || Poll::Ready(output.take().expect("polled once"))));
            let Err(error) = task.await else { panic!("the drop of its future panicked") };
            assert!(error.is_panic());
            std::mem::forget(error.into_panic());
            // The same when it is aborted, and when nobody waits.
            let aborted = spawn(Holds(Bomb(drops.guard()), || Poll::<()>::Pending));
            aborted.abort();
            std::mem::forget(aborted.await.expect_err("aborted").into_panic());
            drop(spawn(Holds(Bomb(drops.guard()), || Poll::Ready(()))));
            turns(2).await;
        }
        assert_eq!(annulus::metrics().tasks, 0);
    });
    assert_eq!(drops.count(), 12, "each bomb's guard is dropped once");
}

/// A future that owns something, which goes with it and not with its output.
struct Holds<T, P>(T, P);

impl<T: Unpin, P: FnMut() -> Poll<O> + Unpin, O> Future for Holds<T, P> {
    type Output = O;

    fn poll(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<O> {
        let _ = &self.0;
        (self.1)()
    }
}

#[test]
fn outputs_and_joiners_that_panic_in_that_way_disturb_nobody() {
    let drops = Drops::default();
    run_here(async {
        let output = Bomb(drops.guard());
        drop(spawn(async move { output }));
        turns(2).await;
        // The waker of somebody who awaits the handle panics when it is woken.
        let mut joined = Box::pin(spawn(async { turns(1).await }));
        let waker = Waker::from(Arc::new(BombWaker { when_woken: true }));
        assert!(joined.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        turns(3).await;
        joined.await.expect("it has returned");
        // A handle that has both a waker and a result to drop.
        let output = Bomb(drops.guard());
        let handle = spawn(async move { output });
        turns(2).await;
        assert!(caught(|| drop(handle)).is_none(), "the panic is that of whoever drops");
        assert_eq!(annulus::metrics().tasks, 0);
    });
    assert_eq!(drops.count(), 2);
}

/// A buffer of which everything else is right.
struct BombBuffer(Box<[u8]>, #[expect(dead_code, reason = "kept to be dropped")] Bomb);

// SAFETY: the bytes lie in a box of their own.
unsafe impl IoBuf for BombBuffer {
    fn as_init_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.0.len()
    }
}

// SAFETY: as above, and nobody else has the box.
unsafe impl IoBufMut for BombBuffer {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }

    unsafe fn set_init_len(&mut self, _len: usize) {}
}

#[test]
fn buffers_of_dropped_operations_that_panic_together_cost_one_panic() {
    let drops = Drops::default();
    let _turn = common::turn_on_software_ring();
    bounded(|| {
        let runtime = common::runtime();
        let first_panic = caught(|| {
            runtime.block_on(async {
                let streams: Vec<_> = (0..3).map(|_| UnixStream::pair().expect("a pair")).collect();
                for (ours, _) in &streams {
                    let mut read =
                        Box::pin(ours.read(BombBuffer(vec![0; 8].into(), Bomb(drops.guard()))));
                    assert!(poll_once(read.as_mut()).is_pending());
                }
                turns(5).await;
                unreachable!("the first of the panics comes out");
            })
        });
        assert!(first_panic.is_none());
        assert_eq!(drops.count(), 3, "all were served");
        assert_eq!(runtime.block_on(async { 5 }), 5, "and the runtime is in order");
    });
}

#[test]
fn the_end_of_a_runtime_lets_no_panic_out_and_closes_everything() {
    common::in_own_process(|| {
        let before = open_descriptors();
        let drops = Drops::default();
        let runtime = common::runtime();
        runtime.block_on(async {
            for _ in 0..3 {
                spawn(hold(Bomb(drops.guard())));
                let (ours, theirs) = UnixStream::pair().expect("a pair");
                let buffer = BombBuffer(vec![0; 8].into(), Bomb(drops.guard()));
                let bomb = Bomb(drops.guard());
                spawn(async move {
                    let _theirs = (theirs, bomb);
                    let _ = ours.read(buffer).await.map(|_| ()).map_err(drop);
                });
                // Several wakers of timers whose drops panic: one at a time.
                let mut sleep = Box::pin(time::sleep(Duration::from_secs(1000)));
                let waker = Waker::from(Arc::new(BombWaker { when_woken: false }));
                assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                // The timer's clone is the last one then.
                drop(waker);
                common::forget(sleep);
            }
            turns(2).await;
        });
        assert!(caught(|| drop(runtime)).is_some(), "nobody is there for the panics");
        assert_descriptors_are(&before);
        assert!(drops.count() >= 6, "{} were dropped", drops.count());
        common::end_with_a_leak();
    });
}

/// Owns a future, as a combinator's waker does.
struct OwnsFuture(std::sync::Mutex<Option<SendBox>>);

struct SendBox(
    #[expect(dead_code, reason = "kept to be dropped")] Pin<Box<dyn Future<Output = ()>>>,
);

// SAFETY: it never leaves the test's thread.
unsafe impl Send for SendBox {}

impl Wake for OwnsFuture {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_timers_waker_that_owns_sockets_and_operations_goes_before_the_ring() {
    common::in_own_process(|| {
        let before = open_descriptors();
        let runtime = common::runtime();
        runtime.block_on(async {
            let owner = Arc::new(OwnsFuture(std::sync::Mutex::new(None)));
            let waker = Waker::from(Arc::clone(&owner));
            let mut sleep = Box::pin(time::sleep(Duration::from_secs(1000)));
            assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let mut future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move {
                let _sleep = sleep;
                let both = (ours.read(vec![0; 8]), theirs.read(vec![0; 8]));
                futures_util::future::join(async { drop(both.0.await) }, async {
                    drop(both.1.await)
                })
                .await;
            });
            assert!(poll_once(future.as_mut()).is_pending());
            *owner.0.lock().expect("no panic under it") = Some(SendBox(future));
            turns(2).await;
            assert_eq!(annulus::metrics().operations_in_flight, 2);
        });
        drop(runtime);
        assert_descriptors_are(&before);
    });
}

/// Spawns a task that holds another of these when it is dropped, so many times.
struct Spawns(u32, Rc<Cell<u32>>);

impl Drop for Spawns {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
        if self.0 > 0 {
            drop(spawn(hold(Spawns(self.0 - 1, Rc::clone(&self.1)))));
        }
    }
}

#[test]
fn a_destructor_that_spawns_its_like_does_not_keep_a_runtime_from_ending() {
    let _turn = common::turn_on_software_ring();
    bounded(|| {
        for chain in [0, 1, 20_000] {
            let dropped = Rc::new(Cell::new(0));
            let runtime = common::runtime();
            runtime.block_on(async {
                spawn(hold(Spawns(chain, Rc::clone(&dropped))));
                turns(2).await;
            });
            drop(runtime);
            assert_eq!((dropped.get(), Rc::strong_count(&dropped)), (chain + 1, 1));
        }
    });
}

#[test]
fn one_that_never_stops_spawning_is_stopped() {
    common::in_own_process(|| {
        let dropped = Rc::new(Cell::new(0));
        let runtime = common::runtime();
        runtime.block_on(async {
            spawn(hold(Spawns(u32::MAX, Rc::clone(&dropped))));
            turns(2).await;
        });
        drop(runtime);
        assert!((1..=100_000).contains(&dropped.get()), "{} were dropped", dropped.get());
        common::end_with_a_leak();
    });
}

#[test]
fn a_set_whose_results_panic_when_they_are_dropped_does_not_end_the_process() {
    let drops = Drops::default();
    run_here(async {
        for detach in [false, true] {
            let mut set = JoinSet::new();
            for _ in 0..3 {
                let bomb = Bomb(drops.guard());
                set.spawn(async move { bomb });
            }
            turns(2).await;
            let dropped = caught(|| match detach {
                true => set.detach_all(),
                false => drop(set),
            });
            assert!(dropped.is_none(), "the first panic goes on");
        }
    });
    assert_eq!(drops.count(), 6, "and all are dropped");
    // While another panic unwinds there is nobody for theirs.
    run_here(async {
        let mut set = JoinSet::new();
        for _ in 0..3 {
            let bomb = Bomb(drops.guard());
            set.spawn(async move { bomb });
        }
        turns(2).await;
        let message = catch_unwind(AssertUnwindSafe(|| {
            let _set = set;
            panic!("the first");
        }));
        assert_eq!(message.expect_err("a panic").downcast_ref::<&str>(), Some(&"the first"));
    });
    assert_eq!(drops.count(), 9);
}

#[test]
fn a_panic_in_the_loop_leaves_a_task_that_can_be_aborted() {
    // The future panics in its poll, and again in its drop, with the worst of payloads.
    let drops = Drops::default();
    run_here(async {
        let bomb = Bomb(drops.guard());
        let task = spawn(Holds(bomb, || -> Poll<()> { Nested::panic() }));
        std::mem::forget(task.await.expect_err("it panics").into_panic());
        let waiting = spawn(poll_fn(|_| Poll::<()>::Pending));
        waiting.abort();
        assert!(waiting.await.expect_err("aborted").is_cancelled());
        drop(spawn(pending::<()>()));
    });
    assert_eq!(drops.count(), 1);
}

/// A buffer whose methods panic at the call that is told, counted over all of them.
struct Fragile {
    bytes: Vec<u8>,
    left: Rc<Cell<u32>>,
}

impl Fragile {
    fn count(&self) {
        let left = self.left.get();
        self.left.set(left.wrapping_sub(1));
        if left == 0 {
            resume_unwind(Box::new("a method of the buffer"));
        }
    }
}

// SAFETY: the bytes lie in a vector that nothing but its owner's drop touches.
unsafe impl IoBuf for Fragile {
    fn as_init_ptr(&self) -> *const u8 {
        self.count();
        self.bytes.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.count();
        self.bytes.len()
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Fragile {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.count();
        self.bytes.as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.count();
        self.bytes.len()
    }

    unsafe fn set_init_len(&mut self, _len: usize) {
        self.count();
    }
}

#[test]
fn a_buffer_whose_methods_panic_ends_its_operation_and_no_other() {
    run_here(async {
        let mut panics = 0;
        for call in 0..16 {
            let (ours, theirs) = UnixStream::pair().expect("a pair");
            let (ours, theirs) = (Rc::new(ours), Rc::new(theirs));
            let fragile =
                |bytes: &[u8]| Fragile { bytes: bytes.to_vec(), left: Rc::new(Cell::new(call)) };
            let (write, read) = (fragile(b"first"), fragile(&[0; 5]));
            let (end, other) = (Rc::clone(&ours), Rc::clone(&theirs));
            let written = spawn(async move { end.write_all(write).await.is_ok() }).await;
            if written.is_err() {
                ours.write_all("first").await.expect("the stream is in order");
            }
            let filled = spawn(async move { other.read_exact(read).await.is_ok() }).await;
            panics += u32::from(written.is_err()) + u32::from(filled.is_err());
            ours.write_all("next!").await.expect("written");
            let next = theirs.read(vec![0; 16]).await.expect("read").1;
            assert!(next.ends_with(b"next!") || next == b"first", "{next:?}");
            turns(2).await;
            assert_eq!(annulus::metrics().operations_in_flight, 0);
        }
        assert!(panics > 4, "{panics} calls panicked");
    });
}
