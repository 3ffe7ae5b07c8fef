//! Operations that this crate does not have: entries of one's own on the ring of the runtime.
//!
//! There are two ways. Safe code makes an entry in a closure, from parts that it is given, and the
//! entry is checked against a list: [`on_descriptor`], [`from_buffer`], [`into_buffer`]. For all
//! else there is an unsafe trait, [`Operation`], whose implementor promises what this crate
//! promises of its own operations, and [`submit`].
//!
//! Each gives an [`Op`], which is awaited, dropped, cancelled and given a deadline as any other. It
//! takes no turn: it may run beside other operations of its descriptor, and what it received when
//! it was dropped is dropped with it.
//!
//! # Why not every operation in safe code
//! An entry is 64 bytes whose meaning depends on the operation, and for some on the file and the
//! option behind it. An address may stand in five of its fields. Options of sockets may hold
//! pointers (`SO_ATTACH_FILTER`), commands of devices may be anything, and some operations act on
//! other operations, whose memory they would set free. No check can be right for an operation that
//! it does not know. So the safe forms know some, and refuse the others with `InvalidInput`:
//!
//! | Form | Operations |
//! |---|---|
//! | [`on_descriptor`] | `FSYNC`, `SYNC_FILE_RANGE`, `FALLOCATE`, `FADVISE`, `FTRUNCATE`, `SHUTDOWN`, `LISTEN`; of sockets, `URING_CMD` with `SIOCINQ` or `SIOCOUTQ` |
//! | [`from_buffer`] | `WRITE`, `SEND`; of sockets, `URING_CMD` that sets an option of `SOL_SOCKET`, IP, IPv6, TCP or UDP that holds no pointer |
//! | [`into_buffer`] | `READ`, `RECV` |
//!
//! The flags of `SEND` and `RECV` may be `MSG_OOB`, `MSG_PEEK`, `MSG_DONTROUTE`, `MSG_DONTWAIT`,
//! `MSG_EOR`, `MSG_WAITALL`, `MSG_CONFIRM`, `MSG_NOSIGNAL` and `MSG_MORE`.
//!
//! # On other rings
//! What the ring does not know ends with `Unsupported`: on an old kernel, and on the [software
//! ring](crate::docs::software_ring), which has the operations of this crate only.
//!
//! # The builders
//! Entries come from the crate `io-uring`, whose modules are handed on here. A new version of it
//! may change them, which is a breaking change of this module.
//!
//! # Safety
//! The safe forms let through what the check has found to name the buffer of the operation or
//! nothing. The trait hands its implementor's promise on.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub use io_uring::{opcode, squeue, types};

use crate::buf::{Error, IoBuf, IoBufMut};
use crate::inflight::{self, Habits, Handle, Op, Step, clamp, filled, written};
use crate::ring::request::{self, Memory, vet};
use crate::ring::{Completion, FileKind};

/// A share in an open descriptor, which keeps it open: for the operation that names it.
///
/// It is made from a reference to a file or socket, or from an `OwnedFd`. A file that is dropped
/// while others have shares in its descriptor is closed with the last of them, and
/// [`close`](crate::fs::File::close) waits for them.
#[derive(Debug, Clone)]
pub struct Fd(Handle);

impl Fd {
    pub(crate) fn of(handle: &Handle) -> Fd {
        // Its file or socket may be dropped from now on, and does not close it then.
        handle.target_for_worker();
        Fd(handle.clone())
    }

    /// As entries take it.
    pub fn target(&self) -> types::Fd {
        // Nobody here knows when the kernel looks it up.
        self.0.target_for_worker()
    }
}

impl From<OwnedFd> for Fd {
    fn from(descriptor: OwnedFd) -> Fd {
        Fd(Handle::of_file(descriptor.into()))
    }
}

