//! The same in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Blocker, ClusterFit, LinePlace, RuledOut, ShapeFit, Why};

/// Reasons of nodes that a sentence names; there may be more.
const REASONS_MAX: usize = 4;

impl Why {
    /// The answer in one sentence: see [`Why::summary`].
    #[must_use]
    pub fn sentence(&self) -> String {
        let Some((first, others)) = self.blockers.split_first() else {
            return self.without_blocker();
        };
        if let Blocker::Starting { cluster, node } = first {
            return format!("it is on node `{node}` of cluster `{cluster}` and starts there");
        }
        let clusters = self.pool.as_ref().map(|pool| pool.clusters.as_slice()).unwrap_or_default();
        let mut text = format!("it waits: {}", self.told(first, clusters));
        for other in others {
            let _ = write!(text, "; {}", self.told(other, clusters));
        }
        text
    }

    fn without_blocker(&self) -> String {
        match self.state.as_str() {
            "queued" => "it waits, and nothing is known to keep it".to_owned(),
            "running" => "it runs".to_owned(),
            "cancelled" => "it was cancelled".to_owned(),
            "succeeded" | "failed" => format!("it has {}", self.state),
            state => format!("it is {state}"),
        }
    }

    fn told(&self, blocker: &Blocker, clusters: &[ClusterFit]) -> String {
        let text = blocker.text();
        let details = match blocker {
            Blocker::NeverFits { .. } | Blocker::NoRoom { .. } => ruled_out(clusters),
            Blocker::Line { .. } => self.place.as_ref().map(at_most).unwrap_or_default(),
            Blocker::QueueCordoned { .. }
            | Blocker::NoCluster { .. }
            | Blocker::NodesClosed { .. }
            | Blocker::Limit { .. }
            | Blocker::Floating { .. }
            | Blocker::Rate { .. }
            | Blocker::PoolRate { .. }
            | Blocker::HeldBack { .. }
            | Blocker::GangWaiting { .. }
            | Blocker::GangRoom { .. }
            | Blocker::RoomKept { .. }
            | Blocker::SharesKept { .. }
            | Blocker::Claimed { .. }
            | Blocker::NextRound
            | Blocker::NotOffered { .. }
            | Blocker::NoLeader { .. }
            | Blocker::Starting { .. }
            | Blocker::Unknown => String::new(),
        };
        if details.is_empty() { text } else { format!("{text} ({details})") }
    }
}

impl Blocker {
    /// What it is, as a part of a sentence.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::QueueCordoned { queue } => format!("queue `{queue}` is cordoned"),
            Self::NoCluster { pool } => format!("no cluster of pool `{pool}` is there"),
            Self::NeverFits { pool } => format!("no node of pool `{pool}` could ever hold it"),
            Self::NodesClosed { nodes } => format!(
                "{} that could hold it, cordoned, taken out, draining or not ready, {} nothing new",
                counted(*nodes, "the one node", "nodes"),
                if *nodes == 1 { "takes" } else { "take" }
            ),
            Self::Limit { class, resource, limit, held, requested } => {
                let of = class.as_ref().map(|class| format!(" in class `{class}`"));
                let of = of.unwrap_or_default();
                format!(
                    "its queue holds {held} {resource}{of}, the limit is {limit}, and it asks for \
                     {requested}"
                )
            }
            Self::Rate { per_second, burst } => format!(
                "its queue's rate of {per_second} jobs a second ({burst} at once) is used up"
            ),
            Self::Floating { resource, limit, held, requested } => format!(
                "jobs of its pool hold {held} of {limit} {resource}, and it asks for {requested}"
            ),
            Self::PoolRate { pool, per_second, burst } => format!(
                "the rate of pool `{pool}`, {per_second} jobs a second ({burst} at once), is used \
                 up"
            ),
            Self::HeldBack { detail } => detail.clone(),
            Self::GangWaiting { gang, live, waiting, cardinality } => format!(
                "its gang `{gang}` is not whole: {waiting} of {live} members that are there wait, \
                 and there must be {cardinality}"
            ),
            Self::GangRoom { gang, cardinality, uniform, room } => {
                gang_room(gang, *cardinality, uniform.as_deref(), *room)
            }
            Self::RoomKept { queues } => format!(
                "room is kept for jobs of {} that have waited too long",
                counted(*queues, "another queue", "other queues")
            ),
            Self::SharesKept { queues } => format!(
                "its queue has its fair share, and those of {} are kept whose shard is being taken \
                 over",
                counted(*queues, "another queue", "other queues")
            ),
            Self::NoRoom { nodes: 1 } => "the one node that could hold it has no room".to_owned(),
            Self::NoRoom { nodes } => format!("none of {nodes} nodes that could hold it has room"),
            Self::Claimed { cluster, node, preempting, by } => {
                claimed(cluster, node, *preempting, by.as_deref())
            }
            Self::Line { jobs, higher_queues, lower_queues } => {
                line(*jobs, *higher_queues, *lower_queues)
            }
            Self::NextRound => {
                "there is room for it, and it goes with one of the next rounds".into()
            }
            Self::NotOffered { pool } => {
                format!("the leader of pool `{pool}` does not know of its queue's jobs yet")
            }
            Self::NoLeader { pool, detail } => format!(
                "nobody who leads pool `{pool}` answers (somebody does once a cluster of it is \
                 there), so more is not known: {detail}"
            ),
            Self::Starting { cluster, node } => {
                format!("it starts on node `{node}` of cluster `{cluster}`")
            }
            Self::Unknown => "something that this version does not know".to_owned(),
        }
    }
}

