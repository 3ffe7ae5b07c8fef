//! Tests: every entry that the crate builds, decoded to what it was built from.

use io_uring::{opcode, squeue, types};

use super::entry::decode_unexecuted;
use super::*;
use crate::ring::memory::Address;

/// So that a test names a request by its family alone.
macro_rules! wrapped {
    ($($family:ty: $inner:ident => $request:expr;)*) => {
        $(impl From<$family> for Request {
            fn from($inner: $family) -> Request {
                $request
            }
        })*
    };
}

wrapped! {
    TransferCall: call => Request::Call(Call::Transfer(call));
    SocketCall: call => Request::Call(Call::Socket(call));
    Poll: call => Request::Call(Call::Poll(call));
    FileCall: call => Request::Call(Call::File(call));
    PathCall: call => Request::Call(Call::Path(call));
    TimeRequest: time => Request::Time(time);
    CancelRequest: cancel => Request::Cancel(cancel);
    Message: message => Request::Message(message);
}

/// Addresses that nobody follows.
const ONE: u64 = 0x1000_0000_1000;
const TWO: u64 = 0x2000_0000_2000;
const THREE: u64 = 0x3000_0000_3000;
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
fn is(entry: squeue::Entry, request: impl Into<Request>) {
    let decoded = decoded(entry);
    assert_eq!(
        (decoded.request, decoded.modifiers, decoded.flags),
        (request.into(), Modifiers::default(), EntryFlags::default())
    );
}

#[track_caller]
fn is_modified(entry: squeue::Entry, request: impl Into<Request>, modifiers: Modifiers) {
    let decoded = decoded(entry);
    assert_eq!((decoded.request, decoded.modifiers), (request.into(), modifiers));
}

fn transfer(offset: u64) -> Transfer {
    Transfer { fd: 7, address: Address::vouched(ONE), length: 100, offset, flags: 0 }
}

fn socket_transfer(flags: i32) -> SocketTransfer {
    SocketTransfer {
        fd: 7,
        address: Address::vouched(ONE),
        length: 100,
        flags: flags as u32,
        peer: Address::NONE,
        peer_length: 0,
    }
}

