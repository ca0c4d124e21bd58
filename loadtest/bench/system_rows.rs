//! Rows of a deployment: submission, latencies, throughput, the cost of doing nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::try_join_all;
use muster_api::job_text::Parser;
use muster_client::{Answers, Client, Compression, Follow, Format, Submission};
use muster_core::id::{JobId, ShardId};
use muster_core::record::{Payload, Record, Submitted};
use muster_core::time::Timestamp;
use muster_runtime::codec::{self, Header, Kind};
use muster_runtime::{Clock, Random};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::Row;
use crate::deployment::Deployment;
use crate::work;

const PER_BODY: usize = 10_000;
const CONNECTIONS: usize = 4;

fn submission(queue: &str, body: Bytes, key: String) -> Submission {
    Submission {
        queue: queue.to_owned(),
        job_set: "bench".to_owned(),
        key: Some(key),
        format: Format::Ndjson,
        compression: Compression::None,
        answers: Answers::Summary,
        body: vec![body],
    }
}

/// Bulk submission of different specs, an array of ten million, and the floors.
pub(crate) async fn submit(jobs: usize) -> anyhow::Result<Vec<Row>> {
    let clock = Clock::system();
    let bodies = work::bodies(jobs, PER_BODY);
    let bytes: usize = bodies.iter().map(Bytes::len).sum();
    let (parse, records) = parse_floor(&clock, &bodies)?;
    let (encode, objects) = encode_floor(&clock, &records)?;
    drop(records);
    let put = put_floor(&clock, objects).await?;
    let deployment = Deployment::start("simulated:1x1x1x1Gi")?;
    let queues = ["qa", "qb", "qc", "qd"];
    for queue in queues {
        deployment.queue(queue, true).await?;
    }
    let before = deployment.resident_bytes()?;
    let began = clock.monotonic();
    let lanes = (0..CONNECTIONS).map(|lane| {
        let client = deployment.client.clone();
        let mine: Vec<Bytes> = bodies.iter().skip(lane).step_by(CONNECTIONS).cloned().collect();
        async move {
            for (number, body) in mine.into_iter().enumerate() {
                let key = format!("bench-{lane}-{number}");
                client.submit(&submission(queues[lane % queues.len()], body, key)).await?;
            }
            Ok::<(), muster_client::Error>(())
        }
    });
    try_join_all(lanes).await?;
    let wall = clock.monotonic() - began;
    let after = deployment.resident_bytes()?;
    let floor = parse + encode + put;
    let rate = jobs as f64 / wall.as_secs_f64();
    let ratio = wall.as_secs_f64() / floor.as_secs_f64();
    let mut rows = vec![Row::new(
        &format!("bulk submit, {jobs} different specs of {} B", bytes / jobs),
        format!("{rate:.0} jobs/s"),
        format!(
            "{wall:.2?}, {ratio:.2} × (parse {parse:.2?} + encode {encode:.2?} + put {put:.2?}); the process grew by {} MiB",
            after.saturating_sub(before) >> 20
        ),
    )];
    let array = br#"{"count":10000000,"podSpec":{"containers":[{"name":"main","image":"x"}]}}"#;
    let began = clock.monotonic();
    let body = Bytes::from_static(array);
    deployment.client.submit(&submission("qa", body, "array".to_owned())).await?;
    let took = clock.monotonic() - began;
    rows.push(Row::new(
        "array of 10,000,000 jobs",
        format!("{took:.1?}"),
        "one request, one record",
    ));
    Ok(rows)
}

