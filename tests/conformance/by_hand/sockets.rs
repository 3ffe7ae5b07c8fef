//! Sockets and pipes: data before and after the operation, ends, resets, closes.

use std::time::Duration;

use super::{expect, is_as_expected};
use crate::compare::{SOURCES, run};
use crate::program::Op::*;
use crate::program::Step::*;
use crate::program::*;
use crate::run::Pace;

fn recv(length: u32, flags: i32) -> Op {
    Recv { on: 0, length, flags }
}

fn send(length: u32) -> Op {
    Send { on: 0, length, flags: 0 }
}

#[test]
fn data_is_received_whether_it_comes_before_or_after() {
    for object in [Unix, Tcp, Datagram] {
        for op in [recv(8, 0), RecvMsg { on: 0, length: 8 }, Read { on: 0, length: 8, offset: -1 }]
        {
            expect(
                program(
                    [object],
                    [PeerWrites { on: 0, length: 5 }, Submit(vec![op.clone().alone()])],
                ),
                ["5"],
            );
            expect(
                program([object], [Submit(vec![op.alone()]), PeerWrites { on: 0, length: 5 }]),
                ["5"],
            );
        }
    }
    let readv = Readv { on: 0, lengths: [3, 5], offset: -1 };
    for object in [Unix, Tcp, PipeReader] {
        expect(
            program(
                [object],
                [Submit(vec![readv.clone().alone()]), PeerWrites { on: 0, length: 5 }],
            ),
            ["5"],
        );
    }
}

#[test]
fn what_does_not_fit_stays_in_a_stream_and_is_lost_of_a_datagram() {
    let twice = |object| {
        program(
            [object],
            [
                PeerWrites { on: 0, length: 9 },
                Submit(vec![recv(4, 0).soft(), recv(9, libc::MSG_DONTWAIT).alone()]),
            ],
        )
    };
    expect(twice(Unix), ["4", "5"]);
    expect(twice(Tcp), ["4", "5"]);
    expect(twice(Datagram), ["4", "EAGAIN"]);
}

#[test]
fn waiting_for_all_takes_several_parts() {
    for object in [Unix, Tcp] {
        expect(
            program(
                [object],
                [
                    Submit(vec![recv(10, libc::MSG_WAITALL).alone()]),
                    PeerWrites { on: 0, length: 4 },
                    PeerWrites { on: 0, length: 8 },
                ],
            ),
            ["10"],
        );
        expect(
            program(
                [object],
                [
                    Submit(vec![recv(10, libc::MSG_WAITALL).alone()]),
                    PeerWrites { on: 0, length: 4 },
                    PeerShuts { on: 0 },
                ],
            ),
            ["4"],
        );
    }
}

#[test]
fn the_end_of_a_stream_reads_as_zero() {
    for object in [Unix, Tcp] {
        expect(program([object], [PeerShuts { on: 0 }, Submit(vec![recv(8, 0).alone()])]), ["0"]);
        expect(program([object], [Submit(vec![recv(8, 0).alone()]), PeerShuts { on: 0 }]), ["0"]);
        expect(program([object], [Submit(vec![recv(8, 0).alone()]), PeerCloses { on: 0 }]), ["0"]);
    }
    expect(
        program(
            [PipeReader],
            [Submit(vec![Read { on: 0, length: 8, offset: -1 }.alone()]), PeerCloses { on: 0 }],
        ),
        ["0"],
    );
}

#[test]
fn a_receive_of_nothing_waits_on_a_stream_like_any_other() {
    expect(
        program([Unix], [Submit(vec![recv(0, 0).alone()]), PeerWrites { on: 0, length: 1 }]),
        ["0"],
    );
    expect(
        program([PipeReader], [Submit(vec![Read { on: 0, length: 0, offset: -1 }.alone()])]),
        ["0"],
    );
}

#[test]
fn without_waiting_an_empty_socket_says_eagain() {
    for object in [Unix, Tcp, Datagram] {
        expect(program([object], [Submit(vec![recv(8, libc::MSG_DONTWAIT).alone()])]), ["EAGAIN"]);
    }
}

#[test]
fn a_closed_peer_breaks_the_pipe_and_a_reset_is_said_once() {
    expect(program([Unix], [PeerCloses { on: 0 }, Submit(vec![send(3).alone()])]), ["EPIPE"]);
    expect(
        program(
            [Tcp],
            [
                PeerResets { on: 0 },
                Submit(vec![recv(8, 0).soft(), Nop.alone()]),
                Submit(vec![recv(8, 0).alone()]),
            ],
        ),
        ["ECONNRESET", "ECANCELED", "0"],
    );
    expect(
        program([Tcp], [Submit(vec![recv(8, 0).alone()]), PeerResets { on: 0 }]),
        ["ECONNRESET"],
    );
    expect(
        program(
            [Unix],
            [Submit(vec![Shutdown { on: 0, how: libc::SHUT_WR }.soft(), send(3).alone()])],
        ),
        ["0", "EPIPE"],
    );
}

