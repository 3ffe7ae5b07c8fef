//! The comparison of contenders: in rounds of short slices, interleaved, with ratios paired per
//! round.
//!
//! Knows neither what an operation is nor who the contenders are: both come in through [`Contest`].

use std::time::Duration;

use serde::Serialize;

use super::Failure;
use super::random::Random;

pub(crate) type Histogram = hdrhistogram::Histogram<u64>;

/// Latencies above this are counted as this.
const LONGEST_LATENCY: Duration = Duration::from_secs(30);
/// Two digits: errors below one per cent, and few enough cells that recording does not displace
/// what is measured.
const LATENCY_DIGITS: u8 = 2;

pub(crate) fn empty_histogram() -> Histogram {
    Histogram::new_with_bounds(1, LONGEST_LATENCY.as_nanos() as u64, LATENCY_DIGITS)
        .expect("the bounds are constants that hdrhistogram accepts")
}

/// What one contender did in one slice.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
    /// Of the contender's process, all threads.
    pub(crate) cpu: Duration,
    /// Ring enters or system calls, as the contender defines them, if it counts them.
    pub(crate) enters: Option<u64>,
    /// In nanoseconds.
    pub(crate) latencies: Histogram,
    /// The share of the slice for which the busiest load thread was running, where there is a load
    /// generator.
    pub(crate) load_busy: Option<f64>,
    /// What each connection cost the process's memory, where that is what is measured.
    pub(crate) bytes_per_connection: Option<f64>,
}

/// The figures of a slice, or of all slices of a contender. `None`: not measured here.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) ops_per_s: Option<f64>,
    pub(crate) cpu_us_per_op: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p999_us: Option<f64>,
    pub(crate) enters_per_op: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_connection: Option<f64>,
}

impl Slice {
    /// An empty slice, to which others are added.
    fn nothing() -> Slice {
        Slice {
            operations: 0,
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
            enters: Some(0),
            latencies: empty_histogram(),
            load_busy: None,
            bytes_per_connection: None,
        }
    }

    /// A slice in which nothing was done but to look at the memory.
    pub(crate) fn of_memory(bytes_per_connection: f64) -> Slice {
        Slice { bytes_per_connection: Some(bytes_per_connection), ..Slice::nothing() }
    }

    fn add(&mut self, other: &Slice) {
        // Weighted by time, so that the sum says what share of all slices the load ran.
        let weighted =
            |slice: &Slice| slice.load_busy.map(|busy| busy * slice.elapsed.as_secs_f64());
        let elapsed = self.elapsed + other.elapsed;
        self.load_busy = weighted(other)
            .map(|busy| (busy + weighted(self).unwrap_or(0.0)) / elapsed.as_secs_f64())
            .or(self.load_busy);
        self.operations += other.operations;
        self.elapsed = elapsed;
        self.cpu += other.cpu;
        self.enters = self.enters.zip(other.enters).map(|(one, other)| one + other);
        self.latencies.add(&other.latencies).expect("all histograms have the same bounds");
        self.bytes_per_connection = other.bytes_per_connection.or(self.bytes_per_connection);
    }

    pub(crate) fn figures(&self) -> Figures {
        let operations = (self.operations > 0).then_some(self.operations as f64);
        let quantile_us = |quantile| {
            (!self.latencies.is_empty())
                .then(|| self.latencies.value_at_quantile(quantile) as f64 / 1e3)
        };
        Figures {
            ops_per_s: operations
                .map(|operations| operations / self.elapsed.as_secs_f64().max(1e-9)),
            cpu_us_per_op: operations.map(|operations| self.cpu.as_secs_f64() * 1e6 / operations),
            p50_us: quantile_us(0.5),
            p99_us: quantile_us(0.99),
            p999_us: quantile_us(0.999),
            enters_per_op: operations.and_then(|operations| Some(self.enters? as f64 / operations)),
            bytes_per_connection: self.bytes_per_connection,
        }
    }

    /// The share of one core that the contender used.
    pub(crate) fn cpu_busy(&self) -> f64 {
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// A figure that ratios are formed of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// As in the JSON.
    pub(crate) name: &'static str,
    /// As at the head of a column.
    pub(crate) title: &'static str,
    more_is_better: bool,
    read: fn(&Figures) -> Option<f64>,
}

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "ops_per_s",
        title: "ops/s",
        more_is_better: true,
        read: |figures| figures.ops_per_s,
    },
    Figure {
        name: "cpu_us_per_op",
        title: "CPU µs/op",
        more_is_better: false,
        read: |figures| figures.cpu_us_per_op,
    },
    Figure {
        name: "p50_us",
        title: "p50 µs",
        more_is_better: false,
        read: |figures| figures.p50_us,
    },
    Figure {
        name: "p99_us",
        title: "p99 µs",
        more_is_better: false,
        read: |figures| figures.p99_us,
    },
    Figure {
        name: "p999_us",
        title: "p99.9 µs",
        more_is_better: false,
        read: |figures| figures.p999_us,
    },
    Figure {
        name: "enters_per_op",
        title: "enters/op",
        more_is_better: false,
        read: |figures| figures.enters_per_op,
    },
    Figure {
        name: "bytes_per_connection",
        title: "B/connection",
        more_is_better: false,
        read: |figures| figures.bytes_per_connection,
    },
];

