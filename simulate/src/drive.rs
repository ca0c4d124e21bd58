//! The run of a simulation: what is submitted when, what ends when, until all is over.
//!
//! Time goes in steps. At each one, what is over ends, what is due is submitted, and then the
//! system does what it does by itself, as fast as it likes by its own clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use muster_api::http::Problem;
use serde_json::json;

use crate::books::JOB_ANNOTATION;
use crate::cluster::{World, ceil};
use crate::gateway::Gateway;
use crate::report::End;
use crate::scenario::{GANG_ID, Scenario, Template};
use crate::system::{OFFER_INTERVAL, Site};

/// Bytes of one submission.
const BODY_BYTES: usize = 8 << 20;
/// So long nothing may happen while jobs wait and none runs or is to come.
const STALL: Duration = Duration::from_secs(3_600);

/// What is driven.
pub(crate) struct Drive {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) site: Site,
    pub(crate) world: World,
    pub(crate) gateway: Gateway,
    pub(crate) step: Duration,
    pub(crate) until: Option<Duration>,
    /// Templates by the time at which they are submitted.
    pub(crate) coming: BTreeSet<(Duration, usize)>,
    /// Templates that wait for others.
    pub(crate) dependents: Vec<usize>,
    /// How far the simulation has come, for whoever looks on.
    pub(crate) progress: Box<dyn FnMut(Duration, u64) + Send>,
}

/// What comes when, and what waits for others, of the templates at the beginning.
pub(crate) fn agenda(templates: &[Template]) -> (BTreeSet<(Duration, usize)>, Vec<usize>) {
    let (waiting, free): (Vec<usize>, Vec<usize>) =
        (0..templates.len()).partition(|n| !templates[*n].after.is_empty());
    (free.into_iter().map(|n| (templates[n].earliest, n)).collect(), waiting)
}

impl Drive {
    /// Runs to the end.
    pub(crate) async fn run(mut self) -> anyhow::Result<(World, End, Duration)> {
        self.world.begin();
        let mut moment = Duration::ZERO;
        let end = loop {
            self.world.lock().books.sample(moment);
            if self.until.is_some_and(|until| moment >= until) {
                break End::Until;
            }
            let ended = self.world.over(moment);
            self.release_dependents(moment);
            // What comes and what room comes free at one moment is decided on together.
            self.submit_due(moment).await?;
            self.world.tell(ended).await;
            self.site.is_well()?;
            if let Some(end) = self.end(moment).await? {
                break end;
            }
            moment = self.next(moment);
            self.world.sleep_until(moment).await;
            let waiting = self.world.lock().books.waiting();
            (self.progress)(moment, waiting);
        };
        Ok((self.world, end, moment))
    }

    /// The next moment at which something can be the case: a step later, or, if nothing runs or
    /// waits, when the next jobs come.
    fn next(&self, moment: Duration) -> Duration {
        let idle = {
            let inner = self.world.lock();
            inner.running() == 0 && inner.books.waiting() == 0
        };
        let later = moment + self.step;
        let next = match self.coming.first().filter(|_| idle) {
            Some((coming, _)) => ceil(*coming, self.step).max(later),
            None => later,
        };
        self.until.map_or(next, |until| next.min(until.max(later)))
    }

    /// Makes due what waited for others that are over.
    fn release_dependents(&mut self, moment: Duration) {
        let inner = self.world.lock();
        let (scenario, coming) = (&self.scenario, &mut self.coming);
        self.dependents.retain(|number| {
            let template = &scenario.templates[*number];
            if !template.after.iter().all(|on| inner.books.is_over(*on)) {
                return true;
            }
            coming.insert((template.earliest.max(moment + template.pause), *number));
            false
        });
    }

