//! The audit finds what it claims to find: it is given false lists of what was acknowledged, and a
//! deployment whose answers are not true.

use muster_tests::site::Site;
use muster_tests::tampering::{Change, Tampering, Told};
use serde_json::{Value, json};

use super::load::{loadtest, said};
use super::{cordoned, http, job, queue, submitted, until_count, with};

/// Three jobs and an array of three, all ended; as the lines of what was acknowledged.
async fn acknowledged(site: &Site, job_set: &str) -> Vec<String> {
    let http = http(site);
    queue(&http, "audited").await;
    let array = with(job(0), json!({ "count": 3 }));
    let ids = submitted(&http, "audited", job_set, &[job(0), job(0), job(0), array]).await;
    until_count(&http, "audited", job_set, "succeeded", 6).await;
    let mut lines: Vec<String> = ids.iter().map(|id| format!("audited\t{job_set}\t{id}")).collect();
    lines[3] += "\t3";
    lines
}

/// Audits that list at `url`; gives the exit code and what was said.
fn audited(site: &Site, url: &str, lines: &[String]) -> (Option<i32>, String) {
    let ids = site.log_dir().join("audited.ids");
    std::fs::write(&ids, lines.join("\n") + "\n").unwrap();
    let output = loadtest(url, &format!("audit --drain 0s --ids {}", ids.display()));
    (output.status.code(), said(&output))
}

pub(crate) async fn a_list_that_does_not_fit_fails_the_audit(site: &Site) {
    let sound = acknowledged(site, "lists").await;
    let (code, text) = audited(site, &site.url(), &sound);
    assert_eq!(code, Some(0), "{text}");
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = sound.clone();
        change(&mut lines);
        lines
    };
    let nobody = sound[0][..sound[0].len() - 6].to_owned() + "zzzzzz";
    let cases: Vec<(Vec<String>, &str)> = vec![
        (changed(&|lines| lines.push(nobody.clone())), "was acknowledged and is not there"),
        (changed(&|lines| lines.push(nobody.replace("lists", "none"))), "is not there"),
        (changed(&|lines| drop(lines.remove(1))), "is there and was not acknowledged"),
        (changed(&|lines| lines.push(lines[0].clone())), "was given to two submissions"),
        (changed(&|lines| lines[3] = lines[3].replace("\t3", "\t4")), "of its 4 tasks are listed"),
        (changed(&|lines| lines[3] = lines[3].replace("\t3", "\t2")), "is no task of its array"),
    ];
    for (lines, expected) in cases {
        let (code, text) = audited(site, &site.url(), &lines);
        assert_eq!(code, Some(1), "{expected}: {text}");
        assert!(text.contains("audit FAILED") && text.contains(expected), "{expected}: {text}");
    }
    // A record that was never answered may be there or not.
    let unanswered = changed(&|lines| lines[1] = "audited\tlists\t?\t1".to_owned());
    let (code, text) = audited(site, &site.url(), &unanswered);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 records unanswered, 1 unacknowledged"), "{text}");
    let (code, text) = audited(site, &site.url(), &["nonsense".to_owned()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("line 1 is not an entry"), "{text}");
}

pub(crate) async fn what_lives_when_the_time_is_up_fails_the_audit(site: &Site) {
    let http = http(site);
    cordoned(&http, "audited-alive").await;
    let id = submitted(&http, "audited-alive", "s", &[job(0)]).await.remove(0);
    let (code, text) = audited(site, &site.url(), &[format!("audited-alive\ts\t{id}")]);
    assert_eq!(code, Some(1), "{text}");
    for expected in
        ["1 jobs are counted as queued at the end", "is queued at the end", "0 events ended"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// Each job twice.
fn twice(job: Value) -> Vec<Value> {
    vec![job.clone(), job]
}

/// No job.
fn never(_: Value) -> Vec<Value> {
    Vec::new()
}

/// A second run that began before the first one ended.
fn with_another_run(mut job: Value) -> Vec<Value> {
    if let Some(runs) = job["runs"].as_array_mut()
        && let Some(mut run) = runs.first().cloned()
    {
        run["attempt"] = json!(2);
        runs.push(run);
    }
    vec![job]
}

/// A job that is told to have ended otherwise than its last event says.
fn failed(mut job: Value) -> Vec<Value> {
    job["state"] = json!("failed");
    vec![job]
}

/// A second attempt while the first one lives.
fn leased_again(event: Value) -> Vec<Value> {
    if event["event"] != "leased" {
        return vec![event];
    }
    let mut again = event.clone();
    again["attempt"] = json!(2);
    vec![event, again]
}

/// Every end twice.
fn ended_again(event: Value) -> Vec<Value> {
    if event["event"] == "succeeded" { twice(event) } else { vec![event] }
}

/// No end.
fn never_ended(event: Value) -> Vec<Value> {
    if event["event"] == "succeeded" { Vec::new() } else { vec![event] }
}

pub(crate) async fn a_deployment_that_does_things_twice_fails_the_audit(site: &Site) {
    let lines = acknowledged(site, "told").await;
    let (code, text) = audited(site, &site.url(), &lines);
    assert_eq!(code, Some(0), "{text}");
    let cases: [(Told, Change, &str); 7] = [
        (Told::Jobs, twice, "is listed twice"),
        (Told::Jobs, never, "was acknowledged and is not there"),
        (Told::Jobs, with_another_run, "attempts 1 and 2 overlap"),
        (Told::Jobs, failed, "is failed, its last event was succeeded"),
        (Told::Events, leased_again, "attempt 2 was leased while attempt 1 lived"),
        (Told::Events, ended_again, "ended again: succeeded"),
        (Told::Events, never_ended, "0 events ended its 1 jobs"),
    ];
    for (told, change, expected) in cases {
        let lying = Tampering::start(&site.url(), told, change).unwrap();
        let (code, text) = audited(site, &lying.url(), &lines);
        assert_eq!(code, Some(1), "{expected}: {text}");
        assert!(text.contains("audit FAILED") && text.contains(expected), "{expected}: {text}");
    }
    // The same gateway in between, telling the truth.
    let honest = Tampering::start(&site.url(), Told::Events, |event| vec![event]).unwrap();
    let (code, text) = audited(site, &honest.url(), &lines);
    assert_eq!(code, Some(0), "{text}");
}
