//! Kinds of runs in which trouble is concentrated: things that do harm only together, and that runs
//! in which everything happens now and then seldom bring together.

use std::time::Duration;

use muster_runtime::Random;
use muster_runtime::config::HumanDuration;

use crate::faults::{NetChances, StoreChances};
use crate::plan::{Plan, Trouble};
use crate::process::Role;

/// Parts the draws of profiles from all others of a seed.
const SALT: u64 = 0x5eed_0f9a_11ed_7201;

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Everything, now and then.
    Plain,
    /// Clusters count as lost while they run on: a shard's owner does not hear them for a while,
    /// the pool's leader does, and leases them the same jobs again.
    Lost,
    /// Messages come late, twice and in any order all the time, and clusters have hardly any room.
    Late,
    /// History is written all the time, to a store that is bad all the time, by workers that do not
    /// live long.
    History,
    /// Who is on the wrong side of a bus that fell apart does not find out, for little is written.
    Quiet,
    /// Nothing goes wrong, and one worker leads; clusters have hardly any room.
    Calm,
    /// Queues contend for hardly any room with jobs of several priority classes, most of which make
    /// room for others all the time.
    Contended,
}

impl Profile {
    /// By the last digit of the seed, and of some that would be plain by the last two: any twenty
    /// seeds in a row have all of them.
    fn of(seed: u64) -> Self {
        if matches!(seed % 20, 13 | 15) {
            return Self::Contended;
        }
        match seed % 10 {
            0 => Self::History,
            2 | 6 => Self::Lost,
            4 => Self::Late,
            8 => Self::Quiet,
            9 => Self::Calm,
            _ => Self::Plain,
        }
    }
}

/// How clients behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    /// Milliseconds between two operations of a client, at most.
    pub(crate) pause: u64,
    /// Milliseconds between two reads of those who only read, at most.
    pub(crate) probe_pause: u64,
    /// Those who only read, at each gateway.
    pub(crate) probers: usize,
    /// One job in so many runs at most once.
    pub(crate) at_most_once_in: u64,
    /// One job in so many is an array.
    pub(crate) array_in: u64,
    /// Milliseconds that every job runs, at least and at most; several kinds of jobs where there is
    /// none.
    pub(crate) runtime: Option<(u64, u64)>,
    /// One submission in so many has no key.
    pub(crate) keyless_in: u64,
    /// Whether all but those who only read use the first gateway alone: the others hear of nothing
    /// that changed.
    pub(crate) at_one_gateway: bool,
    /// Of a hundred operations, so many more cancel a job set.
    pub(crate) cancels: u64,
    /// One job in so many has terms beside what it runs: it depends on others, or is an array of
    /// which only some tasks run at once. None does where there is no number. Behind it, the seed
    /// of what they are.
    pub(crate) terms_in: Option<(u64, u64)>,
    /// Whether some arrays are gangs.
    pub(crate) has_gangs: bool,
    /// Whether jobs are of several priority classes.
    pub(crate) has_classes: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            pause: 1_200,
            probe_pause: 400,
            probers: 1,
            at_most_once_in: 8,
            array_in: 6,
            runtime: None,
            keyless_in: 3,
            at_one_gateway: false,
            cancels: 0,
            terms_in: None,
            has_gangs: false,
            has_classes: false,
        }
    }
}

/// Whether there are gangs in a seed's run: of every forty in a row, in the first twenty.
fn has_gangs(seed: u64) -> bool {
    (seed / 20).is_multiple_of(2)
}

/// Makes of a plan what the seed's profile asks for.
pub(crate) fn shape(plan: &mut Plan, seed: u64) {
    let draws = Draws(Random::seeded(seed ^ SALT));
    plan.profile = Profile::of(seed);
    match plan.profile {
        Profile::Plain => {
            plan.manners.terms_in = Some((4, seed));
            plan.manners.has_gangs = has_gangs(seed);
        }
        Profile::Lost => draws.lost(plan),
        Profile::Late => draws.late(plan),
        Profile::History => draws.history(plan),
        Profile::Quiet => draws.quiet(plan),
        Profile::Calm => draws.calm(plan),
        Profile::Contended => {
            draws.contended(plan);
            plan.manners.has_gangs = has_gangs(seed);
        }
    }
    plan.gateway.shards = plan.shards;
    plan.shard.shards = plan.shards;
    plan.executor.shards = plan.shards;
}

struct Draws(Random);

impl Draws {
    fn between(&self, low: u64, high: u64) -> u64 {
        low + self.0.below(high - low + 1)
    }

