//! Shard, leader and clusters in turn, without bus, store and clock: whatever is submitted, in
//! whatever order clusters ask and runs end, also with room that is kept and used in the meantime,
//! nothing is over-committed, gangs are together, and everything that can run does.

use std::time::Duration;

use muster_core::command::{
    Command, LeasedRun, NewJob, Outcome, Report, RunStatus, Submit, Verdict,
};
use muster_core::id::{CommandId, JobRef, Position, ShardId};
use muster_core::job::Exit;
use muster_core::record::Payload;
use muster_core::shape::{Gang, Shape};
use muster_core::shard::{Context, Shard};
use muster_core::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::table::Heard;
use super::*;
use crate::leader::testing::{amounts, node, offers, request, terms};

/// Nodes of each cluster: name, value of the label `rack`, each with so many cpus.
const NODES: [(&str, &str); 3] = [("l", "1"), ("m", "1"), ("n", "2")];
const CLUSTERS: [&str; 2] = ["c", "d"];
const CPUS: i64 = 8;
/// Runs of a head: few, so that what lies behind it matters too.
const RUNS_MAX: usize = 6;

#[derive(Debug, Clone)]
enum Deed {
    Submit {
        queue: usize,
        cpu: i64,
        priority: u32,
        count: u64,
        lasts_max: Option<u32>,
    },
    Gang {
        queue: usize,
        cpus: Vec<i64>,
        first: usize,
        is_uniform: bool,
        lasts_max: Option<u32>,
    },
    Lease {
        asking: u8,
        leases_max: u64,
    },
    /// Room is kept for whoever waits.
    Keep,
    End {
        which: usize,
        status: u8,
    },
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (0..2usize, 1..5i64, 0..3u32, 1..4u64, prop::option::of(1..2_000u32)).prop_map(
            |(queue, cpu, priority, count, lasts_max)| {
                Deed::Submit { queue, cpu, priority, count, lasts_max }
            }
        ),
        2 => (
            0..2usize,
            vec(1..5i64, 2..5),
            0..4usize,
            any::<bool>(),
            prop::option::of(1..2_000u32),
        )
            .prop_map(|(queue, cpus, first, is_uniform, lasts_max)| Deed::Gang {
                queue,
                cpus,
                first,
                is_uniform,
                lasts_max,
            }),
        4 => (1..4u8, 1..6u64).prop_map(|(asking, leases_max)| Deed::Lease { asking, leases_max }),
        1 => Just(Deed::Keep),
        5 => (any::<usize>(), 0..6u8).prop_map(|(which, status)| Deed::End { which, status }),
    ]
}

struct Run {
    cluster: Name,
    node: Name,
    attempt: u32,
    cpu: i64,
}

struct World {
    shard: Shard,
    table: Table,
    control: Control,
    runs: BTreeMap<JobRef, Run>,
    /// Members of gangs that are not submitted yet.
    to_come: Vec<(usize, NewJob)>,
    version: u64,
    step: i64,
    gangs: u32,
    /// Where room is kept, and for whom: those that were submitted before.
    kept: Kept,
    overdue: Timestamp,
}

fn shape(cpu: i64, gang: Option<Gang>, lasts_max: Option<u32>) -> Arc<Shape> {
    let request = [("cpu", cpu), (PODS, 1)];
    let request = request.map(|(name, n)| (Name::from(name), Quantity::from_units(n)));
    Arc::new(Shape { gang, lasts_max, ..Shape::of_request(request.into_iter().collect()) })
}

fn job(shape: Arc<Shape>, priority: u32) -> NewJob {
    NewJob {
        line: 0,
        client_id: None,
        priority,
        count: None,
        at_most_once: false,
        terms: None,
        shape,
        payload: Payload::default(),
    }
}

impl World {
    fn new() -> Self {
        let queue = muster_core::control::Queue::default();
        let control = Control::default().with_queue("q0", queue.clone()).unwrap();
        Self {
            shard: Shard::new(ShardId(3)),
            table: Table::new("default"),
            control: control.with_queue("q1", queue).unwrap(),
            runs: BTreeMap::new(),
            to_come: Vec::new(),
            version: 0,
            step: 0,
            gangs: 0,
            kept: Kept::new(),
            overdue: Timestamp(0),
        }
    }

    fn execute(&mut self, command: Command) -> Outcome {
        self.step += 1;
        let step = u64::try_from(self.step).unwrap();
        let position = Position { sequence: step, row: 0 };
        let ctx = Context { now: Timestamp(self.step), random: step << 20, position };
        self.shard.execute(CommandId(step.into()), command, ctx, &mut Vec::new())
    }

