//! Proxies: whole URLs for http, tunnels for https, and what the environment says.

use annulus::http::{Client, ErrorKind};

use super::{Scripted, builder, check};
use crate::common::{in_own_process, run_here};

#[test]
fn a_proxy_gets_the_whole_url_and_its_password() {
    check(async || {
        let proxy = Scripted::echo(|_| "by proxy".to_owned()).await;
        let url = format!("http://user:pass@{}", proxy.address);
        let client = builder().proxy(&url).build().unwrap();
        for path in ["/a?b", "/c"] {
            // The proxy looks the name up, and not the client.
            let response = client.get(format!("http://far.test{path}")).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "by proxy");
        }
        let heads = proxy.heads();
        assert!(heads[0].starts_with("GET http://far.test/a?b HTTP/1.1\r\n"), "{}", heads[0]);
        assert!(heads[0].contains("host: far.test\r\n"));
        assert!(heads[0].contains("proxy-authorization: Basic dXNlcjpwYXNz\r\n"));
        assert_eq!(proxy.accepted(), 1);
    });
}

#[test]
fn a_tunnel_that_is_refused_or_broken_is_an_error_of_the_proxy() {
    check(async || {
        for (answer, word) in [
            ("HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n", "407"),
            ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "502"),
            ("HTTP/1.1 200 OK\r\n\r\nand more", "more than its answer"),
            ("garbage\r\n\r\n", "invalid"),
            ("", "message completed"),
        ] {
            let proxy = Scripted::start(move |_, mut peer| async move {
                peer.head().await;
                peer.say(answer).await;
            })
            .await;
            let client = builder().proxy(&proxy.url("")).build().unwrap();
            let error = client.get("https://far.test/").send().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Proxy);
            assert!(error.is_connect() && error.to_string().contains(word), "{error}");
            assert!(
                proxy.heads()[0].starts_with("CONNECT far.test:443 HTTP/1.1\r\nhost: far.test:443")
            );
        }
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = builder().proxy(&format!("http://{gone}")).build().unwrap();
        let error = client.get("http://far.test/").send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Proxy);
        assert!(error.to_string().contains("cannot be reached"), "{error}");
    });
}

#[test]
fn the_environment_chooses_the_proxy() {
    in_own_process(|| {
        run_here(async {
            let proxy = Scripted::echo(|_| "by proxy".to_owned()).await;
            let direct = Scripted::echo(|_| "direct".to_owned()).await;
            // SAFETY: no other thread of this process reads the environment.
            unsafe {
                std::env::set_var("HTTP_PROXY", proxy.url(""));
                std::env::set_var("NO_PROXY", "127.0.0.0/8");
            }
            let client = Client::new();
            let response = client.get("http://far.test/").send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "by proxy");
            let response = client.get(direct.url("/")).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "direct");
        });
    });
}
