//! `cargo run --release --example compare` — annulus beside a plain epoll program, on this machine.
//!
//! TCP echo with many connections and random 4 KiB reads of a file, done by each contender in a process of its own, in
//! short interleaved slices. Prints a table and writes an HTML report; `--quick` takes under half a minute.
//!
//! This file answers: what was asked for, and in which order does it happen? `contenders` lists who takes part,
//! `workloads` what is done, `measure` how it is compared, `report` and `page` how it is told.

mod child;
mod contenders;
mod data_file;
mod epoll;
mod load;
mod measure;
mod page;
mod progress;
mod random;
mod report;
mod ring;
mod system;
mod workloads;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::builder::PossibleValuesParser;
use clap::{Parser, ValueEnum, value_parser};

use contenders::{CONTENDERS, Contender};
use data_file::DataFile;
use measure::{Contest, Plan, Record};
use progress::Progress;
use report::{MachineUsed, Report, Settings, Skipped, Workload};
use system::Machine;
use workloads::{EchoContest, FileContest};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

const AFTER_HELP: &str = "\
THE JSON FILE (--json; fields may be added, none changes its meaning while \"schema\" is 1)
  {\"schema\": 1,
   \"machine\": {\"kernel\", \"processor\", \"cores\", \"memory_mib\", \"tcp_congestion_control\", \"file_system\", \"ring\"},
   \"settings\": {\"quick\", \"rounds\", \"slice_ms\", \"seed\", \"connections\", \"message_size\", \"depth\", ...},
   \"workloads\": [
     {\"name\": \"tcp_echo\" | \"file_read_cached\" | \"file_read_direct\",
      \"contenders\": [{\"name\": \"annulus\" | \"epoll\" | ..., \"ops_per_s\", \"cpu_us_per_op\", \"p50_us\", \"p99_us\",
                      \"p999_us\", \"enters_per_op\", \"operations\", \"cpu_busy\", \"load_busy\", \"rounds\": [...], ...}],
      \"ratios\": [{\"of\": \"annulus\", \"to\": \"epoll\", \"figure\": \"cpu_us_per_op\", \"median\", \"min\", \"max\",
                  \"per_round\": [...]}],
      \"notes\": [...]}],
   \"skipped\": [{\"name\", \"reason\"}]}
  A ratio is to / of for costs (everything but ops_per_s) and of / to for ops_per_s: above 1, `of` is better. It is
  formed within each round; median, min and max are those of the rounds. The figures of a contender are over all rounds.
  cpu_us_per_op is user and system time of all threads of the contender's process, kernel workers included.
  enters_per_op counts ring enters of annulus and system calls (except futex) of the epoll program.

Ctrl-C ends the contenders' processes too; the data file then stays, and the next run uses it again.";

/// Compares annulus with a plain epoll program on this machine: TCP echo, and random 4 KiB reads of a file.
#[derive(Debug, Parser)]
#[command(name = "compare", after_help = AFTER_HELP, max_term_width = 120)]
struct Options {
    /// Fewer, shorter rounds and a smaller file: under 30 s
    #[arg(long)]
    quick: bool,
    /// Measured rounds per workload [default: 50; 16 with --quick]
    #[arg(long, value_parser = value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// How long each contender works per round, in ms
    #[arg(long, default_value_t = 150, value_parser = value_parser!(u64).range(10..=60_000))]
    slice_ms: u64,
    /// Connections to each echo server
    #[arg(long, default_value_t = 200, value_parser = value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Bytes per echo message
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..=1 << 20))]
    message_size: u32,
    /// File reads in flight; also the number of threads in the epoll program's pool
    #[arg(long, default_value_t = 32, value_parser = value_parser!(u32).range(1..=1024))]
    depth: u32,
    /// Size of the data file [default: 256; 64 with --quick]
    #[arg(long, value_parser = value_parser!(u64).range(1..=65_536))]
    file_size_mib: Option<u64>,
    /// Directory of the data file [default: compare/ in cargo's target directory]
    #[arg(long)]
    file_dir: Option<PathBuf>,
    /// Keep the data file for the next run
    #[arg(long)]
    keep: bool,
    /// Only these workloads (may be given several times)
    #[arg(long = "workload", value_enum)]
    workloads: Vec<WorkloadName>,
    /// Only these contenders (may be given several times)
    #[arg(long = "contender", value_parser = PossibleValuesParser::new(CONTENDERS.iter().map(|it| it.name)))]
    contenders: Vec<String>,
    /// Seed of the order within rounds and of the file offsets [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Where to write the HTML report [default: compare/report.html in cargo's target directory]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the figures as JSON (described below)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum WorkloadName {
    TcpEcho,
    FileReadCached,
    FileReadDirect,
}

