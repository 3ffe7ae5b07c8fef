//! How does the kernel come to know the buffers of a pool, and who forgets them?
//!
//! A runtime has a table of registered memory. A pool takes a place in it for each of its areas, and
//! gives them back when its last share is gone, or with the runtime, whichever ends first.

use std::any::Any;
use std::io;
use std::rc::{Rc, Weak};

use crate::buf::{AlignedBuffer, BufferPool, Registration};
use crate::runtime::{self, Core};

impl BufferPool {
    /// A pool of `count` buffers of `size` bytes, registered with the current runtime if that can be had.
    ///
    /// Otherwise, and outside a runtime, the buffers are plain aligned memory, which does the same at the price of plain memory:
    /// [`is_registered`](BufferPool::is_registered) tells. Who asks a pool of no buffers for one waits for ever.
    ///
    /// # Panics
    /// If `size` does not fit into the address space.
    pub fn new(count: usize, size: usize) -> BufferPool {
        BufferPool::with(count, size, &mut register)
    }

    /// As [`new`](BufferPool::new), for those who rely on the registration.
    ///
    /// # Errors
    /// `OutOfMemory` when the memory would go over `RLIMIT_MEMLOCK`, with the limit and the ways to
    /// raise it; `InvalidInput` when the runtime has 16,384 pools (a GiB of a larger one counts as
    /// one), and for no buffers, empty ones, and ones over 1 GiB; `Unsupported` outside a runtime, on
    /// the software ring, and where there is no such table (before Linux 5.19). Nothing is kept then.
    pub fn registered(count: usize, size: usize) -> io::Result<BufferPool> {
        BufferPool::new(count, size).if_registered()
    }
}

fn register(areas: &mut [AlignedBuffer]) -> io::Result<(Registration, Box<dyn Any>)> {
    let core = runtime::try_current()
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "buffers are registered with a runtime, and there is none here"))?;
    if areas.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a pool without buffers has nothing to register"));
    }
    let first = core.register_buffers(areas)?;
    let entry = Entry { core: Rc::downgrade(&core), first, count: areas.len() };
    Ok((Registration { ring: core.id(), number: first }, Box::new(entry)))
}

/// The places of one pool in a runtime's table.
struct Entry {
    core: Weak<Core>,
    first: u16,
    count: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.forget_buffers(self.first, self.count);
        }
    }
}

/// The number of a buffer's area, if it is registered with the current runtime.
#[inline]
pub(super) fn number_here(registration: Option<Registration>) -> Option<u16> {
    let registration = registration?;
    runtime::is_current(registration.ring).then_some(registration.number)
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::OpenOptionsExt;

    use io_uring::opcode;

    use super::super::file::{ReadAt, ReadExactAt, WriteAllAt, WriteAt};
    use super::super::{Handle, Operation, Resource};
    use super::*;
    use crate::buf::IoBuf;
    use crate::runtime::Builder;

    /// The opcodes of a read, an exact read, a write and a complete write with such a buffer.
    fn opcodes<B: crate::buf::IoBufMut>(file: &Handle, mut buffer: impl FnMut() -> B) -> [u32; 4] {
        let read = ReadAt::new(file, buffer(), 0).entry();
        let exact = ReadExactAt::new(file, buffer(), 0).entry();
        let write = WriteAt::new(file, buffer(), 0).entry();
        let all = WriteAllAt::new(file, buffer(), 0).entry();
        [read, exact, write, all].map(|entry| entry.get_opcode())
    }

    #[test]
    fn a_registration_is_used_for_direct_files_on_its_own_runtime_and_nowhere_else() {
        let open = |flags| std::fs::File::options().read(true).custom_flags(flags).open(env!("CARGO_MANIFEST_DIR"));
        let cached = Resource::of_file(OwnedFd::from(open(0).expect("a directory")).into());
        let direct = match std::fs::File::options().read(true).custom_flags(libc::O_DIRECT).open(file!()) {
            Ok(file) => Resource::of_file(OwnedFd::from(file).into()),
            Err(error) => return println!("skipped: no O_DIRECT here ({error})"),
        };
        let plain = [opcode::Read::CODE, opcode::Read::CODE, opcode::Write::CODE, opcode::Write::CODE].map(u32::from);
        let fixed = [opcode::ReadFixed::CODE, opcode::ReadFixed::CODE, opcode::WriteFixed::CODE, opcode::WriteFixed::CODE].map(u32::from);
        let (own, other) = (Builder::new().build().expect("a ring"), Builder::new().build().expect("a ring"));
        let pool = own.block_on(async {
            let pool = BufferPool::new(4, 4096);
            if let Some(refusal) = pool.refusal() {
                println!("skipped: {refusal}");
                return pool;
            }
            let buffer = || pool.try_acquire().expect("it comes back at once");
            assert_eq!(opcodes(&direct, buffer), fixed);
            assert_eq!(opcodes(&direct, || buffer().slice(..100).slice(..)), fixed, "a part of it");
            assert_eq!(opcodes(&cached, buffer), plain, "a file in the page cache");
            assert_eq!(opcodes(&direct, || vec![0; 4096]), plain, "another buffer");
            pool
        });
        let buffer = || pool.try_acquire().expect("it comes back at once");
        other.block_on(async { assert_eq!(opcodes(&direct, buffer), plain, "another runtime") });
        assert_eq!(opcodes(&direct, buffer), plain, "no runtime");
        drop(own);
        let third = Builder::new().build().expect("a ring");
        third.block_on(async { assert_eq!(opcodes(&direct, buffer), plain, "a runtime that came later") });
    }
}
