//! What goes wrong: troubles of the kinds that the seed allows, each for a while, until the clients
//! stop. Then everything is healed.

use std::time::Duration;

use muster_api::bus::subject;
use muster_runtime::Random;
use muster_runtime::bus::Bus as _;

use crate::background::spawn;
use crate::faults::{NetChances, Peer, StoreChances};
use crate::plan::{Plan, Trouble};
use crate::process::Role;
use crate::trace::note;
use crate::world::Shared;

/// Makes trouble until the clients stop.
pub(crate) async fn run(shared: Shared, random: Random) {
    let plan = std::sync::Arc::clone(&shared.site.plan);
    shared.site.faults.set_net(plan.net);
    shared.site.faults.set_store(plan.store);
    if plan.troubles.is_empty() {
        return;
    }
    let mean = u64::try_from(plan.trouble_interval.as_millis()).expect("it is seconds");
    while shared.is_busy() {
        tokio::time::sleep(Duration::from_millis(random.below(2 * mean))).await;
        let count = plan.troubles.len() as u64;
        let pick = usize::try_from(random.below(count)).expect("it is small");
        let trouble = plan.troubles[pick];
        shared.site.faults.count(trouble.name());
        note!(shared.site.trace, "trouble: {}", trouble.name());
        // Troubles overlap.
        spawn(make(shared.clone(), trouble, random.fork()));
    }
}

/// Ends all trouble: every process lives and nothing fails any more.
pub(crate) fn heal(shared: &Shared) {
    note!(shared.site.trace, "all is healed");
    shared.site.faults.heal();
    for slot in shared.processes().iter_mut() {
        slot.is_held_down = false;
        slot.process.thaw();
    }
}

fn pick(shared: &Shared, random: &Random, allowed: impl Fn(Role) -> bool) -> usize {
    let processes = shared.processes();
    let fit: Vec<usize> =
        (0..processes.len()).filter(|place| allowed(processes[*place].process.role)).collect();
    fit[usize::try_from(random.below(fit.len() as u64)).expect("it is small")]
}

/// One trouble, of its kind and for a while.
struct Making {
    shared: Shared,
    random: Random,
}

async fn make(shared: Shared, trouble: Trouble, random: Random) {
    let making = Making { shared, random };
    match trouble {
        Trouble::Kill => making.kill().await,
        Trouble::Restart => making.restart(),
        Trouble::Freeze => making.freeze().await,
        Trouble::OffBus => making.off_bus().await,
        Trouble::OffStore => making.off_store().await,
        Trouble::Cut => making.cut().await,
        Trouble::Split => making.split().await,
        Trouble::Alone => making.alone().await,
        Trouble::BusAway => making.bus_away().await,
        Trouble::Wipe => making.shared.site.bus.lose_everything(),
        Trouble::Expire => expire(&making.shared, &making.random).await,
        Trouble::BadNet => making.bad_net().await,
        Trouble::BadStore => making.bad_store().await,
        Trouble::Jump => making.jump(),
        Trouble::ClusterGone => making.cluster_gone().await,
        Trouble::Deaf => making.deaf(120).await,
    }
}

fn anyone(_: Role) -> bool {
    true
}

fn keeps_data(role: Role) -> bool {
    role != Role::Executor
}

