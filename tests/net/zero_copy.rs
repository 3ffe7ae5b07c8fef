//! Sends without a copy, over the loopback (where the kernel copies after all) and between two ends
//! of a virtual cable (where the acknowledgement can be kept waiting, and with it the
//! notification).

use std::future::Future;
use std::io::{ErrorKind, Read};
use std::net as std_net;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{io, thread};

use annulus::buf::IoBuf;
use annulus::net::{TcpStream, UdpSocket, UnixStream};
use annulus::time;

use crate::common::{
    Pool, Random, become_ordinary, end_with_a_leak, in_own_process, open_descriptors, poll_in_task,
    quiet, run, run_here, seed, turns,
};
use crate::{LONG, SHORT, tcp_pair};

/// Many times what the sockets of the loopback hold.
const MUCH: usize = 16 << 20;

/// Reads to the end on a thread.
fn collect(mut stream: std_net::TcpStream) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    })
}

#[test]
fn bytes_arrive_in_order_and_the_buffers_come_back() {
    run(async || {
        let random = Random::new(seed());
        let (ours, theirs) = tcp_pair().await;
        let received = collect(theirs);
        let mut expected = Vec::new();
        for round in 0..200usize {
            let bytes: Vec<u8> =
                (0..1 + random.below(60_000)).map(|index| (index + round) as u8).collect();
            let address = bytes.as_ptr();
            match round % 5 {
                0 => {
                    let (sent, bytes) = ours.send_zc(bytes).await.unwrap();
                    assert!(sent.count > 0);
                    assert_eq!(bytes.as_ptr(), address, "the buffer itself");
                    expected.extend_from_slice(&bytes[..sent.count]);
                }
                1 => {
                    let (sent, bytes) = ours.send_all_zc(bytes).await.unwrap();
                    assert_eq!((sent.count, bytes.as_ptr()), (bytes.len(), address));
                    expected.extend(bytes);
                }
                2 => {
                    let length = bytes.len();
                    let (sent, slice) = ours.send_all_zc(bytes.slice(length / 2..)).await.unwrap();
                    assert_eq!(sent.count, length - length / 2);
                    expected.extend_from_slice(&slice);
                }
                3 => {
                    let (sent, (head, body)) =
                        ours.send_all_vectored_zc(("head", bytes)).await.unwrap();
                    assert_eq!(sent.count, 4 + body.len());
                    expected.extend(head.bytes().chain(body));
                }
                _ => {
                    let (sent, [one, two]) =
                        ours.send_vectored_zc([bytes.clone(), bytes]).await.unwrap();
                    expected.extend([one, two].concat().iter().take(sent.count));
                }
            }
        }
        ours.close().await.unwrap();
        assert_eq!(received.join().unwrap(), expected);
    });
}

#[test]
fn more_than_the_window_holds_goes_on_until_all_is_sent() {
    run(async || {
        let (ours, theirs) = tcp_pair().await;
        let received = collect(theirs);
        let (reading, writing) = ours.into_split();
        let much: Vec<u8> = (0..MUCH).map(|index| (index / 4099) as u8).collect();
        let (sent, much) = writing.send_all_zc(much).await.unwrap();
        assert_eq!(sent.count, MUCH);
        let pieces: Vec<Vec<u8>> = much.chunks(3001).map(<[u8]>::to_vec).chain([vec![]]).collect();
        assert!(pieces.len() > 4 * 1024, "more than one call takes");
        let (sent, pieces) = writing.send_all_vectored_zc(pieces).await.unwrap();
        assert_eq!(sent.count, MUCH);
        let pieces = writing.write_all_vectored(pieces).await.unwrap();
        drop((reading, writing));
        assert_eq!(pieces.concat(), much);
        assert!(received.join().unwrap() == much.repeat(3), "three times the same");
    });
}

#[test]
fn empty_buffers_are_sent_at_once() {
    run(async || {
        let (ours, theirs) = tcp_pair().await;
        assert_eq!(ours.send_all_zc(Vec::new()).await.unwrap().0.count, 0);
        assert_eq!(ours.send_all_vectored_zc(Vec::<Vec<u8>>::new()).await.unwrap().0.count, 0);
        assert_eq!(
            ours.write_all_vectored([vec![], vec![]]).await.unwrap(),
            [Vec::<u8>::new(), Vec::new()]
        );
        ours.write_all_vectored((vec![], "some", Vec::new(), b"thing")).await.unwrap();
        // More than one call takes, in front of the only one with bytes.
        let mut pieces = vec![Vec::new(); 1025];
        pieces.push(b" more".to_vec());
        let pieces = ours.write_all_vectored(pieces).await.unwrap();
        let (count, pieces) = ours.write_vectored(pieces).await.unwrap();
        let (sent, _) = ours.send_all_vectored_zc(pieces).await.unwrap();
        assert_eq!((count, sent.count), (5, 5));
        ours.close().await.unwrap();
        assert_eq!(collect(theirs).join().unwrap(), b"something more more more");
    });
}

