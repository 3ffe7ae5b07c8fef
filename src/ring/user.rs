//! How does a request reach the memory that it names? By system calls that take the addresses, and by a few structures that the software
//! ring reads and writes itself, as the kernel would.
//!
//! This is the only file that makes memory of the addresses in entries. It decides nothing: whether a request is tried, waits or goes to a
//! worker is the engine's business.
//!
//! # Safety
//! An [`Address`] comes out of [`decode`](super::sqe::decode), whose caller vouches that what it names stays valid, and untouched by others
//! where it is written, until the operation's last completion. The engine keeps a request, and gives copies of it to workers, only until
//! then. So each system call below gets memory of the operation that it is made for; the other calls take no memory, or a local variable's.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;

use super::file_kind::FileKind;
use super::sqe::{Address, MessageBuffer, Request, SocketTransfer, Transfer};
use super::world::Interest;
use crate::sys;

impl Address {
    fn pointer<T>(self) -> *mut T {
        ptr::with_exposed_provenance_mut(self.get() as usize)
    }
}

/// May the call wait?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Whatever would wait answers `EAGAIN`, or `EOPNOTSUPP` where the file cannot say.
    None,
    /// This is a worker's thread.
    Unlimited,
}

impl Patience {
    fn message_flags(self, flags: u32) -> i32 {
        match self {
            Patience::None => flags as i32 | libc::MSG_DONTWAIT,
            Patience::Unlimited => flags as i32,
        }
    }

    fn file_flags(self, flags: u32) -> i32 {
        match self {
            Patience::None => flags as i32 | libc::RWF_NOWAIT,
            Patience::Unlimited => flags as i32,
        }
    }
}

/// Makes the request's system call, and answers as a completion does. What is the engine's own business and no system call answers
/// `EINVAL`; the engine does not send it here.
pub(super) fn call(request: &Request, patience: Patience) -> i32 {
    match *request {
        Request::Read(transfer) => one_buffer(transfer, Way::In, patience),
        Request::Write(transfer) => one_buffer(transfer, Way::Out, patience),
        Request::Readv(transfer) => several_buffers(transfer, transfer.address.pointer(), transfer.length, Way::In, patience),
        Request::Writev(transfer) => several_buffers(transfer, transfer.address.pointer(), transfer.length, Way::Out, patience),
        Request::Recv(transfer) => receive(transfer, patience),
        Request::Send(transfer) => send(transfer, patience),
        Request::RecvMsg { fd, message, flags, buffer: None } => {
            let flags = patience.message_flags(flags);
            // SAFETY: the header, and what it names, belong to the operation until its last completion.
            answer(unsafe { libc::recvmsg(fd, message.pointer(), flags) } as i64)
        }
        Request::RecvMsg { fd, message, flags, buffer: Some(buffer) } => {
            receive_into_provided(fd, message, patience.message_flags(flags), buffer)
        }
        Request::SendMsg { fd, message, flags } => {
            let flags = patience.message_flags(flags);
            // SAFETY: as above.
            answer(unsafe { libc::sendmsg(fd, message.pointer(), flags) } as i64)
        }
        Request::Accept { fd, address, length, flags } => {
            // SAFETY: the address and its length belong to the operation until its last completion.
            answer(unsafe { libc::accept4(fd, address.pointer(), length.pointer(), flags as i32) }.into())
        }
        Request::Connect { fd, address, length, begun } => connect(fd, address, length, begun),
        Request::PollAdd { fd, mask } => poll(fd, mask),
        // SAFETY: the call takes no memory.
        Request::Shutdown { fd, how } => answer(unsafe { libc::shutdown(fd, how as i32) }.into()),
        // SAFETY: the call takes no memory, and whoever pushed the entry gives the descriptor up.
        Request::Close { fd } => answer(unsafe { libc::close(fd) }.into()),
        Request::Fsync { .. }
        | Request::Ftruncate { .. }
        | Request::Fallocate { .. }
        | Request::OpenAt { .. }
        | Request::Statx { .. }
        | Request::RenameAt { .. }
        | Request::UnlinkAt { .. }
        | Request::MkdirAt { .. } => call_on_files(request, patience),
        Request::Nop { .. }
        | Request::PollRemove { .. }
        | Request::Timeout { .. }
        | Request::TimeoutRemove { .. }
        | Request::TimeoutUpdate { .. }
        | Request::LinkTimeout { .. }
        | Request::AsyncCancel(_)
        | Request::MsgRing { .. } => -libc::EINVAL,
    }
}

