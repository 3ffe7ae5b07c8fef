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
use crate::inflight::resource::Resource;
use crate::op::file::{Advise, Fsync, ReadAt, ReadExactAt, Truncate, WriteAllAt, WriteAt};
use crate::op::path::{HardLink, MakeDirectory, Place, Rename, Unlink};
use crate::op::socket::{Receive, ReceiveExact, Send, SendAll, Shutdown};
use crate::ring::request::{self, Submission};
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

    fn may_be_followed(&self) -> bool {
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

/// Does the ring break a chain where the next member must not start?
fn is_seen_by_the_ring<O: Link>(what: &str, mut operation: Op<'_, O>) {
    let entry = operation.next_entry().expect("it is to be submitted");
    let member = Linked::Running(operation);
    // SAFETY: nothing is executed.
    let decoded = unsafe { request::decode(&member.followed(entry)) };
    let Submission { request, modifiers, .. } = decoded.expect("a known operation");
    let whole = i64::from(request.length());
    let breaks = |result: i32| request.breaks_chain(result, whole, &modifiers);
    assert_eq!(member.may_be_followed(), breaks(-libc::EIO), "{what} when it fails");
    if O::IN_WHOLE {
        assert!(breaks(whole as i32 - 1) && !breaks(whole as i32), "{what} when it is short");
    }
}

#[test]
fn what_may_be_followed_breaks_a_chain_when_it_fails() {
    let descriptor = std::fs::File::open("/dev/null").expect("a file");
    let handle = Resource::new(std::os::fd::OwnedFd::from(descriptor).into());
    let path = || Place::here(std::ffi::CString::new("never used").expect("no NUL"));
    let bytes = || vec![1u8; 8];
    is_seen_by_the_ring("no_op", crate::op::no_op());
    is_seen_by_the_ring("read_at", ReadAt::op(&handle, bytes(), 0));
    is_seen_by_the_ring("read_exact_at", ReadExactAt::op(&handle, bytes(), 0));
    is_seen_by_the_ring("write_at", WriteAt::op(&handle, bytes(), 0));
    is_seen_by_the_ring("write_all_at", WriteAllAt::op(&handle, bytes(), 0));
    is_seen_by_the_ring("sync_data", Fsync::op(&handle, true));
    is_seen_by_the_ring("set_len", Truncate::op(&handle, 0));
    is_seen_by_the_ring("advise", Advise::op(&handle, 0, 0, 0));
    is_seen_by_the_ring("read", Receive::op(&handle, bytes()));
    is_seen_by_the_ring("read_exact", ReceiveExact::op(&handle, bytes()));
    is_seen_by_the_ring("write", Send::op(&handle, bytes()));
    is_seen_by_the_ring("write_all", SendAll::op(&handle, bytes()));
    is_seen_by_the_ring("shutdown", Shutdown::op(&handle, std::net::Shutdown::Both));
    is_seen_by_the_ring("rename", Rename::op(path(), path(), 0));
    is_seen_by_the_ring("remove", Unlink::op(path(), false));
    is_seen_by_the_ring("create_dir", MakeDirectory::op(path(), 0o777));
    is_seen_by_the_ring("hard_link", HardLink::op(path(), path(), 0));
}
