//! A streamed submission under way: bytes are read, parsed and handed to the shard in order, with
//! bounds on each step. The client need not read its answers before it has sent everything.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use muster_api::batch::public;
use muster_api::http::{ErrorCode, Problem};
use muster_core::control::Control;
use muster_core::limits::JOBS_PER_REQUEST_MAX;
use muster_runtime::tasks::{BoxError, OnCancel, OnError, Policy};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Target;
use super::before::Before;
use super::body::{self, Pieces};
use super::classes::Classes;
use super::commands::{self, Answered, Command};
use super::lines::{Block, Lines};
use crate::admission::Place;
use crate::gateway::Gateway;
use crate::limits;
use crate::problem::Failure;

/// Answers in the order of lines, each with the right to hold its refusals in memory.
pub(super) type Answers = mpsc::Receiver<(Answered, OwnedSemaphorePermit)>;

/// A body that becomes pieces of work.
pub(super) struct Source {
    pieces: Pieces,
    form: Form,
    chunk_bytes: usize,
    ended: bool,
}

enum Form {
    Lines(Lines),
    /// Of a batch, as much as has come.
    Arrow {
        stream: Box<public::Stream>,
        line: u64,
        held: Held,
    },
}

/// The right to hold what has come of a batch that has not come as a whole.
#[derive(Default)]
struct Held {
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Held {
    async fn grow(&mut self, gateway: &Gateway, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        let permit = match &mut self.permit {
            Some(permit) => permit,
            None => self.permit.insert(gateway.admit_bytes(0).await),
        };
        gateway.admit_more_bytes(permit, self.bytes).await
    }
}

/// A part of a submission.
pub(super) enum Work {
    Lines(Block),
    Rows {
        line: u64,
        rows: Box<public::Jobs>,
    },
    /// The body is no good from this line on.
    End {
        line: u64,
        failure: Failure,
    },
}

impl Source {
    /// A body of lines, for a bus that carries so many bytes at once.
    pub(super) fn lines(pieces: Pieces, payload_bytes_max: usize) -> Self {
        // A little less than a message, since columns take a little more than lines do at times.
        let chunk_bytes = (payload_bytes_max / 4 * 3).min(limits::CHUNK_BYTES_MAX);
        Self { pieces, form: Form::Lines(Lines::default()), chunk_bytes, ended: false }
    }

    /// A body of Arrow batches.
    pub(super) fn arrow(pieces: Pieces) -> Self {
        let form = Form::Arrow { stream: Box::default(), line: 0, held: Held::default() };
        Self { pieces, form, chunk_bytes: 0, ended: false }
    }

    /// The next part; `None` at the end.
    pub(super) async fn next(&mut self, gateway: &Gateway) -> Option<Work> {
        let work = match &mut self.form {
            Form::Lines(lines) if !self.ended => {
                match next_lines(
                    lines,
                    &mut self.pieces,
                    self.chunk_bytes,
                    gateway,
                    &mut self.ended,
                )
                .await
                {
                    Ok(block) => block.map(Work::Lines),
                    Err(failure) => Some(Work::End { line: lines.line(), failure }),
                }
            }
            Form::Arrow { stream, line, held } if !self.ended => {
                match next_rows(stream, &mut self.pieces, held, gateway).await {
                    Ok(Some(rows)) => {
                        let first = *line;
                        *line += rows.len() as u64;
                        Some(Work::Rows { line: first, rows: Box::new(rows) })
                    }
                    Ok(None) => None,
                    Err(failure) => Some(Work::End { line: *line, failure }),
                }
            }
            Form::Lines(_) | Form::Arrow { .. } => None,
        };
        match work {
            Some(Work::End { .. }) | None => self.ended = true,
            Some(_) if self.line() > JOBS_PER_REQUEST_MAX => {
                self.ended = true;
                let detail = format!("more than {JOBS_PER_REQUEST_MAX} jobs, which is the limit");
                let failure = Failure::new(ErrorCode::PayloadTooLarge, detail);
                return Some(Work::End { line: JOBS_PER_REQUEST_MAX, failure });
            }
            Some(_) => {}
        }
        work
    }

