//! The results: the data of the JSON file, the table, and the plain-language findings drawn from
//! the figures.
//!
//! The HTML page is in [`super::page`]; it shows what is here and adds no figures of its own.

use std::fmt::Write;

use serde::Serialize;

use super::measure::{FIGURES, Figure, Figures, Ratio, Record, ratios};
use super::served::Placement;
use super::system::Machine;

/// Grows when a field changes its meaning or goes; fields may be added without.
pub(crate) const SCHEMA: u32 = 1;

/// How a note begins with which a workload has no result.
const NO_RESULT: &str = "No result";

/// Above this share of a core a load thread is called saturated,
const LOAD_SATURATED: f64 = 0.95;
/// and below this share a server that was to be saturated is called unsaturated.
const SERVER_SATURATED: f64 = 0.97;
/// With many requests outstanding one side is always busy, unless others had the cores for more
/// than the rest.
const UNDISTURBED: f64 = 0.80;

/// The JSON file. `--help` documents it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) machine: MachineUsed,
    pub(crate) settings: Settings,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) skipped: Vec<Skipped>,
}

#[derive(Debug, Serialize)]
pub(crate) struct MachineUsed {
    #[serde(flatten)]
    pub(crate) machine: Machine,
    /// Where the data file lies, if one was needed.
    pub(crate) file_system: Option<String>,
    /// The ring set-up in force, in the words of the library, if annulus took part.
    pub(crate) ring: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) slice_ms: u64,
    pub(crate) seed: u64,
    pub(crate) file_size_mib: u64,
    pub(crate) unix_time: u64,
    /// The suite's own.
    #[serde(flatten)]
    pub(crate) more: serde_json::Map<String, serde_json::Value>,
}

/// A workload that was asked for and could not be run.
#[derive(Debug, Serialize)]
pub(crate) struct Skipped {
    pub(crate) name: String,
    pub(crate) reason: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) placement: Option<Placement>,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) notes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    pub(crate) operations: u64,
    /// The share of one core that its process used; above 1 with several threads.
    pub(crate) cpu_busy: f64,
    /// The share of the time for which the busiest load thread had work; null without a load
    /// generator.
    pub(crate) load_busy: Option<f64>,
    pub(crate) setup: String,
    pub(crate) enters_counts: &'static str,
    pub(crate) rounds: Vec<Figures>,
    /// Pairs of percentile and µs, for the plot.
    pub(crate) latency_curve: Vec<(f64, f64)>,
}

impl Workload {
    /// `saturates`: the servers were to be as busy as they can be.
    pub(crate) fn new(
        name: String,
        description: String,
        saturates: bool,
        records: &[Record],
    ) -> Workload {
        let contenders: Vec<Contender> = records.iter().map(Contender::new).collect();
        let notes =
            contenders.iter().filter_map(|contender| contender.load_warning(saturates)).collect();
        Workload { name, description, placement: None, contenders, ratios: ratios(records), notes }
    }

    /// The figures that at least one contender has.
    pub(crate) fn figures(&self) -> Vec<&'static Figure> {
        let is_known = |figure: &&Figure| {
            self.contenders.iter().any(|contender| figure.read(&contender.figures).is_some())
        };
        FIGURES.iter().filter(is_known).collect()
    }
}

impl Contender {
    fn new(record: &Record) -> Contender {
        Contender {
            name: record.name,
            figures: record.total.figures(),
            operations: record.total.operations,
            cpu_busy: record.total.cpu_busy(),
            load_busy: record.total.load_busy,
            setup: record.setup.clone(),
            enters_counts: record.counted,
            rounds: record.rounds.iter().map(|slice| slice.figures()).collect(),
            latency_curve: latency_curve(record),
        }
    }

    fn load_warning(&self, saturates: bool) -> Option<String> {
        let load_busy = self.load_busy?;
        let (name, load, server) = (self.name, load_busy * 100.0, self.cpu_busy * 100.0);
        if load_busy > LOAD_SATURATED && self.cpu_busy < SERVER_SATURATED {
            return Some(format!(
                "{NO_RESULT}: the load generator was the limit with {name}. It had work for {load:.0} % of the time, the server \
                 for {server:.0} %."
            ));
        }
        (saturates && self.cpu_busy < SERVER_SATURATED).then(|| {
            format!("{NO_RESULT}: {name} was not saturated. It was busy for {server:.0} % of the time, the load generator for {load:.0} %.")
        })
    }
}