#[test]
fn the_loopback_copies_and_says_so() {
    run(async || {
        let (ours, mut theirs) = tcp_pair().await;
        let (sent, _) = ours.send_all_zc(vec![7; 40_000]).await.unwrap();
        assert!(sent.copied);
        theirs.read_exact(&mut vec![0; 40_000]).unwrap();
    });
}

#[test]
fn a_socket_without_zero_copy_gets_a_plain_send() {
    if copies_at_once() {
        return;
    }
    run(async || {
        let (ours, _) = tcp_pair().await;
        let (other, theirs) = UnixStream::pair().unwrap();
        let other = other.into_std().await;
        // Each TCP socket here has it, so behind the number is now another socket, which has not.
        // SAFETY: both numbers are open, and the one that is replaced stays open.
        assert!(unsafe { libc::dup2(other.as_raw_fd(), ours.as_raw_fd()) } >= 0);
        drop(other);
        let before = annulus::metrics().operations;
        let (sent, buffer) = ours.send_zc(b"plain".to_vec()).await.unwrap();
        assert_eq!((sent.count, sent.copied, &buffer[..]), (5, true, &b"plain"[..]));
        assert_eq!(annulus::metrics().operations - before, 2, "it was tried without a copy");
        let (sent, _) = ours.send_all_vectored_zc((" and", " simple")).await.unwrap();
        assert_eq!((sent.count, sent.copied), (11, true));
        assert_eq!(theirs.read_exact(vec![0; 16]).await.unwrap(), b"plain and simple");
    });
}

#[test]
fn without_locked_memory_it_is_a_plain_send() {
    in_own_process(|| {
        become_ordinary(64 << 10);
        run_here(async {
            let (ours, theirs) = tcp_pair().await;
            let received = collect(theirs);
            let before = annulus::metrics().operations;
            let (sent, buffer) = ours.send_all_zc(vec![3; 1 << 20]).await.unwrap();
            assert_eq!((sent.count, sent.copied, buffer), (1 << 20, true, vec![3; 1 << 20]));
            println!("{} operations for one megabyte", annulus::metrics().operations - before);
            let (sent, _) =
                ours.send_all_vectored_zc([vec![3; 1 << 20], vec![3; 1 << 20]]).await.unwrap();
            assert_eq!(sent.count, 2 << 20);
            ours.close().await.unwrap();
            assert_eq!(received.join().unwrap(), vec![3; 3 << 20]);
        });
    });
}

