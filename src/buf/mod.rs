//! Buffers: what can be given to the kernel to read from or write to.
//!
//! An operation owns its buffer from submission to completion, because the kernel works on the
//! memory while no Rust code runs, and gives it back with the result: `Ok((count, buffer))`, or an
//! [`Error`] that carries the buffer too. These are the traits which a buffer needs for that, for
//! the usual owners of bytes; several at once ([`IoBufs`]); views of a part ([`Slice`]); memory
//! aligned for `O_DIRECT` ([`AlignedBuffer`]), and pools of it that the kernel knows already
//! ([`BufferPool`]). This module knows no operation and no ring.
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

// The traits live in a file of their own, since an `allow(unsafe_code)` here would also reach the
// modules below.
mod aligned;
mod buffer_pool;
mod buffer_ring;
mod chunk;
mod chunk_arena;
mod chunk_pool;
mod error;
mod io_buf;
mod io_bufs;
mod mapping;
mod parts;
mod slice;

pub use aligned::AlignedBuffer;
pub use buffer_pool::{Acquire, BufferPool, PoolBuffer};
pub(crate) use buffer_ring::{BufferEntry, BufferRing};
pub use chunk::Chunk;
pub(crate) use chunk::MOST_BYTES;
pub(crate) use chunk_pool::{ChunkPool, ChunkPoolConfig};
pub use error::Error;
pub(crate) use io_buf::Registration;
pub use io_buf::{IoBuf, IoBufMut};
pub use io_bufs::IoBufs;
pub(crate) use parts::{Part, SharedPart, VecInParts};
pub use slice::Slice;
