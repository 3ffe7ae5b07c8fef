//! Links, renames with conditions, what links say, permissions and times: as std does, and with
//! names that nobody should use.

use std::ffi::OsStr;
use std::fs as std_fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use annulus::fs::{self, DirBuilder, File, Permissions};

use crate::assert_same;
use crate::common::{become_ordinary, in_own_process, run, run_here, scratch_dir};

#[test]
fn a_name_that_is_taken_is_not_replaced_unless_asked() {
    let scratch = scratch_dir();
    run(async || {
        let at = |name: &str| scratch.path().join(name);
        std_fs::write(at("a"), "a").unwrap();
        std_fs::write(at("b"), "b").unwrap();
        let error = fs::rename_noreplace(at("a"), at("b")).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        assert_eq!(std_fs::read(at("b")).unwrap(), b"b");
        fs::rename_noreplace(at("a"), at("c")).await.unwrap();
        assert_eq!((std_fs::read(at("c")).unwrap(), at("a").exists()), (b"a".to_vec(), false));

        std_fs::create_dir(at("d")).unwrap();
        fs::rename_exchange(at("c"), at("d")).await.unwrap();
        assert!(at("c").is_dir() && at("d").is_file(), "a file and a directory change places");
        let error = fs::rename_exchange(at("c"), at("missing")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = fs::rename_exchange(at("c"), at("c/inside")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn links_are_those_of_std_and_fail_as_they_do() {
    let scratch = scratch_dir();
    run(async || {
        let at = |name: &str| scratch.path().join(name);
        std_fs::write(at("file"), "content").unwrap();
        fs::hard_link(at("file"), at("second")).await.unwrap();
        assert_eq!(std_fs::metadata(at("file")).unwrap().nlink(), 2);
        fs::symlink("file", at("soft")).await.unwrap();
        assert_eq!(std_fs::read_link(at("soft")).unwrap(), Path::new("file"));
        // It is the link that gets one more name.
        fs::hard_link(at("soft"), at("soft too")).await.unwrap();
        assert_eq!(std_fs::read_link(at("soft too")).unwrap(), Path::new("file"));
        fs::symlink("nowhere/at/all", at("dangling")).await.unwrap();

        let metadata = fs::symlink_metadata(at("soft")).await.unwrap();
        assert!(metadata.is_symlink() && metadata.file_type().is_symlink());
        assert_eq!(metadata.len(), 4);
        assert!(fs::metadata(at("soft")).await.unwrap().file_type().is_file());

        for (from, to) in [
            ("missing", "x"),
            ("file", "second"),
            (".", "x"),
            ("file", "missing/x"),
            ("file/", "x"),
        ] {
            let (what, from, to) = (format!("{from} to {to}"), at(from), at(to));
            assert_same(&what, &fs::hard_link(&from, &to).await, &std_fs::hard_link(&from, &to));
        }
        for (text, link) in [("x", "file"), ("", "y"), ("x", "missing/y"), ("x", "file/y")] {
            let what = format!("{link} with {text}");
            assert_same(&what, &fs::symlink(text, at(link)).await, &symlink(text, at(link)));
        }
        let loops = (at("one"), at("two"));
        symlink(&loops.0, &loops.1).unwrap();
        symlink(&loops.1, &loops.0).unwrap();
        let error = fs::metadata(&loops.0).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        assert!(fs::symlink_metadata(&loops.0).await.unwrap().is_symlink());
    });
}

#[test]
fn whether_a_path_leads_to_something_is_told_as_in_std() {
    let scratch = scratch_dir();
    run(async || {
        let at = |name: &str| scratch.path().join(name);
        std_fs::write(at("file"), "content").unwrap();
        symlink("missing", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for name in ["", "file", "missing", "dangling", "loop", "file/x", "a\0b"] {
            let (ours, std) = (fs::try_exists(at(name)).await, std_fs::exists(at(name)));
            assert_same(name, &ours, &std);
            assert_eq!(ours.ok(), std.ok(), "{name:?}");
        }
        assert!(!fs::try_exists("").await.unwrap());
    });
}

#[test]
fn what_the_pool_does_is_what_std_does() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run_here(async {
            let at = |name: &str| scratch.path().join(name);
            std_fs::write(at("file"), "content").unwrap();
            symlink("file", at("link")).unwrap();
            symlink("loop", at("loop")).unwrap();
            std_fs::create_dir(at("directory")).unwrap();
            for name in ["file", "link", "loop", "missing", "directory/../link", "", "a\0b"] {
                let (path, what) = (at(name), format!("{name:?}"));
                let (ours, std) = (fs::read_link(&path).await, std_fs::read_link(&path));
                assert_same(&what, &ours, &std);
                assert_eq!(ours.ok(), std.ok());
                let (ours, std) = (fs::canonicalize(&path).await, std_fs::canonicalize(&path));
                assert_same(&what, &ours, &std);
                assert_eq!(ours.ok(), std.ok());
            }

            fs::set_permissions(at("link"), Permissions::from_mode(0o640)).await.unwrap();
            let metadata = fs::metadata(at("file")).await.unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
            let error =
                fs::set_permissions(at("missing"), Permissions::from_mode(0o0)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);

            let (early, late) = (
                SystemTime::UNIX_EPOCH + Duration::new(1_000_000, 5),
                SystemTime::UNIX_EPOCH + Duration::new(2_000_000, 6),
            );
            fs::set_times(at("link"), Some(early), Some(late)).await.unwrap();
            let metadata = fs::metadata(at("file")).await.unwrap();
            assert_eq!(metadata.accessed().unwrap(), early);
            assert_eq!(metadata.modified().unwrap(), late);
            let before_the_epoch = SystemTime::UNIX_EPOCH - Duration::new(7, 5);
            fs::set_times(at("file"), None, Some(before_the_epoch)).await.unwrap();
            let metadata = fs::metadata(at("file")).await.unwrap();
            assert_eq!(metadata.accessed().unwrap(), early, "it was not chosen");
            assert_eq!(metadata.modified().unwrap(), before_the_epoch);
            let error = fs::set_times(at("missing"), Some(early), None).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        });
    });
}

#[test]
fn a_tree_is_removed_and_what_its_links_lead_to_stays() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run_here(async {
            let at = |name: &str| scratch.path().join(name);
            std_fs::create_dir_all(at("tree/a/b/c")).unwrap();
            std_fs::create_dir(at("stays")).unwrap();
            std_fs::write(at("stays/file"), "content").unwrap();
            std_fs::write(at("tree/a/file"), "content").unwrap();
            symlink("../../stays", at("tree/a/link")).unwrap();
            fs::remove_dir_all(at("tree")).await.unwrap();
            assert!(!at("tree").exists() && at("stays/file").exists());
            symlink("stays", at("link")).unwrap();
            for path in [at("link/"), at("link//")] {
                // std empties what the link leads to before it says that.
                let error = fs::remove_dir_all(&path).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotADirectory, "{}", path.display());
                assert!(at("stays/file").exists(), "{}", path.display());
            }
            fs::remove_dir_all(at("link")).await.unwrap();
            assert!(!at("link").is_symlink() && at("stays/file").exists());
            std_fs::create_dir_all(at("tree/a")).unwrap();
            fs::remove_dir_all(at("tree//")).await.unwrap();
            assert!(!at("tree").exists());
            for name in ["missing", "missing/", "stays/file", "stays/file/", "a\0b"] {
                let path = at(name);
                assert_same(name, &fs::remove_dir_all(&path).await, &std_fs::remove_dir_all(&path));
            }
        });
    });
}

