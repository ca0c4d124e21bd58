//! `muster queue`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use muster_api::http::{ErrorCode, Problem, Queue, QueueLimit, QueueList, QueueSettings, Rate};
use muster_api::job_text::RetryRule;
use muster_client::Error;

use crate::context::Context;
use crate::exit::{Outcome, Usage};
use crate::input::limits::{self, OrNone};
use crate::input::{queues, retry};
use crate::show::{self, Rows};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create a queue, or those of a file
    Create(Create),
    /// Show a queue
    Get {
        /// Its name
        name: String,
    },
    /// List the queues
    List,
    /// Change what is named, keep the rest
    Update(Update),
    /// Delete a queue without live jobs
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    name: Option<String>,
    /// Queues as YAML or JSON (`name`, `weight`, `labels`, `cordoned`, `limits`, `jobsQueuedMax`,
    /// `rate`, `retry`, `parent`), Armada's queue files too; those that exist are set to what the
    /// file says
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Its weight: twice the weight, twice the share
    #[arg(long, default_value_t = 1.0, conflicts_with = "file")]
    weight: f64,
    /// A label; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, conflicts_with = "file")]
    label: Vec<(String, String)>,
    /// The queue that it stands below: what that has is shared by those below it
    #[arg(long, value_name = "QUEUE", conflicts_with = "file")]
    parent: Option<String>,
    /// Keep its jobs from being leased
    #[arg(long, conflicts_with = "file")]
    cordoned: bool,
    /// What its jobs of a class may hold of a pool together, as quantities or percentages of the
    /// pool; `*` is all classes, each pool; repeat for more
    #[arg(long, value_name = LIMIT, value_parser = limits::limit, conflicts_with = "file")]
    limit: Vec<QueueLimit>,
    /// How many of its jobs may wait
    #[arg(long, value_name = "N", conflicts_with = "file")]
    jobs_queued_max: Option<u64>,
    /// How many of its jobs are placed in a second, in the long run
    #[arg(long, value_name = "N/s", value_parser = limits::rate, conflicts_with = "file")]
    rate: Option<f64>,
    /// How many of them at once; without it, those of a second
    #[arg(long, value_name = "N", requires = "rate")]
    burst: Option<u32>,
    /// A rule of its retry policy as YAML or JSON, as in `{exitCodes: [3], action: retry, limit:
    /// 2}`; repeat for more, of which the first that fits counts
    #[arg(long, value_name = "RULE", value_parser = retry::rule, conflicts_with = "file")]
    retry: Vec<RetryRule>,
}

const LIMIT: &str = "CLASS/POOL:RESOURCE=AMOUNT,…";

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Its name
    name: String,
    /// Its weight
    #[arg(long)]
    weight: Option<f64>,
    /// A label to set; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// A label to take away; repeat for more
    #[arg(long, value_name = "KEY")]
    remove_label: Vec<String>,
    /// The queue that it stands below; `none` for the top
    #[arg(long, value_name = "QUEUE", value_parser = limits::name_or_none)]
    parent: Option<OrNone<String>>,
    /// Whether its jobs are kept from being leased
    #[arg(long, value_name = "BOOL")]
    cordoned: Option<bool>,
    /// A limit to set; that of the same class and pool goes; repeat for more
    #[arg(long, value_name = LIMIT, value_parser = limits::limit)]
    limit: Vec<QueueLimit>,
    /// A limit to take away; repeat for more
    #[arg(long, value_name = "CLASS/POOL", value_parser = limits::of_place)]
    remove_limit: Vec<QueueLimit>,
    /// How many of its jobs may wait; `none` for any number
    #[arg(long, value_name = "N", value_parser = limits::number_or_none)]
    jobs_queued_max: Option<OrNone<u64>>,
    /// How many of its jobs are placed in a second, in the long run; `none` for any number
    #[arg(long, value_name = "N/s", value_parser = limits::rate_or_none)]
    rate: Option<OrNone<f64>>,
    /// How many of them at once; without it, those of a second
    #[arg(long, value_name = "N", requires = "rate")]
    burst: Option<u32>,
    /// A rule of its retry policy, in place of those that it has; repeat for more; `none` for no
    /// policy
    #[arg(long, value_name = "RULE", value_parser = retry::rule_or_none)]
    retry: Vec<OrNone<RetryRule>>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Create(arguments) => create(context, arguments).await?,
        Command::Get { name } => show_queues(context, vec![context.client.queue(&name).await?])?,
        Command::List => {
            let list = QueueList { queues: context.client.queues().await? };
            context.show(&list, |context, list| table(context, &list.queues))?;
        }
        Command::Update(arguments) => update(context, arguments).await?,
        Command::Delete { name } => {
            context.client.delete_queue(&name).await?;
            show::note(&format!("queue `{name}` deleted"));
        }
    }
    Ok(Outcome::Done)
}

