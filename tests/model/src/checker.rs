//! A model checker: visits every state that a model can reach, breadth first, so that what it finds
//! is found by the fewest steps.
//!
//! States are kept whole and compared whole: no two are taken for one because their hashes agree.
//! Beside what must hold in every state it tells what was seen to happen, and whether from every
//! state that owes it, a state can still be reached in which all is settled.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// What can be checked.
pub trait Model {
    /// A state. The smaller, the more of them fit.
    type State: Copy + Eq + Hash + Debug;
    /// What leads from one to the next.
    type Action: Copy + Eq + Debug;

    /// Where it begins.
    fn initial(&self) -> Self::State;
    /// What can happen in a state.
    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>);
    /// What an action leads to.
    fn next(&self, state: &Self::State, action: Self::Action) -> Self::State;
    /// The promise that a state breaks.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;
    /// What happens in a step, each by its place in [`Model::events`].
    fn seen(&self, before: &Self::State, action: Self::Action, after: &Self::State) -> u64;
    /// The names of what can be seen to happen.
    fn events(&self) -> &'static [&'static str];
    /// Whether everything that was asked for is done.
    fn is_settled(&self, state: &Self::State) -> bool;
    /// Whether a settled state must be reachable from here.
    fn owes_settling(&self, state: &Self::State) -> bool;
}

/// The steps to a state.
#[derive(Debug, Clone)]
pub struct Trace<M: Model> {
    /// What is wrong with the state at its end.
    pub what: &'static str,
    /// Each step and where it leads.
    pub steps: Vec<(M::Action, M::State)>,
}

impl<M: Model> Trace<M> {
    /// The steps, one a line, without the states.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{} after {} steps\n", self.what, self.steps.len());
        for (number, (action, _)) in (1..).zip(&self.steps) {
            text += &format!("  {number:>3} {action:?}\n");
        }
        text
    }
}

/// What an exploration came to.
#[derive(Debug, Clone)]
pub struct Report<M: Model> {
    /// Different states visited.
    pub states: usize,
    /// Steps between them.
    pub steps: u64,
    /// The steps to the farthest state, by the shortest way.
    pub depth: usize,
    /// What was seen to happen, and after how many steps first.
    pub seen: Vec<(&'static str, Option<usize>)>,
    /// The shortest way to a broken promise. It ends the exploration.
    pub counterexample: Option<Trace<M>>,
    /// Whether every state was visited: no promise was broken, no limit met.
    pub is_complete: bool,
}

const EMPTY: u32 = u32::MAX;

/// The states visited, in the order of their discovery, found by a table of their numbers.
pub struct Visited<M: Model> {
    states: Vec<M::State>,
    parents: Vec<u32>,
    table: Vec<u32>,
}

impl<M: Model> Visited<M> {
    fn new() -> Self {
        Self { states: Vec::new(), parents: Vec::new(), table: vec![EMPTY; 1 << 16] }
    }

