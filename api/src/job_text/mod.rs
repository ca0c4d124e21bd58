//! A job as people write it: one JSON object, read in one pass, its pod spec in a second one.
//!
//! What only the pod needs is kept byte for byte; what the scheduler needs becomes a [`Shape`].
//! Field names and defaults are Armada's. Unknown fields of the job are refused, unknown fields of
//! the pod spec are not looked at: Kubernetes has more of them every year.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use muster_core::shape::{DEFAULT_POOL, Gang, POOL_LABEL, Placement, Shape};
use muster_core::{Name, limits, names};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::{ErrorCode, Problem};

mod affinity;
mod annotations;
mod json;
mod network;
mod pod;
pub mod retry;
mod terms;
#[cfg(test)]
mod tests;

use annotations::Annotated;
use json::{Object, Pairs, Text};

pub use annotations::{AT_MOST_ONCE_ANNOTATION, POOL_ANNOTATION};
pub use network::{Ingress, IngressKind, Network, Service, ServiceKind};
pub use retry::RetryRule;
pub use terms::Dependency;
pub(crate) use terms::Terms;

/// The namespace of a job that names none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// Shapes remembered by one parser; more are forgotten all at once.
const SHAPES_MAX: usize = 4096;

/// Why a text is not a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Too many bytes.
    #[error("job has {len} bytes, limit is {max}", max = limits::JOB_BYTES_MAX)]
    TooLarge {
        /// Bytes given.
        len: usize,
    },
    /// Not JSON, or a value of another kind than its field has.
    #[error("{what}: {reason}")]
    Malformed {
        /// Which text.
        what: &'static str,
        /// What the JSON parser says.
        reason: String,
    },
    /// A field holds what it may not.
    #[error("{path}: {reason}")]
    Field {
        /// Which one, as a path into the job.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A field asks for what Muster cannot do yet.
    #[error("{path} is not supported yet")]
    Unsupported {
        /// Which one, as a path into the job.
        path: &'static str,
    },
}

impl Error {
    pub(crate) fn field(path: impl Into<String>, reason: impl ToString) -> Self {
        Self::Field { path: path.into(), reason: reason.to_string() }
    }

    fn malformed(what: &'static str, error: &serde_json::Error) -> Self {
        // A job is mostly one line; its number would be taken for that of the body.
        let reason = error.to_string().replace(" at line 1 column ", " at column ");
        Self::Malformed { what, reason }
    }

    /// The same for users.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let code = match self {
            Self::TooLarge { .. } => ErrorCode::PayloadTooLarge,
            Self::Malformed { .. } | Self::Field { .. } | Self::Unsupported { .. } => {
                ErrorCode::InvalidJob
            }
        };
        Problem::new(code, self.to_string())
    }
}

/// A shape with its canonical text.
#[derive(Debug, Clone, PartialEq)]
pub struct Interned {
    /// The shape.
    pub shape: Arc<Shape>,
    /// [`Shape::canonical`] of it.
    pub text: Arc<str>,
}

/// A job that was read and found in order; borrows from its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Job<'a> {
    /// What the submitter calls it.
    pub client_id: Option<Cow<'a, str>>,
    /// Lower runs earlier.
    pub priority: u32,
    /// How many tasks, for an array.
    pub count: Option<u32>,
    /// Whether a lost run means failure, not another attempt.
    pub at_most_once: bool,
    /// What it asks for beside that, if anything.
    pub terms: Option<Arc<muster_core::terms::Terms>>,
    /// The namespace of its pod.
    pub namespace: Cow<'a, str>,
    /// A JSON object, or empty.
    pub labels: &'a str,
    /// A JSON object, or empty.
    pub annotations: &'a str,
    /// The text of its [`Network`], or empty.
    pub network: String,
    /// The pod spec as JSON, byte for byte.
    pub pod_spec: &'a str,
    /// What the scheduler needs to know.
    pub shape: Interned,
}

/// The fields of a job as they were given, not looked at yet.
#[derive(Debug, Clone, Default)]
pub struct Parts<'a> {
    /// What the submitter calls it.
    pub client_id: Option<Cow<'a, str>>,
    /// Rounded, and at least 0.
    pub priority: f64,
    /// How many tasks, for an array.
    pub count: Option<u64>,
    /// How many tasks of the array run at once.
    pub max_running: Option<u64>,
    /// What has to end before.
    pub depends_on: Vec<Dependency>,
    /// What becomes of it when a run does not end well.
    pub retry: Vec<RetryRule>,
    /// [`DEFAULT_NAMESPACE`] if none.
    pub namespace: Option<Cow<'a, str>>,
    /// A JSON object.
    pub labels: Option<&'a str>,
    /// A JSON object.
    pub annotations: Option<&'a str>,
    /// Services.
    pub services: Vec<Service>,
    /// Ingresses.
    pub ingress: Vec<Ingress>,
    /// A JSON object that adds to the pod spec's node selector.
    pub required_node_labels: Option<&'a str>,
    /// The pod spec as JSON.
    pub pod_spec: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Outer<'a> {
    priority: Option<f64>,
    #[serde(borrow)]
    namespace: Option<Text<'a>>,
    client_id: Option<Text<'a>>,
    labels: Option<&'a RawValue>,
    annotations: Option<&'a RawValue>,
    required_node_labels: Option<&'a RawValue>,
    pod_spec: Option<&'a RawValue>,
    pod_specs: Option<Vec<&'a RawValue>>,
    count: Option<u64>,
    max_running: Option<u64>,
    depends_on: Option<Vec<Dependency>>,
    retry: Option<Vec<RetryRule>>,
    ingress: Option<Vec<Ingress>>,
    services: Option<Vec<Service>>,
    scheduler: Option<Text<'a>>,
    external_job_uri: Option<Text<'a>>,
}

