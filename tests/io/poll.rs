//! Streams by polls: what is promised about each byte, each error and each waker.

use std::cell::Cell;
use std::future::Future;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use annulus::fs::File;
use annulus::io::{PollReader, PollStream, PollWrite, PollWriter, pipe};
use annulus::net::{TcpListener, TcpStream, UnixStream};

use super::common::{run_here, scratch_dir, turns};

/// More than a socket takes at once with default settings.
const MUCH: usize = 8 << 20;

async fn connected() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (server, _) = listener.accept().await?;
    Ok((client, server))
}

/// Bytes of which no two neighbours are the same.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251) as u8).collect()
}

async fn write<S: PollWrite>(writer: &mut PollWriter<S>, bytes: &[u8]) -> io::Result<usize> {
    poll_fn(|context| writer.poll_write(context, bytes)).await
}

async fn write_all<S: PollWrite>(writer: &mut PollWriter<S>, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        written += write(writer, &bytes[written..]).await?;
    }
    Ok(())
}

macro_rules! poll_once {
    (|$context:ident| $poll:expr) => {
        poll_fn(|$context| Poll::Ready($poll)).await
    };
}

fn is_pipe_error<T>(result: io::Result<T>) -> bool {
    result.err().map(|error| error.kind()) == Some(io::ErrorKind::BrokenPipe)
}

/// Counts its wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Fills a writer up, past what the kernel takes. Returns how much it has taken.
async fn fill<S: PollWrite>(writer: &mut PollWriter<S>) -> io::Result<usize> {
    let (bytes, mut taken) = (pattern(MUCH), 0);
    for _ in 0..100 {
        while let Poll::Ready(count) =
            poll_once!(|context| writer.poll_write(context, &bytes[taken % 251..]))
        {
            taken += count?;
        }
        turns(3).await;
    }
    Ok(taken)
}

/// Reads so many bytes and checks that they are those of the pattern.
async fn read_pattern(stream: &UnixStream, length: usize) -> io::Result<()> {
    let (mut read, expected) = (0, pattern(251));
    while read < length {
        let (count, bytes) = stream.read(Vec::with_capacity((length - read).min(64 << 10))).await?;
        assert_ne!(count, 0, "the end after {read} of {length} bytes");
        for byte in &bytes[..count] {
            assert_eq!(*byte, expected[read % 251], "at {read}");
            read += 1;
        }
    }
    assert_eq!(read, length);
    Ok(())
}

#[test]
fn what_one_poll_writes_piece_by_piece_goes_out_together() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = UnixStream::pair()?;
        let mut ours = ours.into_poll();
        for piece in ["head ", "and ", "body"] {
            let count = poll_once!(|context| ours.poll_write(context, piece.as_bytes()));
            assert!(matches!(count, Poll::Ready(Ok(count)) if count == piece.len()));
        }
        // Without a flush. A stream socket hands over what one send brought in one piece at least.
        let before = annulus::metrics().submissions;
        turns(2).await;
        assert_eq!(annulus::metrics().submissions - before, 1);
        assert_eq!(theirs.read(Vec::with_capacity(64)).await?.1, b"head and body");
        Ok(())
    })
}

#[test]
fn a_flush_of_a_socket_that_takes_all_at_once_does_not_wait() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = UnixStream::pair()?;
        let mut ours = ours.into_poll();
        let slices = [IoSlice::new(b"head, "), IoSlice::new(b""), IoSlice::new(b"body")];
        let count = poll_once!(|context| ours.poll_write_vectored(context, &slices));
        assert!(matches!(count, Poll::Ready(Ok(10))));
        assert!(matches!(poll_once!(|context| ours.poll_flush(context)), Poll::Ready(Ok(()))));
        assert_eq!(theirs.read(Vec::with_capacity(64)).await?.1, b"head, body");
        assert!(matches!(poll_once!(|context| ours.poll_flush(context)), Poll::Ready(Ok(()))));
        Ok(())
    })
}

#[test]
fn large_slices_go_out_behind_what_was_taken_before_and_within_the_call() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = UnixStream::pair()?;
        let mut ours = ours.into_poll();
        let all = pattern(60_000);
        assert!(poll_once!(|context| ours.poll_write(context, &all[..100])).is_ready());
        let slices = [IoSlice::new(&all[100..20_000]), IoSlice::new(&all[20_000..])];
        let before = annulus::metrics().submissions;
        let count = poll_once!(|context| ours.poll_write_vectored(context, &slices));
        assert!(matches!(count, Poll::Ready(Ok(59_900))));
        let mut received = vec![0; all.len()];
        assert_eq!(std_of(&theirs).read(&mut received)?, all.len(), "without a turn of the loop");
        assert!(received == all);
        turns(3).await;
        assert_eq!(annulus::metrics().submissions, before);
        Ok(())
    })
}

