//! Arrow IPC streams cut into their messages, each checked before the Arrow library sees it: that
//! library trusts the offsets in a message's header, and panics where they lie.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{MessageHeader, root_as_message};
use arrow_schema::{DataType, Field, Schema};
use bytes::{Buf, Bytes, BytesMut};

use super::Error;

const CONTINUATION: [u8; 4] = [0xff; 4];
/// Bytes of a message's header; ours have less than two thousand.
const HEADER_BYTES_MAX: usize = 256 * 1024;
/// Rows in one batch.
const ROWS_MAX: i64 = 1 << 24;

/// Reads the batches of a stream as its bytes come in.
#[derive(Debug)]
pub(super) struct Reader {
    pending: BytesMut,
    decoder: StreamDecoder,
    feed: Buffer,
    columns_max: usize,
    message_bytes_max: usize,
    /// Bytes that one item of each buffer of a batch takes, in the order of buffers.
    widths: Vec<i64>,
    ended: bool,
}

/// Where the next message of a stream lies.
struct Frame {
    header: std::ops::Range<usize>,
    end: usize,
}

impl Reader {
    /// A reader for messages of at most that size with at most so many columns.
    pub(super) fn new(message_bytes_max: usize, columns_max: usize) -> Self {
        Self {
            pending: BytesMut::new(),
            decoder: StreamDecoder::new(),
            feed: Buffer::from(Bytes::new()),
            columns_max,
            message_bytes_max,
            widths: Vec::new(),
            ended: false,
        }
    }

