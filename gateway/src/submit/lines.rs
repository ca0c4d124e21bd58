//! Lines out of bytes that come in any pieces.

use bytes::{Bytes, BytesMut};
use muster_core::limits::LINE_BYTES_MAX;

/// Collects bytes and gives whole lines.
///
/// Of a line past the limit one byte more than the limit is kept, so that whoever reads the line
/// sees that it is too long, and memory stays bounded.
#[derive(Debug, Default)]
pub struct Lines {
    pending: BytesMut,
    /// Bytes of `pending` that are whole lines.
    complete: usize,
    /// The number of the first pending line.
    line: u64,
    /// Whether the pending line is cut and the rest of it still to come.
    is_cut: bool,
}

/// Whole lines, each with its line feed (the last of a body may have none).
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// The number of the first one, from 0.
    pub line: u64,
    /// The lines.
    pub bytes: Bytes,
}

impl Lines {
    /// Takes bytes in.
    pub fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let Some(end) = memchr::memrchr(b'\n', piece).map(|at| at + 1) else {
                return self.push_part(piece);
            };
            if self.is_cut {
                // The rest of a line that is too long already.
                let end = memchr::memchr(b'\n', piece).map_or(piece.len(), |at| at + 1);
                self.push_part(&piece[..end - 1]);
                self.end_line();
                piece = &piece[end..];
            } else {
                self.pending.extend_from_slice(&piece[..end]);
                self.complete = self.pending.len();
                piece = &piece[end..];
            }
        }
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.pending.len()
    }

    /// Whether there are whole lines.
    pub fn has_lines(&self) -> bool {
        self.complete > 0
    }

    /// The whole lines so far.
    pub fn take(&mut self) -> Option<Block> {
        if self.complete == 0 {
            return None;
        }
        let bytes = self.pending.split_to(self.complete).freeze();
        self.complete = 0;
        let line = self.line;
        self.line += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        Some(Block { line, bytes })
    }

    /// The last line of a body that ended as it should; to be asked after [`Lines::take`].
    pub fn take_rest(&mut self) -> Option<Block> {
        let bytes = self.pending.split().freeze();
        let line = self.line;
        if bytes.is_empty() {
            return None;
        }
        self.line += 1;
        Some(Block { line, bytes })
    }

    /// The number of the line that comes next.
    pub fn line(&self) -> u64 {
        self.line
    }

    fn push_part(&mut self, part: &[u8]) {
        let room = (LINE_BYTES_MAX + 1).saturating_sub(self.pending.len() - self.complete);
        self.is_cut |= part.len() > room;
        self.pending.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self) {
        self.pending.extend_from_slice(b"\n");
        self.complete = self.pending.len();
        self.is_cut = false;
    }
}

/// The lines of a block with their numbers; without those that hold nothing but white space.
pub fn each(block: &Block) -> impl Iterator<Item = (u64, &[u8])> {
    let mut start = 0;
    let mut line = block.line;
    std::iter::from_fn(move || {
        while start < block.bytes.len() {
            let rest = &block.bytes[start..];
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            start += end + 1;
            line += 1;
            if !rest[..end].trim_ascii().is_empty() {
                return Some((line - 1, &rest[..end]));
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(body: &[u8], cuts: &[usize]) -> Vec<(u64, Vec<u8>)> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut keep = |block: Option<Block>| {
            let block = block.iter().flat_map(each).map(|(at, text)| (at, text.to_vec()));
            found.extend(block.collect::<Vec<_>>());
        };
        for (at, piece) in cuts.windows(2).enumerate() {
            lines.push(&body[piece[0]..piece[1]]);
            assert!(lines.held() - lines.complete <= LINE_BYTES_MAX + 1);
            if at % 2 == 0 {
                keep(lines.take());
            }
        }
        keep(lines.take());
        keep(lines.take_rest());
        found
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_the_body_is_cut(
            texts in prop::collection::vec("[a-z ]{0,6}|\r", 0..40),
            ends in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut body = texts.join("\n").into_bytes();
            if ends {
                body.push(b'\n');
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let expected: Vec<_> = body
                .split(|byte| *byte == b'\n')
                .enumerate()
                .filter(|(_, text)| !text.trim_ascii().is_empty())
                .map(|(at, text)| (at as u64, text.to_vec()))
                .collect();
            prop_assert_eq!(split(&body, &cuts), expected);
        }

        #[test]
        fn a_line_past_the_limit_is_cut_and_the_others_are_not(
            len in LINE_BYTES_MAX - 2..LINE_BYTES_MAX + 4,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let long = "x".repeat(len);
            let body = format!("a\n{long}\nb\n{long}\nc").into_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let parts = split(&body, &cuts);
            let lengths: Vec<usize> = parts.iter().map(|(_, text)| text.len()).collect();
            if len <= LINE_BYTES_MAX {
                prop_assert_eq!(lengths, [1, len, 1, len, 1]);
            } else {
                // Some of it may be kept beyond the cut; what counts is that it shows.
                prop_assert_eq!(lengths.len(), 5);
                prop_assert!(lengths[1] > LINE_BYTES_MAX && lengths[3] > LINE_BYTES_MAX);
            }
        }
    }
}