/// The calls that work on files as a whole, and on names.
fn call_on_files(request: &Request, patience: Patience) -> i32 {
    // SAFETY: paths and the status structure belong to the operation until its last completion; the other calls take no memory.
    answer(i64::from(unsafe {
        match *request {
            Request::Fsync { fd, data_only: false } => libc::fsync(fd),
            Request::Fsync { fd, data_only: true } => libc::fdatasync(fd),
            Request::Ftruncate { fd, length } => libc::ftruncate(fd, length as i64),
            Request::Fallocate { fd, mode, offset, length } => libc::fallocate(fd, mode as i32, offset as i64, length as i64),
            Request::OpenAt { directory, path, flags, mode } => return open(directory, path.pointer(), flags as i32, mode, patience),
            Request::Statx { directory, path, flags, mask, status } => {
                libc::statx(directory, path.pointer(), flags as i32, mask, status.pointer())
            }
            Request::RenameAt { from_directory, from, to_directory, to, flags } => {
                libc::renameat2(from_directory, from.pointer(), to_directory, to.pointer(), flags)
            }
            Request::UnlinkAt { directory, path, flags } => libc::unlinkat(directory, path.pointer(), flags as i32),
            Request::MkdirAt { directory, path, mode } => libc::mkdirat(directory, path.pointer(), mode),
            _ => return -libc::EINVAL,
        }
    }))
}

