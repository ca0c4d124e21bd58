//! The reason given is true (property L of the solver): each thing that is named keeps the job by
//! itself, and without all of them it is placed, by the round that the leader runs.

use muster_api::bus;
use muster_api::shape::ShapeText;
use muster_core::control::{
    Amount, Cordon, Limit, Place, PoolSettings, PriorityClass, Queue, Rate,
};
use muster_core::resources::PODS;
use muster_core::shape::Toleration;
use muster_core::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::absent::Absent;
use super::super::round::{Claimed, Round, Terms};
use super::super::taken_out::Rule;
use super::super::testing::{
    self, amounts, ask, head, offers, pool_offer, queue_offer, resources, terms,
};
use super::*;

const QUEUES: [&str; 3] = ["a", "b", "c"];
const LICENCE: &str = "example.com/licence";
const CLASSES: [&str; 2] = ["default", "urgent"];

#[derive(Debug, Clone)]
struct NodeOf {
    cluster: usize,
    /// (cpu, memory) in all, and of it free.
    all: (i64, i64),
    free: (i64, i64),
    has_label: bool,
    has_taint: bool,
    is_ready: bool,
    is_cordoned: bool,
    /// Whether jobs of several queues failed there.
    is_failing: bool,
}

#[derive(Debug, Clone)]
struct Jobs {
    queue: usize,
    class: usize,
    asks: (i64, i64),
    selects: bool,
    tolerates: bool,
    /// Licences that it asks for.
    licences: i64,
    count: u64,
}

/// A pool, and what is set for its queues.
#[derive(Debug, Clone)]
struct Case {
    nodes: Vec<NodeOf>,
    jobs: Vec<Jobs>,
    /// Cpus that each queue holds.
    holds: [i64; 3],
    cordoned: [bool; 3],
    /// Cpus that a queue may hold, in all or in one class.
    limits: [Option<(Option<usize>, i64)>; 3],
    /// Whether the rate of a queue is used up.
    is_over: [bool; 3],
    cordoned_clusters: [bool; 2],
    /// Licences that the pool has, if that is set, of which each queue holds one.
    licences: Option<i64>,
    /// Whether the rate of the pool is used up.
    is_pool_over: bool,
    /// Cpus that a queue wants that is away, if one is.
    absent: Option<i64>,
    /// The jobs that are told to be wanted, where these are not those that wait.
    wanted: Option<Vec<Jobs>>,
}

/// One job of a case: of which jobs, and which of them.
#[derive(Debug, Clone, Copy)]
struct Job {
    jobs: usize,
    nth: u64,
}

fn told((cpu, memory): (i64, i64)) -> BTreeMap<String, String> {
    let (cpu, memory) = (cpu.to_string(), format!("{memory}Gi"));
    amounts(&[("cpu", &cpu), ("memory", &memory), (PODS, "100")])
}

fn of_job((cpu, memory): (i64, i64)) -> Resources {
    resources(&[("cpu", cpu), ("memory", memory << 30), (PODS, 1)])
}

fn cluster_name(number: usize) -> String {
    format!("c{number}")
}

impl Jobs {
    fn shape(&self) -> Shape {
        let mut shape = Shape::of_request(of_job(self.asks));
        shape.request.set(LICENCE.into(), Quantity::from_units(self.licences));
        shape.class = CLASSES[self.class].into();
        if self.selects {
            shape.node_selector = [("disk".into(), "ssd".into())].into();
        }
        if self.tolerates {
            let key = Some("gpu".into());
            shape.tolerations = vec![Toleration { key, value: None, effect: None }];
        }
        shape
    }
}

impl NodeOf {
    fn node(&self, name: &str) -> bus::Node {
        let taint = ("gpu".to_owned(), "true".to_owned(), "NoSchedule".to_owned());
        bus::Node {
            labels: self.has_label.then(|| ("disk".into(), "ssd".into())).into_iter().collect(),
            taints: self.has_taint.then_some(taint).into_iter().collect(),
            schedulable: self.is_ready,
            failing: QUEUES
                .map(|queue| (queue.to_owned(), 1))
                .into_iter()
                .filter(|_| self.is_failing)
                .collect(),
            ..testing::node(name, told(self.all), told(self.free))
        }
    }
}

