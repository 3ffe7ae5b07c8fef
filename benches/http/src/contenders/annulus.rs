//! annulus: the ring under hyper and rustls.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use annulus::Builder;
use annulus::io::PollStream;
use annulus::net::{TcpListener, TcpStream};
use futures_rustls::TlsAcceptor;
use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::service::{serve_connection, service, whole_reply};
use crate::Contender;
use crate::harness::Failure;
use crate::harness::child::{Control, Counters, Reply, Request};
use crate::work::{IdleServer, Job, Work};

pub(crate) const ANNULUS: Contender = Contender {
    name: "annulus",
    counted: "calls of io_uring_enter(2), as counted by the runtime",
    is_optional: false,
    is_pool: false,
    environment: &[],
    takes: |work| !matches!(work, Work::Files { .. }),
    serve: |job, control| {
        let runtime = Builder::new().build()?;
        let setup = runtime.ring().to_string();
        runtime.block_on(serve(job, setup, control))
    },
};

/// The same program where io_uring is blocked: its entries are executed with epoll and threads.
pub(crate) const ANNULUS_SOFTWARE: Contender = Contender {
    name: "annulus-software",
    counted: "rounds of the software ring, as counted by the runtime; it makes further system calls",
    environment: &[("ANNULUS_RING", "software")],
    ..ANNULUS
};

async fn serve(job: &Job, setup: String, control: &mut Control) -> Result<(), Failure> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let port = listener.local_addr()?.port();
    drop(annulus::spawn(accept_all(listener, job.clone())));
    control.reply(&Reply::Ready { port, setup })?;
    answer_requests().await
}

/// Reads the parent's requests on another thread, because stdin is a blocking pipe, and answers
/// them on this one.
async fn answer_requests() -> Result<(), Failure> {
    loop {
        let request = annulus::spawn_blocking(|| Control::open().next::<Request>()).await?;
        match request? {
            None => return Ok(()),
            Some(Request::Counters) => {
                let enters = annulus::metrics().enters;
                Control::open().reply(&Reply::Counters(Counters::now(Some(enters))))?;
            }
            Some(other) => return Err(format!("a server cannot do {other:?}").into()),
        }
    }
}

/// An error ends it; the load generator reports what it then misses.
async fn accept_all(listener: TcpListener, job: Job) -> Result<(), Failure> {
    match &job {
        Job::Plain { body_size, .. } | Job::Idle { server: IdleServer::Hyper, body_size, .. } => {
            let service = service(*body_size);
            loop {
                let stream = accept(&listener).await?;
                drop(annulus::spawn(serve_connection(stream, service.clone())));
            }
        }
        Job::TlsEcho { identity, message_size, .. } => {
            let acceptor = TlsAcceptor::from(Arc::new(identity.server_config()?));
            loop {
                let (stream, acceptor) = (accept(&listener).await?, acceptor.clone());
                let size = *message_size;
                drop(annulus::spawn(
                    async move { echo(acceptor.accept(stream).await?, size).await },
                ));
            }
        }
        Job::Files { root, .. } => serve_files(listener, root).await,
        Job::Idle { server: IdleServer::Adapter, body_size, .. } => {
            let reply = Rc::new(whole_reply(*body_size));
            loop {
                drop(annulus::spawn(answer(accept(&listener).await?, Rc::clone(&reply))));
            }
        }
    }
}

async fn accept(listener: &TcpListener) -> io::Result<PollStream<TcpStream>> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream.into_poll())
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin, size: usize) -> io::Result<()> {
    let mut buffer = vec![0; size];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
        stream.flush().await?;
    }
}

/// Answers each request, whose head comes at once, without hyper. Nobody holds a buffer between
/// requests.
async fn answer(mut stream: PollStream<TcpStream>, reply: Rc<Vec<u8>>) -> io::Result<()> {
    loop {
        let count =
            poll_fn(|context| stream.poll_fill_buf(context).map_ok(<[u8]>::len)).await?;
        if count == 0 {
            return Ok(());
        }
        stream.consume(count);
        stream.write_all(&reply).await?;
    }
}

async fn serve_files(_listener: TcpListener, _root: &Path) -> Result<(), Failure> {
    Err("not compared".into())
}
