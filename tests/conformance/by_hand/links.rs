//! io_uring_linked_requests(7): what breaks a chain, and what becomes of the rest.

use super::expect;
use crate::program::Op::*;
use crate::program::Step::*;
use crate::program::*;

#[test]
fn the_members_of_a_chain_run_one_after_the_other() {
    expect(
        program(
            [File(10)],
            [Submit(vec![
                Write { on: 0, length: 4, offset: 0 }.soft(),
                Read { on: 0, length: 10, offset: 0 }.soft(),
                Truncate { on: 0, length: 2 }.soft(),
                Fsync { on: 0 }.alone(),
            ])],
        ),
        ["4", "10", "0", "0"],
    );
}

#[test]
fn a_member_waits_for_the_one_in_front_of_it() {
    expect(
        program(
            [Unix, Unix],
            [
                Submit(vec![
                    Recv { on: 0, length: 8, flags: 0 }.soft(),
                    Send { on: 1, length: 3, flags: 0 }.alone(),
                ]),
                PeerReads { on: 1, length: 10 },
                PeerWrites { on: 0, length: 5 },
                PeerReads { on: 1, length: 10 },
            ],
        ),
        ["5", "3"],
    );
}

#[test]
fn an_allocation_that_fails_breaks_no_chain() {
    let vain = || Allocate { on: 0, mode: 0, offset: 0, length: 0 };
    expect(
        program(
            [File(10)],
            [Submit(vec![vain().soft(), Read { on: 0, length: 10, offset: 0 }.alone()])],
        ),
        ["EINVAL", "10"],
    );
}

#[test]
fn an_error_cancels_the_rest_of_a_soft_chain_and_not_of_a_hard_one() {
    let bad = || Read { on: 0, length: 1, offset: 0 };
    expect(
        program([Bad], [Submit(vec![bad().soft(), Nop.soft(), Nop.alone()])]),
        ["EBADF", "ECANCELED", "ECANCELED"],
    );
    expect(
        program([Bad], [Submit(vec![bad().hard(), Nop.hard(), Nop.alone()])]),
        ["EBADF", "0", "0"],
    );
    expect(
        program([Bad], [Submit(vec![bad().hard(), bad().soft(), Nop.alone()])]),
        ["EBADF", "EBADF", "ECANCELED"],
    );
}

#[test]
fn a_short_transfer_cancels_the_rest_of_a_soft_chain() {
    expect(
        program(
            [File(5)],
            [Submit(vec![Read { on: 0, length: 10, offset: 0 }.soft(), Nop.alone()])],
        ),
        ["5", "ECANCELED"],
    );
    expect(
        program(
            [File(5)],
            [Submit(vec![Read { on: 0, length: 10, offset: 0 }.hard(), Nop.alone()])],
        ),
        ["5", "0"],
    );
    expect(
        program(
            [File(5)],
            [Submit(vec![Read { on: 0, length: 10, offset: 9 }.soft(), Nop.alone()])],
        ),
        ["0", "ECANCELED"],
    );
    expect(
        program(
            [File(5)],
            [Submit(vec![Readv { on: 0, lengths: [3, 3], offset: 0 }.soft(), Nop.alone()])],
        ),
        ["5", "ECANCELED"],
    );
    for object in [PipeReader, Unix, Tcp] {
        let read = Read { on: 0, length: 10, offset: -1 };
        expect(
            program(
                [object],
                [PeerWrites { on: 0, length: 4 }, Submit(vec![read.soft(), Nop.alone()])],
            ),
            ["4", "ECANCELED"],
        );
    }
}

#[test]
fn a_short_receive_breaks_a_chain_only_if_it_was_to_wait_for_all() {
    let recv = |flags| Recv { on: 0, length: 10, flags };
    expect(
        program(
            [Unix],
            [PeerWrites { on: 0, length: 4 }, Submit(vec![recv(0).soft(), Nop.alone()])],
        ),
        ["4", "0"],
    );
    expect(
        program(
            [Unix],
            [
                PeerWrites { on: 0, length: 4 },
                PeerShuts { on: 0 },
                Submit(vec![recv(libc::MSG_WAITALL).soft(), Nop.alone()]),
            ],
        ),
        ["4", "ECANCELED"],
    );
    // At the end of the stream, too.
    expect(
        program([Unix], [PeerShuts { on: 0 }, Submit(vec![recv(0).soft(), Nop.alone()])]),
        ["0", "0"],
    );
}

