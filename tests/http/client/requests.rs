//! Requests and responses as they should be.

use annulus::http::{Body, ErrorKind, HeaderMap, Method, StatusCode, Version};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{Scripted, builder, check, client};

#[test]
fn every_method_sends_its_name_and_what_a_server_needs() {
    check(async || {
        let server = Scripted::echo(|_| String::new()).await;
        let client = client();
        let url = server.url("/a/b?c=d#not-sent");
        for builder in [
            client.get(&url),
            client.head(&url),
            client.post(&url),
            client.put(&url),
            client.patch(&url),
            client.delete(&url),
            client.request(Method::OPTIONS, &url),
        ] {
            let response = builder.send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.version(), Version::HTTP_11);
            assert_eq!(response.remote_addr(), server.address);
            assert_eq!(response.url().as_str(), url);
        }
        let heads = server.heads();
        let methods: Vec<_> = heads.iter().map(|head| head.split(' ').next().unwrap()).collect();
        assert_eq!(methods, ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
        for head in &heads {
            assert!(head.contains(" /a/b?c=d HTTP/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("\r\nhost: {}\r\n", server.address)), "{head}");
            assert!(head.contains("\r\naccept: */*\r\n"), "{head}");
            assert!(head.contains("\r\nuser-agent: annulus/"), "{head}");
        }
        assert_eq!(server.accepted(), 1, "one connection served them all");
    });
}

#[test]
fn what_a_builder_adds_is_in_the_head() {
    check(async || {
        let server = Scripted::echo(|_| String::new()).await;
        let mut defaults = HeaderMap::new();
        defaults.insert("x-default", "one".parse().unwrap());
        defaults.insert("x-both", "of the client".parse().unwrap());
        let client = builder().user_agent("me/1").default_headers(defaults).build().unwrap();
        let mut headers = HeaderMap::new();
        headers.append("x-many", "1".parse().unwrap());
        headers.append("x-many", "2".parse().unwrap());
        let request = client
            .get(server.url("/?a=1"))
            .header("x-many", "0")
            .headers(headers)
            .header("x-both", "of the request")
            .query(&[("name", "ä b"), ("other", "&")])
            .query(&[("n", 7)])
            .bearer_auth("token");
        request.send().await.unwrap();
        let _ = client.get(server.url("/")).basic_auth("Aladdin", Some("open sesame")).send().await;
        let with_login = server.url("/").replace("//", "//us%20er:pa%3Ass@");
        client.get(with_login).send().await.unwrap();

        let heads = server.heads();
        assert!(
            heads[0].starts_with("GET /?a=1&name=%C3%A4+b&other=%26&n=7 HTTP/1.1\r\n"),
            "{}",
            heads[0]
        );
        for line in [
            "x-many: 1\r\nx-many: 2\r\n",
            "x-default: one\r\n",
            "x-both: of the request\r\n",
            "user-agent: me/1\r\n",
            "authorization: Bearer token\r\n",
        ] {
            assert!(heads[0].contains(line), "{line:?} in {}", heads[0]);
        }
        assert!(!heads[0].contains("x-many: 0") && !heads[0].contains("of the client"));
        assert!(heads[1].contains("authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"));
        // "us er:pa:ss"
        assert!(heads[2].contains("authorization: Basic dXMgZXI6cGE6c3M=\r\n"), "{}", heads[2]);
    });
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Point {
    x: u32,
    y: Option<String>,
}

#[test]
fn bodies_of_all_kinds_arrive_as_they_were() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            while let Some(head) = peer.head().await {
                let length = head
                    .split("content-length: ")
                    .nth(1)
                    .map(|rest| rest.split("\r\n").next().unwrap().parse().unwrap());
                let body = match length {
                    Some(length) => peer.body(length).await,
                    None if head.contains("transfer-encoding: chunked") => {
                        peer.until("0\r\n\r\n").await
                    }
                    None => Vec::new(),
                };
                peer.ok(&String::from_utf8(body).unwrap()).await;
            }
        })
        .await;
        let client = client();
        let post = || client.post(server.url("/"));
        let point = Point { x: 7, y: None };

        let echoed = post().json(&point).send().await.unwrap();
        assert_eq!(echoed.json::<Point>().await.unwrap(), point);
        let echoed = post().form(&[("a", "1 2"), ("b", "ü")]).send().await.unwrap();
        assert_eq!(echoed.text().await.unwrap(), "a=1+2&b=%C3%BC");
        let echoed = post().body("text").send().await.unwrap();
        assert_eq!(echoed.content_length(), Some(4));
        assert_eq!(echoed.bytes().await.unwrap(), "text");
        let large = "0123456789".repeat(100_000);
        let echoed = post().body(large.clone()).send().await.unwrap();
        assert_eq!(echoed.bytes().await.unwrap(), large);
        let pieces = stream::iter(["ab", "c", "def"]).map(Ok::<_, std::io::Error>);
        let echoed = post().body(Body::from_stream(pieces)).send().await.unwrap();
        assert_eq!(echoed.text().await.unwrap(), "2\r\nab\r\n1\r\nc\r\n3\r\ndef\r\n0\r\n\r\n");

        let heads = server.heads();
        assert!(heads[0].contains("content-type: application/json\r\n"));
        assert!(heads[1].contains("content-type: application/x-www-form-urlencoded\r\n"));
        assert!(heads[4].contains("transfer-encoding: chunked\r\n"));
        assert_eq!(server.accepted(), 1);
    });
}

