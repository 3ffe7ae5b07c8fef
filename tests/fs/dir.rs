//! Directories to which paths are held: everything works in them, and nothing leads out.

use std::fs as std_fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use annulus::fs::{Dir, DirBuilder, OpenOptions, Permissions, Resolve};
use futures_util::StreamExt;

use crate::common::{
    assert_descriptors_are, in_own_process, open_descriptors, quiet, run, run_here, scratch_dir,
};

async fn text(dir: &Dir, path: &str) -> io::Result<String> {
    let file = dir.open(path).await?;
    let (count, bytes) = file.read_at(Vec::with_capacity(64), 0).await?;
    Ok(String::from_utf8(bytes[..count].to_vec()).unwrap())
}

/// A directory `in` beside one that is named `out`, and links from the first to the second.
fn scene(scratch: &Path) {
    std_fs::create_dir_all(scratch.join("in/a/b")).unwrap();
    std_fs::create_dir(scratch.join("out")).unwrap();
    std_fs::write(scratch.join("in/a/file"), "inside").unwrap();
    std_fs::write(scratch.join("out/file"), "outside").unwrap();
    symlink("../out", scratch.join("in/leads-out")).unwrap();
    symlink("../out/file", scratch.join("in/file-out")).unwrap();
    symlink(scratch.join("in/a"), scratch.join("in/absolute")).unwrap();
    symlink("a/file", scratch.join("in/stays")).unwrap();
    symlink("../a/./file", scratch.join("in/a/round")).unwrap();
    symlink("loop", scratch.join("in/loop")).unwrap();
}

#[test]
fn everything_is_relative_to_the_directory_wherever_that_is_moved() {
    in_own_process(|| {
        let scratch = scratch_dir();
        scene(scratch.path());
        let at = |name: &str| scratch.path().join("moved").join(name);
        run_here(async {
            let dir = Dir::open_ambient_dir(scratch.path().join("in")).await.unwrap();
            std_fs::rename(scratch.path().join("in"), scratch.path().join("moved")).unwrap();
            for path in ["a/file", "stays", "a/round", "a/../a/file", "./a//b/../file"] {
                assert_eq!(text(&dir, path).await.unwrap(), "inside", "{path}");
                assert!(dir.metadata(path).await.unwrap().is_file());
                assert!(dir.try_exists(path).await.unwrap());
            }
            assert!(dir.symlink_metadata("stays").await.unwrap().is_symlink());
            assert!(!dir.try_exists("a/missing").await.unwrap());
            assert_eq!(
                dir.dir_metadata().await.unwrap().ino(),
                std_fs::metadata(at("")).unwrap().ino()
            );

            let made = dir.create("a/made").await.unwrap();
            made.write_all_at(b"made", 0).await.unwrap();
            assert_eq!(text(&dir, "a/made").await.unwrap(), "made");
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o640);
            let file = dir.open_with("a/new", &options).await.unwrap();
            assert_eq!(file.metadata().await.unwrap().mode() & 0o777, 0o640);
            let error = dir.open_with("a/new", &options).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);

            dir.create_dir("c").await.unwrap();
            dir.create_dir("c/d/").await.unwrap();
            dir.create_dir_all("c/x/./y/../z").await.unwrap();
            dir.create_dir_all("c/x/y").await.unwrap();
            dir.create_dir_with("p", DirBuilder::new().mode(0o700)).await.unwrap();
            assert!(at("c/x/z").is_dir());
            let inner = dir.open_dir("c/x").await.unwrap();
            assert!(inner.metadata("y").await.unwrap().is_dir());
            assert_eq!(inner.open("../d").await.unwrap_err().kind(), ErrorKind::PermissionDenied);

            dir.rename("a/new", &inner, "y/named").await.unwrap();
            assert!(at("c/x/y/named").exists() && !at("a/new").exists());
            inner.rename("z", &dir, "z").await.unwrap();
            let error = dir.rename_noreplace("a/made", &dir, "a/file").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            dir.rename_exchange("a/made", &dir, "a/file").await.unwrap();
            assert_eq!(text(&dir, "a/file").await.unwrap(), "made");
            dir.hard_link("a/file", &inner, "y/linked").await.unwrap();
            assert_eq!(std_fs::metadata(at("c/x/y/linked")).unwrap().nlink(), 2);
            dir.symlink("../b", "a/b/soft").await.unwrap();
            assert_eq!(dir.read_link("a/b/soft").await.unwrap(), Path::new("../b"));
            let error = dir.read_link("a/file").await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));

            dir.set_permissions("stays", Permissions::from_mode(0o604)).await.unwrap();
            assert_eq!(std_fs::metadata(at("a/file")).unwrap().mode() & 0o777, 0o604);
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            dir.set_times("stays", None, Some(time)).await.unwrap();
            assert_eq!(std_fs::metadata(at("a/file")).unwrap().modified().unwrap(), time);

            let mut names = Vec::new();
            let mut entries = dir.read_dir("a").await.unwrap();
            while let Some(entry) = entries.next().await {
                let entry = entry.unwrap();
                assert_eq!(entry.path(), Path::new("a").join(entry.file_name()));
                entry.metadata().await.unwrap();
                names.push(entry.file_name().into_string().unwrap());
            }
            names.sort();
            assert_eq!(names, ["b", "file", "made", "round"]);
            assert_eq!(dir.entries().await.unwrap().count().await, 9);

            dir.sync_all().await.unwrap();
            dir.remove_file("c/x/y/linked").await.unwrap();
            let error = dir.remove_dir("c/x/y").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
            dir.remove_dir("p/").await.unwrap();
            dir.remove_dir_all("c").await.unwrap();
            assert!(!at("c").exists());
            let clone = dir.try_clone().unwrap();
            drop(dir);
            assert!(clone.try_exists("a").await.unwrap());
            let std = std_fs::File::open(at("a")).unwrap();
            let from = Dir::from(OwnedFd::from(std));
            assert!(from.as_fd().try_clone_to_owned().is_ok());
            assert_eq!(text(&from, "file").await.unwrap(), "made");
            assert!(from.open("../z").await.is_err());
        });
    });
}