impl From<&Fd> for Fd {
    fn from(fd: &Fd) -> Fd {
        fd.clone()
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// An operation of one's own, for [`submit`].
///
/// ```
/// use std::io;
/// use annulus::custom::{self, Fd, opcode, squeue};
///
/// /// Copies what is in one pipe to another, and leaves it in the first; tee(2).
/// struct Tee {
///     from: Fd,
///     to: Fd,
///     length: u32,
/// }
///
/// // SAFETY: the entry names no memory. The shares keep both pipes open.
/// unsafe impl custom::Operation for Tee {
///     type Output = io::Result<u32>;
///
///     fn entry(&mut self) -> squeue::Entry {
///         opcode::Tee::new(self.from.target(), self.to.target(), self.length).build()
///     }
///
///     fn complete(self, result: io::Result<u32>, _flags: u32) -> io::Result<u32> {
///         result
///     }
/// }
///
/// # annulus::block_on(async {
/// # use std::io::{Read, Write};
/// let (from, mut writer) = io::pipe()?;
/// let (mut reader, to) = io::pipe()?;
/// writer.write_all(b"twice")?;
/// let [from, to] = [from.into(), to.into()].map(|end: std::os::fd::OwnedFd| Fd::from(end));
/// match custom::submit(Tee { from, to, length: 5 }).await {
///     Ok(count) => assert_eq!(count, 5),
///     Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported), // the software ring
/// }
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Safety
/// Whoever implements it promises all of this:
///
/// 1. **Memory.** Every address that the entry of [`entry`](Operation::entry) holds, and every
///    address in the memory behind it, is that of memory which `self` owns on the heap or which is
///    `'static`. It stays the same when `self` is moved: `self` moves with its future, and into a
///    box when the future is dropped. Memory inside `self` itself will not do.
/// 2. **Nobody else.** From `entry` to [`complete`](Operation::complete) nobody frees or writes
///    that memory, and nobody reads what the kernel writes. No safe code can reach it: not through
///    a clone, a shared pointer or a thread-local. A future that is forgotten keeps it for ever.
/// 3. **Descriptors.** What the entry names is open until `complete`, since the kernel may look a
///    number up late: `self` holds a [`Fd`] for each, or what it names is never closed, or it is
///    the one that the operation closes.
/// 4. **One operation.** The entry is that of one operation with one completion, or of a zero-copy
///    send, whose two completions become one here. It is not multishot, takes no provided buffers,
///    and acts on no other operation and no ring: no `ASYNC_CANCEL`, `POLL_REMOVE`,
///    `TIMEOUT_REMOVE`, `LINK_TIMEOUT`, `MSG_RING`, `PROVIDE_BUFFERS` or `FILES_UPDATE`. The tables
///    of registered files and buffers are the runtime's: it names no place in them (`FIXED_FILE`,
///    `file_index`, `buf_index`), and puts nothing there. It closes no descriptor that `self` does
///    not own.
/// 5. **Results.** What `complete` makes of a result is right for this operation: it makes a length
///    of a count only if the kernel has written as much, and a descriptor of a number only if the
///    result is one.
///
/// Flags by which an entry is tied to others, or has no completion, are taken out of it (`IO_LINK`,
/// `IO_HARDLINK`, `IO_DRAIN`, `SKIP_SUCCESS`, `BUFFER_SELECT`), and its user data is the runtime's.
pub unsafe trait Operation: Sized + 'static {
    /// What awaiting it yields. [`Op::timeout`] needs [`Expire`](crate::Expire) of it, which
    /// `io::Result` has.
    type Output;

    /// May it be started again, with another call of `entry`, if a signal has interrupted it
    /// (`EINTR`), or if the kernel had no thread for it? Not if a second run would find what the
    /// first has done.
    const RUNS_AGAIN: bool = false;

    /// Its entry.
    fn entry(&mut self) -> squeue::Entry;

    /// Makes a value of its completion, with the flags of it, io_uring_enter(2). It comes with
    /// `ECANCELED` and no flags also for one that was cancelled before it began.
    ///
    /// It is called for an operation whose future was dropped, too, and the value is dropped. So a
    /// result that is a descriptor is made an owner here, such as an `OwnedFd`, and is closed then.
    fn complete(self, result: io::Result<u32>, flags: u32) -> Self::Output;
}

/// Makes a future of an operation of one's own.
///
/// Dropping it cancels the operation. What it owns stays until its last completion.
///
/// # Errors
/// Those that the operation makes of its result: the kernel's; `Unsupported` if the ring does not
/// know it.
pub fn submit<T: Operation>(operation: T) -> Op<'static, Custom<T>> {
    Op::new(Custom(operation))
}

/// An operation of one's own, as the runtime has it.
pub struct Custom<T>(T);