impl Figure {
    pub(crate) fn read(&self, figures: &Figures) -> Option<f64> {
        (self.read)(figures)
    }

    /// How many times better `of` is than `to`: `of / to` of a rate, `to / of` of a cost, so above
    /// 1 is better always.
    fn advantage(&self, of: &Figures, to: &Figures) -> Option<f64> {
        let (of, to) = (self.read(of)?, self.read(to)?);
        let (above, below) = if self.more_is_better { (of, to) } else { (to, of) };
        (below > 0.0).then(|| above / below)
    }
}

/// One figure of one contender against another's, paired per round. Above 1: `of` is better.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) of: &'static str,
    pub(crate) to: &'static str,
    pub(crate) figure: &'static str,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Between them lie the middle half of the rounds.
    pub(crate) lower_quartile: f64,
    pub(crate) upper_quartile: f64,
    pub(crate) per_round: Vec<Option<f64>>,
}

/// All slices of one contender.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) name: &'static str,
    pub(crate) setup: String,
    pub(crate) counted: &'static str,
    pub(crate) total: Slice,
    pub(crate) rounds: Vec<Slice>,
}

/// The ratios of the first contender to each of the others, in all figures.
pub(crate) fn ratios(records: &[Record]) -> Vec<Ratio> {
    let Some((first, others)) = records.split_first() else { return Vec::new() };
    let pairs = others.iter().flat_map(|other| FIGURES.iter().map(move |figure| (other, figure)));
    pairs
        .filter_map(|(other, figure)| {
            let rounds = first.rounds.iter().zip(&other.rounds);
            let per_round: Vec<Option<f64>> =
                rounds.map(|(of, to)| figure.advantage(&of.figures(), &to.figures())).collect();
            let mut sorted: Vec<f64> = per_round.iter().copied().flatten().collect();
            sorted.sort_by(f64::total_cmp);
            Some(Ratio {
                of: first.name,
                to: other.name,
                figure: figure.name,
                median: median(&sorted)?,
                min: *sorted.first()?,
                max: *sorted.last()?,
                lower_quartile: sorted[sorted.len() / 4],
                upper_quartile: sorted[sorted.len() - 1 - sorted.len() / 4],
                per_round,
            })
        })
        .collect()
}

/// Of sorted values; `None` of none.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

/// One workload with its contenders standing ready.
pub(crate) trait Contest {
    /// How each contender is set up, in its own words.
    fn setups(&self) -> Vec<String>;

    /// How many rounds are enough for it, whatever was asked for.
    fn most_rounds(&self) -> usize {
        usize::MAX
    }

    /// Done once before each round, outside all clocks.
    fn prepare_round(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Has one contender work for `duration`. In a round every contender gets the same `seed`.
    fn slice(&mut self, contender: usize, duration: Duration, seed: u64) -> Result<Slice, Failure>;
}

/// How long, how often, from which seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) slice: Duration,
    pub(crate) seed: u64,
}

impl Plan {
    /// Slices of one contest, the unmeasured first round included.
    pub(crate) fn slices(&self, contenders: usize) -> u64 {
        ((self.rounds + 1) * contenders) as u64
    }
}

/// Runs all rounds and gives each contender's slices, one per round. `after_slice` gets the
/// contender and its slice.
///
/// A first round is thrown away: it faults pages in and fills caches. Within a round the contenders
/// follow each other in shuffled order, so that neither drift of the machine nor being second
/// favours one of them.
pub(crate) fn run(
    contest: &mut impl Contest,
    plan: &Plan,
    mut after_slice: impl FnMut(usize, usize, &Slice),
) -> Result<Vec<(Slice, Vec<Slice>)>, Failure> {
    let mut random = Random::new(plan.seed);
    let contenders = contest.setups().len();
    let mut results = vec![(Slice::nothing(), Vec::with_capacity(plan.rounds)); contenders];
    for round in 0..=plan.rounds {
        contest.prepare_round()?;
        let seed = random.next();
        let mut order: Vec<usize> = (0..contenders).collect();
        random.shuffle(&mut order);
        for contender in order {
            let slice = contest.slice(contender, plan.slice, seed)?;
            after_slice(round, contender, &slice);
            if round > 0 {
                let (total, rounds) = &mut results[contender];
                total.add(&slice);
                rounds.push(slice);
            }
        }
    }
    Ok(results)
}
