//! Taking a shard over: fence the owner before, then read its checkpoint and log.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use muster_core::id::Position;
use muster_core::mutant::{self, Mutant};
use muster_core::record::Record;

use super::append::Log;
use super::objects::{Objects, Place, Put};
use super::read::Reader;
use super::{Params, ReadError};
use crate::codec::{self, FORMAT, Header, Kind};

/// Commits of the old owner that may get ahead of the fence before the takeover gives up.
const ROUNDS_MAX: usize = 1000;

/// Log objects of at most so many bytes are read ahead with all their records.
const WHOLE_BYTES_MAX: usize = 256 * 1024;

/// A stretch of a log, by what it takes to read it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Its objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their records.
    pub records: u64,
}

/// A shard taken over.
pub struct TakenOver {
    /// The log, open for appends.
    pub log: Log,
    /// The new ownership, above every one before: the sequence number of its fence.
    pub epoch: u64,
    /// Whether the owner before gave the shard up in good order. If not, it may believe for the
    /// rest of its lease that it owns the shard, though it can write no more.
    pub released_by_previous: bool,
    /// The sequence number of the checkpoint that was read, if there was one.
    pub checkpoint: Option<u64>,
    /// Newer checkpoints that could not be read, and why: recovery did without them.
    pub broken: Vec<ReadError>,
    /// The checkpoint before the one that was read, if there is one.
    pub checkpoint_before: Option<u64>,
    /// How many records were applied.
    pub records: u64,
    /// What of the log lies behind the checkpoint, this takeover's fence with it.
    pub behind: Stretch,
}

/// Why a shard was not taken over. The owner before is fenced nevertheless, if the fence was
/// written.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// An object could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log has a hole.
    #[error("object `{key}` is missing from the log, which has one at {fence}")]
    Gap {
        /// The key that should be there.
        key: String,
        /// Where this takeover's fence stands, behind it.
        fence: u64,
    },
    /// An object is of an owner that had been fenced before it.
    #[error("object `{key}` is of epoch {found}, after one of epoch {before}")]
    EpochWentBack {
        /// Its key.
        key: String,
        /// Its epoch.
        found: u64,
        /// The highest epoch before it.
        before: u64,
    },
    /// The log goes on behind the fence: it is that of an owner who came after, or it was set long
    /// after its place was looked for.
    #[error("object `{key}` stands behind the fence at {fence}: another owner came after")]
    Overtaken {
        /// The first key behind it.
        key: String,
        /// Where the fence stands.
        fence: u64,
    },
    /// The owner before wrote a newer checkpoint and let go of what was being read.
    #[error("a newer checkpoint was written while the log was read, and `{key}` was let go")]
    Outpaced {
        /// What is gone.
        key: String,
    },
    /// Others wrote faster than the fence could be set.
    #[error("{rounds} other objects were written where the fence belonged")]
    Contended {
        /// How many.
        rounds: usize,
    },
    /// The fence could not be encoded.
    #[error("fence cannot be encoded: {0}")]
    Encode(codec::Error),
}

impl TakeOverError {
    /// The object for whose sake the shard cannot be taken over by anybody until it is put right;
    /// `None` when it is no object's fault and trying again may do.
    #[must_use]
    pub fn damaged(&self) -> Option<&str> {
        match self {
            Self::Read(ReadError::Missing { key } | ReadError::Unreadable { key, .. })
            | Self::Gap { key, .. }
            | Self::EpochWentBack { key, .. } => Some(key),
            Self::Read(
                ReadError::Store { .. } | ReadError::Timeout { .. } | ReadError::Blocking { .. },
            )
            | Self::Overtaken { .. }
            | Self::Outpaced { .. }
            | Self::Contended { .. }
            | Self::Encode(_) => None,
        }
    }
}

impl Log {
    /// Becomes the owner of a shard and reads its state. `apply` gets every record in order: those
    /// of the newest readable checkpoint (at the checkpoint's sequence number), then those of every
    /// later log object.
    ///
    /// # Errors
    /// When the log cannot be read whole; see [`TakeOverError`].
    pub async fn take_over(
        params: Params,
        apply: impl FnMut(Position, Record) + Send,
    ) -> Result<TakenOver, TakeOverError> {
        let objects = Arc::new(Objects::new(params));
        let reader = Reader::new(Arc::clone(&objects));
        let mut replay = Replay {
            objects: &objects,
            reader: &reader,
            apply,
            epoch: 0,
            released: false,
            records: 0,
            behind: Stretch::default(),
            broken: Vec::new(),
            checkpoints: [None, None],
        };
        let fence = replay.fence().await?;
        replay.refuse_overtaken(fence).await?;
        let read = replay.read(fence).await;
        let of_checkpoint = match read {
            Ok(of_checkpoint) => of_checkpoint,
            Err(error) => return Err(replay.judge(error, fence).await?),
        };
        let records = replay.records - of_checkpoint;
        let behind = Stretch { objects: replay.behind.objects + 1, records, ..replay.behind };
        let (records, released_by_previous) = (replay.records, replay.released);
        let next = fence + u64::from(!mutant::is(Mutant::NoFence));
        let [checkpoint, checkpoint_before] = replay.checkpoints;
        let broken = replay.broken;
        Ok(TakenOver {
            log: Log::new(Arc::clone(&objects), reader, fence, next),
            epoch: fence,
            released_by_previous,
            checkpoint,
            checkpoint_before,
            broken,
            records,
            behind,
        })
    }
}

