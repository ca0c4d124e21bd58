//! What may go, from the objects alone: for whoever collects without owning the shard.

use futures::TryStreamExt;
use muster_core::id::{Position, ShardId};
use muster_core::shard::Shard;
use object_store::path::Path;

use super::{Bounds, Error};
use crate::Blocking;
use crate::codec::{self, Columns};
use crate::log::objects::{Place, folder, key, sequence_of};
use crate::store::Store;

/// What may go of a shard by its two newest checkpoints that are whole; `None` when it has no two.
/// They say what was durable once, and what may go then may go ever after: an owner beside does no
/// harm, and none is done to it.
///
/// # Errors
/// When the store fails.
pub async fn bounds(
    store: &Store,
    blocking: &Blocking,
    shard: ShardId,
) -> Result<Option<Bounds>, Error> {
    let folder = Path::from(folder(shard, Place::Checkpoint));
    let failed = |source| Error { place: folder.to_string(), source };
    let listed: Vec<_> = store.objects().list(Some(&folder)).try_collect().await.map_err(failed)?;
    let mut sequences: Vec<u64> =
        listed.iter().filter_map(|object| sequence_of(&object.location)).collect();
    sequences.sort_unstable();
    let mut in_use: Option<Vec<u64>> = None;
    while let Some(sequence) = sequences.pop() {
        let key = key(shard, Place::Checkpoint, sequence);
        let failed = |source| Error { place: key.to_string(), source };
        let Some(bytes) = store.read(&key).await.map_err(failed)? else { continue };
        let used = blocking.run(move || used_by(bytes, shard, sequence)).await;
        match (used, &in_use) {
            // Damaged: it is no checkpoint.
            (Err(_) | Ok(Err(_)), _) => {}
            (Ok(Ok(used)), None) => in_use = Some(used),
            (Ok(Ok(_)), Some(in_use)) => {
                let (checkpoint, in_use) = (sequence, in_use.clone().into());
                return Ok(Some(Bounds { checkpoint, in_use, own_from: u64::MAX }));
            }
        }
    }
    Ok(None)
}

fn used_by(bytes: bytes::Bytes, shard: ShardId, sequence: u64) -> Result<Vec<u64>, codec::Error> {
    let (header, records) = codec::decode(bytes, Columns::WithoutPayload)?;
    header.expect(shard, sequence, true)?;
    let mut state = Shard::new(shard);
    for (row, record) in (0u32..).zip(&records) {
        state.apply(Position { sequence, row }, record);
    }
    Ok(state.log_in_use())
}
