//! The descriptors and the memory that a program's entries work on, made anew for each run, and
//! kept until the ring has let go of them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;

use io_uring::types::{CancelBuilder, Fd, OpenHow, Timespec};
use io_uring::{opcode, squeue};
use socket2::{SockAddr, Socket};

use super::buf::BufferRing;
use super::objects::Thing;
use super::program::{After, Entry, Link, Object, Op};

/// The group of the buffers that a program provides.
pub(crate) const GROUP: u16 = 3;
/// An opcode that no kernel knows.
const NO_OPCODE: u8 = 0xfe;
/// The extended attribute of all programs.
const ATTRIBUTE: &str = "user.of-a-program";
/// How soon is `Soon`?
const SOON_NS: u32 = 200_000;
const NEVER_S: u64 = 100_000;

thread_local! {
    static BUILT: RefCell<BTreeSet<u32>> = const { RefCell::new(BTreeSet::new()) };
}

/// Has this thread built an entry for this operation?
pub(crate) fn has_built(opcode: u8) -> bool {
    BUILT.with_borrow(|built| built.contains(&opcode.into()))
}

/// The memory of one entry. All of it lies on the heap and stays where it is.
#[derive(Debug, Default)]
struct Memory {
    buffers: Vec<Box<[u8]>>,
    vectors: Box<[libc::iovec]>,
    header: Option<Box<libc::msghdr>>,
    control: Box<[u8]>,
    timespec: Option<Box<Timespec>>,
    paths: Vec<CString>,
    how: Option<Box<OpenHow>>,
    status: Option<Box<libc::statx>>,
}

/// The buffers that the ring takes itself.
#[derive(Debug, Default)]
struct Provided {
    queue: Option<Rc<BufferRing>>,
    memory: Vec<Box<[u8]>>,
    taken: Vec<u16>,
}

impl Provided {
    fn lend(&mut self, id: u16) {
        let Some(queue) = &self.queue else { return };
        let buffer = &mut self.memory[usize::from(id)];
        queue.append(NonNull::from(&mut buffer[0]), buffer.len() as u32, id);
    }
}

/// All that a program works on.
#[derive(Debug)]
pub(crate) struct World {
    things: Vec<Thing>,
    memory: Vec<Memory>,
    buffers: Provided,
}

impl World {
    pub(crate) fn make(objects: &[Object]) -> World {
        let things = objects.iter().map(|kind| Thing::make(*kind).expect("an object")).collect();
        World { things, memory: Vec::new(), buffers: Provided::default() }
    }

    /// The entry for the ring, with memory that stays until this is dropped. `user_data` tells
    /// tokens.
    pub(crate) fn entry(
        &mut self,
        number: usize,
        entry: &Entry,
        user_data: impl Fn(usize) -> u64,
    ) -> squeue::Entry {
        assert_eq!(number, self.memory.len(), "entries come in order");
        let mut memory = Memory::default();
        let mut built = self.build(number, &entry.op, &mut memory, &user_data);
        self.memory.push(memory);
        BUILT.with_borrow_mut(|seen| seen.insert(built.get_opcode()));
        let mut flags = match entry.link {
            Link::None => squeue::Flags::empty(),
            Link::Soft => squeue::Flags::IO_LINK,
            Link::Hard => squeue::Flags::IO_HARDLINK,
        };
        if entry.skip {
            flags |= squeue::Flags::SKIP_SUCCESS;
        }
        if entry.op.takes_buffers() {
            flags |= squeue::Flags::BUFFER_SELECT;
        }
        built = built.flags(flags).user_data(user_data(number));
        if let Op::Close { on } = entry.op {
            // From now on the ring owns the number, and this end of the object is gone.
            if let Some(ours) = self.things[on].ours.take() {
                let _ = ours.into_raw_fd();
            }
        }
        built
    }

    /// May an operation on this object wait for a peer?
    pub(crate) fn may_wait(&self, on: usize) -> bool {
        let kind = self.things[on].kind;
        !matches!(
            kind,
            Object::File(_)
                | Object::Append(_)
                | Object::ReadOnly(_)
                | Object::Directory
                | Object::Bad
        ) && self.things[on].ours.is_some()
    }