#[test]
fn reads_writes_and_calls_on_files_come_out_as_they_were_built() {
    is(opcode::Nop::new().build(), Message::Nop { result: 0 });
    is(opcode::Read::new(FD, pointer(ONE), 100).offset(5).build(), TransferCall::Read(transfer(5)));
    is(
        opcode::Read::new(FD, pointer(ONE), 100).offset(u64::MAX).build(),
        TransferCall::Read(transfer(u64::MAX)),
    );
    is(
        opcode::Write::new(FD, pointer(ONE), 100).offset(5).build(),
        TransferCall::Write(transfer(5)),
    );
    let unsignalled = Transfer { flags: 0x100, ..transfer(u64::MAX) };
    is(
        opcode::Write::new(FD, pointer(ONE), 100).offset(u64::MAX).rw_flags(0x100).build(),
        TransferCall::Write(unsignalled),
    );
    is(
        opcode::Writev::new(FD, pointer(ONE), 100).offset(u64::MAX).rw_flags(0x100).build(),
        TransferCall::Writev(unsignalled),
    );
    is(
        opcode::ReadFixed::new(FD, pointer(ONE), 100, 3).offset(5).build(),
        TransferCall::Read(transfer(5)),
    );
    is(
        opcode::WriteFixed::new(FD, pointer(ONE), 100, 3).offset(5).build(),
        TransferCall::Write(transfer(5)),
    );
    is(
        opcode::Readv::new(FD, pointer(ONE), 100).offset(5).build(),
        TransferCall::Readv(transfer(5)),
    );
    is(
        opcode::Writev::new(FD, pointer(ONE), 100).offset(5).build(),
        TransferCall::Writev(transfer(5)),
    );
    is(opcode::Fsync::new(FD).build(), FileCall::Fsync { fd: 7, data_only: false });
    is(
        opcode::Fsync::new(FD).flags(types::FsyncFlags::DATASYNC).build(),
        FileCall::Fsync { fd: 7, data_only: true },
    );
    is(opcode::Ftruncate::new(FD, 9).build(), FileCall::Ftruncate { fd: 7, length: 9 });
    is(
        opcode::Fallocate::new(FD, 9).offset(5).mode(1).build(),
        FileCall::Fallocate { fd: 7, mode: 1, offset: 5, length: 9 },
    );
    let open = opcode::OpenAt::new(HERE, pointer(ONE)).flags(libc::O_CREAT).mode(0o644).build();
    is(
        open,
        PathCall::OpenAt {
            directory: libc::AT_FDCWD,
            path: Address::vouched(ONE),
            flags: libc::O_CREAT as u32,
            mode: 0o644,
        },
    );
    let statx = opcode::Statx::new(HERE, pointer(ONE), pointer(TWO)).flags(1).mask(2).build();
    is(
        statx,
        PathCall::Statx {
            directory: libc::AT_FDCWD,
            path: Address::vouched(ONE),
            flags: 1,
            mask: 2,
            status: Address::vouched(TWO),
        },
    );
    let rename = opcode::RenameAt::new(HERE, pointer(ONE), FD, pointer(TWO)).flags(1).build();
    let (from_directory, from, to_directory, to) =
        (libc::AT_FDCWD, Address::vouched(ONE), 7, Address::vouched(TWO));
    is(rename, PathCall::RenameAt { from_directory, from, to_directory, to, flags: 1 });
    let unlink = opcode::UnlinkAt::new(HERE, pointer(ONE)).flags(libc::AT_REMOVEDIR).build();
    is(
        unlink,
        PathCall::UnlinkAt {
            directory: libc::AT_FDCWD,
            path: Address::vouched(ONE),
            flags: libc::AT_REMOVEDIR as u32,
        },
    );
    let mkdir = opcode::MkDirAt::new(HERE, pointer(ONE)).mode(0o755).build();
    is(
        mkdir,
        PathCall::MkdirAt { directory: libc::AT_FDCWD, path: Address::vouched(ONE), mode: 0o755 },
    );
    let how = types::OpenHow::new();
    is(
        opcode::OpenAt2::new(FD, pointer(ONE), &how).build(),
        PathCall::OpenAt2 {
            directory: 7,
            path: Address::vouched(ONE),
            how: Address::vouched(std::ptr::from_ref(&how).addr() as u64),
            size: 24,
        },
    );
    is(
        opcode::SymlinkAt::new(FD, pointer(ONE), pointer(TWO)).build(),
        PathCall::SymlinkAt {
            text: Address::vouched(ONE),
            directory: 7,
            path: Address::vouched(TWO),
        },
    );
    let link = opcode::LinkAt::new(HERE, pointer(ONE), FD, pointer(TWO)).flags(1).build();
    is(link, PathCall::LinkAt { from_directory, from, to_directory, to, flags: 1 });
    let advice = opcode::Fadvise::new(FD, 9, 4).offset(5).build();
    is(advice, FileCall::Fadvise { fd: 7, offset: 5, length: 9, advice: 4 });
    is(opcode::Close::new(FD).build(), FileCall::Close { fd: 7 });
    let sync = opcode::SyncFileRange::new(FD, 9).offset(5).flags(2).build();
    is(sync, FileCall::SyncRange { fd: 7, offset: 5, length: 9, flags: 2 });
}

#[test]
fn calls_on_extended_attributes_come_out_as_they_were_built() {
    let (name, value) = (Address::vouched(ONE), Address::vouched(TWO));
    let path = Address::vouched(THREE);
    is(
        opcode::FGetXattr::new(FD, pointer(ONE), pointer(TWO), 9).build(),
        FileCall::GetAttribute { fd: 7, name, value, length: 9 },
    );
    is(
        opcode::FSetXattr::new(FD, pointer(ONE), pointer(TWO), 9).flags(1).build(),
        FileCall::SetAttribute { fd: 7, name, value, length: 9, flags: 1 },
    );
    is(
        opcode::GetXattr::new(pointer(ONE), pointer(TWO), pointer(THREE), 9).build(),
        PathCall::GetAttribute { path, name, value, length: 9 },
    );
    is(
        opcode::SetXattr::new(pointer(ONE), pointer(TWO), pointer(THREE), 9).flags(1).build(),
        PathCall::SetAttribute { path, name, value, length: 9, flags: 1 },
    );
}

