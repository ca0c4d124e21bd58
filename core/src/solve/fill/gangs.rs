//! Gangs: jobs that run together or not at all, on one cluster and, where they ask for it, on nodes
//! with one value of a label.
//!
//! A gang is placed by best fit too: in the domain (cluster and value) with the least room of those
//! that hold all of it. Where there is none it claims room for all of it at once: what will be free
//! soon, what preempting makes, or, if it is overdue, what is kept for it, where it is sure to have
//! it first.

mod keeping;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::rows::Rows;
use super::{Out, Round, Turn, add, take};
use crate::solve::order::times;
use crate::solve::ratio::Part;
use crate::solve::victims::Claimant;
use crate::solve::victims::gangs::Members;
use crate::solve::{Claim, ClaimedFrom, Pick, Preemption, Reason};

/// Gangs, at most, for which room is looked for that is not free: for each, whole domains are
/// looked at.
const CLAIMS_MAX: usize = 64;

/// What became of a gang.
pub(super) enum Outcome {
    /// It is placed, or room is kept for it.
    Placed,
    /// It is not, and its queue is at the run behind it.
    Refused,
}

/// What a round knows of gangs.
pub(super) struct Known {
    /// By label, the domains of nodes: those that are open, then those that are closed.
    domains: BTreeMap<Option<u32>, Vec<Domain>>,
    /// Gangs of one shape that found no room: what equals them and is no smaller finds none either.
    in_vain: BTreeMap<Alike, u64>,
    /// For how many more of them room is looked for that is not free.
    claims_left: usize,
}

impl Known {
    pub(super) fn new() -> Self {
        Self { domains: BTreeMap::new(), in_vain: BTreeMap::new(), claims_left: CLAIMS_MAX }
    }
}

/// What makes gangs of one shape equal: the request, the zones, the label.
type Alike = (Vec<i64>, Vec<u32>, Option<u32>);

/// Nodes of one cluster with one value of a label.
struct Domain {
    nodes: Vec<u32>,
}

/// Jobs of one run of a gang.
#[derive(Clone, Copy)]
pub(super) struct Member {
    run: u32,
    pub(super) shape: u32,
    count: u64,
}

/// What is placed where: which member, the node, how many.
pub(super) type Places = Vec<(Member, u32, u64)>;

