//! Zones: groups of nodes that no shape tells apart, joined. So a label that differs on every node
//! costs nothing while no shape asks for it.

use std::collections::BTreeMap;

use super::Problem;

/// The zones of a problem.
pub(super) struct Zones {
    /// The zone of every node.
    pub(super) of_node: Vec<u32>,
    /// How many there are.
    pub(super) count: usize,
    /// `[shape]`: its row. Shapes that the same groups admit share one.
    row_of: Vec<u32>,
    /// `[row]`: zones that have nodes and that its shapes may go to.
    rows: Vec<Box<[u32]>>,
}

impl Zones {
    pub(super) fn new(problem: &Problem) -> Zones {
        let (rows, row_of) = distinct(&problem.admits);
        let (of_group, count) = of_groups(problem.groups, &rows);
        let rows = of_rows(problem, &rows, &of_group, count);
        let of_node = problem.nodes.iter().map(|node| of_group[node.group as usize]).collect();
        Zones { of_node, count, row_of, rows }
    }

    /// Which of the lists of zones is a shape's.
    pub(super) fn row_of(&self, shape: u32) -> u32 {
        self.row_of[shape as usize]
    }

    /// The zones that a shape may go to.
    pub(super) fn of_shape(&self, shape: u32) -> &[u32] {
        self.of_row(self.row_of(shape))
    }

    /// How many lists of zones there are.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The zones of a list.
    pub(super) fn of_row(&self, row: u32) -> &[u32] {
        &self.rows[row as usize]
    }
}

/// The different rows, in the order in which they come first, and for each row which of them it is.
fn distinct(rows: &[Vec<bool>]) -> (Vec<&[bool]>, Vec<u32>) {
    let mut known: BTreeMap<&[bool], u32> = BTreeMap::new();
    let mut found: Vec<&[bool]> = Vec::new();
    let mut last = 0;
    let places = rows.iter().map(|row| {
        // Neighbours are alike, more often than not.
        if found.get(last as usize) != Some(&row.as_slice()) {
            last = *known.entry(row).or_insert_with(|| {
                found.push(row.as_slice());
                found.len() as u32 - 1
            });
        }
        last
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
        assert_eq!(row.len(), groups as usize, "`admits` has a column for every group");
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
) -> Vec<Box<[u32]>> {
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