async fn create(context: &Context, arguments: Create) -> anyhow::Result<()> {
    if let Some(file) = &arguments.file {
        return create_from(context, file).await;
    }
    let name = arguments.name.ok_or_else(|| Usage("a queue needs a name".to_owned()))?;
    let burst = arguments.burst;
    let settings = QueueSettings {
        weight: arguments.weight,
        labels: arguments.label.into_iter().collect(),
        cordoned: arguments.cordoned,
        limits: arguments.limit,
        jobs_queued_max: arguments.jobs_queued_max,
        rate: arguments.rate.map(|per_second| rate(per_second, burst)),
        retry: arguments.retry,
        parent: arguments.parent,
    };
    match context.client.queue(&name).await {
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
        Ok(_) => {
            let detail = format!("queue `{name}` exists; `muster queue update` changes it");
            let problem = Problem::new(ErrorCode::Conflict, detail);
            return Err(Error::Refused { status: 409, problem }.into());
        }
    }
    show_queues(context, vec![context.client.put_queue(&name, &settings).await?])
}

async fn create_from(context: &Context, file: &std::path::Path) -> anyhow::Result<()> {
    let text = tokio::fs::read_to_string(file).await.with_context(|| file.display().to_string())?;
    let mut created = Vec::new();
    for queue in queues::parse(&text).with_context(|| file.display().to_string())? {
        for field in &queue.ignored {
            show::note(&format!("queue `{}`: `{field}` is not used", queue.name));
        }
        let put = context.client.put_queue(&queue.name, &queue.settings).await;
        created.push(put.with_context(|| format!("queue `{}`", queue.name))?);
    }
    show_queues(context, created)
}

async fn update(context: &Context, arguments: Update) -> anyhow::Result<()> {
    let mut settings = context.client.queue(&arguments.name).await?.settings;
    settings.labels.extend(arguments.label);
    settings.labels.retain(|key, _| !arguments.remove_label.contains(key));
    let is_of = |limit: &QueueLimit, other: &QueueLimit| {
        limit.class == other.class && limit.pool == other.pool
    };
    let gone = || arguments.limit.iter().chain(&arguments.remove_limit);
    settings.limits.retain(|limit| !gone().any(|gone| is_of(limit, gone)));
    settings.limits.extend(arguments.limit.iter().cloned());
    settings.weight = arguments.weight.unwrap_or(settings.weight);
    settings.cordoned = arguments.cordoned.unwrap_or(settings.cordoned);
    if let Some(OrNone(parent)) = arguments.parent {
        settings.parent = parent;
    }
    if let Some(OrNone(max)) = arguments.jobs_queued_max {
        settings.jobs_queued_max = max;
    }
    if let Some(OrNone(given)) = arguments.rate {
        settings.rate = given.map(|per_second| rate(per_second, arguments.burst));
    }
    if !arguments.retry.is_empty() {
        settings.retry = retry::rules(arguments.retry).map_err(Usage)?;
    }
    show_queues(context, vec![context.client.put_queue(&arguments.name, &settings).await?])
}

fn rate(per_second: f64, burst: Option<u32>) -> Rate {
    Rate { per_second, burst: limits::burst(burst, per_second) }
}

/// One queue is shown as itself, several as a list.
fn show_queues(context: &Context, mut queues: Vec<Queue>) -> anyhow::Result<()> {
    match queues.len() {
        1 => {
            let queue = queues.remove(0);
            context.show(&queue, |context, queue| table(context, std::slice::from_ref(queue)))
        }
        _ => context.show(&QueueList { queues }, |context, list| table(context, &list.queues)),
    }
}

/// Limits have a column where there are any.
fn table(context: &Context, queues: &[Queue]) -> String {
    let limits: Vec<String> = queues.iter().map(|queue| limits::text(&queue.settings)).collect();
    let mut header = vec!["QUEUE", "WEIGHT", "CORDONED", "LABELS"];
    let is_limited = limits.iter().any(|text| !text.is_empty());
    header.extend(is_limited.then_some("LIMITS"));
    let mut rows = Rows::new(context.colour, &header);
    for (queue, limits) in queues.iter().zip(limits) {
        let settings = &queue.settings;
        let labels: Vec<_> =
            settings.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let cells = [
            queue.name.clone(),
            settings.weight.to_string(),
            if settings.cordoned { "yes" } else { "no" }.to_owned(),
            show::or_dash(Some(&labels.join(","))),
        ];
        let limits = is_limited.then(|| show::or_dash(Some(&limits)));
        rows.add(cells.into_iter().chain(limits));
    }
    rows.text()
}
