//! io_uring_provided_buffers(7): buffers that the ring takes itself, when there is something to put
//! there.

use super::expect;
use crate::program::Op::*;
use crate::program::Step::*;
use crate::program::*;

fn recv(multishot: bool) -> Entry {
    RecvProvided { on: 0, multishot }.alone()
}

fn buffers(buffers: u16) -> Step {
    Provide { buffers, length: 8 }
}

fn write(length: u32) -> Step {
    PeerWrites { on: 0, length }
}

#[test]
fn a_receive_takes_the_first_buffer_when_data_comes() {
    for object in [Unix, Tcp, Datagram] {
        expect(program([object], [buffers(2), write(5), Submit(vec![recv(false)])]), ["5"]);
        expect(program([object], [buffers(2), Submit(vec![recv(false)]), write(5)]), ["5"]);
    }
    let read = |length| ReadProvided { on: 0, length }.alone();
    expect(
        program(
            [PipeReader],
            [buffers(2), Submit(vec![read(8)]), write(5), Submit(vec![read(3)]), write(5)],
        ),
        ["5", "3"],
    );
}

#[test]
fn a_multishot_receive_takes_one_buffer_after_the_other_until_there_are_none() {
    // On datagram sockets the kernel does not know that there is no more, and may look for a buffer
    // before the next comes.
    for object in [Unix, Tcp] {
        let all = [buffers(3), Submit(vec![recv(true)]), write(1), write(2), write(3), write(4)];
        expect(program([object], all), ["1+ 2+ 3+ ENOBUFS"]);
    }
    // What does not fit into one goes into the next.
    expect(
        program([Unix], [buffers(3), write(20), Submit(vec![recv(true)])]),
        ["8+ 8+ 4+ ECANCELED"],
    );
}

#[test]
fn without_a_buffer_nothing_is_received_and_nothing_is_lost() {
    let start = [buffers(1), Submit(vec![recv(true)]), write(3), write(4)];
    let end = [Return, Submit(vec![recv(true)])];
    expect(program([Unix], start.clone().into_iter().chain(end)), ["3+ ENOBUFS", "4+ ECANCELED"]);
    // Arming without a buffer fails at once, with data or without.
    for multishot in [false, true] {
        expect(
            program(
                [Unix],
                [buffers(1), write(2), Submit(vec![recv(false)]), Submit(vec![recv(multishot)])],
            ),
            ["2", "ENOBUFS"],
        );
        // A group that nobody has made.
        expect(program([Unix], [Submit(vec![recv(multishot)])]), ["ENOBUFS"]);
    }
}

#[test]
fn the_last_buffer_ends_nothing_while_nothing_is_left_to_receive() {
    // As many as a ring takes in one turn.
    let shots = 33;
    let all =
        [Provide { buffers: shots, length: 1 }, write(shots.into()), Submit(vec![recv(true)])];
    expect(program([Unix], all.clone()), [&*("1+ ".repeat(shots.into()) + "ECANCELED")]);
    expect(
        program([Unix], all.into_iter().chain([write(1)])),
        [&*("1+ ".repeat(shots.into()) + "ENOBUFS")],
    );
}

#[test]
fn the_end_of_a_stream_takes_no_buffer() {
    for object in [Unix, Tcp] {
        expect(
            program(
                [object],
                [buffers(2), Submit(vec![recv(true)]), write(3), PeerShuts { on: 0 }],
            ),
            ["3+ 0"],
        );
        expect(
            program([object], [buffers(2), PeerShuts { on: 0 }, Submit(vec![recv(false)])]),
            ["0"],
        );
    }
}

#[test]
fn a_cancelled_receive_has_taken_nothing() {
    expect(
        program(
            [Unix],
            [
                buffers(1),
                Submit(vec![recv(true)]),
                Submit(vec![Cancel { target: 0 }.alone()]),
                write(3),
                Submit(vec![recv(false)]),
            ],
        ),
        ["ECANCELED", "0", "3"],
    );
}

#[test]
fn buffers_that_come_back_are_taken_again_in_their_order() {
    expect(
        program(
            [Unix],
            [
                buffers(2),
                Submit(vec![recv(true)]),
                write(1),
                write(2),
                Return,
                write(3),
                Return,
                write(4),
                write(5),
                write(6),
            ],
        ),
        ["1+ 2+ 3+ 4+ 5+ ENOBUFS"],
    );
}

