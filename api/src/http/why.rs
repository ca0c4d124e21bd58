//! Why a job does not run: `GET /jobs/{id}/why`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod sentence;

/// Why a job does not run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The job, task or array.
    pub job_id: String,
    /// Its queue.
    pub queue: String,
    /// Its job set.
    pub job_set: String,
    /// Its state.
    pub state: String,
    /// The answer in one sentence.
    pub summary: String,
    /// What keeps it. What keeps it by itself, whatever else is the case, comes first: without all
    /// of it, it would be placed. Empty for a job that runs or has ended.
    pub blockers: Vec<Blocker>,
    /// Where it stands in its queue's line, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<LinePlace>,
    /// What the leader of its pool knows, if it waits and there is one that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolWhy>,
}

/// Something that keeps a job from running.
///
/// Whoever adds one says in [`Blocker::text`] what it is called, and in the API's document what its
/// fields are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Blocker {
    /// Its queue is cordoned.
    QueueCordoned {
        /// The queue.
        queue: String,
    },
    /// No cluster of its pool is there.
    NoCluster {
        /// The pool.
        pool: String,
    },
    /// No node of its pool could ever hold it.
    NeverFits {
        /// The pool.
        pool: String,
    },
    /// The nodes that could hold it take nothing new: they are cordoned, taken out for a while,
    /// draining or not ready.
    NodesClosed {
        /// How many they are.
        nodes: u64,
    },
    /// Its queue holds as much as it may.
    Limit {
        /// The class that the limit is for; none for all of the queue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<String>,
        /// The resource.
        resource: String,
        /// How much the queue may hold of it.
        limit: String,
        /// How much it holds.
        held: String,
        /// How much the job asks for.
        requested: String,
    },
    /// Of a floating resource of its pool (licences), not enough is left.
    Floating {
        /// The resource.
        resource: String,
        /// How much the pool's jobs may hold of it.
        limit: String,
        /// How much they hold.
        held: String,
        /// How much the job asks for.
        requested: String,
    },
    /// Its queue had as many jobs placed as its rate allows for now.
    Rate {
        /// Jobs a second, in the long run.
        per_second: f64,
        /// Jobs at once.
        burst: u32,
    },
    /// Its pool had as many jobs placed as its rate allows for now.
    PoolRate {
        /// The pool.
        pool: String,
        /// Jobs a second, in the long run.
        per_second: f64,
        /// Jobs at once.
        burst: u32,
    },
    /// It is held back: see `heldBack` of the job.
    HeldBack {
        /// By what, as a sentence.
        detail: String,
    },
    /// Not all members of its gang are there and wait.
    GangWaiting {
        /// The gang.
        gang: String,
        /// Members that live.
        live: u64,
        /// Members that wait.
        waiting: u64,
        /// How many there must be.
        cardinality: u64,
    },
    /// Its gang needs room for all of its members at once, on one cluster.
    GangRoom {
        /// The gang.
        gang: String,
        /// How many they are.
        cardinality: u64,
        /// The label of which all of their nodes must have one value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uniform: Option<String>,
        /// For how many of them there is room now where there is the most; nothing where members
        /// differ.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room: Option<u64>,
    },
    /// Room is kept for jobs of other queues that have waited too long.
    RoomKept {
        /// How many queues.
        queues: u64,
    },
    /// The shard of other queues is being taken over. So that these find their shares when they are
    /// back, its queue gets no more than its fair share meanwhile, and has that.
    SharesKept {
        /// How many queues.
        queues: u64,
    },
    /// Nodes could hold it, but none has the room now.
    NoRoom {
        /// How many could.
        nodes: u64,
    },
    /// Room is being made for it.
    Claimed {
        /// The cluster.
        cluster: String,
        /// The node.
        node: String,
        /// Whether jobs there were told to stop for it; otherwise what ends there is waited for.
        preempting: bool,
        /// When the room is sure to be there, by the deadlines of what runs there, if these say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Others go first.
    Line {
        /// Jobs of its queue, so many at least.
        jobs: u64,
        /// Other queues that have jobs of higher classes waiting.
        higher_queues: u64,
        /// Other queues that have less of their share and jobs of its class waiting.
        lower_queues: u64,
    },
    /// There is room for it, and it is its turn: it goes with one of the next rounds.
    NextRound,
    /// The leader of its pool has not heard of it yet, or cannot reach its shard.
    NotOffered {
        /// The pool.
        pool: String,
    },
    /// Nobody leads its pool at the moment, or the leader does not answer.
    NoLeader {
        /// The pool.
        pool: String,
        /// What became of the question.
        detail: String,
    },
    /// It is on a cluster, and its containers do not run yet.
    Starting {
        /// The cluster.
        cluster: String,
        /// The node.
        node: String,
    },
    /// Something that this program does not know of yet.
    #[serde(other)]
    Unknown,
}

