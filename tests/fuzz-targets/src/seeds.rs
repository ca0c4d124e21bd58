//! What the corpora begin with: one of each kind, made by the code that writes them in operation.
//! `cargo run -p fuzz-targets --bin seeds` writes them; they are committed, so that a change of a
//! format leaves those of before.

use bytes::Bytes;
use muster_api::batch::{Builder, public};
use muster_api::bus::{
    self, GetJob, Heartbeat, Holder, LeaseRequest, ListEvents, ListJobs, Node, NodeUpdate,
    ShardReply, ShardRequest, StopRuns, Submit,
};
use muster_api::http::{ErrorCode, Problem};
use muster_api::job_text::Parser;
use muster_api::text::Cursor;
use muster_core::command::{self, Command, NewJob, Outcome, Pick, Report, RunStatus};
use muster_core::id::{CommandId, JobId, JobRef, Position, ShardId};
use muster_core::job::Exit;
use muster_core::record::{HistorySpan, Record};
use muster_core::shard::{Context, Shard};
use muster_core::time::Timestamp;
use muster_runtime::codec::{self, FORMAT, Header, Kind};

const SHARD: ShardId = ShardId(3);
const NOW: Timestamp = Timestamp(1_790_000_000_000);

/// A seed: the target, its name, its bytes.
pub type Seed = (&'static str, &'static str, Vec<u8>);

const JOBS: [(&str, &str); 7] = [
    (
        "plain",
        r#"{"clientId":"a","podSpec":{"containers":[{"name":"main","image":"busybox","resources":{"requests":{"cpu":"250m","memory":"64Mi"}}}]}}"#,
    ),
    (
        "everything",
        r#"{"priority":7.5,"namespace":"jobs","clientId":"b-1","count":3,"labels":{"a":"b"},"annotations":{"muster.dev/pool":"gpu","muster.dev/at-most-once":"true"},"requiredNodeLabels":{"zone":"x"},"podSpec":{"terminationGracePeriodSeconds":5,"priorityClassName":"high","nodeSelector":{"disk":"ssd"},"tolerations":[{"key":"k","operator":"Equal","value":"v","effect":"NoSchedule"}],"initContainers":[{"name":"i","resources":{"limits":{"cpu":2}}}],"containers":[{"name":"main","resources":{"requests":{"cpu":"1e-1","memory":"1.5Gi","nvidia.com/gpu":1}}}]}}"#,
    ),
    (
        "pod_specs",
        r#"{"podSpecs":[{"containers":[{"name":"m"}]}],"scheduler":"x","ingress":[],"services":[]}"#,
    ),
    (
        "services",
        r#"{"podSpec":{"containers":[{}]},"ingress":[{"ports":[80],"tlsEnabled":true}],"services":[{"type":1,"ports":[1]}]}"#,
    ),
    ("escaped", r#"{"clientId":"\u0061\n","podSpec":{"containers":[{"name":"\ud83d\ude00"}]}}"#),
    (
        "terms",
        r#"{"clientId":"c","count":4,"maxRunning":2,"dependsOn":[{"clientId":"a"},{"jobId":"01m85475ba001k7j7xtxrfrqf3","after":"finish"}],"retry":[{"exitCodes":[1,"64-78"],"action":"fail"},{"reasons":["OOMKilled"],"action":"retry","limit":3,"otherNode":true,"backoff":{"baseSeconds":0.5},"memory":{"factor":1.5,"max":"4Gi"}}],"podSpec":{"containers":[{"name":"m"}]}}"#,
    ),
    ("nothing", "{}"),
];

/// Edits of cells: column, row, what, length, value.
const EDITS: [(&str, &[u8]); 4] = [
    ("log_without_time", &[0, 1, 0, 0, 0]),
    ("checkpoint_with_a_count", &[1, 8, 0, 2, 4, 255, 255, 255, 127]),
    ("log_with_another_kind", b"\x00\x00\x02\x02\x07running"),
    ("checkpoint_with_a_detail", &[1, 40, 0, 2, 6, 0x93, 1, 2, 0x91, 0xc0, 0x05]),
];

/// All of them.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    seeds.extend(JOBS.map(|(name, text)| ("job_json", name, text.into())));
    let lines = JOBS.map(|(_, text)| text).join("\n");
    for (name, piece) in [("whole", 255), ("pieces", 6)] {
        seeds.push(("ndjson", name, [&[piece], lines.as_bytes(), b"\r\n \n\nx"].concat()));
    }
    seeds.push(("arrow_body", "jobs", [&[200], &*public_stream()].concat()));
    seeds.push(("submission", "jobs", submission().to_vec()));
    seeds.extend(messages());
    seeds.extend(objects());
    seeds.extend(EDITS.map(|(name, bytes)| ("cells", name, bytes.to_vec())));
    let quantities =
        ["0", "100m", "1.5Gi", "-3", "+1e3", "12E-3", "9223372036854775807", "1n", "0.0000000001"];
    seeds.extend(quantities.map(|text| ("quantity", text, text.into())));
    let job = JobId::new(NOW, SHARD, 7);
    let cursors = [
        ("cursor", Cursor(Position { sequence: 12, row: 3 }).to_string()),
        ("job", job.to_string()),
        ("task", JobRef::task(job, 42).to_string()),
        ("command", CommandId(1 << 100).to_string()),
    ];
    seeds.extend(cursors.map(|(name, text)| ("cursor", name, text.into())));
    seeds.extend(SETTINGS.map(|(name, text)| ("settings", name, text.into())));
    seeds
}