/// Reads jobs; equal shapes come out as one, and a pod spec equal to the one before is not read
/// again.
#[derive(Debug, Default)]
pub struct Parser {
    shapes: HashMap<Arc<str>, Arc<Shape>>,
    names: Vec<Name>,
    last: Option<Last>,
}

/// The pod spec read last.
#[derive(Debug)]
struct Last {
    pod_spec: String,
    required_node_labels: Option<String>,
    annotated_pool: Option<Name>,
    placement: Option<Placement>,
    gang: Option<Gang>,
    shape: Interned,
}

impl Parser {
    /// A parser that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The job behind a JSON object.
    ///
    /// # Errors
    /// When it is not one that Muster takes.
    pub fn parse<'a>(&mut self, text: &'a [u8]) -> Result<Job<'a>, Error> {
        let text = text.trim_ascii();
        if text.len() > limits::JOB_BYTES_MAX {
            return Err(Error::TooLarge { len: text.len() });
        }
        let text = std::str::from_utf8(text).map_err(|error| Error::Malformed {
            what: "job",
            reason: format!("not UTF-8 at byte {}", error.valid_up_to()),
        })?;
        let Object(outer): Object<Outer<'a>> =
            serde_json::from_str(text).map_err(|error| Error::malformed("job", &error))?;
        self.assemble(outer.parts()?)
    }

    /// The job made of these fields.
    ///
    /// # Errors
    /// When it is not one that Muster takes.
    pub fn assemble<'a>(&mut self, parts: Parts<'a>) -> Result<Job<'a>, Error> {
        let bytes = [parts.labels, parts.annotations, parts.required_node_labels]
            .iter()
            .fold(parts.pod_spec.len(), |sum, text| sum + text.map_or(0, str::len));
        if bytes > limits::JOB_BYTES_MAX {
            return Err(Error::TooLarge { len: bytes });
        }
        if let Some(id) = &parts.client_id {
            names::client_id(id).map_err(|error| Error::field("clientId", error))?;
        }
        let namespace = parts.namespace.unwrap_or(Cow::Borrowed(DEFAULT_NAMESPACE));
        names::namespace(&namespace).map_err(|error| Error::field("namespace", error))?;
        strings(parts.labels, "labels")?;
        let annotated = annotations::read(parts.annotations)?;
        let at_most_once = annotated.at_most_once;
        let count = count(parts.count)?;
        let network = Network { services: parts.services, ingress: parts.ingress };
        let network = network.text(count)?;
        if bytes + network.len() > limits::JOB_BYTES_MAX {
            return Err(Error::TooLarge { len: bytes + network.len() });
        }
        let terms = Terms {
            max_running: parts.max_running,
            depends_on: parts.depends_on,
            retry: parts.retry,
        };
        let terms = terms.read(count)?;
        if annotated.gang.is_some() && terms.is_some() {
            let reason = "cannot have maxRunning, dependsOn or retry";
            return Err(Error::field("a member of a gang", reason));
        }
        if at_most_once && terms.as_ref().is_some_and(|terms| terms.retry.is_some()) {
            let reason = format!("not beside the annotation {AT_MOST_ONCE_ANNOTATION}");
            return Err(Error::field("retry", reason));
        }
        let shape = self.shape(parts.pod_spec, parts.required_node_labels, annotated)?;
        Ok(Job {
            client_id: parts.client_id,
            priority: priority(parts.priority),
            count,
            at_most_once,
            terms,
            namespace,
            labels: parts.labels.unwrap_or_default(),
            annotations: parts.annotations.unwrap_or_default(),
            network,
            pod_spec: parts.pod_spec,
            shape,
        })
    }

    fn shape(
        &mut self,
        pod_spec: &str,
        node_labels: Option<&str>,
        annotated: Annotated<'_>,
    ) -> Result<Interned, Error> {
        let Annotated { pool: annotated_pool, gang, placement, .. } = annotated;
        if let Some(last) = &self.last
            && last.pod_spec == pod_spec
            && last.required_node_labels.as_deref() == node_labels
            && last.annotated_pool.as_deref() == annotated_pool.as_deref()
            && last.gang == gang
            && last.placement == placement
        {
            return Ok(last.shape.clone());
        }
        let mut shape = pod::shape(pod_spec, &mut self.names)?;
        for (name, value) in strings(node_labels, "requiredNodeLabels")? {
            pod::select(&mut shape, &name.0, &value.0, || "requiredNodeLabels".to_owned())?;
        }
        let pool = pool_of(annotated_pool.as_deref(), shape.node_selector.get(POOL_LABEL))?;
        shape.pool = pod::name(&mut self.names, pool);
        shape.gang.clone_from(&gang);
        shape.placement = placement;
        let shape = self.intern(shape);
        let mut kept = self.last.take().map(|last| last.pod_spec).unwrap_or_default();
        kept.clear();
        kept.push_str(pod_spec);
        self.last = Some(Last {
            pod_spec: kept,
            required_node_labels: node_labels.map(str::to_owned),
            annotated_pool: annotated_pool.map(|pool| pod::name(&mut self.names, &pool)),
            gang,
            placement,
            shape: shape.clone(),
        });
        Ok(shape)
    }

    fn intern(&mut self, shape: Shape) -> Interned {
        let text = shape.canonical();
        if let Some((text, shape)) = self.shapes.get_key_value(text.as_str()) {
            return Interned { shape: Arc::clone(shape), text: Arc::clone(text) };
        }
        if self.shapes.len() >= SHAPES_MAX {
            self.shapes.clear();
        }
        let (text, shape): (Arc<str>, _) = (text.into(), Arc::new(shape));
        self.shapes.insert(Arc::clone(&text), Arc::clone(&shape));
        Interned { shape, text }
    }
}

