//! What goes wrong, when, where and for how long: data that follow from a seed alone.

use std::time::Duration;

use muster_runtime::random::Random;
use serde::{Deserialize, Serialize};

use super::plant::Size;

/// A fault has come to its end when this part of its slot is over.
const LASTS_MAX: f64 = 0.7;
/// And is not over before this part.
const LASTS_MIN: f64 = 0.3;
/// It begins within this part.
const BEGINS_MAX: f64 = 0.2;

/// A way to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// SIGKILL to a gateway, started again later.
    KillGateway,
    /// SIGKILL to a shard worker, started again later.
    KillShard,
    /// SIGKILL to an executor, started again later.
    KillExecutor,
    /// SIGKILL to a NATS node, started again later.
    KillNats,
    /// SIGKILL to the S3 server, started again later.
    KillStore,
    /// SIGSTOP to a gateway, SIGCONT later.
    FreezeGateway,
    /// SIGSTOP to a shard worker, SIGCONT later.
    FreezeShard,
    /// SIGSTOP to an executor, SIGCONT later.
    FreezeExecutor,
    /// SIGSTOP to a NATS node, SIGCONT later.
    FreezeNats,
    /// SIGSTOP to the S3 server, SIGCONT later.
    FreezeStore,
    /// SIGTERM to a role, started again later.
    RestartRole,
    /// A role's connections to NATS are closed and refused.
    CutBus,
    /// Nothing comes through a role's connections to NATS.
    SilenceBus,
    /// A role's connections to the S3 server are closed and refused.
    CutStore,
    /// Nothing comes through a role's connections to the S3 server.
    SilenceStore,
    /// All that a role sends and hears is late.
    SlowLinks,
    /// A NATS node loses all its data.
    WipeNode,
    /// Every NATS node loses all its data at once.
    WipeBus,
    /// The disk of the S3 server is full.
    FillStore,
    /// The disk of a NATS node is full.
    FillNode,
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// When it begins.
    pub at: Duration,
    /// How.
    pub kind: Kind,
    /// Where: the number of the victim among those that the kind can befall.
    pub target: usize,
    /// When it is put right, counted from its beginning.
    pub lasts: Duration,
}

/// Kinds that befall what is Muster's own.
const OF_ROLES: [Kind; 12] = [
    Kind::KillGateway,
    Kind::KillShard,
    Kind::KillExecutor,
    Kind::FreezeGateway,
    Kind::FreezeShard,
    Kind::FreezeExecutor,
    Kind::RestartRole,
    Kind::CutBus,
    Kind::SilenceBus,
    Kind::CutStore,
    Kind::SilenceStore,
    Kind::SlowLinks,
];
/// Kinds that befall what it stands on.
const OF_SERVERS: [Kind; 8] = [
    Kind::KillNats,
    Kind::KillStore,
    Kind::FreezeNats,
    Kind::FreezeStore,
    Kind::WipeNode,
    Kind::WipeBus,
    Kind::FillStore,
    Kind::FillNode,
];
/// The longest slots: how rare faults of roles and of servers are when there is time.
const ROLES_SLOT_MAX: Duration = Duration::from_secs(7);
const SERVERS_SLOT_MAX: Duration = Duration::from_secs(10);

impl Kind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        OF_ROLES.into_iter().chain(OF_SERVERS)
    }

    /// Whether it needs a disk that can be filled.
    pub fn needs_disks(self) -> bool {
        matches!(self, Self::FillStore | Self::FillNode)
    }

    /// How many there are that it can befall.
    pub fn targets(self, size: &Size) -> usize {
        match self {
            Self::KillGateway | Self::FreezeGateway => size.gateways,
            Self::KillShard | Self::FreezeShard => size.shards,
            Self::KillExecutor | Self::FreezeExecutor => size.executors,
            Self::KillNats | Self::FreezeNats | Self::WipeNode | Self::FillNode => size.nats,
            Self::KillStore | Self::FreezeStore | Self::WipeBus | Self::FillStore => 1,
            Self::RestartRole | Self::CutBus | Self::SilenceBus | Self::SlowLinks => size.roles(),
            Self::CutStore | Self::SilenceStore => size.gateways + size.shards,
        }
    }

    /// A few words for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillGateway => "gateway killed",
            Self::KillShard => "shard worker killed",
            Self::KillExecutor => "executor killed",
            Self::KillNats => "NATS node killed",
            Self::KillStore => "S3 server killed",
            Self::FreezeGateway => "gateway stopped and continued",
            Self::FreezeShard => "shard worker stopped and continued",
            Self::FreezeExecutor => "executor stopped and continued",
            Self::FreezeNats => "NATS node stopped and continued",
            Self::FreezeStore => "S3 server stopped and continued",
            Self::RestartRole => "role restarted in order",
            Self::CutBus => "role cut off from NATS",
            Self::SilenceBus => "role hears nothing of NATS",
            Self::CutStore => "role cut off from S3",
            Self::SilenceStore => "role hears nothing of S3",
            Self::SlowLinks => "role's network slow",
            Self::WipeNode => "NATS node wiped",
            Self::WipeBus => "all of NATS wiped",
            Self::FillStore => "disk of S3 full",
            Self::FillNode => "disk of a NATS node full",
        }
    }
}

