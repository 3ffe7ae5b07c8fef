//! Instructions per operation in user space, counted by callgrind and compared with what is
//! recorded.
//!
//! `cargo bench --bench instructions` runs each guarded case of `benches/cases` twice under
//! valgrind, with N and with 2 N operations: the difference, divided by N, is the count of one
//! operation, without start and end of the process. Counts hardly differ from run to run or from
//! machine to machine, so one that has grown by more than the margin fails. Who makes one dearer
//! deliberately, or much cheaper, records it anew, in the same commit:
//!
//! ```text
//! cargo bench --bench instructions -- --record
//! ```
//!
//! Another compiler makes other code. With another rustc than the recorded one the margin is wider,
//! and the output says so.

mod cases;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Command, ExitCode};

use cases::{CASES, Case};
use clap::Parser;
use serde::{Deserialize, Serialize};

const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.json");
/// The hidden subcommand under which one case runs in valgrind.
const CHILD_COMMAND: &str = "run-case";
/// Enough that what happens once (a table that grows, a page that is touched) is small beside what
/// happens each time; a multiple of all batch sizes of the cases.
const OPERATIONS: u64 = 40_000;
/// By how much a count may differ from the record,
const MARGIN: f64 = 0.10;
/// and with another compiler.
const MARGIN_OF_ANOTHER_COMPILER: f64 = 0.30;

/// Counts instructions per operation with callgrind and compares them with the record.
#[derive(Debug, Parser)]
#[command(name = "instructions")]
struct Arguments {
    /// Write the counts down as the new record
    #[arg(long)]
    record: bool,
    /// Only cases whose name has this in it
    filter: Option<String>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The file beside this one.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    rustc: String,
    /// Instructions per operation.
    cases: BTreeMap<String, f64>,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let result = match arguments.get(1) {
        Some(command) if command == CHILD_COMMAND => {
            run_case(&arguments[2], &arguments[3]).map(|()| true)
        }
        _ => guard(&Arguments::parse()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_case(name: &str, operations: &str) -> Outcome<()> {
    let case = CASES.iter().find(|case| case.name == name).ok_or("no such case")?;
    (case.run)(operations.parse()?);
    Ok(())
}

/// Counts all cases. `false` if one has become dearer than the margin allows.
fn guard(arguments: &Arguments) -> Outcome<bool> {
    let is_wanted = |case: &&Case| {
        case.is_guarded && arguments.filter.as_ref().is_none_or(|part| case.name.contains(part))
    };
    let mut counts = BTreeMap::new();
    for case in CASES.iter().filter(is_wanted) {
        let count =
            (collected(case, 2 * OPERATIONS)? - collected(case, OPERATIONS)?) / OPERATIONS as f64;
        counts.insert(case.name.to_owned(), (count * 10.0).round() / 10.0);
    }
    let rustc = rustc_version()?;
    if arguments.record {
        return record(counts, rustc);
    }
    let recorded: Record = serde_json::from_str(&std::fs::read_to_string(RECORD)?)?;
    let margin = if recorded.rustc == rustc { MARGIN } else { MARGIN_OF_ANOTHER_COMPILER };
    if recorded.rustc != rustc {
        println!(
            "this is {rustc}, and {} was recorded: the margin is {:.0} %",
            recorded.rustc,
            margin * 100.0
        );
    }
    println!("{:<34}{:>12}{:>12}{:>9}", "instructions per operation", "recorded", "now", "change");
    let mut is_kept = true;
    for (name, now) in counts {
        let before = *recorded
            .cases
            .get(&name)
            .ok_or_else(|| format!("{name} has no record: make one with --record"))?;
        let change = now / before - 1.0;
        let verdict = match change {
            _ if change > margin => {
                "  DEARER than the margin allows: mend it, or record it deliberately with --record"
            }
            _ if change < -margin => "  cheaper: record it with --record, so that it stays so",
            _ => "",
        };
        is_kept &= change <= margin;
        println!("{name:<34}{before:>12.1}{now:>12.1}{:>+8.1} %{verdict}", change * 100.0);
    }
    Ok(is_kept)
}

/// Cases that were not counted now keep their record.
fn record(counts: BTreeMap<String, f64>, rustc: String) -> Outcome<bool> {
    let old = std::fs::read_to_string(RECORD)
        .ok()
        .and_then(|text| serde_json::from_str::<Record>(&text).ok());
    let mut cases = old.map(|record| record.cases).unwrap_or_default();
    cases.extend(counts);
    cases.retain(|name, _| CASES.iter().any(|case| case.is_guarded && case.name == name));
    std::fs::write(RECORD, serde_json::to_string_pretty(&Record { rustc, cases })? + "\n")?;
    println!("recorded in {RECORD}");
    Ok(true)
}

/// The instructions of a whole process that does so many operations of a case.
fn collected(case: &Case, operations: u64) -> Outcome<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([CHILD_COMMAND, case.name, &operations.to_string()])
        .output()
        .map_err(|error| {
            format!("cannot run valgrind: {error} (Debian: apt-get install valgrind)")
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    let total =
        said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match total {
        Some(total) if output.status.success() => Ok(total),
        _ => Err(format!("{} failed under valgrind:\n{said}", case.name).into()),
    }
}

fn rustc_version() -> Outcome<String> {
    let output = Command::new("rustc").arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