    fn fd(&self, on: usize) -> Fd {
        Fd(self.things[on].number())
    }

    fn build(
        &mut self,
        number: usize,
        op: &Op,
        memory: &mut Memory,
        user_data: &impl Fn(usize) -> u64,
    ) -> squeue::Entry {
        let payload = |length: u32| {
            (0..length)
                .map(|index| (index as usize + number * 37) as u8 | 0x80)
                .collect::<Box<[u8]>>()
        };
        let room = |length: u32| vec![0; length as usize].into_boxed_slice();
        let timespec = |after: After| {
            Box::new(match after {
                After::Soon => Timespec::new().nsec(SOON_NS),
                After::Never => Timespec::new().sec(NEVER_S),
                After::Negative => Timespec::new().sec(-1i64 as u64),
            })
        };
        match *op {
            Op::Nop => opcode::Nop::new().build(),
            Op::Unknown => with_opcode(opcode::Nop::new().build(), NO_OPCODE),
            Op::Read { on, length, offset } => {
                let buffer = memory.keep(room(length));
                opcode::Read::new(self.fd(on), buffer, length).offset(offset as u64).build()
            }
            Op::Write { on, length, offset } => {
                let buffer = memory.keep(payload(length));
                opcode::Write::new(self.fd(on), buffer, length).offset(offset as u64).build()
            }
            Op::Readv { on, lengths, offset } => {
                memory.vector(lengths.map(room));
                opcode::Readv::new(self.fd(on), memory.vectors.as_ptr(), 2)
                    .offset(offset as u64)
                    .build()
            }
            Op::Writev { on, lengths, offset } => {
                memory.vector(lengths.map(payload));
                opcode::Writev::new(self.fd(on), memory.vectors.as_ptr(), 2)
                    .offset(offset as u64)
                    .build()
            }
            Op::Fsync { on } => opcode::Fsync::new(self.fd(on)).build(),
            Op::Truncate { on, length } => opcode::Ftruncate::new(self.fd(on), length).build(),
            Op::Recv { on, length, flags } => {
                let buffer = memory.keep(room(length));
                opcode::Recv::new(self.fd(on), buffer, length).flags(flags).build()
            }
            Op::Send { on, length, flags } => {
                let buffer = memory.keep(payload(length));
                opcode::Send::new(self.fd(on), buffer, length)
                    .flags(flags | libc::MSG_NOSIGNAL)
                    .build()
            }
            Op::SendZc { on, length } => {
                let buffer = memory.keep(payload(length));
                opcode::SendZc::new(self.fd(on), buffer, length).flags(libc::MSG_NOSIGNAL).build()
            }
            Op::RecvMsg { on, length } => {
                let header = memory.message(room(length));
                opcode::RecvMsg::new(self.fd(on), header).build()
            }
            Op::SendMsg { on, length } => {
                let header = memory.message(payload(length));
                opcode::SendMsg::new(self.fd(on), header).flags(libc::MSG_NOSIGNAL as u32).build()
            }
            Op::RecvControl { on, length, room: control } => {
                let header = memory.message(room(length));
                memory.control(room(control));
                opcode::RecvMsg::new(self.fd(on), header).build()
            }
            Op::SendControl { on, length } => {
                let header = memory.message(payload(length));
                memory.control(segments_of(3));
                opcode::SendMsg::new(self.fd(on), header).flags(libc::MSG_NOSIGNAL as u32).build()
            }
            Op::RecvControlMultishot { on, room: control } => {
                let header = memory.message(room(0));
                memory.control(room(control));
                opcode::RecvMsgMulti::new(self.fd(on), header, GROUP).build()
            }
            Op::RecvProvided { on, multishot: true } => {
                opcode::RecvMulti::new(self.fd(on), GROUP).build()
            }
            Op::RecvProvided { on, multishot: false } => {
                opcode::Recv::new(self.fd(on), std::ptr::null_mut(), 0).buf_group(GROUP).build()
            }
            Op::ReadProvided { on, length } => {
                opcode::Read::new(self.fd(on), std::ptr::null_mut(), length)
                    .offset(u64::MAX)
                    .buf_group(GROUP)
                    .build()
            }
            Op::RecvMsgMultishot { on } => {
                // What is not in the buffer, lengths of names and control data, it says once for
                // all.
                let header = memory.message(room(0));
                opcode::RecvMsgMulti::new(self.fd(on), header, GROUP).build()
            }
            Op::ReadMultishot { on } => {
                opcode::ReadMulti::new(self.fd(on), 0, GROUP).offset(u64::MAX).build()
            }
            Op::Accept { on, multishot: true } => {
                opcode::AcceptMulti::new(self.fd(on)).flags(libc::SOCK_CLOEXEC).build()
            }
            Op::Accept { on, multishot: false } => {
                opcode::Accept::new(self.fd(on), std::ptr::null_mut(), std::ptr::null_mut())
                    .flags(libc::SOCK_CLOEXEC)
                    .build()
            }
            Op::Connect { on, to } => {
                // The address lies in its object, which stays. An object that does not listen is no
                // address at all.
                let address = self.things[to].address.as_ref();
                let (start, length) = address
                    .map_or((std::ptr::null(), 16), |address| (address.as_ptr(), address.len()));
                opcode::Connect::new(self.fd(on), start.cast(), length).build()
            }
            Op::Shutdown { on, how } => opcode::Shutdown::new(self.fd(on), how).build(),
            Op::Close { on } => opcode::Close::new(self.fd(on)).build(),
            Op::Poll { on, mask, multishot } => {
                opcode::PollAdd::new(self.fd(on), mask as u32).multi(multishot).build()
            }
            Op::Timeout { after, times } => {
                let flags = match times {
                    1 => io_uring::types::TimeoutFlags::empty(),
                    _ => io_uring::types::TimeoutFlags::MULTISHOT,
                };
                let count = if times == 1 { 0 } else { times };
                opcode::Timeout::new(&**memory.timespec.insert(timespec(after)))
                    .count(count)
                    .flags(flags)
                    .build()
            }
            Op::TimeoutUpdate { target, after } => opcode::TimeoutUpdate::new(
                user_data(target),
                &**memory.timespec.insert(timespec(after)),
            )
            .build(),
            Op::TimeoutRemove { target } => opcode::TimeoutRemove::new(user_data(target)).build(),
            Op::LinkTimeout { after } => {
                opcode::LinkTimeout::new(&**memory.timespec.insert(timespec(after))).build()
            }
            Op::Cancel { target } => opcode::AsyncCancel::new(user_data(target)).build(),
            Op::CancelDescriptor { on, all } => {
                let builder = CancelBuilder::fd(self.fd(on));
                opcode::AsyncCancel2::new(if all { builder.all() } else { builder }).build()
            }
            Op::CancelAll => cancel_all(),
            Op::Open { on, name, flags } => {
                let path = self.path(on, name, memory);
                opcode::OpenAt::new(Fd(libc::AT_FDCWD), path)
                    .flags(flags | libc::O_CLOEXEC)
                    .mode(0o600)
                    .build()
            }
            Op::Stat { on, name } => {
                let path = self.path(on, name, memory);
                // SAFETY: all zeroes is a value of this plain structure.
                let status =
                    &raw mut **memory.status.insert(Box::new(unsafe { std::mem::zeroed() }));
                opcode::Statx::new(Fd(libc::AT_FDCWD), path, status.cast())
                    .mask(libc::STATX_BASIC_STATS)
                    .build()
            }
            Op::Rename { on, from, to } => {
                let (from, to) = (self.path(on, from, memory), self.path(on, to, memory));
                opcode::RenameAt::new(Fd(libc::AT_FDCWD), from, Fd(libc::AT_FDCWD), to).build()
            }
            Op::Unlink { on, name } => {
                opcode::UnlinkAt::new(Fd(libc::AT_FDCWD), self.path(on, name, memory)).build()
            }
            Op::MakeDirectory { on, name } => {
                opcode::MkDirAt::new(Fd(libc::AT_FDCWD), self.path(on, name, memory))
                    .mode(0o700)
                    .build()
            }
            Op::OpenAt2 { .. }
            | Op::HardLink { .. }
            | Op::SymbolicLink { .. }
            | Op::SetAttributeOf { .. }
            | Op::GetAttributeOf { .. }
            | Op::SetAttribute { .. }
            | Op::GetAttribute { .. }
            | Op::Allocate { .. }
            | Op::Advise { .. }
            | Op::WriteBack { .. } => self.build_on_name_or_file(op, memory, payload),
        }
    }