/// The same socket for calls of std.
fn std_of(stream: &UnixStream) -> std::os::unix::net::UnixStream {
    use std::os::fd::AsFd;
    stream.as_fd().try_clone_to_owned().unwrap().into()
}

#[test]
fn nothing_overtakes_a_write_that_was_dropped() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = UnixStream::pair()?;
        {
            let mut dropped = pin!(ours.write_all(pattern(MUCH)));
            assert!(poll_once!(|context| dropped.as_mut().poll(context)).is_pending());
            turns(2).await;
        }
        let mut ours = ours.into_poll();
        let mark = vec![0xff; 16 << 10];
        poll_fn(|context| ours.poll_write(context, &mark)).await?;
        drop(ours);
        let mut all = Vec::new();
        let mut theirs = theirs.into_poll();
        loop {
            let chunk = poll_fn(|context| theirs.poll_chunk(context)).await?;
            if chunk.is_empty() {
                break;
            }
            all.extend_from_slice(&chunk);
        }
        let before = all.len() - mark.len();
        assert!(all[..before] == pattern(before) && all[before..] == mark);
        Ok(())
    })
}

#[test]
fn a_full_writer_is_pending_with_a_bound_and_is_woken_by_room() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = UnixStream::pair()?;
        let (_reader, mut writer) = ours.into_poll().into_split();
        let taken = fill(&mut writer).await?;
        assert!(taken < MUCH, "{taken} bytes were taken of which nobody has read any");
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        assert!(writer.poll_write(&mut context, b"more").is_pending());
        assert!(writer.poll_write(&mut context, b"more").is_pending());
        turns(3).await;
        assert_eq!(wakes.count(), 0);
        // The second waker takes the place of the first.
        let (others, reading) = (Arc::new(Wakes::default()), theirs);
        let waker = Waker::from(Arc::clone(&others));
        assert!(writer.poll_write(&mut Context::from_waker(&waker), b"more").is_pending());
        read_pattern(&reading, taken).await?;
        assert_eq!((wakes.count(), others.count()), (0, 1));
        assert_eq!(write(&mut writer, b"more").await?, 4);
        assert_eq!(reading.read_exact(vec![0; 4]).await?, b"more");
        Ok(())
    })
}

#[test]
fn what_is_not_flushed_is_sent_after_a_drop_however_much_it_is() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = UnixStream::pair()?;
        let (_, mut writer) = ours.into_poll().into_split();
        let taken = fill(&mut writer).await?;
        drop(writer);
        read_pattern(&theirs, taken).await?;
        assert_eq!(theirs.read(vec![0; 5]).await?.0, 0);
        let (ours, theirs) = UnixStream::pair()?;
        let mut ours = ours.into_poll();
        assert!(poll_once!(|context| ours.poll_write(context, b"hello")).is_ready());
        drop(ours);
        assert_eq!(theirs.read_exact(vec![0; 5]).await?, b"hello");
        assert_eq!(theirs.read(vec![0; 5]).await?.0, 0);
        Ok(())
    })
}

#[test]
fn an_aborted_stream_sends_no_more_and_resets() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = connected().await?;
        let mut ours = ours.into_poll();
        let bytes = pattern(MUCH);
        for _ in 0..50 {
            while let Poll::Ready(count) = poll_once!(|context| ours.poll_write(context, &bytes)) {
                assert_ne!(count?, 0);
            }
            turns(2).await;
        }
        ours.abort();
        turns(3).await;
        let mut end = theirs.read(Vec::with_capacity(1 << 20)).await;
        while let Ok((1.., buffer)) = end {
            end = theirs.read(buffer).await;
        }
        assert_eq!(end.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
        Ok(())
    })
}

