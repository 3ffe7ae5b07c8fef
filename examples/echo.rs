//! cargo run --example echo -- 127.0.0.1:7000
//!
//! A server has a task per connection. This one sends back what it receives; try it with
//! `nc 127.0.0.1 7000`. With port 0 the kernel chooses, and the line that is printed says what.

use std::io;
use std::time::Duration;

use annulus::net::{TcpListener, TcpStream};
use annulus::time;

/// What one connection costs in memory.
const BUFFER_SIZE: usize = 16 * 1024;
/// How long a server waits after an error that concerns more than one connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Ends when the client has sent everything and got it back. Dropping the stream closes it.
async fn echo(stream: TcpStream) -> io::Result<()> {
    // An answer should not wait for the client to acknowledge the one before.
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(BUFFER_SIZE);
    loop {
        // An operation owns the buffer while the kernel works on it, and gives it back with the
        // result.
        let count;
        (count, buffer) = stream.read(buffer).await?;
        if count == 0 {
            return Ok(());
        }
        buffer = stream.write_all(buffer).await?;
    }
}

async fn serve(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Dropping the handle detaches the task: nobody waits for it.
                drop(annulus::spawn(async move {
                    if let Err(error) = echo(stream).await {
                        eprintln!("{peer}: {error}");
                    }
                }));
            }
            // Most often there is no descriptor left (EMFILE). The connection waits in the backlog
            // until another one ends.
            Err(error) => {
                eprintln!("cannot accept for now: {error}");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    annulus::block_on(serve(&address))
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}