// SAFETY: the implementor of the public trait has promised the same, and the flags that concern
// other entries, or the completion, are taken out.
unsafe impl<T: Operation> inflight::Operation for Custom<T> {
    type Output = T::Output;

    const HABITS: Habits<Self> = match T::RUNS_AGAIN {
        true => Habits::USUAL,
        false => Habits::RUNS_ONCE,
    };

    fn entry(&mut self) -> squeue::Entry {
        request::untied(&self.0.entry())
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        let result = completion.result().map(|result| result as u32);
        Step::Done(self.0.complete(result, completion.flags))
    }
}

/// Makes a future of an operation on a descriptor that names no memory. The closure makes the entry
/// for the descriptor that it is given.
///
/// The result is the kernel's, most often 0. Dropping the future cancels the operation, which may
/// happen all the same. A signal that interrupts it comes out as `EINTR`.
///
/// ```
/// use annulus::custom::{self, opcode};
///
/// # annulus::block_on(async {
/// # let path = std::env::temp_dir().join(format!("annulus-custom-{}", std::process::id()));
/// let file = annulus::fs::File::create(&path).await?;
/// custom::on_descriptor(&file, |fd| opcode::Fallocate::new(fd, 4096).build()).await?;
/// assert_eq!(file.metadata().await?.len(), 4096);
/// # std::fs::remove_file(&path)?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// `InvalidInput` for an entry that is [not on the list](self), or names anything else;
/// `Unsupported` if the ring does not know the operation; else the kernel's.
pub fn on_descriptor(
    fd: impl Into<Fd>,
    entry: impl FnOnce(types::Fd) -> squeue::Entry,
) -> Op<'static, OnDescriptor> {
    let vetted = Vetted::new(fd.into(), Memory::None, entry);
    let refused = vetted.refused();
    Op::settled(OnDescriptor(vetted), refused)
}

/// Makes a future of an operation on a descriptor for which the kernel reads a buffer. The closure
/// makes the entry, for the descriptor, the address of the buffer's first byte and the buffer's
/// length.
///
/// It yields the kernel's result and the buffer. Dropping the future cancels the operation, and the
/// buffer stays until its end.
///
/// ```
/// use annulus::custom::{self, opcode};
/// use std::io::ErrorKind;
///
/// # annulus::block_on(async {
/// let socket = annulus::net::UdpSocket::bind("127.0.0.1:0").await?;
/// let value = 1u32.to_ne_bytes().to_vec();
/// let set = custom::from_buffer(&socket, value, |fd, value, length| {
///     let (level, option) = (libc::SOL_SOCKET as u32, libc::SO_BROADCAST as u32);
///     opcode::SetSockOpt::new(fd, level, option, value.cast(), length).build()
/// });
/// match set.await {
///     Ok(_) => assert!(socket2::SockRef::from(&socket).broadcast()?),
///     Err(error) => println!("before Linux 6.7, or on the software ring: {error}"),
/// }
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// As [`on_descriptor`], with the buffer.
pub fn from_buffer<B: IoBuf>(
    fd: impl Into<Fd>,
    buffer: B,
    entry: impl FnOnce(types::Fd, *const u8, u32) -> squeue::Entry,
) -> Op<'static, FromBuffer<B>> {
    let (address, length) = (buffer.as_init_ptr(), clamp(buffer.init_len()));
    let memory = Memory::Read { address: address.addr(), length };
    let vetted = Vetted::new(fd.into(), memory, |fd| entry(fd, address, length));
    let refused = vetted.refused();
    Op::settled(FromBuffer { vetted, buffer }, refused)
}