    fn time(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    fn millis(&self, low: u64, high: u64) -> HumanDuration {
        HumanDuration::millis(self.between(low, high))
    }

    fn some(&self, troubles: &[Trouble]) -> Vec<Trouble> {
        troubles.iter().copied().filter(|_| self.0.below(3) > 0).collect()
    }

    fn lost(&self, plan: &mut Plan) {
        // Leader and owner are two, and nobody else has room.
        (plan.workers, plan.executors, plan.shards) = (2, 1, 3);
        plan.queues = plan.queues.max(3);
        plan.shard.cluster_timeout = self.millis(1_000, 2_000);
        plan.shard.commit_interval = self.millis(2, 60);
        plan.executor.heartbeat_interval = self.millis(150, 300);
        plan.executor.sync_interval = self.millis(3_000, 8_000);
        plan.executor.simulated.nodes = 4;
        plan.executor.simulated.cpu = "16".to_owned();
        plan.trouble_interval = self.time(1_500, 3_000);
        plan.troubles = vec![Trouble::Deaf];
        plan.clients = 2;
        plan.busy = self.time(40_000, 60_000);
        plan.manners.pause = 8_000;
        plan.manners.runtime = Some((1_500, 8_000));
        plan.manners.at_most_once_in = 3;
        plan.manners.array_in = 2;
    }

    fn late(&self, plan: &mut Plan) {
        plan.net = NetChances {
            lost: self.between(0, 10),
            doubled: self.between(200, 500),
            late: self.between(50, 150),
        };
        plan.workers = plan.workers.max(2);
        plan.clients = 6;
        plan.busy = self.time(20_000, 40_000);
        self.crowd(plan);
        plan.executor.sync_interval = self.millis(50, 200);
        plan.executor.simulated.start_delay = HumanDuration::millis(0);
        plan.shard.commit_interval = self.millis(2, 40);
        plan.shard.lease_ttl = self.millis(6_000, 9_000);
        plan.trouble_interval = self.time(3_000, 9_000);
        plan.troubles = self.some(&[Trouble::Expire, Trouble::Restart, Trouble::Kill]);
        plan.manners.runtime = Some((1, if self.0.below(2) == 0 { 60 } else { 1_500 }));
        plan.manners.keyless_in = 2;
        plan.manners.cancels = 10;
    }

    /// Leaves hardly any room.
    fn crowd(&self, plan: &mut Plan) {
        plan.executors = 1;
        plan.executor.simulated.nodes = 1;
        plan.executor.simulated.cpu = self.between(2, 3).to_string();
        plan.executor.leases_max = 50;
    }

    fn history(&self, plan: &mut Plan) {
        (plan.workers, plan.shards) = (1, plan.shards.min(2));
        plan.favours = Some(Role::Worker);
        plan.shard.lease_ttl = self.millis(800, 1_500);
        plan.shard.history_interval = self.millis(100, 700);
        plan.shard.history_rows = 3;
        plan.shard.commit_interval = self.millis(2, 200);
        plan.store = StoreChances {
            refused: self.between(50, 250),
            lost_answer: self.between(0, 50),
            hangs: self.between(20, 80),
            spares_probes: true,
            ..StoreChances::default()
        };
        plan.clients = 4;
        plan.busy = self.time(30_000, 60_000);
        plan.trouble_interval = self.time(2_000, 4_000);
        plan.troubles = vec![Trouble::Kill, Trouble::Restart];
        plan.manners.runtime = Some((1, 800));
    }

    fn quiet(&self, plan: &mut Plan) {
        (plan.workers, plan.gateways, plan.shards, plan.executors) = (2, 2, 3, 1);
        plan.queues = plan.queues.max(3);
        plan.clients = 2;
        plan.busy = self.time(60_000, 90_000);
        plan.gateway.write_timeout = self.millis(3_000, 5_000);
        plan.shard.lease_ttl = self.millis(5_000, 9_000);
        plan.shard.history_interval = HumanDuration::secs(30);
        plan.shard.history_rows = 10_000;
        plan.shard.cluster_timeout = HumanDuration::secs(60);
        plan.executor.sync_interval = HumanDuration::secs(20);
        // Room for all of them: with little, so long jobs take longer than the checker waits.
        plan.executor.simulated.nodes = 4;
        plan.executor.simulated.cpu = "16".to_owned();
        plan.trouble_interval = self.time(8_000, 14_000);
        plan.troubles = vec![Trouble::Alone];
        plan.manners.runtime = Some((20_000, 60_000));
        plan.manners.pause = 2_500;
        plan.manners.at_one_gateway = true;
        plan.manners.probe_pause = 100;
        plan.manners.probers = 2;
    }

    fn calm(&self, plan: &mut Plan) {
        plan.workers = 1;
        self.crowd(plan);
        plan.executor.simulated.nodes = u32::try_from(self.between(1, 2)).expect("it is small");
        plan.troubles = Vec::new();
        plan.manners.runtime = Some((1, 3_000));
    }

    fn contended(&self, plan: &mut Plan) {
        self.crowd(plan);
        plan.executors = 1 + usize::from(self.0.below(2) == 0);
        plan.queues = plan.queues.max(3);
        plan.clients = 3;
        plan.busy = self.time(40_000, 60_000);
        plan.shard.preempt_interval = self.millis(100, 2_000);
        plan.shard.preemptions_max = self.between(1, 10);
        // A new leader makes no room for a while, so it is to lead for longer than that.
        plan.trouble_interval = self.time(6_000, 20_000);
        plan.manners.has_classes = true;
        plan.manners.pause = 4_000;
        plan.manners.runtime = Some((200, 8_000));
    }
}