/// What a system call returned, in the way of a completion.
fn answer(result: i64) -> i32 {
    match result {
        -1 => -errno(),
        // No call here moves 2 GiB or more.
        result => result as i32,
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Into memory or out of it?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

fn one_buffer(transfer: Transfer, way: Way, patience: Patience) -> i32 {
    let (address, length) = (transfer.address.pointer(), transfer.length as usize);
    if patience.file_flags(transfer.flags) == 0 && transfer.offset != u64::MAX {
        // Most of what threads do. A stream has no positions, and is left to the other calls.
        // SAFETY: the buffer belongs to the operation, or to a group of provided buffers that lends it, until the last completion.
        let result = answer(unsafe {
            match way {
                Way::In => libc::pread(transfer.fd, address, length, transfer.offset as i64),
                Way::Out => libc::pwrite(transfer.fd, address, length, transfer.offset as i64),
            }
        } as i64);
        if result != -libc::ESPIPE {
            return result;
        }
    }
    let vector = libc::iovec { iov_base: transfer.address.pointer(), iov_len: transfer.length as usize };
    several_buffers(transfer, &vector, 1, way, patience)
}

/// preadv2(2) and pwritev2(2), or the calls before them where these do as well. Streams have no positions, and ignore those that entries name.
fn several_buffers(transfer: Transfer, vectors: *const libc::iovec, count: u32, way: Way, patience: Patience) -> i32 {
    let flags = patience.file_flags(transfer.flags);
    let (fd, count) = (transfer.fd, count as i32);
    // SAFETY: the vectors name memory of the operation, which stays until its last completion.
    let at = |offset| unsafe {
        match (way, flags, offset) {
            (Way::In, 0, -1) => libc::readv(fd, vectors, count),
            (Way::In, 0, _) => libc::preadv(fd, vectors, count, offset),
            (Way::In, ..) => libc::preadv2(fd, vectors, count, offset, flags),
            (Way::Out, 0, -1) => libc::writev(fd, vectors, count),
            (Way::Out, 0, _) => libc::pwritev(fd, vectors, count, offset),
            (Way::Out, ..) => libc::pwritev2(fd, vectors, count, offset, flags),
        }
    };
    // No offset is the file's own position in both interfaces.
    let result = answer(at(transfer.offset as i64) as i64);
    if result == -libc::ESPIPE && transfer.offset != u64::MAX { answer(at(-1) as i64) } else { result }
}

/// A transfer that the kernel makes by itself: `struct iocb`, io_submit(2), which the `libc` crate has for glibc only.
#[repr(C)]
#[derive(Debug)]
pub(super) struct ControlBlock {
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
    pub(super) fn number(&self) -> usize {
        self.number as usize
    }
}

/// A transfer at a place of a file, by the number under which its end is told, after which `event` is written to.
pub(super) fn control_block(request: &Request, event: RawFd, number: usize) -> Option<ControlBlock> {
    let (opcode, transfer) = match *request {
        Request::Read(transfer) => (0, transfer),
        Request::Write(transfer) => (1, transfer),
        Request::Readv(transfer) => (7, transfer),
        Request::Writev(transfer) => (8, transfer),
        _ => return None,
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
struct Ended {
    number: u64,
    block: u64,
    result: i64,
    more: i64,
}

/// Most transfers that one call begins.
const TRANSFERS_AT_ONCE: usize = 64;

/// Transfers that the kernel makes by itself. io_setup(2). Its drop takes some milliseconds, and waits for all that have not ended.
#[derive(Debug)]
pub(super) struct Transfers {
    context: libc::c_ulong,
    /// Scratch space.
    ended: Vec<Ended>,
}

impl Transfers {
    pub(super) fn open(capacity: usize) -> Result<Transfers, i32> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the context is a local variable, and zero as the call wants it.
        let refusal = answer(unsafe { libc::syscall(libc::SYS_io_setup, capacity, &mut context) });
        if refusal != 0 {
            return Err(-refusal);
        }
        let mut transfers = Transfers { context, ended: vec![Ended::default(); capacity] };
        // Nothing has begun, so this is the time to hear of a refusal.
        match transfers.take_ended() {
            0 => Ok(transfers),
            errno => Err(-errno),
        }
    }

    /// Begins the first of these transfers and says how many those are, or why not even one. io_submit(2).
    pub(super) fn submit(&mut self, blocks: &mut [ControlBlock]) -> Result<usize, i32> {
        let mut pointers = [ptr::null_mut::<ControlBlock>(); TRANSFERS_AT_ONCE];
        let count = blocks.len().min(TRANSFERS_AT_ONCE);
        pointers.iter_mut().zip(blocks).for_each(|(pointer, block)| *pointer = block);
        // SAFETY: the blocks are borrowed for the call, which is as long as the kernel needs them. The memory that they name belongs to their
        // operations until the last completion, which is posted after the transfer has ended.
        let begun = answer(unsafe { libc::syscall(libc::SYS_io_submit, self.context, count, pointers.as_mut_ptr()) });
        // It never answers zero to some.
        if begun <= 0 { Err(-begun) } else { Ok(begun as usize) }
    }

    /// Hands the number and the result of each that has ended to `take`.
    pub(super) fn ended(&mut self, mut take: impl FnMut(usize, i32)) {
        loop {
            let count = usize::try_from(self.take_ended()).unwrap_or(0);
            // No transfer here moves 2 GiB or more.
            self.ended[..count].iter().for_each(|ended| take(ended.number as usize, ended.result as i32));
            if count < self.ended.len() {
                return;
            }
        }
    }

    /// io_getevents(2), without waiting.
    fn take_ended(&mut self) -> i32 {
        let no_time = [0i64; 2];
        let (least, room) = (0usize, self.ended.len());
        // SAFETY: there is room for so many, and the time is a local variable, zero in two words of any size.
        answer(unsafe { libc::syscall(libc::SYS_io_getevents, self.context, least, room, self.ended.as_mut_ptr(), no_time.as_ptr()) })
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        // SAFETY: the call takes no memory, and nothing is done with the context from now on. io_destroy(2).
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

/// Directions in which no file can be asked not to wait, since a filter or the kernel refuses the call: then it does not come as far as to say
/// that there is no such file.
pub(super) fn directions_that_wait() -> Interest {
    let (nothing, flags) = (libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }, libc::RWF_NOWAIT);
    // SAFETY: there is no memory in the only vector, which is a local variable.
    let reads = answer(unsafe { libc::preadv2(-1, &nothing, 1, 0, flags) } as i64) == -libc::EBADF;
    // SAFETY: as above.
    let writes = answer(unsafe { libc::pwritev2(-1, &nothing, 1, 0, flags) } as i64) == -libc::EBADF;
    Interest(if reads { 0 } else { Interest::INPUT.0 } | if writes { 0 } else { Interest::OUTPUT.0 })
}

#[inline]
pub(super) fn receive(transfer: SocketTransfer, patience: Patience) -> i32 {
    let flags = patience.message_flags(transfer.flags);
    // SAFETY: the buffer belongs to the operation, or to a group of provided buffers that lends it, until the last completion.
    answer(unsafe { libc::recv(transfer.fd, transfer.address.pointer(), transfer.length as usize, flags) } as i64)
}

/// What stands in a provided buffer in front of a message: `struct io_uring_recvmsg_out`.
#[repr(C)]
struct MessageHead {
    name_length: u32,
    control_length: u32,
    payload_length: u32,
    flags: u32,
}

/// How much room the head takes, with the name and the control data that the header asks for.
pub(super) fn length_of_head(message: Address) -> u32 {
    // SAFETY: the header belongs to the operation until its last completion.
    let header = unsafe { &*message.pointer::<libc::msghdr>() };
    let lengths = header.msg_namelen as usize + header.msg_controllen;
    u32::try_from(size_of::<MessageHead>() + lengths).unwrap_or(u32::MAX)
}

/// recvmsg(2) into a provided buffer, with the head in front if there is one, else with name and control data where the header says.
fn receive_into_provided(fd: RawFd, message: Address, flags: i32, buffer: MessageBuffer) -> i32 {
    let head = buffer.head.unwrap_or(0);
    let Some(room) = buffer.room.checked_sub(head) else {
        // What is no socket says so first.
        return option(fd, libc::SO_TYPE).map_or_else(|errno| -errno, |_| -libc::EFAULT);
    };
    let mut payload = libc::iovec { iov_base: buffer.address.after(head).pointer(), iov_len: room as usize };
    let theirs = message.pointer::<libc::msghdr>();
    // SAFETY: the header belongs to the operation until its last completion.
    let mut header = unsafe { theirs.read() };
    (header.msg_iov, header.msg_iovlen) = (&mut payload, 1);
    if buffer.head.is_some() {
        let name = buffer.address.after(size_of::<MessageHead>() as u32);
        header.msg_name = name.pointer();
        header.msg_control = name.after(header.msg_namelen).pointer();
    }
    let control_room = header.msg_controllen;
    // SAFETY: the header is a local variable. It names the provided buffer, which is lent until the completion that names it, and else what the
    // operation's own header names.
    let received = answer(unsafe { libc::recvmsg(fd, &mut header, flags) } as i64);
    if received < 0 {
        return received;
    }
    if buffer.head.is_none() {
        // SAFETY: the header belongs to the operation, and these are the fields that recvmsg(2) fills in.
        unsafe {
            (*theirs).msg_namelen = header.msg_namelen;
            (*theirs).msg_controllen = header.msg_controllen;
            (*theirs).msg_flags = header.msg_flags;
        }
        return received;
    }
    let written = MessageHead {
        name_length: header.msg_namelen,
        control_length: header.msg_controllen.min(control_room) as u32,
        payload_length: received as u32,
        flags: header.msg_flags as u32,
    };
    // SAFETY: the buffer is lent and has room for the head, as was seen above; it need not be aligned.
    unsafe { buffer.address.pointer::<MessageHead>().write_unaligned(written) };
    received + head as i32
}

#[inline]
pub(super) fn send(transfer: SocketTransfer, patience: Patience) -> i32 {
    let SocketTransfer { fd, address, length, peer, peer_length, .. } = transfer;
    let flags = patience.message_flags(transfer.flags);
    // SAFETY: the buffer and the address belong to the operation until its last completion.
    answer(unsafe { libc::sendto(fd, address.pointer(), length as usize, flags, peer.pointer(), peer_length.into()) } as i64)
}

/// Begins to connect, or learns how that ended; `EAGAIN` while it is under way. Never waits, whatever kind of socket it is.
fn connect(fd: RawFd, address: Address, length: u32, begun: bool) -> i32 {
    let ready = if begun { poll(fd, libc::POLLOUT as u32) } else { libc::POLLOUT.into() };
    match ready {
        0 => -libc::EAGAIN,
        // Asking connect(2) would set the socket back, of which the kernel's ring leaves the error to the next one.
        errors if errors & i32::from(libc::POLLERR) != 0 => option(fd, libc::SO_ERROR).map_or_else(|errno| -errno, |errno| -errno),
        // The socket counts as connecting until connect(2) is asked once more.
        _ => match begin_to_connect(fd, address, length) {
            result if begun && result == -libc::EISCONN => 0,
            // The end of an attempt that failed, which was told already. Now the socket can be used again.
            result if result == -libc::ECONNABORTED => begin_to_connect(fd, address, length),
            result => result,
        },
    }
}

/// connect(2), without waiting.
fn begin_to_connect(fd: RawFd, address: Address, length: u32) -> i32 {
    // There is no flag that makes only this call impatient. The socket is not connected yet, so no other call on it is waiting or
    // transferring anything that could see the difference.
    // SAFETY: these calls take no memory but the address, which belongs to the operation until its last completion.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags < 0 {
            return -errno();
        }
        let waits = flags & libc::O_NONBLOCK == 0;
        if waits && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return -errno();
        }
        let result = answer(libc::connect(fd, address.pointer(), length).into());
        if waits {
            libc::fcntl(fd, libc::F_SETFL, flags);
        }
        result
    }
}

/// An option of a socket that is a number, or the errno.
pub(super) fn option(fd: RawFd, option: i32) -> Result<i32, i32> {
    let mut value = 0i32;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: both are local variables.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, ptr::from_mut(&mut value).cast(), &mut length) };
    if result < 0 { Err(errno()) } else { Ok(value) }
}

