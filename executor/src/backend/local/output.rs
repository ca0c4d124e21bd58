//! Reading a run's output while it is being written.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use super::folder::Folder;
use super::worker::Shared;
use crate::backend::{Error, Piece};
use crate::runs::RunKey;

/// How often a waiting reader looks again.
const POLL: Duration = Duration::from_millis(100);

/// A piece of the output, or what there is of it when the wait is over.
pub(super) async fn read(
    shared: &Shared,
    key: RunKey,
    offset: u64,
    limit: usize,
    wait: Duration,
) -> Result<Piece, Error> {
    let deadline = shared.clock.monotonic() + wait;
    loop {
        // Short: `limit` is less than a message.
        let found = shared.folders.find(key).map(|folder| read_piece(&folder, offset, limit));
        let piece = found
            .ok_or(Error::NoOutput { job: key.job, attempt: key.attempt })?
            .map_err(|source| Error::Io { what: "reading output".to_owned(), source })?;
        if !piece.data.is_empty() || piece.end || shared.clock.monotonic() >= deadline {
            return Ok(piece);
        }
        shared.clock.sleep(POLL).await;
    }
}

fn read_piece(folder: &Folder, offset: u64, limit: usize) -> io::Result<Piece> {
    // Asked before the output is read: what is written before the end is in it.
    let is_ended = folder.ended().is_some();
    let mut data = Vec::new();
    match File::open(folder.output()) {
        Ok(mut file) => {
            file.seek(SeekFrom::Start(offset))?;
            file.take(limit as u64).read_to_end(&mut data)?;
        }
        // Its command was not started (yet).
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let end = is_ended && data.len() < limit;
    Ok(Piece { data: data.into(), end })
}
