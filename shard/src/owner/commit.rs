//! Commits: what collects in the open one, what is on its way to the store, what happens when it is
//! there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use muster_api::bus::{self, ShardReply, StopRuns, subject};
use muster_core::Name;
use muster_core::command::{Command, Outcome};
use muster_core::control::Queue;
use muster_core::id::{CommandId, Position, ShardId};
use muster_core::mutant::{self, Mutant};
use muster_core::record::Record;
use muster_core::shard::{Context, Shard, Stop};
use muster_runtime::bus::ReplyTo;
use muster_runtime::codec;
use muster_runtime::log::{AppendError, Limits, Log, Params, Sealed, TakenOver};

use super::{End, Error, Owner};
use crate::metrics::Unsent;
use crate::send;
use crate::worker::Deps;

/// What is said once the commit that it speaks of is durable.
pub(super) enum Message {
    /// To whoever asked.
    Reply(ReplyTo, Bytes),
    /// To the leaders of pools.
    Offers(Bytes),
}

/// The commit that commands collect in.
#[derive(Default)]
pub(super) struct Open {
    records: Vec<Record>,
    /// When the first of them came in.
    since: Option<Duration>,
    /// Whether somebody waits for one of them.
    is_urgent: bool,
    /// Payload bytes in it.
    pub(super) bytes: usize,
    messages: Vec<Message>,
    stops: Vec<Stop>,
}

/// A state, as a checkpoint has it.
pub(super) struct Captured {
    pub(super) records: Vec<Record>,
    /// See [`Shard::log_in_use`].
    pub(super) in_use: Vec<u64>,
}

/// A commit on its way to the store.
pub(super) struct Flight {
    sequence: u64,
    began: Duration,
    messages: Vec<Message>,
    stops: Vec<Stop>,
    /// The state after it, for a checkpoint once it is durable.
    checkpoint: Option<Captured>,
    put: BoxFuture<'static, Result<Landed, Error>>,
}

/// A commit that is at its place, or another writer's there.
pub(super) enum Landed {
    Durable { records: Vec<Record>, bytes: usize },
    Fenced,
}

/// Waits for the commit under way, if there is one.
pub(super) async fn landed(flight: &mut Option<Flight>) -> Result<Landed, Error> {
    match flight {
        Some(flight) => (&mut flight.put).await,
        None => std::future::pending().await,
    }
}

/// What a log of this worker stands on.
pub(super) fn params(shard: ShardId, deps: &Deps) -> Params {
    Params {
        store: deps.store.objects(),
        shard,
        writer: deps.random.u128(),
        random: deps.random.clone(),
        blocking: deps.blocking.clone(),
        limits: Limits::default(),
    }
}

/// Reads a shard's state from its log and puts a fence behind it.
pub(super) async fn take_over(shard: ShardId, deps: &Deps) -> Result<(Shard, TakenOver), Error> {
    let mut state = Shard::new(shard);
    let params = params(shard, deps);
    let apply = |position, record| match record {
        Record::Command(_) if mutant::is(Mutant::ForgetsAnswers) => {}
        record => state.apply(position, &record),
    };
    let taken = Log::take_over(params, apply).await?;
    for error in &taken.broken {
        tracing::error!(%shard, %error, "checkpoint is broken, recovered from the one before");
        deps.metrics.checkpoints_broken.inc();
    }
    deps.history.forget(shard);
    // What the records of others stopped was stopped by them, or is found when clusters compare
    // notes.
    state.take_stops();
    Ok((state, taken))
}

impl Owner {
    /// Where the next record of the open commit will stand.
    fn next_position(&self) -> Position {
        let row = u32::try_from(self.open.records.len()).expect("commits are bounded in bytes");
        Position { sequence: self.open_sequence(), row }
    }

    pub(super) fn open_sequence(&self) -> u64 {
        let last = self.flight.as_ref().map_or_else(|| self.durable.get(), |f| f.sequence);
        last + 1
    }

    /// Whether everything applied is durable.
    pub(super) fn is_clean(&self) -> bool {
        self.open.records.is_empty() && self.flight.is_none()
    }

    /// The commit that makes everything applied so far durable.
    pub(super) fn dirty_sequence(&self) -> u64 {
        let open = self.open_sequence();
        if self.open.records.is_empty() { open - 1 } else { open }
    }

