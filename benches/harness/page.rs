//! The report as one HTML page with its styles and SVG plots inside, for light and dark screens.

use std::fmt::Write;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Failure;
use super::measure::{FIGURES, Figures};
use super::report::{
    ELSEWHERE, KNOWN_LIMITS, RATIO_MEANING, Report, Verdict, Workload, answer, busy_line, losses,
    number, shown, verdict,
};

const PLOT_SIZE: (u32, u32) = (460, 300);

/// Drawn in this colour, which nothing else uses, and replaced by `currentColor`: so axes and text
/// follow the page's theme.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_IN_SVG: &str = "#010203";

/// One colour per contender, readable on light and dark ground.
const PALETTE: &[RGBColor] = &[
    RGBColor(47, 129, 204),
    RGBColor(217, 122, 43),
    RGBColor(63, 166, 107),
    RGBColor(155, 107, 203),
];

fn colour(index: usize) -> RGBColor {
    PALETTE[index % PALETTE.len()]
}

fn ink_text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws one plot and gives it as an SVG element.
fn plot(draw: impl FnOnce(&Canvas) -> Result<(), Failure>) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, PLOT_SIZE).into_drawing_area();
        draw(&canvas)?;
        canvas.present()?;
    }
    let svg = svg.replace(INK_IN_SVG, "currentColor");
    // A fixed size becomes a view box alone, so that plots shrink on narrow screens.
    let (width, height) = PLOT_SIZE;
    Ok(svg.replacen(&format!("width=\"{width}\" height=\"{height}\""), "role=\"img\"", 1))
}

/// One bar per contender.
fn bars(
    workload: &Workload,
    title: &str,
    read: fn(&Figures) -> Option<f64>,
) -> Result<String, Failure> {
    let values: Vec<f64> = workload
        .contenders
        .iter()
        .map(|contender| read(&contender.figures).unwrap_or(0.0))
        .collect();
    let highest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max) * 1.15;
    plot(|canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .caption(title, ink_text(17))
            .margin(10)
            .x_label_area_size(28)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..values.len() as f64, 0.0..highest)?;
        let axis = INK.mix(0.4);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.12))
            .axis_style(axis)
            .y_labels(5)
            .y_label_formatter(&|value| number(*value))
            .label_style(ink_text(12))
            .draw()?;
        for (index, (contender, value)) in workload.contenders.iter().zip(&values).enumerate() {
            let left = index as f64;
            let bar = [(left + 0.2, 0.0), (left + 0.8, *value)];
            chart.draw_series([Rectangle::new(bar, colour(index).filled())])?;
            let above = ink_text(13).pos(Pos::new(HPos::Center, VPos::Bottom));
            let below = ink_text(13).pos(Pos::new(HPos::Center, VPos::Top));
            chart.draw_series([Text::new(number(*value), (left + 0.5, *value), above)])?;
            let name =
                EmptyElement::at((left + 0.5, 0.0)) + Text::new(contender.name, (0, 6), below);
            chart.draw_series([name])?;
        }
        Ok(())
    })
}

/// Latency over percentile, the latter in "nines" so that the tail has room.
fn latency_curves(workload: &Workload) -> Result<String, Failure> {
    let nines = |percentile: f64| -(1.0 - percentile / 100.0).log10();
    let points = || workload.contenders.iter().flat_map(|contender| &contender.latency_curve);
    let most = points().map(|point| nines(point.0)).fold(1.0, f64::max);
    let lowest = points().map(|point| point.1).fold(f64::MAX, f64::min).max(0.01);
    let highest = points().map(|point| point.1).fold(lowest * 2.0, f64::max);
    plot(|canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .caption("latency by percentile, µs (log)", ink_text(17))
            .margin(10)
            .x_label_area_size(28)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..most, (lowest * 0.8..highest * 1.3).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.12))
            .axis_style(INK.mix(0.4))
            .x_labels(5)
            .x_label_formatter(&|nines| percentile_label(*nines))
            .y_labels(6)
            .y_label_formatter(&|value| number(*value))
            .label_style(ink_text(12))
            .draw()?;
        for (index, contender) in workload.contenders.iter().enumerate() {
            let line =
                contender.latency_curve.iter().map(|&(percentile, us)| (nines(percentile), us));
            let style = colour(index).stroke_width(2);
            chart
                .draw_series(LineSeries::new(line, style))?
                .label(contender.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(ink_text(13))
            .border_style(TRANSPARENT)
            .draw()?;
        Ok(())
    })
}

