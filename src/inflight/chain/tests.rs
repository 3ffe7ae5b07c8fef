//! Tests: chains of operations that behave as a test needs it.
//!
//! # Safety
//! Those operations name no memory.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use io_uring::{opcode, squeue, types};

use super::*;
use crate::buf::ChunkPoolConfig;
use crate::inflight::handle::Handle;
use crate::inflight::operation::{Operation, Step};
use crate::ring::{Completion, Config, Ring, RingKind};
use crate::runtime::{Builder, Runtime};

/// Does what its list says, one entry after the other, and writes down what it is asked.
struct Scripted {
    name: &'static str,
    entries: Vec<Entry>,
    log: Rc<RefCell<Vec<String>>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Entry {
    /// Succeeds.
    Nop,
    /// Fails with `EBADF` when it runs.
    Failing,
    /// Is refused with `EINVAL` before anything of its chain runs.
    Refused,
    /// There is no such operation.
    Unknown,
}

use Entry::{Failing, Nop, Refused, Unknown};

impl Scripted {
    fn op(
        name: &'static str,
        log: &Rc<RefCell<Vec<String>>>,
        mut entries: Vec<Entry>,
    ) -> Op<'static, Scripted> {
        entries.reverse();
        Op::new(Scripted { name, entries, log: Rc::clone(log) })
    }

    fn note(&self, what: &str) {
        self.log.borrow_mut().push(format!("{} {what}", self.name));
    }
}

// SAFETY: the entries name no memory and no descriptor that is open.
unsafe impl Operation for Scripted {
    type Output = io::Result<()>;

    fn entry(&mut self) -> squeue::Entry {
        self.note("starts");
        match self.entries.last() {
            None | Some(Nop) => opcode::Nop::new().build(),
            Some(Failing) => opcode::PollAdd::new(types::Fd(-1), libc::POLLIN as u32).build(),
            Some(Refused) => opcode::Nop::new().build().personality(u16::MAX),
            Some(Unknown) => opcode::Fsync::new(types::Fd(-1)).build(),
        }
    }

    fn complete(mut self, completion: Completion) -> Step<Self> {
        self.note(&completion.result.to_string());
        self.entries.pop();
        match completion.result {
            e if e == -libc::ECANCELED => Step::Done(completion.result().map(drop)),
            _ if !self.entries.is_empty() => Step::Again(self),
            _ => Step::Done(completion.result().map(drop)),
        }
    }
}

impl Link for Scripted {
    fn named(&self) -> Option<&Handle> {
        None
    }

    fn asks_for_all(&self) -> bool {
        self.entries.len() <= 1 || self.entries.last() != Some(&Nop)
    }

    fn is_whole(output: &Self::Output) -> bool {
        output.is_ok()
    }
}

type Results = [Result<(), Option<i32>>; 3];

/// The results of a chain of three, and what they were asked.
async fn chain_of(scripts: [Vec<Entry>; 3]) -> (Results, Vec<String>) {
    let log = Rc::default();
    let [first, second, third] = scripts;
    let chain = Scripted::op("first", &log, first)
        .then(Scripted::op("second", &log, second))
        .then(Scripted::op("third", &log, third));
    let (first, second, third) = chain.await;
    let results = [first, second, third].map(|result| result.map_err(|error| error.raw_os_error()));
    let log = log.take();
    (results, log)
}

fn on_both_rings(program: impl AsyncFn()) {
    for kind in [RingKind::Kernel, RingKind::Software] {
        match Builder::new().ring(kind).build() {
            Ok(runtime) => runtime.block_on(program()),
            Err(error) => println!("skipped: {error}"),
        }
    }
}

const CANCELED: Result<(), Option<i32>> = Err(Some(libc::ECANCELED));

#[test]
fn a_member_that_goes_on_after_a_failure_takes_the_rest_along() {
    on_both_rings(async || {
        let (results, log) = chain_of([vec![Nop], vec![Failing, Failing, Nop], vec![Nop]]).await;
        assert_eq!(results, [Ok(()), Ok(()), Ok(())]);
        let starts = |name: &str| {
            let line = format!("{name} starts");
            log.iter().filter(|other| **other == line).count()
        };
        assert_eq!((starts("first"), starts("second")), (1, 3));
        assert_eq!(log.last().map(String::as_str), Some("third 0"));
        assert!(!log.contains(&"third -125".to_owned()), "it is not told that it was cancelled");
        let (results, _) = chain_of([vec![Nop], vec![Failing, Failing], vec![Nop]]).await;
        assert_eq!(results, [Ok(()), Err(Some(libc::EBADF)), CANCELED]);
    });
}

#[test]
fn nothing_stands_behind_an_entry_that_is_not_the_last() {
    on_both_rings(async || {
        let (results, log) = chain_of([vec![Nop, Nop], vec![Nop], vec![Nop]]).await;
        assert_eq!(results, [Ok(()), Ok(()), Ok(())]);
        let place = |line: &str| log.iter().position(|other| other == line);
        assert_eq!(place("second starts"), Some(3), "{log:?}");
    });
}

#[test]
fn an_entry_that_the_ring_refuses_ends_what_is_behind_it_and_not_what_is_before() {
    on_both_rings(async || {
        let refused = Err(Some(libc::EINVAL));
        for (scripts, expected) in [
            ([vec![Nop], vec![Nop], vec![Refused]], [Ok(()), Ok(()), refused]),
            ([vec![Nop], vec![Refused], vec![Nop]], [Ok(()), refused, CANCELED]),
            ([vec![Refused], vec![Nop], vec![Nop]], [refused, CANCELED, CANCELED]),
            ([vec![Nop], vec![Refused, Nop], vec![Nop]], [Ok(()), Ok(()), Ok(())]),
        ] {
            let (results, log) = chain_of(scripts.clone()).await;
            assert_eq!(results, expected, "{scripts:?}: {log:?}");
        }
    });
}

#[test]
fn an_operation_that_the_ring_does_not_know_is_told_in_its_place() {
    let config = Config::new(8, 64);
    let ring = Ring::open_without(&[opcode::Fsync::CODE], &config).expect("a ring");
    let runtime = Runtime::on(ring, &config, ChunkPoolConfig::default()).expect("a runtime");
    runtime.block_on(async {
        let (results, _) = chain_of([vec![Nop], vec![Unknown], vec![Nop]]).await;
        assert_eq!(results, [Ok(()), Err(Some(libc::EOPNOTSUPP)), CANCELED]);
    });
}
