//! Questions about what waits and what would: nothing of them is a command.

use std::collections::BTreeMap;

use muster_api::bus::{self, Room, ShardReply, Tried, TriedKind};
use muster_api::convert;
use muster_api::http::{ErrorCode, Problem};
use muster_api::shape::ShapeText;
use muster_core::command::{NewJob, Submit};
use muster_core::shape::ShapeKey;
use muster_runtime::bus::ReplyTo;

use super::Owner;

/// Kinds of jobs that one answer tells of, at most.
const KINDS_MAX: usize = 100;

impl Owner {
    /// Where a job stands in its queue's line.
    pub(super) async fn place(&mut self, to: ReplyTo, get: &bus::GetPlace) {
        let place = self.state.place(get.job).map(convert::job_place).map(Box::new);
        self.reply(to, bus::encode(&ShardReply::Place(place))).await;
    }

    /// What a submission would come to.
    pub(super) async fn try_submit(&mut self, to: ReplyTo, asked: bus::TrySubmit) {
        let reply = match self.read_submit(asked.submit) {
            Ok(submit) => match self.state.would_submit(&submit, asked.before) {
                Ok(new) => ShardReply::Tried(self.tried(&submit, new)),
                Err(refusal) => ShardReply::Error(convert::refusal(&refusal)),
            },
            Err(problem) => ShardReply::Error(problem),
        };
        self.reply(to, bus::encode(&reply)).await;
    }

    /// A request to submit as a command.
    pub(super) fn read_submit(&self, submit: bus::Submit) -> Result<Submit, Problem> {
        let jobs = muster_api::batch::read(submit.batch)
            .map_err(|error| Problem::new(ErrorCode::BadRequest, error.to_string()))?;
        let control = self.deps.control.latest();
        let settings = control.queues.get(&submit.queue);
        Ok(Submit {
            queued_max: settings.and_then(|queue| queue.jobs_queued_max),
            queue: submit.queue.into(),
            incarnation: submit.incarnation,
            job_set: submit.job_set.into(),
            key: submit.key.map(|key| key.0),
            jobs,
        })
    }

    fn tried(&self, submit: &Submit, new: u64) -> Tried {
        let mut kinds: BTreeMap<(u32, ShapeKey), (u64, &NewJob)> = BTreeMap::new();
        for job in &submit.jobs {
            let kind = kinds.entry((job.priority, job.shape.key())).or_insert((0, job));
            kind.0 += u64::from(job.count.unwrap_or(1));
        }
        let mut tried = Tried { new, ..Tried::default() };
        let mut room = Room::of_message(self.deps.bus.payload_bytes_max());
        for (jobs, job) in kinds.into_values() {
            let classes = self.state.lines(&submit.queue, &job.shape.pool, job.priority);
            let kind = TriedKind {
                shape: ShapeText(job.shape.clone()),
                priority: job.priority,
                jobs,
                classes: convert::class_lines(classes),
            };
            if tried.kinds.len() < KINDS_MAX && room.take_item(&kind) {
                tried.kinds.push(kind);
            } else {
                tried.others += jobs;
            }
        }
        tried
    }
}
