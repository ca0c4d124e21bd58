//! A report as one page that can be kept and sent: no scripts, nothing from elsewhere, for light
//! and dark screens.

use std::fmt::Write;

use super::plot::{Line, Unit, escape, plot};
use super::text::{percent, span};
use super::{End, Percentiles, Pool, Queue, Report};

/// Queues that have lines of their own in the plots: the first ones; with more nobody tells them
/// apart.
const LINES_MAX: usize = 8;

const STYLE: &str = include_str!("page.css");

/// The page.
#[must_use]
pub fn html(report: &Report) -> String {
    let title = format!("{} on {}", escape(&report.workload), escape(&report.clusters));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}: simulated by Muster</title><style>{STYLE}</style></head><body><main>\n\
         <h1>{title}</h1>\n"
    );
    page += &summary(report);
    page += &queues(report);
    for pool in &report.pools {
        page += &of_pool(pool);
    }
    if !report.notes.is_empty() {
        page += "<h2>What was noticed in the files</h2>\n<ul>\n";
        for note in &report.notes {
            page += &format!("<li>{}</li>\n", escape(note));
        }
        page += "</ul>\n";
    }
    page + "</main></body></html>\n"
}

fn summary(report: &Report) -> String {
    let end = match report.end {
        End::Finished => "all jobs have ended",
        End::Until => "where it was to end",
        End::Stalled => "<span class=\"bad\">stalled: jobs wait that nothing comes free for</span>",
    };
    let makespan = report.makespan_seconds.map_or("-".to_owned(), span);
    let mut text = format!(
        "<p>{} simulated, {end}. Makespan {makespan}. {} rounds, seed {}, steps of {}.",
        span(report.simulated_seconds),
        report.rounds,
        report.seed,
        span(report.step_seconds),
    );
    if let Some(timings) = &report.timings {
        text += &format!(
            " It took {:.1} s; a round {:.2} ms (p50), {:.2} ms (p99).",
            timings.real_seconds, timings.round_ms_p50, timings.round_ms_p99
        );
    }
    text + "</p>\n"
}

fn queues(report: &Report) -> String {
    let mut table = String::from(
        "<h2>Queues</h2>\n<div class=\"wide\"><table><caption>Waiting: from a job's submission to its first \
         start</caption><tr><th scope=\"col\">queue</th><th scope=\"col\">weight</th>\
         <th scope=\"col\">jobs</th><th scope=\"col\">started</th><th scope=\"col\">succeeded</th>\
         <th scope=\"col\">failed</th><th scope=\"col\">preempted</th><th scope=\"col\">wait p50</th>\
         <th scope=\"col\">p90</th><th scope=\"col\">p99</th><th scope=\"col\">max</th></tr>\n",
    );
    for queue in &report.queues {
        row(&mut table, queue);
    }
    table + "</table></div>\n"
}

fn row(table: &mut String, queue: &Queue) {
    let wait = |of: fn(&Percentiles) -> f64| {
        queue.wait_seconds.as_ref().map_or("-".to_owned(), |wait| span(of(wait)))
    };
    let row = writeln!(
        table,
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        escape(&queue.queue),
        queue.weight,
        queue.jobs,
        queue.started,
        queue.succeeded,
        queue.failed,
        queue.preemptions,
        wait(|wait| wait.p50),
        wait(|wait| wait.p90),
        wait(|wait| wait.p99),
        wait(|wait| wait.max),
    );
    row.expect("a string takes everything");
}

fn of_pool(pool: &Pool) -> String {
    let name = escape(&pool.pool);
    let capacity: Vec<String> =
        pool.capacity.iter().map(|(name, n)| format!("{} {n}", escape(name))).collect();
    let mut page =
        format!("<h2>Pool {name}</h2>\n<p>{} nodes: {}.</p>\n", pool.nodes, capacity.join(", "));
    let series = &pool.series;
    let lines = series.utilisation.iter().zip(0..).map(|((resource, values), colour)| Line {
        name: resource.clone(),
        colour,
        is_dashed: false,
        values: values.clone(),
    });
    let lines: Vec<Line> = lines.collect();
    page += "<h3>In use</h3>\n";
    page += &plot(&format!("pool {}: part in use", pool.pool), &series.at, &lines, Unit::Percent);
    page += "<h3>Shares</h3>\n<p>Dashed: what the queue is entitled to by its weight and demand.";
    let more = series.queues.len().saturating_sub(LINES_MAX);
    if more > 0 {
        page += &format!(" The first {LINES_MAX} queues; {more} more are in the tables.");
    }
    page += "</p>\n";
    let (mut shares, mut waiting) = (Vec::new(), Vec::new());
    for (colour, queue) in series.queues.iter().enumerate().take(LINES_MAX) {
        let line = |name: String, is_dashed, values: &[f64]| Line {
            name,
            colour,
            is_dashed,
            values: values.to_vec(),
        };
        shares.push(line(queue.queue.clone(), false, &queue.actual));
        shares.push(line(format!("{} (ideal)", queue.queue), true, &queue.ideal));
        waiting.push(line(queue.queue.clone(), false, &queue.waiting));
    }
    let title = format!("pool {}: shares of queues, actual and ideal", pool.pool);
    page += &plot(&title, &series.at, &shares, Unit::Percent);
    page += &fairness(pool);
    page += "<h3>Waiting</h3>\n";
    let title = format!("pool {}: jobs that wait, by queue", pool.pool);
    page + &plot(&title, &series.at, &waiting, Unit::Count)
}

fn fairness(pool: &Pool) -> String {
    let fairness = &pool.fairness;
    if fairness.contended_seconds <= 0.0 {
        return "<p>Never was more wanted than the pool has.</p>\n".to_owned();
    }
    let mut text = format!(
        "<p>More was wanted than the pool has for {}: there the largest difference of any queue between \
         both was {} in the mean, {} at most.</p>\n<table><tr><th scope=\"col\">queue</th>\
         <th scope=\"col\">mean share</th><th scope=\"col\">mean ideal share</th></tr>\n",
        span(fairness.contended_seconds),
        percent(fairness.mean_error),
        percent(fairness.max_error)
    );
    for of in &fairness.queues {
        text += &format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>\n",
            escape(&of.queue),
            percent(of.actual),
            percent(of.ideal)
        );
    }
    text + "</table>\n"
}
