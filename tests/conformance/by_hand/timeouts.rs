//! io_uring_enter(2), `IORING_OP_TIMEOUT` and what belongs to it; linked timeouts.

use super::expect;
use crate::program::Op::*;
use crate::program::Step::*;
use crate::program::*;

fn timeout(after: After) -> Op {
    Timeout { after, times: 1 }
}

#[test]
fn a_timeout_fires_once_with_etime() {
    expect(program([], [Submit(vec![timeout(Soon).alone()])]), ["ETIME"]);
    expect(program([], [Submit(vec![timeout(Soon).soft(), Nop.alone()])]), ["ETIME", "ECANCELED"]);
    expect(program([], [Submit(vec![timeout(Soon).hard(), Nop.alone()])]), ["ETIME", "0"]);
}

#[test]
fn a_time_below_zero_is_refused_and_breaks_the_chain_as_a_bad_preparation() {
    expect(program([], [Submit(vec![timeout(Negative).alone()])]), ["EINVAL"]);
    expect(
        program([], [Submit(vec![Nop.hard(), timeout(Negative).alone()])]),
        ["ECANCELED", "EINVAL"],
    );
    expect(
        program(
            [],
            [
                Submit(vec![timeout(Never).alone()]),
                Submit(vec![TimeoutUpdate { target: 0, after: Negative }.alone()]),
            ],
        ),
        ["ECANCELED", "EINVAL"],
    );
}

#[test]
fn a_timeout_that_repeats_says_more_until_the_last_time() {
    expect(
        program([], [Submit(vec![Timeout { after: Soon, times: 3 }.alone()])]),
        ["ETIME+ ETIME+ ETIME"],
    );
    expect(
        program(
            [],
            [
                Submit(vec![Timeout { after: Never, times: 3 }.alone()]),
                Submit(vec![Cancel { target: 0 }.alone()]),
            ],
        ),
        ["ECANCELED", "0"],
    );
}

#[test]
fn a_timeout_can_be_removed_and_cancelled_once() {
    for end in [TimeoutRemove { target: 0 }, Cancel { target: 0 }] {
        expect(
            program(
                [],
                [
                    Submit(vec![timeout(Never).alone()]),
                    Submit(vec![end.clone().alone()]),
                    Submit(vec![end.alone()]),
                ],
            ),
            ["ECANCELED", "0", "ENOENT"],
        );
    }
    // It must be a timeout.
    expect(
        program(
            [Unix],
            [
                Submit(vec![Recv { on: 0, length: 1, flags: 0 }.alone()]),
                Submit(vec![TimeoutRemove { target: 0 }.alone()]),
            ],
        ),
        ["ECANCELED", "ENOENT"],
    );
}

#[test]
fn a_timeout_can_be_moved_until_it_has_fired() {
    expect(
        program(
            [],
            [
                Submit(vec![timeout(Never).alone()]),
                Submit(vec![TimeoutUpdate { target: 0, after: Soon }.alone()]),
            ],
        ),
        ["ETIME", "0"],
    );
    expect(
        program(
            [],
            [
                Submit(vec![timeout(Soon).alone()]),
                Submit(vec![TimeoutUpdate { target: 0, after: Soon }.alone()]),
            ],
        ),
        ["ETIME", "ENOENT"],
    );
    expect(
        program(
            [],
            [Submit(vec![
                timeout(Never).alone(),
                TimeoutUpdate { target: 0, after: Soon }.alone(),
            ])],
        ),
        ["ETIME", "0"],
    );
}

#[test]
fn a_linked_timeout_ends_what_it_is_linked_to() {
    expect(
        program(
            [Unix],
            [Submit(vec![
                Recv { on: 0, length: 8, flags: 0 }.soft(),
                LinkTimeout { after: Soon }.alone(),
            ])],
        ),
        ["ECANCELED", "ETIME"],
    );
    // And is cancelled if that ends by itself.
    expect(
        program(
            [Unix],
            [
                Submit(vec![
                    Recv { on: 0, length: 8, flags: 0 }.soft(),
                    LinkTimeout { after: Never }.alone(),
                ]),
                PeerWrites { on: 0, length: 3 },
            ],
        ),
        ["3", "ECANCELED"],
    );
    expect(
        program([], [Submit(vec![Nop.soft(), LinkTimeout { after: Never }.alone()])]),
        ["0", "ECANCELED"],
    );
}

#[test]
fn a_receive_that_waits_for_all_reports_what_it_has_when_its_time_is_over() {
    expect(
        program(
            [Unix],
            [
                PeerWrites { on: 0, length: 3 },
                Submit(vec![
                    Recv { on: 0, length: 8, flags: libc::MSG_WAITALL }.soft(),
                    LinkTimeout { after: Soon }.alone(),
                ]),
            ],
        ),
        ["3", "ETIME"],
    );
}

#[test]
fn a_chain_goes_on_behind_a_linked_timeout() {
    let recv = Recv { on: 0, length: 8, flags: 0 };
    let chain = |after, send| {
        let members = vec![
            recv.clone().soft(),
            LinkTimeout { after }.soft(),
            send,
            LinkTimeout { after: Never }.alone(),
        ];
        program(
            [Unix, Unix],
            [Submit(members), PeerWrites { on: 0, length: 2 }, PeerReads { on: 1, length: 9 }],
        )
    };
    expect(
        chain(Never, Send { on: 1, length: 4, flags: 0 }.soft()),
        ["2", "ECANCELED", "4", "ECANCELED"],
    );
    expect(
        chain(Soon, Send { on: 1, length: 4, flags: 0 }.soft()),
        ["ECANCELED", "ETIME", "ECANCELED", "ECANCELED"],
    );
}

#[test]
fn a_linked_timeout_without_an_entry_in_front_of_it_is_refused() {
    expect(program([], [Submit(vec![LinkTimeout { after: Never }.alone()])]), ["EINVAL"]);
}
