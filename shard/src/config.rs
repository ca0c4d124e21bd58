//! The settings of a shard worker.

use muster_core::limits;
use muster_runtime::config::{ByteSize, FieldDoc, HumanDuration, Problems};
use serde::{Deserialize, Serialize};

/// Settings of a shard worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Shards of the deployment; the same for every role, and never changed once jobs were
    /// submitted.
    #[serde(skip)]
    pub shards: u16,
    /// How long a lease on a shard or pool holds without being renewed.
    pub lease_ttl: HumanDuration,
    /// Mean time between the starts of two commits of a busy shard; a few that somebody waits for
    /// may go ahead of their turn.
    pub commit_interval: HumanDuration,
    /// Bytes that may wait for the next commit of a shard before submissions are refused for the
    /// moment.
    pub commit_bytes_max: ByteSize,
    /// Records after which a checkpoint is written.
    pub checkpoint_records: u64,
    /// Log objects after which a checkpoint is written, however few records they have.
    pub checkpoint_objects: u64,
    /// Bytes of log objects after which a checkpoint is written.
    pub checkpoint_bytes: ByteSize,
    /// How long a finished job may wait before it is written to the history.
    pub history_interval: HumanDuration,
    /// Finished jobs after which history is written at once.
    pub history_rows: usize,
    /// How long a cluster may be silent before its runs are given up.
    pub cluster_timeout: HumanDuration,
    /// Least time between two offers of a shard.
    pub offer_interval: HumanDuration,
    /// Runs of equal jobs that a queue offers at once, for each pool and priority class.
    pub offer_runs_max: usize,
    /// Jobs that a pool's leader places in one round.
    pub round_jobs_max: u64,
    /// Least time between two times that a pool's leader makes room for jobs of higher classes, and
    /// of queues below their fair share, by preempting others; 0 preempts nobody.
    pub preempt_interval: HumanDuration,
    /// Jobs that it preempts at a time.
    pub preemptions_max: u64,
    /// How much of its fair share a queue keeps when others have less than theirs: 1 is all of it,
    /// more keeps that much more.
    pub protected_share: f64,
    /// How long a job waits before room is kept for it; 0 keeps none.
    pub reserve_after: HumanDuration,
    /// The part of a pool that is kept, at most, for jobs that have waited so long, of queues below
    /// their fair share, beyond one job of each queue.
    pub reserve_share: f64,
    /// Of how many queues jobs have to fail on a node, with none that ends well between them, for
    /// the node to be taken out for a while; 0 takes none out.
    pub node_failing_queues: usize,
    /// Within what time.
    pub node_failing_window: HumanDuration,
    /// For how long.
    pub node_out_for: HumanDuration,
    /// Of a hundred nodes of a cluster, how many may be out at a time; of two or more, one always.
    pub node_out_percent: u8,
    /// In what time what a queue used counts half when shares are compared; 0: the past does not
    /// count.
    pub usage_half_life: HumanDuration,
    /// How much the past counts beside what is held now.
    pub usage_weight: f64,
    /// How often a pool's leader writes what its rounds came to; 0 writes nothing.
    pub rounds_interval: HumanDuration,
    /// How long a log object stays at least. So long can events be read again, and pod specs of
    /// jobs that have finished.
    pub log_grace: HumanDuration,
    /// Days that the history and the records of rounds keep; 0 keeps all of it.
    pub history_days: u32,
    /// Objects that a shard lets go in a second, at most; 0 lets go of none.
    pub deletes_per_second: u32,
    /// Whether no other worker can exist: then a takeover waits for no lease to run out.
    pub exclusive: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 4,
            lease_ttl: HumanDuration::secs(4),
            commit_interval: HumanDuration::millis(100),
            commit_bytes_max: ByteSize::mib(64),
            checkpoint_records: 200_000,
            checkpoint_objects: 1_000,
            checkpoint_bytes: ByteSize::mib(256),
            history_interval: HumanDuration::secs(10),
            history_rows: 50_000,
            cluster_timeout: HumanDuration::secs(60),
            offer_interval: HumanDuration::millis(50),
            offer_runs_max: 500,
            round_jobs_max: 10_000,
            preempt_interval: HumanDuration::secs(5),
            preemptions_max: 100,
            protected_share: 1.0,
            reserve_after: HumanDuration::secs(600),
            reserve_share: 0.05,
            node_failing_queues: 3,
            node_failing_window: HumanDuration::secs(600),
            node_out_for: HumanDuration::secs(900),
            node_out_percent: 10,
            usage_half_life: HumanDuration::secs(0),
            usage_weight: 1.0,
            rounds_interval: HumanDuration::secs(60),
            log_grace: HumanDuration::secs(24 * 3600),
            history_days: 90,
            deletes_per_second: 100,
            exclusive: false,
        }
    }
}

