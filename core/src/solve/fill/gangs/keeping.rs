//! Room that is kept for an overdue gang: where it was kept before, or is sure to be there first.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::super::rows::Rows;
use super::super::{Round, Turn, add, take};
use super::{Domain, Member, Places};
use crate::solve::ClaimedFrom;
use crate::solve::later::within;
use crate::solve::order::holds;

impl Round<'_> {
    /// Keeps room for an overdue gang, in the domain that could hold it and is nearest to it.
    pub(super) fn keeps_gang(&mut self, turn: Turn, gang: u32, members: &[Member]) -> bool {
        let queue = turn.queue as usize;
        let runs = &self.problem.queues[queue].runs;
        let is_overdue = members.iter().any(|member| runs[member.run as usize].is_overdue);
        if !is_overdue || self.queues[queue].keeps > 0 || self.keeps.first_left == 0 {
            return false;
        }
        let found = self.told_places(turn, members).or_else(|| {
            let uniform = self.problem.gangs[gang as usize].uniform;
            let domains = self.domains(uniform);
            let found = self.soonest_places(&domains, members);
            self.gangs.domains.insert(uniform, domains);
            found
        });
        let Some((places, within)) = found else { return false };
        self.queues[queue].keeps += 1;
        self.keeps.first_left -= 1;
        self.take_places(turn, &places, Some((ClaimedFrom::Keeping, within)));
        true
    }

    /// Where room for the gang was kept before, if that is still possible.
    fn told_places(&self, turn: Turn, members: &[Member]) -> Option<(Places, Option<u64>)> {
        let of_queue = self.problem.kept.iter().filter(|kept| kept.queue == turn.queue);
        let mut places = Places::new();
        let mut within = Some(0);
        for kept in of_queue {
            let Some(member) = members.iter().find(|member| member.run == kept.run) else {
                continue;
            };
            let group = self.problem.nodes[kept.node as usize].group;
            if !self.problem.admits[member.shape as usize][group as usize] {
                return None;
            }
            places.push((*member, kept.node, kept.count));
            within = within.zip(kept.within).map(|(a, b)| a.max(b));
        }
        let kept = |run: u32| places.iter().filter(move |(of, ..)| of.run == run);
        let is_whole = members
            .iter()
            .all(|member| kept(member.run).map(|(.., count)| count).sum::<u64>() == member.count);
        let fits = |(node, amounts): (u32, Vec<i64>)| {
            self.could_have(node).is_some_and(|could| holds(&amounts, &could))
        };
        let fits = self.by_node(&places).into_iter().all(fits);
        (is_whole && fits).then_some((places, within))
    }

    /// Where a gang that could be there is sure to have room first, and within what time; where it
    /// is nowhere sure to, the domain that is nearest to it.
    fn soonest_places(
        &self,
        domains: &[Domain],
        members: &[Member],
    ) -> Option<(Places, Option<u64>)> {
        let room =
            |domain: &Domain| members.first().map(|first| self.room_in(domain, first.shape, None));
        let mut nearest: Vec<(u128, usize)> =
            domains.iter().map(|domain| room(domain).unwrap_or_default()).zip(0..).collect();
        nearest.sort_unstable_by_key(|(room, number)| (Reverse(*room), *number));
        let found = nearest.into_iter().filter_map(|(_, number)| {
            let mut rows = Rows::new(self.problem.total.len());
            let nodes = domains[number].nodes.iter().copied();
            for (node, could) in nodes.filter_map(|node| Some((node, self.could_have(node)?))) {
                rows.push(node, could.into_iter());
            }
            let places = self.fit_gang(members, rows, |amount| amount)?;
            let within = self.by_node(&places).into_iter().try_fold(0, |last, (node, amounts)| {
                Some(u64::max(last, within(self.problem, &self.nodes, node, &amounts)?))
            });
            Some((places, within))
        });
        // Of equals the first.
        found.min_by_key(|(_, within)| within.unwrap_or(u64::MAX))
    }

    /// What the places take of each node.
    pub(super) fn by_node(&self, places: &Places) -> BTreeMap<u32, Vec<i64>> {
        let mut by_node: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
        for (member, node, count) in places {
            let none = || vec![0; self.problem.total.len()];
            let amounts = by_node.entry(*node).or_insert_with(none);
            add(amounts, self.problem.request_of(member.shape), *count);
        }
        by_node
    }

    /// What a node could have, were it not for what runs on it: less than its capacity where room
    /// is kept for others.
    fn could_have(&self, node: u32) -> Option<Vec<i64>> {
        let input = &self.problem.nodes[node as usize];
        if input.capacity.is_empty() {
            return None;
        }
        let free = self.nodes.free_of(node);
        let before = input.free.iter().zip(free);
        let taken: Vec<i64> = before.map(|(before, now)| before.saturating_sub(*now)).collect();
        let mut could = input.capacity.clone();
        take(&mut could, &taken, 1);
        holds(&vec![0; could.len()], &could).then_some(could)
    }
}
