//! The control data in the object store: `control/{version}.json`, one object a version, never
//! deleted.
//!
//! A change reads the newest version, makes the next one of it and creates its object; whoever
//! finds the object there already has lost the race and starts over. Each object carries a nonce,
//! by which a writer that heard nothing recognises its own write.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use muster_core::control::Control;
use object_store::path::Path;
use tokio::sync::watch;

use super::{Created, Store};
use crate::bus::Subscription;
use crate::config::HumanDuration;
use crate::{Clock, Random, retry};

mod document;

use document::{decode, encode};

/// How often one change may lose against others.
const LOSSES_MAX: u32 = 100;
/// How often one write is tried again after requests that failed.
const FAILURES_MAX: u32 = 5;
/// Time between two looks for control data that no wake-up told of.
const POLL: Duration = Duration::from_secs(300);
/// The same after a look that failed: somebody may have told of a change.
const POLL_AFTER_FAILURE: Duration = Duration::from_secs(2);
const DELAY_FIRST: HumanDuration = HumanDuration::millis(5);
const DELAY_MAX: HumanDuration = HumanDuration::millis(500);

/// Why the control data could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed. A change may have been made all the same.
    #[error("the object store did not answer for the control data")]
    Request(#[from] object_store::Error),
    /// An object that this program does not understand.
    #[error("control object `{key}` cannot be read: {reason}")]
    Malformed {
        /// The object.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Others came first too often.
    #[error("control data changed {0} times while it was to be changed")]
    Contended(u32),
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// The change itself said no.
    #[error(transparent)]
    Refused(E),
    /// The store or the others said no.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Reads and changes the control data. Clones share what is known.
#[derive(Debug, Clone)]
pub struct ControlStore {
    store: Store,
    random: Random,
    known: watch::Sender<Arc<Control>>,
}

/// The newest control data that this process knows.
#[derive(Debug, Clone)]
pub struct ControlView {
    known: watch::Receiver<Arc<Control>>,
}

impl ControlStore {
    /// Knows nothing yet: version 0.
    #[must_use]
    pub fn new(store: Store, random: Random) -> Self {
        Self { store, random, known: watch::Sender::new(Arc::default()) }
    }

    /// A handle that shows what is known, and wakes when that changes.
    #[must_use]
    pub fn view(&self) -> ControlView {
        ControlView { known: self.known.subscribe() }
    }

    /// Finds the newest version by listing what is newer than the known one: for the start.
    ///
    /// # Errors
    /// When the store fails or the object is malformed.
    pub async fn load_latest(&self) -> Result<Arc<Control>, Error> {
        let prefix = Path::from("control");
        let offset = key(self.latest().version);
        let newer = self.store.objects().list_with_offset(Some(&prefix), &offset);
        let newest = newer
            .try_fold(
                None,
                |newest, object| async move { Ok(newest.max(version_of(&object.location))) },
            )
            .await?;
        if let Some(version) = newest
            && let Some((control, _)) = self.read(version).await?
        {
            self.learn(Arc::new(control));
        }
        self.refresh().await
    }

    /// Reads versions from the known one on until there is no more: one request when nothing
    /// changed.
    ///
    /// # Errors
    /// When the store fails or an object is malformed.
    pub async fn refresh(&self) -> Result<Arc<Control>, Error> {
        loop {
            match self.read(self.latest().version + 1).await? {
                Some((control, _)) => self.learn(Arc::new(control)),
                None => return Ok(self.latest()),
            }
        }
    }

    /// Keeps what is known fresh: looks for newer versions whenever a wake-up comes, and every few
    /// minutes without. Ends only with the bus; what fails is tried again with the next look.
    pub async fn follow(&self, mut wake_ups: Subscription, clock: &Clock) {
        let mut pause = POLL;
        loop {
            let pause_now = self.random.jitter(pause, 0.1);
            tokio::select! {
                biased;
                wake_up = wake_ups.next() => {
                    if wake_up.is_none() {
                        return;
                    }
                }
                () = clock.sleep(pause_now) => {}
            }
            pause = POLL;
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "the control data could not be refreshed");
                pause = POLL_AFTER_FAILURE;
            }
        }
    }

    /// Makes the next version of the newest one. `change` may be asked several times, each time
    /// with a newer version; when it returns the version that it was given, nothing is written.
    ///
    /// # Errors
    /// When `change` refuses, the store fails for long or others always come first. After a failed
    /// request it is unknown whether the change was made.
    ///
    /// # Panics
    /// When `change` returns neither the version that it was given nor the one after it.
    pub async fn change<E>(
        &self,
        change: impl Fn(&Control) -> Result<Control, E>,
    ) -> Result<Arc<Control>, ChangeError<E>> {
        self.refresh().await?;
        for delay in delays(LOSSES_MAX, &self.random) {
            let base = self.latest();
            let next = change(&base).map_err(ChangeError::Refused)?;
            if next.version == base.version {
                return Ok(base);
            }
            assert_eq!(next.version, base.version + 1, "a change makes the next version");
            match self.write(&next).await? {
                Written::Ours => {
                    let next = Arc::new(next);
                    self.learn(Arc::clone(&next));
                    return Ok(next);
                }
                Written::Lost => tokio::time::sleep(delay).await,
            }
            self.refresh().await?;
        }
        Err(Error::Contended(LOSSES_MAX).into())
    }

    /// Keeps the number of shards that this process is set to, if none is kept yet.
    ///
    /// # Errors
    /// When another number is kept, or the store fails.
    pub async fn keep_shards(
        &self,
        shards: u16,
    ) -> Result<Arc<Control>, ChangeError<muster_core::control::Error>> {
        self.change(|control| control.with_shards(shards)).await
    }

    /// Creates the object of `next`. Where the store's answer leaves it open what came of it, the
    /// object is read; where nothing is there, the same object is written again, for the first
    /// write may land yet.
    async fn write(&self, next: &Control) -> Result<Written, Error> {
        let nonce = format!("{:032x}", self.random.u128());
        let document = encode(next, &nonce);
        let mut delays = delays(FAILURES_MAX, &self.random);
        loop {
            let created = self.store.create(&key(next.version), document.clone()).await;
            if let Ok(Created::Yes) = created {
                return Ok(Written::Ours);
            }
            let failure = match self.read(next.version).await {
                Ok(Some((_, there))) if there == nonce => return Ok(Written::Ours),
                Ok(Some(_)) => return Ok(Written::Lost),
                Ok(None) => created.err().map(Error::from),
                Err(error @ Error::Malformed { .. }) => return Err(error),
                Err(error) => Some(error),
            };
            let Some(delay) = delays.next() else {
                return Err(failure.unwrap_or(Error::Contended(FAILURES_MAX)));
            };
            tokio::time::sleep(delay).await;
        }
    }

    async fn read(&self, version: u64) -> Result<Option<(Control, String)>, Error> {
        let key = key(version);
        let Some(data) = self.store.read(&key).await? else { return Ok(None) };
        let malformed = |reason| Error::Malformed { key: key.to_string(), reason };
        let (control, nonce) = decode(&data).map_err(malformed)?;
        if control.version == version {
            Ok(Some((control, nonce)))
        } else {
            Err(malformed(format!("it says that it is version {}", control.version)))
        }
    }

    fn latest(&self) -> Arc<Control> {
        Arc::clone(&self.known.borrow())
    }

    fn learn(&self, control: Arc<Control>) {
        self.known.send_if_modified(|known| {
            let newer = control.version > known.version;
            if newer {
                *known = control;
            }
            newer
        });
    }
}

