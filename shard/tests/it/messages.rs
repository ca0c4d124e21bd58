//! What does not fit one message goes in several, and nothing that cannot be placed or sent keeps
//! back what can.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::{
    self, Cancel, LeaseAnswer, ListEvents, ListJobSets, ListJobs, Offers, ShardReply, ShardRequest,
    Sync, Target, subject,
};
use muster_core::command::NewJob;
use muster_core::id::{CommandId, JobRef, run_digest};
use muster_core::quantity::Quantity;
use muster_core::shape::Shape;

use crate::site::{Player, Site, job};

/// A job of a shape of its own, whose text has about `bytes` bytes. No node has its label.
fn choosy(line: u64, bytes: usize) -> NewJob {
    let mut job = job(line);
    let mut shape = Shape::clone(&job.shape);
    let value = format!("{line:0>bytes$}");
    shape.node_selector.insert("zone".into(), value.as_str().into());
    job.shape = Arc::new(shape);
    job
}

/// A job that tolerates a taint that no node has: a shape of its own that fits everywhere.
fn tolerant(line: u64, bytes: usize) -> NewJob {
    let mut job = job(line);
    let mut shape = Shape::clone(&job.shape);
    shape.tolerations.push(muster_core::shape::Toleration {
        key: Some(format!("{line:0>bytes$}").as_str().into()),
        value: None,
        effect: None,
    });
    job.shape = Arc::new(shape);
    job
}

/// A job for so many cpus.
fn cpus(line: u64, cpus: i64, priority: u32) -> NewJob {
    let mut job = job(line);
    let mut shape = Shape::clone(&job.shape);
    shape.request.set("cpu".into(), Quantity::from_units(cpus));
    job.shape = Arc::new(shape);
    job.priority = priority;
    job
}

