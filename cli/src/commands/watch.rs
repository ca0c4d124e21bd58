//! `muster watch`

use std::time::Duration;

use muster_api::http::{Event, JobSet};
use muster_client::{EventStream, Follow};

use crate::context::Context;
use crate::exit::Outcome;
use crate::show;

/// How often the counts are asked for, to see whether all is done.
const COUNTS_PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The queue
    queue: String,
    /// The job set
    job_set: String,
    /// Begin behind this event
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// End when no job of the job set lives any more; exit code 1 unless all succeeded
    #[arg(long)]
    exit_when_done: bool,
}

pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let (queue, job_set) = (&arguments.queue, &arguments.job_set);
    let mut events = context.client.events(queue, job_set, arguments.after, Follow::Yes);
    if !arguments.exit_when_done {
        follow(context, &mut events).await?;
        return Ok(Outcome::Done);
    }
    let counts = tokio::select! {
        ended = follow(context, &mut events) => return ended.map(|()| Outcome::Done),
        counts = done(context, queue, job_set) => counts?,
    };
    // What happened until then and has not been shown.
    let after = events.cursor().map(str::to_owned);
    let mut rest = context.client.events(queue, job_set, after, Follow::No);
    follow(context, &mut rest).await?;
    show::note(&show::counts(&counts.counts));
    let bad = ["failed", "cancelled"].iter().any(|state| count(&counts, state) > 0);
    Ok(if bad { Outcome::Failed } else { Outcome::Done })
}

async fn follow(context: &Context, events: &mut EventStream) -> anyhow::Result<()> {
    while let Some(event) = events.next().await? {
        context.show_item(&event, |_, event| line(event))?;
    }
    Ok(())
}

/// Waits until nothing lives.
async fn done(context: &Context, queue: &str, job_set: &str) -> anyhow::Result<JobSet> {
    loop {
        let counts = context.client.job_set(queue, job_set).await?;
        let live = ["queued", "leased", "pending", "running"];
        if live.iter().all(|state| count(&counts, state) == 0) {
            return Ok(counts);
        }
        context.clock.sleep(COUNTS_PERIOD).await;
    }
}

fn count(job_set: &JobSet, state: &str) -> u64 {
    job_set.counts.get(state).copied().unwrap_or_default()
}

fn line(event: &Event) -> String {
    let mut text = format!("{}  {:<13}  {}", event.at, event.event, event.job_id);
    if event.count > 1 {
        text += &format!("  {} jobs", event.count);
    }
    if let (Some(cluster), Some(node)) = (&event.cluster, &event.node) {
        text += &format!("  {cluster}/{node}");
    }
    if let Some(attempt) = event.attempt.filter(|attempt| *attempt > 1) {
        text += &format!("  attempt {attempt}");
    }
    if let Some(priority) = event.priority {
        text += &format!("  priority {priority}");
    }
    if let Some(code) = event.exit_code.filter(|code| *code != 0) {
        text += &format!("  exit code {code}");
    }
    if let Some(signal) = event.signal {
        text += &format!("  signal {signal}");
    }
    for why in [&event.reason, &event.message].into_iter().flatten() {
        text += &format!("  {why}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_worth_telling() {
        let event: Event = serde_json::from_str(
            r#"{"cursor":"1-2","jobId":"j","event":"failed","at":"T","attempt":2,"cluster":"c",
                "node":"n","exitCode":3,"reason":"Error"}"#,
        )
        .unwrap();
        assert_eq!(line(&event), "T  failed         j  c/n  attempt 2  exit code 3  Error");
    }
}