#[test]
fn a_peer_that_has_gone_is_an_error_with_the_buffer() {
    run(async || {
        let (ours, theirs) = tcp_pair().await;
        drop(theirs);
        let error = loop {
            match ours.send_all_zc(vec![1; 100_000]).await {
                Ok(_) => turns(1).await,
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
            "{error}"
        );
        assert_eq!(error.into_buffer(), vec![1; 100_000]);
        let error = ours.send_all_vectored_zc((vec![2], "three")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(error.into_buffer(), (vec![2], "three"));
    });
}

/// Says why a test about the time between a send and its notification ends at once.
fn copies_at_once() -> bool {
    let copies = crate::common::is_on_software_ring();
    if copies {
        println!("skipped: the software ring copies, so that its notifications wait for nobody");
    }
    // The tests beside this one share the locked memory of an ordinary user; without it a send
    // copies.
    let is_short =
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) != 0;
    if is_short {
        println!("skipped: an ordinary user's locked memory may not suffice");
    }
    copies || is_short
}

/// Polls until nothing more happens by itself: what is sent waits for the peer, who does not read.
async fn stuck<F: Future + Unpin>(send: &mut F) {
    let started = Instant::now();
    while started.elapsed() < 2 * SHORT {
        assert!(poll_in_task(send).await.is_pending(), "the peer has not read it");
        time::sleep(SHORT / 4).await;
    }
}

#[test]
fn a_deadline_ends_the_sending_and_the_buffer_comes_back_when_the_peer_lets_go_of_it() {
    if copies_at_once() {
        return;
    }
    run(async || {
        let (ours, theirs) = tcp_pair().await;
        let mut send = ours.send_all_zc(vec![1; MUCH]).timeout(SHORT);
        stuck(&mut send).await;
        drop(theirs);
        let error = send.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!((1..MUCH).contains(&error.transferred()), "{}", error.transferred());
        assert_eq!(error.into_buffer().len(), MUCH);
    });
}

#[test]
fn a_dropped_send_keeps_its_buffer_until_the_kernel_has_let_go_of_it() {
    run(async || {
        let pool = Pool::default();
        for step in 0..40 {
            let (ours, theirs) = tcp_pair().await;
            let mut send = ours.send_all_zc(pool.filled(vec![9; MUCH / 4]));
            assert!(poll_in_task(&mut send).await.is_pending());
            turns(step % 4).await;
            drop(send);
            // A later write is not sent in front of it.
            let mut write = ours.write_all("later");
            let _ = poll_in_task(&mut write).await;
            turns(3).await;
            drop(theirs);
            let _ = write.await;
            ours.close().await.unwrap();
        }
        quiet().await;
        pool.assert_all_back();
    });
}

#[test]
fn a_cancelled_send_yields_its_own_result() {
    if copies_at_once() {
        return;
    }
    run(async || {
        let (ours, theirs) = tcp_pair().await;
        let mut send = ours.send_all_zc(vec![9; MUCH]);
        assert!(poll_in_task(&mut send).await.is_pending());
        turns(3).await;
        let mut cancelled = send.cancel();
        stuck(&mut cancelled).await;
        let received = collect(theirs);
        let error = cancelled.await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED), "{error}");
        let sent = error.transferred();
        assert_eq!(error.into_buffer(), vec![9; MUCH]);
        let send = ours.send_all_zc(vec![9; 10]).cancel().await;
        assert_eq!(send.unwrap_err().raw_os_error(), Some(libc::ECANCELED), "never started");
        ours.close().await.unwrap();
        assert_eq!(received.join().unwrap().len(), sent, "what it says to have sent");
    });
}

#[test]
fn datagrams_go_without_a_copy() {
    run(async || {
        let ours = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let theirs = std_net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = theirs.local_addr().unwrap();
        let mut received = [0; 65_536];
        let (sent, buffer) = ours.send_to_zc(vec![5; 20_000], address).await.unwrap();
        assert_eq!((sent.count, buffer.len()), (20_000, 20_000));
        assert_eq!(theirs.recv_from(&mut received).unwrap(), (20_000, ours.local_addr().unwrap()));
        assert_eq!(received[..20_000], [5; 20_000]);
        ours.connect(address).await.unwrap();
        let (sent, _) = ours.send_zc("connected").await.unwrap();
        assert_eq!((sent.count, theirs.recv(&mut received).unwrap()), (9, 9));
        let (sent, _) = ours.send_zc("").await.unwrap();
        assert_eq!(
            (sent.count, theirs.recv(&mut received).unwrap()),
            (0, 0),
            "an empty one is a datagram too"
        );
        let error = ours.send_zc(vec![0; 70_000]).await.unwrap_err();
        assert_eq!(
            (error.raw_os_error(), error.into_buffer().len()),
            (Some(libc::EMSGSIZE), 70_000)
        );
    });
}

/// Runs ip(8); its failure is a reason to skip.
fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("ip(8): {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Gives the calling thread, and what it starts, a network of its own.
fn enter_new_network() -> Result<(), String> {
    // SAFETY: the call takes no memory.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => ip("link set lo up"),
        _ => Err(format!("a network namespace: {}", io::Error::last_os_error())),
    }
}

/// Makes a cable from this thread's network to that of another, where a function serves a listener
/// at 10.9.0.2. Returns its address.
fn cable(
    serve: impl FnOnce(std_net::TcpListener) + Send + 'static,
) -> Result<std_net::SocketAddr, String> {
    enter_new_network()?;
    let (to_here, from_there) = mpsc::channel();
    let (to_there, from_here) = mpsc::channel();
    thread::spawn(move || {
        let entered = enter_new_network();
        // SAFETY: the call takes no memory.
        to_here.send(entered.map(|()| unsafe { libc::gettid() })).unwrap();
        if from_here.recv().is_ok() {
            let up = ip("addr add 10.9.0.2/24 dev there").and_then(|()| ip("link set there up"));
            let listener = up.map(|()| std_net::TcpListener::bind("10.9.0.2:0").unwrap());
            to_here
                .send(
                    listener
                        .as_ref()
                        .map(|listener| i32::from(listener.local_addr().unwrap().port()))
                        .map_err(Clone::clone),
                )
                .unwrap();
            listener.map(serve).unwrap_or_default();
        }
    });
    let thread = from_there.recv().unwrap()?;
    ip("link add here type veth peer name there")?;
    ip(&format!("link set there netns {thread}"))?;
    ip("addr add 10.9.0.1/24 dev here")?;
    ip("link set here up")?;
    to_there.send(()).unwrap();
    let port = from_there.recv().unwrap()?;
    Ok(std_net::SocketAddr::from(([10, 9, 0, 2], port as u16)))
}

