//! Reads, writes and flushes that are dropped wherever they wait corrupt nothing.
//!
//! `ANNULUS_TLS_DROPS` says how many drops there are; a release build has a million of its own
//! accord.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use annulus::io::{AsyncRead, AsyncWrite};
use annulus::tls::{ReadHalf, TlsStream, WriteHalf};
use annulus::{time, yield_now};
use futures_util::future::{Either, select, try_join4};
use sha2::{Digest, Sha256};

use crate::Sides;
use crate::common::{Random, poll_in_task, run_here, seed};
use crate::pipe::pair;
use crate::tcp::connected;

fn drops_wanted() -> u64 {
    let by_default = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
    std::env::var("ANNULUS_TLS_DROPS")
        .map_or(by_default, |text| text.parse().expect("ANNULUS_TLS_DROPS is a number"))
}

/// How many futures were dropped before they were ready.
#[derive(Clone)]
struct Drops {
    count: Rc<Cell<u64>>,
    random: Rc<Random>,
}

impl Drops {
    /// The output of a future, or `None` if it was dropped: after one poll, in a race, by a
    /// time-out.
    async fn race<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let output = match self.random.below(16) {
            0..10 => match poll_in_task(&mut future).await {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => {
                    yield_now().await;
                    None
                }
            },
            10..15 => match select(future, pin!(yield_now())).await {
                Either::Left((output, _)) => Some(output),
                Either::Right(_) => None,
            },
            _ => time::timeout(Duration::from_micros(100), future).await.ok(),
        };
        self.count.set(self.count.get() + u64::from(output.is_none()));
        output
    }

    async fn write<S>(&self, mut writer: WriteHalf<S>) -> io::Result<(Vec<u8>, usize)>
    where
        S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
    {
        let (mut hash, mut total) = (Sha256::new(), 0);
        while self.count.get() < drops_wanted() {
            let most = if self.random.below(50) == 0 { 100_000 } else { 300 };
            let bytes: Rc<[u8]> = self.random.bytes(self.random.up_to(most)).into();
            if let Some(written) = self.race(writer.write(Rc::clone(&bytes))).await {
                let (count, _) = written?;
                hash.update(&bytes[..count]);
                total += count;
            }
            if self.random.below(4) == 0 {
                self.race(writer.flush()).await.transpose()?;
            }
        }
        writer.shutdown().await?;
        Ok((hash.finalize().to_vec(), total))
    }

    async fn read<S>(&self, mut reader: ReadHalf<S>) -> io::Result<(Vec<u8>, usize)>
    where
        S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
    {
        let (mut hash, mut total) = (Sha256::new(), 0);
        loop {
            let room = Vec::with_capacity(self.random.up_to(20_000));
            let Some(read) = self.race(reader.read(room)).await else {
                continue;
            };
            let (count, bytes) = read?;
            if count == 0 {
                return Ok((hash.finalize().to_vec(), total));
            }
            hash.update(&bytes);
            total += count;
        }
    }
}

/// Both directions at once, each with its own reader and writer.
async fn exchange<S>(client: TlsStream<S>, server: TlsStream<S>, random: Random) -> io::Result<()>
where
    S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin + 'static,
{
    let drops = Drops { count: Rc::default(), random: Rc::new(random) };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let (there, back, read_there, read_back) = try_join4(
        drops.write(client_writes),
        drops.write(server_writes),
        drops.read(server_reads),
        drops.read(client_reads),
    )
    .await?;
    assert_eq!(there, read_there);
    assert_eq!(back, read_back);
    println!("{} drops, {} bytes there, {} back", drops.count.get(), there.1, back.1);
    Ok(())
}

#[test]
fn dropped_reads_and_writes_corrupt_nothing_in_memory() {
    let random = Random::new(seed());
    let sides = Sides::new();
    run_here(async {
        let pipes = pair(5000, Some(Random::new(random.next())));
        let (client, server) = sides.shake_hands(pipes).await?;
        exchange(client, server, random).await
    })
    .unwrap();
}

#[test]
fn dropped_reads_and_writes_corrupt_nothing_over_tcp() {
    let random = Random::new(seed());
    let sides = Sides::new();
    run_here(async {
        let (client, server) = connected(&sides).await?;
        exchange(client, server, random).await
    })
    .unwrap();
}
