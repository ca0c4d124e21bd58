//! A scenario's report as text and as a page.

mod html;
mod plot;

use crate::latency::Percentiles;
use crate::run::Report;

pub use html::html;

/// The report for a terminal.
#[must_use]
pub fn text(report: &Report) -> String {
    let finished: u64 = report.seconds.iter().map(|second| second.finished).sum();
    let total = report.arrival_seconds + report.drain_seconds;
    let mut text = format!(
        "{} requests in {:.1} s, {} failed; {} records acknowledged, {} refused\n\
         {finished} jobs ended within {total:.1} s ({:.0} a second); drained {:.1} s after the last arrival\n\n",
        report.requests,
        report.arrival_seconds,
        report.failed_requests,
        report.accepted,
        report.rejected,
        finished as f64 / total.max(1e-9),
        report.drain_seconds,
    );
    text += "LATENCY (ms)           COUNT      MEAN       P50       P90       P99     P99.9       MAX\n";
    for (name, latency) in latencies(report) {
        text += &format!(
            "{name:<18} {:>9} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1}\n",
            latency.count,
            latency.mean_ms,
            latency.p50_ms,
            latency.p90_ms,
            latency.p99_ms,
            latency.p999_ms,
            latency.max_ms
        );
    }
    text += "\nQUEUE                 MEAN IDEAL SHARE   MEAN ACTUAL SHARE\n";
    for (queue, ideal, actual) in mean_shares(report) {
        text += &format!("{queue:<20} {:>17.1}% {:>18.1}%\n", ideal * 100.0, actual * 100.0);
    }
    text + "\n" + &report.audit.text()
}

/// The three latencies with their names.
fn latencies(report: &Report) -> [(&'static str, Percentiles); 3] {
    [
        ("submit (from due)", report.submit_latency),
        ("submit to lease", report.lease_latency),
        ("submit to finished", report.finish_latency),
    ]
}

/// Queue, mean ideal and mean actual share, over the time in which jobs arrived.
fn mean_shares(report: &Report) -> Vec<(&str, f64, f64)> {
    report
        .scenario
        .queues
        .iter()
        .map(|queue| {
            let samples: Vec<_> = report
                .shares
                .iter()
                .filter(|sample| sample.queue == queue.name && sample.at <= report.arrival_seconds)
                .collect();
            let mean = |of: fn(&crate::run::ShareSample) -> f64| {
                samples.iter().map(|sample| of(sample)).sum::<f64>() / samples.len().max(1) as f64
            };
            (queue.name.as_str(), mean(|sample| sample.ideal), mean(|sample| sample.actual))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit;
    use crate::run::{Second, ShareSample};
    use crate::scenario::Scenario;

    fn report() -> Report {
        let scenario = "duration = \"2s\"\ndrain = \"1s\"\n[arrivals]\nrequests_per_second = 1.0\n\
                        jobs_per_request = 1\n[[queues]]\nname = \"a<b\"\n[[jobs]]\n";
        let latency = Percentiles { count: 3, p50_ms: 1.5, max_ms: 9.0, ..Percentiles::default() };
        let second = |finished| Second { submitted: 4, leased: 2, finished };
        let share = |at, actual| ShareSample { at, queue: "a<b".to_owned(), ideal: 0.5, actual };
        Report {
            scenario: Scenario::parse(scenario).unwrap(),
            url: "http://x".to_owned(),
            arrival_seconds: 2.0,
            drain_seconds: 1.0,
            requests: 3,
            failed_requests: 0,
            accepted: 3,
            rejected: 0,
            submit_latency: latency,
            lease_latency: latency,
            finish_latency: latency,
            seconds: vec![second(1), second(2), second(0)],
            shares: vec![share(0.0, 0.4), share(1.0, 0.8), share(2.5, 0.0)],
            audit: audit::Report { findings: 1, ..audit::Report::default() },
        }
    }

    #[test]
    fn the_text_has_every_part() {
        let text = text(&report());
        assert!(text.contains("3 jobs ended within 3.0 s (1 a second)"), "{text}");
        assert!(text.contains("submit (from due)          3       0.0       1.5"), "{text}");
        assert!(text.contains("50.0%               60.0%"), "{text}");
        assert!(text.contains("audit FAILED"), "{text}");
    }

    #[test]
    fn what_failed_or_was_refused_is_not_well() {
        let well = Report { audit: audit::Report::default(), ..report() };
        assert!(well.passed() && !report().passed());
        assert!(!Report { failed_requests: 1, ..well.clone() }.passed());
        assert!(!Report { rejected: 1, ..well }.passed());
    }

    #[test]
    fn the_page_needs_nothing_else_and_escapes_names() {
        let page = html(&report());
        assert!(page.contains("a&lt;b") && !page.contains("a<b"));
        assert!(!page.contains("src=") && !page.contains("<link") && !page.contains("@import"));
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert!(page.matches("<svg").count() >= 3);
    }

    #[test]
    fn the_report_is_read_back_from_json() {
        let text = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
    }
}
