//! What can be given to the kernel to read from or write to?
//!
//! An operation owns its buffer from submission to completion, because the kernel works on the memory while no Rust code runs, and gives it back
//! with the result: `Ok((count, buffer))`, or an [`Error`] that carries the buffer too. These are the traits which a buffer needs for that, for the
//! usual owners of bytes; several at once ([`IoBufs`]); views of a part ([`Slice`]); memory aligned for `O_DIRECT` ([`AlignedBuffer`]), and
//! pools of it that the kernel knows already ([`BufferPool`]). This module knows no operation and no ring.
//!
//! ```
//! use annulus::buf::{IoBuf, IoBufMut};
//!
//! let buffer = b"hello, world".to_vec();
//! let part = buffer.slice(7..);               // a view that owns the whole
//! assert_eq!(&part[..], b"world");
//! let buffer = part.into_inner();
//! assert_eq!(buffer.len(), 12);
//! let _append = buffer.spare();               // reading into this one appends
//! ```

// The traits live in a file of their own, since an `allow(unsafe_code)` here would also reach the modules below.
mod aligned;
mod arena;
mod buffer_pool;
mod chunk;
mod error;
mod io_buf;
mod io_bufs;
mod mapping;
mod pool;
mod ring;
mod slice;

pub use aligned::AlignedBuffer;
pub(crate) use buffer_pool::Registration;
pub use buffer_pool::{Acquire, BufferPool, PoolBuffer};
pub use chunk::Chunk;
pub use error::Error;
pub use io_buf::{IoBuf, IoBufMut};
pub use io_bufs::IoBufs;
pub(crate) use pool::{Pool, PoolConfig, PoolCounts};
pub(crate) use ring::{BufferEntry, BufferRing};
pub use slice::Slice;
