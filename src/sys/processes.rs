//! The end of a child, as a descriptor and as a call that waits. pidfd_open(2), waitid(2).
//!
//! # Safety
//! Every block is a system call without memory, or with a local variable, or takes over a
//! descriptor that the kernel has just made.
#![allow(unsafe_code)]

use std::io;
use std::mem;

use super::descriptor::Descriptor;

/// A descriptor of a process, close-on-exec, which becomes readable when that ends (Linux 5.3).
pub(crate) fn open_process(id: u32) -> io::Result<Descriptor> {
    // SAFETY: the call takes no pointer.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, id, 0) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor and nobody else knows its number.
    Ok(unsafe { Descriptor::of_number(number as i32) })
}

/// Waits until a child has ended, and leaves its status to whoever asks for that.
pub(crate) fn wait_for_child(id: u32) -> io::Result<()> {
    loop {
        // SAFETY: zeroes are a value of this plain structure.
        let mut information: libc::siginfo_t = unsafe { mem::zeroed() };
        let options = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: the structure is a local variable.
        if unsafe { libc::waitid(libc::P_PID, id, &mut information, options) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