#[test]
fn an_error_comes_once_and_then_the_pipe_is_broken() -> io::Result<()> {
    run_here(async {
        // At once, from the socket itself.
        let (ours, theirs) = UnixStream::pair()?;
        let mut ours = ours.into_poll();
        drop(theirs);
        let large = vec![1; 64 << 10];
        for _ in 0..2 {
            assert!(is_pipe_error(poll_fn(|context| ours.poll_write(context, &large)).await));
        }
        poll_fn(|context| ours.poll_shutdown(context)).await?;

        // Later, after the bytes were taken.
        let (reader, writer) = pipe()?;
        let mut writer = writer.into_poll();
        drop(reader);
        assert_eq!(write(&mut writer, b"lost").await?, 4);
        assert!(is_pipe_error(poll_fn(|context| writer.poll_flush(context)).await));
        assert!(is_pipe_error(write(&mut writer, b"refused").await));
        assert!(is_pipe_error(write(&mut writer, b"refused").await));
        poll_fn(|context| writer.poll_flush(context)).await?;
        poll_fn(|context| writer.poll_shutdown(context)).await
    })
}

#[test]
fn a_shutdown_comes_behind_what_was_taken_and_only_once() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = UnixStream::pair()?;
        let mut ours = ours.into_poll();
        assert!(poll_once!(|context| ours.poll_write(context, b"last")).is_ready());
        poll_fn(|context| ours.poll_shutdown(context)).await?;
        poll_fn(|context| ours.poll_shutdown(context)).await?;
        poll_fn(|context| ours.poll_flush(context)).await?;
        assert!(is_pipe_error(poll_fn(|context| ours.poll_write(context, b"no")).await));
        let large = vec![1; 64 << 10];
        assert!(is_pipe_error(poll_fn(|context| ours.poll_write(context, &large)).await));
        assert_eq!(theirs.read(vec![0; 9]).await?.1[..4], *b"last");
        assert_eq!(theirs.read(vec![0; 9]).await?.0, 0);
        // The other direction is open.
        theirs.write_all("answer").await?;
        let answer = poll_fn(|context| ours.poll_chunk(context)).await?;
        assert_eq!(&answer[..], b"answer");

        // Of a peer that is gone.
        let (ours, theirs) = connected().await?;
        theirs.set_linger(Some(std::time::Duration::ZERO))?;
        drop(theirs);
        let mut ours = ours.into_poll();
        assert!(poll_fn(|context| ours.poll_chunk(context)).await.is_err(), "a reset");
        poll_fn(|context| ours.poll_shutdown(context)).await
    })
}

#[test]
fn a_pipe_that_is_shut_down_is_closed_and_its_value_stays() -> io::Result<()> {
    run_here(async {
        let (reader, writer) = pipe()?;
        let mut writer = writer.into_poll();
        let bytes = pattern(300_000);
        let reading = annulus::spawn(async move {
            let (mut reader, mut all) = (reader.into_poll(), Vec::new());
            loop {
                let chunk = poll_fn(|context| reader.poll_chunk(context)).await?;
                all.extend_from_slice(&chunk);
                if chunk.is_empty() {
                    break io::Result::Ok(all);
                }
            }
        });
        write_all(&mut writer, &bytes).await?;
        poll_fn(|context| writer.poll_shutdown(context)).await?;
        assert!(reading.await.unwrap()? == bytes);
        poll_fn(|context| writer.poll_shutdown(context)).await?;
        assert!(is_pipe_error(write(&mut writer, b"no").await));
        Ok(())
    })
}

#[test]
fn several_waiting_chunks_are_copied_in_one_call() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = UnixStream::pair()?;
        let mut ours = ours.into_poll();
        let mut all = [0; 64];
        assert!(poll_once!(|context| ours.poll_read(context, &mut all)).is_pending());
        for part in ["one ", "two ", "three"] {
            theirs.write_all(part).await?;
            turns(2).await;
        }
        let count = poll_fn(|context| ours.poll_read(context, &mut all)).await?;
        assert_eq!(&all[..count], b"one two three");
        assert!(matches!(
            poll_once!(|context| ours.poll_read(context, &mut [])),
            Poll::Ready(Ok(0))
        ));
        drop(theirs);
        for _ in 0..3 {
            assert_eq!(poll_fn(|context| ours.poll_read(context, &mut all)).await?, 0);
        }
        Ok(())
    })
}

#[test]
fn a_reader_that_nobody_polls_stops_the_peer() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = UnixStream::pair()?;
        let mut ours = ours.into_poll();
        assert!(poll_once!(|context| ours.poll_fill_buf(context).map_ok(<[u8]>::len)).is_pending());
        // Each message takes a buffer, and far more than eight are sent.
        for number in 0..100u8 {
            theirs.write_all(vec![number; 10]).await?;
            turns(2).await;
        }
        let mut waiting = [std::mem::MaybeUninit::uninit(); 2000];
        let socket = socket2::SockRef::from(ours.get_ref());
        let count = socket.recv_with_flags(&mut waiting, libc::MSG_PEEK | libc::MSG_DONTWAIT)?;
        assert!(count > 800, "only {count} of 1000 bytes wait in the kernel");
        for number in 0..100u8 {
            let mut ten = [0; 10];
            let mut read = 0;
            while read < 10 {
                read += poll_fn(|context| ours.poll_read(context, &mut ten[read..])).await?;
            }
            assert_eq!(ten, [number; 10]);
        }
        Ok(())
    })
}

