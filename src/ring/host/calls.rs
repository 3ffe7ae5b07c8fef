//! The system calls that requests stand for, with the addresses that the requests name.
//!
//! They decide nothing: whether a request is tried, waits or goes to a worker is the engine's
//! business.
//!
//! # Safety
//! An [`Address`] comes out of [`decode`](crate::ring::request::decode), whose caller vouches that
//! what it names stays valid, and untouched by others where it is written, until the operation's
//! last completion. The engine keeps a request, and gives copies of it to workers, only until then.
//! So each system call below gets memory of the operation that it is made for; the other calls take
//! no memory, or a local variable's.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;

use crate::ring::file_kind::FileKind;
use crate::ring::memory::{self, Address, MessageHead};
use crate::ring::request::{
    Call, FileCall, MessageBuffer, PathCall, SocketCall, SocketTransfer, Transfer, TransferCall,
};
use crate::ring::world::Interest;
use crate::sys;

/// May the call wait?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MayWait {
    /// Whatever would wait answers `EAGAIN`, or `EOPNOTSUPP` where the file cannot say.
    No,
    /// This is a worker's thread.
    Yes,
}

impl MayWait {
    fn message_flags(self, flags: u32) -> i32 {
        match self {
            MayWait::No => flags as i32 | libc::MSG_DONTWAIT,
            MayWait::Yes => flags as i32,
        }
    }

    fn file_flags(self, flags: u32) -> i32 {
        match self {
            MayWait::No => flags as i32 | libc::RWF_NOWAIT,
            MayWait::Yes => flags as i32,
        }
    }
}

/// Makes the system call, and answers as a completion does.
pub(super) fn make(call: &Call, may_wait: MayWait) -> i32 {
    match call {
        Call::Transfer(transfer) => move_bytes(transfer, may_wait),
        Call::Socket(socket) => on_socket(socket, may_wait),
        Call::Poll(look) => poll(look.fd, look.mask),
        Call::File(file) => on_file(file),
        Call::Path(path) => on_path(path, may_wait),
    }
}

pub(super) fn move_bytes(call: &TransferCall, may_wait: MayWait) -> i32 {
    match *call {
        TransferCall::Read(transfer) => one_buffer(transfer, Way::In, may_wait),
        TransferCall::Write(transfer) => one_buffer(transfer, Way::Out, may_wait),
        TransferCall::Readv(transfer) => several_buffers(
            transfer,
            transfer.address.pointer(),
            transfer.length,
            Way::In,
            may_wait,
        ),
        TransferCall::Writev(transfer) => several_buffers(
            transfer,
            transfer.address.pointer(),
            transfer.length,
            Way::Out,
            may_wait,
        ),
    }
}

pub(super) fn on_socket(call: &SocketCall, may_wait: MayWait) -> i32 {
    match *call {
        SocketCall::Recv(transfer) => receive(transfer, may_wait),
        SocketCall::Send(transfer) => send(transfer, may_wait),
        SocketCall::RecvMsg { fd, message, flags, buffer: None } => {
            let flags = may_wait.message_flags(flags);
            // SAFETY: the header, and what it names, belong to the operation until its last
            // completion.
            answer(unsafe { libc::recvmsg(fd, message.pointer(), flags) } as i64)
        }
        SocketCall::RecvMsg { fd, message, flags, buffer: Some(buffer) } => {
            receive_into_provided(fd, message, may_wait.message_flags(flags), buffer)
        }
        SocketCall::SendMsg { fd, message, flags } => {
            let flags = may_wait.message_flags(flags);
            // SAFETY: as above.
            answer(unsafe { libc::sendmsg(fd, message.pointer(), flags) } as i64)
        }
        SocketCall::Accept { fd, address, length, flags } => {
            // SAFETY: the address and its length belong to the operation until its last completion.
            answer(
                unsafe { libc::accept4(fd, address.pointer(), length.pointer(), flags as i32) }
                    .into(),
            )
        }
        SocketCall::Connect { fd, address, length, begun } => connect(fd, address, length, begun),
        SocketCall::Shutdown { fd, how } => {
            // SAFETY: the call takes no memory.
            answer(unsafe { libc::shutdown(fd, how as i32) }.into())
        }
    }
}

