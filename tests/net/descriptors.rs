//! Descriptors and credentials that go along with the bytes of Unix sockets. Every test fails if a
//! descriptor is left behind.

use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::net as std_net;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use annulus::net::{UnixDatagram, UnixMessage, UnixSeqpacket, UnixStream};
use futures_util::StreamExt;
use socket2::SockRef;

use crate::common::{in_own_process, poll_in_task, quiet, run, turns};
use crate::limits::{leave_room_for, set_limit};

/// The same program for each kind of socket: the name, and a pair.
macro_rules! for_every_kind {
    (|$a:ident, $b:ident, $kind:ident| $body:block) => {
        for_every_kind!(@ UnixStream, $a, $b, $kind, $body);
        for_every_kind!(@ UnixDatagram, $a, $b, $kind, $body);
        for_every_kind!(@ UnixSeqpacket, $a, $b, $kind, $body);
    };
    (@ $type:ident, $a:ident, $b:ident, $kind:ident, $body:block) => {
        #[allow(unused_variables)]
        {
            let ($a, $b) = $type::pair().unwrap();
            let $kind = stringify!($type);
            $body
        }
    };
}

/// A pipe, of which one end is passed on.
fn pipe() -> (PipeReader, PipeWriter) {
    io::pipe().unwrap()
}

/// Is it the reading end of that pipe?
fn assert_reads(descriptor: OwnedFd, mut writer: PipeWriter, kind: &str) {
    // SAFETY: the call takes no memory.
    let flags = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags, libc::FD_CLOEXEC, "{kind}");
    writer.write_all(b"through the pipe").unwrap();
    drop(writer);
    let mut text = String::new();
    File::from(descriptor).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through the pipe", "{kind}");
}

fn only<B>(message: UnixMessage<B>) -> OwnedFd {
    let [descriptor] = <[OwnedFd; 1]>::try_from(message.descriptors).unwrap();
    descriptor
}

#[test]
fn descriptors_go_along_and_belong_to_the_receiver() {
    run(async || {
        for_every_kind!(|a, b, kind| {
            let (reader, writer) = pipe();
            assert_eq!(a.send_with_fds("look", &[&reader]).await.unwrap(), (4, "look"), "{kind}");
            drop(reader);
            let message = b.recv_with_fds(vec![0; 16]).await.unwrap();
            assert_eq!((message.count, &message.buffer[..]), (4, &b"look"[..]), "{kind}");
            assert!(!message.truncated && message.credentials.is_none(), "{kind}");
            assert!(message.from.is_unnamed() && message.pidfd.is_none(), "{kind}");
            assert_reads(only(message), writer, kind);
            // Nothing of it is left over for the next.
            a.send_with_fds("none", &[] as &[OwnedFd]).await.unwrap();
            assert!(b.recv_with_fds(vec![0; 16]).await.unwrap().descriptors.is_empty(), "{kind}");
        });
    });
}

