//! A small deployment: store, bus, workers, and a cluster named `c` that the tests play.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use muster_api::bus::{
    self, GetJob, Heartbeat, LeaseAnswer, LeaseReply, LeaseRequest, LeasedRun, ListEvents,
    ListJobSets, Node, NodeUpdate, Report, ReportRuns, RunStatus, ShardReply, ShardRequest, Submit,
    subject,
};
use muster_api::http::{Event, Job};
use muster_core::command::NewJob;
use muster_core::control::{Control, PoolSettings, PriorityClass, Queue};
use muster_core::id::{CommandId, JobRef, ShardId};
use muster_core::quantity::Quantity;
use muster_core::record::Payload;
use muster_core::resources::Resources;
use muster_core::route::shard_of_queue;
use muster_core::shape::Shape;
use muster_runtime::bus::memory::Memory;
use muster_runtime::http::Health;
use muster_runtime::store::control::ControlView;
use muster_runtime::store::{self, Store};
use muster_runtime::tasks::{OnCancel, OnError, Policy, Supervisor};
use muster_runtime::{Blocking, Bus, Clock, Random};
use muster_shard::{Config, Deps};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

pub(crate) struct Site {
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) random: Random,
    shards: u16,
    workers: Vec<(Supervisor, CancellationToken)>,
    /// The metrics of the worker that was started last.
    metrics: Registry,
    /// Its health.
    pub(crate) health: Health,
}

