//! Who makes room for a gang: for all of it on nodes of one domain, or nobody goes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{Chosen, Claimant, Cost, Part, Victims, add, take};
use crate::solve::Cause;
use crate::solve::later::Later;
use crate::solve::nodes::Nodes;
use crate::solve::order::times;

/// Domains in which room could be made that are compared, at most, for one gang.
const DOMAINS_MAX: usize = 8;

/// Jobs of one shape of a gang.
#[derive(Debug, Clone, Copy)]
pub(in crate::solve) struct Members {
    pub(in crate::solve) shape: u32,
    pub(in crate::solve) count: u64,
}

/// Where the members go, by which of them, node and number; and who goes for them.
pub(in crate::solve) struct Room {
    pub(in crate::solve) places: Vec<(usize, u32, u64)>,
    pub(in crate::solve) chosen: Chosen,
    cost: Cost,
}

/// A domain as it would be with some of a gang on it.
struct Trial<'a> {
    claimant: Claimant,
    is_entitled: bool,
    /// What each node will have.
    rows: BTreeMap<u32, Vec<i64>>,
    /// What each queue has lost so far.
    lost: BTreeMap<u32, Vec<i64>>,
    held: &'a dyn Fn(u32) -> Vec<i64>,
    room: Room,
}

/// Nodes by what one more member there costs.
#[derive(Default)]
struct Choices {
    by_cost: BTreeSet<(Cost, u32)>,
    by_node: BTreeMap<u32, Cost>,
}

impl Choices {
    fn set(&mut self, node: u32, cost: Option<Cost>) {
        if let Some(before) = self.by_node.remove(&node) {
            self.by_cost.remove(&(before, node));
        }
        if let Some(cost) = cost {
            self.by_node.insert(node, cost);
            self.by_cost.insert((cost, node));
        }
    }

    fn cheapest(&self) -> Option<(Cost, u32)> {
        self.by_cost.first().copied()
    }
}

