//! `muster pool`: what is set for pools.

use clap::Args;
use muster_api::http::{PoolSettings, Rate};

use crate::context::Context;
use crate::exit::Outcome;
use crate::input::limits;
use crate::show::{self, Rows};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show what is set for a pool
    Get {
        /// Its name
        name: String,
    },
    /// Set how fast jobs are placed in a pool, what they share that no node has, and how nodes are
    /// chosen, and to whom idle ones are lent; what is not said is not set any more
    Set(Set),
    /// Take away what was set for a pool
    Unset {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Its name
    name: String,
    /// Jobs of all queues that are placed a second, in the long run
    #[arg(long, value_name = "N/s", value_parser = limits::rate)]
    rate: Option<f64>,
    /// Jobs that are placed at once (default: those of a second)
    #[arg(long, value_name = "N", requires = "rate")]
    burst: Option<u32>,
    /// A resource of no node, such as licences, that its jobs may hold together (repeatable)
    #[arg(long, value_name = "RESOURCE=AMOUNT", value_parser = amount)]
    floating: Vec<(String, String)>,
    /// Which of the nodes that have room is chosen for jobs that do not say it: the one on which
    /// the least is left, or the most
    #[arg(long, value_parser = ["pack", "spread"])]
    placement: Option<String>,
    /// A pool whose jobs of preemptible classes may use what this pool's jobs leave idle, until
    /// these need it (repeatable)
    #[arg(long, value_name = "POOL")]
    lend_to: Vec<String>,
}

fn amount(text: &str) -> Result<(String, String), String> {
    let (name, amount) = text.split_once('=').ok_or("a floating resource is RESOURCE=AMOUNT")?;
    Ok((name.to_owned(), amount.to_owned()))
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<Outcome> {
    let client = &context.client;
    match command {
        Command::Get { name } => show_one(context, &name, &client.pool_settings(&name).await?)?,
        Command::Set(Set { name, rate, burst, floating, placement, lend_to }) => {
            let rate =
                rate.map(|per_second| Rate { per_second, burst: limits::burst(burst, per_second) });
            let floating_resources = floating.into_iter().collect();
            let lends_to = lend_to.into_iter().collect();
            let settings = PoolSettings { rate, floating_resources, placement, lends_to };
            show_one(context, &name, &client.put_pool_settings(&name, &settings).await?)?;
        }
        Command::Unset { name } => {
            client.delete_pool_settings(&name).await?;
            show::note(&format!("nothing is set for pool `{name}` any more"));
        }
    }
    Ok(Outcome::Done)
}

fn show_one(context: &Context, name: &str, settings: &PoolSettings) -> anyhow::Result<()> {
    context.show(settings, |context, settings| {
        let mut rows =
            Rows::new(context.colour, &["POOL", "RATE", "FLOATING", "PLACEMENT", "LENDS TO"]);
        let rate = settings.rate.map(|rate| format!("{}/s burst {}", rate.per_second, rate.burst));
        let floating = settings.floating_resources.iter();
        let floating: Vec<String> = floating.map(|(name, n)| format!("{name}={n}")).collect();
        let placement = settings.placement.clone().unwrap_or_default();
        let lends_to: Vec<&str> = settings.lends_to.iter().map(String::as_str).collect();
        let (rate, floating) = (rate.unwrap_or_default(), floating.join(" "));
        rows.add([name.to_owned(), rate, floating, placement, lends_to.join(" ")]);
        rows.text()
    })
}
