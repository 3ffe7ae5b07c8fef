//! TLS over the sockets of this crate.

use std::io;
use std::time::Duration;

use annulus::io::{AsyncRead, AsyncWrite, PollStream};
use annulus::net::{TcpListener, TcpStream, UnixStream};
use annulus::time;
use annulus::tls::TlsStream;
use futures_util::future::{join, try_join};

use crate::Sides;
use crate::common::run_here;

pub(crate) async fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (client, (server, _)) = try_join(TcpStream::connect(address), listener.accept()).await?;
    Ok((client, server))
}

/// Both streams over TCP.
pub(crate) async fn connected(
    sides: &Sides,
) -> io::Result<(TlsStream<PollStream<TcpStream>>, TlsStream<PollStream<TcpStream>>)> {
    let (client, server) = tcp_pair().await?;
    try_join(sides.connector.connect("localhost", client), sides.acceptor.accept(server)).await
}

#[test]
fn a_megabyte_comes_back_over_tcp() {
    let sides = Sides::new();
    run_here(async {
        let (client, mut server) = connected(&sides).await?;
        assert!(client.get_ref().get_ref().peer_addr()?.ip().is_loopback());
        let (mut reader, mut writer) = client.into_split();
        let sent: Vec<u8> = (0..1u32 << 20).map(|number| (number % 251) as u8).collect();
        let write = async {
            let sent = writer.write_all(sent.clone()).await?;
            writer.shutdown().await?;
            io::Result::Ok(sent)
        };
        let echo = async {
            let mut buffer = Vec::with_capacity(10_000);
            loop {
                let count;
                (count, buffer) = server.read(buffer).await?;
                if count == 0 {
                    return server.shutdown().await;
                }
                buffer = server.write_all(buffer).await?;
            }
        };
        let mut back = Vec::new();
        let read = async { reader.read_to_end(&mut back).await };
        let (sent, ((), _)) = try_join(write, try_join(echo, read)).await?;
        assert!(back == sent);
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_stream_of_tls_carries_another_over_a_unix_socket() {
    let sides = Sides::new();
    run_here(async {
        let (client, server) = UnixStream::pair()?;
        let (client, server) =
            try_join(sides.connector.connect("localhost", client), sides.acceptor.accept(server))
                .await?;
        let (mut client, mut server) = try_join(
            sides.connector.connect_over("localhost", client),
            sides.acceptor.accept_over(server),
        )
        .await?;
        client.write_all("twice").await?;
        client.shutdown().await?;
        let mut text = String::new();
        server.read_to_string(&mut text).await?;
        assert_eq!(text, "twice");
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_plain_peer_at_either_end_of_tcp_is_named() {
    let sides = Sides::new();
    run_here(async {
        let (client, plain) = tcp_pair().await?;
        plain.write_all("HTTP/1.1 400 Bad Request\r\n\r\n").await?;
        let error = sides.connector.connect("localhost", client).await.unwrap_err();
        assert!(error.to_string().starts_with("the peer does not speak TLS"), "{error}");

        let (plain, server) = tcp_pair().await?;
        plain.write_all("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
        let error = sides.acceptor.accept(server).await.unwrap_err();
        assert!(error.to_string().starts_with("the peer does not speak TLS"), "{error}");
        let (_, alert) = plain.read(Vec::with_capacity(100)).await?;
        assert_eq!(alert.first(), Some(&21), "an alert");
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_refused_client_gets_the_alert_over_tcp() {
    let sides = Sides::new();
    let strange = Sides::new();
    run_here(async {
        let (client, server) = tcp_pair().await?;
        let (client, server) =
            join(strange.connector.connect("localhost", client), sides.acceptor.accept(server))
                .await;
        assert_eq!(client.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let error = server.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{error}");
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_silent_peer_of_tcp_is_left_and_its_socket_closed() {
    let sides = Sides::new();
    run_here(async {
        let (silent, server) = tcp_pair().await?;
        let accept = sides.acceptor.accept(server);
        assert!(time::timeout(Duration::from_millis(5), accept).await.is_err());
        assert_eq!(silent.read(vec![0; 10]).await?.0, 0);
        io::Result::Ok(())
    })
    .unwrap();
}