impl Case {
    /// Jobs of a queue and class get their place in the case as priority: so each is known again.
    fn heads(&self, queue: usize) -> Vec<bus::Head> {
        let of_class = |(class, name): (usize, &&str)| {
            let mine = self.jobs.iter().enumerate();
            let mine = mine.filter(|(_, jobs)| (jobs.queue, jobs.class) == (queue, class));
            let number = |place: usize| u32::try_from(place).unwrap();
            let runs: Vec<_> =
                mine.map(|(place, jobs)| (number(place), number(place), jobs.count)).collect();
            let (since, holds) = (vec![0; runs.len()], self.held(queue));
            (!runs.is_empty()).then(|| bus::Head { since, holds, ..head(name, runs) })
        };
        CLASSES.iter().enumerate().filter_map(of_class).collect()
    }

    fn held(&self, queue: usize) -> BTreeMap<String, String> {
        let licence = (LICENCE.to_owned(), "1".to_owned());
        [("cpu".to_owned(), self.holds[queue].to_string()), licence].into()
    }

    fn demand(&self, queue: usize) -> BTreeMap<String, String> {
        let mut demand = Resources::new();
        let wanted = self.wanted.as_ref().unwrap_or(&self.jobs);
        for jobs in wanted.iter().filter(|jobs| jobs.queue == queue) {
            demand.add_times(&jobs.shape().request, jobs.count);
        }
        muster_api::convert::quantities(&demand)
    }

    fn absent(&self) -> Absent {
        let wants = |cpu: i64| (Name::from("away"), testing::gone(of_job((cpu, 0))));
        self.absent.map(wants).into_iter().collect()
    }

    fn table(&self) -> Table {
        let mut table = Table::new("default");
        for cluster in 0..2 {
            let of = self.nodes.iter().enumerate().filter(|(_, node)| node.cluster == cluster);
            let nodes = of.map(|(n, node)| node.node(&format!("n{n}"))).collect();
            ask(&mut table, &cluster_name(cluster), nodes);
        }
        let (window, lasts) = (Duration::from_secs(60), Duration::from_secs(60));
        let rule = Rule { queues: QUEUES.len(), window, lasts, percent_max: 100 };
        table.judge_nodes(&Control::default(), &rule, Timestamp(2));
        let queues = QUEUES.iter().enumerate().map(|(number, name)| {
            let pool = bus::PoolOffer {
                waiting: 1,
                demand: self.demand(number),
                held: 1,
                holds: self.held(number),
                ..pool_offer("default", self.heads(number))
            };
            queue_offer(name, vec![pool])
        });
        let shapes = self.jobs.iter().map(|jobs| ShapeText(Arc::new(jobs.shape())));
        table.offers(offers(shapes.collect(), queues.collect()));
        table
    }

