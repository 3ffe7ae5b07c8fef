//! The contender of plain blocking calls, the yardstick for files: `pread` in a loop, one at a
//! time, and the standard library's copy.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use crate::harness::child::{
    Control, CopyJob, Job, ReadJob, SliceBooks, SliceReply, answer_with_slices,
};
use crate::harness::data_file::{BLOCK_SIZE, BlockOrder, check_block};
use crate::harness::{Contender, Failure, Task};

pub(crate) const PREAD: Contender = Contender {
    name: "pread",
    counted: "calls of pread(2); those of std::fs::copy are not counted",
    is_optional: false,
    is_pool: false,
    environment: &[],
    takes: |work| work.needs_file(),
    serve,
};

fn serve(job: &Job, control: &mut Control) -> Result<(), Failure> {
    match job {
        Job::Read(job) => serve_reads(job, control),
        Job::Copy(job) => answer_with_slices(control, "std::fs::copy".into(), |duration_ms, _| {
            copy(job, duration_ms)
        }),
        Job::Echo(_) => Err("blocking calls serve one connection at a time".into()),
    }
}

fn serve_reads(job: &ReadJob, control: &mut Control) -> Result<(), Failure> {
    let flags = if job.direct { libc::O_DIRECT } else { 0 };
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&job.path)?;
    // Direct reads want an aligned place, and a vector twice as long has one.
    let mut memory = vec![0; job.block_size + BLOCK_SIZE];
    let start = memory.as_ptr().align_offset(BLOCK_SIZE);
    let block = &mut memory[start..start + job.block_size];
    answer_with_slices(control, "one thread".into(), |duration_ms, seed| {
        read(job, &file, block, duration_ms, seed)
    })
}

fn read(
    job: &ReadJob,
    file: &File,
    block: &mut [u8],
    duration_ms: u64,
    seed: u64,
) -> Result<SliceReply, Failure> {
    let mut order = BlockOrder::new(job, seed);
    let mut books = SliceBooks::open(duration_ms, Some(0));
    let mut calls = 0;
    loop {
        let (choice, begun) = (order.choose(), books.begin());
        calls += 1;
        let count = file.read_at(block, choice.offset)?;
        check_block(job, choice, &block[..count])?;
        if !books.end(begun) {
            return Ok(books.close(Some(calls)));
        }
    }
}

fn copy(job: &CopyJob, duration_ms: u64) -> Result<SliceReply, Failure> {
    let mut books = SliceBooks::open(duration_ms, None);
    while books.add(fs::copy(&job.from, &job.to)? >> 20) {}
    Ok(books.close(None))
}
