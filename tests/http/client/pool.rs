//! The pool: which connections are used again, how many there are, and what becomes of them.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use annulus::JoinSet;
use annulus::http::{Body, Client, ErrorKind};
use annulus::time::{sleep, timeout};
use futures_util::future::poll_immediate;
use futures_util::stream;

use super::{LONG, Peer, SHORT, Scripted, builder, check, client};
use crate::common::turns;

/// Waits until something is so.
async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        turns(1).await;
    }
}

#[test]
fn requests_one_after_the_other_share_a_connection_and_others_have_their_own() {
    check(async || {
        let server = Scripted::echo(|_| "hello".to_owned()).await;
        let client = client();
        for _ in 0..5 {
            client.get(server.url("/")).send().await.unwrap().bytes().await.unwrap();
        }
        assert_eq!(server.accepted(), 1);
        // Its body is not read, so the connection is in use.
        let first = client.get(server.url("/")).send().await.unwrap();
        let second = client.clone().get(server.url("/")).send().await.unwrap();
        assert_eq!(
            (first.text().await.unwrap(), second.text().await.unwrap()),
            ("hello".into(), "hello".into())
        );
        assert_eq!(server.accepted(), 2);
        client.get(server.url("/")).send().await.unwrap();
        assert_eq!(server.accepted(), 2);
    });
}

#[test]
fn no_more_connections_than_the_bound_and_everybody_has_a_turn() {
    check(async || {
        let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (inside, peak) = (Rc::clone(&now), Rc::clone(&most));
        let server = Scripted::start(move |number, mut peer| {
            let (inside, peak) = (Rc::clone(&inside), Rc::clone(&peak));
            async move {
                inside.set(inside.get() + 1);
                peak.set(peak.get().max(inside.get()));
                let mut served = 0;
                while peer.head().await.is_some() {
                    // Every second connection ends after three requests.
                    served += 1;
                    let is_last = number % 2 == 1 && served == 3;
                    peer.answer("200 OK", if is_last { "connection: close\r\n" } else { "" }, "x")
                        .await;
                    if is_last {
                        break;
                    }
                }
                inside.set(inside.get() - 1);
            }
        })
        .await;
        let client = builder().pool_max_per_host(3).build().unwrap();
        let mut requests = JoinSet::new();
        for _ in 0..100 {
            let request = client.get(server.url("/"));
            requests.spawn(async move { request.send().await.unwrap().text().await.unwrap() });
        }
        assert_eq!(requests.join_all().await.len(), 100);
        assert!(most.get() <= 3, "{} connections at once", most.get());
        drop(client);
        until(|| now.get() == 0).await;
    });
}

#[test]
fn who_waits_and_goes_leaves_his_turn_to_the_next() {
    check(async || {
        let server = Scripted::echo(|_| "hello".to_owned()).await;
        let client = builder().pool_max_per_host(1).build().unwrap();
        let held = client.get(server.url("/held")).send().await.unwrap();
        let mut gone = Box::pin(client.get(server.url("/gone")).send());
        let mut stays = pin!(client.get(server.url("/stays")).send());
        assert!(poll_immediate(&mut gone).await.is_none());
        assert!(poll_immediate(&mut stays).await.is_none());
        // One goes before its turn, and one with its turn in hand.
        drop(gone);
        let mut gone = Box::pin(client.get(server.url("/gone")).send());
        assert!(poll_immediate(&mut gone).await.is_none());
        held.bytes().await.unwrap();
        turns(3).await;
        drop(gone);
        let response = timeout(LONG, stays).await.unwrap().unwrap();
        assert_eq!(response.text().await.unwrap(), "hello");
        assert_eq!(server.heads().len(), 2, "what was dropped was never sent");
        assert_eq!(server.accepted(), 1);
        // A whole request while another holds the place: its time-out says what it waited for.
        let held = client.get(server.url("/held")).send().await.unwrap();
        let error = client.get(server.url("/late")).timeout(SHORT).send().await.unwrap_err();
        assert!(error.is_timeout() && error.kind() == ErrorKind::Pool, "{error}");
        drop(held);
    });
}

#[test]
fn free_connections_are_closed_in_time_and_by_number() {
    check(async || {
        let closed = Rc::new(Cell::new(0));
        let count = Rc::clone(&closed);
        let server = Scripted::start(move |_, mut peer| {
            let count = Rc::clone(&count);
            async move {
                while peer.head().await.is_some() {
                    peer.ok("hello").await;
                }
                count.set(count.get() + 1);
            }
        })
        .await;
        let short = builder().pool_idle_timeout(SHORT).build().unwrap();
        short.get(server.url("/")).send().await.unwrap().bytes().await.unwrap();
        until(|| closed.get() == 1).await;
        short.get(server.url("/")).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(server.accepted(), 2);
        until(|| closed.get() == 2).await;

        let few = builder().pool_max_idle_per_host(1).build().unwrap();
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(few.get(server.url("/")).send().await.unwrap());
        }
        for response in held {
            response.bytes().await.unwrap();
        }
        until(|| closed.get() == 4).await;
        // Without an idle time-out the last one stays until the client goes.
        turns(10).await;
        assert_eq!(closed.get(), 4);
        drop(few);
        until(|| closed.get() == 5).await;
    });
}

