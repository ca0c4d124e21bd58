//! Asking the leader of a pool. There may be none at the moment: that is an answer, too.

use muster_api::bus::{PoolReply, PoolRequest, decode, encode, subject};
use muster_api::http::ErrorCode;

use crate::gateway::Gateway;
use crate::limits;
use crate::problem::Failure;

/// What became of a question.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The answer.
    Answered(PoolReply),
    /// There was none, and why.
    Silent(String),
}

impl Gateway {
    /// Asks the leader of a pool, once.
    pub(crate) async fn ask_leader(
        &self,
        pool: &str,
        question: &PoolRequest,
    ) -> Result<Asked, Failure> {
        let subject = subject::pool_questions(pool);
        let timeout = self.read_timeout().min(limits::LEADER_TIMEOUT);
        let answer = self.bus().request(&subject, encode(question), timeout).await;
        match answer {
            Ok(bytes) => match decode(&bytes) {
                Ok(PoolReply::Error(problem)) if problem.code.is_retryable() => {
                    Ok(Asked::Silent(problem.detail))
                }
                Ok(PoolReply::Error(problem)) => Err(problem.into()),
                Ok(reply) => Ok(Asked::Answered(reply)),
                Err(error) => Err(Failure::new(ErrorCode::Internal, error.to_string())),
            },
            Err(error) => Ok(Asked::Silent(error.to_string())),
        }
    }
}

/// What a leader answers when it answers something else than was asked.
pub(crate) fn unexpected(reply: &PoolReply) -> Failure {
    let kind = format!("{reply:?}");
    let kind: String = kind.chars().take_while(char::is_ascii_alphanumeric).collect();
    Failure::new(ErrorCode::Internal, format!("the pool's leader answered with `{kind}`"))
}
