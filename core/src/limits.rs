//! Every limit on what users and peers may send, in one place; docs/formats.md repeats them.

/// Bytes of one job's text, as submitted.
pub const JOB_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one line of an NDJSON body; a job and the white space around it.
pub const LINE_BYTES_MAX: usize = 72 * 1024;
/// Bytes of a body after decompression.
pub const BODY_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Bytes of a body that is held whole (`application/json`), after decompression.
pub const JSON_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Jobs in one streamed submission.
pub const JOBS_PER_REQUEST_MAX: u64 = 10_000_000;
/// Jobs in one all-or-nothing submission.
pub const JOBS_PER_JSON_MAX: usize = 10_000;
/// Tasks of one array.
pub const ARRAY_COUNT_MAX: u32 = 10_000_000;
/// Items of one page of a listing.
pub const PAGE_SIZE_MAX: usize = 10_000;
/// Items of one page when the request names none.
pub const PAGE_SIZE_DEFAULT: usize = 100;
/// Ids in one cancel or reprioritize request.
pub const IDS_PER_REQUEST_MAX: usize = 10_000;
/// Bytes of a queue's name.
pub const QUEUE_NAME_BYTES_MAX: usize = 253;
/// Bytes of a job set's name.
pub const JOB_SET_NAME_BYTES_MAX: usize = 1023;
/// Bytes of a client id.
pub const CLIENT_ID_BYTES_MAX: usize = 100;
/// Bytes of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Bytes of a reason given by a user.
pub const REASON_BYTES_MAX: usize = 512;
/// Labels of a queue.
pub const QUEUE_LABELS_MAX: usize = 64;
/// Bytes of the name, and of the value, of a queue's label.
pub const QUEUE_LABEL_BYTES_MAX: usize = 317;
/// Limits of a queue.
pub const QUEUE_LIMITS_MAX: usize = 64;
/// Queues of a deployment.
pub const QUEUES_MAX: usize = 10_000;
/// Clusters and nodes that are cordoned, or were put back, at once.
pub const CORDONS_MAX: usize = 10_000;
/// How long a failure may be held against a node, in hours.
pub const NODE_FAILURES_HOURS: u64 = 24;
/// Queues of which it is told that jobs failed on one node.
pub const FAILING_QUEUES_MAX: usize = 16;
/// Levels of queues that stand below each other.
pub const QUEUE_LEVELS_MAX: usize = 8;
/// Pools for which something is set.
pub const POOL_SETTINGS_MAX: usize = 1_000;
/// Pools to which one lends its idle nodes.
pub const LENDS_TO_MAX: usize = 16;
/// Floating resources of a pool.
pub const FLOATING_RESOURCES_MAX: usize = 16;
/// Priority classes that are set in a deployment.
pub const PRIORITY_CLASSES_MAX: usize = 100;
/// Bytes of a priority class's name.
pub const PRIORITY_CLASS_NAME_BYTES_MAX: usize = 253;
/// Services of one job, and ingresses of one.
pub const SERVICES_MAX: usize = 16;
/// Ports of one service or ingress.
pub const SERVICE_PORTS_MAX: usize = 64;
/// Jobs that one job may depend on.
pub const DEPENDENCIES_MAX: usize = 64;
/// Rules of one retry policy.
pub const RETRY_RULES_MAX: usize = 32;
/// Exit codes (or ranges of them), and signals, that one rule of a retry policy names.
pub const RETRY_CODES_MAX: usize = 64;
/// Retries that one rule allows.
pub const RETRY_LIMIT_MAX: u32 = 1_000;
/// How long a job waits before it is tried again, in hours.
pub const RETRY_BACKOFF_HOURS_MAX: u64 = 24;
/// Nodes that one job keeps away from because attempts of it failed there.
pub const AVOIDED_NODES_MAX: usize = 8;
/// The last finished jobs of a shard of which it remembers how they ended, for those that are
/// submitted later and depend on them.
pub const ENDS_REMEMBERED_MAX: usize = 20_000;
/// Jobs of one gang.
pub const GANG_CARDINALITY_MAX: u32 = 10_000;
/// Different shapes of the jobs of one gang.
pub const GANG_SHAPES_MAX: usize = 16;
/// Bytes of a gang's id.
pub const GANG_ID_BYTES_MAX: usize = 253;
/// Seconds of a pod's termination grace period.
pub const GRACE_PERIOD_SECONDS_MAX: u64 = 300;
/// Different resources that one job may ask for.
pub const RESOURCES_PER_JOB_MAX: usize = 32;
/// Labels in one job's node selector.
pub const NODE_SELECTOR_MAX: usize = 64;
/// Alternatives (terms) of one job's required node affinity.
pub const AFFINITY_TERMS_MAX: usize = 64;
/// Requirements of one job's required node affinity, in all its terms.
pub const AFFINITY_REQUIREMENTS_MAX: usize = 256;
/// Tolerations of one job.
pub const TOLERATIONS_MAX: usize = 64;
/// Jobs of one submit command to a shard: a commit stays small enough to be encoded in a moment.
pub const JOBS_PER_COMMAND_MAX: usize = 4096;
/// Past runs remembered of one live job.
pub const PAST_RUNS_MAX: usize = 16;
/// How long an `Idempotency-Key` (and a client id) is remembered, in hours; the client id of a job
/// that lives is remembered as long as it lives.
pub const IDEMPOTENCY_HOURS: u64 = 24;
/// How long the outcome of any other command is remembered, in minutes.
pub const COMMAND_MINUTES: u64 = 15;
/// The newest of those commands, as many as this, are remembered however long ago they seem to be:
/// clocks leap.
pub const COMMANDS_KEPT_MIN: usize = 1_024;
/// Commands, and client ids whose time is not over, that a shard remembers; beyond it the oldest
/// are forgotten before their time.
pub const REMEMBERED_MAX: usize = 4_000_000;
/// How long a job set is remembered after its last change once nothing of it lives, in days.
pub const JOB_SET_DAYS: u64 = 7;
/// Different resources in one queue's sums as they are told to the leader of a pool.
pub const RESOURCES_PER_OFFER_MAX: usize = 256;
