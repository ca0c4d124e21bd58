//! Reads that need more than the state: payloads from the log, finished jobs from the history.

use std::sync::Arc;

use muster_api::bus::{JobPayload, ListJobs, Room, ShardReply};
use muster_api::convert;
use muster_api::http::{ErrorCode, Job, JobPage, JobSpec, Problem};
use muster_api::job_text::Network;
use muster_core::Name;
use muster_core::history::Finished;
use muster_core::id::{JobId, JobRef, Position, ShardId};
use muster_core::job::StateSet;
use muster_core::record::Payload;
use muster_runtime::history::{Filter, History};
use muster_runtime::log::{Log, ReadError};
use serde_json::value::RawValue;

fn unavailable(what: &str, error: &dyn std::fmt::Display) -> ShardReply {
    tracing::warn!(%error, "{what} could not be read");
    let detail = format!("{what} cannot be read at the moment: {error}");
    ShardReply::Error(Problem::new(ErrorCode::Unavailable, detail))
}

/// A job that is in memory, or in the history.
pub(super) async fn job(
    found: Option<(Job, Position)>,
    wanted: JobRef,
    spec: bool,
    history: History,
    log: Arc<Log>,
) -> ShardReply {
    let found = match found {
        Some(found) => Some(found),
        None => match in_history(&history, wanted).await {
            Ok(done) => done,
            Err(error) => return unavailable("the history", &error),
        },
    };
    let Some((mut job, place)) = found else { return ShardReply::Job(None) };
    if spec {
        match log.reader().payloads(&[place]).await {
            Ok(payloads) => job.spec = payloads.into_iter().next().and_then(job_spec),
            // The payload of a job that has finished is let go with the log object that it is in.
            Err(ReadError::Missing { .. }) if job.finished_at.is_some() => {}
            Err(error) => return unavailable("the job's spec", &error),
        }
    }
    ShardReply::Job(Some(Box::new(job)))
}

/// What a change came to: of the jobs that are `unknown` to the state, history says which had
/// finished.
pub(super) async fn applied(
    mut reply: ShardReply,
    unknown: Vec<JobRef>,
    history: History,
) -> ShardReply {
    let ShardReply::Applied(applied) = &mut reply else { return reply };
    for job in unknown {
        match in_history(&history, job).await {
            Ok(Some(_)) => applied.finished.push(job.to_string()),
            Ok(None) => applied.missing.push(job.to_string()),
            Err(error) => return unavailable("the history", &error),
        }
    }
    reply
}

/// A job, a task, or an array as a whole, which has no row of its own.
async fn in_history(
    history: &History,
    wanted: JobRef,
) -> Result<Option<(Job, Position)>, muster_runtime::history::Error> {
    if let Some(done) = history.find(wanted).await? {
        return Ok(Some((convert::finished_job(&done), done.spec)));
    }
    if wanted.index.is_some() {
        return Ok(None);
    }
    let end = history.array(wanted.job).await?;
    Ok(end.map(|end| {
        let shown = convert::finished_array(&end.example, &end.counts, end.finished_at);
        (shown, end.example.spec)
    }))
}

fn job_spec(payload: Payload) -> Option<JobSpec> {
    let raw = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok()?.to_owned();
        RawValue::from_string(text).ok()
    };
    let network = std::str::from_utf8(&payload.network).unwrap_or_default();
    let (services, ingress) = Network::lists(network);
    Some(JobSpec {
        namespace: payload.namespace.to_string(),
        labels: raw(&payload.labels),
        annotations: raw(&payload.annotations),
        services,
        ingress,
        pod_spec: raw(&payload.pod_spec)?,
    })
}

/// Live and finished jobs in memory, and how to go on in the history.
pub(super) struct Listing {
    pub(super) shard: ShardId,
    pub(super) jobs: Vec<(JobRef, Job)>,
    pub(super) states: StateSet,
    pub(super) request: ListJobs,
    /// The bytes that the page may have.
    pub(super) bytes_max: usize,
}

impl Listing {
    /// The page: what is in memory merged with what the history has, as much of it as fits.
    pub(super) async fn page(mut self, history: History) -> ShardReply {
        let limit = self.request.limit;
        let mut through = None;
        if self.states.holds_final() {
            let filter = Filter {
                queue: self.request.queue.as_deref().map(Name::from),
                job_set: self.request.job_set.as_deref().map(Name::from),
                states: self.states,
            };
            match history.list(self.shard, &filter, self.request.after, limit + 1).await {
                Ok(page) => {
                    self.jobs.extend(page.jobs.iter().map(|d| (d.job, convert::finished_job(d))));
                    through = page.next;
                }
                Err(error) => return unavailable("the history", &error),
            }
        }
        // The history was read up to there only: what is in memory behind it comes with a later
        // page.
        self.jobs.retain(|(job, _)| through.is_none_or(|through| *job <= through));
        self.jobs.sort_by_key(|(job, _)| *job);
        // A job that was written to the history meanwhile is in both.
        self.jobs.dedup_by_key(|(job, _)| *job);
        let mut room = Room::of_message(self.bytes_max);
        let fit = self.jobs.iter().take(limit).take_while(|(_, job)| room.take_item(job)).count();
        let more = self.jobs.len() > fit;
        self.jobs.truncate(fit);
        let last = self.jobs.last().map(|(job, _)| *job);
        let cursor = if more { last } else { through }.map(|job| job.to_string());
        let jobs = self.jobs.into_iter().map(|(_, job)| job).collect();
        ShardReply::Jobs(JobPage { jobs, cursor })
    }
}