fn claimed(cluster: &str, node: &str, is_preempting: bool, by: Option<&str>) -> String {
    if is_preempting {
        return format!(
            "jobs on node `{node}` of cluster `{cluster}` were told to stop to make room for it"
        );
    }
    let by = by.map(|by| format!(", which is enough by {by} at the latest")).unwrap_or_default();
    format!("what gets free on node `{node}` of cluster `{cluster}` is kept for it{by}")
}

fn gang_room(gang: &str, cardinality: u64, uniform: Option<&str>, room: Option<u64>) -> String {
    let uniform = uniform.map(|label| format!(" and one value of {label}")).unwrap_or_default();
    let room = room.map(|room| format!("; where there is the most, it is for {room}"));
    format!(
        "its gang `{gang}` needs room for all {cardinality} members at once, on one \
         cluster{uniform}{}",
        room.unwrap_or_default()
    )
}

impl ShapeFit {
    /// The answer in one sentence: see [`ShapeFit::summary`].
    #[must_use]
    pub fn sentence(&self) -> String {
        let sum = |part: fn(&ClusterFit) -> u64| self.clusters.iter().map(part).sum::<u64>();
        let (ever, room) = (sum(|cluster| cluster.ever), sum(|cluster| cluster.room));
        let clusters = self.clusters.iter().filter(|cluster| cluster.ever > 0).count() as u64;
        let fits = match self.fits_ever {
            None => {
                let pool = &self.pool;
                return format!("nobody who leads pool `{pool}` answers, so nothing is known");
            }
            Some(false) if self.clusters.is_empty() => {
                format!("no cluster of pool `{}` is there", self.pool)
            }
            Some(false) => {
                let why = ruled_out(&self.clusters);
                format!("no node of pool `{}` could ever hold one ({why})", self.pool)
            }
            Some(true) => format!(
                "{} of {} could hold one, {room} {} room now",
                counted(ever, "1 node", "nodes"),
                counted(clusters, "1 cluster", "clusters"),
                if room == 1 { "has" } else { "have" },
            ),
        };
        let ahead = counted(self.ahead, "1 job", "jobs");
        format!(
            "{fits}; {ahead} of the queue {} before",
            if self.ahead == 1 { "is" } else { "are" }
        )
    }
}

fn line(jobs: u64, higher_queues: u64, lower_queues: u64) -> String {
    let mut parts = Vec::new();
    if jobs > 0 {
        parts.push(format!("{} of its queue", counted(jobs, "1 job", "jobs")));
    }
    if higher_queues > 0 {
        let queues = counted(higher_queues, "1 queue", "queues");
        parts.push(format!("{queues} with jobs of higher classes"));
    }
    if lower_queues > 0 {
        let queues = counted(lower_queues, "1 queue", "queues");
        parts.push(format!("{queues} with less of their share"));
    }
    let is_one = jobs + higher_queues + lower_queues == 1;
    format!("before it {} {}", if is_one { "is" } else { "are" }, parts.join(", "))
}

fn at_most(place: &LinePlace) -> String {
    place.ahead_max.map(|most| format!("at most {most} jobs")).unwrap_or_default()
}

fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { one.to_owned() } else { format!("{count} {many}") }
}

/// What rules nodes out, those that rule most out first, and the nearest miss.
fn ruled_out(clusters: &[ClusterFit]) -> String {
    let mut sums: BTreeMap<(&str, Option<&str>), (u64, &RuledOut, &str)> = BTreeMap::new();
    for cluster in clusters {
        for ruled_out in &cluster.ruled_out {
            let key = (ruled_out.reason.as_str(), ruled_out.what.as_deref());
            let name = cluster.cluster.as_str();
            let (count, nearest, of) = sums.entry(key).or_insert((0, ruled_out, name));
            *count += ruled_out.nodes;
            if is_nearer(ruled_out, nearest) {
                (*nearest, *of) = (ruled_out, name);
            }
        }
    }
    let mut sums: Vec<_> = sums.into_values().collect();
    sums.sort_by_key(|(count, ruled_out, _)| (std::cmp::Reverse(*count), &ruled_out.reason));
    let told = sums.iter().take(REASONS_MAX);
    told.map(|(count, nearest, cluster)| reason(*count, nearest, cluster))
        .collect::<Vec<_>>()
        .join(", ")
}

