//! Records of what rounds came to: gathered in memory, and written now and then beside the rounds.
//! No round waits for them; what cannot be written is counted and let go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_api::http;
use muster_core::Name;
use muster_runtime::rounds::{Rounds, Row};
use muster_runtime::tasks::Policy;

use super::Leader;

/// Rows that wait to be written, at most.
const ROWS_MAX: usize = 100_000;
/// Rows that are written before their time.
const ROWS_MANY: usize = 50_000;
/// How long the last rows may take when a leader leaves.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What is not written yet.
#[derive(Debug, Default)]
pub(super) struct Records {
    rows: Vec<Row>,
    /// When the first of them came.
    since: Duration,
    /// Fair shares as they were published last.
    pub(super) fair: BTreeMap<Name, f64>,
    /// Whether some are on their way.
    is_writing: Arc<AtomicBool>,
}

impl Records {
    /// Remembers what a status says of fair shares.
    pub(super) fn published(&mut self, queues: &[http::QueueShare]) {
        let fair = queues.iter().map(|share| (Name::from(share.queue.as_str()), share.ideal_share));
        self.fair = fair.collect();
    }
}

impl Leader<'_> {
    /// When records are to be written next.
    pub(super) fn records_due(&self) -> Option<Duration> {
        let Records { rows, since, is_writing, .. } = &self.records;
        let is_free = !rows.is_empty() && !is_writing.load(Ordering::Acquire);
        let interval = self.deps.config.rounds_interval.0;
        is_free.then(|| if rows.len() < ROWS_MANY { *since + interval } else { Duration::ZERO })
    }

    /// Whether what rounds come to is kept.
    pub(super) fn keeps_records(&self) -> bool {
        !self.deps.config.rounds_interval.0.is_zero()
    }

    /// Keeps what a round came to.
    pub(super) fn keep_record(&mut self, rows: Vec<Row>) {
        if rows.is_empty() || !self.keeps_records() {
            return;
        }
        let known = &mut self.records.rows;
        if known.len() + rows.len() > ROWS_MAX {
            self.deps.metrics.round_records_lost.inc_by(rows.len() as u64);
            return;
        }
        if known.is_empty() {
            self.records.since = self.deps.clock.monotonic();
        }
        known.extend(rows);
    }

    /// Writes records in a task of its own, if it is time.
    pub(super) fn write_records(&mut self) {
        if self.records_due().is_none_or(|due| due > self.deps.clock.monotonic()) {
            return;
        }
        let rows = std::mem::take(&mut self.records.rows);
        self.records.is_writing.store(true, Ordering::Release);
        // Dropped with the task, however that ends.
        let writing = Writing(Arc::clone(&self.records.is_writing));
        let written = self.written(rows);
        let name = format!("rounds.{}", self.table.pool);
        self.deps.tasks.spawn_once(name, Policy::DETACHED, move |_| async move {
            written.await;
            drop(writing);
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// Writes what is left, for a while.
    pub(super) async fn flush_records(&mut self) {
        let rows = std::mem::take(&mut self.records.rows);
        if rows.is_empty() {
            return;
        }
        let lost = self.deps.metrics.round_records_lost.clone();
        let count = rows.len() as u64;
        tokio::select! {
            biased;
            () = self.written(rows) => {}
            () = self.deps.clock.sleep(FLUSH_TIMEOUT) => {
                lost.inc_by(count);
                tracing::warn!(pool = %self.table.pool, "the last records of rounds took too long");
            }
        }
    }

    fn written(&self, rows: Vec<Row>) -> impl Future<Output = ()> + Send + use<> {
        let rounds = Rounds::new(self.deps.store.clone(), self.deps.blocking.clone());
        let (pool, session) = (self.table.pool.clone(), self.session.clone());
        let (metrics, count) = (self.deps.metrics.clone(), rows.len() as u64);
        async move {
            if let Err(error) = rounds.write(&pool, &session, rows).await {
                metrics.round_records_lost.inc_by(count);
                tracing::warn!(%pool, %error, "records of rounds could not be written");
            }
        }
    }
}

/// While it lives, records are being written.
struct Writing(Arc<AtomicBool>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
