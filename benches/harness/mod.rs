//! The harness of `cargo bench --bench macro`, `examples/compare`, `benches/peers` and
//! `benches/http`: all that they share, which is everything but the contenders and the rows.
//!
//! A [`Suite`] names who takes part and what is done. Each contender does its work in a process of
//! its own, in short interleaved slices. `workloads` says how a row is set up, `measure` how it is
//! compared, `load` who asks the servers (by `ring_load` or `epoll_load`), `report` and `page` how
//! it is told.

pub(crate) mod buffers;
pub(crate) mod child;
pub(crate) mod connection;
pub(crate) mod data_file;
pub(crate) mod epoll;
mod epoll_load;
pub(crate) mod load;
pub(crate) mod measure;
mod page;
mod progress;
mod random;
pub(crate) mod report;
mod ring_load;
pub(crate) mod served;
pub(crate) mod system;
pub(crate) mod timetable;
pub(crate) mod workloads;

use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::value_parser;

use child::{Assignment, Control, Reply};
use data_file::DataFile;
use measure::{Contest, Plan, Record};
use progress::Progress;
use report::{MachineUsed, Report, Settings, Skipped, Workload};
use serde::{Serialize, de::DeserializeOwned};
use system::Machine;
use workloads::Work;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The work of a row.
pub(crate) trait Task: Clone + Debug + 'static {
    /// What a contender's process is told of it.
    type Job: Debug + Serialize + DeserializeOwned;

    /// Does it work on the data file?
    fn needs_file(&self) -> bool {
        false
    }

    /// Does it go past the page cache?
    fn is_direct(&self) -> bool {
        false
    }

    /// How many connections a job has.
    fn connections_of(job: &Self::Job) -> usize;

    /// Has the contenders do it.
    fn measure(&self, race: &Race<'_, Self>) -> Result<Workload, Failure>;
}

/// One row of the table: work with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Row<T = Work> {
    pub(crate) name: String,
    pub(crate) work: T,
    /// Run it when nobody has asked for particular rows.
    pub(crate) is_default: bool,
}

impl<T> Row<T> {
    pub(crate) fn new(name: impl Into<String>, work: T) -> Row<T> {
        Row { name: name.into(), work, is_default: true }
    }
}

/// One way of doing the same work.
#[derive(Debug)]
pub(crate) struct Contender<T: Task = Work> {
    pub(crate) name: &'static str,
    /// What `enters_per_op` counts for it.
    pub(crate) counted: &'static str,
    /// Takes part only when it is asked for by name.
    pub(crate) is_optional: bool,
    /// Does its work on files with several threads, which are not to be pinned to one core.
    pub(crate) is_pool: bool,
    /// Added to the environment of its process.
    pub(crate) environment: &'static [(&'static str, &'static str)],
    /// Which jobs it takes.
    pub(crate) takes: fn(&T) -> bool,
    pub(crate) serve: fn(&T::Job, &mut Control) -> Result<(), Failure>,
}

/// Who takes part, and what is done.
#[derive(Debug)]
pub(crate) struct Suite<T: Task = Work> {
    /// Also the directory of its reports and its data file, in cargo's target directory.
    pub(crate) name: &'static str,
    /// Ratios are formed of the first contender that takes part in a row to each of the others.
    pub(crate) contenders: &'static [Contender<T>],
    pub(crate) rows: Vec<Row<T>>,
    /// Rounds and the size of the data file in MiB unless options say otherwise: in full, and with
    /// `--quick`.
    pub(crate) rounds: [u32; 2],
    pub(crate) file_size_mib: [u64; 2],
    /// More settings, for the report.
    pub(crate) settings: serde_json::Map<String, serde_json::Value>,
}

/// The options that all suites have.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fewer rounds and a smaller file
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measured rounds per workload [default: depends on --quick]
    #[arg(long, value_parser = value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// How long each contender works per round, in ms
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u64).range(10..=60_000))]
    slice_ms: u64,
    /// Size of the data file, in MiB [default: depends on --quick]
    #[arg(long, value_parser = value_parser!(u64).range(1..=65_536))]
    file_size_mib: Option<u64>,
    /// Directory of the data file [default: in cargo's target directory]
    #[arg(long)]
    file_dir: Option<PathBuf>,
    /// Keep the data file for the next run
    #[arg(long)]
    keep: bool,
    /// Only the workload of this name, or else those whose name begins so (may be given several
    /// times; see --list)
    #[arg(long = "workload", value_name = "NAME")]
    workloads: Vec<String>,
    /// Only these contenders (may be given several times; see --list)
    #[arg(long = "contender", value_name = "NAME")]
    contenders: Vec<String>,
    /// Name the workloads and the contenders
    #[arg(long)]
    list: bool,
    /// Seed of the order within rounds and of the file offsets [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Where to write the HTML report [default: report.html in cargo's target directory]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the figures as JSON (compare --help describes it)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs a contender's process if this is one, else what `compare` makes of the command line.
