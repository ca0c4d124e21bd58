//! Objects of the store. What damages one is found by its checksum, before anything else looks at
//! it. What is behind the checksum is tried with objects that are whole, and say what none of ours
//! would.

use bytes::Bytes;
use muster_runtime::codec::{self, Columns, Header};

use super::refused;
use crate::forged;

/// A log object.
pub(crate) fn log(bytes: &[u8]) {
    decode(Bytes::copy_from_slice(bytes), false);
}

/// A checkpoint.
pub(crate) fn checkpoint(bytes: &[u8]) {
    decode(Bytes::copy_from_slice(bytes), true);
}

/// An object whose cells are changed. The first byte says of which kind, the others what to change.
pub(crate) fn cells(bytes: &[u8]) {
    let Some((first, edits)) = bytes.split_first() else { return };
    let is_checkpoint = first % 2 == 1;
    if let Some(object) = forged::object(is_checkpoint, edits) {
        decode(object, is_checkpoint);
    }
}

fn decode(bytes: Bytes, is_checkpoint: bool) {
    let (header, records) = match codec::decode(bytes.clone(), Columns::All) {
        Ok(read) => read,
        Err(error) => return refused(&error),
    };
    assert_eq!(Header::read(&bytes).expect("it was read before"), header);
    if let Err(error) = header.expect(header.shard, header.sequence, is_checkpoint) {
        refused(&error);
    }
    codec::decode(bytes.clone(), Columns::WithoutPayload).expect("it is less than all");
    let rows: Vec<u32> = (0..).take(records.len()).collect();
    if let Err(error) = codec::decode_payloads(bytes, &rows) {
        refused(&error);
    }
    let written = codec::encode(&header, &records).expect("what was read can be written");
    let (_, again) = codec::decode(written, Columns::All).expect("what was written can be read");
    assert_eq!(again, records);
}