impl ControlView {
    /// A view that never changes: for tests.
    #[must_use]
    pub fn fixed(control: Control) -> Self {
        let (_, known) = watch::channel(Arc::new(control));
        Self { known }
    }

    /// The newest version known.
    #[must_use]
    pub fn latest(&self) -> Arc<Control> {
        Arc::clone(&self.known.borrow())
    }

    /// Waits for a version that this handle did not return yet, and returns it. Never returns once
    /// the [`ControlStore`] is gone.
    pub async fn changed(&mut self) -> Arc<Control> {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        Arc::clone(&self.known.borrow_and_update())
    }
}

enum Written {
    Ours,
    Lost,
}

fn key(version: u64) -> Path {
    Path::from_iter(["control".to_owned(), format!("{version:020}.json")])
}

fn version_of(key: &Path) -> Option<u64> {
    key.filename()?.strip_suffix(".json")?.parse().ok()
}

fn delays(retries_max: u32, random: &Random) -> retry::Delays {
    let policy = retry::Policy {
        delay_first: DELAY_FIRST,
        delay_max: DELAY_MAX,
        factor: 1.5,
        jitter: 1.0,
        retries_max: Some(retries_max),
    };
    policy.delays(random.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::sync::atomic::Ordering;

    use futures::future::join_all;
    use muster_core::control::Queue;

    use super::super::faulty::Faulty;
    use super::super::{Config, open};
    use super::*;

    fn control_store(store: &Store, seed: u64) -> ControlStore {
        ControlStore::new(store.clone(), Random::seeded(seed))
    }

    fn queue(weight_millis: u64) -> Queue {
        let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        Queue { weight_millis, labels, cordoned: true, ..Queue::default() }
    }

    fn add(name: String) -> impl Fn(&Control) -> Result<Control, muster_core::control::Error> {
        move |control| control.with_queue(&name, queue(1500))
    }

    #[tokio::test]
    async fn a_change_is_seen_by_others_and_by_a_restart() {
        let store = open(&Config::at("memory:///")).unwrap();
        let (one, two) = (control_store(&store, 1), control_store(&store, 2));
        let mut view = two.view();
        let changed = one.change(add("a".to_owned())).await.unwrap();
        assert_eq!((changed.version, changed.queues["a"].weight_millis), (1, 1500));
        two.refresh().await.unwrap();
        assert_eq!(view.changed().await, changed);
        for n in 0..20 {
            one.change(add(format!("q{n}"))).await.unwrap();
        }
        let restarted = control_store(&store, 3);
        let before = store.requests();
        assert_eq!(*restarted.load_latest().await.unwrap(), *one.view().latest());
        assert_eq!(store.requests().since(&before).total(), 3);
        let before = store.requests();
        restarted.refresh().await.unwrap();
        assert_eq!(store.requests().since(&before).total(), 1);
    }

    #[tokio::test]
    async fn an_empty_store_has_version_0_and_a_refused_or_empty_change_writes_nothing() {
        let store = open(&Config::at("memory:///")).unwrap();
        let control = control_store(&store, 1);
        assert_eq!(*control.load_latest().await.unwrap(), Control::default());
        let refused = control.change(|_| Err::<Control, &str>("no")).await;
        assert!(matches!(refused, Err(ChangeError::Refused("no"))));
        let same = control.change(|now| Ok::<_, Infallible>(now.clone())).await.unwrap();
        assert_eq!((same.version, store.requests().put), (0, 0));
    }

    #[tokio::test]
    async fn the_first_process_keeps_its_number_of_shards_and_another_is_refused() {
        use muster_core::control::Error::Shards;
        let store = open(&Config::at("memory:///")).unwrap();
        // A deployment of a version that did not keep it yet.
        control_store(&store, 1).change(add("a".to_owned())).await.unwrap();
        let (one, two) = (control_store(&store, 1), control_store(&store, 2));
        let (one, two) = tokio::join!(one.keep_shards(8), two.keep_shards(4));
        let kept = if one.is_ok() { 8 } else { 4 };
        assert_ne!(one.is_ok(), two.is_ok());
        let later = control_store(&store, 3);
        later.load_latest().await.unwrap();
        let before = store.requests();
        assert_eq!(later.keep_shards(kept).await.unwrap().shards, Some(kept));
        assert_eq!(store.requests().since(&before).put, 0);
        let refused = later.keep_shards(kept + 1).await;
        let Err(ChangeError::Refused(refused)) = refused else { panic!("{refused:?}") };
        assert_eq!(refused, Shards { kept, given: kept + 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_many_writers_all_land() {
        let faulty = Faulty::new();
        faulty.answer_slowly.store(true, Ordering::SeqCst);
        let store = faulty.store();
        let writers = (0..8).map(|writer| {
            let control = control_store(&store, writer);
            async move {
                for n in 0..10 {
                    control.change(add(format!("w{writer}-{n}"))).await.unwrap();
                }
            }
        });
        join_all(writers).await;
        let latest = control_store(&store, 99).load_latest().await.unwrap();
        assert_eq!((latest.version, latest.queues.len()), (80, 80));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_landed_unheard_is_ours_and_one_that_did_not_is_repeated() {
        let faulty = Faulty::new();
        let store = faulty.store();
        let control = control_store(&store, 1);
        faulty.fail_after_writing.store(1, Ordering::SeqCst);
        control.change(add("a".to_owned())).await.unwrap();
        faulty.fail_before_writing.store(3, Ordering::SeqCst);
        let latest = control.change(add("b".to_owned())).await.unwrap();
        assert_eq!(latest.version, 2);
        faulty.fail_before_writing.store(u64::from(FAILURES_MAX) + 1, Ordering::SeqCst);
        let failed = control.change(add("c".to_owned())).await;
        assert!(matches!(failed, Err(ChangeError::Store(Error::Request(_)))), "{failed:?}");
    }
}