    /// Carries out a command: its records go into the open commit.
    pub(super) fn execute_as(&mut self, id: CommandId, command: Command) -> Outcome {
        let ctx = Context {
            now: self.deps.clock.now(),
            random: self.deps.random.u64(),
            position: self.next_position(),
        };
        self.deps.metrics.commands.inc();
        self.look_at_policies();
        let is_urgent = is_urgent(&command);
        let records = self.open.records.len();
        let outcome = self.state.execute(id, command, ctx, &mut self.open.records);
        if self.open.records.len() > records {
            self.open.is_urgent |= is_urgent;
            if self.open.since.is_none() {
                self.open.since = Some(self.deps.clock.monotonic());
            }
        }
        self.open.stops.extend(self.state.take_stops());
        outcome
    }

    /// Has retries be decided by what the control data says of queues now.
    fn look_at_policies(&mut self) {
        let control = self.deps.control.latest();
        if self.policies_of == Some(control.version) {
            return;
        }
        self.policies_of = Some(control.version);
        let policy = |(name, queue): (&String, &Queue)| {
            Some((Name::from(name.as_str()), Arc::clone(queue.retry.as_ref()?)))
        };
        self.state.retry_by(Arc::new(control.queues.iter().filter_map(policy).collect()));
    }

    /// Sends a reply once everything applied so far is durable.
    pub(super) async fn reply(&mut self, to: ReplyTo, reply: Bytes) {
        self.say(Message::Reply(to, reply)).await;
    }

    /// Sends a message once everything applied so far is durable, in order.
    pub(super) async fn say(&mut self, message: Message) {
        if mutant::is(Mutant::AcknowledgesEarly) {
            self.say_now(message).await;
        } else if !self.open.records.is_empty() {
            self.open.messages.push(message);
        } else if let Some(flight) = &mut self.flight {
            flight.messages.push(message);
        } else {
            self.say_now(message).await;
        }
    }

    async fn say_now(&mut self, message: Message) {
        match message {
            Message::Reply(to, reply) => Self::send(&self.deps, &to, reply).await,
            Message::Offers(offers) => self.send_offers(offers).await,
        }
    }

    /// Sends a reply at once.
    pub(super) async fn send(deps: &Deps, to: &ReplyTo, reply: Bytes) {
        let refuse = |problem| bus::encode(&ShardReply::Error(problem));
        send::respond(&*deps.bus, &deps.metrics, to, reply, Unsent::Reply, refuse).await;
    }

    /// Tells clusters which pods to stop.
    async fn send_stops(&mut self, stops: Vec<Stop>) {
        let mut by_cluster: BTreeMap<Name, Vec<(String, u32)>> = BTreeMap::new();
        for stop in stops {
            by_cluster.entry(stop.cluster).or_default().push((stop.job.to_string(), stop.attempt));
        }
        for (cluster, runs) in by_cluster {
            for runs in bus::chunks(runs, self.deps.bus.payload_bytes_max()) {
                self.send_stop(cluster.clone(), runs).await;
            }
        }
    }

    /// A cluster that misses it is told again by its pool's leader, who hears it too; what both
    /// miss, the cluster learns from the verdict on its next report, or when it compares.
    async fn send_stop(&mut self, cluster: Name, runs: Vec<(String, u32)>) {
        let message = StopRuns { runs };
        let subject = subject::cluster_stop(&cluster);
        if let Err(error) = self.deps.bus.publish(&subject, bus::encode(&message)).await {
            send::unsent(&self.deps.metrics, Unsent::StopOrder, &error);
            self.stops_unsent.push((cluster, message.runs));
        }
    }

    /// Sends the stop orders that could not be sent before.
    pub(super) async fn send_stops_again(&mut self) {
        if self.stops_unsent.is_empty() || !self.deps.bus.is_connected() {
            return;
        }
        for (cluster, runs) in std::mem::take(&mut self.stops_unsent) {
            self.send_stop(cluster, runs).await;
        }
    }

    /// When the open commit may be sealed.
    pub(super) fn commit_due(&self) -> Option<Duration> {
        if self.open.records.is_empty() || self.flight.is_some() {
            return None;
        }
        Some(self.pace.due(self.open.is_urgent))
    }

    /// Seals the open commit and sends it on its way, if it is time.
    pub(super) fn seal_if_due(&mut self) -> Result<(), Error> {
        let now = self.deps.clock.monotonic();
        if self.commit_due().is_some_and(|due| due <= now) {
            self.seal(false)?;
        }
        Ok(())
    }

