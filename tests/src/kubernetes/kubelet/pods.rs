//! The pods of all virtual nodes: one watch, one queue of what is due, a bounded number of reports
//! on their way.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Event as Told, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use super::status::{self, Change};
use super::tracked::{Stage, Tracked, has_ended, is_running};

/// Reports that are on their way at the same time.
const REPORTS: usize = 32;
/// How long a pod that has ended stays when it is deleted, at least: the API server has removed
/// most of them by then, and need not be asked.
const REMOVAL: Duration = Duration::from_millis(500);
/// How long to wait with what the API server did not take, and with what a silent node shall do.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a pod without an image waits until the kubelet tries less often.
const PULL_TIME: Duration = Duration::from_secs(1);

/// Something that is due for a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// To look at a pod that was bound.
    Begin,
    /// To try less often to get its image.
    BackOff,
    /// Its end.
    End,
    /// Its end, since it took too long.
    Deadline,
    /// Its end and removal, since it is deleted.
    Kill,
}

/// A report that has come through, or has not.
type Reported = (String, Step, Change, kube::Result<()>);

/// All pods of the virtual nodes.
pub(super) struct Pods {
    client: Client,
    shared: Arc<Shared>,
    pods: HashMap<String, Tracked>,
    /// What is due when; the number keeps those of one moment apart.
    due: BTreeMap<(Instant, u64), (String, Step)>,
    ready: VecDeque<(String, Step)>,
    reports: FuturesUnordered<BoxFuture<'static, Reported>>,
    listed: BTreeSet<String>,
    counter: u64,
}

impl Pods {
    pub(super) fn new(client: Client, shared: Arc<Shared>) -> Self {
        Self {
            client,
            shared,
            pods: HashMap::new(),
            due: BTreeMap::new(),
            ready: VecDeque::new(),
            reports: FuturesUnordered::new(),
            listed: BTreeSet::new(),
            counter: 0,
        }
    }