/// How each call on one path ends.
async fn calls(dir: &Dir, path: &str) -> Vec<(&'static str, io::Result<()>)> {
    let time = Some(SystemTime::UNIX_EPOCH);
    vec![
        ("open", dir.open(path).await.map(drop)),
        ("create", dir.create(path).await.map(drop)),
        ("open_dir", dir.open_dir(path).await.map(drop)),
        ("create_dir", dir.create_dir(path).await),
        ("create_dir_all", dir.create_dir_all(path).await),
        ("read_dir", dir.read_dir(path).await.map(drop)),
        ("metadata", dir.metadata(path).await.map(drop)),
        ("symlink_metadata", dir.symlink_metadata(path).await.map(drop)),
        ("try_exists", dir.try_exists(path).await.map(drop)),
        ("rename", dir.rename(path, dir, "a/x").await),
        ("rename to", dir.rename("a/file", dir, path).await),
        ("rename_exchange", dir.rename_exchange("a/file", dir, path).await),
        ("hard_link", dir.hard_link(path, dir, "a/x").await),
        ("hard_link to", dir.hard_link("a/file", dir, path).await),
        ("symlink", dir.symlink("anywhere", path).await),
        ("read_link", dir.read_link(path).await.map(drop)),
        ("remove_file", dir.remove_file(path).await),
        ("remove_dir", dir.remove_dir(path).await),
        ("remove_dir_all", dir.remove_dir_all(path).await),
        ("set_permissions", dir.set_permissions(path, Permissions::from_mode(0o0)).await),
        ("set_times", dir.set_times(path, time, time).await),
        ("chown", dir.chown(path, None, None).await),
        ("lchown", dir.lchown(path, None, None).await),
        ("read", dir.read(path).await.map(drop)),
        ("read_to_string", dir.read_to_string(path).await.map(drop)),
        ("write", dir.write(path, "content").await),
        ("copy", dir.copy(path, dir, "a/x").await.map(drop)),
        ("copy to", dir.copy("a/file", dir, path).await.map(drop)),
    ]
}

