//! Messages on the bus.

use bytes::Bytes;
use muster_api::batch::{self, Builder};
use muster_api::bus::{
    self, ControlChanged, GetLogs, Heartbeat, Holder, LeaseReply, LeaseRequest, LogsReply, Offers,
    ShardReply, ShardRequest, StopRuns,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::refused;

/// The jobs of a submission.
pub(crate) fn submission(bytes: &[u8]) {
    let jobs = match batch::read(Bytes::copy_from_slice(bytes)) {
        Ok(jobs) => jobs,
        Err(error) => return refused(&error),
    };
    let mut builder = Builder::new();
    jobs.iter().for_each(|job| builder.push_new(job));
    let again = batch::read(builder.finish()).expect("what was read can be written and read");
    assert_eq!(again, jobs);
}

/// A message. Its first byte says of which type.
pub(crate) fn message(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let readers: [fn(&[u8]); 11] = [
        decode::<ShardRequest>,
        decode::<ShardReply>,
        decode::<LeaseRequest>,
        decode::<LeaseReply>,
        decode::<Heartbeat>,
        decode::<StopRuns>,
        decode::<GetLogs>,
        decode::<LogsReply>,
        decode::<Offers>,
        decode::<ControlChanged>,
        decode::<Holder>,
    ];
    readers[usize::from(*first) % readers.len()](bytes);
}

/// What can be read is written in one way, and that can be read again.
fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    match bus::decode::<T>(bytes) {
        Ok(message) => {
            let written = bus::encode(&message);
            let again = bus::decode::<T>(&written).expect("what was read can be written and read");
            assert_eq!(bus::encode(&again), written);
        }
        Err(error) => refused(&error),
    }
}