/// Reading the text alone, on one thread; gives the records for the next floor.
fn parse_floor(clock: &Clock, bodies: &[Bytes]) -> anyhow::Result<(Duration, Vec<Record>)> {
    let began = clock.monotonic();
    for body in bodies {
        let mut parser = Parser::new();
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            parser.parse(line)?;
        }
    }
    let took = clock.monotonic() - began;
    let mut records = Vec::new();
    for body in bodies {
        let mut parser = Parser::new();
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let job = parser.parse(line)?;
            let id = JobId::new(Timestamp(1), ShardId(0), records.len() as u64);
            records.push(Record::Submitted(Box::new(Submitted {
                job: id,
                queue: "qa".into(),
                job_set: "bench".into(),
                client_id: None,
                priority: job.priority,
                count: None,
                at_most_once: false,
                shape: Arc::clone(&job.shape.shape),
                payload: Payload {
                    namespace: "default".into(),
                    pod_spec: body.slice_ref(job.pod_spec.as_bytes()),
                    ..Payload::default()
                },
            })));
        }
    }
    Ok((took, records))
}

/// Encoding alone, on one thread.
fn encode_floor(clock: &Clock, records: &[Record]) -> anyhow::Result<(Duration, Vec<Bytes>)> {
    let began = clock.monotonic();
    let mut objects = Vec::new();
    for (sequence, part) in (1..).zip(records.chunks(PER_BODY)) {
        let header = Header {
            shard: ShardId(0),
            epoch: 1,
            writer: 1,
            nonce: 1,
            kind: Kind::Log,
            sequence,
            released: false,
            format: codec::FORMAT,
        };
        objects.push(codec::encode(&header, part)?);
    }
    Ok((clock.monotonic() - began, objects))
}

/// Storing alone, one object after the other, in a directory, synced.
async fn put_floor(clock: &Clock, objects: Vec<Bytes>) -> anyhow::Result<Duration> {
    let directory = tempfile::tempdir()?;
    let store = object_store::local::LocalFileSystem::new_with_prefix(directory.path())?;
    let store = store.with_fsync(true);
    let began = clock.monotonic();
    for (number, object) in objects.into_iter().enumerate() {
        store.put(&Path::from(format!("put/{number}")), object.into()).await?;
    }
    Ok(clock.monotonic() - began)
}

fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * part).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

fn percentiles(mut all: Vec<Duration>) -> (Duration, Duration) {
    all.sort_unstable();
    (percentile(&all, 0.5), percentile(&all, 0.99))
}

/// Acknowledgement of single jobs, and their way to a lease, when nothing else happens.
pub(crate) async fn light_load() -> anyhow::Result<Vec<Row>> {
    let clock = Clock::system();
    let directory = tempfile::tempdir()?;
    let store = object_store::local::LocalFileSystem::new_with_prefix(directory.path())?;
    let store = store.with_fsync(true);
    let mut puts = Vec::new();
    for number in 0..300 {
        let began = clock.monotonic();
        let data = Bytes::from(vec![7u8; 6_000]);
        store.put(&Path::from(format!("put/{number}")), data.into()).await?;
        puts.push(clock.monotonic() - began);
    }
    let deployment = Deployment::start("simulated:2x50x16x64Gi")?;
    deployment.queue("qa", false).await?;
    let body = work::short_jobs(1, "100ms");
    let mut acknowledged = Vec::new();
    for number in 0..300 {
        let began = clock.monotonic();
        let submission = submission("qa", body.clone(), format!("light-{number}"));
        deployment.client.submit(&submission).await?;
        acknowledged.push(clock.monotonic() - began);
        clock.sleep(Duration::from_millis(20)).await;
    }
    finished(&deployment.client, 300, &clock).await?;
    let leases = lease_latencies(&deployment.client).await?;
    let (put_p50, put_p99) = percentiles(puts);
    let (ack_p50, ack_p99) = percentiles(acknowledged);
    let (lease_p50, lease_p99) = percentiles(leases);
    Ok(vec![
        Row::new(
            "acknowledge latency, a job every 20 ms",
            format!("p50 {ack_p50:.1?}, p99 {ack_p99:.1?}"),
            format!("a put alone: p50 {put_p50:.1?}, p99 {put_p99:.1?}; commit interval 20 ms"),
        ),
        Row::new(
            "queue → lease, capacity free",
            format!("p50 {lease_p50:.1?}, p99 {lease_p99:.1?}"),
            "from the events' times, in milliseconds",
        ),
    ])
}

