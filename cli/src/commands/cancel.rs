//! `muster cancel`

use muster_api::http::Applied;

use super::target;
use crate::args::Target;
use crate::context::Context;
use crate::exit::Outcome;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Why, for whoever asks later
    #[arg(long)]
    reason: Option<String>,
}

pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let mut total = Applied::default();
    for selection in target::selections(arguments.target).await? {
        let applied = context.client.cancel(selection, arguments.reason.clone()).await?;
        target::add(&mut total, applied);
    }
    target::show(context, &total, "cancelled")
}