pub(crate) fn run_main<T: Task>(
    contenders: &'static [Contender<T>],
    compare: impl FnOnce() -> Result<(), Failure>,
) -> ExitCode {
    let is_child = std::env::args().nth(1).is_some_and(|argument| argument == child::CHILD_COMMAND);
    let result = if is_child { be_child(contenders) } else { compare() };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The whole life of a contender's process. Failures go to the parent, which reports them.
fn be_child<T: Task>(contenders: &'static [Contender<T>]) -> Result<(), Failure> {
    let mut control = Control::open();
    let Some(assignment) = control.next::<Assignment<T::Job>>()? else { return Ok(()) };
    let result = serve(contenders, &assignment, &mut control);
    match result {
        Ok(()) => Ok(()),
        Err(failure) => control.reply(&Reply::Failed(failure.to_string())),
    }
}

fn serve<T: Task>(
    contenders: &'static [Contender<T>],
    assignment: &Assignment<T::Job>,
    control: &mut Control,
) -> Result<(), Failure> {
    let contender = contenders
        .iter()
        .find(|contender| contender.name == assignment.contender)
        .ok_or("no such contender")?;
    system::end_with_parent(assignment.parent)?;
    if let Some(core) = assignment.core {
        system::pin_to_core(core)?;
    }
    system::allow_open_files(T::connections_of(&assignment.job) as u64 + 64)?;
    (contender.serve)(&assignment.job, control)
}

/// What the options come to.
#[derive(Debug)]
struct Setting<T: Task> {
    settings: Settings,
    contenders: Vec<&'static Contender<T>>,
    rows: Vec<Row<T>>,
    file_directory: PathBuf,
    html: PathBuf,
}

impl<T: Task> Setting<T> {
    fn of(suite: &Suite<T>, options: &Options) -> Result<Setting<T>, Failure> {
        let unix_time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let settings = Settings {
            quick: options.quick,
            rounds: options.rounds.unwrap_or(suite.rounds[usize::from(options.quick)]) as usize,
            slice_ms: options.slice_ms,
            // Short enough to be typed again.
            seed: options.seed.unwrap_or(u64::from(unix_time.subsec_nanos())),
            file_size_mib: options
                .file_size_mib
                .unwrap_or(suite.file_size_mib[usize::from(options.quick)]),
            unix_time: unix_time.as_secs(),
            more: suite.settings.clone(),
        };
        let directory = target_directory()?.join(suite.name);
        Ok(Setting {
            settings,
            contenders: chosen_contenders(suite, &options.contenders)?,
            rows: chosen_rows(suite, &options.workloads)?,
            file_directory: options.file_dir.clone().unwrap_or_else(|| directory.clone()),
            html: options.html.clone().unwrap_or_else(|| directory.join("report.html")),
        })
    }

    fn plan(&self) -> Plan {
        let Settings { rounds, slice_ms, seed, .. } = self.settings;
        Plan { rounds, slice: Duration::from_millis(slice_ms), seed }
    }

    fn contenders_of(&self, work: &T) -> Vec<&'static Contender<T>> {
        self.contenders.iter().copied().filter(|contender| (contender.takes)(work)).collect()
    }
}

fn chosen_contenders<T: Task>(
    suite: &Suite<T>,
    names: &[String],
) -> Result<Vec<&'static Contender<T>>, Failure> {
    if let Some(unknown) =
        names.iter().find(|name| suite.contenders.iter().all(|contender| contender.name != **name))
    {
        return Err(format!("there is no contender {unknown:?}: --list names them").into());
    }
    let is_chosen = |contender: &&Contender<T>| {
        if names.is_empty() {
            !contender.is_optional
        } else {
            names.iter().any(|name| name == contender.name)
        }
    };
    Ok(suite.contenders.iter().filter(is_chosen).collect())
}

fn chosen_rows<T: Task>(suite: &Suite<T>, names: &[String]) -> Result<Vec<Row<T>>, Failure> {
    if let Some(unknown) =
        names.iter().find(|name| suite.rows.iter().all(|row| !row.name.starts_with(name.as_str())))
    {
        return Err(format!("there is no workload {unknown:?}: --list names them").into());
    }
    // Else `tcp_echo_64_x50` would mean `tcp_echo_64_x500` as well.
    let is_whole = |name: &String| suite.rows.iter().any(|row| row.name == *name);
    let is_named = |row: &Row<T>, name: &String| {
        if is_whole(name) { row.name == *name } else { row.name.starts_with(name.as_str()) }
    };
    let is_chosen = |row: &&Row<T>| {
        if names.is_empty() { row.is_default } else { names.iter().any(|name| is_named(row, name)) }
    };
    Ok(suite.rows.iter().filter(is_chosen).cloned().collect())
}

