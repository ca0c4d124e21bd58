//! Preemption: which running jobs make room for a job that finds none.
//!
//! Two may be preempted: jobs of a lower class than the claimant's, and, where the claimant's queue
//! stays within its fair share with the job, jobs of its class in queues that stay above what is
//! protected of theirs without it. So nobody who was given room can lose it to whom it was taken
//! from: the one stays within his share, and the other above his own.

use std::collections::BTreeMap;

use super::fill::add;
use super::later::Later;
use super::nodes::{Indexing, Nodes, Wanted};
use super::order::Rank;
use super::ratio::{Part, dominant_resource};
use super::zones::Zones;
use super::{Cause, Problem, fair_shares};

pub(super) mod gangs;

/// Nodes that are looked at, at most, for one claim.
const NODES_MAX: usize = 64;
/// Nodes on which room could be made that are compared, at most, for one claim.
const CHOICES_MAX: usize = 8;
/// What a share may be off, in units of 2^-52, to count as equal: less than any job takes.
pub(super) const SLACK: i64 = 1 << 12;

/// Who looks for room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimant {
    pub(super) queue: u32,
    pub(super) shape: u32,
    /// The priority of its class.
    pub(super) priority: i32,
}

/// Running jobs that go: which of `running`, how many, and why.
pub(super) type Chosen = Vec<(u32, u64, Cause)>;

/// What may be preempted.
pub(super) struct Victims<'a> {
    problem: &'a Problem,
    /// `[running]`: how many are left.
    left: Vec<u64>,
    /// `[node]`: what runs there.
    on_node: Vec<Vec<u32>>,
    /// What runs of each gang of a queue: it goes as a whole.
    of_gang: BTreeMap<(u32, u32), Vec<u32>>,
    /// `[queue]`: its fair share, and what of it is protected.
    fair: Vec<(Part, Part)>,
    /// What may still be preempted in this round.
    budget: u64,
    /// For claimants above their fair share, and for those below.
    urgent: Option<Index>,
    entitled: Option<Index>,
}

/// The nodes by what they would have if all went that might have to go for a class.
struct Index {
    priority: i32,
    nodes: Nodes,
    /// `[shape]`: none for shapes of other classes, and for those that no node could hold.
    wanted: Vec<Option<Wanted>>,
}

/// What preempting costs: the highest class that loses jobs, then the work that is lost.
type Cost = (i32, u128);