pub(super) fn on_file(call: &FileCall) -> i32 {
    // SAFETY: the calls take no memory but the name and the value of an attribute, which belong to
    // the operation until its last completion. Whoever pushed an entry that closes a descriptor
    // gives it up.
    answer(i64::from(unsafe {
        match *call {
            FileCall::Fsync { fd, data_only: false } => libc::fsync(fd),
            FileCall::Fsync { fd, data_only: true } => libc::fdatasync(fd),
            FileCall::Ftruncate { fd, length } => libc::ftruncate(fd, length as i64),
            FileCall::Fallocate { fd, mode, offset, length } => {
                libc::fallocate(fd, mode as i32, offset as i64, length as i64)
            }
            FileCall::Close { fd } => libc::close(fd),
            FileCall::Fadvise { fd, offset, length, advice } => {
                // It returns the errno.
                return -libc::posix_fadvise(fd, offset as i64, length as i64, advice as i32);
            }
            FileCall::SyncRange { fd, offset, length, flags } => {
                libc::sync_file_range(fd, offset as i64, length.into(), flags)
            }
            FileCall::GetAttribute { fd, name, value, length } => {
                let (name, value) = (name.pointer(), value.pointer());
                return answer(libc::fgetxattr(fd, name, value, length as usize) as i64);
            }
            FileCall::SetAttribute { fd, name, value, length, flags } => {
                libc::fsetxattr(fd, name.pointer(), value.pointer(), length as usize, flags as i32)
            }
        }
    }))
}

pub(super) fn on_path(call: &PathCall, may_wait: MayWait) -> i32 {
    // SAFETY: paths, attributes and the status structure belong to the operation until its last
    // completion.
    answer(i64::from(unsafe {
        match *call {
            PathCall::OpenAt { directory, path, flags, mode } => {
                return open(directory, path.pointer(), flags as i32, mode, may_wait);
            }
            PathCall::OpenAt2 { directory, path, how, size } => {
                return open_held(directory, path, how, size, may_wait);
            }
            PathCall::Statx { directory, path, flags, mask, status } => {
                libc::statx(directory, path.pointer(), flags as i32, mask, status.pointer())
            }
            PathCall::RenameAt { from_directory, from, to_directory, to, flags } => {
                libc::renameat2(from_directory, from.pointer(), to_directory, to.pointer(), flags)
            }
            PathCall::UnlinkAt { directory, path, flags } => {
                libc::unlinkat(directory, path.pointer(), flags as i32)
            }
            PathCall::MkdirAt { directory, path, mode } => {
                libc::mkdirat(directory, path.pointer(), mode)
            }
            PathCall::GetAttribute { path, name, value, length } => {
                let (path, name, value) = (path.pointer(), name.pointer(), value.pointer());
                return answer(libc::getxattr(path, name, value, length as usize) as i64);
            }
            PathCall::SetAttribute { path, name, value, length, flags } => libc::setxattr(
                path.pointer(),
                name.pointer(),
                value.pointer(),
                length as usize,
                flags as i32,
            ),
            PathCall::SymlinkAt { text, directory, path } => {
                libc::symlinkat(text.pointer(), directory, path.pointer())
            }
            PathCall::LinkAt { from_directory, from, to_directory, to, flags } => libc::linkat(
                from_directory,
                from.pointer(),
                to_directory,
                to.pointer(),
                flags as i32,
            ),
        }
    }))
}

