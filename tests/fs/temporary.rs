//! Files without a name, and the name that they get.

use std::fs as std_fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use annulus::fs::{self, Dir, TempFile};

use crate::common::{run, scratch_dir};

fn names(path: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std_fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> =
        std_fs::read_dir(path).unwrap().map(|entry| name(entry).into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_temporary_file_has_no_name_and_is_gone_with_its_descriptor() {
    let scratch = scratch_dir();
    run(async || {
        for file in [fs::tempfile().await.unwrap(), fs::tempfile_in(scratch.path()).await.unwrap()]
        {
            file.write_all_at(b"content", 0).await.unwrap();
            let (count, content) = file.read_at(Vec::with_capacity(16), 0).await.unwrap();
            assert_eq!(&content[..count], b"content");
            let metadata = file.metadata().await.unwrap();
            assert_eq!((metadata.nlink(), metadata.mode() & 0o777), (0, 0o600));
        }
        assert_eq!(names(scratch.path()), [""; 0]);
        let file = scratch.path().join("file");
        std_fs::write(&file, "").unwrap();
        for (path, kind) in [
            (scratch.path().join("missing"), ErrorKind::NotFound),
            (scratch.path().join("a\0b"), ErrorKind::InvalidInput),
            (file, ErrorKind::NotADirectory),
        ] {
            assert_eq!(fs::tempfile_in(&path).await.unwrap_err().kind(), kind);
            assert_eq!(TempFile::new_in(&path).await.unwrap_err().kind(), kind);
        }
    });
}

#[test]
fn a_file_gets_its_name_when_it_is_complete() {
    let scratch = scratch_dir();
    run(async || {
        let at = |name: &str| scratch.path().join(name);
        let mut file = TempFile::new_in(scratch.path()).await.unwrap();
        file.write_all_at(b"new", 0).await.unwrap();
        assert_eq!(names(scratch.path()), [""; 0]);
        file.persist_noclobber(at("one")).await.unwrap();
        assert_eq!(std_fs::read(at("one")).unwrap(), b"new");

        // What has the name stays, or is replaced; a link is replaced itself.
        std_fs::write(at("old"), "old").unwrap();
        symlink("old", at("link")).unwrap();
        let mut file = TempFile::new_in(scratch.path()).await.unwrap();
        file.write_all_at(b"newer", 0).await.unwrap();
        for name in ["old", "link"] {
            let error = file.persist_noclobber(at(name)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert_eq!(std_fs::read(at("old")).unwrap(), b"old");
        }
        file.persist(at("link")).await.unwrap();
        assert_eq!(std_fs::read(at("link")).unwrap(), b"newer");
        assert!(!at("link").is_symlink());
        assert_eq!(std_fs::read(at("old")).unwrap(), b"old");
        // It may have several names.
        file.persist(at("two")).await.unwrap();
        assert_eq!(std_fs::metadata(at("two")).unwrap().nlink(), 2);
        let file = file.into_file();
        assert_eq!(file.metadata().await.unwrap().len(), 5);
        assert_eq!(names(scratch.path()), ["link", "old", "one", "two"]);
    });
}

#[test]
fn a_name_that_cannot_be_given_leaves_the_file_and_nothing_beside_it() {
    let scratch = scratch_dir();
    run(async || {
        let at = |name: &str| scratch.path().join(name);
        std_fs::create_dir(at("directory")).unwrap();
        let mut file = TempFile::new_in(scratch.path()).await.unwrap();
        file.write_all_at(b"content", 0).await.unwrap();
        for (name, kind) in [
            ("missing/x", ErrorKind::NotFound),
            ("directory", ErrorKind::IsADirectory),
            ("a\0b", ErrorKind::InvalidInput),
        ] {
            assert_eq!(file.persist(at(name)).await.unwrap_err().kind(), kind, "{name}");
        }
        let error = file.persist("/proc/x").await.unwrap_err();
        assert!(["/proc/x"].iter().all(|path| !Path::new(path).exists()), "{error}");
        file.persist(at("file")).await.unwrap();
        assert_eq!(std_fs::read(at("file")).unwrap(), b"content");
        drop(file);
        assert_eq!(names(scratch.path()), ["directory", "file"]);
    });
}

#[test]
fn a_temporary_file_of_a_dir_gets_its_name_there() {
    let scratch = scratch_dir();
    run(async || {
        let at = |name: &str| scratch.path().join(name);
        std_fs::create_dir_all(at("in/inner")).unwrap();
        let dir = Dir::open_ambient_dir(at("in")).await.unwrap();
        std_fs::rename(at("in"), at("moved")).unwrap();
        let mut file = dir.tempfile().await.unwrap();
        file.write_all_at(b"content", 0).await.unwrap();
        let error = file.persist("../escaped").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        file.persist_noclobber("inner/one").await.unwrap();
        file.persist("inner/one").await.unwrap();
        file.persist("two").await.unwrap();
        assert_eq!(std_fs::read(at("moved/inner/one")).unwrap(), b"content");
        assert_eq!(names(&at("moved")), ["inner", "two"]);
        assert_eq!(names(scratch.path()), ["moved"]);
    });
}
