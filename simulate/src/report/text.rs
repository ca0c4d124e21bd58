//! A report for a terminal.

use super::{End, Percentiles, Pool, Report};

/// The report as text.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut text = format!(
        "{} on {}: {} simulated, {}\n",
        report.workload,
        report.clusters,
        span(report.simulated_seconds),
        match report.end {
            End::Finished => "all jobs have ended",
            End::Until => "where it was to end",
            End::Stalled => "STALLED: jobs wait that nothing comes free for",
        }
    );
    let makespan = report.makespan_seconds.map_or("-".to_owned(), span);
    text += &format!(
        "seed {}, steps of {}, {} rounds, makespan {makespan}\n",
        report.seed,
        span(report.step_seconds),
        report.rounds
    );
    text += &queues(report);
    for pool in &report.pools {
        text += &of_pool(pool);
    }
    if let Some(timings) = &report.timings {
        text += &format!(
            "\ntook {:.1} s, {:.0} times faster than the simulated time; a round {:.2} ms (p50), {:.2} ms (p99)\n",
            timings.real_seconds,
            timings.simulated_per_real,
            timings.round_ms_p50,
            timings.round_ms_p99
        );
    }
    text
}

fn queues(report: &Report) -> String {
    let header = ["QUEUE", "WEIGHT", "JOBS", "STARTED", "SUCCEEDED", "FAILED", "PREEMPTED"];
    let waits = ["WAIT P50", "P90", "P99", "MAX"];
    let mut rows = vec![header.into_iter().chain(waits).map(str::to_owned).collect::<Vec<_>>()];
    for queue in &report.queues {
        let wait = |of: fn(&Percentiles) -> f64| {
            queue.wait_seconds.as_ref().map_or("-".to_owned(), |wait| span(of(wait)))
        };
        rows.push(vec![
            queue.queue.clone(),
            queue.weight.to_string(),
            queue.jobs.to_string(),
            queue.started.to_string(),
            queue.succeeded.to_string(),
            queue.failed.to_string(),
            queue.preemptions.to_string(),
            wait(|wait| wait.p50),
            wait(|wait| wait.p90),
            wait(|wait| wait.p99),
            wait(|wait| wait.max),
        ]);
    }
    format!("\n{}", table(&rows))
}

fn of_pool(pool: &Pool) -> String {
    let used: Vec<String> = pool
        .mean_utilisation
        .iter()
        .map(|(name, part)| format!("{name} {}", percent(*part)))
        .collect();
    let mut text = format!(
        "\npool {}: {} nodes, in use on average: {}\n",
        pool.pool,
        pool.nodes,
        used.join(", ")
    );
    let fairness = &pool.fairness;
    if fairness.contended_seconds <= 0.0 {
        return text + "never was more wanted than it has\n";
    }
    text += &format!(
        "contended for {}: share error {} in the mean, {} at most\n",
        span(fairness.contended_seconds),
        percent(fairness.mean_error),
        percent(fairness.max_error)
    );
    let header = ["QUEUE", "SHARE", "IDEAL"].map(str::to_owned).to_vec();
    let rows = fairness.queues.iter();
    let rows = rows.map(|of| vec![of.queue.clone(), percent(of.actual), percent(of.ideal)]);
    text + &table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

/// Rows of cells, the first of each to the left, the others to the right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

/// `42.0%`.
pub(super) fn percent(part: f64) -> String {
    format!("{:.1}%", part * 100.0)
}

/// `45s`, `3m20s`, `5h10m`, `2d3h`.
pub(super) fn span(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{}s", (seconds * 10.0).round() / 10.0);
    }
    let whole = seconds.round() as u64;
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{small_unit}"),
    };
    match whole {
        0..3_600 => two(whole / 60, "m", whole % 60, "s"),
        3_600..86_400 => two(whole / 3_600, "h", whole % 3_600 / 60, "m"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
    }
}