#[test]
fn an_error_of_a_reader_comes_once_and_behind_the_bytes() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = connected().await?;
        let mut ours = ours.into_poll();
        let mut all = [0; 64];
        assert!(poll_once!(|context| ours.poll_read(context, &mut all)).is_pending());
        theirs.write_all("bytes").await?;
        turns(2).await;
        theirs.set_linger(Some(std::time::Duration::ZERO))?;
        drop(theirs);
        assert_eq!(poll_fn(|context| ours.poll_read(context, &mut all)).await?, 5);
        let error = poll_fn(|context| ours.poll_read(context, &mut all)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        for _ in 0..2 {
            assert_eq!(poll_fn(|context| ours.poll_read(context, &mut all)).await?, 0);
        }
        Ok(())
    })
}

#[test]
fn what_is_not_read_or_given_back_stays_in_the_stream() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = UnixStream::pair()?;
        let mut ours = ours.into_poll();
        let mut five = [0; 5];
        assert!(poll_once!(|context| ours.poll_read(context, &mut five)).is_pending());
        theirs.write_all("hello world").await?;
        turns(2).await;
        theirs.write_all(", and more").await?;
        turns(2).await;
        assert_eq!(poll_fn(|context| ours.poll_read(context, &mut five)).await?, 5);
        ours.unread(b"HELLO".to_vec());
        assert!(poll_once!(|context| ours.poll_write(context, b"sent")).is_ready());
        let ours = ours.into_inner().await?;
        assert_eq!(ours.read_exact(vec![0; 21]).await?, b"HELLO world, and more");
        assert_eq!(theirs.read_exact(vec![0; 4]).await?, b"sent");
        // And once more, with nothing left.
        let (reader, writer) = ours.into_poll().into_split();
        assert!(reader.into_inner().is_none());
        let ours = writer.into_inner().await?.expect("the last of the two");
        ours.write_all("open").await?;
        assert_eq!(theirs.read_exact(vec![0; 4]).await?, b"open");
        Ok(())
    })
}

#[test]
fn a_reading_and_a_writing_task_have_a_waker_each() -> io::Result<()> {
    run_here(async {
        let (ours, theirs) = UnixStream::pair()?;
        let (mut reader, mut writer) = ours.into_poll().into_split();
        let reading = annulus::spawn(async move {
            poll_fn(|context| reader.poll_chunk(context)).await.map(|chunk| chunk.to_vec())
        });
        turns(2).await;
        let taken = fill(&mut writer).await?;
        let writing = annulus::spawn(async move {
            write(&mut writer, b"more").await?;
            poll_fn(|context| writer.poll_flush(context)).await
        });
        turns(2).await;
        theirs.write_all("for the reader").await?;
        assert_eq!(reading.await.unwrap()?, b"for the reader");
        read_pattern(&theirs, taken).await?;
        writing.await.unwrap()
    })
}

#[test]
fn a_file_is_read_and_written_in_order_at_one_position() -> io::Result<()> {
    run_here(async {
        let directory = scratch_dir();
        let path = directory.path().join("file");
        let bytes = pattern(200_000);
        let mut file = File::create(&path).await?.into_poll();
        let mut written = 0;
        while written < bytes.len() {
            let end = bytes.len().min(written + 10_000);
            written += poll_fn(|context| file.poll_write(context, &bytes[written..end])).await?;
        }
        poll_fn(|context| file.poll_shutdown(context)).await?;
        drop(file);
        assert!(std::fs::read(&path)? == bytes);

        let file = File::options().read(true).write(true).open(&path).await?;
        let mut file = file.into_poll();
        let mut ten = [0; 10];
        assert_eq!(poll_fn(|context| file.poll_read(context, &mut ten)).await?, 10);
        // Behind the ten, though more was read ahead; and the next read is behind that.
        assert_eq!(poll_fn(|context| file.poll_write(context, b"0123456789")).await?, 10);
        let mut twenty = [0; 20];
        assert_eq!(poll_fn(|context| file.poll_read(context, &mut twenty)).await?, 20);
        assert_eq!(twenty, bytes[20..40]);
        let file = file.into_inner().await?;
        assert_eq!(file.stream_position().await?, 40);
        let after = std::fs::read(&path)?;
        assert!(
            after[..10] == bytes[..10]
                && after[10..20] == *b"0123456789"
                && after[20..] == bytes[20..]
        );

        // To the end, which stays.
        let mut file = file.into_poll();
        let (mut read, mut part) = (40, vec![0; 7_001]);
        loop {
            let count = poll_fn(|context| file.poll_read(context, &mut part)).await?;
            if count == 0 {
                break;
            }
            assert!(part[..count] == bytes[read..read + count]);
            read += count;
        }
        assert_eq!(read, bytes.len());
        assert_eq!(poll_fn(|context| file.poll_read(context, &mut part)).await?, 0);
        Ok(())
    })
}

