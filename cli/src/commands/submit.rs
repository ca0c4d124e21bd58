//! `muster submit`: one request is on its way while the next one is being read, so that jobs arrive
//! in the order of the files. Each request has its own key, so that a repetition is the same
//! submission.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use indicatif::{ProgressBar, ProgressStyle};
use muster_api::http::Problem;
use muster_api::request::{DryRun, SubmitAnswer};
use muster_client::{Answers, Submission, Submitted};

use crate::context::Context;
use crate::exit::{Outcome, Usage};
use crate::input::jobs::{Format, Item};
use crate::input::source::Source;
use crate::show;

/// Bytes of one request.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Jobs of one request.
const REQUEST_JOBS_MAX: usize = 10_000;
/// Jobs that have waited so long for more are sent.
const LINGER: Duration = Duration::from_millis(200);
mod dry;

use dry::Tried;

const BAR_PERIOD: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Files of jobs, or `-` for stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What the files are; without it their names decide (.yaml, .json, .ndjson), and stdin is
    /// ndjson
    #[arg(long, short, value_enum)]
    format: Option<Format>,
    /// The queue, in place of those that the files name
    #[arg(long, short)]
    queue: Option<String>,
    /// The job set, in place of those that the files name
    #[arg(long, short = 's', value_name = "JOB_SET")]
    job_set: Option<String>,
    /// Print no ids
    #[arg(long)]
    quiet: bool,
    /// Submit nothing: show what would be accepted, where it could run, and what stands before it
    #[arg(long, conflicts_with = "quiet")]
    dry_run: bool,
    /// Submitting the same jobs again with the same key submits them once (for 24 hours)
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let source = Source::new(arguments.files.clone(), arguments.format)?;
    let bar = progress_bar(arguments.quiet);
    let mut submitter = Submitter {
        context,
        arguments: &arguments,
        bar: bar.clone(),
        batch: Batch::default(),
        sent: 0,
        tally: Tally::default(),
        tried: Tried::default(),
    };
    let result = submitter.run(source).await;
    let tally = submitter.tally;
    bar.finish_and_clear();
    if let Err(error) = result {
        if tally.accepted > 0 {
            show::note(&format!("{} jobs were submitted before the failure", tally.accepted));
        }
        return Err(error);
    }
    if arguments.dry_run {
        return submitter.tried.show(context);
    }
    let seconds = bar.elapsed().as_secs_f64();
    let rate = (tally.accepted + tally.rejected) as f64 / seconds.max(1e-3);
    show::note(&format!(
        "submitted {} jobs in {seconds:.1} s ({rate:.0}/s), {} rejected",
        tally.accepted, tally.rejected
    ));
    Ok(if tally.rejected == 0 { Outcome::Done } else { Outcome::Failed })
}

fn progress_bar(quiet: bool) -> ProgressBar {
    if quiet || !show::stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} jobs, {per_sec}, {elapsed}")
        .expect("the template is sound");
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(BAR_PERIOD);
    bar
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    accepted: u64,
    rejected: u64,
}

/// Jobs of one queue and job set, as one request's body.
#[derive(Default)]
struct Batch {
    queue: String,
    job_set: String,
    body: BytesMut,
    places: Vec<String>,
}

struct Answered {
    submitted: Result<Came, muster_client::Error>,
    places: Vec<String>,
}

/// What came of one request.
enum Came {
    Submitted(Submitted),
    Tried(DryRun),
}

type InFlight<'a> = Pin<Box<dyn Future<Output = Answered> + Send + 'a>>;

struct Submitter<'a> {
    context: &'a Context,
    arguments: &'a Arguments,
    bar: ProgressBar,
    batch: Batch,
    sent: u64,
    tally: Tally,
    tried: Tried,
}

/// What happened next.
enum Next {
    Read(Option<Item>),
    Answered(Answered),
    Lingered,
}

impl<'a> Submitter<'a> {
    async fn run(&mut self, mut source: Source) -> anyhow::Result<()> {
        let mut in_flight: Option<InFlight<'a>> = None;
        let mut held: Option<Item> = None;
        let mut ended = false;
        loop {
            if let Some(item) = held.take() {
                held = self.take(item)?;
            }
            let due = held.is_some() || ended || self.batch.is_full();
            if due && in_flight.is_none() && !self.batch.places.is_empty() {
                in_flight = Some(self.send());
                continue;
            }
            if ended && held.is_none() && in_flight.is_none() {
                return Ok(());
            }
            let next = self.next(&mut source, &mut in_flight, due).await?;
            for note in source.take_notes() {
                self.bar.suspend(|| show::note(&note));
            }
            match next {
                Next::Read(Some(item)) => held = self.take(item)?,
                Next::Read(None) => ended = true,
                Next::Answered(answered) => {
                    in_flight = None;
                    self.answered(answered)?;
                }
                Next::Lingered => in_flight = Some(self.send()),
            }
        }
    }