    fn slot(&self, state: &M::State) -> usize {
        let mask = self.table.len() - 1;
        let mut hasher = Mix(0);
        state.hash(&mut hasher);
        let mut slot = usize::try_from(hasher.finish()).unwrap_or(0) & mask;
        while self.table[slot] != EMPTY && self.states[self.table[slot] as usize] != *state {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Takes a state in; whether it is new.
    fn insert(&mut self, state: M::State, parent: u32) -> bool {
        let slot = self.slot(&state);
        if self.table[slot] != EMPTY {
            return false;
        }
        self.table[slot] = u32::try_from(self.states.len()).expect("there is a limit of states");
        self.states.push(state);
        self.parents.push(parent);
        if self.states.len() * 2 > self.table.len() {
            self.table = vec![EMPTY; self.table.len() * 2];
            for number in 0..self.states.len() {
                let slot = self.slot(&self.states[number]);
                self.table[slot] = u32::try_from(number).expect("there is a limit of states");
            }
        }
        true
    }

    fn trace(&self, model: &M, what: &'static str, end: usize) -> Trace<M> {
        let mut way = vec![end];
        while let Some(&first) = way.last().filter(|first| **first != 0) {
            way.push(self.parents[first] as usize);
        }
        way.reverse();
        let mut actions = Vec::new();
        let steps = way.windows(2).map(|pair| {
            let (before, after) = (&self.states[pair[0]], self.states[pair[1]]);
            actions.clear();
            model.actions(before, &mut actions);
            let taken = actions.iter().find(|action| model.next(before, **action) == after);
            (*taken.expect("a step led here before"), after)
        });
        Trace { what, steps: steps.collect() }
    }
}

/// Visits all states, `states_max` at most, until one breaks a promise.
pub fn explore<M: Model>(model: &M, states_max: usize) -> (Report<M>, Visited<M>) {
    let mut visited = Visited::new();
    let events = model.events();
    let mut seen = vec![None; events.len()];
    let (mut steps, mut depth) = (0_u64, 0);
    let mut counterexample = None;
    visited.insert(model.initial(), 0);
    let (mut number, mut level_end) = (0, 1);
    let mut actions = Vec::new();
    'all: while number < visited.states.len() && visited.states.len() < states_max {
        if number == level_end {
            depth += 1;
            level_end = visited.states.len();
        }
        let state = visited.states[number];
        actions.clear();
        model.actions(&state, &mut actions);
        for action in &actions {
            let next = model.next(&state, *action);
            steps += 1;
            let mut happened = model.seen(&state, *action, &next);
            while happened != 0 {
                seen[happened.trailing_zeros() as usize].get_or_insert(depth + 1);
                happened &= happened - 1;
            }
            let parent = u32::try_from(number).expect("there is a limit of states");
            if !visited.insert(next, parent) {
                continue;
            }
            if let Some(what) = model.broken(&next) {
                let end = visited.states.len() - 1;
                counterexample = Some(visited.trace(model, what, end));
                break 'all;
            }
        }
        number += 1;
    }
    let report = Report {
        states: visited.states.len(),
        steps,
        depth,
        seen: events.iter().copied().zip(seen).collect(),
        is_complete: counterexample.is_none() && number == visited.states.len(),
        counterexample,
    };
    (report, visited)
}

/// The shortest way to a state that owes a settled one and cannot reach any, after a complete
/// exploration.
pub fn stuck<M: Model>(model: &M, visited: &Visited<M>) -> Option<Trace<M>> {
    let states = &visited.states;
    let mut can: Vec<bool> = states.iter().map(|state| model.is_settled(state)).collect();
    let mut actions = Vec::new();
    // Steps lead mostly to states found later: backwards, most of it is known after one pass.
    let mut changed = true;
    while changed {
        changed = false;
        for number in (0..states.len()).rev().filter(|number| !model.is_settled(&states[*number])) {
            if can[number] {
                continue;
            }
            actions.clear();
            model.actions(&states[number], &mut actions);
            let reaches = |action: &M::Action| {
                let next = model.next(&states[number], *action);
                let found = visited.table[visited.slot(&next)];
                found != EMPTY && can[found as usize]
            };
            if actions.iter().any(reaches) {
                can[number] = true;
                changed = true;
            }
        }
    }
    let end = (0..states.len()).find(|n| !can[*n] && model.owes_settling(&states[*n]))?;
    Some(visited.trace(model, "nothing can settle it any more", end))
}

/// A fast hasher; states are compared whole, so that it need not be a good one.
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u64(&mut self, word: u64) {
        // Both halves of the product: a product's low bits know nothing of its high ones.
        let product = u128::from(self.0.rotate_left(5) ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64).rotate_left(23) ^ (product >> 64) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two counters below a limit. The second gets stuck when it comes to 3 first.
    #[derive(Debug)]
    struct Counters {
        limit: u8,
        forbidden: (u8, u8),
    }

    impl Model for Counters {
        type State = (u8, u8);
        type Action = &'static str;

        fn initial(&self) -> (u8, u8) {
            (0, 0)
        }

        fn actions(&self, state: &(u8, u8), actions: &mut Vec<&'static str>) {
            if state.0 < self.limit && *state != (0, 3) {
                actions.push("left");
            }
            if state.1 < self.limit && *state != (0, 3) {
                actions.push("right");
            }
        }

        fn next(&self, state: &(u8, u8), action: &'static str) -> (u8, u8) {
            if action == "left" { (state.0 + 1, state.1) } else { (state.0, state.1 + 1) }
        }

        fn broken(&self, state: &(u8, u8)) -> Option<&'static str> {
            (*state == self.forbidden).then_some("forbidden")
        }

        fn seen(&self, _: &(u8, u8), _: &'static str, after: &(u8, u8)) -> u64 {
            u64::from(after.0 == 2) | u64::from(after.0 == 99) << 1
        }

        fn events(&self) -> &'static [&'static str] {
            &["two", "many"]
        }

        fn is_settled(&self, state: &(u8, u8)) -> bool {
            *state == (self.limit, self.limit)
        }

        fn owes_settling(&self, _: &(u8, u8)) -> bool {
            true
        }
    }

    #[test]
    fn every_state_is_visited_once_and_the_farthest_is_known() {
        let (report, visited) = explore(&Counters { limit: 9, forbidden: (99, 99) }, 1000);
        // 6 states can be reached only through the one where it gets stuck: (0, 4) to (0, 9).
        assert_eq!((report.states, report.depth, report.is_complete), (94, 18, true));
        assert_eq!(report.seen, [("two", Some(2)), ("many", None)]);
        assert_eq!(visited.states.len(), 94);
    }

    #[test]
    fn a_counterexample_is_as_short_as_can_be() {
        let (report, _) = explore(&Counters { limit: 9, forbidden: (2, 1) }, 1000);
        let trace = report.counterexample.unwrap();
        assert_eq!((trace.what, trace.steps.len()), ("forbidden", 3));
        assert_eq!(trace.steps.last().unwrap().1, (2, 1));
        assert!(!report.is_complete);
    }

    #[test]
    fn a_limit_of_states_is_told() {
        let (report, _) = explore(&Counters { limit: 9, forbidden: (99, 99) }, 50);
        assert!(!report.is_complete && report.states <= 52, "{report:?}");
    }

    #[test]
    fn a_state_that_leads_nowhere_is_found() {
        let model = Counters { limit: 9, forbidden: (99, 99) };
        let (_, visited) = explore(&model, 1000);
        let trace = stuck(&model, &visited).unwrap();
        assert_eq!(trace.steps.last().unwrap().1, (0, 3));
        let model = Counters { limit: 2, forbidden: (99, 99) };
        let (_, visited) = explore(&model, 1000);
        assert!(stuck(&model, &visited).is_none());
    }
}
