//! What is free on the nodes, indexed for best fit.
//!
//! For every zone (nodes that admit the same shapes) and every resource by which some shape
//! chooses there, the nodes stand in order of how much of it they have free.

use std::collections::BTreeMap;

use super::order::{Order, Rank, holds, row};
use super::zones::Zones;

/// The zone of nodes that are never found.
pub(super) const NO_ZONE: u32 = u32::MAX;

/// No node: none has this ordinal.
const NO_NODE: u32 = u32::MAX;

/// For each search in vain, so many blocks may be looked at to know better the next time.
const LOOKS: usize = 8;
/// So many requests are remembered that no node holds.
const TOO_MUCH_MAX: usize = 8;

/// What is known of the search for nodes for a shape. There may be a million of them.
pub(super) struct Wanted {
    /// The resource of which the best node has the least free.
    resource: u32,
    /// In which orders to look: a number of `together`.
    together: u32,
    /// Where the last search ended, or [`NO_NODE`]. While that node holds another job, the best
    /// node of all does not stand behind it.
    last: u32,
}

/// Orders that shapes look through, one of each zone that admits them.
#[derive(Default)]
struct Together {
    orders: Vec<u32>,
    /// By resource: no node in them has more free than this.
    most: Vec<i64>,
    /// Searches in vain since that was worked out.
    in_vain: usize,
    /// What no node holds: nor does one hold what needs as much of everything.
    too_much: Vec<Box<[i64]>>,
}

/// The free amounts of all nodes, and their orders.
pub(super) struct Nodes {
    resources: usize,
    /// `[node][resource]`
    free: Vec<i64>,
    zone_of: Vec<u32>,
    orders: Vec<Order>,
    /// `[zone]`: its orders.
    orders_of: Vec<Vec<u32>>,
    /// What shapes look through. First no order at all.
    together: Vec<Together>,
    /// By shape, where the last search from the other end ended: what is found next does not stand
    /// behind it. Apart, since few shapes are looked for from there.
    widest: BTreeMap<u32, Rank>,
    /// What the node of the last step had free before it.
    before: Vec<i64>,
    /// By resource: a node holds a job of what is looked for if it has no less free than this.
    needed: Vec<i64>,
    /// Nodes looked at by searches.
    pub(super) looked_at: u64,
}

impl Together {
    /// Whether a node may have what is requested.
    fn may_hold(&self, request: &[i64]) -> bool {
        let mut amounts = request.iter().zip(&self.most);
        let is_as_much = |too_much: &[i64]| holds(too_much, request);
        amounts.all(|(asked, most)| *asked == 0 || asked <= most)
            && !self.too_much.iter().any(|of| is_as_much(of))
    }

    /// Remembers that no node has what is needed.
    fn is_too_much(&mut self, needed: &[i64]) {
        self.too_much.retain(|too_much| !holds(needed, too_much));
        if self.too_much.len() == TOO_MUCH_MAX {
            self.too_much.remove(0);
        }
        self.too_much.push(needed.into());
    }

    /// Works out what nodes have free at most.
    fn look(&mut self, orders: &[Order], resources: usize) {
        self.in_vain = 0;
        self.most.clear();
        self.most.resize(resources, i64::MIN);
        for order in &self.orders {
            orders[*order as usize].raise_to_most(&mut self.most);
        }
    }
}

impl Wanted {
    /// A search that finds nothing.
    pub(super) fn none(resource: usize) -> Wanted {
        Wanted { resource: resource as u32, together: 0, last: NO_NODE }
    }

    /// The resource of which the best node has the least free.
    pub(super) fn resource(&self) -> usize {
        self.resource as usize
    }
}

/// What a node must have free for one job. What is not requested is not looked at: no node has too
/// little of it.
fn needed(request: &[i64]) -> impl Iterator<Item = i64> {
    request.iter().map(|&amount| if amount == 0 { i64::MIN } else { amount })
}

/// Nodes that are being indexed: each shape says how it looks for them, then they are put in order.
pub(super) struct Indexing<'a> {
    zones: &'a Zones,
    nodes: Nodes,
    /// `[list of zones][resource]`: for shapes of the same zones that choose by the same resource,
    /// which look in the same orders, which of `together`, and the least that any of them needs.
    alike: Vec<Option<(u32, Vec<i64>)>>,
}

