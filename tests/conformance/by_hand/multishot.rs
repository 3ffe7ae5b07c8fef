//! io_uring_multishot(7): one entry, many completions.

use super::expect;
use crate::program::Op::*;
use crate::program::Step::*;
use crate::program::*;

#[test]
fn a_multishot_accept_takes_connections_until_it_is_cancelled() {
    let accept = || Submit(vec![Accept { on: 0, multishot: true }.alone()]);
    expect(
        program(
            [Listener],
            [
                PeerConnects { on: 0 },
                PeerConnects { on: 0 },
                accept(),
                PeerConnects { on: 0 },
                Submit(vec![Cancel { target: 0 }.alone()]),
                PeerConnects { on: 0 },
                Submit(vec![Accept { on: 0, multishot: false }.alone()]),
            ],
        ),
        ["fd+ fd+ fd+ ECANCELED", "0", "fd"],
    );
    expect(program([Unix], [Submit(vec![Accept { on: 0, multishot: true }.alone()])]), ["EINVAL"]);
    expect(program([Bad], [Submit(vec![Accept { on: 0, multishot: true }.alone()])]), ["EBADF"]);
}

#[test]
fn a_multishot_poll_tells_each_event() {
    expect(
        program(
            [Unix],
            [
                Submit(vec![Poll { on: 0, mask: libc::POLLIN, multishot: true }.alone()]),
                PeerWrites { on: 0, length: 1 },
                PeerWrites { on: 0, length: 1 },
                Submit(vec![Cancel { target: 0 }.alone()]),
            ],
        ),
        ["1+ 1+ ECANCELED", "0"],
    );
}

#[test]
fn a_multishot_poll_of_what_is_ready_tells_so_at_once() {
    expect(
        program(
            [Unix],
            [
                PeerWrites { on: 0, length: 1 },
                Submit(vec![Poll { on: 0, mask: libc::POLLIN, multishot: true }.alone()]),
                PeerWrites { on: 0, length: 1 },
            ],
        ),
        ["1+ 1+ ECANCELED"],
    );
}
