//! The jobs of the demonstration: a shell that counts and sleeps a little.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::{BufMut, BytesMut};
use muster_api::http::QueueSettings;
use muster_client::{Answers, Client, Submission, Submitted};
use muster_core::quantity::Quantity;
use muster_runtime::clock::Clock;

use super::JOB_SET;

/// How many jobs run at once, whatever the machine: a multiple of the sum of the weights.
const JOBS_AT_ONCE: i64 = 42;
const CLUSTER_WITHIN: Duration = Duration::from_secs(30);
const CLUSTER_POLL: Duration = Duration::from_millis(100);

/// Milli-cores that each job asks for, so that [`JOBS_AT_ONCE`] fit.
pub(super) async fn cpu_request(clock: &Clock, client: &Client) -> anyhow::Result<i64> {
    let began = clock.monotonic();
    loop {
        let mut millis = 0;
        for cluster in client.clusters().await?.clusters {
            let cpu = cluster.capacity.get("cpu").context("the cluster has no cpu")?;
            millis += cpu.parse::<Quantity>()?.millis_ceil();
        }
        if millis > 0 {
            return Ok((millis / JOBS_AT_ONCE).max(1));
        }
        ensure!(
            clock.monotonic() - began < CLUSTER_WITHIN,
            "no cluster came within {CLUSTER_WITHIN:?}"
        );
        clock.sleep(CLUSTER_POLL).await;
    }
}

pub(super) async fn create_queue(client: &Client, name: &str, weight: u32) -> anyhow::Result<()> {
    let weight = f64::from(weight);
    let settings = QueueSettings { weight, ..QueueSettings::default() };
    client.put_queue(name, &settings).await?;
    Ok(())
}

pub(super) async fn submit(
    client: &Client,
    queue: &str,
    jobs: u64,
    cpu_millis: i64,
) -> anyhow::Result<()> {
    let mut body = BytesMut::new();
    for number in 0..jobs {
        body.put_slice(job(number, cpu_millis).as_bytes());
        body.put_u8(b'\n');
    }
    let submission = Submission {
        queue: queue.to_owned(),
        job_set: JOB_SET.to_owned(),
        answers: Answers::Summary,
        body: vec![body.freeze()],
        ..Submission::default()
    };
    let Submitted::Summary(summary) = client.submit(&submission).await? else {
        bail!("a summary was asked for")
    };
    if let Some(first) = summary.errors.first() {
        bail!("job {} of `{queue}` was rejected: {}", first.line, first.error.detail);
    }
    ensure!(summary.accepted == jobs, "{} of {jobs} jobs were accepted", summary.accepted);
    Ok(())
}

fn job(number: u64, cpu_millis: i64) -> String {
    let script =
        "i=0; while [ $i -lt 500 ]; do i=$((i+1)); done; sleep 0.2; echo \\\"counted to $i\\\"";
    let resources = format!(r#"{{"cpu":"{cpu_millis}m","memory":"1Mi"}}"#);
    format!(
        r#"{{"clientId":"demo-{number}","podSpec":{{"restartPolicy":"Never","containers":[{{"name":"count","image":"busybox:1","command":["sh","-c","{script}"],"resources":{{"requests":{resources},"limits":{resources}}}}}]}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_of_the_demonstration_is_a_job() {
        let text = job(7, 47);
        let mut parser = muster_api::job_text::Parser::default();
        let job = parser.parse(text.as_bytes()).unwrap();
        assert_eq!(job.client_id.as_deref(), Some("demo-7"));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let command = &value["podSpec"]["containers"][0]["command"];
        let status = std::process::Command::new("sh")
            .args(["-c", command[2].as_str().unwrap()])
            .output()
            .unwrap();
        assert_eq!(status.stdout, b"counted to 500\n");
    }
}
