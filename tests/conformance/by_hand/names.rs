//! Links, and opening by a path that is held to its directory.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use io_uring::{opcode, squeue, types};

use crate::common::scratch_dir;
use crate::compare::SOURCES;
use crate::ring::{Ring, Wait};
use crate::run::ROOMY;
use crate::world::adopt;

const HERE: types::Fd = types::Fd(libc::AT_FDCWD);

/// The result of one entry.
fn result(ring: &mut Ring, entry: squeue::Entry) -> i32 {
    // SAFETY: what the entry names lives in the test, to its end.
    unsafe { ring.push(&[entry]) }.expect("there is room");
    loop {
        ring.enter(Wait::Forever, 1).expect("the ring works");
        if let Some(completion) = ring.reap() {
            return completion.result;
        }
    }
}

#[test]
fn links_are_made_once_and_with_the_errors_of_the_system_calls() {
    for source in SOURCES {
        let scratch = scratch_dir();
        fs::write(scratch.path().join("a"), "content").expect("room");
        let directory = fs::File::open(scratch.path()).expect("it is there");
        let within = types::Fd(directory.as_raw_fd());
        let absolute = CString::new(scratch.path().join("a").as_os_str().as_bytes()).expect("text");
        let mut ring = source.open(&ROOMY);
        let mut link = |from_directory, from: &CStr, to: &CStr, flags| {
            let entry = opcode::LinkAt::new(from_directory, from.as_ptr(), within, to.as_ptr());
            result(&mut ring, entry.flags(flags).build())
        };
        assert_eq!(link(within, c"a", c"b", 0), 0, "{source:?}");
        assert_eq!(link(HERE, &absolute, c"c", 0), 0, "{source:?}");
        assert_eq!(link(within, c"a", c"b", 0), -libc::EEXIST, "{source:?}");
        assert_eq!(link(within, c"missing", c"d", 0), -libc::ENOENT, "{source:?}");
        assert_eq!(link(types::Fd(-1), c"a", c"d", 0), -libc::EBADF, "{source:?}");
        assert_eq!(link(within, c"a", c"d", 1 << 30), -libc::EINVAL, "{source:?}");
        let mut symlink = |text: &CStr, name: &CStr| {
            let entry = opcode::SymlinkAt::new(within, text.as_ptr(), name.as_ptr());
            result(&mut ring, entry.build())
        };
        assert_eq!(symlink(c"no/where", c"e"), 0, "{source:?}");
        assert_eq!(symlink(c"no/where", c"e"), -libc::EEXIST, "{source:?}");
        assert_eq!(symlink(c"", c"f"), -libc::ENOENT, "{source:?}");
        assert_eq!(symlink(c"x", c"a/f"), -libc::ENOTDIR, "{source:?}");
        let text = fs::read_link(scratch.path().join("e")).expect("a link");
        assert_eq!(text.as_os_str(), "no/where");
    }
}

#[test]
fn a_path_is_held_to_its_directory_as_openat2_does() {
    let scratch = scratch_dir();
    let at = |name: &str| scratch.path().join(name);
    fs::create_dir(at("in")).expect("room");
    fs::write(at("in/file"), "content").expect("room");
    fs::write(at("out"), "secret").expect("room");
    std::os::unix::fs::symlink("../out", at("in/leads-out")).expect("room");
    std::os::unix::fs::symlink("file", at("in/stays")).expect("room");
    let directory = fs::File::open(at("in")).expect("it is there");
    let within = types::Fd(directory.as_raw_fd());
    let beneath = libc::RESOLVE_BENEATH;
    let (read, path, new) =
        (libc::O_RDONLY, libc::O_PATH, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL);
    // How it ends twice in a row: what was looked up once is in memory.
    let cases = [
        (c"file", read, 0, beneath, 0),
        (c"stays", read, 0, beneath, 0),
        (c"stays", read, 0, beneath | libc::RESOLVE_NO_SYMLINKS, -libc::ELOOP),
        (c"leads-out", read, 0, beneath, -libc::EXDEV),
        (c"leads-out", read, 0, 0, 0),
        (c"leads-out", path | libc::O_NOFOLLOW, 0, beneath, 0),
        (c"../out", read, 0, beneath, -libc::EXDEV),
        (c"../file", read, 0, libc::RESOLVE_IN_ROOT, 0),
        (c"/file", path, 0, libc::RESOLVE_IN_ROOT, 0),
        (c"/etc", path, 0, beneath, -libc::EXDEV),
        (c"missing", read, 0, beneath, -libc::ENOENT),
        (c"file", read, 0o600, beneath, -libc::EINVAL),
        (c"file", read, 0, 1 << 60, -libc::EINVAL),
        (c"file", path | libc::O_WRONLY | libc::O_NONBLOCK, 0, beneath, -libc::EINVAL),
        (c"file", new, 0o600, beneath, -libc::EEXIST),
    ];
    for source in SOURCES {
        let mut ring = source.open(&ROOMY);
        for (name, flags, mode, resolve, expected) in cases {
            let how = types::OpenHow::new().flags(flags as u64).mode(mode).resolve(resolve);
            for _ in 0..2 {
                let entry = opcode::OpenAt2::new(within, name.as_ptr(), &how).build();
                let result = result(&mut ring, entry);
                let what = format!("{source:?}: {name:?} {flags:o} {mode:o} {resolve:x}");
                assert_eq!(result.min(0), expected, "{what}");
                if result >= 0 {
                    let opened = adopt(result);
                    // SAFETY: the call takes no memory.
                    let status = unsafe { libc::fcntl(opened.as_raw_fd(), libc::F_GETFL) };
                    assert_eq!(status & libc::O_NONBLOCK, 0, "{what}");
                }
            }
        }
    }
}
