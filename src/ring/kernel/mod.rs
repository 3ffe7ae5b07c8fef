//! The kernel as a source of completions.

mod grants;
mod ring;
mod wakes;

pub(super) use ring::{KernelRing, errno_of_user_space, recover};
