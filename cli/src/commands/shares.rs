//! `muster shares`

use std::io::IsTerminal;
use std::time::Duration;

use muster_api::http::Pool;

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
    /// Show it again every second
    #[arg(long, short)]
    watch: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<Outcome> {
    if !arguments.watch {
        context.show(&context.client.shares(&arguments.pool).await?, table)?;
        return Ok(Outcome::Done);
    }
    let redraw = context.output == Output::Table && std::io::stdout().is_terminal();
    let mut lines = 0;
    loop {
        let pool = context.client.shares(&arguments.pool).await?;
        if redraw {
            let text = table(context, &pool);
            write_out(&(up_and_clear(lines) + &text))?;
            lines = text.lines().count();
        } else {
            context.show_item(&pool, table)?;
        }
        context.clock.sleep(WATCH_PERIOD).await;
    }
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
    let header = [
        "QUEUE",
        "WEIGHT",
        "QUEUED",
        "RUNNING",
        "CPU",
        "MEMORY",
        "DEMAND",
        "FAIR",
        "ACTUAL",
        "PREEMPTED",
    ];
    let mut rows = Rows::new(context.colour, &header);
    for queue in &pool.queues {
        rows.add([
            queue.queue.clone(),
            queue.weight.to_string(),
            queue.queued.to_string(),
            queue.running.to_string(),
            amount(&queue.allocated, "cpu"),
            amount(&queue.allocated, "memory"),
            percent(queue.demand_share),
            percent(queue.ideal_share),
            percent(queue.actual_share),
            queue.preempted_last_hour.to_string(),
        ]);
    }
    text += &rows.text();
    text
}
