//! monoio on its ring.

use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;

use monoio::fs::File;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{ListenerOpts, TcpListener, UnixListener};
use monoio::{IoUringDriver, Runtime, RuntimeBuilder};

use crate::block::Block;
use crate::harness::child::{EchoJob, Job, ReadJob, answer_on_a_thread, answer_with_slices};
use crate::harness::{Contender, Failure};
use crate::slices::{PEER, Slice, open};

pub(crate) const MONOIO: Contender = Contender {
    name: "monoio",
    serve: |job, control| match job {
        Job::Echo(job) => serve_echo(job),
        Job::Read(job) => {
            let mut runtime = runtime()?;
            let file = Rc::new(runtime.block_on(async { File::from_std(open(job)?) })?);
            answer_with_slices(control, "IoUringDriver".into(), |duration_ms, seed| {
                let slice = Slice::open(job, duration_ms, seed);
                runtime.block_on(read_all(job, &file, &slice))?;
                slice.close()
            })
        }
        Job::Copy(_) => Err("not compared".into()),
    },
    ..PEER
};

fn runtime() -> io::Result<Runtime<IoUringDriver>> {
    RuntimeBuilder::<IoUringDriver>::new().with_entries(1024).build()
}

fn serve_echo(job: &EchoJob) -> Result<(), Failure> {
    let size = job.read_size;
    runtime()?.block_on(async {
        match &job.unix_path {
            Some(path) => {
                // The default shares the port, which the kernel refuses for Unix sockets.
                let listener =
                    UnixListener::bind_with_config(path, &ListenerOpts::new().reuse_port(false))?;
                answer_on_a_thread(0, "IoUringDriver".into(), None)?;
                loop {
                    drop(monoio::spawn(echo(listener.accept().await?.0, size)));
                }
            }
            None => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                answer_on_a_thread(listener.local_addr()?.port(), "IoUringDriver".into(), None)?;
                loop {
                    let stream = listener.accept().await?.0;
                    stream.set_nodelay(true)?;
                    drop(monoio::spawn(echo(stream, size)));
                }
            }
        }
    })
}

async fn echo(mut stream: impl AsyncReadRent + AsyncWriteRentExt, size: usize) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(size);
    loop {
        let (result, received) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        let (result, sent) = stream.write_all(received).await;
        result?;
        buffer = sent;
    }
}

async fn read_all(job: &ReadJob, file: &Rc<File>, slice: &Slice) -> Result<(), Failure> {
    let start =
        |_| monoio::spawn(read_blocks(Rc::clone(file), slice.clone(), Block::new(job.block_size)));
    let tasks: Vec<_> = (0..job.depth).map(start).collect();
    for task in tasks {
        task.await?;
    }
    Ok(())
}

async fn read_blocks(file: Rc<File>, slice: Slice, mut block: Block) -> Result<(), Failure> {
    loop {
        let (choice, begun) = slice.begin();
        let (result, read) = file.read_at(block, choice.offset).await;
        result?;
        block = read;
        if !slice.end(choice, begun, &block)? {
            return Ok(());
        }
    }
}