/// Whether other programs took the cores from a workload that always has work for both sides.
pub(crate) fn disturbance(contenders: &[Contender]) -> Option<String> {
    let is_idle = |it: &Contender| {
        it.cpu_busy < UNDISTURBED && it.load_busy.is_some_and(|busy| busy < UNDISTURBED)
    };
    contenders.iter().any(is_idle).then(|| {
        "Other programs used the cores meanwhile, for neither a server nor its load was busy all the time: \
         repeat this on a quiet machine."
            .to_owned()
    })
}

/// Percentiles at equal steps of "nines", up to the last one that still has a handful of samples
/// above it.
fn latency_curve(record: &Record) -> Vec<(f64, f64)> {
    const STEPS_PER_NINE: i32 = 10;
    const MOST_NINES: i32 = 4;
    const FEWEST_SAMPLES: f64 = 5.0;
    let latencies = &record.total.latencies;
    (0..=MOST_NINES * STEPS_PER_NINE)
        .map(|step| 10f64.powf(-f64::from(step) / f64::from(STEPS_PER_NINE)))
        .take_while(|above| above * latencies.len() as f64 >= FEWEST_SAMPLES)
        .map(|above| ((1.0 - above) * 100.0, latencies.value_at_quantile(1.0 - above) as f64 / 1e3))
        .collect()
}

const NAME_WIDTH: usize = 18;
const COLUMN_WIDTH: usize = 13;

/// The result of one workload for the terminal.
pub(crate) fn table(workload: &Workload) -> String {
    let mut text = format!("{}: {}\n", workload.name, workload.description);
    let figures = workload.figures();
    row(&mut text, "", figures.iter().map(|figure| figure.title.to_owned()));
    for contender in &workload.contenders {
        let cells = figures.iter().map(|figure| shown(figure.read(&contender.figures)));
        row(&mut text, contender.name, cells);
    }
    for pair in workload.ratios.chunk_by(|one, next| one.to == next.to) {
        let name = format!("{} to {}", pair[0].of, pair[0].to);
        let cell = |name: &str, show: &dyn Fn(&Ratio) -> String| {
            pair.iter().find(|ratio| ratio.figure == name).map_or_else(|| "-".to_owned(), show)
        };
        let median = |ratio: &Ratio| format!("{:.2}x", ratio.median);
        let spread = |ratio: &Ratio| format!("{:.2}-{:.2}", ratio.min, ratio.max);
        row(&mut text, &name, figures.iter().map(|figure| cell(figure.name, &median)));
        row(&mut text, "  lowest-highest", figures.iter().map(|figure| cell(figure.name, &spread)));
    }
    for busy in workload.contenders.iter().filter_map(busy_line) {
        let _ = writeln!(text, "  {busy}");
    }
    for note in &workload.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}

fn row(text: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let _ = write!(text, "  {name:<NAME_WIDTH$}");
    cells.for_each(|cell| {
        let _ = write!(text, "{cell:>COLUMN_WIDTH$}");
    });
    text.push('\n');
}

/// Who was busy for how much of the slices: tells whether the load generator was the limit.
pub(crate) fn busy_line(contender: &Contender) -> Option<String> {
    let load_busy = contender.load_busy?;
    let (name, server) = (contender.name, contender.cpu_busy * 100.0);
    Some(format!(
        "{name}: server busy {server:.0} % of its core, busiest load thread {:.0} %",
        load_busy * 100.0
    ))
}

/// A figure, or a dash for one that was not measured.
pub(crate) fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

