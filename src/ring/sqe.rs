//! What does a submission queue entry ask for? Decodes the kernel's 64 bytes into a [`Request`], for rings that execute entries themselves.
//!
//! The enum is exhaustive, so a new operation demands an arm wherever requests are executed. What is not known here is answered `EINVAL`, as
//! an older kernel does. The fields are those of io_uring_enter(2).
//!
//! # Safety
//! An entry is copied into a structure of the same size whose fields are all integers; any bytes make a valid one. Addresses stay numbers
//! here: only `ring/user.rs` makes memory of them, and the only way to one is [`decode`], whose caller vouches for it.
#![allow(unsafe_code)]

use std::os::fd::RawFd;

use io_uring::squeue;

use super::catalogue::{CancelCode, FileCode, KernelOnlyCode, MessageCode, Opcode, PathCode, PollCode, SocketCode, TimeCode, TransferCode};
use super::user;

/// `struct io_uring_sqe`, by the names that most operations give its fields.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Raw {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    operation_flags: u32,
    token: u64,
    group: u16,
    personality: u16,
    file_index: u32,
    address_3: u64,
    _reserved: u64,
}

const _: () = assert!(size_of::<Raw>() == 64 && size_of::<squeue::Entry>() == 64);
const _: () = assert!(align_of::<Raw>() == 8 && align_of::<squeue::Entry>() == 8);

impl Raw {
    fn of(entry: &squeue::Entry) -> Raw {
        // SAFETY: both are 64 plain bytes, the entry's are all initialised, and it is borrowed for the call.
        unsafe { std::ptr::from_ref(entry).cast::<Raw>().read() }
    }

    fn operation(&self) -> Option<Opcode> {
        Opcode::of(self.opcode)
    }
}

/// A number that stands for memory of the program, or 0 for none. Whoever decoded the entry has vouched for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(u64);

impl Address {
    pub(super) fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address of what follows the first `count` bytes.
    pub(crate) fn after(self, count: u32) -> Address {
        Address(self.0 + u64::from(count))
    }

    /// A provided buffer's, which the owner of its group has vouched for.
    pub(super) fn of_buffer(address: u64) -> Address {
        Address(address)
    }
}

/// `IOSQE_*` flags that concern the course of a request and not what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Course {
    bits: u8,
}

const FIXED_FILE: u8 = 1 << 0;
const DRAIN: u8 = 1 << 1;
const LINK: u8 = 1 << 2;
const HARD_LINK: u8 = 1 << 3;
const ASYNC: u8 = 1 << 4;
const BUFFER_SELECT: u8 = 1 << 5;
const SKIP_SUCCESS: u8 = 1 << 6;

impl Course {
    /// Does the next entry start only when this one has ended?
    pub(crate) fn is_linked(self) -> bool {
        self.bits & (LINK | HARD_LINK) != 0
    }

    /// Does the chain go on even if this one fails?
    pub(crate) fn goes_on(self) -> bool {
        self.bits & HARD_LINK != 0
    }

    /// Does it belong on a worker from the start?
    pub(crate) fn is_async(self) -> bool {
        self.bits & ASYNC != 0
    }

    /// Is a success not worth a completion?
    pub(crate) fn is_quiet(self) -> bool {
        self.bits & SKIP_SUCCESS != 0
    }

    pub(crate) fn set_quiet(&mut self, quiet: bool) {
        self.bits = if quiet { self.bits | SKIP_SUCCESS } else { self.bits & !SKIP_SUCCESS };
    }
}

/// One entry, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Submission {
    pub(crate) token: u64,
    pub(crate) course: Course,
    pub(crate) request: Request,
    pub(crate) manner: Manner,
}

impl Submission {
    /// Is it a transfer of the simplest kind, of which a completion is all that comes?
    pub(crate) fn is_plain(&self) -> bool {
        let is_transfer = matches!(self.request, Request::Recv(_) | Request::Send(_) | Request::Read(_) | Request::Write(_));
        is_transfer && self.manner == Manner::default() && !self.course.is_quiet()
    }
}

