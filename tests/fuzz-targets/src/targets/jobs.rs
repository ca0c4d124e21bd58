//! Jobs as clients send them.

use muster_api::batch::{Builder, public, read};
use muster_api::job_text::{Job, Parser};
use muster_core::limits::LINE_BYTES_MAX;
use muster_gateway::lines::{Lines, each};

use super::refused;

/// A job as JSON.
pub(crate) fn json(text: &[u8]) {
    match Parser::new().parse(text) {
        Ok(job) => travels(&job),
        Err(error) => {
            refused(&error);
            assert!(!error.problem().detail.is_empty(), "{error}");
        }
    }
}

/// A job that was taken reaches the shard as it is, in a message no larger than was said.
fn travels(job: &Job<'_>) {
    let mut builder = Builder::new();
    builder.push(0, job);
    let bytes_max = builder.bytes();
    let message = builder.finish();
    assert!(message.len() <= bytes_max, "{} bytes, said to be {bytes_max}", message.len());
    let jobs = read(message).expect("what the gateway writes, the shard reads");
    let [read] = jobs.as_slice() else { panic!("{} jobs for one", jobs.len()) };
    assert_eq!(read.client_id.as_deref(), job.client_id.as_deref());
    assert_eq!((read.priority, read.count), (job.priority, job.count));
    assert_eq!(read.at_most_once, job.at_most_once);
    assert_eq!(*read.payload.namespace, *job.namespace);
    assert_eq!(read.payload.labels, job.labels.as_bytes());
    assert_eq!(read.payload.annotations, job.annotations.as_bytes());
    assert_eq!(read.payload.network, job.network.as_bytes());
    assert_eq!(read.payload.pod_spec, job.pod_spec.as_bytes());
    assert_eq!(read.shape, job.shape.shape);
}

/// A body of lines. Its first byte says how it is cut; the lines do not depend on it.
pub(crate) fn lines(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let piece = usize::from(*first) + 1;
    let mut lines = Lines::default();
    let mut found = Vec::new();
    for piece in body.chunks(piece) {
        lines.push(piece);
        if let Some(block) = lines.take() {
            found.extend(each(&block).map(|(line, text)| (line, text.to_vec())));
        }
        assert!(lines.held() <= LINE_BYTES_MAX + 1, "{} bytes are held", lines.held());
    }
    if let Some(block) = lines.take_rest() {
        found.extend(each(&block).map(|(line, text)| (line, text.to_vec())));
    }
    let whole = (0..).zip(body.split(|byte| *byte == b'\n'));
    let whole: Vec<(u64, &[u8])> =
        whole.filter(|(_, text)| !text.trim_ascii().is_empty()).collect();
    assert_eq!(found.len(), whole.len());
    for ((line, text), (number, wanted)) in found.iter().zip(&whole) {
        assert_eq!(line, number);
        let is_whole = text == wanted;
        assert!(is_whole || wanted.len() > LINE_BYTES_MAX && text.len() > LINE_BYTES_MAX);
    }
}

/// A body as an Arrow stream. Its first byte says how it is cut.
pub(crate) fn arrow(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let piece = usize::from(*first) * 16 + 1;
    let mut stream = public::Stream::new();
    let mut parser = Parser::new();
    for piece in body.chunks(piece) {
        stream.push(piece);
        loop {
            let jobs = match stream.next_batch() {
                Ok(Some(jobs)) => jobs,
                Ok(None) => break,
                Err(error) => return refused(&error),
            };
            for row in 0..jobs.len() {
                match jobs.job(row, &mut parser) {
                    Ok(job) => travels(&job),
                    Err(error) => refused(&error),
                }
            }
        }
    }
    if let Err(error) = stream.finish() {
        refused(&error);
    }
}