/// What a waker does that is user code.
struct Meddler(Cell<Option<Box<dyn FnOnce()>>>);

#[test]
fn a_waker_may_use_the_writer_that_wakes_it() -> io::Result<()> {
    use std::task::{RawWaker, RawWakerVTable};

    const TABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            // SAFETY: the data is the pointer of an `Rc` that the test keeps, on this thread.
            unsafe { Rc::increment_strong_count(data.cast::<Meddler>()) };
            RawWaker::new(data, &TABLE)
        },
        |data| {
            // SAFETY: as above; this waker's share is taken over.
            let meddler = unsafe { Rc::from_raw(data.cast::<Meddler>()) };
            if let Some(meddle) = meddler.0.take() {
                meddle();
            }
        },
        |_| {},
        // SAFETY: as above.
        |data| drop(unsafe { Rc::from_raw(data.cast::<Meddler>()) }),
    );
    run_here(async {
        let (reader, writer) = pipe()?;
        let mut writer = writer.into_poll();
        assert!(poll_once!(|context| writer.poll_write(context, b"bytes")).is_ready());
        let writer = Rc::new(std::cell::RefCell::new(Some(writer)));
        let meddler = {
            let writer = Rc::clone(&writer);
            Rc::new(Meddler(Cell::new(Some(Box::new(move || {
                let mut context = Context::from_waker(Waker::noop());
                let mut place = writer.borrow_mut();
                let mut taken = place.take().unwrap();
                assert!(taken.poll_flush(&mut context).is_ready());
                assert!(taken.poll_write(&mut context, b" and more").is_ready());
            })))))
        };
        // SAFETY: the table belongs to the data, and all of it stays on this thread.
        let waker = unsafe {
            Waker::from_raw(RawWaker::new(Rc::into_raw(Rc::clone(&meddler)).cast(), &TABLE))
        };
        let mut context = Context::from_waker(&waker);
        assert!(writer.borrow_mut().as_mut().unwrap().poll_flush(&mut context).is_pending());
        drop(waker);
        assert_eq!(reader.read_exact(vec![0; 14]).await?, b"bytes and more");
        assert!(writer.borrow().is_none());
        assert_eq!(reader.read(vec![0; 1]).await?.0, 0, "closed by the drop");
        Ok(())
    })
}

#[test]
fn what_the_runtime_leaves_unwritten_is_an_error_afterwards() -> io::Result<()> {
    let (ours, theirs) = annulus::block_on(async { UnixStream::pair() })?;
    let mut ours = ours.into_poll();
    annulus::block_on(async {
        let bytes = pattern(MUCH);
        for _ in 0..50 {
            while poll_once!(|context| ours.poll_write(context, &bytes)).is_ready() {}
            turns(2).await;
        }
    });
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(ours.poll_flush(&mut context), Poll::Ready(Err(_))));
    assert!(
        matches!(ours.poll_write(&mut context, b"no"), Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    );
    drop(theirs);
    Ok(())
}

#[test]
fn standard_streams_and_halves_can_be_polled() -> io::Result<()> {
    fn reads<S: annulus::io::PollRead>(_: &PollReader<S>) {}
    fn both<S: annulus::io::PollRead + PollWrite>(_: &PollStream<S>) {}
    run_here(async {
        let (ours, theirs) = UnixStream::pair()?;
        both(&theirs.into_poll());
        let (reader, writer) = ours.into_split();
        reads(&reader.into_poll());
        let mut writer = writer.into_poll();
        poll_fn(|context| writer.poll_shutdown(context)).await?;
        let mut out = annulus::io::stdout()?.into_poll();
        write_all(&mut out, b"a line of a test\n").await?;
        poll_fn(|context| out.poll_shutdown(context)).await?;
        io::stdout().flush()
    })
}