/// How a transfer is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Manner {
    /// It goes on after its first completion.
    pub(crate) multishot: bool,
    /// It waits before the first attempt.
    pub(crate) poll_first: bool,
    /// Its memory comes from this group of provided buffers.
    pub(crate) group: Option<u16>,
    /// It has a second completion, the notification that its memory is free.
    pub(crate) notifies: bool,
    /// The notification says whether the data was copied.
    pub(crate) reports_usage: bool,
}

/// A part of a file and of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) fd: RawFd,
    pub(crate) address: Address,
    pub(crate) length: u32,
    /// `u64::MAX`: at the file's own position.
    pub(crate) offset: u64,
    /// `RWF_*`
    pub(crate) flags: u32,
}

/// Memory for or from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketTransfer {
    pub(crate) fd: RawFd,
    pub(crate) address: Address,
    pub(crate) length: u32,
    /// `MSG_*`
    pub(crate) flags: u32,
    /// Where to send it, for sockets that are not connected.
    pub(crate) peer: Address,
    pub(crate) peer_length: u16,
}

/// A duration or a time of day. It is copied out of the program's memory at once, since it may change after submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: u64,
    pub(crate) nanoseconds: u64,
}

impl Time {
    fn at(address: Address) -> Result<Time, i32> {
        let (seconds, nanoseconds) = user::timespec(address).ok_or(libc::EFAULT)?;
        match (u64::try_from(seconds), u64::try_from(nanoseconds)) {
            (Ok(seconds), Ok(nanoseconds)) => Ok(Time { seconds, nanoseconds }),
            _ => Err(libc::EINVAL),
        }
    }
}

/// A provided buffer for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageBuffer {
    pub(crate) address: Address,
    pub(crate) room: u32,
    /// Bytes in front of the payload, for its lengths, the name and the control data. Only repeated receives have them in the buffer.
    pub(crate) head: Option<u32>,
}

/// Which requests a cancel means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) token: Option<u64>,
    pub(crate) fd: Option<RawFd>,
    /// Not only the first that is found.
    pub(crate) all: bool,
}

/// What an entry asks for. The variants bear the names of the kernel's operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Nop {
        result: i32,
    },
    Read(Transfer),
    Write(Transfer),
    /// `length` counts buffers.
    Readv(Transfer),
    Writev(Transfer),
    Recv(SocketTransfer),
    Send(SocketTransfer),
    /// `buffer`: the provided one.
    RecvMsg {
        fd: RawFd,
        message: Address,
        flags: u32,
        buffer: Option<MessageBuffer>,
    },
    SendMsg {
        fd: RawFd,
        message: Address,
        flags: u32,
    },
    Accept {
        fd: RawFd,
        address: Address,
        length: Address,
        flags: u32,
    },
    /// `begun`: what is left is to learn how it ended.
    Connect {
        fd: RawFd,
        address: Address,
        length: u32,
        begun: bool,
    },
    Shutdown {
        fd: RawFd,
        how: u32,
    },
    Close {
        fd: RawFd,
    },
    PollAdd {
        fd: RawFd,
        mask: u32,
    },
    PollRemove {
        token: u64,
    },
    Fsync {
        fd: RawFd,
        data_only: bool,
    },
    Ftruncate {
        fd: RawFd,
        length: u64,
    },
    Fallocate {
        fd: RawFd,
        mode: u32,
        offset: u64,
        length: u64,
    },
    OpenAt {
        directory: RawFd,
        path: Address,
        flags: u32,
        mode: u32,
    },
    Statx {
        directory: RawFd,
        path: Address,
        flags: u32,
        mask: u32,
        status: Address,
    },
    RenameAt {
        from_directory: RawFd,
        from: Address,
        to_directory: RawFd,
        to: Address,
        flags: u32,
    },
    UnlinkAt {
        directory: RawFd,
        path: Address,
        flags: u32,
    },
    MkdirAt {
        directory: RawFd,
        path: Address,
        mode: u32,
    },
    /// `count`: how often a multishot one fires, 0 for ever.
    Timeout {
        time: Time,
        count: u32,
        flags: u32,
    },
    TimeoutRemove {
        token: u64,
    },
    TimeoutUpdate {
        token: u64,
        time: Time,
        flags: u32,
    },
    LinkTimeout {
        time: Time,
        flags: u32,
    },
    AsyncCancel(Target),
    /// Posts a completion to a ring; `flags` are that completion's.
    MsgRing {
        ring: RawFd,
        token: u64,
        result: i32,
        flags: Option<u32>,
    },
}

