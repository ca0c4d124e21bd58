//! `muster admin rounds`

use muster_api::http::time_text;
use muster_runtime::Blocking;
use muster_runtime::rounds::{Rounds, Row};
use serde::Serialize;

use super::{open, print};
use crate::args::Global;
use crate::exit::Outcome;
use crate::roles::StoreArgs;
use crate::show::{Rows, or_dash, percent};

/// Rounds that may be asked for.
const LAST_MAX: u64 = 10_000;

#[derive(Debug, clap::Args)]
pub(crate) struct RoundsArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Of this pool only
    #[arg(long)]
    pool: Option<String>,
    /// How many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=LAST_MAX))]
    last: u64,
    /// Show what they came to for each queue, too
    #[arg(long)]
    queues: bool,
}

/// A round, or what it came to for a queue.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    at: String,
    pool: String,
    kind: &'static str,
    digest: String,
    took_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    placed: u64,
    preempted: u64,
    waiting: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fair_share: Option<f64>,
    /// Why jobs were left.
    reasons: std::collections::BTreeMap<&'static str, u64>,
}

pub(super) async fn run(global: &Global, arguments: RoundsArgs) -> anyhow::Result<Outcome> {
    let Some((_, store)) = open(&arguments.store)? else { return Ok(Outcome::Done) };
    let rounds = Rounds::new(store, Blocking::per_core());
    let last = usize::try_from(arguments.last).unwrap_or(usize::MAX);
    let rows = rounds.last(arguments.pool.as_deref(), last).await?;
    let shown = rows.into_iter().filter(|row| arguments.queues || row.queue.is_none());
    let lines: Vec<Line> = shown.map(Line::from).collect();
    print(global.output, &lines, |lines| table(lines))?;
    Ok(Outcome::Done)
}

impl From<Row> for Line {
    fn from(row: Row) -> Self {
        let of = &row.reasons;
        let reasons = [
            ("never fits", of.never_fits),
            ("no room", of.no_room),
            ("budget", of.budget),
            ("rate", of.rate),
            ("limit", of.limit),
            ("claimed", of.claimed),
            ("gang", of.gang),
        ];
        Self {
            at: time_text(row.at),
            pool: row.pool.to_string(),
            kind: row.kind.name(),
            digest: format!("{:016x}", row.digest),
            took_us: row.took_us,
            queue: row.queue.map(|queue| queue.to_string()),
            placed: row.placed,
            preempted: row.preempted,
            waiting: row.waiting,
            share: row.share,
            fair_share: row.fair_share,
            reasons: reasons.into_iter().filter(|(_, jobs)| *jobs > 0).collect(),
        }
    }
}

fn table(lines: &[Line]) -> String {
    let header = [
        "AT",
        "POOL",
        "KIND",
        "TOOK",
        "QUEUE",
        "PLACED",
        "PREEMPTED",
        "LEFT",
        "SHARE",
        "FAIR",
        "WHY LEFT",
    ];
    let mut rows = Rows::new(false, &header);
    for line in lines {
        let reasons = line.reasons.iter().map(|(reason, jobs)| format!("{reason} {jobs}"));
        let reasons: Vec<_> = reasons.collect();
        rows.add([
            line.at.clone(),
            line.pool.clone(),
            line.kind.to_owned(),
            format!("{} us", line.took_us),
            or_dash(line.queue.as_deref()),
            line.placed.to_string(),
            line.preempted.to_string(),
            line.waiting.to_string(),
            or_dash(line.share.map(percent).as_deref()),
            or_dash(line.fair_share.map(percent).as_deref()),
            or_dash(Some(&reasons.join(", "))),
        ]);
    }
    rows.text()
}
