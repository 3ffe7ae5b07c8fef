//! The contender on annulus: servers and readers as tasks on a ring.
//!
//! Counted are the runtime's calls of `io_uring_enter(2)`, by its own counter: it makes no other
//! call for this work.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use annulus::buf::{AlignedBuffer, BufferPool, IoBufMut};
use annulus::fs::{File, OpenOptions};
use annulus::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use annulus::{Builder, Runtime};
use futures_util::StreamExt;

use crate::harness::child::{
    Control, CopyJob, Counters, EchoJob, Job, ReadJob, Reply, Request, SliceBooks, SliceReply,
    answer_with_slices,
};
use crate::harness::data_file::{BLOCK_SIZE, BlockOrder, check_block};
use crate::harness::workloads::{Transport, Work};
use crate::harness::{Contender, Failure};

/// As the guide to performance advises: chunks for streams, and for direct reads buffers that the
/// kernel knows.
pub(crate) const ANNULUS: Contender = Contender {
    name: "annulus",
    counted: "calls of io_uring_enter(2), as counted by the runtime",
    is_optional: false,
    is_pool: false,
    environment: &[],
    takes: |_| true,
    serve: |job, control| serve(job, Style::Advised, control),
};

/// The same program where io_uring is blocked: its entries are executed with epoll and threads.
pub(crate) const ANNULUS_SOFTWARE: Contender = Contender {
    name: "annulus-software",
    counted: "rounds of the software ring, as counted by the runtime; it makes further system calls",
    is_pool: true,
    environment: &[("ANNULUS_RING", "software")],
    ..ANNULUS
};

/// With a buffer of its own for each connection and each read.
pub(crate) const ANNULUS_OWNED: Contender = Contender {
    name: "annulus-owned",
    is_optional: true,
    takes: |work| !matches!(work, Work::Copy | Work::Stream { .. }),
    serve: |job, control| serve(job, Style::OwnedBuffers, control),
    ..ANNULUS
};

/// With a place in the ring's table for its file.
pub(crate) const ANNULUS_REGISTERED_FILES: Contender = Contender {
    name: "annulus-registered-files",
    is_optional: true,
    takes: |work| matches!(work, Work::RandomRead { .. }),
    serve: |job, control| serve(job, Style::RegisteredFiles, control),
    ..ANNULUS
};

/// With a loop that looks at shared memory for a while before it sleeps.
pub(crate) const ANNULUS_SPIN: Contender = Contender {
    name: "annulus-spin",
    is_optional: true,
    takes: |work| matches!(work, Work::Echo { .. }),
    serve: |job, control| serve(job, Style::Spin, control),
    ..ANNULUS
};

/// With waits that end with several completions or after a while.
pub(crate) const ANNULUS_MIN_WAIT: Contender = Contender {
    name: "annulus-min-wait",
    serve: |job, control| serve(job, Style::MinWait, control),
    ..ANNULUS_SPIN
};

/// With a thread of the kernel that submits, on whatever core it likes.
pub(crate) const ANNULUS_SQPOLL: Contender = Contender {
    name: "annulus-sqpoll",
    serve: |job, control| serve(job, Style::SubmissionThread, control),
    ..ANNULUS_SPIN
};

/// With reads that end by asking the device.
pub(crate) const ANNULUS_IOPOLL: Contender = Contender {
    name: "annulus-iopoll",
    is_optional: true,
    takes: |work| matches!(work, Work::RandomRead { direct: true, .. }),
    serve: |job, control| serve(job, Style::DevicePolls, control),
    ..ANNULUS
};

/// With sends that the kernel need not copy.
pub(crate) const ANNULUS_ZERO_COPY: Contender = Contender {
    name: "annulus-zero-copy",
    takes: |work| matches!(work, Work::Echo { transport: Transport::Tcp, .. }),
    serve: |job, control| serve(job, Style::ZeroCopy, control),
    ..ANNULUS_SPIN
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Advised,
    RegisteredFiles,
    OwnedBuffers,
    Spin,
    MinWait,
    SubmissionThread,
    DevicePolls,
    ZeroCopy,
}

impl Style {
    fn runtime(self) -> io::Result<Runtime> {
        let builder = match self {
            Style::Advised | Style::OwnedBuffers | Style::ZeroCopy => Builder::new(),
            Style::RegisteredFiles => Builder::new().registered_files(true),
            Style::Spin => Builder::new().spin(LONGEST_WAIT),
            Style::MinWait => Builder::new().min_wait(FEWEST_COMPLETIONS, LONGEST_WAIT),
            Style::SubmissionThread => Builder::new().sqpoll(LONGEST_IDLE),
            Style::DevicePolls => Builder::new().iopoll(true),
        };
        builder.build()
    }
}