pub(crate) const TIMEOUT_ABSOLUTE: u32 = 1 << 0;
pub(crate) const TIMEOUT_BOOTTIME: u32 = 1 << 2;
pub(crate) const TIMEOUT_REALTIME: u32 = 1 << 3;
pub(crate) const TIMEOUT_LINKED: u32 = 1 << 4;
pub(crate) const TIMEOUT_SUCCEEDS: u32 = 1 << 5;
const TIMEOUT_UPDATE: u32 = 1 << 1;
const TIMEOUT_MULTISHOT: u32 = 1 << 6;
const TIMEOUT_CLOCKS: u32 = TIMEOUT_BOOTTIME | TIMEOUT_REALTIME;
const POLL_MULTISHOT: u32 = 1 << 0;
const SOCKET_POLL_FIRST: u16 = 1 << 0;
const SOCKET_MULTISHOT: u16 = 1 << 1;
const SOCKET_FIXED_BUFFER: u16 = 1 << 2;
const SOCKET_REPORT_USAGE: u16 = 1 << 3;
const ACCEPT_MULTISHOT: u16 = 1 << 0;
const ACCEPT_DONT_WAIT: u16 = 1 << 1;
const ACCEPT_POLL_FIRST: u16 = 1 << 2;
const CANCEL_ALL: u32 = 1 << 0;
const CANCEL_FD: u32 = 1 << 1;
const CANCEL_ANY: u32 = 1 << 2;
const CANCEL_TOKEN: u32 = 1 << 4;
const NOP_RESULT: u32 = 1 << 0;
const MESSAGE_WITH_FLAGS: u32 = 1 << 1;

/// The file of a read or write that stands for itself, where it is named by its descriptor.
pub(super) fn file_of_transfer(entry: &squeue::Entry) -> Option<RawFd> {
    let raw = Raw::of(entry);
    let is_transfer = match raw.operation() {
        Some(Opcode::Transfer(code)) => code != TransferCode::ReadMulti,
        _ => false,
    };
    (is_transfer && raw.flags == 0).then_some(raw.fd)
}

/// A send that ends with its first part, in the place of one that goes on until all is sent. Other entries stay as they are.
pub(super) fn in_parts(entry: &squeue::Entry) -> squeue::Entry {
    let mut raw = Raw::of(entry);
    if let Some(Opcode::Socket(SocketCode::Send | SocketCode::SendMsg | SocketCode::SendZc)) = raw.operation() {
        raw.operation_flags &= !(libc::MSG_WAITALL as u32);
    }
    // SAFETY: both are 64 plain bytes, any of which make a valid entry, and `raw` lies on this stack.
    unsafe { std::ptr::from_ref(&raw).cast::<squeue::Entry>().read() }
}

/// The descriptor that an entry closes.
pub(super) fn file_that_closes(entry: &squeue::Entry) -> Option<RawFd> {
    let raw = Raw::of(entry);
    (raw.operation() == Some(Opcode::File(FileCode::Close)) && raw.file_index == 0).then_some(raw.fd)
}

/// What is left of a refused entry: whose it is, what it was in its chain, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) token: u64,
    pub(crate) course: Course,
    pub(crate) errno: i32,
}

/// An entry that was decoded, or why it was not.
pub(crate) type Decoded = Result<Submission, Refused>;

