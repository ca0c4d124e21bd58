//! The state machine of a shard.
