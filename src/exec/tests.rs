//! Tests: tasks without a ring. Any order of polls, wakes, aborts and drops, beside counts of what
//! must be dropped.

use std::cell::RefCell;
use std::fs::File;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Context;

use super::*;

/// An interpreter that checks every access takes its time.
#[cfg(miri)]
const PROGRAMS: u64 = 10;
#[cfg(not(miri))]
const PROGRAMS: u64 = 2000;

/// An executor that nobody ever has to wake.
pub(super) fn executor() -> Rc<Executor> {
    let null = File::options().write(true).open("/dev/null").expect("it is always there");
    Executor::new(Unparker::Event(Arc::new(null))).expect("a cell")
}

fn run(executor: &Executor, limit: usize) {
    let output = executor.run(limit, || Poll::<()>::Pending);
    assert_eq!(output, None);
}

fn poll<T>(handle: &mut JoinHandle<T>, waker: &Waker) -> Poll<Result<T, JoinError>> {
    Pin::new(handle).poll(&mut Context::from_waker(waker))
}

/// How many tokens were made, and how many are left.
#[derive(Clone, Default)]
struct Count(Rc<Cell<usize>>);

struct Token(Count, bool);

impl Count {
    fn token(&self, bomb: bool) -> Token {
        self.0.set(self.0.get() + 1);
        Token(self.clone(), bomb)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
        if self.1 {
            fail();
        }
    }
}

/// A panic that prints nothing.
fn fail() {
    resume_unwind(Box::new("as the test wants it"));
}

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

/// A task that waits a few times, keeps its waker for others, and then returns or panics, with
/// tokens in the future and in the result.
fn spawn(
    executor: &Executor,
    random: &mut Random,
    count: &Count,
    wakers: &Rc<RefCell<Vec<Waker>>>,
) -> JoinHandle<Token> {
    let (waits, end) = (random.below(4), random.below(16));
    // Not both: a panic in a drop while a panic unwinds ends the process.
    let (ends_in_panic, ends_in_bomb) = (end == 0, end == 1);
    let (in_future, in_result) = (count.token(ends_in_bomb), count.token(false));
    let wakers = Rc::clone(wakers);
    let future = |room: usize| async move {
        let room = vec![room as u8; room];
        let in_future = in_future;
        for _ in 0..waits {
            let mut woken = false;
            poll_fn(|context| {
                wakers.borrow_mut().push(context.waker().clone());
                if mem::replace(&mut woken, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        if ends_in_panic {
            fail();
        }
        drop((in_future, room));
        in_result
    };
    match random.below(3) {
        0 => executor.spawn(future(0)),
        1 => {
            let large = [7u8; 700];
            let future = future(3);
            executor.spawn(async move {
                assert_eq!(large.len(), 700);
                let token = future.await;
                assert_eq!(large[699], 7);
                token
            })
        }
        _ => {
            let huge = [7u8; 5000];
            let future = future(1);
            executor.spawn(async move {
                let token = future.await;
                assert_eq!(huge.len(), 5000);
                token
            })
        }
    }
}

/// One random program, and everything is dropped once, whoever goes first at the end.
fn program(seed: u64, steps: usize) {
    let mut random = Random(seed | 1);
    let count = Count::default();
    let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
    let executor = executor();
    let entered = executor.enter();
    let mut handles: Vec<JoinHandle<Token>> = Vec::new();
    let mut aborts: Vec<AbortHandle> = Vec::new();
    for _ in 0..steps {
        let index = random.below(handles.len() as u64 + 1) as usize;
        match random.below(12) {
            0..4 => handles.push(spawn(&executor, &mut random, &count, &wakers)),
            4..6 => run(&executor, random.below(5) as usize),
            6 => {
                if let Some(waker) = wakers.borrow_mut().pop() {
                    waker.wake();
                }
            }
            7 if index < handles.len() => {
                let waker =
                    wakers.borrow().last().cloned().unwrap_or_else(|| executor.root_waker());
                if let Poll::Ready(result) = poll(&mut handles[index], &waker) {
                    drop(result);
                    drop(handles.swap_remove(index));
                }
            }
            8 if index < handles.len() => drop(handles.swap_remove(index)),
            9 if index < handles.len() => handles[index].abort(),
            10 if index < handles.len() => aborts.push(handles[index].abort_handle()),
            11 if !aborts.is_empty() => {
                let abort = aborts.swap_remove(random.below(aborts.len() as u64) as usize);
                abort.abort();
                aborts.extend((random.below(2) == 0).then(|| abort.clone()));
            }
            _ => {}
        }
    }
    let (first, second) = (random.below(2) == 0, random.below(2) == 0);
    if first {
        handles.clear();
    }
    executor.cancel_all();
    assert_eq!(executor.task_count(), 0);
    assert!(
        handles.iter().all(JoinHandle::is_finished) && aborts.iter().all(AbortHandle::is_finished)
    );
    drop(entered);
    if second {
        handles.clear();
    }
    drop(executor);
    drop(handles);
    drop(aborts);
    assert_eq!(count.0.get(), 0, "all was dropped");
}

#[test]
fn any_order_of_polls_wakes_aborts_and_drops_drops_everything_once() {
    for seed in 1..=PROGRAMS {
        println!("program {seed}");
        program(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15), 100);
    }
}

#[test]
fn a_panic_of_the_root_comes_out_of_the_run_and_the_tasks_go_on() {
    let executor = executor();
    let _entered = executor.enter();
    let mut task = executor.spawn(async { 5 });
    executor.start_root();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        executor.run(10, || -> Poll<()> { panic!("at the root") })
    }));
    assert!(panicked.is_err());
    assert!(poll(&mut task, Waker::noop()).is_pending(), "the root was first");
    run(&executor, 10);
    assert!(matches!(poll(&mut task, Waker::noop()), Poll::Ready(Ok(5))));
    executor.cancel_all();
}

#[test]
fn a_waker_of_a_cell_that_has_gone_or_has_a_new_task_wakes_nobody() {
    let executor = executor();
    let _entered = executor.enter();
    let polls = Rc::new(Cell::new(0));
    let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
    let task = || {
        let (polls, wakers) = (Rc::clone(&polls), Rc::clone(&wakers));
        poll_fn(move |context| {
            polls.set(polls.get() + 1);
            wakers.borrow_mut().push(context.waker().clone());
            Poll::<()>::Pending
        })
    };
    // Enough to fill several slabs, which go when the tasks have gone.
    let handles: Vec<_> = (0..500).map(|_| executor.spawn(task())).collect();
    run(&executor, 500);
    assert_eq!(polls.get(), 500);
    handles.iter().for_each(JoinHandle::abort);
    run(&executor, 500);
    drop(handles);
    assert_eq!(executor.task_count(), 0);
    let old = wakers.take();
    let handle = executor.spawn(task());
    run(&executor, 1);
    old.iter().for_each(Waker::wake_by_ref);
    old.into_iter().for_each(Waker::wake);
    assert!(!executor.has_ready());
    wakers.borrow().iter().for_each(Waker::wake_by_ref);
    assert!(executor.has_ready());
    drop(handle);
    executor.cancel_all();
}
