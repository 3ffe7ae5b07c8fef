//! Where a file stands, for the operations that read and write there: what they name, and what
//! moves the position.
//!
//! They take turns in the outbound lane, reads too, since all of them move the same position. A
//! file without positions has the kernel's order, and there reads keep to the inbound lane.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;

use super::handle::Handle;
use super::kept::{Direction, Manner};
use super::position::Stand;
use super::turns::Turn;
use crate::sys::{self, Whence};

/// To the kernel: wherever the file stands.
pub(crate) const WHERE_IT_STANDS: u64 = u64::MAX;

impl Handle {
    #[inline]
    fn stand(&self) -> Stand {
        if self.is_stream() {
            return Stand::Nowhere;
        }
        match self.position().get() {
            Stand::Unasked | Stand::Appended if !self.is_given_up() => {
                self.position().find_out(self.as_fd())
            }
            stand => stand,
        }
    }

    /// Has it no positions, so that it is read and written in the order of its bytes?
    #[inline]
    pub(crate) fn has_one_order(&self) -> bool {
        self.stand() == Stand::Nowhere
    }

    /// Where a read goes of which `done` bytes are through.
    #[inline]
    pub(crate) fn offset_of_read(&self, done: usize) -> u64 {
        match self.stand() {
            Stand::Here { at, .. } => at.saturating_add(done as u64),
            _ => WHERE_IT_STANDS,
        }
    }

    /// Where a write goes.
    #[inline]
    pub(crate) fn offset_of_write(&self) -> u64 {
        match self.stand() {
            Stand::Here { at, appends: false } => at,
            _ => WHERE_IT_STANDS,
        }
    }

    /// Moves the position behind what a read hands over.
    #[inline]
    pub(crate) fn move_behind_read(&self, count: usize) {
        if !self.is_stream()
            && let Stand::Here { at, appends } = self.position().get()
        {
            self.position().set(Stand::Here { at: at + count as u64, appends });
        }
    }

    /// Moves the position behind what was written, whether anybody waits for it or not.
    #[inline]
    pub(crate) fn move_behind_write(&self, count: usize) {
        if self.is_stream() {
            return;
        }
        match self.position().get() {
            Stand::Here { at, appends: false } => {
                self.position().set(Stand::Here { at: at + count as u64, appends: false });
            }
            Stand::Here { appends: true, .. } if count > 0 => {
                self.position().set(Stand::Appended);
            }
            _ => {}
        }
    }

    /// Waits until nothing that moves the position is under way. Until the turn is dropped nothing
    /// else moves it.
    pub(crate) async fn turn_at_position(&self) -> Turn {
        let mut turn = Turn::new(self, Direction::Outbound, Manner::Alone);
        poll_fn(|context| turn.poll(context)).await;
        turn
    }

    /// Where it stands; `ESPIPE` of a file without positions.
    pub(crate) fn stream_position(&self) -> io::Result<u64> {
        match self.stand() {
            Stand::Here { at, .. } => Ok(at),
            _ => Err(io::Error::from_raw_os_error(libc::ESPIPE)),
        }
    }

    /// Makes it stand elsewhere, and says where: the file may refuse.
    pub(crate) fn stand_at(&self, offset: i64, whence: Whence) -> io::Result<u64> {
        // Asked for the error of a file without positions, and whether it appends.
        self.stream_position()?;
        let at = sys::seek(self.as_fd(), offset, whence)?;
        if let Stand::Here { appends, .. } = self.stand() {
            self.position().set(Stand::Here { at, appends });
        }
        Ok(at)
    }

    /// Lets the kernel know where it stands. The next that asks takes it over again.
    pub(crate) fn give_position_back(&self) {
        if !self.is_stream() {
            self.position().give_back(self.as_fd());
        }
    }
}
