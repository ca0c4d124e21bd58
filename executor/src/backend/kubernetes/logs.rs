//! The output of runs, from the API server, which gives it from the beginning on. So that a reader
//! who comes for piece after piece is not given the beginning each time, the stream of the last
//! piece is kept for a while.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncBufRead, AsyncBufReadExt as _};
use kube::core::Request;
use kube::core::subresource::LogParams;

use super::calls::pods;
use super::client::Api;
use super::labels;
use super::table::Place;
use crate::backend::{Error, Piece};
use crate::runs::RunKey;

/// Streams that wait for their reader's next request.
const READERS_MAX: usize = 64;
/// How long one waits.
const READER_AGE_MAX: Duration = Duration::from_mins(2);
/// How long a reader that waits for output looks whether a container has begun.
const POLL: Duration = Duration::from_millis(250);

/// The streams.
pub(super) struct Logs {
    api: Api,
    readers: Mutex<BTreeMap<RunKey, Reader>>,
}

/// A stream that stands somewhere in a run's output.
struct Reader {
    stream: Pin<Box<dyn AsyncBufRead + Send>>,
    offset: u64,
    used: Duration,
}

impl Logs {
    pub(super) fn new(api: Api) -> Self {
        Self { api, readers: Mutex::new(BTreeMap::new()) }
    }

    /// A piece of the output of the run whose pod is at `place`.
    pub(super) async fn read(
        &self,
        key: RunKey,
        place: &Place,
        offset: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Piece, Error> {
        let clock = &self.api.clock;
        let deadline = clock.monotonic() + wait;
        let nothing = |end| Piece { data: Bytes::new(), end };
        let mut reader = match self.take(key, offset) {
            Some(reader) => reader,
            None if !place.has_run => {
                clock.sleep(wait.min(POLL)).await;
                return Ok(nothing(place.is_over));
            }
            None => self.open(key, place).await?,
        };
        let mut data = Vec::new();
        let end = loop {
            let read = tokio::select! {
                biased;
                read = reader.stream.fill_buf() => read.map_err(|error| broken(&error))?,
                () = clock.sleep_until(deadline) => break false,
            };
            if read.is_empty() {
                break true;
            }
            let got = u64::try_from(read.len()).unwrap_or(u64::MAX);
            let skipped = offset.saturating_sub(reader.offset).min(got);
            let from = usize::try_from(skipped).unwrap_or(read.len());
            let to = read.len().min(from + (limit - data.len()));
            data.extend_from_slice(&read[from..to]);
            reader.stream.consume_unpin(to);
            reader.offset += u64::try_from(to).unwrap_or_default();
            if data.len() >= limit {
                break false;
            }
            // What is there is given at once.
            if !data.is_empty() && clock.monotonic() >= deadline {
                break false;
            }
            if !data.is_empty() && !has_more(&mut reader).await {
                break false;
            }
        };
        if !end {
            reader.used = clock.monotonic();
            self.keep(key, reader);
        }
        Ok(Piece { data: data.into(), end })
    }

    async fn open(&self, key: RunKey, place: &Place) -> Result<Reader, Error> {
        let params = LogParams {
            container: Some(place.container.clone()).filter(|name| !name.is_empty()),
            follow: true,
            ..LogParams::default()
        };
        let request = Request::new(pods(&place.namespace)).logs(&labels::pod_name(key), &params);
        let asked = async {
            let request = request.map_err(kube::Error::BuildRequest)?;
            self.api.client.request_stream(request).await
        };
        let stream = self.api.within(asked).await.map_err(|error| Error::Kubernetes {
            what: "reading output".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Reader { stream: Box::pin(stream), offset: 0, used: self.api.clock.monotonic() })
    }

    /// The stream that stands where the reader goes on.
    fn take(&self, key: RunKey, offset: u64) -> Option<Reader> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = readers.remove(&key)?;
        (reader.offset == offset).then_some(reader)
    }

    fn keep(&self, key: RunKey, reader: Reader) {
        let now = reader.used;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|_, other| now.saturating_sub(other.used) < READER_AGE_MAX);
        if readers.len() < READERS_MAX {
            readers.insert(key, reader);
        }
    }
}

/// Whether there is more at once.
async fn has_more(reader: &mut Reader) -> bool {
    let more = reader.stream.fill_buf();
    tokio::select! {
        biased;
        more = more => more.is_ok_and(|more| !more.is_empty()),
        () = std::future::ready(()) => false,
    }
}

fn broken(error: &std::io::Error) -> Error {
    Error::Kubernetes { what: "reading output".to_owned(), reason: error.to_string() }
}
