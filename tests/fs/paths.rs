//! The functions that take a path.

use std::fs as std_fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use annulus::fs;
use annulus::fs::{File, OpenOptions};

use crate::common::{apart, in_own_process, run, run_here, scratch_dir};
use crate::{assert_same, pattern};

#[test]
fn read_gives_whole_files_of_every_size() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        for size in [0, 1, 16_383, 16_384, 16_385, 32_768, 100_000, 3 << 20] {
            std_fs::write(&path, pattern(size)).unwrap();
            assert!(fs::read(&path).await.unwrap() == pattern(size), "{size} bytes");
        }
    });
}

#[test]
fn read_gives_files_that_claim_to_be_empty() {
    run(async || {
        assert_eq!(std_fs::metadata("/proc/self/status").unwrap().len(), 0);
        let status = fs::read_to_string("/proc/thread-self/status").await.unwrap();
        let name = status.lines().next().unwrap();
        assert!(name.starts_with("Name:"), "{name}");
        // The listing of a process's memory is larger than the first read, and comes in pages.
        let maps = fs::read("/proc/self/smaps").await.unwrap();
        assert!(maps.len() > 16 * 1024 && maps.ends_with(b"\n"), "{} bytes", maps.len());
        assert_eq!(fs::read("/dev/null").await.unwrap(), b"");
    });
}

#[test]
fn read_to_string_refuses_what_is_not_utf8_as_std_does() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        for content in ["", "plain", "größer als ASCII ✓"] {
            std_fs::write(&path, content).unwrap();
            assert_eq!(fs::read_to_string(&path).await.unwrap(), content);
        }
        std_fs::write(&path, b"broken \xff").unwrap();
        let error = fs::read_to_string(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_same("not UTF-8", &Err::<(), _>(error), &std_fs::read_to_string(&path));
    });
}

#[test]
fn copy_does_what_std_does() {
    in_own_process(|| {
        let scratch = scratch_dir();
        run_here(async {
            let path = |name: &str| scratch.path().join(name);
            let mode_of = |path: &Path| std_fs::metadata(path).unwrap().permissions().mode();
            for (size, mode) in [(0, 0o600), (1, 0o640), (4096, 0o755), (5 << 20, 0o444)] {
                let source = path(&format!("source-{size}"));
                std_fs::write(&source, pattern(size)).unwrap();
                std_fs::set_permissions(&source, std_fs::Permissions::from_mode(mode)).unwrap();
                // A new file, and one that is longer.
                std_fs::write(path("old"), pattern(6 << 20)).unwrap();
                for target in [path("new"), path("old")] {
                    assert_eq!(fs::copy(&source, &target).await.unwrap(), size as u64);
                    assert!(std_fs::read(&target).unwrap() == pattern(size), "{size} bytes");
                    assert_eq!(mode_of(&target), mode_of(&source));
                    std_fs::remove_file(target).unwrap();
                }
            }
            // Files that claim to be empty.
            let count = fs::copy("/proc/self/limits", path("limits")).await.unwrap();
            assert_eq!(count, std_fs::metadata(path("limits")).unwrap().len());
            assert!(std_fs::read_to_string(path("limits")).unwrap().starts_with("Limit"));
            let (good, directory) = (path("source-1"), scratch.path().to_owned());
            let cases = [
                (path("missing"), path("x")),
                (directory.clone(), path("x")),
                (good.clone(), directory),
                (good.clone(), path("missing/x")),
                (PathBuf::from("a\0b"), path("x")),
                (good, PathBuf::from("a\0b")),
            ];
            for (from, to) in cases {
                let what = format!("{} to {}", from.display(), to.display());
                assert_same(&what, &fs::copy(&from, &to).await, &std_fs::copy(&from, &to));
            }
            assert!(!path("x").exists());
        });
    });
}

#[test]
fn write_makes_a_file_or_replaces_its_content() {
    let scratch = scratch_dir();
    run(async || {
        let path = scratch.path().join("file");
        fs::write(&path, pattern(200_000)).await.unwrap();
        assert!(std_fs::read(&path).unwrap() == pattern(200_000));
        fs::write(&path, "shorter").await.unwrap();
        assert_eq!(std_fs::read(&path).unwrap(), b"shorter");
        fs::write(&path, Vec::new()).await.unwrap();
        assert_eq!(std_fs::read(&path).unwrap(), b"");
    });
}

