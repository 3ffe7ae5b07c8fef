//! Sockets that linger: `close` waits as close(2) does, and `drop` does not, whoever has set it.

use std::io::Read;
use std::net as std_net;
use std::time::{Duration, Instant};

use annulus::net::{ListenOptions, TcpListener, TcpStream};
use annulus::{spawn, time};
use socket2::SockRef;

use crate::LONG;
use crate::common::{quiet, run};

/// Who has a stream linger?
#[derive(Debug, Clone, Copy)]
enum Setter {
    Method,
    SockRef,
    BeforeAdoption,
    Listener,
}

const SETTERS: [Setter; 4] =
    [Setter::Method, Setter::SockRef, Setter::BeforeAdoption, Setter::Listener];

/// A stream that lingers so long, with more to send than its peer, which reads nothing, has room
/// for.
async fn lingering(setter: Setter, linger: Duration) -> (TcpStream, std_net::TcpStream) {
    let listener = ListenOptions::new().bind("127.0.0.1:0").await.unwrap();
    if let Setter::Listener = setter {
        SockRef::from(&listener).set_linger(Some(linger)).unwrap();
    }
    let (peer, stream) = connected(&listener).await;
    let stream = match setter {
        Setter::Method => {
            stream.set_linger(Some(linger)).unwrap();
            stream
        }
        Setter::SockRef => {
            SockRef::from(&stream).set_linger(Some(linger)).unwrap();
            stream
        }
        Setter::BeforeAdoption => {
            let std = stream.into_std().await;
            SockRef::from(&std).set_linger(Some(linger)).unwrap();
            TcpStream::from_std(std).unwrap()
        }
        Setter::Listener => stream,
    };
    // As much as fits, on both sides.
    while stream.write(vec![1; 1 << 16]).timeout(Duration::from_millis(20)).await.is_ok() {}
    (stream, peer)
}

async fn connected(listener: &TcpListener) -> (std_net::TcpStream, TcpStream) {
    let peer = std_net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (peer, listener.accept().await.unwrap().0)
}

#[test]
fn dropping_a_stream_that_lingers_stops_nobody() {
    for setter in SETTERS {
        run(async || {
            let (stream, mut peer) = lingering(setter, LONG).await;
            drop(stream);
            // The loop goes on, and the peer is sent all, and the end.
            for _ in 0..5 {
                time::sleep(Duration::from_millis(1)).await;
            }
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).unwrap();
            assert!(rest.iter().all(|byte| *byte == 1), "{setter:?}");
        });
    }
}

#[test]
fn a_close_that_is_awaited_lasts_as_long_as_it_lingers() {
    for setter in SETTERS {
        run(async || {
            let linger = Duration::from_secs(1);
            let (stream, peer) = lingering(setter, linger).await;
            let start = Instant::now();
            let close = spawn(stream.close());
            // The others go on meanwhile.
            time::sleep(Duration::from_millis(1)).await;
            assert!(!close.is_finished());
            close.await.unwrap().unwrap();
            assert!(start.elapsed() >= linger, "{setter:?}: {:?}", start.elapsed());
            drop(peer);
        });
    }
}

#[test]
fn a_close_ends_when_the_peer_has_everything() {
    run(async || {
        let (stream, mut peer) = lingering(Setter::Method, LONG).await;
        let reader = std::thread::spawn(move || peer.read_to_end(&mut Vec::new()).unwrap());
        stream.close().await.unwrap();
        assert!(reader.join().unwrap() > 0);
    });
}

#[test]
fn a_close_that_is_dropped_goes_on() {
    run(async || {
        let (stream, mut peer) = lingering(Setter::SockRef, LONG).await;
        quiet().await;
        let mut close = Box::pin(stream.close());
        assert!(crate::common::poll_once(close.as_mut()).is_pending());
        drop(close);
        assert!(peer.read_to_end(&mut Vec::new()).unwrap() > 0);
    });
}