impl<'a> Victims<'a> {
    pub(super) fn new(problem: &'a Problem) -> Victims<'a> {
        let mut on_node = vec![Vec::new(); problem.nodes.len()];
        let mut of_gang: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
        for (running, input) in (0..).zip(&problem.running) {
            on_node[input.node as usize].push(running);
            if let Some(gang) = problem.shapes[input.shape as usize].gang {
                of_gang.entry((input.queue, gang)).or_default().push(running);
            }
        }
        let demands: Vec<(u64, Vec<i64>)> =
            problem.queues.iter().map(|queue| (queue.weight, queue.demand.clone())).collect();
        let fair = fair_shares(&problem.total, &demands).into_iter().map(|share| {
            let fair = Part::about(share.ideal, SLACK);
            (fair, Part::about(share.ideal, -SLACK).times(problem.protected))
        });
        Victims {
            problem,
            left: problem.running.iter().map(|running| running.count).collect(),
            on_node,
            of_gang,
            fair: fair.collect(),
            budget: problem.preemptions_max,
            urgent: None,
            entitled: None,
        }
    }

    /// Jobs were placed, or are to be: nobody else can have their room.
    pub(super) fn taken(&mut self, node: u32, request: &[i64], count: u64) {
        for index in [&mut self.urgent, &mut self.entitled].into_iter().flatten() {
            index.nodes.set_aside(node, request, count);
        }
    }

    /// The node on which room is made for the claimant at the least cost, and who goes, if anybody
    /// has to; they count as gone. `held` is what each queue holds.
    pub(super) fn make_room(
        &mut self,
        claimant: Claimant,
        nodes: &Nodes,
        later: &Later,
        zones: &Zones,
        held: &dyn Fn(u32) -> Vec<i64>,
    ) -> Option<(u32, Chosen)> {
        if self.budget == 0 {
            return None;
        }
        let problem = self.problem;
        let mut with_it = held(claimant.queue);
        add(&mut with_it, problem.request_of(claimant.shape), 1);
        let (fair, _) = self.fair[claimant.queue as usize];
        let is_entitled = !Part::dominant(&problem.total, with_it.into_iter()).is_more_than(fair);
        let mut index = self.index(claimant.priority, is_entitled, nodes, later, zones, held);
        let best = self.cheapest(claimant, is_entitled, &mut index, nodes, later, held);
        *self.slot(is_entitled) = Some(index);
        let (_, node, chosen) = best?;
        for &(running, count, _) in &chosen {
            self.left[running as usize] -= count;
            self.budget = self.budget.saturating_sub(count);
        }
        Some((node, chosen))
    }

    fn slot(&mut self, is_entitled: bool) -> &mut Option<Index> {
        if is_entitled { &mut self.entitled } else { &mut self.urgent }
    }

    /// The index for claimants of a class, made at the first claim.
    fn index(
        &mut self,
        priority: i32,
        is_entitled: bool,
        nodes: &Nodes,
        later: &Later,
        zones: &Zones,
        held: &dyn Fn(u32) -> Vec<i64>,
    ) -> Index {
        let made = self.slot(is_entitled).take().filter(|index| index.priority == priority);
        made.unwrap_or_else(|| {
            let queues = 0..self.problem.queues.len() as u32;
            let above: Vec<bool> =
                queues.map(|queue| is_entitled && self.is_above(queue, held(queue))).collect();
            let may_go = |running: u32| {
                let input = &self.problem.running[running as usize];
                let of = self.problem.priority_of(input.shape);
                of < priority || (of == priority && above[input.queue as usize])
            };
            let mut room = Vec::with_capacity(self.problem.nodes.len() * self.problem.total.len());
            for (node, running) in self.on_node.iter().enumerate() {
                let start = room.len();
                room.extend(later.soon(nodes, node as u32));
                for running in running.iter().filter(|running| may_go(**running)) {
                    let shape = self.problem.running[*running as usize].shape;
                    let request = self.problem.request_of(shape);
                    add(&mut room[start..], request, self.left[*running as usize]);
                }
            }
            Index::new(self.problem, priority, room, zones)
        })
    }

    /// Whether a queue that holds so much has more than what is protected of its fair share.
    fn is_above(&self, queue: u32, held: Vec<i64>) -> bool {
        let (_, protected) = self.fair[queue as usize];
        Part::dominant(&self.problem.total, held.into_iter()).is_more_than(protected)
    }

    fn cheapest(
        &self,
        claimant: Claimant,
        is_entitled: bool,
        index: &mut Index,
        nodes: &Nodes,
        later: &Later,
        held: &dyn Fn(u32) -> Vec<i64>,
    ) -> Option<(Cost, u32, Chosen)> {
        let wanted = index.wanted[claimant.shape as usize].as_ref()?;
        let request = self.problem.request_of(claimant.shape);
        let (mut best, mut choices): (Option<(Cost, u32, Chosen)>, _) = (None, 0);
        let mut last: Option<Rank> = None;
        for _ in 0..NODES_MAX {
            let Some(next) = index.nodes.next_fit(wanted, request, last) else { break };
            let node = next.node();
            last = Some(next);
            let soon: Vec<i64> = later.soon(nodes, node).collect();
            let Some((cost, chosen)) = self.choose(claimant, is_entitled, node, &soon, held) else {
                continue;
            };
            if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                best = Some((cost, node, chosen));
            }
            choices += 1;
            if choices == CHOICES_MAX {
                break;
            }
        }
        best
    }

