//! Events of a job set: the rows of the log that speak of it, from any place on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::durable::Waiter;
use futures::{StreamExt, stream};
use muster_api::bus::{ListEvents, Room, ShardReply};
use muster_api::convert;
use muster_api::http::{ErrorCode, EventPage, Problem};
use muster_api::text::Cursor;
use muster_core::id::Position;
use muster_core::mutant::{self, Mutant};
use muster_core::record::{Payload, Record};
use muster_runtime::Clock;
use muster_runtime::codec::Columns;
use muster_runtime::log::{Log, ReadError};

/// Records of recent commits kept for watchers.
const RECENT_RECORDS_MAX: usize = 100_000;
/// Log objects searched for one page.
const OBJECTS_PER_PAGE_MAX: usize = 256;
/// How long is searched for one page: who asks does not wait for ever, and a page that takes longer
/// would never be had. What has been found by then is a page.
const SEARCH_MAX: Duration = Duration::from_secs(1);
/// Objects that are read at once.
const READS_AHEAD: usize = 8;
/// How often one request looks for where the log is whole.
const LOOKS_MAX: usize = 3;

/// The last commits, so that those who watch do not read the log.
#[derive(Debug, Default)]
pub(super) struct Recent {
    commits: Mutex<Commits>,
}

#[derive(Debug, Default)]
struct Commits {
    records: usize,
    by_age: VecDeque<(u64, Arc<Vec<Record>>)>,
}

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().expect("no code panics while it holds this lock")
    }

    /// Keeps a durable commit, without the payloads.
    pub(super) fn push(&self, sequence: u64, mut records: Vec<Record>) {
        for record in &mut records {
            if let Record::Submitted(submitted) = record {
                submitted.payload = Payload::default();
            }
        }
        let mut commits = self.lock();
        commits.records += records.len();
        commits.by_age.push_back((sequence, Arc::new(records)));
        while commits.records > RECENT_RECORDS_MAX && commits.by_age.len() > 1 {
            if let Some((_, oldest)) = commits.by_age.pop_front() {
                commits.records -= oldest.len();
            }
        }
    }

    fn get(&self, sequence: u64) -> Option<Arc<Vec<Record>>> {
        let commits = self.lock();
        let first = commits.by_age.front()?.0;
        let index = usize::try_from(sequence.checked_sub(first)?).ok()?;
        let (found, records) = commits.by_age.get(index)?;
        (*found == sequence).then(|| Arc::clone(records))
    }
}

/// What a reader of events needs.
pub(super) struct Reader {
    pub(super) recent: Arc<Recent>,
    pub(super) log: Arc<Log>,
    pub(super) durable: Waiter,
    pub(super) clock: Clock,
    /// Where to begin when the request names no place.
    pub(super) first: Position,
    /// Log objects before this one may have been let go.
    pub(super) let_go_before: u64,
    /// From here on none had been, when it was last looked for. All readers of an owner share it.
    pub(super) whole_from: Arc<AtomicU64>,
    /// The bytes that a page may have.
    pub(super) bytes_max: usize,
}

impl Reader {
    /// A page of events, waited for if there is none yet.
    pub(super) async fn page(self, request: ListEvents) -> ShardReply {
        let until = self.clock.monotonic() + Duration::from_millis(request.wait_ms.min(60_000));
        let mut next = match &request.after {
            Some(Cursor(after)) if mutant::is(Mutant::RepeatsEvent) => *after,
            Some(Cursor(after)) => behind(*after),
            None => self.from(self.whole_from.load(Ordering::Acquire)),
        };
        let mut looks = 0;
        loop {
            let durable = self.durable.get();
            let page = match self.search(&mut next, durable, &request).await {
                Ok(page) => page,
                Err(ReadError::Missing { .. }) if next.sequence < self.let_go_before => {
                    if let Some(Cursor(after)) = request.after {
                        return expired(after);
                    }
                    looks += 1;
                    // What is there may go while it is looked for, but not for ever.
                    match self.log.reader().whole_from(self.let_go_before).await {
                        Ok(whole) if looks <= LOOKS_MAX => {
                            self.whole_from.fetch_max(whole, Ordering::AcqRel);
                            next = self.from(whole);
                            continue;
                        }
                        Ok(_) => return unreadable("they are let go as they are read"),
                        Err(error) => return unreadable(&error),
                    }
                }
                Err(error) => return unreadable(&error),
            };
            if !page.events.is_empty() || page.more {
                return ShardReply::Events(page);
            }
            tokio::select! {
                biased;
                () = self.clock.sleep_until(until) => return ShardReply::Events(page),
                reached = self.durable.reach(durable + 1) => {
                    if reached.is_err() {
                        return ShardReply::Events(page);
                    }
                }
            }
        }
    }