#[test]
fn bytes_arrive_as_they_were_sent() {
    for object in [Unix, Tcp, Datagram] {
        for op in [
            send(7),
            SendMsg { on: 0, length: 7 },
            Write { on: 0, length: 7, offset: -1 },
            Writev { on: 0, lengths: [3, 4], offset: -1 },
        ] {
            expect(
                program([object], [Submit(vec![op.alone()]), PeerReads { on: 0, length: 20 }]),
                ["7"],
            );
        }
    }
    expect(
        program(
            [PipeWriter],
            [
                Submit(vec![Write { on: 0, length: 7, offset: -1 }.alone()]),
                PeerReads { on: 0, length: 20 },
            ],
        ),
        ["7"],
    );
}

#[test]
fn control_messages_come_with_what_is_received_as_far_as_there_is_room() {
    for room in [0, 15, 16, 17, 20, 24, 41, 48, 200] {
        let receive = || RecvControl { on: 0, length: 8, room }.alone();
        expect(program([Udp], [PeerWrites { on: 0, length: 5 }, Submit(vec![receive()])]), ["5"]);
        expect(
            program(
                [Udp],
                [
                    Submit(vec![receive()]),
                    PeerWrites { on: 0, length: 20 },
                    Submit(vec![receive()]),
                    PeerWrites { on: 0, length: 1 },
                ],
            ),
            ["8", "1"],
        );
        // Other sockets have none to tell.
        for object in [Unix, Tcp, Datagram] {
            expect(
                program([object], [Submit(vec![receive()]), PeerWrites { on: 0, length: 5 }]),
                ["5"],
            );
        }
    }
    let receive = RecvControl { on: 0, length: 8, room: 48 };
    expect(
        program([Udp], [Submit(vec![receive.alone()]), Submit(vec![Cancel { target: 0 }.alone()])]),
        ["ECANCELED", "0"],
    );
}

#[test]
fn control_messages_go_along_with_what_is_sent() {
    let reads = || PeerReads { on: 0, length: 20 };
    expect(
        program(
            [Udp],
            [
                Submit(vec![SendControl { on: 0, length: 7 }.alone()]),
                reads(),
                reads(),
                reads(),
                reads(),
            ],
        ),
        ["7"],
    );
    for object in [Unix, Tcp, Datagram] {
        expect(
            program([object], [Submit(vec![SendControl { on: 0, length: 7 }.alone()]), reads()]),
            ["7"],
        );
    }
    expect(
        program([PipeWriter], [Submit(vec![SendControl { on: 0, length: 7 }.alone()])]),
        ["ENOTSOCK"],
    );
}

#[test]
fn what_is_peeked_at_is_received_again() {
    let peek = || recv(8, libc::MSG_PEEK);
    for object in [Unix, Tcp, Datagram, Udp] {
        expect(
            program(
                [object],
                [
                    PeerWrites { on: 0, length: 5 },
                    Submit(vec![peek().alone()]),
                    Submit(vec![peek().alone()]),
                    Submit(vec![recv(8, 0).alone()]),
                ],
            ),
            ["5", "5", "5"],
        );
        expect(
            program(
                [object],
                [
                    Submit(vec![peek().alone()]),
                    PeerWrites { on: 0, length: 5 },
                    Submit(vec![recv(8, 0).alone()]),
                ],
            ),
            ["5", "5"],
        );
    }
    expect(program([Tcp], [Submit(vec![peek().alone()]), PeerShuts { on: 0 }]), ["0"]);
    expect(program([Tcp], [Submit(vec![peek().alone()]), PeerResets { on: 0 }]), ["ECONNRESET"]);
}

#[test]
fn zero_copy_sends_complete_twice_and_so_do_their_failures() {
    expect(
        program(
            [Tcp],
            [Submit(vec![SendZc { on: 0, length: 7 }.alone()]), PeerReads { on: 0, length: 20 }],
        ),
        ["7+ 0!"],
    );
    expect(program([Bad], [Submit(vec![SendZc { on: 0, length: 7 }.alone()])]), ["EBADF+ 0!"]);
    // The software ring, which copies in any case, does not mind what socket it is.
    expect(
        program([Unix], [Submit(vec![SendZc { on: 0, length: 7 }.alone()])]),
        ["EOPNOTSUPP+|7+ 0!"],
    );
}

#[test]
fn sockets_and_other_files_are_told_apart() {
    for object in [PipeReader, File(5)] {
        expect(program([object], [Submit(vec![recv(8, 0).alone()])]), ["ENOTSOCK"]);
        expect(program([object], [Submit(vec![send(8).alone()])]), ["ENOTSOCK"]);
        expect(
            program([object], [Submit(vec![Accept { on: 0, multishot: false }.alone()])]),
            ["ENOTSOCK"],
        );
        expect(program([object], [Submit(vec![Shutdown { on: 0, how: 0 }.alone()])]), ["ENOTSOCK"]);
    }
    expect(program([Unix], [Submit(vec![Accept { on: 0, multishot: false }.alone()])]), ["EINVAL"]);
    expect(program([Socket], [Submit(vec![recv(8, 0).alone()])]), ["ENOTCONN"]);
    expect(program([Listener], [Submit(vec![recv(8, 0).alone()])]), ["ENOTCONN"]);
}

