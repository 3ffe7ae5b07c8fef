//! Buffers that notice what happens to them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Mutex;

use annulus::buf::{IoBuf, IoBufMut};

/// What a dropped buffer is filled with.
const DEAD: u8 = 0xdd;

/// Hands out buffers and sees to it that each comes back once, and that nobody writes to it
/// afterwards: dropped buffers are not freed but filled with a pattern and kept. (A sanitizer does
/// not see the kernel write.)
#[derive(Clone, Default)]
pub(crate) struct Pool(Rc<Books>);

#[derive(Default)]
struct Books {
    live: Cell<usize>,
    dead: RefCell<Vec<Box<[u8]>>>,
}

impl Pool {
    /// An empty buffer with this capacity.
    pub(crate) fn empty(&self, capacity: usize) -> Tracked {
        self.track(vec![0xa5; capacity].into_boxed_slice(), 0)
    }

    /// A buffer that holds these bytes.
    pub(crate) fn filled(&self, bytes: impl Into<Vec<u8>>) -> Tracked {
        let bytes = bytes.into().into_boxed_slice();
        let len = bytes.len();
        self.track(bytes, len)
    }

    fn track(&self, bytes: Box<[u8]>, len: usize) -> Tracked {
        self.0.live.set(self.0.live.get() + 1);
        Tracked { bytes, len, pool: self.clone() }
    }

    /// Buffers that have not been dropped.
    pub(crate) fn live(&self) -> usize {
        self.0.live.get()
    }

    /// All buffers are back, and nobody wrote to them since.
    #[track_caller]
    pub(crate) fn assert_all_back(&self) {
        assert_eq!(self.live(), 0, "buffers are missing");
        self.assert_untouched();
    }

    /// Nobody wrote to a buffer after it was dropped.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        for bytes in &*self.0.dead.borrow() {
            assert!(bytes.iter().all(|&byte| byte == DEAD), "a buffer was written after its drop");
        }
    }
}

/// A buffer of a [`Pool`]. All its bytes are initialised, so its length may be set to anything up
/// to the capacity.
pub(crate) struct Tracked {
    bytes: Box<[u8]>,
    len: usize,
    pool: Pool,
}

impl std::fmt::Debug for Tracked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tracked({} of {} bytes)", self.len, self.bytes.len())
    }
}

impl std::ops::Deref for Tracked {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.fill(DEAD);
        self.pool.0.live.set(self.pool.0.live.get() - 1);
        self.pool.0.dead.borrow_mut().push(bytes);
    }
}

// SAFETY: the bytes lie in a box of their own, which only the drop touches.
unsafe impl IoBuf for Tracked {
    fn as_init_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    fn init_len(&self) -> usize {
        self.len
    }
}

// SAFETY: as above, and the box is the only owner of its bytes.
unsafe impl IoBufMut for Tracked {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }

    unsafe fn set_init_len(&mut self, len: usize) {
        assert!(len <= self.bytes.len());
        self.len = len;
    }
}

/// Forgets a value in a way that a leak detector takes for owned.
pub(crate) fn forget<T: 'static>(value: T) {
    static FORGOTTEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let address = Box::into_raw(Box::new(value)).expose_provenance();
    FORGOTTEN.lock().expect("no panic under the lock").push(address);
}
