//! tokio-uring: a ring beside tokio's single-threaded runtime.

use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;

use tokio_uring::fs::File;
use tokio_uring::net::{TcpListener, TcpStream};

use crate::block::Block;
use crate::harness::child::{EchoJob, Job, ReadJob, answer_on_a_thread, answer_with_slices};
use crate::harness::workloads::{Transport, Work};
use crate::harness::{Contender, Failure};
use crate::slices::{PEER, Slice, open};

pub(crate) const TOKIO_URING: Contender = Contender {
    name: "tokio-uring",
    // Its Unix listener asks for a shared port, which the kernel refuses, and cannot be made
    // otherwise.
    takes: |work| {
        (PEER.takes)(work) && !matches!(work, Work::Echo { transport: Transport::Unix, .. })
    },
    serve: |job, control| match job {
        Job::Echo(job) => serve_echo(job),
        Job::Read(job) => {
            let runtime = tokio_uring::Runtime::new(&tokio_uring::builder())?;
            let file = Rc::new(File::from_std(open(job)?));
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
    tokio_uring::builder().start(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        answer_on_a_thread(listener.local_addr()?.port(), "default".into(), None)?;
        loop {
            let stream = listener.accept().await?.0;
            stream.set_nodelay(true)?;
            drop(tokio_uring::spawn(echo(stream, size)));
        }
    })
}

async fn echo(stream: TcpStream, size: usize) -> io::Result<()> {
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
    let start = |_| {
        tokio_uring::spawn(read_blocks(Rc::clone(file), slice.clone(), Block::new(job.block_size)))
    };
    let tasks: Vec<_> = (0..job.depth).map(start).collect();
    for task in tasks {
        task.await??;
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