impl Victims<'_> {
    /// The room that costs least among the domains, and who goes, if anybody has to; they count as
    /// gone. What `budget` allows for a round is no bound to a gang that comes first in one.
    pub(in crate::solve) fn make_room_for_gang(
        &mut self,
        claimant: Claimant,
        members: &[Members],
        domains: &[&[u32]],
        (nodes, later): (&Nodes, &Later),
        held: &dyn Fn(u32) -> Vec<i64>,
    ) -> Option<Room> {
        let problem = self.problem;
        let mut with_it = held(claimant.queue);
        for member in members {
            add(&mut with_it, problem.request_of(member.shape), member.count);
        }
        let (fair, _) = self.fair[claimant.queue as usize];
        let is_entitled = !Part::dominant(&problem.total, with_it.into_iter()).is_more_than(fair);
        let mut trials = Vec::new();
        for domain in domains {
            let rows = domain.iter().map(|node| (*node, later.soon(nodes, *node).collect()));
            let rows: BTreeMap<u32, Vec<i64>> = rows.collect();
            if let Some(room) = self.could_hold(claimant, is_entitled, &rows, members) {
                trials.push((Reverse(room), rows));
            }
        }
        trials.sort_by_key(|(room, rows)| (*room, rows.first_key_value().map(|(node, _)| *node)));
        let mut best: Option<Room> = None;
        for (_, rows) in trials.into_iter().take(DOMAINS_MAX) {
            let mut trial = Trial {
                claimant,
                is_entitled,
                rows,
                lost: BTreeMap::new(),
                held,
                room: Room { places: Vec::new(), chosen: Chosen::new(), cost: (i32::MIN, 0) },
            };
            let fits = self.try_members(&mut trial, members);
            let room = trial.room;
            for (running, count, _) in &room.chosen {
                self.left[*running as usize] += count;
            }
            if fits && best.as_ref().is_none_or(|best| room.cost < best.cost) {
                best = Some(room);
            }
        }
        let room = best?;
        for (running, count, _) in &room.chosen {
            self.left[*running as usize] -= count;
        }
        let gone: u64 = room.chosen.iter().map(|(_, count, _)| count).sum();
        self.budget = self.budget.saturating_sub(gone);
        Some(room)
    }

    /// How many of the first members have room on these nodes as they will be, if all of them would
    /// with everybody gone who might have to go.
    fn could_hold(
        &self,
        claimant: Claimant,
        is_entitled: bool,
        rows: &BTreeMap<u32, Vec<i64>>,
        members: &[Members],
    ) -> Option<u64> {
        let (mut soon, mut room) = (0_u64, vec![0_u64; members.len()]);
        for (node, row) in rows {
            let mut row = row.clone();
            let group = self.problem.nodes[*node as usize].group as usize;
            let admits = |shape: u32| self.problem.admits[shape as usize][group];
            let times = |row: &[i64], shape: u32| {
                if admits(shape) { times(row, self.problem.request_of(shape)) } else { 0 }
            };
            soon = soon.saturating_add(members.first().map_or(0, |first| times(&row, first.shape)));
            for (running, _) in self.candidates(claimant, is_entitled, *node) {
                let shape = self.problem.running[running as usize].shape;
                add(&mut row, self.problem.request_of(shape), self.left[running as usize]);
            }
            for (room, member) in room.iter_mut().zip(members) {
                *room = room.saturating_add(times(&row, member.shape));
            }
        }
        room.iter().zip(members).all(|(room, member)| *room >= member.count).then_some(soon)
    }

    /// Puts all members on nodes of the domain, one after the other where it costs least.
    fn try_members(&mut self, trial: &mut Trial<'_>, members: &[Members]) -> bool {
        let mut gone = 0;
        for (place, member) in members.iter().enumerate() {
            trial.claimant.shape = member.shape;
            let mut choices = Choices::default();
            let all: Vec<u32> = trial.rows.keys().copied().collect();
            for node in all {
                choices.set(node, self.choice(trial, node).map(|(cost, _)| cost));
            }
            let mut left = member.count;
            while left > 0 {
                let Some((cost, node)) = choices.cheapest() else { return false };
                // Who has lost enough by now may lose no more elsewhere.
                let chosen = match self.choice(trial, node) {
                    Some((now, chosen)) if now <= cost => chosen,
                    other => {
                        choices.set(node, other.map(|(now, _)| now));
                        continue;
                    }
                };
                gone += chosen.iter().map(|(_, count, _)| count).sum::<u64>();
                if !self.is_within_budget(gone) {
                    return false;
                }
                let touched = self.give_up(trial, cost, &chosen);
                let row = trial.rows.get_mut(&node).expect("it is a node of the domain");
                take(row, self.problem.request_of(member.shape), 1);
                left -= 1;
                match trial.room.places.last_mut() {
                    Some(last) if (last.0, last.1) == (place, node) => last.2 += 1,
                    _ => trial.room.places.push((place, node, 1)),
                }
                for node in touched.into_iter().chain([node]) {
                    choices.set(node, self.choice(trial, node).map(|(cost, _)| cost));
                }
            }
        }
        true
    }

    /// What one more member on a node costs, if it can be had.
    fn choice(&self, trial: &Trial<'_>, node: u32) -> Option<(Cost, Chosen)> {
        let group = self.problem.nodes[node as usize].group as usize;
        if !self.problem.admits[trial.claimant.shape as usize][group] {
            return None;
        }
        let held = |queue: u32| {
            let mut held = (trial.held)(queue);
            if let Some(lost) = trial.lost.get(&queue) {
                take(&mut held, lost, 1);
            }
            held
        };
        let row = &trial.rows[&node];
        self.choose(trial.claimant, trial.is_entitled, node, row, &held)
    }

    /// Counts those as gone who make room for one more member; the other nodes that it changes.
    fn give_up(&mut self, trial: &mut Trial<'_>, cost: Cost, chosen: &Chosen) -> Vec<u32> {
        let (class, work) = trial.room.cost;
        trial.room.cost = (class.max(cost.0), work.saturating_add(cost.1));
        let mut touched = Vec::new();
        for &(running, count, cause) in chosen {
            self.left[running as usize] -= count;
            let input = &self.problem.running[running as usize];
            let request = self.problem.request_of(input.shape);
            let none = || vec![0; request.len()];
            add(trial.lost.entry(input.queue).or_insert_with(none), request, count);
            if let Some(row) = trial.rows.get_mut(&input.node) {
                add(row, request, count);
                touched.push(input.node);
            }
            note(&mut trial.room.chosen, running, count, cause);
        }
        touched.dedup();
        touched
    }
}

/// Adds to who goes, to the last entry where it is of the same.
fn note(chosen: &mut Chosen, running: u32, count: u64, cause: Cause) {
    match chosen.iter_mut().find(|(other, _, why)| (*other, *why) == (running, cause)) {
        Some((_, before, _)) => *before += count,
        None => chosen.push((running, count, cause)),
    }
}
