//! Identifiers: jobs, array tasks, shards, commands and places in a shard's log.
//!
//! A job id is a [ULID](https://github.com/ulid/spec) in lower case whose first 16 random bits are
//! the shard number, so that any gateway can route a request from the id alone. Ids rise within a
//! shard.

use std::fmt;
use std::str::FromStr;

use crate::time::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const ID_TEXT_LEN: usize = 26;

/// A shard's number, `0..count` of the deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A job's id: 48 bits of milliseconds, 16 bits of shard, 64 bits that make it unique in the shard.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    high: u64,
    low: u64,
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Not 26 characters of the lower-case Crockford alphabet.
    #[error("job id `{0}` is not a lower-case ULID of 26 characters")]
    NotUlid(String),
    /// The part behind the dash is not an array index.
    #[error("array index in `{0}` is not a number from 0 to 4294967294")]
    BadIndex(String),
    /// Not 32 hexadecimal digits.
    #[error("command id `{0}` is not 32 hexadecimal digits")]
    NotCommand(String),
}

impl JobId {
    /// No id is above it.
    pub const MAX: Self = Self { high: u64::MAX, low: u64::MAX };

    /// The id made of a submission time, a shard and the part that is unique within both.
    #[must_use]
    pub fn new(at: Timestamp, shard: ShardId, unique: u64) -> Self {
        let millis = at.0.max(0).unsigned_abs() & 0xffff_ffff_ffff;
        Self { high: millis << 16 | u64::from(shard.0), low: unique }
    }

    /// The id behind 16 bytes, most significant first.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let value = u128::from_be_bytes(bytes);
        Self { high: (value >> 64) as u64, low: value as u64 }
    }

    /// The 16 bytes of the id, most significant first; their order is the order of ids.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.as_u128().to_be_bytes()
    }

    /// The shard that the job was submitted to.
    #[must_use]
    pub fn shard(self) -> ShardId {
        ShardId((self.high & 0xffff) as u16)
    }

    /// When the job was submitted, by the clock of the shard (never before an earlier job's).
    #[must_use]
    pub fn submitted_at(self) -> Timestamp {
        Timestamp((self.high >> 16) as i64)
    }

    /// The id `n` places after this one, with the same time and shard.
    ///
    /// # Panics
    /// When the unique part overflows; [`JobId::room`] tells how far one may go.
    #[must_use]
    pub fn plus(self, n: u64) -> Self {
        let low = self.low.checked_add(n).expect("callers ask for `room` first");
        Self { high: self.high, low }
    }

    /// How many ids follow this one with the same time and shard.
    #[must_use]
    pub fn room(self) -> u64 {
        u64::MAX - self.low
    }

    fn as_u128(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; ID_TEXT_LEN];
        let mut value = self.as_u128();
        for slot in text.iter_mut().rev() {
            *slot = ALPHABET[(value & 31) as usize];
            value >>= 5;
        }
        f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for JobId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseIdError::NotUlid(text.to_owned());
        // 26 characters of 5 bits are 130: the first may not exceed 7.
        if text.len() != ID_TEXT_LEN || text.as_bytes()[0] > b'7' {
            return Err(fail());
        }
        let mut value = 0u128;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|&c| c == byte).ok_or_else(fail)?;
            value = value << 5 | digit as u128;
        }
        Ok(Self::from_bytes(value.to_be_bytes()))
    }
}

/// A job, or one task of an array: `A` or `A-i`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobRef {
    /// The job, or the array as a whole.
    pub job: JobId,
    /// The task's index within its array.
    pub index: Option<u32>,
}

impl JobRef {
    /// A job that is no array's task (or an array as a whole).
    #[must_use]
    pub fn whole(job: JobId) -> Self {
        Self { job, index: None }
    }

    /// Task `index` of array `job`.
    #[must_use]
    pub fn task(job: JobId, index: u32) -> Self {
        Self { job, index: Some(index) }
    }
}

impl fmt::Display for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            None => write!(f, "{}", self.job),
            Some(index) => write!(f, "{}-{index}", self.job),
        }
    }
}

impl fmt::Debug for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for JobRef {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((job, index)) = text.split_once('-') else {
            return Ok(Self::whole(text.parse()?));
        };
        let bad = || ParseIdError::BadIndex(text.to_owned());
        if index.is_empty() || !index.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        // One spelling a task: no leading zeros, and the largest number stands for "none" nowhere.
        let value: u32 = index.parse().map_err(|_| bad())?;
        if value == u32::MAX || (index.len() > 1 && index.starts_with('0')) {
            return Err(bad());
        }
        Ok(Self::task(job.parse()?, value))
    }
}

/// The id of a command to a shard: a sender that heard nothing sends the same command under the
/// same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u128);

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CommandId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseIdError::NotCommand(text.to_owned());
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(fail());
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| fail())
    }
}

/// One run's part in the digest of a set of runs, which is the exclusive or of its runs' parts:
/// equal sets have equal digests. XXH3 (64 bit) over the job's bytes, its index and the attempt.
#[must_use]
pub fn run_digest(job: JobRef, attempt: u32) -> u64 {
    let mut bytes = [0u8; 24];
    bytes[..16].copy_from_slice(&job.job.to_bytes());
    bytes[16..20].copy_from_slice(&job.index.unwrap_or(u32::MAX).to_be_bytes());
    bytes[20..].copy_from_slice(&attempt.to_be_bytes());
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

/// A place in a shard's log: the object's sequence number and the row within it.
///
/// A record's position orders it among all records of its shard, whoever owned the shard when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Sequence number of the log object, from 1.
    pub sequence: u64,
    /// Row within the object, from 0.
    pub row: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_shard_and_time_and_survives_its_text() {
        let id = JobId::new(Timestamp(1_790_000_000_123), ShardId(513), 7);
        assert_eq!(id.shard(), ShardId(513));
        assert_eq!(id.submitted_at(), Timestamp(1_790_000_000_123));
        assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        assert_eq!(JobId::from_bytes(id.to_bytes()), id);
        assert_eq!(id.to_string().len(), 26);
    }

    #[test]
    fn the_order_of_texts_is_the_order_of_ids() {
        let a = JobId::new(Timestamp(1), ShardId(3), u64::MAX);
        let b = JobId::new(Timestamp(2), ShardId(3), 0);
        assert!(a < b);
        assert!(a.to_string() < b.to_string());
    }

    #[test]
    fn a_task_has_one_spelling() {
        let id = JobId::new(Timestamp(5), ShardId(0), 9);
        let text = format!("{id}-41");
        assert_eq!(text.parse::<JobRef>(), Ok(JobRef::task(id, 41)));
        assert_eq!(JobRef::task(id, 41).to_string(), text);
        for bad in ["-", "-+1", "-01", "-4294967295", "-x", "--1"] {
            assert!(format!("{id}{bad}").parse::<JobRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_that_are_no_ids_are_refused() {
        let upper = JobId::new(Timestamp(1 << 40), ShardId(1), 0xabc).to_string().to_uppercase();
        for bad in ["", "0", "8zzzzzzzzzzzzzzzzzzzzzzzzz", "0000000000000000000000000u", &upper] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }
}
