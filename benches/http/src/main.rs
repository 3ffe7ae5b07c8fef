//! HTTP and TLS on annulus and on others: the same hyper service, the same TLS, the same files, on
//! the harness of `cargo bench --bench macro`.
//!
//! ```text
//! cargo run --release --manifest-path benches/http/Cargo.toml -- --list
//! cargo run --release --manifest-path benches/http/Cargo.toml -- --quick --workload http_13_x50
//! ```

mod contenders {
    pub(crate) mod annulus;
    pub(crate) mod compio;
    pub(crate) mod nginx;
    pub(crate) mod service;
    pub(crate) mod tokio;
}
mod files;
// Echo, reads and copies are not done here.
#[allow(dead_code)]
#[path = "../../harness/mod.rs"]
mod harness;
mod talk;
mod tls;
mod work;

use std::process::ExitCode;

use clap::Parser;

use contenders::annulus::{ANNULUS, ANNULUS_SOFTWARE};
use contenders::compio::{COMPIO_BUFFERED, CYPER_AXUM};
use contenders::nginx::NGINX;
use contenders::tokio::TOKIO;
use harness::{Options, Suite};
use work::{Work, all_rows};

type Contender = harness::Contender<Work>;

const CONTENDERS: &[Contender] =
    &[ANNULUS, ANNULUS_SOFTWARE, TOKIO, CYPER_AXUM, COMPIO_BUFFERED, NGINX];

/// Compares annulus with others on HTTP/1.1, TLS and files served by HTTP.
#[derive(Debug, Parser)]
#[command(name = "http", max_term_width = 120)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    harness::run_main(CONTENDERS, || {
        let suite = Suite {
            name: "http",
            contenders: CONTENDERS,
            rows: all_rows(),
            rounds: [25, 5],
            file_size_mib: [1, 1],
            settings: serde_json::Map::new(),
        };
        harness::compare(&suite, &Arguments::parse().options)
    })
}
