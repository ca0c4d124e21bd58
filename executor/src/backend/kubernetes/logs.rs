//! The output of runs, from the API server, which gives it from the beginning on. So that a reader
//! who comes for piece after piece is not given the beginning each time, the stream of the last
//! piece is kept for a while. Who does not wait for more is given what there is, to its end.

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
    /// Whether the stream goes on for as long as the run does.
    follows: bool,
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
        // A stream that does not follow comes to an end by itself, and only then all was read.
        let follows = !wait.is_zero() && !place.is_over;
        let deadline = clock.monotonic() + if follows { wait } else { self.api.timeout };
        let nothing = |end| Piece { data: Bytes::new(), end };
        let mut reader = match self.take(key, offset, follows) {
            Some(reader) => reader,
            None if !place.has_run => {
                clock.sleep(wait.min(POLL)).await;
                return Ok(nothing(place.is_over));
            }
            None => self.open(key, place, follows).await?,
        };
        let mut data = Vec::new();
        let end = loop {
            let read = tokio::select! {
                biased;
                read = reader.stream.fill_buf() => read.map_err(|error| broken(&error))?,
                () = clock.sleep_until(deadline), if follows => break false,
                () = clock.sleep_until(deadline) => {
                    let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
                    return Err(broken(&late));
                }
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
            if follows && !data.is_empty() && clock.monotonic() >= deadline {
                break false;
            }
            if follows && !data.is_empty() && !has_more(&mut reader).await {
                break false;
            }
        };
        // The end of what a run has written so far is not that of its output.
        let is_all = end && (follows || place.is_over);
        if !end {
            reader.used = clock.monotonic();
            self.keep(key, reader);
        }
        Ok(Piece { data: data.into(), end: is_all })
    }

    async fn open(&self, key: RunKey, place: &Place, follows: bool) -> Result<Reader, Error> {
        let params = LogParams {
            container: Some(place.container.clone()).filter(|name| !name.is_empty()),
            follow: follows,
            ..LogParams::default()
        };
        let request = Request::new(pods(&place.namespace)).logs(&labels::pod_name(key), &params);
        let asked = async {
            let request = request.map_err(kube::Error::BuildRequest)?;
            self.api.client().await.request_stream(request).await
        };
        let stream = self.api.within(asked).await.map_err(|error| Error::Kubernetes {
            what: "reading output".to_owned(),
            reason: error.to_string(),
        })?;
        let used = self.api.clock.monotonic();
        Ok(Reader { stream: Box::pin(stream), follows, offset: 0, used })
    }

    /// The stream that stands where the reader goes on.
    fn take(&self, key: RunKey, offset: u64, follows: bool) -> Option<Reader> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = readers.remove(&key)?;
        (reader.offset == offset && reader.follows == follows).then_some(reader)
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
