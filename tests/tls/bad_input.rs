//! Peers that do not speak TLS, speak it badly, say nothing, or are not whom they should be.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use annulus::io::AsyncRead;
use annulus::time;
use annulus::tls::rustls;
use annulus::tls::{TlsAcceptor, TlsStream};
use futures_util::future::join;
use rcgen::date_time_ymd;

use crate::Sides;
use crate::certificates::Identity;
use crate::common::{Random, poll_in_task, run_here, seed, turns};
use crate::pipe::{Pipe, pair};

/// The errors of the client and of the server.
async fn refusals(sides: &Sides) -> (io::Error, io::Error) {
    let (client, server) = pair(10_000, None);
    let (client, server) =
        join(sides.connector.connect_over("localhost", client), sides.acceptor.accept_over(server))
            .await;
    (client.unwrap_err(), server.unwrap_err())
}

fn source(error: &io::Error) -> &rustls::Error {
    error.source().and_then(|source| source.downcast_ref()).expect("the error of rustls")
}

#[test]
fn certificates_that_nobody_should_trust_are_refused_with_the_reason() {
    let sides = Sides::new();
    let with = |identity: Identity| Sides {
        acceptor: TlsAcceptor::from_pem(identity.chain, identity.key).unwrap(),
        ..Sides { authority: crate::Authority::new(), ..clone(&sides) }
    };
    let expired = sides.authority.issue_with("localhost", |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let not_yet = sides.authority.issue_with("localhost", |params| {
        params.not_before = date_time_ymd(3001, 1, 1);
        params.not_after = date_time_ymd(3002, 1, 1);
    });
    let cases = [
        (with(expired), "the peer's certificate has expired"),
        (with(not_yet), "the peer's certificate is not valid yet"),
        (with(sides.authority.issue("elsewhere")), "the peer's certificate is for another name"),
        (
            with(crate::Authority::new().issue("localhost")),
            "the peer's certificate is signed by nobody who is trusted here",
        ),
    ];
    run_here(async {
        for (sides, sentence) in cases {
            let (client, server) = refusals(&sides).await;
            assert_eq!(client.kind(), io::ErrorKind::InvalidData);
            assert!(client.to_string().starts_with(sentence), "{client}");
            assert!(matches!(source(&client), rustls::Error::InvalidCertificate(_)), "{client:?}");
            assert_eq!(server.kind(), io::ErrorKind::ConnectionAborted);
            assert!(server.to_string().contains("alert"), "{server}");
            assert!(matches!(source(&server), rustls::Error::AlertReceived(_)), "{server:?}");
        }
    });
}

fn clone(sides: &Sides) -> Sides {
    Sides {
        authority: crate::Authority::new(),
        connector: sides.connector.clone(),
        acceptor: sides.acceptor.clone(),
    }
}

#[test]
fn a_peer_without_tls_is_named_as_such() {
    let sides = Sides::new();
    run_here(async {
        for said in [
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "220 mail.example.org ESMTP\r\n",
        ] {
            let (client, peer) = pair(10_000, None);
            peer.inject(said.as_bytes());
            let error = sides.connector.connect_over("localhost", client).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().starts_with("the peer does not speak TLS"), "{error}");

            let (server, peer) = pair(10_000, None);
            peer.inject(said.as_bytes());
            let error = sides.acceptor.accept_over(server).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().starts_with("the peer does not speak TLS"), "{error}");
            // The peer gets an alert, not silence: the first byte of one is 21.
            assert_eq!(peer.intercept().first(), Some(&21));
        }
    });
}

#[test]
fn a_peer_that_says_nothing_is_left_after_a_time_out() {
    let sides = Sides::new();
    run_here(async {
        for _ in 0..2 {
            let (client, peer) = pair(10_000, None);
            let connect = sides.connector.connect_over("localhost", client);
            let error = time::timeout(Duration::from_millis(5), connect).await.unwrap_err();
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
            is_closed(peer).await;

            let (server, peer) = pair(10_000, None);
            peer.inject(b"\x16\x03\x01\x01"); // it begins, and then stops
            let accept = sides.acceptor.accept_over(server);
            assert!(time::timeout(Duration::from_millis(5), accept).await.is_err());
            is_closed(peer).await;
        }
        assert_eq!(annulus::metrics().tasks, 0);
    });
}