#[test]
fn a_file_can_be_read_into_provided_buffers() {
    expect(
        program([File(20)], [buffers(2), Submit(vec![ReadProvided { on: 0, length: 6 }.alone()])]),
        ["6"],
    );
    expect(
        program([File(20)], [buffers(2), Submit(vec![ReadProvided { on: 0, length: 20 }.alone()])]),
        ["8"],
    );
}

#[test]
fn a_member_of_a_chain_takes_a_buffer_too() {
    expect(
        program(
            [Unix],
            [
                buffers(2),
                write(3),
                Submit(vec![Nop.soft(), RecvProvided { on: 0, multishot: false }.alone()]),
            ],
        ),
        ["0", "3"],
    );
}

#[test]
fn messages_come_behind_a_head_that_says_how_long_they_are() {
    let receive = || Submit(vec![RecvMsgMultishot { on: 0 }.alone()]);
    let roomy = || Provide { buffers: 3, length: 24 };
    for object in [Unix, Tcp] {
        expect(program([object], [roomy(), receive(), write(3), write(8)]), ["19+ 24+ ECANCELED"]);
        expect(program([object], [roomy(), receive(), write(3), PeerShuts { on: 0 }]), ["19+ 16"]);
    }
    // A datagram that does not fit is cut off, which the head says.
    expect(program([Datagram], [roomy(), receive(), write(3), write(20)]), ["19+ 24+ ECANCELED"]);
    // A buffer without room for a head is none.
    expect(program([Unix], [buffers(2), write(3), receive()]), ["EFAULT"]);
    let waits = Submit(vec![Recv { on: 0, length: 8, flags: 0 }.alone()]);
    expect(program([Unix], [buffers(2), waits, receive()]), ["ECANCELED", "EFAULT"]);
    expect(program([Unix], [write(3), receive()]), ["ENOBUFS"]);
    expect(program([PipeReader], [roomy(), receive()]), ["ENOTSOCK"]);
}

#[test]
fn control_messages_stand_between_the_head_and_the_message() {
    for room in [0, 20, 24, 48, 80] {
        let receive = || Submit(vec![RecvControlMultishot { on: 0, room }.alone()]);
        let roomy = || Provide { buffers: 3, length: 24 + room };
        let (short, long) = (format!("{}+", 19 + room), format!("{}+", 24 + room));
        let expected = format!("{short} {long} ECANCELED");
        expect(program([Udp], [roomy(), receive(), write(3), write(20)]), [&*expected]);
        expect(program([Datagram], [roomy(), receive(), write(3), write(20)]), [&*expected]);
        expect(program([Unix], [roomy(), receive(), write(3), write(8)]), [&*expected]);
        // A buffer without room for all of it is none.
        let small = Provide { buffers: 3, length: 15 + room };
        expect(program([Udp], [small, write(3), receive()]), ["EFAULT"]);
    }
}

#[test]
fn a_multishot_read_takes_what_comes_to_a_pipe_and_refuses_files() {
    let read = || Submit(vec![ReadMultishot { on: 0 }.alone()]);
    for object in [PipeReader, Unix, Tcp] {
        expect(
            program([object], [buffers(4), read(), write(3), write(12)]),
            ["3+ 8+ 4+ ECANCELED"],
        );
    }
    expect(program([PipeReader], [buffers(4), write(3), read(), PeerCloses { on: 0 }]), ["3+ 0"]);
    // Which is no failure.
    let chain = Submit(vec![ReadMultishot { on: 0 }.soft(), Nop.alone()]);
    expect(program([PipeReader], [buffers(4), chain, PeerCloses { on: 0 }]), ["0", "0"]);
    expect(program([PipeReader], [buffers(1), read(), write(3), write(3)]), ["3+ ENOBUFS"]);
    expect(
        program([PipeReader], [buffers(2), read(), Submit(vec![Cancel { target: 0 }.alone()])]),
        ["ECANCELED", "0"],
    );
    expect(program([File(9)], [buffers(2), read()]), ["EBADFD"]);
    expect(program([Bad], [buffers(2), read()]), ["EBADF"]);
    // Arming without a buffer fails at once, with data or without.
    expect(program([PipeReader], [read()]), ["ENOBUFS"]);
    expect(
        program([PipeReader], [buffers(1), read(), write(3), read()]),
        ["3+ ECANCELED", "ENOBUFS"],
    );
}
