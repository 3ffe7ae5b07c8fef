//! What does the same work look like on annulus? Servers and readers as tasks on a ring.
//!
//! Counted are the runtime's calls of `io_uring_enter(2)`, by its own counter: it makes no other call for this work.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use annulus::buf::AlignedBuffer;
use annulus::fs::{File, OpenOptions};
use annulus::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use annulus::{Builder, Runtime};

use crate::harness::child::{
    Control, CopyJob, Counters, EchoJob, Job, ReadJob, Reply, Request, SliceBooks, SliceReply, answer_with_slices,
};
use crate::harness::data_file::{BLOCK_SIZE, BlockOrder, check_block};
use crate::harness::{Contender, Failure};

pub(crate) const ANNULUS: Contender = Contender {
    name: "annulus",
    counted: "calls of io_uring_enter(2), as counted by the runtime",
    is_optional: false,
    is_pool: false,
    environment: &[],
    takes: |_| true,
    serve,
};

fn serve(job: &Job, control: &mut Control) -> Result<(), Failure> {
    match job {
        Job::Echo(job) => serve_echo(job, control),
        Job::Read(job) => serve_reads(job, control),
        Job::Copy(job) => serve_copies(job, control),
    }
}

// ---- echo

/// Serves until the parent has no more requests.
fn serve_echo(job: &EchoJob, control: &mut Control) -> Result<(), Failure> {
    let runtime = Builder::new().build()?;
    let setup = runtime.ring().to_string();
    runtime.block_on(async {
        let read_size = job.read_size;
        let port = match &job.unix_path {
            Some(path) => {
                let listener = UnixListener::bind(path)?;
                annulus::spawn(async move {
                    // An error of accept ends the server's usefulness; the load generator reports what it then misses.
                    while let Ok((stream, _)) = listener.accept().await {
                        annulus::spawn(echo_over_unix(stream, read_size));
                    }
                });
                0
            }
            None => {
                let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
                let port = listener.local_addr()?.port();
                annulus::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        stream.set_nodelay(true)?;
                        annulus::spawn(echo_over_tcp(stream, read_size));
                    }
                    Ok::<(), io::Error>(())
                });
                port
            }
        };
        control.reply(&Reply::Ready { port, setup })?;
        answer_requests().await
    })
}

/// Reads the parent's requests on another thread, because stdin is a blocking pipe, and answers them on this one.
async fn answer_requests() -> Result<(), Failure> {
    loop {
        let request = annulus::spawn_blocking(|| Control::open().next::<Request>()).await?;
        match request? {
            None => return Ok(()),
            Some(Request::Counters) => {
                Control::open().reply(&Reply::Counters(Counters::now(Some(annulus::metrics().enters))))?;
            }
            Some(other) => return Err(format!("an echo server cannot do {other:?}").into()),
        }
    }
}

/// The two kinds of stream have the same methods, and no trait in common.
macro_rules! echoes {
    ($($name:ident: $stream:ty;)*) => { $(
        async fn $name(stream: $stream, read_size: usize) -> io::Result<()> {
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
    echo_over_tcp: TcpStream;
    echo_over_unix: UnixStream;
}

// ---- files

struct Reader {
    file: File,
    job: ReadJob,
}

fn serve_reads(job: &ReadJob, control: &mut Control) -> Result<(), Failure> {
    let runtime = Builder::new().build()?;
    let flags = if job.direct { libc::O_DIRECT } else { 0 };
    let file = runtime.block_on(async { OpenOptions::new().read(true).custom_flags(flags).open(&job.path).await })?;
    let reader = Rc::new(Reader { file, job: job.clone() });
    answer_with_slices(control, runtime.ring().to_string(), |duration_ms, seed| slice(&runtime, &reader, duration_ms, seed))
}

/// What the tasks of one slice share.
struct Shared {
    order: BlockOrder,
    books: SliceBooks,
}

/// `depth` tasks, each with one read in flight, until the time is up.
fn slice(runtime: &Runtime, reader: &Rc<Reader>, duration_ms: u64, seed: u64) -> Result<SliceReply, Failure> {
    let books = SliceBooks::open(duration_ms, Some(runtime.metrics().enters));
    let shared = Rc::new(RefCell::new(Shared { order: BlockOrder::new(&reader.job, seed), books }));
    runtime.block_on(async {
        let start = |_| annulus::spawn(read_blocks(Rc::clone(reader), Rc::clone(&shared)));
        let tasks: Vec<_> = (0..reader.job.depth).map(start).collect();
        for task in tasks {
            task.await??;
        }
        Ok::<(), Failure>(())
    })?;
    let shared = Rc::into_inner(shared).ok_or("a task of the slice has not ended")?;
    Ok(shared.into_inner().books.close(Some(runtime.metrics().enters)))
}

async fn read_blocks(reader: Rc<Reader>, shared: Rc<RefCell<Shared>>) -> Result<(), Failure> {
    let mut block = AlignedBuffer::new(reader.job.block_size, BLOCK_SIZE);
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

// ---- copies

/// What one step of a copy moves.
const COPY_CHUNK: usize = 1 << 20;

fn serve_copies(job: &CopyJob, control: &mut Control) -> Result<(), Failure> {
    let runtime = Builder::new().build()?;
    answer_with_slices(control, runtime.ring().to_string(), |duration_ms, _| {
        let mut books = SliceBooks::open(duration_ms, Some(runtime.metrics().enters));
        while books.add(runtime.block_on(copy(job))? >> 20) {}
        Ok(books.close(Some(runtime.metrics().enters)))
    })
}

async fn copy(job: &CopyJob) -> io::Result<u64> {
    let (from, to) = (File::open(&job.from).await?, File::create(&job.to).await?);
    let (mut offset, mut chunk) = (0, Vec::with_capacity(COPY_CHUNK));
    loop {
        let count;
        (count, chunk) = from.read_at(chunk, offset).await?;
        if count == 0 {
            return Ok(offset);
        }
        chunk = to.write_all_at(chunk, offset).await?;
        offset += count as u64;
    }
}
