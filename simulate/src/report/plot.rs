//! Plots as SVG, without anything from elsewhere. Colours come from the page's style, which has
//! others for dark screens.

use std::fmt::Write;

use super::text::span;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 32.0;
const TICKS: u32 = 4;

/// Colours that the page's style names.
pub(super) const COLOURS: usize = 8;

/// One line.
pub(super) struct Line {
    pub(super) name: String,
    /// From 0 on; beyond [`COLOURS`] they come again.
    pub(super) colour: usize,
    pub(super) is_dashed: bool,
    /// As many as there are times.
    pub(super) values: Vec<f64>,
}

/// How the values of a plot are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Parts of 1, as percentages.
    Percent,
    /// Numbers.
    Count,
}

/// A plot of lines over time, with a legend below it; `title` is what it shows, for those who do
/// not see it too.
pub(super) fn plot(title: &str, times: &[f64], lines: &[Line], unit: Unit) -> String {
    let values = || lines.iter().flat_map(|line| line.values.iter().copied());
    let least = if unit == Unit::Percent { 0.01 } else { 1.0 };
    let y_max = nice(values().fold(least, f64::max));
    let x_max = times.last().copied().unwrap_or(1.0).max(1e-9);
    let x_at = |x: f64| LEFT + x / x_max * (WIDTH - LEFT - RIGHT);
    let y_at = |y: f64| HEIGHT - BOTTOM - y / y_max * (HEIGHT - TOP - BOTTOM);
    let title = escape(title);
    let mut svg = format!(
        "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\
         <title>{title}</title>\n"
    );
    for tick in 0..=TICKS {
        let part = f64::from(tick) / f64::from(TICKS);
        let (x, y) = (x_at(x_max * part), y_at(y_max * part));
        let anchor = if tick == TICKS { "end" } else { "middle" };
        add(
            &mut svg,
            format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                label(y_max * part, unit),
                HEIGHT - 8.0,
                span((x_max * part).round()),
            ),
        );
    }
    for line in lines {
        let points = times.iter().zip(&line.values);
        let mut path = String::new();
        for (place, (x, y)) in points.enumerate() {
            let verb = if place == 0 { 'M' } else { 'L' };
            add(&mut path, format_args!("{verb}{:.1} {:.1}", x_at(*x), y_at(*y)));
        }
        add(&mut svg, format_args!("<path class=\"{}\" d=\"{path}\"/>\n", classes(line)));
    }
    svg += "</svg><figcaption>";
    for line in lines {
        add(
            &mut svg,
            format_args!(
                "<span><svg class=\"key\" viewBox=\"0 0 28 8\" aria-hidden=\"true\">\
                 <path class=\"{}\" d=\"M0 4L28 4\"/></svg>{}</span> ",
                classes(line),
                escape(&line.name)
            ),
        );
    }
    svg + "</figcaption></figure>\n"
}

fn classes(line: &Line) -> String {
    let dashed = if line.is_dashed { " dashed" } else { "" };
    format!("c{}{dashed}", line.colour % COLOURS)
}

fn label(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Percent => {
            let percent = value * 100.0;
            let digits = usize::from(percent < 10.0 && percent.fract().abs() > 1e-9);
            format!("{percent:.digits$}%")
        }
        Unit::Count => {
            let digits = usize::from(value < 10.0 && value.fract().abs() > 1e-9);
            format!("{value:.digits$}")
        }
    }
}

/// Text that stands in HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn add(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes everything");
}

/// The next of 1, 2, 4, 5, 8 or 10 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-6).log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value * 0.999).unwrap_or(value)
}
