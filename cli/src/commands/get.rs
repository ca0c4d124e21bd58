//! `muster get`

use std::fmt::Write;

use muster_api::http::{Job, JobSet};
use muster_client::Output;

use crate::context::Context;
use crate::exit::Outcome;
use crate::show::{Rows, ago, counts, millis_of, or_dash, span};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show a job, a task (`A-7`) or an array as a whole
    Job {
        /// Its id
        id: String,
        /// Show what was submitted, too
        #[arg(long)]
        spec: bool,
    },
    /// Show how many jobs of a job set are in each state
    JobSet {
        /// Its queue
        queue: String,
        /// Its name
        job_set: String,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Job { id, spec } => {
            let output = if spec { Output::StateAndSpec } else { Output::State };
            context.show(&context.client.job(&id, output).await?, job_table)?;
        }
        Command::JobSet { queue, job_set } => {
            context.show(&context.client.job_set(&queue, &job_set).await?, job_set_table)?;
        }
    }
    Ok(Outcome::Done)
}

fn job_set_table(context: &Context, job_set: &JobSet) -> String {
    let mut rows = Rows::new(context.colour, &["STATE", "JOBS"]);
    for state in muster_core::job::JobState::ALL {
        let count = job_set.counts.get(state.name()).copied().unwrap_or_default();
        rows.add([state.name().to_owned(), count.to_string()]);
    }
    rows.text()
}

fn job_table(context: &Context, job: &Job) -> String {
    let now = context.clock.now();
    let mut rows = Rows::new(context.colour, &["JOB", &job.job_id]);
    let mut add = |name: &str, value: String| rows.add([name.to_owned(), value]);
    add("state", job.state.clone());
    add("queue", job.queue.clone());
    add("job set", job.job_set.clone());
    if let Some(client_id) = &job.client_id {
        add("client id", client_id.clone());
    }
    add("priority", job.priority.to_string());
    add("submitted", format!("{} ({})", ago(now, &job.submitted_at), job.submitted_at));
    if let Some(finished_at) = &job.finished_at {
        add("finished", format!("{} ({finished_at})", ago(now, finished_at)));
    }
    if let Some(reason) = &job.reason {
        add("reason", reason.clone());
    }
    if let Some(held_back) = &job.held_back {
        add("held back", held_back.detail.clone());
    }
    let resources: Vec<_> =
        job.resources.iter().map(|(name, amount)| format!("{name} {amount}")).collect();
    add("requests", resources.join(", "));
    if let Some(tasks) = job.count {
        add("tasks", tasks.to_string());
    }
    if let Some(states) = &job.counts {
        add("", counts(states));
    }
    let mut text = rows.text();
    if !job.runs.is_empty() {
        text += "\n";
        text += &runs_table(context, job);
    }
    if let Some(spec) = &job.spec {
        let pretty = serde_json::to_string_pretty(spec);
        // What came as JSON is JSON.
        let _ = writeln!(text, "\n{}", pretty.unwrap_or_default());
    }
    text
}

fn runs_table(context: &Context, job: &Job) -> String {
    let header = ["RUN", "CLUSTER", "NODE", "LEASED", "RAN", "EXIT", "REASON"];
    let mut rows = Rows::new(context.colour, &header);
    let now = context.clock.now();
    for run in &job.runs {
        let started = run.started_at.as_deref().and_then(millis_of);
        let ended = run.ended_at.as_deref().and_then(millis_of);
        let ran = started.map(|started| span(ended.unwrap_or(now.0) - started));
        let exit = match (run.exit_code, run.signal) {
            (_, Some(signal)) => Some(format!("signal {signal}")),
            (Some(code), None) => Some(code.to_string()),
            (None, None) => None,
        };
        let why: Vec<_> = [&run.reason, &run.message].into_iter().flatten().cloned().collect();
        rows.add([
            run.attempt.to_string(),
            run.cluster.clone(),
            run.node.clone(),
            ago(now, &run.leased_at),
            or_dash(ran.as_deref()),
            or_dash(exit.as_deref()),
            or_dash(Some(&why.join(": "))),
        ]);
    }
    rows.text()
}
