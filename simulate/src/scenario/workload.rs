//! The file of queues and jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_api::http::QueueSettings;
use muster_core::control::Control;
use muster_core::{limits, names};

use super::clusters::shifted;
use super::config::Config;
use super::jobs::{self, Draft};
use super::tree::{At, File, Object};
use super::{Cluster, Gang, Queue, Read, Result, Shifted, Template, failed};

/// The label whose value the nodes of a gang share that names none.
const GANG_UNIFORMITY: &str = "armadaproject.io/clusterName";
/// The job set of jobs that name none.
const JOB_SET: &str = "simulated";
/// Times that a template may be repeated.
const REPEATS_MAX: u64 = 1_000_000;

/// What templates are read with.
struct Context<'a> {
    config: &'a Config,
    clusters: &'a [Cluster],
    classes: BTreeSet<String>,
}

/// Templates by the ids that the file gives them, and who waits for which.
#[derive(Default)]
struct Ids {
    places: BTreeMap<String, Vec<usize>>,
    /// The template that waits, and what it names where.
    waits: Vec<(usize, Vec<String>, String)>,
}

/// Reads the file.
pub(super) fn read(file: &File, config: &Config, clusters: &[Cluster]) -> Result<Read> {
    let root = file.root().object()?;
    let name = root.take("name").map(|at| at.word()).transpose()?;
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| file.stem());
    let seed = root.take("randomSeed").map(|at| at.whole()).transpose()?;
    let control = Control::default();
    let built_in = control.all_classes().into_keys().map(str::to_owned);
    let classes = built_in.chain(config.classes.keys().cloned()).collect();
    let context = Context { config, clusters, classes };
    let mut read = Read { name, seed: seed.map(i64::cast_unsigned), ..Read::default() };
    let mut ids = Ids::default();
    for at in root.require("queues")?.list()? {
        queue(&at, &context, &mut read, &mut ids)?;
    }
    root.finish();
    if read.templates.is_empty() {
        return Err(file.root().wrong("no queue has jobTemplates"));
    }
    for (waiting, names, path) in ids.waits {
        for name in names {
            let places = ids.places.get(&name).ok_or_else(|| {
                let reason = format!("there is no template with the id `{name}`");
                super::Error { path: path.clone(), ..file.root().wrong(reason) }
            })?;
            read.templates[waiting].after.extend(places);
        }
    }
    if let Some(template) = circle(&read.templates) {
        let id = &read.templates[template].id;
        return Err(file.root().wrong(format!("template `{id}` depends on itself in the end")));
    }
    Ok(read)
}

fn queue(at: &At<'_>, context: &Context<'_>, read: &mut Read, ids: &mut Ids) -> Result<()> {
    let object = at.object()?;
    let name_at = object.require("name")?;
    let name = name_at.word()?;
    names::queue(&name).map_err(|error| name_at.wrong(error))?;
    if read.queues.iter().any(|queue| queue.name == name) {
        return Err(name_at.wrong(format!("there are two queues `{name}`")));
    }
    let mut settings = QueueSettings::default();
    if let Some(at) = object.take("weight") {
        settings.weight = at.number()?;
        muster_core::control::weight_millis(settings.weight).map_err(|error| at.wrong(error))?;
    }
    read.queues.push(Queue { name: name.clone(), settings });
    let templates = object.take("jobTemplates").map(|at| at.list()).transpose()?;
    for (place, at) in templates.unwrap_or_default().iter().enumerate() {
        let default_id = format!("{name}-{place}");
        template(at, context, (read, ids), &default_id)?;
    }
    object.finish();
    Ok(())
}