/// The other end is dropped.
async fn is_closed(mut peer: Pipe) {
    peer.intercept();
    let read = std::future::poll_fn(|context| {
        futures_io::AsyncRead::poll_read(std::pin::Pin::new(&mut peer), context, &mut [0])
    });
    assert_eq!(read.await.unwrap(), 0);
}

/// A client and a server that have not met: what the server answers to the client's first message
/// goes into the client as the test wants it.
async fn meet(
    sides: &Sides,
    change: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> io::Result<TlsStream<Pipe>> {
    let ((client, before_client), (server, before_server)) =
        (pair(100_000, None), pair(100_000, None));
    let mut connect = pin!(sides.connector.connect_over("localhost", client));
    assert!(poll_in_task(&mut connect).await.is_pending());
    before_server.inject(&before_client.intercept());
    let mut accept = pin!(sides.acceptor.accept_over(server));
    assert!(poll_in_task(&mut accept).await.is_pending());
    before_client.inject(&change(before_server.intercept()));
    drop(before_client);
    connect.await
}

#[test]
fn a_handshake_that_is_cut_off_anywhere_is_an_end() {
    let sides = Sides::new();
    run_here(async {
        let mut length = 0;
        let mut whole = 1;
        while length < whole {
            let cut = |flight: Vec<u8>| {
                whole = flight.len();
                flight[..length.min(whole - 1)].to_vec()
            };
            let error = meet(&sides, cut).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "at {length}: {error}");
            assert!(error.to_string().contains("during the TLS handshake"), "{error}");
            length += 29;
        }
        assert!(whole > 500, "{whole}");
    });
}

#[test]
fn a_handshake_with_a_flipped_bit_fails_and_one_with_garbage_too() {
    let sides = Sides::new();
    let random = Random::new(seed());
    run_here(async {
        for round in 0..100 {
            let error = meet(&sides, |mut flight| {
                match round % 2 {
                    0 => {
                        let place = random.below(flight.len());
                        flight[place] ^= 1 << random.below(8);
                    }
                    _ => flight = random.bytes(random.up_to(3000)),
                }
                flight
            })
            .await;
            // The version in the head of an encrypted record and the like mean nothing, and then
            // the end comes when the server should have said more.
            let Err(error) = error else {
                continue;
            };
            let kinds = [
                io::ErrorKind::InvalidData,
                io::ErrorKind::UnexpectedEof,
                io::ErrorKind::Unsupported,
                io::ErrorKind::ConnectionAborted,
                io::ErrorKind::BrokenPipe,
            ];
            assert!(kinds.contains(&error.kind()), "{error:?}");
        }
    });
}

#[test]
fn a_handshake_that_is_dropped_anywhere_leaves_nothing() {
    let sides = Sides::new();
    let random = Random::new(seed());
    run_here(async {
        let mut polls = 0;
        // Until one is through.
        loop {
            let (client, server) = pair(300, Some(Random::new(random.next())));
            let mut both = Box::pin(join(
                sides.connector.connect_over("localhost", client),
                sides.acceptor.accept_over(server),
            ));
            let mut is_through = false;
            for _ in 0..polls {
                if let Poll::Ready((client, server)) = poll_in_task(&mut both).await {
                    client.unwrap();
                    server.unwrap();
                    is_through = true;
                    break;
                }
            }
            drop(both);
            if is_through {
                break;
            }
            polls += 1;
        }
        turns(3).await;
        assert_eq!(annulus::metrics().tasks, 0);
    });
}

#[test]
fn a_client_that_only_alerts_and_goes_is_an_error_with_its_alert() {
    let sides = Sides::new();
    run_here(async {
        let (server, peer) = pair(10_000, None);
        peer.inject(b"\x15\x03\x03\x00\x02\x02\x28"); // fatal, handshake_failure
        let error = sides.acceptor.accept_over(server).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(matches!(
            source(&error),
            rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure)
        ));
    });
}

#[test]
fn records_that_bring_nothing_do_not_keep_other_tasks_waiting() {
    let sides = Sides::new();
    run_here(async {
        let (client, mut server) = sides.shake_hands(pair(1_000_000, None)).await.unwrap();
        // What is not encrypted is refused at once, however much of it there is.
        client.get_ref().inject(&b"\x14\x03\x03\x00\x01\x01".repeat(10_000));
        let error = server.read(vec![0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    });
}
