//! A pool of buffers that the kernel knows already, and who waits when all are out.
//!
//! The kernel pins the memory of a registered buffer once instead of at each operation. Registering
//! is the runtime's affair; this file hands buffers out, takes them back, and keeps them as long as
//! anybody has one.
//!
//! # Safety
//! A pool owns one area of memory, or several where there is much, and its buffers are parts of it
//! that do not overlap. A buffer that is out has a share in the pool, and its part is not exchanged
//! for another. The areas are freed when the last buffer and the last share of the pool are gone,
//! after their registration.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::aligned::page_size;
use super::io_buf::Registration;
use super::{AlignedBuffer, IoBuf, IoBufMut};

/// A pool of page-aligned buffers for files, registered with the runtime that it was made on.
///
/// The kernel pins registered memory once and not at each operation, which is what makes reads and
/// writes of files opened with `O_DIRECT` cheaper (see [`is_registered`](BufferPool::is_registered)
/// for the rest). The operations choose by themselves: a pool buffer can be given to any of them,
/// on any runtime of this thread.
///
/// Cloning makes another handle of the same pool. Its memory is freed when all handles and all
/// buffers are gone, which may be after the runtime has ended.
///
/// ```
/// use annulus::{buf::BufferPool, fs::File};
///
/// # annulus::block_on(async {
/// let pool = BufferPool::new(8, 4096);
/// let file = File::open("Cargo.toml").await?;
/// let buffer = pool.acquire().await;             // waits if all are out
/// let (count, buffer) = file.read_at(buffer, 0).await?;
/// assert!(buffer[..count].starts_with(b"[package]"));
/// drop(buffer);                                  // goes back to the pool
/// assert_eq!(pool.available(), 8);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # `O_DIRECT`
/// Such a file is read and written in whole blocks: offset and length are multiples of the device's
/// block size (512 or 4096 bytes), and anything else is refused with `EINVAL`, as the opening is by
/// a file system that does not know `O_DIRECT`. The length is that of the buffer:
/// [`resize`](PoolBuffer::resize) fills up the last block of a write, and
/// [`set_len`](crate::fs::File::set_len) cuts the file afterwards. A read that meets the end of the
/// file is short.
///
/// ```no_run
/// use annulus::{buf::BufferPool, fs::File};
///
/// # annulus::block_on(async {
/// let pool = BufferPool::new(64, 64 * 1024);
/// if let Some(refusal) = pool.refusal() {
///     eprintln!("slower than it could be: {refusal}"); // RLIMIT_MEMLOCK, for example
/// }
/// let file = File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open("data").await?;
/// let mut buffer = pool.acquire().await;
/// buffer.extend_from_slice(b"a record");
/// buffer.resize(4096, 0);
/// let buffer = file.write_all_at(buffer, 0).await?;
/// let (count, buffer) = file.read_at(buffer, 0).await?; // up to 64 KiB of it
/// # let _ = (count, buffer);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct BufferPool {
    shared: Rc<SharedPool>,
}

struct SharedPool {
    /// What undoes the registration, before the memory below is freed; or why there is none.
    registered: Result<Box<dyn Any>, io::Error>,
    books: RefCell<Books>,
    /// The memory of all buffers.
    _areas: Vec<AlignedBuffer>,
    count: usize,
    size: usize,
}

/// Nobody waits while a buffer is free.
struct Books {
    /// In boxes, so that what is moved along with an operation is small.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Numbered>>,
    /// Who waits, in order.
    queue: VecDeque<(u64, Waker)>,
    /// Buffers that came back for those who have waited longest, by their tickets.
    #[allow(clippy::vec_box)]
    granted: Vec<(u64, Box<Numbered>)>,
    last_ticket: u64,
}

/// A buffer, and where its area is registered.
struct Numbered {
    buffer: ManuallyDrop<AlignedBuffer>,
    registration: Option<Registration>,
}

/// The largest area: the kernel registers no larger one.
const LARGEST_AREA: usize = 1 << 30;

/// Tries to register areas, and returns where the first is, the others behind it, and what undoes
/// it.
pub(crate) type Register<'r> =
    dyn FnMut(&mut [AlignedBuffer]) -> io::Result<(Registration, Box<dyn Any>)> + 'r;

