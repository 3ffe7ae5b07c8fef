//! cargo run --release --example copy -- SOURCE TARGET
//!
//! Many operations in flight on one file. A fixed number of workers each have one buffer, and take
//! the next chunk of the file until there is none: memory does not grow with the file. They run
//! within one task, so they borrow what they share.

use std::cell::Cell;
use std::io;
use std::time::Instant;

use annulus::buf::IoBuf;
use annulus::fs::{self, File};
use futures_util::future::try_join_all;
use indicatif::{ProgressBar, ProgressStyle};

/// How many chunks are in flight, and how large each is.
const WORKERS: usize = 16;
const CHUNK_SIZE: usize = 256 * 1024;

async fn copy_chunks(
    source: &File,
    target: &File,
    rest: &Cell<std::ops::Range<u64>>,
    bar: &ProgressBar,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK_SIZE);
    loop {
        let range = rest.take();
        let offset = range.start;
        let size = CHUNK_SIZE.min((range.end - offset) as usize);
        rest.set(offset + size as u64..range.end);
        if size == 0 {
            return Ok(());
        }
        // A slice is a view that owns the buffer. The last chunk of the file is a short one.
        let slice = source.read_exact_at(buffer.slice(..size), offset).await?;
        buffer = target.write_all_at(slice, offset).await?.into_inner();
        bar.inc(size as u64);
    }
}

async fn copy(from: &str, to: &str) -> io::Result<u64> {
    let refuse = |sentence: String| Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
    let source = File::open(from).await.map_err(|error| about(from, error))?;
    let found = source.metadata().await?;
    if !found.is_file() {
        return refuse(format!("{from} is not a regular file"));
    }
    // Creating the target empties it, so this must come before.
    match fs::metadata(to).await {
        Ok(other) if (other.dev(), other.ino()) == (found.dev(), found.ino()) => {
            return refuse(format!("{from} and {to} are the same file"));
        }
        Ok(other) if !other.is_file() => return refuse(format!("{to} is not a regular file")),
        _ => {}
    }
    let target = File::create(to).await.map_err(|error| about(to, error))?;

    let style =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec}")
            .map_err(io::Error::other)?;
    let bar = ProgressBar::new(found.len()).with_style(style);
    let rest = Cell::new(0..found.len());
    try_join_all((0..WORKERS).map(|_| copy_chunks(&source, &target, &rest, &bar))).await?;
    bar.finish_and_clear();

    // Until here the bytes may be in memory only. An error that the device has to report comes now,
    // or from close.
    target.sync_all().await?;
    target.close().await?;
    Ok(found.len())
}

fn about(path: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = &arguments[..] else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: copy SOURCE TARGET"));
    };
    let start = Instant::now();
    let bytes = annulus::block_on(copy(from, to))?;
    let seconds = start.elapsed().as_secs_f64();
    println!("copied {bytes} bytes in {seconds:.3} s: {:.1} MB/s", bytes as f64 / 1e6 / seconds);
    Ok(())
}
