//! A stream of bytes as lines.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;
use url::Url;

use crate::Error;
use crate::transport::Failure;

/// Bytes of one line of an answer; a longer one is an error.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Reads lines from a response.
pub(crate) struct Lines {
    url: Url,
    /// How long nothing may come; `None` for as long as it likes.
    silence_max: Option<Duration>,
    /// Since when nothing has come although it was waited for.
    silent_since: Option<Instant>,
    body: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    buffer: BytesMut,
    /// Up to here there is no line end in `buffer`.
    searched: usize,
}

impl Lines {
    pub(crate) fn new(response: reqwest::Response, silence_max: Option<Duration>) -> Self {
        Self {
            url: response.url().clone(),
            silence_max,
            silent_since: None,
            body: response.bytes_stream().boxed(),
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// Who answers.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The next line that is not empty, without its end; a last one without an end counts.
    /// Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(line) = self.take_line() {
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                let reason = "a line of the answer is too long".to_owned();
                return Err(Error::Unreadable { url: self.url.to_string(), reason }.into());
            }
            match self.next_piece().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None => {
                    let rest = self.buffer.split().freeze();
                    self.searched = 0;
                    let rest = rest.trim_ascii();
                    return Ok((!rest.is_empty()).then(|| Bytes::copy_from_slice(rest)));
                }
            }
        }
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, Failure> {
        let piece = match self.silence_max {
            None => self.body.next().await,
            Some(patience) => {
                let since = *self.silent_since.get_or_insert_with(Instant::now);
                let next = tokio::time::timeout_at(since + patience, self.body.next()).await;
                next.map_err(|_| Failure::silent(&self.url, patience))?
            }
        };
        self.silent_since = None;
        piece.transpose().map_err(|error| Failure::network(&self.url, &error))
    }

    fn take_line(&mut self) -> Option<Bytes> {
        let found = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n');
        let Some(at) = found else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line = self.buffer.split_to(self.searched + at);
        self.buffer.advance(1);
        self.searched = 0;
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Some(line.freeze())
    }
}
