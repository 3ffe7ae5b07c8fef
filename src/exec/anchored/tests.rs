//! Tests: anchored values between threads, beside counts of what must be dropped and where.
//!
//! # Safety
//! The addresses in a registry are those of pinned values of the same thread, each of which takes
//! its own out when it is dropped.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::marker::PhantomPinned;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::Waker;
use std::thread::{self, ThreadId};

use super::*;
use crate::exec::tests::executor;

/// An interpreter that checks every access takes its time.
#[cfg(miri)]
const PROGRAMS: u64 = 2;
#[cfg(not(miri))]
const PROGRAMS: u64 = 100;
#[cfg(miri)]
const STEPS: usize = 60;
#[cfg(not(miri))]
const STEPS: usize = 1000;

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Neither `Send` nor `Sync`, and dropped where it was made.
struct Token {
    left: Rc<Cell<usize>>,
    home: ThreadId,
    uses: Cell<u32>,
}

impl Token {
    fn new(left: &Rc<Cell<usize>>) -> Token {
        left.set(left.get() + 1);
        Token { left: Rc::clone(left), home: thread::current().id(), uses: Cell::new(0) }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        assert_eq!(thread::current().id(), self.home);
        self.left.set(self.left.get() - 1);
    }
}

/// What a thread away from home does with a value: all is refused, and then it keeps, passes on,
/// sends home or drops it.
fn worker(
    seed: u64,
    values: &mpsc::Receiver<Anchored<Token>>,
    next: &mpsc::Sender<Anchored<Token>>,
    home: &mpsc::Sender<Anchored<Token>>,
) {
    let mut random = Random(seed | 1);
    let mut kept = Vec::new();
    for value in values {
        let value = value.into_inner().err().expect("not at home");
        kept.push(value);
        let index = random.below(kept.len() as u64) as usize;
        assert!(kept[index].get().is_none() && kept[index].get_mut().is_none());
        // One who receives no more drops what is sent: here.
        match random.below(5) {
            0 => {}
            1 => _ = next.send(kept.swap_remove(index)),
            2 => _ = home.send(kept.swap_remove(index)),
            _ => drop(kept.swap_remove(index)),
        }
    }
}

/// One random program: all is dropped once, at home.
fn program(seed: u64) {
    let executor = executor();
    let entered = executor.enter();
    let mut random = Random(seed);
    let left = Rc::new(Cell::new(0));
    let (to_first, first) = mpsc::channel();
    let (to_second, second) = mpsc::channel();
    let (to_home, home) = mpsc::channel();
    let (first_to_home, no_more) = (to_home.clone(), mpsc::channel().0);
    let first_to_second = to_second.clone();
    let threads = [
        thread::spawn(move || worker(seed, &first, &first_to_second, &first_to_home)),
        thread::spawn(move || worker(seed ^ 7, &second, &no_more, &to_home)),
    ];
    let mut here = Vec::new();
    for _ in 0..STEPS {
        here.extend(home.try_iter());
        let index = random.below(here.len() as u64 + 1) as usize;
        match random.below(8) {
            0..3 => here.push(Anchored::new(Token::new(&left))),
            3..5 if index < here.len() => {
                let to = if random.below(2) == 0 { &to_first } else { &to_second };
                to.send(here.swap_remove(index)).expect("the thread waits");
            }
            5 if index < here.len() => drop(here.swap_remove(index)),
            6 if index < here.len() => {
                let mut value = here.swap_remove(index);
                let token = value.get_mut().expect("at home");
                token.uses.set(token.uses.get() + 1);
                assert!(value.get().is_some_and(|token| token.uses.get() > 0));
                drop(value.into_inner().map_err(drop).expect("at home"));
            }
            _ => executor.collect_foreign_wakes(),
        }
    }
    drop((to_first, to_second));
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    here.extend(home.try_iter());
    // The end of a runtime, without a ring.
    executor.cancel_all();
    executor.drop_returned();
    executor.refuse_values();
    assert_eq!(left.get(), here.len());
    drop(entered);
    executor.close_inbox();
    // The runtime has ended, and this thread is home all the same.
    here.clear();
    assert_eq!(left.get(), 0);
}

#[test]
fn any_order_of_moves_uses_and_drops_drops_each_value_once_and_at_home() {
    for seed in 1..=PROGRAMS {
        println!("program {seed}");
        program(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
    }
}

/// Those that come before the door closes are dropped, the others are leaked, and there is no
/// third.
#[test]
// It leaks, as it should.
#[cfg_attr(miri, ignore)]
fn a_drop_that_races_with_the_end_of_the_runtime_is_taken_or_refused() {
    for _ in 0..PROGRAMS {
        let executor = executor();
        let entered = executor.enter();
        let left = Rc::new(Cell::new(0));
        let values: Vec<_> = (0..STEPS).map(|_| Anchored::new(Token::new(&left))).collect();
        let dropped = std::sync::Arc::new(AtomicU64::new(0));
        let counts = std::sync::Arc::clone(&dropped);
        let mailbox = executor.mailbox();
        let refused = thread::spawn(move || {
            let mut refused = 0;
            for value in values {
                drop(value);
                counts.fetch_add(1, Ordering::SeqCst);
                refused += usize::from(mailbox.give_back(Box::new(())).is_err());
            }
            refused
        });
        while dropped.load(Ordering::SeqCst) < STEPS as u64 / 4 {
            executor.collect_foreign_wakes();
        }
        executor.refuse_values();
        let left_at_the_end = left.get();
        let refused = refused.join().expect("no panic");
        executor.collect_foreign_wakes();
        executor.drop_returned();
        assert_eq!(left.get(), left_at_the_end, "nothing comes after the door has closed");
        assert!(left_at_the_end.abs_diff(refused) <= 1, "{left_at_the_end} and {refused}");
        drop(entered);
        executor.close_inbox();
        mem::forget(left);
    }
}

/// A future whose address others of its thread know, and which they use at any time.
struct Registered {
    place: Cell<u32>,
    registry: Rc<RefCell<Vec<*const Registered>>>,
    _pinned: PhantomPinned,
}

impl Future for Registered {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        let this: *const Registered = &*self;
        self.registry.borrow_mut().push(this);
        Poll::Pending
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let this: *const Registered = self;
        self.registry.borrow_mut().retain(|other| *other != this);
    }
}