#[test]
fn operations_on_sockets_come_out_as_they_were_built() {
    is(
        opcode::Recv::new(FD, pointer(ONE), 100).flags(libc::MSG_PEEK).build(),
        SocketCall::Recv(socket_transfer(libc::MSG_PEEK)),
    );
    is(
        opcode::Send::new(FD, pointer(ONE), 100).flags(libc::MSG_WAITALL).build(),
        SocketCall::Send(socket_transfer(libc::MSG_WAITALL)),
    );
    let to =
        opcode::Send::new(FD, pointer(ONE), 100).dest_addr(pointer(TWO)).dest_addr_len(16).build();
    is(
        to,
        SocketCall::Send(SocketTransfer {
            peer: Address::vouched(TWO),
            peer_length: 16,
            ..socket_transfer(0)
        }),
    );
    is(
        opcode::RecvMsg::new(FD, pointer(ONE)).flags(1).build(),
        SocketCall::RecvMsg { fd: 7, message: Address::vouched(ONE), flags: 1, buffer: None },
    );
    is(
        opcode::SendMsg::new(FD, pointer(ONE)).flags(1).build(),
        SocketCall::SendMsg { fd: 7, message: Address::vouched(ONE), flags: 1 },
    );
    let zero_copy = Modifiers { notifies: true, ..Modifiers::default() };
    is_modified(
        opcode::SendZc::new(FD, pointer(ONE), 100).build(),
        SocketCall::Send(socket_transfer(0)),
        zero_copy,
    );
    let message = SocketCall::SendMsg { fd: 7, message: Address::vouched(ONE), flags: 0 };
    is_modified(opcode::SendMsgZc::new(FD, pointer(ONE)).build(), message, zero_copy);
    let reporting = Modifiers { reports_usage: true, ..zero_copy };
    let entry = opcode::SendZc::new(FD, pointer(ONE), 100).zc_flags(1 << 3).build();
    is_modified(entry, SocketCall::Send(socket_transfer(0)), reporting);
    let accept =
        opcode::Accept::new(FD, pointer(ONE), pointer(TWO)).flags(libc::SOCK_CLOEXEC).build();
    let (address, length, flags) =
        (Address::vouched(ONE), Address::vouched(TWO), libc::SOCK_CLOEXEC as u32);
    is(accept, SocketCall::Accept { fd: 7, address, length, flags });
    let repeated = Modifiers { multishot: true, ..Modifiers::default() };
    let entry = opcode::AcceptMulti::new(FD).flags(libc::SOCK_CLOEXEC).build();
    is_modified(
        entry,
        SocketCall::Accept { fd: 7, address: Address::NONE, length: Address::NONE, flags },
        repeated,
    );
    let entry = opcode::RecvMulti::new(FD, 9).build();
    let receive = SocketTransfer { address: Address::NONE, length: 0, ..socket_transfer(0) };
    is_modified(entry, SocketCall::Recv(receive), Modifiers { group: Some(9), ..repeated });
    let read = Transfer { address: Address::NONE, ..transfer(0) };
    is_modified(
        opcode::ReadMulti::new(FD, 100, 9).build(),
        TransferCall::Read(read),
        Modifiers { group: Some(9), ..repeated },
    );
    let connect = opcode::Connect::new(FD, pointer(ONE), 16).build();
    is(
        connect,
        SocketCall::Connect { fd: 7, address: Address::vouched(ONE), length: 16, begun: false },
    );
    is(
        opcode::Shutdown::new(FD, libc::SHUT_WR).build(),
        SocketCall::Shutdown { fd: 7, how: libc::SHUT_WR as u32 },
    );
    // The end of the other side is reported to whoever asks for anything.
    let poll = Poll { fd: 7, mask: 5 | libc::POLLRDHUP as u32 };
    is(opcode::PollAdd::new(FD, 5).build(), poll);
    is_modified(opcode::PollAdd::new(FD, 5).multi(true).build(), poll, repeated);
    is(opcode::PollRemove::new(3).build(), CancelRequest::PollRemove { token: 3 });
}

