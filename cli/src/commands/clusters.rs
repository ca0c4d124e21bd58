//! `muster clusters`

use muster_api::http::{Cluster, NodeTakenOut};
use muster_api::request::ClusterList;

use crate::context::Context;
use crate::exit::Outcome;
use crate::show::{Rows, ago, amount, or_dash};

pub(crate) async fn run(context: &Context) -> anyhow::Result<Outcome> {
    let list = context.client.clusters().await?;
    context.show(&list, table)?;
    Ok(Outcome::Done)
}

/// Cordons, and nodes that were taken out, have a column where there are any.
fn table(context: &Context, list: &ClusterList) -> String {
    let mut header =
        vec!["NAME", "POOL", "NODES", "RUNS", "CPU FREE", "MEMORY FREE", "LAST CONTACT"];
    let is_cordoned = !list.cordons.is_empty();
    header.extend(is_cordoned.then_some("CORDONED"));
    let is_out = list.clusters.iter().any(|cluster| !cluster.taken_out.is_empty());
    header.extend(is_out.then_some("TAKEN OUT"));
    let mut rows = Rows::new(context.colour, &header);
    for cluster in &list.clusters {
        let of = |resource| {
            format!(
                "{} of {}",
                amount(&cluster.free, resource),
                amount(&cluster.capacity, resource)
            )
        };
        let cells = [
            cluster.name.clone(),
            cluster.pool.clone(),
            cluster.nodes.to_string(),
            cluster.runs.to_string(),
            of("cpu"),
            of("memory"),
            ago(context.clock.now(), &cluster.last_contact),
        ];
        let cordoned = is_cordoned.then(|| or_dash(Some(&cordons(list, &cluster.name))));
        let out = is_out.then(|| or_dash(Some(&taken_out(cluster))));
        rows.add(cells.into_iter().chain(cordoned).chain(out));
    }
    // What is cordoned may be away.
    let is_there = |name: &str| list.clusters.iter().any(|cluster| cluster.name == name);
    let mut away: Vec<&str> = list.cordons.iter().map(|cordon| cordon.cluster.as_str()).collect();
    away.sort_unstable();
    away.dedup();
    for name in away.into_iter().filter(|name| !is_there(name)) {
        let none = std::iter::repeat_n("-".to_owned(), 6);
        let cells = std::iter::once(name.to_owned()).chain(none).chain([cordons(list, name)]);
        rows.add(cells.chain(is_out.then(|| "-".to_owned())));
    }
    rows.text()
}

/// What is cordoned of a cluster, and why: `all (repair), n1 (disk)`.
fn cordons(list: &ClusterList, cluster: &str) -> String {
    let mine = list.cordons.iter().filter(|cordon| cordon.cluster == cluster);
    let texts: Vec<String> = mine
        .map(|cordon| {
            let what = cordon.node.as_deref().unwrap_or("all");
            cordon.reason.as_ref().map_or(what.to_owned(), |reason| format!("{what} ({reason})"))
        })
        .collect();
    texts.join(", ")
}

/// The nodes that are out, until when and why: `n1 until … (jobs of a, b failed)`.
fn taken_out(cluster: &Cluster) -> String {
    let texts = cluster.taken_out.iter().map(|out| {
        let NodeTakenOut { node, queues, until, .. } = out;
        format!("{node} until {until} (jobs of {} failed)", queues.join(", "))
    });
    texts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_out_is_shown_with_whose_jobs_failed_and_until_when() {
        let out = |node: &str| NodeTakenOut {
            node: node.to_owned(),
            queues: vec!["a".to_owned(), "b".to_owned()],
            since: "then".to_owned(),
            until: "later".to_owned(),
        };
        let cluster = Cluster { taken_out: vec![out("m"), out("n")], ..Cluster::default() };
        let shown = "m until later (jobs of a, b failed); n until later (jobs of a, b failed)";
        assert_eq!(taken_out(&cluster), shown);
        assert_eq!(or_dash(Some(&taken_out(&Cluster::default()))), "-");
    }
}
