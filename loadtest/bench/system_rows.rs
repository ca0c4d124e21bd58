//! Rows of a deployment: submission, latencies, throughput, the cost of doing nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_api::job_text::Parser;
use muster_client::Client;
use muster_core::id::{JobId, ShardId};
use muster_core::record::{Payload, Record, Submitted};
use muster_core::time::Timestamp;
use muster_loadtest::latency::{Latency, Percentiles};
use muster_loadtest::measure::table::{Met, Row, grouped};
use muster_loadtest::measure::{self, work};
use muster_runtime::codec::{self, Header, Kind};
use muster_runtime::{Clock, Random, store};
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutOptions};
use tempfile::TempDir;

use crate::deployment::Deployment;
use crate::row;

const PER_BODY: usize = 10_000;
/// Connections of a bulk submission.
const CONNECTIONS: usize = 4;
/// Queues of the bulk submission, all held back: on the four shards of a deployment.
const QUEUES: [&str; 4] = ["qa", "qb", "qc", "qd"];
/// Single puts, twice, that tell what a put of a small commit costs.
const PUTS: usize = 500;
/// Bytes of a commit of one job.
const COMMIT_BYTES: usize = 6_000;

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
    for queue in QUEUES {
        deployment.queue(queue, true).await?;
    }
    let before = deployment.resident_bytes()?;
    let wall = measure::bulk(&deployment.client, &clock, &QUEUES, &bodies, CONNECTIONS).await?;
    let grown = deployment.resident_bytes()?.saturating_sub(before) >> 20;
    let floor = parse + encode + put;
    let rate = jobs as f64 / wall.as_secs_f64();
    let ratio = wall.as_secs_f64() / floor.as_secs_f64();
    let bulk = row(
        &format!(
            "bulk submit, {} different specs of {} B, NDJSON over HTTP, durable",
            grouped(jobs as u64),
            grouped((bytes / jobs) as u64)
        ),
        format!("{} jobs/s", grouped(rate as u64)),
        format!(
            "{wall:.2?}, {ratio:.2} × (parse {parse:.0?} + encode {encode:.0?} + put {put:.0?}, \
             each on one thread); the process grew by {grown} MiB"
        ),
        "≥ 100,000 jobs/s, ≤ 1.5 ×",
        Met::at_least(rate, 100_000.0).and(Met::at_most(ratio, 1.5)),
    );
    Ok(vec![bulk, array(&deployment.client, &clock).await?])
}

/// Ten million jobs in one record.
async fn array(client: &Client, clock: &Clock) -> anyhow::Result<Row> {
    let array = br#"{"count":10000000,"podSpec":{"containers":[{"name":"main","image":"x"}]}}"#;
    let body = Bytes::from_static(array);
    let commits = measure::metric(client, "muster_shard_commits_total").await?;
    let began = clock.monotonic();
    client.submit(&measure::submission("qa", body, "array".to_owned())).await?;
    let took = clock.monotonic() - began;
    let commits = measure::metric(client, "muster_shard_commits_total").await? - commits;
    Ok(row(
        "array of 10,000,000 jobs",
        format!("{took:.1?}"),
        format!("commits: {commits}"),
        "one commit",
        Met::at_most(commits, 1.0),
    ))
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
                terms: None,
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

/// Storing alone, one object after the other, as a shard does.
async fn put_floor(clock: &Clock, objects: Vec<Bytes>) -> anyhow::Result<Duration> {
    let floor = PutFloor::new()?;
    let began = clock.monotonic();
    for object in objects {
        floor.put(object).await?;
    }
    Ok(clock.monotonic() - began)
}

/// The store that `muster up` has, on a directory of its own.
struct PutFloor {
    objects: Arc<dyn ObjectStore>,
    next: std::sync::atomic::AtomicU64,
    _directory: TempDir,
}

impl PutFloor {
    fn new() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let url = format!("file://{}", directory.path().display());
        let objects = store::open(&store::Config::at(url))?.objects();
        Ok(Self { objects, next: Default::default(), _directory: directory })
    }

    async fn put(&self, object: Bytes) -> anyhow::Result<()> {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let options = PutOptions::from(PutMode::Create);
        let key = Path::from(format!("put/{number:020}"));
        self.objects.put_opts(&key, object.into(), options).await?;
        Ok(())
    }

    /// Puts of the size of a small commit, one after the other.
    async fn sample(&self, clock: &Clock, puts: &mut Latency) -> anyhow::Result<()> {
        for _ in 0..PUTS {
            let began = clock.monotonic();
            self.put(Bytes::from(vec![7; COMMIT_BYTES])).await?;
            puts.add(clock.monotonic() - began);
        }
        Ok(())
    }
}

