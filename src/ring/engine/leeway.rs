//! The choices that io_uring leaves open. The engine does one thing; worlds of tests have it do the
//! other as well.

pub(super) use decided::{goes_on_after, lets_arrivals_win, tells_answers_first};

/// Shots of one multishot request until the others have their turn: as many as the kernel allows
/// one socket in one enter.
const SHOTS: u32 = 33;

#[cfg(not(test))]
mod decided {
    use super::SHOTS;
    use crate::ring::world::World;

    /// Is a request tried once more when a cancel has found it, so that what has come wins?
    pub(in crate::ring::engine) fn lets_arrivals_win(_world: &mut dyn World) -> bool {
        false
    }

    /// Is a cancel's answer told before the ends of what it has ended?
    pub(in crate::ring::engine) fn tells_answers_first(_world: &mut dyn World) -> bool {
        false
    }

    /// Does a multishot request that has made so many shots go on before the others have their
    /// turn?
    pub(in crate::ring::engine) fn goes_on_after(_world: &mut dyn World, shots: u32) -> bool {
        shots < SHOTS
    }
}

#[cfg(test)]
mod decided {
    use super::SHOTS;
    use crate::ring::world::World;

    pub(in crate::ring::engine) fn lets_arrivals_win(world: &mut dyn World) -> bool {
        world.leeway().is_some_and(|leeway| leeway.lets_arrivals_win())
    }

    pub(in crate::ring::engine) fn tells_answers_first(world: &mut dyn World) -> bool {
        world.leeway().is_some_and(|leeway| leeway.tells_answers_first())
    }

    pub(in crate::ring::engine) fn goes_on_after(world: &mut dyn World, shots: u32) -> bool {
        shots < SHOTS && !world.leeway().is_some_and(|leeway| leeway.stops_shooting())
    }
}
