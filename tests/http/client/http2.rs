//! HTTP/2 without TLS, against servers that refuse and leave.
#![cfg(feature = "tokio-io")]

use std::cell::Cell;
use std::rc::Rc;

use annulus::JoinSet;
use annulus::http::{Body, Client, ErrorKind, Version};
use annulus::net::TcpListener;
use bytes::Bytes;
use futures_util::stream;
use h2::{Reason, server};

use super::{LONG, builder, check};
use crate::common::turns;

type Connection = server::Connection<annulus::io::PollStream<annulus::net::TcpStream>, Bytes>;

/// A server whose connections follow a script, and a client that knows its version.
async fn start<F>(
    streams: u32,
    script: impl Fn(usize, Connection) -> F + 'static,
) -> (Client, String, JoinSet<()>)
where
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut connections = JoinSet::new();
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let connection = server::Builder::new()
                .max_concurrent_streams(streams)
                .handshake(stream.into_poll())
                .await
                .unwrap();
            connections.spawn(script(number, connection));
        }
    });
    (builder().http2_prior_knowledge().build().unwrap(), url, task)
}

fn answer(mut respond: server::SendResponse<Bytes>, body: &'static str) {
    let mut body_of = respond.send_response(::http::Response::new(()), false).unwrap();
    body_of.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
}

#[test]
fn a_refused_stream_is_tried_again_with_any_method_unless_its_body_is_a_stream() {
    check(async || {
        let refused = Rc::new(Cell::new(0));
        let count = Rc::clone(&refused);
        let (client, url, _server) = start(100, move |_, mut connection| {
            let count = Rc::clone(&count);
            async move {
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    if request.uri().path() == "/never" || count.get() == 0 {
                        count.set(count.get() + 1);
                        respond.send_reset(Reason::REFUSED_STREAM);
                    } else {
                        answer(respond, "taken");
                    }
                }
            }
        })
        .await;
        let response = client.post(&url).body("again").send().await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(response.text().await.unwrap(), "taken");
        let never = format!("{url}never");
        let error = client.post(&never).body("again").send().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Head | ErrorKind::Send), "{error}");
        assert_eq!(refused.get(), 1 + 3, "three times, and no more");
        let once = Body::from_stream(stream::iter([Ok::<_, std::io::Error>("once")]));
        client.post(&never).body(once).send().await.unwrap_err();
        assert_eq!(refused.get(), 1 + 3 + 1);
    });
}

#[test]
fn a_server_that_leaves_answers_what_it_took_and_the_rest_goes_to_a_new_connection() {
    check(async || {
        let most = Rc::new(Cell::new(0));
        let connections = Rc::clone(&most);
        let (client, url, _server) = start(100, move |number, mut connection| {
            let connections = Rc::clone(&connections);
            async move {
                connections.set(connections.get().max(number + 1));
                let mut taken = 0;
                while let Some(Ok((_, respond))) = connection.accept().await {
                    answer(respond, "taken");
                    taken += 1;
                    if taken == 5 {
                        connection.graceful_shutdown();
                    }
                }
            }
        })
        .await;
        let mut requests = JoinSet::new();
        for _ in 0..40 {
            let request = client.post(&url).body("x").timeout(LONG);
            requests.spawn(async move { request.send().await.unwrap().text().await.unwrap() });
        }
        assert!(requests.join_all().await.iter().all(|body| body == "taken"));
        for _ in 0..40 {
            let response = client.get(&url).timeout(LONG).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "taken");
        }
        assert!(most.get() > 2, "{} connections", most.get());
    });
}

#[test]
fn more_requests_than_streams_take_turns_on_one_connection() {
    check(async || {
        let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (inside, peak) = (Rc::clone(&now), Rc::clone(&most));
        let (client, url, _server) = start(3, move |number, mut connection| {
            assert_eq!(number, 0, "one connection");
            let (inside, peak) = (Rc::clone(&inside), Rc::clone(&peak));
            async move {
                let mut answers = JoinSet::new();
                while let Some(Ok((_, respond))) = connection.accept().await {
                    inside.set(inside.get() + 1);
                    peak.set(peak.get().max(inside.get()));
                    let inside = Rc::clone(&inside);
                    answers.spawn(async move {
                        turns(3).await;
                        inside.set(inside.get() - 1);
                        answer(respond, "taken");
                    });
                }
            }
        })
        .await;
        // The first one brings the server's settings.
        client.get(&url).send().await.unwrap();
        let mut requests = JoinSet::new();
        for _ in 0..40 {
            let request = client.get(&url).timeout(LONG);
            requests.spawn(async move { request.send().await.unwrap().text().await.unwrap() });
        }
        assert_eq!(requests.join_all().await.len(), 40);
        assert!(most.get() <= 3, "{} streams at once", most.get());
    });
}