    /// Goes on until the runtime ends.
    pub(super) async fn run(mut self) {
        let bound = watcher::Config::default().fields("spec.nodeName!=").streaming_lists();
        let mut changes = watcher(Api::<Pod>::all(self.client.clone()), bound).boxed();
        loop {
            while self.reports.len() < REPORTS
                && let Some((uid, step)) = self.ready.pop_front()
            {
                self.take(uid, step);
            }
            let next = self.due.first_key_value().map(|((when, _), _)| *when);
            tokio::select! {
                change = changes.next() => match change {
                    Some(Ok(change)) => self.changed(change),
                    Some(Err(error)) => {
                        self.shared.log(&format!("watch: {error}"));
                        sleep(PAUSE).await;
                    }
                    None => return self.shared.log("the watch has ended"),
                },
                Some(reported) = self.reports.next() => self.reported(reported),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    let now = Instant::now();
                    while let Some(entry) = self.due.first_entry()
                        && entry.key().0 <= now
                    {
                        self.ready.push_back(entry.remove());
                    }
                }
            }
        }
    }

    fn after(&mut self, pause: Duration, uid: &str, step: Step) {
        self.counter += 1;
        self.due.insert((Instant::now() + pause, self.counter), (uid.to_owned(), step));
    }

    fn changed(&mut self, change: Event<Pod>) {
        match change {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.seen(&pod);
            }
            Event::InitDone => {
                let gone: Vec<_> =
                    self.pods.keys().filter(|uid| !self.listed.contains(*uid)).cloned().collect();
                for uid in gone {
                    self.forget(&uid);
                }
                self.listed.clear();
            }
            Event::Apply(pod) => self.seen(&pod),
            Event::Delete(pod) => self.forget(pod.metadata.uid.as_deref().unwrap_or_default()),
        }
    }

    fn seen(&mut self, pod: &Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        if !self.pods.contains_key(&uid) {
            self.counter += 1;
            let Some(tracked) = Tracked::of(pod, self.counter) else { return };
            if self.shared.room(&tracked.node, |_| ()).is_none() {
                return;
            }
            if tracked.stage == Stage::Bound {
                let pause = tracked.behaviour.as_ref().map_or(Duration::ZERO, |it| it.starts_after);
                self.after(pause, &uid, Step::Begin);
            }
            self.pods.insert(uid.clone(), tracked);
        }
        let Some(tracked) = self.pods.get_mut(&uid) else { return };
        tracked.shown |= is_running(pod);
        if tracked.shown && std::mem::take(&mut tracked.ends_when_shown) {
            self.ready.push_back((uid.clone(), Step::End));
        }
        if has_ended(pod) {
            tracked.stage = Stage::Ended;
            leave(&self.shared, tracked);
            self.shared.logs.end(tracked);
        }
        if pod.metadata.deletion_timestamp.is_some() && !tracked.dying {
            tracked.dying = true;
            let pause = tracked.behaviour.as_ref().map_or(Some(Duration::ZERO), |it| it.dies_after);
            let least = if tracked.stage == Stage::Ended { REMOVAL } else { Duration::ZERO };
            if let Some(pause) = pause.map(|pause| pause.max(least)) {
                self.after(pause, &uid, Step::Kill);
            }
        }
    }

    fn forget(&mut self, uid: &str) {
        if let Some(mut tracked) = self.pods.remove(uid) {
            leave(&self.shared, &mut tracked);
            self.shared.logs.remove(&tracked);
        }
    }

    /// Does what is due, or puts it off.
    fn take(&mut self, uid: String, step: Step) {
        let Some(tracked) = self.pods.get_mut(&uid) else { return };
        if tracked.busy || self.shared.is_silent(&tracked.node) {
            return self.after(PAUSE, &uid, step);
        }
        // A report on one that the API server's own cache has not seen yet is done twice there. A
        // real kubelet looks once a second how its containers are, and hardly ever comes to that.
        if step == Step::End && tracked.stage == Stage::Running && !tracked.shown {
            tracked.ends_when_shown = true;
            return;
        }
        let Some(change) = due(&self.shared, tracked, step) else { return };
        tracked.busy = true;
        let report = report(self.client.clone(), self.shared.clone(), tracked, &change, step);
        self.reports.push(report.map(move |outcome| (uid, step, change, outcome)).boxed());
    }

    fn reported(&mut self, (uid, step, change, outcome): Reported) {
        let Some(tracked) = self.pods.get_mut(&uid) else { return };
        tracked.busy = false;
        match outcome {
            Ok(()) => {}
            // Another pod has its name: the watch says so soon.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
            Err(error) => {
                let name = format!("{}/{}", tracked.namespace, tracked.name);
                self.shared.log(&format!("report of {name}: {error}"));
                return self.after(PAUSE, &uid, step);
            }
        }
        match change {
            Change::Runs => {
                tracked.stage = Stage::Running;
                self.shared.logs.begin(tracked);
                let Ok(behaviour) = &tracked.behaviour else { return };
                let end = behaviour.run_time(&tracked.namespace, &tracked.name);
                let deadline = tracked.deadline;
                if let Some(end) = end {
                    self.after(end, &uid, Step::End);
                }
                if let Some(deadline) = deadline {
                    self.after(deadline, &uid, Step::Deadline);
                }
            }
            Change::NoImage { for_long: false } => {
                tracked.stage = Stage::Waiting;
                self.after(PULL_TIME, &uid, Step::BackOff);
            }
            Change::NoImage { .. } | Change::NoVolume => tracked.stage = Stage::Waiting,
            Change::Refused(..) | Change::Ends(..) | Change::Late | Change::Killed => {
                tracked.stage = Stage::Ended;
                leave(&self.shared, tracked);
                self.shared.logs.end(tracked);
            }
        }
    }
}

/// Gives back the room of a pod, if it holds any.
fn leave(shared: &Shared, tracked: &mut Tracked) {
    if std::mem::take(&mut tracked.admitted) {
        shared.room(&tracked.node, |room| room.give_back(&tracked.wanted));
    }
}

