//! `muster admin`: looks at what a deployment has in its store, without a gateway.

use muster_runtime::collect::{self, Collector, Garbage, Mode};
use muster_runtime::history::History;
use muster_runtime::rounds::Rounds;
use muster_runtime::store::{self, Store};
use muster_runtime::verify::{self, Report};
use muster_runtime::{Blocking, Clock};
use serde::Serialize;

use crate::args::{Global, Output};
use crate::context::write_out;
use crate::exit::Outcome;
use crate::roles::StoreArgs;
use crate::settings::Settings;
use crate::show::{self, Rows};

mod rounds;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Check every object: whole, in its place, and each job accounted for
    ///
    /// Reads everything and writes nothing; the deployment may run meanwhile. Exit code 1 when
    /// something is wrong.
    Verify(StoreArgs),
    /// Let go of log objects, checkpoints and history that nobody needs
    ///
    /// Shard workers do this by themselves; the deployment may run meanwhile. How long things are
    /// kept is set by `shard.log_grace` and `shard.history_days`.
    Gc(GcArgs),
    /// Show what the last scheduling rounds came to
    ///
    /// Leaders of pools write that every `shard.rounds_interval`, of rounds that did something.
    Rounds(rounds::RoundsArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct GcArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Delete nothing, and show what would go
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Verify(arguments) => {
            let Some((_, store)) = open(&arguments)? else { return Ok(Outcome::Done) };
            let report = verify::verify(&store, &Blocking::per_core(), show::note).await?;
            print(global.output, &report, verified)?;
            let is_right = report.findings.is_empty();
            Ok(if is_right { Outcome::Done } else { Outcome::Failed })
        }
        Command::Gc(GcArgs { store, dry_run }) => {
            let Some((settings, store)) = open(&store)? else { return Ok(Outcome::Done) };
            let mode = if dry_run { Mode::DryRun } else { Mode::Delete };
            let collected = gc(&settings, &store, mode).await?;
            print(global.output, &collected, table)?;
            Ok(if collected.unreadable.is_empty() { Outcome::Done } else { Outcome::Failed })
        }
        Command::Rounds(arguments) => rounds::run(global, arguments).await,
    }
}

fn open(arguments: &StoreArgs) -> anyhow::Result<Option<(Settings, Store)>> {
    let Some(settings) = arguments.load()? else { return Ok(None) };
    let store = store::open(&settings.store)?;
    Ok(Some((settings, store)))
}

/// What went, or would go.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Collected {
    dry_run: bool,
    objects: Vec<Line>,
    /// Log objects that nobody needs, and that stay because they cannot be read.
    unreadable: Vec<String>,
}

/// Objects of one kind and shard.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<u16>,
    kind: &'static str,
    objects: u64,
    bytes: u64,
}

async fn gc(settings: &Settings, store: &Store, mode: Mode) -> anyhow::Result<Collected> {
    let (clock, blocking) = (Clock::system(), Blocking::per_core());
    let per_second = settings.shard.deletes_per_second.max(1);
    let pass = collect::Settings {
        grace: settings.shard.log_grace.0,
        deletes_per_second: if mode == Mode::DryRun { u32::MAX } else { per_second },
        mode,
    };
    let mut collected = Collected { dry_run: mode == Mode::DryRun, ..Collected::default() };
    for shard in verify::shards(store).await? {
        show::note(&format!("shard {shard}"));
        let Some(bounds) = collect::bounds(store, &blocking, shard).await? else { continue };
        let mut went = [(0, 0); 2];
        let count = |kind, bytes| {
            let (objects, sum): &mut (u64, u64) = &mut went[usize::from(kind == Garbage::Log)];
            *objects += 1;
            *sum += bytes;
        };
        let mut collector = Collector::new(store.clone(), shard, clock.clone());
        let passed = collector.pass(&bounds, &pass, count, || true).await?;
        collected.unreadable.extend(passed.unreadable);
        for (kind, (objects, bytes)) in ["checkpoint", "log"].into_iter().zip(went) {
            collected.objects.push(Line { shard: Some(shard.0), kind, objects, bytes });
        }
    }
    let days = settings.shard.history_days;
    if days > 0 {
        show::note("history");
        let history = History::new(store.clone(), blocking);
        let (mut objects, mut sum) = (0, 0);
        let count = |bytes| {
            objects += 1;
            sum += bytes;
        };
        history.expire(&clock, days, pass.deletes_per_second, mode, count).await?;
        collected.objects.push(Line { shard: None, kind: "history", objects, bytes: sum });
        let rounds = Rounds::new(store.clone(), Blocking::per_core());
        let (mut objects, mut sum) = (0, 0);
        let count = |bytes| {
            objects += 1;
            sum += bytes;
        };
        rounds.expire(&clock, days, pass.deletes_per_second, mode, count).await?;
        collected.objects.push(Line { shard: None, kind: "rounds", objects, bytes: sum });
    }
    Ok(collected)
}

fn print<T: Serialize>(
    output: Output,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    match output {
        Output::Table | Output::Page => write_out(&table(value)),
        Output::Json => write_out(&(serde_json::to_string_pretty(value)? + "\n")),
        Output::Yaml => write_out(&show::yaml(value)?),
    }
}

fn table(collected: &Collected) -> String {
    let what = if collected.dry_run { "WOULD GO" } else { "WENT" };
    let mut rows = Rows::new(false, &["SHARD", "KIND", what, "BYTES"]);
    for line in &collected.objects {
        rows.add([
            line.shard.map_or_else(|| "-".to_owned(), |shard| shard.to_string()),
            line.kind.to_owned(),
            line.objects.to_string(),
            line.bytes.to_string(),
        ]);
    }
    let mut text = rows.text();
    for what in &collected.unreadable {
        text += &format!("stays, because it cannot be read: {what}\n");
    }
    text
}

fn verified(report: &Report) -> String {
    let header = [
        "SHARD",
        "LOG",
        "FENCES",
        "COLLECTED",
        "CHECKPOINTS",
        "COMPARED",
        "SUBMITTED",
        "LIVE",
        "HISTORY",
    ];
    let mut rows = Rows::new(false, &header);
    for shard in &report.shards {
        let numbers = [
            u64::from(shard.shard),
            shard.log_objects,
            shard.fences,
            shard.collected,
            shard.checkpoints,
            shard.checkpoints_compared,
            shard.submitted,
            shard.live,
            shard.history,
        ];
        rows.add(numbers.map(|number| number.to_string()));
    }
    let mut text = rows.text();
    for found in &report.findings {
        text += &format!("{}: {}\n", found.place, found.what);
    }
    if report.findings_left_out > 0 {
        text += &format!("and {} more\n", report.findings_left_out);
    }
    if report.findings.is_empty() {
        text += "nothing is wrong\n";
    }
    text
}
