//! The way out where a library wants tokio's reactor: async-compat lends it one, on a thread of its
//! own, to any future that runs here.

use std::time::Duration;

use annulus::{block_on, spawn};
use async_compat::{Compat, CompatExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn a_library_of_tokio_runs_in_a_task_by_async_compat() {
    block_on(async {
        let listener = annulus::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        // Sockets and timers of tokio, polled by this runtime.
        let client = spawn(Compat::new(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
            stream.write_all(b"from tokio").await.expect("the server is there");
            stream.shutdown().await.expect("the server is there");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            let late = tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>());
            assert!(late.await.is_err());
            answer
        }));
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = stream.into_poll();
        let mut found = String::new();
        AsyncReadExt::read_to_string(&mut stream, &mut found).await.expect("the client is there");
        AsyncWriteExt::write_all(&mut stream, b"from annulus").await.expect("the client is there");
        drop(stream);
        assert_eq!(
            (found.as_str(), client.await.expect("no panic").as_str()),
            ("from tokio", "from annulus")
        );
    });
}

#[test]
fn work_that_tokio_spawns_runs_on_its_own_thread() {
    block_on(async {
        let joined = async { tokio::spawn(async { std::thread::current().id() }).await }.compat();
        assert_ne!(joined.await.expect("no panic"), std::thread::current().id());
    });
}
