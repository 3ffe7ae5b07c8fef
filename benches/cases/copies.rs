//! A file to a socket: by `io::copy`, and beside it by sendfile(2) on a thread, which it does not
//! use. One operation is 1 MiB of a cached file, over TCP on the loopback device; a thread reads.
#![allow(unsafe_code)]

use std::fs;
use std::io::{self, Read, Write};
use std::net;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use annulus::fs::File;
use annulus::net::TcpStream;

use super::runtime;

const MIB: u64 = 1 << 20;
const FILE_SIZE: u64 = 64 * MIB;

/// A connection to a thread that reads all that comes.
fn connection() -> io::Result<(net::TcpStream, thread::JoinHandle<()>)> {
    let listener = net::TcpListener::bind("127.0.0.1:0")?;
    let stream = net::TcpStream::connect(listener.local_addr()?)?;
    let (mut peer, _) = listener.accept()?;
    let mut buffer = vec![0; MIB as usize];
    let reader =
        thread::spawn(move || while peer.read(&mut buffer).is_ok_and(|count| count > 0) {});
    Ok((stream, reader))
}

fn file() -> io::Result<fs::File> {
    let mut file = tempfile::tempfile()?;
    for _ in 0..FILE_SIZE / MIB {
        file.write_all(&[7; MIB as usize])?;
    }
    Ok(file)
}

fn timed(
    count: u64,
    send: impl AsyncFn(&File, &TcpStream, u64) -> io::Result<()>,
) -> io::Result<Duration> {
    let (stream, reader) = connection()?;
    let file = File::from(file()?);
    let elapsed = runtime().block_on(async {
        let stream = TcpStream::from_std(stream)?;
        let start = Instant::now();
        let mut left = count * MIB;
        while left > 0 {
            let part = left.min(FILE_SIZE);
            send(&file, &stream, part).await?;
            left -= part;
        }
        let elapsed = start.elapsed();
        stream.close().await?;
        file.close().await?;
        io::Result::Ok(elapsed)
    });
    drop(reader.join());
    elapsed
}

pub(super) fn by_copy(count: u64) -> Duration {
    let copied = timed(count, async |file, stream, part| {
        use annulus::io::AsyncRead;
        file.rewind().await?;
        annulus::io::copy(&mut file.take(part), &mut &*stream).await.map(drop)
    });
    copied.expect("nobody ends the connection")
}

pub(super) fn by_sendfile(count: u64) -> Duration {
    let sent = timed(count, async |file, stream, part| {
        let (from, to) = (file.as_raw_fd(), stream.as_raw_fd());
        let mut offset = 0;
        while (offset as u64) < part {
            let length = MIB.min(part - offset as u64) as usize;
            let send = move || {
                // SAFETY: the offset outlives the call, which takes no other memory.
                let count = unsafe { libc::sendfile(to, from, &mut offset, length) };
                if count < 0 { Err(io::Error::last_os_error()) } else { Ok(offset) }
            };
            offset = annulus::spawn_blocking(send).await??;
        }
        Ok(())
    });
    sent.expect("nobody ends the connection")
}
