//! cargo run --example shutdown -- 127.0.0.1:7000
//!
//! The end of a server: on Ctrl-C or SIGTERM it accepts no more, lets its connections end by a
//! deadline, and cancels the rest. Try it with `nc 127.0.0.1 7000`.

use std::io;
use std::time::Duration;

use annulus::net::{TcpListener, TcpStream};
use annulus::signal::unix::{SignalKind, signal};
use annulus::{JoinSet, time};
use futures_util::{FutureExt, StreamExt, select};

/// How long connections may go on after the signal.
const GRACE: Duration = Duration::from_secs(2);

async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut chunks = stream.chunks();
    while let Some(chunk) = chunks.next().await {
        stream.write_all(chunk?).await?;
    }
    Ok(())
}

async fn serve(address: &str) -> io::Result<()> {
    // From here on these signals end nothing by themselves.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let mut connections = JoinSet::new();
    loop {
        select! {
            // It loses nothing when a signal wins: the connection waits in the listener.
            accepted = listener.accept().fuse() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(echo(stream))),
                // Most often there is no descriptor left. The connection waits.
                Err(_) => time::sleep(Duration::from_millis(100)).await,
            },
            _ = interrupts.next() => break,
            _ = terminations.next() => break,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    println!("{} connections may end within {GRACE:?}", connections.len());
    let ended = async { while connections.join_next().await.is_some() {} };
    if time::timeout(GRACE, ended).await.is_err() {
        println!("{} connections are cancelled", connections.len());
        connections.shutdown().await;
    }
    println!("bye");
    Ok(())
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    annulus::block_on(serve(&address))
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}
