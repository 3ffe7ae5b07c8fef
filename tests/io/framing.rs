//! Frames: the same whatever comes at a time and is dropped, with limits, and errors that say
//! which.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use annulus::io::{
    BufReader, Decoder, Encoder, FrameBytes, FramedRead, FramedWrite, LengthDelimited, LinesCodec,
    pipe,
};
use annulus::net::UnixStream;
use annulus::spawn;
use futures_util::stream::{self, FusedStream};
use futures_util::{Sink, SinkExt, StreamExt, TryStreamExt};

use crate::common::{Random, run, seed, turns};
use crate::tools::{Bits, polls};

/// All frames, read with a `next` that is dropped after so many polls.
async fn all<D: Decoder>(
    mut frames: FramedRead<Bits, D>,
    most: usize,
) -> io::Result<Vec<D::Frame>> {
    let mut found = Vec::new();
    loop {
        match polls(frames.next(), most).await {
            None => {}
            Some(Some(frame)) => found.push(frame?),
            Some(None) => {
                assert!(frames.is_terminated() && frames.next().await.is_none());
                return Ok(found);
            }
        }
    }
}

fn length_codecs() -> Vec<LengthDelimited> {
    let mut codecs = Vec::new();
    for width in 2..=8 {
        let codec = LengthDelimited::new().width(width);
        codecs.push(codec.clone());
        codecs.push(codec.clone().little_endian());
        codecs.push(codec.counts_itself());
    }
    codecs
}

#[test]
fn frames_with_a_length_are_the_same_whatever_comes_at_a_time() {
    let seed = seed();
    run(async move || {
        let random = Random::new(seed);
        for codec in length_codecs() {
            let frames: Vec<_> = (0..20).map(|_| random.bytes(random.below(300))).collect();
            let mut sent = FramedWrite::new(Vec::new(), codec.clone());
            for frame in &frames {
                sent.feed(frame).await.unwrap();
            }
            SinkExt::<&Vec<u8>>::flush(&mut sent).await.unwrap();
            let bytes = sent.get_ref().unwrap().clone();
            for at_a_time in [1, 2, 3, 7, 50, 1000, 100_000] {
                let reader = Bits::of(&bytes, at_a_time).waiting();
                let received = FramedRead::new(reader, codec.clone());
                assert_eq!(all(received, random.up_to(4)).await.unwrap(), frames);
            }
        }
    });
}

#[test]
fn lines_are_the_same_whatever_comes_at_a_time_and_those_of_std() {
    run(async || {
        let text = "one\r\n\ntwo\rhalf\r\n\u{e4}\n\nlast\r";
        let mut expected: Vec<_> = text.lines().map(str::to_owned).collect();
        expected.pop();
        expected.push("last".to_owned());
        for at_a_time in 1..30 {
            for most in 1..4 {
                let reader = Bits::of(text.as_bytes(), at_a_time).waiting();
                let lines = FramedRead::new(reader, LinesCodec::new());
                assert_eq!(all(lines, most).await.unwrap(), expected);
            }
        }
        let mut written = FramedWrite::new(Vec::new(), LinesCodec::new());
        written.send("a").await.unwrap();
        written.send("b".to_owned()).await.unwrap();
        let error = written.send("two\nlines").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        written.send("c").await.unwrap();
        assert_eq!(written.get_ref().unwrap(), b"a\nb\nc\n");
    });
}

async fn error_of<D: Decoder>(bytes: &[u8], codec: D) -> (ErrorKind, String)
where
    D::Frame: std::fmt::Debug,
{
    let mut frames = FramedRead::new(Bits::of(bytes, 4), codec);
    loop {
        if let Err(error) = frames.next().await.expect("an error comes") {
            assert!(frames.next().await.is_none(), "it ends after an error");
            return (error.kind(), error.to_string());
        }
    }
}

#[test]
fn what_is_too_long_or_no_frame_or_cut_off_is_an_error_that_says_so() {
    run(async || {
        let codec = || LengthDelimited::new().max_frame_length(5);
        let (kind, text) = error_of(&[0, 0, 0, 6, 1, 2, 3, 4, 5, 6], codec()).await;
        assert_eq!(kind, ErrorKind::InvalidData);
        assert_eq!(text, "a frame of 6 bytes is longer than the limit of 5");
        let (kind, text) = error_of(&[0xff; 8], codec().width(8)).await;
        assert_eq!(kind, ErrorKind::InvalidData);
        assert!(text.contains("18446744073709551615"), "{text}");
        let (kind, _) = error_of(&[0, 0, 0, 3], codec().counts_itself()).await;
        assert_eq!(kind, ErrorKind::InvalidData);
        for cut in [&[0, 0, 0, 1, 9, 0][..], &[0, 0, 0, 3, 1]] {
            let (kind, text) = error_of(cut, codec()).await;
            assert_eq!(kind, ErrorKind::UnexpectedEof);
            assert!(text.contains("within a frame"), "{text}");
        }
        let lines = || LinesCodec::new().max_length(4);
        for text in [&b"12345\n"[..], b"12345", b"1234\n123456789", b"12345\r\n"] {
            let (kind, text) = error_of(text, lines()).await;
            assert_eq!(kind, ErrorKind::InvalidData);
            assert!(text.contains("limit of 4"), "{text}");
        }
        assert_eq!(error_of(b"\xff\n", lines()).await.0, ErrorKind::InvalidData);
        let fits = FramedRead::new(Bits::of(b"1234\r\n1234", 3), lines());
        assert_eq!(all(fits, 9).await.unwrap(), ["1234", "1234"]);

        let mut sink = FramedWrite::new(Vec::new(), codec());
        let error = sink.send(vec![0; 6]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let mut narrow = FramedWrite::new(Vec::new(), LengthDelimited::new().width(1));
        assert!(narrow.send(vec![0; 256]).await.is_err());
        narrow.send(vec![7; 255]).await.unwrap();
        assert_eq!(narrow.get_ref().unwrap().len(), 256);
        let failing = FramedRead::new(Bits::of(&[0, 0, 0, 1, 5], 9).failing(0), codec());
        let error = all(failing, 9).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    });
}

#[test]
fn a_frame_that_came_in_one_chunk_is_that_chunk() {
    run(async || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"\0\0\0\x02ab\0\0\0\x01c".to_vec()).await.unwrap();
        let mut frames = FramedRead::new(ours, LengthDelimited::new());
        let first = frames.next().await.unwrap().unwrap();
        let second = frames.next().await.unwrap().unwrap();
        assert_eq!((&first[..], &second[..]), (&b"ab"[..], &b"c"[..]));
        assert_eq!(second.as_ptr().addr() - first.as_ptr().addr(), 6);

        // The rest goes on otherwise.
        theirs.write_all(b"\0\0\0\x01dplain\n".to_vec()).await.unwrap();
        assert_eq!(frames.next().await.unwrap().unwrap(), b"d");
        let (stream, rest) = frames.into_parts().await.unwrap();
        assert_eq!((rest, stream.as_raw_fd() > 2), (b"plain\n".to_vec(), true));
    });
}

