//! Clients that hang at the gateway's door: as many as there can be, and slowly. It costs bounded
//! memory, and others are served meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use muster_client::{Client, Selection};
use muster_core::id::JobId;
use muster_loadtest::submit::Progress;
use muster_tests::crowd::{Crowd, metric, resident_bytes};
use muster_tests::deployment::{
    Deployment, Size, audited, create_queues, submit_jobs, submit_jobs_of,
};
use muster_tests::network::{Mode, Network};
use muster_tests::wait::eventually;
use tokio::io::AsyncReadExt;

use crate::deployment::{DRAIN, TURN, WAIT};

const SMALL: Size = Size { gateways: 1, shards: 1, executors: 1 };
/// What a crowd may cost, by far.
const MEMORY_MAX: u64 = 512 * 1024 * 1024;
const IDLE: usize = 10_000;
/// Connections at once, by default.
const CONNECTIONS_MAX: u64 = 4096;
const SLOW: usize = 300;
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(600);

/// How long others may have to wait that are served beside a crowd.
const SERVED_WITHIN: Duration = Duration::from_secs(180);

/// What comes of it, unless somebody keeps it out for ever.
async fn in_time<T>(served: impl Future<Output = T>) -> T {
    tokio::time::timeout(SERVED_WITHIN, served).await.expect("others are served meanwhile")
}

struct Door {
    deployment: Deployment,
    client: Client,
    queues: Vec<String>,
    address: SocketAddr,
}

impl Door {
    async fn open(settings: &[(&'static str, &'static str)]) -> Self {
        let deployment = Deployment::start_with(SMALL, settings).await.unwrap();
        let client = deployment.client(0).unwrap();
        let queues = create_queues(&client, 2).await.unwrap();
        let address = deployment.url(0).strip_prefix("http://").unwrap().parse().unwrap();
        Self { deployment, client, queues, address }
    }

    fn memory(&mut self) -> u64 {
        let gateway = self.deployment.gateways[0].process().id();
        resident_bytes(gateway).unwrap()
    }

    async fn metric(&self, name: &str) -> u64 {
        metric(&self.client, &format!("muster_gateway_{name}")).await.unwrap()
    }

    /// Jobs are taken, run and shown, and others are cancelled.
    async fn serves(&self, job_set: &str) {
        let progress = || Arc::new(Progress::default());
        let jobs = submit_jobs(&self.client, &self.queues, job_set, 200, progress());
        let set_of_long = format!("{job_set}-long");
        let long = submit_jobs_of(LONG, &self.client, &self.queues, &set_of_long, 20, progress());
        let (mut all, long) = tokio::try_join!(jobs, long).unwrap();
        let records = long.job_sets.values().flat_map(|set| &set.records);
        let ids = records.map(|record| JobId::from_bytes(record.id).to_string()).collect();
        let cancelled = self.client.cancel(Selection::Ids(ids), None).await.unwrap();
        assert_eq!((cancelled.changed, cancelled.missing), (20, Vec::new()));
        all.merge(long);
        audited(&self.client, all, DRAIN).await.unwrap();
    }

