//! Everything that a seed decides before a run begins: how large the deployment is, how its roles
//! are set, what goes wrong and how often.

use std::time::Duration;

use muster_executor::config::{BackendKind, SimulatedConfig};
use muster_runtime::Random;
use muster_runtime::config::{ByteSize, HumanDuration};

use crate::faults::{NetChances, StoreChances};
use crate::process::Role;
use crate::profile::{self, Manners, Profile};

/// The kinds of trouble that the nemesis knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A process is killed, between any two turns of its tasks, and started again after a while.
    Kill,
    /// A worker is asked to end, and started again.
    Restart,
    /// A process is stopped for a while and continued.
    Freeze,
    /// A process is cut off from the bus.
    OffBus,
    /// A process is cut off from the store.
    OffStore,
    /// Two processes do not hear each other.
    Cut,
    /// The bus falls apart: on each side one hears only its own, and one side has the buckets.
    Split,
    /// The bus is away for everybody.
    BusAway,
    /// The bus loses everything it knows.
    Wipe,
    /// A key of a bucket disappears before its time: mostly a lease.
    Expire,
    /// Messages are lost, doubled and late.
    BadNet,
    /// Requests to the store fail in every way.
    BadStore,
    /// A process's clock jumps.
    Jump,
    /// A cluster is gone for longer than its time-out, and comes back.
    ClusterGone,
    /// A worker and a cluster do not hear each other for about as long as it takes to give a
    /// cluster up. Profiles have it; in plain runs [`Trouble::Cut`] does it now and then.
    Deaf,
    /// The bus falls apart, and one worker is left with the last gateway. Profiles have it.
    Alone,
}

impl Trouble {
    /// Those of plain runs.
    pub(crate) const ALL: [Self; 14] = [
        Self::Kill,
        Self::Restart,
        Self::Freeze,
        Self::OffBus,
        Self::OffStore,
        Self::Cut,
        Self::Split,
        Self::BusAway,
        Self::Wipe,
        Self::Expire,
        Self::BadNet,
        Self::BadStore,
        Self::Jump,
        Self::ClusterGone,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "process killed",
            Self::Restart => "worker restarted",
            Self::Freeze => "process frozen",
            Self::OffBus => "process off the bus",
            Self::OffStore => "process off the store",
            Self::Cut => "two processes cut",
            Self::Split => "bus split",
            Self::BusAway => "bus away",
            Self::Wipe => "bus wiped",
            Self::Expire => "key expired early",
            Self::BadNet => "bad network",
            Self::BadStore => "bad store",
            Self::Jump => "clock jumped",
            Self::ClusterGone => "cluster gone",
            Self::Alone => "worker left alone with a gateway",
            Self::Deaf => "worker deaf to a cluster",
        }
    }
}

/// What a seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) shards: u16,
    pub(crate) gateways: usize,
    pub(crate) workers: usize,
    pub(crate) executors: usize,
    pub(crate) queues: usize,
    pub(crate) clients: usize,
    /// How long clients work while the nemesis does.
    pub(crate) busy: Duration,
    /// Mean pause between two troubles.
    pub(crate) trouble_interval: Duration,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) profile: Profile,
    pub(crate) manners: Manners,
    /// Whose processes trouble prefers.
    pub(crate) favours: Option<Role>,
    /// How bad network and store are where nothing makes them worse.
    pub(crate) net: NetChances,
    pub(crate) store: StoreChances,
    pub(crate) shard: muster_shard::Config,
    pub(crate) gateway: muster_gateway::Config,
    pub(crate) executor: muster_executor::Config,
}

impl Plan {
    /// What a seed decides, of which `random` was made.
    pub(crate) fn draw(seed: u64, random: &Random) -> Self {
        let mut plan = Self::draw_plain(random);
        plan.draw_garbage(random);
        // A few runs have bodies that hardly fit, so that the back-pressure has work.
        if random.below(8) == 0 {
            plan.shard.commit_bytes_max = ByteSize((2 + random.below(15)) * 1024);
        }
        profile::shape(&mut plan, seed);
        plan
    }

    fn draw_plain(random: &Random) -> Self {
        let between = |low: u64, high: u64| low + random.below(high - low + 1);
        let millis = |low, high| HumanDuration::millis(between(low, high));
        let count = |low, high| usize::try_from(between(low, high)).expect("it is small");
        let shards = u16::try_from(between(1, 3)).expect("it is small");
        let lease_ttl = millis(1_000, 5_000);
        let heartbeat_interval = millis(300, 1_500);
        let shard = muster_shard::Config {
            shards,
            lease_ttl,
            commit_interval: millis(2, 200),
            checkpoint_records: between(5, 300),
            history_interval: millis(500, 8_000),
            history_rows: count(5, 200),
            cluster_timeout: millis(4_000, 20_000),
            offer_interval: millis(10, 100),
            offer_runs_max: count(2, 100),
            round_jobs_max: between(3, 200),
            // Nothing is decided by the records of rounds.
            rounds_interval: HumanDuration::millis(0),
            ..muster_shard::Config::default()
        };
        let gateway = muster_gateway::Config {
            shards,
            write_timeout: millis(3_000, 20_000),
            read_timeout: millis(2_000, 8_000),
            keep_alive: millis(1_000, 5_000),
            ..muster_gateway::Config::default()
        };
        let simulated = SimulatedConfig {
            nodes: u32::try_from(between(1, 4)).expect("it is small"),
            cpu: between(2, 8).to_string(),
            memory: "16Gi".to_owned(),
            pods: 20,
            start_delay: millis(0, 500),
            seed: random.u64(),
            ..SimulatedConfig::default()
        };
        let executor = muster_executor::Config {
            shards,
            backend: BackendKind::Simulated,
            simulated,
            leases_max: u32::try_from(between(2, 50)).expect("it is small"),
            lease_wait: millis(500, 3_000),
            heartbeat_interval,
            sync_interval: millis(1_000, 6_000),
            sync_first_timeout: millis(1_000, 5_000),
            ..muster_executor::Config::default()
        };
        let troubles = Trouble::ALL.into_iter().filter(|_| random.below(100) < 45).collect();
        Self {
            shards,
            gateways: count(1, 2),
            workers: count(1, 3),
            executors: count(1, 3),
            queues: count(1, 4),
            clients: count(1, 4),
            busy: Duration::from_millis(between(8_000, 40_000)),
            trouble_interval: Duration::from_millis(between(400, 6_000)),
            troubles,
            profile: Profile::Plain,
            manners: Manners::default(),
            favours: None,
            net: NetChances::default(),
            store: StoreChances::default(),
            shard,
            gateway,
            executor,
        }
    }

    /// How soon garbage goes: mostly so soon that watchers who were away come too late.
    fn draw_garbage(&mut self, random: &Random) {
        self.shard.log_grace = HumanDuration::millis(random.below(15_000));
        self.shard.deletes_per_second = u32::try_from(random.below(40)).expect("it is small");
    }
}