/// What a system call returned, in the way of a completion.
#[inline]
pub(super) fn answer(result: i64) -> i32 {
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

fn one_buffer(transfer: Transfer, way: Way, may_wait: MayWait) -> i32 {
    let (address, length) = (transfer.address.pointer(), transfer.length as usize);
    if may_wait.file_flags(transfer.flags) == 0 && transfer.offset != u64::MAX {
        // Most of what threads do. A stream has no positions, and is left to the other calls.
        // SAFETY: the buffer belongs to the operation, or to a group of provided buffers that lends
        // it, until the last completion.
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
    let vector =
        libc::iovec { iov_base: transfer.address.pointer(), iov_len: transfer.length as usize };
    several_buffers(transfer, &vector, 1, way, may_wait)
}

/// preadv2(2) and pwritev2(2), or the calls before them where these do as well. Streams have no
/// positions, and ignore those that entries name.
fn several_buffers(
    transfer: Transfer,
    vectors: *const libc::iovec,
    count: u32,
    way: Way,
    may_wait: MayWait,
) -> i32 {
    let flags = may_wait.file_flags(transfer.flags);
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
    if result == -libc::ESPIPE && transfer.offset != u64::MAX {
        answer(at(-1) as i64)
    } else {
        result
    }
}

/// Directions in which no file can be asked not to wait, since a filter or the kernel refuses the
/// call: then it does not come as far as to say that there is no such file.
pub(super) fn directions_that_wait() -> Interest {
    let (nothing, flags) =
        (libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }, libc::RWF_NOWAIT);
    // SAFETY: there is no memory in the only vector, which is a local variable.
    let reads = answer(unsafe { libc::preadv2(-1, &nothing, 1, 0, flags) } as i64) == -libc::EBADF;
    // SAFETY: as above.
    let writes =
        answer(unsafe { libc::pwritev2(-1, &nothing, 1, 0, flags) } as i64) == -libc::EBADF;
    Interest(
        if reads { 0 } else { Interest::INPUT.0 } | if writes { 0 } else { Interest::OUTPUT.0 },
    )
}

#[inline]
pub(super) fn receive(transfer: SocketTransfer, may_wait: MayWait) -> i32 {
    let flags = may_wait.message_flags(transfer.flags);
    // SAFETY: the buffer belongs to the operation, or to a group of provided buffers that lends it,
    // until the last completion.
    answer(unsafe {
        libc::recv(transfer.fd, transfer.address.pointer(), transfer.length as usize, flags)
    } as i64)
}

/// recvmsg(2) into a provided buffer, with the head in front if there is one, else with name and
/// control data where the header says.
fn receive_into_provided(fd: RawFd, message: Address, flags: i32, buffer: MessageBuffer) -> i32 {
    let head = buffer.head.unwrap_or(0);
    let Some(room) = buffer.room.checked_sub(head) else {
        // What is no socket says so first.
        return option(fd, libc::SO_TYPE).map_or_else(|errno| -errno, |_| -libc::EFAULT);
    };
    let mut payload =
        libc::iovec { iov_base: buffer.address.after(head).pointer(), iov_len: room as usize };
    let mut header = memory::message_header(message);
    (header.msg_iov, header.msg_iovlen) = (&mut payload, 1);
    if buffer.head.is_some() {
        let name = buffer.address.after(MessageHead::LENGTH);
        // Without room for a name the head says that there is none.
        header.msg_name = if header.msg_namelen > 0 { name.pointer() } else { ptr::null_mut() };
        header.msg_control = name.after(header.msg_namelen).pointer();
    }
    let control_room = header.msg_controllen;
    // SAFETY: the header is a local variable. It names the provided buffer, which is lent until the
    // completion that names it, and else what the operation's own header names.
    let received = answer(unsafe { libc::recvmsg(fd, &mut header, flags) } as i64);
    if received < 0 {
        return received;
    }
    if buffer.head.is_none() {
        memory::fill_in_header(message, &header);
        return received;
    }
    let written = MessageHead {
        name_length: header.msg_namelen,
        control_length: header.msg_controllen.min(control_room) as u32,
        payload_length: received as u32,
        flags: header.msg_flags as u32,
    };
    written.write_to(buffer.address);
    received + head as i32
}

#[inline]
pub(super) fn send(transfer: SocketTransfer, may_wait: MayWait) -> i32 {
    let SocketTransfer { fd, address, length, peer, peer_length, .. } = transfer;
    let flags = may_wait.message_flags(transfer.flags);
    // SAFETY: the buffer and the address belong to the operation until its last completion.
    answer(unsafe {
        libc::sendto(
            fd,
            address.pointer(),
            length as usize,
            flags,
            peer.pointer(),
            peer_length.into(),
        )
    } as i64)
}

/// Begins to connect, or learns how that ended; `EAGAIN` while it is under way. Never waits,
/// whatever kind of socket it is.
fn connect(fd: RawFd, address: Address, length: u32, begun: bool) -> i32 {
    let ready = if begun { poll(fd, libc::POLLOUT as u32) } else { libc::POLLOUT.into() };
    match ready {
        0 => -libc::EAGAIN,
        // Asking connect(2) would set the socket back, of which the kernel's ring leaves the error
        // to the next one.
        errors if errors & i32::from(libc::POLLERR) != 0 => {
            option(fd, libc::SO_ERROR).map_or_else(|errno| -errno, |errno| -errno)
        }
        // The socket counts as connecting until connect(2) is asked once more.
        _ => match begin_to_connect(fd, address, length) {
            result if begun && result == -libc::EISCONN => 0,
            // The end of an attempt that failed, which was told already. Now the socket can be used
            // again.
            result if result == -libc::ECONNABORTED => begin_to_connect(fd, address, length),
            result => result,
        },
    }
}

/// connect(2), without waiting.
fn begin_to_connect(fd: RawFd, address: Address, length: u32) -> i32 {
    // There is no flag that makes only this call non-blocking. The socket is not connected yet, so
    // no other call on it is waiting or transferring anything that could see the difference.
    // SAFETY: these calls take no memory but the address, which belongs to the operation until its
    // last completion.
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
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            option,
            ptr::from_mut(&mut value).cast(),
            &mut length,
        )
    };
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

