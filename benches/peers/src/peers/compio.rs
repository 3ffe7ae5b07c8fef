//! compio on its ring.

use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;

use compio::BufResult;
use compio::fs::{File, OpenOptions};
use compio::io::{AsyncRead, AsyncReadAt, AsyncWriteExt};
use compio::net::{TcpListener, UnixListener};
use compio::runtime::Runtime;

use crate::block::Block;
use crate::harness::child::{EchoJob, Job, ReadJob, answer_on_a_thread, answer_with_slices};
use crate::harness::{Contender, Failure};
use crate::slices::{PEER, Slice, flags};

pub(crate) const COMPIO: Contender = Contender {
    name: "compio",
    serve: |job, control| match job {
        Job::Echo(job) => serve_echo(job),
        Job::Read(job) => {
            let runtime = Runtime::new()?;
            let file = Rc::new(runtime.block_on(
                OpenOptions::new().read(true).custom_flags(flags(job)).open(&job.path),
            )?);
            answer_with_slices(control, "default".into(), |duration_ms, seed| {
                let slice = Slice::open(job, duration_ms, seed);
                runtime.block_on(read_all(job, &file, &slice))?;
                slice.close()
            })
        }
        Job::Copy(_) => Err("not compared".into()),
    },
    ..PEER
};

fn serve_echo(job: &EchoJob) -> Result<(), Failure> {
    let size = job.read_size;
    Runtime::new()?.block_on(async {
        match &job.unix_path {
            Some(path) => {
                let listener = UnixListener::bind(path).await?;
                answer_on_a_thread(0, "default".into(), None)?;
                loop {
                    compio::runtime::spawn(echo(listener.accept().await?.0, size)).detach();
                }
            }
            None => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                answer_on_a_thread(listener.local_addr()?.port(), "default".into(), None)?;
                loop {
                    compio::runtime::spawn(echo(listener.accept().await?.0, size)).detach();
                }
            }
        }
    })
}

async fn echo(mut stream: impl AsyncRead + AsyncWriteExt, size: usize) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(size);
    loop {
        let BufResult(result, received) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        let BufResult(result, sent) = stream.write_all(received).await;
        result?;
        buffer = sent;
        buffer.clear();
    }
}

async fn read_all(job: &ReadJob, file: &Rc<File>, slice: &Slice) -> Result<(), Failure> {
    let start = |_| {
        compio::runtime::spawn(read_blocks(
            Rc::clone(file),
            slice.clone(),
            Block::new(job.block_size),
        ))
    };
    let tasks: Vec<_> = (0..job.depth).map(start).collect();
    for task in tasks {
        task.await.map_err(|_| "a task panicked")??;
    }
    Ok(())
}

async fn read_blocks(file: Rc<File>, slice: Slice, mut block: Block) -> Result<(), Failure> {
    loop {
        let (choice, begun) = slice.begin();
        block.clear();
        let BufResult(result, read) = file.read_at(block, choice.offset).await;
        result?;
        block = read;
        if !slice.end(choice, begun, &block)? {
            return Ok(());
        }
    }
}
