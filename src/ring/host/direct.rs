//! Transfers that go around the page cache, which the kernel makes by itself: io_submit(2) hands
//! them to the device and does not wait.
//!
//! They are collected until the next wait, or until there are several, and handed over in one call;
//! an eventfd says when some have ended. The kernel is asked not to wait for anything but the
//! device; what it cannot do so comes back, and is for a worker. Nothing here can be stopped once
//! it has been handed over.
//!
//! # Safety
//! A control block names memory by an address of a request, for which the caller of
//! [`decode`](crate::ring::request::decode) vouches until the operation's last completion. That is
//! posted after the transfer has ended.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::Arc;

use slab::Slab;

use super::calls::answer;
use crate::ring::request::TransferCall;
use crate::ring::world::{Abort, RequestKey};
use crate::sys::threads;

/// Most transfers at a time; more are for workers. What a context has room for counts against a
/// limit of the machine's, fs.aio-max-nr.
const CAPACITY: usize = 256;

/// So many are handed over before the next wait, so that the device need not stand still until all
/// are collected.
const BATCH: usize = 8;

#[derive(Debug)]
pub(super) struct Direct {
    context: Context,
    event: Arc<File>,
    /// Those that have not ended, by the number that they are known under.
    calls: Slab<(RequestKey, TransferCall)>,
    /// Those of them that have not been handed over.
    collected: Vec<ControlBlock>,
}

#[derive(Debug)]
enum Context {
    /// Nobody has needed one yet.
    Unasked,
    /// The kernel has no such calls, a filter forbids them, or there are too many contexts.
    Refused,
    Open(Transfers),
}

/// What the kernel did not do.
pub(super) struct Returned {
    pub(super) key: RequestKey,
    pub(super) transfer: TransferCall,
    /// It never does so with such a file.
    pub(super) for_good: bool,
}

impl Direct {
    /// `event` is written to whenever a transfer has ended.
    pub(super) fn new(event: Arc<File>) -> Direct {
        Direct { context: Context::Unasked, event, calls: Slab::new(), collected: Vec::new() }
    }

    /// Takes on a transfer. `false`: it is for a worker.
    pub(super) fn take_on(&mut self, key: RequestKey, transfer: &TransferCall) -> bool {
        let Some(block) = control_block(transfer, self.event.as_raw_fd(), self.calls.vacant_key())
        else {
            return false;
        };
        if let Context::Unasked = self.context {
            self.context = Transfers::open(CAPACITY).map_or(Context::Refused, Context::Open);
        }
        if matches!(self.context, Context::Refused) || self.calls.len() >= CAPACITY {
            return false;
        }
        self.calls.insert((key, *transfer));
        self.collected.push(block);
        true
    }

    /// Has enough been collected to hand it over already?
    pub(super) fn is_a_batch(&self) -> bool {
        self.collected.len() >= BATCH
    }

    /// Hands over what has been collected.
    #[inline]
    pub(super) fn submit(&mut self, give_back: impl FnMut(Returned)) {
        if !self.collected.is_empty() {
            self.submit_each(give_back);
        }
    }

    fn submit_each(&mut self, mut give_back: impl FnMut(Returned)) {
        let Context::Open(context) = &mut self.context else { return };
        let mut blocks = &mut self.collected[..];
        while !blocks.is_empty() {
            let taken = match context.submit(blocks) {
                // The first of them is refused, and the others have not been looked at.
                Err(errno) => {
                    let (key, transfer) = self.calls.remove(blocks[0].number());
                    give_back(Returned { key, transfer, for_good: errno == libc::EOPNOTSUPP });
                    1
                }
                Ok(taken) => taken,
            };
            blocks = &mut blocks[taken..];
        }
        self.collected.clear();
    }

    /// Hands the result of each transfer that has ended to `take`, unless the kernel has not done
    /// it.
    #[inline]
    pub(super) fn collect(
        &mut self,
        take: impl FnMut(RequestKey, i32),
        give_back: impl FnMut(Returned),
    ) {
        if self.calls.len() > self.collected.len() {
            self.collect_each(take, give_back);
        }
    }

    fn collect_each(
        &mut self,
        mut take: impl FnMut(RequestKey, i32),
        mut give_back: impl FnMut(Returned),
    ) {
        let Context::Open(context) = &mut self.context else { return };
        context.ended(|number, result| {
            let (key, transfer) = self.calls.remove(number);
            match -result {
                libc::EAGAIN | libc::EOPNOTSUPP => {
                    give_back(Returned { key, transfer, for_good: result == -libc::EOPNOTSUPP })
                }
                _ => take(key, result),
            }
        });
    }

