//! Memory for what is written, kept from one write to the next: a connection that waits has none.

use std::cell::RefCell;

/// Larger memory is freed, in bytes: it was for bulk, which seldom comes again at once.
const LARGEST: usize = 16 << 10;

/// Most pieces that a thread keeps, so 1 MiB at the most.
const MOST: usize = 64;

thread_local! {
    /// The last is the one that the processor's caches know best.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Memory without bytes, or none.
pub(super) fn take() -> Vec<u8> {
    SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

/// Keeps memory for the next, if there is any and it is not too large.
pub(super) fn give_back(mut memory: Vec<u8>) {
    if memory.capacity() == 0 || memory.capacity() > LARGEST {
        return;
    }
    memory.clear();
    // A thread that ends keeps nothing.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < MOST {
            spare.push(memory);
        }
    });
}
