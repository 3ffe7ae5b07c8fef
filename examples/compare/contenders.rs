//! Who takes part? A list: everything else (options, measuring, report) takes the contenders from here.

use crate::Failure;
use crate::child::{Assignment, Control, EchoJob, FileJob, Job, Reply};
use crate::{epoll, ring, system};

/// One way of doing the same work.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// What `enters_per_op` counts for it.
    pub(crate) counted: &'static str,
    serve_echo: fn(&EchoJob, &mut Control) -> Result<(), Failure>,
    serve_files: fn(&FileJob, &mut Control) -> Result<(), Failure>,
}

/// All contenders. Ratios are formed of the first one that takes part to each of the others.
pub(crate) const CONTENDERS: &[Contender] = &[
    Contender {
        name: "annulus",
        counted: "calls of io_uring_enter(2), as counted by the runtime",
        serve_echo: ring::serve_echo,
        serve_files: ring::serve_files,
    },
    Contender {
        name: "epoll",
        counted: "all system calls of the loop and the pread pool, except futex calls (so the pool's are undercounted)",
        serve_echo: epoll::serve_echo,
        serve_files: epoll::serve_files,
    },
];

pub(crate) fn find(name: &str) -> Option<&'static Contender> {
    CONTENDERS.iter().find(|contender| contender.name == name)
}

/// The whole life of a contender's process. Failures go to the parent, which reports them.
pub(crate) fn be_child() -> Result<(), Failure> {
    let mut control = Control::open();
    let Some(assignment) = control.next::<Assignment>()? else { return Ok(()) };
    let result = serve(&assignment, &mut control);
    match result {
        Ok(()) => Ok(()),
        Err(failure) => control.reply(&Reply::Failed(failure.to_string())),
    }
}

fn serve(assignment: &Assignment, control: &mut Control) -> Result<(), Failure> {
    let contender = find(&assignment.contender).ok_or("no such contender")?;
    system::end_with_parent(assignment.parent)?;
    if let Some(core) = assignment.core {
        system::pin_to_core(core)?;
    }
    match &assignment.job {
        Job::Echo(job) => {
            system::allow_open_files(job.connections as u64 + 64)?;
            (contender.serve_echo)(job, control)
        }
        Job::Files(job) => (contender.serve_files)(job, control),
    }
}
