//! Whole files in a directory to which paths are held: read, written and copied.

use std::fs as std_fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;

use annulus::fs::{Dir, Permissions};

use crate::common::{in_own_process, run_here, scratch_dir};
use crate::pattern;

#[test]
fn whole_files_are_read_written_and_copied_within_directories() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run_here(async {
            let dir = Dir::open_ambient_dir(scratch.path()).await.unwrap();
            dir.create_dir("other").await.unwrap();
            let other = dir.open_dir("other").await.unwrap();
            // The longest is read and written in parts.
            for length in [0, 1, 20_000, (3 << 20) + 7] {
                let content = pattern(length);
                dir.write("file", content.clone()).await.unwrap();
                assert!(std_fs::read(scratch.path().join("file")).unwrap() == content);
                assert!(dir.read("file").await.unwrap() == content);
                dir.set_permissions("file", Permissions::from_mode(0o640)).await.unwrap();
                let count = dir.copy("file", &other, "copy").await.unwrap();
                assert_eq!(count, length as u64);
                assert!(other.read("copy").await.unwrap() == content);
                let mode = other.metadata("copy").await.unwrap().mode();
                assert_eq!(mode & 0o777, 0o640);
            }
            dir.write("file", "text").await.unwrap();
            assert_eq!(dir.read_to_string("file").await.unwrap(), "text");
            dir.write("file", b"\xff").await.unwrap();
            let error = dir.read_to_string("file").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            // A longer one is replaced, with the permissions of the new one.
            other.write("copy", "longer than that").await.unwrap();
            dir.set_permissions("file", Permissions::from_mode(0o604)).await.unwrap();
            assert_eq!(dir.copy("file", &other, "copy").await.unwrap(), 1);
            assert_eq!(other.read("copy").await.unwrap(), b"\xff");
            assert_eq!(other.metadata("copy").await.unwrap().mode() & 0o777, 0o604);

            let error = dir.copy("other", &dir, "made").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!dir.try_exists("made").await.unwrap(), "nothing is made of a directory");
            drop(dir.copy("file", &other, "made"));
            assert!(!other.try_exists("made").await.unwrap());
        });
    });
}
