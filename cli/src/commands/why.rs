//! `muster why`

use muster_api::http::{PoolWhy, Why};

use crate::context::Context;
use crate::exit::Outcome;
use crate::show::{Rows, or_dash, percent, span};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The job, a task (`A-7`) or an array
    id: String,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<Outcome> {
    context.show(&context.client.why(&arguments.id).await?, text)?;
    Ok(Outcome::Done)
}

fn text(context: &Context, why: &Why) -> String {
    let mut rows = Rows::new(context.colour, &["JOB", &why.job_id]);
    let mut add = |name: &str, value: String| rows.add([name.to_owned(), value]);
    add("state", why.state.clone());
    add("why", why.summary.clone());
    if let Some(place) = &why.place {
        let ahead = match place.ahead_max {
            Some(most) => format!("{} to {most}", place.ahead),
            None => place.ahead.to_string(),
        };
        let waiting = format!("{} of queue {} wait", place.waiting, why.queue);
        add("line", format!("{ahead} before it, {waiting} for pool {}", place.pool));
    }
    let Some(pool) = &why.pool else { return rows.text() };
    let share = &pool.share;
    add(
        "share",
        format!(
            "{}, fair {}, demand {} (weight {})",
            percent(share.actual),
            percent(share.fair),
            percent(share.demand),
            share.weight
        ),
    );
    let before = pool.before.iter().map(|queue| match &queue.class {
        Some(class) => format!("{} (class {class})", queue.queue),
        None => format!("{} ({})", queue.queue, percent(queue.actual)),
    });
    let before: Vec<_> = before.collect();
    if !before.is_empty() {
        add("before it", before.join(", "));
    }
    let seconds = pool.estimate.seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    let starts = seconds.map(|seconds| format!("in {}: ", span(seconds.saturating_mul(1000))));
    add("starts", starts.unwrap_or_default() + &pool.estimate.basis);
    rows.text() + "\n" + &clusters(context, pool)
}

fn clusters(context: &Context, pool: &PoolWhy) -> String {
    let header = ["CLUSTER", "NODES", "ROOM", "EVER", "RULED OUT", "BY", "NEAREST", "HAS", "LACKS"];
    let mut rows = Rows::new(context.colour, &header);
    for cluster in &pool.clusters {
        let numbers = [cluster.nodes, cluster.room, cluster.ever].map(|number| number.to_string());
        let [nodes, room, ever] = numbers;
        let first = [cluster.cluster.clone(), nodes, room, ever];
        if cluster.ruled_out.is_empty() {
            let dash = || or_dash(None);
            rows.add(first.clone().into_iter().chain([dash(), dash(), dash(), dash(), dash()]));
        }
        for (number, ruled_out) in cluster.ruled_out.iter().enumerate() {
            let what = ruled_out.what.iter().map(|what| format!(" {what}"));
            let by = ruled_out.reason.clone() + &what.collect::<String>();
            let first = if number == 0 { first.clone() } else { Default::default() };
            rows.add(first.into_iter().chain([
                ruled_out.nodes.to_string(),
                by,
                ruled_out.nearest.clone(),
                or_dash(ruled_out.has.as_deref()),
                or_dash(ruled_out.lacks.as_deref()),
            ]));
        }
    }
    rows.text()
}
