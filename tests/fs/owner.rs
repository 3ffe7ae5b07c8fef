//! To whom files belong: by path, of links themselves, of open files, and within a directory.

use std::fs as std_fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use annulus::fs::{self, Dir, File, chown, fchown, lchown};

use crate::common::{in_own_process, run_here, scratch_dir};

/// Another user and group than that of any test.
const USER: u32 = 54_321;
const GROUP: u32 = 54_322;

/// The owner of what the name itself is.
fn owner(path: &Path) -> (u32, u32) {
    let metadata = std_fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
fn files_and_links_are_given_away_as_far_as_that_is_allowed() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let at = |name: &str| scratch.path().join(name);
        std_fs::write(at("file"), "content").unwrap();
        symlink("file", at("link")).unwrap();
        let ours = owner(&at("file"));
        run_here(async {
            let dir = Dir::open_ambient_dir(scratch.path()).await.unwrap();
            let file = File::open(at("file")).await.unwrap();
            // To give it to its owner is allowed to everybody.
            let (user, group) = (Some(ours.0), Some(ours.1));
            chown(at("link"), None, None).await.unwrap();
            chown(at("link"), user, group).await.unwrap();
            lchown(at("link"), user, group).await.unwrap();
            fchown(&file, user, group).await.unwrap();
            dir.chown("link", user, group).await.unwrap();
            dir.lchown("link", user, group).await.unwrap();

            if ours.0 != 0 {
                let refused = |result: io::Result<()>| {
                    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
                };
                refused(chown(at("link"), Some(USER), None).await);
                refused(lchown(at("link"), Some(USER), None).await);
                refused(fchown(&file, Some(USER), None).await);
                refused(dir.chown("link", Some(USER), None).await);
                refused(dir.lchown("link", Some(USER), None).await);
                println!("skipped: only root gives files away");
                return;
            }
            chown(at("link"), Some(USER), None).await.unwrap();
            assert_eq!((owner(&at("file")), owner(&at("link"))), ((USER, ours.1), ours));
            lchown(at("link"), None, Some(GROUP)).await.unwrap();
            assert_eq!(owner(&at("link")), (ours.0, GROUP));
            assert_eq!(owner(&at("file")), (USER, ours.1));
            fchown(&file, Some(1), Some(GROUP)).await.unwrap();
            assert_eq!(owner(&at("file")), (1, GROUP));
            assert_eq!(file.metadata().await.unwrap().uid(), 1);
            dir.chown("link", Some(2), Some(3)).await.unwrap();
            assert_eq!((owner(&at("file")), owner(&at("link"))), ((2, 3), (ours.0, GROUP)));
            dir.lchown("link", Some(4), None).await.unwrap();
            assert_eq!((owner(&at("file")), owner(&at("link"))), ((2, 3), (4, GROUP)));
        });
    });
}

#[test]
fn a_file_that_is_not_there_belongs_to_nobody() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run_here(async {
            for (path, kind) in [("none", ErrorKind::NotFound), ("a\0b", ErrorKind::InvalidInput)] {
                let path = scratch.path().join(path);
                assert_eq!(chown(&path, None, None).await.unwrap_err().kind(), kind);
                assert_eq!(lchown(&path, None, None).await.unwrap_err().kind(), kind);
            }
            // Nothing waits for a dropped one, and nothing is left of it.
            fs::write(scratch.path().join("file"), "content").await.unwrap();
            drop(chown(scratch.path().join("file"), None, None));
        });
    });
}