/// All that is there, with what it is.
fn listing(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std_fs::read_dir(path).unwrap() {
        let (path, metadata) = (entry.as_ref().unwrap().path(), entry.unwrap().metadata().unwrap());
        let time = metadata.mtime();
        found.push(format!("{} {:o} {} {time}", path.display(), metadata.mode(), metadata.len()));
        if metadata.is_dir() {
            found.extend(listing(&path));
        }
    }
    found.sort();
    found
}

#[test]
fn no_call_leads_out() {
    in_own_process(|| {
        let scratch = scratch_dir();
        scene(scratch.path());
        run_here(async {
            let dir = Dir::open_ambient_dir(scratch.path().join("in")).await.unwrap();
            let before = listing(scratch.path());
            let absolute = format!("{}/out/file", scratch.path().display());
            for path in [
                "../out/file",
                "../in/a/file",
                "a/../../out/file",
                "leads-out/file",
                "leads-out/../out/file",
                "absolute/file",
                "/etc/passwd",
                &absolute,
            ] {
                for (call, result) in calls(&dir, path).await {
                    let error = result.expect_err(&format!("{call} of {path}"));
                    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{call} of {path}");
                    assert_eq!(error.to_string(), "the path leads out of its directory");
                }
            }
            // What follows the last name does not lead out either; what does not, has the link.
            let follow = ["open", "open_dir", "read_dir", "metadata", "try_exists"];
            let pool = ["set_permissions", "set_times"];
            for path in ["leads-out", "file-out", "absolute"] {
                for (call, result) in [
                    (follow[0], dir.open(path).await.map(drop)),
                    (follow[1], dir.open_dir(path).await.map(drop)),
                    (follow[2], dir.read_dir(path).await.map(drop)),
                    (follow[3], dir.metadata(path).await.map(drop)),
                    (follow[4], dir.try_exists(path).await.map(drop)),
                    (pool[0], dir.set_permissions(path, Permissions::from_mode(0o0)).await),
                    (pool[1], dir.set_times(path, None, None).await),
                    ("chown", dir.chown(path, None, None).await),
                    ("read", dir.read(path).await.map(drop)),
                    ("write", dir.write(path, "content").await),
                    ("copy", dir.copy(path, &dir, "a/x").await.map(drop)),
                    ("copy to", dir.copy("a/file", &dir, path).await.map(drop)),
                    ("create", dir.create(path).await.map(drop)),
                    // With a slash behind it, a link is followed.
                    ("symlink_metadata", dir.symlink_metadata(format!("{path}/")).await.map(drop)),
                    ("read_link", dir.read_link(format!("{path}/")).await.map(drop)),
                ] {
                    let error = result.expect_err(&format!("{call} of {path}"));
                    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{call} of {path}");
                }
                assert!(dir.symlink_metadata(path).await.unwrap().is_symlink());
                dir.read_link(path).await.unwrap();
                for (call, result) in [
                    ("rename", dir.rename(format!("{path}/"), &dir, "x").await),
                    ("hard_link", dir.hard_link(format!("{path}/"), &dir, "x").await),
                    ("remove_file", dir.remove_file(format!("{path}/")).await),
                    ("remove_dir", dir.remove_dir(format!("{path}/")).await),
                    ("remove_dir_all", dir.remove_dir_all(format!("{path}/")).await),
                ] {
                    let error = result.expect_err(&format!("{call} of {path}/"));
                    assert_eq!(error.kind(), ErrorKind::NotADirectory, "{call} of {path}/");
                }
            }
            for path in [".", "..", "a/..", "a/b/.", "/", "a/../"] {
                for (call, result) in [
                    ("rename", dir.rename(path, &dir, "x").await),
                    ("rename to", dir.rename("a", &dir, path).await),
                    ("remove_file", dir.remove_file(path).await),
                    ("remove_dir", dir.remove_dir(path).await),
                    ("remove_dir_all", dir.remove_dir_all(path).await),
                    ("create_dir", dir.create_dir(path).await),
                    ("symlink", dir.symlink("x", path).await),
                    ("hard_link", dir.hard_link(path, &dir, "x").await),
                ] {
                    let error = result.expect_err(&format!("{call} of {path}"));
                    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{call} of {path}");
                }
            }
            assert_eq!(listing(scratch.path()), before, "nothing has changed");
            // A link is removed itself, whatever it leads to.
            dir.remove_dir_all("leads-out").await.unwrap();
            dir.remove_file("file-out").await.unwrap();
            assert!(scratch.path().join("out/file").exists());
        });
    });
}

