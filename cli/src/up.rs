//! `muster up`: everything in one process, on a directory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use muster_executor::backend::simulated::SimulatedSpec;
use muster_executor::config::BackendKind;
use muster_runtime::config::HumanDuration;
use muster_runtime::{http, signal};
use nix::fcntl::{Flock, FlockArg};

use crate::args::NoClient;
use crate::exit::Usage;
use crate::process::{Base, Parts, Role, run_until_stopped};
use crate::roles;
use crate::settings::Settings;

/// Run everything in one process: gateway, shard worker and executors
///
/// Nothing else has to be installed: jobs are kept as Parquet in the data directory, messages stay
/// in the process. Started again on the same directory it goes on where it was.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    _client: NoClient,
    /// Directory for jobs, history and the state of executors
    #[arg(long, value_name = "DIR", default_value = "muster-data", env = "MUSTER_DATA")]
    data: PathBuf,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// `local` runs jobs as processes of this machine; `simulated:COUNTxNODESxCPUxMEMORY` pretends
    #[arg(long, value_name = "CLUSTER", default_value = "local")]
    cluster: String,
    /// Listen on an address that others can reach, although nobody is asked who they are
    #[arg(long)]
    insecure: bool,
    /// Shards; a directory keeps the number that it was first used with
    #[arg(long, default_value_t = 4)]
    shards: u16,
    /// Cpu that the local executor gives away (default: the machine's)
    #[arg(long, value_name = "QUANTITY")]
    cpu: Option<String>,
    /// Memory that the local executor gives away (default: the machine's)
    #[arg(long, value_name = "QUANTITY")]
    memory: Option<String>,
}

fn settings(args: &Args) -> anyhow::Result<Settings> {
    let data = std::path::absolute(&args.data)?;
    let mut settings = Settings { shards: args.shards, ..Settings::default() };
    settings.bus.url = "memory://".to_owned();
    settings.store.url = format!("file://{}", data.join("store").display());
    settings.shard.exclusive = true;
    settings.shard.commit_interval = HumanDuration::millis(20);
    settings.shard.lease_ttl = HumanDuration::secs(5);
    settings.shard.rounds_interval = HumanDuration::secs(10);
    settings.gateway.insecure = args.insecure;
    settings.executor.state_dir = data.join("executor");
    settings.executor.local.cpu = args.cpu.clone().unwrap_or_default();
    settings.executor.local.memory = args.memory.clone().unwrap_or_default();
    Ok(settings.spread())
}

/// The executors that `--cluster` asks for.
fn executors(args: &Args, settings: &Settings) -> anyhow::Result<Vec<muster_executor::Config>> {
    let base = settings.executor.clone();
    if args.cluster == "local" {
        return Ok(vec![base]);
    }
    let usage = |reason: String| Usage(format!("--cluster: {reason}"));
    let spec = args
        .cluster
        .strip_prefix("simulated:")
        .ok_or_else(|| usage(format!("`{}` is neither `local` nor `simulated:…`", args.cluster)))?;
    let spec = SimulatedSpec::parse(spec).map_err(|error| usage(error.to_string()))?;
    let configs = spec.names().map(|cluster| muster_executor::Config {
        state_dir: base.state_dir.join(&cluster),
        cluster,
        backend: BackendKind::Simulated,
        simulated: spec.config(&base.simulated),
        ..base.clone()
    });
    Ok(configs.collect())
}

/// Keeps a second process from the same directory.
fn lock(data: &std::path::Path) -> anyhow::Result<Flock<std::fs::File>> {
    std::fs::create_dir_all(data)
        .with_context(|| format!("data directory `{}` cannot be made", data.display()))?;
    let path = data.join("lock");
    let file = std::fs::File::create(&path)
        .with_context(|| format!("`{}` cannot be written", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| anyhow::anyhow!("another muster runs on `{}`", data.display()))
}

/// Runs it until the process is asked to stop.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let settings = settings(&args)?;
    let executors = executors(&args, &settings)?;
    roles::log(muster_runtime::telemetry::Format::Text)?;
    let lock = lock(&args.data)?;
    let listener = http::bind(args.listen, args.insecure).await?;
    let address = listener.local_addr()?;
    let parts = Parts::connect(Base::new(), &settings, "up").await?;
    let data = parts.data(&settings).await?;
    let stop = signal::stop_token(&parts.tasks)?;
    let deadline = settings.shutdown_timeout.0;
    let shard = roles::shard(&parts, &data, &settings);
    let gateway = roles::gateway(&parts, &data, &settings, listener);
    let mut executors_started = Vec::new();
    let metrics = roles::executor_metrics(&parts);
    for config in executors {
        std::fs::create_dir_all(&config.state_dir)?;
        executors_started.push(roles::executor(&parts, config, metrics.clone()));
    }
    wait_until_ready(&parts, &settings).await?;
    announce(address)?;
    // The gateway first, so that nothing new comes; the shards last, so that all is kept.
    let mut roles: Vec<Role> = vec![gateway];
    roles.extend(executors_started);
    roles.push(shard);
    let ended = run_until_stopped(&parts, roles, stop, deadline).await;
    drop(lock);
    ended
}

/// Waits until every shard answers.
async fn wait_until_ready(parts: &Parts, settings: &Settings) -> anyhow::Result<()> {
    use muster_api::bus::{self, ListJobSets, ShardRequest, subject};
    for shard in 0..settings.shards {
        let subject = subject::shard(muster_core::id::ShardId(shard));
        let request = ShardRequest::JobSets(ListJobSets {
            queue: String::new(),
            only: None,
            after: None,
            limit: 1,
        });
        let request = bus::encode(&request);
        loop {
            let asked = parts.bus.request(&subject, request.clone(), Duration::from_secs(5)).await;
            if asked.is_ok() {
                break;
            }
            tokio::select! {
                () = parts.tasks.cancelled() => bail!("a part failed while starting"),
                () = parts.clock.sleep(Duration::from_millis(5)) => {}
            }
        }
    }
    Ok(())
}

/// Says on standard output where the API is.
#[expect(clippy::print_stdout, reason = "the address is what this command answers")]
fn announce(address: SocketAddr) -> anyhow::Result<()> {
    use std::io::Write as _;
    println!("ready http://{address}");
    std::io::stdout().flush()?;
    Ok(())
}