/// A log object that was fetched and found whole.
struct Fetched {
    sequence: u64,
    bytes: Bytes,
    content: Content,
}

enum Content {
    Whole(Header, Vec<Record>),
    /// Read piece by piece as it is applied.
    Large(Box<codec::Reader>),
}

async fn fetch(objects: &Objects, sequence: u64) -> Result<Fetched, ReadError> {
    let place = Place::Log;
    let bytes = objects.get(place, sequence).await?;
    let content = if bytes.len() <= WHOLE_BYTES_MAX {
        let (header, records) = objects.open_whole(place, sequence, bytes.clone()).await?;
        Content::Whole(header, records)
    } else {
        Content::Large(Box::new(objects.open(place, sequence, bytes.clone()).await?))
    };
    Ok(Fetched { sequence, bytes, content })
}

struct Replay<'a, F> {
    objects: &'a Objects,
    reader: &'a Reader,
    apply: F,
    /// The epoch of the last log object read.
    epoch: u64,
    /// Whether the last object read gave the shard up.
    released: bool,
    records: u64,
    /// Log objects read, and their bytes.
    behind: Stretch,
    /// Checkpoints that were passed over.
    broken: Vec<ReadError>,
    /// The checkpoint that was read, and the one before.
    checkpoints: [Option<u64>; 2],
}

