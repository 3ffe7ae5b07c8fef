//! The floor of rings: where completions come from.

mod buffer_table;
pub(crate) mod catalogue;
mod choice;
mod config;
mod engine;
mod file_kind;
mod free_indices;
pub(crate) mod host;
mod hybrid;
mod in_force;
mod iopoll;
mod kernel;
mod memory;
mod opcodes;
mod open;
mod provided;
mod refusal;
mod report;
pub(crate) mod request;
mod seam;
mod setup;
mod software;
mod system_report;
mod unpark;
pub(crate) mod world;

pub use config::RingKind;
pub(crate) use config::{Config, MinWait, Sqpoll};
pub(crate) use file_kind::FileKind;
pub(crate) use in_force::Ring;
pub use refusal::SetupError;
pub use report::{Refusal, RingReport};
pub(crate) use seam::{
    COMPLETION_COPIED, COMPLETION_MORE, COMPLETION_NOTIFICATION, Completion, FIRST_PRIVATE_TOKEN,
    PushError, Wait,
};
#[cfg(test)]
pub(crate) use setup::refusals_of_every_rung;
pub(crate) use system_report::SystemReport;
pub use system_report::{Limit, Seccomp};
pub(crate) use unpark::Unparker;