    fn control(&self) -> Control {
        let urgent = PriorityClass { priority: 5_000, preemptible: false };
        let mut control = Control::default().with_class("urgent", urgent).unwrap();
        for (number, name) in QUEUES.iter().enumerate() {
            let limit = |(class, cpu): (Option<usize>, i64)| Limit {
                class: class.map(|class| CLASSES[class].to_owned()),
                pool: None,
                resources: [("cpu".to_owned(), Amount::Exact(Quantity::from_units(cpu)))].into(),
            };
            let queue = Queue {
                cordoned: self.cordoned[number],
                limits: self.limits[number].map(limit).into_iter().collect(),
                rate: self.is_over[number].then(|| Rate::new(1.0, 1).unwrap()),
                ..Queue::default()
            };
            control = control.with_queue(name, queue).unwrap();
        }
        control = control.with_queue("away", Queue::default()).unwrap();
        let rate = self.is_pool_over.then(|| Rate::new(1.0, 1).unwrap());
        let amount = |count: i64| (LICENCE.to_owned(), Quantity::from_units(count));
        let floating = self.licences.map(amount).into_iter().collect();
        control = control
            .with_pool("default", PoolSettings { rate, floating, ..PoolSettings::default() })
            .unwrap();
        let cordon = |control: Control, place: Place<'_>| {
            control.with_cordon(place, Cordon::default()).unwrap()
        };
        for (number, _) in self.cordoned_clusters.iter().enumerate().filter(|(_, is)| **is) {
            control = cordon(control, Place::Cluster(&cluster_name(number)));
        }
        for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_cordoned) {
            let (cluster, node) = (cluster_name(node.cluster), format!("n{number}"));
            control = cordon(control, Place::Node { cluster: &cluster, node: &node });
        }
        control
    }

    fn rates(&self) -> BTreeMap<Name, u64> {
        let over = QUEUES.iter().zip(self.is_over).filter(|(_, is_over)| *is_over);
        over.map(|(name, _)| (Name::from(*name), 0)).collect()
    }

    /// What the round places of these jobs.
    fn placed(&self, jobs: usize) -> u64 {
        let (table, control) = (self.table(), self.control());
        let clusters = (0..2).map(|number| (Name::from(cluster_name(number)), 1_000)).collect();
        let (rates, absent) = (self.rates(), self.absent());
        let paced = self.is_pool_over.then_some(0);
        let terms = Terms { paced, rates: &rates, absent: &absent, ..terms(1_000) };
        let round = Round::new(&table, &control, &clusters, &terms);
        let Some(round) = round else { return 0 };
        let picks = round.picks(&round.solve(), &clusters).into_values().flatten().flatten();
        let mine = |pick: &bus::Pick| {
            pick.queue == QUEUES[self.jobs[jobs].queue] && pick.priority as usize == jobs
        };
        picks.filter(mine).map(|pick| u64::from(pick.count)).sum()
    }

    fn is_placed(&self, job: Job) -> bool {
        self.placed(job.jobs) > job.nth
    }

    fn explain(&self, job: Job) -> PoolWhy {
        let (table, control) = (self.table(), self.control());
        let (claims, paces) = (Claims::new(), Paces::new(Duration::ZERO));
        let (usage, absent) = (Usage::default(), self.absent());
        let past = Past {
            claims: &claims,
            paces: &paces,
            usage: &usage,
            usage_weight: 1_000,
            absent: &absent,
        };
        let rates = (self.rates(), self.is_pool_over.then_some(0));
        let known = Known::new(&table, &control, past, rates, Duration::from_secs(60));
        let mine = &self.jobs[job.jobs];
        let before = self.jobs.iter().enumerate().filter(|(place, other)| {
            let higher = other.class > mine.class;
            other.queue == mine.queue && (higher || other.class == mine.class && *place < job.jobs)
        });
        let ahead = before.map(|(_, other)| other.count).sum::<u64>() + job.nth;
        let shape = ShapeText(Arc::new(mine.shape()));
        let place = LinePlace { ahead, ..LinePlace::default() };
        let asked = GetWhy { queue: QUEUES[mine.queue].to_owned(), shape, place };
        known.explain(&asked, Timestamp(0))
    }

    /// Without whoever goes before the job: it is alone. Shares stay what they are.
    fn alone(&self, job: Job) -> Self {
        let mut case = self.clone();
        case.wanted = Some(self.jobs.clone());
        for (place, jobs) in case.jobs.iter_mut().enumerate() {
            jobs.count = if place == job.jobs { 1 } else { 0 };
        }
        case
    }

    /// Without that.
    fn without(&self, blocker: &Blocker, job: Job) -> Self {
        let mut case = self.clone();
        let queue = self.jobs[job.jobs].queue;
        match blocker {
            Blocker::QueueCordoned { .. } => case.cordoned[queue] = false,
            Blocker::Limit { .. } => case.limits[queue] = None,
            Blocker::Rate { .. } => case.is_over[queue] = false,
            Blocker::PoolRate { .. } => case.is_pool_over = false,
            Blocker::Floating { .. } => case.licences = Some(100),
            Blocker::NoCluster { .. }
            | Blocker::NeverFits { .. }
            | Blocker::NodesClosed { .. }
            | Blocker::NoRoom { .. } => return self.with_room(job),
            other => panic!("{other:?} is not removed"),
        }
        case
    }

    /// What rules nodes out is put right on those that are named, until one has room.
    fn with_room(&self, job: Job) -> Self {
        let mut case = self.clone();
        if case.nodes.is_empty() {
            let node = NodeOf {
                cluster: 0,
                all: (100, 100),
                free: (100, 100),
                has_label: true,
                has_taint: false,
                is_ready: true,
                is_cordoned: false,
                is_failing: false,
            };
            case.nodes.push(node);
            case.cordoned_clusters = [false; 2];
        }
        for _ in 0..10 {
            let clusters = case.explain(job).clusters;
            if clusters.iter().any(|cluster| cluster.room > 0) {
                return case;
            }
            for ruled_out in clusters.iter().flat_map(|cluster| &cluster.ruled_out) {
                case.put_right(ruled_out);
            }
        }
        panic!("what is named is put right and there is still no room: {case:?}");
    }

    fn put_right(&mut self, ruled_out: &RuledOut) {
        let number: usize = ruled_out.nearest[1..].parse().unwrap();
        let node = &mut self.nodes[number];
        let amount = |text: &Option<String>| text.as_ref().unwrap().parse::<Quantity>().unwrap();
        let lacking = || match ruled_out.what.as_deref() {
            Some("cpu") => (amount(&ruled_out.lacks).units_ceil(), 0),
            Some("memory") => (0, amount(&ruled_out.lacks).units_ceil() >> 30),
            other => panic!("{other:?}"),
        };
        let plus = |a: (i64, i64), b: (i64, i64)| (a.0 + b.0, a.1 + b.1);
        match ruled_out.reason.as_str() {
            "label" => node.has_label = true,
            "taint" => node.has_taint = false,
            "tooSmall" => {
                (node.all, node.free) = (plus(node.all, lacking()), plus(node.free, lacking()));
            }
            "closed" => {
                (node.is_ready, node.is_cordoned) = (true, false);
                self.cordoned_clusters[node.cluster] = false;
            }
            "takenOut" => node.is_failing = false,
            "noRoom" => node.free = plus(node.free, lacking()),
            other => panic!("{other}"),
        }
    }
}

