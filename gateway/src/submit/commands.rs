//! Parsed jobs put together into commands that a shard and the bus take.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use muster_api::batch::{Builder, public};
use muster_api::bus::{self, IdRun, ShardReply, ShardRequest, Tried, TrySubmit, encode};
use muster_api::http::{ErrorCode, Problem};
use muster_api::job_text::{self, Job, Parser};
use muster_core::limits::{JOBS_PER_COMMAND_MAX, LINE_BYTES_MAX};

use super::Target;
use super::classes::Classes;
use super::lines::{Block, each};
use crate::gateway::Gateway;
use crate::limits;
use crate::problem::Failure;
use crate::queues;
use crate::shards::unexpected;

/// Bytes of a request besides batch and names.
const ENVELOPE_BYTES: usize = 1024;

/// Jobs that go to the shard together, and those before them that go nowhere.
#[derive(Debug, Default)]
pub(super) struct Command {
    /// The jobs, if there are any.
    pub(super) batch: Option<Bytes>,
    /// The lines of the jobs, as (first, how many).
    pub(super) lines: Vec<(u64, u32)>,
    /// Lines that are no jobs, and why.
    pub(super) rejected: Vec<(u64, Problem)>,
    /// Whether a job of it depends on another: what was sent before has to be known.
    pub(super) depends: bool,
}

impl Command {
    /// Whether a job of it was refused because its class is not known.
    pub(super) fn misses_class(&self) -> bool {
        self.rejected.iter().any(|(_, problem)| problem.code == ErrorCode::ClassUnknown)
    }

    /// Another reason for these refusals: whether there is such a class cannot be said.
    pub(super) fn excuse(&mut self, reason: &Problem) {
        for (_, problem) in &mut self.rejected {
            if problem.code == ErrorCode::ClassUnknown {
                *problem = reason.clone();
            }
        }
    }
}

/// A command that was answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) lines: Vec<(u64, u32)>,
    pub(super) rejected: Vec<(u64, Problem)>,
    /// The ids of the lines, or why none of them was taken.
    pub(super) outcome: Result<Vec<IdRun>, Problem>,
}

/// Bytes that a batch may have.
pub(super) fn batch_bytes_max(gateway: &Gateway, target: &Target) -> usize {
    let names = target.queue.len() + target.job_set.len();
    gateway.bus().payload_bytes_max().saturating_sub(ENVELOPE_BYTES + names)
}

/// The commands for a block of lines.
pub(super) fn of_block(block: &Block, classes: Classes, bytes_max: usize) -> Vec<Command> {
    let mut parser = Parser::new();
    let mut collector = Collector::new(classes, bytes_max);
    for (line, text) in each(block) {
        if text.len() > LINE_BYTES_MAX {
            let detail =
                format!("the line has more than {LINE_BYTES_MAX} bytes, which is the limit");
            collector.reject(line, Problem::new(ErrorCode::PayloadTooLarge, detail));
        } else {
            collector.add(line, parser.parse(text));
        }
    }
    collector.finish()
}

/// The commands for the rows of a batch, the first of which is `line` of the submission.
pub(super) fn of_rows(
    line: u64,
    rows: &public::Jobs,
    classes: Classes,
    bytes_max: usize,
) -> Vec<Command> {
    let mut parser = Parser::new();
    let mut collector = Collector::new(classes, bytes_max);
    for row in 0..rows.len() {
        collector.add(line + row as u64, rows.job(row, &mut parser));
    }
    collector.finish()
}

/// Hands a command to the shard.
pub(super) async fn send(gateway: &Gateway, target: &Target, command: Command) -> Answered {
    let outcome = match command.batch {
        Some(batch) => submit(gateway, target, batch).await.map_err(|failure| failure.0),
        None => Ok(Vec::new()),
    };
    Answered { lines: command.lines, rejected: command.rejected, outcome }
}

/// Hands a batch to the shard.
///
/// The shard may say that the queue was deleted although it was created again since, through
/// another gateway whose word of it did not arrive: then the queues are read anew.
pub(super) async fn submit(
    gateway: &Gateway,
    target: &Target,
    batch: Bytes,
) -> Result<Vec<IdRun>, Failure> {
    match ask(gateway, target, batch, ShardRequest::Submit).await? {
        ShardReply::Submitted(runs) => Ok(runs),
        other => Err(unexpected(&other)),
    }
}

/// Asks the shard what the batch would come to, where `before` jobs of the submission were in
/// before it.
pub(super) async fn try_submit(
    gateway: &Gateway,
    target: &Target,
    batch: Bytes,
    before: u64,
) -> Result<Tried, Failure> {
    let request = |submit| ShardRequest::Try(TrySubmit { submit, before });
    match ask(gateway, target, batch, request).await? {
        ShardReply::Tried(tried) => Ok(tried),
        other => Err(unexpected(&other)),
    }
}

