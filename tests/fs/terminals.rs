//! Terminals: whoever sits at the other end may take all the time, and the loop goes on.

use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::pin::pin;
use std::time::Duration;
use std::{fs as std_fs, ptr};

use annulus::fs::File;
use annulus::{spawn, time};
use futures_util::StreamExt;
use futures_util::future::{Either, select};

use crate::common::{is_on_software_ring, poll_in_task, run, turns};

/// More than a terminal takes that nobody reads.
const MUCH: usize = 1 << 20;
const MILLISECOND: Duration = Duration::from_millis(1);

/// The side of the terminal emulator, and the side of the program. Raw, so that bytes are bytes,
/// unless there is more to set.
fn terminal(set: impl FnOnce(&mut libc::termios)) -> (std_fs::File, File) {
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: the settings and the numbers outlive the calls, which want nothing else; the
    // descriptors are new, and nobody else's.
    unsafe {
        assert_eq!(
            libc::openpty(&mut master, &mut slave, ptr::null_mut(), ptr::null(), ptr::null()),
            0
        );
        let mut settings = std::mem::zeroed::<libc::termios>();
        assert_eq!(libc::tcgetattr(slave, &mut settings), 0);
        libc::cfmakeraw(&mut settings);
        set(&mut settings);
        assert_eq!(libc::tcsetattr(slave, libc::TCSANOW, &settings), 0);
        (std_fs::File::from_raw_fd(master), File::from(OwnedFd::from_raw_fd(slave)))
    }
}

/// The loop turns, and timers tick.
async fn tick() {
    for _ in 0..20 {
        time::sleep(MILLISECOND).await;
    }
}

#[test]
fn a_write_that_nobody_reads_stops_nobody_and_ends_with_the_other_side() {
    run(async || {
        let (master, slave) = terminal(|_| ());
        let write = spawn(async move { (slave.write_all_at(vec![b'x'; MUCH], 0).await, slave) });
        tick().await;
        assert!(!write.is_finished());
        // A hang-up.
        drop(master);
        let (written, _slave) = write.await.unwrap();
        let error = written.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert_eq!(error.into_buffer(), vec![b'x'; MUCH]);
    });
}

#[test]
fn a_write_that_waits_can_be_dropped_and_cancelled() {
    run(async || {
        for cancels in [false, true] {
            let (mut master, slave) = terminal(|_| ());
            let mut write = slave.write_at(vec![b'x'; MUCH], 0);
            assert!(poll_in_task(&mut write).await.is_pending());
            tick().await;
            if is_on_software_ring() {
                // A thread that has begun goes on to its end: it is given one.
                drain(&mut master);
            }
            if cancels {
                // What had been written by then, or that nothing was.
                if let Err(error) = write.cancel().await {
                    assert!(
                        matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EINTR)),
                        "{error:?}"
                    );
                }
            }
        }
    });
}

/// Reads what there is on a thread, to the hang-up of the other side.
fn drain(master: &mut std_fs::File) {
    let mut master = master.try_clone().unwrap();
    std::thread::spawn(move || while master.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {});
}

#[test]
fn reads_that_wait_for_more_or_for_a_time_stop_nobody() {
    // As the terminal is told: so many bytes at least, and so many tenths of a second between two.
    for (least, tenths) in [(1, 0), (10, 0), (10, 50), (0, 200)] {
        run(async || {
            let (mut master, slave) = terminal(|settings| {
                settings.c_cc[libc::VMIN] = least;
                settings.c_cc[libc::VTIME] = tenths;
            });
            let slave = std::rc::Rc::new(slave);
            let reader = std::rc::Rc::clone(&slave);
            if least > 1 {
                master.write_all(b"12345").unwrap();
            }
            let read = spawn(async move { reader.read_at(vec![0; 10], 0).await });
            tick().await;
            assert!(!read.is_finished());
            master.write_all(b"67890").unwrap();
            let (count, bytes) = read.await.unwrap().unwrap();
            assert_eq!(&bytes[..count], if least > 1 { &b"1234567890"[..] } else { b"67890" });
        });
    }
}

#[test]
fn what_is_typed_is_read_after_dropped_reads_and_in_chunks() {
    run(async || {
        let (mut master, slave) = terminal(|_| ());
        for round in 0..30u8 {
            let mut dropped = slave.read_at(vec![0; 4], 0);
            assert!(poll_in_task(&mut dropped).await.is_pending());
            turns(usize::from(round % 3)).await;
            drop(dropped);
            master.write_all(&[b'a' + round % 26; 4]).unwrap();
            let mut seen = Vec::new();
            while seen.len() < 4 {
                let (count, bytes) = slave.read_at(vec![0; 4 - seen.len()], 0).await.unwrap();
                seen.extend_from_slice(&bytes[..count]);
            }
            assert_eq!(seen, [b'a' + round % 26; 4]);
        }
        let mut chunks = slave.chunks();
        for text in ["one", "two"] {
            master.write_all(text.as_bytes()).unwrap();
            assert_eq!(&chunks.next().await.unwrap().unwrap()[..], text.as_bytes());
        }
        // While it waits, nobody else does.
        match select(chunks.next(), pin!(tick())).await {
            Either::Left((item, _)) => panic!("{item:?}"),
            Either::Right(((), _)) => {}
        }
        drop(master);
        // A hang-up is the end, or an error.
        assert!(
            chunks
                .next()
                .await
                .is_none_or(|item| item.unwrap_err().raw_os_error() == Some(libc::EIO))
        );
    });
}