impl Round<'_> {
    /// Places the gang whose first run the queue is at.
    pub(super) fn place_gang(&mut self, turn: Turn, gang: u32) -> Outcome {
        let members = self.members(turn, gang);
        let behind = self.queues[turn.queue as usize].run + members.len();
        let whole: u64 = members.iter().map(|member| member.count).sum();
        let reason = match self.allows_gang(turn.queue, gang, &members, whole) {
            Err(reason) => reason,
            Ok(()) => match self.places_for_gang(gang, &members) {
                Some(places) => {
                    self.take_places(turn, &places, None);
                    return self.past_gang(turn, behind, Outcome::Placed);
                }
                None if self.backfill_gang(turn, gang, &members) => {
                    return self.past_gang(turn, behind, Outcome::Placed);
                }
                None if self.claims_for_gang(turn, gang, &members) => {
                    for member in &members {
                        self.refuse(turn.queue, member.run as usize, member.count, Reason::Claimed);
                    }
                    return self.past_gang(turn, behind, Outcome::Placed);
                }
                None => self.why_no_gang(&members),
            },
        };
        for member in &members {
            self.refuse(turn.queue, member.run as usize, member.count, reason);
        }
        self.past_gang(turn, behind, Outcome::Refused)
    }

    fn past_gang(&mut self, turn: Turn, behind: usize, outcome: Outcome) -> Outcome {
        let at = &mut self.queues[turn.queue as usize];
        at.start_run(behind, &self.problem.queues[turn.queue as usize]);
        outcome
    }

    /// The gang's runs: those next to each other from where the queue is.
    fn members(&self, turn: Turn, gang: u32) -> Vec<Member> {
        let first = self.queues[turn.queue as usize].run;
        let runs = self.problem.queues[turn.queue as usize].runs[first..].iter();
        let of_gang =
            runs.take_while(|run| self.problem.shapes[run.shape as usize].gang == Some(gang));
        (first as u32..)
            .zip(of_gang)
            .map(|(run, input)| Member { run, shape: input.shape, count: input.count })
            .collect()
    }

    /// Whether the gang is whole, and no limit keeps a part of it out.
    fn allows_gang(
        &mut self,
        queue: u32,
        gang: u32,
        members: &[Member],
        whole: u64,
    ) -> Result<(), Reason> {
        if whole < self.problem.gangs[gang as usize].cardinality {
            return Err(Reason::GangIncomplete(u32::try_from(whole).unwrap_or(u32::MAX)));
        }
        if self.queues[queue as usize].picks_left < whole {
            return Err(Reason::Rate);
        }
        if self.problem.picks_max - self.plan.figures.placed < whole {
            return Err(Reason::Budget);
        }
        let mut caps = self.caps.clone();
        let input = &self.problem.queues[queue as usize];
        for member in members {
            let class = self.problem.shapes[member.shape as usize].class;
            let request = self.problem.request_of(member.shape);
            let room = caps.room(input, class, request).map_err(Reason::Cap)?;
            if room < member.count {
                caps.take(input, class, request, room);
                caps.room(input, class, request).map_err(Reason::Cap)?;
            }
            caps.take(input, class, request, member.count);
        }
        Ok(())
    }

    fn why_no_gang(&self, members: &[Member]) -> Reason {
        let never =
            members.iter().any(|member| self.shapes[member.shape as usize].out == Some(Out::Never));
        if never { Reason::NeverFits } else { Reason::NoRoomNow }
    }

    /// Where the whole gang goes now: the domain with the least room that holds it.
    fn places_for_gang(&mut self, gang: u32, members: &[Member]) -> Option<Places> {
        let uniform = self.problem.gangs[gang as usize].uniform;
        let alike = match members {
            [one] => {
                let request = self.problem.request_of(one.shape).to_vec();
                Some((request, self.zones.of_shape(one.shape).to_vec(), uniform))
            }
            _ => None,
        };
        let is_in_vain = |alike: &Alike| {
            let tried = self.gangs.in_vain.get(alike);
            tried.is_some_and(|tried| members.iter().any(|member| member.count >= *tried))
        };
        if alike.as_ref().is_some_and(is_in_vain) {
            return None;
        }
        let found = self.best_domain(uniform, members, None);
        if let (None, Some(alike), [one]) = (&found, alike, members) {
            self.gangs.in_vain.insert(alike, one.count);
        }
        found
    }

    /// The domain with the least room that holds all members: of what is free, and, for a gang that
    /// is known to last so long, of what is kept for longer.
    pub(super) fn best_domain(
        &mut self,
        uniform: Option<u32>,
        members: &[Member],
        lasts: Option<u64>,
    ) -> Option<Places> {
        self.plan.figures.searches += 1;
        let domains = self.domains(uniform);
        let mut rooms: Vec<(u128, usize)> = Vec::new();
        for (number, domain) in domains.iter().enumerate() {
            let room = |member: &Member| self.room_in(domain, member.shape, lasts);
            let holds_each = members.iter().all(|member| room(member) >= u128::from(member.count));
            if let Some(first) = members.first().filter(|_| holds_each) {
                rooms.push((room(first), number));
            }
        }
        rooms.sort_unstable();
        let found = rooms.into_iter().find_map(|(_, number)| {
            let mut rows = Rows::new(self.problem.total.len());
            let open = domains[number].nodes.iter().copied();
            for node in open.filter(|node| !self.problem.nodes[*node as usize].is_closed) {
                rows.push(node, self.free_for(node, lasts).iter().copied());
            }
            self.fit_gang(members, rows, Reverse)
        });
        self.gangs.domains.insert(uniform, domains);
        found
    }

    /// What a node has free for what lasts so long, if that is known.
    fn free_for(&self, node: u32, lasts: Option<u64>) -> &[i64] {
        let kept = lasts.and_then(|lasts| self.kept.free_for(node, lasts));
        kept.unwrap_or_else(|| self.nodes.free_of(node))
    }

    /// How many jobs of a shape that last so long the open nodes of a domain hold.
    fn room_in(&self, domain: &Domain, shape: u32, lasts: Option<u64>) -> u128 {
        let request = self.problem.request_of(shape);
        let open = domain.nodes.iter().filter(|node| {
            let node = &self.problem.nodes[**node as usize];
            !node.is_closed && self.problem.admits[shape as usize][node.group as usize]
        });
        open.map(|node| u128::from(times(self.free_for(*node, lasts), request))).sum()
    }

    /// The domains of a label, which are to be put back.
    fn domains(&mut self, uniform: Option<u32>) -> Vec<Domain> {
        self.gangs.domains.remove(&uniform).unwrap_or_else(|| {
            let mut domains: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
            for (number, node) in (0..).zip(&self.problem.nodes) {
                let value = match uniform {
                    None => Some(0),
                    Some(label) => self.problem.labels[label as usize][node.group as usize],
                };
                if let Some(value) = value {
                    domains.entry((node.cluster, value)).or_default().push(number);
                }
            }
            domains.into_values().map(|nodes| Domain { nodes }).collect()
        })
    }

    /// Puts the whole gang on nodes that have what `rows` say, the largest members first, on those
    /// nodes first of which what they have of the member's dominant resource comes out highest; of
    /// equals on the lowest.
    fn fit_gang<K: Ord>(
        &self,
        members: &[Member],
        mut rows: Rows,
        order: impl Fn(i64) -> K,
    ) -> Option<Places> {
        let mut members = members.to_vec();
        members.sort_by_key(|member| (Reverse(self.part_of(member)), member.run));
        let mut places = Places::new();
        for member in members {
            let request = self.problem.request_of(member.shape);
            let dominant = self.shapes[member.shape as usize].dominant();
            let candidate = |(place, node): (usize, &u32)| {
                let group = self.problem.nodes[*node as usize].group;
                let admits = self.problem.admits[member.shape as usize][group as usize];
                let row = rows.of(place);
                (admits && times(row, request) > 0).then(|| {
                    let amount = row.get(dominant).copied().unwrap_or_default();
                    (order(amount), Reverse(*node), place)
                })
            };
            // Few of many nodes are needed, as a rule: they are not all put in order.
            let mut candidates: BinaryHeap<_> =
                rows.nodes.iter().enumerate().filter_map(candidate).collect();
            let mut left = member.count;
            while left > 0 {
                let (_, Reverse(node), place) = candidates.pop()?;
                let row = rows.of_mut(place);
                let count = left.min(times(row, request));
                take(row, request, count);
                places.push((member, node, count));
                left -= count;
            }
        }
        Some(places)
    }

    /// Claims room for all of a gang that is not free.
    fn claims_for_gang(&mut self, turn: Turn, gang: u32, members: &[Member]) -> bool {
        let never = |member: &Member| self.shapes[member.shape as usize].out.is_some();
        if self.gangs.claims_left == 0 || members.iter().any(never) {
            return false;
        }
        if self.later.is_any() || self.victims.is_some() {
            self.gangs.claims_left -= 1;
        }
        self.claims_soon(turn, gang, members)
            || self.makes_room_for_gang(turn, gang, members)
            || self.keeps_gang(turn, gang, members)
    }

    /// Claims what will be free soon, if a domain will hold all of it.
    fn claims_soon(&mut self, turn: Turn, gang: u32, members: &[Member]) -> bool {
        if !self.later.is_any() {
            return false;
        }
        let uniform = self.problem.gangs[gang as usize].uniform;
        let domains = self.domains(uniform);
        let found = domains.iter().find_map(|domain| {
            let mut rows = Rows::new(self.problem.total.len());
            for node in &domain.nodes {
                rows.push(*node, self.later.soon(&self.nodes, *node));
            }
            self.fit_gang(members, rows, Reverse)
        });
        self.gangs.domains.insert(uniform, domains);
        let Some(places) = found else { return false };
        self.take_places(turn, &places, Some((ClaimedFrom::Stopping, None)));
        true
    }

    /// Preempts what makes room for all of it in one domain.
    fn makes_room_for_gang(&mut self, turn: Turn, gang: u32, members: &[Member]) -> bool {
        if self.victims.is_none() {
            return false;
        }
        let mut members = members.to_vec();
        members.sort_by_key(|member| (Reverse(self.part_of(member)), member.run));
        let uniform = self.problem.gangs[gang as usize].uniform;
        let domains = self.domains(uniform);
        let all: Vec<&[u32]> = domains.iter().map(|domain| domain.nodes.as_slice()).collect();
        let wanted: Vec<Members> = members
            .iter()
            .map(|member| Members { shape: member.shape, count: member.count })
            .collect();
        let (problem, queues) = (self.problem, &self.queues);
        let held = |queue: u32| queues[queue as usize].held(&problem.queues[queue as usize]);
        let claimant =
            Claimant { queue: turn.queue, shape: members[0].shape, priority: turn.class.0 };
        let at = (&self.nodes, &self.later);
        let room = self
            .victims
            .as_mut()
            .and_then(|victims| victims.make_room_for_gang(claimant, &wanted, &all, at, &held));
        self.gangs.domains.insert(uniform, domains);
        let Some(room) = room else { return false };
        let claim = self.plan.claims.len() as u32;
        for &(running, count, cause) in &room.chosen {
            self.gave_up(running, count);
            self.plan.preemptions.push(Preemption { running, count, claim, cause });
        }
        let places =
            room.places.iter().map(|(place, node, count)| (members[*place], *node, *count));
        let from = match room.chosen.is_empty() {
            true => ClaimedFrom::Stopping,
            false => ClaimedFrom::Preempting,
        };
        self.take_places(turn, &places.collect(), Some((from, None)));
        true
    }

    /// The part of the pool that a member takes.
    fn part_of(&self, member: &Member) -> u64 {
        let request = self.problem.request_of(member.shape).iter().copied();
        Part::dominant(&self.problem.total, request).rounded_up()
    }

    /// Counts the gang as placed, or as what room is kept for.
    pub(super) fn take_places(
        &mut self,
        turn: Turn,
        places: &Places,
        claimed: Option<(ClaimedFrom, Option<u64>)>,
    ) {
        if let Some((ClaimedFrom::Keeping, within)) = claimed {
            for (node, _) in self.by_node(places) {
                self.kept.keep(node, self.nodes.free_of(node), within);
            }
        }
        for &(member, node, count) in places {
            let request = self.problem.request_of(member.shape);
            let (queue, run) = (turn.queue, member.run);
            match claimed {
                None => {
                    if self.kept.is_on(node) {
                        self.nodes.set_aside(node, request, count);
                    } else {
                        self.nodes.take(node, request, count);
                    }
                    self.queues[queue as usize].picks_left -= count;
                    self.plan.figures.placed += count;
                    self.plan.figures.steps += 1;
                    let pick = Pick { queue, run, shape: member.shape, node, count };
                    self.plan.picks.push(pick);
                    self.kept.taken(node, request, count);
                }
                Some((from, within)) => {
                    self.nodes.set_aside(node, request, count);
                    self.plan.claims.push(Claim { queue, run, node, count, from, within });
                }
            }
            if let Some(victims) = &mut self.victims {
                victims.taken(node, request, count);
            }
            let class = self.problem.shapes[member.shape as usize].class;
            self.caps.take(&self.problem.queues[queue as usize], class, request, count);
            add(&mut self.queues[queue as usize].counted, request, count);
        }
    }
}