#[test]
fn a_body_that_is_not_read_is_never_the_answer_to_the_next_request() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            while let Some(head) = peer.head().await {
                if head.starts_with("GET /large") {
                    peer.say(
                        "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nHTTP/1.1 200 OK\r\n",
                    )
                    .await;
                    peer.is_closed().await;
                } else {
                    peer.ok("small").await;
                }
            }
        })
        .await;
        let client = builder().pool_max_per_host(1).build().unwrap();
        for _ in 0..3 {
            drop(client.get(server.url("/large")).send().await.unwrap());
            let response = client.get(server.url("/small")).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "small");
            let mut partly = client.get(server.url("/large")).send().await.unwrap();
            assert_eq!(partly.chunk().await.unwrap().unwrap(), "HTTP/1.1 200 OK\r\n");
        }
        assert_eq!(server.accepted(), 6 + 1 - 1, "each that was left in the middle cost one");
    });
}

#[test]
fn an_answer_that_comes_before_the_request_has_ended_closes_the_connection() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            peer.head().await;
            peer.ok("enough").await;
            peer.is_closed().await;
        })
        .await;
        let client = client();
        let endless = Body::from_stream(stream::pending::<Result<&str, std::io::Error>>());
        let response = client.post(server.url("/")).body(endless).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "enough");
        // `check` sees that neither the connection nor the stream stays.
        let response = client.post(server.url("/")).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "enough");
        assert_eq!(server.accepted(), 2);
    });
}

/// Closes the first connection when it likes, and serves the others.
async fn closing_once(close: impl AsyncFn(&mut Peer) + Clone + 'static) -> Scripted {
    Scripted::start(move |number, mut peer| {
        let close = close.clone();
        async move {
            peer.head().await;
            peer.ok("first").await;
            if number == 0 {
                close(&mut peer).await;
                return;
            }
            while peer.head().await.is_some() {
                peer.ok("later").await;
            }
        }
    })
    .await
}

async fn warm(server: &Scripted, client: &Client) {
    client.get(server.url("/")).send().await.unwrap().bytes().await.unwrap();
}

#[test]
fn a_connection_that_was_closed_while_free_is_replaced_without_a_word() {
    check(async || {
        let server = closing_once(async |_: &mut Peer| ()).await;
        let client = client();
        warm(&server, &client).await;
        // With any method, since nothing is sent on the closed one.
        turns(20).await;
        let response = client.post(server.url("/")).body("x").send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "first");
        assert_eq!(server.accepted(), 2);
    });
}

#[test]
fn a_request_on_a_connection_that_ends_is_sent_again_where_that_is_safe() {
    check(async || {
        for is_safe in [true, false] {
            // It reads the request, and closes without an answer.
            let server = closing_once(async |peer: &mut Peer| drop(peer.head().await)).await;
            let client = client();
            warm(&server, &client).await;
            let request = match is_safe {
                true => client.put(server.url("/")).body("again"),
                false => client.post(server.url("/")).body("once"),
            };
            let result = request.send().await;
            if is_safe {
                assert_eq!(result.unwrap().text().await.unwrap(), "first");
                assert_eq!(server.accepted(), 2);
            } else {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Head, "{error}");
                assert_eq!(server.accepted(), 1);
            }
        }
        // A stream cannot be repeated, whatever the method.
        let server = closing_once(async |peer: &mut Peer| drop(peer.head().await)).await;
        let client = client();
        warm(&server, &client).await;
        let body = Body::from_stream(stream::iter([Ok::<_, std::io::Error>("piece")]));
        client.put(server.url("/")).body(body).send().await.unwrap_err();
        assert_eq!(server.accepted(), 1);
    });
}

#[test]
fn a_fresh_connection_that_ends_is_an_error_and_not_a_second_request() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move { drop(peer.head().await) }).await;
        let error = client().get(server.url("/")).send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Head);
        assert!(error.to_string().contains("before message completed"), "{error}");
        assert_eq!(server.accepted(), 1);
    });
}

#[test]
fn requests_that_are_dropped_anywhere_leave_nothing_and_disturb_nobody() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            while peer.head().await.is_some() {
                turns(2).await;
                peer.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n").await;
                turns(2).await;
                peer.say("\r\nhel").await;
                turns(2).await;
                peer.say("lo you").await;
            }
        })
        .await;
        let client = builder().pool_max_per_host(2).build().unwrap();
        let whole = || async {
            let body = client.get(server.url("/")).send().await?.bytes().await?;
            Ok::<_, annulus::http::Error>(body)
        };
        // Dropped after as many turns as it takes to be at each await, on cold and warm
        // connections.
        let mut finished = 0;
        for round in 0..120 {
            let request = timeout(LONG, whole());
            let deadline = async { turns(round % 40).await };
            match futures_util::future::select(pin!(request), pin!(deadline)).await {
                futures_util::future::Either::Left((body, _)) => {
                    assert_eq!(body.unwrap().unwrap(), "hello you");
                    finished += 1;
                }
                futures_util::future::Either::Right(_) => (),
            }
            if round % 7 == 0 {
                assert_eq!(whole().await.unwrap(), "hello you");
            }
        }
        assert!(finished > 0, "some are dropped, and some not");
    });
}

#[test]
fn responses_outlive_their_client_and_close_the_connection_behind_them() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            peer.head().await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await;
            sleep(Duration::from_millis(5)).await;
            peer.say("cd").await;
            peer.is_closed().await;
        })
        .await;
        let response = client().get(server.url("/")).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "abcd");
    });
}