#[test]
fn rename_moves_and_replaces_as_std_does() {
    let scratch = scratch_dir();
    run(async || {
        let at = |name: &str| scratch.path().join(name);
        std_fs::write(at("a"), "a").unwrap();
        std_fs::write(at("b"), "b").unwrap();
        fs::rename(at("a"), at("b")).await.unwrap();
        assert_eq!((std_fs::read(at("b")).unwrap(), at("a").exists()), (b"a".to_vec(), false));
        std_fs::create_dir_all(at("full/inside")).unwrap();
        std_fs::create_dir(at("empty")).unwrap();
        for (from, to) in [
            ("missing", "x"),
            ("b", "full"),
            ("empty", "b"),
            ("empty", "full"),
            ("full", "full/inside/deeper"),
        ] {
            let ours = fs::rename(at(from), at(to)).await;
            assert_same(&format!("{from} to {to}"), &ours, &std_fs::rename(at(from), at(to)));
            ours.unwrap_err();
        }
        fs::rename(at("full"), at("empty")).await.unwrap();
        assert!(at("empty/inside").is_dir());
        if let Err(error) = fs::rename(at("b"), "/dev/shm/annulus-renamed").await {
            assert_same(
                "to another file system",
                &Err::<(), _>(error),
                &std_fs::rename(at("b"), "/dev/shm/annulus-renamed"),
            );
        } else {
            std_fs::remove_file("/dev/shm/annulus-renamed").unwrap();
        }
    });
}

#[test]
fn removing_takes_files_and_empty_directories_only_each_by_its_function() {
    let scratch = scratch_dir();
    run(async || {
        let at = |name: &str| scratch.path().join(name);
        std_fs::create_dir_all(at("full/empty")).unwrap();
        std_fs::write(at("file"), "content").unwrap();
        symlink(at("full"), at("link")).unwrap();
        for name in ["full", "file", "missing", "file/below", "link"] {
            let ours = fs::remove_dir(at(name)).await;
            assert_same(name, &ours, &std_fs::remove_dir(at(name)));
            ours.unwrap_err();
        }
        let error = fs::remove_dir(at("full")).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.raw_os_error()),
            (ErrorKind::DirectoryNotEmpty, Some(libc::ENOTEMPTY))
        );
        for name in ["full", "missing", "file/below"] {
            let ours = fs::remove_file(at(name)).await;
            assert_same(name, &ours, &std_fs::remove_file(at(name)));
            ours.unwrap_err();
        }
        fs::remove_file(at("link")).await.unwrap();
        assert!(at("full").is_dir(), "the link is removed, not what it leads to");
        fs::remove_file(at("file")).await.unwrap();
        fs::remove_dir(at("full/empty")).await.unwrap();
        fs::remove_dir(at("full")).await.unwrap();
        assert_eq!(std_fs::read_dir(scratch.path()).unwrap().count(), 0);
    });
}

#[test]
fn create_dir_makes_one_directory_and_fails_as_std_does() {
    let scratch = scratch_dir();
    run(async || {
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("new")).await.unwrap();
        assert!(at("new").is_dir());
        std_fs::write(at("file"), "content").unwrap();
        for name in ["new", "missing/new", "file", "file/new"] {
            let ours = fs::create_dir(at(name)).await;
            assert_same(name, &ours, &std_fs::create_dir(at(name)));
            ours.unwrap_err();
        }
    });
}

#[test]
fn create_dir_all_ends_as_std_does_whatever_is_in_the_way() {
    let scratch = scratch_dir();
    run(async || {
        let prepare = |whose: &str| {
            let root = scratch.path().join(whose);
            std_fs::create_dir_all(root.join("there/deep")).unwrap();
            std_fs::write(root.join("file"), "content").unwrap();
            symlink("there", root.join("link")).unwrap();
            symlink("nowhere", root.join("dangling")).unwrap();
            root
        };
        let (here, there) = (prepare("here"), prepare("there"));
        let cases = [
            "",
            "there",
            "there/deep",
            "new",
            "a/b/c/d/e/f",
            "there/deep/er",
            "link/through/it",
            "file",
            "file/below",
            "file/below/deeper",
            "dangling",
            "dangling/below",
            "x/../y",
            "./dots/./and/../back",
            "trailing/",
            "twice//slashed",
        ];
        for case in cases {
            let ours = fs::create_dir_all(here.join(case)).await;
            assert_same(case, &ours, &std_fs::create_dir_all(there.join(case)));
        }
        let names = |root: &Path| {
            let mut names = Vec::new();
            let mut left = vec![root.to_owned()];
            while let Some(directory) = left.pop() {
                for entry in std_fs::read_dir(directory).unwrap() {
                    let entry = entry.unwrap();
                    names.push(entry.path().strip_prefix(root).unwrap().to_owned());
                    if entry.file_type().unwrap().is_dir() {
                        left.push(entry.path());
                    }
                }
            }
            names.sort();
            names
        };
        assert_eq!(names(&here), names(&there));
        assert_same("nothing", &fs::create_dir_all("").await, &std_fs::create_dir_all(""));
        assert_same("the root", &fs::create_dir_all("/").await, &std_fs::create_dir_all("/"));
    });
}