fn percentile_label(nines: f64) -> String {
    let whole = nines.round();
    if (nines - whole).abs() > 0.01 {
        return String::new();
    }
    let percent = 100.0 - 100.0 / 10f64.powf(whole);
    let digits = (whole as usize).saturating_sub(2);
    format!("p{percent:.digits$}")
}

/// The ratios that the headline rests on, one dot per round, so that the spread can be seen and not
/// only read.
const PLOTTED_RATIOS: &[&str] = &["ops_per_s", "cpu_us_per_op", "p50_us", "p99_us"];

fn ratio_dots(workload: &Workload, of: &str, to: &str) -> Result<String, Failure> {
    let named =
        |name: &&str| workload.ratios.iter().find(|ratio| ratio.to == to && ratio.figure == *name);
    let shown: Vec<_> = PLOTTED_RATIOS.iter().filter_map(named).collect();
    let span = ratio_span(shown.iter().map(|ratio| ratio.min..ratio.max));
    plot(|canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .caption(format!("{of} to {to}, each round (above 1: {of} better)"), ink_text(17))
            .margin(10)
            .x_label_area_size(28)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..shown.len().max(1) as f64, span)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.12))
            .axis_style(INK.mix(0.4))
            .y_labels(6)
            .y_label_formatter(&|height| format!("{:.2}", height.exp2()))
            .label_style(ink_text(12))
            .draw()?;
        let parity = [(0.0, ratio_height(1.0)), (shown.len() as f64, ratio_height(1.0))];
        chart.draw_series(LineSeries::new(parity, INK.mix(0.7).stroke_width(1)))?;
        let bottom = chart.y_range().start;
        for (index, ratio) in shown.iter().enumerate() {
            let left = index as f64;
            let count = ratio.per_round.len().max(1) as f64;
            let place = |round: usize| left + 0.25 + 0.5 * (round as f64 + 0.5) / count;
            let finite = ratio
                .per_round
                .iter()
                .enumerate()
                .filter_map(|(round, value)| Some((round, (*value)?)));
            chart.draw_series(finite.map(|(round, value)| {
                Circle::new((place(round), ratio_height(value)), 3, colour(0).mix(0.65).filled())
            }))?;
            let height = ratio_height(ratio.median);
            let median = [(left + 0.15, height), (left + 0.85, height)];
            chart.draw_series(LineSeries::new(median, colour(1).stroke_width(2)))?;
            let title = FIGURES
                .iter()
                .find(|figure| figure.name == ratio.figure)
                .map_or("", |figure| figure.title);
            let below = ink_text(12).pos(Pos::new(HPos::Center, VPos::Top));
            chart.draw_series([
                EmptyElement::at((left + 0.5, bottom)) + Text::new(title, (0, 6), below)
            ])?;
        }
        Ok(())
    })
}

/// Ratios beyond these are drawn at the edge, so that one disturbed round does not flatten all
/// others.
const SHOWN_RATIOS: Range<f64> = 0.1..20.0;

/// Where a ratio is drawn: on a logarithmic axis, so that twice as good and half as good are
/// equally far from 1.
fn ratio_height(ratio: f64) -> f64 {
    ratio.clamp(SHOWN_RATIOS.start, SHOWN_RATIOS.end).log2()
}

/// The heights that show all ratios and the line at 1.
fn ratio_span(ratios: impl Iterator<Item = Range<f64>>) -> Range<f64> {
    let span = ratios.fold(0.95..1.05, |span: Range<f64>, ratio| {
        span.start.min(ratio.start)..span.end.max(ratio.end)
    });
    let (lowest, highest) = (ratio_height(span.start), ratio_height(span.end));
    let margin = (highest - lowest) * 0.06;
    lowest - margin..highest + margin
}

