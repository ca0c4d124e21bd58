//! The log of a shard as it lies in the store: read as whoever takes the shard over reads it, and
//! held to what a log promises.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use muster_core::id::{JobId, ShardId};
use muster_core::record::Record;
use muster_loadtest::acknowledged::Acknowledged;
use muster_runtime::codec::{self, Columns, Header, Kind};

/// One object of a log.
#[derive(Debug)]
pub struct Object {
    /// Whose it is.
    pub header: Header,
    /// What is in it.
    pub records: Vec<Record>,
}

/// The log of a shard below the directory of a store's prefix, by sequence number.
///
/// # Errors
/// When an object is damaged, is not what its name says, or is missing.
pub fn read(prefix: &Path, shard: u16) -> Result<Vec<Object>> {
    let directory = prefix.join(format!("shards/{shard}/log"));
    let mut names = Vec::new();
    let listing = std::fs::read_dir(&directory);
    for entry in listing.with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        names.extend(path.extension().is_some_and(|end| end == "parquet").then_some(path));
    }
    names.sort();
    let mut objects = Vec::new();
    for (sequence, path) in (1..).zip(names) {
        let name = path.display().to_string();
        let bytes = Bytes::from(std::fs::read(&path).with_context(|| format!("read {name}"))?);
        let (header, records) =
            codec::decode(bytes, Columns::WithoutPayload).with_context(|| name.clone())?;
        header.expect(ShardId(shard), sequence, false).with_context(|| name)?;
        objects.push(Object { header, records });
    }
    Ok(objects)
}

/// Holds a log to the order of its owners: each object is of the owner whose fence stands before
/// it, so that nothing of an owner lies behind the fence of the next.
///
/// # Errors
/// With the first object that is of another.
pub fn check_owners(log: &[Object]) -> Result<()> {
    let mut owner = None;
    for Object { header, .. } in log {
        let (epoch, writer) = (header.epoch, header.writer);
        if header.kind == Kind::Fence {
            ensure!(epoch == header.sequence, "a fence says another epoch: {header:?}");
            owner = Some((epoch, writer));
        }
        ensure!(owner == Some((epoch, writer)), "the last fence is of {owner:?}: {header:?}");
    }
    Ok(())
}

/// Holds the logs to what was acknowledged: each job was submitted in them, once.
///
/// # Errors
/// With the first job that was not.
pub fn check_submitted(logs: &[Vec<Object>], acknowledged: &Acknowledged) -> Result<()> {
    let mut submitted: BTreeMap<JobId, usize> = BTreeMap::new();
    for record in logs.iter().flatten().flat_map(|object| &object.records) {
        if let Record::Submitted(submission) = record {
            *submitted.entry(submission.job).or_default() += 1;
        }
    }
    for record in acknowledged.job_sets.values().flat_map(|job_set| &job_set.records) {
        let job = JobId::from_bytes(record.id);
        let times = submitted.get(&job).copied().unwrap_or_default();
        ensure!(times == 1, "{job} was acknowledged and stands in the log {times} times");
    }
    Ok(())
}
