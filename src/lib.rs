//! A completion-based async runtime for Linux, on io_uring.
//!
//! A program hands the kernel an operation and a buffer. It gets the result and the buffer back
//! when the operation has ended. annulus turns that into futures, for files, sockets, pipes, child
//! processes, signals and timers. Each operation is an entry in a submission ring, and one system
//! call submits all entries of one turn of the loop. A runtime is one thread with one ring. Names
//! and shapes are those of the standard library, and those of tokio where std has none.
//!
//! # Contents
//!
//! | Module | What is in it |
//! |---|---|
//! | [`fs`] | Files: read and write at an offset, where they stand, or as a stream; locks, attributes; names, directories, whole trees; changes |
//! | [`net`] | TCP, UDP, Unix and vsock sockets; name look-up |
//! | [`io`] | Traits for code over any stream; lines, copies, frames; pipes, standard streams; readiness of any descriptor; counters to wait for |
//! | `tls` | TLS for clients and servers, over any stream (feature `tls`) |
//! | [`futex`] | Waiting for a number in memory |
//! | [`process`] | Child processes, with pipes |
//! | [`signal`] | Ctrl-C and other signals, as streams |
//! | [`time`] | Sleeping, time-outs around any future, intervals |
//! | [`buf`] | What can be given to an operation as a buffer; slices; memory for `O_DIRECT` |
//! | [`custom`] | Operations of one's own on the ring |
//! | this page | [`block_on`], [`spawn`], [`JoinSet`], [`Anchored`], [`spawn_blocking`], [`yield_now`], [`Runtime`], [`Builder`], [`Handle`], [`Op`], [`Chain`], [`Error`], [`metrics`] |
//!
//! Guides, whose programs are compiled with the tests:
//!
//! - [How do I …?](docs::cookbook), fifty short answers
//! - [The names of std and tokio](docs::names), and where each is here
//! - [What dropping a future does](docs::cancellation), for each operation
//! - [Coming from tokio](docs::from_tokio): what has another name, and what is different
//! - [Coming from an epoll loop](docs::from_epoll)
//! - [HTTP, TLS and libraries](docs::libraries): what runs here, and the way out for the rest
//! - [More than one core](docs::cores)
//! - [Where io_uring is blocked](docs::software_ring)
//! - [What to use when, and what it brings](docs::performance)
//! - [Why it is as it is](docs::design)
//! - [Architecture](docs::architecture), for those who change it
//!
//! On this page: [a first program](#a-first-program), [operations and
//! buffers](#operations-buffers-and-getting-the-buffer-back), [cancelling](#cancelling),
//! [time](#time), [tasks and threads](#tasks-and-threads), [errors](#errors), [when not to use
//! it](#when-not-to-use-it), [kernels](#kernels), [features and platform](#features-and-platform),
//! [not yet](#not-yet).
//!
//! # A first program
//!
//! A server that sends back what it receives:
//!
//! ```no_run
//! use std::io;
//! use annulus::net::{TcpListener, TcpStream};
//!
//! async fn echo(stream: TcpStream) -> io::Result<()> {
//!     let mut buffer = Vec::with_capacity(4096);
//!     loop {
//!         let n;
//!         (n, buffer) = stream.read(buffer).await?;
//!         if n == 0 {
//!             return Ok(());
//!         }
//!         buffer = stream.write_all(buffer).await?;
//!     }
//! }
//!
//! fn main() -> io::Result<()> {
//!     annulus::block_on(async {
//!         let listener = TcpListener::bind("127.0.0.1:7000").await?;
//!         loop {
//!             let (stream, _peer) = listener.accept().await?;
//!             annulus::spawn(echo(stream));
//!         }
//!     })
//! }
//! ```
//!
//! # Operations, buffers, and getting the buffer back
//!
//! The kernel works on the buffer between two polls. A borrowed `&mut [u8]` would not be safe: if
//! the future is dropped, the borrow ends while the kernel still writes. An operation therefore
//! takes the buffer by value and gives it back, with the result or with the error:
//!
//! ```
//! use annulus::{buf::IoBuf, fs::File};
//!
//! # annulus::block_on(async {
//! let file = File::open("Cargo.toml").await?;
//!
//! // Success: the count and the buffer.
//! let (n, head) = file.read_at(Vec::with_capacity(512), 0).await?;
//! assert_eq!(head.len(), n);
//!
//! // Failure: an error that carries the buffer. `?` would drop it and leave the `io::Error`.
//! let error = file.write_at(b"no".to_vec(), 0).await.unwrap_err(); // it was opened for reading
//! let buffer = error.into_buffer();
//! assert_eq!(buffer, b"no");
//!
//! // A part of a buffer: the slice owns the whole and gives it back.
//! let part = file.read_exact_at(vec![0; 512].slice(..9), 0).await?;
//! assert_eq!(&part[..9], b"[package]");
//! let whole = part.into_inner();
//! assert_eq!(whole.len(), 512);
//! # std::io::Result::Ok(()) }).unwrap();
//! ```
//!
//! - A read starts at the buffer's beginning, may use its whole **capacity**, and sets the length
//!   to what it read. To keep what a buffer holds and read behind it, use `read_append`, or
//!   [`spare`](buf::IoBufMut::spare) with any read.
//! - A write writes the buffer's **length**.
//! - A read into a buffer without room is refused with `InvalidInput`. An `Ok` with 0 bytes always
//!   means the end of the stream or file. `Vec::new()` has no room; `Vec::with_capacity(n)` has.
//! - `read` and `write` may move less than fits. `read_exact` and `write_all` go on until all is
//!   moved. If they fail, [`Error::transferred`] says how much they had moved.
//! - `Vec<u8>`, boxed slices and arrays, [`AlignedBuffer`](buf::AlignedBuffer), buffers of a
//!   [`BufferPool`](buf::BufferPool) and, as a feature, `BytesMut` can be read into. `String`,
//!   static slices and strings, `Rc<[u8]>`, `Arc<[u8]>` and `Bytes` can be written from. [`buf`]
//!   has the whole list.
//!
//! The runtime has **buffers of its own**. They are for connections that are mostly idle, and for
//! bytes that are sent on unchanged. `stream.chunks()` is a stream of [`Chunk`](buf::Chunk)s:
//! received bytes that can be divided, kept and sent without a copy. The kernel takes a buffer only
//! when bytes have come, so a connection that waits holds none:
//!
//! ```
//! use std::io;
//! use annulus::net::TcpStream;
//! use futures_util::StreamExt; // of the crate futures-util: what streams are read with
//!
//! async fn echo(stream: TcpStream) -> io::Result<()> {
//!     let mut chunks = stream.chunks();
//!     while let Some(chunk) = chunks.next().await {
//!         stream.write_all(chunk?).await?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! All streams of a runtime share these buffers. Their number grows while the program keeps many
//! chunks, and shrinks afterwards ([`Builder::chunks`]). Where it cannot grow, what is received is
//! copied to the heap. So no stream waits because others keep their chunks. [`Metrics`] counts all
//! of it.
//!
//! Most operations are an [`Op`]: also `accept`, `shutdown`, `sync_all`, `set_len` and single calls
//! on names, such as `rename`, `remove_file` and `create_dir`, which have no buffer. An `Op` is
//! lazy: its first poll submits it, together with everything else that this turn of the loop
//! starts. It does not need to be pinned, and [`Op::then`] puts another one behind it. Other
//! operations are plain futures: those that open, connect, close, take locks, look up names, read
//! metadata or work on whole directories, and `read_append`. For a `read_append` with a deadline
//! write `stream.read(buffer.spare()).timeout(…)`.
//!
//! All methods take `&self`, so several operations on one file can be in flight at once, if each
//! names its offset. The operations of a stream take turns, since the kernel would run two
//! receives, or two sends, in no particular order: at most one receive and one send are in flight,
//! and further ones wait in order. Reads and writes where a file stands take turns in the same way.
//!
//! # Cancelling
//!
//! Dropping the future of an operation cancels the operation. The kernel may need a while for that,
//! or may have finished the operation already. The runtime keeps the buffer and the descriptor
//! until the operation's last completion, and then drops them. Memory is never freed while the
//! kernel uses it.
//!
//! **What a dropped operation received waits for the next call.** `select!`, [`time::timeout`] and
//! [`JoinHandle::abort`] drop futures. Then:
//!
//! - The next read returns the bytes that a dropped `read`, `read_exact` or `read_vectored` took
//!   from a stream, in order. It also returns an error that the kernel reports only once.
//! - The next receive returns a datagram that a dropped one took, with its address.
//! - A dropped `accept` is not cancelled: it takes one connection for the next `accept`.
//! - A dropped write may have been carried out, wholly or in part. Later writes of the same stream
//!   or [`File`](fs::File) wait until it has ended, so it never lands after them.
//!
//! The stream or listener keeps what waits. If it is dropped, closed or turned into one of std,
//! what waits is dropped. [The guide to cancelling](docs::cancellation) has a table of all
//! operations, and says what is not promised.
//!
//! A dropped operation's buffer is freed. To have it back, and to know what became of the
//! operation, there are three ways:
//!
//! 1. **Put the deadline on the operation**: [`Op::timeout`] and [`Op::deadline`] cancel it and
//!    wait for its own completion. That completion alone decides what is reported. The buffer comes
//!    back in every case.
//! 2. **Cancel and wait**: [`Op::cancel`] ends an operation and yields its own result. That is
//!    success if the operation was faster than the cancel.
//! 3. **Keep the future** and poll it again later: give `&mut operation` to the `select`. It keeps
//!    its turn until it has ended or is dropped, and further reads of the same stream wait for it.
//!
//! ```
//! use std::{io, time::Duration};
//! use annulus::{net::UnixStream, time};
//! use futures_util::future::{Either, select};
//!
//! # annulus::block_on(async {
//! let (ours, theirs) = UnixStream::pair()?;
//! let mut buffer = Vec::with_capacity(64);
//!
//! // 1. A deadline on the operation.
//! match ours.read(buffer).timeout(Duration::from_millis(5)).await {
//!     Ok((_n, _buffer)) => unreachable!("nobody has written"),
//!     Err(error) if error.kind() == io::ErrorKind::TimedOut => buffer = error.into_buffer(),
//!     Err(error) => return Err(error.into()),
//! }
//!
//! // 3. The read loses a race and is not dropped. Then 2.: it is cancelled, and may still succeed.
//! match select(ours.read(buffer), time::sleep(Duration::from_millis(5))).await {
//!     Either::Left((read, _sleep)) => buffer = read?.1,
//!     Either::Right(((), read)) => match read.cancel().await {
//!         Ok((_n, filled)) => buffer = filled, // bytes that came at the last moment
//!         Err(error) => buffer = error.into_buffer(),
//!     },
//! }
//! assert!(buffer.capacity() >= 64);
//! # drop(theirs);
//! # io::Result::Ok(()) }).unwrap();
//! ```
//!
//! A file read that is dropped loses nothing: the bytes are still in the file, and the position of
//! the file moves only with what a read has given to the program. Sleeps and intervals can be
//! dropped freely.
//!
//! Forgetting an operation in flight (`mem::forget`) leaks its buffer and keeps its descriptor
//! open; nothing is freed too early. A `close` then waits for ever, and so do later operations of
//! that direction of the stream, since the forgotten one keeps its turn.
//!
//! # Time
//!
//! [`time::sleep`], [`time::timeout`] and [`time::interval`] are as in tokio, with
//! [`std::time::Instant`]. Deadlines stand in a timer wheel with a tick of about half a
//! millisecond; nothing fires early. The ring holds one timeout, for the earliest deadline, so a
//! sleep costs no system call of its own. There is no virtual clock.
//!
//! # Tasks and threads
//!
//! [`block_on`] opens a ring and runs a future on it. [`spawn`] starts a task on the same thread,
//! so futures need not be `Send`. Dropping the [`JoinHandle`] detaches the task, and
//! [`JoinHandle::abort`] ends it. If the task panics, the handle returns a [`JoinError`].
//!
//! ```
//! use std::time::Duration;
//!
//! annulus::block_on(async {
//!     let two = annulus::spawn(async {
//!         annulus::time::sleep(Duration::from_millis(5)).await;
//!         2
//!     });
//!     assert_eq!(two.await?, 2);
//!     Ok::<(), annulus::JoinError>(())
//! })
//! .unwrap();
//! ```
//!
//! A [`Runtime`] is made, used and dropped on one thread. Wakers work from any thread, so channels
//! and locks that need no particular runtime [work across
//! threads](docs::from_tokio#libraries-that-run-here). For more cores, start [a thread and a
//! runtime for each](docs::cores); with
//! [`ListenOptions::reuse_port`](net::ListenOptions::reuse_port) they share a port, and a
//! [`Handle`] starts tasks on another thread's runtime. A task that does not yield stops everything
//! else on its thread, so work that blocks or computes for long goes to [`spawn_blocking`].
//!
//! When a runtime is dropped it cancels its tasks and operations and waits for the kernel to let go
//! of their memory, for up to 5 seconds.
//!
//! # Errors
//!
//! Errors are [`std::io::Error`] with the errno of the kernel, or an [`Error`] that adds the buffer
//! and turns into an `io::Error` with `?`. An operation that [`Op::cancel`] has cancelled fails
//! with `ECANCELED` (125), or with `EINTR` (4) if a worker thread of the kernel was interrupted.
//! One that a deadline of [`Op::timeout`] has cancelled fails with `TimedOut`. An operation that
//! the running kernel does not have fails with `Unsupported`.
//!
//! If no ring is granted, the error of [`Builder::build`] says why and what to do about it, and
//! [`block_on`] panics with the same sentence. [`Runtime::ring`] describes a ring that was granted:
//!
//! ```
//! let runtime = annulus::Runtime::new()?;
//! println!("{}", runtime.ring()); // "kernel ring (by default), 256 submission and 1024 completion entries; granted: SINGLE_ISSUER, …"
//! # std::io::Result::Ok(())
//! ```
//!
//! Most container runtimes block io_uring by default. There the same program runs on [the software
//! ring](docs::software_ring): epoll and a pool of threads. [`Builder::ring`] and the environment
//! variable `ANNULUS_RING` (`kernel` or `software`) choose.
//!
//! [`diagnose`] also describes a machine where no ring is granted: limits, settings, operations
//! that the kernel lacks, and the remedy for each shortfall. `cargo run --example doctor` prints
//! it.
//!
//! A call that needs a runtime panics outside of one, and the message says so. A [`block_on`]
//! inside another panics as well.
//!
//! # When not to use it
//!
//! - On anything but Linux.
//! - With libraries that need tokio's reactor, such as reqwest and sqlx; [a table](docs::libraries)
//!   says what runs, and the way out.
//! - For buffered writes, metadata, and files on tmpfs. The kernel hands these to worker threads,
//!   which costs about 20 µs of CPU for each operation, one at a time. [`fs`] says which operations
//!   that concerns.
//! - For one read at a time from the page cache: pread(2) is cheaper by a tenth (see [the
//!   measurements](docs::design#when-is-completion-slower)).
//! - When tasks have to move between threads to balance their load.
//!
//! # Kernels
//!
//! Linux 5.10 or later. The set-up asks for everything that a recent kernel has, and then for less,
//! one step at a time. [`Runtime::ring`] tells what was granted and refused. A kernel that is
//! older, or patched, may lack some of it (operations have their names from io_uring_enter(2),
//! without `IORING_OP_`):
//!
//! | Before Linux | What is missing | What that costs |
//! |---|---|---|
//! | 6.15 | `NO_IOWAIT` | an idle runtime shows as I/O wait in the statistics |
//! | 6.13 | waking by a message to the ring | wakes from other threads go through an eventfd |
//! | 6.13 | [registered files](Builder::registered_files) | each read and write looks up its descriptor |
//! | 6.12 | minimal waits | [`Builder::min_wait`] has no effect, which the ring's report says |
//! | 6.9 | `FTRUNCATE` | [`File::set_len`](fs::File::set_len) takes the software path |
//! | 6.7 | `WAITID` | [`Child::wait`](process::Child::wait) polls a pidfd |
//! | 6.7 | `FUTEX_WAIT` | [`futex::wait`] says `Unsupported` |
//! | 6.7 | `READ_MULTISHOT` | `chunks` of a pipe submit each read |
//! | 6.6 | `NO_SQARRAY` | a little memory traffic |
//! | 6.5 | `SO_PEERPIDFD` | [`peer_pidfd`](net::UnixStream::peer_pidfd) says `Unsupported` |
//! | 6.2 | the report of zero-copy sends | [`send_zc`](net::TcpStream::send_zc) and its variants are plain sends |
//! | 6.1 | links that may be relied on | the members of a [`Chain`] are submitted one by one |
//! | 6.1 | `DEFER_TASKRUN` | completions interrupt the program; `COOP_TASKRUN` is used |
//! | 6.1 | `SENDMSG_ZC` | [`send_vectored_zc`](net::TcpStream::send_vectored_zc) and its variants are plain sends |
//! | 6.0 | `SINGLE_ISSUER`, `SEND_ZC` | a little locking in the kernel; all zero-copy sends are plain ones |
//! | 6.0 | multishot `RECV` | `chunks` and [`datagrams`](net::UdpSocket::datagrams) take the software path |
//! | 5.19 | a table of registered buffers that can be changed | a [`BufferPool`](buf::BufferPool) is plain memory |
//! | 5.19 | `COOP_TASKRUN`, `TASKRUN_FLAG`, buffer rings | each completion interrupts the program |
//! | 5.19 | multishot `ACCEPT` | [`incoming`](net::TcpListener::incoming) takes the software path |
//! | 5.19 | `GETXATTR`, `SETXATTR`, `FGETXATTR`, `FSETXATTR` | [`fs::get_xattr`], [`fs::set_xattr`] and those of a file take the software path |
//! | 5.18 | `SUBMIT_ALL`, the registered ring descriptor | a look-up for each system call |
//! | 5.18 | `MSG_RING` | wakes from other threads go through an eventfd |
//! | 5.15 | `MKDIRAT`, `LINKAT`, `SYMLINKAT`, control messages (5.12), the worker bound | [`fs::create_dir`], [`fs::hard_link`], [`fs::symlink`] and messages with control data, as [`send_msg`](net::UdpSocket::send_msg), take the software path; [`Builder::max_workers`] fails |
//! | 5.13 | multishot `POLL_ADD` | [`PollFd::changes`](io::PollFd::changes) submits each wait |
//! | 5.11 | `RENAMEAT`, `UNLINKAT`, `SHUTDOWN` | [`fs::rename`], [`fs::remove_file`] and `shutdown` of a stream take the software path; no moving of an armed timeout, so a timer can be late |
//!
//! The last line concerns only the first releases of 5.10. Later ones of that long-term series
//! (from 5.10.162 on) have these operations. annulus is developed and tested on 6.18; the table
//! comes from probing 5.10, 6.1, 6.12, 6.18 and 7.3 and from the manual pages.
//!
//! This crate executes what takes the [software path](docs::software_ring), and the kernel the
//! rest. [`RingReport::by_software`] names these operations.
//!
//! # Features and platform
//!
//! - `bytes`: `Bytes` and `BytesMut` as buffers. Off by default.
//! - `log`: a line to the logger of the `log` crate for each runtime that opens: which ring it has,
//!   and why. The line is a warning if the machine refused the kernel's ring, and else information.
//!   Off by default.
//!
//! Linux with 64-bit pointers, x86_64 or any other. Rust 1.88.
//!
//! # Not yet
//!
//! Planned, and absent from this version: more than one core in one runtime, and a simulated ring
//! for tests.

