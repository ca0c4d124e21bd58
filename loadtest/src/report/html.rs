//! The report as one page that can be kept and sent.

use std::fmt::Write;

use super::plot::{COLOURS, Series, escape, lines};
use super::{latencies, mean_shares};
use crate::run::{Report, Second};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2rem auto;padding:0 1rem;\
color:#222;background:#fff}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}\
table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}\
td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto}svg text{font-size:11px;fill:#555}\
.grid{stroke:#e4e4e4}.legend span{margin-right:1.2rem}.legend i{display:inline-block;width:1.6rem;\
margin-right:.4rem;vertical-align:middle}pre{background:#f6f6f6;padding:.8rem;overflow:auto}\
.bad{color:#b00020;font-weight:600}.good{color:#00703c;font-weight:600}";

/// The page.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>Muster load test</title><style>{STYLE}</style></head><body>\n\
         <h1>Muster load test</h1>\n<p>{}: {} requests in {:.1} s, {} records acknowledged, {} refused, \
         drained {:.1} s after the last arrival.</p>\n",
        escape(&report.url),
        report.requests,
        report.arrival_seconds,
        report.accepted,
        report.rejected,
        report.drain_seconds,
    );
    let class = if report.audit.passed() { "good" } else { "bad" };
    page += &format!("<pre class=\"{class}\">{}</pre>\n", escape(&report.audit.text()));
    page += "<h2>Jobs a second</h2>\n";
    page += &lines(&throughput(report), "", 1.0);
    page += "<h2>Latency</h2>\n";
    page += &latency_table(report);
    page += "<h2>Latency percentiles</h2>\n";
    page += &latency_bars(report);
    page += "<h2>Share of the pool</h2>\n<p>Dashed: ideal.</p>\n";
    page += &lines(&shares(report), "%", 1.0);
    page += &share_table(report);
    page += "<h2>Scenario</h2>\n";
    let scenario =
        serde_json::to_string_pretty(&report.scenario).expect("a scenario is plain data");
    page += &format!("<pre>{}</pre>\n</body></html>\n", escape(&scenario));
    page
}

fn throughput(report: &Report) -> Vec<Series> {
    type Figure = (&'static str, fn(&Second) -> u64);
    let kinds: [Figure; 3] = [
        ("acknowledged", |second| second.submitted),
        ("leased", |second| second.leased),
        ("finished", |second| second.finished),
    ];
    let series = kinds.into_iter().zip(COLOURS).map(|((name, of), colour)| Series {
        name: name.to_owned(),
        colour,
        dashed: false,
        points: (0..).map(f64::from).zip(report.seconds.iter().map(|s| of(s) as f64)).collect(),
    });
    series.collect()
}

fn shares(report: &Report) -> Vec<Series> {
    let mut series = Vec::new();
    for (queue, colour) in report.scenario.queues.iter().zip(COLOURS.iter().cycle()) {
        let of_queue = || report.shares.iter().filter(|sample| sample.queue == queue.name);
        let points = of_queue().map(|sample| (sample.at, sample.actual * 100.0)).collect();
        let name = queue.name.clone();
        series.push(Series { name, colour, dashed: false, points });
        let points = of_queue().map(|sample| (sample.at, sample.ideal * 100.0)).collect();
        let name = format!("{} (ideal)", queue.name);
        series.push(Series { name, colour, dashed: true, points });
    }
    series
}

fn latency_table(report: &Report) -> String {
    let mut table = String::from(
        "<table><tr><th>ms</th><th>count</th><th>mean</th><th>p50</th><th>p90</th><th>p99</th>\
         <th>p99.9</th><th>max</th></tr>\n",
    );
    for (name, latency) in latencies(report) {
        let row = writeln!(
            table,
            "<tr><td>{name}</td><td>{}</td><td>{:.1}</td><td>{:.1}</td><td>{:.1}</td><td>{:.1}</td>\
             <td>{:.1}</td><td>{:.1}</td></tr>",
            latency.count,
            latency.mean_ms,
            latency.p50_ms,
            latency.p90_ms,
            latency.p99_ms,
            latency.p999_ms,
            latency.max_ms
        );
        row.expect("a string takes everything");
    }
    table + "</table>\n"
}

/// Bars on a logarithmic scale from 0.1 ms to 1,000 s.
fn latency_bars(report: &Report) -> String {
    const WIDTH: f64 = 620.0;
    const ROW: f64 = 20.0;
    const DECADES: f64 = 7.0;
    let length = |ms: f64| ((ms.max(0.1).log10() + 1.0) / DECADES * WIDTH).clamp(1.0, WIDTH);
    let mut bars = String::new();
    let mut y = 4.0;
    for ((name, latency), colour) in latencies(report).into_iter().zip(COLOURS) {
        let percentiles = [
            ("p50", latency.p50_ms),
            ("p90", latency.p90_ms),
            ("p99", latency.p99_ms),
            ("p99.9", latency.p999_ms),
        ];
        for (quantile, ms) in percentiles {
            let bar = writeln!(
                bars,
                "<text x=\"150\" y=\"{:.0}\" text-anchor=\"end\">{name} {quantile}</text>\
                 <rect x=\"158\" y=\"{y:.0}\" width=\"{:.1}\" height=\"14\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{:.0}\">{ms:.1} ms</text>",
                y + 11.0,
                length(ms),
                length(ms) + 164.0,
                y + 11.0,
            );
            bar.expect("a string takes everything");
            y += ROW;
        }
        y += 8.0;
    }
    format!("<svg viewBox=\"0 0 860 {y:.0}\" role=\"img\">\n{bars}</svg>\n")
}

fn share_table(report: &Report) -> String {
    let mut table = String::from(
        "<table><tr><th>queue</th><th>mean ideal share</th><th>mean actual share</th></tr>\n",
    );
    for (queue, ideal, actual) in mean_shares(report) {
        let row = writeln!(
            table,
            "<tr><td>{}</td><td>{:.1}%</td><td>{:.1}%</td></tr>",
            escape(queue),
            ideal * 100.0,
            actual * 100.0
        );
        row.expect("a string takes everything");
    }
    table + "</table>\n"
}