/// Decodes an entry.
///
/// # Safety
/// What the entry names stays valid as `op::Operation` demands, for as long as the submission or a copy of it is executed.
pub(crate) unsafe fn decode(entry: &squeue::Entry) -> Decoded {
    let raw = Raw::of(entry);
    let course = Course { bits: raw.flags };
    let decoded = check(&raw).and_then(|()| {
        let opcode = raw.operation().ok_or(libc::EINVAL)?;
        Ok((request(opcode, &raw)?, manner(opcode, &raw)?))
    });
    match decoded {
        Ok((request, manner)) => Ok(Submission { token: raw.token, course, request, manner }),
        Err(errno) => Err(Refused { token: raw.token, course, errno }),
    }
}

/// What holds for all operations.
fn check(raw: &Raw) -> Result<(), i32> {
    if raw.flags & DRAIN != 0 || raw.flags >> 7 != 0 || raw.personality != 0 {
        return Err(libc::EINVAL);
    }
    // No table of registered files.
    if raw.flags & FIXED_FILE != 0 {
        return Err(libc::EBADF);
    }
    let selects = matches!(
        raw.operation(),
        Some(Opcode::Transfer(TransferCode::Read | TransferCode::ReadMulti) | Opcode::Socket(SocketCode::Recv | SocketCode::RecvMsg))
    );
    if raw.flags & BUFFER_SELECT != 0 && !selects {
        return Err(libc::EOPNOTSUPP);
    }
    Ok(())
}

fn manner(opcode: Opcode, raw: &Raw) -> Result<Manner, i32> {
    let group = (raw.flags & BUFFER_SELECT != 0).then_some(raw.group);
    let mut manner = Manner { group, ..Manner::default() };
    match opcode {
        Opcode::Socket(SocketCode::Recv) | Opcode::Socket(SocketCode::RecvMsg) => {
            allow(raw.ioprio, SOCKET_POLL_FIRST | SOCKET_MULTISHOT)?;
            manner.poll_first = raw.ioprio & SOCKET_POLL_FIRST != 0;
            manner.multishot = raw.ioprio & SOCKET_MULTISHOT != 0;
            // Each shot needs memory of its own, and all of it at once would never end.
            let waits_for_all = raw.operation_flags & libc::MSG_WAITALL as u32 != 0;
            if manner.multishot && (group.is_none() || waits_for_all) {
                return Err(libc::EINVAL);
            }
        }
        Opcode::Socket(SocketCode::Send) | Opcode::Socket(SocketCode::SendMsg) => {
            allow(raw.ioprio, SOCKET_POLL_FIRST)?;
            manner.poll_first = raw.ioprio & SOCKET_POLL_FIRST != 0;
        }
        Opcode::Socket(SocketCode::SendZc) | Opcode::Socket(SocketCode::SendMsgZc) => {
            allow(raw.ioprio, SOCKET_POLL_FIRST | SOCKET_FIXED_BUFFER | SOCKET_REPORT_USAGE)?;
            if raw.flags & SKIP_SUCCESS != 0 {
                return Err(libc::EINVAL);
            }
            manner.poll_first = raw.ioprio & SOCKET_POLL_FIRST != 0;
            manner.notifies = true;
            manner.reports_usage = raw.ioprio & SOCKET_REPORT_USAGE != 0;
        }
        Opcode::Socket(SocketCode::Accept) => {
            allow(raw.ioprio, ACCEPT_MULTISHOT | ACCEPT_DONT_WAIT | ACCEPT_POLL_FIRST)?;
            manner.poll_first = raw.ioprio & ACCEPT_POLL_FIRST != 0;
            manner.multishot = raw.ioprio & ACCEPT_MULTISHOT != 0;
        }
        Opcode::Transfer(TransferCode::ReadMulti) if group.is_none() => return Err(libc::EINVAL),
        Opcode::Transfer(TransferCode::ReadMulti) => manner.multishot = true,
        Opcode::Poll(PollCode::PollAdd) => manner.multishot = raw.length & POLL_MULTISHOT != 0,
        Opcode::Time(TimeCode::Timeout) => manner.multishot = raw.operation_flags & TIMEOUT_MULTISHOT != 0,
        _ => {}
    }
    Ok(manner)
}

fn allow(ioprio: u16, known: u16) -> Result<(), i32> {
    if ioprio & !known != 0 { Err(libc::EINVAL) } else { Ok(()) }
}

