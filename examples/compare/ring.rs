//! What does the same work look like on annulus? The echo server and the block reader as tasks on a ring.
//!
//! Counted are the runtime's calls of `io_uring_enter(2)`, by its own counter: it makes no other call for this work.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use annulus::buf::AlignedBuffer;
use annulus::fs::{File, OpenOptions};
use annulus::net::{TcpListener, TcpStream};
use annulus::{Builder, Runtime};

use crate::Failure;
use crate::child::{Control, Counters, EchoJob, FileJob, Reply, Request, SliceBooks, SliceReply};
use crate::data_file::{BLOCK_SIZE, choose_block, is_content_of};
use crate::random::Random;

/// Serves until the parent has no more requests.
pub(crate) fn serve_echo(job: &EchoJob, control: &mut Control) -> Result<(), Failure> {
    let runtime = Builder::new().build()?;
    let setup = runtime.ring().to_string();
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let port = listener.local_addr()?.port();
        annulus::spawn(accept_all(listener, job.read_size));
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
                Control::open().reply(&Reply::Counters(Counters::now(annulus::metrics().enters)))?;
            }
            Some(other) => return Err(format!("an echo server cannot do {other:?}").into()),
        }
    }
}

async fn accept_all(listener: TcpListener, read_size: usize) {
    // An error of accept ends the server's usefulness; the load generator reports what it then misses.
    while let Ok((stream, _)) = listener.accept().await {
        annulus::spawn(echo(stream, read_size));
    }
}

async fn echo(stream: TcpStream, read_size: usize) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let mut buffer: Vec<u8> = Vec::with_capacity(read_size);
    loop {
        let (count, received) = stream.read(buffer).await.map_err(std::io::Error::from)?;
        if count == 0 {
            return Ok(());
        }
        buffer = stream.write_all(received).await.map_err(std::io::Error::from)?;
    }
}

/// Reads in slices until the parent has no more requests.
pub(crate) fn serve_files(job: &FileJob, control: &mut Control) -> Result<(), Failure> {
    let runtime = Builder::new().build()?;
    let flags = if job.direct { libc::O_DIRECT } else { 0 };
    let file = runtime.block_on(async { OpenOptions::new().read(true).custom_flags(flags).open(&job.path).await })?;
    let reader = Rc::new(Reader { file, blocks: job.blocks });
    control.reply(&Reply::Ready { port: 0, setup: runtime.ring().to_string() })?;
    while let Some(request) = control.next()? {
        match request {
            Request::Slice { duration_ms, seed } => {
                let reply = slice(&runtime, &reader, job.depth, duration_ms, seed)?;
                control.reply(&Reply::Slice(reply))?;
            }
            other @ Request::Counters => return Err(format!("a file reader cannot do {other:?}").into()),
        }
    }
    Ok(())
}

struct Reader {
    file: File,
    blocks: u64,
}

/// What the tasks of one slice share.
struct Shared {
    random: Random,
    books: SliceBooks,
}

/// `depth` tasks, each with one read in flight, until the time is up.
fn slice(runtime: &Runtime, reader: &Rc<Reader>, depth: usize, duration_ms: u64, seed: u64) -> Result<SliceReply, Failure> {
    let books = SliceBooks::open(duration_ms, runtime.metrics().enters);
    let shared = Rc::new(RefCell::new(Shared { random: Random::new(seed), books }));
    runtime.block_on(async {
        let start = |_| annulus::spawn(read_blocks(Rc::clone(reader), Rc::clone(&shared)));
        let tasks: Vec<_> = (0..depth).map(start).collect();
        for task in tasks {
            task.await??;
        }
        Ok::<(), Failure>(())
    })?;
    let shared = Rc::into_inner(shared).ok_or("a task of the slice has not ended")?;
    Ok(shared.into_inner().books.close(runtime.metrics().enters))
}

async fn read_blocks(reader: Rc<Reader>, shared: Rc<RefCell<Shared>>) -> Result<(), Failure> {
    let mut buffer = AlignedBuffer::new(BLOCK_SIZE, BLOCK_SIZE);
    let mut next = Some(Instant::now());
    while let Some(asked) = next {
        let choice = choose_block(&mut shared.borrow_mut().random, reader.blocks);
        let (_, block) = reader.file.read_at(buffer, choice.offset).await.map_err(std::io::Error::from)?;
        if !is_content_of(choice.offset, &block, choice.salt) {
            return Err(format!("wrong content read at offset {}", choice.offset).into());
        }
        next = shared.borrow_mut().books.book(asked);
        buffer = block;
    }
    Ok(())
}
