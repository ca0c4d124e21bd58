//! A stream of bytes as lines.

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;

/// Bytes of one line of an answer; a longer one is an error.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Reads lines from a response.
pub(crate) struct Lines {
    body: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    buffer: BytesMut,
    /// Up to here there is no line end in `buffer`.
    searched: usize,
}

/// Why there is no next line.
pub(crate) enum Broken {
    Network(reqwest::Error),
    TooLong,
}

impl Lines {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self { body: response.bytes_stream().boxed(), buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line that is not empty, without its end; a last one without an end counts.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(line) = self.take_line() {
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Broken::TooLong);
            }
            match self.body.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Err(Broken::Network(error)),
                None => {
                    let rest = self.buffer.split().freeze();
                    self.searched = 0;
                    let rest = rest.trim_ascii();
                    return Ok((!rest.is_empty()).then(|| Bytes::copy_from_slice(rest)));
                }
            }
        }
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
