//! Trees: everything once, what contains something before it, errors with their paths.

use std::collections::BTreeMap;
use std::fs as std_fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use annulus::fs::{self, Dir, Walk};
use futures_util::StreamExt;

use crate::common::{
    assert_descriptors_are, become_ordinary, in_own_process, open_descriptors, quiet, run_here,
    scratch_dir, turns,
};

/// All that a walk brings: the depth of each path, and the errors with theirs.
async fn all(mut walk: Walk) -> (BTreeMap<PathBuf, usize>, BTreeMap<PathBuf, ErrorKind>) {
    let (mut entries, mut errors) = (BTreeMap::<PathBuf, usize>::new(), BTreeMap::new());
    while let Some(item) = walk.next().await {
        match item {
            Ok(entry) => {
                if entry.depth() > 0 {
                    let parent = entries.get(entry.path().parent().unwrap());
                    assert_eq!(parent.copied(), Some(entry.depth() - 1), "{entry:?}");
                }
                let before = entries.insert(entry.path().to_owned(), entry.depth());
                assert_eq!(before, None, "it comes once");
            }
            Err(error) => drop(errors.insert(error.path().to_owned(), error.io_error().kind())),
        }
    }
    (entries, errors)
}

/// Makes `width` directories in each, `depth` times, with a file in each.
fn grow(path: &Path, width: usize, depth: usize) -> usize {
    std_fs::create_dir(path).unwrap();
    std_fs::write(path.join("file"), "x").unwrap();
    let below = |number: usize| grow(&path.join(format!("d{number}")), width, depth - 1);
    2 + if depth == 0 { 0 } else { (0..width).map(below).sum() }
}

#[test]
fn a_tree_comes_whole_however_many_directories_are_read_at_once() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let root = scratch.path().join("tree");
        let count = grow(&root, 5, 4);
        run_here(async {
            for at_once in [0, 1, 3, 64] {
                let (entries, errors) = all(fs::walk(&root).directories_at_once(at_once)).await;
                assert_eq!((entries.len(), errors.len()), (count, 0));
                assert!(entries.keys().all(|path| path.exists()));
            }
            for depth in 0..5 {
                let (entries, _) = all(fs::walk(&root).max_depth(depth)).await;
                assert_eq!(entries.values().max(), Some(&depth));
                let known = |path: &PathBuf| {
                    path.strip_prefix(&root).unwrap().components().count() <= depth
                };
                assert!(entries.keys().all(known));
            }
            let (entries, _) = all(fs::walk(&root).max_depth(1)).await;
            assert_eq!(entries.len(), 1 + 6);
        });
    });
}

#[test]
fn a_root_that_is_no_directory_is_all_there_is_and_one_that_is_missing_an_error() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let at = |name: &str| scratch.path().join(name);
        std_fs::write(at("file"), "").unwrap();
        std_fs::create_dir(at("directory")).unwrap();
        std_fs::write(at("directory/file"), "").unwrap();
        symlink("directory", at("link")).unwrap();
        run_here(async {
            assert_eq!(all(fs::walk(at("file"))).await.0, [(at("file"), 0)].into());
            let (entries, errors) = all(fs::walk(at("missing"))).await;
            assert_eq!((entries.len(), errors), (0, [(at("missing"), ErrorKind::NotFound)].into()));
            let (entries, _) = all(fs::walk(at("link"))).await;
            assert_eq!(entries, [(at("link"), 0), (at("link/file"), 1)].into());
            let error = fs::walk(at("a\0b")).next().await.unwrap().unwrap_err();
            assert_eq!(error.io_error().kind(), ErrorKind::InvalidInput);
            let error = io::Error::from(fs::walk(at("missing")).next().await.unwrap().unwrap_err());
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains("missing: No such file"), "{error}");
        });
    });
}