impl Config {
    /// What each key means.
    #[must_use]
    pub fn docs() -> Vec<FieldDoc> {
        [Self::docs_of_keeping(), Self::docs_of_scheduling(), Self::docs_of_letting_go()].concat()
    }

    fn docs_of_keeping() -> Vec<FieldDoc> {
        vec![
            FieldDoc::new(
                "lease_ttl",
                "how long a lease on a shard or pool holds without being renewed",
            ),
            FieldDoc::new(
                "commit_interval",
                "mean time between the starts of two commits of a busy shard; up to four that somebody waits for go ahead of their turn",
            ),
            FieldDoc::new(
                "commit_bytes_max",
                "bytes that may wait for a shard's next commit before submissions are refused for the moment",
            ),
            FieldDoc::new("checkpoint_records", "records after which a checkpoint is written"),
            FieldDoc::new(
                "checkpoint_objects",
                "log objects after which a checkpoint is written, however few records they have",
            ),
            FieldDoc::new(
                "checkpoint_bytes",
                "bytes of log objects after which a checkpoint is written",
            ),
            FieldDoc::new(
                "history_interval",
                "how long a finished job may wait before it is written to the history",
            ),
            FieldDoc::new("history_rows", "finished jobs after which history is written at once"),
            FieldDoc::new(
                "cluster_timeout",
                "how long a cluster may be silent before its runs are given up",
            ),
            FieldDoc::new(
                "offer_interval",
                "least time between two offers of a shard to the pool leaders",
            ),
            FieldDoc::new(
                "offer_runs_max",
                "runs of equal jobs that a queue offers at once, for each pool and priority class",
            ),
        ]
    }

    fn docs_of_scheduling() -> Vec<FieldDoc> {
        vec![
            FieldDoc::new("round_jobs_max", "jobs that a pool's leader places in one round"),
            FieldDoc::new(
                "preempt_interval",
                "least time between two times that a pool's leader makes room by preempting jobs; 0 preempts none",
            ),
            FieldDoc::new("preemptions_max", "jobs that it preempts at a time"),
            FieldDoc::new(
                "protected_share",
                "how much of its fair share a queue keeps when others have less than theirs: 1 is all of it, more keeps that much more",
            ),
            FieldDoc::new(
                "reserve_after",
                "how long a job (or gang) waits before what gets free is kept for it on the node (or in the cluster) that is nearest to having room; 0 keeps none",
            ),
            FieldDoc::new(
                "reserve_share",
                "the part of a pool that is kept, at most, for jobs that have waited so long, of queues below their fair share; beside it one job (or gang) of each queue has room kept",
            ),
            FieldDoc::new(
                "node_failing_queues",
                "of how many queues jobs have to fail on a node, with none that ends well between them, for the node to be taken out for a while; 0 takes none out",
            ),
            FieldDoc::new("node_failing_window", "within what time they have to fail; 24h at most"),
            FieldDoc::new("node_out_for", "how long the node is out"),
            FieldDoc::new(
                "node_out_percent",
                "of a hundred nodes of a cluster, how many may be out at a time; of two or more, one always",
            ),
            FieldDoc::new(
                "usage_half_life",
                "in what time what a queue used counts half when shares are compared, so that who used much waits behind who did not; 0: the past does not count",
            ),
            FieldDoc::new("usage_weight", "how much the past counts beside what is held now"),
            FieldDoc::new("rounds_interval", "how often rounds are recorded; 0 for never"),
        ]
    }

