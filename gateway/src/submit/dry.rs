//! A submission that is only tried out: every check of a real one, where its jobs could run, and
//! how many stand before them. Nothing is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, stream};
use muster_api::bus::{PoolReply, PoolRequest, Tried, TriedKind};
use muster_api::convert;
use muster_api::http::{Problem, ShapeFit};
use muster_api::request::{DryRun, LineError};
use muster_core::shape::ShapeKey;

use super::commands::{self, Command};
use super::pump::{self, Source};
use super::{Target, response};
use crate::gateway::Gateway;
use crate::jobs;
use crate::leaders::{self, Asked};
use crate::limits;
use crate::problem::{Answer, Failure};

/// What was found so far.
#[derive(Default)]
pub(super) struct Trial {
    found: DryRun,
    /// Jobs, tasks one by one, that would wait.
    waiting: u64,
    kinds: BTreeMap<(u32, ShapeKey), TriedKind>,
}

/// Tries a body of lines or columns out.
pub(super) async fn of_stream(gateway: &Gateway, target: &Target, mut source: Source) -> Answer {
    let bytes_max = commands::batch_bytes_max(gateway, target);
    let mut trial = Trial::default();
    while let Some(work) = source.next(gateway).await {
        let held = gateway.admit_bytes(work.bytes()).await;
        let (commands, held) = pump::parse(gateway, target, work, held, bytes_max).await;
        for command in commands {
            trial.add(gateway, target, command).await?;
        }
        drop(held);
    }
    trial.answer(gateway).await
}

impl Trial {
    /// Tries one command out, after those before it.
    pub(super) async fn add(
        &mut self,
        gateway: &Gateway,
        target: &Target,
        command: Command,
    ) -> Result<(), Failure> {
        for (line, problem) in command.rejected {
            self.reject(line, problem);
        }
        let Some(batch) = command.batch else { return Ok(()) };
        let lines = command.lines.iter();
        match commands::try_submit(gateway, target, batch, self.waiting).await {
            Ok(tried) => {
                self.found.accepted += lines.map(|(_, count)| u64::from(*count)).sum::<u64>();
                self.tried(tried);
            }
            Err(failure) if failure.0.code.is_retryable() => return Err(failure),
            Err(failure) => {
                for line in lines.flat_map(|(first, count)| *first..first + u64::from(*count)) {
                    self.reject(line, failure.0.clone());
                }
            }
        }
        Ok(())
    }

    fn reject(&mut self, line: u64, error: Problem) {
        self.found.rejected += 1;
        if self.found.errors.len() < limits::SUMMARY_ERRORS_MAX {
            self.found.errors.push(LineError { line: line + 1, error });
        }
    }

    fn tried(&mut self, tried: Tried) {
        self.waiting += tried.new;
        self.found.others += tried.others;
        for kind in tried.kinds {
            let is_full = self.kinds.len() >= limits::KINDS_MAX;
            let key = (kind.priority, kind.shape.0.key());
            match self.kinds.get_mut(&key) {
                Some(known) => known.jobs += kind.jobs,
                None if is_full => self.found.others += kind.jobs,
                None => {
                    self.kinds.insert(key, kind);
                }
            }
        }
    }

    /// The answer, with what the leaders of the pools say.
    pub(super) async fn answer(mut self, gateway: &Gateway) -> Answer {
        self.found.errors.sort_by_key(|error| error.line);
        let kinds = std::mem::take(&mut self.kinds).into_values();
        let fits = kinds.map(|kind| fit(gateway, kind));
        let fits: Vec<_> = stream::iter(fits).buffered(limits::QUESTIONS_AT_ONCE).collect().await;
        self.found.shapes = fits.into_iter().collect::<Result<_, Failure>>()?;
        let body = serde_json::to_vec(&self.found).expect("an answer is plain data");
        Ok(response("application/json", body))
    }
}

/// Where jobs of a kind could run.
async fn fit(gateway: &Gateway, kind: TriedKind) -> Result<ShapeFit, Failure> {
    let shape = Arc::clone(&kind.shape.0);
    let mut fit = ShapeFit {
        pool: shape.pool.to_string(),
        class: shape.class.to_string(),
        priority: kind.priority,
        resources: convert::quantities(&shape.request),
        jobs: kind.jobs,
        ahead: jobs::ahead(&gateway.control(), &shape.class, &kind.classes),
        ..ShapeFit::default()
    };
    match gateway.ask_leader(&fit.pool, &PoolRequest::Fit(kind.shape)).await? {
        Asked::Answered(PoolReply::Fit(clusters)) => {
            fit.fits_ever = Some(clusters.iter().any(|cluster| cluster.ever > 0));
            fit.clusters = clusters;
        }
        Asked::Answered(other) => return Err(leaders::unexpected(&other)),
        Asked::Silent(_) => {}
    }
    fit.summary = fit.sentence();
    Ok(fit)
}