impl BufferPool {
    pub(crate) fn with(count: usize, size: usize, register: &mut Register<'_>) -> BufferPool {
        // As few areas as can be: the kernel finds its way about one of them faster than about
        // many.
        let stride = size
            .checked_next_multiple_of(page_size())
            .expect("a buffer fits into the address space");
        let buffers_per_area = LARGEST_AREA.checked_div(stride).unwrap_or(count).max(1);
        let area = |first| {
            AlignedBuffer::with_page_alignment(stride * buffers_per_area.min(count - first))
        };
        let mut areas: Vec<AlignedBuffer> =
            (0..count).step_by(buffers_per_area).map(area).collect();
        let (first, registered) = match register(&mut areas) {
            Ok((first, undo)) => (Some(first), Ok(undo)),
            Err(error) => (None, Err(error)),
        };
        let number =
            |area| first.map(|first| Registration { number: first.number + area as u16, ..first });
        let numbered = |index: usize| {
            let (area, place) = (index / buffers_per_area, index % buffers_per_area);
            // SAFETY: the areas go with the pool's last share, and each of its buffers has one. The
            // parts do not overlap, and nobody uses the areas themselves.
            let buffer = unsafe { areas[area].part(place * stride, size) };
            Box::new(Numbered { buffer, registration: number(area) })
        };
        let free = (0..count).map(numbered).collect();
        let books = RefCell::new(Books {
            free,
            queue: VecDeque::new(),
            granted: Vec::new(),
            last_ticket: 0,
        });
        BufferPool { shared: Rc::new(SharedPool { registered, books, _areas: areas, count, size }) }
    }

    /// A pool of plain aligned memory.
    pub(crate) fn unregistered(count: usize, size: usize) -> BufferPool {
        BufferPool::with(count, size, &mut |_| {
            Err(io::Error::new(io::ErrorKind::Unsupported, "nobody has asked for a registration"))
        })
    }

    /// Waits for a buffer, which comes empty. Those who wait are served in order.
    ///
    /// Dropping the future gives the place in the queue up, and loses no buffer.
    pub fn acquire(&self) -> Acquire<'_> {
        Acquire { pool: self, ticket: None }
    }

    /// A buffer, empty, if one is free.
    pub fn try_acquire(&self) -> Option<PoolBuffer> {
        let numbered = self.shared.books.borrow_mut().free.pop()?;
        Some(PoolBuffer::new(numbered, &self.shared))
    }

    /// How many buffers are free now.
    pub fn available(&self) -> usize {
        self.shared.books.borrow().free.len()
    }

    /// How many buffers there are, free or not.
    pub fn count(&self) -> usize {
        self.shared.count
    }

    /// The capacity of each buffer.
    pub fn buffer_size(&self) -> usize {
        self.shared.size
    }

    /// Does the kernel know these buffers? If not they are plain aligned memory, and
    /// [`refusal`](BufferPool::refusal) says why.
    ///
    /// Operations use the registration for files opened with `O_DIRECT` on the runtime that the
    /// pool was made on. Elsewhere it would not make them cheaper: reads through the page cache are
    /// copied faster into plain memory.
    pub fn is_registered(&self) -> bool {
        self.shared.registered.is_ok()
    }

    /// Why the buffers are not registered: no locked memory left (`RLIMIT_MEMLOCK`), the runtime's
    /// table full, a kernel that has none (before 5.19), no runtime.
    pub fn refusal(&self) -> Option<&io::Error> {
        self.shared.registered.as_ref().err()
    }

    /// A new pool, if it is registered.
    pub(crate) fn if_registered(self) -> io::Result<BufferPool> {
        if self.is_registered() {
            return Ok(self);
        }
        let shared = Rc::into_inner(self.shared).expect("a new pool has one handle");
        Err(shared.registered.expect_err("it is not registered"))
    }
}

impl SharedPool {
    /// Gives a buffer to who has waited longest, or keeps it.
    fn give_back(&self, numbered: Box<Numbered>) {
        let mut books = self.books.borrow_mut();
        let Some((ticket, waker)) = books.queue.pop_front() else {
            return books.free.push(numbered);
        };
        books.granted.push((ticket, numbered));
        drop(books);
        waker.wake();
    }
}

/// The future of [`BufferPool::acquire`].
#[must_use = "nobody waits for a buffer until this is awaited"]
pub struct Acquire<'p> {
    pool: &'p BufferPool,
    /// In the queue, or served.
    ticket: Option<u64>,
}

impl Books {
    fn take_granted(&mut self, ticket: u64) -> Option<Box<Numbered>> {
        let place = self.granted.iter().position(|(granted, _)| *granted == ticket)?;
        Some(self.granted.swap_remove(place).1)
    }
}