#[test]
fn a_position_means_nothing_to_a_socket() {
    expect(
        program(
            [Unix],
            [
                PeerWrites { on: 0, length: 5 },
                Submit(vec![Read { on: 0, length: 8, offset: 0 }.alone()]),
            ],
        ),
        ["5"],
    );
}

#[test]
fn a_shutdown_ends_what_waits() {
    for object in [Unix, Tcp] {
        expect(
            program(
                [object],
                [
                    Submit(vec![recv(8, 0).alone()]),
                    Submit(vec![Shutdown { on: 0, how: libc::SHUT_RDWR }.alone()]),
                ],
            ),
            ["0", "0"],
        );
    }
    expect(program([Unix], [Submit(vec![Shutdown { on: 0, how: 7 }.alone()])]), ["EINVAL"]);
}

#[test]
fn connections_are_made_and_accepted() {
    expect(
        program(
            [Listener, Socket],
            [
                Submit(vec![Accept { on: 0, multishot: false }.alone()]),
                Submit(vec![Connect { on: 1, to: 0 }.alone()]),
            ],
        ),
        ["fd", "0"],
    );
    expect(
        program(
            [Listener, Socket],
            [Submit(vec![Connect { on: 1, to: 0 }.soft(), Connect { on: 1, to: 0 }.alone()])],
        ),
        ["0", "EISCONN"],
    );
    expect(
        program(
            [Listener],
            [PeerConnects { on: 0 }, Submit(vec![Accept { on: 0, multishot: false }.alone()])],
        ),
        ["fd"],
    );
}

#[test]
fn a_refused_connection_leaves_a_socket_that_has_ended_and_can_be_connected_again() {
    let refused = || {
        let start =
            [Submit(vec![Close { on: 0 }.alone()]), Submit(vec![Connect { on: 1, to: 0 }.alone()])];
        move |rest: Op| {
            program(
                [Listener, Socket, Listener],
                start.into_iter().chain([Submit(vec![rest.alone()])]),
            )
        }
    };
    let receive = Recv { on: 1, length: 8, flags: 0 };
    expect(refused()(receive), ["0", "ECONNREFUSED", "0"]);
    expect(refused()(Send { on: 1, length: 8, flags: 0 }), ["0", "ECONNREFUSED", "EPIPE"]);
    // POLLIN, POLLHUP, POLLRDHUP.
    expect(
        refused()(Poll { on: 1, mask: libc::POLLIN, multishot: false }),
        ["0", "ECONNREFUSED", "8209"],
    );
    expect(refused()(Connect { on: 1, to: 0 }), ["0", "ECONNREFUSED", "ECONNREFUSED"]);
    expect(refused()(Connect { on: 1, to: 2 }), ["0", "ECONNREFUSED", "0"]);
}

#[test]
fn a_descriptor_is_closed_once() {
    expect(
        program([Unix], [Submit(vec![Close { on: 0 }.alone()]), Submit(vec![recv(8, 0).alone()])]),
        ["0", "EBADF"],
    );
    expect(program([Unix], [Submit(vec![send(3).soft(), Close { on: 0 }.alone()])]), ["3", "0"]);
}

#[test]
fn readiness_is_told_with_the_bits_of_poll() {
    let poll = |mask| Poll { on: 0, mask, multishot: false };
    expect(
        program(
            [Unix],
            [Submit(vec![poll(libc::POLLIN).alone()]), PeerWrites { on: 0, length: 1 }],
        ),
        ["1"],
    );
    expect(program([Unix], [Submit(vec![poll(libc::POLLOUT).alone()])]), ["4"]);
    expect(
        program(
            [Unix],
            [
                PeerWrites { on: 0, length: 1 },
                Submit(vec![poll(libc::POLLIN | libc::POLLOUT).alone()]),
            ],
        ),
        ["5"],
    );
    // Hanging up is always told: POLLHUP, and for a stream POLLRDHUP.
    expect(
        program([PipeReader], [Submit(vec![poll(libc::POLLIN).alone()]), PeerCloses { on: 0 }]),
        ["16"],
    );
    expect(
        program([Unix], [Submit(vec![poll(libc::POLLIN).alone()]), PeerCloses { on: 0 }]),
        ["8209"],
    );
}

/// No event says so, and the software ring asks every 100 ms.
const LATE: Pace = Pace { quiet: Duration::from_millis(230), bound: Duration::from_secs(2) };

#[test]
fn a_peer_that_reads_no_more_ends_what_waits_to_be_sent() {
    for op in [send(1), Write { on: 0, length: 1, offset: -1 }] {
        let program = program(
            [Unix],
            [
                Submit(vec![send(4_000_000).alone()]),
                Submit(vec![op.alone()]),
                PeerStopsReading { on: 0 },
            ],
        );
        for source in SOURCES {
            let record = run(&program, source, LATE);
            assert!(
                is_as_expected(&record.events[1], "EPIPE"),
                "{source:?}: {:?}",
                record.events[1]
            );
        }
    }
    expect(program([Unix], [PeerStopsReading { on: 0 }, Submit(vec![send(1).alone()])]), ["EPIPE"]);
}
