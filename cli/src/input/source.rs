//! Jobs one by one from files and stdin. Lines are read as they come, documents file by file.

use std::collections::VecDeque;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use bytes::{Buf, BytesMut};
use muster_core::limits::LINE_BYTES_MAX;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::jobs::{self, Format, Item};
use crate::exit::Usage;

const READ_BYTES: usize = 256 * 1024;

/// The jobs of several files. `-` is stdin.
pub(crate) struct Source {
    files: VecDeque<(PathBuf, Format)>,
    current: Current,
    notes: Vec<String>,
}

enum Current {
    None,
    Documents(VecDeque<Item>),
    Lines(Box<Lines>),
}

struct Lines {
    name: String,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
    searched: usize,
    number: u64,
    ended: bool,
}

impl Source {
    /// `format` holds for every file; without one the names' ends decide, and stdin has lines.
    pub(crate) fn new(files: Vec<PathBuf>, format: Option<Format>) -> Result<Self, Usage> {
        let format_of = |path: &PathBuf| match format {
            Some(format) => Ok(format),
            None if path.as_os_str() == "-" => Ok(Format::Ndjson),
            None => Format::of(path).ok_or_else(|| {
                Usage(format!("what is in `{}`? `--format` says it", path.display()))
            }),
        };
        let with_formats = files
            .into_iter()
            .map(|path| format_of(&path).map(|format| (path, format)))
            .collect::<Result<_, _>>()?;
        Ok(Self { files: with_formats, current: Current::None, notes: Vec::new() })
    }

    /// The next job; none at the end. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Item>> {
        loop {
            let item = match &mut self.current {
                Current::None => None,
                Current::Documents(items) => items.pop_front(),
                Current::Lines(lines) => {
                    lines.next().await.with_context(|| format!("`{}`", lines.name))?
                }
            };
            if item.is_some() {
                return Ok(item);
            }
            let Some((path, format)) = self.files.front() else { return Ok(None) };
            let name = path.display().to_string();
            let opened = open(path, *format).await.with_context(|| format!("`{name}`"))?;
            self.current = opened.0;
            self.notes.extend(opened.1);
            self.files.pop_front();
        }
    }

    /// What there is to say of the files that were opened since it was last asked.
    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

/// What is in a file, and what is to be said of it.
async fn open(path: &PathBuf, format: Format) -> anyhow::Result<(Current, Vec<String>)> {
    let mut reader: Box<dyn AsyncRead + Send + Unpin> = if path.as_os_str() == "-" {
        Box::new(tokio::io::stdin())
    } else {
        Box::new(File::open(path).await?)
    };
    let name = path.display().to_string();
    let parse = match format {
        Format::Ndjson => {
            return Ok((Current::Lines(Box::new(Lines::new(name, reader))), Vec::new()));
        }
        Format::Yaml => jobs::of_yaml,
        Format::Json => jobs::of_json,
    };
    let mut text = String::new();
    reader.read_to_string(&mut text).await?;
    let stem = path.file_stem().filter(|_| path.as_os_str() != "-").and_then(|it| it.to_str());
    let mut parsed = parse(&text, stem)?;
    let notes = parsed.notes.iter().map(|note| format!("{name}: {note}")).collect();
    for item in &mut parsed.items {
        item.place = format!("{name}: {}", item.place);
    }
    Ok((Current::Documents(parsed.items.into()), notes))
}

impl Lines {
    fn new(name: String, reader: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { name, reader, buffer: BytesMut::new(), searched: 0, number: 0, ended: false }
    }

    async fn next(&mut self) -> anyhow::Result<Option<Item>> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n');
            let length = match found {
                Some(at) => self.searched + at,
                None if self.ended => self.buffer.len(),
                None => {
                    self.searched = self.buffer.len();
                    self.check_length(self.searched)?;
                    self.buffer.reserve(READ_BYTES);
                    self.ended = self.reader.read_buf(&mut self.buffer).await? == 0;
                    continue;
                }
            };
            self.number += 1;
            self.check_length(length)?;
            let text = self.buffer.split_to(length).freeze();
            self.searched = 0;
            if found.is_some() {
                self.buffer.advance(1);
            }
            if !text.trim_ascii().is_empty() {
                let place = format!("{}:{}", self.name, self.number);
                return Ok(Some(Item { queue: None, job_set: None, text, place }));
            }
            if found.is_none() {
                return Ok(None);
            }
        }
    }

    fn check_length(&self, length: usize) -> anyhow::Result<()> {
        let line = if self.searched == length { self.number + 1 } else { self.number };
        ensure!(
            length <= LINE_BYTES_MAX,
            "line {line} has {length} bytes or more, limit is {LINE_BYTES_MAX}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines_of(text: &'static [u8]) -> anyhow::Result<Vec<Item>> {
        let mut lines = Lines::new("f".to_owned(), Box::new(text));
        let mut items = Vec::new();
        while let Some(item) = lines.next().await? {
            items.push(item);
        }
        Ok(items)
    }

    #[tokio::test]
    async fn lines_are_numbered_and_empty_ones_are_passed_over() {
        let items = lines_of(b"{}\n\n \r\n{\"a\":1}\r\n{}").await.unwrap();
        let places: Vec<_> = items.iter().map(|item| item.place.as_str()).collect();
        assert_eq!(places, ["f:1", "f:4", "f:5"]);
        assert_eq!(&items[2].text[..], b"{}");
        assert!(lines_of(b"").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_line_of_the_limit_is_taken_and_one_byte_more_is_not() {
        let mut line = vec![b'x'; LINE_BYTES_MAX];
        line.push(b'\n');
        assert_eq!(lines_of(line.clone().leak()).await.unwrap().len(), 1);
        line.insert(0, b'x');
        let error = lines_of(line.leak()).await.unwrap_err().to_string();
        assert!(error.contains("line 1 has") && error.contains("limit is"), "{error}");
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_needs_a_format() {
        assert!(Source::new(vec!["a".into()], None).is_err());
        assert!(Source::new(vec!["a".into()], Some(Format::Json)).is_ok());
        assert!(Source::new(vec!["-".into(), "b.yaml".into()], None).is_ok());
    }
}
