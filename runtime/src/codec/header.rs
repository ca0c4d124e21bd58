//! What the footer says of an object: whose it is, its place, and the checksum over all of it.

use bytes::Bytes;
use muster_core::id::ShardId;
use parquet::file::metadata::KeyValue;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::Error;

/// The newest format that this version reads, and the one that it writes.
pub const FORMAT: u32 = 1;

const CHECKSUM_KEY: &str = "muster.checksum";
const CHECKSUM_DIGITS: usize = 32;
const PLACEHOLDER: [u8; CHECKSUM_DIGITS] = [b'0'; CHECKSUM_DIGITS];
/// Parquet ends with the footer's length (4 bytes) and a magic word.
const TAIL_BYTES: usize = 8;
/// Between a key and its value in the footer: the value's field number with its type, and its
/// length.
const KEY_TO_VALUE_BYTES: usize = 2;

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
            pair(CHECKSUM_KEY, "0".repeat(CHECKSUM_DIGITS)),
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

/// Fills the checksum of a finished object in: XXH3 (128 bit) of all its bytes, with the checksum's
/// own digits as zeros.
pub(super) fn sign(object: &mut [u8]) -> Result<(), Error> {
    let at = checksum_at(object)?;
    let digits = format!("{:032x}", xxh3_128(object));
    object[at..at + CHECKSUM_DIGITS].copy_from_slice(digits.as_bytes());
    Ok(())
}

/// Checks an object's bytes against its checksum.
pub(super) fn verify(object: &[u8]) -> Result<(), Error> {
    let at = checksum_at(object)?;
    let (before, rest) = object.split_at(at);
    let (digits, after) = rest.split_at(CHECKSUM_DIGITS);
    let stated = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        .and_then(|digits| u128::from_str_radix(digits, 16).ok())
        .ok_or_else(|| foreign("its checksum is not lower-case hexadecimal".to_owned()))?;
    let mut hash = Xxh3::new();
    hash.update(before);
    hash.update(&PLACEHOLDER);
    hash.update(after);
    let found = hash.digest128();
    if found == stated {
        Ok(())
    } else {
        Err(Error::Checksum { bytes: object.len(), found, stated })
    }
}

/// Where the digits of the checksum stand: behind the last mention of their key in the footer.
fn checksum_at(object: &[u8]) -> Result<usize, Error> {
    let end = object
        .len()
        .checked_sub(TAIL_BYTES)
        .filter(|&end| object.ends_with(b"PAR1") && end > 0)
        .ok_or_else(|| foreign(format!("its {} bytes do not end as Parquet does", object.len())))?;
    let length: [u8; 4] = object[end..end + 4].try_into().expect("the slice has four bytes");
    let footer = usize::try_from(u32::from_le_bytes(length))
        .ok()
        .and_then(|length| end.checked_sub(length))
        .ok_or_else(|| foreign("its footer is longer than the object".to_owned()))?;
    let key = CHECKSUM_KEY.as_bytes();
    object[footer..end]
        .windows(key.len())
        .rposition(|window| window == key)
        .map(|at| footer + at + key.len() + KEY_TO_VALUE_BYTES)
        .filter(|at| at + CHECKSUM_DIGITS <= end)
        .ok_or_else(|| foreign("its footer has no checksum".to_owned()))
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
