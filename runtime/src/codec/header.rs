//! What the footer says of an object: whose it is and its place.

use bytes::Bytes;
use muster_core::id::ShardId;
use parquet::file::metadata::KeyValue;

use super::{Error, checksum};

/// The newest format that this version reads, and the one that it writes.
pub const FORMAT: u32 = 1;

/// What kind of object it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A commit.
    Log,
    /// The mark of a new owner, which takes a sequence number away from the old one. It has no
    /// records.
    Fence,
    /// The state of a shard as it stands after a log object.
    Checkpoint,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Fence => "fence",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// Whose object it is and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The shard.
    pub shard: ShardId,
    /// The ownership of the shard under which it was written: rises with each takeover.
    pub epoch: u64,
    /// The process that wrote it.
    pub writer: u128,
    /// Different for every object, so that a writer knows its own.
    pub nonce: u128,
    /// What it is.
    pub kind: Kind,
    /// The sequence number of the log object; for a checkpoint, of the last log object in it.
    pub sequence: u64,
    /// Whether the owner gave the shard up with this object and writes nothing after it.
    pub released: bool,
    /// The version of the file format, see [`FORMAT`].
    pub format: u32,
}

impl Header {
    /// The header of an object, its checksum verified.
    ///
    /// # Errors
    /// When the bytes are damaged, foreign or of a newer format.
    pub fn read(bytes: &Bytes) -> Result<Self, Error> {
        super::Reader::open(bytes.clone(), super::Columns::WithoutPayload)
            .map(|reader| reader.header().clone())
    }

    /// Checks that the object is the one that belongs under a key.
    ///
    /// # Errors
    /// When shard, sequence or the kind disagree.
    pub fn expect(&self, shard: ShardId, sequence: u64, checkpoint: bool) -> Result<(), Error> {
        let misplaced =
            |field, found: String, wanted: String| Err(Error::Misplaced { field, found, wanted });
        if self.shard != shard {
            return misplaced("shard", self.shard.to_string(), shard.to_string());
        }
        if self.sequence != sequence {
            return misplaced("sequence", self.sequence.to_string(), sequence.to_string());
        }
        if (self.kind == Kind::Checkpoint) != checkpoint {
            let wanted = if checkpoint { Kind::Checkpoint } else { Kind::Log };
            return misplaced("kind", self.kind.name().to_owned(), wanted.name().to_owned());
        }
        Ok(())
    }

    pub(super) fn to_key_values(&self) -> Vec<KeyValue> {
        let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
        vec![
            pair("muster.format", self.format.to_string()),
            pair("muster.kind", self.kind.name().to_owned()),
            pair("muster.shard", self.shard.to_string()),
            pair("muster.sequence", self.sequence.to_string()),
            pair("muster.epoch", self.epoch.to_string()),
            pair("muster.writer", format!("{:032x}", self.writer)),
            pair("muster.nonce", format!("{:032x}", self.nonce)),
            pair("muster.released", self.released.to_string()),
            checksum::placeholder(),
        ]
    }

    pub(super) fn from_key_values(pairs: &[KeyValue]) -> Result<Self, Error> {
        let format = number(pairs, "muster.format")?;
        if format > FORMAT {
            return Err(Error::Format { found: format });
        }
        let kind = text(pairs, "muster.kind")?;
        let kind = [Kind::Log, Kind::Fence, Kind::Checkpoint]
            .into_iter()
            .find(|known| known.name() == kind)
            .ok_or_else(|| foreign(format!("`muster.kind` is `{kind}`")))?;
        Ok(Self {
            shard: ShardId(number(pairs, "muster.shard")?),
            epoch: number(pairs, "muster.epoch")?,
            writer: hex(pairs, "muster.writer")?,
            nonce: hex(pairs, "muster.nonce")?,
            kind,
            sequence: number(pairs, "muster.sequence")?,
            released: number(pairs, "muster.released")?,
            format,
        })
    }
}

fn text<'a>(pairs: &'a [KeyValue], key: &str) -> Result<&'a str, Error> {
    pairs
        .iter()
        .find(|pair| pair.key == key)
        .and_then(|pair| pair.value.as_deref())
        .ok_or_else(|| foreign(format!("its footer has no `{key}`")))
}

fn number<T: std::str::FromStr>(pairs: &[KeyValue], key: &str) -> Result<T, Error> {
    let value = text(pairs, key)?;
    value.parse().map_err(|_| foreign(format!("`{key}` is `{value}`")))
}

fn hex(pairs: &[KeyValue], key: &str) -> Result<u128, Error> {
    let value = text(pairs, key)?;
    u128::from_str_radix(value, 16).map_err(|_| foreign(format!("`{key}` is `{value}`")))
}

fn foreign(reason: String) -> Error {
    Error::Foreign { reason }
}