/// Acknowledgement of single jobs, and their way to a lease, when little else happens.
pub(crate) async fn latency(jobs: u32) -> anyhow::Result<Vec<Row>> {
    let clock = Clock::system();
    let deployment = Deployment::start("simulated:2x50x16x64Gi")?;
    deployment.queue("qa", false).await?;
    let floor = PutFloor::new()?;
    // Before and after, since a disk has its moods.
    let mut puts = Latency::default();
    floor.sample(&clock, &mut puts).await?;
    let interval = Duration::from_millis(20);
    let light = measure::light(&deployment.client, &clock, "qa", jobs, interval).await?;
    floor.sample(&clock, &mut puts).await?;
    let stages = stages(&deployment.client).await?;
    let put = puts.percentiles();
    let goal = 2.0 * put.p99_ms + 20.0;
    let acknowledged = light.acknowledged.percentiles();
    let leased = light.leased.percentiles();
    Ok(vec![
        row(
            &format!(
                "acknowledge latency, {} single jobs, one at random in every 20 ms",
                grouped(jobs.into())
            ),
            p50_p99(acknowledged),
            format!("a put alone {}; commit interval 20 ms; {stages}", p50_p99(put)),
            &format!("p99 ≤ 2 × put p99 + interval = {goal:.1} ms"),
            Met::at_most(acknowledged.p99_ms, goal),
        ),
        row(
            "queue → lease of these jobs, capacity free",
            p50_p99(leased),
            "from the events' times, in whole milliseconds".to_owned(),
            "p50 ≤ 250 ms, p99 ≤ 1 s",
            Met::at_most(leased.p50_ms, 250.0).and(Met::at_most(leased.p99_ms, 1_000.0)),
        ),
    ])
}

fn p50_p99(latency: Percentiles) -> String {
    format!("p50 {:.1} ms, p99 {:.1} ms", latency.p50_ms, latency.p99_ms)
}

/// What the commits of a deployment spent their time on, in the mean.
async fn stages(client: &Client) -> anyhow::Result<String> {
    let mut means = Vec::new();
    for stage in ["wait", "encode", "put"] {
        let name = format!("muster_shard_commit_{stage}_seconds");
        let seconds = measure::metric(client, &format!("{name}_sum")).await?;
        let commits = measure::metric(client, &format!("{name}_count")).await?;
        means.push(format!("{stage} {:.1} ms", seconds * 1e3 / commits.max(1.0)));
    }
    Ok(format!("a commit in the mean: {}", means.join(", ")))
}

/// Jobs through simulated clusters, and what the store was asked for.
pub(crate) async fn runs(jobs: usize) -> anyhow::Result<Vec<Row>> {
    let clock = Clock::system();
    let deployment = Deployment::start("simulated:4x100x16x64Gi")?;
    deployment.queue("qa", false).await?;
    let client = &deployment.client;
    let bodies = vec![work::short_jobs(PER_BODY, "100ms"); jobs / PER_BODY];
    let jobs = (bodies.len() * PER_BODY) as u64;
    let before = measure::store_requests(client).await?;
    let began = clock.monotonic();
    // A job set is not there before its first job.
    let (first, rest) = bodies.split_at(1);
    measure::bulk(client, &clock, &["qa"], first, 1).await?;
    let submitted = measure::bulk(client, &clock, &["qa"], rest, CONNECTIONS);
    let finished = measure::finished(client, &clock, "qa", jobs);
    let (_, samples) = futures::future::try_join(submitted, finished).await?;
    let took = clock.monotonic() - began;
    let requests = measure::store_requests(client).await? - before;
    let rate = jobs as f64 / took.as_secs_f64();
    let window = Duration::from_secs(5);
    let lowest = measure::lowest_rate(&samples, window).unwrap_or(rate);
    let peak = deployment.peak_bytes()? >> 20;
    let all = grouped(jobs);
    Ok(vec![
        row(
            &format!("submit → finished, {all} jobs of 100 ms on 4 simulated clusters"),
            format!("{} jobs/s for {:.0} s", grouped(rate as u64), took.as_secs_f64()),
            format!(
                "in the slowest 5 s {} jobs/s; one queue, so one shard; at most {peak} MiB resident",
                grouped(lowest as u64)
            ),
            "≥ 5,000 jobs/s sustained",
            Met::at_least(lowest, 5_000.0),
        ),
        row(
            &format!("object-store requests for these {all} jobs, submitted and run"),
            grouped(requests as u64),
            format!("{:.1} for 1,000 jobs", requests * 1e3 / jobs as f64),
            "≤ 10,000 for 1,000,000",
            Met::at_most(requests / jobs as f64, 0.01),
        ),
    ])
}

/// What a deployment asks of the store while nothing happens.
pub(crate) async fn idle(seconds: u64) -> anyhow::Result<Row> {
    let clock = Clock::system();
    let deployment = Deployment::start("simulated:1x10x16x64Gi")?;
    deployment.queue("qa", false).await?;
    let client = &deployment.client;
    let body = work::short_jobs(10, "10ms");
    client.submit(&measure::submission("qa", body, Random::from_os().u64().to_string())).await?;
    measure::finished(client, &clock, "qa", 10).await?;
    // The history of these jobs is written within its interval.
    clock.sleep(Duration::from_secs(15)).await;
    let before = measure::store_requests(client).await?;
    clock.sleep(Duration::from_secs(seconds)).await;
    let asked = measure::store_requests(client).await? - before;
    Ok(row(
        &format!("idle for {seconds} s"),
        format!("{asked} requests"),
        "to the store".to_owned(),
        "0",
        Met::at_most(asked, 0.0),
    ))
}
