//! `muster shares`

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use muster_api::http::Pool;
use muster_core::quantity::Quantity;
use muster_core::resources::dense;

use crate::args::Output;
use crate::context::{Context, write_out};
use crate::exit::Outcome;
use crate::show::{Rows, ago, amount, percent, up_and_clear};

const WATCH_PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The pool
    #[arg(default_value = "default")]
    pool: String,
    /// Show all pools, one after the other
    #[arg(long, conflicts_with = "pool")]
    all: bool,
    /// Show it again every second
    #[arg(long, short)]
    watch: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<Outcome> {
    if !arguments.watch {
        match &pools(context, arguments).await?[..] {
            [pool] if !arguments.all => context.show(pool, table)?,
            pools => context.show(&pools, |context, pools| tables(context, pools))?,
        }
        return Ok(Outcome::Done);
    }
    let redraw = context.output == Output::Table && std::io::stdout().is_terminal();
    let mut lines = 0;
    loop {
        let pools = pools(context, arguments).await?;
        if redraw {
            let text = tables(context, &pools);
            write_out(&(up_and_clear(lines) + &text))?;
            lines = text.lines().count();
        } else {
            for pool in &pools {
                context.show_item(pool, table)?;
            }
        }
        context.clock.sleep(WATCH_PERIOD).await;
    }
}

async fn pools(context: &Context, arguments: &Arguments) -> anyhow::Result<Vec<Pool>> {
    if arguments.all {
        return Ok(context.client.pools().await?);
    }
    Ok(vec![context.client.shares(&arguments.pool).await?])
}

fn tables(context: &Context, pools: &[Pool]) -> String {
    pools.iter().map(|pool| table(context, pool)).collect::<Vec<_>>().join("\n")
}

pub(crate) fn table(context: &Context, pool: &Pool) -> String {
    let of = |resource| {
        format!("{} of {}", amount(&pool.allocated, resource), amount(&pool.capacity, resource))
    };
    let mut text = format!(
        "pool {}: {} nodes, cpu {}, memory {} ({})\n\n",
        pool.name,
        pool.nodes,
        of("cpu"),
        of("memory"),
        ago(context.clock.now(), &pool.at),
    );
    // Where the past does not count, there is nothing to show of it.
    let has_past = pool.queues.iter().any(|queue| !queue.decayed_usage.is_empty());
    let mut header = vec!["QUEUE", "WEIGHT", "QUEUED", "RUNNING", "CPU", "MEMORY"];
    header.extend(["DEMAND", "FAIR", "ACTUAL"]);
    header.extend(has_past.then_some("USED BEFORE"));
    header.push("PREEMPTED");
    let mut rows = Rows::new(context.colour, &header);
    for queue in &pool.queues {
        let used = has_past.then(|| percent(part(&queue.decayed_usage, &pool.capacity)));
        let cells = [
            queue.queue.clone(),
            queue.weight.to_string(),
            queue.queued.to_string(),
            queue.running.to_string(),
            amount(&queue.allocated, "cpu"),
            amount(&queue.allocated, "memory"),
            percent(queue.demand_share),
            percent(queue.ideal_share),
            percent(queue.actual_share),
        ];
        let preempted = queue.preempted_last_hour.to_string();
        rows.add(cells.into_iter().chain(used).chain([preempted]));
    }
    text += &rows.text();
    text
}

/// The largest part that amounts are of what there is of a resource.
fn part(amounts: &BTreeMap<String, String>, of: &BTreeMap<String, String>) -> f64 {
    let value = |resource: &str, text: &String| {
        text.parse::<Quantity>().map_or(0, |amount| dense(resource, amount)) as f64
    };
    let part = |(resource, amount): (&String, &String)| {
        let all = of.get(resource).map_or(0.0, |all| value(resource, all));
        if all > 0.0 { value(resource, amount) / all } else { 0.0 }
    };
    amounts.iter().map(part).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_a_pool_is_that_of_the_resource_of_which_it_is_most() {
        let amounts = |list: &[(&str, &str)]| {
            list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        let all = amounts(&[("cpu", "8"), ("memory", "16Gi")]);
        assert!((part(&amounts(&[("cpu", "500m"), ("memory", "4Gi")]), &all) - 0.25).abs() < 1e-9);
        assert!(part(&amounts(&[("gpu", "1")]), &all).abs() < 1e-9, "of what there is none");
    }
}
