//! The answers to a streamed submission: a line a job, or a summary.

use std::fmt::Write as _;

use axum::body::Body;
use axum::response::Response;
use futures::{StreamExt, stream};
use muster_api::bus::IdRun;
use muster_api::http::{ErrorCode, Problem};
use muster_api::request::{LineError, SubmitAnswer, SubmitSummary};

use super::commands::Answered;
use super::pump::Answers;
use super::{Ids, response};
use crate::gateway::Gateway;
use crate::limits;
use crate::problem::{Answer, Failure};

/// What became of one line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Accepted(String),
    Rejected(&'a Problem),
}

/// The response, begun as soon as the first command is answered: until then a failure has a status.
pub(super) async fn respond(_gateway: &Gateway, mut answers: Answers, ids: Ids) -> Answer {
    let first = answers.recv().await;
    if let Some((answered, _)) = &first
        && let Err(problem) = &answered.outcome
    {
        return Err(Failure(problem.clone()));
    }
    let rest = stream::unfold(answers, |mut answers| async move {
        answers.recv().await.map(|answered| (answered, answers))
    });
    let all = stream::iter(first).chain(rest);
    match ids {
        Ids::All => {
            let lines =
                all.map(|(answered, _held)| Ok::<_, std::convert::Infallible>(text(&answered)));
            Ok(response("application/x-ndjson", Body::from_stream(lines)))
        }
        Ids::None => Ok(summary(all).await),
    }
}

async fn summary<H>(answers: impl futures::Stream<Item = (Answered, H)>) -> Response {
    let mut summary = SubmitSummary::default();
    let mut is_passing = false;
    let mut answers = std::pin::pin!(answers);
    while let Some((answered, _)) = answers.next().await {
        each(&answered, |number, line| match line {
            Line::Accepted(_) => summary.accepted += 1,
            Line::Rejected(problem) => {
                summary.rejected += 1;
                let is_new_kind = problem.code.is_retryable() && !is_passing;
                is_passing |= is_new_kind;
                // One that passes is never left out: by it the client knows to send again.
                if is_new_kind || summary.errors.len() < limits::SUMMARY_ERRORS_MAX {
                    let error = problem.clone();
                    summary.errors.push(LineError { line: number + 1, error });
                }
            }
        });
    }
    let body = serde_json::to_vec(&summary).expect("a summary is plain data");
    response("application/json", body)
}

fn text(answered: &Answered) -> String {
    let mut text = String::new();
    each(answered, |_, line| match line {
        Line::Accepted(id) => {
            writeln!(text, r#"{{"jobId":"{id}"}}"#).expect("a string takes everything");
        }
        Line::Rejected(problem) => {
            let answer = SubmitAnswer::Rejected { error: problem.clone() };
            text += &serde_json::to_string(&answer).expect("a problem is plain data");
            text.push('\n');
        }
    });
    text
}

/// Tells of each line of a command, in order.
pub(super) fn each(answered: &Answered, mut tell: impl FnMut(u64, Line<'_>)) {
    let missing = Problem::new(ErrorCode::Internal, "the shard did not speak of this job");
    let mut rejected = answered.rejected.iter().peekable();
    let mut ids = LineIds { runs: answered.outcome.as_deref().unwrap_or_default(), at: 0 };
    let lines = answered
        .lines
        .iter()
        .flat_map(|(first, count)| (0..u64::from(*count)).map(move |n| first + n));
    for line in lines {
        while let Some((number, problem)) = rejected.next_if(|(number, _)| *number < line) {
            tell(*number, Line::Rejected(problem));
        }
        match (&answered.outcome, ids.of(line)) {
            (Err(problem), _) => tell(line, Line::Rejected(problem)),
            (Ok(_), Some(id)) => tell(line, Line::Accepted(id)),
            (Ok(_), None) => tell(line, Line::Rejected(&missing)),
        }
    }
    for (number, problem) in rejected {
        tell(*number, Line::Rejected(problem));
    }
}

/// Ids by rising line.
struct LineIds<'a> {
    runs: &'a [IdRun],
    at: usize,
}

impl LineIds<'_> {
    fn of(&mut self, line: u64) -> Option<String> {
        while let Some(run) = self.runs.get(self.at) {
            match line.checked_sub(run.line)? {
                n if n < u64::from(run.count) => return Some(run.first.plus(n).to_string()),
                _ => self.at += 1,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_core::id::{JobId, ShardId};
    use muster_core::time::Timestamp;

    #[tokio::test]
    async fn a_summary_tells_of_a_passing_refusal_behind_however_many_others() {
        let rejected = |lines: std::ops::Range<u64>, code| {
            let rejected = lines.map(|line| (line, Problem::new(code, "no"))).collect();
            (Answered { lines: Vec::new(), rejected, outcome: Ok(Vec::new()) }, ())
        };
        let max = limits::SUMMARY_ERRORS_MAX as u64;
        let answers = [
            rejected(0..max + 50, ErrorCode::InvalidJob),
            rejected(max + 50..max + 53, ErrorCode::Unavailable),
        ];
        let body = summary(stream::iter(answers)).await.into_body();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let summary: SubmitSummary = serde_json::from_slice(&body).unwrap();
        assert_eq!((summary.rejected, summary.errors.len() as u64), (max + 53, max + 1));
        let last = summary.errors.last().unwrap();
        assert_eq!((last.line, last.error.code), (max + 51, ErrorCode::Unavailable));
    }

    #[test]
    fn answers_come_in_the_order_of_lines() {
        let first = JobId::new(Timestamp(1), ShardId(0), 5);
        let problem = Problem::new(ErrorCode::InvalidJob, "no");
        let answered = Answered {
            lines: vec![(1, 3), (6, 1)],
            rejected: vec![(0, problem.clone()), (4, problem.clone()), (9, problem)],
            outcome: Ok(vec![
                IdRun { line: 1, first, count: 1 },
                IdRun { line: 2, first: first.plus(7), count: 1 },
                IdRun { line: 6, first: first.plus(8), count: 1 },
            ]),
        };
        let mut found = Vec::new();
        each(&answered, |line, what| {
            found.push((line, matches!(what, Line::Accepted(_))));
        });
        let expected =
            [(0, false), (1, true), (2, true), (3, false), (4, false), (6, true), (9, false)];
        assert_eq!(found, expected);
        assert_eq!(text(&answered).lines().count(), expected.len());
        assert!(text(&answered).contains(&format!(r#"{{"jobId":"{}"}}"#, first.plus(7))));
    }
}
