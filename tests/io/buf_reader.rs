//! The reader with a buffer: lines and parts as std finds them, whatever comes at a time and
//! whatever is dropped.

use std::io::{BufRead, ErrorKind};
use std::pin::pin;

use annulus::io::{AsyncRead, AsyncWrite, BufReader, pipe};
use annulus::net::UnixStream;
use annulus::spawn;
use futures_util::TryStreamExt;

use crate::common::{Random, run, seed, turns};
use crate::tools::{Bits, polls};

const TEXT: &[u8] = b"one\r\ntwo\n\nthree and a half\n\xc3\xa4\r\n\r\nthe last has no end";

#[test]
fn lines_are_those_of_std_whatever_comes_at_a_time() {
    run(async || {
        let expected: Vec<_> = TEXT.lines().map(Result::unwrap).collect();
        for at_a_time in 1..20 {
            for capacity in [1, 2, 7, 8192] {
                let reader = BufReader::with_capacity(capacity, Bits::of(TEXT, at_a_time));
                let lines = pin!(reader.lines().into_stream());
                assert_eq!(lines.try_collect::<Vec<_>>().await.unwrap(), expected);
                let reader = BufReader::with_capacity(capacity, Bits::of(TEXT, at_a_time));
                let parts = pin!(reader.split(b'e').into_stream());
                let expected: Vec<_> = BufRead::split(TEXT, b'e').map(Result::unwrap).collect();
                assert_eq!(parts.try_collect::<Vec<_>>().await.unwrap(), expected);
            }
        }
    });
}

#[test]
fn a_line_that_is_dropped_at_each_wait_is_whole_in_the_end() {
    run(async || {
        for most in 1..4 {
            let mut reader = BufReader::new(Bits::of(TEXT, 3).waiting());
            let mut all = Vec::new();
            loop {
                let mut line = "kept: ".to_owned();
                let count = loop {
                    match polls(reader.read_line(&mut line), most).await {
                        Some(count) => break count.unwrap(),
                        None => assert_eq!(line, "kept: "),
                    }
                };
                assert_eq!(line.len(), "kept: ".len() + count);
                if count == 0 {
                    break;
                }
                all.extend_from_slice(&line.as_bytes()[6..]);
                assert!(line.ends_with('\n') || all == TEXT);
            }
            assert_eq!(all, TEXT);
        }
    });
}

#[test]
fn any_mixture_of_methods_and_drops_gives_each_byte_once_and_in_order() {
    let seed = seed();
    run(async move || {
        let random = Random::new(seed);
        for _ in 0..200 {
            let text: Vec<u8> = (0..500).map(|_| b"ab\n"[random.below(3)]).collect();
            let bits = Bits::of(&text, 1 + random.below(9)).waiting();
            let mut reader = BufReader::with_capacity(1 + random.below(12), bits);
            let mut all = Vec::new();
            while all.len() < text.len() {
                let most = random.below(6);
                match random.below(6) {
                    0 => drop(polls(reader.read_until(b'\n', &mut all), most).await),
                    1 => {
                        let mut line = String::new();
                        polls(reader.read_line(&mut line), most).await;
                        all.extend_from_slice(line.as_bytes());
                    }
                    2 => {
                        if let Some(Ok(bytes)) = polls(reader.fill_buf(), most).await {
                            let count = bytes.len().min(2);
                            all.extend_from_slice(&bytes[..count]);
                            reader.consume(count);
                        }
                    }
                    3 => {
                        let buffer = vec![0; 1 + random.below(20)];
                        if let Some(read) = polls(reader.read(buffer), most).await {
                            let (count, bytes) = read.unwrap();
                            all.extend_from_slice(&bytes[..count]);
                        }
                    }
                    4 => {
                        let buffer = vec![0; random.below(10)];
                        match polls(reader.read_exact(buffer), most).await {
                            Some(Ok(bytes)) => all.extend_from_slice(&bytes),
                            Some(Err(error)) => {
                                assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
                                let count = error.transferred();
                                all.extend_from_slice(&error.into_buffer()[..count]);
                            }
                            None => {}
                        }
                    }
                    _ => {
                        if let Some(chunk) = polls(reader.read_chunk(), most).await {
                            all.extend_from_slice(&chunk.unwrap());
                        }
                    }
                }
            }
            assert_eq!(all, text);
            assert!(reader.fill_buf().await.unwrap().is_empty());
        }
    });
}

#[test]
fn an_error_in_a_line_leaves_the_bytes_for_the_next_call() {
    run(async || {
        let mut reader = BufReader::new(Bits::of(b"begun", 2).failing(0));
        let mut bytes = b"before".to_vec();
        for _ in 0..2 {
            let error = reader.read_until(b'\n', &mut bytes).await.unwrap_err();
            assert_eq!((error.raw_os_error(), &bytes[..]), (Some(libc::EIO), &b"before"[..]));
        }
        reader.get_mut().bytes = b" and ended\n".to_vec();
        assert_eq!(reader.read_until(b'\n', &mut bytes).await.unwrap(), 16);
        assert_eq!(bytes, b"beforebegun and ended\n");

        let error = reader.read_exact(vec![0; 4]).await.unwrap_err();
        assert_eq!((error.raw_os_error(), error.transferred()), (Some(libc::EIO), 0));
    });
}

#[test]
fn a_line_that_is_no_text_is_an_error_and_the_next_one_comes() {
    run(async || {
        let mut reader = BufReader::new(&b"\xff\xfe\nfine\n"[..]);
        let mut line = "as it was".to_owned();
        let error = reader.read_line(&mut line).await.unwrap_err();
        assert_eq!((error.kind(), &line[..]), (ErrorKind::InvalidData, "as it was"));
        assert_eq!(reader.lines().next_line().await.unwrap().unwrap(), "fine");
    });
}

#[test]
fn lines_of_a_stream_come_from_its_chunks_and_dropped_ones_lose_nothing() {
    run(async || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut lines, mut all) = (BufReader::new(ours).lines(), Vec::new());
        for part in ["first ", "line\nsec", "ond\nthi"] {
            for _ in 0..2 {
                if let Some(line) = polls(lines.next_line(), 1).await {
                    all.push(line.unwrap().unwrap());
                }
            }
            // A receive that was dropped takes it.
            theirs.write_all(part).await.unwrap();
            turns(2).await;
        }
        drop(theirs);
        while let Some(line) = lines.next_line().await.unwrap() {
            all.push(line);
        }
        assert_eq!(all, ["first line", "second", "thi"]);

        // No copy: what was lent is what is read.
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.write_all("lent").await.unwrap();
        let mut reader = BufReader::new(&ours);
        let lent = reader.fill_buf().await.unwrap().as_ptr();
        assert_eq!(reader.read_chunk().await.unwrap().as_ptr(), lent);
    });
}

#[test]
fn a_long_exact_read_goes_through_pipes_and_limits() {
    run(async || {
        let (reader, mut writer) = pipe().unwrap();
        let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 253) as u8).collect();
        let copy = sent.clone();
        let write = spawn(async move {
            AsyncWrite::write_all(&mut writer, copy).await.unwrap();
        });
        let mut reader = BufReader::new(reader.take(250_000));
        let head = reader.read_exact(vec![0; 10]).await.unwrap();
        let body = reader.read_exact(vec![0; 249_990]).await.unwrap();
        assert!([head, body].concat() == sent[..250_000]);
        assert!(reader.fill_buf().await.unwrap().is_empty());
        reader.get_mut().set_limit(u64::MAX);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        assert!(rest == sent[250_000..]);
        write.await.unwrap();
    });
}