    /// `None`: it is none of these transfers.
    pub(super) fn abort(&mut self, key: RequestKey) -> Option<Abort> {
        let number = self.calls.iter().find(|(_, (other, _))| *other == key)?.0;
        let Some(place) = self.collected.iter().position(|block| block.number() == number) else {
            return Some(Abort::Running);
        };
        self.collected.remove(place);
        self.calls.remove(number);
        Some(Abort::Stopped)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // On a thread, since it takes long. What is in flight the owner of the ring has waited for,
        // or has given up and keeps its memory.
        if let Context::Open(context) = std::mem::replace(&mut self.context, Context::Refused)
            && threads::are_granted()
        {
            blocking::unblock(move || drop(context)).detach();
        }
    }
}

/// A transfer that the kernel makes by itself: `struct iocb`, io_submit(2), which the `libc` crate
/// has for glibc only.
#[repr(C)]
#[derive(Debug)]
struct ControlBlock {
    number: u64,
    /// The kernel's in the lower half, `RWF_*` in the upper.
    key_and_flags: u64,
    opcode: u16,
    priority: i16,
    fd: u32,
    address: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event: u32,
}

const _: () = assert!(size_of::<ControlBlock>() == 64);

impl ControlBlock {
    fn number(&self) -> usize {
        self.number as usize
    }
}

/// A transfer at a place of a file, by the number under which its end is told, after which `event`
/// is written to.
fn control_block(call: &TransferCall, event: RawFd, number: usize) -> Option<ControlBlock> {
    let (opcode, transfer) = match *call {
        TransferCall::Read(transfer) => (0, transfer),
        TransferCall::Write(transfer) => (1, transfer),
        TransferCall::Readv(transfer) => (7, transfer),
        TransferCall::Writev(transfer) => (8, transfer),
    };
    (transfer.flags == 0 && transfer.offset != u64::MAX).then_some(ControlBlock {
        number: number as u64,
        key_and_flags: (libc::RWF_NOWAIT as u64) << 32,
        opcode,
        priority: 0,
        fd: transfer.fd as u32,
        address: transfer.address.get(),
        length: transfer.length.into(),
        offset: transfer.offset as i64,
        reserved: 0,
        // IOCB_FLAG_RESFD
        flags: 1,
        event: event as u32,
    })
}

/// How a transfer has ended: `struct io_event`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct EndedTransfer {
    number: u64,
    block: u64,
    result: i64,
    more: i64,
}

/// Most transfers that one call begins.
const TRANSFERS_AT_ONCE: usize = 64;

/// Transfers that the kernel makes by itself. io_setup(2). Its drop takes some milliseconds, and
/// waits for all that have not ended.
#[derive(Debug)]
struct Transfers {
    context: libc::c_ulong,
    /// Scratch space.
    ended: Vec<EndedTransfer>,
}

impl Transfers {
    fn open(capacity: usize) -> Result<Transfers, i32> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the context is a local variable, and zero as the call wants it.
        let refusal = answer(unsafe { libc::syscall(libc::SYS_io_setup, capacity, &mut context) });
        if refusal != 0 {
            return Err(-refusal);
        }
        let mut transfers = Transfers { context, ended: vec![EndedTransfer::default(); capacity] };
        // Nothing has begun, so this is the time to hear of a refusal.
        match transfers.take_ended() {
            0 => Ok(transfers),
            errno => Err(-errno),
        }
    }

    /// Begins the first of these transfers and says how many those are, or why not even one.
    /// io_submit(2).
    fn submit(&mut self, blocks: &mut [ControlBlock]) -> Result<usize, i32> {
        let mut pointers = [ptr::null_mut::<ControlBlock>(); TRANSFERS_AT_ONCE];
        let count = blocks.len().min(TRANSFERS_AT_ONCE);
        pointers.iter_mut().zip(blocks).for_each(|(pointer, block)| *pointer = block);
        // SAFETY: the blocks are borrowed for the call, which is as long as the kernel needs them.
        // The memory that they name belongs to their operations until the last completion, which is
        // posted after the transfer has ended.
        let begun = answer(unsafe {
            libc::syscall(libc::SYS_io_submit, self.context, count, pointers.as_mut_ptr())
        });
        // It never answers zero to some.
        if begun <= 0 { Err(-begun) } else { Ok(begun as usize) }
    }

    /// Hands the number and the result of each that has ended to `take`.
    fn ended(&mut self, mut take: impl FnMut(usize, i32)) {
        loop {
            let count = usize::try_from(self.take_ended()).unwrap_or(0);
            // No transfer here moves 2 GiB or more.
            self.ended[..count]
                .iter()
                .for_each(|ended| take(ended.number as usize, ended.result as i32));
            if count < self.ended.len() {
                return;
            }
        }
    }

    /// io_getevents(2), without waiting.
    fn take_ended(&mut self) -> i32 {
        let no_time = [0i64; 2];
        let (least, room) = (0usize, self.ended.len());
        // SAFETY: there is room for so many, and the time is a local variable, zero in two words of
        // any size.
        answer(unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                least,
                room,
                self.ended.as_mut_ptr(),
                no_time.as_ptr(),
            )
        })
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        // SAFETY: the call takes no memory, and nothing is done with the context from now on.
        // io_destroy(2).
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}