/// The target directory that this executable was built into, or else `target/` here.
fn target_directory() -> Result<PathBuf, Failure> {
    let executable = std::env::current_exe()?;
    let is_kind = |directory: &&Path| {
        directory.ends_with("examples")
            || directory.ends_with("deps")
            || directory.ends_with("release")
    };
    let found = executable.ancestors().find(is_kind);
    let profile =
        found.map(
            |found| {
                if found.ends_with("release") { found } else { found.parent().unwrap_or(found) }
            },
        );
    Ok(profile.and_then(Path::parent).unwrap_or(Path::new("target")).to_owned())
}

/// Measures all chosen rows, prints their tables, and writes the report.
pub(crate) fn compare<T: Task>(suite: &Suite<T>, options: &Options) -> Result<(), Failure> {
    if options.list {
        let default = |is_default: bool| if is_default { "" } else { " (only by name)" };
        suite
            .rows
            .iter()
            .for_each(|row| println!("workload  {}{}", row.name, default(row.is_default)));
        suite.contenders.iter().for_each(|contender| {
            println!("contender {}{}", contender.name, default(!contender.is_optional))
        });
        return Ok(());
    }
    let setting = Setting::of(suite, options)?;
    // An unwritable place is better found out before the measurement than after.
    check_writable(&setting.html)?;
    options.json.as_deref().map_or(Ok(()), check_writable)?;

    let plan = setting.plan();
    let slices: u64 =
        setting.rows.iter().map(|row| plan.slices(setting.contenders_of(&row.work).len())).sum();
    eprintln!(
        "seed {}; about {} s of measuring",
        plan.seed,
        (slices * setting.settings.slice_ms).div_ceil(1000)
    );
    let progress = Progress::start(slices);
    let report = measure_all(&setting, options.keep, &progress)?;
    progress.finish();

    write_file(&setting.html, &page::page(&report)?)?;
    let mut closing = report::closing(&report);
    closing.push_str(&format!("\n{}", report::summary(&report)));
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
        fs::create_dir_all(directory)
            .map_err(|error| format!("cannot make the directory of {shown}: {error}"))?;
    }
    // Appending keeps an earlier report in case this run fails.
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|error| format!("cannot write {shown}: {error}"))?;
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// Runs the rows one after the other and prints each one's table as soon as it is known.
fn measure_all<T: Task>(
    setting: &Setting<T>,
    keep: bool,
    progress: &Progress,
) -> Result<Report, Failure> {
    let file = if setting.rows.iter().any(|row| row.work.needs_file()) {
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
    for row in &setting.rows {
        let refusal =
            file.as_ref().filter(|_| row.work.is_direct()).and_then(DataFile::direct_refusal);
        if let Some(reason) = refusal {
            report.skipped.push(Skipped { name: row.name.clone(), reason });
            continue;
        }
        let race = Race {
            row,
            contenders: setting.contenders_of(&row.work),
            plan: setting.plan(),
            file: file.as_ref(),
            progress,
        };
        let workload = row.work.measure(&race)?;
        let annulus = workload.contenders.iter().find(|contender| contender.name == "annulus");
        report.machine.ring =
            report.machine.ring.or_else(|| annulus.map(|contender| contender.setup.clone()));
        progress.print(&report::table(&workload));
        report.workloads.push(workload);
    }
    Ok(report)
}

/// A row that is about to be measured.
pub(crate) struct Race<'a, T: Task> {
    row: &'a Row<T>,
    pub(crate) contenders: Vec<&'static Contender<T>>,
    pub(crate) plan: Plan,
    pub(crate) file: Option<&'a DataFile>,
    progress: &'a Progress,
}

impl<T: Task> Race<'_, T> {
    /// Measures, and makes the entry of the report.
    pub(crate) fn run(
        &self,
        description: String,
        saturates: bool,
        contest: &mut impl Contest,
    ) -> Result<Workload, Failure> {
        let Race { row, contenders, progress, .. } = self;
        let plan = Plan { rounds: self.plan.rounds.min(contest.most_rounds()), ..self.plan };
        let setups = contest.setups();
        progress.begin(&row.name);
        let results = measure::run(contest, &plan, |round, contender, slice| {
            progress.advance(&row.name, round, plan.rounds, contenders[contender].name, slice);
        })?;
        let described = contenders.iter().zip(setups).zip(results);
        let records: Vec<Record> = described
            .map(|((contender, setup), (total, rounds))| Record {
                name: contender.name,
                setup,
                counted: contender.counted,
                total,
                rounds,
            })
            .collect();
        Ok(Workload::new(row.name.clone(), description, saturates, &records))
    }
}
