//! As many pods as one executor is to bear, through a real leader and real shards, in one process
//! and in time that passes only while everybody waits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use muster_api::bus::{self, GetJob, ListJobSets, ShardReply, ShardRequest, Submit, subject};
use muster_core::command::NewJob;
use muster_core::control::{Control, Queue};
use muster_core::id::{CommandId, JobId, JobRef, ShardId};
use muster_core::record::Payload;
use muster_core::resources::Resources;
use muster_core::route::shard_of_queue;
use muster_core::shape::Shape;
use muster_executor::config::{BackendKind, SimulatedConfig};
use muster_runtime::bus::memory::Memory;
use muster_runtime::config::HumanDuration;
use muster_runtime::http::Health;
use muster_runtime::store::{self, control::ControlView};
use muster_runtime::tasks::{Policy, Supervisor, Task};
use muster_runtime::{Blocking, Bus, Clock, Random};
use muster_tests::wait::eventually;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

const SHARDS: u16 = 4;
const PODS: u32 = 100_000;
const NODES: u32 = 1_000;
/// What waiting is bearable, in time that passes only while nobody works.
const PATIENCE: Duration = Duration::from_secs(300);

/// Bus, shards, and the queues: one a shard.
struct Site {
    bus: Arc<dyn Bus>,
    clock: Clock,
    random: Random,
    tasks: Supervisor,
    queues: Vec<String>,
    metrics: Registry,
}

impl Site {
    fn start() -> Self {
        let of_shard = |shard| move |name: &String| shard_of_queue(name, SHARDS) == ShardId(shard);
        let names = || (0..).map(|n| format!("queue-{n}"));
        let queues = (0..SHARDS).map(|shard| names().find(of_shard(shard)).unwrap()).collect();
        let random = Random::seeded(1);
        let mut site = Self {
            bus: Arc::new(Memory::default()),
            clock: Clock::system(),
            tasks: Supervisor::new(random.fork()),
            random,
            queues,
            metrics: Registry::default(),
        };
        let queue = Queue { incarnation: 1, ..Queue::default() };
        let queues = site.queues.iter().map(|name| (name.clone(), queue.clone())).collect();
        let deps = muster_shard::Deps::new(
            muster_shard::Config { shards: SHARDS, exclusive: true, ..Default::default() },
            Arc::clone(&site.bus),
            store::open(&store::Config::at("memory:///")).unwrap(),
            ControlView::fixed(Control { version: 1, queues, ..Control::default() }),
            site.clock.clone(),
            site.random.fork(),
            site.tasks.clone(),
            Blocking::new(2),
            Health::new(),
            &mut site.metrics,
        );
        site.tasks.spawn_once("worker", Policy::VITAL, |cancel| muster_shard::run(deps, cancel));
        site
    }

    fn start_executor(&self, state_dir: &Path) -> (Task, CancellationToken) {
        let config = muster_executor::Config {
            cluster: "sim".into(),
            shards: SHARDS,
            state_dir: state_dir.to_owned(),
            backend: BackendKind::Simulated,
            leases_max: 20_000,
            simulated: SimulatedConfig {
                nodes: NODES,
                pods: PODS / NODES,
                runtime: "1000h".parse().unwrap(),
                ..SimulatedConfig::default()
            },
            shutdown_timeout: HumanDuration::secs(60),
            ..muster_executor::Config::default()
        };
        let deps = muster_executor::Deps {
            bus: Arc::clone(&self.bus),
            clock: self.clock.clone(),
            random: self.random.fork(),
            tasks: self.tasks.clone(),
            blocking: Blocking::new(1),
            health: Health::new(),
            metrics: muster_executor::Metrics::default(),
        };
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let run = move |_| muster_executor::run(config, deps, token);
        (self.tasks.spawn_once("executor", Policy::VITAL, run), cancel)
    }

