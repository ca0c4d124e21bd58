//! The state as records: what a checkpoint holds, and what makes the same state again.

use super::Shard;
use super::job::{Body, Job};
use crate::id::{JobId, Position};
use crate::record::Task;
use crate::record::{ArrayTasks, HistorySpan, JobSetTotals, LiveJob, Payload, Record, Submitted};
use crate::time::Timestamp;

impl Shard {
    /// The records that make this state when they are applied to an empty shard.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let sets = self.sets.0.iter().map(|(&(queue, job_set), set)| {
            Record::JobSet(JobSetTotals {
                queue: self.names.value(queue).clone(),
                job_set: self.names.value(job_set).clone(),
                first: set.first,
                changed_at: set.changed_at,
                counts: set.counts,
            })
        });
        let jobs = self.jobs.iter_from(JobId::default());
        let jobs = jobs.map(|(id, job)| Record::Job(Box::new(self.live_job(id, job))));
        let closed = self.closed.iter().map(|(queue, &incarnation)| Record::QueueClosed {
            queue: queue.clone(),
            incarnation,
            at: Timestamp(0),
        });
        let finished = self.finished.values().map(|f| Record::Finished(Box::new((**f).clone())));
        let through = self.history_through;
        let written = Record::HistoryWritten(HistorySpan { after: through, through });
        let planned = self.history_planned.map(Record::HistoryPlanned);
        let last = Record::LastJob(self.last_id);
        let history = [last, written].into_iter().chain(planned);
        history
            .chain(sets)
            .chain(closed)
            .chain(self.commands.records())
            .chain(finished)
            .chain(jobs)
            .collect()
    }

    fn live_job(&self, id: JobId, job: &Job) -> LiveJob {
        let count = match &job.body {
            Body::Array(array) => Some(array.count),
            Body::Queued | Body::Active(_) => None,
        };
        let submitted = Submitted {
            job: id,
            queue: self.names.value(job.queue).clone(),
            job_set: self.names.value(job.job_set).clone(),
            client_id: job.client_id().cloned(),
            priority: job.priority,
            count,
            at_most_once: job.at_most_once(),
            shape: self.shapes.value(job.shape).clone(),
            payload: Payload::default(),
        };
        let spec: Position = job.spec();
        let past = job.extra.as_ref().map(|extra| extra.past.clone()).unwrap_or_default();
        let (active, array) = match &job.body {
            Body::Queued => (None, None),
            Body::Active(active) => (Some((active.state, active.run.clone())), None),
            Body::Array(array) => {
                let tasks = ArrayTasks {
                    queued: array.queued.iter().collect(),
                    touched: array.touched.iter().map(|(i, task)| (*i, task.clone())).collect(),
                    counts: array.counts,
                };
                (None, Some(tasks))
            }
        };
        LiveJob { submitted, spec, task: Task { attempts: job.attempts, active, past }, array }
    }
}
