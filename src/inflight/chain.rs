//! A chain: operations of which each starts when the one before it has done all that was asked of
//! it, in one submission where the ring links them.
//!
//! A chain goes in rounds. A round is a run of members whose entries are pushed together, and which
//! have their turns at once. It ends before a member that would have to wait for its turn, and
//! behind one that may not be followed: it needs more than one entry, or the ring would start the
//! next one although it has failed. So no member waits for a lane while another of its chain
//! keeps one, and two chains never wait for each other. Where the ring links nothing, each round
//! has one member.
//!
//! The results of a round are looked at when all of it has ended. What the kernel has cancelled
//! behind a member that goes on (a short write of `write_all`, an interruption) runs in the next
//! round. Each member has its own slot, so a cancel, a drop and the end of the runtime are those of
//! single operations.
//!
//! # Safety
//! Entries of members are pushed as the future of one operation pushes its own: what they name
//! belongs to the operations, which stay in the members or go to their slots when those are
//! dropped.
#![allow(unsafe_code)]
// Users cannot call what names the members.
#![allow(private_interfaces, private_bounds)]

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use io_uring::squeue;

use super::deadline::{Cancel, Cancellable, Deadline, Expire};
use super::future::Op;
use super::kept::Manner;
use super::linked::{Link, Linked, Member, Part, Place};
use crate::driver::Token;
use crate::exec::share;
use crate::runtime::{Core, Timer, current};

/// Operations one after the other, as one future: made by [`Op::then`].
///
/// Each member starts when the one before it has done **all** that was asked of it. An error or a
/// short transfer ends the rest. Members that [can go together](#what-goes-out-together) are one
/// submission, linked (`IOSQE_IO_LINK`, io_uring_linked_requests(7)): the kernel starts the next
/// one without a round through the program.
///
/// It yields a tuple with the result of each, in order. A member that did not run has the error
/// `ECANCELED`, with its buffer.
///
/// ```
/// # annulus::block_on(async {
/// # let directory = std::env::temp_dir().join(format!("annulus-chain-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let (new, name) = (directory.join("new"), directory.join("settings"));
/// let file = annulus::fs::File::create(&new).await?;
/// let (written, synced) = file.write_all_at("content", 0).then(file.sync_data()).await;
/// written?;
/// synced?; // it would be ECANCELED if the write had failed
/// # std::fs::remove_dir_all(&directory)?;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Which end a chain
/// - An error of a member.
/// - A transfer that moved less than the whole: `read_at` at the end of a file, `write` of a stream
///   that was cut short. The result of such a member is `Ok`, and those behind it were cancelled.
/// - Not a short part of `write_all`, `read_exact` and the like: these go on until all is moved or
///   an error comes, and then the rest of the chain runs, in a further submission.
/// - Not a short `read` of a stream: it ends with whatever has come.
///
/// A connection that is reset in the middle of a `read_exact` behind which others stand may look
/// like one that has ended: the error is `UnexpectedEof` then, and not `ECONNRESET`.
///
/// # Cancelling
/// Dropping it cancels the member that runs and those behind it. What each may have done is as if
/// it had been dropped alone. Writes that were dropped with a chain never land after later ones.
/// What its reads have received of a stream waits for the next read, also that of members that have
/// ended, since nobody has got their results. [`cancel`](Chain::cancel),
/// [`timeout`](Chain::timeout) and [`deadline`](Chain::deadline) wait for all members, and give all
/// results and buffers.
///
/// # What goes out together
/// The kernel breaks a chain at a member that transfers bytes or connects, and fails or is short.
/// It does *not* see that a sync, a `set_len`, a `fallocate`, a call on names or a `shutdown` has
/// failed. What stands behind one of these is therefore submitted when it has ended:
/// `write_all_at(…).then(sync_data()).then(rename(…))` is two submissions, the write with the sync,
/// and then the name, which no file gets whose content is not safe.
///
/// The same holds for a member that must wait for its turn, as behind a dropped write, or that
/// moves more than 2,147,479,552 bytes; and before Linux 6.1 for all. The results are the same
/// everywhere. The software ring links by the same rules.
///
/// # Panics
/// When first polled outside a runtime, or polled again after it has yielded its output.
#[must_use = "a chain does nothing until it is awaited"]
pub struct Chain<'h, T: Links> {
    /// `None` only of one that has become a longer one.
    members: Option<T::Members<'h>>,
    course: Course,
}

