//! The tools of the tests: bounds, processes and descriptors; turns of the loop; forbidden system
//! calls; networks; buffers that notice what happens to them; numbers.

// Each test binary uses its own choice of these.
#![allow(dead_code, unused_imports, unsafe_code)]

mod buffers;
mod filter;
mod network;
mod process;
mod random;
mod turns;

pub(crate) use buffers::{Pool, Tracked, forget};
pub(crate) use filter::forbid;
pub(crate) use network::{interface, own_network};
pub(crate) use process::{
    apart, assert_descriptors_are, become_ordinary, bounded, end_with_a_leak, example,
    in_own_process, is_on_software_ring, let_the_machine_choose, mortal, open_descriptors, run,
    scratch_dir, turn_on_software_ring, watchdog,
};
pub(crate) use random::{Random, seed, size};
pub(crate) use turns::{
    build_runtime, in_flight, poll_in_task, poll_once, quiet, run_here, runtime, turns,
};
