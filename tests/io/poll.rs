//! Streams by polls, through the traits of futures-io.
#![cfg(feature = "futures-io")]

use std::io;

use annulus::net::UnixStream;
use futures_util::{AsyncReadExt, AsyncWriteExt};

#[test]
fn what_is_written_arrives_and_the_end_is_told() -> io::Result<()> {
    annulus::block_on(async {
        let (ours, theirs) = UnixStream::pair()?;
        let (mut ours, theirs) = (ours.into_poll(), theirs);
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
        let reading = annulus::spawn(async move {
            let mut all = Vec::new();
            theirs.into_poll().read_to_end(&mut all).await.map(|_| all)
        });
        ours.write_all(&sent).await?;
        ours.close().await?;
        assert!(reading.await.unwrap()? == sent);
        Ok(())
    })
}

#[test]
fn what_is_not_flushed_is_sent_after_a_drop() -> io::Result<()> {
    annulus::block_on(async {
        let (ours, theirs) = UnixStream::pair()?;
        let mut ours = ours.into_poll();
        assert_eq!(ours.write(b"hello").await?, 5);
        drop(ours);
        assert_eq!(theirs.read_exact(vec![0; 5]).await?, b"hello");
        assert_eq!(theirs.read(vec![0; 5]).await?.0, 0);
        Ok(())
    })
}

#[test]
fn what_is_not_read_stays_in_the_stream() -> io::Result<()> {
    annulus::block_on(async {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.write_all("hello world").await?;
        let mut ours = ours.into_poll();
        let mut five = [0; 5];
        ours.read_exact(&mut five).await?;
        let ours = ours.into_inner().await?;
        assert_eq!(&five, b"hello");
        assert_eq!(ours.read_exact(vec![0; 6]).await?, b" world");
        Ok(())
    })
}