impl Future for Acquire<'_> {
    type Output = PoolBuffer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<PoolBuffer> {
        // Before the look, since it is user code, which may change what there is to see.
        let mut waker = context.waker().clone();
        let shared = &self.pool.shared;
        let mut guard = shared.books.borrow_mut();
        let books = &mut *guard;
        let found = match self.ticket {
            None => books.free.pop(),
            Some(ticket) => books.take_granted(ticket),
        };
        if let Some(numbered) = found {
            drop(guard);
            let buffer = PoolBuffer::new(numbered, shared);
            self.ticket = None;
            return Poll::Ready(buffer);
        }
        let place = books.queue.iter_mut().find(|(ticket, _)| Some(*ticket) == self.ticket);
        let ticket = match place {
            Some((ticket, before)) => {
                std::mem::swap(before, &mut waker);
                *ticket
            }
            None => {
                books.last_ticket += 1;
                let waker = std::mem::replace(&mut waker, Waker::noop().clone());
                books.queue.push_back((books.last_ticket, waker));
                books.last_ticket
            }
        };
        drop(guard);
        self.ticket = Some(ticket);
        drop(waker);
        Poll::Pending
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let shared = &self.pool.shared;
        let mut books = shared.books.borrow_mut();
        let granted = books.take_granted(ticket);
        let place = books.queue.iter().position(|(waiting, _)| *waiting == ticket);
        let waiting = place.and_then(|place| books.queue.remove(place));
        drop(books);
        drop(waiting);
        if let Some(numbered) = granted {
            shared.give_back(numbered);
        }
    }
}

impl fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("is_waiting", &self.ticket.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("available", &self.available())
            .field("count", &self.count())
            .field("buffer_size", &self.buffer_size())
            .field("is_registered", &self.is_registered())
            .finish()
    }
}

/// A buffer of a [`BufferPool`], page-aligned and with a fixed capacity, which goes back when it is
/// dropped.
///
/// It has a length like a `Vec`, but never grows. It comes empty; a read may use its whole
/// capacity. It stays on the thread of its pool, and so does an [`Error`](crate::Error) that
/// carries it.
pub struct PoolBuffer {
    /// `None` only within `drop`.
    numbered: Option<Box<Numbered>>,
    pool: Rc<SharedPool>,
}

impl PoolBuffer {
    fn new(mut numbered: Box<Numbered>, pool: &Rc<SharedPool>) -> PoolBuffer {
        numbered.buffer.clear();
        PoolBuffer { numbered: Some(numbered), pool: Rc::clone(pool) }
    }

    fn numbered(&self) -> &Numbered {
        self.numbered.as_ref().expect("a pool buffer has its memory until it is dropped")
    }

    /// Not to be had from outside, since the memory must not be exchanged.
    fn buffer_mut(&mut self) -> &mut AlignedBuffer {
        &mut self
            .numbered
            .as_mut()
            .expect("a pool buffer has its memory until it is dropped")
            .buffer
    }

    /// How many bytes fit.
    pub fn capacity(&self) -> usize {
        self.numbered().buffer.capacity()
    }

    /// Sets the length to zero.
    pub fn clear(&mut self) {
        self.buffer_mut().clear();
    }

    /// Shortens to `len`; does nothing if the buffer is not longer.
    pub fn truncate(&mut self, len: usize) {
        self.buffer_mut().truncate(len);
    }

    /// Shortens or lengthens to `len`, with `value` in new bytes.
    ///
    /// # Panics
    /// If `len` is above the capacity: the buffer does not grow.
    pub fn resize(&mut self, len: usize, value: u8) {
        self.buffer_mut().resize(len, value);
    }

    /// Appends `bytes`.
    ///
    /// # Panics
    /// If they do not fit: the buffer does not grow.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.buffer_mut().extend_from_slice(bytes);
    }
}

impl Drop for PoolBuffer {
    fn drop(&mut self) {
        if let Some(numbered) = self.numbered.take() {
            self.pool.give_back(numbered);
        }
    }
}

// SAFETY: the value owns the aligned buffer, which keeps the promise, and nobody exchanges it
// before the value is dropped.
unsafe impl IoBuf for PoolBuffer {
    fn as_init_ptr(&self) -> *const u8 {
        self.numbered().buffer.as_init_ptr()
    }

    fn init_len(&self) -> usize {
        self.numbered().buffer.init_len()
    }

    fn registration(&self) -> Option<Registration> {
        self.numbered().registration
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for PoolBuffer {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.buffer_mut().as_mut_ptr()
    }

    fn capacity(&self) -> usize {
        self.numbered().buffer.capacity()
    }

    unsafe fn set_init_len(&mut self, len: usize) {
        // SAFETY: the caller promises it of this value's bytes, which are the aligned buffer's.
        unsafe { self.buffer_mut().set_init_len(len) }
    }
}

impl Deref for PoolBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.numbered().buffer
    }
}

impl DerefMut for PoolBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.buffer_mut()
    }
}

impl AsRef<[u8]> for PoolBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for PoolBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Leaves the bytes out: they may be many, and may be secret.
impl fmt::Debug for PoolBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuffer")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
