//! Zones: groups of nodes that no shape tells apart, joined. So a label that differs on every node
//! costs nothing while no shape asks for it.

use super::Problem;

/// The zones of a problem.
pub(super) struct Zones {
    /// The zone of every node.
    pub(super) of_node: Vec<u32>,
    /// How many there are.
    pub(super) count: usize,
    /// The zones of each shape: those that have nodes and admit it.
    pub(super) of_shape: Vec<Vec<u32>>,
}

impl Zones {
    pub(super) fn new(problem: &Problem) -> Zones {
        let (of_group, count) = of_groups(problem);
        let of_node = problem.nodes.iter().map(|node| of_group[node.group as usize]).collect();
        Zones { of_node, count, of_shape: of_shapes(problem, &of_group, count) }
    }
}

/// The zone of every group, and how many there are.
fn of_groups(problem: &Problem) -> (Vec<u32>, usize) {
    let mut zone_of = vec![0_u32; problem.groups as usize];
    let mut zones = 1;
    let mut split: Vec<[Option<u32>; 2]> = Vec::new();
    for row in &problem.admits {
        split.clear();
        split.resize(zones, [None; 2]);
        let mut found = 0;
        for (zone, &admitted) in zone_of.iter_mut().zip(row) {
            *zone = *split[*zone as usize][usize::from(admitted)].get_or_insert_with(|| {
                found += 1;
                found - 1
            });
        }
        zones = (found as usize).max(1);
    }
    (zone_of, zones)
}

fn of_shapes(problem: &Problem, zone_of_group: &[u32], zones: usize) -> Vec<Vec<u32>> {
    let mut group_of_zone = vec![None; zones];
    for node in &problem.nodes {
        group_of_zone[zone_of_group[node.group as usize] as usize] = Some(node.group as usize);
    }
    let admitted = |row: &Vec<bool>, group: &Option<usize>| group.is_some_and(|group| row[group]);
    let zones_of = |row: &Vec<bool>| {
        let mut admitting = Vec::with_capacity(zones);
        let all = 0..zones as u32;
        admitting.extend(all.filter(|zone| admitted(row, &group_of_zone[*zone as usize])));
        admitting
    };
    problem.admits.iter().map(zones_of).collect()
}
