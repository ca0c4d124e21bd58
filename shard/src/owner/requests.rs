//! Requests to the owner: each as a command or a read, each with its reply.

use std::collections::BTreeSet;
use std::future::Future;

use muster_api::bus::{self, Room, ShardReply, ShardRequest};
use muster_api::convert;
use muster_api::http::{ErrorCode, JobSetPage, Problem};
use muster_core::Name;
use muster_core::command::{Command, Outcome};
use muster_core::id::{CommandId, JobRef, Position};
use muster_core::mutant::{self, Mutant};
use muster_core::shape::ShapeKey;
use muster_core::shard::JobFilter;
use muster_runtime::bus::{Message, ReplyTo};
use muster_runtime::tasks::Policy;

use super::{Owner, events, reads};

/// Runs listed in one page of a comparison, however small they are: the owner has others to answer.
const RUNS_PER_PAGE: usize = 5_000;

impl Owner {
    pub(super) async fn on_request(&mut self, message: Message) {
        let Some(to) = message.reply else { return };
        // Without a lease that certainly holds, somebody else may be the one to answer.
        if !self.trust.holds() {
            return;
        }
        let request = match bus::decode::<ShardRequest>(&message.payload) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "a request cannot be read");
                let problem = Problem::new(ErrorCode::BadRequest, error.to_string());
                Self::send(&self.deps, &to, bus::encode(&ShardReply::Error(problem))).await;
                return;
            }
        };
        match request {
            ShardRequest::Submit(submit) => self.submit(to, submit).await,
            ShardRequest::Cancel(cancel) => {
                let reason = cancel.reason.map(Name::from);
                let command =
                    convert::target(cancel.target).map(|target| Command::Cancel { target, reason });
                self.command(to, cancel.command, command).await;
            }
            ShardRequest::Reprioritize(request) => {
                let priority = request.priority;
                let command = convert::target(request.target)
                    .map(|target| Command::Reprioritize { target, priority });
                self.command(to, request.command, command).await;
            }
            ShardRequest::CloseQueue(close) => {
                let (queue, incarnation) = (close.queue.into(), close.incarnation);
                let command = Command::CloseQueue { queue, incarnation };
                self.command(to, close.command, Ok(command)).await;
            }
            ShardRequest::Report(report) => {
                self.heard_of(&report.cluster);
                let id = report.command;
                self.command(to, id, Ok(convert::report(report))).await;
            }
            ShardRequest::Lease(lease) => self.lease(to, lease).await,
            ShardRequest::Job(get) => self.job(to, &get),
            ShardRequest::Jobs(list) => self.jobs(to, list).await,
            ShardRequest::JobSets(list) => self.job_sets(to, &list).await,
            ShardRequest::Events(list) => self.events(to, list),
            ShardRequest::Sync(sync) => self.sync(to, &sync).await,
            ShardRequest::Payloads(get) => self.payloads(to, &get),
            ShardRequest::Windows(get) => {
                let windows = bus::encode(&self.windows(get));
                self.reply(to, windows).await;
            }
            ShardRequest::Running(get) => self.running(to, &get).await,
            ShardRequest::Preempt(preempt) => self.preempt(to, preempt).await,
            ShardRequest::Place(get) => self.place(to, &get).await,
            ShardRequest::Try(asked) => self.try_submit(to, asked).await,
        }
    }

    async fn command(&mut self, to: ReplyTo, id: CommandId, command: Result<Command, Problem>) {
        let reply = match command.map(|command| self.execute_as(id, command)) {
            Ok(Outcome::Applied { changed, finished, missing }) if !missing.is_empty() => {
                let known = Outcome::Applied { changed, finished, missing: Vec::new() };
                let history = self.deps.history.clone();
                self.read(to, reads::applied(convert::outcome(known), missing, history));
                return;
            }
            Ok(outcome) => convert::outcome(outcome),
            Err(problem) => ShardReply::Error(problem),
        };
        self.reply(to, bus::encode(&reply)).await;
    }

    async fn submit(&mut self, to: ReplyTo, submit: bus::Submit) {
        // One that is in hand, or done, takes no room: it is not read again.
        if let Some(outcome) = self.state.answered(submit.command) {
            let reply = bus::encode(&convert::outcome(outcome.clone()));
            self.reply(to, reply).await;
            return;
        }
        if self.open.bytes + submit.batch.len() > self.deps.config.commit_bytes_max.as_usize() {
            self.deps.metrics.refused_overload.inc();
            let detail = format!("shard {} has as much waiting as it may", self.state.id());
            let problem = Problem::new(ErrorCode::Overloaded, detail);
            Self::send(&self.deps, &to, bus::encode(&ShardReply::Error(problem))).await;
            return;
        }
        self.open.bytes += submit.batch.len();
        let id = submit.command;
        let command = self.read_submit(submit).map(Command::Submit);
        self.command(to, id, command).await;
    }

    /// Leases no more than the answer has room for: what is leased is told.
    async fn lease(&mut self, to: ReplyTo, mut lease: bus::Lease) {
        self.heard_of(&lease.cluster);
        let queues: BTreeSet<Name> =
            lease.picks.iter().map(|pick| Name::from(pick.queue.as_str())).collect();
        let all = Room::of_message(self.deps.bus.payload_bytes_max()).left();
        let mut room = Room::of_bytes(all / 4 * 3);
        for pick in &mut lease.picks {
            let shape = self.state.shape(ShapeKey(pick.shape.0));
            pick.count = shape.map_or(0, |shape| room.take_runs(&pick.node, shape, pick.count));
        }
        let (id, pool) = (lease.command, lease.pool.clone());
        let runs = match self.execute_as(id, convert::lease(lease)) {
            Outcome::Leased(runs) => runs,
            other => {
                self.reply(to, bus::encode(&convert::outcome(other))).await;
                return;
            }
        };
        let runs = runs.into_iter().map(convert::leased_run).collect();
        let rest = Room::of_bytes(all / 4 + room.left());
        let leased = bus::Leased { runs, offers: self.offers_of(&queues, &pool, rest) };
        self.reply(to, bus::encode(&ShardReply::Leased(leased))).await;
    }

    fn job(&mut self, to: ReplyTo, get: &bus::GetJob) {
        let live = self.state.job(get.job).map(|view| (convert::live_job(&view), view.spec));
        let found = live.or_else(|| {
            let done = self.state.finished_of(get.job)?;
            Some((convert::finished_job(&done), done.spec))
        });
        let read =
            reads::job(found, get.job, get.spec, self.deps.history.clone(), self.log.clone());
        self.read(to, read);
    }

    async fn jobs(&mut self, to: ReplyTo, request: bus::ListJobs) {
        let states = match convert::states(&request.states) {
            Ok(states) => states,
            Err(problem) => {
                Self::send(&self.deps, &to, bus::encode(&ShardReply::Error(problem))).await;
                return;
            }
        };
        let filter = JobFilter {
            queue: request.queue.as_deref().map(Name::from),
            job_set: request.job_set.as_deref().map(Name::from),
            states,
        };
        let more = request.limit + 1;
        let live = self.state.live_jobs(&filter, request.after, more);
        let mut jobs: Vec<(JobRef, _)> =
            live.iter().map(|view| (view.job, convert::live_job(view))).collect();
        jobs.extend(reads::finished_jobs(self.state.finished(), &request, states, more));
        let bytes_max = self.deps.bus.payload_bytes_max();
        let listing = reads::Listing { shard: self.state.id(), jobs, states, request, bytes_max };
        let read = listing.page(self.deps.history.clone());
        self.read(to, read);
    }

    async fn job_sets(&mut self, to: ReplyTo, list: &bus::ListJobSets) {
        let views = match &list.only {
            Some(name) => self.state.job_set(&list.queue, name).into_iter().collect(),
            None => self.state.job_sets(&list.queue),
        };
        let after = list.after.as_deref();
        let behind = views.iter().filter(|view| after.is_none_or(|after| &*view.job_set > after));
        let mut sets: Vec<_> =
            behind.take(list.limit + 1).map(|v| convert::job_set(&list.queue, v)).collect();
        let mut more = sets.len() > list.limit;
        sets.truncate(list.limit);
        let mut room = Room::of_message(self.deps.bus.payload_bytes_max());
        more |= bus::cut(&mut sets, &mut room);
        let cursor = sets.last().filter(|_| more).map(|set| set.job_set.clone());
        let reply = ShardReply::JobSets(JobSetPage { job_sets: sets, cursor });
        self.reply(to, bus::encode(&reply)).await;
    }

    fn events(&mut self, to: ReplyTo, request: bus::ListEvents) {
        let set = self.state.job_set(&request.queue, &request.job_set);
        let next = Position { sequence: self.open_sequence(), row: 0 };
        let reader = events::Reader {
            recent: self.recent.clone(),
            log: self.log.clone(),
            durable: self.durable.waiter(),
            clock: self.deps.clock.clone(),
            first: set.map_or(next, |set| set.first),
            let_go_before: self.background.newest_checkpoint(),
            whole_from: self.whole_from.clone(),
            bytes_max: self.deps.bus.payload_bytes_max(),
        };
        self.read(to, reader.page(request));
    }

    async fn sync(&mut self, to: ReplyTo, sync: &bus::Sync) {
        self.heard_of(&sync.cluster);
        let (count, digest) = self.state.cluster_runs(&sync.cluster);
        let agreed = sync.after.is_none() && count == sync.count && digest == sync.digest;
        let mut runs = Vec::new();
        if !agreed {
            runs = self.state.runs(&sync.cluster, sync.after, RUNS_PER_PAGE + 1);
        }
        let mut room = Room::of_message(self.deps.bus.payload_bytes_max());
        let all = runs.len();
        let page = runs.into_iter().take(RUNS_PER_PAGE).map(convert::believed_run);
        let runs: Vec<_> = page.take_while(|believed| room.take_run(&believed.run)).collect();
        let more = runs.len() < all;
        let reply = ShardReply::Runs(bus::RunPage { agreed, runs, more });
        self.reply(to, bus::encode(&reply)).await;
    }

    fn payloads(&mut self, to: ReplyTo, get: &bus::GetPayloads) {
        let places = get.jobs.iter().map(|job| (*job, self.state.payload_place(*job))).collect();
        let bytes_max = self.deps.bus.payload_bytes_max();
        let read = reads::payloads(places, self.log.clone(), bytes_max);
        self.read(to, read);
    }

    /// Answers from a task of its own what takes the store to answer; not before everything applied
    /// so far is durable, and only while the lease holds.
    fn read(&mut self, to: ReplyTo, read: impl Future<Output = ShardReply> + Send + 'static) {
        let waits = !self.is_clean() && !mutant::is(Mutant::ReadsUncommitted);
        let needed = if waits { self.dirty_sequence() } else { 0 };
        let durable = self.durable.waiter();
        let (deps, trust) = (self.deps.clone(), self.trust.clone());
        let name = format!("read.{}", self.state.id());
        self.deps.tasks.spawn_once(name, Policy::DETACHED, move |_| async move {
            let reply = read.await;
            // The owner is gone: its state may be too. Whoever asked asks the next owner.
            let current = durable.reach(needed).await.is_ok();
            if current && trust.holds() {
                Self::send(&deps, &to, bus::encode(&reply)).await;
            }
            Ok::<(), std::convert::Infallible>(())
        });
    }
}
