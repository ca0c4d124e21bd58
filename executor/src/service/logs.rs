//! Serving the output of runs.

use std::sync::Arc;
use std::time::Duration;

use muster_api::bus::{self, GetLogs, LogsReply};
use muster_runtime::bus::Message;

use super::{Done, Executor};
use crate::backend::{ClusterBackend, Piece};
use crate::limits;
use crate::runs::RunKey;

/// The longest wait for more output in one request.
const WAIT_MAX: Duration = Duration::from_secs(30);

impl Executor {
    pub(super) fn on_logs(&mut self, message: Message) {
        let Some(to) = message.reply else { return };
        let is_busy = self.logs_in_flight >= limits::LOGS_IN_FLIGHT_MAX;
        let (backend, bytes_max) = (Arc::clone(&self.backend), self.bytes_max());
        let bus = Arc::clone(&self.deps.bus);
        self.logs_in_flight += 1;
        self.work.push(Box::pin(async move {
            let reply = match bus::decode(&message.payload) {
                Ok(_) if is_busy => LogsReply::Missing("too many readers, try again".to_owned()),
                Ok(request) => read(&*backend, request, bytes_max).await,
                Err(error) => LogsReply::Missing(error.to_string()),
            };
            if let Err(error) = bus.respond(&to, bus::encode(&reply)).await {
                tracing::warn!(%error, "output was read in vain");
            }
            Done::Logs
        }));
    }
}

async fn read(backend: &dyn ClusterBackend, request: GetLogs, bytes_max: usize) -> LogsReply {
    let key = RunKey { job: request.job, attempt: request.attempt };
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX).min(bytes_max);
    let wait = Duration::from_millis(request.wait_ms).min(WAIT_MAX);
    match backend.logs(key, request.offset, limit, wait).await {
        Ok(Piece { data, end }) => LogsReply::Piece { data, end },
        Err(error) => LogsReply::Missing(error.to_string()),
    }
}