/// Asks the shard about a batch; once more, where the queue is there again as another.
async fn ask(
    gateway: &Gateway,
    target: &Target,
    batch: Bytes,
    request: impl Fn(bus::Submit) -> ShardRequest,
) -> Result<ShardReply, Failure> {
    let asked = async |incarnation: u64, batch: Bytes| {
        let request = encode(&request(bus::Submit {
            command: gateway.command_id(),
            queue: target.queue.clone(),
            incarnation,
            job_set: target.job_set.clone(),
            key: target.key(),
            batch,
        }));
        let timeout = gateway.write_timeout();
        gateway.ask(target.shard, request, timeout, limits::ATTEMPT_TIMEOUT).await
    };
    let incarnation = target.incarnation.load(Ordering::Relaxed);
    let answer = asked(incarnation, batch.clone()).await;
    let Err(failure) = &answer else { return answer };
    if failure.0.code != ErrorCode::QueueNotFound {
        return answer;
    }
    match queues::incarnation_behind(gateway, &target.queue, incarnation).await? {
        Some(newer) => {
            target.incarnation.fetch_max(newer, Ordering::Relaxed);
            asked(newer, batch).await
        }
        None => answer,
    }
}

/// Fills one command after the other.
struct Collector {
    classes: Classes,
    bytes_max: usize,
    builder: Builder,
    current: Command,
    done: Vec<Command>,
}

impl Collector {
    fn new(classes: Classes, bytes_max: usize) -> Self {
        let (builder, current) = (Builder::new(), Command::default());
        Self { classes, bytes_max, builder, current, done: Vec::new() }
    }

    fn add(&mut self, line: u64, job: Result<Job<'_>, job_text::Error>) {
        let job = match job {
            Ok(job) => job,
            Err(error) => return self.reject(line, error.problem()),
        };
        match self.classes.check(&job.shape.shape) {
            Ok(()) => self.push(line, &job),
            Err(problem) => self.reject(line, problem),
        }
    }

    fn push(&mut self, line: u64, job: &Job<'_>) {
        let is_full = self.builder.jobs() >= JOBS_PER_COMMAND_MAX
            || self.builder.bytes_with(job) > self.bytes_max;
        if is_full && !self.builder.is_empty() {
            self.close();
        }
        self.builder.push(line, job);
        self.current.depends |= job.terms.as_ref().is_some_and(|terms| !terms.after.is_empty());
        match self.current.lines.last_mut() {
            Some((first, count)) if *first + u64::from(*count) == line => *count += 1,
            _ => self.current.lines.push((line, 1)),
        }
    }

    fn reject(&mut self, line: u64, problem: Problem) {
        self.current.rejected.push((line, problem));
        if self.current.rejected.len() >= JOBS_PER_COMMAND_MAX {
            self.close();
        }
    }

    fn close(&mut self) {
        let builder = std::mem::take(&mut self.builder);
        if !builder.is_empty() {
            self.current.batch = Some(builder.finish());
        }
        self.done.push(std::mem::take(&mut self.current));
    }

    fn finish(mut self) -> Vec<Command> {
        if !self.builder.is_empty() || !self.current.rejected.is_empty() {
            self.close();
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn of_block(block: &Block, bytes_max: usize) -> Vec<Command> {
        super::of_block(block, Classes::new(Arc::default()), bytes_max)
    }

    fn block(text: &str) -> Block {
        Block { line: 10, bytes: text.to_owned().into() }
    }

    #[test]
    fn good_lines_and_bad_ones_keep_their_numbers() {
        let good = r#"{"podSpec":{"containers":[{}]}}"#;
        let commands = of_block(&block(&format!("{good}\n\nx\n{good}\n{good}")), 1 << 20);
        assert_eq!(commands.len(), 1);
        assert_eq!(commands[0].lines, [(10, 1), (13, 2)]);
        assert_eq!(commands[0].rejected.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [12]);
        let jobs = muster_api::batch::read(commands[0].batch.clone().unwrap()).unwrap();
        assert_eq!(jobs.iter().map(|job| job.line).collect::<Vec<_>>(), [10, 13, 14]);
    }

    #[test]
    fn commands_fit_the_bus() {
        let spec = "x".repeat(1000);
        let line = format!(r#"{{"podSpec":{{"containers":[{{"args":["{spec}"]}}]}}}}"#);
        let text = [line.as_str(); 200].join("\n");
        let commands = of_block(&block(&text), 64 * 1024);
        assert!(commands.len() > 2);
        let mut next = 10;
        for command in commands {
            assert!(command.batch.unwrap().len() <= 64 * 1024);
            assert_eq!(command.lines[0].0, next);
            next += u64::from(command.lines[0].1);
        }
        assert_eq!(next, 210);
    }

    #[test]
    fn a_command_has_no_more_jobs_than_the_limit() {
        let text = [r#"{"podSpec":{"containers":[{}]}}"#; JOBS_PER_COMMAND_MAX + 1].join("\n");
        let counts: Vec<u32> =
            of_block(&block(&text), 1 << 24).iter().map(|command| command.lines[0].1).collect();
        assert_eq!(counts, [JOBS_PER_COMMAND_MAX as u32, 1]);
    }

    #[test]
    fn a_line_past_the_limit_is_refused() {
        let long = " ".repeat(LINE_BYTES_MAX + 1).replacen(' ', "x", 1);
        let commands = of_block(&block(&long), 1 << 20);
        assert_eq!(commands[0].rejected[0].1.code, ErrorCode::PayloadTooLarge);
    }
}
