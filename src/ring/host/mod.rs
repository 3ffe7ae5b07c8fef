//! The machine as the software ring's world: what is ready, the threads, and the calls.

mod attempts;
mod calls;
mod descriptors;
mod direct;
mod workers;
mod world;

pub(crate) use world::Host;
