//! `muster clusters`

use muster_api::request::ClusterList;

use crate::context::Context;
use crate::exit::Outcome;
use crate::show::{Rows, ago, amount, or_dash};

pub(crate) async fn run(context: &Context) -> anyhow::Result<Outcome> {
    let list = context.client.clusters().await?;
    context.show(&list, table)?;
    Ok(Outcome::Done)
}

/// Cordons have a column where there are any.
fn table(context: &Context, list: &ClusterList) -> String {
    let mut header =
        vec!["NAME", "POOL", "NODES", "RUNS", "CPU FREE", "MEMORY FREE", "LAST CONTACT"];
    let is_cordoned = !list.cordons.is_empty();
    header.extend(is_cordoned.then_some("CORDONED"));
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
        rows.add(cells.into_iter().chain(cordoned));
    }
    // What is cordoned may be away.
    let is_there = |name: &str| list.clusters.iter().any(|cluster| cluster.name == name);
    let mut away: Vec<&str> = list.cordons.iter().map(|cordon| cordon.cluster.as_str()).collect();
    away.sort_unstable();
    away.dedup();
    for name in away.into_iter().filter(|name| !is_there(name)) {
        let none = std::iter::repeat_n("-".to_owned(), 6);
        rows.add(std::iter::once(name.to_owned()).chain(none).chain([cordons(list, name)]));
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