fn node() -> impl Strategy<Value = NodeOf> {
    let flags = (prop::bool::weighted(0.7), prop::bool::weighted(0.2));
    let closed = (prop::bool::weighted(0.15), prop::bool::weighted(0.15));
    let open = (prop::bool::weighted(0.85), closed);
    (0..2usize, (1..5i64, 1..5i64), (0..5i64, 0..5i64), flags, open).prop_map(
        |(cluster, all, free, (has_label, has_taint), (is_ready, (is_cordoned, is_failing)))| {
            NodeOf {
                cluster,
                all,
                free: (free.0.min(all.0), free.1.min(all.1)),
                has_label,
                has_taint,
                is_ready,
                is_cordoned,
                is_failing,
            }
        },
    )
}

fn jobs() -> impl Strategy<Value = Jobs> {
    let asks = (1..6i64, 1..6i64, 0..3i64);
    (0..3usize, 0..2usize, asks, any::<bool>(), any::<bool>(), 1..4u64).prop_map(
        |(queue, class, (cpu, memory, licences), selects, tolerates, count)| Jobs {
            queue,
            class,
            asks: (cpu, memory),
            selects,
            tolerates,
            licences,
            count,
        },
    )
}

fn case() -> impl Strategy<Value = (Case, Job)> {
    let rare = || [prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1)];
    let limit = || prop::option::weighted(0.3, (prop::option::of(0..2usize), 0..10i64));
    let absent = prop::option::weighted(0.2, 1..30i64);
    let of_pool = (3..7i64, prop::bool::weighted(0.1), absent);
    let clusters = ([prop::bool::weighted(0.1); 2], of_pool);
    let set = (rare(), [limit(), limit(), limit()], rare(), clusters);
    let job = (any::<prop::sample::Index>(), any::<prop::sample::Index>());
    (vec(node(), 0..5), vec(jobs(), 1..7), [0..6i64, 0..6, 0..6], set, job).prop_map(
        |(nodes, jobs, holds, (cordoned, limits, is_over, clusters), (which, nth))| {
            let (cordoned_clusters, (licences, is_pool_over, absent)) = clusters;
            let licences = Some(licences);
            let which = which.index(jobs.len());
            let nth = nth.index(usize::try_from(jobs[which].count).unwrap()) as u64;
            let case = Case {
                nodes,
                jobs,
                holds,
                cordoned,
                limits,
                is_over,
                cordoned_clusters,
                licences,
                is_pool_over,
                absent,
                wanted: None,
            };
            (case, Job { jobs: which, nth })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_named_keeps_the_job_by_itself_and_without_all_of_it_the_job_is_placed(
        (case, job) in case(),
    ) {
        let why = case.explain(job);
        let certain: Vec<&Blocker> = why
            .blockers
            .iter()
            .filter(|blocker| !matches!(blocker, Blocker::Line { .. } | Blocker::NextRound))
            .collect();
        if case.is_placed(job) {
            prop_assert!(certain.is_empty(), "it is placed: {:?}", certain);
        } else {
            prop_assert!(!why.blockers.is_empty() && why.blockers != [Blocker::NextRound]);
        }
        if why.blockers == [Blocker::NextRound] {
            prop_assert!(case.is_placed(job), "it is its turn and there is room");
        }
        let alone = case.alone(job);
        let sole = Job { nth: 0, ..job };
        if case.absent.is_some() {
            // Whatever else is put right changes the shares, too.
            let is_certain = |blocker: &Blocker| *blocker != Blocker::NextRound;
            let certain = alone.explain(sole).blockers.into_iter().filter(is_certain);
            if certain.collect::<Vec<_>>() == [Blocker::SharesKept { queues: 1 }] {
                prop_assert!(!alone.is_placed(sole));
                let back = Case { absent: None, ..alone };
                prop_assert!(back.is_placed(sole));
            }
            return Ok(());
        }
        let removed = certain.iter().fold(alone.clone(), |case, b| case.without(b, sole));
        prop_assert!(removed.is_placed(sole), "without all of {:?}", why.blockers);
        for (place, blocker) in certain.iter().enumerate() {
            let others = certain.iter().enumerate().filter(|(other, _)| *other != place);
            let kept = others.fold(alone.clone(), |case, (_, other)| case.without(other, sole));
            prop_assert!(!kept.is_placed(sole), "{:?} alone does not keep it", blocker);
        }
    }
}

#[test]
fn a_job_is_told_that_room_is_made_for_it_only_where_its_place_is_known() {
    let jobs = Jobs {
        queue: 0,
        class: 0,
        asks: (1, 1),
        selects: false,
        tolerates: false,
        licences: 0,
        count: 5,
    };
    let case = Case {
        nodes: Vec::new(),
        jobs: vec![jobs],
        holds: [0; 3],
        cordoned: [false; 3],
        limits: [None; 3],
        is_over: [false; 3],
        cordoned_clusters: [false; 2],
        licences: None,
        is_pool_over: false,
        absent: None,
        wanted: None,
    };
    let (table, control) = (case.table(), case.control());
    let (cluster, node) = (Name::from("c"), Name::from("n"));
    let claimed = Claimed { first: 1, count: 2, cluster, node, is_preempting: true, by: None };
    let sure = Claimed { by: Some(Timestamp(95_000)), is_preempting: false, ..claimed.clone() };
    let sure = Claimed { first: 3, count: 1, ..sure };
    let claims = Claims::from([("a".into(), vec![claimed, sure])]);
    let paces = Paces::new(Duration::ZERO);
    let (usage, absent) = (Usage::default(), Absent::new());
    let past = Past {
        claims: &claims,
        paces: &paces,
        usage: &usage,
        usage_weight: 1_000,
        absent: &absent,
    };
    let rates = (BTreeMap::new(), None);
    let known = Known::new(&table, &control, past, rates, Duration::from_secs(9));
    let told = |ahead: u64, ahead_max: Option<u64>| {
        let place = LinePlace { ahead, ahead_max, ..LinePlace::default() };
        let shape = ShapeText(Arc::new(case.jobs[0].shape()));
        let why = known.explain(&GetWhy { queue: "a".into(), shape, place }, Timestamp(5_000));
        let of = |blocker: &Blocker| match blocker {
            Blocker::Claimed { preempting, by, .. } => Some((*preempting, by.clone())),
            _ => None,
        };
        (why.blockers.iter().find_map(of), why.estimate.seconds)
    };
    let made = (Some((true, None)), None);
    let sure = (Some((false, Some("1970-01-01T00:01:35.000Z".to_owned()))), None);
    let of_each = [0, 1, 2, 3, 4].map(|ahead| told(ahead, None));
    assert_eq!(of_each, [(None, None), made.clone(), made, sure, (None, None)]);
    assert_eq!(told(1, Some(4)), (None, None));
    let when = claims["a"].iter().map(|claimed| when_sure(claimed, Timestamp(5_000)));
    assert_eq!(when.map(|when| when?.seconds).collect::<Vec<_>>(), [None, Some(90)]);
}

#[test]
fn an_estimate_says_what_it_is_based_on_or_why_there_is_none() {
    let place = LinePlace { ahead: 19, ..LinePlace::default() };
    let pace = |jobs| Pace { jobs, time: Duration::from_secs(60) };
    let given = estimate(&place, pace(30), false);
    assert_eq!(given.seconds, Some(40));
    assert_eq!(
        given.basis,
        "19 jobs of its queue stand before it, and 30 were placed in the last 60 s"
    );
    assert_eq!(estimate(&place, pace(0), false).seconds, None);
    assert_eq!(estimate(&place, pace(30), true).seconds, None);
    // Of a long line the worst is told.
    let long = LinePlace { ahead_max: Some(59), ..place };
    assert_eq!(estimate(&long, pace(30), false).seconds, Some(120));
}
