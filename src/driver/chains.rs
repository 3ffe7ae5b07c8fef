//! Chains: operations whose entries are pushed together, of which each starts when the one before
//! it has done all that it asked for.
//!
//! A chain that a submission splits is two chains. So it is pushed whole, or waits whole in the
//! backlog, in its place among the others.
//!
//! # Safety
//! As in `driver.rs`: each entry of a chain has a slot of its own, which stands for its memory.
#![allow(unsafe_code)]

use std::mem;
use std::task::Waker;

use io_uring::squeue;

use super::{Driver, SlotState, Token};
use crate::ring::request::is_linked;

impl Driver {
    /// Most entries of a chain. 1: this ring links nothing.
    pub(crate) fn longest_chain(&self) -> usize {
        self.longest_chain
    }

    /// Queues a chain for the next turn, and gives each operation its waker and, by the entry, its
    /// token. [`check`](Driver::check) has found nothing against any of them, and there are no more
    /// than [`longest_chain`](Driver::longest_chain).
    ///
    /// # Safety
    /// As [`start`](Driver::start), for each of the tokens.
    pub(crate) unsafe fn start_chain(&mut self, chain: &mut [squeue::Entry], wakers: Vec<Waker>) {
        assert!(chain.len() == wakers.len() && chain.len() <= self.longest_chain.max(1));
        let last = chain.len().saturating_sub(1);
        for ((place, entry), waker) in chain.iter_mut().enumerate().zip(wakers) {
            let token = self.occupy(|| SlotState::Waiting(waker));
            entry.set_user_data(token.to_bits());
            if place < last {
                *entry = entry.clone().flags(squeue::Flags::IO_LINK);
            }
        }
        if !self.backlog.is_empty() || !self.try_push(chain) {
            self.backlog.extend(chain.iter().cloned());
        }
    }

    /// Pushes what waits, chain by chain, as far as there is room.
    #[cold]
    pub(super) fn push_some_of_backlog(&mut self) {
        let mut backlog = mem::take(&mut self.backlog);
        while !backlog.is_empty() {
            let length = 1 + backlog.iter().take_while(|entry| is_linked(entry)).count();
            if backlog.as_slices().0.len() < length {
                backlog.make_contiguous();
            }
            if !self.try_push(&backlog.as_slices().0[..length]) {
                break;
            }
            backlog.drain(..length);
        }
        self.backlog = backlog;
    }

    /// The result of an operation that has ended, whose completion nobody has taken.
    pub(crate) fn result(&self, token: Token) -> Option<i32> {
        match self.slots.get(token)?.state {
            SlotState::Finished { result, .. } => Some(result),
            _ => None,
        }
    }
}
