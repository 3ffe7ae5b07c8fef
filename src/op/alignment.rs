//! Why a transfer around the page cache was refused: what did not fit the device, and what would.

use std::error;
use std::fmt;
use std::io;
use std::os::fd::AsFd;

use crate::inflight::Handle;
use crate::sys;

/// What every block device asks for at least, in bytes, where the kernel does not say more.
const SECTOR: u32 = 512;

/// An error with the sentence that the kernel's number leaves out.
#[derive(Debug)]
struct Misfit {
    sentence: String,
    error: io::Error,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl error::Error for Misfit {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Says what of a transfer did not fit, if that was why it failed.
#[cold]
pub(super) fn explain(
    error: io::Error,
    file: &Handle,
    memory: &[libc::iovec],
    offset: u64,
) -> io::Error {
    let is_of_nobody = file.is_given_up();
    if error.raw_os_error() != Some(libc::EINVAL) || is_of_nobody || !file.is_direct() {
        return error;
    }
    let known = sys::alignment_of_direct_transfers(file.as_fd());
    let (of_memory, of_offset) = known.unwrap_or((SECTOR, SECTOR));
    let fits = |number: u64, alignment: u32| number.is_multiple_of(alignment.into());
    let misfit = memory.iter().find_map(|part| {
        let (address, length) = (part.iov_base.addr() as u64, part.iov_len as u64);
        if !fits(length, of_offset) {
            Some(format!("length {length}"))
        } else if !fits(address, of_memory) {
            Some(format!("address {address:#x}"))
        } else {
            None
        }
    });
    // An offset that was not named is that of the file's end.
    let misplaced = (offset != u64::MAX && !fits(offset, of_offset)).then_some(offset);
    let Some(what) = misplaced.map(|offset| format!("offset {offset}")).or(misfit) else {
        return error;
    };
    let at_least = if known.is_some() { "" } else { "at least " };
    let sentence = format!(
        "a file opened with O_DIRECT takes offsets and lengths that are a multiple of \
         {at_least}{of_offset} bytes, and buffers whose address is one of {at_least}{of_memory}: \
         {what} is not"
    );
    io::Error::new(io::ErrorKind::InvalidInput, Misfit { sentence, error })
}
