//! `muster demo`: three queues of weight 1, 2 and 4 share this machine. Starts `muster up` on a
//! temporary directory, submits real jobs, watches, checks that all succeeded and that the shares
//! were fair, and leaves nothing behind.

mod deployment;
mod remove;
mod shares;
mod work;

use std::time::Duration;

use anyhow::ensure;
use muster_client::{Client, Options};
use muster_runtime::clock::Clock;

use crate::args::NoClient;
use crate::context::write_out;
use crate::exit::Outcome;
use crate::show::{self, Rows, percent};
use deployment::Deployment;
use shares::{QueueProgress, Shares};

/// The queues and their weights.
const QUEUES: [(&str, u32); 3] = [("bronze", 1), ("silver", 2), ("gold", 4)];
const POOL: &str = "default";
const JOB_SET: &str = "demo";
/// How far a measured share may be from the ideal one.
const SHARE_TOLERANCE: f64 = 0.05;
/// Fewer measurements than this prove nothing.
const SAMPLES_MIN: usize = 5;
/// What happens this soon after all queues have become busy is not measured.
const SETTLE: Duration = Duration::from_secs(1);
/// A deployment that takes longer is broken.
const DEADLINE: Duration = Duration::from_secs(300);
const POLL_PERIOD: Duration = Duration::from_millis(250);
/// How often a line is printed where nothing can be redrawn.
const LINE_PERIOD: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    _client: NoClient,
    /// Jobs of each queue, at least 500: fewer are over before shares can be measured
    #[arg(
        long,
        default_value_t = 2000,
        value_parser = clap::value_parser!(u32).range(500..=100_000)
    )]
    jobs: u32,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let clock = Clock::system();
    show::note("starting `muster up` on a temporary directory");
    let mut deployment = Deployment::start(&clock).await?;
    show::note(&format!("it is ready at {}", deployment.url));
    let shown = tokio::select! {
        shown = show_fairness(&clock, &deployment.url, u64::from(arguments.jobs)) => {
            shown.map(Some)
        }
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| None).map_err(Into::into),
    };
    // Stopped in any case; what went wrong before matters more than what goes wrong now.
    let stopped = deployment.stop(&clock).await;
    let log = deployment.log_end();
    deployment.remove().await?;
    let result = match (shown, stopped) {
        (Ok(Some(())), Ok(())) => {
            show::note("all jobs succeeded, the shares were fair, and the deployment ended tidily");
            return Ok(Outcome::Done);
        }
        (Ok(None), Ok(())) => return Ok(Outcome::Interrupted),
        (Err(error), _) | (Ok(_), Err(error)) => error,
    };
    if !log.is_empty() {
        show::note(&format!("the end of its log:\n{log}"));
    }
    Err(result)
}

async fn show_fairness(clock: &Clock, url: &str, jobs: u64) -> anyhow::Result<()> {
    let client = Client::new(url, Options::default())?;
    let began = clock.monotonic();
    let request = work::cpu_request(clock, &client).await?;
    for (queue, weight) in QUEUES {
        work::create_queue(&client, queue, weight).await?;
    }
    futures::future::try_join_all(
        QUEUES.map(|(queue, _)| work::submit(&client, queue, jobs, request)),
    )
    .await?;
    let (total, took) = (jobs * QUEUES.len() as u64, clock.monotonic() - began);
    show::note(&format!(
        "submitted {total} jobs in {:.2} s; each asks for {request}m of cpu",
        took.as_secs_f64()
    ));

    let mut shares = Shares::new(QUEUES.len());
    let progress = watch(clock, &client, jobs, &mut shares).await?;
    let took = clock.monotonic() - began;
    show::note(&format!("finished in {:.1} s", took.as_secs_f64()));
    report(&progress, &shares, jobs)
}

/// Watches until no job lives.
async fn watch(
    clock: &Clock,
    client: &Client,
    jobs: u64,
    shares: &mut Shares,
) -> anyhow::Result<Vec<QueueProgress>> {
    let redraw = show::stderr_is_terminal();
    let (mut lines, mut last_line, began) = (0, None, clock.monotonic());
    loop {
        let mut progress = shares::progress(client, &QUEUES, JOB_SET).await?;
        let pool = client.shares(POOL).await?;
        shares.take(clock.monotonic(), &pool, &QUEUES);
        for (queue, now) in progress.iter_mut().zip(shares.latest()) {
            queue.share = *now;
        }
        let now = clock.monotonic();
        if redraw {
            let text = live_table(&progress, jobs);
            show::note(&(show::up_and_clear(lines) + text.trim_end()));
            lines = text.trim_end().lines().count();
        } else if last_line.is_none_or(|last| now - last >= LINE_PERIOD) {
            show::note(&live_line(&progress, jobs));
            last_line = Some(now);
        }
        if progress.iter().all(|queue| queue.finished >= jobs) {
            return Ok(progress);
        }
        ensure!(now - began < DEADLINE, "not all jobs had finished after {DEADLINE:?}");
        clock.sleep(POLL_PERIOD).await;
    }
}