    fn submit(&mut self, queue: usize, jobs: Vec<NewJob>) {
        let jobs = (0..).zip(jobs).map(|(line, job)| NewJob { line, ..job }).collect();
        let submit = Submit {
            queue: format!("q{queue}").as_str().into(),
            incarnation: 1,
            job_set: "s".into(),
            key: None,
            queued_max: None,
            jobs,
        };
        let outcome = self.execute(Command::Submit(submit));
        assert!(matches!(outcome, Outcome::Submitted(_)), "{outcome:?}");
    }

    fn offer(&mut self) {
        let changed = self.shard.take_changed_offers(RUNS_MAX);
        let mut packed = muster_api::offers::pack(&changed, 1 << 20);
        assert_eq!(packed.len(), 1);
        let packed = packed.remove(0);
        self.version += 1;
        self.table.offers(bus::Offers {
            version: self.version,
            previous: self.version - 1,
            full: self.version == 1,
            ..offers(packed.shapes, packed.queues)
        });
    }

    fn free(&self, cluster: &str, node: &str) -> i64 {
        let here = self.runs.values().filter(|run| (&*run.cluster, &*run.node) == (cluster, node));
        CPUS - here.map(|run| run.cpu).sum::<i64>()
    }

    fn tell_nodes(&mut self, cluster: &str) {
        let has =
            |cpu: i64| amounts(&[("cpu", &cpu.to_string()), ("memory", "64Gi"), ("pods", "99")]);
        let node = |(name, rack): (&str, &str)| bus::Node {
            labels: amounts(&[("rack", rack)]),
            ..node(name, has(CPUS), has(self.free(cluster, name)))
        };
        let mut request = request(cluster, NODES.map(node).into());
        request.nodes.version = self.version;
        assert_eq!(self.table.request(&request, Duration::from_secs(1), Timestamp(0)), Heard::Yes);
    }

    /// Keeps room for everything that waits and finds none, as the leader does.
    fn keep(&mut self) {
        self.offer();
        CLUSTERS.iter().for_each(|cluster| self.tell_nodes(cluster));
        self.overdue = Timestamp(self.step + 1);
        let limits = Limits { picks_max: 100, overdue: self.overdue, ..Limits::default() };
        let round = Round::to_preempt(&self.table, &self.control, &[], limits);
        let Some(mut round) = round else { return };
        let row = |row: muster_core::shard::RunningJobs| Row {
            cluster: row.cluster,
            node: row.node,
            queue: row.queue,
            shape: Keyed::new(row.shape),
            count: row.count,
            age: 0,
        };
        let rows: Vec<Row> = self.shard.ending("default").into_iter().map(row).collect();
        round.ending(&rows);
        self.kept = round.kept(&round.solve(), Timestamp(self.step));
    }

    /// The clusters ask; gives how many jobs were leased.
    fn lease(&mut self, asking: &[&str], leases_max: u64) -> usize {
        self.offer();
        asking.iter().for_each(|cluster| self.tell_nodes(cluster));
        let clusters = asking.iter().map(|name| (Name::from(*name), leases_max)).collect();
        let now = Timestamp(self.step);
        let terms = Terms { overdue: self.overdue, kept: &self.kept, now, ..terms(100) };
        let round = Round::new(&self.table, &self.control, &clusters, &terms);
        let Some(round) = round else { return 0 };
        let picks = round.picks(&round.solve(), &clusters);
        let mut leased = 0;
        for ((_, cluster), parts) in picks {
            let lease = bus::Lease {
                command: CommandId(0),
                pool: "default".into(),
                is_away: false,
                cluster: cluster.to_string(),
                picks: parts.concat(),
            };
            let Outcome::Leased(runs) = self.execute(convert::lease(lease)) else { panic!() };
            self.assert_gangs_whole(&runs);
            leased += runs.len();
            for LeasedRun { job, attempt, node, shape } in runs {
                let cpu = dense("cpu", shape.request.get("cpu")) / 1_000;
                let run = Run { cluster: Arc::clone(&cluster), node, attempt, cpu };
                assert!(self.runs.insert(job, run).is_none(), "leased twice");
            }
        }
        for (cluster, (node, _)) in CLUSTERS.iter().flat_map(|c| NODES.iter().map(move |n| (c, n)))
        {
            assert!(self.free(cluster, node) >= 0, "{cluster}/{node} is over-committed");
        }
        leased
    }