    fn seal(&mut self, released: bool) -> Result<(), Error> {
        let sequence = self.open_sequence();
        let open = std::mem::take(&mut self.open);
        let began = self.deps.clock.monotonic();
        self.pace.begin(began);
        if let Some(since) = open.since {
            let waited = began.saturating_sub(since);
            self.deps.metrics.commit_wait_seconds.observe(waited.as_secs_f64());
        }
        let records_len = open.records.len() as u64;
        let checkpoint = self.background.checkpoint_due(records_len, &self.deps.config);
        let checkpoint = checkpoint
            .then(|| Captured { records: self.state.records(), in_use: self.state.log_in_use() });
        let header = self.log.next_header(codec::Kind::Log, released);
        let put = put(Arc::clone(&self.log), self.deps.clone(), header, open.records);
        self.flight = Some(Flight {
            sequence,
            began,
            messages: open.messages,
            stops: open.stops,
            checkpoint,
            put: Box::pin(put),
        });
        self.deps.metrics.records.inc_by(records_len);
        Ok(())
    }

    /// A commit is durable: what waited for it may be said.
    pub(super) async fn on_landed(&mut self, landed: Result<Landed, Error>) -> Result<End, Error> {
        let Some(flight) = self.flight.take() else { return Ok(End::Cancelled) };
        if mutant::is(Mutant::TimeoutIsFailure) && matches!(landed, Err(Error::Append(_))) {
            return Ok(End::Cancelled);
        }
        let records = match landed? {
            Landed::Durable { records, bytes } => {
                self.background.count_bytes(bytes);
                records
            }
            Landed::Fenced => {
                tracing::warn!(shard = %self.state.id(), sequence = flight.sequence, "fenced: another owner has the shard");
                self.deps.metrics.fenced.inc();
                return Ok(End::Fenced);
            }
        };
        let took = self.deps.clock.monotonic().saturating_sub(flight.began);
        self.deps.metrics.commits.inc();
        self.deps.metrics.commit_seconds.observe(took.as_secs_f64());
        self.recent.push(flight.sequence, records);
        self.durable.advance(flight.sequence);
        for message in flight.messages {
            self.say_now(message).await;
        }
        self.send_stops(flight.stops).await;
        if let Some(captured) = flight.checkpoint {
            self.write_checkpoint(flight.sequence, captured);
        }
        Ok(End::Cancelled)
    }

    /// Finishes what is under way and marks the log as released, unless another owner has it.
    pub(super) async fn release(&mut self) -> Result<End, Error> {
        while self.flight.is_some() || !self.open.records.is_empty() {
            if self.flight.is_none() {
                self.seal(false)?;
            }
            let landed = landed(&mut self.flight).await;
            if self.on_landed(landed).await? == End::Fenced {
                return Ok(End::Fenced);
            }
        }
        self.seal(true)?;
        let landed = landed(&mut self.flight).await;
        self.on_landed(landed).await
    }
}

/// Whether somebody waits for a command to be durable: a user, or a cluster with room.
fn is_urgent(command: &Command) -> bool {
    match command {
        Command::Submit(_)
        | Command::Cancel { .. }
        | Command::Reprioritize { .. }
        | Command::Lease(_)
        | Command::Preempt(_)
        | Command::CloseQueue { .. } => true,
        Command::Report { .. }
        | Command::ExpireCluster { .. }
        | Command::Tick
        | Command::PlanHistory(_)
        | Command::NoteHistory(_) => false,
    }
}

async fn put(
    log: Arc<Log>,
    deps: Deps,
    header: codec::Header,
    records: Vec<Record>,
) -> Result<Landed, Error> {
    let began = deps.clock.monotonic();
    let small = codec::is_small(&records);
    let encode = move || (Sealed::new(header, &records), records);
    let (sealed, records) = if small { encode() } else { deps.blocking.run(encode).await? };
    let encoded = deps.clock.monotonic();
    deps.metrics.commit_encode_seconds.observe((encoded - began).as_secs_f64());
    let sealed = sealed?;
    let appended = log.append(&sealed).await;
    let put = deps.clock.monotonic() - encoded;
    deps.metrics.commit_put_seconds.observe(put.as_secs_f64());
    match appended {
        Ok(()) => Ok(Landed::Durable { records, bytes: sealed.bytes() }),
        Err(AppendError::Fenced { .. }) => Ok(Landed::Fenced),
        Err(error) => Err(Error::Append(error)),
    }
}
