//! The owner's side of a log: appending commits and writing checkpoints.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use muster_core::mutant::{self, Mutant};
use muster_core::record::Record;

use super::objects::{Objects, Place, Put};
use super::read::Reader;
use crate::codec::{self, FORMAT, Header, Kind};

/// A commit that is ready to be stored.
#[derive(Debug, Clone)]
pub struct Sealed {
    header: Header,
    bytes: Bytes,
}

impl Sealed {
    /// Encodes records under a header of [`Log::next_header`]. CPU work: call it on the blocking
    /// pool, unless [`codec::is_small`].
    ///
    /// # Errors
    /// See [`codec::encode`].
    pub fn new(header: Header, records: &[Record]) -> Result<Self, codec::Error> {
        let dropped = usize::from(mutant::is(Mutant::DropsLastRecord) && records.len() > 1);
        let bytes = codec::encode(&header, &records[..records.len() - dropped])?;
        Ok(Self { header, bytes })
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its size as stored.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Why a commit was not stored. The log takes no other after it: take the shard over again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Another process owns the shard.
    #[error("writer {by:032x} owns the shard since epoch {epoch}")]
    Fenced {
        /// The process.
        by: u128,
        /// Its epoch.
        epoch: u64,
    },
    /// The number is taken by an object that is not of another owner.
    #[error("object `{key}` stands where the next commit belongs: {reason}")]
    Occupied {
        /// The key.
        key: String,
        /// What it is.
        reason: String,
    },
    /// An append before was dropped, so nobody knows whether its object is there.
    #[error("an append of sequence {sequence} was given up halfway")]
    GivenUp {
        /// Its sequence number.
        sequence: u64,
    },
}

/// Why a checkpoint was not written; nothing is lost but time at the next takeover.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It could not be encoded.
    #[error("checkpoint cannot be encoded: {0}")]
    Encode(#[from] codec::Error),
    /// The work of encoding it did not finish.
    #[error("checkpoint: {0}")]
    Blocking(#[from] crate::blocking::Error),
    /// The store refused it several times.
    #[error("checkpoint `{key}` after {attempts} attempts: {reason}")]
    Store {
        /// Its key.
        key: String,
        /// How often it was tried.
        attempts: u32,
        /// What the store said last.
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Open,
    /// The object of `next` is on its way.
    Appending,
    Closed(AppendError),
}

#[derive(Debug)]
struct Head {
    next: u64,
    state: State,
}

/// A log that this process owns, as far as it knows.
pub struct Log {
    objects: Arc<Objects>,
    reader: Reader,
    epoch: u64,
    head: Mutex<Head>,
}

impl Log {
    pub(super) fn new(objects: Arc<Objects>, reader: Reader, epoch: u64, next: u64) -> Self {
        let head = Mutex::new(Head { next, state: State::Open });
        Self { objects, reader, epoch, head }
    }

    /// This ownership of the shard.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The sequence number of the next commit; while one is on its way, of the one after it.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        let head = self.head();
        head.next + u64::from(head.state == State::Appending)
    }

    /// A header for the commit of [`Log::next_sequence`]. A commit that is `released` must be the
    /// last.
    #[must_use]
    pub fn next_header(&self, kind: Kind, released: bool) -> Header {
        self.header(kind, self.next_sequence(), released)
    }

    /// Where to read what was committed.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Stores a commit under the next sequence number, one at a time. Returns when it is known to
    /// be stored or never will be; until then it tries again, whatever the store says. Who drops
    /// the future must take the shard over again.
    ///
    /// # Errors
    /// When the shard has another owner; see [`AppendError`].
    ///
    /// # Panics
    /// When the commit's header is not that of this log's next commit.
    pub async fn append(&self, sealed: &Sealed) -> Result<(), AppendError> {
        let header = &sealed.header;
        {
            let mut head = self.head();
            match &head.state {
                State::Open => {}
                State::Appending => return Err(AppendError::GivenUp { sequence: head.next }),
                State::Closed(why) => return Err(why.clone()),
            }
            assert_eq!(header.sequence, head.next, "a commit belongs under the next number");
            assert_eq!(header.kind, Kind::Log, "only a takeover fences");
            assert_eq!((header.epoch, header.writer), (self.epoch, self.objects.writer));
            head.state = State::Appending;
        }
        let put = self.objects.put(Place::Log, header.sequence, &sealed.bytes).await;
        let result = match put {
            Put::Ours => Ok(()),
            Put::Theirs(found) => self.classify(header, &found),
        };
        let mut head = self.head();
        match &result {
            Ok(()) => {
                head.next += 1;
                head.state = State::Open;
                self.reader.keep(header.sequence, sealed.bytes.clone());
            }
            Err(_) if mutant::is(Mutant::TimeoutIsFailure) => head.state = State::Open,
            Err(why) => head.state = State::Closed(why.clone()),
        }
        result
    }

    /// Writes the shard's state after the log object `sequence`. Written before, it stays as it is.
    ///
    /// # Errors
    /// When the store fails for long; the checkpoint may be there nevertheless.
    ///
    /// # Panics
    /// When `sequence` is not stored yet: a checkpoint must never be ahead of its log.
    pub async fn write_checkpoint(
        &self,
        sequence: u64,
        records: Vec<Record>,
    ) -> Result<(), CheckpointError> {
        assert!(sequence < self.head().next, "a checkpoint is of what is stored");
        let header = self.header(Kind::Checkpoint, sequence, false);
        let encode = move || codec::encode(&header, &records);
        let bytes = self.objects.blocking.run(encode).await??;
        let key = self.objects.key(Place::Checkpoint, sequence);
        let limits = &self.objects.limits;
        let mut delays = limits.retry.delays(self.objects.random.clone());
        let mut attempts = 0;
        loop {
            attempts += 1;
            let reason = match self.objects.put_once(&key, &bytes).await {
                // Another's says the same: the log up to there gives one state only.
                Ok(Put::Ours | Put::Theirs(_)) => return Ok(()),
                Err(reason) => reason,
            };
            match delays.next() {
                Some(delay) if attempts <= limits.read_retries_max => {
                    tokio::time::sleep(delay).await;
                }
                _ => {
                    let key = key.to_string();
                    return Err(CheckpointError::Store { key, attempts, reason });
                }
            }
        }
    }

    fn header(&self, kind: Kind, sequence: u64, released: bool) -> Header {
        Header {
            shard: self.objects.shard,
            epoch: self.epoch,
            writer: self.objects.writer,
            nonce: self.objects.random.u128(),
            kind,
            sequence,
            released,
            format: FORMAT,
        }
    }

    /// What it means that another object stands where ours should.
    fn classify(&self, ours: &Header, found: &Bytes) -> Result<(), AppendError> {
        let occupied = |reason: String| {
            let key = self.objects.key(Place::Log, ours.sequence).to_string();
            Err(AppendError::Occupied { key, reason })
        };
        match Header::read(found) {
            Err(error) => occupied(error.to_string()),
            Ok(theirs) if theirs.writer == ours.writer && theirs.nonce == ours.nonce => Ok(()),
            Ok(_) if mutant::is(Mutant::IgnoresFence) => Ok(()),
            Ok(theirs) if theirs.writer == ours.writer && theirs.epoch <= ours.epoch => {
                occupied("it is of this owner, but another commit".to_owned())
            }
            Ok(theirs) => Err(AppendError::Fenced { by: theirs.writer, epoch: theirs.epoch }),
        }
    }

    fn head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().expect("no code panics while it holds this lock")
    }
}
