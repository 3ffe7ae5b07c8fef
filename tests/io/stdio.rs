//! The standard streams, connected to each kind of thing there is.
//!
//! Each test has a process of its own, and puts files, pipes, terminals and sockets in the place of
//! its standard streams.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr;

use annulus::io::{AsyncRead, AsyncWrite, BufReader, BufWriter, stderr, stdin, stdout};
use annulus::spawn;
use futures_util::StreamExt;

use crate::common::{in_own_process, poll_in_task, quiet, run_here, scratch_dir, turns};
use crate::tools::polls;

/// What a standard stream was, until this is dropped.
struct Replaced {
    number: i32,
    before: OwnedFd,
}

/// Puts something in the place of a standard stream.
fn replace(number: i32, by: &impl AsFd) -> Replaced {
    std::io::stdout().flush().unwrap();
    // SAFETY: the call takes no memory; the number is open, and belongs to nobody.
    let before = unsafe { OwnedFd::from_raw_fd(libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3)) };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::dup2(by.as_fd().as_raw_fd(), number) }, number);
    Replaced { number, before }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::dup2(self.before.as_raw_fd(), self.number) };
    }
}

fn flags(file: &impl AsFd) -> i32 {
    // SAFETY: the call takes no memory.
    unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_GETFL) }
}

/// Both sides of a terminal: the user's, and the program's.
fn terminal() -> (File, File) {
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: the numbers outlive the call, which wants nothing else; the descriptors are new.
    unsafe {
        let made =
            libc::openpty(&mut master, &mut slave, ptr::null_mut(), ptr::null(), ptr::null());
        assert_eq!(made, 0);
        (File::from_raw_fd(master), File::from_raw_fd(slave))
    }
}

#[test]
fn lines_come_from_a_pipe_and_dropped_reads_leave_theirs_to_the_next_handle() {
    in_own_process(|| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let _replaced = replace(0, &reader);
        run_here(async {
            writer.write_all(b"first\nsec").unwrap();
            let mut lines = BufReader::new(stdin().unwrap()).lines();
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "first");
            assert!(polls(lines.next_line(), 1).await.is_none());
            writer.write_all(b"ond\nthird\n").unwrap();
            turns(2).await;
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "second");
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "third");
            drop(lines);

            for round in 0..3u8 {
                {
                    let input = stdin().unwrap();
                    let mut read = Box::pin(async {
                        match round {
                            0 => drop(input.read(vec![0; 8]).await),
                            1 => drop(input.read_chunk().await),
                            _ => drop(std::pin::pin!(input.chunks()).next().await),
                        }
                    });
                    assert!(poll_in_task(&mut read).await.is_pending());
                    turns(1).await;
                    writer.write_all(&[round]).unwrap();
                    turns(2).await;
                }
                quiet().await;
                assert_eq!(stdin().unwrap().read_exact(vec![9; 1]).await.unwrap(), [round]);
            }
            assert_eq!(flags(&reader) & libc::O_NONBLOCK, 0);
            drop(writer);
            assert_eq!(stdin().unwrap().read(vec![0; 1]).await.unwrap().0, 0);
        });
        // The next runtime of the thread has the same handle.
        run_here(async { assert!(stdin().unwrap().read_chunk().await.unwrap().is_empty()) });
    });
}

#[test]
fn a_file_is_read_from_where_it_stands_and_stands_where_reading_ended() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let path = scratch.path().join("input");
        std::fs::write(&path, "header\none\ntwo\nthree").unwrap();
        let mut file = File::open(&path).unwrap();
        file.seek(SeekFrom::Start(7)).unwrap();
        let _replaced = replace(0, &file);
        run_here(async {
            let input = stdin().unwrap();
            assert_eq!(input.read_exact(vec![0; 4]).await.unwrap(), b"one\n");
            assert_eq!(file.stream_position().unwrap(), 11);
            // Several at once take turns, since they share a position.
            let reads: Vec<_> = (0..3)
                .map(|_| spawn(async { stdin().unwrap().read(vec![0; 2]).await.unwrap().1 }))
                .collect();
            let mut all = Vec::new();
            for read in reads {
                all.extend_from_slice(&read.await.unwrap());
            }
            assert_eq!(all, b"two\nth");
            let mut rest = Vec::new();
            let mut input = &input;
            input.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"ree");
            assert!(!input.lends_chunks());
        });
    });
}

