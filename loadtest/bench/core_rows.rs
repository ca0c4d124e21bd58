//! Rows without a deployment: memory of queued jobs, takeover of a shard.

use std::sync::Arc;

use bytes::Bytes;
use muster_core::command::{Command, NewJob, Submit};
use muster_core::id::{CommandId, Position, ShardId};
use muster_core::quantity::Quantity;
use muster_core::record::{Payload, Record};
use muster_core::resources::Resources;
use muster_core::shape::Shape;
use muster_core::shard::{Context, Shard};
use muster_core::time::Timestamp;
use muster_runtime::codec::Kind;
use muster_runtime::log::{Limits, Log, Params, Sealed};
use muster_runtime::{Blocking, Clock, Random};

use muster_loadtest::measure::table::{Met, Row, grouped};

use crate::row;

const PER_COMMIT: u64 = 4_000;

fn shape() -> Arc<Shape> {
    let mut request = Resources::new();
    request.set("cpu".into(), Quantity::from_millis(100));
    request.set("memory".into(), Quantity::from_units(64 << 20));
    Arc::new(Shape::of_request(request))
}

/// A commit's worth of submissions: their records are in `records`.
fn submit(shard: &mut Shard, commit: u64, payload: &Payload, records: &mut Vec<Record>) {
    let shape = shape();
    let jobs = (0..PER_COMMIT).map(|line| NewJob {
        line,
        client_id: None,
        priority: 0,
        count: None,
        at_most_once: false,
        terms: None,
        shape: Arc::clone(&shape),
        payload: payload.clone(),
    });
    let submit = Submit {
        queue: format!("queue-{}", commit % 10).into(),
        incarnation: 1,
        job_set: "set".into(),
        key: None,
        queued_max: None,
        jobs: jobs.collect(),
    };
    let now = Timestamp(1_790_000_000_000 + i64::try_from(commit).unwrap_or(0));
    let position = Position { sequence: commit + 1, row: 0 };
    let ctx = Context { now, random: 0x1234_5678_9abc, position };
    shard.execute(CommandId(commit.into()), Command::Submit(submit), ctx, records);
}

/// Resident memory per queued job, of so many and of ten times as many.
pub(crate) fn memory(jobs: u64) -> Vec<Row> {
    let (few, kept) = memory_of(jobs);
    let (many, _) = memory_of(10 * jobs);
    // Until here: memory that is free again would be used again, and not be seen to grow.
    drop(kept);
    vec![few, many]
}

fn memory_of(jobs: u64) -> (Row, Shard) {
    let resident = || muster_runtime::metrics::resident_bytes().unwrap_or(0).unsigned_abs();
    let before = resident();
    let mut shard = Shard::new(ShardId(0));
    let mut records = Vec::new();
    for commit in 0..jobs.div_ceil(PER_COMMIT) {
        submit(&mut shard, commit, &Payload::default(), &mut records);
        records.clear();
    }
    let after = resident();
    let grown = after.saturating_sub(before);
    let each = grown / jobs.max(1);
    let bytes_max = if jobs <= 1_000_000 { 160 * jobs } else { 2 << 30 };
    let goal = if jobs <= 1_000_000 { "≤ 160 B" } else { "< 2 GiB in all" };
    let row = row(
        &format!("resident memory per queued job, {} queued", grouped(jobs)),
        format!("{each} B"),
        format!("{} MiB in all", grown >> 20),
        goal,
        Met::at_most(grown as f64, bytes_max as f64),
    );
    (row, shard)
}

/// Time to take over a shard with so many queued jobs: from the log, and from a checkpoint.
pub(crate) async fn takeover(jobs: u64) -> anyhow::Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let objects = object_store::local::LocalFileSystem::new_with_prefix(directory.path())?;
    let clock = Clock::system();
    let params = || Params {
        store: Arc::new(objects.clone()),
        shard: ShardId(0),
        writer: Random::from_os().u128(),
        random: Random::from_os(),
        blocking: Blocking::per_core(),
        limits: Limits::default(),
    };
    let taken = Log::take_over(params(), |_, _| {}).await?;
    let mut shard = Shard::new(ShardId(0));
    let payload = Payload {
        namespace: "default".into(),
        pod_spec: Bytes::from(format!("{{\"x\":\"{}\"}}", "y".repeat(1000))),
        ..Payload::default()
    };
    for commit in 1..=jobs.div_ceil(PER_COMMIT) {
        let mut records = Vec::new();
        submit(&mut shard, commit, &payload, &mut records);
        let header = taken.log.next_header(Kind::Log, false);
        taken.log.append(&Sealed::new(header, &records)?).await?;
    }
    let mut rows = vec![timed(&clock, params(), "the log", jobs).await?];
    let again = Log::take_over(params(), |_, _| {}).await?;
    let sequence = again.log.next_sequence() - 1;
    again.log.write_checkpoint(sequence, shard.records()).await?;
    drop(shard);
    rows.push(timed(&clock, params(), "a checkpoint", jobs).await?);
    Ok(rows)
}

async fn timed(clock: &Clock, params: Params, from: &str, jobs: u64) -> anyhow::Result<Row> {
    let began = clock.monotonic();
    let mut shard = Shard::new(ShardId(0));
    let taken = Log::take_over(params, |position, record| shard.apply(position, &record)).await?;
    let took = clock.monotonic() - began;
    anyhow::ensure!(shard.live() >= jobs, "{} jobs of {jobs} were read", shard.live());
    Ok(row(
        &format!("takeover of a shard with {} queued, from {from}", grouped(jobs)),
        format!("{took:.2?}"),
        format!("{} records read", grouped(taken.records)),
        "≤ 3 s",
        Met::at_most(took.as_secs_f64(), 3.0),
    ))
}
