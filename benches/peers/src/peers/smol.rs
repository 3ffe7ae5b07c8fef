//! smol: sockets on epoll by way of its reactor, files on its thread pool.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;

use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::TcpListener;
use smol::net::unix::UnixListener;
use smol::{LocalExecutor, Task};

use crate::block::Block;
use crate::harness::child::{EchoJob, Job, ReadJob, answer_on_a_thread, answer_with_slices};
use crate::harness::{Contender, Failure};
use crate::slices::{PEER, Slice, open};

pub(crate) const SMOL: Contender = Contender {
    name: "smol",
    is_pool: true,
    serve: |job, control| match job {
        Job::Echo(job) => serve_echo(job),
        Job::Read(job) => {
            let file = Arc::new(open(job)?);
            answer_with_slices(control, "LocalExecutor".into(), |duration_ms, seed| {
                let slice = Slice::open(job, duration_ms, seed);
                let executor = LocalExecutor::new();
                smol::block_on(executor.run(read_all(job, &executor, &file, &slice)))?;
                slice.close()
            })
        }
        Job::Copy(_) => Err("not compared".into()),
    },
    ..PEER
};

fn serve_echo(job: &EchoJob) -> Result<(), Failure> {
    let size = job.read_size;
    let executor = Rc::new(LocalExecutor::new());
    smol::block_on(executor.run(async {
        match &job.unix_path {
            Some(path) => {
                let listener = UnixListener::bind(path)?;
                answer_on_a_thread(0, "LocalExecutor".into(), None)?;
                loop {
                    executor.spawn(echo(listener.accept().await?.0, size)).detach();
                }
            }
            None => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                answer_on_a_thread(listener.local_addr()?.port(), "LocalExecutor".into(), None)?;
                loop {
                    let stream = listener.accept().await?.0;
                    stream.set_nodelay(true)?;
                    executor.spawn(echo(stream, size)).detach();
                }
            }
        }
    }))
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

async fn read_all(
    job: &ReadJob,
    executor: &LocalExecutor<'_>,
    file: &Arc<File>,
    slice: &Slice,
) -> Result<(), Failure> {
    let start = |_| {
        executor.spawn(read_blocks(Arc::clone(file), slice.clone(), Block::new(job.block_size)))
    };
    let tasks: Vec<Task<_>> = (0..job.depth).map(start).collect();
    for task in tasks {
        task.await?;
    }
    Ok(())
}

async fn read_blocks(file: Arc<File>, slice: Slice, mut block: Block) -> Result<(), Failure> {
    loop {
        let (choice, begun) = slice.begin();
        let file = Arc::clone(&file);
        block =
            smol::unblock(move || file.read_exact_at(block.fill(), choice.offset).map(|()| block))
                .await?;
        if !slice.end(choice, begun, &block)? {
            return Ok(());
        }
    }
}