/// Time from `submitted` to `leased` of every job of the job set.
async fn lease_latencies(client: &Client) -> anyhow::Result<Vec<Duration>> {
    let mut submitted = std::collections::BTreeMap::new();
    let mut latencies = Vec::new();
    let mut events = client.events("qa", "bench", None, Follow::No);
    while let Some(event) = events.next().await? {
        let at: jiff::Timestamp = event.at.parse().context("an event's time")?;
        match event.event.as_str() {
            "submitted" => {
                submitted.insert(event.job_id, at);
            }
            "leased" => {
                let since = submitted.get(&event.job_id).context("leased before submitted")?;
                let millis = (at.as_millisecond() - since.as_millisecond()).max(0);
                latencies.push(Duration::from_millis(millis.unsigned_abs()));
            }
            _ => {}
        }
    }
    Ok(latencies)
}

async fn finished(client: &Client, jobs: u64, clock: &Clock) -> anyhow::Result<()> {
    let until = clock.monotonic() + Duration::from_secs(300);
    loop {
        let set = client.job_set("qa", "bench").await?;
        if set.counts.get("succeeded").copied().unwrap_or(0) >= jobs {
            return Ok(());
        }
        anyhow::ensure!(clock.monotonic() < until, "jobs did not finish: {:?}", set.counts);
        clock.sleep(Duration::from_millis(20)).await;
    }
}

/// Jobs through simulated clusters, and what the store was asked for.
pub(crate) async fn runs(jobs: usize) -> anyhow::Result<Vec<Row>> {
    let clock = Clock::system();
    let deployment = Deployment::start("simulated:4x100x16x64Gi")?;
    deployment.queue("qa", false).await?;
    let body = work::short_jobs(jobs, "100ms");
    let requests = store_requests(&deployment.client).await?;
    let began = clock.monotonic();
    deployment.client.submit(&submission("qa", body, Random::from_os().u64().to_string())).await?;
    finished(&deployment.client, jobs as u64, &clock).await?;
    let took = clock.monotonic() - began;
    let requests = store_requests(&deployment.client).await? - requests;
    let rate = jobs as f64 / took.as_secs_f64();
    let scaled = requests * 1e6 / jobs as f64;
    Ok(vec![
        Row::new(
            &format!("submit → finished, {jobs} jobs on 4 simulated clusters"),
            format!("{rate:.0} jobs/s"),
            format!("{took:.1?}; one queue, so one shard"),
        ),
        Row::new(
            "object-store requests for these jobs",
            format!("{requests:.0}"),
            format!("{scaled:.0} for 1,000,000 at this rate"),
        ),
    ])
}

/// Requests to the store since the start.
async fn store_requests(client: &Client) -> anyhow::Result<f64> {
    let text = client.metrics().await?;
    let lines = text.lines().filter(|line| line.contains("store_requests_total"));
    lines
        .map(|line| {
            let number = line.rsplit(' ').next().context("a metric has a value")?;
            Ok(number.parse::<f64>()?)
        })
        .sum()
}

/// What a deployment asks of the store while nothing happens.
pub(crate) async fn idle(seconds: u64) -> anyhow::Result<Row> {
    let clock = Clock::system();
    let deployment = Deployment::start("simulated:1x10x16x64Gi")?;
    deployment.queue("qa", false).await?;
    let body = work::short_jobs(10, "10ms");
    deployment.client.submit(&submission("qa", body, "idle".to_owned())).await?;
    finished(&deployment.client, 10, &clock).await?;
    // The history of these jobs is written within its interval.
    clock.sleep(Duration::from_secs(15)).await;
    let before = store_requests(&deployment.client).await?;
    clock.sleep(Duration::from_secs(seconds)).await;
    let asked = store_requests(&deployment.client).await? - before;
    Ok(Row::new(&format!("idle for {seconds} s"), format!("{asked} requests"), "to the store"))
}