/// The faults of a seed within `window`, in the order in which they begin. Roles and servers have a
/// sequence of faults each, side by side; within one, a fault is put right before the next begins.
/// Each of these kinds occurs, and no other.
pub fn schedule(seed: u64, window: Duration, size: &Size, kinds: &[Kind]) -> Vec<Fault> {
    let random = Random::seeded(seed);
    let among = |all: &[Kind]| {
        let kinds = all.iter().filter(|kind| kinds.contains(kind));
        kinds.copied().collect::<Vec<_>>()
    };
    let mut all = sequence(&among(&OF_ROLES), ROLES_SLOT_MAX, window, size, &random);
    all.extend(sequence(&among(&OF_SERVERS), SERVERS_SLOT_MAX, window, size, &random));
    all.sort_by_key(|fault| fault.at);
    all
}

fn sequence(
    kinds: &[Kind],
    slot_max: Duration,
    window: Duration,
    size: &Size,
    random: &Random,
) -> Vec<Fault> {
    if kinds.is_empty() {
        return Vec::new();
    }
    let fitting = (window.as_secs_f64() / slot_max.as_secs_f64()) as usize;
    let slots = fitting.max(kinds.len());
    let slot = window.div_f64(slots as f64);
    let mut deck: Vec<Kind> = Vec::new();
    let fault = |number: usize| {
        if deck.is_empty() {
            deck = shuffled(kinds, random);
        }
        let kind = deck.pop().expect("it was filled");
        let begins = slot.mul_f64(random.unit() * BEGINS_MAX);
        let lasts = slot.mul_f64(LASTS_MIN + random.unit() * (LASTS_MAX - LASTS_MIN));
        let at = slot.mul_f64(number as f64) + begins;
        Fault { at, kind, target: below(kind.targets(size), random), lasts }
    };
    (0..slots).map(fault).collect()
}

fn shuffled(kinds: &[Kind], random: &Random) -> Vec<Kind> {
    let mut deck = kinds.to_vec();
    for last in (1..deck.len()).rev() {
        deck.swap(last, below(last + 1, random));
    }
    deck
}

fn below(bound: usize, random: &Random) -> usize {
    usize::try_from(random.below(bound as u64)).expect("it is below a usize")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn all() -> Vec<Kind> {
        Kind::all().collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_one_another() {
        let of = |seed| schedule(seed, MINUTE, &Size::default(), &all());
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn every_kind_of_fault_occurs_within_a_minute_whatever_the_seed() {
        for seed in 0..200 {
            let faults = schedule(seed, MINUTE, &Size::default(), &all());
            let kinds = faults.iter().map(|fault| fault.kind).collect::<BTreeSet<_>>();
            assert_eq!(kinds, Kind::all().collect(), "seed {seed}");
            assert!(faults.iter().all(|fault| fault.at + fault.lasts < MINUTE), "seed {seed}");
            let size = Size::default();
            assert!(faults.iter().all(|fault| fault.target < fault.kind.targets(&size)));
        }
    }

    #[test]
    fn what_befalls_roles_and_what_befalls_servers_is_put_right_before_the_next() {
        for seed in 0..50 {
            for window in [MINUTE, 5 * MINUTE] {
                let faults = schedule(seed, window, &Size::default(), &all());
                for of in [&OF_ROLES[..], &OF_SERVERS[..]] {
                    let mut of = faults.iter().filter(|fault| of.contains(&fault.kind));
                    let mut free = Duration::ZERO;
                    assert!(of.all(|fault| {
                        let is_free = free < fault.at;
                        free = fault.at + fault.lasts;
                        is_free
                    }));
                }
            }
        }
    }

    #[test]
    fn only_what_is_wanted_occurs_and_a_long_run_has_more_of_it() {
        let wanted = [Kind::KillShard, Kind::WipeBus];
        let faults = schedule(1, MINUTE, &Size::default(), &wanted);
        assert!(faults.iter().all(|fault| wanted.contains(&fault.kind)));
        assert_eq!(faults.len(), 8 + 6);
        assert!(schedule(1, 5 * MINUTE, &Size::default(), &all()).len() > 60);
    }
}
