//! tokio-postgres over a Unix socket, with a server of PostgreSQL that the test starts.

use std::pin::pin;
use std::process::Stdio;

use annulus::{block_on, spawn};
use futures_util::{SinkExt, StreamExt, TryStreamExt, future};
use tokio_postgres::{AsyncMessage, Config, NoTls, SimpleQueryMessage};

use crate::tools::{Server, as_ordinary_user, program, scratch};

#[test]
fn queries_pipelines_copies_and_notices_go_over_the_adapter() {
    let (Some(initdb), Some(postgres)) = (program(&["initdb"]), program(&["postgres"])) else {
        return;
    };
    let directory = scratch();
    let data = directory.path().join("data");
    let made = as_ordinary_user(&initdb, directory.path())
        .args([
            "--username=tester",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
        ])
        .arg(&data)
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .status();
    assert!(made.expect("initdb runs").success());
    let mut command = as_ordinary_user(&postgres, directory.path());
    command.arg("-D").arg(&data).args(["-F", "-h", "", "-k"]).arg(directory.path());
    command.current_dir(directory.path());
    let mut server = Server::start(command);
    block_on(program_of_queries(&mut server, &directory.path().join(".s.PGSQL.5432")));
}

async fn program_of_queries(server: &mut Server, socket: &std::path::Path) {
    let mut config = Config::new();
    config.user("tester").dbname("postgres");
    let (client, mut connection) = loop {
        let stream = server.connect(socket).await.into_poll();
        match config.connect_raw(stream, NoTls).await {
            Ok(connected) => break connected,
            // It listens a moment before it takes anybody.
            Err(error) => assert!(error.code().is_some(), "{error}"),
        }
    };
    let (notices, mut noticed) = futures_channel::mpsc::unbounded();
    let connection = spawn(async move {
        while let Some(message) = future::poll_fn(|context| connection.poll_message(context)).await
        {
            if let AsyncMessage::Notification(notice) = message.expect("the server is there") {
                let _ = notices.unbounded_send(notice.payload().to_owned());
            }
        }
    });

    client.batch_execute("CREATE TABLE numbers (number INT, words TEXT)").await.expect("a table");
    let insert = client.prepare("INSERT INTO numbers VALUES ($1, $2)").await.expect("a statement");
    // Pipelined: all are sent before the first answer.
    let inserts = (0..1000_i32).map(|number| {
        let (client, insert) = (&client, &insert);
        async move { client.execute(insert, &[&number, &"x".repeat(number as usize)]).await }
    });
    let inserted = future::try_join_all(inserts).await.expect("rows");
    assert_eq!(inserted.iter().sum::<u64>(), 1000);

    // A stream of rows, which is dropped in the middle, and then another query.
    {
        let rows = client.query_raw("SELECT words FROM numbers", Vec::<i32>::new()).await;
        let mut rows = pin!(rows.expect("rows"));
        rows.next().await.expect("a row").expect("a row");
    }
    let sum = client.query_one("SELECT sum(length(words)) FROM numbers", &[]).await.expect("a row");
    assert_eq!(sum.get::<_, i64>(0), 999 * 1000 / 2);

    // A megabyte in, and out.
    {
        let sink = client.copy_in("COPY numbers FROM STDIN").await.expect("a copy");
        let mut sink = pin!(sink);
        for number in 1000..2000 {
            let line = format!("{number}\t{}\n", "y".repeat(1000));
            sink.send(bytes::Bytes::from(line)).await.expect("the server is there");
        }
        assert_eq!(sink.as_mut().finish().await.expect("rows"), 1000);
    }
    let copied = client.copy_out("COPY numbers TO STDOUT").await.expect("a copy");
    let copied: Vec<bytes::Bytes> = copied.try_collect().await.expect("rows");
    assert_eq!(copied.len(), 2000);

    // An error leaves the connection as it was.
    let error = client.simple_query("SELECT nothing").await.expect_err("there is no such column");
    assert_eq!(error.code().expect("of the server").code(), "42703");
    let found = client.simple_query("SELECT 1 AS one").await.expect("a row");
    let one = found.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get("one").map(str::to_owned),
        _ => None,
    });
    assert_eq!(one.as_deref(), Some("1"));

    // A query that is stopped by a second connection.
    let stop = client.cancel_token();
    let stopper = server.connect(socket).await.into_poll();
    let slow = spawn(async move {
        let slow = client.simple_query("LISTEN news; NOTIFY news, 'first'; SELECT 1").await;
        slow.expect("an answer");
        let error = client.simple_query("SELECT pg_sleep(600)").await.expect_err("it is stopped");
        assert_eq!(error.code().expect("of the server").code(), "57014");
        // The drop of the client ends the connection.
    });
    assert_eq!(noticed.next().await.as_deref(), Some("first"));
    annulus::time::sleep(std::time::Duration::from_millis(20)).await;
    stop.cancel_query_raw(stopper, NoTls).await.expect("the server is there");
    slow.await.expect("no panic");
    connection.await.expect("no panic");
}