/// Where a job stands in its queue's line for a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinePlace {
    /// The pool.
    pub pool: String,
    /// Its priority class.
    pub class: String,
    /// Its priority.
    pub priority: u32,
    /// Jobs of its queue that go before it: so many at least.
    pub ahead: u64,
    /// So many at most, where the line is too long to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead_max: Option<u64>,
    /// Jobs of its queue that wait for the pool, itself among them.
    pub waiting: u64,
}

/// What the leader of a pool says of a job that waits for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolWhy {
    /// What keeps the job; shown in [`Why::blockers`] and left out here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blockers: Vec<Blocker>,
    /// What its queue has of the pool.
    pub share: ShareWhy,
    /// Queues that go before its own, the first few.
    pub before: Vec<QueueBefore>,
    /// How the nodes of the pool stand to it, by cluster.
    pub clusters: Vec<ClusterFit>,
    /// When it starts, as far as that can be said.
    pub estimate: Estimate,
    /// When this was, RFC 3339 UTC.
    pub at: String,
}

/// A queue's share of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShareWhy {
    /// The queue's weight.
    pub weight: f64,
    /// The share that all it holds and waits for would take: above 1 when the pool is too small for
    /// it.
    pub demand: f64,
    /// The share that weights and demands entitle it to, 0 to 1.
    pub fair: f64,
    /// The share that it has.
    pub actual: f64,
}

/// A queue that goes before another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueBefore {
    /// The queue.
    pub queue: String,
    /// Its priority class that is higher, if that is why; otherwise it has less of its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The share that it has.
    pub actual: f64,
}

/// How the nodes of a cluster stand to a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFit {
    /// The cluster.
    pub cluster: String,
    /// Its nodes in the pool.
    pub nodes: u64,
    /// Nodes that have room for it now.
    pub room: u64,
    /// Nodes that could hold it when nothing else runs there.
    pub ever: u64,
    /// Why nothing new is placed on the cluster, if it is cordoned; empty where nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordoned: Option<String>,
    /// What keeps it from the other nodes.
    pub ruled_out: Vec<RuledOut>,
}

/// Nodes on which a job cannot be placed, all for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuledOut {
    /// `label`, `affinity`, `taint`, `avoided` (attempts failed there), `tooSmall` (even empty),
    /// `closed` (cordoned, draining or not ready), `takenOut` (for a while, since jobs of several
    /// queues failed there) or `noRoom`.
    pub reason: String,
    /// The label, taint or resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// How many nodes.
    pub nodes: u64,
    /// The one that is nearest to taking it.
    pub nearest: String,
    /// How much of the resource that node has: free, or in all where it is too small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has: Option<String>,
    /// How much it lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
}

/// When a job starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Estimate {
    /// In so many seconds; none where that cannot be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// What this is based on, or why none can be given.
    pub basis: String,
}

/// Where jobs of a shape could be placed: of a submission that is only tried out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShapeFit {
    /// The pool.
    pub pool: String,
    /// The priority class.
    pub class: String,
    /// The priority.
    pub priority: u32,
    /// What a job asks for, as quantities by resource.
    pub resources: BTreeMap<String, String>,
    /// How many jobs of the submission are like that, tasks one by one.
    pub jobs: u64,
    /// Whether a node could ever hold one; none where nobody leads the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fits_ever: Option<bool>,
    /// How the nodes of the pool stand to it, by cluster.
    pub clusters: Vec<ClusterFit>,
    /// Jobs of the queue that stand before the first of them.
    pub ahead: u64,
    /// The answer in one sentence.
    pub summary: String,
}