    async fn until_connections(&self, at_most: u64) {
        eventually(WAIT, "those that hang are cut off", async || {
            let open = metric(&self.client, "muster_gateway_connections").await?;
            ensure!(open <= at_most, "{open} connections are open");
            Ok(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn ten_thousand_idle_connections_keep_nobody_out() {
    let _turn = TURN.lock().await;
    // So long that none of them is cut off for its silence.
    let mut door = Door::open(&[("MUSTER_GATEWAY__HEADER_TIMEOUT", "10m")]).await;
    door.serves("before").await;
    let before = door.memory();
    let head = "GET /health/live HTTP/1.1\r\nhost: x\r\n";
    let kinds = ["", &format!("{head}x-half: "), &format!("{head}\r\n")];
    let mut crowds = Vec::new();
    for kind in kinds {
        let count = IDLE.div_ceil(kinds.len());
        crowds.push(in_time(Crowd::connect(door.address, count, kind)).await.unwrap());
    }
    in_time(door.serves("beside")).await;
    let (open, displaced) =
        (door.metric("connections").await, door.metric("connections_displaced_total").await);
    assert!((2_000..=CONNECTIONS_MAX).contains(&open), "{open} connections are open");
    assert!(displaced >= IDLE as u64 - CONNECTIONS_MAX, "{displaced} gave way");
    let grown = door.memory().saturating_sub(before);
    assert!(grown < MEMORY_MAX, "the gateway has grown by {grown} bytes");
    drop(crowds);
}

#[tokio::test]
async fn bodies_of_a_byte_a_second_give_way_to_others() {
    let _turn = TURN.lock().await;
    let mut door = Door::open(&[("MUSTER_GATEWAY__SUBMISSIONS_MAX", "64")]).await;
    door.serves("before").await;
    let before = door.memory();
    let line = "{\"podSpec\":{\"containers\":[{\"name\":\"m\",\"command\":[\"true\"]}]}}\n";
    let million_lines = line.len() * 1_000_000;
    let submission = format!(
        "POST /api/v1/queues/{}/jobs?jobSet=slow HTTP/1.1\r\nhost: x\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {million_lines}\r\n\r\n",
        door.queues[0]
    );
    let cancel = "POST /api/v1/cancel HTTP/1.1\r\nhost: x\r\n\
                  content-type: application/json\r\ncontent-length: 1000000\r\n\r\n";
    let mut submitting = Crowd::connect(door.address, SLOW, &submission).await.unwrap();
    let mut cancelling = Crowd::connect(door.address, SLOW, cancel).await.unwrap();
    let dripping = async {
        tokio::join!(
            submitting.drip(line.as_bytes(), SECOND),
            cancelling.drip(b"{\"jobIds\":[", SECOND)
        )
    };
    tokio::select! {
        biased;
        () = in_time(door.serves("beside")) => {}
        _ = dripping => unreachable!("it goes on for ever"),
    }
    let displaced = door.metric("bodies_displaced_total").await;
    assert!(displaced > 0, "nobody gave way");
    let grown = door.memory().saturating_sub(before);
    assert!(grown < MEMORY_MAX, "the gateway has grown by {grown} bytes");
}

#[tokio::test]
async fn readers_that_read_nothing_are_cut_off_and_keep_nobody_out() {
    let _turn = TURN.lock().await;
    let settings = [("MUSTER_GATEWAY__SEND_TIMEOUT", "3s"), ("MUSTER_GATEWAY__STREAMS_MAX", "8")];
    let mut door = Door::open(&settings).await;
    let progress = Arc::new(Progress::default());
    // Their events do not fit on the way to a reader that does not read.
    let many = submit_jobs(&door.client, &door.queues[..1], "many", 10_000, progress);
    audited(&door.client, many.await.unwrap(), DRAIN).await.unwrap();
    let before = door.memory();
    let request = format!(
        "GET /api/v1/queues/{}/job-sets/many/events?watch=true HTTP/1.1\r\nhost: x\r\n\r\n",
        door.queues[0]
    );
    let readers = Crowd::connect_narrow(door.address, 8, &request).await.unwrap();
    let events =
        format!("{}/api/v1/queues/{}/job-sets/many/events", door.deployment.url(0), door.queues[0]);
    eventually(WAIT, "all streams are taken, or were", async || {
        let taken = metric(&door.client, "muster_gateway_streams").await?;
        ensure!(taken == 8, "{taken} are");
        Ok(())
    })
    .await
    .unwrap();
    let refused = reqwest::get(&events).await.unwrap();
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    // The audit reads events, too: it gets its turn when they are cut off.
    in_time(door.serves("beside")).await;
    for mut reader in readers.into_streams() {
        let mut text = Vec::new();
        // Closed or reset: either way it is over, and was not to its end.
        let _ = tokio::time::timeout(WAIT, reader.read_to_end(&mut text)).await.unwrap();
        assert!(!text.ends_with(b"0\r\n\r\n"), "it was told that this is the end");
    }
    let grown = door.memory().saturating_sub(before);
    assert!(grown < MEMORY_MAX, "the gateway has grown by {grown} bytes");
}

#[tokio::test]
async fn clients_that_are_gone_without_a_word_are_cut_off() {
    let _turn = TURN.lock().await;
    let settings = [
        ("MUSTER_GATEWAY__HEADER_TIMEOUT", "3s"),
        ("MUSTER_GATEWAY__BODY_TIMEOUT", "3s"),
        ("MUSTER_GATEWAY__SUBMISSIONS_MAX", "8"),
    ];
    let door = Door::open(&settings).await;
    let network = Network::start().unwrap();
    let link = network.link(door.address).unwrap();
    let body = format!(
        "POST /api/v1/queues/{}/jobs?jobSet=half HTTP/1.1\r\nhost: x\r\n\
         content-type: application/x-ndjson\r\ncontent-length: 1000\r\n\r\n{{\"podSpec\":",
        door.queues[0]
    );
    let head = "GET /health/live HTTP/1.1\r\nhost: x\r\n";
    let idle = format!("{head}\r\n");
    let mut crowds = Vec::new();
    for (count, said) in [(8, body.as_str()), (20, head), (20, &idle), (20, "")] {
        crowds.push(Crowd::connect(link.address(), count, said).await.unwrap());
    }
    eventually(WAIT, "all of them hang", async || {
        let open = metric(&door.client, "muster_gateway_connections").await?;
        ensure!(open >= 60, "{open} do");
        Ok(())
    })
    .await
    .unwrap();
    link.set(Mode::Silent);
    in_time(door.serves("beside")).await;
    // This client's own are left.
    door.until_connections(8).await;
    drop(crowds);
}

/// What a whole exchange over a connection of its own came to.
async fn exchange(to: SocketAddr, request: &str) -> Result<String> {
    let mut stream = Crowd::connect(to, 1, request).await?.into_streams().remove(0);
    let mut answer = Vec::new();
    // What came before a reset counts.
    let _ = tokio::time::timeout(WAIT, stream.read_to_end(&mut answer)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let _turn = TURN.lock().await;
    let door = Door::open(&[]).await;
    let of = |bytes: usize| {
        let head = "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
        format!("{head}x-long: {}\r\n\r\n", "x".repeat(bytes))
    };
    let many = |count: usize| {
        let headers = (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
        format!("GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")
    };
    for (request, status) in [
        (of(60_000), "200"),
        (of(66_000), "431"),
        (many(90), "200"),
        (many(110), "431"),
        (format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(66_000)), "431"),
    ] {
        let answer = exchange(door.address, &request).await.unwrap();
        let first = answer.lines().next().unwrap_or_default();
        assert!(first.contains(status), "{first} instead of {status}");
    }
    door.serves("after").await;
}