    /// Who would have to go from a node that will have `soon` free.
    fn choose(
        &self,
        claimant: Claimant,
        is_entitled: bool,
        node: u32,
        soon: &[i64],
        held: &dyn Fn(u32) -> Vec<i64>,
    ) -> Option<(Cost, Chosen)> {
        let mut lacking: Vec<i64> = self
            .problem
            .request_of(claimant.shape)
            .iter()
            .zip(soon)
            .map(|(asked, soon)| if *asked == 0 { i64::MIN } else { asked - soon })
            .collect();
        let mut holds: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
        let mut chosen = Chosen::new();
        if lacking.iter().all(|lacking| *lacking <= 0) {
            // A node that is closed in this round: nobody has to go.
            return Some(((i32::MIN, 0), chosen));
        }
        for (running, cause) in self.candidates(claimant, is_entitled, node) {
            let input = &self.problem.running[running as usize];
            let holds = match cause {
                Cause::Urgency => None,
                Cause::Fairness => {
                    Some(holds.entry(input.queue).or_insert_with(|| held(input.queue)))
                }
            };
            if self.problem.shapes[input.shape as usize].gang.is_some() {
                self.choose_gang(running, cause, holds, &mut lacking, &mut chosen);
            } else {
                self.choose_some(running, cause, holds, &mut lacking, &mut chosen);
            }
            if lacking.iter().all(|lacking| *lacking <= 0) {
                self.spare(&mut chosen, node, &lacking);
                let count: u64 = chosen.iter().map(|(_, count, _)| count).sum();
                let is_gang =
                    |(running, ..): &(u32, u64, Cause)| !self.gang_of(*running).is_empty();
                let may_all_go = match chosen.iter().any(is_gang) {
                    true => self.is_within_budget(count),
                    false => count <= self.budget,
                };
                return may_all_go.then(|| (self.cost(&chosen), chosen));
            }
        }
        None
    }

    /// Whether so many may go, where they go for a gang or are one: if that is more than a round
    /// may preempt, no others go in it.
    fn is_within_budget(&self, count: u64) -> bool {
        count <= self.budget || self.budget == self.problem.preemptions_max
    }

    /// As many of equal jobs as have to go, and may: their queue, if it is given with what it
    /// holds, stays above its share.
    fn choose_some(
        &self,
        running: u32,
        cause: Cause,
        mut holds: Option<&mut Vec<i64>>,
        lacking: &mut [i64],
        chosen: &mut Chosen,
    ) {
        let input = &self.problem.running[running as usize];
        let request = self.problem.request_of(input.shape);
        let mut count = 0;
        while count < self.left[running as usize] && helps(request, lacking) {
            if let Some(holds) = &mut holds {
                let mut without = holds.clone();
                take(&mut without, request, 1);
                if !self.is_above(input.queue, without.clone()) {
                    break;
                }
                **holds = without;
            }
            take(lacking, request, 1);
            count += 1;
        }
        if count > 0 {
            chosen.push((running, count, cause));
        }
    }

    /// The whole gang of which these jobs are, wherever it runs.
    fn choose_gang(
        &self,
        running: u32,
        cause: Cause,
        holds: Option<&mut Vec<i64>>,
        lacking: &mut [i64],
        chosen: &mut Chosen,
    ) {
        let input = &self.problem.running[running as usize];
        let is_chosen = chosen.iter().any(|(other, ..)| *other == running);
        if is_chosen || !helps(self.problem.request_of(input.shape), lacking) {
            return;
        }
        let all = self.gang_of(running);
        if let Some(holds) = holds {
            let mut without = holds.clone();
            for other in all {
                let shape = self.problem.running[*other as usize].shape;
                let count = i64::try_from(self.left[*other as usize]).unwrap_or(i64::MAX);
                take(&mut without, self.problem.request_of(shape), count);
            }
            if !self.is_above(input.queue, without.clone()) {
                return;
            }
            *holds = without;
        }
        for other in all.iter().filter(|other| self.left[**other as usize] > 0) {
            let (left, at) = (self.left[*other as usize], &self.problem.running[*other as usize]);
            chosen.push((*other, left, cause));
            if at.node == input.node {
                let count = i64::try_from(left).unwrap_or(i64::MAX);
                take(lacking, self.problem.request_of(at.shape), count);
            }
        }
    }

    fn gang_of(&self, running: u32) -> &[u32] {
        let input = &self.problem.running[running as usize];
        let gang = self.problem.shapes[input.shape as usize].gang;
        gang.and_then(|gang| self.of_gang.get(&(input.queue, gang))).map_or(&[], Vec::as_slice)
    }

