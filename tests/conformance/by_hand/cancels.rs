//! io_uring_cancelation(7): by token, by descriptor, all of them.

use super::expect;
use crate::program::Op::*;
use crate::program::Step::*;
use crate::program::*;

fn recv(on: usize) -> Op {
    Recv { on, length: 8, flags: 0 }
}

#[test]
fn a_cancel_ends_what_waits_and_says_how_it_went() {
    for object in [Unix, Tcp, Datagram, PipeReader] {
        let waiting =
            if object == PipeReader { Read { on: 0, length: 8, offset: -1 } } else { recv(0) };
        for op in [
            waiting,
            Poll { on: 0, mask: libc::POLLIN, multishot: false },
            Poll { on: 0, mask: libc::POLLIN, multishot: true },
        ] {
            expect(
                program(
                    [object],
                    [Submit(vec![op.alone()]), Submit(vec![Cancel { target: 0 }.alone()])],
                ),
                ["ECANCELED", "0"],
            );
        }
    }
    for multishot in [false, true] {
        expect(
            program(
                [Listener],
                [
                    Submit(vec![Accept { on: 0, multishot }.alone()]),
                    Submit(vec![Cancel { target: 0 }.alone()]),
                ],
            ),
            ["ECANCELED", "0"],
        );
    }
}

#[test]
fn a_cancel_finds_nothing_in_front_of_its_target_or_behind_its_end() {
    expect(
        program([Unix], [Submit(vec![Cancel { target: 1 }.alone(), recv(0).alone()])]),
        ["ENOENT", "ECANCELED"],
    );
    expect(
        program([], [Submit(vec![Nop.alone()]), Submit(vec![Cancel { target: 0 }.alone()])]),
        ["0", "ENOENT"],
    );
    expect(program([], [Submit(vec![Nop.alone(), Cancel { target: 0 }.alone()])]), ["0", "ENOENT"]);
}

#[test]
fn a_cancel_in_the_same_submission_finds_what_waits() {
    expect(
        program([Unix], [Submit(vec![recv(0).alone(), Cancel { target: 0 }.alone()])]),
        ["ECANCELED", "0"],
    );
}

#[test]
fn the_head_of_a_chain_can_be_cancelled_and_the_rest_goes_with_it() {
    expect(
        program(
            [Unix, Unix],
            [
                Submit(vec![recv(0).soft(), recv(1).soft(), Nop.alone()]),
                Submit(vec![Cancel { target: 0 }.alone()]),
            ],
        ),
        ["ECANCELED", "ECANCELED", "ECANCELED", "0"],
    );
    // Of a hard chain the rest goes on.
    expect(
        program(
            [Unix],
            [Submit(vec![recv(0).hard(), Nop.alone()]), Submit(vec![Cancel { target: 0 }.alone()])],
        ),
        ["ECANCELED", "0", "0"],
    );
}

#[test]
fn a_member_that_has_not_started_cannot_be_found() {
    expect(
        program(
            [Unix, Unix],
            [
                Submit(vec![recv(0).soft(), recv(1).alone()]),
                Submit(vec![Cancel { target: 1 }.alone()]),
                PeerWrites { on: 0, length: 1 },
                PeerWrites { on: 1, length: 2 },
            ],
        ),
        ["1", "2", "ENOENT"],
    );
}

#[test]
fn a_descriptor_names_one_operation_or_all() {
    let armed = || {
        vec![
            recv(0).alone(),
            Poll { on: 0, mask: libc::POLLIN, multishot: false }.alone(),
            recv(1).alone(),
        ]
    };
    expect(
        program(
            [Unix, Unix],
            [Submit(armed()), Submit(vec![CancelDescriptor { on: 0, all: true }.alone()])],
        ),
        ["ECANCELED", "ECANCELED", "ECANCELED", "2"],
    );
    expect(
        program(
            [Unix],
            [
                Submit(vec![recv(0).alone()]),
                Submit(vec![CancelDescriptor { on: 0, all: false }.alone()]),
            ],
        ),
        ["ECANCELED", "0"],
    );
    expect(
        program([Unix], [Submit(vec![CancelDescriptor { on: 0, all: false }.alone()])]),
        ["ENOENT"],
    );
    expect(program([Unix], [Submit(vec![CancelDescriptor { on: 0, all: true }.alone()])]), ["0"]);
    expect(
        program([Bad], [Submit(vec![CancelDescriptor { on: 0, all: true }.alone()])]),
        ["EBADF"],
    );
}

#[test]
fn all_means_all_and_the_answer_counts_them() {
    let armed = vec![
        recv(0).alone(),
        Accept { on: 1, multishot: true }.alone(),
        Timeout { after: Never, times: 1 }.alone(),
    ];
    expect(
        program([Unix, Listener], [Submit(armed), Submit(vec![CancelAll.alone()])]),
        ["ECANCELED", "ECANCELED", "ECANCELED", "3"],
    );
    expect(program([], [Submit(vec![CancelAll.alone()])]), ["0"]);
}

#[test]
fn what_has_arrived_before_a_cancel_is_not_lost() {
    // Whoever wins, the byte is in the buffer or still in the socket.
    expect(
        program(
            [Unix],
            [
                Submit(vec![recv(0).alone()]),
                PeerWrites { on: 0, length: 3 },
                Rush,
                Submit(vec![Cancel { target: 0 }.alone()]),
                Submit(vec![Recv { on: 0, length: 8, flags: libc::MSG_DONTWAIT }.alone()]),
            ],
        ),
        ["3|ECANCELED", "0|ENOENT|EALREADY", "3|EAGAIN"],
    );
}
