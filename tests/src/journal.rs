//! What shard workers tell in their logs: who owns which shard, and who leads. For deployments that
//! log JSON ([`JSON`]).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use muster_core::route::worker_of_lease;
use serde_json::{Map, Value};

use crate::deployment::Member;

/// The setting without which there is nothing to read here.
pub const JSON: (&str, &str) = ("MUSTER_LOG_FORMAT", "json");

/// One ownership of a shard, as its owner tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// The shard.
    pub shard: u16,
    /// The sequence number of its fence.
    pub epoch: u64,
    /// The last sequence number that it knew to be durable, once it has ended.
    pub durable: Option<u64>,
}

/// Who holds what at a moment: workers by their place in the deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holders {
    /// The owner of each shard and its epoch.
    pub owners: BTreeMap<u16, (usize, u64)>,
    /// The leader of the pool.
    pub leader: Option<usize>,
}

/// Every ownership that a worker told of, in its last life only.
///
/// # Errors
/// When its log cannot be read.
pub fn ownerships(worker: &Member) -> Result<Vec<Ownership>> {
    let mut all = Vec::new();
    for entry in entries(worker)? {
        match entry.message() {
            "worker started" => all.clear(),
            "shard taken over" => {
                let (shard, epoch) = (entry.shard()?, entry.number("epoch")?);
                all.push(Ownership { shard, epoch, durable: None });
            }
            "shard no longer owned" => {
                let (shard, epoch) = (entry.shard()?, entry.number("epoch")?);
                let durable = entry.number("durable")?;
                let ended = all.iter_mut().find(|one| (one.shard, one.epoch) == (shard, epoch));
                ended.context("an ownership ended that had not begun")?.durable = Some(durable);
            }
            _ => {}
        }
    }
    Ok(all)
}

/// Who holds what: of several that believe in one shard, the one with the highest epoch; of several
/// that lead, the one that began last. `absent` workers hold nothing.
///
/// # Errors
/// When a log cannot be read.
pub fn holders(workers: &[Member], absent: &[usize]) -> Result<Holders> {
    let mut owners = BTreeMap::new();
    let mut leading = BTreeMap::new();
    for (place, worker) in workers.iter().enumerate().filter(|(place, _)| !absent.contains(place)) {
        for ownership in ownerships(worker)?.into_iter().filter(|one| one.durable.is_none()) {
            let owner = owners.entry(ownership.shard).or_insert((place, ownership.epoch));
            if owner.1 < ownership.epoch {
                *owner = (place, ownership.epoch);
            }
        }
        for entry in entries(worker)? {
            match entry.message() {
                "leading pool" => leading.insert(place, entry.text("timestamp")?.to_owned()),
                "no longer leading pool" | "worker started" => leading.remove(&place),
                _ => None,
            };
        }
    }
    let leader = leading.into_iter().max_by(|(_, a), (_, b)| a.cmp(b)).map(|(place, _)| place);
    Ok(Holders { owners, leader })
}

/// Who holds what, once every shard is where rendezvous hashing has it and somebody leads: nobody
/// hands over any more. A pool stays with its leader, whoever that is, unless others lead fewer.
///
/// # Errors
/// While it is not so.
pub fn settled(workers: &[Member], shards: u16) -> Result<Holders> {
    let names = workers.iter().map(name).collect::<Result<Vec<_>>>()?;
    let chosen = |lease: &str| {
        let name = worker_of_lease(lease, names.iter().map(String::as_str));
        names.iter().position(|other| Some(other.as_str()) == name)
    };
    let holders = holders(workers, &[])?;
    for shard in 0..shards {
        let owner = holders.owners.get(&shard).map(|(place, _)| *place);
        let wanted = chosen(&format!("shard.{shard}"));
        ensure!(owner == wanted, "shard {shard} is owned by {owner:?} and not by {wanted:?}");
    }
    ensure!(holders.leader.is_some(), "nobody leads");
    Ok(holders)
}

/// Lines of a member's log that say this.
///
/// # Errors
/// When its log cannot be read.
pub fn said(member: &Member, message: &str) -> Result<Vec<Map<String, Value>>> {
    let entries = entries(member)?.into_iter().filter(|entry| entry.message() == message);
    Ok(entries.map(|entry| entry.0).collect())
}

/// What a worker calls itself.
fn name(worker: &Member) -> Result<String> {
    let started = said(worker, "worker started")?;
    let last = started.into_iter().last().map(Entry).context("it has not started yet")?;
    last.text("worker").map(str::to_owned)
}

/// Shards of which some ownership is named.
#[must_use]
pub fn shards_of(holders: &Holders, worker: usize) -> BTreeSet<u16> {
    let its = holders.owners.iter().filter(|(_, (place, _))| *place == worker);
    its.map(|(shard, _)| *shard).collect()
}

/// A line of a log.
struct Entry(Map<String, Value>);

/// What is no JSON object was not written by the log: the last words of a panic, say.
fn entries(member: &Member) -> Result<Vec<Entry>> {
    let log = member.log()?;
    Ok(log.lines().filter_map(|line| serde_json::from_str(line).ok().map(Entry)).collect())
}

impl Entry {
    fn message(&self) -> &str {
        self.text("message").unwrap_or_default()
    }

    fn text(&self, field: &str) -> Result<&str> {
        let text = self.0.get(field).and_then(Value::as_str);
        text.with_context(|| format!("no text `{field}` in {:?}", self.0))
    }

    fn number(&self, field: &str) -> Result<u64> {
        let number = self.0.get(field).and_then(Value::as_u64);
        number.with_context(|| format!("no number `{field}` in {:?}", self.0))
    }

    fn shard(&self) -> Result<u16> {
        Ok(self.text("shard")?.parse()?)
    }
}
