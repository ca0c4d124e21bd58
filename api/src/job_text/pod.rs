//! What the scheduler needs of a pod spec: the effective request as Kubernetes computes it, node
//! selector, tolerations and priority class.

use std::borrow::Cow;

use muster_core::quantity::Quantity;
use muster_core::resources::{CPU, MEMORY, PODS};
use muster_core::shape::{DEFAULT_CLASS, DEFAULT_POOL, Shape, Toleration};
use muster_core::{Name, limits};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::Error;
use super::affinity::{self, Affinity};
use super::json::{Object, Pairs, Text, filled};

/// Bytes of a name in a pod spec: resource, label, taint, priority class. Kubernetes allows 253 + 1
/// + 63.
const NAME_BYTES_MAX: usize = 317;
/// Names shared by the shapes of one parser; more are forgotten all at once.
const NAMES_MAX: usize = 64;
/// What a container gets of a resource that it neither requests nor limits.
const DEFAULTS: [(&str, i64); 2] = [(CPU, 1), (MEMORY, 1 << 30)];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec<'a> {
    #[serde(borrow)]
    containers: Option<Vec<Object<Container<'a>>>>,
    init_containers: Option<Vec<Object<Container<'a>>>>,
    resources: Option<Object<Requirements<'a>>>,
    overhead: Option<Quantities<'a>>,
    node_selector: Option<Pairs<'a, Text<'a>>>,
    tolerations: Option<Vec<Object<TolerationText<'a>>>>,
    affinity: Option<Object<Affinity<'a>>>,
    topology_spread_constraints: Option<Vec<IgnoredAny>>,
    node_name: Option<Text<'a>>,
    priority_class_name: Option<Text<'a>>,
    termination_grace_period_seconds: Option<i64>,
    active_deadline_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container<'a> {
    #[serde(borrow)]
    resources: Option<Object<Requirements<'a>>>,
    restart_policy: Option<Text<'a>>,
    // Named so that none of them is there twice: back ends read them.
    #[serde(rename = "command")]
    _command: Option<IgnoredAny>,
    #[serde(rename = "args")]
    _args: Option<IgnoredAny>,
    #[serde(rename = "env")]
    _env: Option<Vec<Object<EnvVar>>>,
    #[serde(rename = "envFrom")]
    _env_from: Option<IgnoredAny>,
    #[serde(rename = "image")]
    _image: Option<IgnoredAny>,
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(rename = "volumeMounts")]
    _volume_mounts: Option<IgnoredAny>,
    #[serde(rename = "workingDir")]
    _working_dir: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct EnvVar {
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(rename = "value")]
    _value: Option<IgnoredAny>,
    #[serde(rename = "valueFrom")]
    _value_from: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Requirements<'a> {
    #[serde(borrow)]
    requests: Option<Quantities<'a>>,
    limits: Option<Quantities<'a>>,
}

/// Quantities stay raw: a number in JSON is read as it is written, not through a float.
type Quantities<'a> = Pairs<'a, &'a RawValue>;

#[derive(Deserialize)]
struct TolerationText<'a> {
    #[serde(borrow)]
    key: Option<Text<'a>>,
    operator: Option<Text<'a>>,
    value: Option<Text<'a>>,
    effect: Option<Text<'a>>,
}

/// How long a pod may take to end that says nothing of it, as Kubernetes has it.
const GRACE_SECONDS_DEFAULT: i64 = 30;

/// Amounts by name, few enough to be searched one by one.
type Amounts<'a> = Vec<(Cow<'a, str>, Quantity)>;

/// The shape of the pod, in the default pool.
pub(super) fn shape(text: &str, names: &mut Vec<Name>) -> Result<Shape, Error> {
    let Object(spec): Object<PodSpec<'_>> =
        serde_json::from_str(text).map_err(|error| Error::malformed("podSpec", &error))?;
    check(&spec)?;
    let mut shape = Shape::of_request(
        request(&spec)?.into_iter().map(|(n, amount)| (name(names, &n), amount)).collect(),
    );
    for (key, value) in spec.node_selector.iter().flat_map(|pairs| &pairs.0) {
        select(&mut shape, &key.0, &value.0, || "podSpec.nodeSelector".to_owned())?;
    }
    if let Some(Object(affinity)) = &spec.affinity {
        affinity::select(affinity, &mut shape)?;
    }
    for (at, Object(toleration)) in spec.tolerations.unwrap_or_default().into_iter().enumerate() {
        let path = || format!("podSpec.tolerations[{at}]");
        shape.tolerations.push(tolerated(toleration).map_err(|e| Error::field(path(), e))?);
    }
    shape.tolerations.sort();
    shape.tolerations.dedup();
    if let Some(class) = filled(spec.priority_class_name) {
        bounded(&class).map_err(|e| Error::field("podSpec.priorityClassName", e))?;
        shape.class = name(names, &class);
    }
    let grace = spec.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS_DEFAULT);
    let lasts = spec.active_deadline_seconds.map(|deadline| deadline.saturating_add(grace));
    // What is longer than a century has no end.
    shape.lasts_max = lasts.and_then(|seconds| u32::try_from(seconds).ok());
    Ok(shape)
}

