//! Operations that do not go to their end in peace: dropped, forgotten and cancelled at every
//! stage, moved between runtimes, and interrupted by the end of their runtime.

#[path = "../common/mod.rs"]
mod common;

mod cancel;
mod custom;
mod drops;
mod kinds;
mod links;
mod shutdown;
mod wakers;
