//! cargo run --release --example proxy -- 127.0.0.1:7000 127.0.0.1:8080
//!
//! A TCP proxy: what comes to the first address goes to the second, and the answers come back. It
//! receives into buffers of the runtime and sends these on, so a connection that waits holds no
//! memory for bytes, and no byte is copied in this program.

use std::io;
use std::time::Duration;

use annulus::io::copy_bidirectional;
use annulus::net::{TcpListener, TcpStream};
use annulus::time;

/// How long to wait after an error that concerns more than one connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the other side may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One client, until both directions have ended. An end of one direction is passed on, and the
/// other goes on.
async fn relay(client: TcpStream, target: &str) -> io::Result<()> {
    let server = time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await??;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional(&client, &server).await?;
    Ok(())
}

async fn serve(address: &str, target: &'static str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept().await {
            Ok((client, peer)) => drop(annulus::spawn(async move {
                if let Err(error) = relay(client, target).await {
                    eprintln!("{peer}: {error}");
                }
            })),
            // Most often there is no descriptor left (EMFILE). The connection waits.
            Err(error) => {
                eprintln!("cannot accept for now: {error}");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(target)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: proxy ADDRESS TARGET");
        std::process::exit(2);
    };
    annulus::block_on(serve(&address, target.leak()))
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}
