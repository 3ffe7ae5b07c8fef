//! cargo run --manifest-path benches/peers/Cargo.toml --example select -- monoio 2000
//!
//! The loop of `examples/select.rs` on other runtimes: it drops an accept whenever a timer wins,
//! and counts the connections that never come out of an accept. The arguments are the runtime and
//! the number of connections.

use std::error::Error;
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};

/// About as long as from one connection to the next, so that both win often.
const PAUSE: Duration = Duration::from_micros(500);
/// How long the server waits for a connection before it says that the rest is lost.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The kernel chooses the port.
const ANY: &str = "127.0.0.1:0";

fn connect(address: SocketAddr, count: u64) -> std::io::Result<u64> {
    for _ in 0..count {
        TcpStream::connect(address)?;
        thread::sleep(PAUSE);
    }
    Ok(count)
}

async fn serve<S, A, R, E>(
    count: u64,
    address: SocketAddr,
    sleep: impl Fn() -> S,
    accept: impl Fn() -> A,
) where
    S: Future,
    A: Future<Output = Result<R, E>>,
    E: Error,
{
    let client = thread::spawn(move || connect(address, count));
    let (mut served, mut timer_won) = (0, 0);
    let mut last = Instant::now();
    while served < count && last.elapsed() < LONGEST_PAUSE {
        match select(pin!(sleep()), pin!(accept())).await {
            Either::Left(_) => timer_won += 1,
            Either::Right((accepted, _sleep)) => {
                accepted.expect("a connection");
                served += 1;
                last = Instant::now();
            }
        }
    }
    let made = client.join().expect("the client does not panic").expect("the server listens");
    println!("the timer won {timer_won} times");
    println!("served: {served}");
    println!("lost: {}", made - served);
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let runtime = arguments.next().ok_or("which runtime?")?;
    let count = arguments.next().map_or(Ok(2000), |count| count.parse())?;
    match runtime.as_str() {
        "annulus" => annulus::block_on(async {
            let listener = annulus::net::TcpListener::bind(ANY).await?;
            let address = listener.local_addr()?;
            serve(count, address, || annulus::time::sleep(PAUSE), || listener.accept()).await;
            Ok(())
        }),
        "compio" => compio::runtime::Runtime::new()?.block_on(async {
            let listener = compio::net::TcpListener::bind(ANY).await?;
            let address = listener.local_addr()?;
            serve(count, address, || compio::time::sleep(PAUSE), || listener.accept()).await;
            Ok(())
        }),
        "glommio" => glommio::LocalExecutor::default().run(async {
            let listener = glommio::net::TcpListener::bind(ANY)?;
            let address = listener.local_addr()?;
            serve(count, address, || glommio::timer::sleep(PAUSE), || listener.accept()).await;
            Ok(())
        }),
        "monoio" => {
            let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().enable_timer();
            builder.build()?.block_on(async {
                let listener = monoio::net::TcpListener::bind(ANY)?;
                let address = listener.local_addr()?;
                serve(count, address, || monoio::time::sleep(PAUSE), || listener.accept()).await;
                Ok(())
            })
        }
        "tokio" => {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build()?.block_on(async {
                let listener = tokio::net::TcpListener::bind(ANY).await?;
                let address = listener.local_addr()?;
                serve(count, address, || tokio::time::sleep(PAUSE), || listener.accept()).await;
                Ok(())
            })
        }
        "tokio-uring" => tokio_uring::start(async {
            let listener = tokio_uring::net::TcpListener::bind(ANY.parse()?)?;
            let address = listener.local_addr()?;
            serve(count, address, || tokio::time::sleep(PAUSE), || listener.accept()).await;
            Ok(())
        }),
        other => Err(format!("no runtime here is called {other}").into()),
    }
}
