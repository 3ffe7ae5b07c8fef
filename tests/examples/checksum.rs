//! The example `checksum`, beside sha256sum(1).

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::common::{bounded, scratch_dir};
use crate::{MIB, bytes, cried, run, said};

#[test]
fn checksum_says_what_sha256sum_says() {
    bounded(|| {
        let directory = scratch_dir();
        let below = directory.path().join("below/further");
        fs::create_dir_all(&below).expect("a scratch directory");
        let content = bytes(3 * MIB + 77);
        for (number, length) in
            [0, 1, 4096, 128 * 1024, 128 * 1024 + 1, MIB, 3 * MIB + 77].into_iter().enumerate()
        {
            fs::write(below.join(format!("file {number}")), &content[..length]).expect("a file");
        }
        for number in 0..300 {
            let name = directory.path().join(format!("small {number}"));
            fs::write(name, &content[number..2 * number]).expect("a file");
        }
        let output = run("checksum", &[&directory.path()]);
        assert_eq!((output.status.code(), cried(&output)), (Some(0), String::new()));
        let found: BTreeSet<String> = said(&output).lines().map(str::to_owned).collect();
        assert_eq!(found.len(), 307);
        let theirs = Command::new("find")
            .arg(directory.path())
            .args(["-type", "f", "-exec", "sha256sum", "{}", "+"])
            .output()
            .expect("find is there");
        let expected = said(&theirs).lines().map(str::to_owned).collect();
        assert_eq!(found, expected);

        let output = run("checksum", &[&"--compare", &directory.path()]);
        assert!(output.status.success());
        let compared: Vec<String> = cried(&output).lines().map(str::to_owned).collect();
        let [ours, theirs] = &compared[..] else { panic!("{compared:?}") };
        assert!(ours.starts_with("checksum: ") && ours.ends_with("of CPU"), "{ours}");
        assert!(theirs.starts_with("sha256sum: ") && theirs.ends_with("of CPU"), "{theirs}");
    });
}

#[test]
fn checksum_names_what_it_cannot_read_and_goes_on() {
    bounded(|| {
        let directory = scratch_dir();
        fs::write(directory.path().join("file"), "content").expect("a file");
        let gone = directory.path().join("gone");
        let output = run("checksum", &[&gone, &directory.path()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(cried(&output).contains("gone"), "{}", cried(&output));
        assert!(said(&output).ends_with("/file\n"), "{}", said(&output));
        assert_eq!(run("checksum", &[]).status.code(), Some(2));
    });
}
