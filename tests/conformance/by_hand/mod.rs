//! Programs written by hand from the manual pages, each with the completions that it must have on
//! every ring.
//!
//! What an entry must complete with is a line of words, one for each completion: a number, the name
//! of an errno, `fd` for a descriptor; `+` behind it says that more will come, `!` that it is a
//! zero-copy notification. `|` stands between answers of which io_uring promises none.

mod attributes;
mod buffers;
mod cancels;
mod files;
mod futexes;
mod links;
mod messages;
mod multishot;
mod names;
mod processes;
mod sockets;
mod timeouts;

use super::compare::{SLOW, SOURCES, VERY_SLOW, assert_agree, run};
use super::program::Program;
use super::run::{Event, FAST, Outcome, Record};

const ERRNOS: &[(i32, &str)] = &[
    (libc::EAGAIN, "EAGAIN"),
    (libc::EALREADY, "EALREADY"),
    (libc::EBADF, "EBADF"),
    (libc::EBADFD, "EBADFD"),
    (libc::ECANCELED, "ECANCELED"),
    (libc::ECONNREFUSED, "ECONNREFUSED"),
    (libc::ECONNRESET, "ECONNRESET"),
    (libc::EEXIST, "EEXIST"),
    (libc::EFAULT, "EFAULT"),
    (libc::EFBIG, "EFBIG"),
    (libc::EINVAL, "EINVAL"),
    (libc::EISCONN, "EISCONN"),
    (libc::EISDIR, "EISDIR"),
    (libc::ENOBUFS, "ENOBUFS"),
    (libc::ENOENT, "ENOENT"),
    (libc::ENOTCONN, "ENOTCONN"),
    (libc::ENOTDIR, "ENOTDIR"),
    (libc::ENOTSOCK, "ENOTSOCK"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    (libc::EPIPE, "EPIPE"),
    (libc::ESPIPE, "ESPIPE"),
    (libc::ETIME, "ETIME"),
];

const FLAG_MORE: u32 = 1 << 1;
const FLAG_NOTIFICATION: u32 = 1 << 3;

fn word(event: &Event) -> String {
    let mut word = match event.result {
        Outcome::Descriptor => "fd".to_owned(),
        Outcome::Value(result) => match ERRNOS.iter().find(|(errno, _)| -errno == result) {
            Some((_, name)) => (*name).to_owned(),
            None => result.to_string(),
        },
    };
    if event.flags & FLAG_NOTIFICATION != 0 {
        word.push('!');
    }
    if event.flags & FLAG_MORE != 0 {
        word.push('+');
    }
    word
}

pub(crate) fn is_as_expected(events: &[Event], expected: &str) -> bool {
    let words: Vec<_> = expected.split_whitespace().collect();
    events.len() == words.len()
        && events
            .iter()
            .zip(words)
            .all(|(event, allowed)| allowed.split('|').any(|allowed| allowed == word(event)))
}

/// Runs a program on every ring. Each entry must complete as its line says.
#[track_caller]
fn expect<const N: usize>(program: Program, lines: [&str; N]) {
    assert_eq!(program.entries().count(), N, "a line for each entry");
    for source in SOURCES {
        let is_right = |record: &Record| {
            let right =
                record.events.iter().zip(lines).all(|(events, line)| is_as_expected(events, line));
            right && record.stray.is_empty() && record.unfinished.is_empty()
        };
        // What comes late is given more time.
        let mut record = run(&program, source, FAST);
        for pace in [SLOW, VERY_SLOW] {
            if !is_right(&record) {
                record = run(&program, source, pace);
            }
        }
        if !is_right(&record) {
            let found: Vec<_> = record
                .events
                .iter()
                .map(|events| events.iter().map(word).collect::<Vec<_>>().join(" "))
                .collect();
            panic!("{source:?}:\n{program}\nexpected {lines:?}\nbut got  {found:?}\n{record:?}");
        }
    }
    // Where nothing is left open, all that can be seen is the same: bytes, what is left, what the
    // peers were told.
    if !lines.iter().any(|line| line.contains('|')) {
        for source in &SOURCES[1..] {
            assert_agree(&program, SOURCES[0], *source);
        }
    }
}