impl<'a> Indexing<'a> {
    /// Indexes nodes that have `free[node][resource]`, in the zones `zone_of[node]`. Nodes of
    /// [`NO_ZONE`] are never found.
    pub(super) fn new(
        free: Vec<i64>,
        resources: usize,
        zone_of: Vec<u32>,
        zones: &'a Zones,
    ) -> Indexing<'a> {
        let nodes = Nodes {
            resources,
            free,
            zone_of,
            orders: Vec::new(),
            orders_of: vec![Vec::new(); zones.count],
            together: vec![Together::default()],
            widest: BTreeMap::new(),
            before: Vec::new(),
            needed: Vec::new(),
            looked_at: 0,
        };
        Indexing { zones, nodes, alike: vec![None; zones.rows() * resources.max(1)] }
    }

    /// How nodes are looked for in a list of zones, for a `request`, those that have the least of
    /// `resource` free before others.
    pub(super) fn wanted(&mut self, resource: usize, request: &[i64], row: u32) -> Wanted {
        let (zones, nodes) = (self.zones, &mut self.nodes);
        let number = row as usize * nodes.resources + resource;
        let (together, least) = self.alike[number].get_or_insert_with(|| {
            let zones = zones.of_row(row).iter();
            let orders = zones.map(|zone| nodes.order_for(*zone, resource)).collect();
            nodes.together.push(Together { orders, ..Together::default() });
            (nodes.together.len() as u32 - 1, needed(request).collect())
        });
        for (least, needed) in least.iter_mut().zip(needed(request)) {
            *least = (*least).min(needed);
        }
        Wanted { together: *together, ..Wanted::none(resource) }
    }

    /// The nodes, in order.
    pub(super) fn finish(self) -> Nodes {
        let Indexing { zones, mut nodes, alike } = self;
        for (together, least) in alike.iter().flatten() {
            for order in &nodes.together[*together as usize].orders {
                nodes.orders[*order as usize].admit(least);
            }
        }
        let mut members = vec![Vec::new(); zones.count];
        let found = nodes.zone_of.iter().enumerate().filter(|(_, zone)| **zone != NO_ZONE);
        found.for_each(|(node, zone)| members[*zone as usize].push(node as u32));
        for (members, orders) in members.iter().zip(&nodes.orders_of) {
            for &order in orders {
                nodes.orders[order as usize].fill(members, &nodes.free);
            }
        }
        for together in &mut nodes.together {
            together.look(&nodes.orders, nodes.resources);
        }
        nodes
    }
}

impl Nodes {
    /// The zone's order by a resource.
    fn order_for(&mut self, zone: u32, resource: usize) -> u32 {
        let of_zone = &mut self.orders_of[zone as usize];
        let found = of_zone.iter().find(|order| self.orders[**order as usize].by() == resource);
        found.copied().unwrap_or_else(|| {
            let order = self.orders.len() as u32;
            self.orders.push(Order::new(resource, self.resources));
            of_zone.push(order);
            order
        })
    }

    /// The node that holds one `request` and has the most free of the resource that is wanted for a
    /// shape; the highest ordinal of equals.
    pub(super) fn widest_fit(
        &mut self,
        shape: u32,
        wanted: &Wanted,
        request: &[i64],
    ) -> Option<u32> {
        let before = self.widest.remove(&shape).unwrap_or(Rank::AFTER_ALL);
        if !self.need(wanted, request) {
            return None;
        }
        let mut widest = None;
        for &order in &self.together[wanted.together as usize].orders {
            let order = &mut self.orders[order as usize];
            let places = (widest, before);
            let (found, looked_at) = order.last_that_holds(&self.free, &self.needed, places);
            self.looked_at += looked_at;
            widest = found.or(widest);
        }
        self.found(wanted, widest);
        self.widest.extend(widest.map(|rank| (shape, rank)));
        widest.map(Rank::node)
    }

