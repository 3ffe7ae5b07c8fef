//! A network of one's own: interfaces and addresses that nobody else has.

use std::io;
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
    true
}

/// The number of an interface.
pub(crate) fn interface(name: &str) -> u32 {
    let name = std::ffi::CString::new(name).expect("no zero");
    // SAFETY: the name outlives the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}
