//! The report as an SVG bar chart: time over native on a logarithmic scale, a bar an engine, readable on light and
//! on dark grounds.
//!
//! Written by hand: what charting crates write has fixed colours, and the two grounds need a style sheet.

use std::fmt::Write;

use super::report::{Outcome, Report, figure};
use super::set::Group;

/// Pixels.
const LABELS: f64 = 120.0;
const PLOT: f64 = 640.0;
const VALUES: f64 = 70.0;
const BAR: f64 = 9.0;
const GAP: f64 = 8.0;
const TITLE: f64 = 34.0;
const LEGEND: f64 = 24.0;
const MARGIN: f64 = 12.0;

/// Fills of the engines in the report's order, each distinct from its neighbours on both grounds and to colour-blind
/// eyes (Okabe and Ito's palette).
const COLOURS: [&str; 8] = ["#999999", "#e69f00", "#d55e00", "#56b4e9", "#0072b2", "#009e73", "#cc79a7", "#b8a800"];

/// The system's own preference decides on the ground.
const STYLE: &str = "
  svg { background: #ffffff; font: 12px system-ui, sans-serif; fill: #1b1b1b; }
  .grid { stroke: #d8d8d8; } .one, .spread { stroke: #1b1b1b; } .small { font-size: 10px; } .title { font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    svg { background: #16181c; fill: #e8e8e8; }
    .grid { stroke: #3a3d43; } .one, .spread { stroke: #e8e8e8; }
  }
";

/// The logarithmic axis: ratios to pixels.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// Reaches from just below the least to just above the greatest ratio, and holds 1 in any case.
    fn over(ratios: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (1.0f64, 1.0f64);
        for r in ratios.filter(|r| r.is_finite() && *r > 0.0) {
            low = low.min(r);
            high = high.max(r);
        }
        Self { low: low / 1.25, high: high * 1.25 }
    }

    fn x(&self, ratio: f64) -> f64 {
        let share = (ratio.clamp(self.low, self.high) / self.low).ln() / (self.high / self.low).ln();
        LABELS + share * PLOT
    }

    /// 1, 2 and 5 of every power of ten within the axis.
    fn ticks(&self) -> Vec<f64> {
        let from = self.low.log10().floor() as i32;
        let to = self.high.log10().ceil() as i32;
        (from..=to)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)))
            .filter(|t| (self.low..=self.high).contains(t))
            .collect()
    }
}

/// Draws the report.
pub fn svg(report: &Report) -> String {
    let engines: Vec<(&String, &str)> =
        report.engines.iter().filter(|e| *e != "native").zip(COLOURS.into_iter().cycle()).collect();
    let scale = Scale::over(report.rows.iter().flat_map(|r| r.outcomes.values()).filter_map(|o| match o {
        Outcome::Measured(m) => Some(m.times.ratio_max),
        Outcome::Failed { .. } => None,
    }));
    let mut body = String::new();
    let mut y = legend(&mut body, &engines);
    for group in Group::ALL {
        let rows: Vec<_> = report.rows.iter().filter(|r| r.group == group).collect();
        if rows.is_empty() {
            continue;
        }
        y += TITLE;
        text(&mut body, MARGIN, y - 14.0, "title", &format!("{}: time over native", group.name()));
        let height = rows.len() as f64 * (engines.len() as f64 * BAR + GAP);
        grid(&mut body, &scale, y, height);
        for row in rows {
            text(&mut body, MARGIN, y + engines.len() as f64 * BAR / 2.0 + 4.0, "", &row.name);
            for (engine, colour) in &engines {
                bar(&mut body, &scale, y, colour, row.outcomes.get(*engine));
                y += BAR;
            }
            y += GAP;
        }
        y += GAP;
    }
    let (width, height) = (LABELS + PLOT + VALUES, y + MARGIN);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"Time over native\">\n<style>{STYLE}</style>\n{body}</svg>\n"
    )
}

/// Colour and name of every engine; gives the y behind it.
fn legend(out: &mut String, engines: &[(&String, &str)]) -> f64 {
    let (mut x, mut y) = (MARGIN, MARGIN);
    for (engine, colour) in engines {
        let width = 30.0 + 7.5 * engine.chars().count() as f64;
        if x + width > LABELS + PLOT + VALUES {
            (x, y) = (MARGIN, y + LEGEND);
        }
        let _ = writeln!(out, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        text(out, x + 17.0, y + 10.5, "", engine);
        x += width;
    }
    y + LEGEND
}

fn grid(out: &mut String, scale: &Scale, top: f64, height: f64) {
    for tick in scale.ticks() {
        let (x, class) = (scale.x(tick), if tick == 1.0 { "one" } else { "grid" });
        let bottom = top + height;
        let _ =
            writeln!(out, "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\" class=\"{class}\"/>");
        text(out, x - 3.0, top - 3.0, "small", &format!("{tick}"));
    }
}

/// A bar from 1 to the ratio, a line over its spread, and the value.
fn bar(out: &mut String, scale: &Scale, y: f64, colour: &str, outcome: Option<&Outcome>) {
    let times = match outcome {
        Some(Outcome::Measured(m)) => &m.times,
        Some(Outcome::Failed { .. }) => return text(out, scale.x(1.0) + 4.0, y + BAR, "small", "failed"),
        None => return,
    };
    let (one, end) = (scale.x(1.0), scale.x(times.ratio));
    let (x, width, height) = (one.min(end), (end - one).abs().max(1.0), BAR - 1.0);
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
    );
    let (from, to, middle) = (scale.x(times.ratio_min), scale.x(times.ratio_max), y + height / 2.0);
    let _ =
        writeln!(out, "<line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" class=\"spread\"/>");
    text(out, to.max(one) + 4.0, y + BAR - 0.5, "small", &figure(times.ratio));
}

fn text(out: &mut String, x: f64, y: f64, class: &str, content: &str) {
    let escaped = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{escaped}</text>");
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn the_scale_is_logarithmic_and_holds_one() {
        let s = Scale::over([4.0, 100.0].into_iter());
        assert!(s.low < 1.0 && s.high > 100.0);
        let step = s.x(10.0) - s.x(1.0);
        assert!((s.x(100.0) - s.x(10.0) - step).abs() < 1e-9 && step > 0.0);
        assert!((s.x(0.0001) - LABELS).abs() < 1e-9, "what lies outside sticks to the edge");
    }

    #[test]
    fn ticks_are_round_numbers_within() {
        assert_eq!(Scale { low: 0.8, high: 12.0 }.ticks(), [1.0, 2.0, 5.0, 10.0]);
    }

    #[test]
    fn every_engine_has_its_bar_and_its_legend() {
        let report = report(&[("fib", &[("native", 1.0), ("qemu <7>", 9.0), ("xlate O2", 1.5)])]);
        let svg = svg(&report);
        assert_eq!(svg.matches("qemu &lt;7&gt;").count(), 1);
        assert!(svg.contains(">9.00<") && svg.contains(">1.50<") && !svg.contains(">1.00<"));
        let legend_and_bars = 2 + 2;
        assert_eq!(svg.matches("<rect").count(), legend_and_bars);
    }
}
