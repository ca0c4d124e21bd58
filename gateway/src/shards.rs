//! Asking the owner of a shard, until it answers or the time is up. A request keeps its command id,
//! so a change that was made although no answer came is not made twice. A request to an owner that
//! sleeps is sent to the next one as soon as that says that it is there.

use std::time::Duration;

use bytes::Bytes;
use muster_api::bus::{ShardReply, ShardRequest, decode, encode, subject};
use muster_api::http::{ErrorCode, Problem};
use muster_core::id::ShardId;
use muster_runtime::bus;
use muster_runtime::config::HumanDuration;
use muster_runtime::retry::Policy;

use crate::gateway::Gateway;
use crate::limits;
use crate::problem::Failure;

impl Gateway {
    /// Asks for a change.
    pub(crate) async fn change(
        &self,
        shard: ShardId,
        request: &ShardRequest,
    ) -> Result<ShardReply, Failure> {
        self.ask(shard, encode(request), self.write_timeout(), limits::ATTEMPT_TIMEOUT).await
    }

    /// Asks a question.
    pub(crate) async fn question(
        &self,
        shard: ShardId,
        request: &ShardRequest,
    ) -> Result<ShardReply, Failure> {
        self.ask(shard, encode(request), self.read_timeout(), limits::ATTEMPT_TIMEOUT).await
    }

    /// Asks a question that may be held for `held` before it is answered.
    pub(crate) async fn long_question(
        &self,
        shard: ShardId,
        request: &ShardRequest,
        held: Duration,
    ) -> Result<ShardReply, Failure> {
        let attempt = held + limits::ATTEMPT_TIMEOUT;
        self.ask(shard, encode(request), held + self.read_timeout(), attempt).await
    }

    /// Sends the same request until it is answered, or until `timeout`: again when there was no
    /// answer within `attempt`, and when the shard has another owner.
    pub(crate) async fn ask(
        &self,
        shard: ShardId,
        request: Bytes,
        timeout: Duration,
        attempt: Duration,
    ) -> Result<ShardReply, Failure> {
        let subject = subject::shard(shard);
        let began = self.clock().monotonic();
        let mut delays = backoff().delays(self.random().clone());
        loop {
            let left = timeout.saturating_sub(self.clock().monotonic() - began);
            let moved = self.owners().change(shard);
            tokio::pin!(moved);
            let answer = tokio::select! {
                biased;
                answer = self.bus().request(&subject, request.clone(), attempt.min(left)) => {
                    read(answer)
                }
                () = &mut moved => {
                    delays = backoff().delays(self.random().clone());
                    Err(Failure::unavailable("the shard has another owner"))
                }
            };
            let failure = match answer {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let spent = self.clock().monotonic() - began;
            let patience = match failure.0.code {
                ErrorCode::Unavailable => timeout,
                ErrorCode::Overloaded => timeout.min(limits::OVERLOAD_WAIT),
                // Everything else is an answer.
                _ => return Err(failure),
            };
            let delay = delays.next().expect("the policy never gives up");
            if spent + delay >= patience {
                tracing::warn!(%shard, code = ?failure.0.code, detail = failure.0.detail, "gave up asking a shard");
                return Err(failure);
            }
            self.counted().retries.inc();
            self.clock().sleep(delay).await;
        }
    }
}

fn backoff() -> Policy {
    Policy {
        delay_first: HumanDuration::millis(20),
        delay_max: HumanDuration::secs(1),
        jitter: 0.5,
        ..Policy::default()
    }
}

fn read(answer: Result<Bytes, bus::Error>) -> Result<ShardReply, Failure> {
    let internal = |detail: String| Failure::new(ErrorCode::Internal, detail);
    match answer {
        Ok(bytes) => match decode(&bytes).map_err(|error| internal(error.to_string()))? {
            ShardReply::Error(problem) => Err(problem.into()),
            reply => Ok(reply),
        },
        Err(bus::Error::PayloadTooLarge { bytes, limit }) => Err(Failure::new(
            ErrorCode::PayloadTooLarge,
            format!("the request has {bytes} bytes on the bus, limit is {limit}"),
        )),
        Err(error) if error.is_retryable() => {
            Err(Failure::unavailable(format!("the shard does not answer: {error}")))
        }
        Err(error) => Err(internal(error.to_string())),
    }
}

/// What a shard answers when it answers something else than was asked.
pub(crate) fn unexpected(reply: &ShardReply) -> Failure {
    let kind = format!("{reply:?}");
    let kind: String = kind.chars().take_while(char::is_ascii_alphanumeric).collect();
    Failure(Problem::new(ErrorCode::Internal, format!("the shard answered with `{kind}`")))
}
