//! Shard workers and executors as processes: what they say of themselves, and the pools of nodes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use muster_tests::nats::NatsServer;
use muster_tests::process::{Process, Program, free_port};
use muster_tests::wait::eventually;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::deployment::TURN;

const WAIT: Duration = Duration::from_secs(30);

/// A process with an address of its own.
struct Member {
    process: Process,
    url: String,
}

impl Member {
    fn start(role: &str, nats: &NatsServer, directory: &Path, more: &[&str]) -> Self {
        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let flag = if role == "gateway" { "--listen" } else { "--admin-listen" };
        let mut program = Program::built("muster")
            .unwrap()
            .args([role, "--bus", &nats.url(), "--shards", "1", flag, &address])
            .args(more)
            .env("MUSTER_SHARD__LEASE_TTL", "2s");
        if role == "executor" {
            program = program.arg("--state-dir").arg(directory.join("state"));
        } else {
            let store = format!("file://{}", directory.join("store").display());
            program = program.args(["--store", &store]);
        }
        let process = program.spawn(role, directory).unwrap();
        Self { process, url: format!("http://{address}") }
    }

    /// (status, body) of a path.
    async fn get(&self, path: &str) -> Result<(u16, String)> {
        let answer = reqwest::get(format!("{}{path}", self.url)).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    async fn until_ready(&mut self) {
        let url = format!("{}/health/ready", self.url);
        self.process.until_ready(&url, WAIT).await.unwrap();
    }

    /// Waits until it says that it is not ready, and this among the reasons.
    async fn until_not_ready(&self, why: &str) {
        eventually(WAIT, "it is not ready", async || {
            let (status, body) = self.get("/health/ready").await?;
            ensure!(status == 503 && body.contains(why), "{status} {body}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn shard_workers_and_executors_say_whether_they_live_and_can_work() {
    let _turn = TURN.lock().await;
    let directory = TempDir::new().unwrap();
    let mut nats = NatsServer::start().await.unwrap();
    nats.kill9().unwrap();
    let simulated = ["--cluster", "one", "--backend", "simulated"];
    let mut members = [
        Member::start("shard", &nats, directory.path(), &[]),
        Member::start("executor", &nats, directory.path(), &simulated),
    ];
    for member in &members {
        member.until_not_ready("bus: is not connected").await;
        assert_eq!(member.get("/health/live").await.unwrap().0, 200);
    }
    nats.restart().await.unwrap();
    for (member, counted) in members.iter_mut().zip(["muster_shard_", "muster_executor_"]) {
        member.until_ready().await;
        let (status, text) = member.get("/metrics").await.unwrap();
        assert_eq!(status, 200);
        assert!(text.contains(counted) && text.contains("muster_process_"), "{text}");
        assert_eq!(member.get("/elsewhere").await.unwrap().0, 404);
    }
    nats.kill9().unwrap();
    for member in &members {
        member.until_not_ready("bus: is not connected").await;
    }
    nats.restart().await.unwrap();
    for member in &mut members {
        member.until_ready().await;
    }

    // A bus that does not answer draws the end out: long enough to see it from outside.
    nats.suspend().unwrap();
    let [shard, _] = &mut members;
    shard.process.terminate().unwrap();
    shard.until_not_ready("the process is about to stop").await;
    assert_eq!(shard.get("/health/live").await.unwrap().0, 200);
    nats.resume().unwrap();
    assert!(shard.process.wait(WAIT).await.unwrap().success());
}

/// Submits jobs, given as JSON, and gives their ids.
async fn submit(api: &str, jobs: &[Value]) -> Vec<String> {
    let body: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    let client = reqwest::Client::new();
    let queue = client.put(format!("{api}/queues/q")).body("{}").send().await.unwrap();
    assert_eq!(queue.status(), 200);
    let url = format!("{api}/queues/q/jobs?jobSet=s");
    let request = client.post(url).header("content-type", "application/x-ndjson").body(body);
    let answers = request.send().await.unwrap().text().await.unwrap();
    let answers = answers.lines().map(|line| serde_json::from_str(line).unwrap());
    answers.map(|answer: Value| answer["jobId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_label_of_a_node_decides_which_jobs_run_on_it() {
    let _turn = TURN.lock().await;
    let directory = TempDir::new().unwrap();
    let nats = NatsServer::start().await.unwrap();
    let groups = "executor.simulated.groups=[{name=\"plain\",nodes=1},\
        {name=\"gpu\",nodes=1,labels={\"muster.dev/pool\"=\"gpu\"}}]";
    let more = ["--cluster", "c", "--backend", "simulated", "--set", groups];
    let mut gateway = Member::start("gateway", &nats, directory.path(), &[]);
    let _shard = Member::start("shard", &nats, directory.path(), &[]);
    let _executor = Member::start("executor", &nats, directory.path(), &more);
    gateway.until_ready().await;
    let api = format!("{}/api/v1", gateway.url);
    let (spec, selecting) = (
        json!({"containers": [{}]}),
        json!({"containers": [{}], "nodeSelector": {"muster.dev/pool": "gpu"}}),
    );
    let jobs = [
        (json!({"podSpec": spec}), "c-plain-1"),
        (json!({"podSpec": spec, "annotations": {"muster.dev/pool": "gpu"}}), "c-gpu-1"),
        (json!({"podSpec": selecting}), "c-gpu-1"),
    ];
    let ids = submit(&api, &jobs.each_ref().map(|(job, _)| job.clone())).await;
    for (id, (_, node)) in ids.iter().zip(&jobs) {
        let job = eventually(WAIT, "the job has run", async || {
            let job: Value = reqwest::get(format!("{api}/jobs/{id}")).await?.json().await?;
            ensure!(job["state"] == "succeeded", "{job}");
            Ok(job)
        })
        .await
        .unwrap();
        assert_eq!(job["runs"][0]["node"], *node, "{job}");
    }
    let shown = reqwest::get(format!("{api}/pools")).await.unwrap().json::<Value>().await.unwrap();
    let pools = shown["pools"].as_array().unwrap().iter();
    let pools: Vec<_> = pools.map(|pool| (pool["name"].as_str(), pool["nodes"].as_u64())).collect();
    assert_eq!(pools, [(Some("default"), Some(1)), (Some("gpu"), Some(1))], "{shown}");
}