fn live_table(progress: &[QueueProgress], jobs: u64) -> String {
    let header = ["QUEUE", "WEIGHT", "QUEUED", "RUNNING", "FINISHED", "SHARE NOW", "IDEAL SHARE"];
    let mut rows = Rows::new(false, &header);
    for (queue, (name, weight)) in progress.iter().zip(QUEUES) {
        rows.add([
            name.to_owned(),
            weight.to_string(),
            queue.queued.to_string(),
            queue.running.to_string(),
            format!("{} of {jobs}", queue.finished),
            percent(queue.share),
            percent(ideal(weight)),
        ]);
    }
    rows.text()
}

fn live_line(progress: &[QueueProgress], jobs: u64) -> String {
    let texts: Vec<_> = progress
        .iter()
        .zip(QUEUES)
        .map(|(queue, (name, _))| {
            format!("{name} {}/{jobs} finished, share {}", queue.finished, percent(queue.share))
        })
        .collect();
    texts.join("; ")
}

/// Prints the closing table and checks it.
fn report(progress: &[QueueProgress], shares: &Shares, jobs: u64) -> anyhow::Result<()> {
    let measured = shares.means();
    let header = ["QUEUE", "WEIGHT", "SHARE WHILE ALL BUSY", "IDEAL SHARE", "SUCCEEDED"];
    let mut rows = Rows::new(false, &header);
    for ((queue, (name, weight)), mean) in progress.iter().zip(QUEUES).zip(&measured) {
        rows.add([
            name.to_owned(),
            weight.to_string(),
            percent(*mean),
            percent(ideal(weight)),
            queue.succeeded.to_string(),
        ]);
    }
    write_out(&rows.text())?;

    for (queue, (name, _)) in progress.iter().zip(QUEUES) {
        let succeeded = queue.succeeded;
        ensure!(succeeded == jobs, "{succeeded} of {jobs} jobs of `{name}` succeeded");
    }
    let samples = shares.samples();
    ensure!(
        samples >= SAMPLES_MIN,
        "all queues were busy at {samples} measurements only, {SAMPLES_MIN} are needed"
    );
    for ((name, weight), mean) in QUEUES.into_iter().zip(measured) {
        ensure!(
            (mean - ideal(weight)).abs() <= SHARE_TOLERANCE,
            "`{name}` had {} while all were busy, {} is ideal, {} off is allowed",
            percent(mean),
            percent(ideal(weight)),
            percent(SHARE_TOLERANCE),
        );
    }
    Ok(())
}

fn ideal(weight: u32) -> f64 {
    let sum: u32 = QUEUES.iter().map(|(_, weight)| weight).sum();
    f64::from(weight) / f64::from(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(succeeded: u64) -> Vec<QueueProgress> {
        vec![QueueProgress { succeeded, finished: 10, ..QueueProgress::default() }; 3]
    }

    #[test]
    fn the_check_fails_on_lost_jobs_unfair_shares_and_too_little_evidence() {
        let shares_of = |shares: [f64; 3], samples: usize| {
            let mut kept = Shares::new(3);
            (0..samples).for_each(|_| kept.add(&shares));
            kept
        };
        let fair = [1.0, 2.0, 4.0].map(|weight| weight / 7.0);
        assert!(report(&progress(10), &shares_of(fair, 5), 10).is_ok());
        let why = |progress: &[_], shares| report(progress, &shares, 10).unwrap_err().to_string();
        assert!(why(&progress(9), shares_of(fair, 5)).starts_with("9 of 10 jobs of `bronze`"));
        assert!(why(&progress(10), shares_of(fair, 4)).contains("at 4 measurements"));
        let equal = shares_of([1.0 / 3.0; 3], 5);
        assert!(why(&progress(10), equal).starts_with("`bronze` had 33.3%"));
    }

    #[test]
    fn what_is_shown_names_every_queue() {
        assert!(live_table(&progress(3), 10).contains("gold    4       0       0"));
        assert!(live_line(&progress(3), 10).contains("silver 10/10 finished"));
    }
}
