//! Is every entry that the crate builds decoded to what it was built from?

use io_uring::{opcode, types};

use super::*;

/// Addresses that nobody follows.
const ONE: u64 = 0x1000_0000_1000;
const TWO: u64 = 0x2000_0000_2000;
const FD: types::Fd = types::Fd(7);
const HERE: types::Fd = types::Fd(libc::AT_FDCWD);

fn pointer<T>(address: u64) -> *mut T {
    std::ptr::without_provenance_mut(address as usize)
}

#[track_caller]
fn decoded(entry: squeue::Entry) -> Submission {
    let decoded = decode_unexecuted(&entry.user_data(42)).expect("it is known");
    assert_eq!(decoded.token, 42);
    decoded
}

#[track_caller]
fn is(entry: squeue::Entry, request: Request) {
    let decoded = decoded(entry);
    assert_eq!((decoded.request, decoded.manner, decoded.course), (request, Manner::default(), Course::default()));
}

#[track_caller]
fn is_in_manner(entry: squeue::Entry, request: Request, manner: Manner) {
    let decoded = decoded(entry);
    assert_eq!((decoded.request, decoded.manner), (request, manner));
}

fn transfer(offset: u64) -> Transfer {
    Transfer { fd: 7, address: Address(ONE), length: 100, offset, flags: 0 }
}

fn socket_transfer(flags: i32) -> SocketTransfer {
    SocketTransfer { fd: 7, address: Address(ONE), length: 100, flags: flags as u32, peer: Address(0), peer_length: 0 }
}

#[test]
fn reads_writes_and_calls_on_files_come_out_as_they_were_built() {
    is(opcode::Nop::new().build(), Request::Nop { result: 0 });
    is(opcode::Read::new(FD, pointer(ONE), 100).offset(5).build(), Request::Read(transfer(5)));
    is(opcode::Read::new(FD, pointer(ONE), 100).offset(u64::MAX).build(), Request::Read(transfer(u64::MAX)));
    is(opcode::Write::new(FD, pointer(ONE), 100).offset(5).build(), Request::Write(transfer(5)));
    is(opcode::ReadFixed::new(FD, pointer(ONE), 100, 3).offset(5).build(), Request::Read(transfer(5)));
    is(opcode::WriteFixed::new(FD, pointer(ONE), 100, 3).offset(5).build(), Request::Write(transfer(5)));
    is(opcode::Readv::new(FD, pointer(ONE), 100).offset(5).build(), Request::Readv(transfer(5)));
    is(opcode::Writev::new(FD, pointer(ONE), 100).offset(5).build(), Request::Writev(transfer(5)));
    is(opcode::Fsync::new(FD).build(), Request::Fsync { fd: 7, data_only: false });
    is(opcode::Fsync::new(FD).flags(types::FsyncFlags::DATASYNC).build(), Request::Fsync { fd: 7, data_only: true });
    is(opcode::Ftruncate::new(FD, 9).build(), Request::Ftruncate { fd: 7, length: 9 });
    is(opcode::Fallocate::new(FD, 9).offset(5).mode(1).build(), Request::Fallocate { fd: 7, mode: 1, offset: 5, length: 9 });
    let open = opcode::OpenAt::new(HERE, pointer(ONE)).flags(libc::O_CREAT).mode(0o644).build();
    is(open, Request::OpenAt { directory: libc::AT_FDCWD, path: Address(ONE), flags: libc::O_CREAT as u32, mode: 0o644 });
    let statx = opcode::Statx::new(HERE, pointer(ONE), pointer(TWO)).flags(1).mask(2).build();
    is(statx, Request::Statx { directory: libc::AT_FDCWD, path: Address(ONE), flags: 1, mask: 2, status: Address(TWO) });
    let rename = opcode::RenameAt::new(HERE, pointer(ONE), FD, pointer(TWO)).flags(1).build();
    let (from_directory, from, to_directory, to) = (libc::AT_FDCWD, Address(ONE), 7, Address(TWO));
    is(rename, Request::RenameAt { from_directory, from, to_directory, to, flags: 1 });
    let unlink = opcode::UnlinkAt::new(HERE, pointer(ONE)).flags(libc::AT_REMOVEDIR).build();
    is(unlink, Request::UnlinkAt { directory: libc::AT_FDCWD, path: Address(ONE), flags: libc::AT_REMOVEDIR as u32 });
    let mkdir = opcode::MkDirAt::new(HERE, pointer(ONE)).mode(0o755).build();
    is(mkdir, Request::MkdirAt { directory: libc::AT_FDCWD, path: Address(ONE), mode: 0o755 });
    is(opcode::Close::new(FD).build(), Request::Close { fd: 7 });
}