/// Makes a future of an operation on a descriptor for which the kernel fills a buffer. The closure
/// makes the entry, for the descriptor, the address of the buffer's first byte and the buffer's
/// capacity.
///
/// It yields the count and the buffer, whose length is the count. Dropping the future cancels the
/// operation; the buffer stays until its end, and what was received is dropped with it.
///
/// ```
/// use annulus::custom::{self, opcode};
/// use std::io::Write;
///
/// # annulus::block_on(async {
/// let (ours, theirs) = annulus::net::UnixStream::pair()?;
/// theirs.write_all("look").await?;
/// // What has come is looked at, and stays.
/// let peek = custom::into_buffer(&ours, Vec::with_capacity(16), |fd, bytes, capacity| {
///     opcode::Recv::new(fd, bytes, capacity).flags(libc::MSG_PEEK).build()
/// });
/// assert_eq!(peek.await?.1, b"look");
/// assert_eq!(ours.read(Vec::with_capacity(16)).await?.1, b"look");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Errors
/// As [`on_descriptor`], with the buffer.
pub fn into_buffer<B: IoBufMut>(
    fd: impl Into<Fd>,
    mut buffer: B,
    entry: impl FnOnce(types::Fd, *mut u8, u32) -> squeue::Entry,
) -> Op<'static, IntoBuffer<B>> {
    let (address, length) = (buffer.as_mut_ptr(), clamp(buffer.capacity()));
    let memory = Memory::Filled { address: address.addr(), length };
    let vetted = Vetted::new(fd.into(), memory, |fd| entry(fd, address, length));
    let refused = vetted.refused();
    Op::settled(IntoBuffer { vetted, buffer }, refused)
}

/// An entry that was let through, or why it was not, with the share in its descriptor.
struct Vetted {
    _fd: Fd,
    entry: Result<squeue::Entry, &'static str>,
}

impl Vetted {
    fn new(fd: Fd, memory: Memory, make: impl FnOnce(types::Fd) -> squeue::Entry) -> Vetted {
        let entry = make(fd.target());
        let is_socket = FileKind::of(fd.as_fd()) == FileKind::Socket;
        let verdict = vet(&entry, fd.as_raw_fd(), is_socket, memory);
        Vetted { _fd: fd, entry: verdict.map(|()| entry) }
    }

    fn refused(&self) -> Option<i32> {
        self.entry.is_err().then_some(-libc::EINVAL)
    }

    /// Of one that was refused it is never asked for.
    fn entry(&self) -> squeue::Entry {
        self.entry.clone().unwrap_or_else(|_| opcode::Nop::new().build())
    }

    fn result(&self, completion: Completion) -> io::Result<usize> {
        match self.entry {
            Err(reason) => Err(io::Error::new(io::ErrorKind::InvalidInput, reason)),
            Ok(_) => completion.result(),
        }
    }
}

/// What [`on_descriptor`] has made.
pub struct OnDescriptor(Vetted);

// SAFETY: the entry names no memory, which `vet` has seen. The share keeps the descriptor open.
unsafe impl inflight::Operation for OnDescriptor {
    type Output = io::Result<usize>;

    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    fn entry(&mut self) -> squeue::Entry {
        self.0.entry()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        Step::Done(self.0.result(completion))
    }
}

/// What [`from_buffer`] has made.
pub struct FromBuffer<B> {
    vetted: Vetted,
    buffer: B,
}

// SAFETY: the entry names the buffer and nothing else, which `vet` has seen. The buffer belongs to
// the operation, at an address that `IoBuf` keeps; the share keeps the descriptor open.
unsafe impl<B: IoBuf> inflight::Operation for FromBuffer<B> {
    type Output = Result<(usize, B), Error<B>>;

    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    fn entry(&mut self) -> squeue::Entry {
        self.vetted.entry()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        let result = self.vetted.result(completion);
        Step::Done(written(self.buffer, result))
    }
}

/// What [`into_buffer`] has made.
pub struct IntoBuffer<B> {
    vetted: Vetted,
    buffer: B,
}

// SAFETY: as for `FromBuffer`, with `IoBufMut`. All operations on the list fill the buffer from its
// beginning and return how much of it they have filled.
unsafe impl<B: IoBufMut> inflight::Operation for IntoBuffer<B> {
    type Output = Result<(usize, B), Error<B>>;

    const HABITS: Habits<Self> = Habits::RUNS_ONCE;

    fn entry(&mut self) -> squeue::Entry {
        // The address is the one that the entry has. It is asked for again since the buffer has
        // moved: what an owner gave out before it moved is not to be written through.
        let _ = self.buffer.as_mut_ptr().expose_provenance();
        self.vetted.entry()
    }

    fn complete(self, completion: Completion) -> Step<Self> {
        let result = self.vetted.result(completion);
        Step::Done(filled(self.buffer, result))
    }
}

impl<T> fmt::Debug for Custom<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom").finish_non_exhaustive()
    }
}
