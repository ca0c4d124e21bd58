//! `muster simulate`: a workload on clusters in memory, under simulated time.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::ProgressBar;
use muster_core::time::Timestamp;
use muster_runtime::store;
use muster_runtime::{Blocking, clock::Stopwatch};
use muster_simulate::report::{self, End};
use muster_simulate::scenario::{self, Sources, Workload, history};
use muster_simulate::{Options, Report};

use crate::args::{NoUrl, Output};
use crate::context::write_out;
use crate::exit::{Outcome, Usage};
use crate::{roles, show};

/// How often the progress is drawn again.
const REDRAW: Duration = Duration::from_millis(200);

/// Try a workload out on clusters in memory, under simulated time
///
/// Jobs are scheduled by the shipped leader and solver, far faster than real time. Files are those
/// of Armada's simulator. The same files and seed give the same report, timings aside.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    _client: NoUrl,
    /// Clusters: pools, nodes
    #[arg(value_name = "CLUSTERS.yaml")]
    clusters: PathBuf,
    /// Queues and jobs
    #[arg(value_name = "WORKLOAD.yaml", required_unless_present = "from_history")]
    workload: Option<PathBuf>,
    /// Scheduling settings: priority classes, limits
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What everything random is drawn from (default: the workload's `randomSeed`, or 0)
    #[arg(long)]
    seed: Option<u64>,
    /// How the report is printed
    #[arg(long, short, value_parser = format(), default_value = "text", value_name = "FORMAT")]
    output: Output,
    /// Write the report as a page, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// End after so much simulated time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    until: Option<Duration>,
    /// Ends of runs are noticed, and jobs submitted, at multiples of it
    #[arg(long, value_name = "DURATION", value_parser = step, default_value = "10s")]
    step: Duration,
    /// Leave out what differs from run to run: how long it took
    #[arg(long)]
    no_timings: bool,
    /// Take the jobs from a deployment's history in place of a file
    #[arg(long, conflicts_with = "workload")]
    from_history: bool,
    /// The deployment's store: `s3://bucket/prefix`, `file:///dir`
    #[arg(long, value_name = "URL", requires = "from_history")]
    store: Option<String>,
    /// Only jobs submitted from this time on: `2026-11-01` or `2026-11-01T08:00:00Z`
    #[arg(long, value_name = "TIME", requires = "from_history", value_parser = time)]
    history_from: Option<Timestamp>,
    /// Only jobs submitted before this time
    #[arg(long, value_name = "TIME", requires = "from_history", value_parser = time)]
    history_to: Option<Timestamp>,
}

/// How a report is printed: text for people, JSON for programs, or a page that needs nothing else.
fn format() -> impl TypedValueParser<Value = Output> {
    PossibleValuesParser::new(["text", "json", "html"]).map(|name| match name.as_str() {
        "json" => Output::Json,
        "html" => Output::Page,
        _ => Output::Table,
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = scenario::duration(text);
    duration.ok_or_else(|| "it is not a length of time such as `90s` or `1h30m`".to_owned())
}

fn step(text: &str) -> Result<Duration, String> {
    let step = duration(text)?;
    if step < Duration::from_secs(1) || step > Duration::from_secs(3_600) {
        return Err("it is not from 1s to 1h".to_owned());
    }
    Ok(step)
}

fn time(text: &str) -> Result<Timestamp, String> {
    let millis = show::millis_of(text).or_else(|| show::millis_of(&format!("{text}T00:00:00Z")));
    let millis = millis.ok_or("it is neither a day such as `2026-11-01` nor a time in RFC 3339")?;
    Ok(Timestamp(millis))
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let taken = taken(&arguments).await?;
    let workload = match (&taken, &arguments.workload) {
        (Some(taken), _) => Workload::History(taken),
        (None, Some(path)) => Workload::File(path),
        (None, None) => unreachable!("the command line has one of both"),
    };
    let config = arguments.config.as_deref();
    let sources = Sources { clusters: &arguments.clusters, workload, config };
    let scenario = scenario::read(&sources).map_err(|error| Usage(error.to_string()))?;
    for note in &scenario.notes {
        show::note(&format!("warning: {note}"));
    }
    let options = Options {
        seed: arguments.seed.or(scenario.seed()).unwrap_or(0),
        step: arguments.step,
        until: arguments.until,
        progress: progress(),
    };
    let simulate = move || muster_simulate::run(scenario, options);
    let mut report = Blocking::new(1).run(simulate).await??;
    if arguments.no_timings {
        report = report.without_timings();
    }
    write(&arguments, &report)?;
    Ok(if report.end == End::Stalled { Outcome::Failed } else { Outcome::Done })
}

/// What was taken from a deployment's history, if that is to be.
async fn taken(arguments: &Arguments) -> anyhow::Result<Option<history::Taken>> {
    if !arguments.from_history {
        return Ok(None);
    }
    let settings = roles::store_settings(arguments.store.clone())?;
    let url = &settings.store.url;
    let store =
        store::open(&settings.store).with_context(|| format!("store `{url}` cannot be opened"))?;
    let times = (arguments.history_from, arguments.history_to);
    let taken = history::take(&store, times);
    Ok(Some(taken.await.with_context(|| format!("history of `{url}` cannot be taken"))?))
}

fn write(arguments: &Arguments, report: &Report) -> anyhow::Result<()> {
    if let Some(path) = &arguments.html {
        std::fs::write(path, report::html(report))
            .with_context(|| format!("`{}` cannot be written", path.display()))?;
    }
    write_out(&match arguments.output {
        Output::Json | Output::Yaml => report.json(),
        Output::Page => report::html(report),
        Output::Table => report::text(report),
    })
}

/// Says how far the simulation is, to people who watch.
fn progress() -> Box<dyn FnMut(Duration, u64) + Send> {
    if !show::stderr_is_terminal() {
        return Box::new(|_, _| {});
    }
    let bar = ProgressBar::new_spinner();
    let mut drawn = Stopwatch::start();
    Box::new(move |moment, waiting| {
        if drawn.elapsed() >= REDRAW {
            drawn = Stopwatch::start();
            let simulated = show::span(i64::try_from(moment.as_millis()).unwrap_or(i64::MAX));
            bar.set_message(format!("{simulated} simulated, {waiting} jobs wait"));
            bar.tick();
        }
    })
}