    /// What later kernels have on names and on whole files.
    fn build_on_name_or_file(
        &self,
        op: &Op,
        memory: &mut Memory,
        payload: impl Fn(u32) -> Box<[u8]>,
    ) -> squeue::Entry {
        const HERE: Fd = Fd(libc::AT_FDCWD);
        let room = |length: u32| vec![0; length as usize].into_boxed_slice();
        match *op {
            Op::OpenAt2 { on, name, flags } => {
                let path = self.path(on, name, memory);
                let mode = if flags & libc::O_CREAT != 0 { 0o600 } else { 0 };
                let how = OpenHow::new()
                    .flags((flags | libc::O_CLOEXEC) as u64)
                    .mode(mode)
                    .resolve(libc::RESOLVE_NO_MAGICLINKS);
                opcode::OpenAt2::new(HERE, path, &**memory.how.insert(Box::new(how))).build()
            }
            Op::HardLink { on, from, to } => {
                let (from, to) = (self.path(on, from, memory), self.path(on, to, memory));
                opcode::LinkAt::new(HERE, from, HERE, to).build()
            }
            Op::SymbolicLink { on, to, name } => {
                let text = memory.text(to.to_string());
                opcode::SymlinkAt::new(HERE, text, self.path(on, name, memory)).build()
            }
            Op::SetAttributeOf { on, name, length } => {
                let (attribute, path) = (memory.text(ATTRIBUTE), self.path(on, name, memory));
                let value = memory.keep(payload(length));
                opcode::SetXattr::new(attribute, value.cast(), path, length).build()
            }
            Op::GetAttributeOf { on, name, length } => {
                let (attribute, path) = (memory.text(ATTRIBUTE), self.path(on, name, memory));
                let value = memory.keep(room(length));
                opcode::GetXattr::new(attribute, value.cast(), path, length).build()
            }
            Op::SetAttribute { on, length } => {
                let (attribute, value) = (memory.text(ATTRIBUTE), memory.keep(payload(length)));
                opcode::FSetXattr::new(self.fd(on), attribute, value.cast(), length).build()
            }
            Op::GetAttribute { on, length } => {
                let (attribute, value) = (memory.text(ATTRIBUTE), memory.keep(room(length)));
                opcode::FGetXattr::new(self.fd(on), attribute, value.cast(), length).build()
            }
            Op::Allocate { on, mode, offset, length } => {
                opcode::Fallocate::new(self.fd(on), length).offset(offset).mode(mode).build()
            }
            Op::Advise { on } => {
                opcode::Fadvise::new(self.fd(on), 0, libc::POSIX_FADV_WILLNEED).build()
            }
            Op::WriteBack { on, offset } => opcode::SyncFileRange::new(self.fd(on), 0)
                .offset(offset)
                .flags(libc::SYNC_FILE_RANGE_WRITE)
                .build(),
            _ => unreachable!("the others are built above"),
        }
    }

