//! Real processes.

use std::path::Path;
use std::time::Duration;

use muster_api::bus::RunStatus;
use muster_core::id::JobRef;
use muster_executor::Config;
use muster_runtime::Clock;

use crate::world::{World, local, pod, shell};

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

async fn world() -> World {
    World::new(Clock::system()).await
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

async fn pid_in(world: &World, path: &Path) -> String {
    let read = || std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'));
    world.eventually("the process writes its id", read).await
}

#[tokio::test]
async fn a_job_runs_and_its_end_and_output_are_told() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(local(folder.path()));
    let array = world.job(
        &shell("echo job $MUSTER_JOB_ID of $MUSTER_QUEUE; echo index $MUSTER_ARRAY_INDEX >&2; pwd"),
        "",
        Some(9),
    );
    let task = JobRef::task(array, 3);
    world.lease(task, 1, &host(), &[("cpu", "100m"), ("pods", "1")]);
    let end = world.end_of(task).await;
    assert_eq!(end.status, RunStatus::Succeeded);
    assert_eq!((end.exit.code, end.exit.reason.as_deref()), (Some(0), Some("Completed")));
    let output = world.output("local", task, 1).await;
    assert!(output.starts_with(&format!("job {task} of q\nindex 3\n/")), "{output}");
    assert!(output.ends_with("/work\n"), "{output}");

    let bad = JobRef::whole(world.job(&shell("exit 7"), "", None));
    world.lease(bad, 1, &host(), &[]);
    let end = world.end_of(bad).await;
    assert_eq!((end.status, end.exit.code), (RunStatus::Failed, Some(7)));
    assert_eq!(end.exit.reason.as_deref(), Some("Error"));

    let killed = JobRef::whole(world.job(&shell("kill -SEGV $$$$"), "", None));
    world.lease(killed, 1, &host(), &[]);
    let end = world.end_of(killed).await;
    assert_eq!((end.status, end.exit.code, end.exit.signal), (RunStatus::Failed, None, Some(11)));
    assert_eq!(world.output("local", killed, 1).await, "");

    // Codes that a shell gives to signals are codes all the same.
    for code in [130, 137, 255] {
        let job = JobRef::whole(world.job(&shell(&format!("exit {code}")), "", None));
        world.lease(job, 1, &host(), &[]);
        let end = world.end_of(job).await;
        assert_eq!((end.exit.code, end.exit.signal), (Some(code), None));
    }
    executor.end().await;
    assert!(world.lock().believed.is_empty() && world.lock().heartbeats > 0);
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_a_reason() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(local(folder.path()));
    let cases = [
        (r#"{"containers":[{"image":"a"}]}"#, "NoCommand"),
        (r#"{"containers":[{"command":["a"]},{"command":["b"]}]}"#, "Unsupported"),
        (r#"{"containers":[{"command":["no-such-program-here"]}]}"#, "StartError"),
        (r#"{"containers":[{"command":["true"],"workingDir":"/no/such/place"}]}"#, "StartError"),
    ];
    for (spec, reason) in cases {
        let job = JobRef::whole(world.job(spec, "", None));
        world.lease(job, 1, &host(), &[]);
        let end = world.end_of(job).await;
        assert_eq!((end.status, end.exit.reason.as_deref()), (RunStatus::Failed, Some(reason)));
    }
    executor.end().await;
}

#[tokio::test]
async fn a_cancelled_run_is_told_to_end_and_killed_after_its_grace() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(local(folder.path()));
    let polite = shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done");
    let polite = JobRef::whole(world.job(&polite, "", None));
    let child = folder.path().join("child");
    let stubborn = format!(
        "trap '' TERM; sleep 1000 & echo $! >{}; echo up; while :; do sleep 0.05; done",
        child.display()
    );
    let stubborn = pod(&stubborn, r#","terminationGracePeriodSeconds":1"#);
    let stubborn = JobRef::whole(world.job(&stubborn, "", None));
    for job in [polite, stubborn] {
        world.lease(job, 1, &host(), &[]);
        world.reported(job, RunStatus::Running).await;
    }
    let child = pid_in(&world, &child).await;
    for job in [polite, stubborn] {
        world.order_stop("local", job, 1).await;
    }
    let end = world.end_of(polite).await;
    assert_eq!((end.status, end.exit.code), (RunStatus::Failed, Some(0)));
    assert_eq!(end.exit.reason.as_deref(), Some("Stopped"));
    let output = world.output("local", polite, 1).await;
    assert!(output.starts_with("up\n") && output.ends_with("bye\n"), "{output}");
    let end = world.end_of(stubborn).await;
    assert_eq!((end.status, end.exit.signal), (RunStatus::Failed, Some(9)));
    world.eventually("the group is gone", || (!is_alive(&child)).then_some(())).await;
    executor.end().await;
}

#[tokio::test]
async fn a_run_that_nobody_believes_in_is_stopped() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(local(folder.path()));
    let pid = folder.path().join("pid");
    let script = format!("echo $$$$ >{}; exec sleep 1000", pid.display());
    let job = JobRef::whole(world.job(&shell(&script), "", None));
    world.lease(job, 1, &host(), &[("cpu", "1")]);
    world.lock().believed.clear();
    let pid = pid_in(&world, &pid).await;
    world.eventually("the process is gone", || (!is_alive(&pid)).then_some(())).await;
    let free = || {
        let state = world.lock();
        state.nodes.values().all(|n| n.runs == 0 && n.free == n.allocatable).then_some(())
    };
    world.eventually("its place is free again", free).await;
    assert!(world.ends(job).is_empty());
    executor.end().await;
}

#[tokio::test]
async fn a_deadline_ends_a_run() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(local(folder.path()));
    let spec = pod("sleep 1000", r#","activeDeadlineSeconds":1"#);
    let job = JobRef::whole(world.job(&spec, "", None));
    world.lease(job, 1, &host(), &[]);
    let end = world.end_of(job).await;
    assert_eq!((end.status, end.exit.signal), (RunStatus::Failed, Some(15)));
    assert_eq!(end.exit.reason.as_deref(), Some("DeadlineExceeded"));
    executor.end().await;
}

#[tokio::test]
async fn processes_outlive_the_executor_and_are_taken_over_once() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(local(folder.path()));
    let go = folder.path().join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done; echo done", go.display());
    let long = JobRef::whole(world.job(&shell(&wait), "", None));
    let first = folder.path().join("first");
    let wait = format!("while [ ! -e {} ]; do sleep 0.05; done; exit 3", first.display());
    let short = JobRef::whole(world.job(&shell(&wait), "", None));
    let settled = JobRef::whole(world.job(&shell("true"), "", None));
    for job in [long, short, settled] {
        world.lease(job, 1, &host(), &[("cpu", "10m")]);
    }
    world.end_of(settled).await;
    for job in [long, short] {
        world.reported(job, RunStatus::Running).await;
    }
    executor.end().await;
    std::fs::write(&first, "").unwrap();
    let name = format!("local-local/runs/{short}-1/exit");
    let exit = folder.path().join(name);
    world.eventually("the short one ends", || exit.exists().then_some(())).await;

    let executor = world.start(local(folder.path()));
    let end = world.end_of(short).await;
    assert_eq!((end.status, end.exit.code), (RunStatus::Failed, Some(3)));
    assert!(world.ends(long).is_empty());
    let told = || {
        let state = world.lock();
        state.requests.last().is_some_and(|_| state.nodes[&host()].runs == 1).then_some(())
    };
    world.eventually("the long one keeps its place", told).await;
    std::fs::write(&go, "").unwrap();
    let end = world.end_of(long).await;
    assert_eq!((end.status, end.exit.code), (RunStatus::Succeeded, Some(0)));
    assert_eq!(world.output("local", long, 1).await, "done\n");
    executor.end().await;

    let executor = world.start(local(folder.path()));
    let before = world.lock().heartbeats;
    let beat = || (world.lock().heartbeats > before).then_some(());
    world.eventually("the third executor is up", beat).await;
    executor.end().await;
    let ends: Vec<_> = world.lock().reports.iter().map(|r| (r.job, r.status)).collect();
    assert!(world.lock().ended_twice().is_empty(), "{settled} {short} {long}: {ends:?}");
}

#[tokio::test]
async fn a_process_that_vanished_between_two_executors_is_lost() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let executor = world.start(local(folder.path()));
    let job = JobRef::whole(world.job(&shell("exec sleep 1000"), "", None));
    world.lease(job, 1, &host(), &[]);
    world.reported(job, RunStatus::Running).await;
    let pid = folder.path().join(format!("local-local/runs/{job}-1/pid"));
    let pid = pid_in(&world, &pid).await;
    executor.end().await;
    let pid: i32 = pid.split(' ').next().unwrap().parse().unwrap();
    let group = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    let gone = || (!is_alive(&pid.to_string())).then_some(());
    world.eventually("the group is gone", gone).await;
    let executor = world.start(local(folder.path()));
    assert_eq!(world.end_of(job).await.status, RunStatus::Lost);
    executor.end().await;
}

#[tokio::test]
async fn output_is_kept_up_to_its_limit() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let mut config = local(folder.path());
    config.local.output_max = "10kB".parse().unwrap();
    let executor = world.start(config);
    let script = "i=0; while [ $i -lt 3000 ]; do echo 0123456789; i=$((i+1)); done";
    let job = JobRef::whole(world.job(&shell(script), "", None));
    world.lease(job, 1, &host(), &[]);
    world.end_of(job).await;
    let output = world.output("local", job, 1).await;
    let notice = "\n[muster: output beyond 10000 bytes is discarded]\n";
    assert_eq!(output.len(), 10_000 + notice.len());
    assert!(output.ends_with(notice));
    executor.end().await;
}

#[tokio::test]
async fn runs_are_stopped_at_the_end_if_that_is_wanted() {
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let config = Config { stop_runs_on_exit: true, ..local(folder.path()) };
    let executor = world.start(config);
    let job = JobRef::whole(world.job(&shell("exec sleep 1000"), "", None));
    world.lease(job, 1, &host(), &[]);
    world.reported(job, RunStatus::Running).await;
    executor.end().await;
    assert_eq!(world.ends(job)[0].exit.signal, Some(15));
}

#[tokio::test]
async fn many_short_runs_go_through() {
    const RUNS: u32 = 300;
    let (world, folder) = (world().await, tempfile::tempdir().unwrap());
    let mut config = local(folder.path());
    config.local.pods = 1000;
    let executor = world.start(config);
    let array = world.job(&shell(":"), "", Some(RUNS));
    let began = world.clock.monotonic();
    for index in 0..RUNS {
        world.lease(JobRef::task(array, index), 1, &host(), &[]);
    }
    let done = || world.lock().believed.is_empty().then_some(());
    world.eventually("all end", done).await;
    let took = world.clock.monotonic() - began;
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(world.lock().payload_requests.len(), 1);
    assert!(world.lock().ended_twice().is_empty());
    executor.end().await;
}
