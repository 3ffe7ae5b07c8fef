//! cargo run --example select -- 1000
//!
//! A loop that drops an accept whenever a timer wins: the program of the essay "Async Rust is not
//! safe with io_uring". A connection that the kernel had taken for a dropped accept waits in the
//! listener for the next one. The argument is the number of connections.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use annulus::net::TcpListener;
use annulus::time;
use futures_util::future::{Either, select};

/// About as long as from one connection to the next, so that both win often.
const PAUSE: Duration = Duration::from_micros(500);
/// How long the server waits for a connection before it says that the rest is lost.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Connects one by one and keeps no connection. Returns how many were made.
fn connect(address: SocketAddr, count: u64) -> io::Result<u64> {
    for _ in 0..count {
        TcpStream::connect(address)?;
        thread::sleep(PAUSE);
    }
    Ok(count)
}

async fn serve(count: u64) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let client = thread::spawn(move || connect(address, count));
    let (mut served, mut timer_won) = (0, 0);
    let mut last = Instant::now();
    while served < count && last.elapsed() < LONGEST_PAUSE {
        // Each turn makes a new accept. The timer is asked first, so the accept is dropped even if
        // both are ready.
        match select(pin!(time::sleep(PAUSE)), pin!(listener.accept())).await {
            Either::Left(((), _accept)) => timer_won += 1,
            Either::Right((accepted, _sleep)) => {
                let (_stream, _peer) = accepted?;
                served += 1;
                last = Instant::now();
            }
        }
    }
    let made = client.join().expect("the client does not panic")?;
    println!("the timer won {timer_won} times");
    println!("served: {served}");
    println!("lost: {}", made - served);
    Ok(())
}

fn main() -> io::Result<()> {
    let count = std::env::args()
        .nth(1)
        .map_or(Ok(1000), |count| count.parse())
        .map_err(io::Error::other)?;
    annulus::block_on(serve(count))
}