#[test]
fn timeouts_and_cancels_come_out_as_they_were_built() {
    let timespec = types::Timespec::new().sec(1).nsec(2);
    let time = Timespec { seconds: 1, nanoseconds: 2 };
    is(opcode::Timeout::new(&timespec).build(), TimeRequest::Timeout { time, count: 0, flags: 0 });
    let absolute = opcode::Timeout::new(&timespec)
        .flags(types::TimeoutFlags::ABS | types::TimeoutFlags::REALTIME)
        .build();
    is(
        absolute,
        TimeRequest::Timeout { time, count: 0, flags: TIMEOUT_ABSOLUTE | TIMEOUT_REALTIME },
    );
    let repeated =
        opcode::Timeout::new(&timespec).count(3).flags(types::TimeoutFlags::MULTISHOT).build();
    let modifiers = Modifiers { multishot: true, ..Modifiers::default() };
    is_modified(
        repeated,
        TimeRequest::Timeout { time, count: 3, flags: time::MULTISHOT },
        modifiers,
    );
    is(opcode::TimeoutRemove::new(3).build(), TimeRequest::TimeoutRemove { token: 3 });
    is(
        opcode::TimeoutUpdate::new(3, &timespec).build(),
        TimeRequest::TimeoutUpdate { token: 3, time, flags: 0 },
    );
    is(opcode::LinkTimeout::new(&timespec).build(), TimeRequest::LinkTimeout { time, flags: 0 });
    let one = Target { token: Some(3), fd: None, all: false };
    is(opcode::AsyncCancel::new(3).build(), CancelRequest::AsyncCancel(one));
    let build = |builder| opcode::AsyncCancel2::new(builder).build();
    is(
        build(types::CancelBuilder::any()),
        CancelRequest::AsyncCancel(Target { token: None, fd: None, all: true }),
    );
    is(
        build(types::CancelBuilder::fd(FD)),
        CancelRequest::AsyncCancel(Target { token: None, fd: Some(7), all: false }),
    );
    is(
        build(types::CancelBuilder::fd(FD).all()),
        CancelRequest::AsyncCancel(Target { token: None, fd: Some(7), all: true }),
    );
    is(
        build(types::CancelBuilder::user_data(3).all()),
        CancelRequest::AsyncCancel(Target { all: true, ..one }),
    );
}

#[test]
fn messages_come_out_as_they_were_built() {
    let message = |flags| opcode::MsgRingData::new(FD, -5, 3, flags).build();
    is(message(None), Message::MsgRing { ring: 7, token: 3, result: -5, flags: None });
    is(message(Some(9)), Message::MsgRing { ring: 7, token: 3, result: -5, flags: Some(9) });
    let refused = |entry: squeue::Entry| decode_unexecuted(&entry).expect_err("refused").errno;
    let silent = opcode::MsgRingData::new(FD, -5, 3, None).opcode_flags(1).build();
    let registered_file =
        opcode::MsgRingSendFd::new(FD, types::Fixed(0), types::DestinationSlot::auto_target(), 3)
            .build();
    assert_eq!((refused(silent), refused(registered_file)), (libc::EINVAL, libc::EINVAL));
}

#[test]
fn flags_of_an_entry_come_out_and_what_is_not_known_is_refused() {
    let flagged = |flags| opcode::Nop::new().build().flags(flags);
    assert!(decoded(flagged(squeue::Flags::IO_LINK)).flags.is_linked());
    let hard = decoded(flagged(squeue::Flags::IO_HARDLINK)).flags;
    assert!(hard.is_linked() && hard.goes_on());
    assert!(decoded(flagged(squeue::Flags::ASYNC)).flags.is_async());
    assert!(decoded(flagged(squeue::Flags::SKIP_SUCCESS)).flags.is_quiet());
    let refused = |entry: squeue::Entry| decode_unexecuted(&entry).expect_err("refused").errno;
    assert_eq!(refused(flagged(squeue::Flags::IO_DRAIN)), libc::EINVAL);
    assert_eq!(refused(opcode::Read::new(types::Fixed(0), pointer(ONE), 1).build()), libc::EBADF);
    assert_eq!(
        refused(opcode::Nop::new().build().flags(squeue::Flags::BUFFER_SELECT)),
        libc::EOPNOTSUPP
    );
    assert_eq!(refused(opcode::EpollCtl::new(FD, FD, 0, pointer(ONE)).build()), libc::EINVAL);
    let negative = types::Timespec::new().sec(u64::MAX);
    assert_eq!(refused(opcode::Timeout::new(&negative).build()), libc::EINVAL);
    assert_eq!(
        refused(opcode::ProvideBuffers::new(pointer(ONE), 1, 1, 1, 1).build()),
        libc::EINVAL
    );
}
