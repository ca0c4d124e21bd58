//! One executor at a time for a cluster: a Lease object in it says which. The second one says so
//! and waits; it takes over when the first has said nothing for the lease's duration, by its own
//! clock and not by the times that the object names.
//!
//! An executor whose lease may have run out, because the API server does not answer, asks nothing
//! of the API server until it has renewed it. One that finds another's name on it ends.

use std::time::Duration;

use kube::api::{GetParams, PostParams};
use kube::core::Request;
use muster_runtime::http::Health;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{self, Api};
use super::object::Meta;
use crate::backend::Error;

/// How long credentials may be refused: tokens in files are read again sooner than this, anything
/// else only by the next start.
const REFUSED_TIME_MAX: Duration = Duration::from_mins(3);
/// A holder renews so many times in a lease's duration.
const RENEWALS: u32 = 3;

/// The lease, as one executor sees it.
#[derive(Clone)]
pub(super) struct Lease {
    api: Api,
    path: String,
    name: String,
    /// Who asks.
    me: String,
    duration: Duration,
    /// The object as it was last seen or written, and since when it has been so.
    seen: Option<(Record, Duration)>,
    /// Until when it is certainly held.
    valid_until: Duration,
    /// Since when credentials are refused.
    refused_since: Option<Duration>,
    /// Of whom it was said that it is waited for.
    waited_for: Option<String>,
    /// Why it is not certainly held, if it is not.
    trouble: Option<String>,
}

/// What the object says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Record {
    metadata: Meta,
    spec: Spec,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    holder_identity: String,
    lease_transitions: i64,
}

/// Who has the lease.
enum Holder {
    Me,
    Other(String),
    /// It was written in between: by nobody who has it.
    Unclear,
}

/// What to do about the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Move {
    Create,
    Write,
    Wait(String),
}

impl Lease {
    pub(super) fn new(api: Api, namespace: &str, name: &str, me: String, d: Duration) -> Self {
        Self {
            api,
            path: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
            name: name.to_owned(),
            me,
            duration: d,
            seen: None,
            valid_until: Duration::ZERO,
            refused_since: None,
            waited_for: None,
            trouble: None,
        }
    }

    /// Until when the lease is certainly held.
    pub(super) fn valid_until(&self) -> Duration {
        self.valid_until
    }

    /// Why it is not certainly held any more, or will soon not be.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Waits until the lease is held.
    pub(super) async fn acquire(&mut self, health: &Health, part: &str) {
        loop {
            match self.attempt().await {
                Ok(Holder::Me) => return,
                Ok(Holder::Unclear) => {}
                Ok(Holder::Other(other)) => {
                    health.not_ready(part, format!("`{other}` serves this cluster"));
                    if self.waited_for.as_ref() != Some(&other) {
                        tracing::warn!(lease = %self.name, %other, "another executor serves this cluster, waiting until it ends");
                        self.waited_for = Some(other);
                    }
                }
                Err(error) => {
                    let error = self.explained(&error);
                    health.not_ready(part, format!("the lease cannot be had: {error}"));
                    tracing::warn!(lease = %self.name, %error, "the lease of this cluster cannot be had");
                }
            }
            self.rest().await;
        }
    }

    /// Renews the lease when it is time; an error when another has it, or credentials are refused
    /// for too long.
    pub(super) async fn renew(mut self) -> (Self, Result<(), Error>) {
        self.rest().await;
        let result = self.attempt().await;
        let lost = |reason| Error::Kubernetes { what: "keeping the lease".to_owned(), reason };
        let is_refused = matches!(&result, Err(kube::Error::Api(status)) if status.code == 401);
        let now = self.api.clock.monotonic();
        self.refused_since = is_refused.then(|| self.refused_since.unwrap_or(now));
        let result = match result {
            Ok(Holder::Me | Holder::Unclear) => {
                self.trouble = None;
                Ok(())
            }
            Ok(Holder::Other(other)) => Err(lost(format!("`{other}` has taken over"))),
            Err(error) => {
                let error = self.explained(&error);
                tracing::warn!(lease = %self.name, %error, "the lease of this cluster cannot be renewed");
                let is_over = now >= self.valid_until;
                self.trouble = (is_refused || is_over)
                    .then(|| format!("the lease cannot be renewed: {error}"));
                match self.refused_since.filter(|since| now - *since >= REFUSED_TIME_MAX) {
                    Some(_) => Err(lost("the credentials are refused".to_owned())),
                    None => Ok(()),
                }
            }
        };
        (self, result)
    }