    /// A path in a directory object, or one that is not there.
    fn path(&self, on: usize, name: char, memory: &mut Memory) -> *const libc::c_char {
        let directory = self.things[on].path.clone().unwrap_or_else(|| "/nowhere".into());
        let path =
            CString::new(directory.join(name.to_string()).into_os_string().into_encoded_bytes())
                .expect("no zero in a path");
        memory.keep_text(path)
    }

    /// What an entry found in its memory: the first bytes of its buffers, or the size and kind of a
    /// file.
    pub(crate) fn found(
        &mut self,
        number: usize,
        op: &Op,
        result: i32,
        buffer: Option<u16>,
    ) -> Vec<u8> {
        let length = usize::try_from(result).unwrap_or(0);
        match op {
            Op::Read { .. } | Op::Readv { .. } | Op::Recv { .. } | Op::RecvMsg { .. } => {
                let all =
                    self.memory[number].buffers.iter().flat_map(|buffer| buffer.iter().copied());
                all.take(length).collect()
            }
            Op::GetAttribute { .. } | Op::GetAttributeOf { .. } => {
                self.memory[number].buffers[0].iter().copied().take(length).collect()
            }
            Op::RecvControl { .. } if result >= 0 => {
                let memory = &self.memory[number];
                let header = memory.header.as_ref().expect("kept");
                let mut all = memory.buffers[0][..length.min(memory.buffers[0].len())].to_vec();
                all.extend_from_slice(&memory.control[..header.msg_controllen]);
                all.extend_from_slice(&header.msg_flags.to_ne_bytes());
                all
            }
            op if op.takes_buffers() => {
                let taken =
                    buffer.map(|id| self.buffers.memory[usize::from(id)][..length].to_vec());
                self.buffers.taken.extend(buffer);
                taken.unwrap_or_default()
            }
            Op::Stat { .. } if result == 0 => {
                let status = self.memory[number].status.as_ref().expect("kept");
                let kind = u32::from(status.stx_mode) & libc::S_IFMT;
                let size = if kind == libc::S_IFREG { status.stx_size } else { 0 };
                [kind.to_le_bytes().to_vec(), size.to_le_bytes().to_vec()].concat()
            }
            _ => Vec::new(),
        }
    }

