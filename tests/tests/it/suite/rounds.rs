//! What is recorded of scheduling rounds.

use anyhow::{Context, Result, ensure};
use muster_tests::site::Site;
use muster_tests::wait::eventually;
use serde_json::Value;

use super::store::{admin, json};
use super::{WAIT, http, job, queue, submitted, until_count};

/// Jobs of one queue, all of which end.
const JOBS: u64 = 5;

/// The sum of a field over the records of a queue.
fn sum(rows: &[Value], queue: &str, field: &str) -> u64 {
    let of = rows.iter().filter(|row| row["queue"] == queue);
    of.map(|row| row[field].as_u64().unwrap()).sum()
}

pub(crate) async fn what_rounds_came_to_is_recorded(site: &Site) {
    let (http, (store, _)) = (http(site), site.store());
    queue(&http, "rounds").await;
    submitted(&http, "rounds", "s", &vec![job(0); JOBS as usize]).await;
    until_count(&http, "rounds", "s", "succeeded", JOBS).await;
    let rows = eventually(WAIT, "the rounds are recorded", async || -> Result<Vec<Value>> {
        let rows = admin(site, &store, "rounds --last 10000 --queues -o json");
        ensure!(rows.status.code() == Some(0), "{rows:?}");
        let rows = json(&rows).as_array().context("no list")?.clone();
        ensure!(sum(&rows, "rounds", "placed") >= JOBS, "{rows:?}");
        Ok(rows)
    })
    .await
    .unwrap();
    let wholes: Vec<&Value> = rows.iter().filter(|row| row["queue"].is_null()).collect();
    assert!(wholes.iter().all(|row| row["pool"] == "default" && row["kind"] == "lease"));
    assert!(wholes.iter().all(|row| row["digest"].as_str().unwrap().len() == 16));
    let placed =
        |rows: &[&Value]| -> u64 { rows.iter().map(|row| row["placed"].as_u64().unwrap()).sum() };
    let of_queues: Vec<&Value> = rows.iter().filter(|row| !row["queue"].is_null()).collect();
    assert_eq!(placed(&wholes), placed(&of_queues), "queues make up the whole");
    let text = admin(site, &store, "rounds --pool default --last 1");
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("AT ") && text.lines().count() == 2, "{text}");
    let none = admin(site, &store, "rounds --pool nowhere -o json");
    assert_eq!(json(&none), serde_json::json!([]));
}