    /// Where to begin when the log is whole from there on.
    fn from(&self, sequence: u64) -> Position {
        self.first.max(Position { sequence, row: 0 })
    }

    async fn search(
        &self,
        next: &mut Position,
        durable: u64,
        request: &ListEvents,
    ) -> Result<EventPage, ReadError> {
        let mut page = EventPage::default();
        let mut room = Room::of_message(self.bytes_max);
        let until = self.clock.monotonic() + SEARCH_MAX;
        // What is being read when the time is over is still taken in.
        let objects = stream::iter(next.sequence..=durable)
            .take(OBJECTS_PER_PAGE_MAX)
            .take_while(|_| std::future::ready(self.clock.monotonic() < until))
            .map(|sequence| self.object(sequence))
            .buffered(READS_AHEAD);
        let mut objects = std::pin::pin!(objects);
        while let Some(object) = objects.next().await {
            let (sequence, records) = object?;
            for (row, record) in records.iter().enumerate().skip(next.row as usize) {
                let row = u32::try_from(row).expect("a commit has fewer than 2^32 rows");
                let wanted = convert::job_set_of(record).is_some_and(|(queue, set)| {
                    **queue == *request.queue && **set == *request.job_set
                });
                if !wanted {
                    continue;
                }
                let Some(event) = convert::event(Position { sequence, row }, record) else {
                    continue;
                };
                if page.events.len() >= request.limit || !room.take_item(&event) {
                    *next = Position { sequence, row };
                    page.more = true;
                    page.cursor = page.events.last().map(|event| event.cursor.clone());
                    return Ok(page);
                }
                page.events.push(event);
            }
            *next = Position { sequence: sequence + 1, row: 0 };
            page.cursor = Some(Cursor(Position { sequence, row: u32::MAX }).to_string());
        }
        page.more = next.sequence <= durable;
        if page.cursor.is_none() {
            page.cursor = before(*next).map(|at| Cursor(at).to_string());
        }
        Ok(page)
    }

    /// A commit: from memory, or else from the store.
    async fn object(
        &self,
        sequence: u64,
    ) -> Result<(u64, Arc<Vec<Record>>), muster_runtime::log::ReadError> {
        let records = match self.recent.get(sequence) {
            Some(records) => records,
            None => self.log.reader().read(sequence, Columns::WithoutPayload).await?,
        };
        Ok((sequence, records))
    }
}

fn unreadable(error: &(impl std::fmt::Display + ?Sized)) -> ShardReply {
    tracing::warn!(%error, "events could not be read");
    let detail = format!("events cannot be read at the moment: {error}");
    ShardReply::Error(Problem::new(ErrorCode::Unavailable, detail))
}

fn expired(after: Position) -> ShardReply {
    let cursor = Cursor(after);
    let detail = format!("the events behind cursor {cursor} are no longer kept: ask without one");
    ShardReply::Error(Problem::new(ErrorCode::CursorExpired, detail))
}

fn behind(at: Position) -> Position {
    match at.row.checked_add(1) {
        Some(row) => Position { sequence: at.sequence, row },
        None => Position { sequence: at.sequence.saturating_add(1), row: 0 },
    }
}

fn before(at: Position) -> Option<Position> {
    match at.row.checked_sub(1) {
        Some(row) => Some(Position { sequence: at.sequence, row }),
        None => Some(Position { sequence: at.sequence.checked_sub(1)?, row: u32::MAX }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_on_right_behind_itself() {
        for at in [Position { sequence: 7, row: 3 }, Position { sequence: 7, row: u32::MAX }] {
            assert_eq!(before(behind(at)), Some(at));
        }
    }

    #[test]
    fn only_the_newest_commits_are_kept() {
        let recent = Recent::default();
        for sequence in 5..8 {
            let span = muster_core::record::HistorySpan {
                after: Position::default(),
                through: Position::default(),
            };
            recent.push(sequence, vec![Record::HistoryPlanned(span); RECENT_RECORDS_MAX / 2]);
        }
        assert!(recent.get(5).is_none());
        assert!(recent.get(6).is_some());
        assert!(recent.get(7).is_some());
        assert!(recent.get(8).is_none());
    }
}
