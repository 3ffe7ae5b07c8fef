//! Calls that the machine tries without waiting, and the signs that a call would wait.

use std::os::fd::RawFd;

use super::calls::{self, MayWait};
use super::world::Host;
use crate::ring::file_kind::FileKind;
use crate::ring::request::{Call, SocketCall, TransferCall, Waits};
use crate::ring::world::{Attempt, Interest};
use crate::sys;

impl Host {
    /// recv(2), send(2) and their likes, which can be asked not to wait.
    #[inline]
    fn attempt_without_waiting(
        &mut self,
        fd: RawFd,
        flags: u32,
        interest: Interest,
        socket: &SocketCall,
        call: impl FnOnce() -> i32,
    ) -> Attempt {
        // These look at something other than the stream of data, or want to know at once.
        let special = flags
            & (libc::MSG_PEEK | libc::MSG_OOB | libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) as u32
            != 0;
        let descriptor = self.descriptor(fd);
        if !special
            && descriptor.is_socket
            && descriptor.would_wait(interest)
            && socket.piece() != Some(0)
            && !socket.has_no_room()
        {
            return Attempt::Blocked(interest);
        }
        let result = call();
        if result == -libc::EAGAIN {
            descriptor.is_socket = true;
            if flags & libc::MSG_DONTWAIT as u32 != 0 {
                return Attempt::Done(result);
            }
            descriptor.blocked(interest);
            return Attempt::Blocked(if special { Interest::ANYTHING } else { interest });
        }
        if result <= 0 || special || socket.piece().is_none_or(|length| result as u32 >= length) {
            return Attempt::Done(result);
        }
        let is_last = descriptor.transferred_short(interest);
        match flags & libc::MSG_WAITALL as u32 != 0 && is_stream(fd) {
            true => Attempt::Part(result as u32),
            false if is_last => Attempt::Last(result, interest),
            false => Attempt::Done(result),
        }
    }

    #[inline]
    pub(super) fn attempt_on_socket(&mut self, socket: &mut SocketCall) -> Attempt {
        match *socket {
            SocketCall::Recv(transfer) => {
                let receive = || calls::receive(transfer, MayWait::No);
                self.attempt_without_waiting(
                    transfer.fd,
                    transfer.flags,
                    Interest::INPUT,
                    socket,
                    receive,
                )
            }
            SocketCall::Send(transfer) => {
                let send = || calls::send(transfer, MayWait::No);
                self.attempt_without_waiting(
                    transfer.fd,
                    transfer.flags,
                    Interest::OUTPUT,
                    socket,
                    send,
                )
            }
            SocketCall::RecvMsg { fd, flags, .. } => {
                let receive = || calls::on_socket(socket, MayWait::No);
                self.attempt_without_waiting(fd, flags, Interest::INPUT, socket, receive)
            }
            SocketCall::SendMsg { fd, flags, .. } => {
                let send = || calls::on_socket(socket, MayWait::No);
                self.attempt_without_waiting(fd, flags, Interest::OUTPUT, socket, send)
            }
            SocketCall::Accept { fd, .. } => self.attempt_to_accept(fd, socket),
            SocketCall::Connect { fd, .. } => Host::attempt_to_connect(fd, socket),
            SocketCall::Shutdown { .. } => Attempt::Done(calls::on_socket(socket, MayWait::No)),
        }
    }

    /// A call on a file as a whole, or on a name.
    pub(super) fn attempt_on_files(&mut self, call: &Call, waits: Waits) -> Attempt {
        let result = match waits {
            Waits::Never => return Attempt::Done(calls::make(call, MayWait::No)),
            Waits::Regardless => return Attempt::Blocking,
            Waits::UnlessAsked => calls::make(call, MayWait::No),
        };
        if result == -libc::EAGAIN {
            return Attempt::Blocking;
        }
        if result >= 0 && call.makes_descriptor() {
            self.take_new_number(result);
        }
        Attempt::Done(result)
    }

    /// accept(2) has no flag against waiting. On a listener that waits the call is a worker's,
    /// since another thread may take the connection first; the listener's flags are its other
    /// users' too.
    fn attempt_to_accept(&mut self, fd: RawFd, accept: &SocketCall) -> Attempt {
        if self.descriptor(fd).would_wait(Interest::INPUT) {
            return Attempt::Blocked(Interest::INPUT);
        }
        // Asked each time: a listener that waits, under a number that meant one that does not,
        // would stop the loop.
        let result = match calls::status_flags(fd) {
            Err(errno) => -errno,
            Ok(flags) if flags & libc::O_NONBLOCK != 0 => calls::on_socket(accept, MayWait::No),
            Ok(_) => match calls::option(fd, libc::SO_ACCEPTCONN) {
                Err(errno) => -errno,
                // What does not listen says so at once, and is never ready.
                Ok(0) => return Attempt::Done(calls::on_socket(accept, MayWait::No)),
                Ok(_) => match calls::poll(fd, libc::POLLIN as u32) {
                    0 => -libc::EAGAIN,
                    _ => return Attempt::Blocking,
                },
            },
        };
        match result {
            e if e == -libc::EAGAIN => {
                self.descriptor(fd).blocked(Interest::INPUT);
                Attempt::Blocked(Interest::INPUT)
            }
            fd if fd >= 0 => {
                self.take_new_number(fd);
                Attempt::Done(fd)
            }
            errno => Attempt::Done(errno),
        }
    }