    async fn submit_due(&mut self, moment: Duration) -> anyhow::Result<()> {
        let later = self.coming.split_off(&(moment + Duration::from_nanos(1), 0));
        let now = std::mem::replace(&mut self.coming, later);
        let now: Vec<usize> = now.into_iter().map(|(_, number)| number).collect();
        let scenario = Arc::clone(&self.scenario);
        let key = |n: &usize| {
            let template = &scenario.templates[*n];
            (template.queue, &template.job_set)
        };
        if now.is_empty() {
            return Ok(());
        }
        self.site.bus.hold();
        for group in now.chunk_by(|a, b| key(a) == key(b)) {
            self.submit(group, moment).await?;
        }
        // Until all of it was offered.
        self.site.clock.sleep(OFFER_INTERVAL * 2).await;
        Ok(self.site.bus.release().await?)
    }

    /// Submits templates of one job set.
    async fn submit(&mut self, templates: &[usize], moment: Duration) -> anyhow::Result<()> {
        let first = &self.scenario.templates[templates[0]];
        let queue = &self.scenario.queues[first.queue].name;
        let (mut lines, mut of_line) = (String::new(), Vec::new());
        for number in templates {
            let template = &self.scenario.templates[*number];
            self.world.lock().books.submitted(*number, moment);
            for line in lines_of(template, *number) {
                lines += &line;
                lines.push('\n');
                of_line.push(*number);
                if lines.len() >= BODY_BYTES {
                    let body = std::mem::take(&mut lines);
                    let refused = self.gateway.submit(queue, &first.job_set, body).await?;
                    self.refuse(&refused, &std::mem::take(&mut of_line))?;
                }
            }
        }
        if !lines.is_empty() {
            let refused = self.gateway.submit(queue, &first.job_set, lines).await?;
            self.refuse(&refused, &of_line)?;
        }
        Ok(())
    }

    /// A simulation without jobs that belong to it would say nothing true.
    fn refuse(&self, refused: &[(usize, Problem)], of_line: &[usize]) -> anyhow::Result<()> {
        let Some((line, problem)) = refused.first() else { return Ok(()) };
        let id = &self.scenario.templates[of_line[*line]].id;
        bail!("jobs of template `{id}` are refused: {}", problem.detail)
    }

    /// How it ends, if it does.
    async fn end(&self, moment: Duration) -> anyhow::Result<Option<End>> {
        let (running, waiting, moved) = {
            let inner = self.world.lock();
            (inner.running(), inner.books.waiting(), inner.books.moved)
        };
        if running > 0 || !self.coming.is_empty() {
            return Ok(None);
        }
        let quiet = moment.saturating_sub(moved);
        let is_stalled = quiet >= STALL.max(self.step * 100);
        if waiting > 0 || !self.dependents.is_empty() {
            return Ok(is_stalled.then_some(End::Stalled));
        }
        // What failed may be tried again; only the shard knows.
        if quiet < self.step * 2 || is_stalled {
            return Ok(is_stalled.then_some(End::Stalled));
        }
        for queue in &self.scenario.queues {
            if self.gateway.live(&queue.name).await? > 0 {
                return Ok(None);
            }
        }
        Ok(Some(End::Finished))
    }
}

/// The jobs of a template as lines of a submission.
fn lines_of(template: &Template, place: usize) -> impl Iterator<Item = String> {
    let per_line = if template.gang.is_some() { 1 } else { template.number };
    let of_gang = template.gang.as_ref().map_or(1, |gang| gang.cardinality);
    let firsts = (0..template.number).step_by(per_line.max(1) as usize);
    firsts.map(move |first| {
        let mut job = template.job.clone();
        if let Some(annotations) = job.get_mut("annotations") {
            annotations[JOB_ANNOTATION] = json!(format!("{place}/{first}"));
            if template.gang.is_some() {
                annotations[GANG_ID] = json!(format!("{place}-{}", first / of_gang));
            }
        }
        if per_line > 1 {
            job.insert("count".to_owned(), json!(per_line));
        }
        serde_json::Value::Object(job).to_string()
    })
}
