//! Asking the shards: to commit what a round picked, and for what waits behind the heads of queues.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use muster_api::bus::{self, GetWindows, ShardReply, ShardRequest, subject};
use muster_api::convert;
use muster_api::http::ErrorCode;
use muster_core::Name;
use muster_core::id::{CommandId, ShardId};
use muster_core::quantity::Quantity;
use muster_core::shape::{Shape, ShapeKey};
use muster_runtime::Bus;

use super::round::Picks;
use super::{Leader, away};

/// How long a shard may take to commit leases.
const LEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to tell what waits behind its offers.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a lease command beside what it leases, generously.
const ENVELOPE_BYTES: usize = 1024;
/// Least time between two searches.
const SEARCH_INTERVAL: Duration = Duration::from_millis(50);

impl Leader<'_> {
    /// Has the shards commit what was picked, and takes in what they leased of it.
    pub(super) async fn commit(&mut self, picks: Picks) {
        let bytes_max = self.deps.bus.payload_bytes_max();
        let mut requests = Vec::new();
        let home = self.table.pool.clone();
        let by_pool = picks.into_iter().flat_map(|(key, picks)| {
            let by_pool = away::by_pool(&home, picks, away::of_picks);
            by_pool.into_iter().map(move |(pool, picks)| (key.clone(), pool, picks))
        });
        for ((shard, cluster), pool, picks) in by_pool {
            for picks in bus::chunks(picks, bytes_max) {
                if let [gang] = &picks[..]
                    && gang.len() > 1
                    && bus::encode(gang).len() + ENVELOPE_BYTES > bytes_max
                {
                    let queue = gang.first().map(|pick| &*pick.queue).unwrap_or_default();
                    tracing::error!(queue, nodes = gang.len(), "a gang does not fit a message");
                    continue;
                }
                let picks = picks.concat();
                let request = ShardRequest::Lease(bus::Lease {
                    command: CommandId(self.deps.random.u128()),
                    is_away: pool != home,
                    pool: pool.clone(),
                    cluster: cluster.to_string(),
                    picks,
                });
                requests.push((shard, cluster.clone(), pool.clone(), request));
            }
        }
        let deps = self.deps;
        let asked = requests.into_iter().map(|(shard, cluster, pool, request)| async move {
            let reply = ask(&*deps.bus, shard, request, LEASE_TIMEOUT).await;
            (shard, cluster, pool, reply)
        });
        for (shard, cluster, pool, reply) in join_all(asked).await {
            match reply {
                Ok(ShardReply::Leased(leased)) => self.leased(&cluster, &pool, leased),
                Ok(ShardReply::Error(problem)) if problem.code == ErrorCode::Overloaded => {
                    self.dirty = true;
                }
                // What it may have leased all the same, the executor finds when it compares notes.
                other => self.no_answer(shard, "lease", other),
            }
        }
    }

    fn leased(&mut self, cluster: &Name, pool: &str, mut leased: bus::Leased) {
        self.without_floating(&mut leased.runs);
        self.deps.metrics.leases.inc_by(leased.runs.len() as u64);
        self.table.offers_of_reply(pool, leased.offers);
        if let Some(known) = self.table.clusters.get_mut(cluster) {
            known.pending.lease(leased.runs);
        }
    }

    /// Takes off what runs ask for of floating resources: no node has any, so the clusters do not
    /// hear of it.
    fn without_floating(&self, runs: &mut [bus::LeasedRun]) {
        let control = self.deps.control.latest();
        let Some(settings) = control.pools.get(&self.table.pool) else { return };
        let mut known: BTreeMap<ShapeKey, Arc<Shape>> = BTreeMap::new();
        for run in runs {
            let floats = |shape: &Shape| {
                let names = settings.floating.keys();
                names.filter(|name| shape.request.get(name) > Quantity::ZERO).count() > 0
            };
            if !floats(&run.shape.0) {
                continue;
            }
            let bare = known.entry(run.shape.0.key()).or_insert_with(|| {
                let mut bare = Shape::clone(&run.shape.0);
                for name in settings.floating.keys() {
                    bare.request.set(name.as_str().into(), Quantity::ZERO);
                }
                Arc::new(bare)
            });
            run.shape.0 = Arc::clone(bare);
        }
    }

    /// Asks what waits behind the heads of queues of which nothing could be placed; says whether
    /// there is reason to solve again.
    pub(super) async fn search(&mut self) -> bool {
        let now = self.deps.clock.monotonic();
        if now < self.search_due {
            return false;
        }
        let Some(stuck) = self.stuck.take().filter(|_| !self.held.is_empty()) else { return false };
        let asked = self.table.searches(&stuck, &mut self.searched, self.chance);
        let free = convert::quantities(&stuck.free);
        let (deps, pool) = (self.deps, self.table.pool.clone());
        let requests = asked.iter().map(|(&shard, queues)| {
            let places = queues.iter();
            let places = places
                .map(|(name, class, from)| (name.to_string(), class.to_string(), (*from).into()));
            let (pool, free, places) = (pool.clone(), free.clone(), places.collect());
            let request = ShardRequest::Windows(GetWindows { pool, free, queues: places });
            async move { (shard, queues, ask(&*deps.bus, shard, request, SEARCH_TIMEOUT).await) }
        });
        let replies = join_all(requests).await;
        if replies.is_empty() {
            return false;
        }
        self.search_due = now + SEARCH_INTERVAL;
        for (shard, queues, reply) in replies {
            match reply {
                Ok(ShardReply::Windows(windows)) => {
                    self.dirty |= self.table.found(queues, windows, self.chance);
                }
                other => self.no_answer(shard, "question", other),
            }
        }
        self.dirty
    }

    /// A shard gave none of the answers that it should: its queues wait until it speaks again.
    pub(super) fn no_answer(&mut self, shard: u16, what: &str, reply: Result<ShardReply, String>) {
        match reply {
            Ok(other) => tracing::warn!(shard, what, ?other, "a shard gave a strange answer"),
            Err(error) => tracing::debug!(shard, what, %error, "a shard did not answer"),
        }
        self.table.unreachable(shard, self.deps.clock.monotonic());
    }
}

pub(super) async fn ask(
    transport: &dyn Bus,
    shard: u16,
    request: ShardRequest,
    timeout: Duration,
) -> Result<ShardReply, String> {
    let subject = subject::shard(ShardId(shard));
    match transport.request(&subject, bus::encode(&request), timeout).await {
        Ok(bytes) => bus::decode(&bytes).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
