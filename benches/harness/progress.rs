//! The progress of a run: a bar on a terminal, a few plain lines elsewhere; always on stderr,
//! results on stdout.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

use super::measure::Slice;
use super::report::shown;

/// The progress of all slices.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
}

/// The progress of writing the data file.
#[derive(Debug)]
pub(crate) struct FileProgress {
    bar: ProgressBar,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants that indicatif accepts")
}

impl Progress {
    pub(crate) fn start(slices: u64) -> Progress {
        // indicatif hides the bar by itself where stderr is no terminal.
        let bar = ProgressBar::new(slices)
            .with_style(style("{elapsed_precise} {wide_bar} {percent:>3} % {msg}"));
        Progress { bar, is_terminal: std::io::stderr().is_terminal() }
    }

    pub(crate) fn begin(&self, workload: &str) {
        if !self.is_terminal {
            eprintln!("measuring {workload}");
        }
    }

    pub(crate) fn advance(
        &self,
        workload: &str,
        round: usize,
        rounds: usize,
        contender: &str,
        slice: &Slice,
    ) {
        let rate = shown(slice.figures().ops_per_s);
        let stage =
            if round == 0 { "warming up".into() } else { format!("round {round}/{rounds}") };
        self.bar.set_message(format!("{workload}, {stage}: {contender} {rate} ops/s"));
        self.bar.inc(1);
    }

    /// Prints a result without tearing the bar. A reader that has gone (`| head`) must not cost the
    /// report.
    pub(crate) fn print(&self, text: &str) {
        let _ = self.bar.suspend(|| writeln!(std::io::stdout(), "{text}"));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    pub(crate) fn start_file(&self, bytes: u64) -> FileProgress {
        let bar = ProgressBar::new(bytes)
            .with_style(style("writing the data file {wide_bar} {percent:>3} %"));
        FileProgress { bar }
    }
}

impl FileProgress {
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