#[test]
fn a_builder_makes_directories_with_its_mode() {
    let scratch = scratch_dir();
    run(async || {
        let at = |name: &str| scratch.path().join(name);
        let mode = |name: &str| std_fs::metadata(at(name)).unwrap().permissions().mode() & 0o7777;
        DirBuilder::new().mode(0o700).create(at("one")).await.unwrap();
        assert_eq!(mode("one"), 0o700);
        let error = DirBuilder::new().create(at("one")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o750);
        builder.create(at("one/two/./three/../four")).await.unwrap();
        assert_eq!((mode("one/two"), mode("one/two/four")), (0o750, 0o750));
        assert!(at("one/two/three").exists(), "as mkdir -p has it");
        builder.create(at("one/two/four")).await.unwrap();
        builder.create("").await.unwrap();
        std_fs::write(at("file"), "").unwrap();
        for name in ["file", "file/x"] {
            let std = std_fs::DirBuilder::new().recursive(true).create(at(name));
            assert_same(name, &builder.create(at(name)).await, &std);
        }
    });
}

/// Each call on one name, with what std says to it.
async fn on_one_name(path: &Path) -> Vec<(&'static str, io::Result<()>, io::Result<()>)> {
    let other = path.with_file_name("other");
    let target = Path::new("target");
    vec![
        ("open", File::open(path).await.map(drop), std_fs::File::open(path).map(drop)),
        ("metadata", fs::metadata(path).await.map(drop), std_fs::metadata(path).map(drop)),
        (
            "symlink_metadata",
            fs::symlink_metadata(path).await.map(drop),
            std_fs::symlink_metadata(path).map(drop),
        ),
        ("try_exists", fs::try_exists(path).await.map(drop), std_fs::exists(path).map(drop)),
        ("rename", fs::rename(path, &other).await, std_fs::rename(path, &other)),
        ("rename to", fs::rename(&other, path).await, std_fs::rename(&other, path)),
        ("hard_link", fs::hard_link(path, &other).await, std_fs::hard_link(path, &other)),
        ("symlink", fs::symlink(target, path).await, symlink(target, path)),
        ("remove_file", fs::remove_file(path).await, std_fs::remove_file(path)),
        ("remove_dir", fs::remove_dir(path).await, std_fs::remove_dir(path)),
        ("create_dir", fs::create_dir(path).await, std_fs::create_dir(path)),
        ("create_dir_all", fs::create_dir_all(path).await, std_fs::create_dir_all(path)),
        ("read_dir", fs::read_dir(path).await.map(drop), std_fs::read_dir(path).map(drop)),
        ("read_link", fs::read_link(path).await.map(drop), std_fs::read_link(path).map(drop)),
        (
            "canonicalize",
            fs::canonicalize(path).await.map(drop),
            std_fs::canonicalize(path).map(drop),
        ),
        ("remove_dir_all", fs::remove_dir_all(path).await, std_fs::remove_dir_all(path)),
        (
            "set_permissions",
            fs::set_permissions(path, Permissions::from_mode(0o600)).await,
            std_fs::set_permissions(path, Permissions::from_mode(0o600)),
        ),
    ]
}

