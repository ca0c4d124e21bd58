//! `muster gateway`, `muster shard`, `muster executor`: each role as a process of its own.

use anyhow::Context as _;
use clap::Args as ClapArgs;
use muster_runtime::config::{self, Arguments, Flag, Problems};
use muster_runtime::telemetry::{self, Format};
use muster_runtime::{http, open_files, signal};
use tokio::net::TcpListener;

use crate::args::{NoClient, NoUrl};
use crate::process::{Base, Data, Parts, Role, run_until_stopped};
use crate::settings::Settings;

/// What every role's command takes.
#[derive(Debug, ClapArgs)]
pub(crate) struct Common {
    #[command(flatten)]
    arguments: Arguments,
    #[command(flatten)]
    _client: NoClient,
    /// The bus: `nats://host:port[,host:port…]`
    #[arg(long, value_name = "URL")]
    bus: Option<String>,
    /// Shards of the deployment, the same for every role
    #[arg(long)]
    shards: Option<u16>,
}

/// Run a gateway: the HTTP API
#[derive(Debug, ClapArgs)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    common: Common,
    /// The store: `s3://bucket/prefix`, `file:///dir`
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Listen on an address that others can reach, although nobody is asked who they are
    #[arg(long)]
    insecure: bool,
}

/// What the commands of roles without an API take.
#[derive(Debug, ClapArgs)]
struct Admin {
    /// Address for health and metrics; port 0 takes a free one, which the log names
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Serve health and metrics on an address that others can reach too
    #[arg(long)]
    insecure: bool,
}

/// Run a shard worker: owns shards, leads pools
#[derive(Debug, ClapArgs)]
pub(crate) struct ShardArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    admin: Admin,
    /// The store: `s3://bucket/prefix`, `file:///dir`
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

/// Run an executor: takes leases for one cluster and runs them
#[derive(Debug, ClapArgs)]
pub(crate) struct ExecutorArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    admin: Admin,
    /// Name of the cluster
    #[arg(long)]
    cluster: Option<String>,
    /// What runs the jobs: `local`, `simulated` or `kubernetes`
    #[arg(long)]
    backend: Option<String>,
    /// Directory for the executor's state
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
}

/// What commands take that work on the store alone.
#[derive(Debug, ClapArgs)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    arguments: Arguments,
    #[command(flatten)]
    _client: NoUrl,
    /// The store: `s3://bucket/prefix`, `file:///dir`
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

impl StoreArgs {
    /// The settings in effect; `None` when they were only to be printed or checked.
    pub(crate) fn load(&self) -> anyhow::Result<Option<Settings>> {
        let given = flags([("--store", "store.url", self.store.clone())]);
        load_from(&self.arguments, Keeps::Data, given)
    }
}

impl Admin {
    fn flags(self) -> Vec<Flag> {
        let insecure = self.insecure.then(|| "true".to_owned());
        flags([
            ("--admin-listen", "admin.listen", self.admin_listen),
            ("--insecure", "admin.insecure", insecure),
        ])
    }
}

/// Whether a role keeps data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Data,
    Nothing,
}

/// Flags that were given, as settings.
fn flags<const N: usize>(given: [(&'static str, &'static str, Option<String>); N]) -> Vec<Flag> {
    let given = given.into_iter();
    given.filter_map(|(name, key, value)| Some(Flag { name, key, value: value? })).collect()
}

/// The settings in effect; `None` when they were only to be printed or checked.
fn load(common: &Common, keeps: Keeps, mut more: Vec<Flag>) -> anyhow::Result<Option<Settings>> {
    let bus = common.bus.clone().map(|value| Flag { name: "--bus", key: "bus.url", value });
    let shards =
        common.shards.map(|n| Flag { name: "--shards", key: "shards", value: n.to_string() });
    more.extend(bus);
    more.extend(shards);
    load_from(&common.arguments, keeps, more)
}

/// The settings in effect for who only reads a store.
pub(crate) fn store_settings(store: Option<String>) -> anyhow::Result<Settings> {
    let given = flags([("--store", "store.url", store)]);
    let file = std::env::var_os("MUSTER_CONFIG").map(std::path::PathBuf::from);
    let sources = Arguments { config: file, ..Arguments::default() }.sources(given);
    let settings = config::load_for(&sources, has_store)?;
    Ok(settings.spread())
}

/// Whoever keeps data needs to know where.
fn has_store(settings: &Settings, problems: &mut Problems) {
    if settings.store.url.is_empty() {
        problems.add("store.url", "is missing: say `--store URL`");
    }
}

fn load_from(
    arguments: &Arguments,
    keeps: Keeps,
    flags: Vec<Flag>,
) -> anyhow::Result<Option<Settings>> {
    let settings = config::load_for(&arguments.sources(flags), |settings, problems| {
        // What can be printed without a store is: who prints looks for what to set.
        if keeps == Keeps::Data && !arguments.print_config {
            has_store(settings, problems);
        }
    })?;
    if arguments.print_config {
        print(&config::print(&settings));
        return Ok(None);
    }
    if arguments.check_config {
        crate::show::note("the settings are in order");
        return Ok(None);
    }
    Ok(Some(settings.spread()))
}

