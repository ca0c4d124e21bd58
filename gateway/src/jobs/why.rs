//! `GET /jobs/{id}/why`: what keeps a job that does not run. Its shard says where it stands, the
//! leader of its pool what keeps it; where no leader answers, that is the answer.

use std::cmp::Ordering;

use axum::Json;
use axum::extract::State;
use muster_api::bus::{
    ClassLine, GetPlace, GetWhy, JobPlace, PoolReply, PoolRequest, ShardReply, ShardRequest,
};
use muster_api::http::{Blocker, Job, LinePlace, PoolWhy, Why};
use muster_core::control::Control;
use muster_core::id::JobRef;

use super::get::find;
use super::parse_id;
use crate::gateway::Gateway;
use crate::leaders::Asked;
use crate::problem::Answer;
use crate::routes::Segments;
use crate::shards::unexpected;

/// How often a job that left its line while it was looked at is looked at again.
const LOOKS_MAX: usize = 3;

pub(crate) async fn why(
    State(gateway): State<Gateway>,
    Segments(id): Segments<String>,
) -> Answer<Json<Why>> {
    let id = parse_id(&id)?;
    for _ in 1..LOOKS_MAX {
        let job = find(&gateway, id, false).await?;
        if !waits(&job) {
            return Ok(Json(not_waiting(&job)));
        }
        if let Some(place) = place(&gateway, id).await? {
            return waiting(&gateway, &job, place).await.map(Json);
        }
    }
    let job = find(&gateway, id, false).await?;
    Ok(Json(not_waiting(&job)))
}

/// Whether the job, or any of an array, stands in line.
fn waits(job: &Job) -> bool {
    match &job.counts {
        Some(counts) => counts.get("queued").is_some_and(|tasks| *tasks > 0),
        None => job.state == "queued",
    }
}

async fn place(gateway: &Gateway, job: JobRef) -> Answer<Option<JobPlace>> {
    let shard = job.job.shard();
    match gateway.question(shard, &ShardRequest::Place(GetPlace { job })).await? {
        ShardReply::Place(place) => Ok(place.map(|place| *place)),
        other => Err(unexpected(&other)),
    }
}

fn not_waiting(job: &Job) -> Why {
    let starting = job.runs.last().filter(|_| matches!(job.state.as_str(), "leased" | "pending"));
    let starting = starting
        .map(|run| Blocker::Starting { cluster: run.cluster.clone(), node: run.node.clone() });
    told(Why { blockers: starting.into_iter().collect(), ..about(job) })
}

async fn waiting(gateway: &Gateway, job: &Job, place: JobPlace) -> Answer<Why> {
    let line = line(&gateway.control(), &place);
    let (pool, held) = (line.pool.clone(), place.held);
    let question = PoolRequest::Why(GetWhy {
        queue: job.queue.clone(),
        shape: place.shape,
        place: line.clone(),
    });
    let mut why = Why { place: Some(line), ..about(job) };
    match gateway.ask_leader(&pool, &question).await? {
        Asked::Answered(PoolReply::Why(of_pool)) => {
            let mut of_pool: PoolWhy = *of_pool;
            why.blockers = std::mem::take(&mut of_pool.blockers);
            if !held.is_empty() {
                // What does not stand in line is not offered, and has no turn.
                why.blockers.retain(|blocker| !is_of_line(blocker));
            }
            why.pool = Some(of_pool);
        }
        Asked::Answered(other) => return Err(crate::leaders::unexpected(&other)),
        Asked::Silent(detail) => why.blockers = vec![Blocker::NoLeader { pool, detail }],
    }
    why.blockers.splice(0..0, held);
    Ok(told(why))
}

/// Whether it speaks of the line alone.
fn is_of_line(blocker: &Blocker) -> bool {
    matches!(
        blocker,
        Blocker::NotOffered { .. }
            | Blocker::NextRound
            | Blocker::Line { .. }
            | Blocker::RoomKept { .. }
    )
}

/// What its shard alone can tell.
fn about(job: &Job) -> Why {
    Why {
        job_id: job.job_id.clone(),
        queue: job.queue.clone(),
        job_set: job.job_set.clone(),
        state: job.state.clone(),
        ..Why::default()
    }
}

fn told(why: Why) -> Why {
    Why { summary: why.sentence(), ..why }
}

/// Where the job stands over all classes, by what these mean.
fn line(control: &Control, place: &JobPlace) -> LinePlace {
    let shape = &place.shape.0;
    let before = of_others(control, &shape.class, &place.classes);
    let (least, most) = (place.ahead.0 + before, place.ahead.1 + before);
    LinePlace {
        pool: shape.pool.to_string(),
        class: shape.class.to_string(),
        priority: place.priority,
        ahead: least,
        ahead_max: (most > least).then_some(most),
        waiting: place.classes.iter().map(|line| line.all).sum(),
    }
}

/// How many jobs of other classes go before one of `class`.
fn of_others(control: &Control, class: &str, classes: &[ClassLine]) -> u64 {
    let mine = control.class_in_effect(class).priority;
    let others = classes.iter().filter(|line| *line.class != *class);
    let before =
        others.map(|line| match control.class_in_effect(&line.class).priority.cmp(&mine) {
            Ordering::Greater => line.all,
            // Of equal classes, at one priority, the one whose name is first goes first.
            Ordering::Equal if *line.class < *class => line.before + line.same,
            Ordering::Equal => line.before,
            Ordering::Less => 0,
        });
    before.sum()
}

/// How many jobs go before one of `class` that comes now.
pub(crate) fn ahead(control: &Control, class: &str, classes: &[ClassLine]) -> u64 {
    let own = classes.iter().filter(|line| *line.class == *class);
    let own: u64 = own.map(|line| line.before + line.same).sum();
    own + of_others(control, class, classes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_api::shape::ShapeText;
    use muster_core::control::PriorityClass;
    use muster_core::resources::Resources;
    use muster_core::shape::Shape;

    use super::*;

    #[test]
    fn jobs_of_higher_classes_stand_before_it_and_of_equal_ones_those_of_lower_numbers() {
        let class = |priority| PriorityClass { priority, preemptible: false };
        let mut control = Control::default();
        for (name, priority) in [("a", 5), ("b", 5), ("c", 5), ("high", 9), ("low", 1)] {
            control = control.with_class(name, class(priority)).unwrap();
        }
        let classes = ["a", "b", "c", "high", "low"].map(|class| ClassLine {
            class: class.to_owned(),
            before: 10,
            same: 100,
            all: 1_000,
        });
        let shape = Shape { class: "b".into(), ..Shape::of_request(Resources::new()) };
        let place = JobPlace {
            shape: ShapeText(Arc::new(shape)),
            priority: 7,
            classes: classes.into(),
            ahead: (13, 14),
            held: Vec::new(),
        };
        let line = line(&control, &place);
        let expected = LinePlace {
            pool: "default".to_owned(),
            class: "b".to_owned(),
            priority: 7,
            ahead: 13 + 110 + 10 + 1_000,
            ahead_max: Some(14 + 110 + 10 + 1_000),
            waiting: 5_000,
        };
        assert_eq!(line, expected);
        assert_eq!(ahead(&control, "b", &place.classes), 110 + 110 + 10 + 1_000);
    }
}
