//! `muster clusters`

use muster_api::request::ClusterList;

use crate::context::Context;
use crate::exit::Outcome;
use crate::show::{Rows, ago, amount};

pub(crate) async fn run(context: &Context) -> anyhow::Result<Outcome> {
    let list = ClusterList { clusters: context.client.clusters().await? };
    context.show(&list, table)?;
    Ok(Outcome::Done)
}

fn table(context: &Context, list: &ClusterList) -> String {
    let header = ["NAME", "POOL", "NODES", "RUNS", "CPU FREE", "MEMORY FREE", "LAST CONTACT"];
    let mut rows = Rows::new(context.colour, &header);
    for cluster in &list.clusters {
        let of = |resource| {
            format!(
                "{} of {}",
                amount(&cluster.free, resource),
                amount(&cluster.capacity, resource)
            )
        };
        rows.add([
            cluster.name.clone(),
            cluster.pool.clone(),
            cluster.nodes.to_string(),
            cluster.runs.to_string(),
            of("cpu"),
            of("memory"),
            ago(context.clock.now(), &cluster.last_contact),
        ]);
    }
    rows.text()
}
