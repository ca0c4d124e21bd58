//! Priority classes: the order of a queue over all of them.

use std::sync::Arc;

use muster_core::command::NewJob;
use muster_core::id::JobRef;
use muster_core::quantity::Quantity;
use muster_core::shape::Shape;

use crate::site::{Site, job};

/// A job of that class that asks for so many cpus.
fn of_class(line: u64, class: &str, cpu: i64) -> NewJob {
    let mut shape = Shape { class: class.into(), ..(*job(line).shape).clone() };
    shape.request.set("cpu".into(), Quantity::from_units(cpu));
    NewJob { shape: Arc::new(shape), ..job(line) }
}

async fn leased(site: &Site, max: u32) -> Vec<JobRef> {
    let mut jobs: Vec<JobRef> = site.lease(max).await.iter().map(|run| run.job).collect();
    jobs.sort();
    jobs
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_higher_class_go_before_those_that_were_submitted_earlier() {
    let site = Site::start(1).await;
    let classes = ["spare", "default", "gone", "default", "urgent", "urgent"];
    let mut jobs: Vec<NewJob> =
        (0..).zip(classes).map(|(line, class)| of_class(line, class, 1)).collect();
    // Whatever the priorities of jobs: the class counts first.
    jobs[4].priority = 9;
    let ids = site.submit("q", "set", 1, jobs).await;
    assert_eq!(leased(&site, 2).await, [ids[4], ids[5]]);
    assert_eq!(leased(&site, 3).await, [ids[1], ids[2], ids[3]], "one that is gone is `default`");
    assert_eq!(leased(&site, 9).await, [ids[0]]);
}

#[tokio::test(start_paused = true)]
async fn each_class_is_searched_behind_its_own_head() {
    let site = Site::start_with(1, |config| config.offer_runs_max = 2).await;
    // Runs that fit nowhere fill the head of each class and some windows behind it.
    let mut jobs = Vec::new();
    for class in ["urgent", "default", "spare"] {
        for n in 0..7 {
            jobs.push(of_class(jobs.len() as u64, class, 65 + n));
        }
        jobs.push(of_class(jobs.len() as u64, class, 1));
    }
    let ids = site.submit("q", "set", 1, jobs).await;
    let mut found = Vec::new();
    while found.len() < 3 {
        found.extend(leased(&site, 4).await);
    }
    found.sort();
    assert_eq!(found, [ids[7], ids[15], ids[23]]);
}