    /// Does what a peer does, and says how that went.
    pub(crate) fn peer_writes(&mut self, on: usize, length: u32) -> i32 {
        let thing = &mut self.things[on];
        let bytes: Vec<u8> =
            (0..length).map(|index| thing.next.wrapping_add(index as u8)).collect();
        thing.next = thing.next.wrapping_add(length as u8);
        let Some(peer) = &thing.peer else { return -libc::EBADF };
        if matches!(thing.kind, Object::File(_) | Object::Append(_) | Object::ReadOnly(_)) {
            return -libc::EBADF;
        }
        let (start, length) = (bytes.as_ptr().cast(), bytes.len());
        let is_pipe = matches!(thing.kind, Object::PipeReader | Object::PipeWriter);
        // SAFETY: the bytes outlive the calls.
        let sent = unsafe {
            match is_pipe {
                true => libc::write(peer.as_raw_fd(), start, length),
                false => libc::send(peer.as_raw_fd(), start, length, libc::MSG_NOSIGNAL),
            }
        };
        if sent < 0 { -io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { sent as i32 }
    }

    pub(crate) fn peer_reads(&mut self, on: usize, length: u32) -> (i32, Vec<u8>) {
        let thing = &mut self.things[on];
        let is_file =
            matches!(thing.kind, Object::File(_) | Object::Append(_) | Object::ReadOnly(_));
        let Some(peer) = thing.peer.as_ref().filter(|_| !is_file) else {
            return (-libc::EBADF, Vec::new());
        };
        let mut bytes = vec![0; length as usize];
        // SAFETY: the buffer outlives the call.
        let read = unsafe { libc::read(peer.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        if read < 0 {
            return (-io::Error::last_os_error().raw_os_error().unwrap_or(0), Vec::new());
        }
        bytes.truncate(read as usize);
        (read as i32, bytes)
    }

    pub(crate) fn peer_shuts(&mut self, on: usize) {
        if let Some(peer) = &self.things[on].peer {
            // SAFETY: the call takes no pointer.
            unsafe { libc::shutdown(peer.as_raw_fd(), libc::SHUT_WR) };
        }
    }

    pub(crate) fn peer_stops_reading(&mut self, on: usize) {
        if let Some(peer) = &self.things[on].peer {
            // SAFETY: the call takes no pointer.
            unsafe { libc::shutdown(peer.as_raw_fd(), libc::SHUT_RD) };
        }
    }

    pub(crate) fn peer_closes(&mut self, on: usize, in_a_hurry: bool) {
        let thing = &mut self.things[on];
        if matches!(thing.kind, Object::File(_) | Object::Append(_) | Object::ReadOnly(_)) {
            return;
        }
        if let Some(peer) = thing.peer.take().filter(|_| in_a_hurry) {
            let _ = Socket::from(peer).set_linger(Some(std::time::Duration::ZERO));
        }
    }

    pub(crate) fn peer_connects(&mut self, on: usize) {
        let Some(address) = self.things[on].address.as_ref().and_then(SockAddr::as_socket) else {
            return;
        };
        if let Ok(client) = TcpStream::connect::<SocketAddr>(address) {
            self.things[on].clients.push(client.into());
        }
    }

    /// Makes the buffers that the ring takes itself, and the queue that they stand in.
    pub(crate) fn provide(&mut self, buffers: u16, length: u32) -> Rc<BufferRing> {
        assert!(self.buffers.queue.is_none(), "once in a program");
        let queue = Rc::new(BufferRing::new(usize::from(buffers)).expect("memory"));
        self.buffers.queue = Some(queue.clone());
        self.buffers.memory =
            (0..buffers).map(|_| vec![0; length as usize].into_boxed_slice()).collect();
        for id in 0..buffers {
            self.buffers.lend(id);
        }
        queue
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&mut self) {
        for id in std::mem::take(&mut self.buffers.taken) {
            self.buffers.lend(id);
        }
    }

    /// What is left when the program has ended.
    pub(crate) fn left(&mut self) -> Vec<Vec<Vec<u8>>> {
        self.things.iter_mut().map(Thing::left).collect()
    }
}

impl Memory {
    fn text(&mut self, text: impl Into<Vec<u8>>) -> *const libc::c_char {
        self.keep_text(CString::new(text).expect("no zero in a name"))
    }

    /// A string's bytes lie on the heap, wherever the string itself moves.
    fn keep_text(&mut self, text: CString) -> *const libc::c_char {
        self.paths.push(text);
        self.paths[self.paths.len() - 1].as_ptr()
    }

    fn keep(&mut self, mut buffer: Box<[u8]>) -> *mut u8 {
        let start = buffer.as_mut_ptr();
        self.buffers.push(buffer);
        start
    }

    fn vector(&mut self, buffers: impl IntoIterator<Item = Box<[u8]>>) {
        self.buffers.extend(buffers);
        let vectors = self.buffers.iter_mut().map(|buffer| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        });
        self.vectors = vectors.collect();
    }

    fn message(&mut self, buffer: Box<[u8]>) -> *mut libc::msghdr {
        self.vector([buffer]);
        // SAFETY: all zeroes is a value of this plain structure.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_iov = self.vectors.as_mut_ptr();
        header.msg_iovlen = self.vectors.len();
        &raw mut **self.header.insert(header)
    }

    /// Gives the message control messages, or room for some.
    fn control(&mut self, control: Box<[u8]>) {
        self.control = control;
        let header = self.header.as_mut().expect("a message");
        header.msg_control = self.control.as_mut_ptr().cast();
        header.msg_controllen = self.control.len();
    }
}

/// The control message by which UDP cuts what is sent into datagrams of that length.
fn segments_of(length: u16) -> Box<[u8]> {
    let mut bytes = 18usize.to_ne_bytes().to_vec();
    bytes.extend([libc::SOL_UDP, libc::UDP_SEGMENT].map(libc::c_int::to_ne_bytes).as_flattened());
    bytes.extend(length.to_ne_bytes());
    bytes.resize(24, 0);
    bytes.into_boxed_slice()
}

/// Ends everything that a ring has in flight.
pub(crate) fn cancel_all() -> squeue::Entry {
    opcode::AsyncCancel2::new(CancelBuilder::any().all()).build()
}

/// The crate offers no way to build an entry of an unknown operation.
fn with_opcode(entry: squeue::Entry, opcode: u8) -> squeue::Entry {
    // SAFETY: an entry is 64 bytes of plain data, of which the first is the opcode,
    // io_uring_enter(2).
    unsafe {
        let mut bytes: [u8; 64] = std::mem::transmute(entry);
        bytes[0] = opcode;
        std::mem::transmute(bytes)
    }
}

/// Takes over a descriptor that a completion brought.
pub(crate) fn adopt(number: RawFd) -> OwnedFd {
    // SAFETY: the completion handed this number to the program, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(number) }
}
