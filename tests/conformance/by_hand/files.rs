//! Files and paths: offsets, zero lengths, ends, modes, names.

use std::os::fd::AsRawFd;

use io_uring::{opcode, types};

use super::expect;
use crate::common::in_own_process;
use crate::compare::{SOURCES, Source};
use crate::program::Op::*;
use crate::program::Step::*;
use crate::program::*;
use crate::ring::Wait;
use crate::run::ROOMY;

fn read(length: u32, offset: i64) -> Op {
    Read { on: 0, length, offset }
}

fn write(length: u32, offset: i64) -> Op {
    Write { on: 0, length, offset }
}

#[test]
fn reads_and_writes_at_an_offset_leave_the_position_alone() {
    expect(
        program(
            [File(20)],
            [Submit(vec![
                read(5, 3).soft(),
                write(4, 18).soft(),
                read(10, -1).soft(),
                read(100, -1).alone(),
            ])],
        ),
        ["5", "4", "10", "12"],
    );
}

#[test]
fn offset_minus_one_is_the_position_which_moves() {
    expect(
        program(
            [File(9)],
            [
                Submit(vec![read(4, -1).soft(), write(3, -1).soft(), read(2, -1).alone()]),
                Submit(vec![read(2, -1).alone()]),
            ],
        ),
        ["4", "3", "2", "0"],
    );
}

#[test]
fn other_negative_offsets_are_refused() {
    expect(program([File(9)], [Submit(vec![read(4, -2).alone()])]), ["EINVAL"]);
    expect(program([File(9)], [Submit(vec![write(4, -7).alone()])]), ["EINVAL"]);
}

#[test]
fn the_end_of_a_file_and_nothing_at_all_read_as_zero() {
    expect(program([File(9)], [Submit(vec![read(4, 9).alone()])]), ["0"]);
    expect(program([File(9)], [Submit(vec![read(4, 1000).alone()])]), ["0"]);
    expect(program([File(9)], [Submit(vec![read(0, 0).alone()])]), ["0"]);
    expect(program([File(9)], [Submit(vec![write(0, 0).alone()])]), ["0"]);
    expect(program([File(9)], [Submit(vec![write(0, 100).alone()])]), ["0"]);
}

#[test]
fn a_write_behind_the_end_leaves_a_hole() {
    expect(
        program([File(3)], [Submit(vec![write(2, 10).soft(), read(20, 0).alone()])]),
        ["2", "12"],
    );
}

#[test]
fn appending_ignores_the_offset() {
    expect(
        program(
            [Append(6)],
            [Submit(vec![write(2, 0).soft(), write(3, -1).soft(), read(20, 0).alone()])],
        ),
        ["2", "3", "11"],
    );
}

#[test]
fn what_a_descriptor_is_not_open_for_is_refused() {
    expect(program([ReadOnly(5)], [Submit(vec![write(2, 0).alone()])]), ["EBADF"]);
    expect(
        program([ReadOnly(5)], [Submit(vec![Truncate { on: 0, length: 1 }.alone()])]),
        ["EINVAL"],
    );
    expect(program([PipeReader], [Submit(vec![write(2, -1).alone()])]), ["EBADF"]);
    expect(program([PipeWriter], [Submit(vec![read(2, -1).alone()])]), ["EBADF"]);
    for op in [
        read(1, 0),
        write(1, 0),
        Fsync { on: 0 },
        Truncate { on: 0, length: 0 },
        Poll { on: 0, mask: 1, multishot: false },
    ] {
        expect(program([Bad], [Submit(vec![op.alone()])]), ["EBADF"]);
    }
    expect(program([Bad], [Submit(vec![Close { on: 0 }.alone()])]), ["EBADF"]);
}

#[test]
fn two_buffers_are_filled_one_after_the_other() {
    expect(
        program([File(9)], [Submit(vec![Readv { on: 0, lengths: [4, 3], offset: 1 }.alone()])]),
        ["7"],
    );
    expect(
        program([File(9)], [Submit(vec![Readv { on: 0, lengths: [4, 30], offset: 1 }.alone()])]),
        ["8"],
    );
    expect(
        program([File(9)], [Submit(vec![Readv { on: 0, lengths: [0, 3], offset: 0 }.alone()])]),
        ["3"],
    );
    expect(
        program([File(9)], [Submit(vec![Writev { on: 0, lengths: [4, 3], offset: 5 }.alone()])]),
        ["7"],
    );
}

#[test]
fn a_registered_buffer_is_read_into_by_its_number_or_as_plain_memory() {
    for source in SOURCES {
        let mut file = tempfile::tempfile().expect("a file");
        std::io::Write::write_all(&mut file, b"contents").expect("room");
        let mut buffer = vec![0; 4096];
        let mut ring = source.open(&ROOMY);
        let memory = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // The software ring has no use for the registration, and says so.
        let number = match ring.register_buffers(&[memory]) {
            Err(error)
                if error.kind() == std::io::ErrorKind::Unsupported
                    && !matches!(source, Source::Kernel | Source::Plain) =>
            {
                0
            }
            number => number.expect("the kernel registers it"),
        };
        let read =
            opcode::ReadFixed::new(types::Fd(file.as_raw_fd()), buffer.as_mut_ptr(), 4096, number)
                .offset(3)
                .build();
        // SAFETY: buffer and file live to the end of the test, after the completion.
        unsafe { ring.push(&[read]) }.expect("there is room");
        let completion = loop {
            ring.enter(Wait::Forever, 1).expect("the ring works");
            if let Some(completion) = ring.reap() {
                break completion;
            }
        };
        assert_eq!((completion.result, &buffer[..6]), (5, &b"tents\0"[..]), "{source:?}");
    }
}

