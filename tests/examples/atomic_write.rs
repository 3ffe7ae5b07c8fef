//! The example that replaces a file durably, as a program that is killed at any moment.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::common::{Random, bounded, example, mortal, scratch_dir, seed, size};
use crate::cried;

fn start(path: &Path, input: Stdio) -> Child {
    let mut command = mortal(Command::new(example("atomic_write")));
    command.arg(path).stdin(input).stderr(Stdio::piped()).spawn().expect("the example starts")
}

#[test]
fn a_replacement_that_is_killed_at_any_moment_leaves_the_old_or_the_new_content_whole() {
    bounded(|| {
        let (scratch, random) = (scratch_dir(), Random::new(seed()));
        let (path, input) = (scratch.path().join("settings"), scratch.path().join("input"));
        let replace_by = |content: &[u8]| {
            fs::write(&input, content).expect("written");
            start(&path, File::open(&input).expect("opened").into())
        };
        let content = |round: usize| vec![round as u8; 300_000 + 1000 * (round % 7)];
        let begun = Instant::now();
        let output = replace_by(&content(0)).wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", cried(&output));
        assert_eq!(fs::read(&path).expect("there"), content(0));
        let whole_run = begun.elapsed();
        let (mut before, mut replaced) = (0, 0);
        let rounds = size(60).min(10_000) as usize;
        for round in 1..=rounds {
            let mut child = replace_by(&content(round));
            thread::sleep(whole_run * random.below(1000) as u32 / 800);
            child.kill().expect("killed");
            child.wait().expect("it has ended");
            let found = fs::read(&path).expect("it is never missing");
            let is_new = found == content(round);
            assert!(is_new || found == content(before), "round {round}: {} bytes", found.len());
            if is_new {
                (before, replaced) = (round, replaced + 1);
            }
        }
        println!("{replaced} of {rounds} contents were there before the kill");
        // What was left behind is in nobody's way.
        let output = replace_by(b"the end").wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", cried(&output));
        assert_eq!(fs::read(&path).expect("there"), b"the end");
        assert_eq!(fs::read_dir(scratch.path()).expect("a directory").count(), 2);
    });
}

#[test]
fn a_replacement_that_fails_says_what_is_wrong_and_leaves_nothing() {
    let scratch = scratch_dir();
    let run = |path: &Path| start(path, Stdio::null()).wait_with_output().expect("it ends");
    let missing = scratch.path().join("missing/settings");
    let output = run(&missing);
    assert!(!output.status.success() && cried(&output).contains("No such file"));
    // A directory with something in it is replaced by nothing.
    let full = scratch.path().join("full");
    fs::create_dir(&full).expect("made");
    fs::write(full.join("file"), "").expect("written");
    let output = run(&full);
    assert!(!output.status.success() && cried(&output).contains("directory"), "{}", cried(&output));
    assert_eq!(fs::read_dir(scratch.path()).expect("a directory").count(), 1);
}
