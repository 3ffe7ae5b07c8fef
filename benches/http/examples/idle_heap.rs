//! What an idle HTTP connection holds of the heap, by an allocator that counts: under hyper and
//! without it, on annulus and on tokio. The parts of it are told apart by what they add.
//!
//! ```text
//! cargo run --release --manifest-path benches/http/Cargo.toml --example idle_heap -- 10000
//! ```
#![allow(unsafe_code)] // An allocator is unsafe to write.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::{io, mem};

use annulus::io::PollStream;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

type Failure = Box<dyn std::error::Error>;

/// The system's, and a count of the bytes and of the sizes that are in use.
struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);
/// Allocations in use of each size up to this.
static SIZES: [AtomicI64; 16 << 10] = [const { AtomicI64::new(0) }; 16 << 10];

fn count(size: usize, sign: i64) {
    LIVE.fetch_add(sign * size as i64, Ordering::Relaxed);
    if let Some(cell) = SIZES.get(size) {
        cell.fetch_add(sign, Ordering::Relaxed);
    }
}

// SAFETY: everything is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The connections of all servers, which the clients hold.
static ANSWERED: AtomicUsize = AtomicUsize::new(0);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn main() -> Result<(), Failure> {
    let connections = std::env::args().nth(1).map_or(Ok(1000), |text| text.parse())?;
    println!(
        "PollStream<TcpStream>: {} bytes",
        mem::size_of::<PollStream<annulus::net::TcpStream>>()
    );
    println!("tokio's TcpStream: {} bytes", mem::size_of::<tokio::net::TcpStream>());
    for with_hyper in [false, true] {
        let kind = if with_hyper { "under hyper" } else { "without hyper" };
        report(&format!("annulus, {kind}"), connections, |connections| {
            annulus::block_on(on_annulus(connections, with_hyper))
        })?;
        report(&format!("tokio, {kind}"), connections, |connections| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(on_tokio(connections, with_hyper))
        })?;
    }
    Ok(())
}

/// The bytes and the sizes that were in use, when a server had but one connection.
struct Before {
    live: i64,
    sizes: Vec<i64>,
}

impl Before {
    fn now() -> Before {
        let sizes = SIZES.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
        Before { live: LIVE.load(Ordering::Relaxed), sizes }
    }
}

fn report(
    name: &str,
    connections: usize,
    run: impl FnOnce(usize) -> Result<(Before, Before), Failure>,
) -> Result<(), Failure> {
    let (before, after) = run(connections)?;
    println!("{name}: {} bytes a connection", (after.live - before.live) / connections as i64);
    let mut shares = BTreeMap::new();
    for (size, (before, after)) in before.sizes.iter().zip(&after.sizes).enumerate() {
        let more = after - before;
        if more * 2 >= connections as i64 {
            shares.insert(size, more as f64 / connections as f64);
        }
    }
    for (size, count) in shares {
        println!("    {count:.2} of {size} bytes");
    }
    Ok(())
}

/// Opens connections and has one request answered on each; the clients then hold them.
fn clients(port: u16, connections: usize) -> io::Result<Vec<TcpStream>> {
    (0..connections)
        .map(|_| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.write_all(REQUEST)?;
            let _ = stream.read(&mut [0; 256])?;
            ANSWERED.fetch_add(1, Ordering::Relaxed);
            Ok(stream)
        })
        .collect()
}

async fn on_annulus(connections: usize, with_hyper: bool) -> Result<(Before, Before), Failure> {
    let listener =
        annulus::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let port = listener.local_addr()?.port();
    drop(annulus::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = stream.into_poll();
            if with_hyper {
                drop(annulus::spawn(async move {
                    let answer =
                        |_| ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::new()))));
                    http1::Builder::new().serve_connection(stream, service_fn(answer)).await
                }));
            } else {
                drop(annulus::spawn(answer(stream)));
            }
        }
    }));
    let first = annulus::spawn_blocking(move || clients(port, 1)).await??;
    let before = Before::now();
    let crowd = annulus::spawn_blocking(move || clients(port, connections)).await??;
    let after = Before::now();
    drop((first, crowd));
    Ok((before, after))
}

async fn answer(mut stream: PollStream<annulus::net::TcpStream>) -> io::Result<()> {
    loop {
        let length = poll_fn(|context| stream.poll_fill_buf(context).map_ok(<[u8]>::len));
        match length.await? {
            0 => return Ok(()),
            length => stream.consume(length),
        }
        poll_fn(|context| stream.poll_write(context, REPLY)).await?;
    }
}

async fn on_tokio(connections: usize, with_hyper: bool) -> Result<(Before, Before), Failure> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if with_hyper {
                tokio::spawn(async move {
                    let answer =
                        |_| ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::new()))));
                    let stream = TokioIo::new(stream);
                    http1::Builder::new().serve_connection(stream, service_fn(answer)).await
                });
            } else {
                tokio::spawn(answer_on_tokio(stream));
            }
        }
    });
    let first = tokio::task::spawn_blocking(move || clients(port, 1)).await??;
    let before = Before::now();
    let crowd = tokio::task::spawn_blocking(move || clients(port, connections)).await??;
    let after = Before::now();
    drop((first, crowd));
    Ok((before, after))
}

async fn answer_on_tokio(stream: tokio::net::TcpStream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match stream.try_read(&mut [0; 1024]) {
            Ok(0) => return Ok(()),
            Ok(_) => drop(stream.try_write(REPLY)?),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