fn is_nearer(one: &RuledOut, other: &RuledOut) -> bool {
    let lacks = |ruled_out: &RuledOut| {
        let text = ruled_out.lacks.as_ref()?;
        text.parse::<muster_core::quantity::Quantity>().ok()
    };
    lacks(one) < lacks(other)
}

fn reason(count: u64, nearest: &RuledOut, cluster: &str) -> String {
    let nodes = counted(count, "1 node", "nodes");
    let is_one = count == 1;
    let or_more = if is_one { "" } else { " or more" };
    let verb = |one: &'static str, many: &'static str| if is_one { one } else { many };
    let what = nearest.what.as_deref().unwrap_or_default();
    let (node, has) = (&nearest.nearest, nearest.has.as_deref().unwrap_or("0"));
    let lacks = nearest.lacks.as_deref().unwrap_or("0");
    match nearest.reason.as_str() {
        "label" => format!("{nodes} {} not the label {what}", verb("has", "have")),
        "affinity" => format!("{nodes} {} not meet its affinity", verb("does", "do")),
        "taint" => format!("{nodes} {} the untolerated taint {what}", verb("has", "have")),
        "avoided" => {
            format!("{nodes} {} avoided, since attempts failed there", verb("is", "are"))
        }
        "takenOut" => format!(
            "{nodes} {} taken out for a while, since jobs of several queues failed there",
            verb("is", "are")
        ),
        "closed" => format!("{nodes} {} nothing new", verb("takes", "take")),
        "tooSmall" => format!(
            "{nodes} {} too small by {lacks} {what}{or_more}, the largest `{node}` of `{cluster}` \
             with {has}",
            verb("is", "are")
        ),
        _ => format!(
            "{nodes} {} {lacks} {what}{or_more}, the nearest `{node}` of `{cluster}` with {has} free",
            verb("lacks", "lack")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::PoolWhy;
    use super::*;

    fn ruled_out(reason: &str, what: &str, nodes: u64, near: [&str; 3]) -> RuledOut {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        RuledOut {
            reason: reason.to_owned(),
            what: some(what),
            nodes,
            nearest: near[0].to_owned(),
            has: some(near[1]),
            lacks: some(near[2]),
        }
    }

    fn cluster(name: &str, ruled_out: Vec<RuledOut>) -> ClusterFit {
        ClusterFit { cluster: name.to_owned(), ruled_out, ..ClusterFit::default() }
    }

    #[test]
    fn a_job_without_room_is_told_what_nodes_lack_over_all_clusters() {
        let taint = "gpu=true:NoSchedule";
        let clusters = vec![
            cluster(
                "a",
                vec![
                    ruled_out("noRoom", "memory", 9, ["n1", "2Gi", "6Gi"]),
                    ruled_out("taint", taint, 3, ["n7", "", ""]),
                ],
            ),
            cluster("b", vec![ruled_out("noRoom", "memory", 8, ["n42", "4Gi", "4Gi"])]),
        ];
        let why = Why {
            state: "queued".to_owned(),
            blockers: vec![
                Blocker::NoRoom { nodes: 17 },
                Blocker::Line { jobs: 1, higher_queues: 0, lower_queues: 2 },
            ],
            place: Some(LinePlace { ahead: 1, ahead_max: Some(5), ..LinePlace::default() }),
            pool: Some(PoolWhy { clusters, ..PoolWhy::default() }),
            ..Why::default()
        };
        assert_eq!(
            why.sentence(),
            "it waits: none of 17 nodes that could hold it has room (17 nodes lack 4Gi memory or \
             more, the nearest `n42` of `b` with 4Gi free, 3 nodes have the untolerated taint \
             gpu=true:NoSchedule); before it are 1 job of its queue, 2 queues with less of their \
             share (at most 5 jobs)"
        );
    }

    #[test]
    fn a_job_that_does_not_wait_is_told_what_it_does() {
        let of = |state: &str, blockers| {
            Why { state: state.to_owned(), blockers, ..Why::default() }.sentence()
        };
        assert_eq!(of("running", vec![]), "it runs");
        assert_eq!(of("failed", vec![]), "it has failed");
        assert_eq!(of("cancelled", vec![]), "it was cancelled");
        let starting = Blocker::Starting { cluster: "c".into(), node: "n".into() };
        assert_eq!(
            of("leased", vec![starting]),
            "it is on node `n` of cluster `c` and starts there"
        );
        assert_eq!(of("queued", vec![]), "it waits, and nothing is known to keep it");
    }

    #[test]
    fn a_blocker_of_a_later_version_is_read_all_the_same() {
        let blockers: Vec<Blocker> =
            serde_json::from_str(r#"[{"kind":"moonPhase","moon":1},{"kind":"nextRound"}]"#)
                .unwrap();
        assert_eq!(blockers, [Blocker::Unknown, Blocker::NextRound]);
    }
}
