//! The end of a stream: clean, half, and cut off.

use std::io;

use annulus::io::{AsyncRead, AsyncWrite};
use annulus::tls::rustls;

use crate::Sides;
use crate::common::run_here;
use crate::pipe::pair;

#[test]
fn a_shutdown_is_a_clean_end_and_the_other_direction_goes_on() {
    let sides = Sides::new();
    run_here(async {
        let (mut client, mut server) = sides.shake_hands(pair(10_000, None)).await?;
        client.write_all("a question").await?;
        client.shutdown().await?;
        client.shutdown().await?; // nothing happens
        let refused = client.write("more").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);

        let mut question = String::new();
        server.read_to_string(&mut question).await?;
        assert_eq!(question, "a question");
        assert_eq!(server.read(vec![0; 10]).await?.0, 0); // the end stays
        server.write_all("an answer").await?;
        server.shutdown().await?;

        let mut answer = String::new();
        client.read_to_string(&mut answer).await?;
        assert_eq!(answer, "an answer");
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_stream_that_ends_without_close_notify_is_an_error_each_time() {
    let sides = Sides::new();
    run_here(async {
        let (mut client, mut server) = sides.shake_hands(pair(10_000, None)).await?;
        client.write_all("half of it").await?;
        drop(client);
        server.read_exact(vec![0; 10]).await?;
        for _ in 0..3 {
            let error = server.read(vec![0; 10]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert!(error.to_string().contains("without a close_notify"), "{error}");
        }

        let (mut client, mut server) = sides.shake_hands(pair(10_000, None)).await?;
        server.write_all("half of it").await?;
        drop(server);
        client.read_exact(vec![0; 10]).await?;
        for _ in 0..3 {
            let error = client.read(vec![0; 10]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_stream_that_is_cut_off_within_a_record_is_an_error() {
    let sides = Sides::new();
    run_here(async {
        let (mut client, server) = sides.shake_hands(pair(10_000, None)).await?;
        let _tickets = client.get_ref().intercept();
        client.write_all("a record").await?;
        let record = server.get_ref().intercept();
        for length in 1..record.len() {
            let (client, mut server) = sides.shake_hands(pair(10_000, None)).await?;
            client.get_ref().inject(&record[..length.min(4)]); // a head that is not complete
            drop(client);
            let error = server.read(vec![0; 10]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length} bytes");
        }
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn garbage_ends_the_stream_behind_what_came_before_it() {
    let sides = Sides::new();
    run_here(async {
        let (mut client, mut server) = sides.shake_hands(pair(10_000, None)).await?;
        client.write_all("sound").await?;
        // A record that nobody can decrypt.
        client.get_ref().inject(b"\x17\x03\x03\x00\x20garbage garbage garbage garbage ");
        assert_eq!(server.read_exact(vec![0; 5]).await?, b"sound");
        for _ in 0..2 {
            let error = server.read(vec![0; 10]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let error = server.write("more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);

        // The peer learns it by an alert.
        let error = client.read(vec![0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        let error = io::Error::from(error);
        let source = std::error::Error::source(&error).expect("a source");
        assert!(matches!(
            source.downcast_ref(),
            Some(rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac))
        ));
        io::Result::Ok(())
    })
    .unwrap();
}

#[test]
fn a_stream_below_that_fails_is_reported_once_and_then_broken() {
    let sides = Sides::new();
    run_here(async {
        let (mut client, server) = sides.shake_hands(pair(1000, None)).await?;
        client.write_all(vec![7; 5000]).await?; // the most of it waits in the drain
        drop(server);
        let error = client.flush().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let error = client.write("more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        io::Result::Ok(())
    })
    .unwrap();
}
