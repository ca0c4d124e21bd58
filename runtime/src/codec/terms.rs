//! Terms of jobs in the `detail` column, as mirrors of the domain's types.

use muster_core::Name;
use muster_core::id::JobId;
use muster_core::job::JobState;
use muster_core::record::Next;
use muster_core::terms::{Dependency, On, Terms, When};
use muster_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::columns::Interner;
use super::detail::{IdDetail, STATES, from_id, id};
use super::policy::{self, RuleDetail};

#[derive(Serialize, Deserialize)]
pub(super) enum OnDetail {
    Job(IdDetail),
    Client(Name),
}

#[derive(Serialize, Deserialize)]
pub(super) struct TermsDetail {
    running_max: Option<u32>,
    after: Vec<(OnDetail, Name)>,
    #[serde(default)]
    retry: Option<Vec<RuleDetail>>,
}

impl OnDetail {
    pub(super) fn of(on: &On) -> Self {
        match on {
            On::Job(job) => Self::Job(id(*job)),
            On::Client(name) => Self::Client(name.clone()),
        }
    }

    pub(super) fn into_on(self) -> On {
        match self {
            Self::Job(job) => On::Job(from_id(job)),
            Self::Client(name) => On::Client(name),
        }
    }
}

impl TermsDetail {
    pub(super) fn of(terms: &Terms) -> Self {
        let after = terms.after.iter();
        let after = after.map(|on| (OnDetail::of(&on.on), Name::from(on.when.name())));
        let retry = terms.retry.as_deref().map(policy::of_policy);
        Self { running_max: terms.running_max, after: after.collect(), retry }
    }

    pub(super) fn into_terms(self) -> Result<Terms, String> {
        let dependency = |(on, when): (OnDetail, Name)| {
            let when = When::from_name(&when).ok_or_else(|| format!("after `{when}`"))?;
            Ok(Dependency { on: on.into_on(), when })
        };
        let after = self.after.into_iter().map(dependency).collect::<Result<_, String>>()?;
        let retry = self.retry.map(policy::into_policy).transpose()?;
        Ok(Terms { running_max: self.running_max, after, retry })
    }
}

/// How jobs ended, by the places of the states.
#[derive(Serialize, Deserialize)]
pub(super) struct EndsDetail(Vec<(IdDetail, u8)>);

impl EndsDetail {
    pub(super) fn of(ends: &[(JobId, JobState)]) -> Self {
        let place = |end: JobState| STATES.iter().zip(0u8..).find(|(state, _)| **state == end);
        let place = |end| place(end).map_or(0, |(_, place)| place);
        Self(ends.iter().map(|(job, end)| (id(*job), place(*end))).collect())
    }

    pub(super) fn into_ends(self) -> Result<Vec<(JobId, JobState)>, String> {
        let end = |(job, place): (IdDetail, u8)| {
            let end = STATES.get(usize::from(place)).ok_or_else(|| format!("state {place}"))?;
            Ok((from_id(job), *end))
        };
        self.0.into_iter().map(end).collect()
    }
}

/// What is different with the next attempt: retries, not before, the canonical text of the shape.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct NextDetail(u32, Option<i64>, Option<String>);

impl NextDetail {
    /// None where nothing is different.
    pub(super) fn of(next: &Next) -> Option<Self> {
        let shape = next.shape.as_ref().map(|shape| shape.canonical());
        let detail = Self(next.retries, next.not_before.map(|at| at.0), shape);
        (*next != Next::default()).then_some(detail)
    }

    pub(super) fn into_next(self, interner: &mut Interner) -> Result<Next, String> {
        let Self(retries, not_before, shape) = self;
        let shape = shape.map(|text| interner.shape(&text)).transpose()?;
        Ok(Next { retries, not_before: not_before.map(Timestamp), shape })
    }
}
