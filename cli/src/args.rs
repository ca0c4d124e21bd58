//! What can be typed.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;

/// Batch jobs over many Kubernetes clusters.
#[derive(Debug, Parser)]
#[command(name = "muster", version, after_help = crate::exit::HELP, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The deployment: a gateway, or several with commas between them, of which the next is asked
    /// when one fails
    #[arg(
        long,
        global = true,
        env = "MUSTER_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    pub(crate) url: String,
    /// How data is printed
    #[arg(long, short, global = true, value_enum, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// Stands in the place of the flags of every command where these mean nothing: commands that run a
/// deployment talk to none. They are taken and not shown.
#[derive(Debug, Clone, Args)]
pub(crate) struct NoClient {
    #[arg(long, hide = true)]
    url: Option<String>,
    #[arg(long, short, value_enum, hide = true)]
    output: Option<Output>,
}

/// The same for commands that print data and talk to no deployment.
#[derive(Debug, Clone, Args)]
pub(crate) struct NoUrl {
    #[arg(long, hide = true)]
    url: Option<String>,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// JSON; streams are one object a line
    Json,
    /// YAML
    Yaml,
    /// A page, where a command says that it has one
    #[value(skip)]
    Page,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create, show, change and delete queues
    #[command(subcommand)]
    Queue(commands::queue::Command),
    /// Show, set and delete priority classes
    #[command(subcommand, visible_alias = "pc")]
    PriorityClass(commands::priority_class::Command),
    /// Show and set what is special about a pool
    #[command(subcommand)]
    Pool(commands::pool::Command),
    /// Submit jobs from files or stdin
    Submit(commands::submit::Arguments),
    /// Show one job or job set
    #[command(subcommand)]
    Get(commands::get::Command),
    /// List jobs or job sets
    #[command(subcommand)]
    List(commands::list::Command),
    /// Follow what happens in a job set
    Watch(commands::watch::Arguments),
    /// Cancel jobs
    Cancel(commands::cancel::Arguments),
    /// Give jobs another priority
    #[command(alias = "reprioritise")]
    Reprioritize(commands::reprioritize::Arguments),
    /// Print what a job printed
    Logs(commands::logs::Arguments),
    /// Say why a job does not run
    Why(commands::why::Arguments),
    /// Show how a pool is shared between queues
    Shares(commands::shares::Arguments),
    /// Show the clusters
    Clusters,
    /// Keep new jobs from a cluster
    #[command(subcommand)]
    Cluster(commands::cordon::Cluster),
    /// Keep new jobs from a node
    #[command(subcommand)]
    Node(commands::cordon::Node),
    /// Look after what a deployment has in its store
    #[command(subcommand)]
    Admin(commands::admin::Command),
    /// Run everything in one process: gateway, shard worker and executors
    Up(crate::up::Args),
    /// Run a gateway: the HTTP API
    Gateway(crate::roles::GatewayArgs),
    /// Run a shard worker: owns shards, leads pools
    Shard(crate::roles::ShardArgs),
    /// Run an executor: takes leases for one cluster and runs them
    Executor(crate::roles::ExecutorArgs),
    /// Show the whole system at work, on this machine, in two minutes
    Demo(crate::demo::Arguments),
    /// Try a workload out on clusters in memory, under simulated time
    Simulate(commands::simulate::Arguments),
    /// Print completions for a shell
    Completions(commands::completions::Arguments),
    /// What the exit codes mean
    #[command(long_about = crate::exit::HELP)]
    ExitCodes,
}

/// A job set, or jobs by id.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Jobs, tasks (`A-7`) or whole arrays; `-` reads ids from stdin
    #[arg(value_name = "ID", required_unless_present = "job_set", conflicts_with = "job_set")]
    pub(crate) ids: Vec<String>,
    /// The queue of the job set
    #[arg(long, short, requires = "job_set")]
    pub(crate) queue: Option<String>,
    /// All jobs of this job set
    #[arg(long, short = 's', requires = "queue", value_name = "JOB_SET")]
    pub(crate) job_set: Option<String>,
    /// Only those in one of these states
    #[arg(long, requires = "job_set", value_delimiter = ',', value_parser = state)]
    pub(crate) state: Vec<String>,
}

/// Takes the name of a state.
pub(crate) fn state(text: &str) -> Result<String, String> {
    let names: Vec<_> = muster_core::job::JobState::ALL.iter().map(|state| state.name()).collect();
    if names.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("states are {}", names.join(", ")))
}