/// Longer than a round trip over loopback, so that a request that follows a reply is awaited.
const LONGEST_WAIT: Duration = Duration::from_micros(50);
const FEWEST_COMPLETIONS: u32 = 16;
/// The thread of the kernel sleeps after this.
const LONGEST_IDLE: Duration = Duration::from_millis(10);

fn serve(job: &Job, style: Style, control: &mut Control) -> Result<(), Failure> {
    match job {
        Job::Echo(job) => serve_echo(job, style, control),
        Job::Read(job) if job.is_stream => serve_stream(job, style, control),
        Job::Read(job) => serve_reads(job, style, control),
        Job::Copy(job) => serve_copies(job, control),
    }
}

/// Serves until the parent has no more requests.
fn serve_echo(job: &EchoJob, style: Style, control: &mut Control) -> Result<(), Failure> {
    let runtime = style.runtime()?;
    let setup = runtime.ring().to_string();
    let read_size = job.read_size;
    runtime.block_on(async {
        let port = match &job.unix_path {
            Some(path) => {
                drop(annulus::spawn(serve_unix(UnixListener::bind(path)?, style, read_size)));
                0
            }
            None => {
                let listener =
                    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
                let port = listener.local_addr()?.port();
                drop(annulus::spawn(serve_tcp(listener, style, read_size)));
                port
            }
        };
        control.reply(&Reply::Ready { port, setup })?;
        answer_requests().await
    })
}

// An error of accept ends a server's usefulness; the load generator reports what it then misses.

async fn serve_tcp(listener: TcpListener, style: Style, read_size: usize) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        drop(match style {
            Style::OwnedBuffers => annulus::spawn(echo_owned_over_tcp(stream, read_size)),
            Style::ZeroCopy => annulus::spawn(echo_without_copies(stream)),
            _ => annulus::spawn(echo_chunks_over_tcp(stream)),
        });
    }
}

async fn serve_unix(listener: UnixListener, style: Style, read_size: usize) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        drop(match style {
            Style::OwnedBuffers => annulus::spawn(echo_owned_over_unix(stream, read_size)),
            _ => annulus::spawn(echo_chunks_over_unix(stream)),
        });
    }
}

/// Reads the parent's requests on another thread, because stdin is a blocking pipe, and answers
/// them on this one.
async fn answer_requests() -> Result<(), Failure> {
    loop {
        let request = annulus::spawn_blocking(|| Control::open().next::<Request>()).await?;
        match request? {
            None => return Ok(()),
            Some(Request::Counters) => {
                Control::open()
                    .reply(&Reply::Counters(Counters::now(Some(annulus::metrics().enters))))?;
            }
            Some(other) => return Err(format!("an echo server cannot do {other:?}").into()),
        }
    }
}

async fn echo_without_copies(stream: TcpStream) -> io::Result<()> {
    let mut chunks = stream.chunks();
    while let Some(chunk) = chunks.next().await {
        stream.send_all_zc(chunk?).await?;
    }
    Ok(())
}

/// The two kinds of stream have the same methods, and no trait in common.
macro_rules! echoes {
    ($($stream:ty: $chunks:ident, $owned:ident;)*) => { $(
        async fn $chunks(stream: $stream) -> io::Result<()> {
            let mut chunks = stream.chunks();
            while let Some(chunk) = chunks.next().await {
                stream.write_all(chunk?).await?;
            }
            Ok(())
        }

        async fn $owned(stream: $stream, read_size: usize) -> io::Result<()> {
            let mut buffer: Vec<u8> = Vec::with_capacity(read_size);
            loop {
                let count;
                (count, buffer) = stream.read(buffer).await?;
                if count == 0 {
                    return Ok(());
                }
                buffer = stream.write_all(buffer).await?;
            }
        }
    )* };
}

echoes! {
    TcpStream: echo_chunks_over_tcp, echo_owned_over_tcp;
    UnixStream: echo_chunks_over_unix, echo_owned_over_unix;
}

struct Reader {
    file: File,
    job: ReadJob,
    /// Buffers that the kernel knows.
    pool: Option<BufferPool>,
}

