//! A list that is kept up to date: all objects that a selector names, and every change of them.
//!
//! One stream that never fails. It lists (streamed, where the server has that, else page by page,
//! either way no older than the newest), then watches from there; when the server has forgotten the
//! place, when a connection is silent for too long, and now and then without reason, it lists
//! again: an event that was lost is made good by the next list.

use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use muster_runtime::{Clock, Random, retry};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::{self, Api};
use super::object::{Meta, Object};

/// Objects in one page of a list.
const PAGE: u32 = 500;
/// How long the server keeps a watch open.
const WATCH_TIME: Duration = Duration::from_secs(290);
/// How much longer a connection may be silent before it counts as dead.
const SILENCE_EXTRA: Duration = Duration::from_secs(10);
/// How long a list may take, a page or a piece of it.
const LIST_TIME: Duration = Duration::from_secs(60);
/// What the server names an object by that only says how far a watch has come.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// What is said of the objects.
#[derive(Debug)]
pub(super) enum Said<T> {
    /// A list begins: what it does not name is gone.
    Listing,
    /// An object is there, or has changed.
    There(T),
    /// The list is at its end.
    Listed,
    /// An object is gone; as it was at last.
    Gone(T),
}

/// What to watch.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    /// The path of the objects.
    pub(super) path: &'static str,
    /// Which of them, by label.
    pub(super) labels: Option<String>,
    /// Which of them, by field.
    pub(super) fields: Option<&'static str>,
    /// How often they are listed anew.
    pub(super) relist_interval: Duration,
}

struct Watch<T> {
    api: Api,
    watched: Watched,
    clock: Clock,
    random: Random,
    delays: Option<retry::Delays>,
    /// Whether the server streams lists, as far as is known.
    streams_lists: bool,
    listed_at: Duration,
    state: State<T>,
}

enum State<T> {
    Begin,
    /// The page to ask for next.
    Page(Option<String>),
    /// What is left of a page, and what comes behind it.
    Items(std::vec::IntoIter<T>, Behind),
    /// The list as a stream.
    Initial(Events<T>),
    /// To be watched from this version on.
    From(String),
    Watching(String, Events<T>),
}

enum Behind {
    Page(String),
    End(String),
}

type Events<T> = BoxStream<'static, Result<WatchEvent<T>, kube::Error>>;

#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: PageMeta,
    items: Option<Vec<T>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

/// Something to be said, or only a step further.
type Step<T> = Result<(Option<Said<T>>, State<T>), Trouble<T>>;

/// What went wrong, and where to go on.
struct Trouble<T>(kube::Error, State<T>);

/// The objects that are watched.
pub(super) fn watch<T>(
    api: Api,
    watched: Watched,
    random: Random,
) -> impl Stream<Item = Said<T>> + Send
where
    T: Object + DeserializeOwned + Clone + Send + 'static,
{
    let watch = Watch {
        clock: api.clock.clone(),
        api,
        watched,
        random,
        delays: None,
        streams_lists: true,
        listed_at: Duration::ZERO,
        state: State::Begin,
    };
    stream::unfold(watch, |mut watch| async move {
        let said = watch.next().await;
        Some((said, watch))
    })
}

