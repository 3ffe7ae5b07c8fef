//! `cargo run --release --example compare` — annulus beside a plain epoll program, on this machine.
//!
//! TCP echo with many connections and random 4 KiB reads of a file, done by each contender in a
//! process of its own, in short interleaved slices. Prints a table and writes an HTML report;
//! `--quick` takes under half a minute.
//!
//! This file answers: what is asked for, and with whom? All the rest is `benches/harness` and
//! `benches/contenders`.

#[path = "../benches/contenders"]
mod contenders {
    pub(crate) mod annulus;
    pub(crate) mod epoll;
}
#[path = "../benches/harness/mod.rs"]
mod harness;

use std::process::ExitCode;

use clap::{Parser, value_parser};

use contenders::annulus::{
    ANNULUS, ANNULUS_IOPOLL, ANNULUS_MIN_WAIT, ANNULUS_OWNED, ANNULUS_REGISTERED_FILES,
    ANNULUS_SOFTWARE, ANNULUS_SPIN, ANNULUS_SQPOLL, ANNULUS_ZERO_COPY,
};
use contenders::epoll::EPOLL;
use harness::workloads::{Transport, Work, all_rows};
use harness::{Contender, Options, Row, Suite};

const CONTENDERS: &[Contender] = &[
    ANNULUS,
    ANNULUS_SOFTWARE,
    ANNULUS_OWNED,
    ANNULUS_REGISTERED_FILES,
    ANNULUS_SPIN,
    ANNULUS_MIN_WAIT,
    ANNULUS_SQPOLL,
    ANNULUS_IOPOLL,
    ANNULUS_ZERO_COPY,
    EPOLL,
];

const AFTER_HELP: &str = "\
THE JSON FILE (--json; fields may be added, none changes its meaning while \"schema\" is 1)
  {\"schema\": 1,
   \"machine\": {\"kernel\", \"processor\", \"cores\", \"memory_mib\", \"tcp_congestion_control\", \"file_system\", \"ring\"},
   \"settings\": {\"quick\", \"rounds\", \"slice_ms\", \"seed\", \"connections\", \"message_size\", \"rate\", \"depth\", ...},
   \"workloads\": [
     {\"name\": \"tcp_echo\" | \"tcp_echo_half_idle\" | \"file_read_cached\" | \"file_read_direct\",
      \"contenders\": [{\"name\": \"annulus\" | \"epoll\" | ..., \"ops_per_s\", \"cpu_us_per_op\", \"p50_us\", \"p99_us\",
                      \"p999_us\", \"enters_per_op\", \"operations\", \"cpu_busy\", \"load_busy\", \"rounds\": [...], ...}],
      \"ratios\": [{\"of\": \"annulus\", \"to\": \"epoll\", \"figure\": \"cpu_us_per_op\", \"median\", \"min\", \"max\",
                  \"per_round\": [...]}],
      \"notes\": [...]}],
   \"skipped\": [{\"name\", \"reason\"}]}
  A ratio is to / of for costs (everything but ops_per_s) and of / to for ops_per_s: above 1, `of` is better. It is
  formed within each round; median, min and max are those of the rounds. The figures of a contender are over all rounds.
  Latencies of tcp_echo_half_idle count from when a message was due at its fixed rate.
  cpu_us_per_op is user and system time of all threads of the contender's process, kernel workers included.
  enters_per_op counts ring enters of annulus and system calls (except futex) of the epoll program.

Ctrl-C ends the contenders' processes too; the data file then stays, and the next run uses it again.";

/// Compares annulus with a plain epoll program on this machine: TCP echo by a server that is
/// saturated or half idle, and random 4 KiB reads of a file.
#[derive(Debug, Parser)]
#[command(name = "compare", after_help = AFTER_HELP, max_term_width = 120)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Connections to each echo server
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Bytes per echo message
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..=1 << 20))]
    message_size: u32,
    /// Messages a second to a server that is half idle
    #[arg(long, default_value_t = 20_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
    rate: u32,
    /// File reads in flight; also the number of threads in the epoll program's pool
    #[arg(long, default_value_t = 32, value_parser = value_parser!(u32).range(1..=1024))]
    depth: u32,
}

fn main() -> ExitCode {
    harness::run_main(CONTENDERS, || {
        let arguments = Arguments::parse();
        let suite = Suite {
            name: "compare",
            contenders: CONTENDERS,
            rows: rows(&arguments),
            rounds: [50, 16],
            file_size_mib: [256, 64],
            settings: settings(&arguments),
        };
        harness::compare(&suite, &arguments.options)
    })
}

/// Rows with the sizes that were asked for; by name also those of the benchmarks.
fn rows(arguments: &Arguments) -> Vec<Row> {
    let Arguments { connections, message_size, rate, depth, .. } = arguments;
    let (connections, message_size, depth) =
        (*connections as usize, *message_size as usize, *depth as usize);
    let works = [
        (
            "tcp_echo",
            Work::Echo { transport: Transport::Tcp, connections, message_size, rate: None },
        ),
        (
            "tcp_echo_half_idle",
            Work::Echo { transport: Transport::Tcp, connections, message_size, rate: Some(*rate) },
        ),
        ("file_read_cached", Work::RandomRead { direct: false, depth }),
        ("file_read_direct", Work::RandomRead { direct: true, depth }),
    ];
    let more = all_rows().into_iter().map(|row| Row { is_default: false, ..row });
    works.into_iter().map(|(name, work)| Row::new(name, work)).chain(more).collect()
}

fn settings(arguments: &Arguments) -> serde_json::Map<String, serde_json::Value> {
    let Arguments { connections, message_size, rate, depth, .. } = arguments;
    [("connections", connections), ("message_size", message_size), ("rate", rate), ("depth", depth)]
        .map(|(name, value)| (name.to_owned(), (*value).into()))
        .into_iter()
        .collect()
}