#[test]
fn frames_go_through_a_small_pipe_under_pressure_from_both_sides() {
    run(async || {
        let (reader, writer) = pipe().unwrap();
        let frames: Vec<Vec<u8>> = (0..200u32).map(|n| vec![n as u8; 37 * n as usize]).collect();
        let sent = frames.clone();
        let send = spawn(async move {
            let mut sink = FramedWrite::new(writer, LengthDelimited::new());
            sink.send_all(&mut stream::iter(sent.into_iter().map(Ok))).await.unwrap();
            SinkExt::<Vec<u8>>::close(&mut sink).await.unwrap();
            // Closed for writing, which the reader sees though the sink lives.
            sink
        });
        let received = FramedRead::new(BufReader::new(reader), LengthDelimited::new());
        assert_eq!(received.try_collect::<Vec<_>>().await.unwrap(), frames);
        let mut sink = send.await.unwrap();
        assert!(sink.send(vec![1]).await.is_err());
    });
}

#[test]
fn a_send_that_is_dropped_goes_on_with_the_next_and_each_byte_is_written_once() {
    run(async || {
        for most in 1..5 {
            let bits = Bits::of(b"", 2).waiting();
            let mut sink = FramedWrite::new(bits, LinesCodec::new());
            for number in 0..20 {
                polls(sink.send(format!("line {number}")), most).await;
            }
            SinkExt::<&str>::close(&mut sink).await.unwrap();
            let beneath = sink.get_ref().unwrap();
            let expected: String = (0..20).map(|number| format!("line {number}\n")).collect();
            assert_eq!(String::from_utf8(beneath.bytes.clone()).unwrap(), expected);
            assert_eq!(beneath.shutdowns, 1);
        }
    });
}

#[test]
fn a_writer_that_has_failed_fails_every_later_call() {
    run(async || {
        let mut sink = FramedWrite::new(Bits::of(b"", 9).failing(3), LinesCodec::new());
        assert_eq!(sink.send("longer").await.unwrap_err().raw_os_error(), Some(libc::EIO));
        for _ in 0..2 {
            assert!(sink.send("x").await.is_err());
            assert!(SinkExt::<&str>::close(&mut sink).await.is_err());
        }
        assert_eq!(sink.get_ref().unwrap().bytes, b"lon");
    });
}

#[test]
fn a_sink_that_nobody_reads_makes_its_user_wait() {
    run(async || {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let mut sink = FramedWrite::new(theirs, LengthDelimited::new());
        let mut fed = 0;
        while polls(sink.feed(vec![0; 4096]), 1).await.is_some() {
            fed += 1;
            assert!(fed < 10_000, "there is a bound");
            turns(1).await;
        }
        assert!(fed >= 4);
    });
}

/// Numbers that end with a comma: a codec of somebody else's.
struct Numbers;

impl Decoder for Numbers {
    type Frame = u32;

    fn decode(&mut self, bytes: &mut FrameBytes) -> io::Result<Option<u32>> {
        let Some(end) = bytes.iter().position(|byte| *byte == b',') else { return Ok(None) };
        let number = str::from_utf8(&bytes[..end]).ok().and_then(|text| text.parse().ok());
        bytes.advance(end + 1);
        number.map(Some).ok_or_else(|| ErrorKind::InvalidData.into())
    }
}

impl Encoder<u32> for Numbers {
    fn encode(&mut self, number: u32, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.extend_from_slice(format!("{number},").as_bytes());
        Ok(())
    }
}

#[test]
fn a_codec_of_ones_own_works_and_a_codec_is_a_sink_of_what_it_encodes() {
    fn is_sink<F>(_: &impl Sink<F, Error = io::Error>) {}
    run(async || {
        let mut sink = FramedWrite::new(Vec::new(), Numbers);
        is_sink::<u32>(&sink);
        for number in [1, 22, 333] {
            sink.send(number).await.unwrap();
        }
        let bytes = sink.get_ref().unwrap().clone();
        assert_eq!(
            all(FramedRead::new(Bits::of(&bytes, 3), Numbers), 9).await.unwrap(),
            [1, 22, 333]
        );
        assert_eq!(error_of(b"1,x,3,", Numbers).await.0, ErrorKind::InvalidData);
        assert_eq!(error_of(b"1,2", Numbers).await.0, ErrorKind::UnexpectedEof);
    });
}
