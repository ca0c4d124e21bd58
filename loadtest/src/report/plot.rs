//! Line plots as SVG, without anything from elsewhere.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
const TICKS: u32 = 5;

/// Colours that differ for people who see few of them, too.
pub(super) const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];

/// One line.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) colour: &'static str,
    pub(super) dashed: bool,
    /// In rising order of x.
    pub(super) points: Vec<(f64, f64)>,
}

/// The plot, with a legend below it.
pub(super) fn lines(series: &[Series], unit: &str, top_least: f64) -> String {
    let points = || series.iter().flat_map(|series| &series.points);
    let x_max = points().map(|point| point.0).fold(1.0, f64::max);
    let y_max = nice(points().map(|point| point.1).fold(top_least, f64::max));
    let x_at = |x: f64| LEFT + x / x_max * (WIDTH - LEFT - RIGHT);
    let y_at = |y: f64| HEIGHT - BOTTOM - y / y_max * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    for tick in 0..=TICKS {
        let part = f64::from(tick) / f64::from(TICKS);
        let (y, x) = (y_at(y_max * part), x_at(x_max * part));
        add(
            &mut svg,
            format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}{unit}</text>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{} s</text>\n",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                number(y_max * part),
                HEIGHT - 10.0,
                number(x_max * part),
            ),
        );
    }
    for series in series {
        let mut path = String::new();
        for (at, (x, y)) in series.points.iter().enumerate() {
            let verb = if at == 0 { 'M' } else { 'L' };
            add(&mut path, format_args!("{verb}{:.1} {:.1}", x_at(*x), y_at(*y)));
        }
        let dash = if series.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        add(
            &mut svg,
            format_args!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\"{dash}/>\n",
                series.colour
            ),
        );
    }
    svg += "</svg>\n<p class=\"legend\">";
    for series in series {
        let style = if series.dashed { "dashed" } else { "solid" };
        add(
            &mut svg,
            format_args!(
                "<span><i style=\"border-top:3px {style} {}\"></i>{}</span> ",
                series.colour,
                escape(&series.name)
            ),
        );
    }
    svg + "</p>\n"
}

/// Text that stands in HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn add(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes everything");
}

/// The next of 1, 2, 5, 10, 20, … times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-6).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value * 0.999).unwrap_or(value)
}

fn number(value: f64) -> String {
    let digits = if value >= 10.0 || value.fract() < 1e-9 { 0 } else { 1 };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.3, 1.0, 3.0, 42.0, 800.0].map(nice), [0.5, 1.0, 5.0, 50.0, 1000.0]);
        assert_eq!(number(0.2), "0.2");
        assert_eq!(number(200.0), "200");
    }

    #[test]
    fn points_lie_within_the_plot() {
        let points = vec![(0.0, 0.0), (10.0, 100.0)];
        let series = Series { name: "x".into(), colour: COLOURS[0], dashed: false, points };
        let svg = lines(&[series], "", 1.0);
        assert!(svg.contains("M64.0 226.0L844.0 12.0"), "{svg}");
    }
}
