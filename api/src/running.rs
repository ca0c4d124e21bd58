//! What runs, as messages that fit the bus.

use muster_core::Name;
use muster_core::id::CommandId;
use muster_core::shard::RunningJobs;
use muster_core::time::Timestamp;

use crate::bus::runs::Shapes;
use crate::bus::{Room, Running, RunningKey, RunningRow};
use crate::shape::ShapeText;

/// Bytes of a row beside its texts, generously.
const ROW_BYTES: usize = 64;
/// Bytes of a row's key beside its texts: room for one is kept, to go on behind it.
const KEY_BYTES: usize = 100;

/// The rows behind a place, as many as fit a message.
#[must_use]
pub fn pack(
    rows: &[RunningJobs],
    after: Option<&RunningKey>,
    now: Timestamp,
    bytes_max: usize,
) -> Running {
    let mut room = Room::of_message(bytes_max);
    let mut shapes = Shapes::default();
    let mut page = Running::default();
    let mut last: Option<&RunningJobs> = None;
    for row in rows.iter().filter(|row| after.is_none_or(|after| key(row) > *after)) {
        let texts = row.cluster.len() + row.queue.len() + row.node.len();
        // Twice: the key of the last row is in the message as well.
        let bytes = ROW_BYTES + texts + room.shape_bytes(&row.shape);
        let kept = last.map_or(KEY_BYTES + texts, |_| 0);
        if !room.take(bytes + kept) {
            page.next = last.map(key);
            break;
        }
        room.has_shape(&row.shape);
        page.rows.push(RunningRow {
            cluster: row.cluster.to_string(),
            queue: row.queue.to_string(),
            shape: shapes.position(&ShapeText(row.shape.clone())),
            node: row.node.to_string(),
            count: row.count,
            age: now.since(row.youngest).as_secs(),
        });
        last = Some(row);
    }
    page.shapes = shapes.texts;
    page
}

fn key(row: &RunningJobs) -> RunningKey {
    let text = |name: &Name| name.to_string();
    let (cluster, queue, shape, node) = row.key();
    RunningKey {
        cluster: text(cluster),
        queue: text(queue),
        shape: CommandId(shape.0),
        node: text(node),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_core::resources::Resources;
    use muster_core::shape::Shape;

    use super::*;
    use crate::bus::{ShardReply, encode};

    /// Rows in order, of ten queues and as many shapes, with long names.
    fn rows(count: usize) -> Vec<RunningJobs> {
        let shape = |n: usize| {
            let mut shape = Shape::of_request(Resources::new());
            shape.node_selector.insert("zone".into(), format!("{n:0>200}").as_str().into());
            Arc::new(shape)
        };
        let shapes: Vec<_> = (0..10).map(shape).collect();
        let row = |n: usize| RunningJobs {
            cluster: format!("cluster-{}", n % 3).into(),
            queue: format!("{:0>100}", n % 10).into(),
            shape: shapes[n / 10 % 10].clone(),
            node: format!("node-{n:0>60}").into(),
            count: n as u64 + 1,
            youngest: Timestamp(n as i64 * 1_000),
        };
        let mut rows: Vec<_> = (0..count).map(row).collect();
        rows.sort_by(|a, b| a.key().cmp(&b.key()));
        rows
    }

    #[test]
    fn pages_fit_a_message_and_are_all_rows_together() {
        const BYTES_MAX: usize = 16 * 1024;
        let rows = rows(500);
        let now = Timestamp(500_000);
        let (mut after, mut told, mut pages) = (None, Vec::new(), 0);
        loop {
            let page = pack(&rows, after.as_ref(), now, BYTES_MAX);
            let bytes = encode(&ShardReply::Running(page.clone())).len();
            assert!(bytes <= BYTES_MAX, "{bytes} bytes");
            pages += 1;
            told.extend(page.rows.into_iter().map(|row| (row.node, row.count, row.age)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let age = |row: &RunningJobs| now.since(row.youngest).as_secs();
        let expected: Vec<_> =
            rows.iter().map(|row| (row.node.to_string(), row.count, age(row))).collect();
        assert_eq!(told, expected);
        assert!(pages > 5);
    }
}