/// About four digits, with groups of three in large numbers.
pub(crate) fn number(value: f64) -> String {
    match value {
        _ if value >= 1000.0 => grouped(value.round() as u64),
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ if value >= 0.1 => format!("{value:.2}"),
        _ if value == 0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// What a row is judged by: CPU time, or the only figure that it has.
fn headline(workload: &Workload) -> Option<&'static Figure> {
    let figures = workload.figures();
    let cpu = figures.iter().position(|figure| figure.name == "cpu_us_per_op").unwrap_or(0);
    figures.get(cpu).copied()
}

/// What a workload has shown, in one sentence: by the figure that it is judged by.
pub(crate) fn answer(workload: &Workload) -> String {
    if let Some(note) = workload.notes.iter().find(|note| note.starts_with(NO_RESULT)) {
        return note.clone();
    }
    let Some(figure) = headline(workload) else { return "Nothing was measured.".to_owned() };
    let what = match figure.name {
        "cpu_us_per_op" => "CPU time for an operation",
        "bytes_per_connection" => "memory for a connection",
        _ => figure.title,
    };
    let parts: Vec<String> = workload
        .ratios
        .iter()
        .filter(|ratio| ratio.figure == figure.name)
        .map(comparison)
        .collect();
    match (workload.contenders.first(), parts.is_empty()) {
        (Some(first), false) => {
            format!("Of {what}, {} needs {}.", first.name, parts.join(", and "))
        }
        _ => "There was nothing to compare.".to_owned(),
    }
}

/// Costs are divided other / ours, so a ratio of 1.25 means that ours are a fifth less.
fn comparison(ratio: &Ratio) -> String {
    let percent = ((1.0 / ratio.median - 1.0) * 100.0).round();
    match verdict(ratio) {
        Verdict::Of => format!("{:.0} % less than {}", -percent, ratio.to),
        Verdict::To => format!("{percent:.0} % more than {}", ratio.to),
        Verdict::Neither => format!("about as much as {}", ratio.to),
    }
}

/// One line per row, as a Markdown table: the headline of each contender, the ratios with the
/// middle half of their rounds, and what else tells how the first contender works.
pub(crate) fn summary(report: &Report) -> String {
    let mut names: Vec<&str> = Vec::new();
    for contender in report.workloads.iter().flat_map(|workload| &workload.contenders) {
        if !names.contains(&contender.name) {
            names.push(contender.name);
        }
    }
    let Some((first, others)) = names.split_first() else { return String::new() };
    let ratios_to = others.iter().map(|other| format!("to {other}"));
    let heads = ["work", "figure"].map(str::to_owned).into_iter();
    let more = [format!("p50 µs of {first}"), format!("enters/op of {first}")];
    let columns: Vec<String> = heads
        .chain(names.iter().map(|name| (*name).to_owned()))
        .chain(ratios_to)
        .chain(more)
        .collect();
    let mut text = format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    for workload in &report.workloads {
        let Some(figure) = headline(workload) else { continue };
        let find = |name: &str| workload.contenders.iter().find(|contender| contender.name == name);
        let mut cells = vec![workload.name.clone(), figure.title.to_owned()];
        cells.extend(
            names.iter().map(|name| {
                find(name).map_or_else(String::new, |it| shown(figure.read(&it.figures)))
            }),
        );
        cells.extend(others.iter().map(|other| {
            let ratio = workload
                .ratios
                .iter()
                .find(|ratio| ratio.to == *other && ratio.figure == figure.name);
            ratio.map_or_else(String::new, |it| {
                format!("{:.2} ({:.2}–{:.2})", it.median, it.lower_quartile, it.upper_quartile)
            })
        }));
        let figures = find(first).map(|contender| contender.figures);
        cells.extend(
            [figures.and_then(|it| it.p50_us), figures.and_then(|it| it.enters_per_op)].map(shown),
        );
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// How the ratios are to be read; stands wherever ratios are shown.
pub(crate) const RATIO_MEANING: &str = "Ratios are formed per round and show the median with the lowest and highest round. \
     Costs (CPU, latency, enters) are divided other / annulus, rates annulus / other: above 1 annulus is better, always. \
     A figure counts as better if it was so in nine tenths of the rounds and by more than 2 % in the median.";

/// Where the ring is known to lose or to gain nothing, whatever this run measured.
pub(crate) const KNOWN_LIMITS: &[&str] = &[
    "One connection, or one request at a time: there is nothing to batch, and an epoll loop costs somewhat less.",
    "Buffered writes, fsync, stat, and opening with O_CREAT: the kernel hands them to worker threads; a direct call costs less CPU.",
    "Page-cached reads: pread is cheaper, by about a tenth, but stops the loop when a page is missing.",
    "Large messages (16 KiB) on hundreds of connections with a buffer owned by each: the buffers fall out of the processor's cache, while an epoll loop reads all of them into one.",
    "Files on tmpfs: the ring hands every access to worker threads there.",
];

/// What is measured by other programs of the repository.
pub(crate) const ELSEWHERE: &str = "HTTP requests on the ring, on the software ring and on tokio's epoll loop, with the same hyper service: \
     cargo run --release --manifest-path benches/http/Cargo.toml. Other runtimes on the work of the macro benchmark: benches/peers.";

/// A side wins a figure if it was better in at least this share of the rounds: with 16 rounds,
/// chance alone calls a winner once in two thousand figures (a share of three quarters once in
/// thirteen),
const CLEAR_SHARE: f64 = 0.9;
/// and by more than this in the median.
const CLEAR_MARGIN: f64 = 0.02;

/// Which side a ratio speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Of,
    To,
    Neither,
}

pub(crate) fn verdict(ratio: &Ratio) -> Verdict {
    let needed = CLEAR_SHARE * ratio.per_round.len() as f64;
    let rounds = |is_for: fn(&f64) -> bool| {
        ratio.per_round.iter().flatten().copied().filter(is_for).count() as f64
    };
    if ratio.median > 1.0 + CLEAR_MARGIN && rounds(|value| *value > 1.0) >= needed {
        Verdict::Of
    } else if ratio.median < 1.0 - CLEAR_MARGIN && rounds(|value| *value < 1.0) >= needed {
        Verdict::To
    } else {
        Verdict::Neither
    }
}

/// What this run says about when the others win: a sentence or two per workload and opponent.
pub(crate) fn losses(report: &Report) -> Vec<String> {
    let mut sentences = Vec::new();
    let title = |ratio: &Ratio| {
        FIGURES.iter().find(|it| it.name == ratio.figure).map_or(ratio.figure, |it| it.title)
    };
    for workload in &report.workloads {
        for pair in workload.ratios.chunk_by(|one, next| one.to == next.to) {
            let of_verdict =
                |wanted: Verdict| pair.iter().filter(move |ratio| verdict(ratio) == wanted);
            let other = pair[0].to;
            let mut lost: Vec<String> = Vec::new();
            for ratio in of_verdict(Verdict::To) {
                lost.push(format!(
                    "{} ({:.2}, {:.2} to {:.2})",
                    title(ratio),
                    ratio.median,
                    ratio.min,
                    ratio.max
                ));
            }
            let even: Vec<&str> = of_verdict(Verdict::Neither).map(title).collect();
            let mut sentence = match lost.is_empty() {
                true => format!("{}: {other} was clearly better in nothing.", workload.name),
                false => format!("{}: {other} was better in {}.", workload.name, lost.join(", ")),
            };
            if !even.is_empty() {
                let _ = write!(sentence, " No clear difference in {}.", even.join(", "));
            }
            sentences.push(sentence);
        }
    }
    if sentences.is_empty() {
        sentences.push("There was nothing to compare.".to_owned());
    }
    sentences
}

/// The paragraph under the tables.
pub(crate) fn closing(report: &Report) -> String {
    let mut text = format!("{RATIO_MEANING}\n");
    for contender in report.workloads.first().map_or(&[][..], |workload| &workload.contenders) {
        let _ =
            writeln!(text, "enters/op of {} counts {}.", contender.name, contender.enters_counts);
    }
    if let Some(ring) = &report.machine.ring {
        let _ = writeln!(text, "\nRing set-up in force:");
        ring.lines().for_each(|line| {
            let _ = writeln!(text, "  {line}");
        });
    }
    let _ = writeln!(text, "\nWhere others win, in this run:");
    for sentence in losses(report) {
        let _ = writeln!(text, "  - {sentence}");
    }
    let _ = writeln!(text, "and in general:");
    for limit in KNOWN_LIMITS {
        let _ = writeln!(text, "  - {limit}");
    }
    let _ = writeln!(text, "\n{ELSEWHERE}");
    for skipped in &report.skipped {
        let _ = writeln!(text, "\nSkipped {}: {}.", skipped.name, skipped.reason);
    }
    text
}
