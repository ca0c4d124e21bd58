//! Every bound of the executor that is no setting.

use std::time::Duration;

/// Reports in one message to a shard.
pub const REPORTS_PER_MESSAGE_MAX: usize = 1000;
/// Jobs whose payloads one message asks for.
pub const PAYLOADS_PER_REQUEST_MAX: usize = 1000;
/// Arrays whose payloads are kept for their next tasks.
pub const ARRAYS_CACHED_MAX: usize = 1000;
/// Runs that are remembered after they were settled, so that a lease that comes again is ignored …
pub const RECENT_RUNS_MAX: usize = 200_000;
/// … for so long.
pub const RECENT_AGE_MAX: Duration = Duration::from_mins(15);
/// Names of vanished nodes kept for the next updates; beyond, all nodes are told anew.
pub const REMOVED_NODES_MAX: usize = 10_000;
/// Pools that the nodes of one cluster may belong to; each is a request that waits at a leader.
pub const POOLS_MAX: usize = 64;
/// Bytes of the sentence for people in a report; the rest is cut off.
pub const MESSAGE_BYTES_MAX: usize = 512;
/// Status changes that a back end may be ahead of the executor.
pub const EVENTS_MAX: usize = 4096;
/// Commands that wait for a back end.
pub const COMMANDS_MAX: usize = 1024;
/// Requests for output that are answered at the same time.
pub const LOGS_IN_FLIGHT_MAX: usize = 256;
/// Lease requests that may wait for an answer; only the newest counts for the leader, the others
/// are kept so that an answer that was already on its way is not lost.
pub const LEASE_REQUESTS_IN_FLIGHT_MAX: usize = 4;
/// How long a shard may take to answer.
pub const SHARD_TIMEOUT: Duration = Duration::from_secs(10);
/// Least time from a lease request that is not answered to the next, which tells what changed
/// since. A leader has to hear all of them before each round, from every cluster.
pub const LEASE_CHANGE_INTERVAL: Duration = Duration::from_millis(100);
/// How long the leader may take beyond the time it was told to wait.
pub const LEASE_TIMEOUT_EXTRA: Duration = Duration::from_secs(2);
/// How long it may take to answer what tells all nodes: it answers nobody while shards commit what
/// it leased, for which it gives them five seconds.
pub const TELL_TIMEOUT: Duration = Duration::from_secs(6);
/// How soon a cluster compares notes with all shards after a pool got another leader.
pub const COMPARED_WITHIN: Duration = Duration::from_secs(1);
/// The longest interval between comparisons with a shard that keep finding nothing to repair.
pub const SYNC_INTERVAL_MAX: Duration = Duration::from_mins(1);
