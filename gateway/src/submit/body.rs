//! Bodies as they come in: decompressed, with a limit on what comes out of that.

use std::io;
use std::sync::Arc;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use muster_api::http::ErrorCode;
use serde::de::DeserializeOwned;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::admission::Place;
use crate::gateway::Gateway;
use crate::limits;
use crate::problem::{Answer, Failure};

/// Bytes that a decompressor gives at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Exponent of the largest zstd window taken: 8 MiB, what every level but the `--ultra` ones stays
/// within.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A body's bytes in order; the first error is the last item.
pub(crate) struct Pieces {
    stream: BoxStream<'static, Result<Bytes, Failure>>,
    place: Arc<Place>,
}

/// The body behind its `Content-Encoding`, which ends with an error past `bytes_max`. It may have
/// to give its place up.
pub(crate) fn open(
    headers: &HeaderMap,
    body: Body,
    bytes_max: u64,
    place: Arc<Place>,
) -> Answer<Pieces> {
    let coding = headers.get(header::CONTENT_ENCODING).map_or("identity", |value| {
        // What is not text is no coding that is known.
        value.to_str().unwrap_or("?")
    });
    let raw = body.into_data_stream().map_err(io::Error::other);
    let pieces = match coding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => raw.boxed(),
        "gzip" | "x-gzip" => {
            let mut decoder = GzipDecoder::new(StreamReader::new(raw));
            decoder.multiple_members(true);
            ReaderStream::with_capacity(decoder, PIECE_BYTES).boxed()
        }
        "zstd" => {
            let window = [DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX)];
            let mut decoder = ZstdDecoder::with_params(StreamReader::new(raw), &window);
            decoder.multiple_members(true);
            ReaderStream::with_capacity(decoder, PIECE_BYTES).boxed()
        }
        other => {
            let detail = format!("content encoding `{other}` is not `gzip` or `zstd`");
            return Err(Failure::new(ErrorCode::UnsupportedMediaType, detail));
        }
    };
    let mut bytes = 0u64;
    let limited = pieces.map(move |piece| {
        let piece = piece.map_err(|error| {
            Failure::bad_request(format!("the body cannot be read to its end: {error}"))
        })?;
        bytes += piece.len() as u64;
        if bytes > bytes_max { Err(too_large(bytes_max)) } else { Ok(piece) }
    });
    Ok(Pieces { stream: limited.boxed(), place })
}

impl Pieces {
    /// Whatever is still to come, this comes instead.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.stream = stream::once(async { Err(failure) }).boxed();
    }
}

/// The next piece of a body. A client that sends nothing for `body_timeout` is not waited for, and
/// none is once the gateway is about to stop, or when it hardly sends and others want its place.
pub(crate) async fn next(gateway: &Gateway, pieces: &mut Pieces) -> Option<Answer<Bytes>> {
    let patience = gateway.config().body_timeout;
    let Pieces { stream, place } = pieces;
    place.waits();
    let piece = tokio::select! {
        biased;
        piece = stream.next() => piece,
        () = gateway.draining().cancelled() => Some(Err(about_to_stop())),
        () = place.displaced() => Some(Err(too_slow())),
        () = gateway.clock().sleep(patience.0) => Some(Err(Failure::bad_request(format!(
            "the body cannot be read to its end: nothing came for {patience}"
        )))),
    };
    place.came(piece.as_ref().and_then(|piece| piece.as_ref().ok()).map_or(0, Bytes::len));
    piece
}

fn too_slow() -> Failure {
    let min = limits::BODY_BYTES_PER_SECOND_MIN;
    let detail = format!(
        "the body came at less than {min} bytes a second while others waited for its place"
    );
    Failure::new(ErrorCode::Overloaded, detail)
}

/// Why a body is not read on when the gateway is to stop: the same request finds another gateway.
pub(crate) fn about_to_stop() -> Failure {
    Failure::unavailable("the gateway is about to stop and reads no more of the body")
}

/// The value that a small JSON body holds.
pub(crate) async fn json<T: DeserializeOwned>(
    gateway: &Gateway,
    headers: &HeaderMap,
    body: Body,
) -> Answer<T> {
    let place = Arc::new(gateway.admit_request()?);
    let mut pieces = open(headers, body, limits::REQUEST_BYTES_MAX as u64, place)?;
    let mut all = BytesMut::new();
    while let Some(piece) = next(gateway, &mut pieces).await {
        all.extend_from_slice(&piece?);
    }
    object(&all)
}

/// The value behind a JSON object. serde would take an array of the values of all fields as well,
/// and nobody means one.
pub(crate) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Failure::bad_request("body: an array is no object"));
    }
    serde_json::from_slice(bytes).map_err(|error| Failure::bad_request(format!("body: {error}")))
}

fn too_large(bytes_max: u64) -> Failure {
    let detail = format!("the body has more than {bytes_max} bytes, which is the limit");
    Failure::new(ErrorCode::PayloadTooLarge, detail)
}