    fn docs_of_letting_go() -> Vec<FieldDoc> {
        vec![
            FieldDoc::new(
                "log_grace",
                "how long a log object stays at least: so long can events be read again, and pod specs of finished jobs",
            ),
            FieldDoc::new(
                "history_days",
                "days that history and records of rounds stay; 0 for ever",
            ),
            FieldDoc::new(
                "deletes_per_second",
                "objects that a shard lets go in a second, at most; 0 lets go of none",
            ),
            FieldDoc::new(
                "exclusive",
                "whether no other worker can exist: then a takeover waits for no lease to run out",
            ),
        ]
    }

    /// The protected part of a fair share in thousandths.
    pub(crate) fn protected_thousandths(&self) -> u64 {
        // Validation leaves only what fits.
        (self.protected_share * 1_000.0).round().max(1_000.0) as u64
    }

    /// The part of a pool that may be kept, in thousandths.
    pub(crate) fn reserved_thousandths(&self) -> u64 {
        // Validation leaves only what fits.
        (self.reserve_share * 1_000.0).round() as u64
    }

    /// The weight of the past in thousandths.
    pub(crate) fn usage_weight_thousandths(&self) -> u64 {
        // Validation leaves only what fits.
        (self.usage_weight * 1_000.0).round() as u64
    }

    /// What is wrong with the settings beyond the type of each.
    pub fn validate(&self, problems: &mut Problems) {
        if self.shards == 0 || self.shards > 1024 {
            problems.add("shards", format!("{} is not from 1 to 1024", self.shards));
        }
        for (key, value) in
            [("lease_ttl", self.lease_ttl), ("cluster_timeout", self.cluster_timeout)]
        {
            if value.0 < std::time::Duration::from_millis(500) {
                problems.add(key, format!("{value} is shorter than 500ms"));
            }
        }
        if self.commit_bytes_max < ByteSize::mib(2) {
            let problem = format!(
                "{} is less than 2MiB, what one message holds and more",
                self.commit_bytes_max
            );
            problems.add("commit_bytes_max", problem);
        }
        if self.round_jobs_max == 0 {
            problems.add("round_jobs_max", "it is at least 1");
        }
        if self.preemptions_max == 0 {
            problems.add("preemptions_max", "it is at least 1; preempt_interval = 0 preempts none");
        }
        if !(1.0..=1_000.0).contains(&self.protected_share) {
            let problem = format!("{} is not from 1 to 1000", self.protected_share);
            problems.add("protected_share", problem);
        }
        if !(0.0..=1.0).contains(&self.reserve_share) {
            problems.add("reserve_share", format!("{} is not from 0 to 1", self.reserve_share));
        }
        self.validate_taking_out(problems);
        if !(0.0..=1_000.0).contains(&self.usage_weight) {
            problems.add("usage_weight", format!("{} is not from 0 to 1000", self.usage_weight));
        }
        if self.checkpoint_objects == 0 || self.checkpoint_bytes.0 == 0 {
            problems.add("checkpoint_objects", "it and checkpoint_bytes are at least 1");
        }
        if self.checkpoint_records == 0 || self.history_rows == 0 || self.offer_runs_max == 0 {
            problems
                .add("checkpoint_records", "it, history_rows and offer_runs_max are at least 1");
        }
    }

    fn validate_taking_out(&self, problems: &mut Problems) {
        let queues_max = limits::FAILING_QUEUES_MAX;
        if self.node_failing_queues > queues_max {
            let problem = format!("{} is more than {queues_max}", self.node_failing_queues);
            problems.add("node_failing_queues", problem);
        }
        let window = self.node_failing_window;
        if window.0 > std::time::Duration::from_secs(limits::NODE_FAILURES_HOURS * 3600) {
            problems.add("node_failing_window", format!("{window} is longer than 24h"));
        }
        if self.node_out_percent > 100 {
            let problem = format!("{} is more than 100", self.node_out_percent);
            problems.add("node_out_percent", problem);
        }
    }
}
