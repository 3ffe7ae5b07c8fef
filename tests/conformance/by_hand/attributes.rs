//! Files as a whole, beyond what programs have: extended attributes, extents, write-back.

use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use io_uring::{opcode, squeue, types};

use crate::compare::{SOURCES, Source};
use crate::ring::Wait;
use crate::run::ROOMY;

/// What one entry answers.
fn answer(source: Source, entry: squeue::Entry) -> i32 {
    let mut ring = source.open(&ROOMY);
    // SAFETY: the callers keep what the entry names to the end of the test, after its completion.
    unsafe { ring.push(&[entry]) }.expect("there is room");
    loop {
        ring.enter(Wait::Forever, 1).expect("the ring works");
        if let Some(completion) = ring.reap() {
            return completion.result;
        }
    }
}

#[test]
fn extended_attributes_are_set_and_read_by_descriptor_and_by_path() {
    let Ok(file) = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")) else {
        return println!("skipped: no room for a file");
    };
    let path = std::ffi::CString::new(file.path().as_os_str().as_bytes()).expect("no NUL byte");
    let fd = types::Fd(file.as_raw_fd());
    for (number, source) in SOURCES.into_iter().enumerate() {
        let name = std::ffi::CString::new(format!("user.n{number}")).expect("no NUL byte");
        let other = c"user.other";
        let value = b"a value";
        let (from, length) = (value.as_ptr().cast(), value.len() as u32);
        let set = opcode::FSetXattr::new(fd, name.as_ptr(), from, length);
        let result = answer(source, set.flags(libc::XATTR_CREATE).build());
        if result == -libc::EOPNOTSUPP {
            return println!("skipped: no extended attributes here");
        }
        assert_eq!(result, 0, "{source:?}");
        let again = opcode::SetXattr::new(name.as_ptr(), from, path.as_ptr(), length);
        let result = answer(source, again.flags(libc::XATTR_CREATE).build());
        assert_eq!(result, -libc::EEXIST, "{source:?}");
        let mut room = [0u8; 32];
        let get = opcode::FGetXattr::new(fd, name.as_ptr(), room.as_mut_ptr().cast(), 32);
        assert_eq!(answer(source, get.build()), 7, "{source:?}");
        assert_eq!(&room[..8], b"a value\0");
        let to = room.as_mut_ptr().cast();
        for (name, room, expected) in [
            (&*name, 32, 7),
            (&*name, 6, -libc::ERANGE),
            (&*name, 0, 7),
            (other, 32, -libc::ENODATA),
            (c"no-such-kind.n", 32, -libc::EOPNOTSUPP),
        ] {
            let get = opcode::GetXattr::new(name.as_ptr(), to, path.as_ptr(), room).build();
            assert_eq!(answer(source, get), expected, "{source:?}: {name:?} into {room}");
        }
        let replace = opcode::SetXattr::new(other.as_ptr(), from, path.as_ptr(), length);
        let result = answer(source, replace.flags(libc::XATTR_REPLACE).build());
        assert_eq!(result, -libc::ENODATA, "{source:?}");
        let nowhere = opcode::GetXattr::new(name.as_ptr(), to, c"/no/such/file".as_ptr(), 32);
        assert_eq!(answer(source, nowhere.build()), -libc::ENOENT, "{source:?}");
        let bad = opcode::FGetXattr::new(types::Fd(-1), name.as_ptr(), to, 32).build();
        assert_eq!(answer(source, bad), -libc::EBADF, "{source:?}");
    }
}

#[test]
fn blocks_are_set_aside_and_written_back_and_what_has_none_says_so() {
    let file = tempfile::tempfile().expect("a file");
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let (file_fd, pipe) = (types::Fd(file.as_raw_fd()), types::Fd(reader.as_raw_fd()));
    for source in SOURCES {
        file.set_len(0).expect("it can be emptied");
        let allocate = |fd, offset, length, mode| {
            answer(source, opcode::Fallocate::new(fd, length).offset(offset).mode(mode).build())
        };
        assert_eq!(allocate(file_fd, 100, 50, 0), 0, "{source:?}");
        assert_eq!(file.metadata().expect("known").len(), 150, "{source:?}");
        assert_eq!(allocate(file_fd, 100, 5000, libc::FALLOC_FL_KEEP_SIZE), 0, "{source:?}");
        assert_eq!(file.metadata().expect("known").len(), 150, "{source:?}");
        assert_eq!(allocate(file_fd, 0, 0, 0), -libc::EINVAL, "{source:?}");
        assert_eq!(allocate(pipe, 0, 1, 0), -libc::EBADF, "{source:?}: this end reads");
        let sync = |fd, offset, flags| {
            answer(source, opcode::SyncFileRange::new(fd, 0).offset(offset).flags(flags).build())
        };
        assert_eq!(sync(file_fd, 0, libc::SYNC_FILE_RANGE_WRITE), 0, "{source:?}");
        assert_eq!(sync(file_fd, 0, 64), -libc::EINVAL, "{source:?}");
        assert_eq!(sync(file_fd, 1 << 63, 0), -libc::EINVAL, "{source:?}");
        assert_eq!(sync(pipe, 0, 0), -libc::ESPIPE, "{source:?}");
    }
}