#[test]
fn output_to_a_file_moves_the_position_that_all_share() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let path = scratch.path().join("output");
        let file = File::create_new(&path).unwrap();
        let replaced = [replace(1, &file), replace(2, &file)];
        let mut others = file.try_clone().unwrap();
        let written = run_here(async {
            let (out, err) = (stdout().unwrap(), stderr().unwrap());
            let mut expected = 0;
            for round in 0..50 {
                // At the same time: nothing may land on something else.
                let line = format!("{round:04}");
                let (a, b) = (format!("out {line}\n"), format!("err {line}\n"));
                let (first, second) =
                    futures_util::join!(out.write_all(a), err.write_all_vectored([b]));
                others.write_all(b"another\n").unwrap();
                expected += first.unwrap().len() + second.unwrap()[0].len() + 8;
            }
            // A dropped one is carried out before the next, or not at all.
            assert!(polls(out.write_all("dropped\n"), 1).await.is_none());
            out.write_all("last\n").await.unwrap();
            expected + 5
        });
        drop(replaced);
        let text = std::fs::read_to_string(&path).unwrap();
        let dropped = text.matches("dropped\n").count() * 8;
        assert_eq!(text.len(), written + dropped);
        assert!(text.ends_with("last\n"));
        for what in ["out ", "err ", "another\n"] {
            assert_eq!(text.matches(what).count(), 50, "{what}");
        }
    });
}

#[test]
fn a_terminal_gives_lines_and_takes_output_and_keeps_its_mode() {
    in_own_process(|| {
        let (mut master, slave) = terminal();
        let before = flags(&slave);
        let replaced = [replace(0, &slave), replace(1, &slave)];
        run_here(async {
            let (input, output) = (stdin().unwrap(), stdout().unwrap());
            assert!(input.as_fd().is_terminal() && output.as_fd().is_terminal());
            {
                let mut read = input.read(vec![0; 64]);
                assert!(poll_in_task(&mut read).await.is_pending());
                turns(3).await;
            }
            quiet().await;
            let mut lines = BufReader::new(input).lines();
            master.write_all(b"typed\n").unwrap();
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "typed");
            // Ctrl-D, which is no end for ever.
            master.write_all(&[4]).unwrap();
            assert_eq!(lines.next_line().await.unwrap(), None);
            master.write_all(b"more\n").unwrap();
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "more");
            output.write_all("answer\n").await.unwrap();
            assert_eq!(flags(&slave), before);
        });
        drop(replaced);
        let mut seen = Vec::new();
        while !seen.ends_with(b"answer\r\n") {
            let mut part = [0; 64];
            let count = master.read(&mut part).unwrap();
            seen.extend_from_slice(&part[..count]);
        }
        assert_eq!(seen, b"typed\r\nmore\r\nanswer\r\n".as_slice());
    });
}

#[test]
fn a_socket_and_a_device_work_as_standard_streams() {
    in_own_process(|| {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let replaced = [replace(0, &theirs), replace(1, &theirs)];
        ours.write_all(b"ping").unwrap();
        run_here(async {
            let four = stdin().unwrap().read_exact(vec![0; 4]).await.unwrap();
            let mut output = BufWriter::new(stdout().unwrap());
            output.write_all(four).await.unwrap();
            output.shutdown().await.unwrap();
            // It is still open.
            stdout().unwrap().write_all_vectored(["po", "ng"]).await.unwrap();
        });
        let mut answer = [0; 8];
        ours.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"pingpong");
        drop(replaced);
    });
}

#[test]
fn the_null_device_is_empty_and_takes_everything() {
    in_own_process(|| {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let _replaced = [replace(0, &null), replace(1, &null)];
        run_here(async {
            assert_eq!(stdin().unwrap().read(vec![0; 8]).await.unwrap().0, 0);
            assert!(stdin().unwrap().read_chunk().await.unwrap().is_empty());
            stdout().unwrap().write_all(vec![0; 1 << 20]).await.unwrap();
        });
    });
}

#[test]
fn a_closed_standard_stream_is_an_error_and_one_that_nobody_reads_too() {
    in_own_process(|| {
        let null = File::open("/dev/null").unwrap();
        let replaced = [replace(0, &null), replace(2, &null)];
        for number in [0, 2] {
            // SAFETY: the number belongs to nobody, and comes back below.
            assert_eq!(unsafe { libc::close(number) }, 0);
        }
        assert_eq!(stdin().unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(stderr().unwrap_err().raw_os_error(), Some(libc::EBADF));
        drop(replaced);

        let (reader, writer) = std::io::pipe().unwrap();
        let replaced = replace(1, &writer);
        drop((reader, writer));
        run_here(async {
            let error = stdout().unwrap().write_all("nobody").await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
        });
        drop(replaced);
    });
}

#[test]
fn what_was_awaited_is_there_when_the_process_ends_at_once() {
    in_own_process(|| {
        let (mut reader, writer) = std::io::pipe().unwrap();
        // SAFETY: the child of this fork executes only what follows, and ends.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let _replaced = replace(1, &writer);
            annulus::block_on(async {
                stdout().unwrap().write_all(vec![b'x'; 500_000]).await.unwrap();
            });
            // SAFETY: the call takes no memory.
            unsafe { libc::_exit(0) };
        }
        drop(writer);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 500_000);
        // SAFETY: no status is asked for.
        assert_eq!(unsafe { libc::waitpid(child, ptr::null_mut(), 0) }, child);
    });
}