/// Adds a label that the node must have.
pub(super) fn select(
    shape: &mut Shape,
    key: &str,
    value: &str,
    path: impl Fn() -> String,
) -> Result<(), Error> {
    bounded(key).map_err(|error| Error::field(path(), error))?;
    bounded_value(value).map_err(|error| Error::field(format!("{}.{key}", path()), error))?;
    if shape.node_selector.len() >= limits::NODE_SELECTOR_MAX {
        let reason = format!("more than {} labels, which is the limit", limits::NODE_SELECTOR_MAX);
        return Err(Error::field(path(), reason));
    }
    match shape.node_selector.insert(key.into(), value.into()) {
        Some(other) if &*other != value => {
            let reason = format!("both `{other}` and `{value}` are asked for");
            Err(Error::field(format!("{}.{key}", path()), reason))
        }
        _ => Ok(()),
    }
}

/// The shared copy of a name.
pub(super) fn name(names: &mut Vec<Name>, text: &str) -> Name {
    if names.is_empty() {
        names.extend([CPU, MEMORY, PODS, DEFAULT_CLASS, DEFAULT_POOL].map(Name::from));
    }
    if let Some(known) = names.iter().find(|known| &***known == text) {
        return known.clone();
    }
    if names.len() >= NAMES_MAX {
        names.clear();
    }
    names.push(text.into());
    names.last().expect("it was pushed just now").clone()
}

fn check(spec: &PodSpec<'_>) -> Result<(), Error> {
    if spec.containers.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::field("podSpec.containers", "a pod has at least one"));
    }
    let spread = spec.topology_spread_constraints.as_ref();
    if spread.is_some_and(|constraints| !constraints.is_empty()) {
        return Err(Error::Unsupported { path: "podSpec.topologySpreadConstraints" });
    }
    if spec.node_name.as_ref().is_some_and(|name| !name.0.is_empty()) {
        return Err(Error::Unsupported { path: "podSpec.nodeName" });
    }
    let tolerations = spec.tolerations.as_ref().map_or(0, Vec::len);
    if tolerations > limits::TOLERATIONS_MAX {
        let reason = format!("{tolerations} tolerations, limit is {}", limits::TOLERATIONS_MAX);
        return Err(Error::field("podSpec.tolerations", reason));
    }
    let grace = spec.termination_grace_period_seconds.unwrap_or_default();
    if !u64::try_from(grace).is_ok_and(|grace| grace <= limits::GRACE_PERIOD_SECONDS_MAX) {
        let max = limits::GRACE_PERIOD_SECONDS_MAX;
        let reason = format!("{grace} s is not from 0 s to {max} s");
        return Err(Error::field("podSpec.terminationGracePeriodSeconds", reason));
    }
    if let Some(deadline) = spec.active_deadline_seconds.filter(|seconds| *seconds < 1) {
        let reason = format!("{deadline} s is less than 1 s");
        return Err(Error::field("podSpec.activeDeadlineSeconds", reason));
    }
    Ok(())
}

/// The effective request: the larger of what the containers take together and what any step of the
/// initialisation takes, where an init container that restarts always runs beside all that follow
/// it.
fn request<'a>(spec: &PodSpec<'a>) -> Result<Amounts<'a>, Error> {
    let mut total = Amounts::with_capacity(4);
    let mut beside = Amounts::new();
    let mut peak = Amounts::new();
    for (at, Object(container)) in spec.init_containers.iter().flatten().enumerate() {
        let path = format!("podSpec.initContainers[{at}]");
        let amounts = container_request(container, &path)?;
        if container.restart_policy.as_ref().is_some_and(|policy| policy.0 == "Always") {
            add(&mut beside, &amounts);
            raise(&mut peak, &beside);
        } else {
            let mut step = beside.clone();
            add(&mut step, &amounts);
            raise(&mut peak, &step);
        }
        few(&peak, &path)?;
    }
    for (at, Object(container)) in spec.containers.iter().flatten().enumerate() {
        let path = format!("podSpec.containers[{at}]");
        let mut amounts = container_request(container, &path)?;
        for (resource, units) in DEFAULTS {
            if !amounts.iter().any(|(name, _)| name == resource) {
                amounts.push((Cow::Borrowed(resource), Quantity::from_units(units)));
            }
        }
        add(&mut total, &amounts);
        few(&total, &path)?;
    }
    add(&mut total, &beside);
    raise(&mut total, &peak);
    if let Some(Object(resources)) = &spec.resources {
        for (name, amount) in requirements(resources, &"podSpec.resources")? {
            set(&mut total, name, amount);
        }
    }
    if let Some(overhead) = &spec.overhead {
        add(&mut total, &amounts(overhead, &"podSpec.overhead")?);
    }
    set(&mut total, Cow::Borrowed(PODS), Quantity::from_units(1));
    Ok(total)
}

