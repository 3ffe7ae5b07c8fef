//! Permissions, times, extended attributes, and the file system of a file.

use std::fs as std_fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use annulus::fs::{self, File, XattrMode};

use crate::common::{apart, in_own_process, run, scratch_dir};

async fn create(path: &Path) -> File {
    File::create_new(path).await.unwrap()
}

#[test]
fn permissions_and_times_are_set_on_an_open_file() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run(async || {
            let path = scratch.path().join("file");
            let file = create(&path).await;
            file.set_permissions(std_fs::Permissions::from_mode(0o640)).await.unwrap();
            assert_eq!(std_fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
            let (read, changed) = (
                SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
                SystemTime::UNIX_EPOCH + Duration::from_millis(2_000_000_500),
            );
            let times = std_fs::FileTimes::new().set_accessed(read).set_modified(changed);
            file.set_times(times).await.unwrap();
            let metadata = std_fs::metadata(&path).unwrap();
            assert_eq!(
                (metadata.accessed().unwrap(), metadata.modified().unwrap()),
                (read, changed)
            );
            file.set_modified(read).await.unwrap();
            assert_eq!(file.metadata().await.unwrap().modified().unwrap(), read);
            assert_eq!(std_fs::metadata(&path).unwrap().accessed().unwrap(), read);
        });
    });
}

#[test]
fn without_a_descriptor_to_spare_what_needs_one_says_so_and_leaks_none() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let path = scratch.path().join("file");
        apart(|| {
            annulus::block_on(async {
                let file = create(&path).await;
                // From here on the thread of the pool is there, and it is known what is local.
                annulus::spawn_blocking(|| ()).await.unwrap();
                file.unlock().await.unwrap();
                let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
                // SAFETY: the limit outlives the call. This process has no other test.
                assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
                let null = std_fs::File::open("/dev/null").unwrap();
                let taken: Vec<_> = std::iter::from_fn(|| null.try_clone().ok()).collect();
                let errors = [
                    file.set_permissions(std_fs::Permissions::from_mode(0o600)).await.unwrap_err(),
                    file.set_modified(SystemTime::UNIX_EPOCH).await.unwrap_err(),
                    fs::fchown(&file, None, None).await.unwrap_err(),
                    file.list_xattr().await.unwrap_err(),
                    file.remove_xattr("user.a").await.unwrap_err(),
                    file.copy_range(0, &file, 0, 0).await.unwrap_err(),
                    file.reflink_from(&file).await.unwrap_err(),
                ];
                // Clones cost no descriptor, and the lock of a local file none either.
                let clone = file.try_clone().unwrap();
                clone.lock().await.unwrap();
                drop(taken);
                for error in errors {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                }
            });
        });
    });
}

/// `false`: the file system has no attributes of users.
async fn has_attributes(file: &File) -> bool {
    match file.set_xattr("user.probe", "x").await {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            println!("skipped: no extended attributes here");
            false
        }
        outcome => {
            outcome.unwrap();
            assert!(file.remove_xattr("user.probe").await.unwrap());
            true
        }
    }
}

#[test]
fn attributes_are_set_read_listed_and_removed_by_file_and_by_path() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run(async || {
            let path = scratch.path().join("file");
            let file = create(&path).await;
            if !has_attributes(&file).await {
                return;
            }
            assert_eq!(file.get_xattr("user.a").await.unwrap(), None);
            assert_eq!(fs::get_xattr(&path, "user.a").await.unwrap(), None);
            assert!(!file.remove_xattr("user.a").await.unwrap());
            assert!(!fs::remove_xattr(&path, "user.a").await.unwrap());
            // Longer than the first room for it, and empty.
            let long = vec![b'l'; 1500];
            file.set_xattr("user.a", &long).await.unwrap();
            fs::set_xattr(&path, "user.b", "").await.unwrap();
            assert_eq!(fs::get_xattr(&path, "user.a").await.unwrap().unwrap(), long);
            assert_eq!(file.get_xattr("user.a").await.unwrap().unwrap(), long);
            assert_eq!(file.get_xattr("user.b").await.unwrap().unwrap(), b"");
            for mut names in
                [file.list_xattr().await.unwrap(), fs::list_xattr(&path).await.unwrap()]
            {
                names.retain(|name| name.to_string_lossy().starts_with("user."));
                names.sort();
                assert_eq!(names, ["user.a", "user.b"]);
            }
            let error = file.set_xattr_with("user.a", "n", XattrMode::Create).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            let error =
                fs::set_xattr_with(&path, "user.c", "n", XattrMode::Replace).await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODATA));
            fs::set_xattr_with(&path, "user.c", "n", XattrMode::Create).await.unwrap();
            file.set_xattr_with("user.c", "m", XattrMode::Replace).await.unwrap();
            assert_eq!(file.get_xattr("user.c").await.unwrap().unwrap(), b"m");
            assert!(fs::remove_xattr(&path, "user.a").await.unwrap());
            assert!(file.remove_xattr("user.b").await.unwrap());
            assert_eq!(file.get_xattr("user.b").await.unwrap(), None);
        });
    });
}

#[test]
fn names_and_values_that_cannot_be_are_refused() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run(async || {
            let path = scratch.path().join("file");
            let file = create(&path).await;
            let errno = |outcome: io::Result<()>| outcome.unwrap_err().raw_os_error();
            for name in ["user.a\0b", "\0"] {
                let errors = [
                    file.get_xattr(name).await.map(drop),
                    file.set_xattr(name, "").await,
                    file.remove_xattr(name).await.map(drop),
                    fs::get_xattr(&path, name).await.map(drop),
                    fs::set_xattr(&path, name, "").await,
                    fs::remove_xattr(&path, name).await.map(drop),
                ];
                for outcome in errors {
                    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
                }
            }
            let long = format!("user.{}", "n".repeat(300));
            for name in ["", &long] {
                assert_eq!(errno(file.get_xattr(name).await.map(drop)), Some(libc::ERANGE));
                assert_eq!(errno(file.set_xattr(name, "").await), Some(libc::ERANGE));
                assert_eq!(errno(fs::get_xattr(&path, name).await.map(drop)), Some(libc::ERANGE));
                assert_eq!(errno(file.remove_xattr(name).await.map(drop)), Some(libc::ERANGE));
            }
            let huge = vec![0; 64 * 1024 + 1];
            assert_eq!(errno(file.set_xattr("user.a", &huge).await), Some(libc::E2BIG));
            assert_eq!(errno(fs::set_xattr(&path, "user.a", &huge).await), Some(libc::E2BIG));
            let error = fs::get_xattr(scratch.path().join("none"), "user.a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            let error = fs::list_xattr("a\0b").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        });
    });
}

#[test]
fn the_file_system_of_a_file_and_of_a_path_tells_its_size() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run(async || {
            let file = create(&scratch.path().join("file")).await;
            let (by_file, by_path) =
                (file.statfs().await.unwrap(), fs::statfs(scratch.path()).await.unwrap());
            for space in [by_file, by_path] {
                assert_eq!(space.kind(), by_file.kind());
                assert_eq!(space.total_space(), by_file.total_space());
                assert!(space.available_space() <= space.free_space());
                assert!(space.free_space() <= space.total_space());
                assert!(space.block_size() > 0 && space.longest_name() >= 255);
                assert!(space.files_free() <= space.files());
            }
            let proc = fs::statfs("/proc").await.unwrap();
            assert_eq!(proc.kind(), 0x9fa0);
            let error = fs::statfs("/no/such/path").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            let error = fs::statfs("a\0b").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        });
    });
}
