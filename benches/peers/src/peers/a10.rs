//! a10 on its ring. It is a library of operations and brings no executor: tasks are async-task's,
//! in one queue, and the loop polls the ring when the queue is empty.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::rc::Rc;

use a10::net::option::TcpNoDelay;
use a10::net::{NoAddress, sync_set_socket_option};
use a10::{AsyncFd, Extract, Ring};
use async_task::{Runnable, Task};
use futures_util::FutureExt;

use crate::block::Block;
use crate::harness::child::{EchoJob, Job, ReadJob, answer_on_a_thread, answer_with_slices};
use crate::harness::{Contender, Failure};
use crate::slices::{PEER, Slice, open};

pub(crate) const A10: Contender = Contender {
    name: "a10",
    serve: |job, control| match job {
        Job::Echo(job) => serve_echo(job),
        Job::Read(job) => {
            let mut ring = ring()?;
            let file = Rc::new(AsyncFd::new(open(job)?.into(), ring.sq()));
            answer_with_slices(control, SETUP.into(), |duration_ms, seed| {
                let slice = Slice::open(job, duration_ms, seed);
                block_on(&mut ring, read_all(job.clone(), Rc::clone(&file), slice.clone()))??;
                slice.close()
            })
        }
        Job::Copy(_) => Err("not compared".into()),
    },
    ..PEER
};

const SETUP: &str = "SINGLE_ISSUER, DEFER_TASKRUN, 1024 submissions; a queue of async-task's tasks";

fn ring() -> io::Result<Ring> {
    Ring::config()
        .single_issuer()
        .defer_task_run()
        .with_submission_queue_size(1024)
        .with_completion_queue_size(8192)
        .build()
}

thread_local! {
    static WOKEN: RefCell<VecDeque<Runnable>> = const { RefCell::new(VecDeque::new()) };
}

fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    let (runnable, task) = async_task::spawn_local(future, |runnable| {
        WOKEN.with_borrow_mut(|woken| woken.push_back(runnable))
    });
    runnable.schedule();
    task
}

fn block_on<T: 'static>(
    ring: &mut Ring,
    future: impl Future<Output = T> + 'static,
) -> io::Result<T> {
    let task = spawn(future);
    loop {
        while let Some(runnable) = WOKEN.with_borrow_mut(VecDeque::pop_front) {
            runnable.run();
        }
        if task.is_finished() {
            return Ok(task.now_or_never().expect("it has ended"));
        }
        ring.poll(None)?;
    }
}

fn serve_echo(job: &EchoJob) -> Result<(), Failure> {
    let size = job.read_size;
    let (listener, port): (OwnedFd, u16) = match &job.unix_path {
        Some(path) => (UnixListener::bind(path)?.into(), 0),
        None => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = listener.local_addr()?.port();
            (listener.into(), port)
        }
    };
    let (is_tcp, mut ring) = (job.unix_path.is_none(), ring()?);
    let listener = AsyncFd::new(listener, ring.sq());
    answer_on_a_thread(port, SETUP.into(), None)?;
    block_on(&mut ring, async move {
        loop {
            let (stream, NoAddress) = listener.accept().await?;
            if is_tcp {
                let socket = stream.as_fd().expect("it is no direct descriptor");
                sync_set_socket_option::<TcpNoDelay>(socket, true)?;
            }
            spawn(echo(stream, size)).detach();
        }
    })?
}

async fn echo(stream: AsyncFd, size: usize) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(size);
    loop {
        buffer = stream.recv(buffer).await?;
        if buffer.is_empty() {
            return Ok(());
        }
        buffer = stream.send_all(buffer).extract().await?;
        buffer.clear();
    }
}

async fn read_all(job: ReadJob, file: Rc<AsyncFd>, slice: Slice) -> Result<(), Failure> {
    let start = |_| spawn(read_blocks(Rc::clone(&file), slice.clone(), Block::new(job.block_size)));
    let tasks: Vec<_> = (0..job.depth).map(start).collect();
    for task in tasks {
        task.await?;
    }
    Ok(())
}

async fn read_blocks(file: Rc<AsyncFd>, slice: Slice, mut block: Block) -> Result<(), Failure> {
    loop {
        let (choice, begun) = slice.begin();
        block.clear();
        block = file.read(block).from(choice.offset).await?;
        if !slice.end(choice, begun, &block)? {
            return Ok(());
        }
    }
}
