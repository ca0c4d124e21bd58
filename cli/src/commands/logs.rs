//! `muster logs`

use std::io::Write;

use futures::StreamExt;
use muster_client::Follow;

use crate::context::Context;
use crate::exit::Outcome;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The job or task
    #[arg(value_name = "ID")]
    id: String,
    /// Go on until its run ends
    #[arg(long, short)]
    follow: bool,
}

pub(crate) async fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<Outcome> {
    let follow = if arguments.follow { Follow::Yes } else { Follow::No };
    let mut log = context.client.logs(&arguments.id, follow).await?;
    while let Some(piece) = log.next().await {
        // What a job prints is bytes, not text.
        let mut out = std::io::stdout().lock();
        out.write_all(&piece?)?;
        out.flush()?;
    }
    Ok(Outcome::Done)
}