    fn line(&self) -> u64 {
        match &self.form {
            Form::Lines(lines) => lines.line(),
            Form::Arrow { line, .. } => *line,
        }
    }
}

impl Work {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Lines(block) => block.bytes.len(),
            Self::Rows { rows, .. } => rows.bytes(),
            Self::End { .. } => 0,
        }
    }

    fn line(&self) -> u64 {
        match self {
            Self::Lines(block) => block.line,
            Self::Rows { line, .. } | Self::End { line, .. } => *line,
        }
    }

    fn commands(&self, control: Arc<Control>, bytes_max: usize) -> Vec<Command> {
        let classes = Classes::new(control);
        match self {
            Self::Lines(block) => commands::of_block(block, classes, bytes_max),
            Self::Rows { line, rows } => commands::of_rows(*line, rows, classes, bytes_max),
            Self::End { line, failure } => {
                let rejected = vec![(*line, failure.0.clone())];
                vec![Command { rejected, ..Command::default() }]
            }
        }
    }
}

/// Starts to take in what comes; what comes back are the answers.
pub(super) fn start(
    gateway: &Gateway,
    target: Arc<Target>,
    source: Source,
    admitted: Arc<Place>,
) -> Answers {
    let (tx, rx) = mpsc::channel(limits::ANSWERS_WAITING_MAX);
    // The gateway has drained before its tasks are cancelled: nobody is there to be answered.
    let policy = Policy { on_error: OnError::Log, on_cancel: OnCancel::Abort };
    let for_task = gateway.clone();
    gateway.deps().tasks.spawn_once("submission", policy, move |_| async move {
        pump(&for_task, &target, source, tx).await;
        drop(admitted);
        Ok::<(), BoxError>(())
    });
    rx
}

async fn pump(
    gateway: &Gateway,
    target: &Target,
    source: Source,
    tx: mpsc::Sender<(Answered, OwnedSemaphorePermit)>,
) {
    let refusals = Arc::new(Semaphore::new(limits::REFUSALS_WAITING_MAX));
    let bytes_max = commands::batch_bytes_max(gateway, target);
    let before = &Before::default();
    let answers = work(gateway, source)
        .map(|(work, held)| parse(gateway, target, work, held, bytes_max))
        .buffered(limits::PARSES_AHEAD)
        .flat_map(|(commands, held)| {
            let held = Arc::new(held);
            stream::iter(commands).map(move |command| (command, Arc::clone(&held)))
        })
        .enumerate()
        .map(|(place, (command, held))| async move {
            if command.depends {
                before.wait_for(place).await;
            }
            let answered = commands::send(gateway, target, command).await;
            before.done(place);
            drop(held);
            answered
        })
        .buffered(limits::COMMANDS_IN_FLIGHT);
    let mut answers = std::pin::pin!(answers);
    while let Some(answered) = answers.next().await {
        count(gateway, &answered);
        let is_over = answered.outcome.as_ref().is_err_and(|problem| problem.code.is_retryable());
        let refused = u32::try_from(answered.rejected.len()).unwrap_or(u32::MAX);
        let permit = Arc::clone(&refusals).acquire_many_owned(refused).await;
        let permit = permit.expect("the semaphore is never closed");
        // The client is gone, or the shard is: nothing more is read. What was sent stands.
        if tx.send((answered, permit)).await.is_err() || is_over {
            return;
        }
    }
}

/// The parts of the body, each with the right to be held in memory.
fn work(
    gateway: &Gateway,
    source: Source,
) -> impl Stream<Item = (Work, OwnedSemaphorePermit)> + '_ {
    stream::unfold(source, move |mut source| async move {
        let work = source.next(gateway).await?;
        let held = gateway.admit_bytes(work.bytes()).await;
        Some(((work, held), source))
    })
}