fn template(
    at: &At<'_>,
    context: &Context<'_>,
    (read, ids): (&mut Read, &mut Ids),
    default_id: &str,
) -> Result<()> {
    let object = at.object()?;
    let time = |name| {
        let time = object.take(name).map(|at| at.duration()).transpose()?;
        Ok(time.unwrap_or_default())
    };
    let id = object.take("id").map(|at| at.word()).transpose()?;
    let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| default_id.to_owned());
    if ids.places.contains_key(&id) {
        return Err(at.wrong(format!("there are two templates with the id `{id}`")));
    }
    let number = object.require("number")?.count(limits::ARRAY_COUNT_MAX.into())?;
    let number = u32::try_from(number).expect("it is no more than an array may have");
    let (job_set, gang) = (job_set(&object)?, gang(&object, number)?);
    let draft = draft(at, &object, context, gang.clone())?;
    let (job, shape) = jobs::job(draft, context.clusters).map_err(|error| at.wrong(error))?;
    let mut runtime = object.take("runtimeDistribution").map(|at| shifted(&at)).transpose()?;
    if let Some(runtime) = runtime.as_mut().filter(|_| gang.is_some()) {
        // As Armada has it: all jobs of a gang end together.
        runtime.tail_mean = Duration::ZERO;
    }
    let template = Template {
        id: id.clone(),
        queue: read.queues.len() - 1,
        job_set,
        number,
        gang,
        job,
        shape,
        runtime: runtime.unwrap_or_default(),
        failures: failures(&object)?,
        failure: failed(),
        earliest: time("earliestSubmitTime")?,
        after: Vec::new(),
        pause: time("earliestSubmitTimeFromDependencyCompletion")?,
    };
    let repeat = object.take("repeat").map(|at| repeat(&at)).transpose()?;
    // What the file could not set even if it did: Armada's simulator keeps its books there.
    let _ = (object.take("numberSuccessful"), object.take("queue"));
    let waits = dependencies(&object)?;
    object.finish();
    if number == 0 {
        ids.places.insert(id, Vec::new());
        return Ok(());
    }
    for n in 0..repeat.map_or(1, |(times, _)| times) {
        let mut template = template.clone();
        if let Some((_, period)) = repeat {
            template.id = format!("{id}-repeat-{n}");
            template.earliest += period.saturating_mul(n);
        }
        ids.places.entry(id.clone()).or_default().push(read.templates.len());
        if let Some((names, path)) = &waits {
            ids.waits.push((read.templates.len(), names.clone(), path.clone()));
        }
        read.templates.push(template);
    }
    Ok(())
}

fn job_set(object: &Object<'_>) -> Result<String> {
    let Some(at) = object.take("jobSet") else { return Ok(JOB_SET.to_owned()) };
    let name = at.word()?;
    if name.is_empty() {
        return Ok(JOB_SET.to_owned());
    }
    names::job_set(&name).map_err(|error| at.wrong(error))?;
    Ok(name)
}

fn gang(object: &Object<'_>, number: u32) -> Result<Option<Gang>> {
    let uniformity = object.take("gangNodeUniformityLabel").map(|at| at.word()).transpose()?;
    let uniformity = uniformity.filter(|label| !label.is_empty());
    let Some(at) = object.take("gangCardinality") else { return Ok(None) };
    let cardinality = at.count(limits::GANG_CARDINALITY_MAX.into())?;
    let cardinality = u32::try_from(cardinality).expect("it is below a limit");
    if cardinality < 2 {
        return Ok(None);
    }
    if !number.is_multiple_of(cardinality) {
        let reason = format!("`number`, {number}, is no multiple of {cardinality}");
        return Err(at.wrong(reason));
    }
    let uniformity = uniformity.unwrap_or_else(|| GANG_UNIFORMITY.to_owned());
    Ok(Some(Gang { cardinality, uniformity }))
}