/// Opens without waiting for the other end of a FIFO or for a line, as the kernel's ring does.
/// `EAGAIN` where it must not wait and the path is not all in memory. openat(2), openat2(2).
fn open(
    directory: RawFd,
    path: *const libc::c_char,
    flags: i32,
    mode: u32,
    may_wait: MayWait,
) -> i32 {
    unhurried(flags, may_wait, |flags| match may_wait {
        MayWait::No => {
            let how = how(flags as u32 as u64, 0, libc::RESOLVE_CACHED);
            open_from_memory(directory, path, &how)
        }
        // SAFETY: the path belongs to the operation until its last completion.
        MayWait::Yes => answer(unsafe { libc::openat(directory, path, flags, mode) }.into()),
    })
}

/// The same for a path that is held to its directory.
fn open_held(
    directory: RawFd,
    path: Address,
    structure: Address,
    size: u32,
    may_wait: MayWait,
) -> i32 {
    let path = path.pointer();
    if size as usize != size_of::<libc::open_how>() {
        // What the kernel says to it, whether it knows more or less than is known here.
        // SAFETY: path and structure belong to the operation until its last completion.
        return answer(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                directory,
                path,
                structure.pointer::<u8>(),
                size as usize,
            )
        });
    }
    // SAFETY: as above. It is as long as it has to be, and its fields are integers.
    let asked: libc::open_how =
        unsafe { structure.pointer::<libc::open_how>().cast_const().read_unaligned() };
    let (known, other) = (asked.flags as u32 as i32, asked.flags & !u64::from(u32::MAX));
    unhurried(known, may_wait, |flags| {
        let flags = other | u64::from(flags as u32);
        match may_wait {
            MayWait::No => {
                let how = how(flags, asked.mode, asked.resolve | libc::RESOLVE_CACHED);
                open_from_memory(directory, path, &how)
            }
            MayWait::Yes => open_as(directory, path, &how(flags, asked.mode, asked.resolve)),
        }
    })
}

/// Opens with `O_NONBLOCK`, so that nobody is waited for, and takes that back.
fn unhurried(flags: i32, may_wait: MayWait, open: impl Fn(i32) -> i32) -> i32 {
    let makes =
        flags & (libc::O_CREAT | libc::O_TRUNC) != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE;
    if may_wait == MayWait::No && makes {
        return -libc::EAGAIN;
    }
    // A descriptor that only names a file has no such flag, and openat2(2) refuses it.
    let only_names = flags & libc::O_PATH != 0;
    let hurried = if only_names { flags } else { flags | libc::O_NONBLOCK };
    match open(hurried) {
        // Somebody's lease on the file is to be broken first.
        e if e == -libc::EAGAIN && may_wait == MayWait::Yes && !only_names => open(flags),
        fd if fd >= 0 && hurried != flags => {
            // SAFETY: the call takes no memory, and nobody else knows the descriptor yet.
            unsafe { libc::fcntl(fd, libc::F_SETFL, flags) };
            fd
        }
        result => result,
    }
}

fn open_from_memory(directory: RawFd, path: *const libc::c_char, how: &libc::open_how) -> i32 {
    match open_as(directory, path, how) {
        result if result >= 0 || result == -libc::ENOENT => result,
        // Whatever else it is, a worker finds it out.
        _ => -libc::EAGAIN,
    }
}

fn how(flags: u64, mode: u64, resolve: u64) -> libc::open_how {
    // SAFETY: plain numbers, of which zero is one.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    (how.flags, how.mode, how.resolve) = (flags, mode, resolve);
    how
}

fn open_as(directory: RawFd, path: *const libc::c_char, how: &libc::open_how) -> i32 {
    // SAFETY: the path belongs to the operation until its last completion; `how` is borrowed for
    // the call, and as long as it is told.
    answer(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            directory,
            path,
            ptr::from_ref(how),
            size_of::<libc::open_how>(),
        )
    })
}