#[test]
fn a_body_comes_by_pieces_as_a_stream_and_as_one_of_the_http_crate() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            while peer.head().await.is_some() {
                peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
                peer.say("4\r\ndefg\r\n0\r\nx-sum: 7\r\n\r\n").await;
            }
        })
        .await;
        let client = client();
        let mut response = client.get(server.url("/")).send().await.unwrap();
        assert_eq!(response.content_length(), None);
        let mut gathered = Vec::new();
        while let Some(chunk) = response.chunk().await.unwrap() {
            gathered.extend_from_slice(&chunk);
        }
        assert_eq!(gathered, b"abcdefg");
        assert!(response.chunk().await.unwrap().is_none(), "an end is for ever");

        let response = client.get(server.url("/")).send().await.unwrap();
        let chunks: Vec<_> = response.bytes_stream().collect().await;
        let bytes: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.unwrap().to_vec()).collect();
        assert_eq!(bytes, b"abcdefg");

        let request = ::http::Request::get(server.url("/")).header("x-mine", "1").body("").unwrap();
        let response = client.execute(request).await.unwrap();
        let response: ::http::Response<Body> = response.into();
        assert_eq!(response.headers()["transfer-encoding"], "chunked");
        assert_eq!(response.into_body().text().await.unwrap(), "abcdefg");
        assert!(server.heads()[2].contains("x-mine: 1\r\n"));
        assert_eq!(server.accepted(), 1);
    });
}

#[test]
fn responses_without_a_body_free_their_connection_at_once() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            while let Some(head) = peer.head().await {
                peer.say(match head.split(' ').next().unwrap() {
                    "HEAD" => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
                    "DELETE" => "HTTP/1.1 204 No Content\r\n\r\n",
                    _ => "HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n",
                })
                .await;
            }
        })
        .await;
        let client = client();
        let head = client.head(server.url("/")).send().await.unwrap();
        let empty = client.delete(server.url("/")).send().await.unwrap();
        let unchanged = client.get(server.url("/")).send().await.unwrap();
        // All three are held.
        assert_eq!(server.accepted(), 1);
        assert_eq!(head.headers()["content-length"], "1000");
        for response in [head, empty, unchanged] {
            assert_eq!(response.bytes().await.unwrap(), "");
        }
    });
}

#[test]
fn what_is_wrong_with_a_request_comes_out_of_send() {
    check(async || {
        let client = client();
        let wrong = [
            client.get("no url"),
            client.get("/relative"),
            client.get("ftp://example.org/"),
            client.get("http://"),
            client.get("http://127.0.0.1:1/").header("bad name", "x"),
            client.get("http://127.0.0.1:1/").header("x", "line\nbreak"),
            client.get("http://127.0.0.1:1/").version(Version::HTTP_3),
            client.get("http://127.0.0.1:1/").query("text"),
        ];
        for request in wrong {
            let text = format!("{request:?}");
            let error = request.send().await.expect_err(&text);
            assert_eq!(error.kind(), ErrorKind::Request, "{error} for {text}");
            assert!(!error.is_connect() && !error.is_timeout());
        }
        let only_https = builder().https_only(true).build().unwrap();
        let error = only_https.get("http://127.0.0.1:1/").send().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "http://127.0.0.1:1/: the request is not valid: only https is allowed"
        );
        assert!(builder().user_agent("a\nb").build().is_err());
        assert!(builder().proxy("socks5://127.0.0.1:1").build().is_err());
        assert!(builder().proxy("%%").build().is_err());
    });
}

#[test]
fn statuses_are_results_until_they_are_made_errors() {
    check(async || {
        let server = Scripted::start(|_, mut peer| async move {
            peer.head().await;
            peer.answer("404 Not Found", "", "nothing here").await;
            peer.head().await;
            peer.answer("503 Service Unavailable", "", "").await;
            peer.head().await;
            peer.answer("304 Not Modified", "", "").await;
        })
        .await;
        let client = client();
        let missing = client.get(server.url("/a")).send().await.unwrap();
        assert_eq!(missing.text().await.unwrap(), "nothing here");
        let error = client.get(server.url("/b")).send().await.unwrap().error_for_status();
        let error = error.unwrap_err();
        assert_eq!(
            (error.kind(), error.status()),
            (ErrorKind::Status, Some(StatusCode::SERVICE_UNAVAILABLE))
        );
        assert_eq!(error.url().unwrap().path(), "/b");
        assert!(error.to_string().ends_with("/b: the status is an error: 503 Service Unavailable"));
        assert!(client.get(server.url("/c")).send().await.unwrap().error_for_status().is_ok());
    });
}

#[test]
fn a_url_with_an_ipv6_address_has_it_in_the_host() {
    check(async || {
        let Ok(listener) = annulus::net::TcpListener::bind("[::1]:0").await else {
            println!("skipped: no IPv6 here");
            return;
        };
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            let (_, head) = stream.read(Vec::with_capacity(1024)).await.unwrap();
            stream.write_all("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let client = client();
        let ask = client.get(format!("http://{address}/")).send();
        let (head, response) = futures_util::join!(serve, ask);
        assert!(head.contains(&format!("\r\nhost: {address}\r\n")), "{head}");
        assert_eq!(response.unwrap().text().await.unwrap(), "");
    });
}
