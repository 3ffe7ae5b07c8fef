//! io_uring_enter(2), `IORING_OP_MSG_RING`: completions that one ring posts to another, of whatever
//! kinds they are.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc;
use std::thread;

use io_uring::{opcode, squeue, types};

use crate::common::{in_own_process, watchdog};
use crate::compare::{SOURCES, Source};
use crate::ring::{Completion, Config, Ring, Unparker, Wait};
use crate::run::ROOMY;

const TOKEN: u64 = 77;

fn message(to: RawFd, result: i32, flags: Option<u32>) -> squeue::Entry {
    opcode::MsgRingData::new(types::Fd(to), result, TOKEN, flags).build()
}

/// The completions of these entries, which have the tokens 0, 1, 2 …, and of whatever else has come
/// to the ring.
fn submit(
    ring: &mut Ring,
    entries: impl IntoIterator<Item = squeue::Entry>,
) -> Vec<(u64, i32, u32)> {
    let chain: Vec<_> = entries
        .into_iter()
        .enumerate()
        .map(|(index, entry)| entry.user_data(index as u64))
        .collect();
    // SAFETY: the entries name no memory, and the descriptors stay.
    unsafe { ring.push(&chain) }.expect("there is room");
    take(ring, chain.len())
}

fn take(ring: &mut Ring, count: usize) -> Vec<(u64, i32, u32)> {
    let mut taken = Vec::new();
    while taken.len() < count {
        ring.enter(Wait::Forever, count - taken.len()).expect("the ring works");
        taken.extend(
            std::iter::from_fn(|| ring.reap())
                .map(|Completion { token, result, flags }| (token, result, flags)),
        );
    }
    taken.sort_unstable();
    taken
}

fn has_nothing(ring: &mut Ring) -> bool {
    ring.enter(Wait::No, 0).expect("the ring works");
    ring.reap().is_none()
}

#[test]
fn a_message_becomes_a_completion_of_the_other_ring() {
    let _watchdog = watchdog();
    for source in SOURCES {
        let (mut ours, mut theirs) = (source.open(&ROOMY), source.open(&ROOMY));
        let flags = 5 << 16;
        let sent = submit(
            &mut ours,
            [message(theirs.descriptor(), 3, None), message(theirs.descriptor(), -4, Some(flags))],
        );
        assert_eq!(sent, [(0, 0, 0), (1, 0, 0)], "{source:?}");
        assert_eq!(take(&mut theirs, 2), [(TOKEN, -4, flags), (TOKEN, 3, 0)], "{source:?}");
        assert!(has_nothing(&mut ours) && has_nothing(&mut theirs), "{source:?}");
        // A ring may have something to say to itself.
        let own = message(ours.descriptor(), 5, None).user_data(0);
        // SAFETY: the entry names no memory.
        unsafe { ours.push(&[own]) }.expect("there is room");
        assert_eq!(take(&mut ours, 2), [(0, 0, 0), (TOKEN, 5, 0)], "{source:?}");
    }
}

#[test]
fn a_message_to_what_is_no_ring_fails_and_breaks_its_chain() {
    let _watchdog = watchdog();
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    for source in SOURCES {
        let mut ring = source.open(&ROOMY);
        assert_eq!(
            submit(&mut ring, [message(reader.as_raw_fd(), 1, None)]),
            [(0, -libc::EBADFD, 0)],
            "{source:?}"
        );
        assert_eq!(submit(&mut ring, [message(-1, 1, None)]), [(0, -libc::EBADF, 0)], "{source:?}");
        let chain = [
            message(reader.as_raw_fd(), 1, None).flags(squeue::Flags::IO_LINK),
            opcode::Nop::new().build(),
        ];
        assert_eq!(
            submit(&mut ring, chain),
            [(0, -libc::EBADFD, 0), (1, -libc::ECANCELED, 0)],
            "{source:?}"
        );
        // Only a message that hands over a registered file can be silent, and other flags are not
        // known.
        for flags in [1, 4] {
            let entry = opcode::MsgRingData::new(types::Fd(ring.descriptor()), 1, TOKEN, None)
                .opcode_flags(flags)
                .build();
            assert_eq!(submit(&mut ring, [entry]), [(0, -libc::EINVAL, 0)], "{source:?}");
        }
    }
}

#[test]
fn a_ring_that_has_closed_gets_no_message() {
    // Where nobody else takes the number.
    in_own_process(|| {
        for source in SOURCES {
            let (mut ours, theirs) = (source.open(&ROOMY), source.open(&ROOMY));
            let number = theirs.descriptor();
            drop(theirs);
            assert_eq!(
                submit(&mut ours, [message(number, 1, None)]),
                [(0, -libc::EBADF, 0)],
                "{source:?}"
            );
        }
    });
}

#[test]
fn messages_that_find_the_queue_full_are_not_lost() {
    let _watchdog = watchdog();
    for source in SOURCES {
        let (mut ours, mut theirs) = (source.open(&ROOMY), source.open(&Config::new(4, 4)));
        let sent =
            submit(&mut ours, (0..20).map(|index| message(theirs.descriptor(), index, None)));
        assert!(sent.iter().all(|(_, result, _)| *result == 0), "{source:?}: {sent:?}");
        assert_eq!(
            take(&mut theirs, 20),
            (0..20).map(|index| (TOKEN, index, 0)).collect::<Vec<_>>(),
            "{source:?}"
        );
    }
}

#[test]
fn a_message_ends_the_wait_of_a_ring_on_another_thread() {
    let _watchdog = watchdog();
    let mut pairs = SOURCES.map(|source| (source, source)).to_vec();
    // What a ring of the kernel is woken by is what the software ring sends (Linux 6.13).
    if matches!(Source::Kernel.open(&ROOMY).unparker(), Unparker::Message { .. }) {
        pairs.extend([(Source::Software, Source::Kernel), (Source::Software, Source::Plain)]);
    }
    for (ours, theirs) in pairs {
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut ring = theirs.open(&ROOMY);
                tell.send(ring.descriptor()).expect("somebody listens");
                assert_eq!(take(&mut ring, 3), [(TOKEN, 0, 0), (TOKEN, 1, 0), (TOKEN, 2, 0)]);
            });
            let to = told.recv().expect("a ring");
            let mut ring = ours.open(&ROOMY);
            for result in 0..3 {
                assert_eq!(
                    submit(&mut ring, [message(to, result, None)]),
                    [(0, 0, 0)],
                    "from {ours:?} to {theirs:?}"
                );
            }
        });
    }
    // To the kernel's rings the software ring is a file like others.
    let (software, mut kernel) = (Source::Software.open(&ROOMY), Source::Kernel.open(&ROOMY));
    assert_eq!(
        submit(&mut kernel, [message(software.descriptor(), 1, None)]),
        [(0, -libc::EBADFD, 0)]
    );
}
