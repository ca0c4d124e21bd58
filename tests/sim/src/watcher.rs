//! Watchers: they follow the events of a job set over any number of connections, each going on at
//! the last cursor.

use std::time::Duration;

use muster_runtime::Random;
use serde_json::Value;

use crate::history::Seen;
use crate::http::{Ask, ask};
use crate::world::Shared;

/// Follows a job set until the deployment has settled.
pub(crate) async fn watch(
    shared: Shared,
    queue: String,
    job_set: String,
    number: usize,
    random: Random,
) {
    let place = (queue.clone(), job_set.clone(), number);
    let mut after: Option<String> = None;
    loop {
        let mut path = format!("/api/v1/queues/{queue}/job-sets/{job_set}/events?watch=true");
        if let Some(after) = &after {
            path += &format!("&after={after}");
        }
        let reads_for = Duration::from_millis(500 + random.below(15_000));
        let patience = Duration::from_secs(30);
        let request = Ask { reads_for, patience, ..Ask::get(path) };
        let gateway = usize::try_from(random.below(2)).expect("it is small");
        if let Some(answer) = ask(&shared, gateway, request).await {
            let at = shared.elapsed();
            let mut books = shared.history.lock();
            let watched = books.watched.entry(place.clone()).or_default();
            if answer.status.as_u16() == 200 {
                for seen in events(&answer.body) {
                    after = Some(seen.cursor.clone());
                    watched.events.push((seen, at));
                }
            }
            // At once, or in the middle of a stream.
            let words = String::from_utf8_lossy(&answer.body);
            if words.contains("\"cursor_expired\"") {
                after = None;
                watched.expired.insert(watched.events.len());
            }
        }
        tokio::time::sleep(Duration::from_millis(50 + random.below(1_000))).await;
    }
}

/// The events of an NDJSON body, as far as its lines are whole.
pub(crate) fn events(body: &[u8]) -> Vec<Seen> {
    let whole = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = body[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let read = lines.filter_map(|line| {
        let event: Value = serde_json::from_slice(line).ok()?;
        Some(Seen {
            cursor: event["cursor"].as_str()?.to_owned(),
            job: event["jobId"].as_str()?.to_owned(),
            event: event["event"].as_str()?.to_owned(),
            count: event["count"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            attempt: event["attempt"].as_u64().and_then(|n| u32::try_from(n).ok()),
        })
    });
    read.collect()
}