/// A job that asks for one cpu.
pub(crate) fn job(line: u64) -> NewJob {
    let mut request = Resources::new();
    request.set("cpu".into(), Quantity::from_units(1));
    request.set("pods".into(), Quantity::from_units(1));
    NewJob {
        line,
        client_id: None,
        priority: 0,
        count: None,
        at_most_once: false,
        terms: None,
        shape: Arc::new(Shape::of_request(request)),
        payload: Payload {
            namespace: "default".into(),
            pod_spec: Bytes::from_static(br#"{"containers":[]}"#),
            ..Payload::default()
        },
    }
}

impl Site {
    pub(crate) async fn start(shards: u16) -> Self {
        Self::start_with(shards, |_| {}).await
    }

    pub(crate) async fn start_with(shards: u16, change: impl Fn(&mut Config)) -> Self {
        let mut site = Self::new(Arc::new(Memory::default()), shards);
        site.start_worker(change).await;
        site
    }

    /// On a bus of the test's own.
    pub(crate) async fn start_on(bus: Arc<dyn Bus>, shards: u16) -> Self {
        let mut site = Self::new(bus, shards);
        site.start_worker(|_| {}).await;
        site
    }

    /// On a store that takes so long for each object that is read.
    pub(crate) async fn start_on_slow_store(read: Duration, shards: u16) -> Self {
        let mut site = Self::new(Arc::new(Memory::default()), shards);
        let slow = ThrottleConfig { wait_get_per_call: read, ..ThrottleConfig::default() };
        let objects = ThrottledStore::new(InMemory::new(), slow);
        site.store = Store::over(Arc::new(objects), store::Kind::Memory, "memory:///");
        // So that the next owner need not read the whole log.
        site.start_worker(|config| config.checkpoint_objects = 20).await;
        site
    }

    /// On a store of the test's own.
    pub(crate) async fn start_over(
        store: Store,
        shards: u16,
        change: impl Fn(&mut Config),
    ) -> Self {
        let mut site = Self::new(Arc::new(Memory::default()), shards);
        site.store = store;
        site.start_worker(change).await;
        site
    }

    /// Without a worker.
    pub(crate) fn new(bus: Arc<dyn Bus>, shards: u16) -> Self {
        Self {
            clock: Clock::system(),
            store: store::open(&store::Config::at("memory:///")).unwrap(),
            bus,
            random: Random::seeded(1),
            shards,
            workers: Vec::new(),
            metrics: Registry::default(),
            health: Health::new(),
        }
    }

    pub(crate) async fn start_worker(&mut self, change: impl Fn(&mut Config)) {
        let mut config = Config { shards: self.shards, ..Config::default() };
        change(&mut config);
        let names = (0..12).map(|n| format!("q{n}")).chain(["q".to_owned()]);
        let queue = Queue { incarnation: 1, ..Queue::default() };
        let queues = names.map(|name| (name, queue.clone())).collect();
        let class = |name: &str, priority, preemptible| {
            (name.to_owned(), PriorityClass { priority, preemptible })
        };
        let classes =
            [class("urgent", 2000, false), class("spare", 10, false), class("filler", 5, true)];
        let classes = classes.into();
        let lends_to = ["borrower".to_owned()].into();
        let lends = PoolSettings { lends_to, ..PoolSettings::default() };
        let pools = [("default".to_owned(), lends)].into();
        let tasks = Supervisor::new(self.random.fork());
        self.metrics = Registry::default();
        self.health = Health::new();
        let deps = Deps::new(
            config,
            Arc::clone(&self.bus),
            self.store.clone(),
            ControlView::fixed(Control {
                version: 1,
                queues,
                classes,
                pools,
                ..Control::default()
            }),
            self.clock.clone(),
            self.random.fork(),
            tasks.clone(),
            Blocking::new(2),
            self.health.clone(),
            &mut self.metrics,
        );
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let policy = Policy { on_error: OnError::Shutdown, on_cancel: OnCancel::Abort };
        tasks.spawn_once("worker", policy, move |_| muster_shard::run(deps, token));
        self.workers.push((tasks, cancel));
    }

    pub(crate) async fn start_second(&mut self) {
        self.start_worker(|_| {}).await;
    }

    /// Stops the first worker dead: nothing is handed over.
    pub(crate) async fn kill(&mut self) {
        let (tasks, _) = self.workers.remove(0);
        // Late tasks are dropped where they are.
        drop(tasks.shutdown(Duration::ZERO).await);
    }

    /// The bus forgets all leases.
    pub(crate) async fn wipe_leases(&self) {
        let bucket = self.bus.key_value(subject::LEASES_BUCKET, None).await.unwrap();
        for entry in bucket.entries().await.unwrap() {
            bucket.delete(&entry.key, None).await.unwrap();
        }
    }

    /// Stops the first worker tidily, and starts another.
    pub(crate) async fn restart(&mut self) {
        self.restart_with(|_| {}).await;
    }

    pub(crate) async fn restart_with(&mut self, change: impl Fn(&mut Config)) {
        let (tasks, cancel) = self.workers.remove(0);
        cancel.cancel();
        while !tasks.running().is_empty() {
            self.clock.sleep(Duration::from_millis(10)).await;
        }
        self.start_worker(change).await;
    }

    /// Asks the shard of a request, again and again as a gateway does.
    async fn ask_shard(&self, shard: ShardId, request: Bytes) -> ShardReply {
        let until = self.clock.monotonic() + Duration::from_secs(60);
        loop {
            let timeout = Duration::from_secs(6);
            match self.bus.request(&subject::shard(shard), request.clone(), timeout).await {
                Ok(reply) => return bus::decode(&reply).unwrap(),
                Err(error) => assert!(self.clock.monotonic() < until, "{error}"),
            }
            self.clock.sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn ask(&self, request: ShardRequest) -> ShardReply {
        self.ask_shard(ShardId(0), bus::encode(&request)).await
    }

    /// Asks the shard of a queue.
    pub(crate) async fn ask_about(&self, queue: &str, request: ShardRequest) -> ShardReply {
        self.ask_shard(shard_of_queue(queue, self.shards), bus::encode(&request)).await
    }

    pub(crate) async fn ask_bytes(&self, request: &'static [u8]) -> ShardReply {
        self.ask_shard(ShardId(0), Bytes::from_static(request)).await
    }

    pub(crate) fn submission(
        queue: &str,
        job_set: &str,
        command: u128,
        jobs: &[NewJob],
    ) -> ShardRequest {
        let mut builder = muster_api::batch::Builder::new();
        jobs.iter().for_each(|job| builder.push_new(job));
        ShardRequest::Submit(Submit {
            command: CommandId(command),
            queue: queue.into(),
            incarnation: 1,
            job_set: job_set.into(),
            key: None,
            batch: builder.finish(),
        })
    }

    pub(crate) async fn try_submit(
        &self,
        queue: &str,
        job_set: &str,
        command: u128,
        jobs: Vec<NewJob>,
    ) -> ShardReply {
        let request = Self::submission(queue, job_set, command, &jobs);
        self.ask_shard(shard_of_queue(queue, self.shards), bus::encode(&request)).await
    }

    pub(crate) async fn submit(
        &self,
        queue: &str,
        job_set: &str,
        command: u128,
        jobs: Vec<NewJob>,
    ) -> Vec<JobRef> {
        match self.try_submit(queue, job_set, command, jobs).await {
            ShardReply::Submitted(runs) => runs
                .iter()
                .flat_map(|run| (0..run.count).map(|n| JobRef::whole(run.first.plus(n.into()))))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Asks the pool's leader for leases as the cluster's executor, until there are some.
    pub(crate) async fn lease(&self, max: u32) -> Vec<LeasedRun> {
        let amounts = |cpu: &str| {
            BTreeMap::from([
                ("cpu".to_owned(), cpu.to_owned()),
                ("pods".to_owned(), "100".to_owned()),
            ])
        };
        let node = Node {
            name: "n0".into(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            allocatable: amounts("64"),
            free: amounts("64"),
            freeing: BTreeMap::new(),
            runs: 0,
            schedulable: true,
            failing: Vec::new(),
        };
        let request = LeaseRequest {
            cluster: "c".into(),
            instance: format!("{}", self.random.u64()),
            seen: None,
            nodes: NodeUpdate { base: None, version: 1, nodes: vec![node], removed: Vec::new() },
            leases_max: max,
            wait_ms: 2_000,
        };
        let heartbeat = Heartbeat {
            cluster: "c".into(),
            instance: request.instance.clone(),
            pools: vec!["default".into()],
        };
        for _ in 0..30 {
            self.bus.publish(subject::HEARTBEATS, bus::encode(&heartbeat)).await.unwrap();
            let subject = subject::pool("default");
            let asked = bus::encode(&request);
            if let Ok(reply) = self.bus.request(&subject, asked, Duration::from_secs(5)).await
                && let LeaseReply::Answer(answer) = bus::decode(&reply).unwrap()
                && !answer.leases.is_empty()
            {
                return answer.leases;
            }
            self.clock.sleep(Duration::from_secs(1)).await;
        }
        panic!("no leases")
    }

    pub(crate) async fn report(&self, runs: &[LeasedRun], status: RunStatus) -> Vec<bool> {
        let reports = runs.iter().map(|run| Report {
            job: run.job,
            attempt: run.attempt,
            status,
            at_ms: self.clock.now().0,
            exit: bus::Exit::default(),
            addresses: Vec::new(),
        });
        let request = ShardRequest::Report(ReportRuns {
            command: CommandId(self.random.u128()),
            cluster: "c".into(),
            reports: reports.collect(),
        });
        let shard = runs.first().map_or(ShardId(0), |run| run.job.job.shard());
        match self.ask_shard(shard, bus::encode(&request)).await {
            ShardReply::Reported(verdicts) => verdicts,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn counts(&self, queue: &str, job_set: &str) -> BTreeMap<String, u64> {
        let request = ShardRequest::JobSets(ListJobSets {
            queue: queue.into(),
            only: Some(job_set.into()),
            after: None,
            limit: 1,
        });
        let shard = shard_of_queue(queue, self.shards);
        match self.ask_shard(shard, bus::encode(&request)).await {
            ShardReply::JobSets(page) => page.job_sets[0].counts.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn job(&self, job: JobRef, spec: bool) -> Option<Job> {
        let request = bus::encode(&ShardRequest::Job(GetJob { job, spec }));
        match self.ask_shard(job.job.shard(), request).await {
            ShardReply::Job(found) => found.map(|job| *job),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn events(
        &self,
        queue: &str,
        job_set: &str,
        after: Option<&str>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        let mut after = after.map(|cursor| cursor.parse().unwrap());
        loop {
            let request = ShardRequest::Events(ListEvents {
                queue: queue.into(),
                job_set: job_set.into(),
                after,
                limit: 4,
                wait_ms: 0,
            });
            let ShardReply::Events(page) = self.ask(request).await else { panic!("no events") };
            events.extend(page.events);
            after = page.cursor.map(|cursor| cursor.parse().unwrap());
            if !page.more {
                return events;
            }
        }
    }

    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        let prefix = object_store::path::Path::from(prefix);
        let objects = self.store.objects();
        let listed = objects.list(Some(&prefix)).map_ok(|meta| meta.location.to_string());
        listed.try_collect().await.unwrap()
    }

    /// Waits until so many history objects are there.
    pub(crate) async fn history_written(&self, objects: usize) {
        for _ in 0..200 {
            if self.keys("history").await.len() >= objects {
                return;
            }
            self.clock.sleep(Duration::from_millis(500)).await;
        }
        panic!("no history after 100 s")
    }

    /// How many messages the worker could not send.
    pub(crate) fn unsent(&self) -> u64 {
        self.metric("messages_unsent_total")
    }

    /// What the worker that was started last has counted under that name, with any labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        let is_it =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let lines = text.lines().filter(is_it);
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// The bytes of an object.
    pub(crate) async fn object(&self, key: &str) -> Bytes {
        let objects = self.store.objects();
        objects.get(&key.into()).await.unwrap().bytes().await.unwrap()
    }

    /// Puts an object over one that is there, as no part of the system does.
    pub(crate) async fn overwrite(&self, key: &str, bytes: impl Into<Bytes>) {
        let objects = self.store.objects();
        objects.put(&key.into(), bytes.into().into()).await.unwrap();
    }
}

/// The executor of cluster `c`, with one node on which everything fits, played by a test.
pub(crate) struct Player<'a> {
    site: &'a Site,
    request: LeaseRequest,
    before: Option<(String, u64)>,
}

impl<'a> Player<'a> {
    pub(crate) fn new(site: &'a Site, cpus: u32) -> Self {
        let amounts = BTreeMap::from([
            ("cpu".to_owned(), cpus.to_string()),
            ("pods".to_owned(), "100000".to_owned()),
        ]);
        let node = Node {
            name: "n0".into(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            allocatable: amounts.clone(),
            free: amounts,
            freeing: BTreeMap::new(),
            runs: 0,
            schedulable: true,
            failing: Vec::new(),
        };
        let request = LeaseRequest {
            cluster: "c".into(),
            instance: "player".into(),
            seen: None,
            nodes: NodeUpdate { base: None, version: 1, nodes: vec![node], removed: Vec::new() },
            leases_max: 0,
            wait_ms: 0,
        };
        Self { site, request, before: None }
    }

    pub(crate) fn rename_node(&mut self, name: &str) {
        name.clone_into(&mut self.request.nodes.nodes[0].name);
    }

    /// So many cpus of its node are free, and so many will be.
    pub(crate) fn has(&mut self, free: u32, freeing: u32) {
        let node = &mut self.request.nodes.nodes[0];
        let cpus = |count: u32| ("cpu".to_owned(), count.to_string());
        node.free.extend([cpus(free)]);
        node.freeing = [cpus(freeing), ("pods".to_owned(), freeing.to_string())].into();
    }

    /// Asks once.
    pub(crate) async fn ask(&mut self, max: u32, wait: Duration) -> Option<LeaseAnswer> {
        let (cluster, instance) = (self.request.cluster.clone(), self.request.instance.clone());
        let heartbeat = Heartbeat { cluster, instance, pools: vec!["default".into()] };
        self.site.bus.publish(subject::HEARTBEATS, bus::encode(&heartbeat)).await.unwrap();
        self.request.leases_max = max;
        self.request.wait_ms = u64::try_from(wait.as_millis()).unwrap();
        let (subject, asked) = (subject::pool("default"), bus::encode(&self.request));
        let reply = self.site.bus.request(&subject, asked, wait + Duration::from_secs(10)).await;
        match bus::decode(&reply.ok()?).unwrap() {
            LeaseReply::Answer(answer) => {
                self.before = self.request.seen.take();
                self.request.seen = Some((answer.session.clone(), answer.answer));
                Some(answer)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The last answer did not arrive.
    pub(crate) fn lose_last(&mut self) {
        self.request.seen = self.before.clone();
    }

    /// Asks until there are leases, at most a minute.
    pub(crate) async fn leases(&mut self, max: u32) -> LeaseAnswer {
        let until = self.site.clock.monotonic() + Duration::from_secs(60);
        while self.site.clock.monotonic() < until {
            match self.ask(max, Duration::from_secs(5)).await {
                Some(answer) if !answer.leases.is_empty() => return answer,
                Some(_) => {}
                None => self.site.clock.sleep(Duration::from_millis(100)).await,
            }
        }
        panic!("no leases")
    }
}