#[test]
fn relative_paths_start_at_the_current_directory() {
    let scratch = scratch_dir();
    apart(|| {
        // This thread has a current directory of its own.
        std::env::set_current_dir(scratch.path()).unwrap();
        annulus::block_on(async {
            fs::create_dir_all("a/b/c").await.unwrap();
            fs::create_dir_all("./a/d").await.unwrap();
            fs::write("a/b/c/file", "content").await.unwrap();
            fs::rename("a/b/c/file", "a/d/file").await.unwrap();
            assert_eq!(fs::read_to_string("a/d/../d/file").await.unwrap(), "content");
            assert!(fs::metadata(".").await.unwrap().is_dir());
            fs::remove_file("a/d/file").await.unwrap();
            fs::remove_dir("a/d").await.unwrap();
        });
    });
    assert!(scratch.path().join("a/b/c").is_dir() && !scratch.path().join("a/d").exists());
}

#[test]
fn two_tasks_that_make_the_same_directories_both_succeed() {
    let scratch = scratch_dir();
    run(async || {
        let path: PathBuf = scratch.path().join("a/b/c/d/e/f");
        let tasks: Vec<_> =
            (0..16).map(|_| annulus::spawn(fs::create_dir_all(path.clone()))).collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert!(path.is_dir());
    });
}

#[test]
fn a_path_with_a_nul_byte_is_invalid_input_everywhere() {
    let scratch = scratch_dir();
    let bad = &scratch.path().join("with\0nul");
    let good = &scratch.path().join("good");
    run(async || {
        std_fs::write(good, "content").unwrap();
        let mut refusals: Vec<io::Error> = vec![
            File::open(bad).await.unwrap_err(),
            File::create(bad).await.unwrap_err(),
            File::create_new(bad).await.unwrap_err(),
            OpenOptions::new().append(true).open(bad).await.unwrap_err(),
            fs::read(bad).await.unwrap_err(),
            fs::read_to_string(bad).await.unwrap_err(),
            fs::write(bad, "content").await.unwrap_err(),
            fs::rename(bad, good).await.unwrap_err(),
            fs::rename(good, bad).await.unwrap_err(),
            fs::remove_file(bad).await.unwrap_err(),
            fs::remove_dir(bad).await.unwrap_err(),
            fs::create_dir(bad).await.unwrap_err(),
            fs::create_dir_all(bad).await.unwrap_err(),
            fs::metadata(bad).await.unwrap_err(),
        ];
        refusals.push(std_fs::metadata(bad).unwrap_err());
        for (index, refusal) in refusals.iter().enumerate() {
            assert_eq!(refusal.kind(), ErrorKind::InvalidInput, "number {index}: {refusal}");
        }
        let names: Vec<_> = std_fs::read_dir(scratch.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["good"]);
    });
}

#[test]
fn a_missing_file_is_not_found_with_errno_2_everywhere() {
    let scratch = scratch_dir();
    let missing = &scratch.path().join("missing");
    run(async || {
        let refusals: Vec<io::Error> = vec![
            File::open(missing).await.unwrap_err(),
            OpenOptions::new().write(true).open(missing).await.unwrap_err(),
            File::create(missing.join("below")).await.unwrap_err(),
            fs::read(missing).await.unwrap_err(),
            fs::read_to_string(missing).await.unwrap_err(),
            fs::write(missing.join("below"), "content").await.unwrap_err(),
            fs::rename(missing, scratch.path().join("other")).await.unwrap_err(),
            fs::remove_file(missing).await.unwrap_err(),
            fs::remove_dir(missing).await.unwrap_err(),
            fs::create_dir(missing.join("below")).await.unwrap_err(),
            fs::metadata(missing).await.unwrap_err(),
            File::open("").await.unwrap_err(),
        ];
        for (index, refusal) in refusals.iter().enumerate() {
            assert_eq!(
                (refusal.kind(), refusal.raw_os_error()),
                (ErrorKind::NotFound, Some(2)),
                "number {index}: {refusal}"
            );
        }
    });
}

#[test]
fn other_errors_of_paths_keep_their_errno() {
    let scratch = scratch_dir();
    run(async || {
        let at = |name: &str| scratch.path().join(name);
        symlink("loop", at("loop")).unwrap();
        std_fs::File::create(at("file")).unwrap().write_all(b"content").unwrap();
        let long = at(&"x".repeat(256));
        let endless: PathBuf = Path::new("/").join("x/".repeat(3000));
        for (path, errno) in [
            (at("loop"), libc::ELOOP),
            (at("file/below"), libc::ENOTDIR),
            (long, libc::ENAMETOOLONG),
            (endless, libc::ENAMETOOLONG),
        ] {
            for refusal in [
                File::open(&path).await.unwrap_err(),
                fs::read(&path).await.unwrap_err(),
                fs::metadata(&path).await.unwrap_err(),
            ] {
                assert_eq!(refusal.raw_os_error(), Some(errno));
            }
        }
        assert_eq!(fs::read(scratch.path()).await.unwrap_err().raw_os_error(), Some(libc::EISDIR));
        assert_eq!(
            fs::write(scratch.path(), "x").await.unwrap_err().raw_os_error(),
            Some(libc::EISDIR)
        );
    });
}
