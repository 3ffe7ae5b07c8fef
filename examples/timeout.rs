//! cargo run --example timeout
//!
//! Two kinds of deadline. One on an operation gives back the buffer and reports what the operation
//! really did. One around any future drops it, with its buffers; bytes that it was just reading
//! wait in the stream for the next read.

use std::io;
use std::time::Duration;

use annulus::net::UnixStream;
use annulus::time;

const TIMEOUT: Duration = Duration::from_millis(50);

/// A question and its answer: several operations that are to be in time together.
async fn ask(stream: &UnixStream) -> io::Result<Vec<u8>> {
    stream.write_all("how much longer?").await?;
    Ok(stream.read_exact(Vec::with_capacity(1024)).await?)
}

fn main() -> io::Result<()> {
    annulus::block_on(async {
        let (client, server) = UnixStream::pair()?;

        // The operation is cancelled when the time is up. It may still win that race, and then this
        // is no error but its result.
        let buffer = match client.read(Vec::with_capacity(1024)).timeout(TIMEOUT).await {
            Ok((count, _)) => {
                return Err(io::Error::other(format!("{count} bytes that nobody has sent")));
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => error.into_buffer(),
            Err(error) => return Err(error.into()),
        };
        println!(
            "nothing came within {TIMEOUT:?}, and the buffer of {} bytes is back",
            buffer.capacity()
        );

        // The same buffer once more, and this time the bytes are there.
        server.write_all("hello").await?;
        let (count, buffer) = client.read(buffer).timeout(TIMEOUT).await?;
        println!("{count} bytes came in time: {:?}", String::from_utf8_lossy(&buffer));

        // A composition has no single buffer to give back. How far it came is not reported: the
        // question was sent all the same.
        match time::timeout(TIMEOUT, ask(&client)).await {
            Ok(answer) => println!("the answer: {:?}", String::from_utf8_lossy(&answer?)),
            Err(elapsed) => println!(
                "no answer within {TIMEOUT:?} ({elapsed}); bytes that come late are for the next read"
            ),
        }
        let (_, question) = server.read(buffer).await?;
        println!("the other side was asked: {:?}", String::from_utf8_lossy(&question));
        Ok(())
    })
}
