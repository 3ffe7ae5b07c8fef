//! The comparison with other runtimes, on the work of `cargo bench --bench macro`: the same harness
//! and yardsticks, with more contenders.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- --list
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- --quick --workload unix_echo_64
//! ```

#[path = "../.."]
mod contenders {
    #[path = "contenders/annulus.rs"]
    pub(crate) mod annulus;
    #[path = "contenders/epoll.rs"]
    pub(crate) mod epoll;
    #[path = "contenders/pread.rs"]
    pub(crate) mod pread;
    #[path = "contenders/raw.rs"]
    pub(crate) mod raw;
}
mod block;
#[path = "../../harness/mod.rs"]
mod harness;
mod peers {
    pub(crate) mod a10;
    pub(crate) mod compio;
    pub(crate) mod glommio;
    pub(crate) mod monoio;
    pub(crate) mod smol;
    pub(crate) mod tokio;
    pub(crate) mod tokio_uring;
}
mod slices;

use std::process::ExitCode;

use clap::Parser;

use contenders::annulus::{
    ANNULUS, ANNULUS_IOPOLL, ANNULUS_MIN_WAIT, ANNULUS_OWNED, ANNULUS_REGISTERED_FILES,
    ANNULUS_SOFTWARE, ANNULUS_SPIN, ANNULUS_SQPOLL, ANNULUS_ZERO_COPY,
};
use contenders::{epoll::EPOLL, pread::PREAD, raw::RAW, raw::RAW_REGISTERED};
use harness::workloads::all_rows;
use harness::{Contender, Options, Suite};
use peers::{
    a10::A10, compio::COMPIO, glommio::GLOMMIO, monoio::MONOIO, smol::SMOL, tokio::TOKIO,
    tokio_uring::TOKIO_URING,
};

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
    TOKIO,
    MONOIO,
    COMPIO,
    TOKIO_URING,
    GLOMMIO,
    SMOL,
    A10,
];

/// Compares annulus with hand-written loops and with other runtimes.
#[derive(Debug, Parser)]
#[command(name = "peers", max_term_width = 120)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    harness::run_main(CONTENDERS, || {
        let suite = Suite {
            name: "peers",
            contenders: CONTENDERS,
            rows: all_rows(),
            rounds: [25, 5],
            file_size_mib: [256, 64],
            settings: serde_json::Map::new(),
        };
        harness::compare(&suite, &Arguments::parse().options)
    })
}
