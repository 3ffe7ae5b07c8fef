//! The writer with a buffer: what is collected is written in order, once, or reported.

use std::io::{self, ErrorKind};

use annulus::io::{AsyncWrite, BufWriter};

use crate::common::{Random, run, seed};
use crate::tools::{Bits, polls};

#[test]
fn small_writes_are_collected_and_large_ones_go_past_the_buffer() {
    run(async || {
        let mut writer = BufWriter::with_capacity(8, Bits::of(b"", 100));
        writer.write_all("1234").await.unwrap();
        writer.write_all_vectored(("56", b"78".to_vec())).await.unwrap();
        assert_eq!((&writer.get_ref().bytes[..], writer.buffer()), (&b""[..], &b"12345678"[..]));
        writer.write_all("9").await.unwrap();
        assert_eq!(writer.get_ref().bytes, b"12345678");
        writer.write_all("a long one that never fits").await.unwrap();
        assert!(writer.buffer().is_empty());
        writer.write_all_vectored(vec!["x", "and one of several buffers"]).await.unwrap();
        writer.write_vectored(["y", "z"]).await.unwrap();
        writer.flush().await.unwrap();
        writer.shutdown().await.unwrap();
        let beneath = writer.into_inner();
        let all = b"123456789a long one that never fitsxand one of several buffersyz";
        assert_eq!((&beneath.bytes[..], beneath.flushes, beneath.shutdowns), (&all[..], 1, 1));
    });
}

#[test]
fn any_sequence_of_writes_gives_each_byte_once_and_in_order() {
    let seed = seed();
    run(async move || {
        let random = Random::new(seed);
        for _ in 0..200 {
            let bits = Bits::of(b"", 1 + random.below(7)).waiting();
            let mut writer = BufWriter::with_capacity(random.below(20), bits);
            let mut expected = Vec::new();
            for round in 0..30u8 {
                let (a, b) = (vec![round; random.below(12)], vec![round + 100; random.below(12)]);
                match random.below(4) {
                    0 => {
                        expected.extend_from_slice(&a);
                        writer.write_all(a).await.unwrap();
                    }
                    1 => {
                        let (count, a) = writer.write(a).await.unwrap();
                        expected.extend_from_slice(&a[..count]);
                    }
                    2 => {
                        expected.extend_from_slice(&[&a[..], &b].concat());
                        writer.write_all_vectored([a, b]).await.unwrap();
                    }
                    _ => writer.flush().await.unwrap(),
                }
            }
            writer.flush().await.unwrap();
            assert_eq!(writer.get_ref().bytes, expected);
        }
    });
}

#[test]
fn an_error_keeps_the_rest_and_the_next_flush_goes_on() {
    run(async || {
        let mut writer = BufWriter::with_capacity(64, Bits::of(b"", 4).failing(6));
        writer.write_all("0123456789").await.unwrap();
        let error = writer.flush().await.unwrap_err();
        assert_eq!((error.raw_os_error(), writer.buffer()), (Some(libc::EIO), &b"6789"[..]));
        assert!(writer.flush().await.is_err());
        writer.get_mut().fails = None;
        writer.flush().await.unwrap();
        assert_eq!(writer.get_ref().bytes, b"0123456789");
    });
}

#[test]
fn a_flush_that_is_dropped_before_it_wrote_or_in_between_is_told_and_a_write_that_fits_is_not() {
    run(async || {
        // The first poll does it.
        let mut writer = BufWriter::with_capacity(8, Bits::of(b"", 2).waiting());
        assert!(polls(writer.write_all("1234"), 1).await.is_some());
        assert!(polls(writer.flush(), 2).await.is_none());
        let told = |error: &io::Error| {
            assert_eq!(error.kind(), ErrorKind::Other);
            assert!(error.to_string().contains("dropped"), "{error}");
        };
        told(&writer.flush().await.unwrap_err());
        told(writer.write("5").await.unwrap_err().get_ref());
        told(writer.write_all("a long one that never fits").await.unwrap_err().get_ref());
        told(
            writer
                .write_all_vectored(["a long one that never", "fits"])
                .await
                .unwrap_err()
                .get_ref(),
        );
        told(&writer.shutdown().await.unwrap_err());
        assert_eq!(writer.get_ref().bytes, b"12");
    });
}