impl Making {
    fn time(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.random.below(high - low))
    }

    async fn pass(&self, low: u64, high: u64) {
        tokio::time::sleep(self.time(low, high)).await;
    }

    /// The lease time, in milliseconds.
    fn ttl(&self) -> u64 {
        let ttl = self.shared.site.plan.shard.lease_ttl.0;
        u64::try_from(ttl.as_millis()).expect("it is seconds")
    }

    fn pick(&self, allowed: impl Fn(Role) -> bool) -> usize {
        match self.shared.site.plan.favours.filter(|favoured| allowed(*favoured)) {
            Some(favoured) if self.random.below(4) > 0 => {
                pick(&self.shared, &self.random, |role| role == favoured)
            }
            _ => pick(&self.shared, &self.random, allowed),
        }
    }

    fn peer(&self, place: usize) -> Peer {
        self.shared.processes()[place].process.peer
    }

    async fn kill(&self) {
        let place = self.pick(anyone);
        // A busy process has hundreds of turns in a second, most of them at the same moment as
        // others: it is killed between any two of them.
        let turns = 1 + self.random.below(400);
        self.shared.processes()[place].process.kill_after(turns);
        self.pass(0, 1_000).await;
        hold_down(&self.shared, place, self.time(0, 2 * self.ttl())).await;
    }

    fn restart(&self) {
        let place = self.pick(keeps_data);
        self.shared.processes()[place].process.terminate();
    }

    async fn freeze(&self) {
        let place = self.pick(anyone);
        self.shared.processes()[place].process.freeze();
        self.pass(50, 4 * self.ttl()).await;
        self.shared.processes()[place].process.thaw();
    }

    async fn off_bus(&self) {
        let peer = self.peer(self.pick(anyone));
        self.shared.site.faults.set_off_bus(peer, true);
        self.pass(50, 3 * self.ttl()).await;
        self.shared.site.faults.set_off_bus(peer, false);
    }

    async fn off_store(&self) {
        let peer = self.peer(self.pick(keeps_data));
        self.shared.site.faults.set_off_store(peer, true);
        self.pass(50, 4 * self.ttl()).await;
        self.shared.site.faults.set_off_store(peer, false);
    }

    async fn cut(&self) {
        // A cluster that a shard's owner does not hear counts as lost, though others hear it.
        let (one, other) = (self.pick(anyone), self.pick(anyone));
        let time = self.time(500, 8_000);
        if self.random.below(2) == 0 {
            self.deaf(50).await;
        } else if one != other {
            self.cut_for(one, other, time).await;
        }
    }

    /// For so many hundredths of the time after which a cluster is given up, and up to one and a
    /// half times that time longer.
    async fn deaf(&self, hundredths: u32) {
        let one = self.pick(|role| role == Role::Worker);
        let other = self.pick(|role| role == Role::Executor);
        let timeout = self.shared.site.plan.shard.cluster_timeout.0;
        let more = u32::try_from(self.random.below(150)).expect("it is small");
        self.cut_for(one, other, timeout * (hundredths + more) / 100).await;
    }

    async fn cut_for(&self, one: usize, other: usize, time: Duration) {
        let (one, other) = (self.peer(one), self.peer(other));
        self.shared.site.faults.set_cut(one, other, true);
        tokio::time::sleep(time).await;
        self.shared.site.faults.set_cut(one, other, false);
    }

    async fn split(&self) {
        let (worker, gateway) =
            (self.pick(|role| role == Role::Worker), self.pick(|role| role == Role::Gateway));
        self.split_off(|place| [worker, gateway].contains(place) || self.random.below(4) == 0)
            .await;
    }

    async fn alone(&self) {
        let worker = self.pick(|role| role == Role::Worker);
        let gateway = {
            let processes = self.shared.processes();
            processes.iter().rposition(|slot| slot.process.role == Role::Gateway)
        };
        self.split_off(|place| *place == worker || Some(*place) == gateway).await;
    }

    async fn split_off(&self, is_off: impl Fn(&usize) -> bool) {
        let places = 0..self.shared.processes().len();
        let (off, on): (Vec<usize>, Vec<usize>) = places.partition(is_off);
        let peers = |places: Vec<usize>| places.into_iter().map(|place| self.peer(place)).collect();
        let (off, on): (Vec<Peer>, Vec<Peer>) = (peers(off), peers(on));
        self.set_split(&off, &on, true);
        // The side with the buckets may have been behind when it was left alone with them.
        if self.random.below(2) == 0 {
            self.shared.site.bus.lose_everything();
        }
        self.pass(500, 5 * self.ttl()).await;
        self.set_split(&off, &on, false);
    }

    fn set_split(&self, off: &[Peer], on: &[Peer], is_split: bool) {
        let faults = &self.shared.site.faults;
        for one in off {
            faults.set_off_buckets(*one, is_split);
            on.iter().for_each(|other| faults.set_cut(*one, *other, is_split));
        }
    }

    async fn bus_away(&self) {
        self.shared.site.faults.set_bus_away(true);
        self.pass(50, 2 * self.ttl()).await;
        self.shared.site.faults.set_bus_away(false);
    }

    async fn bad_net(&self) {
        self.shared.site.faults.set_net(NetChances {
            lost: self.random.below(250),
            doubled: self.random.below(250),
            late: self.random.below(250),
        });
        self.pass(500, 8_000).await;
        self.shared.site.faults.set_net(self.usual(|plan| plan.net));
    }

    async fn bad_store(&self) {
        self.shared.site.faults.set_store(StoreChances {
            refused: self.random.below(250),
            lost_answer: self.random.below(250),
            lands_late: self.random.below(250),
            hangs: self.random.below(100),
            conflict: self.random.below(100),
            read_fails: self.random.below(250),
            read_hangs: self.random.below(50),
            spares_probes: false,
        });
        self.pass(500, 10_000).await;
        self.shared.site.faults.set_store(self.usual(|plan| plan.store));
    }

    /// How bad something is when this trouble is over.
    fn usual<T: Default>(&self, chances: impl Fn(&Plan) -> T) -> T {
        if self.shared.is_busy() { chances(&self.shared.site.plan) } else { T::default() }
    }

    fn jump(&self) {
        // Simulated pods end by the wall clock, so a cluster's must not go back by hours.
        let place = self.pick(keeps_data);
        let reach: i64 = if self.random.below(3) == 0 { 4_000_000 } else { 10_000 };
        let by = self.random.below(2 * reach.unsigned_abs());
        let by = i64::try_from(by).expect("it is hours") - reach;
        self.shared.processes()[place].process.jump(by);
    }

    async fn cluster_gone(&self) {
        let place = self.pick(|role| role == Role::Executor);
        let timeout = self.shared.site.plan.shard.cluster_timeout.0;
        if self.random.below(4) == 0 && self.is_dispensable(place) {
            self.shared.site.faults.count("cluster gone for good");
            let slot = &mut self.shared.processes()[place];
            slot.is_gone = true;
            slot.process.kill();
            return;
        }
        let is_rebuilt = self.random.below(3) == 0;
        let time = timeout + self.time(1_000, 8_000);
        if is_rebuilt {
            self.shared.site.faults.count("cluster rebuilt from nothing");
            let slot = &mut self.shared.processes()[place];
            slot.process.kill();
            slot.process.lose_data();
        }
        hold_down(&self.shared, place, time).await;
    }

    /// Whether another cluster stays.
    fn is_dispensable(&self, place: usize) -> bool {
        let processes = self.shared.processes();
        let mut slots = processes.iter().enumerate();
        slots.any(|(other, slot)| {
            other != place && slot.process.role == Role::Executor && !slot.is_gone
        })
    }
}

/// Kills a process and keeps it from being started for a while.
async fn hold_down(shared: &Shared, place: usize, time: Duration) {
    {
        let slot = &mut shared.processes()[place];
        slot.is_held_down = true;
        slot.process.kill();
    }
    tokio::time::sleep(time).await;
    shared.processes()[place].is_held_down = false;
}

/// Deletes a key of a bucket before its time: mostly a lease.
async fn expire(shared: &Shared, random: &Random) {
    let ttl = Some(shared.site.plan.shard.lease_ttl.0);
    let (bucket, ttl) = match random.below(8) {
        0 => (subject::POOLS_BUCKET, None),
        _ => (subject::LEASES_BUCKET, ttl),
    };
    let Ok(bucket) = shared.site.bus.key_value(bucket, ttl).await else { return };
    let Ok(entries) = bucket.entries().await else { return };
    if entries.is_empty() {
        return;
    }
    let place = usize::try_from(random.below(entries.len() as u64)).expect("it is small");
    let key = &entries[place].key;
    note!(shared.site.trace, "key {key} disappears");
    // A key that is gone already is what was wanted.
    let _ = bucket.delete(key, None).await;
}
