//! Redirects: RFC 9110, section 15.4.

use annulus::http::{Body, ErrorKind, Redirects, StatusCode};
use futures_util::stream;

use super::{Scripted, builder, check, client};

/// A server that redirects `/status/…` with the status in the path to the rest of the path, and
/// answers everything else with the method and the path.
async fn server() -> Scripted {
    Scripted::start(|_, mut peer| async move {
        while let Some(head) = peer.head().await {
            if let Some(length) = head.split("content-length: ").nth(1) {
                peer.body(length.split("\r\n").next().unwrap().parse().unwrap()).await;
            }
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            match path.strip_prefix("/status/").and_then(|rest| rest.split_once('/')) {
                Some((status, location)) => {
                    let location = format!("location: /{location}\r\n");
                    let body = if method == "HEAD" { "" } else { "moved" };
                    peer.answer(&format!("{status} Elsewhere"), &location, body).await;
                }
                None if method == "HEAD" => peer.ok("").await,
                None => peer.ok(&format!("{method} {path}")).await,
            }
        }
    })
    .await
}

#[test]
fn methods_and_bodies_follow_the_rules_of_each_status() {
    check(async || {
        let server = server().await;
        let client = client();
        for (status, method, after, keeps_body) in [
            (301, "POST", "GET", false),
            (302, "POST", "GET", false),
            (303, "POST", "GET", false),
            (307, "POST", "POST", true),
            (308, "POST", "POST", true),
            (301, "PUT", "PUT", true),
            (303, "DELETE", "GET", false),
            (302, "GET", "GET", true),
        ] {
            let url = server.url(&format!("/status/{status}/to"));
            let request = client.request(method.parse().unwrap(), url).json(&1);
            let response = request.send().await.unwrap();
            assert_eq!(response.url().as_str(), server.url("/to"));
            assert_eq!(response.text().await.unwrap(), format!("{after} /to"), "{status} {method}");
            let last = server.heads().pop().unwrap();
            for name in ["content-type", "content-length"] {
                assert_eq!(last.contains(name), keeps_body, "{status} {method}: {last}");
            }
        }
        let response = client.head(server.url("/status/303/to")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(server.heads().pop().unwrap().starts_with("HEAD /to "));
        assert_eq!(server.accepted(), 1, "small bodies of redirects cost no connection");
    });
}

#[test]
fn what_is_no_redirect_is_the_response() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            peer.head().await;
            peer.answer("302 Found", "", "no location").await;
            peer.head().await;
            peer.answer("304 Not Modified", "location: /x\r\n", "").await;
            peer.head().await;
            peer.answer("300 Multiple Choices", "location: /x\r\n", "choose").await;
            peer.head().await;
            peer.answer("302 Found", "location: /x\r\n", "as it is").await;
        })
        .await;
        let follows = client();
        let does_not = builder().redirects(Redirects::none()).build().unwrap();
        for (client, status, body) in
            [(&follows, 302, "no location"), (&follows, 304, ""), (&follows, 300, "choose")]
        {
            let response = client.get(server.url("/")).send().await.unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(response.text().await.unwrap(), body);
        }
        drop(follows);
        drop(server);
        let server = Scripted::start(|_, mut peer| async move {
            peer.head().await;
            peer.answer("302 Found", "location: /x\r\n", "as it is").await;
        })
        .await;
        let response = does_not.get(server.url("/")).send().await.unwrap();
        assert_eq!(response.headers()["location"], "/x");
        assert_eq!(response.text().await.unwrap(), "as it is");
    });
}

#[test]
fn circles_too_many_and_bad_places_are_clear_errors() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            while let Some(head) = peer.head().await {
                let path = head.split(' ').nth(1).unwrap();
                let location = match path {
                    "/one" => "/two".to_owned(),
                    "/two" => "one".to_owned(),
                    "/self" => "".to_owned(),
                    "/mail" => "mailto:a@b".to_owned(),
                    "/broken" => "http://[".to_owned(),
                    _ => format!("/{}", path[1..].parse::<u32>().unwrap() + 1),
                };
                peer.answer("302 Found", &format!("location: {location}\r\n"), "").await;
            }
        })
        .await;
        let client = client();
        for (path, text, requests) in [
            ("/one", "the redirects lead in a circle, back to http", 2),
            ("/self", "the redirects lead in a circle", 1),
            ("/mail", "it leads to mailto:a@b, which is not http or https", 1),
            ("/broken", "is no URL", 1),
            ("/1", "there are more than 10 of them", 11),
        ] {
            let before = server.heads().len();
            let error = client.get(server.url(path)).send().await.expect_err(path);
            assert_eq!(error.kind(), ErrorKind::Redirect);
            assert!(error.to_string().contains(text), "{error}");
            assert_eq!(server.heads().len() - before, requests, "{path}");
        }
        let few = builder().redirects(Redirects::limited(2)).build().unwrap();
        let error = few.get(server.url("/1")).send().await.unwrap_err();
        assert!(error.to_string().contains("more than 2"), "{error}");
        assert_eq!(error.url().unwrap().path(), "/3", "the URL whose redirect was one too many");
    });
}

#[test]
fn secrets_stay_with_the_origin_that_may_know_them() {
    check(async || {
        let other = Scripted::echo(|_| String::new()).await;
        let elsewhere = other.url("/there");
        let server = Scripted::start(move |_, mut peer| {
            let elsewhere = elsewhere.clone();
            async move {
                while let Some(head) = peer.head().await {
                    let to = match head.split(' ').nth(1).unwrap() {
                        "/here" => "/there",
                        "/away" => &elsewhere,
                        _ => {
                            peer.ok("").await;
                            continue;
                        }
                    };
                    peer.answer("302 Found", &format!("location: {to}\r\n"), "").await;
                }
            }
        })
        .await;
        let client = client();
        for path in ["/here", "/away"] {
            let request = client.get(server.url(path)).bearer_auth("s3cret").header("x-other", "1");
            request.header("cookie", "id=s3cret").send().await.unwrap();
        }
        let stayed = &server.heads()[1];
        assert!(stayed.contains("Bearer s3cret") && stayed.contains("id=s3cret"), "{stayed}");
        let went = &other.heads()[0];
        assert!(!went.contains("s3cret") && went.contains("x-other: 1"), "{went}");
        assert!(went.contains(&format!("host: {}\r\n", other.address)), "{went}");
    });
}

#[test]
fn a_stream_is_not_sent_twice() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            while let Some(head) = peer.head().await {
                if head.starts_with("GET") {
                    peer.ok("fine").await;
                    continue;
                }
                peer.until("0\r\n\r\n").await;
                let status = if head.starts_with("POST /keep") { "307" } else { "303" };
                peer.answer(&format!("{status} Elsewhere"), "location: /x\r\n", "").await;
            }
        })
        .await;
        let client = client();
        let body = || Body::from_stream(stream::iter([Ok::<_, std::io::Error>("piece")]));
        let error = client.post(server.url("/keep")).body(body()).send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Redirect);
        assert!(error.to_string().contains("a stream, which cannot be sent again"), "{error}");
        let response = client.post(server.url("/drop")).body(body()).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "fine");
    });
}
