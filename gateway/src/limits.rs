//! What one gateway allows itself; what users may send is in [`muster_core::limits`].

use std::time::Duration;

/// Bytes of request line and headers of one request.
pub const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Headers of one request.
pub const HEADERS_MAX: usize = 100;
/// Chunks of one submission that are parsed at once.
pub const PARSES_AHEAD: usize = 2;
/// Commands of one submission that shards work on at once. Each takes as long as a commit: so many
/// messages of a MiB go out in each commit interval.
pub const COMMANDS_IN_FLIGHT: usize = 16;
/// Bytes of a body that are parsed together at most.
pub const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes that are parsed where they are: less work than handing them to another thread and back.
pub const PARSED_AT_ONCE_BYTES_MAX: usize = 16 * 1024;
/// How long a chunk that has bytes waits for more of them.
pub const CHUNK_WAIT: Duration = Duration::from_millis(5);
/// A body that brings less, while its client is waited for, gives way to others when all places are
/// taken.
pub const BODY_BYTES_PER_SECOND_MIN: f64 = 1024.0;
/// For so long no body has to.
pub const BODY_GRACE: Duration = Duration::from_secs(3);
/// Answered commands of one submission whose answers its client has not read.
pub const ANSWERS_WAITING_MAX: usize = 16 * 1024;
/// Refused jobs of one submission whose answers its client has not read.
pub const REFUSALS_WAITING_MAX: usize = 64 * 1024;
/// Refusals listed in a summary.
pub const SUMMARY_ERRORS_MAX: usize = 100;
/// Events asked of a shard at once.
pub const EVENTS_PER_PAGE: usize = 1000;
/// Pieces that one page of jobs is put together from: the bus does not carry a large one at once.
pub const PIECES_PER_PAGE_MAX: usize = 16;
/// Bytes of a run's output asked for at once.
pub const LOG_PIECE_BYTES: u32 = 256 * 1024;
/// How long a shard or executor holds a request of a watcher that has nothing new to see.
pub const LONG_POLL: Duration = Duration::from_secs(10);
/// Bytes of a small JSON body.
pub const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How long one attempt to ask a shard waits for an answer.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Kinds of jobs that the answer to a dry run tells of.
pub const KINDS_MAX: usize = 100;
/// Questions that one request asks leaders of pools at once.
pub const QUESTIONS_AT_ONCE: usize = 4;
/// How long the leader of a pool has for an answer: between two of its turns it may wait for
/// shards.
pub const LEADER_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a request is tried again with a shard that says that it is overloaded.
pub const OVERLOAD_WAIT: Duration = Duration::from_secs(5);