#[test]
fn bad_names_get_the_errors_of_the_kernel() {
    in_own_process(|| {
        let scratch = scratch_dir();
        scene(scratch.path());
        run_here(async {
            let dir = Dir::open_ambient_dir(scratch.path().join("in")).await.unwrap();
            let long = "x".repeat(256);
            let deep = "d/".repeat(2048) + "d";
            for (path, kind) in [
                ("a\0b", ErrorKind::InvalidInput),
                ("a/x\0", ErrorKind::InvalidInput),
                (&long, ErrorKind::InvalidFilename),
                (&deep, ErrorKind::InvalidFilename),
            ] {
                for (call, result) in calls(&dir, path).await {
                    let error = result.expect_err(&format!("{call} of {path}"));
                    assert_eq!(error.kind(), kind, "{call} of {} bytes", path.len());
                }
            }
            for (call, result) in calls(&dir, "").await {
                // This one makes nothing, as std's.
                if call == "create_dir_all" {
                    result.unwrap();
                } else if call != "try_exists" {
                    let error = result.expect_err(call);
                    assert_eq!(error.kind(), ErrorKind::NotFound, "{call} of nothing");
                }
            }
            let error = dir.open("loop").await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
            let error = Dir::open_ambient_dir(scratch.path().join("in/stays")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotADirectory);
            let name = std::ffi::OsStr::from_bytes(b"\xff\xfe");
            dir.create(name).await.unwrap();
            dir.rename(name, &dir, Path::new("a").join(name)).await.unwrap();
            dir.remove_file(Path::new("a").join(name)).await.unwrap();
        });
    });
}

#[test]
fn other_rules_for_paths_are_kept() {
    let scratch = scratch_dir();
    scene(scratch.path());
    run(async || {
        let open = async |resolve| {
            let dir = Dir::open_ambient_dir(scratch.path().join("in")).await.unwrap();
            assert_eq!(dir.resolve(), Resolve::default());
            dir.with_resolve(resolve)
        };
        let rooted = open(Resolve::in_root()).await;
        for path in ["/a/file", "../../a/file", "/../stays"] {
            assert_eq!(text(&rooted, path).await.unwrap(), "inside", "{path}");
        }
        // The link's text is `../out/file`, and the root has no such directory.
        assert_eq!(rooted.open("file-out").await.unwrap_err().kind(), ErrorKind::NotFound);
        rooted.create_dir("/a/../new").await.unwrap();
        assert!(scratch.path().join("in/new").is_dir());
        rooted.create_dir_all("/new/er/est").await.unwrap();
        let inner = rooted.open_dir("/new/er").await.unwrap();
        assert_eq!(inner.resolve(), Resolve::in_root());
        assert!(inner.metadata("/est").await.unwrap().is_dir());

        let strict = open(Resolve::beneath().no_symlinks()).await;
        assert_eq!(text(&strict, "a/file").await.unwrap(), "inside");
        let error = strict.open("stays").await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));

        let anywhere = open(Resolve::anywhere()).await;
        for path in ["../out/file", "leads-out/file", "file-out"] {
            assert_eq!(text(&anywhere, path).await.unwrap(), "outside", "{path}");
        }
        let top = Dir::open_ambient_dir("/").await.unwrap();
        top.metadata("proc/self/status").await.unwrap();
        let one_mount = top.with_resolve(Resolve::beneath().no_xdev());
        let error = one_mount.metadata("proc/self/status").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("another file system"), "{error}");
        let shown = format!("{:?}", one_mount.resolve());
        assert_eq!(shown, r#"Resolve {"beneath", "no_magic_links", "no_xdev"}"#);
    });
}