impl<'h, O: Link> Op<'h, O> {
    /// Starts another operation when this one has done all that was asked of it, and else not: see
    /// [`Chain`].
    ///
    /// Operations that can stand in a chain are reads, writes, syncs, `set_len` and allocation of a
    /// [`File`](crate::fs::File) at an offset; renaming, linking, removing a name and making a
    /// directory, in [`fs`](crate::fs); reads, writes and `shutdown` of streams, but not the
    /// zero-copy ones; [`no_op`](crate::no_op).
    pub fn then<P: Link>(self, next: Op<'h, P>) -> Chain<'h, (O, P)> {
        let members = (Linked::Running(self), Linked::Running(next));
        Chain { members: Some(members), course: Course::default() }
    }
}

impl<'h, T: Longer> Chain<'h, T> {
    /// Puts another operation behind the last one. A chain has at most 8.
    pub fn then<O: Link>(mut self, next: Op<'h, O>) -> Chain<'h, T::With<O>> {
        let members = self.members.take().map(|members| T::with(members, Linked::Running(next)));
        Chain { members, course: std::mem::take(&mut self.course) }
    }
}

impl<'h, T: Links> Chain<'h, T> {
    /// Cancels what has not ended, and waits for all members; see [`Op::cancel`].
    pub fn cancel(self) -> Cancel<Chain<'h, T>> {
        Cancel::new(self)
    }

    /// Gives the whole chain `duration` from now to end, then cancels what has not ended; see
    /// [`Op::timeout`]. Members that were cancelled, and those that never ran, have the error
    /// [`TimedOut`](std::io::ErrorKind::TimedOut).
    pub fn timeout(self, duration: Duration) -> Deadline<Chain<'h, T>>
    where
        T::Output: Expire,
    {
        Deadline::new(self, Timer::after(duration))
    }

    /// As [`timeout`](Chain::timeout), with the instant at which the chain is cancelled.
    pub fn deadline(self, deadline: Instant) -> Deadline<Chain<'h, T>>
    where
        T::Output: Expire,
    {
        Deadline::new(self, Timer::new(deadline))
    }
}

impl<T: Links> Future for Chain<'_, T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T::Output> {
        let Chain { members, course } = &mut *self;
        let members = members.as_mut().expect("only a chain that is gone has no members");
        ready!(T::each(members, |members| course.poll(members, context)));
        Poll::Ready(T::outputs(members))
    }
}

impl<T: Links> Unpin for Chain<'_, T> {}

impl<T: Links> Cancellable for Chain<'_, T> {
    fn request_cancel(&mut self) {
        self.course.cancelled = true;
        if let Some(members) = &mut self.members {
            T::each(members, |members| {
                members.iter_mut().for_each(|member| member.request_cancel());
            });
        }
    }
}

impl<T: Links> Drop for Chain<'_, T> {
    fn drop(&mut self) {
        if let Some(members) = &mut self.members {
            T::each(members, |members| self.course.abandon(members));
        }
    }
}

impl<T: Links> fmt::Debug for Chain<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("course", &self.course).finish_non_exhaustive()
    }
}

/// How far a chain has come.
#[derive(Debug, Default)]
struct Course {
    /// The members in flight.
    round: Range<usize>,
    /// A member has ended short, so those that have not begun will not.
    is_broken: bool,
    /// The user wants it to end.
    cancelled: bool,
    /// The ring has refused a chain for one of its entries: they go one by one, and those before
    /// that entry run.
    one_by_one: bool,
}

impl Course {
    /// Drops the members in order, so that what they brought is left in order. A turn goes to the
    /// last of those that share it: whoever is woken by the end of one finds the others in its way.
    fn abandon(&self, members: &mut [&mut dyn Member]) {
        members[..self.round.start].iter_mut().for_each(|member| member.abandon());
        for place in self.round.clone() {
            let (before, behind) = members[..self.round.end].split_at_mut(place + 1);
            let Some(member) = before.last_mut() else { continue };
            if let Some(partner) = partner(&**member, behind)
                && let Some(turn) = member.give_turn()
            {
                behind[partner].get_turn(turn);
            }
            member.abandon();
        }
        members.iter_mut().for_each(|member| member.abandon());
    }