const SETTINGS: [(&str, &str); 3] = [
    ("empty", ""),
    (
        "some",
        "[store]\nurl = \"s3://bucket/prefix\"\nregion = \"eu-west-1\"\n\n[gateway]\nlisten = \"127.0.0.1:8080\"\nwrite_timeout = \"30s\"\n\n[shard]\nlease_ttl = \"4s\"\ncommit_bytes_max = \"64MiB\"\ncheckpoint_records = 100000\n",
    ),
    (
        "wrong",
        "[gateway]\nlisten = 7\nnone = \"x\"\n[shard]\nlease_ttl = \"4 parsecs\"\n[[store]]\n",
    ),
];

fn public_stream() -> Bytes {
    let mut writer = public::Writer::new();
    let spec = r#"{"containers":[{"name":"m"}]}"#;
    let row = public::Row { pod_spec: spec, client_id: Some("a"), ..public::Row::default() };
    writer.push(&row);
    writer.push(&public::Row { count: Some(4), namespace: Some("jobs"), client_id: None, ..row });
    writer.finish()
}

fn submission() -> Bytes {
    let mut builder = Builder::new();
    jobs().iter().for_each(|job| builder.push_new(job));
    builder.finish()
}

/// The first two of the jobs above, as a shard reads them.
fn jobs() -> Vec<NewJob> {
    let (mut builder, mut parser) = (Builder::new(), Parser::new());
    for (line, (_, text)) in (0..).zip(JOBS).take(2) {
        let job = parser.parse(text.as_bytes()).expect("the seeds are in order");
        builder.push(line, &job);
    }
    muster_api::batch::read(builder.finish()).expect("what is written can be read")
}