mod blocking;
pub mod buf;
mod counters;
mod doctor;
mod driver;
mod exec;
pub mod fs;
pub mod futex;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "hyper")]
pub mod hyper;
mod inflight;
pub mod io;
mod join_set;
pub mod net;
mod op;
pub mod process;
mod ring;
mod runtime;
pub mod signal;
mod sys;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
mod unwind;
mod wheel;

pub use blocking::spawn_blocking;
pub use buf::Error;
pub use doctor::{Diagnosis, Shortfall, diagnose};
pub use exec::{AbortHandle, Anchored, JoinError, JoinHandle};
pub use inflight::{Cancel, Chain, Deadline, Expire, Op};
pub use join_set::JoinSet;
pub use op::custom;
pub use op::{Chunks, Datagram, Datagrams, no_op};
pub use ring::{Limit, Refusal, RingKind, RingReport, Seccomp, SetupError};
pub use runtime::{
    Builder, Handle, Metrics, RemoteHandle, Runtime, block_on, metrics, spawn, yield_now,
};

/// Guides: how to come here, and why it is as it is.
#[cfg(any(doc, doctest))]
pub mod docs {
    #[doc = include_str!("docs/architecture.md")]
    pub mod architecture {}

    #[doc = include_str!("docs/cancellation.md")]
    pub mod cancellation {}

    #[doc = include_str!("docs/cookbook.md")]
    pub mod cookbook {}

    #[doc = include_str!("docs/cores.md")]
    pub mod cores {}

    #[doc = include_str!("docs/design.md")]
    pub mod design {}

    #[doc = include_str!("docs/from_epoll.md")]
    pub mod from_epoll {}

    #[doc = include_str!("docs/from_tokio.md")]
    pub mod from_tokio {}

    #[doc = include_str!("docs/libraries.md")]
    pub mod libraries {}

    #[doc = include_str!("docs/names.md")]
    pub mod names {}

    #[doc = include_str!("docs/performance.md")]
    pub mod performance {}

    #[doc = include_str!("docs/software-ring.md")]
    pub mod software_ring {}
}

/// So that the programs of the README are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
