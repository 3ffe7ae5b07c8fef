//! glommio on its rings.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use glommio::io::{BufferedFile, DmaFile, ReadResult};
use glommio::net::{TcpListener, UnixListener};
use glommio::{GlommioError, LocalExecutor};

use crate::harness::child::{EchoJob, Job, ReadJob, answer_on_a_thread, answer_with_slices};
use crate::harness::{Contender, Failure};
use crate::slices::{PEER, Slice};

pub(crate) const GLOMMIO: Contender = Contender {
    name: "glommio",
    serve: |job, control| match job {
        Job::Echo(job) => serve_echo(job),
        Job::Read(job) => {
            let executor = LocalExecutor::default();
            let file = Rc::new(executor.run(Source::open(job)).map_err(|error| error.to_string())?);
            answer_with_slices(control, "default".into(), |duration_ms, seed| {
                let slice = Slice::open(job, duration_ms, seed);
                executor.run(read_all(job, &file, &slice))?;
                slice.close()
            })
        }
        Job::Copy(_) => Err("not compared".into()),
    },
    ..PEER
};

fn serve_echo(job: &EchoJob) -> Result<(), Failure> {
    let size = job.read_size;
    LocalExecutor::default().run(async {
        match &job.unix_path {
            Some(path) => {
                let listener = UnixListener::bind(path).map_err(|error| error.to_string())?;
                answer_on_a_thread(0, "default".into(), None)?;
                loop {
                    let stream = listener.accept().await.map_err(|error| error.to_string())?;
                    glommio::spawn_local(echo(stream, size)).detach();
                }
            }
            None => {
                let listener =
                    TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
                let port = listener.local_addr().map_err(|error| error.to_string())?.port();
                answer_on_a_thread(port, "default".into(), None)?;
                loop {
                    let stream = listener.accept().await.map_err(|error| error.to_string())?;
                    stream.set_nodelay(true).map_err(|error| error.to_string())?;
                    glommio::spawn_local(echo(stream, size)).detach();
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

/// It has a type for each kind of reading.
enum Source {
    Cached(BufferedFile),
    Direct(DmaFile),
}

impl Source {
    async fn open(job: &ReadJob) -> Result<Source, GlommioError<()>> {
        Ok(if job.direct {
            Source::Direct(DmaFile::open(&job.path).await?)
        } else {
            Source::Cached(BufferedFile::open(&job.path).await?)
        })
    }

    async fn read_at(&self, offset: u64, size: usize) -> Result<ReadResult, GlommioError<()>> {
        match self {
            Source::Cached(file) => file.read_at(offset, size).await,
            Source::Direct(file) => file.read_at_aligned(offset, size).await,
        }
    }
}

async fn read_all(job: &ReadJob, file: &Rc<Source>, slice: &Slice) -> Result<(), Failure> {
    let failure = Rc::new(RefCell::new(None));
    let start =
        |_| glommio::spawn_local(read_blocks(Rc::clone(file), slice.clone(), job.block_size));
    let tasks: Vec<_> = (0..job.depth).map(start).collect();
    for task in tasks {
        if let Err(error) = task.await {
            failure.replace(Some(error));
        }
    }
    failure.take().map_or(Ok(()), Err)
}

async fn read_blocks(file: Rc<Source>, slice: Slice, size: usize) -> Result<(), Failure> {
    loop {
        let (choice, begun) = slice.begin();
        let block = file.read_at(choice.offset, size).await.map_err(|error| error.to_string())?;
        if !slice.end(choice, begun, &block)? {
            return Ok(());
        }
    }
}
