//! The pipes to a child, and its output.

use std::io::ErrorKind;
use std::process::Stdio;

use annulus::process::Command;

use super::shell;
use crate::common::{Random, run, seed};

#[test]
fn what_goes_in_comes_out_and_the_end_is_seen_on_both_sides() {
    let random = Random::new(seed());
    let bytes = random.bytes(300_000);
    run(async || {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, content) = (child.stdin.take().unwrap(), bytes.clone());
        let writing = annulus::spawn(async move { input.write_all(content).await.map(drop) });
        let output = child.wait_with_output().await.unwrap();
        writing.await.unwrap().unwrap();
        assert!(output.status.success() && output.stdout == bytes);
    });
}

#[test]
fn a_conversation_line_by_line() {
    run(async || {
        let mut child = shell("while read line; do echo got $line; done; echo end >&2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = child.stdout.take().unwrap();
        for number in 0..5 {
            input.write_all(format!("{number}\n")).await.unwrap();
            let answer = output.read_exact(vec![0; 6].into_boxed_slice()).await.unwrap();
            assert_eq!(&answer[..], format!("got {number}\n").as_bytes());
        }
        drop(input);
        let rest = child.wait_with_output().await.unwrap();
        assert_eq!((&rest.stdout[..], &rest.stderr[..]), (&b""[..], &b"end\n"[..]));
        assert_eq!(output.read(vec![0; 8]).await.unwrap().0, 0);
    });
}

#[test]
fn both_outputs_are_read_at_the_same_time_whatever_their_order_and_size() {
    run(async || {
        let script = "head -c 1000000 /dev/zero >&2; head -c 500000 /dev/zero; \
                      head -c 1000000 /dev/zero >&2; echo end";
        let output = shell(script).output().await.unwrap();
        assert!(output.status.success());
        assert_eq!((output.stdout.len(), output.stderr.len()), (500_004, 2_000_000));
        assert!(output.stdout.ends_with(b"\0end\n"));
    });
}

#[test]
fn output_has_no_input_and_takes_the_streams_that_were_set() {
    run(async || {
        // Its input would be the test's, which may be a terminal, if it were not empty.
        let mut command = Command::new("cat");
        for _ in 0..2 {
            assert_eq!(command.output().await.unwrap().stdout, b"");
        }
        let output = shell("echo out; echo err >&2").stderr(Stdio::null()).output().await.unwrap();
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b""[..]));
        let child = shell("echo nobody reads this").stdout(Stdio::null()).spawn().unwrap();
        assert!(child.wait_with_output().await.unwrap().stdout.is_empty());
    });
}

#[test]
fn a_child_that_closes_its_input_early_makes_writes_fail_and_sends_no_signal() {
    run(async || {
        let mut command = shell("exec <&-; echo closed; read line");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = child.stdout.as_ref().unwrap();
        assert_eq!(output.read(vec![0; 64]).await.unwrap().1, b"closed\n");
        let error = input.write_all(vec![1; 1_000_000]).await.unwrap_err();
        assert_eq!(error.get_ref().kind(), ErrorKind::BrokenPipe);
        drop(input);
        child.wait().await.unwrap();
    });
}

#[test]
fn the_output_of_one_child_is_the_input_of_the_next() {
    run(async || {
        let mut first = shell("printf 'b\\na\\n'").stdout(Stdio::piped()).spawn().unwrap();
        let between: Stdio = first.stdout.take().unwrap().try_into().unwrap();
        let second = Command::new("sort").stdin(between).output();
        assert_eq!(second.await.unwrap().stdout, b"a\nb\n");
        assert!(first.wait().await.unwrap().success());
        // Into a pipe of ours, and by std's type.
        let (reader, writer) = annulus::io::pipe().unwrap();
        let status = shell("echo there").stdout(writer.into_std().await).status();
        assert!(status.await.unwrap().success());
        assert_eq!(reader.read(vec![0; 64]).await.unwrap().1, b"there\n");
    });
}

#[test]
fn a_childs_pipes_are_blocking_on_both_sides() {
    run(async || {
        let script = "for fd in 0 1 2; do grep flags /proc/self/fdinfo/$fd >&2; done";
        let child = shell(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // SAFETY: the call takes no memory.
        let flags = unsafe {
            let output = std::os::fd::AsRawFd::as_raw_fd(child.stdout.as_ref().unwrap());
            libc::fcntl(output, libc::F_GETFL)
        };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        let output = child.wait_with_output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        for line in text.lines() {
            let flags = i32::from_str_radix(line.split_whitespace().last().unwrap(), 8).unwrap();
            assert_eq!(flags & libc::O_NONBLOCK, 0, "{text}");
        }
    });
}
