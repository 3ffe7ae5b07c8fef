//! tokio's single-threaded runtime: epoll for sockets, its thread pool for files.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use axum::serve::ListenerExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;
use tower_http::services::ServeDir;

use super::service::{serve_connection, service, whole_reply};
use crate::Contender;
use crate::harness::Failure;
use crate::harness::child::answer_on_a_thread;
use crate::work::{IdleServer, Job};

pub(crate) const TOKIO: Contender = Contender {
    name: "tokio",
    counted: "nothing: it does not count",
    is_optional: false,
    is_pool: false,
    environment: &[],
    takes: |_| true,
    serve: |job, _| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(serve(job))
    },
};

async fn serve(job: &Job) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    answer_on_a_thread(listener.local_addr()?.port(), "current_thread".into(), None)?;
    match job {
        Job::Plain { body_size, .. } => {
            let service = service(*body_size);
            loop {
                let stream = TokioIo::new(accept(&listener).await?);
                tokio::spawn(serve_connection(stream, service.clone()));
            }
        }
        Job::TlsEcho { identity, message_size, .. } => {
            let acceptor = TlsAcceptor::from(Arc::new(identity.server_config()?));
            loop {
                let (stream, acceptor) = (accept(&listener).await?, acceptor.clone());
                let size = *message_size;
                tokio::spawn(async move { echo(acceptor.accept(stream).await?, size).await });
            }
        }
        Job::Files { root, .. } => serve_files(listener, root).await,
        Job::Idle { server: IdleServer::Hyper, body_size, .. } => {
            let service = service(*body_size);
            loop {
                let stream = TokioIo::new(accept(&listener).await?);
                tokio::spawn(serve_connection(stream, service.clone()));
            }
        }
        Job::Idle { server: IdleServer::Adapter, body_size, .. } => {
            let reply = Arc::new(whole_reply(*body_size));
            loop {
                tokio::spawn(answer(accept(&listener).await?, Arc::clone(&reply)));
            }
        }
    }
}

async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let stream = listener.accept().await?.0;
    stream.set_nodelay(true)?;
    Ok(stream)
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
async fn answer(mut stream: TcpStream, reply: Arc<Vec<u8>>) -> io::Result<()> {
    loop {
        stream.readable().await?;
        let mut buffer = [0; 1024];
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => stream.write_all(&reply).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// As axum's users do it.
async fn serve_files(listener: TcpListener, root: &Path) -> Result<(), Failure> {
    let router = axum::Router::new().fallback_service(ServeDir::new(root));
    // Without it the server is slower, and no less right.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, router).await?)
}
