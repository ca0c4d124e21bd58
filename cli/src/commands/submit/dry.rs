//! `muster submit --dry-run`: what a submission would come to.

use muster_api::request::DryRun;

use crate::context::Context;
use crate::exit::Outcome;
use crate::show::{self, Rows};

/// What all requests would come to.
#[derive(Debug, Default)]
pub(super) struct Tried {
    all: DryRun,
}

impl Tried {
    /// Takes in what one request would come to.
    pub(super) fn add(&mut self, found: DryRun) {
        let DryRun { accepted, rejected, mut errors, shapes, others } = found;
        // Lines of a request are counted from its beginning.
        let before = self.all.accepted + self.all.rejected;
        errors.iter_mut().for_each(|error| error.line += before);
        self.all.accepted += accepted;
        self.all.rejected += rejected;
        self.all.errors.extend(errors);
        self.all.shapes.extend(shapes);
        self.all.others += others;
    }

    /// Prints it.
    pub(super) fn show(&self, context: &Context) -> anyhow::Result<Outcome> {
        context.show(&self.all, table)?;
        let DryRun { accepted, rejected, others, .. } = &self.all;
        if *others > 0 {
            show::note(&format!("{others} further jobs were not looked at one by one"));
        }
        show::note(&format!("{accepted} jobs would be accepted, {rejected} rejected"));
        Ok(if *rejected == 0 { Outcome::Done } else { Outcome::Failed })
    }
}

fn table(context: &Context, tried: &DryRun) -> String {
    let mut rows =
        Rows::new(context.colour, &["JOBS", "POOL", "CLASS", "PRIORITY", "REQUESTS", "WHERE"]);
    for shape in &tried.shapes {
        let requests = shape.resources.iter().map(|(name, amount)| format!("{name} {amount}"));
        let requests: Vec<_> = requests.collect();
        rows.add([
            shape.jobs.to_string(),
            shape.pool.clone(),
            shape.class.clone(),
            shape.priority.to_string(),
            requests.join(", "),
            shape.summary.clone(),
        ]);
    }
    rows.text()
}