#[test]
fn links_are_followed_only_when_asked_and_never_round_and_round() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let at = |name: &str| scratch.path().join(name);
        std_fs::create_dir_all(at("tree/a/b")).unwrap();
        std_fs::create_dir(at("elsewhere")).unwrap();
        std_fs::write(at("elsewhere/file"), "12345").unwrap();
        symlink("../../elsewhere", at("tree/a/out")).unwrap();
        symlink("../..", at("tree/a/b/up")).unwrap();
        symlink("missing", at("tree/dangling")).unwrap();
        symlink("itself", at("tree/itself")).unwrap();
        symlink("../elsewhere/file", at("tree/to-file")).unwrap();
        run_here(async {
            let (entries, errors) = all(fs::walk(at("tree"))).await;
            assert_eq!((entries.len(), errors.len()), (3 + 5, 0));
            let (entries, errors) = all(fs::walk(at("tree")).follow_links(true)).await;
            assert!(entries.contains_key(&at("tree/a/out/file")));
            assert_eq!(entries.len(), 3 + 5 + 1);
            let kind = io::Error::from_raw_os_error(libc::ELOOP).kind();
            assert_eq!(errors, [(at("tree/a/b/up"), kind)].into());

            let mut walk = fs::walk(at("tree")).follow_links(true);
            while let Some(item) = walk.next().await {
                let Ok(entry) = item else { continue };
                let (kind, metadata) = (entry.file_type(), entry.metadata().await.unwrap());
                assert_eq!(kind, metadata.file_type(), "{entry:?}");
                match entry.file_name().to_str().unwrap() {
                    "out" | "up" => assert!(kind.is_dir()),
                    "dangling" | "itself" => assert!(kind.is_symlink()),
                    "to-file" => assert_eq!((kind.is_file(), metadata.len()), (true, 5)),
                    _ => {}
                }
            }
        });
    });
}

#[test]
fn a_directory_that_cannot_be_read_is_an_error_and_the_others_come() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let at = |name: &str| scratch.path().join(name);
        for name in ["a", "closed", "z"] {
            std_fs::create_dir(at(name)).unwrap();
            std_fs::write(at(name).join("file"), "").unwrap();
        }
        std_fs::set_permissions(at("closed"), PermissionsExt::from_mode(0o0)).unwrap();
        std_fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).unwrap();
        become_ordinary(8 << 20);
        run_here(async {
            let (entries, errors) = all(fs::walk(scratch.path())).await;
            assert_eq!(entries.len(), 1 + 3 + 2);
            assert_eq!(errors, [(at("closed"), ErrorKind::PermissionDenied)].into());
        });
    });
}

#[test]
fn directories_by_the_thousand_and_deep_ones_are_walked() {
    const WIDE: usize = 5000;
    const DEEP: usize = 300;
    in_own_process(|| {
        let scratch = tempfile::tempdir().unwrap();
        for number in 0..WIDE {
            std_fs::create_dir(scratch.path().join(format!("{number:04}"))).unwrap();
        }
        std_fs::create_dir_all(scratch.path().join("0000").join("d/".repeat(DEEP))).unwrap();
        run_here(async {
            let (entries, errors) = all(fs::walk(scratch.path())).await;
            assert_eq!((entries.len(), errors.len()), (1 + WIDE + DEEP, 0));
            assert_eq!(entries.values().max(), Some(&(1 + DEEP)));
        });
    });
}

#[test]
fn a_walk_that_is_dropped_midway_leaves_no_descriptor() {
    in_own_process(|| {
        let scratch = scratch_dir();
        grow(&scratch.path().join("tree"), 4, 3);
        run_here(async {
            let root = scratch.path().join("tree");
            assert!(all(fs::walk(&root)).await.1.is_empty());
            quiet().await;
            let before = open_descriptors();
            for items in [0, 1, 2, 7, 50, 100] {
                let mut walk = fs::walk(&root).directories_at_once(8);
                for _ in 0..items {
                    walk.next().await.unwrap().unwrap();
                }
                let _ = futures_util::poll!(walk.next());
                drop(walk);
            }
            // Tasks that nobody waits for any more are dropped by the loop.
            turns(3).await;
            quiet().await;
            assert_descriptors_are(&before);
        });
    });
}

#[test]
fn a_walk_of_a_dir_does_not_leave_it() {
    in_own_process(|| {
        let scratch = scratch_dir();
        let at = |name: &str| scratch.path().join(name);
        std_fs::create_dir_all(at("in/a")).unwrap();
        std_fs::create_dir(at("out")).unwrap();
        std_fs::write(at("out/secret"), "").unwrap();
        symlink("../../out", at("in/a/leads-out")).unwrap();
        symlink("..", at("in/a/up")).unwrap();
        run_here(async {
            let dir = Dir::open_ambient_dir(at("in")).await.unwrap();
            let path = |name: &str| PathBuf::from(name);
            let (entries, errors) = all(dir.walk(".")).await;
            let expected =
                [(path("."), 0), (path("./a"), 1), (path("./a/leads-out"), 2), (path("./a/up"), 2)];
            assert_eq!((entries, errors.len()), (expected.into(), 0));
            let (entries, errors) = all(dir.walk(".").follow_links(true)).await;
            assert!(!entries.keys().any(|path| path.ends_with("secret")));
            assert_eq!(errors.get(&path("./a/leads-out")), Some(&ErrorKind::PermissionDenied));
            let (_, errors) = all(dir.walk("../out")).await;
            assert_eq!(errors, [(path("../out"), ErrorKind::PermissionDenied)].into());
        });
    });
}
