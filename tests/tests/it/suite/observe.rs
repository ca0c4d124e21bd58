//! What people and machines look at: pools, shares, clusters, health, metrics, the document.

use anyhow::{Context, ensure};
use muster_tests::site::{Cluster, Site};
use muster_tests::wait::eventually;
use serde_json::{Value, json};

use super::{WAIT, cordoned, http, job, queue, submitted, until_count};

pub(crate) async fn shares_tell_what_each_queue_waits_for_and_holds(site: &Site) {
    let http = http(site);
    http.put("/api/v1/queues/shares", &json!({ "weight": 3.0 })).await.unwrap();
    submitted(&http, "shares", "s", &vec![job(120_000); 4]).await;
    until_count(&http, "shares", "s", "running", 4).await;
    let share = eventually(WAIT, "the leader tells of the runs", async || {
        let pool = http.get("/api/v1/pools/default/shares").await?.json();
        let queues = pool["queues"].as_array().context("no queues")?;
        let share = queues.iter().find(|queue| queue["queue"] == "shares").context("not there")?;
        ensure!(share["running"] == 4, "{share}");
        Ok(share.clone())
    })
    .await
    .unwrap();
    assert_eq!((&share["weight"], &share["queued"]), (&json!(3.0), &json!(0)));
    assert_eq!(share["allocated"]["cpu"], "40m", "{share}");
    assert_eq!(share["demand"]["cpu"], "40m", "{share}");
    let part = |name: &str| share[name].as_f64().unwrap();
    assert!(part("actualShare") > 0.0 && part("actualShare") <= 1.0, "{share}");
    assert!(part("idealShare") > 0.0 && part("idealShare") <= 1.0, "{share}");
    let cancel = json!({ "queue": "shares", "jobSet": "s" });
    assert_eq!(http.post("/api/v1/cancel", &cancel).await.unwrap().json()["changed"], 4);
}

pub(crate) async fn pools_and_clusters_tell_what_there_is(site: &Site) {
    let http = http(site);
    let (clusters, nodes) = match site.cluster() {
        Cluster::Local => (1, 1),
        Cluster::Simulated => (2, 40),
    };
    let pool = eventually(WAIT, "every cluster is heard of", async || {
        let pools = http.get("/api/v1/pools").await?.json();
        let pools = pools["pools"].as_array().context("no pools")?.clone();
        ensure!(pools.len() == 1 && pools[0]["nodes"] == nodes, "{pools:?}");
        Ok(pools[0].clone())
    })
    .await
    .unwrap();
    assert_eq!(pool["name"], "default");
    assert!(pool["capacity"]["cpu"].is_string() && pool["capacity"]["memory"].is_string());
    let listed = http.get("/api/v1/clusters").await.unwrap().json();
    let listed = listed["clusters"].as_array().unwrap();
    assert_eq!(listed.len(), clusters, "{listed:?}");
    for cluster in listed {
        assert_eq!(
            (&cluster["pool"], cluster["nodes"].as_u64()),
            (&json!("default"), Some(nodes / clusters as u64))
        );
        assert!(cluster["free"]["cpu"].is_string() && cluster["runs"].is_u64());
        assert!(cluster["lastContact"].as_str().unwrap().ends_with('Z'));
    }
    let missing = http.get("/api/v1/pools/nothing/shares").await.unwrap();
    assert_eq!(missing.problem(), (404, "not_found".into()));
}

pub(crate) async fn health_metrics_and_the_document_are_served(site: &Site) {
    let http = http(site);
    queue(&http, "counted").await;
    submitted(&http, "counted", "s", &[job(0)]).await;
    for prefix in ["", "/api/v1"] {
        for name in ["live", "ready"] {
            let health = http.get(&format!("{prefix}/health/{name}")).await.unwrap();
            assert_eq!((health.status, health.json()), (200, json!({ "status": "ok" })));
        }
        let metrics = http.get(&format!("{prefix}/metrics")).await.unwrap();
        assert!(metrics.headers["content-type"].to_str().unwrap().contains("text"));
        let text = metrics.text();
        let accepted =
            text.lines().find_map(|line| line.strip_prefix("muster_gateway_jobs_accepted_total "));
        assert!(accepted.unwrap().parse::<u64>().unwrap() >= 1);
        let named = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        assert!(
            named.clone().count() > 10 && named.clone().all(|line| line.starts_with("muster_"))
        );
    }
    let document = http.get("/api/v1/openapi.json").await.unwrap().json();
    assert_eq!(document["openapi"], "3.1.0");
    // Every read that needs nothing but itself is answered.
    for (path, methods) in document["paths"].as_object().unwrap() {
        let needs_a_name = path.contains('{');
        if let (Value::Object(_), false) = (&methods["get"], needs_a_name) {
            let answer = http.get(&format!("/api/v1{path}")).await.unwrap();
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
    }
}

pub(crate) async fn an_answer_names_its_request(site: &Site) {
    let http = http(site);
    cordoned(&http, "requests").await;
    let headers = [("x-request-id", "mine-7")];
    let answer =
        http.send(reqwest::Method::GET, "/api/v1/queues/requests", &headers, "").await.unwrap();
    assert_eq!(answer.headers["x-request-id"], "mine-7");
    let answer = http.get("/api/v1/nothing").await.unwrap();
    assert_eq!(answer.headers["x-request-id"].len(), 32);
}
