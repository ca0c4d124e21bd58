//! What the next owner of a shard knows of what the last one acknowledged: everything.

use muster_client::Follow;
use muster_tests::site::Site;
use serde_json::{Value, json};

use super::{
    WAIT, column, cordoned, counts, events_of, http, ids, job, lines, post_lines, queue, shown,
    submitted, until_count, with,
};

const JOBS: usize = 50;

pub(crate) async fn nothing_acknowledged_is_forgotten_by_the_next_owner(site: &mut Site) {
    let (http, other, client) = (http(site), site.other_http().unwrap(), site.client().unwrap());
    queue(&http, "owners").await;
    cordoned(&http, "owners-kept").await;
    let key = [("idempotency-key", "over-owners")];
    let named = with(job(0), json!({ "clientId": "mine", "priority": 4 }));
    let array = with(job(0), json!({ "count": 1000 }));
    let kept = lines(&[job(0), named.clone(), array]);
    let first = ids(&post_lines(&http, "owners-kept", "s", &key, kept.clone()).await);
    let body = json!({ "jobIds": [format!("{}-7", first[2])], "reason": "seven" });
    assert_eq!(http.post("/api/v1/cancel", &body).await.unwrap().json()["changed"], 1);
    let before = submitted(&http, "owners", "s", &vec![job(0); JOBS]).await;
    until_count(&http, "owners", "s", "succeeded", JOBS as u64).await;
    let told = events_of(&http, "owners", "s", None).await;
    let mut shown_before = Vec::new();
    for id in [&before[0], &before[JOBS - 1], &first[1], &first[2]] {
        shown_before.push(shown(&http, id).await);
    }
    let listed = http.get("/api/v1/jobs?queue=owners&limit=1000").await.unwrap().json();

    let mut stream = client.events("owners", "s", None, Follow::Yes);
    let following = async {
        let mut seen = Vec::new();
        while column(&seen, "event").iter().filter(|event| *event == "succeeded").count() < 2 * JOBS
        {
            let event = stream.next().await.unwrap().unwrap();
            seen.push(serde_json::to_value(event).unwrap());
        }
        seen
    };
    let replacing = async {
        site.replace_owners().await.unwrap();
        // The gateway waits for the next owner.
        submitted(&http, "owners", "s", &vec![job(0); JOBS]).await
    };
    let both = async { tokio::join!(following, replacing) };
    let (seen, after) = tokio::time::timeout(WAIT, both).await.unwrap();

    // None missed, none twice, in the same order for whoever stayed and whoever comes anew.
    let all = events_of(&http, "owners", "s", None).await;
    assert_eq!(seen, all);
    assert_eq!(told, all[..told.len()]);
    for at in [0, told.len() / 2, told.len() - 1, told.len(), all.len() - 1] {
        let rest = events_of(&other, "owners", "s", all[at]["cursor"].as_str()).await;
        assert_eq!(rest, all[at + 1..], "behind event {at}");
    }
    assert!(after[0] > before[JOBS - 1], "ids rise over owners");

    let again = ids(&post_lines(&other, "owners-kept", "s", &key, kept).await);
    assert_eq!(again, first, "the same key");
    let by_client_id = submitted(&other, "owners-kept", "t", &[named]).await;
    assert_eq!(by_client_id[0], first[1], "the same client id");
    let kept = counts(&http, "owners-kept", "s").await.unwrap();
    assert_eq!((&kept["queued"], &kept["cancelled"]), (&json!(1001), &json!(1)));
    for before in &shown_before {
        assert_eq!(shown(&other, before["jobId"].as_str().unwrap()).await, *before);
    }
    let now = http.get("/api/v1/jobs?queue=owners&limit=1000").await.unwrap().json();
    let jobs = |page: &Value| page["jobs"].as_array().unwrap().clone();
    assert_eq!(jobs(&now)[..JOBS], jobs(&listed)[..]);
    assert_eq!(jobs(&now).len(), 2 * JOBS);
}