#[test]
fn names_that_no_file_has_get_a_clear_error() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run_here(async {
            std_fs::write(scratch.path().join("other"), "").unwrap();
            let at = |name: &[u8]| scratch.path().join(OsStr::from_bytes(name));
            let deep = scratch.path().join("d/".repeat(2048));
            let cases: [(PathBuf, ErrorKind); 4] = [
                (at(b"a\0b"), ErrorKind::InvalidInput),
                (at(b"\0"), ErrorKind::InvalidInput),
                (at(&[b'x'; 256]), ErrorKind::InvalidFilename),
                (deep, ErrorKind::InvalidFilename),
            ];
            for (path, kind) in cases {
                for (call, ours, std) in on_one_name(&path).await {
                    let what = format!("{call} of {} bytes", path.as_os_str().len());
                    assert_same(&what, &ours, &std);
                    let kind = match call {
                        // It goes step by step, and the first is missing.
                        "canonicalize" => std.unwrap_err().kind(),
                        _ => kind,
                    };
                    assert_eq!(ours.unwrap_err().kind(), kind, "{what}");
                }
            }
        });
    });
}

#[test]
fn names_may_be_any_bytes_and_255_of_them() {
    let scratch = scratch_dir();
    run(async || {
        for name in [&b"not \xff\xfe utf-8"[..], b"\n", b" ", b"...", &[b'x'; 255], &[0xc3; 255]] {
            let path = scratch.path().join(OsStr::from_bytes(name));
            fs::create_dir(&path).await.unwrap();
            assert!(fs::try_exists(&path).await.unwrap());
            let moved = scratch.path().join("moved");
            fs::rename(&path, &moved).await.unwrap();
            fs::remove_dir(&moved).await.unwrap();
            fs::symlink(OsStr::from_bytes(name), &path).await.unwrap();
            assert_eq!(std_fs::read_link(&path).unwrap().as_os_str().as_bytes(), name);
            fs::remove_file(&path).await.unwrap();
        }
    });
}

#[test]
fn what_is_forbidden_fails_as_in_std() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let at = |name: &str| scratch.path().join(name);
        std_fs::create_dir_all(at("closed/inner")).unwrap();
        std_fs::write(at("closed/file"), "").unwrap();
        std_fs::write(at("file"), "").unwrap();
        std_fs::set_permissions(at("closed"), Permissions::from_mode(0o0)).unwrap();
        std_fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
        become_ordinary(8 << 20);
        run_here(async {
            for name in ["closed/file", "closed/inner", "closed/new"] {
                for (call, ours, std) in on_one_name(&at(name)).await {
                    let what = format!("{call} of {name}");
                    assert_same(&what, &ours, &std);
                    assert_eq!(ours.unwrap_err().kind(), ErrorKind::PermissionDenied, "{what}");
                }
            }
        });
    });
}