#[test]
fn a_member_that_cannot_be_prepared_cancels_the_whole_chain_before_anything_runs() {
    for chain in [
        vec![Nop.soft(), Unknown.soft(), Nop.alone()],
        vec![Nop.hard(), Unknown.hard(), Nop.alone()],
    ] {
        expect(program([], [Submit(chain)]), ["ECANCELED", "EINVAL", "ECANCELED"]);
    }
    expect(
        program(
            [File(3)],
            [Submit(vec![Write { on: 0, length: 2, offset: 0 }.soft(), Unknown.alone()])],
        ),
        ["ECANCELED", "EINVAL"],
    );
    // And nothing outside of it.
    expect(
        program([], [Submit(vec![Nop.alone(), Nop.soft(), Unknown.alone(), Nop.alone()])]),
        ["0", "ECANCELED", "EINVAL", "0"],
    );
}

/// The kernel marks the failures of most operations for the chain, but not of these (`req_set_fail`
/// is missing in them).
#[test]
fn operations_whose_failure_does_not_break_a_chain() {
    let directory = |op: Op| program([Directory], [Submit(vec![op.soft(), Nop.alone()])]);
    expect(directory(Stat { on: 0, name: 'x' }), ["ENOENT", "0"]);
    expect(directory(Rename { on: 0, from: 'x', to: 'y' }), ["ENOENT", "0"]);
    expect(directory(Unlink { on: 0, name: 'x' }), ["ENOENT", "0"]);
    expect(directory(MakeDirectory { on: 0, name: 'a' }), ["EEXIST", "0"]);
    expect(program([Unix], [Submit(vec![Fsync { on: 0 }.soft(), Nop.alone()])]), ["EINVAL", "0"]);
    expect(
        program([ReadOnly(3)], [Submit(vec![Truncate { on: 0, length: 0 }.soft(), Nop.alone()])]),
        ["EINVAL", "0"],
    );
    // On a socket that is not connected. What is no socket breaks the chain.
    expect(
        program([Socket], [Submit(vec![Shutdown { on: 0, how: 0 }.soft(), Nop.alone()])]),
        ["ENOTCONN", "0"],
    );
    expect(
        program([PipeReader], [Submit(vec![Shutdown { on: 0, how: 0 }.soft(), Nop.alone()])]),
        ["ENOTSOCK", "ECANCELED"],
    );
}

#[test]
fn operations_whose_failure_breaks_a_chain() {
    let directory = |op: Op| program([Directory], [Submit(vec![op.soft(), Nop.alone()])]);
    expect(directory(Open { on: 0, name: 'x', flags: libc::O_RDONLY }), ["ENOENT", "ECANCELED"]);
    expect(
        program([Socket], [Submit(vec![Connect { on: 0, to: 0 }.soft(), Nop.alone()])]),
        ["EFAULT", "ECANCELED"],
    );
    for op in [
        Send { on: 0, length: 1, flags: 0 },
        Recv { on: 0, length: 1, flags: 0 },
        Accept { on: 0, multishot: false },
    ] {
        expect(
            program([PipeReader], [Submit(vec![op.soft(), Nop.alone()])]),
            ["ENOTSOCK", "ECANCELED"],
        );
    }
    for op in [
        Fsync { on: 0 },
        Truncate { on: 0, length: 0 },
        Shutdown { on: 0, how: 0 },
        Close { on: 0 },
    ] {
        expect(program([Bad], [Submit(vec![op.soft(), Nop.alone()])]), ["EBADF", "ECANCELED"]);
    }
    expect(
        program([], [Submit(vec![Cancel { target: 1 }.soft(), Nop.alone()])]),
        ["ENOENT", "ECANCELED"],
    );
    expect(
        program([], [Submit(vec![TimeoutRemove { target: 1 }.soft(), Nop.alone()])]),
        ["ENOENT", "ECANCELED"],
    );
}

#[test]
fn a_silent_member_that_fails_silences_all_behind_it() {
    let bad = || Read { on: 0, length: 1, offset: 0 };
    expect(
        program([Bad], [Submit(vec![bad().soft().skip(), Nop.soft(), Nop.alone()])]),
        ["EBADF", "", ""],
    );
    expect(
        program([Bad], [Submit(vec![bad().soft(), Nop.soft().skip(), Nop.alone()])]),
        ["EBADF", "ECANCELED", "ECANCELED"],
    );
    expect(program([], [Submit(vec![Nop.soft().skip(), Nop.alone()])]), ["", "0"]);
    expect(
        program([], [Submit(vec![Cancel { target: 1 }.alone().skip(), Nop.alone()])]),
        ["ENOENT", "0"],
    );
}

#[test]
fn a_multishot_member_holds_up_the_chain_until_it_ends() {
    expect(
        program(
            [Listener],
            [
                Submit(vec![Accept { on: 0, multishot: true }.soft(), Nop.alone()]),
                PeerConnects { on: 0 },
                PeerConnects { on: 0 },
                Submit(vec![Cancel { target: 0 }.alone()]),
            ],
        ),
        ["fd+ fd+ ECANCELED", "ECANCELED", "0"],
    );
}