async fn submit(site: &Site, queue: &str, jobs: Vec<NewJob>) -> Vec<JobRef> {
    let mut ids = Vec::new();
    for part in jobs.chunks(500) {
        ids.extend(site.submit(queue, "set", site.random.u128(), part.to_vec()).await);
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn leases_of_more_bytes_than_a_message_arrive_in_several_answers() {
    let site = Site::start(4).await;
    let mut all = BTreeSet::new();
    for queue in 0..6 {
        let jobs = (0..400).map(|n| tolerant(queue * 400 + n, 1_000)).collect();
        all.extend(submit(&site, &format!("q{queue}"), jobs).await);
    }
    let mut player = Player::new(&site, 10_000);
    let mut leased = BTreeSet::new();
    let mut answers = Vec::new();
    while leased.len() < all.len() {
        let LeaseAnswer { leases, .. } = player.leases(10_000).await;
        answers.push(leases.len());
        leased.extend(leases.into_iter().map(|run| run.job));
    }
    assert_eq!(leased, all);
    assert_eq!(answers.iter().sum::<usize>(), all.len(), "each was sent once: {answers:?}");
    assert!(answers.len() >= 3, "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_knows_nothing_is_told_all_its_runs_in_pages() {
    const JOBS: usize = 8_000;
    let site = Site::start(1).await;
    submit(&site, "q", (0..JOBS as u64).map(job).collect()).await;
    let mut player = Player::new(&site, 10_000);
    player.rename_node(&"n".repeat(250));
    let mut digest = 0;
    let mut leased = 0;
    while leased < JOBS {
        for run in player.leases(10_000).await.leases {
            digest ^= run_digest(run.job, run.attempt);
            leased += 1;
        }
    }
    let (mut after, mut listed, mut found, mut pages) = (None, 0, 0, 0);
    loop {
        let sync = Sync { cluster: "c".into(), count: 0, digest: 0, after };
        let ShardReply::Runs(page) = site.ask(ShardRequest::Sync(sync)).await else { panic!() };
        assert!(!page.agreed);
        pages += 1;
        listed += page.runs.len();
        for believed in &page.runs {
            found ^= run_digest(believed.run.job, believed.run.attempt);
        }
        after = page.runs.last().map(|believed| believed.run.job);
        if !page.more {
            break;
        }
    }
    assert_eq!((listed, found), (JOBS, digest));
    assert!(pages > 2, "{pages} pages");
}

#[tokio::test(start_paused = true)]
async fn thousands_of_shapes_that_fit_nowhere_stop_nobody() {
    let site = Site::start(1).await;
    submit(&site, "q0", (0..6_000).map(|line| choosy(line, 250)).collect()).await;
    for queue in ["q1", "q2", "q3"] {
        submit(&site, queue, vec![job(0)]).await;
    }
    let behind = submit(&site, "q0", vec![job(6_000)]).await;
    let mut player = Player::new(&site, 100);
    let (mut leased, began) = (Vec::new(), site.clock.monotonic());
    while leased.len() < 4 {
        leased.extend(player.leases(100).await.leases.into_iter().map(|run| run.job));
    }
    assert!(leased.contains(&behind[0]));
    let took = site.clock.monotonic() - began;
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(site.unsent(), 0);
}

#[tokio::test(start_paused = true)]
async fn jobs_that_fit_nowhere_do_not_keep_back_the_jobs_behind_them() {
    let site = Site::start(1).await;
    let mut jobs: Vec<NewJob> = (0..600).map(|n| cpus(u64::from(n), 1_000, n)).collect();
    jobs.extend((600..1_300).map(|n| {
        let mut job = choosy(u64::from(n), 10);
        job.priority = n;
        job
    }));
    submit(&site, "q", jobs).await;
    let last = submit(&site, "q", vec![cpus(2_000, 1, 9_000)]).await;
    let mut player = Player::new(&site, 100);
    let began = site.clock.monotonic();
    assert_eq!(player.leases(100).await.leases[0].job, last[0]);
    let took = site.clock.monotonic() - began;
    assert!(took < Duration::from_secs(5), "{took:?}");
    let more = submit(&site, "q", vec![cpus(2_001, 1, 9_001), cpus(2_002, 2, 9_002)]).await;
    let mut leased = Vec::new();
    while leased.len() < 2 {
        leased.extend(player.leases(100).await.leases.into_iter().map(|run| run.job));
    }
    assert_eq!(leased, more);
}

#[tokio::test(start_paused = true)]
async fn pages_that_do_not_fit_are_cut_and_lead_on() {
    let site = Site::start(1).await;
    let jobs = (0..4_096).map(|line| NewJob {
        client_id: Some(format!("{line:0>100}").as_str().into()),
        ..job(line)
    });
    let jobs: Vec<NewJob> = jobs.collect();
    let set = "s".repeat(1_000);
    let mut ids = Vec::new();
    for (part, jobs) in (1..).zip(jobs.chunks(500)) {
        ids.extend(site.submit("q", &set, part, jobs.to_vec()).await);
    }
    let (mut list, mut listed, mut pages) =
        (ListJobs { limit: 10_000, ..ListJobs::default() }, Vec::new(), 0);
    loop {
        let reply = site.ask(ShardRequest::Jobs(list.clone())).await;
        let ShardReply::Jobs(page) = reply else { panic!("{reply:?}") };
        pages += 1;
        listed.extend(page.jobs.iter().map(|job| job.job_id.parse::<JobRef>().unwrap()));
        let Some(cursor) = page.cursor else { break };
        list.after = Some(cursor.parse().unwrap());
    }
    assert_eq!(listed, ids);
    assert!(pages > 2, "{pages} pages");

    let (mut after, mut events) = (None, 0);
    loop {
        let (queue, job_set) = ("q".to_owned(), set.clone());
        let list = ListEvents { queue, job_set, after, limit: 10_000, wait_ms: 0 };
        let reply = site.ask(ShardRequest::Events(list)).await;
        let ShardReply::Events(page) = reply else { panic!("{reply:?}") };
        events += page.events.len();
        after = page.cursor.map(|cursor| cursor.parse().unwrap());
        if !page.more {
            break;
        }
    }
    assert_eq!(events, ids.len());
}

#[tokio::test(start_paused = true)]
async fn job_sets_that_do_not_fit_a_page_follow_in_the_next() {
    let site = Site::start(1).await;
    let names: BTreeSet<String> = (0..1_500).map(|n| format!("{n:0>1000}")).collect();
    for (command, name) in (1..).zip(&names) {
        site.submit("q", name, command, vec![job(0)]).await;
    }
    let (mut after, mut listed, mut pages) = (None, BTreeSet::new(), 0);
    loop {
        let list = ListJobSets { queue: "q".into(), only: None, after, limit: 10_000 };
        let reply = site.ask(ShardRequest::JobSets(list)).await;
        let ShardReply::JobSets(page) = reply else { panic!("{reply:?}") };
        pages += 1;
        listed.extend(page.job_sets.into_iter().map(|set| set.job_set));
        after = page.cursor;
        if after.is_none() {
            break;
        }
    }
    assert!(listed == names && pages > 1, "{} sets, {pages} pages", listed.len());
}

#[tokio::test(start_paused = true)]
async fn a_lost_stop_order_is_made_good_with_the_next_lease_answer() {
    let site = Site::start(1).await;
    let ids = submit(&site, "q", vec![job(0), job(1)]).await;
    let mut player = Player::new(&site, 100);
    assert_eq!(player.leases(100).await.leases.len(), 2);
    player.ask(100, Duration::ZERO).await;
    // Nobody hears the order that is pushed.
    let cancel = ShardRequest::Cancel(Cancel {
        command: CommandId(7),
        target: Target::Jobs(vec![ids[0]]),
        reason: None,
    });
    site.ask(cancel).await;
    let stop = (ids[0].to_string(), 1);
    let first = player.ask(100, Duration::from_secs(5)).await.unwrap();
    assert_eq!(first.stops, [stop]);
    player.lose_last();
    let again = player.ask(100, Duration::from_secs(5)).await.unwrap();
    assert_eq!(again.stops, first.stops);
    assert!(player.ask(100, Duration::from_secs(1)).await.unwrap().stops.is_empty());
}

#[tokio::test(start_paused = true)]
async fn offers_speak_of_what_is_durable_only() {
    const JOBS_BEFORE: u64 = 6;
    let interval = Duration::from_secs(10);
    let site = Site::start_with(1, |config| config.commit_interval.0 = interval).await;
    // So many that the next commit has to wait for its turn.
    for n in 0..JOBS_BEFORE {
        submit(&site, "q", vec![job(n)]).await;
    }
    let mut offers = site.bus.subscribe(subject::OFFERS, None).await.unwrap();
    let began = site.clock.monotonic();
    let acknowledged = async {
        submit(&site, "q", vec![job(JOBS_BEFORE)]).await;
        site.clock.monotonic()
    };
    let offered = async {
        loop {
            let message = offers.next().await.unwrap();
            let message: Offers = bus::decode(&message.payload).unwrap();
            let pools = message.queues.iter().flat_map(|queue| &queue.pools);
            if pools.map(|pool| pool.waiting).sum::<u64>() == JOBS_BEFORE + 1 {
                break site.clock.monotonic();
            }
        }
    };
    let (acknowledged, offered) = tokio::join!(acknowledged, offered);
    assert!(acknowledged - began > interval / 2, "the commit waited for its turn");
    assert!(offered >= acknowledged, "{:?} before", acknowledged - offered);
}