/// The commands of a part. Where a job names a class that is not known here, it is read again with
/// the newest control data.
pub(super) async fn parse(
    gateway: &Gateway,
    target: &Target,
    work: Work,
    held: OwnedSemaphorePermit,
    bytes_max: usize,
) -> (Vec<Command>, OwnedSemaphorePermit) {
    let work = Arc::new(work);
    let known = gateway.control();
    let mut commands = read(gateway, &work, Arc::clone(&known), bytes_max).await;
    if commands.iter().any(Command::misses_class) {
        match target.look(gateway).await {
            Ok(()) => {
                let newest = gateway.control();
                if newest.version > known.version {
                    commands = read(gateway, &work, newest, bytes_max).await;
                }
            }
            Err(failure) => commands.iter_mut().for_each(|command| command.excuse(&failure.0)),
        }
    }
    (commands, held)
}

async fn read(
    gateway: &Gateway,
    work: &Arc<Work>,
    control: Arc<Control>,
    bytes_max: usize,
) -> Vec<Command> {
    if work.bytes() <= limits::PARSED_AT_ONCE_BYTES_MAX {
        return work.commands(control, bytes_max);
    }
    let reading = Arc::clone(work);
    let parsed = gateway.blocking().run(move || reading.commands(control, bytes_max)).await;
    parsed.unwrap_or_else(|error| {
        let line = work.line();
        tracing::error!(%error, line, "jobs could not be parsed");
        let problem = Problem::new(ErrorCode::Internal, "the jobs from here on were not parsed");
        vec![Command { rejected: vec![(line, problem)], ..Command::default() }]
    })
}

async fn next_lines(
    lines: &mut Lines,
    pieces: &mut Pieces,
    chunk_bytes: usize,
    gateway: &Gateway,
    ended: &mut bool,
) -> Result<Option<Block>, Failure> {
    loop {
        if lines.held() >= chunk_bytes
            && let Some(block) = lines.take()
        {
            return Ok(Some(block));
        }
        let piece = if lines.has_lines() {
            match tokio::time::timeout(limits::CHUNK_WAIT, body::next(gateway, pieces)).await {
                Ok(piece) => piece,
                Err(_) => return Ok(lines.take()),
            }
        } else {
            body::next(gateway, pieces).await
        };
        match piece {
            // However fast it comes: the rest of a long body is for another gateway.
            Some(Ok(_)) if lines.line() > 0 && gateway.draining().is_cancelled() => {
                pieces.fail(body::about_to_stop());
            }
            Some(Ok(piece)) => {
                gateway.counted().submit_bytes.inc_by(piece.len() as u64);
                lines.push(&piece);
            }
            // Whole lines stand; the error comes up again as soon as they are taken.
            Some(Err(failure)) if lines.has_lines() => {
                pieces.fail(failure);
                return Ok(lines.take());
            }
            Some(Err(failure)) => return Err(failure),
            None if lines.has_lines() => return Ok(lines.take()),
            None => {
                *ended = true;
                return Ok(lines.take_rest());
            }
        }
    }
}

async fn next_rows(
    arrow: &mut public::Stream,
    pieces: &mut Pieces,
    held: &mut Held,
    gateway: &Gateway,
) -> Result<Option<public::Jobs>, Failure> {
    loop {
        if let Some(rows) = arrow.next_batch().map_err(Failure::bad_request)? {
            *held = Held::default();
            return Ok(Some(rows));
        }
        match body::next(gateway, pieces).await {
            Some(piece) => {
                let piece = piece?;
                held.grow(gateway, piece.len()).await?;
                gateway.counted().submit_bytes.inc_by(piece.len() as u64);
                arrow.push(&piece);
            }
            None => {
                arrow.finish().map_err(Failure::bad_request)?;
                return Ok(None);
            }
        }
    }
}

fn count(gateway: &Gateway, answered: &Answered) {
    let jobs = answered.lines.iter().map(|(_, count)| u64::from(*count)).sum();
    let rejected = answered.rejected.len() as u64;
    if answered.outcome.is_ok() {
        gateway.counted().accepted.inc_by(jobs);
        gateway.counted().rejected.inc_by(rejected);
    } else {
        gateway.counted().rejected.inc_by(rejected + jobs);
    }
}