/// What happens to a pod now, if anything.
fn due(shared: &Shared, tracked: &mut Tracked, step: Step) -> Option<Change> {
    match (step, tracked.stage) {
        (Step::Kill, _) => Some(Change::Killed),
        (Step::Begin, Stage::Bound) if !tracked.dying => Some(begin(shared, tracked)),
        (Step::BackOff, Stage::Waiting) => Some(Change::NoImage { for_long: true }),
        (Step::End, Stage::Running) => {
            let behaviour = tracked.behaviour.as_ref().ok()?;
            Some(Change::Ends(behaviour.end, behaviour.message.clone()))
        }
        (Step::Deadline, Stage::Running | Stage::Waiting) => Some(Change::Late),
        _ => None,
    }
}

/// What a kubelet does with a pod that was bound to its node.
fn begin(shared: &Shared, tracked: &mut Tracked) -> Change {
    let refused = |reason: &str, text: String| Change::Refused(reason.to_owned(), text);
    let behaviour = match &tracked.behaviour {
        Ok(behaviour) => behaviour.clone(),
        Err(text) => return refused("InvalidAnnotation", text.clone()),
    };
    if let Some(reason) = &behaviour.rejected {
        return refused(reason, format!("Pod was rejected: {reason}"));
    }
    if !tracked.admitted {
        let room = shared.room(&tracked.node, |room| {
            if !room.fits_selector(&tracked.node_selector) {
                let text = "Pod was rejected: Predicate NodeAffinity failed";
                return Err(refused("NodeAffinity", text.to_owned()));
            }
            room.take(&tracked.wanted).map_err(|resource| {
                let text = format!("Node didn't have enough resource: {resource}");
                refused(&format!("OutOf{resource}"), format!("Pod was rejected: {text}"))
            })
        });
        match room {
            Some(Ok(())) => tracked.admitted = true,
            Some(Err(change)) => return change,
            None => return refused("NodeLost", "the node is not there".to_owned()),
        }
    }
    tracked.started = shared.now();
    match (behaviour.image_missing, behaviour.volume_missing) {
        (true, _) => Change::NoImage { for_long: false },
        (_, true) => Change::NoVolume,
        _ => Change::Runs,
    }
}

/// Tells the API server.
fn report(
    client: Client,
    shared: Arc<Shared>,
    tracked: &Tracked,
    change: &Change,
    step: Step,
) -> impl Future<Output = kube::Result<()>> + Send + use<> {
    let now = shared.now();
    let api = Api::<Pod>::namespaced(client.clone(), &tracked.namespace);
    let (name, uid) = (tracked.name.clone(), tracked.uid.clone());
    let patch = (tracked.stage != Stage::Ended).then(|| status::patch(tracked, change, now));
    let told =
        status::event(tracked, change).map(|(reason, text)| told(tracked, reason, &text, now));
    let events = Api::<Told>::namespaced(client, &tracked.namespace);
    async move {
        if let Some(patch) = patch {
            api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
        }
        match told.map(serde_json::from_value::<Told>) {
            None => {}
            // An event is told once, or not at all, as by a real kubelet.
            Some(Ok(event)) => {
                if let Err(error) = events.create(&PostParams::default(), &event).await {
                    shared.log(&format!("event for {name}: {error}"));
                }
            }
            Some(Err(error)) => shared.log(&format!("event for {name}: {error}")),
        }
        if step == Step::Kill {
            let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
            let params =
                DeleteParams { grace_period_seconds: Some(0), preconditions, ..Default::default() };
            api.delete(&name, &params).await?;
        }
        Ok(())
    }
}

fn told(tracked: &Tracked, reason: &str, text: &str, now: Timestamp) -> serde_json::Value {
    let now = status::time(now);
    json!({
        "metadata": {
            "generateName": format!("{}.", tracked.name), "namespace": tracked.namespace,
        },
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": tracked.namespace,
            "name": tracked.name, "uid": tracked.uid,
        },
        "reason": reason, "message": text, "type": "Warning", "count": 1,
        "source": { "component": "kubelet", "host": tracked.node },
        "firstTimestamp": now, "lastTimestamp": now,
    })
}