fn request(opcode: Opcode, raw: &Raw) -> Result<Request, i32> {
    let fd = raw.fd;
    let address = Address(raw.address);
    let flags = raw.operation_flags;
    let transfer = Transfer { fd, address, length: raw.length, offset: raw.offset, flags };
    let (peer, peer_length) = (Address(raw.offset), raw.file_index as u16);
    let socket = SocketTransfer { fd, address, length: raw.length, flags, peer: Address(0), peer_length: 0 };
    Ok(match opcode {
        Opcode::Message(MessageCode::Nop) => Request::Nop { result: if flags & NOP_RESULT != 0 { raw.length as i32 } else { 0 } },
        Opcode::Transfer(TransferCode::Read) | Opcode::Transfer(TransferCode::ReadFixed) | Opcode::Transfer(TransferCode::ReadMulti) => {
            Request::Read(transfer)
        }
        Opcode::Transfer(TransferCode::Write) | Opcode::Transfer(TransferCode::WriteFixed) => Request::Write(transfer),
        Opcode::Transfer(TransferCode::Readv) => Request::Readv(transfer),
        Opcode::Transfer(TransferCode::Writev) => Request::Writev(transfer),
        Opcode::Socket(SocketCode::Recv) => Request::Recv(socket),
        Opcode::Socket(SocketCode::Send) | Opcode::Socket(SocketCode::SendZc) => {
            Request::Send(SocketTransfer { peer, peer_length, ..socket })
        }
        Opcode::Socket(SocketCode::RecvMsg) => Request::RecvMsg { fd, message: address, flags, buffer: None },
        Opcode::Socket(SocketCode::SendMsg) | Opcode::Socket(SocketCode::SendMsgZc) => Request::SendMsg { fd, message: address, flags },
        Opcode::Socket(SocketCode::Accept) => accept(raw)?,
        Opcode::Socket(SocketCode::Connect) if raw.address == 0 => return Err(libc::EFAULT),
        Opcode::Socket(SocketCode::Connect) => Request::Connect { fd, address, length: raw.offset as u32, begun: false },
        Opcode::Socket(SocketCode::Shutdown) => Request::Shutdown { fd, how: raw.length },
        Opcode::File(FileCode::Close) if raw.file_index == 0 => Request::Close { fd },
        Opcode::Poll(PollCode::PollAdd) if raw.length & !POLL_MULTISHOT == 0 => {
            Request::PollAdd { fd, mask: flags | libc::POLLRDHUP as u32 }
        }
        Opcode::Cancel(CancelCode::PollRemove) if raw.length == 0 => Request::PollRemove { token: raw.address },
        Opcode::File(FileCode::Fsync) if flags & !1 == 0 => Request::Fsync { fd, data_only: flags == 1 },
        Opcode::File(FileCode::Ftruncate) => Request::Ftruncate { fd, length: raw.offset },
        Opcode::File(FileCode::Fallocate) => Request::Fallocate { fd, mode: raw.length, offset: raw.offset, length: raw.address },
        Opcode::Path(PathCode::OpenAt) if raw.file_index == 0 => Request::OpenAt { directory: fd, path: address, flags, mode: raw.length },
        Opcode::Path(PathCode::Statx) => {
            Request::Statx { directory: fd, path: address, flags, mask: raw.length, status: Address(raw.offset) }
        }
        Opcode::Path(PathCode::RenameAt) => {
            Request::RenameAt { from_directory: fd, from: address, to_directory: raw.length as i32, to: Address(raw.offset), flags }
        }
        Opcode::Path(PathCode::UnlinkAt) => Request::UnlinkAt { directory: fd, path: address, flags },
        Opcode::Path(PathCode::MkDirAt) => Request::MkdirAt { directory: fd, path: address, mode: raw.length },
        Opcode::Time(TimeCode::Timeout) => timeout(raw)?,
        Opcode::Time(TimeCode::TimeoutUpdate) => timeout_remove(raw)?,
        Opcode::Time(TimeCode::LinkTimeout) => link_timeout(raw)?,
        Opcode::Cancel(CancelCode::AsyncCancel) => cancel(raw)?,
        Opcode::Message(MessageCode::MsgRingData) => message(raw)?,
        // Flags that these do not know.
        Opcode::File(FileCode::Close | FileCode::Fsync)
        | Opcode::Poll(PollCode::PollAdd)
        | Opcode::Cancel(CancelCode::PollRemove)
        | Opcode::Path(PathCode::OpenAt) => return Err(libc::EINVAL),
        Opcode::KernelOnly(KernelOnlyCode::ProvideBuffers | KernelOnlyCode::Socket) => return Err(libc::EINVAL),
    })
}

