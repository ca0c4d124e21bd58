//! What goes wrong: troubles of the kinds that the seed allows, each for a while, until the clients
//! stop. Then everything is healed.

use std::time::Duration;

use muster_api::bus::subject;
use muster_runtime::Random;
use muster_runtime::bus::Bus as _;

use crate::background::spawn;
use crate::faults::{NetChances, StoreChances};
use crate::plan::Trouble;
use crate::process::Role;
use crate::trace::note;
use crate::world::Shared;

/// Makes trouble until the clients stop.
pub(crate) async fn run(shared: Shared, random: Random) {
    let plan = std::sync::Arc::clone(&shared.site.plan);
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

async fn make(shared: Shared, trouble: Trouble, random: Random) {
    let some_time = |low: u64, high: u64| Duration::from_millis(low + random.below(high - low));
    let ttl = u64::try_from(shared.site.plan.shard.lease_ttl.0.as_millis()).expect("it is seconds");
    let anyone = |_: Role| true;
    let faults = shared.site.faults.clone();
    match trouble {
        Trouble::Kill => {
            let place = pick(&shared, &random, anyone);
            hold_down(&shared, place, some_time(0, 2 * ttl)).await;
        }
        Trouble::Restart => {
            let place = pick(&shared, &random, |role| role != Role::Executor);
            shared.processes()[place].process.terminate();
        }
        Trouble::Freeze => {
            let place = pick(&shared, &random, anyone);
            shared.processes()[place].process.freeze();
            tokio::time::sleep(some_time(50, 4 * ttl)).await;
            shared.processes()[place].process.thaw();
        }
        Trouble::OffBus => {
            let place = pick(&shared, &random, anyone);
            let peer = shared.processes()[place].process.peer;
            faults.set_off_bus(peer, true);
            tokio::time::sleep(some_time(50, 3 * ttl)).await;
            faults.set_off_bus(peer, false);
        }
        Trouble::OffStore => {
            let place = pick(&shared, &random, |role| role != Role::Executor);
            let peer = shared.processes()[place].process.peer;
            faults.set_off_store(peer, true);
            tokio::time::sleep(some_time(50, 4 * ttl)).await;
            faults.set_off_store(peer, false);
        }
        Trouble::Cut => {
            let (one, other) = (pick(&shared, &random, anyone), pick(&shared, &random, anyone));
            if one != other {
                let peers = {
                    let processes = shared.processes();
                    (processes[one].process.peer, processes[other].process.peer)
                };
                faults.set_cut(peers.0, peers.1, true);
                tokio::time::sleep(some_time(500, 8_000)).await;
                faults.set_cut(peers.0, peers.1, false);
            }
        }
        Trouble::BusAway => {
            faults.set_bus_away(true);
            tokio::time::sleep(some_time(50, 2 * ttl)).await;
            faults.set_bus_away(false);
        }
        Trouble::Wipe => shared.site.bus.lose_everything(),
        Trouble::Expire => expire(&shared, &random).await,
        Trouble::BadNet => {
            faults.set_net(NetChances {
                lost: random.below(250),
                doubled: random.below(250),
                late: random.below(250),
            });
            tokio::time::sleep(some_time(500, 8_000)).await;
            faults.set_net(NetChances::default());
        }
        Trouble::BadStore => {
            faults.set_store(StoreChances {
                refused: random.below(250),
                lost_answer: random.below(250),
                lands_late: random.below(250),
                hangs: random.below(100),
                conflict: random.below(100),
                read_fails: random.below(250),
                read_hangs: random.below(50),
            });
            tokio::time::sleep(some_time(500, 10_000)).await;
            faults.set_store(StoreChances::default());
        }
        Trouble::Jump => {
            // Simulated pods end by the wall clock, so a cluster's must not go back by hours.
            let place = pick(&shared, &random, |role| role != Role::Executor);
            let reach = if random.below(3) == 0 { 4_000_000 } else { 10_000 };
            let by = i64::try_from(random.below(2 * reach)).expect("it is hours");
            let reach = i64::try_from(reach).expect("it is hours");
            shared.processes()[place].process.jump(by - reach);
        }
        Trouble::ClusterGone => {
            let place = pick(&shared, &random, |role| role == Role::Executor);
            let timeout = shared.site.plan.shard.cluster_timeout.0;
            hold_down(&shared, place, timeout + some_time(1_000, 8_000)).await;
        }
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

/// Takes a lease away from its holder before its time.
async fn expire(shared: &Shared, random: &Random) {
    let ttl = Some(shared.site.plan.shard.lease_ttl.0);
    let Ok(bucket) = shared.site.bus.key_value(subject::LEASES_BUCKET, ttl).await else { return };
    let Ok(entries) = bucket.entries().await else { return };
    if entries.is_empty() {
        return;
    }
    let place = usize::try_from(random.below(entries.len() as u64)).expect("it is small");
    let key = &entries[place].key;
    note!(shared.site.trace, "lease {key} disappears");
    // A key that is gone already is what was wanted.
    let _ = bucket.delete(key, None).await;
}