#[test]
fn a_send_that_nobody_has_acknowledged_keeps_its_buffer_but_neither_turn_nor_descriptor() {
    if copies_at_once() {
        return;
    }
    in_own_process(|| {
        let (to_test, from_server) = mpsc::channel();
        let serve = move |listener: std_net::TcpListener| {
            let mut stream = listener.accept().unwrap().0;
            to_test.send(Vec::new()).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            to_test.send(all).unwrap();
        };
        let address = match cable(serve) {
            Ok(address) => address,
            Err(reason) => return println!("skipped: {reason}"),
        };
        run_here(async move {
            let pool = Pool::default();
            let stream = time::timeout(LONG, TcpStream::connect(address)).await.unwrap().unwrap();
            from_server.recv().unwrap();
            let socket = open_descriptors()[&stream.as_raw_fd()].clone();
            // Nothing gets through, so nothing is acknowledged.
            ip("link set here down").unwrap();
            let mut send = stream.send_all_zc(pool.filled(vec![1; 20_000]));
            assert!(poll_in_task(&mut send).await.is_pending());
            let mut second = stream.send_zc(pool.filled(vec![2; 1000]));
            // The write waits for its turn behind both, and not for what waits for the peer.
            let started = Instant::now();
            let mut write = stream.write_all("third");
            let mut written = false;
            while !written {
                assert!(started.elapsed() < LONG, "the turn is not given on");
                assert!(poll_in_task(&mut send).await.is_pending(), "nobody has acknowledged it");
                assert!(poll_in_task(&mut second).await.is_pending(), "nor this one");
                written = poll_in_task(&mut write).await.is_ready();
                turns(1).await;
            }
            drop(write);
            assert_eq!(
                (annulus::metrics().operations_in_flight, pool.live()),
                (2, 2),
                "the buffers are lent"
            );
            // Dropped, in both ways: before the stream and after it.
            drop(second);
            turns(3).await;
            assert_eq!(pool.live(), 2);
            drop(send);
            stream.close().await.unwrap();
            assert!(
                !open_descriptors().values().any(|open| *open == socket),
                "the descriptor is closed"
            );
            assert_eq!(
                (annulus::metrics().operations_in_flight, pool.live()),
                (2, 2),
                "the buffers are lent even now"
            );
            ip("link set here up").unwrap();
            time::timeout(LONG, quiet()).await.expect("the peer acknowledges");
            pool.assert_all_back();
            let all = from_server.recv_timeout(LONG).unwrap();
            assert!(
                all == [vec![1; 20_000], vec![2; 1000], b"third".to_vec()].concat(),
                "in order, {} bytes",
                all.len()
            );
        });
    });
}

#[test]
fn a_runtime_that_ends_before_the_notification_leaks_the_buffer_and_frees_nothing() {
    if copies_at_once() {
        return;
    }
    in_own_process(|| {
        let serve = |listener: std_net::TcpListener| {
            let _stream = listener.accept().unwrap();
            thread::sleep(LONG);
        };
        let address = match cable(serve) {
            Ok(address) => address,
            Err(reason) => return println!("skipped: {reason}"),
        };
        let pool = Pool::default();
        let runtime = crate::common::runtime();
        runtime.block_on(async {
            let stream = time::timeout(LONG, TcpStream::connect(address)).await.unwrap().unwrap();
            ip("link set here down").unwrap();
            let mut send = stream.send_all_zc(pool.filled(vec![1; 20_000]));
            assert!(poll_in_task(&mut send).await.is_pending());
            turns(2).await;
        });
        let started = Instant::now();
        drop(runtime);
        assert!(started.elapsed() < 4 * Duration::from_secs(5), "the end is bounded");
        assert_eq!(pool.live(), 1, "the network may still read it");
        end_with_a_leak();
    });
}
