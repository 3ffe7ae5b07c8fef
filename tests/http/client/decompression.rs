//! Packed bodies.

use annulus::http::ErrorKind;
use async_compression::futures::write::{BrotliEncoder, GzipEncoder, ZlibEncoder};
use futures_util::AsyncWriteExt;

use super::{Scripted, builder, check, client};

async fn packed(encoding: &str, plain: &[u8]) -> Vec<u8> {
    macro_rules! pack {
        ($encoder:ident) => {{
            let mut encoder = $encoder::new(Vec::new());
            encoder.write_all(plain).await.unwrap();
            encoder.close().await.unwrap();
            encoder.into_inner()
        }};
    }
    match encoding {
        "gzip" => pack!(GzipEncoder),
        "deflate" => pack!(ZlibEncoder),
        _ => pack!(BrotliEncoder),
    }
}

/// A server that answers with bytes in an encoding, chunked, the last chunk on its own.
async fn serving(encoding: &'static str, bytes: Vec<u8>) -> Scripted {
    Scripted::start(move |_, mut peer| {
        let bytes = bytes.clone();
        async move {
            while peer.head().await.is_some() {
                peer.say(format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\n")).await;
                peer.say(format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", bytes.len())).await;
                peer.say(bytes.clone()).await;
                peer.say("\r\n0\r\n\r\n").await;
            }
        }
    })
    .await
}

#[test]
fn packed_bodies_are_unpacked_and_the_connection_goes_on() {
    check(async || {
        let plain = "one line after the other\n".repeat(10_000);
        for encoding in ["gzip", "deflate", "br"] {
            let server = serving(encoding, packed(encoding, plain.as_bytes()).await).await;
            let client = client();
            for _ in 0..2 {
                let response = client.get(server.url("/")).send().await.unwrap();
                assert!(!response.headers().contains_key("content-encoding"));
                assert_eq!(response.content_length(), None);
                assert_eq!(response.text().await.unwrap(), plain);
            }
            assert_eq!(server.accepted(), 1);
            assert!(server.heads()[0].contains("accept-encoding: gzip, br, deflate\r\n"));
        }
        let server = serving("gzip", b"as it is".to_vec()).await;
        let client = builder().no_decompression().build().unwrap();
        let response = client.get(server.url("/")).send().await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip");
        assert_eq!(response.text().await.unwrap(), "as it is");
        assert!(!server.heads()[0].contains("accept-encoding"));
    });
}

#[test]
fn garbage_an_early_end_and_a_bomb_are_errors() {
    check(async || {
        let mut short = packed("gzip", &[7; 10_000]).await;
        short.truncate(short.len() - 9);
        for (encoding, bytes) in
            [("gzip", b"garbage".to_vec()), ("br", vec![0xff; 9]), ("gzip", short)]
        {
            let server = serving(encoding, bytes).await;
            let response = client().get(server.url("/")).send().await.unwrap();
            let error = response.bytes().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
        }
        let bomb = packed("gzip", &vec![0; 10 << 20]).await;
        assert!(bomb.len() < 100_000);
        let server = serving("gzip", bomb).await;
        let client = builder().max_body(1 << 20).build().unwrap();
        let response = client.get(server.url("/")).send().await.unwrap();
        let error = response.bytes().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BodyTooLarge, "{error}");
    });
}
