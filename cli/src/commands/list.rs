//! `muster list`: pages are fetched as they are needed and printed as they come.

use clap::Args;
use muster_api::http::{Job, JobSet};
use muster_client::JobFilter;
use muster_core::limits::PAGE_SIZE_MAX;
use serde::Serialize;

use crate::args::Output;
use crate::context::{Context, write_out};
use crate::exit::Outcome;
use crate::show::{self, Rows, ago, counts, or_dash};

/// Jobs of one page of a long listing: few enough to be seen soon.
const PAGE_SIZE: usize = 1000;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List jobs, the first submitted first
    Jobs(Jobs),
    /// List the job sets of a queue
    JobSets(JobSets),
}

#[derive(Debug, Args)]
pub(crate) struct Jobs {
    /// Only of this queue
    #[arg(long, short)]
    queue: Option<String>,
    /// Only of this job set
    #[arg(long, short = 's', requires = "queue", value_name = "JOB_SET")]
    job_set: Option<String>,
    /// Only in one of these states
    #[arg(long, value_delimiter = ',', value_parser = crate::args::state)]
    state: Vec<String>,
    /// At most so many; 0 for all
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct JobSets {
    /// The queue
    queue: String,
    /// At most so many; 0 for all
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Jobs(arguments) => jobs(context, arguments).await?,
        Command::JobSets(arguments) => job_sets(context, &arguments).await?,
    }
    Ok(Outcome::Done)
}

async fn jobs(context: &Context, arguments: Jobs) -> anyhow::Result<()> {
    let filter =
        JobFilter { queue: arguments.queue, job_set: arguments.job_set, states: arguments.state };
    let mut listing = Listing::new(context, "jobs", arguments.limit);
    while let Some(size) = listing.wanted() {
        let page = context.client.jobs(&filter, size, listing.cursor.as_deref()).await?;
        listing.page(&page.jobs, page.cursor, jobs_table)?;
    }
    listing.end()
}

async fn job_sets(context: &Context, arguments: &JobSets) -> anyhow::Result<()> {
    let mut listing = Listing::new(context, "jobSets", arguments.limit);
    while let Some(size) = listing.wanted() {
        let cursor = listing.cursor.as_deref();
        let page = context.client.job_sets(&arguments.queue, Some(size), cursor).await?;
        listing.page(&page.job_sets, page.cursor, job_sets_table)?;
    }
    listing.end()
}

fn jobs_table(context: &Context, jobs: &[Job]) -> String {
    let header = ["JOB", "STATE", "QUEUE", "JOB SET", "PRIORITY", "SUBMITTED", "WHERE"];
    let mut rows = Rows::new(context.colour, &header);
    for job in jobs {
        let place = job.runs.last().map(|run| format!("{}/{}", run.cluster, run.node));
        let state = match job.count {
            Some(tasks) => format!("{} ({tasks} tasks)", job.state),
            None => job.state.clone(),
        };
        rows.add([
            job.job_id.clone(),
            state,
            job.queue.clone(),
            job.job_set.clone(),
            job.priority.to_string(),
            ago(context.clock.now(), &job.submitted_at),
            or_dash(place.as_deref()),
        ]);
    }
    rows.text()
}

fn job_sets_table(context: &Context, job_sets: &[JobSet]) -> String {
    let mut rows = Rows::new(context.colour, &["JOB SET", "JOBS"]);
    for job_set in job_sets {
        rows.add([job_set.job_set.clone(), counts(&job_set.counts)]);
    }
    rows.text()
}

/// A listing in progress.
struct Listing<'a> {
    context: &'a Context,
    name: &'static str,
    /// 0 for no limit.
    limit: usize,
    shown: usize,
    cursor: Option<String>,
    started: bool,
    ended: bool,
}

impl<'a> Listing<'a> {
    fn new(context: &'a Context, name: &'static str, limit: usize) -> Self {
        Self { context, name, limit, shown: 0, cursor: None, started: false, ended: false }
    }

    /// How many items the next page should have, if one is wanted.
    fn wanted(&self) -> Option<usize> {
        let size = match self.limit {
            0 => PAGE_SIZE,
            limit => (limit - self.shown).min(PAGE_SIZE),
        };
        (!self.ended && size > 0).then_some(size.min(PAGE_SIZE_MAX))
    }

    fn page<T: Serialize>(
        &mut self,
        items: &[T],
        cursor: Option<String>,
        table: impl FnOnce(&Context, &[T]) -> String,
    ) -> anyhow::Result<()> {
        match self.context.output {
            Output::Table | Output::Page if items.is_empty() => {}
            Output::Table | Output::Page => write_out(&table(self.context, items))?,
            Output::Json => self.json(items)?,
            Output::Yaml => self.yaml(items)?,
        }
        self.started = true;
        self.shown += items.len();
        self.ended = cursor.is_none();
        self.cursor = cursor;
        Ok(())
    }

    /// One object, an item a line.
    fn json<T: Serialize>(&self, items: &[T]) -> anyhow::Result<()> {
        let mut text = String::new();
        if !self.started {
            text += &format!("{{\"{}\":[", self.name);
        }
        for (at, item) in items.iter().enumerate() {
            text += if self.shown + at == 0 { "\n" } else { ",\n" };
            text += &serde_json::to_string(item)?;
        }
        write_out(&text)
    }

    fn yaml<T: Serialize>(&self, items: &[T]) -> anyhow::Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let head = if self.shown > 0 { String::new() } else { format!("{}:\n", self.name) };
        write_out(&(head + &show::yaml(&items)?))
    }

    fn end(self) -> anyhow::Result<()> {
        match self.context.output {
            Output::Table | Output::Page if self.shown == 0 => show::note("nothing found"),
            Output::Json => write_out("\n]}\n")?,
            Output::Yaml if self.shown == 0 => write_out(&format!("{}: []\n", self.name))?,
            Output::Table | Output::Page | Output::Yaml => {}
        }
        if !self.ended {
            let shown = self.shown;
            show::note(&format!("the first {shown}; there are more (`--limit 0` shows all)"));
        }
        Ok(())
    }
}