/// Finished jobs in memory that a listing wants, tasks one by one.
pub(super) fn finished_jobs<'a>(
    finished: impl Iterator<Item = &'a Arc<Finished>>,
    request: &ListJobs,
    states: StateSet,
    limit: usize,
) -> Vec<(JobRef, Job)> {
    let matches = |done: &&Arc<Finished>| {
        states.contains(done.state)
            && request.queue.as_deref().is_none_or(|queue| *done.queue == *queue)
            && request.job_set.as_deref().is_none_or(|set| *done.job_set == *set)
    };
    let mut jobs = Vec::new();
    for done in finished.filter(matches) {
        for job in behind(done, request.after).take(limit.saturating_sub(jobs.len())) {
            let mut shown = convert::finished_job(done);
            shown.job_id = job.to_string();
            jobs.push((job, shown));
        }
        if jobs.len() >= limit {
            break;
        }
    }
    jobs
}

/// The job, or the tasks one by one, that come behind `after`. It does not count up to them: an
/// array has millions.
fn behind(done: &Finished, after: Option<JobRef>) -> impl Iterator<Item = JobRef> + use<> {
    let first = done.job;
    let end = first.index.map_or(1, |index| index.saturating_add(done.count));
    let start = match (first.index, after) {
        (Some(index), Some(after)) if after.job == first.job => {
            after.index.map_or(index, |last| index.max(last.saturating_add(1)))
        }
        (_, Some(after)) if first <= after => end,
        (index, _) => index.unwrap_or(0),
    };
    (start..end).map(move |index| JobRef { index: first.index.map(|_| index), ..first })
}

/// Where a payload lies, and what goes with it.
pub(super) type Place = (JobId, Option<(Position, Name, Name, Option<u32>)>);

/// Payloads, as many as fit a message.
pub(super) async fn payloads(places: Vec<Place>, log: Arc<Log>, bytes_max: usize) -> ShardReply {
    let positions: Vec<Position> =
        places.iter().filter_map(|(_, place)| place.as_ref().map(|p| p.0)).collect();
    let mut found = match log.reader().payloads(&positions).await {
        Ok(payloads) => payloads.into_iter(),
        Err(error) => return unavailable("payloads", &error),
    };
    let mut replies = Vec::with_capacity(places.len());
    let mut room = Room::of_message(bytes_max);
    for (job, place) in places {
        let payload = place.as_ref().and_then(|_| found.next()).unwrap_or_default();
        let known = place.is_some();
        let (queue, job_set, count) = place
            .map(|(_, queue, job_set, count)| (queue.to_string(), job_set.to_string(), count))
            .unwrap_or_default();
        let payload = JobPayload {
            job,
            found: known,
            queue,
            job_set,
            namespace: payload.namespace.to_string(),
            count,
            labels: payload.labels,
            annotations: payload.annotations,
            network: payload.network,
            pod_spec: payload.pod_spec,
        };
        if !room.take_item(&payload) {
            break;
        }
        replies.push(payload);
    }
    ShardReply::Payloads(replies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::job::JobState;
    use muster_core::shape::Shape;
    use muster_core::time::Timestamp;

    fn done(job: JobRef, count: u32) -> Finished {
        Finished {
            job,
            count,
            queue: "q".into(),
            job_set: "s".into(),
            client_id: None,
            priority: 0,
            shape: Arc::new(Shape::of_request(Default::default())),
            state: JobState::Cancelled,
            finished_at: Timestamp(1),
            reason: None,
            runs: Vec::new(),
            spec: Position::default(),
            at: Position::default(),
        }
    }

    fn id(n: u64) -> JobId {
        JobId::new(Timestamp(1), ShardId(0), n)
    }

    #[test]
    fn a_page_begins_right_behind_its_cursor_deep_in_an_array_too() {
        let tasks = done(JobRef::task(id(5), 10), 4_000_000_000);
        let first = |after| behind(&tasks, after).next();
        assert_eq!(first(None), Some(JobRef::task(id(5), 10)));
        assert_eq!(first(Some(JobRef::whole(id(5)))), Some(JobRef::task(id(5), 10)));
        assert_eq!(first(Some(JobRef::task(id(5), 3))), Some(JobRef::task(id(5), 10)));
        assert_eq!(first(Some(JobRef::task(id(4), 77))), Some(JobRef::task(id(5), 10)));
        let deep = JobRef::task(id(5), 3_999_999_999);
        assert_eq!(first(Some(deep)), Some(JobRef::task(id(5), 4_000_000_000)));
        assert_eq!(first(Some(JobRef::task(id(5), 4_000_000_009))), None);
        assert_eq!(first(Some(JobRef::whole(id(6)))), None);
        let job = done(JobRef::whole(id(7)), 1);
        assert_eq!(behind(&job, None).collect::<Vec<_>>(), [job.job]);
        assert_eq!(behind(&job, Some(JobRef::whole(id(6)))).count(), 1);
        assert_eq!(behind(&job, Some(job.job)).count(), 0);
    }
}