    /// Of each gang, all that lives of it was leased at once, and where it asks for it, to nodes
    /// with one value of its label.
    fn assert_gangs_whole(&self, runs: &[LeasedRun]) {
        let mut gangs: BTreeMap<&Gang, Vec<&LeasedRun>> = BTreeMap::new();
        for run in runs {
            if let Some(gang) = &run.shape.gang {
                gangs.entry(gang).or_default().push(run);
            }
        }
        for (gang, runs) in gangs {
            let filter = muster_core::shard::JobFilter {
                queue: None,
                job_set: None,
                states: muster_core::job::StateSet::ALL,
            };
            let live = self.shard.live_jobs(&filter, None, usize::MAX);
            let live = live.iter().filter(|job| job.shape.gang.as_ref() == Some(gang)).count();
            assert_eq!(runs.len(), live, "{gang:?}");
            if gang.uniformity.is_some() {
                let rack = |node: &Name| NODES.iter().find(|(name, _)| **name == **node).unwrap().1;
                let racks: BTreeSet<&str> = runs.iter().map(|run| rack(&run.node)).collect();
                assert_eq!(racks.len(), 1, "{gang:?}");
            }
        }
    }

    fn end(&mut self, job: JobRef, status: RunStatus) {
        let Some(run) = self.runs.remove(&job) else { return };
        let (attempt, at) = (run.attempt, Timestamp(self.step));
        let addresses = Vec::new();
        let reports = vec![Report { job, attempt, status, at, addresses, used: None }];
        let outcome = self.execute(Command::Report { cluster: run.cluster, reports });
        assert_eq!(outcome, Outcome::Reported(vec![Verdict::Taken]));
        for stop in self.shard.take_stops() {
            self.runs.remove(&stop.job);
        }
    }

    fn carry_out(&mut self, deed: &Deed) {
        match deed {
            Deed::Keep => self.keep(),
            Deed::Submit { queue, cpu, priority, count, lasts_max } => {
                let shape = shape(*cpu, None, *lasts_max);
                let jobs = (0..*count).map(|_| job(Arc::clone(&shape), *priority)).collect();
                self.submit(*queue, jobs);
            }
            Deed::Gang { queue, cpus, first, is_uniform, lasts_max } => {
                self.gangs += 1;
                let gang = Gang {
                    id: format!("g{}", self.gangs).as_str().into(),
                    cardinality: u32::try_from(cpus.len()).unwrap(),
                    uniformity: is_uniform.then(|| "rack".into()),
                };
                let member = |cpu: &i64| job(shape(*cpu, Some(gang.clone()), *lasts_max), 1);
                let mut members: Vec<NewJob> = cpus.iter().map(member).collect();
                let later = members.split_off((*first).min(cpus.len()));
                self.submit(*queue, members);
                self.to_come.extend(later.into_iter().map(|member| (*queue, member)));
            }
            Deed::Lease { asking, leases_max } => {
                let asks = |(n, _): &(usize, &&str)| asking & (1 << n) != 0;
                let asking = CLUSTERS.iter().enumerate().filter(asks).map(|(_, name)| *name);
                self.lease(&asking.collect::<Vec<_>>(), *leases_max);
            }
            Deed::End { which, status } => {
                let runs: Vec<JobRef> = self.runs.keys().copied().collect();
                if runs.is_empty() {
                    return;
                }
                let exit = Exit::default();
                let status = match status {
                    0 => RunStatus::Failed(exit),
                    1 => RunStatus::Returned(exit),
                    2 => RunStatus::Lost(exit),
                    _ => RunStatus::Succeeded(exit),
                };
                self.end(runs[which % runs.len()], status);
            }
        }
    }
}

proptest! {
    #[test]
    fn everything_that_can_run_does_and_gangs_are_together_in_whatever_order_things_happen(
        deeds in vec(deed(), 1..50),
    ) {
        let mut world = World::new();
        for deed in &deeds {
            world.carry_out(deed);
        }
        for (queue, member) in std::mem::take(&mut world.to_come) {
            world.submit(queue, vec![member]);
        }
        let mut rounds = 0;
        while world.shard.live() > 0 {
            let mut leased = world.lease(&CLUSTERS, 3);
            if leased == 0 && world.runs.is_empty() {
                // Those that came back too often rest, a minute at most.
                world.step += 60_000;
                world.execute(Command::Tick);
                leased = world.lease(&CLUSTERS, 3);
            }
            let runs: Vec<JobRef> = world.runs.keys().copied().collect();
            prop_assert!(leased > 0 || !runs.is_empty(), "{} wait for ever", world.shard.live());
            for job in runs {
                world.end(job, RunStatus::Succeeded(Exit::default()));
            }
            rounds += 1;
            prop_assert!(rounds < 1_000);
        }
    }
}