fn messages() -> Vec<Seed> {
    let job = JobRef::task(JobId::new(NOW, SHARD, 7), 1);
    let submit = Submit {
        command: CommandId(5),
        queue: "q".into(),
        incarnation: 1,
        job_set: "s".into(),
        key: Some(CommandId(6)),
        batch: submission(),
    };
    let events = ListEvents {
        queue: "q".into(),
        job_set: "s".into(),
        after: Some(Cursor(Position { sequence: 3, row: 0 })),
        limit: 10,
        wait_ms: 500,
    };
    let node = Node {
        name: "n".into(),
        labels: [("muster.dev/pool".to_owned(), "default".to_owned())].into(),
        taints: vec![("k".into(), "v".into(), "NoSchedule".into())],
        allocatable: [("cpu".to_owned(), "4".to_owned())].into(),
        free: [("cpu".to_owned(), "3500m".to_owned())].into(),
        freeing: [("cpu".to_owned(), "500m".to_owned())].into(),
        runs: 1,
        schedulable: true,
        failing: vec![("biology".to_owned(), 1_000)],
    };
    let lease = LeaseRequest {
        cluster: "c".into(),
        instance: "i".into(),
        seen: Some(("session".into(), 4)),
        nodes: NodeUpdate { base: None, version: 1, nodes: vec![node], removed: Vec::new() },
        leases_max: 100,
        wait_ms: 1000,
    };
    let list = ListJobs { states: vec!["queued".into()], limit: 9, ..ListJobs::default() };
    let tagged = |tag: u8, message: Bytes| [&[tag], &*message].concat();
    let request = |request: &ShardRequest| tagged(0, bus::encode(request));
    let reply = |reply: &ShardReply| tagged(1, bus::encode(reply));
    let refusal = Problem::new(ErrorCode::BadRequest, "no".to_owned());
    let heartbeat =
        Heartbeat { cluster: "c".into(), instance: "i".into(), pools: vec!["default".into()] };
    let stop = StopRuns { runs: vec![(job.to_string(), 2)] };
    let holder = Holder { worker: "w".into() };
    [
        ("submit", request(&ShardRequest::Submit(submit))),
        ("events", request(&ShardRequest::Events(events))),
        ("jobs", request(&ShardRequest::Jobs(list))),
        ("job", request(&ShardRequest::Job(GetJob { job, spec: true }))),
        ("refusal", reply(&ShardReply::Error(refusal))),
        ("verdicts", reply(&ShardReply::Reported(vec![true, false]))),
        ("lease", tagged(2, bus::encode(&lease))),
        ("heartbeat", tagged(4, bus::encode(&heartbeat))),
        ("stop", tagged(5, bus::encode(&stop))),
        ("holder", tagged(10, bus::encode(&holder))),
    ]
    .map(|(name, bytes)| ("bus_message", name, bytes))
    .to_vec()
}

pub(crate) fn objects() -> Vec<Seed> {
    let (shard, records) = life();
    let header = |kind| Header {
        shard: SHARD,
        epoch: 1,
        writer: 2,
        nonce: 3,
        kind,
        sequence: if kind == Kind::Fence { 1 } else { 2 },
        released: false,
        format: FORMAT,
    };
    let object = |kind, records: &[Record]| {
        codec::encode(&header(kind), records).expect("records can be encoded").to_vec()
    };
    let checkpoint = object(Kind::Checkpoint, &shard.records());
    vec![
        ("log_object", "fence", object(Kind::Fence, &[])),
        ("log_object", "life", object(Kind::Log, &records)),
        ("checkpoint", "life", checkpoint),
    ]
}

/// The life of some jobs: a shard, and its records.
fn life() -> (Shard, Vec<Record>) {
    let (mut shard, mut records) = (Shard::new(SHARD), Vec::new());
    let mut carry_out = |command: Command| {
        let row = u32::try_from(records.len()).expect("they are few");
        let position = Position { sequence: 2, row };
        let ctx = Context { now: NOW, random: 11, position };
        shard.execute(CommandId(u128::from(row)), command, ctx, &mut records)
    };
    let jobs = jobs();
    let shape = jobs[0].shape.key();
    let submit = command::Submit {
        queue: "q".into(),
        incarnation: 1,
        job_set: "s".into(),
        key: Some(9),
        queued_max: None,
        jobs,
    };
    carry_out(Command::Submit(submit));
    let pick = Pick { queue: "q".into(), priority: 0, shape, node: "n".into(), count: 1 };
    let leased = carry_out(Command::Lease(command::Lease {
        cluster: "c".into(),
        is_away: false,
        picks: vec![pick],
    }));
    if let Outcome::Leased(runs) = leased {
        let exit = Exit { code: Some(1), reason: Some("Error".into()), ..Exit::default() };
        let statuses = [RunStatus::Pending, RunStatus::Running, RunStatus::Failed(exit)];
        let reports = statuses.map(|status| Report {
            job: runs[0].job,
            attempt: runs[0].attempt,
            status,
            at: NOW,
            addresses: Vec::new(),
            used: None,
        });
        carry_out(Command::Report { cluster: "c".into(), reports: reports.into() });
    }
    carry_out(Command::CloseQueue { queue: "other".into(), incarnation: 4 });
    let through = Position { sequence: 1, row: u32::MAX };
    carry_out(Command::PlanHistory(HistorySpan { after: Position::default(), through }));
    (shard, records)
}
