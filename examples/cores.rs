//! cargo run --example cores -- 127.0.0.1:7000
//!
//! A server on all processors that it may use: for each a pinned thread with a runtime and a
//! listener of its own, on one port. It tells each client the processor that serves it; try it a
//! few times with `nc 127.0.0.1 7000`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use annulus::net::{self, ListenOptions, TcpStream};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

async fn serve(stream: TcpStream) -> io::Result<()> {
    stream.write_all(format!("processor {}\n", sched_getcpu())).await?;
    Ok(())
}

/// One thread of the server. It pins itself before it makes its runtime.
fn work(processor: usize, listener: TcpListener) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only)?;
    annulus::block_on(async {
        let listener = net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            annulus::spawn(serve(stream));
        }
    })
}

/// Listeners that share one port. All are made before the first serves, so that each gets its part
/// of the connections from the beginning, and an error ends the program before it serves anybody.
async fn listen(mut address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let listener = ListenOptions::new().reuse_port(true).bind(address).await?;
        address = listener.local_addr()?; // with port 0 the first has chosen
        listeners.push(listener.into_std().await);
    }
    println!("listening on {address}");
    Ok(listeners)
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let address = address.parse().map_err(io::Error::other)?;
    let allowed = sched_getaffinity(None)?;
    let processors: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    let listeners = annulus::block_on(listen(address, processors.len()))?;
    let mut threads = Vec::new();
    for (processor, listener) in processors.into_iter().zip(listeners) {
        threads.push(thread::spawn(move || work(processor, listener)));
    }
    threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
}