fn serve_reads(job: &ReadJob, style: Style, control: &mut Control) -> Result<(), Failure> {
    let runtime = style.runtime()?;
    let flags = if job.direct { libc::O_DIRECT } else { 0 };
    let is_registered = job.direct && style != Style::OwnedBuffers;
    let reader = runtime.block_on(async {
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&job.path).await?;
        if style == Style::DevicePolls {
            check_that_it_is_polled(&file, job.block_size).await?;
        }
        let pool = is_registered.then(|| BufferPool::new(job.depth, job.block_size));
        Ok::<_, io::Error>(Rc::new(Reader { file, job: job.clone(), pool }))
    })?;
    answer_with_slices(control, runtime.ring().to_string(), |duration_ms, seed| {
        slice(&runtime, &reader, duration_ms, seed)
    })
}

/// A file that cannot be polled would be read in the ordinary way, and measured under a false name.
async fn check_that_it_is_polled(file: &File, block_size: usize) -> io::Result<()> {
    file.read_at(AlignedBuffer::new(block_size, BLOCK_SIZE), 0).await?;
    if annulus::metrics().polled == 0 {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the device of the data file cannot be polled (`cargo run --example doctor`)",
        ));
    }
    Ok(())
}

/// The whole file, again and again.
fn serve_stream(job: &ReadJob, style: Style, control: &mut Control) -> Result<(), Failure> {
    let runtime = style.runtime()?;
    let flags = if job.direct { libc::O_DIRECT } else { 0 };
    let file =
        runtime.block_on(OpenOptions::new().read(true).custom_flags(flags).open(&job.path))?;
    answer_with_slices(control, runtime.ring().to_string(), |duration_ms, seed| {
        let mut order = BlockOrder::new(job, seed);
        let mut books = SliceBooks::open(duration_ms, Some(runtime.metrics().enters));
        runtime.block_on(async {
            loop {
                let mut stream = file.stream(..).chunk_size(job.block_size).depth(job.depth);
                loop {
                    let begun = books.begin();
                    let Some(block) = stream.next().await else { break };
                    check_block(job, order.choose(), &block?)?;
                    if !books.end(begun) {
                        return Ok::<(), Failure>(());
                    }
                }
            }
        })?;
        Ok(books.close(Some(runtime.metrics().enters)))
    })
}

/// What the tasks of one slice share.
struct Shared {
    order: BlockOrder,
    books: SliceBooks,
}

/// `depth` tasks, each with one read in flight, until the time is up.
fn slice(
    runtime: &Runtime,
    reader: &Rc<Reader>,
    duration_ms: u64,
    seed: u64,
) -> Result<SliceReply, Failure> {
    let books = SliceBooks::open(duration_ms, Some(runtime.metrics().enters));
    let shared = Rc::new(RefCell::new(Shared { order: BlockOrder::new(&reader.job, seed), books }));
    runtime.block_on(async {
        let start = |_| {
            let (reader, shared) = (Rc::clone(reader), Rc::clone(&shared));
            match reader
                .pool
                .as_ref()
                .map(|pool| pool.try_acquire().expect("a buffer for each task"))
            {
                Some(block) => annulus::spawn(read_blocks(reader, shared, block)),
                None => {
                    let block = AlignedBuffer::new(reader.job.block_size, BLOCK_SIZE);
                    annulus::spawn(read_blocks(reader, shared, block))
                }
            }
        };
        let tasks: Vec<_> = (0..reader.job.depth).map(start).collect();
        for task in tasks {
            task.await??;
        }
        Ok::<(), Failure>(())
    })?;
    let shared = Rc::into_inner(shared).ok_or("a task of the slice has not ended")?;
    Ok(shared.into_inner().books.close(Some(runtime.metrics().enters)))
}

async fn read_blocks<B>(
    reader: Rc<Reader>,
    shared: Rc<RefCell<Shared>>,
    mut block: B,
) -> Result<(), Failure>
where
    B: IoBufMut + Deref<Target = [u8]>,
{
    loop {
        let (choice, begun) = {
            let Shared { order, books } = &mut *shared.borrow_mut();
            (order.choose(), books.begin())
        };
        (_, block) = reader.file.read_at(block, choice.offset).await.map_err(io::Error::from)?;
        check_block(&reader.job, choice, &block)?;
        if !shared.borrow_mut().books.end(begun) {
            return Ok(());
        }
    }
}

fn serve_copies(job: &CopyJob, control: &mut Control) -> Result<(), Failure> {
    let runtime = Builder::new().build()?;
    answer_with_slices(control, runtime.ring().to_string(), |duration_ms, _| {
        let mut books = SliceBooks::open(duration_ms, Some(runtime.metrics().enters));
        while books.add(runtime.block_on(annulus::fs::copy(&job.from, &job.to))? >> 20) {}
        Ok(books.close(Some(runtime.metrics().enters)))
    })
}