    async fn next(
        &self,
        source: &mut Source,
        in_flight: &mut Option<InFlight<'a>>,
        due: bool,
    ) -> anyhow::Result<Next> {
        // Where the requests begin and end must not depend on time if they have the user's key.
        let may_linger = self.arguments.idempotency_key.is_none()
            && in_flight.is_none()
            && !self.batch.places.is_empty();
        tokio::select! {
            biased;
            answered = async { in_flight.as_mut().expect("guarded").await }, if in_flight.is_some() => {
                Ok(Next::Answered(answered))
            }
            item = source.next(), if !due => Ok(Next::Read(item?)),
            () = self.context.clock.sleep(LINGER), if may_linger => Ok(Next::Lingered),
        }
    }

    /// Puts the job into the batch, or gives it back if it has to wait for the next one.
    fn take(&mut self, item: Item) -> anyhow::Result<Option<Item>> {
        let named = |flag: &Option<String>, own: &Option<String>, what: &str, name: &str| {
            flag.clone()
                .or_else(|| own.clone())
                .ok_or_else(|| Usage(format!("{}: which {what}? `{name}` says it", item.place)))
        };
        let queue = named(&self.arguments.queue, &item.queue, "queue", "--queue")?;
        let job_set = named(&self.arguments.job_set, &item.job_set, "job set", "--job-set")?;
        let fits = self.batch.places.is_empty()
            || (self.batch.queue == queue && self.batch.job_set == job_set);
        if !fits || self.batch.is_full() {
            return Ok(Some(item));
        }
        (self.batch.queue, self.batch.job_set) = (queue, job_set);
        self.batch.body.put_slice(&item.text);
        self.batch.body.put_u8(b'\n');
        self.batch.places.push(item.place);
        Ok(None)
    }

    fn send(&mut self) -> InFlight<'a> {
        let Batch { queue, job_set, body, places } = std::mem::take(&mut self.batch);
        let key = self.arguments.idempotency_key.as_ref();
        let key = key.map(|key| format!("{key}/{}", self.sent));
        self.sent += 1;
        let answers = if self.arguments.quiet { Answers::Summary } else { Answers::Each };
        let body: Vec<Bytes> = vec![body.freeze()];
        let submission = Submission { queue, job_set, key, answers, body, ..Submission::default() };
        let client = self.context.client.clone();
        let is_dry = self.arguments.dry_run;
        Box::pin(async move {
            let submitted = if is_dry {
                client.try_submit(&submission).await.map(Came::Tried)
            } else {
                client.submit(&submission).await.map(Came::Submitted)
            };
            Answered { submitted, places }
        })
    }

    fn answered(&mut self, answered: Answered) -> anyhow::Result<()> {
        match answered.submitted? {
            Came::Tried(found) => {
                for error in &found.errors {
                    self.reject(place_of(&answered.places, error.line), &error.error);
                }
                self.tried.add(found);
            }
            Came::Submitted(Submitted::Each(answers)) => {
                anyhow::ensure!(
                    answers.len() == answered.places.len(),
                    "the deployment gave {} answers to {} jobs",
                    answers.len(),
                    answered.places.len()
                );
                self.print(&answers)?;
                for (answer, place) in answers.iter().zip(&answered.places) {
                    match answer {
                        SubmitAnswer::Accepted { .. } => self.tally.accepted += 1,
                        SubmitAnswer::Rejected { error } => {
                            self.tally.rejected += 1;
                            self.reject(place, error);
                        }
                    }
                }
            }
            Came::Submitted(Submitted::Summary(summary)) => {
                let answered_for = summary.accepted + summary.rejected;
                anyhow::ensure!(
                    answered_for == answered.places.len() as u64,
                    "the deployment answered for {answered_for} of {} jobs",
                    answered.places.len()
                );
                self.tally.accepted += summary.accepted;
                self.tally.rejected += summary.rejected;
                for error in &summary.errors {
                    self.reject(place_of(&answered.places, error.line), &error.error);
                }
            }
        }
        self.bar.set_position(self.tally.accepted + self.tally.rejected);
        Ok(())
    }

    fn reject(&self, place: &str, error: &Problem) {
        self.bar.suspend(|| show::note(&format!("{place}: {}", error.detail)));
    }

    fn print(&self, answers: &[SubmitAnswer]) -> anyhow::Result<()> {
        use crate::args::Output;
        let mut text = String::new();
        match self.context.output {
            Output::Table | Output::Page => {
                for answer in answers {
                    if let SubmitAnswer::Accepted { job_id } = answer {
                        text.push_str(job_id);
                        text.push('\n');
                    }
                }
            }
            Output::Json => {
                for answer in answers {
                    text += &serde_json::to_string(answer)?;
                    text.push('\n');
                }
            }
            Output::Yaml => text = show::yaml(&answers)?,
        }
        self.bar.suspend(|| crate::context::write_out(&text))
    }
}

/// Where the line of a request, from 1, comes from.
fn place_of(places: &[String], line: u64) -> &str {
    let at = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    places.get(at).map_or("?", String::as_str)
}

impl Batch {
    fn is_full(&self) -> bool {
        self.places.len() >= REQUEST_JOBS_MAX || self.body.len() >= REQUEST_BYTES_MAX
    }
}