#[test]
fn files_grow_and_shrink() {
    expect(
        program(
            [File(9)],
            [Submit(vec![
                Truncate { on: 0, length: 4 }.soft(),
                Truncate { on: 0, length: 12 }.soft(),
                read(20, 0).hard(),
            ])],
        ),
        ["0", "0", "12"],
    );
    expect(program([Unix], [Submit(vec![Truncate { on: 0, length: 4 }.alone()])]), ["EINVAL"]);
}

#[test]
fn a_file_is_always_ready() {
    expect(
        program(
            [File(9)],
            [Submit(vec![Poll { on: 0, mask: libc::POLLIN, multishot: false }.alone()])],
        ),
        ["1"],
    );
}

#[test]
fn names_are_opened_made_moved_and_removed() {
    let directory = |op: Op| program([Directory], [Submit(vec![op.alone()])]);
    let open = |name, flags| Open { on: 0, name, flags };
    expect(directory(open('a', libc::O_RDONLY)), ["fd"]);
    expect(directory(open('b', libc::O_RDONLY)), ["ENOENT"]);
    expect(directory(open('b', libc::O_WRONLY | libc::O_CREAT)), ["fd"]);
    expect(directory(open('a', libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)), ["EEXIST"]);
    expect(directory(Stat { on: 0, name: 'a' }), ["0"]);
    expect(directory(Stat { on: 0, name: 'b' }), ["ENOENT"]);
    expect(directory(Rename { on: 0, from: 'a', to: 'b' }), ["0"]);
    expect(directory(Rename { on: 0, from: 'b', to: 'a' }), ["ENOENT"]);
    expect(directory(Unlink { on: 0, name: 'a' }), ["0"]);
    expect(directory(Unlink { on: 0, name: 'b' }), ["ENOENT"]);
    expect(directory(MakeDirectory { on: 0, name: 'b' }), ["0"]);
    expect(directory(MakeDirectory { on: 0, name: 'a' }), ["EEXIST"]);
    expect(
        program(
            [Directory],
            [Submit(vec![
                MakeDirectory { on: 0, name: 'b' }.soft(),
                Unlink { on: 0, name: 'b' }.alone(),
            ])],
        ),
        ["0", "EISDIR"],
    );
}

#[test]
fn a_limit_on_file_sizes_gives_an_error_and_no_signal() {
    in_own_process(|| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limit outlives the calls. This process has no other test.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit), 0);
            limit.rlim_cur = 12;
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
        }
        expect(
            program(
                [File(9)],
                [Submit(vec![write(5, 10).hard(), write(5, 12).hard(), read(20, 0).alone()])],
            ),
            ["2", "EFBIG", "12"],
        );
        expect(
            program(
                [File(9)],
                [Submit(vec![Writev { on: 0, lengths: [3, 4], offset: 13 }.alone()])],
            ),
            ["EFBIG"],
        );
        expect(
            program(
                [File(9)],
                [Submit(vec![
                    Truncate { on: 0, length: 13 }.hard(),
                    Truncate { on: 0, length: 12 }.hard(),
                ])],
            ),
            ["EFBIG", "0"],
        );
        expect(program([PipeWriter], [Submit(vec![write(50, -1).alone()])]), ["50"]);
    });
}

#[test]
fn advice_on_a_file_succeeds_and_what_is_none_or_is_for_no_file_is_refused() {
    let file = tempfile::tempfile().expect("a file");
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let (file, pipe) = (file.as_raw_fd(), reader.as_raw_fd());
    let advice = [
        (file, libc::POSIX_FADV_WILLNEED, 0),
        (file, 99, -libc::EINVAL),
        (pipe, libc::POSIX_FADV_NORMAL, -libc::ESPIPE),
    ];
    for source in SOURCES {
        let mut ring = source.open(&ROOMY);
        for (fd, advice, expected) in
            advice.into_iter().chain([(-1, libc::POSIX_FADV_NORMAL, -libc::EBADF)])
        {
            let entry = opcode::Fadvise::new(types::Fd(fd), 0, advice).build();
            // SAFETY: it names no memory, and the descriptors stay open to the end of the test.
            unsafe { ring.push(&[entry]) }.expect("there is room");
            let completion = loop {
                ring.enter(Wait::Forever, 1).expect("the ring works");
                if let Some(completion) = ring.reap() {
                    break completion;
                }
            };
            assert_eq!(completion.result, expected, "{source:?}: {advice} on {fd}");
        }
    }
}
