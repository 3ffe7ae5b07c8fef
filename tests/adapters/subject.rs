//! What a program of polls works on: one internal face of the three families of traits, and the
//! peer at the other end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The traits by which a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Futures,
    Tokio,
    Hyper,
}

impl Family {
    pub(crate) const ALL: [Family; 3] = [Family::Futures, Family::Tokio, Family::Hyper];
}

/// The reading direction.
pub(crate) trait Reading {
    fn poll_read(
        &mut self,
        family: Family,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>>;

    /// hyper has no such call; with it the one of futures is taken.
    fn poll_fill_buf(
        &mut self,
        family: Family,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<&[u8]>>;

    fn consume(&mut self, family: Family, count: usize);
}

/// The writing direction.
pub(crate) trait Writing {
    fn poll_write(
        &mut self,
        family: Family,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>>;

    fn poll_write_vectored(
        &mut self,
        family: Family,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// What the traits say of it; futures has no word for it, and a yes is taken from tokio.
    fn is_write_vectored(&self, family: Family) -> bool;

    fn poll_flush(&mut self, family: Family, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// `poll_close` of futures, `poll_shutdown` of the others.
    fn poll_shutdown(&mut self, family: Family, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Both directions in one value.
pub(crate) trait Whole: Reading + Writing {
    fn split(self: Box<Self>) -> (Box<dyn Reading>, Box<dyn Writing>);

    /// Takes the stream out of the adapter and puts it into a new one, as an upgrade does.
    fn remake(self: Box<Self>) -> Remade;
}

/// A stream that is taken out of its adapter, which may have to wait for earlier writes.
pub(crate) type Remade = Pin<Box<dyn Future<Output = io::Result<Box<dyn Whole>>>>>;

/// What a program has of the adapter.
pub(crate) enum Subject {
    Whole(Box<dyn Whole>),
    Halves(Option<Box<dyn Reading>>, Option<Box<dyn Writing>>),
}

impl Subject {
    pub(crate) fn reading(&mut self) -> Option<&mut dyn Reading> {
        match self {
            Subject::Whole(whole) => Some(&mut **whole),
            Subject::Halves(reading, _) => reading.as_mut().map(|half| &mut **half as _),
        }
    }

    pub(crate) fn writing(&mut self) -> Option<&mut dyn Writing> {
        match self {
            Subject::Whole(whole) => Some(&mut **whole),
            Subject::Halves(_, writing) => writing.as_mut().map(|half| &mut **half as _),
        }
    }

    /// Nothing is left of it.
    pub(crate) fn gone() -> Subject {
        Subject::Halves(None, None)
    }
}

/// What the other end has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Nothing,
    Bytes(Vec<u8>),
    End,
    Broken,
}

/// The other end of the connection. It never waits.
pub(crate) trait Peer {
    /// Sends as many of the bytes as go.
    fn send(&mut self, bytes: &[u8]) -> usize;
    fn receive(&mut self, most: usize) -> Taken;
    /// Ends its writing direction.
    fn finish(&mut self);
    fn close(&mut self);
    fn reset(&mut self);
}

/// What there is to do with a subject.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Abilities {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    pub(crate) splits: bool,
    pub(crate) resets: bool,
    /// The peer can end its writing direction and go on reading.
    pub(crate) half_closes: bool,
    /// A shutdown comes to the peer, and not only a drop.
    pub(crate) shuts_down: bool,
}

impl Abilities {
    pub(crate) const ALL: Abilities = Abilities {
        reads: true,
        writes: true,
        splits: true,
        resets: true,
        half_closes: true,
        shuts_down: true,
    };
}

/// A type under test, by its own trait impls.
pub(crate) struct Real<T>(pub(crate) T);

/// What stands in a `ReadBuf` before a read: it must stand there afterwards.
const BEFORE: &[u8] = b"before";

impl<T> Reading for Real<T>
where
    T: futures_io::AsyncBufRead + tokio::io::AsyncBufRead + hyper::rt::Read + Unpin,
{
    fn poll_read(
        &mut self,
        family: Family,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let pin = Pin::new(&mut self.0);
        let mut space = vec![0; BEFORE.len() + buffer.len()];
        let (result, filled) = match family {
            Family::Futures => return futures_io::AsyncRead::poll_read(pin, context, buffer),
            Family::Tokio => {
                let mut space = tokio::io::ReadBuf::new(&mut space);
                space.put_slice(BEFORE);
                let result = tokio::io::AsyncRead::poll_read(pin, context, &mut space);
                (result, space.filled().len())
            }
            Family::Hyper => {
                let mut space = hyper::rt::ReadBuf::new(&mut space);
                space.unfilled().put_slice(BEFORE);
                let result = hyper::rt::Read::poll_read(pin, context, space.unfilled());
                (result, space.filled().len())
            }
        };
        assert!(space.starts_with(BEFORE), "a read has changed what was read before");
        let count = filled - BEFORE.len();
        assert!(count == 0 || matches!(result, Poll::Ready(Ok(()))), "{count} bytes, {result:?}");
        buffer[..count].copy_from_slice(&space[BEFORE.len()..filled]);
        result.map_ok(|()| count)
    }

    fn poll_fill_buf(
        &mut self,
        family: Family,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<&[u8]>> {
        let pin = Pin::new(&mut self.0);
        match family {
            Family::Futures | Family::Hyper => {
                futures_io::AsyncBufRead::poll_fill_buf(pin, context)
            }
            Family::Tokio => tokio::io::AsyncBufRead::poll_fill_buf(pin, context),
        }
    }

    fn consume(&mut self, family: Family, count: usize) {
        let pin = Pin::new(&mut self.0);
        match family {
            Family::Futures | Family::Hyper => futures_io::AsyncBufRead::consume(pin, count),
            Family::Tokio => tokio::io::AsyncBufRead::consume(pin, count),
        }
    }
}

impl<T> Writing for Real<T>
where
    T: futures_io::AsyncWrite + tokio::io::AsyncWrite + hyper::rt::Write + Unpin,
{
    fn poll_write(
        &mut self,
        family: Family,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let pin = Pin::new(&mut self.0);
        match family {
            Family::Futures => futures_io::AsyncWrite::poll_write(pin, context, bytes),
            Family::Tokio => tokio::io::AsyncWrite::poll_write(pin, context, bytes),
            Family::Hyper => hyper::rt::Write::poll_write(pin, context, bytes),
        }
    }

    fn poll_write_vectored(
        &mut self,
        family: Family,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let pin = Pin::new(&mut self.0);
        match family {
            Family::Futures => futures_io::AsyncWrite::poll_write_vectored(pin, context, slices),
            Family::Tokio => tokio::io::AsyncWrite::poll_write_vectored(pin, context, slices),
            Family::Hyper => hyper::rt::Write::poll_write_vectored(pin, context, slices),
        }
    }

    fn is_write_vectored(&self, family: Family) -> bool {
        match family {
            Family::Futures | Family::Tokio => tokio::io::AsyncWrite::is_write_vectored(&self.0),
            Family::Hyper => hyper::rt::Write::is_write_vectored(&self.0),
        }
    }

    fn poll_flush(&mut self, family: Family, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pin = Pin::new(&mut self.0);
        match family {
            Family::Futures => futures_io::AsyncWrite::poll_flush(pin, context),
            Family::Tokio => tokio::io::AsyncWrite::poll_flush(pin, context),
            Family::Hyper => hyper::rt::Write::poll_flush(pin, context),
        }
    }

    fn poll_shutdown(&mut self, family: Family, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pin = Pin::new(&mut self.0);
        match family {
            Family::Futures => futures_io::AsyncWrite::poll_close(pin, context),
            Family::Tokio => tokio::io::AsyncWrite::poll_shutdown(pin, context),
            Family::Hyper => hyper::rt::Write::poll_shutdown(pin, context),
        }
    }
}
