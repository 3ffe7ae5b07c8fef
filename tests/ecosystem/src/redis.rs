//! redis over a Unix socket, with a server that the test starts. Its connection wants a stream that
//! is `Send`, which `Anchored` makes of ours, and its answers wait for tokio's timers, which
//! async-compat lends.

use std::process::Command;

use annulus::{Anchored, block_on, spawn};
use async_compat::Compat;
use futures_util::future;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig, RedisConnectionInfo};

use crate::tools::{Server, program, scratch};

#[test]
fn commands_share_one_connection() {
    let Some(server) = program(&["redis-server"]) else { return };
    let directory = scratch();
    let socket = directory.path().join("socket");
    let mut command = Command::new(server);
    command.args(["--port", "0", "--save", "", "--dir"]).arg(directory.path());
    command.arg("--unixsocket").arg(&socket);
    let mut server = Server::start(command);
    block_on(async {
        let stream = Anchored::new(server.connect(&socket).await.into_poll());
        let (info, config) = (RedisConnectionInfo::default(), AsyncConnectionConfig::new());
        let connected = MultiplexedConnection::new_with_config(&info, stream, config);
        let (connection, driver) = Compat::new(connected).await.expect("a connection");
        let driver = spawn(Compat::new(driver));
        Compat::new(async {
            let sets = (0..500).map(|number| {
                let mut connection = connection.clone();
                async move { connection.set::<_, _, ()>(number, vec![b'x'; number * 20]).await }
            });
            future::try_join_all(sets).await.expect("the server is there");
            let mut connection = connection.clone();
            let found: Vec<u8> = connection.get(499).await.expect("a value");
            assert_eq!(found, vec![b'x'; 499 * 20]);
            let count: u64 = connection.incr("count", 2).await.expect("a number");
            assert_eq!(count, 2);
            let error = connection.incr::<_, _, u64>(499, 1).await.expect_err("it is no number");
            assert!(error.to_string().contains("not an integer"), "{error}");
        })
        .await;
        // The last handle ends the connection.
        drop(connection);
        driver.await.expect("no panic");
    });
}