    /// Takes bytes in.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next batch, if all of it has come in.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        loop {
            if let Some(batch) = self.decode()? {
                return Ok(Some(batch));
            }
            let Some(frame) = self.frame(&self.pending)? else { return Ok(None) };
            let message = self.pending.split_to(frame.end).freeze();
            self.feed(message, &frame)?;
        }
    }

    /// The next batch of a stream that is there as a whole; `rest` loses what was read.
    pub(super) fn next_of(&mut self, rest: &mut Bytes) -> Result<Option<RecordBatch>, Error> {
        loop {
            if let Some(batch) = self.decode()? {
                return Ok(Some(batch));
            }
            let Some(frame) = self.frame(rest)? else {
                return if rest.has_remaining() { Err(cut()) } else { Ok(None) };
            };
            let message = rest.split_to(frame.end);
            self.feed(message, &frame)?;
        }
    }

    /// Says that no more bytes come.
    pub(super) fn finish(&self) -> Result<(), Error> {
        if self.pending.is_empty() { Ok(()) } else { Err(cut()) }
    }

    fn decode(&mut self) -> Result<Option<RecordBatch>, Error> {
        while !self.feed.is_empty() {
            if let Some(batch) = self.decoder.decode(&mut self.feed)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    fn feed(&mut self, message: Bytes, frame: &Frame) -> Result<(), Error> {
        if self.ended {
            return Err(Error::Stream("bytes behind the end of the stream".to_owned()));
        }
        if frame.header.is_empty() {
            self.ended = true;
        } else {
            self.check(&message[frame.header.clone()], frame.end - frame.header.end)?;
        }
        self.feed = Buffer::from(message);
        Ok(())
    }

    fn frame(&self, bytes: &[u8]) -> Result<Option<Frame>, Error> {
        let prefix = if bytes.starts_with(&CONTINUATION) { 4 } else { 0 };
        let Some(len) = bytes.get(prefix..prefix + 4) else { return Ok(None) };
        let len = u32::from_le_bytes(len.try_into().expect("the range has four bytes")) as usize;
        if len > HEADER_BYTES_MAX {
            return Err(Error::Stream(format!(
                "message header of {len} bytes, limit is {HEADER_BYTES_MAX}"
            )));
        }
        let header = prefix + 4..prefix + 4 + len;
        if len == 0 {
            return Ok(Some(Frame { end: header.end, header }));
        }
        let Some(text) = bytes.get(header.clone()) else { return Ok(None) };
        let message = root_as_message(text).map_err(|e| Error::Stream(e.to_string()))?;
        let body = usize::try_from(message.bodyLength()).ok();
        let Some(body) = body.filter(|body| *body <= self.message_bytes_max) else {
            let (len, max) = (message.bodyLength(), self.message_bytes_max);
            return Err(Error::Stream(format!("message of {len} bytes, limit is {max}")));
        };
        let end = header.end + body;
        Ok((bytes.len() >= end).then_some(Frame { header, end }))
    }

    fn check(&mut self, header: &[u8], body: usize) -> Result<(), Error> {
        let message = root_as_message(header).map_err(|e| Error::Stream(e.to_string()))?;
        let (batch, widths) = match message.header_type() {
            MessageHeader::Schema => {
                let schema = message.header_as_schema().ok_or_else(headless)?;
                return self.check_schema(&try_fb_to_schema(schema)?);
            }
            MessageHeader::RecordBatch => (message.header_as_record_batch(), &*self.widths),
            MessageHeader::DictionaryBatch => {
                let dictionary = message.header_as_dictionary_batch();
                (dictionary.and_then(|dictionary| dictionary.data()), widths(&DataType::Utf8))
            }
            other => return Err(Error::Stream(format!("message type {other:?}"))),
        };
        let batch = batch.ok_or_else(headless)?;
        if batch.compression().is_some() {
            return Err(Error::Stream("compressed buffers are not supported".to_owned()));
        }
        let sound = |start: i64, len: i64, width: i64| {
            let end = usize::try_from(start).ok()?.checked_add(usize::try_from(len).ok()?)?;
            (end <= body && len % width == 0).then_some(())
        };
        let buffers = batch.buffers().into_iter().flatten();
        for (buffer, width) in buffers.zip(widths.iter().chain(std::iter::repeat(&1))) {
            sound(buffer.offset(), buffer.length(), *width)
                .ok_or_else(|| Error::Stream("a buffer does not fit its message".to_owned()))?;
        }
        let rows = |n: i64| (0..=ROWS_MAX).contains(&n);
        let nodes = batch.nodes().into_iter().flatten();
        let counted = nodes
            .into_iter()
            .all(|node| rows(node.length()) && (0..=node.length()).contains(&node.null_count()));
        if counted && rows(batch.length()) {
            Ok(())
        } else {
            Err(Error::Stream(format!("row counts out of range, limit is {ROWS_MAX}")))
        }
    }

    fn check_schema(&mut self, schema: &Schema) -> Result<(), Error> {
        let (columns, max) = (schema.fields().len(), self.columns_max);
        if columns > max {
            return Err(Error::Stream(format!("{columns} columns, limit is {max}")));
        }
        schema.fields().iter().try_for_each(|field| check_type(field))?;
        self.widths =
            schema.fields().iter().flat_map(|field| widths(field.data_type())).copied().collect();
        Ok(())
    }
}

fn check_type(field: &Field) -> Result<(), Error> {
    if widths(field.data_type()).is_empty() {
        let reason = format!("type {} is not supported", field.data_type());
        return Err(Error::column(field.name(), reason));
    }
    Ok(())
}

/// Bytes that one item of each buffer of a column takes; nothing for types that are not used here.
fn widths(data_type: &DataType) -> &'static [i64] {
    match data_type {
        DataType::Boolean => &[1, 1],
        DataType::Int32 | DataType::UInt32 => &[1, 4],
        DataType::Int64 | DataType::UInt64 | DataType::Float64 => &[1, 8],
        DataType::Utf8 | DataType::Binary => &[1, 4, 1],
        DataType::LargeUtf8 | DataType::LargeBinary => &[1, 8, 1],
        DataType::Dictionary(key, value)
            if **key == DataType::Int32 && **value == DataType::Utf8 =>
        {
            &[1, 4]
        }
        // Arrow has many types; a submission needs these.
        _ => &[],
    }
}

fn headless() -> Error {
    Error::Stream("a message without its header".to_owned())
}

fn cut() -> Error {
    Error::Stream("it ends in the middle of a message".to_owned())
}
