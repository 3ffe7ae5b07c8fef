//! cargo run --release --features http --example static_server -- --list DIRECTORY
//!
//! Serves the files of a directory by HTTP/1.1 and HTTP/2. A file is opened, asked for its length
//! and time, and read by operations of the ring, beside the sockets and on the same thread. A small
//! file takes an open and a read. A large one is read while it is sent, at the pace of the client.
//! Clients get ranges, and files that they have already are not sent again. No path leads out of
//! the directory. On Ctrl-C or SIGTERM it accepts no more, and responses that are under way go on.
//! Try it with `curl -r 0-99 http://127.0.0.1:8080/`.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use annulus::fs::Dir;
use annulus::http::{Body, Server, service_fn};
use annulus::net::TcpListener;
use annulus::signal::unix::{SignalKind, signal};
use clap::Parser;
use futures_util::StreamExt;
use futures_util::future::select;
use http::Request;

mod conditions;
mod content;
mod range;
mod site;

use site::Site;

#[derive(Parser)]
struct Options {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: String,
    /// Show the names in a directory that has no index.html
    #[arg(long)]
    list: bool,
    /// Serve files whose names begin with a dot, too
    #[arg(long)]
    hidden: bool,
    /// Read around the page cache: for more files than fit into it
    #[arg(long)]
    direct: bool,
    /// What is served
    directory: PathBuf,
}

async fn serve(options: &Options) -> io::Result<()> {
    let named =
        |name: &str, error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    let root = Dir::open_ambient_dir(&options.directory).await;
    let site = Rc::new(Site {
        root: root.map_err(|error| named(&options.directory.display().to_string(), error))?,
        lists: options.list,
        shows_hidden: options.hidden,
        is_direct: options.direct,
    });
    // From here on these signals end nothing by themselves.
    let (mut interrupts, mut terminations) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let listener = TcpListener::bind(&options.address).await;
    let listener = listener.map_err(|error| named(&options.address, error))?;
    println!("listening on {}", listener.local_addr()?);
    let answer = service_fn(move |request: Request<Body>| {
        let site = Rc::clone(&site);
        async move { Ok::<_, Infallible>(site.respond(&request).await) }
    });
    let stop = async move {
        select(interrupts.next(), terminations.next()).await;
    };
    let served = Server::new().serve(listener, answer).with_graceful_shutdown(stop).await;
    eprintln!("{} requests on {} connections", served.requests, served.connections);
    Ok(())
}

fn main() -> io::Result<()> {
    annulus::block_on(serve(&Options::parse()))
}