    fn poll(&mut self, members: &mut [&mut dyn Member], context: &Context<'_>) -> Poll<()> {
        loop {
            if !self.round.is_empty() {
                ready!(self.poll_round(members, context));
            }
            let Some(first) = members.iter().position(|member| !member.has_ended()) else {
                return Poll::Ready(());
            };
            if self.is_broken {
                members[first].refuse(libc::ECANCELED);
            }
            match ready!(members[first].poll_turn(context)) {
                Part::Again => self.start_round(first, members, context),
                Part::Whole => {}
                Part::Short => self.is_broken = true,
            }
        }
    }

    /// Queues the entries of a member that has its turn, and of as many behind it as can follow it
    /// in this submission.
    fn start_round(
        &mut self,
        first: usize,
        members: &mut [&mut dyn Member],
        context: &Context<'_>,
    ) {
        let core = current();
        let longest = match self.one_by_one {
            true => 1,
            false => core.driver.borrow().longest_chain(),
        };
        let Some(entry) = members[first].next_entry() else { return };
        if let Err(errno) = core.check(entry.get_opcode() as u8) {
            return members[first].refuse(errno);
        }
        let (mut chain, mut follows) = (vec![entry], vec![false]);
        while chain.len() < longest
            && let (round, [next, ..]) = members[first..].split_at_mut(chain.len())
            && let Some((entry, shares)) = follow(round, &mut **next, &core)
        {
            if let (Some(last), Some(before)) = (round.last(), chain.last_mut()) {
                *before = last.followed(before.clone());
            }
            chain.push(entry);
            follows.push(shares);
        }
        self.round = first..first + chain.len();
        let round = &mut members[self.round.clone()];
        if chain.len() > 1 {
            round.iter().for_each(|member| member.expect_late_look_up());
        }
        let wakers = round.iter().map(|_| share(context.waker())).collect();
        // SAFETY: `Operation` promises that what its entry names belongs to the operation. That
        // stays in its member, or goes to the slot when that is dropped, until the last completion.
        unsafe { core.driver.borrow_mut().start_chain(&mut chain, wakers) };
        for ((member, entry), follows) in round.iter_mut().zip(&chain).zip(follows) {
            member.is_started(&core, Token::from_bits(entry.get_user_data()), follows);
        }
    }

    /// Waits until all members of the round have ended, and then sees how.
    fn poll_round(&mut self, members: &mut [&mut dyn Member], context: &Context<'_>) -> Poll<()> {
        let mut results = Vec::with_capacity(self.round.len());
        let round = &mut members[self.round.clone()];
        for member in round.iter() {
            results.push(ready!(member.poll_result(context)));
        }
        self.round = 0..0;
        if !self.cancelled && is_refused_whole(&results) {
            self.one_by_one = true;
            round.iter_mut().for_each(|member| member.start_over());
            return Poll::Ready(());
        }
        let mut goes_on = true;
        for (place, result) in results.into_iter().enumerate() {
            let (before, behind) = round.split_at_mut(place + 1);
            let Some(member) = before.last_mut() else { continue };
            if !goes_on && !self.is_broken && result == -libc::ECANCELED {
                member.start_over();
                continue;
            }
            let partner = partner(&**member, behind);
            let turn = partner.and_then(|_| member.give_turn());
            let part = member.take_part(goes_on);
            if let (Some(turn), Some(partner)) = (turn, partner) {
                match part {
                    Part::Again => member.get_turn(turn),
                    Part::Whole | Part::Short => behind[partner].get_turn(turn),
                }
            }
            goes_on &= part == Part::Whole;
            self.is_broken |= part == Part::Short;
        }
        Poll::Ready(())
    }
}

