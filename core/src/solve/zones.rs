//! Zones: groups of nodes that no shape tells apart, joined. So a label that differs on every node
//! costs nothing while no shape asks for it.

use std::collections::HashMap;
use std::rc::Rc;

use super::Problem;

/// The zones of a problem.
pub(super) struct Zones {
    /// The zone of every node.
    pub(super) of_node: Vec<u32>,
    /// How many there are.
    pub(super) count: usize,
    /// The zones of each shape: those that have nodes and admit it. Shapes that the same groups
    /// admit share them.
    pub(super) of_shape: Vec<Rc<[u32]>>,
}

impl Zones {
    pub(super) fn new(problem: &Problem) -> Zones {
        let (rows, row_of_shape) = distinct(&problem.admits);
        let (of_group, count) = of_groups(problem.groups, &rows);
        let of_row = of_rows(problem, &rows, &of_group, count);
        let of_shape = row_of_shape.into_iter().map(|row| Rc::clone(&of_row[row])).collect();
        let of_node = problem.nodes.iter().map(|node| of_group[node.group as usize]).collect();
        Zones { of_node, count, of_shape }
    }
}

/// The different rows, in the order in which they come first, and for each row which of them it is.
fn distinct(rows: &[Vec<bool>]) -> (Vec<&[bool]>, Vec<usize>) {
    let mut known: HashMap<&[bool], usize> = HashMap::new();
    let mut found = Vec::new();
    let places = rows.iter().map(|row| {
        *known.entry(row).or_insert_with(|| {
            found.push(row.as_slice());
            found.len() - 1
        })
    });
    let places = places.collect();
    (found, places)
}

/// The zone of every group, and how many there are.
fn of_groups(groups: u32, rows: &[&[bool]]) -> (Vec<u32>, usize) {
    let mut zone_of = vec![0_u32; groups as usize];
    let mut zones = 1;
    let mut split: Vec<[Option<u32>; 2]> = Vec::new();
    for row in rows {
        split.clear();
        split.resize(zones, [None; 2]);
        let mut found = 0;
        for (zone, &admitted) in zone_of.iter_mut().zip(*row) {
            *zone = *split[*zone as usize][usize::from(admitted)].get_or_insert_with(|| {
                found += 1;
                found - 1
            });
        }
        zones = (found as usize).max(1);
    }
    (zone_of, zones)
}

fn of_rows(
    problem: &Problem,
    rows: &[&[bool]],
    zone_of_group: &[u32],
    zones: usize,
) -> Vec<Rc<[u32]>> {
    let mut group_of_zone = vec![None; zones];
    for node in &problem.nodes {
        group_of_zone[zone_of_group[node.group as usize] as usize] = Some(node.group as usize);
    }
    let admitted = |row: &[bool], group: &Option<usize>| group.is_some_and(|group| row[group]);
    let zones_of = |row: &&[bool]| {
        let all = 0..zones as u32;
        all.filter(|zone| admitted(row, &group_of_zone[*zone as usize])).collect()
    };
    rows.iter().map(zones_of).collect()
}
