//! An executor that is killed and started again goes on with what runs.

use muster_tests::site::{Cluster, Site};
use serde_json::{Value, json};

use super::{column, events_of, http, job, queue, submitted, until_count, until_state};

pub(crate) async fn runs_outlive_their_executor_and_are_taken_over_once(site: &mut Site) {
    let http = http(site);
    queue(&http, "adopted").await;
    let trace = site.log_dir().join("ran");
    let jobs: Vec<Value> = (0..4)
        .map(|_| {
            let mut job = job(6_000);
            let script = format!("echo ran >> {}; sleep 6", trace.display());
            job["podSpec"]["containers"][0]["command"] = json!(["sh", "-c", script]);
            job
        })
        .collect();
    let ids = submitted(&http, "adopted", "s", &jobs).await;
    until_count(&http, "adopted", "s", "running", 4).await;
    site.restart_executors().await.unwrap();
    for id in &ids {
        let done = until_state(&http, id, "succeeded").await;
        let runs = done["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "{done}");
        assert_eq!(runs[0]["attempt"], 1);
    }
    let names = column(&events_of(&http, "adopted", "s", None).await, "event");
    let times = |name: &str| names.iter().filter(|found| *found == name).count();
    assert_eq!((times("leased"), times("succeeded"), times("requeued")), (4, 4, 0), "{names:?}");
    if site.cluster() == Cluster::Local {
        assert_eq!(std::fs::read_to_string(&trace).unwrap().lines().count(), 4);
    }
    // And it takes new work.
    let id = submitted(&http, "adopted", "t", &[job(0)]).await.remove(0);
    until_state(&http, &id, "succeeded").await;
}
