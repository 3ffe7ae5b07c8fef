//! WebSockets: async-tungstenite over the traits of futures, tokio-tungstenite over those of tokio.

use annulus::{block_on, spawn};
use async_tungstenite::tungstenite::Message;
use futures_util::{SinkExt, StreamExt};

use crate::tools::{tcp_pair, unix_pair};

const SIZES: [usize; 7] = [0, 1, 125, 126, 65_535, 65_536, 1_000_000];

#[test]
fn an_echo_of_async_tungstenite_ends_with_a_handshake() {
    block_on(async {
        let (client, server) = tcp_pair().await;
        let server = spawn(async move {
            let mut server = async_tungstenite::accept_async(server).await.expect("a handshake");
            while let Some(message) = server.next().await {
                match message.expect("a message") {
                    // Both are answered by the library, while it is polled further.
                    message if message.is_ping() || message.is_close() => {}
                    message => server.send(message).await.expect("the client is there"),
                }
            }
        });
        let connected = async_tungstenite::client_async("ws://localhost/", client).await;
        let (mut client, _) = connected.expect("a handshake");
        for size in SIZES {
            let message = Message::binary(vec![7; size]);
            client.send(message.clone()).await.expect("the server is there");
            client.send(Message::Ping(vec![1].into())).await.expect("the server is there");
            assert_eq!(client.next().await.expect("an answer").expect("a message"), message);
            let pong = client.next().await.expect("an answer").expect("a message");
            assert!(pong.is_pong());
        }
        client.close(None).await.expect("the server is there");
        while let Some(message) = client.next().await {
            assert!(message.expect("a message").is_close());
        }
        server.await.expect("no panic");
    });
}

#[test]
fn tokio_tungstenite_talks_to_async_tungstenite_in_both_directions_at_once() {
    block_on(async {
        let (client, server) = unix_pair();
        let server = spawn(async move {
            let server = async_tungstenite::accept_async(server).await.expect("a handshake");
            let (mut sink, mut stream) = server.split();
            let sends = spawn(async move {
                for number in 0..300 {
                    let message = Message::binary(vec![number as u8; 20_000]);
                    sink.send(message).await.expect("the client is there");
                }
                sink
            });
            for number in 0..300 {
                let message = stream.next().await.expect("a message").expect("a message");
                assert_eq!(message.into_data(), vec![number as u8; 20_000]);
            }
            let _sink = sends.await.expect("no panic");
        });
        let connected = tokio_tungstenite::client_async("ws://localhost/", client).await;
        let (client, _) = connected.expect("a handshake");
        let (mut sink, mut stream) = client.split();
        // Both send more than anybody holds, so that each must read meanwhile.
        let sends = spawn(async move {
            for number in 0..300 {
                let bytes = vec![number as u8; 20_000];
                let message = tokio_tungstenite::tungstenite::Message::binary(bytes);
                sink.send(message).await.expect("the server is there");
            }
            sink
        });
        for number in 0..300 {
            let message = stream.next().await.expect("a message").expect("a message");
            assert_eq!(message.into_data(), vec![number as u8; 20_000]);
        }
        let _sink = sends.await.expect("no panic");
        server.await.expect("no panic");
    });
}