fn container_request<'a>(
    container: &Container<'a>,
    path: &dyn std::fmt::Display,
) -> Result<Amounts<'a>, Error> {
    match &container.resources {
        Some(Object(resources)) => requirements(resources, &format_args!("{path}.resources")),
        None => Ok(Amounts::new()),
    }
}

/// The requests, with limits standing in for requests that are missing.
fn requirements<'a>(
    given: &Requirements<'a>,
    path: &dyn std::fmt::Display,
) -> Result<Amounts<'a>, Error> {
    let mut found = match &given.requests {
        Some(requests) => amounts(requests, &format_args!("{path}.requests"))?,
        None => Amounts::new(),
    };
    let Some(limits) = &given.limits else { return Ok(found) };
    for (name, limit) in amounts(limits, &format_args!("{path}.limits"))? {
        match found.iter().find(|(known, _)| *known == name) {
            Some((_, request)) if *request > limit => {
                let reason = format!("request {request} is more than limit {limit}");
                return Err(Error::field(format!("{path}.requests.{name}"), reason));
            }
            Some(_) => {}
            None => found.push((name, limit)),
        }
    }
    Ok(found)
}

fn amounts<'a>(given: &Quantities<'a>, path: &dyn std::fmt::Display) -> Result<Amounts<'a>, Error> {
    if given.0.len() > limits::RESOURCES_PER_JOB_MAX {
        return Err(too_many(given.0.len(), path));
    }
    let mut found = Amounts::with_capacity(given.0.len() + DEFAULTS.len());
    for (name, raw) in &given.0 {
        let field = |reason: String| Error::field(format!("{path}.{}", name.0), reason);
        bounded(&name.0).map_err(field)?;
        let amount = quantity(raw).map_err(field)?;
        if amount.is_negative() {
            return Err(field(format!("`{amount}` is negative")));
        }
        found.push((name.0.clone(), amount));
    }
    Ok(found)
}

fn few(amounts: &Amounts<'_>, path: &dyn std::fmt::Display) -> Result<(), Error> {
    match amounts.len() {
        0..=limits::RESOURCES_PER_JOB_MAX => Ok(()),
        len => Err(too_many(len, path)),
    }
}

fn too_many(len: usize, path: &dyn std::fmt::Display) -> Error {
    let max = limits::RESOURCES_PER_JOB_MAX;
    Error::field(path.to_string(), format!("{len} different resources, limit is {max}"))
}

fn quantity(raw: &RawValue) -> Result<Quantity, String> {
    let text = raw.get();
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    inner.parse::<Quantity>().map_err(|error| error.to_string())
}

fn tolerated(given: TolerationText<'_>) -> Result<Toleration, String> {
    let (key, effect) = (filled(given.key), filled(given.effect));
    let value = filled(given.value);
    for part in [&key, &value].into_iter().flatten() {
        bounded(part)?;
    }
    if let Some(effect) = &effect
        && !matches!(&**effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute")
    {
        let allowed = "`NoSchedule`, `PreferNoSchedule` or `NoExecute`";
        return Err(format!("effect `{effect}` is not {allowed}"));
    }
    let own = |text: Cow<'_, str>| Name::from(&*text);
    let value = match filled(given.operator).as_deref().unwrap_or("Equal") {
        "Exists" if value.is_some() => {
            return Err("operator `Exists` takes no value".to_owned());
        }
        "Exists" => None,
        "Equal" if key.is_none() => {
            return Err("operator `Equal` needs a key".to_owned());
        }
        "Equal" => Some(own(value.unwrap_or_default())),
        other => return Err(format!("operator `{other}` is not `Equal` or `Exists`")),
    };
    Ok(Toleration { key: key.map(own), value, effect: effect.map(own) })
}

/// Whether a name may stand in a shape.
pub(super) fn bounded(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("name is empty".to_owned()),
        len if len > NAME_BYTES_MAX => {
            Err(format!("name has {len} bytes, limit is {NAME_BYTES_MAX}"))
        }
        _ => Ok(()),
    }
}

/// Whether the value of a label may.
pub(super) fn bounded_value(value: &str) -> Result<(), String> {
    match value.len() {
        0..=NAME_BYTES_MAX => Ok(()),
        len => Err(format!("value has {len} bytes, limit is {NAME_BYTES_MAX}")),
    }
}

fn add<'a>(total: &mut Amounts<'a>, more: &Amounts<'a>) {
    for (name, amount) in more {
        match total.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum = sum.plus(*amount),
            None => total.push((name.clone(), *amount)),
        }
    }
}

fn raise<'a>(total: &mut Amounts<'a>, to: &Amounts<'a>) {
    for (name, amount) in to {
        match total.iter_mut().find(|(known, _)| known == name) {
            Some((_, peak)) => *peak = (*peak).max(*amount),
            None => total.push((name.clone(), *amount)),
        }
    }
}

fn set<'a>(total: &mut Amounts<'a>, name: Cow<'a, str>, amount: Quantity) {
    match total.iter_mut().find(|(known, _)| *known == name) {
        Some((_, kept)) => *kept = amount,
        None => total.push((name, amount)),
    }
}