    /// Who may go from a node for the claimant, the cheapest first.
    fn candidates(&self, claimant: Claimant, is_entitled: bool, node: u32) -> Vec<(u32, Cause)> {
        let may_go = |running: &u32| {
            let input = &self.problem.running[*running as usize];
            let priority = self.problem.priority_of(input.shape);
            let is_left = self.left[*running as usize] > 0;
            let is_fair = is_entitled && input.queue != claimant.queue;
            match priority.cmp(&claimant.priority) {
                std::cmp::Ordering::Less if is_left => Some((*running, Cause::Urgency)),
                std::cmp::Ordering::Equal if is_left && is_fair => {
                    Some((*running, Cause::Fairness))
                }
                _ => None,
            }
        };
        let mut found: Vec<_> = self.on_node[node as usize].iter().filter_map(may_go).collect();
        found.sort_by_key(|(running, _)| {
            (self.class_of(*running), self.work_of(*running), *running)
        });
        found
    }

    /// Spares those who need not go after all, the most expensive first. `lacking` is below zero by
    /// what there is too much on the node.
    fn spare(&self, chosen: &mut Chosen, node: u32, lacking: &[i64]) {
        let mut lacking = lacking.to_vec();
        for place in (0..chosen.len()).rev() {
            let (running, count, _) = chosen[place];
            let gang = self.gang_of(running).to_vec();
            let mut gives = vec![0; lacking.len()];
            if gang.is_empty() {
                let shape = self.problem.running[running as usize].shape;
                add(&mut gives, self.problem.request_of(shape), 1);
            }
            let here = |other: &&u32| self.problem.running[**other as usize].node == node;
            for other in gang.iter().filter(here) {
                let shape = self.problem.running[*other as usize].shape;
                add(&mut gives, self.problem.request_of(shape), self.left[*other as usize]);
            }
            let amounts = gives.iter().zip(&lacking);
            let amounts = amounts.filter(|(gives, lack)| **gives > 0 && **lack > i64::MIN / 2);
            let times = amounts.map(|(gives, lack)| u64::try_from(-lack / gives).unwrap_or(0));
            let whole = if gang.is_empty() { count } else { count.min(1) };
            let spared = times.min().unwrap_or(whole).min(whole);
            add(&mut lacking, &gives, spared);
            if gang.is_empty() {
                chosen[place].1 -= spared;
            } else if spared > 0 {
                let goes = chosen.iter_mut().filter(|(other, ..)| gang.contains(other));
                goes.for_each(|(_, count, _)| *count = 0);
            }
        }
        chosen.retain(|(_, count, _)| *count > 0);
    }

    fn cost(&self, chosen: &Chosen) -> Cost {
        let class = chosen.iter().map(|(running, ..)| self.class_of(*running)).max();
        let work = chosen
            .iter()
            .map(|(running, count, _)| self.work_of(*running).saturating_mul(u128::from(*count)));
        (class.unwrap_or(i32::MIN), work.fold(0, u128::saturating_add))
    }

    fn class_of(&self, running: u32) -> i32 {
        self.problem.priority_of(self.problem.running[running as usize].shape)
    }

    /// The work that is lost with one job: its part of the pool by the time it has run.
    fn work_of(&self, running: u32) -> u128 {
        let input = &self.problem.running[running as usize];
        let request = self.problem.request_of(input.shape).iter().copied();
        let part = Part::dominant(&self.problem.total, request).rounded_up();
        u128::from(part) * (u128::from(input.age) + 1)
    }
}

impl Index {
    fn new(problem: &Problem, priority: i32, room: Vec<i64>, zones: &Zones) -> Index {
        let open = zones.of_node.clone();
        let mut indexing = Indexing::new(room, problem.total.len(), open, zones);
        let shapes = 0..problem.shapes.len() as u32;
        let wanted = shapes.map(|shape| {
            let is_of_class = problem.priority_of(shape) == priority;
            let row = zones.row_of(shape);
            (is_of_class && !zones.of_row(row).is_empty()).then(|| {
                let request = problem.request_of(shape);
                let dominant = dominant_resource(&problem.total, request).unwrap_or(0);
                indexing.wanted(dominant, request, row)
            })
        });
        let wanted = wanted.collect();
        let nodes = indexing.finish();
        Index { priority, nodes, wanted }
    }
}

/// Whether a job that takes `request` has something of what is lacking.
fn helps(request: &[i64], lacking: &[i64]) -> bool {
    request.iter().zip(lacking).any(|(request, lacking)| *request > 0 && *lacking > 0)
}

fn take(amounts: &mut [i64], request: &[i64], count: i64) {
    for (amount, request) in amounts.iter_mut().zip(request) {
        *amount = amount.saturating_sub(request.saturating_mul(count));
    }
}