fn draft(
    at: &At<'_>,
    object: &Object<'_>,
    context: &Context<'_>,
    gang: Option<Gang>,
) -> Result<Draft> {
    let mut draft = Draft { gang, ..Draft::default() };
    if let Some(at) = object.take("queuePriority") {
        draft.priority = at.count(u32::MAX.into())?.try_into().expect("it is of 32 bits");
    }
    let class = object.take("priorityClassName").map(|at| Ok((at.word()?, at))).transpose()?;
    draft.class = match class.filter(|(name, _)| !name.is_empty()) {
        None => context.config.default_class.clone(),
        Some((name, at)) if !context.classes.contains(&name) => {
            let there: Vec<&str> = context.classes.iter().map(String::as_str).collect();
            let there = there.join(", ");
            return Err(at.wrong(format!("there is no priority class `{name}`, only {there}")));
        }
        Some((name, _)) => Some(name),
    };
    if let Some(requirements) = object.take("requirements") {
        requirements_of(&requirements, &mut draft)?;
    }
    if draft.requests.is_empty() && draft.limits.is_empty() {
        at.file().note(at.path(), "asks for no resources: its jobs take nothing");
    }
    Ok(draft)
}

fn requirements_of(at: &At<'_>, draft: &mut Draft) -> Result<()> {
    let object = at.object()?;
    draft.node_selector.extend(object.words("nodeSelector")?);
    draft.annotations.extend(object.words("annotations")?);
    draft.affinity = object.take("affinity").map(|at| at.json()).transpose()?;
    draft.tolerations = object.take("tolerations").map(|at| at.json()).transpose()?;
    if let Some(at) = object.take("resourceRequirements") {
        let resources = at.object()?;
        for (name, into) in [("requests", &mut draft.requests), ("limits", &mut draft.limits)] {
            let Some(at) = resources.take(name) else { continue };
            for (resource, at) in at.object()?.all() {
                into.insert(resource.to_owned(), at.quantity()?.to_string());
            }
        }
        resources.finish();
    }
    for name in ["priority", "preemptionPolicy"] {
        object.ignore(name, "the priority class says it");
    }
    object.finish();
    Ok(())
}

fn failures(object: &Object<'_>) -> Result<(f64, Shifted)> {
    let runtime = object.take("failureRuntimeDistribution").map(|at| shifted(&at)).transpose()?;
    let Some(at) = object.take("failureProbability") else { return Ok(Default::default()) };
    let part = at.number()?;
    if !(0.0..=1.0).contains(&part) {
        return Err(at.wrong(format!("`{part}` is not a number from 0 to 1")));
    }
    Ok((part, runtime.unwrap_or_default()))
}

fn repeat(at: &At<'_>) -> Result<(u32, Duration)> {
    let object = at.object()?;
    let times_at = object.require("numTimes")?;
    let times = times_at.count(REPEATS_MAX)?;
    if times == 0 {
        return Err(times_at.wrong("it is at least 1"));
    }
    let period = object.require("period")?.duration()?;
    object.finish();
    Ok((u32::try_from(times).expect("it is below a limit"), period))
}

/// The ids that a template waits for, and where they stand.
fn dependencies(object: &Object<'_>) -> Result<Option<(Vec<String>, String)>> {
    let Some(at) = object.take("dependencies") else { return Ok(None) };
    let names = at.list()?.iter().map(At::word).collect::<Result<Vec<_>>>()?;
    Ok((!names.is_empty()).then(|| (names, at.path().to_owned())))
}

/// A template that can never come, because it waits for itself.
fn circle(templates: &[Template]) -> Option<usize> {
    let mut waiting: Vec<usize> = templates.iter().map(|template| template.after.len()).collect();
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); templates.len()];
    for (number, template) in templates.iter().enumerate() {
        template.after.iter().for_each(|on| before[*on].push(number));
    }
    let mut free: Vec<usize> = (0..templates.len()).filter(|n| waiting[*n] == 0).collect();
    while let Some(done) = free.pop() {
        for next in &before[done] {
            waiting[*next] -= 1;
            if waiting[*next] == 0 {
                free.push(*next);
            }
        }
    }
    waiting.iter().position(|left| *left > 0)
}