    /// Asks until there is an answer.
    async fn ask(&self, shard: ShardId, request: &ShardRequest) -> ShardReply {
        let asked = bus::encode(request);
        let ask = async || {
            let (to, timeout) = (subject::shard(shard), Duration::from_secs(30));
            Ok(bus::decode(&self.bus.request(&to, asked.clone(), timeout).await?)?)
        };
        eventually(PATIENCE, "the shard answers", ask).await.unwrap()
    }

    /// Submits an array; gives its id.
    async fn submit(&self, queue: &str, count: u32) -> JobId {
        let request: Resources =
            [("cpu".into(), "10m".parse().unwrap()), ("pods".into(), "1".parse().unwrap())]
                .into_iter()
                .collect();
        let mut builder = muster_api::batch::Builder::new();
        builder.push_new(&NewJob {
            line: 0,
            client_id: None,
            priority: 0,
            count: Some(count),
            at_most_once: false,
            terms: None,
            shape: Arc::new(Shape::of_request(request)),
            payload: Payload {
                namespace: "default".into(),
                pod_spec: r#"{"containers":[]}"#.into(),
                ..Payload::default()
            },
        });
        let submit = ShardRequest::Submit(Submit {
            command: CommandId(self.random.u128()),
            queue: queue.into(),
            incarnation: 1,
            job_set: "set".into(),
            key: None,
            batch: builder.finish(),
        });
        match self.ask(shard_of_queue(queue, SHARDS), &submit).await {
            ShardReply::Submitted(runs) => runs[0].first,
            other => panic!("{other:?}"),
        }
    }

    /// Jobs of all queues by state.
    async fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for queue in &self.queues {
            let list = ListJobSets { queue: queue.clone(), only: None, after: None, limit: 1 };
            let shard = shard_of_queue(queue, SHARDS);
            let reply = self.ask(shard, &ShardRequest::JobSets(list)).await;
            let ShardReply::JobSets(page) = reply else { panic!("{reply:?}") };
            for (state, count) in &page.job_sets[0].counts {
                *counts.entry(state.clone()).or_default() += count;
            }
        }
        counts
    }

    async fn all_run(&self) {
        let look = async || {
            let counts = self.counts().await;
            ensure!(counts["running"] == u64::from(PODS), "{counts:?}");
            Ok(())
        };
        eventually(PATIENCE, "all run", look).await.unwrap();
    }

    async fn attempts(&self, job: JobRef) -> usize {
        let get = ShardRequest::Job(GetJob { job, spec: false });
        match self.ask(job.job.shard(), &get).await {
            ShardReply::Job(Some(job)) => job.runs.len(),
            other => panic!("{other:?}"),
        }
    }

    /// How many messages the shards and the leader could not send.
    fn unsent(&self) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("messages_unsent_total"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_pods_run_in_one_executor_and_again_after_it_lost_its_memory() {
    let site = Site::start();
    let folder = tempfile::tempdir().unwrap();
    let each = PODS / u32::from(SHARDS);
    let mut arrays = Vec::new();
    for queue in &site.queues {
        arrays.push(site.submit(queue, each).await);
    }
    let (mut executor, cancel) = site.start_executor(&folder.path().join("first"));
    site.all_run().await;
    cancel.cancel();
    executor.finished().await.unwrap();

    // It knows of nothing now, so each shard tells it all that it believes, page by page; each run
    // is reported lost and starts again.
    let (mut executor, cancel) = site.start_executor(&folder.path().join("second"));
    for array in arrays {
        for task in [0, each - 1].map(|index| JobRef::task(array, index)) {
            let look = async || {
                let attempts = site.attempts(task).await;
                ensure!(attempts > 1, "`{task}` has {attempts} attempts");
                Ok(())
            };
            eventually(PATIENCE, "the run is repaired", look).await.unwrap();
        }
    }
    site.all_run().await;
    cancel.cancel();
    executor.finished().await.unwrap();
    assert_eq!(site.unsent(), 0);
}