impl<F: FnMut(Position, Record) + Send> Replay<'_, F> {
    /// Creates the fence in the first free number. It comes before all reading: a busy owner would
    /// else write faster than its log is read.
    async fn fence(&mut self) -> Result<u64, TakeOverError> {
        let checkpoint = self.objects.list(Place::Checkpoint, 0).await?.last().copied();
        let base = checkpoint.unwrap_or(0);
        let last = self.objects.list(Place::Log, base.max(1)).await?.last().copied();
        let mut sequence = last.unwrap_or(base) + 1;
        if mutant::is(Mutant::NoFence) {
            return Ok(sequence);
        }
        for _ in 0..ROUNDS_MAX {
            match self.put_fence(sequence).await? {
                Put::Ours => return Ok(sequence),
                Put::Theirs(_) => sequence += 1,
            }
        }
        Err(TakeOverError::Contended { rounds: ROUNDS_MAX })
    }

    /// Refuses a log that goes on behind the fence.
    ///
    /// Who slept between looking for the first free number and taking it may have got one that was
    /// used meanwhile and whose object was collected since. The newest object of a log is never
    /// collected, so it then stands behind the fence.
    async fn refuse_overtaken(&self, fence: u64) -> Result<(), TakeOverError> {
        let behind = self.objects.list(Place::Log, fence + 1).await?;
        match behind.first() {
            None => Ok(()),
            Some(&first) => {
                let key = self.objects.key(Place::Log, first).to_string();
                Err(TakeOverError::Overtaken { key, fence })
            }
        }
    }

    /// What it means that something could not be read: nothing, if it was collected meanwhile.
    async fn judge(
        &self,
        error: TakeOverError,
        fence: u64,
    ) -> Result<TakeOverError, TakeOverError> {
        let (TakeOverError::Gap { key, .. } | TakeOverError::Read(ReadError::Missing { key })) =
            &error
        else {
            return Ok(error);
        };
        let key = key.clone();
        let newest = self.objects.list(Place::Checkpoint, 0).await?;
        let newest = newest.into_iter().rfind(|&sequence| sequence < fence);
        let is_outpaced = self.broken.is_empty() && newest > self.checkpoints[0];
        Ok(if is_outpaced { TakeOverError::Outpaced { key } } else { error })
    }

    /// Reads checkpoint and log; how many records the checkpoint has.
    async fn read(&mut self, fence: u64) -> Result<u64, TakeOverError> {
        self.read_checkpoint(fence).await?;
        let of_checkpoint = self.records;
        self.read_log(self.checkpoints[0], fence).await?;
        Ok(of_checkpoint)
    }

    /// A fence's number is its epoch: above every one before, whatever stands between.
    async fn put_fence(&self, sequence: u64) -> Result<Put, TakeOverError> {
        let header = Header {
            shard: self.objects.shard,
            epoch: sequence,
            writer: self.objects.writer,
            nonce: self.objects.random.u128(),
            kind: Kind::Fence,
            sequence,
            released: false,
            format: FORMAT,
        };
        let bytes = codec::encode(&header, &[]).map_err(TakeOverError::Encode)?;
        let put = self.objects.put(Place::Log, sequence, &bytes).await;
        if matches!(put, Put::Ours) {
            self.reader.keep(sequence, bytes);
        }
        Ok(put)
    }

    /// Reads the newest checkpoint that is whole. One of a newer format is not passed over: who
    /// wrote it may have written the log behind it too.
    async fn read_checkpoint(&mut self, fence: u64) -> Result<(), TakeOverError> {
        let place = Place::Checkpoint;
        let mut sequences = self.objects.list(place, 0).await?;
        // Behind the fence only a later owner writes, and then this one will find itself fenced.
        sequences.retain(|&sequence| sequence < fence);
        while let Some(sequence) = sequences.pop() {
            let bytes = self.objects.get(place, sequence).await?;
            match self.objects.open(place, sequence, bytes).await {
                Ok(checkpoint) => {
                    self.checkpoints = [Some(sequence), sequences.last().copied()];
                    self.apply_all(place, sequence, checkpoint).await?;
                    return Ok(());
                }
                Err(error @ ReadError::Unreadable { source: codec::Error::Format { .. }, .. }) => {
                    return Err(error.into());
                }
                Err(error @ ReadError::Unreadable { .. }) => self.broken.push(error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn read_log(&mut self, checkpoint: Option<u64>, fence: u64) -> Result<(), TakeOverError> {
        let base = checkpoint.unwrap_or(0);
        let mut sequences = self.objects.list(Place::Log, base.max(1)).await?;
        sequences.retain(|&sequence| sequence < fence);
        if sequences.first() == Some(&base) {
            sequences.remove(0);
            // Nothing follows the checkpoint, so its own log object tells how the owner left.
            if sequences.is_empty() {
                self.read_last(base).await?;
            }
        }
        let wanted = base + 1..fence;
        let hole = wanted.enumerate().find(|(at, wanted)| sequences.get(*at) != Some(wanted));
        if let Some((_, wanted)) = hole {
            let key = self.objects.key(Place::Log, wanted).to_string();
            return Err(TakeOverError::Gap { key, fence });
        }
        let objects = self.objects;
        let mut fetched = stream::iter(sequences)
            .map(|sequence| fetch(objects, sequence))
            .buffered(objects.limits.read_ahead.max(1));
        while let Some(object) = fetched.next().await {
            self.apply_object(object?).await?;
        }
        Ok(())
    }

    async fn read_last(&mut self, sequence: u64) -> Result<(), TakeOverError> {
        let bytes = self.objects.get(Place::Log, sequence).await?;
        let object = self.objects.open(Place::Log, sequence, bytes).await?;
        self.epoch = object.header().epoch;
        self.released = object.header().released;
        Ok(())
    }

    async fn apply_object(&mut self, fetched: Fetched) -> Result<(), TakeOverError> {
        let Fetched { sequence, bytes, content } = fetched;
        let header = match &content {
            Content::Whole(header, _) => header,
            Content::Large(reader) => reader.header(),
        };
        let (found, before) = (header.epoch, self.epoch);
        if found < before {
            let key = self.objects.key(Place::Log, sequence).to_string();
            return Err(TakeOverError::EpochWentBack { key, found, before });
        }
        self.epoch = found;
        self.released = header.released;
        match content {
            Content::Whole(_, records) => {
                self.records += records.len() as u64;
                for (row, record) in (0..).zip(records) {
                    (self.apply)(Position { sequence, row }, record);
                }
            }
            Content::Large(reader) => self.apply_all(Place::Log, sequence, *reader).await?,
        }
        self.behind.objects += 1;
        self.behind.bytes += bytes.len() as u64;
        self.reader.keep(sequence, bytes);
        Ok(())
    }

    async fn apply_all(
        &mut self,
        place: Place,
        sequence: u64,
        mut object: codec::Reader,
    ) -> Result<(), ReadError> {
        let key = || self.objects.key(place, sequence).to_string();
        let mut row = 0;
        loop {
            let decode = move || {
                let batch = object.next();
                (object, batch)
            };
            let decoded = self.objects.blocking.run(decode).await;
            let (rest, batch) =
                decoded.map_err(|source| ReadError::Blocking { key: key(), source })?;
            object = rest;
            let Some(batch) = batch else { break };
            for record in batch.map_err(|source| ReadError::Unreadable { key: key(), source })? {
                (self.apply)(Position { sequence, row }, record);
                row += 1;
            }
        }
        self.records += u64::from(row);
        Ok(())
    }
}