    /// The node that holds one `request` and has the least free of the wanted resource; the lowest
    /// ordinal of equals.
    pub(super) fn best_fit(&mut self, wanted: &mut Wanted, request: &[i64]) -> Option<u32> {
        if !self.need(wanted, request) {
            wanted.last = NO_NODE;
            return None;
        }
        let still_holds = |node: u32| {
            let free = row(&self.free, self.resources, node);
            holds(&self.needed, free).then(|| Rank::of(node, free, wanted.resource()))
        };
        let last = (wanted.last != NO_NODE).then_some(wanted.last).and_then(still_holds);
        let best = self.fit(wanted, (None, last));
        self.found(wanted, best);
        let node = best.map(Rank::node);
        wanted.last = node.unwrap_or(NO_NODE);
        node
    }

    /// The node behind `after` that holds one `request` and has the least free of the wanted
    /// resource.
    pub(super) fn next_fit(
        &mut self,
        wanted: &Wanted,
        request: &[i64],
        after: Option<Rank>,
    ) -> Option<Rank> {
        if !self.need(wanted, request) {
            return None;
        }
        self.fit(wanted, (after, None))
    }

    /// The first node behind `after` that holds what is needed, or `best` where that comes before.
    fn fit(
        &mut self,
        wanted: &Wanted,
        (after, mut best): (Option<Rank>, Option<Rank>),
    ) -> Option<Rank> {
        for &order in &self.together[wanted.together as usize].orders {
            let places = (after, best.unwrap_or(Rank::AFTER_ALL));
            let order = &mut self.orders[order as usize];
            let (found, looked_at) = order.first_that_holds(&self.free, &self.needed, places);
            self.looked_at += looked_at;
            best = found.or(best);
        }
        best
    }

    /// Whether a node may hold one `request`, as far as is known without a search.
    pub(super) fn may_hold(&self, wanted: &Wanted, request: &[i64]) -> bool {
        self.together[wanted.together as usize].may_hold(request)
    }

    /// Goes on to look for what holds a `request`; whether there may be any.
    fn need(&mut self, wanted: &Wanted, request: &[i64]) -> bool {
        self.needed.clear();
        self.needed.extend(needed(request));
        self.may_hold(wanted, request)
    }

    /// What was found of all that there is.
    fn found(&mut self, wanted: &Wanted, found: Option<Rank>) {
        let together = &mut self.together[wanted.together as usize];
        if found.is_none() {
            together.is_too_much(&self.needed);
            together.in_vain += 1;
            // What is free falls: now and then, what nodes have at most is worked out anew.
            let orders = together.orders.iter();
            let blocks = orders.map(|order| self.orders[*order as usize].blocks()).sum::<usize>();
            if together.in_vain * LOOKS > blocks {
                together.look(&self.orders, self.resources);
            }
        }
    }

    /// What a node has free.
    pub(super) fn free_of(&self, node: u32) -> &[i64] {
        row(&self.free, self.resources, node)
    }

    /// How many of `request` the node holds with what it has free.
    pub(super) fn room_for(&self, node: u32, request: &[i64]) -> u64 {
        row(&self.free, self.resources, node)
            .iter()
            .zip(request)
            .filter(|(_, request)| **request > 0)
            .map(|(free, request)| u64::try_from(free / request).unwrap_or(0))
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Takes `count` times `request`, for which the node has room.
    pub(super) fn take(&mut self, node: u32, request: &[i64], count: u64) {
        self.set_aside(node, request, count);
        let mut asked = self.free_of(node).iter().zip(request);
        let holds = asked.all(|(free, request)| *request == 0 || *free >= 0);
        assert!(holds, "node {node} would be over-committed");
    }

    /// Takes `count` times `request`, though it may not be there yet: less than nothing may be
    /// left.
    pub(super) fn set_aside(&mut self, node: u32, request: &[i64], count: u64) {
        let count = i64::try_from(count).expect("a step is bounded by what fits an i64");
        let start = node as usize * self.resources;
        let free = &mut self.free[start..start + self.resources];
        self.before.clear();
        self.before.extend_from_slice(free);
        for (free, request) in free.iter_mut().zip(request) {
            *free = free.saturating_sub(request.saturating_mul(count));
        }
        let zone = self.zone_of[node as usize];
        let orders = if zone == NO_ZONE { &[][..] } else { &self.orders_of[zone as usize][..] };
        for &order in orders {
            self.orders[order as usize].fallen(node, &self.before, &self.free);
        }
    }
}
