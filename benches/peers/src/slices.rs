//! The state that the tasks of one slice of reads share on every runtime, and the steps that are
//! the same for all peers.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;

use crate::harness::child::{Begun, ReadJob, SliceBooks, SliceReply};
use crate::harness::data_file::{BlockChoice, BlockOrder, check_block};
use crate::harness::workloads::Work;
use crate::harness::{Contender, Failure};

/// A peer, but for its name and its work. Peers do not count their system calls.
pub(crate) const PEER: Contender = Contender {
    name: "",
    counted: "nothing: it does not count",
    is_optional: false,
    is_pool: false,
    environment: &[],
    takes: |work| match work {
        Work::Echo { .. } | Work::Idle { .. } | Work::RandomRead { .. } => true,
        Work::SequentialRead | Work::Stream { .. } | Work::Copy => false,
    },
    serve: |_, _| Err("a peer has work of its own".into()),
};

/// The file of a job, for runtimes that adopt one that is open.
pub(crate) fn open(job: &ReadJob) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags(job)).open(&job.path)
}

/// What it is opened with beside the access.
pub(crate) fn flags(job: &ReadJob) -> i32 {
    if job.direct { libc::O_DIRECT } else { 0 }
}

/// One slice, shared by its tasks.
#[derive(Clone)]
pub(crate) struct Slice {
    job: Rc<ReadJob>,
    state: Rc<RefCell<(BlockOrder, SliceBooks)>>,
}

impl Slice {
    pub(crate) fn open(job: &ReadJob, duration_ms: u64, seed: u64) -> Slice {
        let state = (BlockOrder::new(job, seed), SliceBooks::open(duration_ms, None));
        Slice { job: Rc::new(job.clone()), state: Rc::new(RefCell::new(state)) }
    }

    pub(crate) fn begin(&self) -> (BlockChoice, Begun) {
        let (order, books) = &mut *self.state.borrow_mut();
        (order.choose(), books.begin())
    }

    /// Says whether another read may begin.
    pub(crate) fn end(
        &self,
        choice: BlockChoice,
        begun: Begun,
        block: &[u8],
    ) -> Result<bool, Failure> {
        check_block(&self.job, choice, block)?;
        Ok(self.state.borrow_mut().1.end(begun))
    }

    /// When all its tasks have ended.
    pub(crate) fn close(self) -> Result<SliceReply, Failure> {
        let state = Rc::into_inner(self.state).ok_or("a task of the slice has not ended")?;
        Ok(state.into_inner().1.close(None))
    }
}
