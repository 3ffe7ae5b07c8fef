//! The mechanism that all operations share: the future, the turns, the descriptor, and the end
//! without a future.
//!
//! The operations themselves are in `op/`.

mod bytes;
mod chain;
mod closing;
mod deadline;
mod fixed_file;
mod future;
mod handle;
mod header;
mod kept;
mod linked;
mod multishot_stream;
mod operation;
mod orphan;
mod position;
mod registration;
mod resource;
mod stage;
mod standing;
mod turns;

pub use chain::Chain;
pub use deadline::{Cancel, Deadline, Expire};
pub use future::Op;

pub(crate) use bytes::{
    Progress, advance, claim, claim_exact, clamp, end_of_file, filled, incomplete, leave,
    leave_received, needs_room, no_room, peek, write_zero, written,
};
pub(crate) use handle::Handle;
pub(crate) use header::MessageHeader;
pub(crate) use kept::{Direction, Left, Manner};
pub(crate) use linked::Link;
pub(crate) use multishot_stream::{MultishotStream, Received};
pub(crate) use operation::{Habits, MOST_BYTES, Notification, Operation, Step, Turns};
pub(crate) use registration::number_here;
pub(crate) use resource::Resource;
pub(crate) use standing::WHERE_IT_STANDS;
pub(crate) use turns::{Lane, Turn};