#[test]
fn operations_on_sockets_come_out_as_they_were_built() {
    is(opcode::Recv::new(FD, pointer(ONE), 100).flags(libc::MSG_PEEK).build(), Request::Recv(socket_transfer(libc::MSG_PEEK)));
    is(opcode::Send::new(FD, pointer(ONE), 100).flags(libc::MSG_WAITALL).build(), Request::Send(socket_transfer(libc::MSG_WAITALL)));
    let to = opcode::Send::new(FD, pointer(ONE), 100).dest_addr(pointer(TWO)).dest_addr_len(16).build();
    is(to, Request::Send(SocketTransfer { peer: Address(TWO), peer_length: 16, ..socket_transfer(0) }));
    is(opcode::RecvMsg::new(FD, pointer(ONE)).flags(1).build(), Request::RecvMsg { fd: 7, message: Address(ONE), flags: 1, buffer: None });
    is(opcode::SendMsg::new(FD, pointer(ONE)).flags(1).build(), Request::SendMsg { fd: 7, message: Address(ONE), flags: 1 });
    let zero_copy = Manner { notifies: true, ..Manner::default() };
    is_in_manner(opcode::SendZc::new(FD, pointer(ONE), 100).build(), Request::Send(socket_transfer(0)), zero_copy);
    let message = Request::SendMsg { fd: 7, message: Address(ONE), flags: 0 };
    is_in_manner(opcode::SendMsgZc::new(FD, pointer(ONE)).build(), message, zero_copy);
    let reporting = Manner { reports_usage: true, ..zero_copy };
    let entry = opcode::SendZc::new(FD, pointer(ONE), 100).zc_flags(SOCKET_REPORT_USAGE).build();
    is_in_manner(entry, Request::Send(socket_transfer(0)), reporting);
    let accept = opcode::Accept::new(FD, pointer(ONE), pointer(TWO)).flags(libc::SOCK_CLOEXEC).build();
    let (address, length, flags) = (Address(ONE), Address(TWO), libc::SOCK_CLOEXEC as u32);
    is(accept, Request::Accept { fd: 7, address, length, flags });
    let repeated = Manner { multishot: true, ..Manner::default() };
    let entry = opcode::AcceptMulti::new(FD).flags(libc::SOCK_CLOEXEC).build();
    is_in_manner(entry, Request::Accept { fd: 7, address: Address(0), length: Address(0), flags }, repeated);
    let entry = opcode::RecvMulti::new(FD, 9).build();
    let receive = SocketTransfer { address: Address(0), length: 0, ..socket_transfer(0) };
    is_in_manner(entry, Request::Recv(receive), Manner { group: Some(9), ..repeated });
    let read = Transfer { address: Address(0), ..transfer(0) };
    is_in_manner(opcode::ReadMulti::new(FD, 100, 9).build(), Request::Read(read), Manner { group: Some(9), ..repeated });
    let connect = opcode::Connect::new(FD, pointer(ONE), 16).build();
    is(connect, Request::Connect { fd: 7, address: Address(ONE), length: 16, begun: false });
    is(opcode::Shutdown::new(FD, libc::SHUT_WR).build(), Request::Shutdown { fd: 7, how: libc::SHUT_WR as u32 });
    // The end of the other side is reported to whoever asks for anything.
    let poll = Request::PollAdd { fd: 7, mask: 5 | libc::POLLRDHUP as u32 };
    is(opcode::PollAdd::new(FD, 5).build(), poll.clone());
    is_in_manner(opcode::PollAdd::new(FD, 5).multi(true).build(), poll.clone(), repeated);
    is(opcode::PollRemove::new(3).build(), Request::PollRemove { token: 3 });
}

