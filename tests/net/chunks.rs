//! Receiving in buffers of the runtime.

use futures_util::StreamExt;

use annulus::net::UnixStream;
use annulus::spawn;

use crate::common::run;

#[test]
fn an_echo_of_chunks_gives_back_what_it_got() {
    run(async || {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let echo = spawn(async move {
            let mut chunks = theirs.chunks();
            while let Some(chunk) = chunks.next().await {
                theirs.write_all(chunk?).await?;
            }
            std::io::Result::Ok(())
        });
        for round in 0..1000usize {
            let sent = vec![round as u8; 1 + round * 7 % 5000];
            let sent = ours.write_all(sent).await.expect("sent");
            let received = ours.read_exact(vec![0; sent.len()]).await.expect("received");
            assert_eq!(received, sent);
        }
        drop(ours);
        echo.await.expect("no panic").expect("echoed");
        println!("{:?}", annulus::metrics());
        assert_eq!(annulus::metrics().chunk_buffers_lent, 0);
    });
}