/// Has the next member its turn, and can it stand behind these in one submission? Then its entry,
/// and whether its turn is that of one of them.
fn follow(
    round: &[&mut dyn Member],
    next: &mut dyn Member,
    core: &Rc<Core>,
) -> Option<(squeue::Entry, bool)> {
    if !round.last()?.may_be_followed() {
        return None;
    }
    let entry = next.next_entry()?;
    core.check(entry.get_opcode() as u8).ok()?;
    // In a lane of one at a time, it follows a member that keeps the others out for both.
    let place = next.place();
    let follows = round.iter().any(|member| shares_turn(member.place(), place));
    (follows || next.enters_quietly()).then_some((entry, follows))
}

/// Does the second follow the first in its lane, in the turn of the first?
fn shares_turn(first: Option<Place>, second: Option<Place>) -> bool {
    match (first, second) {
        (Some((lane, direction, Manner::Alone)), Some((other, way, _))) => {
            (lane, direction) == (other, way)
        }
        _ => false,
    }
}

/// Who of those behind a member is in flight by that member's turn, and has it next.
fn partner(member: &dyn Member, behind: &[&mut dyn Member]) -> Option<usize> {
    let place = member.place();
    behind.iter().position(|other| shares_turn(place, other.place()))
}

/// Has the ring refused a chain before anything of it ran? It says why with the member that it did
/// not like, and cancels the others, also those in front of it.
fn is_refused_whole(results: &[i32]) -> bool {
    results.first() == Some(&-libc::ECANCELED)
        && results.iter().any(|result| *result < 0 && *result != -libc::ECANCELED)
}

/// The operations of a chain: a tuple of 2 to 8.
pub trait Links {
    /// The results, in order.
    type Output;
    /// The members, in order.
    #[doc(hidden)]
    type Members<'h>;

    #[doc(hidden)]
    fn each<R>(
        members: &mut Self::Members<'_>,
        visit: impl FnOnce(&mut [&mut dyn Member]) -> R,
    ) -> R;

    #[doc(hidden)]
    fn outputs(members: &mut Self::Members<'_>) -> Self::Output;
}

/// The operations of a chain that can have one more: a tuple of 2 to 7.
pub trait Longer: Links {
    /// With that one.
    type With<O: Link>: Links;

    #[doc(hidden)]
    fn with<'h, O: Link>(
        members: Self::Members<'h>,
        next: Linked<'h, O>,
    ) -> <Self::With<O> as Links>::Members<'h>;
}

macro_rules! links {
    ($($operation:ident $name:ident),*) => {
        impl<$($operation: Link),*> Links for ($($operation,)*) {
            type Output = ($($operation::Output,)*);
            type Members<'h> = ($(Linked<'h, $operation>,)*);

            fn each<R>(
                members: &mut Self::Members<'_>,
                visit: impl FnOnce(&mut [&mut dyn Member]) -> R,
            ) -> R {
                let ($($name,)*) = members;
                visit(&mut [$($name),*])
            }

            fn outputs(members: &mut Self::Members<'_>) -> Self::Output {
                let ($($name,)*) = members;
                ($($name.hand_out(),)*)
            }
        }

        impl<$($operation: Expire),*> Expire for ($($operation,)*) {
            fn expire(self) -> Self {
                let ($($name,)*) = self;
                ($($name.expire(),)*)
            }
        }
    };
}

macro_rules! longer {
    ($($operation:ident $name:ident),*) => {
        impl<$($operation: Link),*> Longer for ($($operation,)*) {
            type With<Z: Link> = ($($operation,)* Z,);

            fn with<'h, Z: Link>(
                members: Self::Members<'h>,
                next: Linked<'h, Z>,
            ) -> <Self::With<Z> as Links>::Members<'h> {
                let ($($name,)*) = members;
                ($($name,)* next,)
            }
        }
    };
}

links!(A a, B b);
links!(A a, B b, C c);
links!(A a, B b, C c, D d);
links!(A a, B b, C c, D d, E e);
links!(A a, B b, C c, D d, E e, F f);
links!(A a, B b, C c, D d, E e, F f, G g);
links!(A a, B b, C c, D d, E e, F f, G g, H h);
longer!(A a, B b);
longer!(A a, B b, C c);
longer!(A a, B b, C c, D d);
longer!(A a, B b, C c, D d, E e);
longer!(A a, B b, C c, D d, E e, F f);
longer!(A a, B b, C c, D d, E e, F f, G g);

#[cfg(test)]
mod tests;