#[test]
fn home_may_use_a_pinned_value_while_another_thread_moves_and_drops_its_anchor() {
    let executor = executor();
    let entered = executor.enter();
    let registry = Rc::default();
    let mut anchored = Box::pin(Anchored::new(Registered {
        place: Cell::new(0),
        registry: Rc::clone(&registry),
        _pinned: PhantomPinned,
    }));
    let mut context = Context::from_waker(Waker::noop());
    assert!(anchored.as_mut().poll(&mut context).is_pending());
    let other = thread::spawn(move || {
        let moved = [anchored];
        thread::yield_now();
        drop(moved);
    });
    let mut uses = 0;
    while !registry.borrow().is_empty() {
        for known in registry.borrow().iter() {
            // SAFETY: whoever is registered is pinned, and on this thread.
            let place = unsafe { &(**known).place };
            place.set(place.get() + 1);
            uses = place.get();
        }
        executor.collect_foreign_wakes();
    }
    assert!(uses > 0);
    other.join().expect("no panic");
    drop(entered);
}

#[test]
fn a_future_that_borrows_from_itself_is_polled_at_home_and_goes_back_unfinished() {
    let executor = executor();
    let entered = executor.enter();
    let left = Rc::new(Cell::new(0));
    let token = Token::new(&left);
    let mut future = Box::pin(Anchored::new(async move {
        let numbers = [1, 2, 3];
        let second = &numbers[1];
        let mut waits = 2;
        std::future::poll_fn(|_| {
            waits -= 1;
            if waits == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        std::future::pending::<()>().await;
        drop(token);
        *second
    }));
    let mut context = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
    let future = thread::spawn(move || {
        let mut context = Context::from_waker(Waker::noop());
        let panic = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        let payload = panic.expect_err("not at home");
        let sentence = payload.downcast_ref::<String>().expect("a sentence");
        assert!(sentence.contains("`Anchored` of another thread"), "{sentence}");
        future
    });
    let mut future = future.join().expect("no panic");
    assert!(future.as_mut().poll(&mut context).is_pending());
    thread::spawn(move || drop(future)).join().expect("no panic");
    assert_eq!(left.get(), 1);
    executor.collect_foreign_wakes();
    assert_eq!(left.get(), 0);
    drop(entered);
}

#[test]
fn a_value_in_a_value_of_another_home_goes_home_in_two_steps() {
    let executor = executor();
    let entered = executor.enter();
    let left = Rc::new(Cell::new(0));
    let inner = Anchored::new(Token::new(&left));
    let (send, receive) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let other = thread::spawn(move || {
        let executor = crate::exec::tests::executor();
        let entered = executor.enter();
        send.send(Anchored::new((inner, Rc::new(())))).expect("the test waits");
        goes_on.recv().expect("the test says so");
        executor.collect_foreign_wakes();
        drop(entered);
    });
    let outer = receive.recv().expect("it comes");
    drop(outer);
    executor.collect_foreign_wakes();
    assert_eq!(left.get(), 1, "it is with the other home");
    go_on.send(()).expect("it waits");
    other.join().expect("no panic");
    assert_eq!(left.get(), 1, "it is on its way");
    executor.collect_foreign_wakes();
    assert_eq!(left.get(), 0);
    drop(entered);
}

#[test]
fn a_destructor_that_panics_ends_neither_the_look_nor_the_end() {
    struct Bomb(Rc<Cell<usize>>);

    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            std::panic::resume_unwind(Box::new("as the test wants it"));
        }
    }

    let executor = executor();
    let entered = executor.enter();
    let dropped = Rc::new(Cell::new(0));
    let give_back = |count| {
        for _ in 0..count {
            let bomb = Anchored::new(Bomb(Rc::clone(&dropped)));
            thread::spawn(move || drop(bomb)).join().expect("no panic elsewhere");
        }
    };
    give_back(3);
    executor.collect_foreign_wakes();
    assert_eq!(dropped.get(), 3);
    give_back(2);
    assert_eq!(executor.drop_returned(), 2);
    give_back(2);
    assert_eq!(executor.refuse_values(), 2);
    assert_eq!(dropped.get(), 7);
    // At home it comes out, as of any value.
    let bomb = Anchored::new(Bomb(Rc::clone(&dropped)));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(bomb))).is_err());
    assert_eq!(dropped.get(), 8);
    drop(entered);
}

#[test]
fn it_is_send_and_sync_for_every_type_and_unpin_only_with_its_value() {
    trait Unless<A> {
        fn holds() {}
    }
    impl<T> Unless<()> for T {}
    impl<T: Unpin> Unless<u8> for T {}

    fn everywhere<T: Send + Sync>() {}
    everywhere::<Anchored<Rc<Cell<*mut u8>>>>();
    everywhere::<Anchored<PhantomPinned>>();
    // Ambiguous, and so refused, if it were `Unpin`.
    <Anchored<PhantomPinned> as Unless<_>>::holds();
    fn movable<T: Unpin>() {}
    movable::<Anchored<Rc<Cell<*mut u8>>>>();
}