impl<T> Watch<T>
where
    T: Object + DeserializeOwned + Clone + Send + 'static,
{
    async fn next(&mut self) -> Said<T> {
        loop {
            let state = std::mem::replace(&mut self.state, State::Begin);
            match self.step(state).await {
                Ok((said, state)) => {
                    self.state = state;
                    if let Some(said) = said {
                        self.delays = None;
                        return said;
                    }
                }
                Err(Trouble(error, state)) => {
                    self.state = state;
                    self.trouble(&error).await;
                }
            }
        }
    }

    async fn trouble(&mut self, error: &kube::Error) {
        let random = self.random.clone();
        let is_first = self.delays.is_none();
        let delays = self.delays.get_or_insert_with(|| retry::Policy::default().delays(random));
        let delay = delays.next().expect("the policy never gives up");
        let (path, fields) = (self.watched.path, self.watched.fields);
        let is_refused =
            matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403));
        let error = client::explained(error);
        if is_refused {
            tracing::error!(path, %error, "the executor may not watch what it has to");
        } else if is_first {
            tracing::info!(path, ?fields, %error, "a watch was interrupted");
        } else {
            tracing::warn!(path, ?fields, %error, "a watch is interrupted");
        }
        self.clock.sleep(delay).await;
    }

    async fn step(&mut self, state: State<T>) -> Step<T> {
        match state {
            State::Begin => self.begin().await,
            State::Page(next) => self.page(next).await,
            State::Items(mut items, behind) => Ok(match (items.next(), behind) {
                (Some(item), behind) => (Some(Said::There(item)), State::Items(items, behind)),
                (None, Behind::Page(next)) => (None, State::Page(Some(next))),
                (None, Behind::End(version)) => (Some(Said::Listed), State::From(version)),
            }),
            State::Initial(events) => self.initial(events).await,
            State::From(version) => self.open(version).await,
            State::Watching(version, events) => self.event(version, events).await,
        }
    }

    async fn begin(&mut self) -> Step<T> {
        self.listed_at = self.clock.monotonic();
        if !self.streams_lists {
            return Ok((Some(Said::Listing), State::Page(None)));
        }
        match self.events("", true).await {
            Ok(events) => Ok((Some(Said::Listing), State::Initial(events))),
            Err(kube::Error::Api(status)) if status.code == 422 || status.code == 400 => {
                self.streams_lists = false;
                Ok((None, State::Begin))
            }
            Err(error) => Err(Trouble(error, State::Begin)),
        }
    }

    async fn page(&mut self, next: Option<String>) -> Step<T> {
        let params = ListParams {
            label_selector: self.watched.labels.clone(),
            field_selector: self.watched.fields.map(str::to_owned),
            limit: Some(PAGE),
            continue_token: next.clone(),
            ..ListParams::default()
        };
        let asked = async {
            let request = Request::new(self.watched.path).list(&params);
            let request = request.map_err(kube::Error::BuildRequest)?;
            self.api.client().await.request::<Page<T>>(request).await
        };
        let page = tokio::select! {
            biased;
            page = asked => page,
            () = self.clock.sleep(LIST_TIME) => Err(silent()),
        };
        match page {
            Ok(page) => {
                let behind = match page.metadata.next {
                    next if next.is_empty() => Behind::End(page.metadata.resource_version),
                    next => Behind::Page(next),
                };
                Ok((None, State::Items(page.items.unwrap_or_default().into_iter(), behind)))
            }
            // The server has forgotten the list that this is a page of.
            Err(kube::Error::Api(status)) if status.code == 410 => Ok((None, State::Begin)),
            Err(error) => Err(Trouble(error, State::Page(next))),
        }
    }

    async fn initial(&mut self, mut events: Events<T>) -> Step<T> {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            () = self.clock.sleep(LIST_TIME) => Some(Err(silent())),
        };
        Ok(match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                (Some(Said::There(object)), State::Initial(events))
            }
            Some(Ok(WatchEvent::Deleted(object))) => {
                (Some(Said::Gone(object)), State::Initial(events))
            }
            Some(Ok(WatchEvent::Bookmark(mark))) => {
                let is_end = mark.metadata.annotations.contains_key(INITIAL_END);
                let version = mark.metadata.resource_version;
                if is_end {
                    (Some(Said::Listed), State::Watching(version, events))
                } else {
                    (None, State::Initial(events))
                }
            }
            Some(Ok(WatchEvent::Error(status))) => {
                return Err(Trouble(kube::Error::Api(status.boxed()), State::Begin));
            }
            Some(Err(error)) => return Err(Trouble(error, State::Begin)),
            None => (None, State::Begin),
        })
    }

    async fn open(&mut self, version: String) -> Step<T> {
        if self.clock.monotonic() - self.listed_at >= self.watched.relist_interval {
            return Ok((None, State::Begin));
        }
        match self.events(&version, false).await {
            Ok(events) => Ok((None, State::Watching(version, events))),
            Err(kube::Error::Api(status)) if status.code == 410 => Ok((None, State::Begin)),
            Err(error) => Err(Trouble(error, State::From(version))),
        }
    }

    async fn event(&mut self, version: String, mut events: Events<T>) -> Step<T> {
        let silence = self.watch_time() + SILENCE_EXTRA;
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            () = self.clock.sleep(silence) => None,
        };
        Ok(match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                let version = newer(object.meta(), version);
                (Some(Said::There(object)), State::Watching(version, events))
            }
            Some(Ok(WatchEvent::Deleted(object))) => {
                let version = newer(object.meta(), version);
                (Some(Said::Gone(object)), State::Watching(version, events))
            }
            Some(Ok(WatchEvent::Bookmark(mark))) => {
                (None, State::Watching(mark.metadata.resource_version, events))
            }
            Some(Ok(WatchEvent::Error(status))) if status.code == 410 => (None, State::Begin),
            Some(Ok(WatchEvent::Error(status))) => {
                let error = kube::Error::Api(status.boxed());
                return Err(Trouble(error, State::From(version)));
            }
            Some(Err(error)) => return Err(Trouble(error, State::From(version))),
            None => (None, State::From(version)),
        })
    }

    fn watch_time(&self) -> Duration {
        WATCH_TIME.min(self.watched.relist_interval).max(Duration::from_secs(1))
    }

    async fn events(&mut self, version: &str, is_list: bool) -> Result<Events<T>, kube::Error> {
        let params = WatchParams {
            label_selector: self.watched.labels.clone(),
            field_selector: self.watched.fields.map(str::to_owned),
            timeout: u32::try_from(self.watch_time().as_secs()).ok(),
            bookmarks: true,
            send_initial_events: is_list,
        };
        let request = Request::new(self.watched.path).watch(&params, version);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let client = self.api.client().await;
        let opened = tokio::select! {
            biased;
            opened = client.request_events::<T>(request) => opened?,
            () = self.clock.sleep(LIST_TIME) => return Err(silent()),
        };
        Ok(opened.boxed())
    }
}

fn newer(meta: &Meta, version: String) -> String {
    if meta.resource_version.is_empty() { version } else { meta.resource_version.clone() }
}

fn silent() -> kube::Error {
    kube::Error::ReadEvents(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        "the API server did not answer in time",
    ))
}
