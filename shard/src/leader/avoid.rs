//! Nodes that jobs keep away from because attempts of them failed there, as long as there is
//! another.

use muster_core::control::Control;
use muster_core::shape::Shape;

use super::table::Table;

/// Whether a pool has a node for a shape beside those that it keeps away from: one that admits it
/// and is large enough, whether or not there is room at the moment.
pub(super) fn has_another(table: &Table, control: &Control, shape: &Shape) -> bool {
    if shape.avoid.is_empty() {
        return false;
    }
    table.clusters.iter().any(|(cluster, state)| {
        state.nodes.iter().any(|(name, node)| {
            let holds = shape.request.iter().all(|(of, asked)| asked <= node.allocatable.get(of));
            holds
                && node.schedulable
                && !control.cordons.hold(cluster, name)
                && !table.is_taken_out(cluster, name)
                && !shape.keeps_away(cluster, name)
                && shape.admits(name, &node.labels, &node.taints)
        })
    })
}