#[expect(clippy::print_stdout, reason = "it was asked for")]
fn print(text: &str) {
    print!("{text}");
}

/// Says what happens on standard error.
pub(crate) fn log(format: Format) -> anyhow::Result<()> {
    telemetry::init(format).context("logging cannot be set up")
}

/// Starts a gateway.
pub(crate) fn gateway(
    parts: &Parts,
    data: &Data,
    settings: &Settings,
    listener: TcpListener,
) -> Role {
    let mut config = settings.gateway.clone();
    config.connections_max = open_files::fitting(config.connections_max);
    let deps = muster_gateway::Deps {
        bus: parts.bus.clone(),
        control: data.control.clone(),
        clock: parts.clock.clone(),
        random: parts.random.clone(),
        tasks: parts.tasks.clone(),
        blocking: parts.blocking.clone(),
        metrics: parts.metrics.clone(),
        health: parts.health.clone(),
    };
    Role::start(&parts.tasks, "gateway", move |stop| {
        muster_gateway::run(config, deps, listener, stop)
    })
}

/// Starts a shard worker.
pub(crate) fn shard(parts: &Parts, data: &Data, settings: &Settings) -> Role {
    let deps = parts.metrics.register("shard", |registry| {
        muster_shard::Deps::new(
            settings.shard.clone(),
            parts.bus.clone(),
            data.store.clone(),
            data.view.clone(),
            parts.clock.clone(),
            parts.random.clone(),
            parts.tasks.clone(),
            parts.blocking.clone(),
            parts.health.clone(),
            registry,
        )
    });
    Role::start(&parts.tasks, "shard", move |stop| muster_shard::run(deps, stop))
}

/// The metrics of the executors of a process.
pub(crate) fn executor_metrics(parts: &Parts) -> muster_executor::Metrics {
    parts.metrics.register("executor", muster_executor::Metrics::register)
}

/// Starts an executor.
pub(crate) fn executor(
    parts: &Parts,
    config: muster_executor::Config,
    metrics: muster_executor::Metrics,
) -> Role {
    let deps = muster_executor::Deps {
        bus: parts.bus.clone(),
        clock: parts.clock.clone(),
        random: parts.random.clone(),
        tasks: parts.tasks.clone(),
        blocking: parts.blocking.clone(),
        metrics,
        health: parts.health.clone(),
    };
    let name = format!("executor.{}", config.cluster);
    Role::start(&parts.tasks, &name, move |stop| muster_executor::run(config, deps, stop))
}

/// Runs a gateway process.
pub(crate) async fn run_gateway(args: GatewayArgs) -> anyhow::Result<()> {
    let insecure = args.insecure.then(|| "true".to_owned());
    let flags = flags([
        ("--store", "store.url", args.store),
        ("--listen", "gateway.listen", args.listen),
        ("--insecure", "gateway.insecure", insecure),
    ]);
    let Some(settings) = load(&args.common, Keeps::Data, flags)? else { return Ok(()) };
    log(settings.log_format.into())?;
    let listener = http::bind(settings.gateway.listen, settings.gateway.insecure).await?;
    let parts = Parts::connect(Base::new(), &settings, "gateway").await?;
    let data = parts.data(&settings).await?;
    let stop = signal::stop_token(&parts.tasks)?;
    let role = gateway(&parts, &data, &settings, listener);
    run_until_stopped(&parts, vec![role], stop, settings.shutdown_timeout.0).await
}

/// Runs a shard worker process.
pub(crate) async fn run_shard(args: ShardArgs) -> anyhow::Result<()> {
    let mut given = flags([("--store", "store.url", args.store)]);
    given.extend(args.admin.flags());
    let Some(settings) = load(&args.common, Keeps::Data, given)? else { return Ok(()) };
    log(settings.log_format.into())?;
    let base = Base::new();
    let admin = base.serve_admin(&settings.admin).await?;
    let parts = Parts::connect(base, &settings, "shard").await?;
    let data = parts.data(&settings).await?;
    parts.follow_control(&data.control).await?;
    let stop = signal::stop_token(&parts.tasks)?;
    let role = shard(&parts, &data, &settings);
    run_until_stopped(&parts, vec![role, admin], stop, settings.shutdown_timeout.0).await
}

/// Runs an executor process.
pub(crate) async fn run_executor(args: ExecutorArgs) -> anyhow::Result<()> {
    let mut given = flags([
        ("--cluster", "executor.cluster", args.cluster),
        ("--backend", "executor.backend", args.backend),
        ("--state-dir", "executor.state_dir", args.state_dir),
    ]);
    given.extend(args.admin.flags());
    let Some(settings) = load(&args.common, Keeps::Nothing, given)? else { return Ok(()) };
    log(settings.log_format.into())?;
    let base = Base::new();
    let admin = base.serve_admin(&settings.admin).await?;
    let parts = Parts::connect(base, &settings, "executor").await?;
    std::fs::create_dir_all(&settings.executor.state_dir).with_context(|| {
        format!("state directory `{}` cannot be made", settings.executor.state_dir.display())
    })?;
    let stop = signal::stop_token(&parts.tasks)?;
    let role = executor(&parts, settings.executor.clone(), executor_metrics(&parts));
    run_until_stopped(&parts, vec![role, admin], stop, settings.shutdown_timeout.0).await
}