#[test]
fn several_descriptors_come_in_their_order_up_to_253() {
    run(async || {
        for_every_kind!(|a, b, kind| {
            let (reader, writer) = pipe();
            let mut all = vec![writer.as_fd(); 252];
            all.push(reader.as_fd());
            a.send_with_fds("many", &all).await.unwrap();
            let mut message = b.recv_with_fds(vec![0; 16]).await.unwrap();
            assert_eq!(message.descriptors.len(), 253, "{kind}");
            let last = message.descriptors.pop().unwrap();
            drop(message);
            all.push(reader.as_fd());
            let error = a.send_with_fds("too many", &all).await.unwrap_err();
            assert_eq!((error.kind(), *error.buffer()), (ErrorKind::InvalidInput, "too many"));
            drop(reader);
            assert_reads(last, writer, kind);
        });
        let (a, b) = UnixStream::pair().unwrap();
        let (reader, _writer) = pipe();
        let error = a.send_with_fds("", &[&reader]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let (a, b2) = UnixSeqpacket::pair().unwrap();
        a.send_with_fds("", &[&reader]).await.unwrap();
        let message = b2.recv_with_fds(vec![0; 1]).await.unwrap();
        assert_eq!((message.count, message.descriptors.len()), (0, 1));
        let no_room = b.recv_with_fds(Vec::new()).await.unwrap_err();
        assert_eq!(no_room.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn descriptors_may_be_closed_while_the_send_waits_for_room() {
    run(async || {
        for_every_kind!(|a, b, kind| {
            while a
                .send_with_fds(vec![1; 4096], &[] as &[OwnedFd])
                .timeout(crate::SHORT)
                .await
                .is_ok()
            {}
            let (reader, writer) = pipe();
            let number = reader.as_raw_fd();
            let mut send = Box::pin(a.send_with_fds("at last", &[&reader]));
            assert!(poll_in_task(&mut send).await.is_pending(), "{kind}");
            turns(2).await;
            // The number means another file from here on.
            drop(reader);
            let other = File::open("/dev/null").unwrap();
            assert_eq!(other.as_raw_fd(), number, "{kind}");
            let receive = async {
                loop {
                    let message = b.recv_with_fds(vec![0; 4096]).await.unwrap();
                    if !message.descriptors.is_empty() {
                        return message;
                    }
                }
            };
            let (sent, message) = futures_util::future::join(send, receive).await;
            assert_eq!(sent.unwrap().0, 7, "{kind}");
            assert_reads(only(message), writer, kind);
        });
    });
}

#[test]
fn a_dropped_receive_leaves_bytes_and_descriptors_to_the_next() {
    run(async || {
        for_every_kind!(|a, b, kind| {
            for stage in 0..6 {
                let (reader, writer) = pipe();
                let mut receive = Box::pin(b.recv_with_fds(vec![0; 16]));
                if stage > 0 {
                    assert!(poll_in_task(&mut receive).await.is_pending(), "{kind}");
                }
                a.send_with_fds("look", &[&reader]).await.unwrap();
                drop(reader);
                turns(stage).await;
                drop(receive);
                let message = b.recv_with_fds(vec![0; 16]).await.unwrap();
                assert_eq!(&message.buffer[..], b"look", "{kind}, dropped after {stage} turns");
                assert_reads(only(message), writer, kind);
            }
        });
    });
}

/// Lets a receive take a message with the end of a pipe, and drops it then.
macro_rules! leave {
    ($a:ident, $b:ident, $text:literal) => {{
        let (reader, writer) = pipe();
        let mut receive = Box::pin($b.recv_with_fds(vec![0; 16]));
        assert!(poll_in_task(&mut receive).await.is_pending());
        $a.send_with_fds($text, &[&reader]).await.unwrap();
        turns(2).await;
        drop(receive);
        quiet().await;
        writer
    }};
}

/// Has every reading end been closed?
fn assert_closed(mut writer: PipeWriter) {
    assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn what_a_dropped_receive_left_is_closed_with_the_socket_and_by_receives_of_other_kinds() {
    run(async || {
        for_every_kind!(|a, b, kind| {
            let writer = leave!(a, b, "look");
            drop(b);
            assert_closed(writer);
        });
        let (a, b) = UnixStream::pair().unwrap();
        let writer = leave!(a, b, "look");
        assert_eq!(b.read_exact(vec![0; 2]).await.unwrap(), b"lo");
        assert_eq!(b.read(vec![0; 2]).await.unwrap(), (2, b"ok".to_vec()));
        assert_closed(writer);
        let writer = leave!(a, b, "look");
        assert_eq!(b.chunks().next().await.unwrap().unwrap(), b"look");
        assert_closed(writer);
        let writer = leave!(a, b, "look");
        let (count, buffers) = b.read_vectored(vec![vec![0; 2], vec![0; 9]]).await.unwrap();
        assert_eq!((count, buffers), (4, vec![b"lo".to_vec(), b"ok".to_vec()]));
        assert_closed(writer);
        let (a, b) = UnixDatagram::pair().unwrap();
        let writer = leave!(a, b, "look");
        assert_eq!(b.recv(vec![0; 9]).await.unwrap(), (4, b"look".to_vec()));
        assert_closed(writer);
        let (a, b) = UnixSeqpacket::pair().unwrap();
        let writer = leave!(a, b, "look");
        assert_eq!(b.recv(vec![0; 9]).await.unwrap(), (4, b"look".to_vec()));
        assert_closed(writer);
    });
}

#[test]
fn of_a_stream_the_descriptors_come_with_the_first_byte_and_the_rest_waits() {
    run(async || {
        let (a, b) = UnixStream::pair().unwrap();
        for was_dropped in [false, true] {
            let writer = if was_dropped {
                leave!(a, b, "look here")
            } else {
                let (reader, writer) = pipe();
                a.send_with_fds("look here", &[&reader]).await.unwrap();
                writer
            };
            let message = b.recv_with_fds(vec![0; 4]).await.unwrap();
            assert_eq!((message.count, &message.buffer[..]), (4, &b"look"[..]));
            assert!(!message.truncated);
            assert_reads(only(message), writer, "UnixStream");
            let message = b.recv_with_fds(vec![0; 2]).await.unwrap();
            assert!(message.buffer == b" h" && message.descriptors.is_empty());
            assert_eq!(b.read(vec![0; 9]).await.unwrap(), (3, b"ere".to_vec()));
        }
        // What a read left goes to a receive of this kind, too.
        let mut read = Box::pin(b.read(vec![0; 16]));
        assert!(poll_in_task(&mut read).await.is_pending());
        a.write_all("plain").await.unwrap();
        turns(2).await;
        drop(read);
        let message = b.recv_with_fds(vec![0; 16]).await.unwrap();
        assert!(message.buffer == b"plain" && message.descriptors.is_empty());
        drop(a);
        assert_eq!(b.recv_with_fds(vec![0; 16]).await.unwrap().count, 0, "the end");
    });
}

#[test]
fn a_peek_sees_the_bytes_and_takes_no_descriptor() {
    run(async || {
        let (a, b) = UnixStream::pair().unwrap();
        let writer = leave!(a, b, "look");
        assert_eq!(b.peek(vec![0; 2]).await.unwrap(), (2, b"lo".to_vec()));
        let message = b.recv_with_fds(vec![0; 16]).await.unwrap();
        assert_eq!(message.buffer, b"look");
        assert_reads(only(message), writer, "left by a dropped receive");
        let (reader, writer) = pipe();
        a.send_with_fds("look", &[&reader]).await.unwrap();
        drop(reader);
        assert_eq!(b.peek(vec![0; 16]).await.unwrap(), (4, b"look".to_vec()));
        assert_reads(only(b.recv_with_fds(vec![0; 16]).await.unwrap()), writer, "in the kernel");
    });
}

#[test]
fn a_dropped_send_leaves_no_duplicate_open() {
    run(async || {
        for_every_kind!(|a, b, kind| {
            while a
                .send_with_fds(vec![1; 4096], &[] as &[OwnedFd])
                .timeout(crate::SHORT)
                .await
                .is_ok()
            {}
            for stage in 0..4 {
                let (reader, writer) = pipe();
                let mut send = Box::pin(a.send_with_fds("never", &[&reader, &reader]));
                if stage > 0 {
                    assert!(poll_in_task(&mut send).await.is_pending(), "{kind}");
                }
                turns(stage).await;
                drop(send);
                quiet().await;
                drop(reader);
                assert_closed(writer);
            }
        });
    });
}

#[test]
fn a_peer_that_has_gone_is_an_error_and_nothing_is_left_open() {
    run(async || {
        for_every_kind!(|a, b, kind| {
            drop(b);
            let (reader, writer) = pipe();
            let error = a.send_with_fds("nobody", &[&reader]).await.unwrap_err();
            let expected = [libc::EPIPE, libc::ECONNREFUSED, libc::ECONNRESET];
            assert!(expected.contains(&error.raw_os_error().unwrap()), "{kind}: {error}");
            drop(reader);
            assert_closed(writer);
        });
        // With a message on its way.
        for_every_kind!(|a, b, kind| {
            let (reader, writer) = pipe();
            a.send_with_fds("on its way", &[&reader]).await.unwrap();
            drop((reader, b, a));
            assert_closed(writer);
        });
    });
}

#[test]
fn a_receiver_without_numbers_is_told_and_keeps_the_bytes() {
    in_own_process(|| {
        run(async || {
            for_every_kind!(|a, b, kind| {
                for was_dropped in [false, true] {
                    let (reader, writer) = pipe();
                    a.send_with_fds("look", &[&reader, &reader, &reader]).await.unwrap();
                    leave_room_for(1);
                    if was_dropped {
                        let mut receive = Box::pin(b.recv_with_fds(vec![0; 16]));
                        assert!(poll_in_task(&mut receive).await.is_pending());
                        turns(2).await;
                        drop(receive);
                        quiet().await;
                    }
                    let error = b.recv_with_fds(vec![0; 16]).await.unwrap_err();
                    set_limit(u64::MAX);
                    assert_eq!(
                        (error.kind(), error.transferred()),
                        (ErrorKind::Other, 4),
                        "{kind}"
                    );
                    assert!(error.to_string().contains("EMFILE"), "{error}");
                    assert_eq!(error.into_buffer(), b"look", "{kind}");
                    drop(reader);
                    assert_closed(writer);
                }
                let (reader, writer) = pipe();
                a.send_with_fds("again", &[&reader]).await.unwrap();
                drop(reader);
                assert_reads(only(b.recv_with_fds(vec![0; 16]).await.unwrap()), writer, kind);
            });
        });
    });
}

#[test]
fn a_sender_without_numbers_is_told() {
    in_own_process(|| {
        run(async || {
            let (a, b) = UnixStream::pair().unwrap();
            let (reader, writer) = pipe();
            leave_room_for(1);
            let error = a.send_with_fds("look", &[&reader, &reader]).await.unwrap_err();
            assert_eq!((error.raw_os_error(), *error.buffer()), (Some(libc::EMFILE), "look"));
            a.send_with_fds("look", &[&reader]).await.unwrap();
            set_limit(u64::MAX);
            drop(reader);
            assert_reads(only(b.recv_with_fds(vec![0; 16]).await.unwrap()), writer, "UnixStream");
        });
    });
}

#[test]
fn credentials_come_along_if_they_are_asked_for() {
    run(async || {
        for_every_kind!(|a, b, kind| {
            assert!(!b.passcred().unwrap());
            b.set_passcred(true).unwrap();
            assert!(b.passcred().unwrap());
            for was_dropped in [false, true] {
                let mut receive = Box::pin(b.recv_with_fds(vec![0; 16]));
                assert!(poll_in_task(&mut receive).await.is_pending());
                let (reader, writer) = pipe();
                a.send_with_fds("me", &[&reader]).await.unwrap();
                drop(reader);
                let message = if was_dropped {
                    turns(2).await;
                    drop(receive);
                    b.recv_with_fds(vec![0; 16]).await.unwrap()
                } else {
                    receive.await.unwrap()
                };
                let sender = message.credentials.unwrap();
                assert_eq!(sender.pid(), Some(std::process::id() as i32), "{kind}");
                assert_eq!(sender, a.peer_cred().unwrap(), "{kind}");
                assert_reads(only(message), writer, kind);
            }
        });
    });
}

#[test]
fn the_process_of_the_sender_comes_along_where_somebody_has_asked_for_it() {
    const SO_PASSPIDFD: i32 = 76;
    run(async || {
        for_every_kind!(|a, b, kind| {
            let on: i32 = 1;
            // SAFETY: the value outlives the call.
            let set = unsafe {
                libc::setsockopt(
                    b.as_raw_fd(),
                    libc::SOL_SOCKET,
                    SO_PASSPIDFD,
                    (&raw const on).cast(),
                    4,
                )
            };
            if set != 0 {
                println!("skipped: no SO_PASSPIDFD ({})", io::Error::last_os_error());
                return;
            }
            a.send_with_fds("me", &[] as &[OwnedFd]).await.unwrap();
            let message = b.recv_with_fds(vec![0; 16]).await.unwrap();
            let about = format!("/proc/thread-self/fdinfo/{}", message.pidfd.unwrap().as_raw_fd());
            drop(about);
            // Dropped with the message, and with what is left.
            a.send_with_fds("me", &[] as &[OwnedFd]).await.unwrap();
            drop(b.recv_with_fds(vec![0; 16]).await.unwrap());
            let _writer = leave!(a, b, "me");
        });
    });
}

#[test]
fn closing_what_nobody_took_does_not_stop_the_loop() {
    run(async || {
        let (a, b) = UnixStream::pair().unwrap();
        let listener = std_net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std_net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        SockRef::from(&socket).set_linger(Some(Duration::from_secs(60))).unwrap();
        socket.set_nonblocking(true).unwrap();
        while (&socket).write(&[1; 1 << 16]).is_ok() {}
        let mut receive = Box::pin(b.recv_with_fds(vec![0; 16]));
        assert!(poll_in_task(&mut receive).await.is_pending());
        a.send_with_fds("look", &[&socket]).await.unwrap();
        turns(2).await;
        drop(receive);
        quiet().await;
        // The one that waits in `b` is the last, and to close it would take a minute.
        drop(socket);
        let began = Instant::now();
        drop(b);
        assert!(began.elapsed() < Duration::from_secs(30));
        // The peer goes, so that the thread that closes ends before the test does.
        drop(peer);
    });
}