#[test]
fn somebody_who_swaps_a_directory_for_a_link_brings_nobody_out() {
    const ROUNDS: usize = 1500;
    let scratch = scratch_dir();
    scene(scratch.path());
    let at = |name: &str| scratch.path().join("in").join(name);
    symlink("../out", at("swap")).unwrap();
    let c = |name: &str| std::ffi::CString::new(at(name).as_os_str().as_bytes()).unwrap();
    let (one, two) = (c("swap"), c("a"));
    let stop = AtomicBool::new(false);
    let swap = || {
        while !stop.load(Ordering::Relaxed) {
            // SAFETY: the paths outlive the call.
            unsafe {
                libc::renameat2(
                    libc::AT_FDCWD,
                    one.as_ptr(),
                    libc::AT_FDCWD,
                    two.as_ptr(),
                    libc::RENAME_EXCHANGE,
                )
            };
        }
    };
    let (inside, refused) = thread::scope(|scope| {
        scope.spawn(swap);
        let counts = run(async || {
            let dir = Dir::open_ambient_dir(scratch.path().join("in")).await.unwrap();
            let (mut inside, mut refused) = (0, 0);
            for round in 0..ROUNDS {
                let path = ["a/file", "a/../swap/file", "a/b/../file"][round % 3];
                match text(&dir, path).await {
                    Ok(content) => {
                        assert_eq!(content, "inside", "{path}");
                        inside += 1;
                    }
                    Err(error) => {
                        let kinds = [ErrorKind::PermissionDenied, ErrorKind::NotFound];
                        // Renames that never end may leave no moment to follow `..` for sure.
                        let unsure = error.raw_os_error() == Some(libc::EAGAIN);
                        assert!(kinds.contains(&error.kind()) || unsure, "{path}: {error}");
                        refused += 1;
                    }
                }
                let mut made = Dir::tempfile(&dir).await.unwrap();
                match made.persist("a/new").await {
                    Ok(()) => drop(dir.remove_file("a/new").await),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
                }
                assert!(!scratch.path().join("out/new").exists());
            }
            (inside, refused)
        });
        stop.store(true, Ordering::Relaxed);
        counts
    });
    println!("inside: {inside}, refused: {refused}");
    assert_eq!(inside + refused, ROUNDS);
}

#[test]
fn without_descriptors_to_be_had_calls_say_so_and_leak_none() {
    in_own_process(|| {
        let scratch = scratch_dir();
        scene(scratch.path());
        run_here(async {
            let dir = Dir::open_ambient_dir(scratch.path().join("in")).await.unwrap();
            dir.read_link("stays").await.unwrap();
            dir.remove_dir_all("loop").await.unwrap();
            quiet().await;
            let before = open_descriptors();
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the limit outlives the calls.
            unsafe {
                assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
                limit.rlim_cur = *before.keys().max().unwrap() as u64 + 20;
                assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
            }
            let mut others = Vec::new();
            while let Ok(file) = std_fs::File::open("/dev/null") {
                others.push(file);
            }
            for (call, result) in calls(&dir, "a/file").await {
                let error = result.expect_err(call);
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{call}");
            }
            assert_eq!(dir.try_clone().unwrap_err().raw_os_error(), Some(libc::EMFILE));
            let error = dir.tempfile().await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            // A name of one part needs none.
            dir.rename("a", &dir, "z").await.unwrap();
            drop(others);
            quiet().await;
            assert_descriptors_are(&before);
        });
    });
}