fn accept(raw: &Raw) -> Result<Request, i32> {
    let known = (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32;
    // A descriptor of the ring's own table is nothing that this side has.
    if raw.operation_flags & !known != 0 || raw.file_index != 0 {
        return Err(libc::EINVAL);
    }
    Ok(Request::Accept { fd: raw.fd, address: Address(raw.address), length: Address(raw.offset), flags: raw.operation_flags })
}

fn timeout(raw: &Raw) -> Result<Request, i32> {
    let flags = raw.operation_flags;
    let known = TIMEOUT_ABSOLUTE | TIMEOUT_CLOCKS | TIMEOUT_SUCCEEDS | TIMEOUT_MULTISHOT;
    let multishot = flags & TIMEOUT_MULTISHOT != 0;
    // A count of completions to wait for is nothing that we emit.
    let counts = raw.offset != 0 && !multishot;
    let repeats_an_instant = multishot && flags & TIMEOUT_ABSOLUTE != 0;
    if raw.length != 1 || flags & !known != 0 || flags & TIMEOUT_CLOCKS == TIMEOUT_CLOCKS || counts || repeats_an_instant {
        return Err(libc::EINVAL);
    }
    Ok(Request::Timeout { time: Time::at(Address(raw.address))?, count: raw.offset as u32, flags })
}

fn timeout_remove(raw: &Raw) -> Result<Request, i32> {
    let flags = raw.operation_flags;
    if flags & TIMEOUT_UPDATE == 0 {
        return if flags == 0 { Ok(Request::TimeoutRemove { token: raw.address }) } else { Err(libc::EINVAL) };
    }
    let known = TIMEOUT_UPDATE | TIMEOUT_ABSOLUTE | TIMEOUT_CLOCKS | TIMEOUT_LINKED;
    if flags & !known != 0 || flags & TIMEOUT_CLOCKS == TIMEOUT_CLOCKS {
        return Err(libc::EINVAL);
    }
    Ok(Request::TimeoutUpdate { token: raw.address, time: Time::at(Address(raw.offset))?, flags: flags & !TIMEOUT_UPDATE })
}

fn link_timeout(raw: &Raw) -> Result<Request, i32> {
    let flags = raw.operation_flags;
    let known = TIMEOUT_ABSOLUTE | TIMEOUT_CLOCKS | TIMEOUT_SUCCEEDS;
    if raw.length != 1 || raw.offset != 0 || flags & !known != 0 || flags & TIMEOUT_CLOCKS == TIMEOUT_CLOCKS {
        return Err(libc::EINVAL);
    }
    Ok(Request::LinkTimeout { time: Time::at(Address(raw.address))?, flags })
}

fn cancel(raw: &Raw) -> Result<Request, i32> {
    let flags = raw.operation_flags;
    let (by_fd, any) = (flags & CANCEL_FD != 0, flags & CANCEL_ANY != 0);
    if flags & !(CANCEL_ALL | CANCEL_FD | CANCEL_ANY | CANCEL_TOKEN) != 0 || (any && by_fd) {
        return Err(libc::EINVAL);
    }
    // By token, unless something else was named.
    let by_token = flags & CANCEL_TOKEN != 0 || !(by_fd || any);
    Ok(Request::AsyncCancel(Target {
        token: by_token.then_some(raw.address),
        fd: by_fd.then_some(raw.fd),
        all: flags & (CANCEL_ALL | CANCEL_ANY) != 0,
    }))
}

fn message(raw: &Raw) -> Result<Request, i32> {
    let with_flags = raw.operation_flags & MESSAGE_WITH_FLAGS != 0;
    // The other command hands over a registered file.
    let is_data = raw.address == 0 && raw.address_3 == 0 && raw.group == 0;
    if !is_data || raw.operation_flags & !MESSAGE_WITH_FLAGS != 0 || (raw.file_index != 0 && !with_flags) {
        return Err(libc::EINVAL);
    }
    Ok(Request::MsgRing { ring: raw.fd, token: raw.offset, result: raw.length as i32, flags: with_flags.then_some(raw.file_index) })
}

impl Request {
    /// What is left of a transfer when its first `count` bytes are through.
    pub(crate) fn skip(&mut self, count: u32) {
        match self {
            Request::Read(transfer) | Request::Write(transfer) => {
                transfer.address = transfer.address.after(count);
                transfer.length -= count;
                if transfer.offset != u64::MAX {
                    transfer.offset += u64::from(count);
                }
            }
            Request::Recv(transfer) | Request::Send(transfer) => {
                transfer.address = transfer.address.after(count);
                transfer.length -= count;
            }
            _ => {}
        }
    }

    /// Gives a read or a receive its memory.
    pub(crate) fn set_buffer(&mut self, lent: Address, room: u32, is_repeated: bool) {
        match self {
            Request::Read(Transfer { address, length, .. }) | Request::Recv(SocketTransfer { address, length, .. }) => {
                (*address, *length) = (lent, room);
            }
            Request::RecvMsg { message, buffer, .. } => {
                let head = is_repeated.then(|| user::length_of_head(*message));
                *buffer = Some(MessageBuffer { address: lent, room, head });
            }
            _ => {}
        }
    }

    /// Is the buffer that it was given too small for the head of a message?
    pub(crate) fn has_no_room(&self) -> bool {
        matches!(self, Request::RecvMsg { buffer: Some(MessageBuffer { room, head: Some(head), .. }), .. } if room < head)
    }

    /// The bytes that it still asks for, where it is a transfer of one piece.
    pub(crate) fn length(&self) -> u32 {
        match self {
            Request::Read(transfer) | Request::Write(transfer) => transfer.length,
            Request::Recv(transfer) | Request::Send(transfer) => transfer.length,
            _ => 0,
        }
    }

    /// The descriptor that it works on, where it is one that may have to be waited for.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        match *self {
            Request::Read(Transfer { fd, .. })
            | Request::Write(Transfer { fd, .. })
            | Request::Readv(Transfer { fd, .. })
            | Request::Writev(Transfer { fd, .. })
            | Request::Recv(SocketTransfer { fd, .. })
            | Request::Send(SocketTransfer { fd, .. })
            | Request::RecvMsg { fd, .. }
            | Request::SendMsg { fd, .. }
            | Request::Accept { fd, .. }
            | Request::Connect { fd, .. }
            | Request::Shutdown { fd, .. }
            | Request::PollAdd { fd, .. }
            | Request::Fsync { fd, .. }
            | Request::Ftruncate { fd, .. }
            | Request::Fallocate { fd, .. } => Some(fd),
            Request::Nop { .. }
            | Request::Close { .. }
            | Request::PollRemove { .. }
            | Request::OpenAt { .. }
            | Request::Statx { .. }
            | Request::RenameAt { .. }
            | Request::UnlinkAt { .. }
            | Request::MkdirAt { .. }
            | Request::Timeout { .. }
            | Request::TimeoutRemove { .. }
            | Request::TimeoutUpdate { .. }
            | Request::LinkTimeout { .. }
            | Request::AsyncCancel(_)
            | Request::MsgRing { .. } => None,
        }
    }
}

/// For tests, which execute nothing.
#[cfg(test)]
fn decode_unexecuted(entry: &squeue::Entry) -> Decoded {
    // SAFETY: of all that the entry names only a timespec is read, and that now, which is a variable of the caller's.
    unsafe { decode(entry) }
}

#[cfg(test)]
mod tests;
