//! The traits: what is provided for a type that has only the least, and what streams do better.

use std::io::{Cursor, ErrorKind};

use annulus::io::{AsyncRead, AsyncWrite, empty, repeat, sink};
use annulus::net::UnixStream;
use futures_util::StreamExt;

use crate::common::{run, turns};
use crate::tools::Bits;

#[test]
fn a_reader_of_few_bytes_at_a_time_has_all_other_ways_to_read() {
    run(async || {
        let mut reader = Bits::of(b"0123456789abcdef", 3);
        assert_eq!(reader.read_exact(vec![0; 4]).await.unwrap(), b"0123");
        let (count, buffers) =
            reader.read_vectored(vec![vec![], vec![0; 2], vec![0; 9]]).await.unwrap();
        assert_eq!((count, &buffers[1][..], &buffers[2][..]), (2, &b"45"[..], &[0; 9][..]));
        let mut kept = Vec::with_capacity(64);
        kept.extend_from_slice(b"kept ");
        let (count, kept) = reader.read_append(kept).await.unwrap();
        assert_eq!((count, &kept[..]), (3, &b"kept 678"[..]));
        assert_eq!(reader.read_chunk().await.unwrap(), b"9ab");
        let mut text = "text ".to_owned();
        assert_eq!(reader.read_to_string(&mut text).await.unwrap(), 4);
        assert_eq!(text, "text cdef");
        assert!(reader.read_chunk().await.unwrap().is_empty());
    });
}

#[test]
fn an_early_end_and_an_error_tell_how_much_was_read() {
    run(async || {
        let error = Bits::of(b"12345", 2).read_exact(vec![0; 8]).await.unwrap_err();
        assert_eq!((error.kind(), error.transferred()), (ErrorKind::UnexpectedEof, 5));
        assert_eq!(&error.into_buffer()[..5], b"12345");

        let mut failing = Bits::of(b"123", 2).failing(0);
        let error = failing.read_exact(vec![0; 8]).await.unwrap_err();
        assert_eq!((error.raw_os_error(), error.transferred()), (Some(libc::EIO), 3));

        let mut failing = Bits::of(b"123", 2).failing(0);
        let mut bytes = vec![b'0'];
        let error = failing.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!((error.raw_os_error(), &bytes[..]), (Some(libc::EIO), &b"0123"[..]));

        let mut text = "as it was".to_owned();
        let error = Bits::of(b"\xff", 1).read_to_string(&mut text).await.unwrap_err();
        assert_eq!((error.kind(), &text[..]), (ErrorKind::InvalidData, "as it was"));

        let error = Bits::of(b"1", 1).read_vectored(vec![Vec::<u8>::new()]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_writer_of_few_bytes_at_a_time_has_all_other_ways_to_write() {
    run(async || {
        let mut writer = Bits::of(b"", 3);
        assert_eq!(writer.write_all("0123456789").await.unwrap(), "0123456789");
        let (count, _) = writer.write_vectored(("", "ab", b"cd".to_vec())).await.unwrap();
        assert_eq!(count, 3);
        writer.write_all_vectored(("d", vec![b"ef".to_vec()].remove(0))).await.unwrap();
        assert_eq!(writer.bytes, b"0123456789abcdef");

        let long: Vec<Vec<u8>> = (0..300u32).map(|n| vec![n as u8; 1000]).collect();
        let mut memory = Vec::new();
        let long = memory.write_all_vectored(long).await.unwrap();
        assert_eq!(memory, long.concat());

        let mut full = Cursor::new([0; 4]);
        let error = full.write_all("12345").await.unwrap_err();
        assert_eq!((error.kind(), error.transferred()), (ErrorKind::WriteZero, 4));
        let error = Cursor::new([0; 4]).write_all_vectored(["123", "45"]).await.unwrap_err();
        assert_eq!((error.kind(), error.transferred()), (ErrorKind::WriteZero, 4));
    });
}

#[test]
fn a_limit_ends_a_reader_early_and_a_chain_goes_on_with_the_next() {
    run(async || {
        let mut bytes = Vec::new();
        let mut reader = (&b"0123456789"[..]).take(4).chain(&b"ab"[..]).chain(empty());
        reader.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"0123ab");

        // A chunk that reaches beyond the limit waits for a higher one.
        let mut limited = repeat(b'x').take(5);
        assert_eq!(limited.read_chunk().await.unwrap(), b"xxxxx");
        assert!(limited.read_chunk().await.unwrap().is_empty());
        assert_eq!(limited.read(vec![0; 3]).await.unwrap().0, 0);
        limited.set_limit(70_000);
        assert_eq!(limited.read(vec![0; 3]).await.unwrap(), (3, b"xxx".to_vec()));
        bytes.clear();
        assert_eq!(limited.read_to_end(&mut bytes).await.unwrap(), 69_997);
        let error = limited.read(Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);

        let (count, _) = sink().write_vectored(["ab", "cd"]).await.unwrap();
        assert_eq!(count, 4);
    });
}

/// What generic code sees of a stream, however it is given.
async fn exchange(mut reader: impl AsyncRead, mut writer: impl AsyncWrite) {
    assert!(reader.lends_chunks());
    writer.write_all("0123").await.unwrap();
    writer.write_all_vectored(("45", "67")).await.unwrap();
    writer.flush().await.unwrap();
    writer.shutdown().await.unwrap();
    assert_eq!(reader.read_exact(vec![0; 2]).await.unwrap(), b"01");
    let mut rest = Vec::new();
    let mut chunks = std::pin::pin!(reader.chunks());
    while let Some(chunk) = chunks.next().await {
        rest.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(rest, b"234567");
}

#[test]
fn streams_halves_references_and_boxes_are_readers_and_writers() {
    run(async || {
        let (a, b) = UnixStream::pair().unwrap();
        exchange(&a, &b).await;
        let (mut a, mut b) = UnixStream::pair().unwrap();
        exchange(&mut a, &mut b).await;
        let (a, b) = UnixStream::pair().unwrap();
        exchange(Box::new(a), Box::new(b)).await;
        let (a, b) = UnixStream::pair().unwrap();
        let ((a, _writes), (_reads, b)) = (a.into_split(), b.into_split());
        exchange(a, b).await;
    });
}

#[test]
fn a_dropped_read_of_a_stream_through_the_trait_loses_nothing() {
    run(async || {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let reader: &mut UnixStream = &mut ours;
        {
            let mut read = std::pin::pin!(AsyncRead::read_exact(reader, vec![0; 6]));
            assert!(futures_util::poll!(&mut read).is_pending());
            theirs.write_all("012").await.unwrap();
            turns(2).await;
        }
        theirs.write_all("345").await.unwrap();
        let reader: &mut UnixStream = &mut ours;
        assert_eq!(AsyncRead::read_exact(reader, vec![0; 6]).await.unwrap(), b"012345");
    });
}
