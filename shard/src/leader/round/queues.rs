//! The queues of a round, and what of them counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::Name;
use muster_core::control::Control;
use muster_core::solve::{QueueIn, RunIn};
use muster_core::time::Timestamp;

use super::super::away;
use super::super::keyed::Keyed;
use super::super::order::ordered;
use super::super::table::{QueueState, Table};
use super::Numbers;

/// The queues of a pool, and what of them counts.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) names: Vec<Name>,
    pub(super) shards: Vec<u16>,
    pub(super) inputs: Vec<QueueIn>,
    pub(super) priorities: Vec<Vec<u32>>,
}

impl Queues {
    pub(super) fn of(
        table: &Table,
        control: &Control,
        (overdue, keeps): (Timestamp, impl Fn(&Name, &Keyed) -> bool),
        numbers: &mut Numbers,
    ) -> Self {
        let mut queues = Self::default();
        // In the order of their names, those of other pools among them.
        let all: BTreeMap<&Name, &QueueState> = table.queues.iter().chain(&table.away).collect();
        for (name, queue) in all {
            if let Some((of, _)) = away::parts(name) {
                queues.push_away((name, of, queue), table, control, numbers);
                continue;
            }
            let Some(settings) = control.queues.get(&**name) else { continue };
            // A queue that gets nothing now still counts for nobody: shares are compared only among
            // those that ask.
            let ask = !settings.cordoned && table.is_reachable(queue.shard);
            let known = if ask { ordered(queue, control) } else { Vec::new() };
            let runs = known.iter().map(|(_, s, n, since)| RunIn {
                shape: numbers.shape(s),
                count: *n,
                is_overdue: *since < overdue && keeps(name, s),
            });
            let mut demand = queue.holds.clone();
            if ask {
                demand.add(&queue.demand);
            }
            queues.inputs.push(QueueIn {
                weight: settings.weight_millis,
                runs: runs.collect(),
                allocated: numbers.amounts(&queue.holds),
                demand: numbers.amounts(&demand),
                ..QueueIn::default()
            });
            queues.priorities.push(known.iter().map(|(priority, ..)| *priority).collect());
            queues.names.push(Arc::clone(name));
            queues.shards.push(queue.shard);
        }
        queues
    }

    /// A queue of another pool: it has no claim to anything here, and gets what is left.
    fn push_away(
        &mut self,
        (name, of, queue): (&Name, &str, &QueueState),
        table: &Table,
        control: &Control,
        numbers: &mut Numbers,
    ) {
        let Some(settings) = control.queues.get(of) else { return };
        let asks = away::may_go(control, of) && table.is_reachable(queue.shard);
        let known = if asks { ordered(queue, control) } else { Vec::new() };
        let known =
            known.into_iter().filter(|(_, shape, ..)| away::may_leave(control, shape, &table.pool));
        let known: Vec<_> = known.collect();
        let run = |shape, count| RunIn { shape, count, is_overdue: false };
        let runs = known.iter().map(|(_, shape, count, _)| run(numbers.shape(shape), *count));
        let runs = runs.collect();
        let allocated = numbers.amounts(&queue.holds);
        self.inputs.push(QueueIn {
            weight: settings.weight_millis,
            runs,
            demand: vec![0; allocated.len()],
            allocated,
            ..QueueIn::default()
        });
        self.priorities.push(known.iter().map(|(priority, ..)| *priority).collect());
        self.names.push(Arc::clone(name));
        self.shards.push(queue.shard);
    }
}
