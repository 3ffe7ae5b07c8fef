//! A network of one's own: interfaces and addresses that nobody else has.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::process::Command;

/// Gives this thread, and what it starts from now on, a network of its own: the loopback, and
/// `left` with 10.9.8.7 and fd09::7, which a cable connects to `right`. `false`: this machine does
/// not grant that, which is printed. Only for children.
pub(crate) fn own_network() -> bool {
    // SAFETY: the call takes no memory.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        println!("skipped: no network of its own ({})", io::Error::last_os_error());
        return false;
    }
    for arguments in [
        "link set lo up",
        "link add left type veth peer name right",
        "addr add 10.9.8.7/24 dev left",
        "addr add fd09::7/64 dev left nodad",
        "link set left up",
        "link set right up",
    ] {
        match Command::new("ip").args(arguments.split(' ')).status() {
            Ok(status) if status.success() => {}
            other => {
                println!("skipped: `ip {arguments}` ended with {other:?}");
                return false;
            }
        }
    }
    await_routes();
    true
}

/// The kernel sets up IPv6 when it has noticed that both ends of the cable are up, a little later.
fn await_routes() {
    let group = "ff02::789".parse::<Ipv6Addr>().expect("an address");
    let to = SocketAddrV6::new(group, 9, 0, interface("left"));
    let probe = || UdpSocket::bind(("fd09::7", 0)).and_then(|socket| socket.connect(to));
    while let Err(error) = probe() {
        // Whoever waits for ever is ended by the watchdog.
        assert_ne!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        std::thread::yield_now();
    }
}

/// The number of an interface.
pub(crate) fn interface(name: &str) -> u32 {
    let name = std::ffi::CString::new(name).expect("no zero");
    // SAFETY: the name outlives the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}