const STYLE: &str = "
:root { color-scheme: light dark; --ground: #fbfbfa; --card: #ffffff; --ink: #1d2126; --soft: #5c6570; --line: #dcdfe3; --good: #1f7a46; --bad: #b3472a }
@media (prefers-color-scheme: dark) { :root { --ground: #15181c; --card: #1d2126; --ink: #e6e8ea; --soft: #a0a8b1; --line: #363c44; --good: #6cc894; --bad: #ef8f72 } }
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 62rem; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
h1 { font-size: 1.7rem; line-height: 1.2 } h2 { margin-top: 2.6rem; font-size: 1.25rem }
.soft, caption, figcaption { color: var(--soft) } code, pre { font: 0.86rem/1.5 ui-monospace, monospace }
pre { padding: .8rem 1rem; white-space: pre-wrap; background: var(--card); border: 1px solid var(--line); border-radius: 8px }
.scroll { margin-top: 1rem; overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap } th:first-child, td:first-child { text-align: left }
.good { color: var(--good); font-weight: 600 } .bad { color: var(--bad); font-weight: 600 } td small { display: block; color: var(--soft); font-weight: 400 }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: .8rem; margin-top: 1rem }
.plots svg { width: 100%; height: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px }
.answer { font-size: 1.15rem; font-weight: 600 } a { color: inherit }
.note { padding: .6rem 1rem; border-left: 3px solid var(--bad); background: var(--card) }
";

/// The whole page.
pub(crate) fn page(report: &Report) -> Result<String, Failure> {
    let mut html =
        String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    writeln!(html, "<title>annulus compared</title>\n<style>{STYLE}</style>\n</head>\n<body>")?;
    head(&mut html, report)?;
    for workload in &report.workloads {
        section(&mut html, workload)?;
    }
    for skipped in &report.skipped {
        let reason = escape(&skipped.reason);
        writeln!(html, "<h2>{}</h2>\n<p class=\"note\">Skipped: {reason}.</p>", skipped.name)?;
    }
    findings(&mut html, report)?;
    html.push_str("</body>\n</html>\n");
    Ok(html)
}

fn head(html: &mut String, report: &Report) -> Result<(), Failure> {
    let (machine, settings) = (&report.machine.machine, &report.settings);
    write!(
        html,
        "<h1>annulus compared on this machine</h1>\n<p class=\"soft\">Linux {}, ",
        escape(&machine.kernel)
    )?;
    write!(
        html,
        "{} × {}, {} MiB of memory",
        machine.cores,
        escape(&machine.processor),
        machine.memory_mib
    )?;
    write!(html, ", TCP congestion control {}", escape(&machine.tcp_congestion_control))?;
    if let Some(file_system) = &report.machine.file_system {
        write!(html, ", data file on {}", escape(file_system))?;
    }
    let (rounds, slice_ms, seed) = (settings.rounds, settings.slice_ms, settings.seed);
    writeln!(
        html,
        ". {rounds} rounds of {slice_ms} ms slices, interleaved in shuffled order, seed {seed}.</p>"
    )?;
    if report.workloads.len() > 1 {
        html.push_str("<ul>\n");
        for workload in &report.workloads {
            let (name, answer) = (&workload.name, escape(&answer(workload)));
            writeln!(html, "<li><a href=\"#{name}\">{name}</a>: {answer}</li>")?;
        }
        html.push_str("</ul>\n");
    }
    Ok(())
}

/// The answer, the plots, then the figures.
fn section(html: &mut String, workload: &Workload) -> Result<(), Failure> {
    let (name, description) = (&workload.name, escape(&workload.description));
    writeln!(
        html,
        "<h2 id=\"{name}\">{name}</h2>\n<p class=\"answer\">{}</p>",
        escape(&answer(workload))
    )?;
    writeln!(html, "<p class=\"soft\">{description}</p>")?;
    for note in &workload.notes {
        writeln!(html, "<p class=\"note\">{}</p>", escape(note))?;
    }
    plots(html, workload)?;
    table(html, workload)?;
    small_print(html, workload)
}

fn table(html: &mut String, workload: &Workload) -> Result<(), Failure> {
    html.push_str("<div class=\"scroll\"><table>\n<tr><th></th>");
    let figures = workload.figures();
    for figure in &figures {
        write!(html, "<th>{}</th>", figure.title)?;
    }
    html.push_str("</tr>\n");
    for contender in &workload.contenders {
        write!(html, "<tr><td>{}</td>", contender.name)?;
        for figure in &figures {
            write!(html, "<td>{}</td>", shown(figure.read(&contender.figures)))?;
        }
        html.push_str("</tr>\n");
    }
    for pair in workload.ratios.chunk_by(|one, next| one.to == next.to) {
        write!(html, "<tr><td>{} to {}</td>", pair[0].of, pair[0].to)?;
        for figure in &figures {
            match pair.iter().find(|ratio| ratio.figure == figure.name) {
                Some(ratio) => {
                    let class = match verdict(ratio) {
                        Verdict::Of => "good",
                        Verdict::To => "bad",
                        Verdict::Neither => "soft",
                    };
                    let (median, min, max) = (ratio.median, ratio.min, ratio.max);
                    write!(
                        html,
                        "<td class=\"{class}\">{median:.2}×<small>{min:.2}–{max:.2}</small></td>"
                    )?;
                }
                None => html.push_str("<td>–</td>"),
            }
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n");
    Ok(())
}

fn plots(html: &mut String, workload: &Workload) -> Result<(), Failure> {
    html.push_str("<div class=\"plots\">\n");
    let has = |name: &str| workload.figures().iter().any(|figure| figure.name == name);
    if has("ops_per_s") {
        html.push_str(&bars(workload, "operations per second", |figures| figures.ops_per_s)?);
        html.push_str(&bars(workload, "CPU time per operation, µs", |figures| {
            figures.cpu_us_per_op
        })?);
    }
    if has("bytes_per_connection") {
        html.push_str(&bars(workload, "memory per idle connection, bytes", |figures| {
            figures.bytes_per_connection
        })?);
    }
    if has("p50_us") {
        html.push_str(&latency_curves(workload)?);
    }
    for pair in workload.ratios.chunk_by(|one, next| one.to == next.to) {
        html.push_str(&ratio_dots(workload, pair[0].of, pair[0].to)?);
    }
    html.push_str("</div>\n");
    Ok(())
}

fn small_print(html: &mut String, workload: &Workload) -> Result<(), Failure> {
    html.push_str("<p class=\"soft\">");
    for contender in &workload.contenders {
        write!(
            html,
            "enters/op of {} counts {}. ",
            contender.name,
            escape(contender.enters_counts)
        )?;
    }
    for busy in workload.contenders.iter().filter_map(busy_line) {
        write!(html, "{}. ", escape(&busy))?;
    }
    html.push_str("</p>\n");
    Ok(())
}

fn findings(html: &mut String, report: &Report) -> Result<(), Failure> {
    write!(html, "<h2>How to read the ratios</h2>\n<p>{RATIO_MEANING}</p>\n")?;
    let Range { start, end } = SHOWN_RATIOS;
    writeln!(
        html,
        "<p class=\"soft\">In the plots a ratio below {start} or above {end} stands at that edge.</p>"
    )?;
    html.push_str("<h2>Where others win</h2>\n<p>In this run:</p>\n<ul>\n");
    for sentence in losses(report) {
        writeln!(html, "<li>{}</li>", escape(&sentence))?;
    }
    html.push_str("</ul>\n<p>In general:</p>\n<ul>\n");
    for limit in KNOWN_LIMITS {
        writeln!(html, "<li>{}</li>", escape(limit))?;
    }
    writeln!(html, "</ul>\n<h2>Measured elsewhere</h2>\n<p>{}</p>", escape(ELSEWHERE))?;
    if let Some(ring) = &report.machine.ring {
        writeln!(html, "<h2>Ring set-up in force</h2>\n<pre>{}</pre>", escape(ring))?;
    }
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
