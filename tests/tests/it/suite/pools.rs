//! What is set for pools: rates, and resources that belong to no node.

use muster_tests::site::Site;
use serde_json::{Value, json};

use super::command_line::{json_and_yaml, quiet, run};
use super::{counts, http, job, queue, submitted, until_count};

/// A job that holds a seat for as long as it runs.
fn seated() -> Value {
    let mut job = job(3_600_000);
    job["podSpec"]["containers"][0]["resources"]["requests"]["example.com/seat"] = "1".into();
    job["podSpec"]["containers"][0]["resources"]["limits"] = json!({ "example.com/seat": "1" });
    job
}

pub(crate) async fn jobs_share_what_no_node_has(site: &Site) {
    let (http, other) = (http(site), site.other_http().unwrap());
    queue(&http, "seats").await;
    let path = "/api/v1/pools/default/settings";
    assert_eq!(http.get(path).await.unwrap().json(), json!({}));
    let settings = json!({ "floatingResources": { "example.com/seat": "2" } });
    assert_eq!(other.put(path, &settings).await.unwrap().json(), settings);
    assert_eq!(http.get(path).await.unwrap().json(), settings, "any gateway shows it at once");
    let refused = http.put(path, &json!({ "floatingResources": { "cpu": "2" } })).await.unwrap();
    assert!(refused.text().contains("`cpu` is a resource of nodes"), "{}", refused.text());
    let ids = submitted(&http, "seats", "s", &[seated(), seated(), seated()]).await;
    until_count(&http, "seats", "s", "running", 2).await;
    assert_eq!(counts(&http, "seats", "s").await.unwrap()["queued"], 1);
    let one = json!({ "jobIds": [ids[0]] });
    assert_eq!(http.post("/api/v1/cancel", &one).await.unwrap().status, 200);
    until_count(&http, "seats", "s", "cancelled", 1).await;
    until_count(&http, "seats", "s", "running", 2).await;
    let all = json!({ "queue": "seats", "jobSet": "s" });
    assert_eq!(http.post("/api/v1/cancel", &all).await.unwrap().status, 200);
    until_count(&http, "seats", "s", "cancelled", 3).await;
    assert_eq!(other.delete(path).await.unwrap().status, 204);
    assert_eq!(http.delete(path).await.unwrap().problem(), (404, "not_found".into()));
}

pub(crate) async fn pools_are_set_from_the_command_line(site: &Site) {
    let set = "pool set cli-pool --rate 50/s --floating a/licence=20 --floating b/seat=3";
    let expected = "POOL      RATE           FLOATING               PLACEMENT  LENDS TO\n\
                    cli-pool  50/s burst 50  a/licence=20 b/seat=3\n";
    assert_eq!(quiet(site, set), expected);
    let shown = json_and_yaml(site, "pool get cli-pool");
    assert_eq!(shown["floatingResources"], json!({ "a/licence": "20", "b/seat": "3" }));
    assert_eq!(shown["rate"], json!({ "perSecond": 50.0, "burst": 50 }));
    assert_eq!(run(site, "pool set cli-pool --floating cpu=1").status.code(), Some(1));
    assert_eq!(run(site, "pool set cli-pool --floating seat").status.code(), Some(2));
    assert_eq!(run(site, "pool unset cli-pool").status.code(), Some(0));
    assert_eq!(run(site, "pool unset cli-pool").status.code(), Some(3));
}
