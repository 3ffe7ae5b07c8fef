//! The example `grep`, beside the program of that name.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{bounded, mortal, scratch_dir};
use crate::{command, cried, run, said};

/// Directories with files in which some lines have the text.
fn tree(root: &Path) {
    for directory in 0..30 {
        let directory = root.join(format!("{}/{}", directory % 7, directory));
        fs::create_dir_all(&directory).expect("a scratch directory");
        for file in 0..20 {
            let line = |number| match (number + file) % 9 {
                0 => "a needle, and another needle",
                1 => "",
                _ => "hay",
            };
            let lines: Vec<&str> = (0..50).map(line).collect();
            fs::write(directory.join(format!("file {file}")), lines.join("\n")).expect("a file");
        }
    }
    fs::write(root.join("empty"), "").expect("a file");
    fs::write(root.join("one"), "needle").expect("a file");
    fs::write(root.join("end"), "needle\n").expect("a file");
    fs::write(root.join("binary"), b"\0needle").expect("a file");
    fs::write(root.join("latin1"), b"needle \xe9\n").expect("a file");
    std::os::unix::fs::symlink("one", root.join("link")).expect("a link");
    std::os::unix::fs::symlink("..", root.join("0/loop")).expect("a link");
}

#[test]
fn grep_finds_the_lines_that_grep_finds() {
    bounded(|| {
        let directory = scratch_dir();
        tree(directory.path());
        let output = run("grep", &[&"needle", &directory.path()]);
        assert_eq!((output.status.code(), cried(&output)), (Some(0), String::new()));
        let mut theirs = Command::new("grep");
        theirs.args(["-rnIF", "needle"]).arg(directory.path()).env("LC_ALL", "C.UTF-8");
        let theirs = match theirs.output() {
            Ok(theirs) => theirs,
            Err(error) => return println!("skipped: no grep here ({error})"),
        };
        let lines = |text: &[u8]| -> BTreeSet<Vec<u8>> {
            text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
        };
        let mut expected = lines(&theirs.stdout);
        // A byte that is no UTF-8 makes a binary file for one, and not for the other.
        let mut latin1 = directory.path().join("latin1").into_os_string().into_encoded_bytes();
        latin1.extend(b":1:needle \xe9");
        expected.insert(latin1);
        assert_eq!(lines(&output.stdout), expected);
        assert!(expected.len() > 1000, "{} lines", expected.len());
    });
}

#[test]
fn grep_tells_by_its_status_whether_it_has_found_something() {
    bounded(|| {
        let directory = scratch_dir();
        fs::write(directory.path().join("file"), "hay\n").expect("a file");
        assert_eq!(run("grep", &[&"needle", &directory.path()]).status.code(), Some(1));
        assert_eq!(run("grep", &[&"hay", &directory.path()]).status.code(), Some(0));
        let gone = directory.path().join("gone");
        let output = run("grep", &[&"hay", &gone, &directory.path()]);
        assert_eq!(output.status.code(), Some(2));
        assert!(cried(&output).contains("gone"), "{}", cried(&output));
        assert!(said(&output).ends_with("file:1:hay\n"), "the walk goes on: {}", said(&output));
        assert_eq!(run("grep", &[]).status.code(), Some(2));
    });
}

#[test]
fn grep_ends_quietly_when_nobody_reads_on() {
    bounded(|| {
        let directory = scratch_dir();
        tree(directory.path());
        let mut child =
            command("grep", &[&"needle", &directory.path()]).spawn().expect("it starts");
        let stdout = child.stdout.take().expect("a pipe");
        let mut head = Command::new("head");
        head.args(["-n", "1"]);
        let mut reader = mortal(head);
        let head = reader.stdin(Stdio::from(stdout)).output().expect("head is there");
        // With the command goes this process's end of the pipe.
        drop(reader);
        assert_eq!(String::from_utf8_lossy(&head.stdout).lines().count(), 1);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), cried(&output)), (Some(0), String::new()));
    });
}