    /// Gives the lease back, so that nobody has to wait for it.
    pub(super) async fn release(mut self) {
        // It may have been renewed since it was last seen.
        for _ in 0..2 {
            let Some((record, _)) = self.seen.clone() else { return };
            if record.spec.holder_identity != self.me {
                return;
            }
            let Err(error) = self.write(&record, "").await else { return };
            tracing::debug!(lease = %self.name, %error, "the lease is not given back yet");
            if self.read().await.is_err() {
                break;
            }
        }
        tracing::info!(lease = %self.name, "the lease is not given back, and runs out");
    }

    /// What went wrong, and what may be behind it.
    fn explained(&self, error: &kube::Error) -> String {
        let said = client::explained(error);
        self.api.expired().map_or_else(|| said.clone(), |why| format!("{said}; {why}"))
    }

    async fn rest(&self) {
        self.api.clock.sleep(self.duration / RENEWALS).await;
    }

    /// Tries to have the lease; gives who has it.
    async fn attempt(&mut self) -> Result<Holder, kube::Error> {
        let began = self.api.clock.monotonic();
        let is_mine = |(record, _): &(Record, Duration)| record.spec.holder_identity == self.me;
        if !self.seen.as_ref().is_some_and(is_mine) {
            self.read().await?;
        }
        let written = match next(self.seen.as_ref(), &self.me, self.duration, began) {
            Move::Wait(other) => return Ok(Holder::Other(other)),
            Move::Create => self.write(&Record::default(), &self.me.clone()).await,
            Move::Write => {
                let (record, _) = self.seen.clone().unwrap_or_default();
                self.write(&record, &self.me.clone()).await
            }
        };
        match written {
            Ok(record) => {
                self.valid_until = began + self.duration;
                self.seen = Some((record, began));
                Ok(Holder::Me)
            }
            // It was written by another, or by this one without its knowing.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                self.read().await?;
                let holder = self.seen.as_ref().map(|(record, _)| &record.spec.holder_identity);
                let other = holder.filter(|holder| **holder != self.me && !holder.is_empty());
                // The next attempt, which is not far, writes it.
                Ok(other.cloned().map_or(Holder::Unclear, Holder::Other))
            }
            Err(error) => {
                // It may have been deleted.
                self.seen = None;
                Err(error)
            }
        }
    }

    async fn read(&mut self) -> Result<(), kube::Error> {
        let request = Request::new(&*self.path).get(&self.name, &GetParams::default());
        let request = request.map_err(kube::Error::BuildRequest)?;
        let now = self.api.clock.monotonic();
        match self.api.within(self.api.client().await.request::<Record>(request)).await {
            Ok(record) => {
                let is_same = self.seen.as_ref().is_some_and(|(known, _)| *known == record);
                if !is_same {
                    self.seen = Some((record, now));
                }
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                self.seen = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn write(&self, record: &Record, holder: &str) -> Result<Record, kube::Error> {
        let now = self.api.clock.now();
        let time = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default();
        let is_new = record.spec.holder_identity != holder;
        let object: Value = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": self.name, "resourceVersion": record.metadata.resource_version },
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": self.duration.as_secs().max(1),
                "renewTime": format!("{time:.6}"),
                "leaseTransitions": record.spec.lease_transitions + i64::from(is_new),
            },
        });
        let data = serde_json::to_vec(&object).map_err(kube::Error::SerdeError)?;
        let request = Request::new(&*self.path);
        let request = if record.metadata.resource_version.is_empty() {
            request.create(&PostParams::default(), data)
        } else {
            request.replace(&self.name, &PostParams::default(), data)
        };
        let request = request.map_err(kube::Error::BuildRequest)?;
        self.api.within(self.api.client().await.request::<Record>(request)).await
    }
}

/// What to do about a lease that was last seen so.
fn next(seen: Option<&(Record, Duration)>, me: &str, duration: Duration, now: Duration) -> Move {
    let Some((record, since)) = seen else { return Move::Create };
    let holder = record.spec.holder_identity.as_str();
    let is_mine_to_take = holder == me || holder.is_empty();
    if is_mine_to_take || now.saturating_sub(*since) >= duration {
        Move::Write
    } else {
        Move::Wait(holder.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_that_nobody_has_or_renews() {
        let second = Duration::from_secs(1);
        let held = |holder: &str| {
            let spec = Spec { holder_identity: holder.to_owned(), lease_transitions: 0 };
            (Record { metadata: Meta::default(), spec }, 10 * second)
        };
        let of =
            |seen: Option<&(Record, Duration)>, now| next(seen, "me", 5 * second, now * second);
        assert_eq!(of(None, 10), Move::Create);
        assert_eq!(of(Some(&held("me")), 10), Move::Write);
        assert_eq!(of(Some(&held("")), 10), Move::Write);
        assert_eq!(of(Some(&held("you")), 14), Move::Wait("you".to_owned()));
        assert_eq!(of(Some(&held("you")), 15), Move::Write);
    }
}
