//! tokio's single-threaded runtime: sockets on epoll, files on its thread pool.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::block::Block;
use crate::harness::child::{EchoJob, Job, ReadJob, answer_on_a_thread, answer_with_slices};
use crate::harness::{Contender, Failure};
use crate::slices::{PEER, Slice, open};

pub(crate) const TOKIO: Contender = Contender {
    name: "tokio",
    is_pool: true,
    serve: |job, control| match job {
        Job::Echo(job) => serve_echo(job),
        Job::Read(job) => {
            let (runtime, file) = (runtime()?, Arc::new(open(job)?));
            answer_with_slices(control, "current_thread".into(), |duration_ms, seed| {
                let slice = Slice::open(job, duration_ms, seed);
                LocalSet::new().block_on(&runtime, read_all(job, &file, &slice))?;
                slice.close()
            })
        }
        Job::Copy(_) => Err("not compared".into()),
    },
    ..PEER
};

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().build()
}

fn serve_echo(job: &EchoJob) -> Result<(), Failure> {
    let size = job.read_size;
    LocalSet::new().block_on(&runtime()?, async {
        match &job.unix_path {
            Some(path) => {
                let listener = UnixListener::bind(path)?;
                answer_on_a_thread(0, "current_thread".into(), None)?;
                loop {
                    tokio::task::spawn_local(echo(listener.accept().await?.0, size));
                }
            }
            None => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                answer_on_a_thread(listener.local_addr()?.port(), "current_thread".into(), None)?;
                loop {
                    let stream = listener.accept().await?.0;
                    stream.set_nodelay(true)?;
                    tokio::task::spawn_local(echo(stream, size));
                }
            }
        }
    })
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin, size: usize) -> io::Result<()> {
    let mut buffer = vec![0; size];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn read_all(job: &ReadJob, file: &Arc<File>, slice: &Slice) -> Result<(), Failure> {
    let start = |_| {
        tokio::task::spawn_local(read_blocks(
            Arc::clone(file),
            slice.clone(),
            Block::new(job.block_size),
        ))
    };
    let tasks: Vec<_> = (0..job.depth).map(start).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn read_blocks(file: Arc<File>, slice: Slice, mut block: Block) -> Result<(), Failure> {
    loop {
        let (choice, begun) = slice.begin();
        let file = Arc::clone(&file);
        block = tokio::task::spawn_blocking(move || {
            file.read_exact_at(block.fill(), choice.offset).map(|()| block)
        })
        .await??;
        if !slice.end(choice, begun, &block)? {
            return Ok(());
        }
    }
}