impl WorkloadName {
    /// As in the JSON.
    fn name(self) -> &'static str {
        match self {
            WorkloadName::TcpEcho => "tcp_echo",
            WorkloadName::FileReadCached => "file_read_cached",
            WorkloadName::FileReadDirect => "file_read_direct",
        }
    }
}

fn main() -> ExitCode {
    let is_child = std::env::args().nth(1).is_some_and(|argument| argument == child::CHILD_COMMAND);
    let result = if is_child { contenders::be_child() } else { compare(&Options::parse()) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What the options come to.
#[derive(Debug)]
struct Setting {
    settings: Settings,
    contenders: Vec<&'static Contender>,
    workloads: Vec<WorkloadName>,
    file_directory: PathBuf,
    html: PathBuf,
}

impl Setting {
    fn of(options: &Options) -> Result<Setting, Failure> {
        let pick = |full: u64, quick: u64| if options.quick { quick } else { full };
        let unix_time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let settings = Settings {
            quick: options.quick,
            rounds: options.rounds.map_or(pick(50, 16), u64::from) as usize,
            slice_ms: options.slice_ms,
            // Short enough to be typed again.
            seed: options.seed.unwrap_or(u64::from(unix_time.subsec_nanos())),
            connections: options.connections as usize,
            message_size: options.message_size as usize,
            depth: options.depth as usize,
            file_size_mib: options.file_size_mib.unwrap_or(pick(256, 64)),
            unix_time: unix_time.as_secs(),
        };
        let takes_part = |it: &&Contender| options.contenders.is_empty() || options.contenders.iter().any(|name| name == it.name);
        let is_wanted = |it: &WorkloadName| options.workloads.is_empty() || options.workloads.contains(it);
        let directory = default_directory()?;
        Ok(Setting {
            settings,
            contenders: CONTENDERS.iter().filter(takes_part).collect(),
            workloads: WorkloadName::value_variants().iter().copied().filter(is_wanted).collect(),
            file_directory: options.file_dir.clone().unwrap_or_else(|| directory.clone()),
            html: options.html.clone().unwrap_or_else(|| directory.join("report.html")),
        })
    }

    fn plan(&self) -> Plan {
        let Settings { rounds, slice_ms, seed, .. } = self.settings;
        Plan { rounds, slice: Duration::from_millis(slice_ms), seed }
    }

    fn needs_file(&self) -> bool {
        self.workloads.iter().any(|&workload| workload != WorkloadName::TcpEcho)
    }
}

/// `compare/` in the target directory this executable was built into, or else in `target/` here.
fn default_directory() -> Result<PathBuf, Failure> {
    let executable = std::env::current_exe()?;
    let examples = executable.ancestors().find(|directory| directory.ends_with("examples"));
    let target = examples.and_then(Path::parent).and_then(Path::parent);
    Ok(target.unwrap_or(Path::new("target")).join("compare"))
}

fn compare(options: &Options) -> Result<(), Failure> {
    let setting = Setting::of(options)?;
    // An unwritable place is better found out before the measurement than after.
    check_writable(&setting.html)?;
    options.json.as_deref().map_or(Ok(()), check_writable)?;

    let slices = setting.plan().slices(setting.contenders.len()) * setting.workloads.len() as u64;
    eprintln!("seed {}; about {} s of measuring", setting.settings.seed, (slices * setting.settings.slice_ms).div_ceil(1000));
    let progress = Progress::start(slices);
    let report = measure_all(&setting, options.keep, &progress)?;
    progress.finish();

    write_file(&setting.html, &page::page(&report)?)?;
    let mut closing = report::closing(&report);
    closing.push_str(&format!("\nReport: {}", setting.html.display()));
    if let Some(path) = &options.json {
        write_file(path, &serde_json::to_string_pretty(&report)?)?;
        closing.push_str(&format!("\nJSON:   {}", path.display()));
    }
    progress.print(&closing);
    Ok(())
}

fn check_writable(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(|error| format!("cannot make the directory of {shown}: {error}"))?;
    }
    // Appending keeps an earlier report in case this run fails.
    OpenOptions::new().append(true).create(true).open(path).map_err(|error| format!("cannot write {shown}: {error}"))?;
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// Runs the workloads one after the other and prints each one's table as soon as it is known.
fn measure_all(setting: &Setting, keep: bool, progress: &Progress) -> Result<Report, Failure> {
    let file = if setting.needs_file() {
        let size = setting.settings.file_size_mib << 20;
        let directory = &setting.file_directory;
        let writing = progress.start_file(size);
        let file = DataFile::prepare(directory, size, keep, |bytes| writing.advance(bytes))?;
        writing.finish();
        Some(file)
    } else {
        None
    };
    let mut report = Report {
        schema: report::SCHEMA,
        machine: MachineUsed {
            machine: Machine::describe(),
            file_system: file.as_ref().map(|file| file.file_system.name.clone()),
            ring: None,
        },
        settings: setting.settings.clone(),
        workloads: Vec::new(),
        skipped: Vec::new(),
    };
    for &name in &setting.workloads {
        let workload = match (name, &file) {
            (WorkloadName::TcpEcho, _) => echo(setting, progress)?,
            (_, Some(file)) => {
                let is_direct = name == WorkloadName::FileReadDirect;
                if let Some(reason) = file.direct_refusal().filter(|_| is_direct) {
                    report.skipped.push(Skipped { name: name.name(), reason });
                    continue;
                }
                read_file(setting, name, file, progress)?
            }
            (_, None) => return Err("a file workload has no file".into()),
        };
        let annulus = workload.contenders.iter().find(|contender| contender.name == "annulus");
        report.machine.ring = report.machine.ring.or_else(|| annulus.map(|contender| contender.setup.clone()));
        progress.print(&report::table(&workload));
        report.workloads.push(workload);
    }
    Ok(report)
}

fn echo(setting: &Setting, progress: &Progress) -> Result<Workload, Failure> {
    let Settings { connections, message_size, seed, .. } = setting.settings;
    let mut contest = EchoContest::start(&setting.contenders, connections, message_size, seed)?;
    let (setups, placement) = (contest.setups(), contest.placement.clone());
    let records = run(setting, WorkloadName::TcpEcho, &mut contest, setups, progress)?;
    let description = format!("{message_size}-byte messages, one outstanding on each of {connections} connection(s); every reply checked");
    let mut workload = Workload::new(WorkloadName::TcpEcho.name(), description, &records);
    if placement.server_core.is_none() {
        workload.notes.push("There is but one core: servers and load share it, and nothing is pinned.".into());
    }
    // With few connections both sides wait for each other, and idle cores mean nothing.
    if connections >= 16 {
        workload.notes.extend(report::disturbance(&workload.contenders));
    }
    workload.placement = Some(placement);
    Ok(workload)
}

fn read_file(setting: &Setting, name: WorkloadName, file: &DataFile, progress: &Progress) -> Result<Workload, Failure> {
    let Settings { depth, file_size_mib, .. } = setting.settings;
    let is_direct = name == WorkloadName::FileReadDirect;
    let mut contest = FileContest::start(&setting.contenders, file, is_direct, depth)?;
    let setups = contest.setups();
    let records = run(setting, name, &mut contest, setups, progress)?;
    let kind = if is_direct { "O_DIRECT" } else { "page-cached (warmed before each round)" };
    let file_system = &file.file_system;
    let description =
        format!("random 4 KiB reads, {kind}, of a {file_size_mib} MiB file on {}, {depth} in flight; every read checked", file_system.name);
    let mut workload = Workload::new(name.name(), description, &records);
    if file_system.is_tmpfs {
        workload.notes.push(
            "The file lies on tmpfs: the ring hands every access to worker threads there. For a fair picture put it on \
             a disk file system (--file-dir)."
                .into(),
        );
    }
    Ok(workload)
}

fn run(
    setting: &Setting,
    name: WorkloadName,
    contest: &mut impl Contest,
    setups: Vec<String>,
    progress: &Progress,
) -> Result<Vec<Record>, Failure> {
    let plan = setting.plan();
    let contenders = &setting.contenders;
    progress.begin(name.name());
    let results = measure::run(contest, &plan, |round, contender, slice| {
        progress.advance(name.name(), round, plan.rounds, contenders[contender].name, slice);
    })?;
    let described = contenders.iter().zip(setups).zip(results);
    Ok(described
        .map(|((contender, setup), (total, rounds))| Record { name: contender.name, setup, counted: contender.counted, total, rounds })
        .collect())
}
