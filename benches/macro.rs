//! The comparison of annulus with loops written by hand, on the work that it is for:
//! `cargo bench --bench macro`, about five minutes.
//!
//! The yardsticks are `raw`, a loop on the `io-uring` crate, `epoll`, a loop on libc, and `pread`,
//! blocking calls; they live in `benches/contenders`. Direct reads of a whole file are compared
//! with fio, if it is there. How it is measured is told in `benches/harness`. Some ways to ask:
//!
//! ```text
//! cargo bench --bench macro -- --list                              # the workloads and the contenders
//! cargo bench --bench macro -- --quick                             # all of it in about a minute
//! cargo bench --bench macro -- --workload tcp_echo --rounds 50
//! cargo bench --bench macro -- --json figures.json --html report.html
//! ```

mod contenders {
    pub(crate) mod annulus;
    pub(crate) mod epoll;
    pub(crate) mod fio;
    pub(crate) mod pread;
    pub(crate) mod raw;
}
mod harness;

use std::process::ExitCode;

use clap::Parser;

use contenders::annulus::{
    ANNULUS, ANNULUS_IOPOLL, ANNULUS_MIN_WAIT, ANNULUS_OWNED, ANNULUS_REGISTERED_FILES,
    ANNULUS_SOFTWARE, ANNULUS_SPIN, ANNULUS_SQPOLL, ANNULUS_ZERO_COPY,
};
use contenders::{epoll::EPOLL, fio::FIO, pread::PREAD, raw::RAW, raw::RAW_REGISTERED};
use harness::workloads::all_rows;
use harness::{Contender, Options, Suite};

const CONTENDERS: &[Contender] = &[
    ANNULUS,
    Contender { is_optional: true, ..ANNULUS_SOFTWARE },
    ANNULUS_OWNED,
    ANNULUS_REGISTERED_FILES,
    ANNULUS_SPIN,
    ANNULUS_MIN_WAIT,
    ANNULUS_SQPOLL,
    ANNULUS_IOPOLL,
    ANNULUS_ZERO_COPY,
    RAW,
    RAW_REGISTERED,
    EPOLL,
    PREAD,
    FIO,
];

/// Compares annulus with loops written by hand: echo, memory of idle connections, reads and copies
/// of files.
#[derive(Debug, Parser)]
#[command(name = "macro", max_term_width = 120)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    harness::run_main(CONTENDERS, || {
        let suite = Suite {
            name: "macro",
            contenders: CONTENDERS,
            rows: all_rows(),
            rounds: [25, 5],
            file_size_mib: [256, 64],
            settings: serde_json::Map::new(),
        };
        harness::compare(&suite, &Arguments::parse().options)
    })
}
