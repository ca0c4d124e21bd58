//! Which jobs a change concerns, and what it did.

use muster_api::http::Applied;
use muster_client::Selection;
use muster_core::limits::IDS_PER_REQUEST_MAX;
use tokio::io::AsyncReadExt;

use crate::args::Target;
use crate::context::Context;
use crate::exit::Outcome;
use crate::show;

/// The selections to send, none larger than one request may be.
pub(crate) async fn selections(target: Target) -> anyhow::Result<Vec<Selection>> {
    if let (Some(queue), Some(job_set)) = (target.queue, target.job_set) {
        return Ok(vec![Selection::JobSet { queue, job_set, states: target.state }]);
    }
    let mut ids = Vec::new();
    for id in target.ids {
        if id == "-" {
            let mut text = String::new();
            tokio::io::stdin().read_to_string(&mut text).await?;
            ids.extend(text.split_whitespace().map(str::to_owned));
        } else {
            ids.push(id);
        }
    }
    Ok(ids.chunks(IDS_PER_REQUEST_MAX).map(|chunk| Selection::Ids(chunk.to_vec())).collect())
}

/// Adds what another request did.
pub(crate) fn add(total: &mut Applied, applied: Applied) {
    total.changed += applied.changed;
    total.finished.extend(applied.finished);
    total.missing.extend(applied.missing);
}

/// Prints what was done; `verb` is what happened to the jobs.
pub(crate) fn show(context: &Context, applied: &Applied, verb: &str) -> anyhow::Result<Outcome> {
    context.show(applied, |_, applied| format!("{verb} {}\n", applied.changed))?;
    for id in &applied.finished {
        show::note(&format!("`{id}` had finished before"));
    }
    for id in &applied.missing {
        show::note(&format!("`{id}` is not known"));
    }
    Ok(if applied.missing.is_empty() { Outcome::Done } else { Outcome::NotFound })
}
