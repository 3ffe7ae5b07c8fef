//! The contender fio, a program that measures disks: direct reads of a whole file on a ring, with
//! registered buffers and a registered file.
//!
//! It runs once for each slice. Its start is not measured, since it tells itself how long it has
//! read and what that cost, in whole milliseconds.

use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::harness::child::{Control, Job, ReadJob, SliceReply, answer_with_slices};
use crate::harness::workloads::Work;
use crate::harness::{Contender, Failure};

pub(crate) const FIO: Contender = Contender {
    name: "fio",
    counted: "nothing",
    is_optional: false,
    is_pool: false,
    environment: &[],
    takes: |work| matches!(work, Work::Stream { direct: true, .. }) && *IS_THERE,
    serve,
};

/// Without it the row is measured without it, and says so.
static IS_THERE: LazyLock<bool> = LazyLock::new(|| {
    let version = Command::new("fio").arg("--version").stdout(Stdio::null()).status();
    let is_there = version.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("fio is missing, so nothing is compared with it (apt-get install fio)");
    }
    is_there
});

/// What fio tells in JSON.
#[derive(Deserialize)]
struct Told {
    jobs: Vec<JobTold>,
}

#[derive(Deserialize)]
struct JobTold {
    read: ReadTold,
    /// In milliseconds.
    job_runtime: f64,
    /// In per cent of that.
    usr_cpu: f64,
    sys_cpu: f64,
}

#[derive(Deserialize)]
struct ReadTold {
    total_ios: u64,
    /// In milliseconds.
    runtime: f64,
}

fn serve(job: &Job, control: &mut Control) -> Result<(), Failure> {
    let Job::Read(job) = job else { return Err("fio only reads files".into()) };
    let setup = "ioengine=io_uring, fixedbufs, registerfiles, gtod_reduce".to_owned();
    answer_with_slices(control, setup, |duration_ms, _| slice(job, duration_ms))
}

fn slice(job: &ReadJob, duration_ms: u64) -> Result<SliceReply, Failure> {
    let output = Command::new("fio")
        .args(["--name=stream", "--rw=read", "--direct=1", "--thread", "--time_based"])
        .args(["--ioengine=io_uring", "--fixedbufs=1", "--registerfiles=1", "--gtod_reduce=1"])
        .args(["--invalidate=0", "--output-format=json"])
        .arg(format!("--filename={}", job.path.display()))
        .arg(format!("--size={}", job.file_size))
        .arg(format!("--bs={}", job.block_size))
        .arg(format!("--iodepth={}", job.depth))
        .arg(format!("--runtime={duration_ms}ms"))
        .output()?;
    if !output.status.success() {
        return Err(format!("fio failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let told: Told = serde_json::from_slice(&output.stdout)?;
    let job = told.jobs.first().ok_or("fio told nothing")?;
    let cpu = job.job_runtime * (job.usr_cpu + job.sys_cpu) / 100.0;
    let nanoseconds = |milliseconds: f64| (milliseconds * 1e6) as u64;
    Ok(SliceReply {
        operations: job.read.total_ios,
        elapsed_ns: nanoseconds(job.read.runtime),
        cpu_ns: nanoseconds(cpu),
        enters: None,
        latencies: Vec::new(),
    })
}
