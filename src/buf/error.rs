//! The error of an operation, with the buffer in it.
//!
//! The kernel's error, unchanged, the buffer, which the caller would otherwise have lost, and how
//! far the operation had come. Why it failed and whether to try again is not known here.

use std::{fmt, io};

/// An [`io::Error`] together with the buffer of the operation that failed.
///
/// `?` works in a function that returns [`io::Result`], and drops the buffer;
/// [`into_buffer`](Error::into_buffer) takes it out instead. The error number is the kernel's. The
/// error is `Send` if the buffer is: where it must be (`anyhow`, `Box<dyn Error + Send + Sync>`)
/// and the buffer is not (an `Rc<[u8]>`, a [`PoolBuffer`](crate::buf::PoolBuffer)), write
/// `map_err(io::Error::from)?`.
///
/// ```
/// use annulus::buf::Error;
/// use std::io;
///
/// fn write_all(buffer: Vec<u8>) -> Result<Vec<u8>, Error<Vec<u8>>> {
///     Err(Error::new(io::ErrorKind::BrokenPipe.into(), buffer).with_transferred(3))
/// }
///
/// fn ignore_the_buffer() -> io::Result<()> {
///     write_all(b"hello".to_vec())?;
///     Ok(())
/// }
///
/// let error = write_all(b"hello".to_vec()).unwrap_err();
/// assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
/// assert_eq!(&error.buffer()[error.transferred()..], b"lo");
/// let buffer = error.into_buffer();
/// assert_eq!(buffer, b"hello");
/// assert_eq!(ignore_the_buffer().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
/// ```
pub struct Error<B> {
    error: io::Error,
    buffer: B,
    transferred: usize,
}

impl<B> Error<B> {
    /// An operation on `buffer` that failed before it moved anything.
    pub fn new(error: io::Error, buffer: B) -> Self {
        Error { error, buffer, transferred: 0 }
    }

    /// Says how many bytes were moved before the error.
    #[must_use]
    pub fn with_transferred(mut self, transferred: usize) -> Self {
        self.transferred = transferred;
        self
    }

    /// How many bytes were moved before the error.
    ///
    /// Above zero only for operations made of several, such as `write_all` and `read_exact`. The
    /// count is relative to the start of the buffer.
    pub fn transferred(&self) -> usize {
        self.transferred
    }

    /// The kind of the error.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }

    /// The kernel's error number, if the error came from there.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.error.raw_os_error()
    }

    /// The error without the buffer.
    pub fn get_ref(&self) -> &io::Error {
        &self.error
    }

    /// The buffer that was given to the operation.
    pub fn buffer(&self) -> &B {
        &self.buffer
    }

    /// Takes the buffer back and drops the error.
    pub fn into_buffer(self) -> B {
        self.buffer
    }

    /// Takes both apart.
    pub fn into_parts(self) -> (io::Error, B) {
        (self.error, self.buffer)
    }

    /// Changes the buffer and leaves the rest: `error.map(Slice::into_inner)`.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Error<C> {
        Error { error: self.error, buffer: change(self.buffer), transferred: self.transferred }
    }
}

/// Leaves the buffer out: its bytes are of no use in a panic message, may be many, and may be
/// secret.
impl<B> fmt::Debug for Error<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("error", &self.error)
            .field("transferred", &self.transferred)
            .finish_non_exhaustive()
    }
}

impl<B> fmt::Display for Error<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// Stands in for the [`io::Error`], whose message it shows: the source is therefore that error's
/// source, lest a report say everything twice.
impl<B> std::error::Error for Error<B> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<B> From<Error<B>> for io::Error {
    fn from(error: Error<B>) -> io::Error {
        error.error
    }
}