#[test]
fn timeouts_and_cancels_come_out_as_they_were_built() {
    let timespec = types::Timespec::new().sec(1).nsec(2);
    let time = Time { seconds: 1, nanoseconds: 2 };
    is(opcode::Timeout::new(&timespec).build(), Request::Timeout { time, count: 0, flags: 0 });
    let absolute = opcode::Timeout::new(&timespec).flags(types::TimeoutFlags::ABS | types::TimeoutFlags::REALTIME).build();
    is(absolute, Request::Timeout { time, count: 0, flags: TIMEOUT_ABSOLUTE | TIMEOUT_REALTIME });
    let repeated = opcode::Timeout::new(&timespec).count(3).flags(types::TimeoutFlags::MULTISHOT).build();
    let manner = Manner { multishot: true, ..Manner::default() };
    is_in_manner(repeated, Request::Timeout { time, count: 3, flags: TIMEOUT_MULTISHOT }, manner);
    is(opcode::TimeoutRemove::new(3).build(), Request::TimeoutRemove { token: 3 });
    is(opcode::TimeoutUpdate::new(3, &timespec).build(), Request::TimeoutUpdate { token: 3, time, flags: 0 });
    is(opcode::LinkTimeout::new(&timespec).build(), Request::LinkTimeout { time, flags: 0 });
    let one = Target { token: Some(3), fd: None, all: false };
    is(opcode::AsyncCancel::new(3).build(), Request::AsyncCancel(one));
    let build = |builder| opcode::AsyncCancel2::new(builder).build();
    is(build(types::CancelBuilder::any()), Request::AsyncCancel(Target { token: None, fd: None, all: true }));
    is(build(types::CancelBuilder::fd(FD)), Request::AsyncCancel(Target { token: None, fd: Some(7), all: false }));
    is(build(types::CancelBuilder::fd(FD).all()), Request::AsyncCancel(Target { token: None, fd: Some(7), all: true }));
    is(build(types::CancelBuilder::user_data(3).all()), Request::AsyncCancel(Target { all: true, ..one }));
}

#[test]
fn messages_come_out_as_they_were_built() {
    let message = |flags| opcode::MsgRingData::new(FD, -5, 3, flags).build();
    is(message(None), Request::MsgRing { ring: 7, token: 3, result: -5, flags: None });
    is(message(Some(9)), Request::MsgRing { ring: 7, token: 3, result: -5, flags: Some(9) });
    let refused = |entry: squeue::Entry| decode_unexecuted(&entry).expect_err("refused").errno;
    let silent = opcode::MsgRingData::new(FD, -5, 3, None).opcode_flags(1).build();
    let registered_file = opcode::MsgRingSendFd::new(FD, types::Fixed(0), types::DestinationSlot::auto_target(), 3).build();
    assert_eq!((refused(silent), refused(registered_file)), (libc::EINVAL, libc::EINVAL));
}

#[test]
fn flags_of_the_course_come_out_and_what_is_not_known_is_refused() {
    let flagged = |flags| opcode::Nop::new().build().flags(flags);
    assert!(decoded(flagged(squeue::Flags::IO_LINK)).course.is_linked());
    let hard = decoded(flagged(squeue::Flags::IO_HARDLINK)).course;
    assert!(hard.is_linked() && hard.goes_on());
    assert!(decoded(flagged(squeue::Flags::ASYNC)).course.is_async());
    assert!(decoded(flagged(squeue::Flags::SKIP_SUCCESS)).course.is_quiet());
    let refused = |entry: squeue::Entry| decode_unexecuted(&entry).expect_err("refused").errno;
    assert_eq!(refused(flagged(squeue::Flags::IO_DRAIN)), libc::EINVAL);
    assert_eq!(refused(opcode::Read::new(types::Fixed(0), pointer(ONE), 1).build()), libc::EBADF);
    assert_eq!(refused(opcode::Nop::new().build().flags(squeue::Flags::BUFFER_SELECT)), libc::EOPNOTSUPP);
    assert_eq!(refused(opcode::EpollCtl::new(FD, FD, 0, pointer(ONE)).build()), libc::EINVAL);
    let negative = types::Timespec::new().sec(u64::MAX);
    assert_eq!(refused(opcode::Timeout::new(&negative).build()), libc::EINVAL);
    assert_eq!(refused(opcode::ProvideBuffers::new(pointer(ONE), 1, 1, 1, 1).build()), libc::EINVAL);
}
