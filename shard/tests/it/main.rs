//! A worker on the bus in memory and a store in memory: what gateways and executors see of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod away;
mod classes;
mod damaged;
mod frozen;
mod garbage;
mod messages;
mod preemption;
mod settle;
mod site;
mod tripwire;

use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::{
    Cancel, GetPayloads, Heartbeat, LeaseReply, LeaseRequest, ListEvents, ListJobSets, ListJobs,
    NodeUpdate, ReportRuns, RunStatus, ShardReply, ShardRequest, Sync, Target, decode, encode,
    subject,
};
use muster_api::http::ErrorCode;
use muster_core::command::NewJob;
use muster_core::id::{CommandId, JobId, JobRef, ShardId, run_digest};
use muster_core::time::Timestamp;
use muster_runtime::Bus;
use muster_runtime::bus::memory::Memory;
use muster_runtime::config::HumanDuration;
use muster_shard::Config;

use site::{Site, job};

#[tokio::test(start_paused = true)]
async fn a_job_is_submitted_leased_run_and_found_in_the_history() {
    let site = Site::start(1).await;
    let ids = site.submit("q", "set", 1, vec![job(0), job(1), job(2)]).await;
    let leases = site.lease(10).await;
    assert_eq!(leases.iter().map(|lease| lease.job).collect::<Vec<_>>(), ids);
    assert!(leases.iter().all(|lease| lease.attempt == 1 && lease.node == "n0"));
    let payloads = ShardRequest::Payloads(GetPayloads { jobs: vec![ids[0].job] });
    let ShardReply::Payloads(payloads) = site.ask(payloads).await else { panic!("no payloads") };
    assert_eq!(&payloads[0].pod_spec[..], br#"{"containers":[]}"#);
    assert_eq!((payloads[0].queue.as_str(), payloads[0].found), ("q", true));
    assert_eq!(site.report(&leases, RunStatus::Running).await, [true; 3]);
    assert_eq!(site.report(&leases, RunStatus::Succeeded).await, [true; 3]);
    assert_eq!(site.report(&leases, RunStatus::Succeeded).await, [false; 3]);
    assert_eq!(site.counts("q", "set").await["succeeded"], 3);
    site.history_written(1).await;
    let shown = site.job(ids[1], true).await.expect("the history has it");
    assert_eq!((shown.state.as_str(), shown.runs.len()), ("succeeded", 1));
    assert_eq!(shown.spec.unwrap().pod_spec.get(), r#"{"containers":[]}"#);
    let list = ListJobs { queue: Some("q".into()), limit: 2, ..ListJobs::default() };
    let ShardReply::Jobs(page) = site.ask(ShardRequest::Jobs(list.clone())).await else {
        panic!("no page")
    };
    assert_eq!(page.jobs.len(), 2);
    let after = Some(page.cursor.unwrap().parse::<JobRef>().unwrap());
    let rest = site.ask(ShardRequest::Jobs(ListJobs { after, ..list })).await;
    let ShardReply::Jobs(rest) = rest else { panic!("no page") };
    assert_eq!((rest.jobs.len(), rest.cursor), (1, None));
}

#[tokio::test(start_paused = true)]
async fn an_array_that_is_done_is_found_in_the_history_as_a_whole() {
    let site = Site::start(1).await;
    let array = NewJob { count: Some(3), ..job(0) };
    let id = site.submit("q", "set", 1, vec![array]).await[0];
    let leases = site.lease(2).await;
    site.report(&leases, RunStatus::Succeeded).await;
    let before = site.job(id, false).await.unwrap();
    assert_eq!((before.state.as_str(), before.count), ("running", Some(3)));
    let target = Target::Jobs(vec![id]);
    let cancel = Cancel { command: CommandId(7), target, reason: None };
    site.ask(ShardRequest::Cancel(cancel)).await;
    let in_memory = site.job(id, false).await.unwrap();
    assert_eq!(in_memory.finished_at, None, "memory does not say when");
    let from_history = async {
        loop {
            let job = site.job(id, true).await.expect("it is never lost from sight");
            if job.finished_at.is_some() {
                return job;
            }
            site.clock.sleep(Duration::from_secs(1)).await;
        }
    };
    let minute = Duration::from_secs(60);
    let shown = tokio::time::timeout(minute, from_history).await.expect("memory lets go of it");
    assert_eq!((shown.job_id, shown.state.as_str()), (id.to_string(), "cancelled"));
    assert_eq!((shown.count, shown.counts), (Some(3), in_memory.counts));
    assert_eq!(shown.spec.unwrap().pod_spec.get(), r#"{"containers":[]}"#);
    // Of what only the history knows, a change says that it has finished.
    let nobody = JobRef::whole(JobId::new(Timestamp(1), id.job.shard(), 1));
    let target = Target::Jobs(vec![id, nobody]);
    let again = Cancel { command: CommandId(8), target, reason: None };
    let ShardReply::Applied(applied) = site.ask(ShardRequest::Cancel(again)).await else {
        panic!("no outcome")
    };
    assert_eq!((applied.changed, applied.finished), (0, vec![id.to_string()]));
    assert_eq!(applied.missing, [nobody.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn events_resume_from_any_cursor_also_after_the_owner_changed() {
    let mut site = Site::start(1).await;
    site.submit("q", "set", 1, vec![job(0), job(1)]).await;
    site.submit("q", "other", 2, vec![job(0)]).await;
    let leases = site.lease(10).await;
    site.report(&leases, RunStatus::Running).await;
    let all = site.events("q", "set", None).await;
    let names: Vec<&str> = all.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(names, ["submitted", "submitted", "leased", "leased", "running", "running"]);
    site.restart().await;
    for (index, event) in all.iter().enumerate() {
        let rest = site.events("q", "set", Some(&event.cursor)).await;
        assert_eq!(rest, all[index + 1..], "behind {}", event.cursor);
    }
    assert_eq!(site.events("q", "set", None).await, all);
}

#[tokio::test(start_paused = true)]
async fn events_of_long_ago_come_in_time_however_slowly_the_store_reads() {
    // Whoever asks waits for six seconds, and begins anew with the same page then.
    let mut site = Site::start_on_slow_store(Duration::from_secs(2), 1).await;
    site.submit("q", "set", 1, vec![job(0)]).await;
    for command in 0..60 {
        site.submit("q", "other", 10 + command, vec![job(0)]).await;
    }
    let cancel = Target::JobSet { queue: "q".into(), job_set: "set".into(), states: Vec::new() };
    let cancel = Cancel { command: CommandId(7), target: cancel, reason: None };
    site.ask(ShardRequest::Cancel(cancel)).await;
    let all = site.events("q", "set", None).await;
    assert_eq!(all.len(), 2);
    // The next owner has nothing of it in memory.
    site.restart().await;
    assert_eq!(site.events("q", "set", None).await, all);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_hears_of_what_happens_later() {
    let site = Site::start(1).await;
    let ids = site.submit("q", "set", 1, vec![job(0)]).await;
    let seen = site.events("q", "set", None).await;
    let watch = ShardRequest::Events(ListEvents {
        queue: "q".into(),
        job_set: "set".into(),
        after: Some(seen[0].cursor.parse().unwrap()),
        limit: 10,
        wait_ms: 5_000,
    });
    let cancel = ShardRequest::Cancel(Cancel {
        command: CommandId(7),
        target: Target::Jobs(ids),
        reason: Some("enough".into()),
    });
    let (watched, cancelled) = tokio::join!(site.ask(watch), async {
        site.clock.sleep(Duration::from_secs(1)).await;
        site.ask(cancel).await
    });
    let ShardReply::Applied(applied) = cancelled else { panic!("{cancelled:?}") };
    assert_eq!(applied.changed, 1);
    let ShardReply::Events(page) = watched else { panic!("{watched:?}") };
    assert_eq!(page.events[0].event, "cancelled");
    assert_eq!(page.events[0].reason.as_deref(), Some("enough"));
}

#[tokio::test(start_paused = true)]
async fn a_command_sent_again_to_the_next_owner_is_answered_as_before() {
    let mut site = Site::start(1).await;
    let first = site.submit("q", "set", 5, vec![job(0), job(1)]).await;
    site.restart().await;
    assert_eq!(site.submit("q", "set", 5, vec![job(0), job(1)]).await, first);
    assert_eq!(site.counts("q", "set").await["queued"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_and_the_log_behind_it_make_the_same_state() {
    let mut site = Site::start_with(1, |config| config.checkpoint_records = 5).await;
    for command in 1..=20 {
        site.submit("q", "set", command, vec![job(0), job(1)]).await;
    }
    let leases = site.lease(4).await;
    site.report(&leases, RunStatus::Running).await;
    site.kill().await;
    assert!(!site.keys("shards/0/checkpoint").await.is_empty());
    site.start_worker(|config| config.checkpoint_records = 5).await;
    let counts = site.counts("q", "set").await;
    assert_eq!((counts["running"], counts["queued"]), (4, 36));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_comes_after_few_large_or_many_small_commits_of_all_owners_together() {
    let by_objects = |config: &mut muster_shard::Config| config.checkpoint_objects = 8;
    let by_bytes = |config: &mut muster_shard::Config| {
        config.checkpoint_bytes = muster_runtime::config::ByteSize(64 * 1024);
    };
    for change in [by_objects as fn(&mut muster_shard::Config), by_bytes] {
        let mut site = Site::start_with(1, change).await;
        let mut commits = 0;
        // No owner lives long enough to write that much.
        while site.keys("shards/0/checkpoint").await.is_empty() {
            for _ in 0..3 {
                commits += 1;
                site.submit("q", "set", commits, vec![job(0)]).await;
            }
            assert!(commits < 30, "no checkpoint");
            site.kill().await;
            site.start_worker(change).await;
        }
        assert!(commits > 3);
        assert_eq!(u128::from(site.counts("q", "set").await["queued"]), commits);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_clusters_runs_are_given_up_and_its_reports_not_believed() {
    let site = Site::start(1).await;
    site.submit("q", "set", 1, vec![job(0)]).await;
    let first = site.lease(10).await;
    site.clock.sleep(Duration::from_secs(90)).await;
    assert_eq!(site.counts("q", "set").await["queued"], 1);
    assert_eq!(site.report(&first, RunStatus::Succeeded).await, [false]);
    let second = site.lease(10).await;
    assert_eq!((second[0].job, second[0].attempt), (first[0].job, 2));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_frozen_past_its_lease_gives_up_nobodys_runs() {
    let site = Site::start(1).await;
    site.submit("q", "set", 1, vec![job(0)]).await;
    let leases = site.lease(10).await;
    site.report(&leases, RunStatus::Running).await;
    tokio::time::advance(Duration::from_secs(70)).await;
    assert_eq!(site.counts("q", "set").await["running"], 1);
    assert_eq!(site.report(&leases, RunStatus::Succeeded).await, [true]);
}

#[tokio::test(start_paused = true)]
async fn time_in_which_the_owner_was_not_awake_is_no_silence_of_a_cluster() {
    let lease_ttl = HumanDuration::secs(1_000);
    let site = Site::start_with(1, |config| config.lease_ttl = lease_ttl).await;
    site.submit("q", "set", 1, vec![job(0)]).await;
    let leases = site.lease(10).await;
    site.report(&leases, RunStatus::Running).await;
    tokio::time::advance(Duration::from_secs(70)).await;
    site.clock.sleep(Duration::from_secs(30)).await;
    assert_eq!(site.counts("q", "set").await["running"], 1);
    site.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(site.counts("q", "set").await["queued"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_was_given_up_is_answered_for_at_once_and_another_after_a_lease_time() {
    let mut site = Site::start(1).await;
    let began = site.clock.monotonic();
    site.submit("q", "set", 1, vec![job(0)]).await;
    assert!(site.clock.monotonic() - began < Duration::from_secs(1), "nobody had it before");
    let began = site.clock.monotonic();
    site.restart().await;
    site.counts("q", "set").await;
    assert!(site.clock.monotonic() - began < Duration::from_secs(1));
    site.clock.sleep(Duration::from_secs(30)).await;
    site.kill().await;
    site.wipe_leases().await;
    let began = site.clock.monotonic();
    site.start_worker(|_| {}).await;
    assert_eq!(site.counts("q", "set").await["queued"], 1);
    assert!(site.clock.monotonic() - began > Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_compares_notes_by_a_digest() {
    let site = Site::start(1).await;
    site.submit("q", "set", 1, vec![job(0), job(1)]).await;
    let leases = site.lease(10).await;
    let digest = leases.iter().fold(0, |d, lease| d ^ run_digest(lease.job, lease.attempt));
    let sync = |count, digest| {
        ShardRequest::Sync(Sync { cluster: "c".into(), count, digest, after: None })
    };
    let ShardReply::Runs(page) = site.ask(sync(2, digest)).await else { panic!("no runs") };
    assert!(page.agreed && page.runs.is_empty());
    let ShardReply::Runs(page) = site.ask(sync(0, 0)).await else { panic!("no runs") };
    assert_eq!(
        page.runs.iter().map(|r| r.run.job).collect::<Vec<_>>(),
        [leases[0].job, leases[1].job]
    );
}

#[tokio::test(start_paused = true)]
async fn two_workers_share_the_shards_and_one_takes_over_from_the_other() {
    let mut site = Site::start(4).await;
    let queues: Vec<String> = (0..12).map(|n| format!("q{n}")).collect();
    for (command, queue) in (1..).zip(&queues) {
        site.submit(queue, "set", command, vec![job(0)]).await;
    }
    site.start_second().await;
    site.clock.sleep(Duration::from_secs(30)).await;
    for queue in &queues {
        assert_eq!(site.counts(queue, "set").await["queued"], 1);
    }
    site.kill().await;
    for queue in &queues {
        assert_eq!(site.counts(queue, "set").await["queued"], 1, "{queue}");
    }
}

#[tokio::test(start_paused = true)]
async fn too_much_waiting_is_refused_for_the_moment() {
    let site = Site::start_with(1, |config| {
        config.commit_bytes_max = muster_runtime::config::ByteSize(10);
    })
    .await;
    let reply = site.try_submit("q", "set", 1, vec![job(0)]).await;
    let ShardReply::Error(problem) = reply else { panic!("{reply:?}") };
    assert_eq!(problem.code, ErrorCode::Overloaded);
    let sets = ListJobSets { queue: "q".into(), only: None, after: None, limit: 10 };
    let ShardReply::JobSets(page) = site.ask(ShardRequest::JobSets(sets)).await else { panic!() };
    assert!(page.job_sets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_command_that_comes_again_while_it_is_in_hand_takes_no_more_room() {
    let ShardRequest::Submit(submit) = Site::submission("q", "set", 1, &[job(0)]) else { panic!() };
    let site = Site::start_with(1, |config| {
        config.commit_bytes_max = muster_runtime::config::ByteSize(submit.batch.len() as u64);
    })
    .await;
    let submit = || site.try_submit("q", "set", 1, vec![job(0)]);
    let replies = tokio::join!(submit(), submit(), submit());
    let ids = [replies.0, replies.1, replies.2].map(|reply| match reply {
        ShardReply::Submitted(runs) => runs[0].first,
        other => panic!("{other:?}"),
    });
    assert_eq!(ids, [ids[0]; 3]);
    assert_eq!(site.counts("q", "set").await["queued"], 1);
}

#[tokio::test(start_paused = true)]
async fn every_new_owner_says_when_it_begins_to_answer() {
    let bus: Arc<dyn Bus> = Arc::new(Memory::default());
    let mut said = bus.subscribe(subject::OWNERS, None).await.unwrap();
    let mut site = Site::start_on(Arc::clone(&bus), 1).await;
    for _ in 0..2 {
        let message = tokio::select! {
            message = said.next() => message.unwrap(),
            () = site.clock.sleep(Duration::from_secs(60)) => panic!("nobody says so"),
        };
        assert_eq!(subject::owned_shard(&message.subject), Some(ShardId(0)));
        let sets = ListJobSets { queue: "q".into(), only: None, after: None, limit: 10 };
        let request = encode(&ShardRequest::JobSets(sets));
        let reply = bus.request(&subject::shard(ShardId(0)), request, Duration::from_secs(1)).await;
        reply.unwrap();
        site.restart().await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_new_leader_says_when_it_begins_to_answer() {
    let bus: Arc<dyn Bus> = Arc::new(Memory::default());
    let mut said = bus.subscribe(subject::LEADERS, None).await.unwrap();
    let mut site = Site::start_on(Arc::clone(&bus), 1).await;
    let (cluster, instance, pools) = ("c".to_owned(), "i".to_owned(), vec!["default".to_owned()]);
    let heartbeat = encode(&Heartbeat { cluster, instance, pools });
    let nodes = NodeUpdate { base: None, version: 1, nodes: Vec::new(), removed: Vec::new() };
    let (cluster, instance) = ("c".to_owned(), "i".to_owned());
    let request = LeaseRequest { cluster, instance, seen: None, nodes, leases_max: 1, wait_ms: 0 };
    for _ in 0..2 {
        let beats = async {
            for _ in 0..60 {
                bus.publish(subject::HEARTBEATS, heartbeat.clone()).await.unwrap();
                site.clock.sleep(Duration::from_secs(1)).await;
            }
        };
        let message = tokio::select! {
            message = said.next() => message.unwrap(),
            () = beats => panic!("nobody says so"),
        };
        assert_eq!(subject::led_pool(&message.subject), Some("default"));
        let (leader, asked) = (subject::pool("default"), encode(&request));
        let reply = bus.request(&leader, asked, Duration::from_secs(5)).await.unwrap();
        assert!(matches!(decode(&reply).unwrap(), LeaseReply::Answer(_)));
        site.restart().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_shard_asks_the_store_for_nothing() {
    let site = Site::start(4).await;
    let ids = site.submit("q", "set", 1, vec![job(0)]).await;
    let leases = site.lease(10).await;
    site.report(&leases, RunStatus::Succeeded).await;
    site.history_written(1).await;
    assert!(site.job(ids[0], false).await.is_some());
    // What its last rounds came to is written when the interval is over.
    site.clock.sleep(Config::default().rounds_interval.0 + Duration::from_secs(5)).await;
    let before = site.store.requests();
    site.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(site.store.requests(), before);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_request_is_answered_with_what_is_wrong() {
    let site = Site::start(1).await;
    let reply = site.ask_bytes(&b"\xc1nonsense"[..]).await;
    let ShardReply::Error(problem) = reply else { panic!("{reply:?}") };
    assert_eq!(problem.code, ErrorCode::BadRequest);
    let report = ReportRuns { command: CommandId(1), cluster: "c".into(), reports: Vec::new() };
    assert!(matches!(site.ask(ShardRequest::Report(report)).await, ShardReply::Reported(_)));
}