    /// Writes down in the request whether it has begun.
    fn attempt_to_connect(fd: RawFd, connect: &mut SocketCall) -> Attempt {
        let result = calls::on_socket(connect, MayWait::No);
        let SocketCall::Connect { begun, .. } = connect else { return Attempt::Done(result) };
        match -result {
            libc::EINPROGRESS => {
                *begun = true;
                Attempt::Blocked(Interest::OUTPUT)
            }
            libc::EAGAIN if *begun => Attempt::Blocked(Interest::OUTPUT),
            // The backlog of a Unix listener is full, and no event says when it is not.
            libc::EAGAIN
                if calls::status_flags(fd).is_ok_and(|flags| flags & libc::O_NONBLOCK == 0) =>
            {
                Attempt::Busy
            }
            _ => Attempt::Done(result),
        }
    }

    /// preadv2(2) and pwritev2(2): with `RWF_NOWAIT` where the file knows it, else on a worker,
    /// once something is ready.
    pub(super) fn attempt_to_move(&mut self, call: &TransferCall) -> Attempt {
        let (transfer, interest) =
            (call.transfer(), if call.is_write() { Interest::OUTPUT } else { Interest::INPUT });
        let fd = transfer.fd;
        let must_not_wait = transfer.flags & libc::RWF_NOWAIT as u32 != 0;
        if !must_not_wait && call.piece() != Some(0) && self.descriptor(fd).would_wait(interest) {
            return Attempt::Blocked(interest);
        }
        if !self.descriptor(fd).is_kind_known {
            self.find_out_kind(fd);
        }
        if self.descriptor(fd).is_fuse && !must_not_wait {
            return Attempt::Blocking;
        }
        let result = match (self.always_waits.0 | self.descriptor(fd).always_waits) & interest.0 {
            // Direct transfers come from the device, for which the call would wait whatever
            // the flags say.
            0 if self.is_direct(fd) => return Attempt::Blocking,
            // The signal that comes with an error for a file that is too long ends the process.
            // Threads keep it off.
            0 if interest == Interest::OUTPUT
                && self.descriptor(fd).is_limited
                && sys::limits_file_sizes() =>
            {
                return Attempt::Blocking;
            }
            0 => calls::move_bytes(call, MayWait::No),
            _ => -libc::EOPNOTSUPP,
        };
        match -result {
            libc::EAGAIN | libc::EOPNOTSUPP if must_not_wait => Attempt::Done(result),
            libc::EAGAIN => {
                self.descriptor(fd).blocked(interest);
                Attempt::Blocked(interest)
            }
            libc::EOPNOTSUPP => {
                self.descriptor(fd).always_waits |= interest.0;
                match calls::poll(fd, interest.0) {
                    0 => {
                        self.descriptor(fd).blocked(interest);
                        Attempt::Blocked(interest)
                    }
                    _ => Attempt::Blocking,
                }
            }
            _ if result > 0
                && call.piece().is_some_and(|length| (result as u32) < length)
                && calls::has_position(fd) =>
            {
                Attempt::Part(result as u32)
            }
            _ => Attempt::Done(result),
        }
    }

    /// A terminal waits for its other side, and a file in user space for its process, though they
    /// are asked not to.
    #[cold]
    fn find_out_kind(&mut self, fd: RawFd) {
        let kind = calls::file_kind(fd);
        let has_position = kind == FileKind::Fuse || calls::has_position(fd);
        let waits = kind.waits_regardless(!has_position);
        let descriptor = self.descriptor(fd);
        descriptor.is_kind_known = true;
        descriptor.is_fuse = kind == FileKind::Fuse;
        descriptor.is_limited = has_position;
        if waits {
            descriptor.always_waits |= Interest::INPUT.0 | Interest::OUTPUT.0;
        }
    }

    /// Do transfers go around the page cache? Asked once per file. If the number has come to mean
    /// another behind our back, a transfer waits for its device here instead of elsewhere, or the
    /// other way round, which costs time only; but what has no positions could wait for ever, and
    /// is none of them, though a pipe may have the flag too.
    fn is_direct(&mut self, fd: RawFd) -> bool {
        let is_direct = match self.descriptor(fd).is_direct {
            Some(is_direct) => is_direct,
            None => {
                let asked = calls::status_flags(fd).ok().map(|flags| flags & libc::O_DIRECT != 0);
                self.descriptor(fd).is_direct = asked;
                asked.unwrap_or(false)
            }
        };
        is_direct && calls::has_position(fd)
    }
}

fn is_stream(fd: RawFd) -> bool {
    matches!(calls::option(fd, libc::SO_TYPE), Ok(libc::SOCK_STREAM | libc::SOCK_SEQPACKET))
}
