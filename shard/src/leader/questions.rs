//! Questions about the pool, and answers from what the leader knows. A few are answered between two
//! rounds, and those that do not fit into the line of questions are refused: no round waits for
//! them for long.

use std::collections::VecDeque;

use muster_api::bus::{self, PoolReply, PoolRequest};
use muster_api::http::{ErrorCode, Problem};
use muster_runtime::bus::{Message, ReplyTo};

use super::Leader;
use super::explain::{Known, Past};
use crate::metrics::Unsent;
use crate::send;

/// Questions that wait for an answer, at most.
const WAITING_MAX: usize = 256;
/// Questions that are answered between two rounds. Each takes a look at every node.
const PER_TURN: usize = 4;

/// What was asked and is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Questions {
    waiting: VecDeque<(ReplyTo, PoolRequest)>,
}

impl Questions {
    /// Whether any waits for an answer.
    pub(super) fn is_any(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Leader<'_> {
    pub(super) async fn on_question(&mut self, message: Message) {
        let Some(to) = message.reply else { return };
        let problem = match bus::decode::<PoolRequest>(&message.payload) {
            Ok(request) if self.questions.waiting.len() < WAITING_MAX => {
                self.questions.waiting.push_back((to, request));
                return;
            }
            Ok(_) => {
                let detail = format!("{WAITING_MAX} questions about the pool wait for an answer");
                Problem::new(ErrorCode::Overloaded, detail)
            }
            Err(error) => {
                tracing::warn!(%error, "a question cannot be read");
                Problem::new(ErrorCode::BadRequest, error.to_string())
            }
        };
        self.reply(&to, &PoolReply::Error(problem)).await;
    }

    /// Answers the next questions, if there are any.
    pub(super) async fn answer_questions(&mut self) {
        if !self.questions.is_any() {
            return;
        }
        let now = self.deps.clock.monotonic();
        let control = self.deps.control.latest();
        let rate = control.pools.get(&self.table.pool).and_then(|pool| pool.rate);
        let rates = (self.rates.left(&control, now), self.rates.left_in_pool(rate, now));
        let (absent, _) = self.absent(&control, now);
        let past = Past {
            claims: &self.claims,
            paces: &self.paces,
            usage: &self.usage,
            usage_weight: self.deps.config.usage_weight_thousandths(),
            absent: &absent,
        };
        let known = Known::new(&self.table, &control, past, rates, now);
        let count = self.questions.waiting.len().min(PER_TURN);
        let asked = self.questions.waiting.drain(..count);
        let at = self.deps.clock.now();
        let answers = asked.map(|(to, request)| match request {
            PoolRequest::Why(why) => (to, PoolReply::Why(Box::new(known.explain(&why, at)))),
            PoolRequest::Fit(shape) => (to, PoolReply::Fit(known.fit(&shape.0))),
        });
        let answers: Vec<_> = answers.collect();
        for (to, answer) in answers {
            self.reply(&to, &answer).await;
        }
    }

    async fn reply(&self, to: &ReplyTo, reply: &PoolReply) {
        let refuse = |problem| bus::encode(&PoolReply::Error(problem));
        let (deps, reply) = (self.deps, bus::encode(reply));
        send::respond(&*deps.bus, &deps.metrics, to, reply, Unsent::PoolAnswer, refuse).await;
    }
}