/// `O_*` flags of an open file, or the errno.
pub(super) fn status_flags(fd: RawFd) -> Result<i32, i32> {
    // SAFETY: the call takes no memory.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 { Err(errno()) } else { Ok(flags) }
}

/// Has the file positions, so that a short read means the end, or that the rest is not in memory?
pub(super) fn has_position(fd: RawFd) -> bool {
    // SAFETY: whoever pushed the entry keeps the descriptor open.
    sys::has_position(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// What the file is, as far as calls on it wait for somebody.
pub(super) fn file_kind(fd: RawFd) -> FileKind {
    // SAFETY: whoever pushed the entry keeps the descriptor open.
    FileKind::of(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// What is ready now of `mask`; 0 for nothing. poll(2).
pub(super) fn poll(fd: RawFd, mask: u32) -> i32 {
    let mut look = libc::pollfd { fd, events: mask as i16, revents: 0 };
    // SAFETY: the structure is a local variable.
    match answer(unsafe { libc::poll(&mut look, 1, 0) }.into()) {
        1 if look.revents & libc::POLLNVAL != 0 => -libc::EBADF,
        1 => i32::from(look.revents as u16),
        result => result,
    }
}

/// Opens without waiting for the other end of a FIFO or for a line, as the kernel's ring does. `EAGAIN` for the impatient: the way there is
/// not all in memory. openat(2), openat2(2).
fn open(directory: RawFd, path: *const libc::c_char, flags: i32, mode: u32, patience: Patience) -> i32 {
    let impatient = flags | libc::O_NONBLOCK;
    let result = match patience {
        Patience::None if flags & (libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE) != 0 => -libc::EAGAIN,
        Patience::None => open_from_memory(directory, path, impatient),
        // SAFETY: the path belongs to the operation until its last completion.
        Patience::Unlimited => answer(unsafe { libc::openat(directory, path, impatient, mode) }.into()),
    };
    match result {
        // Somebody's lease on the file is to be broken first.
        e if e == -libc::EAGAIN && patience == Patience::Unlimited => {
            // SAFETY: as above.
            answer(unsafe { libc::openat(directory, path, flags, mode) }.into())
        }
        fd if fd >= 0 && flags & libc::O_NONBLOCK == 0 => {
            // A descriptor that only names a file has no such flag, and refuses.
            // SAFETY: the call takes no memory, and nobody else knows the descriptor yet.
            unsafe { libc::fcntl(fd, libc::F_SETFL, flags) };
            fd
        }
        result => result,
    }
}

fn open_from_memory(directory: RawFd, path: *const libc::c_char, flags: i32) -> i32 {
    // SAFETY: plain numbers, of which zero is one.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from(flags as u32);
    how.resolve = libc::RESOLVE_CACHED;
    // SAFETY: the path belongs to the operation until its last completion; `how` is a local variable.
    match answer(unsafe { libc::syscall(libc::SYS_openat2, directory, path, ptr::from_ref(&how), size_of::<libc::open_how>()) }) {
        result if result >= 0 || result == -libc::ENOENT => result,
        // Whatever else it is, a worker finds it out.
        _ => -libc::EAGAIN,
    }
}

/// Reads a timeout's seconds and nanoseconds.
pub(super) fn timespec(time: Address) -> Option<(i64, i64)> {
    if time.is_null() {
        return None;
    }
    // SAFETY: the entry is being submitted, and its timespec is valid at least during that; two 64-bit numbers, perhaps not aligned.
    Some(unsafe { time.pointer::<(i64, i64)>().cast::<[i64; 2]>().read_unaligned() }.into())
}

/// The bytes that the vectors of a request hold in all.
pub(super) fn total_length(transfer: &Transfer) -> u64 {
    let vectors = transfer.address.pointer::<libc::iovec>();
    // SAFETY: the vectors belong to the operation until its last completion, and there are `length` of them.
    (0..transfer.length as usize).map(|index| unsafe { vectors.add(index).read() }.iov_len as u64).sum()
}