impl<'a> Outer<'a> {
    fn parts(self) -> Result<Parts<'a>, Error> {
        // Armada's jobs carry these two; they change nothing about how a job is run.
        let _ = (self.scheduler, self.external_job_uri);
        let pod_spec =
            one_pod_spec(json::given(self.pod_spec), self.pod_specs.unwrap_or_default())?;
        let text = |raw: Option<&'a RawValue>| json::given(raw).map(RawValue::get);
        Ok(Parts {
            client_id: json::filled(self.client_id),
            priority: self.priority.unwrap_or_default(),
            count: self.count,
            max_running: self.max_running,
            depends_on: self.depends_on.unwrap_or_default(),
            retry: self.retry.unwrap_or_default(),
            namespace: json::filled(self.namespace),
            labels: text(self.labels),
            annotations: text(self.annotations),
            services: self.services.unwrap_or_default(),
            ingress: self.ingress.unwrap_or_default(),
            required_node_labels: text(self.required_node_labels),
            pod_spec: pod_spec.get(),
        })
    }
}

fn one_pod_spec<'a>(
    single: Option<&'a RawValue>,
    list: Vec<&'a RawValue>,
) -> Result<&'a RawValue, Error> {
    match (single, list.as_slice()) {
        (Some(spec), []) | (None, &[spec]) => Ok(spec),
        (None, []) => Err(Error::field("podSpec", "a job has one")),
        (Some(_), [_, ..]) => Err(Error::field("podSpecs", "not beside `podSpec`")),
        (None, [_, _, ..]) => {
            Err(Error::field("podSpecs", format!("holds {} pod specs, limit is 1", list.len())))
        }
    }
}

/// Armada's priority: a number of which whole ones from 0 on are meant.
fn priority(given: f64) -> u32 {
    // The cast saturates, which is what is wanted at both ends.
    given.round() as u32
}

fn count(given: Option<u64>) -> Result<Option<u32>, Error> {
    let Some(count) = given else { return Ok(None) };
    match u32::try_from(count) {
        Ok(count) if (1..=limits::ARRAY_COUNT_MAX).contains(&count) => Ok(Some(count)),
        _ => {
            let max = limits::ARRAY_COUNT_MAX;
            Err(Error::field("count", format!("{count} is not from 1 to {max}")))
        }
    }
}

/// The members of an object of strings; none where there is no object.
fn strings<'a>(
    text: Option<&'a str>,
    what: &'static str,
) -> Result<Vec<(Text<'a>, Text<'a>)>, Error> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let pairs: Pairs<'a, Text<'a>> =
        serde_json::from_str(text).map_err(|error| Error::malformed(what, &error))?;
    Ok(pairs.0)
}

/// The job's pool: that of its annotation or of its node selector, which must not differ.
fn pool_of<'a>(annotated: Option<&'a str>, selected: Option<&'a Name>) -> Result<&'a str, Error> {
    match (annotated, selected.map(|name| &**name)) {
        (Some(annotated), Some(selected)) if annotated != selected => {
            let reason = format!("is `{annotated}`, but the node selector asks for `{selected}`");
            Err(Error::field(format!("annotations.{POOL_ANNOTATION}"), reason))
        }
        (Some(annotated), _) => Ok(annotated),
        (None, Some(selected)) => {
            let path = || format!("podSpec.nodeSelector.{POOL_LABEL}");
            names::pool(selected).map_err(|error| Error::field(path(), error))?;
            Ok(selected)
        }
        (None, None) => Ok(DEFAULT_POOL),
    }
}
