//! The file of settings, Armada's for its scheduler: of it, what says who goes before whom and who
//! may have how much. All else is named, and has no effect.

use std::collections::BTreeMap;

use muster_api::http::{PriorityClassSettings, QueueLimit, QueueSettings, Rate};

use super::Result;
use super::tree::{At, File, Object};

/// Jobs a second that may be set for a queue, at most.
const RATE_MAX: f64 = 1_000_000.0;

/// What the settings say.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(super) classes: BTreeMap<String, PriorityClassSettings>,
    /// The class of a job that names none.
    pub(super) default_class: Option<String>,
    /// Of every queue.
    limits: Vec<QueueLimit>,
    pub(super) rate: Option<Rate>,
    pub(super) protected_share: Option<f64>,
}

impl Config {
    /// Sets what holds for every queue.
    pub(super) fn apply(&self, queue: &mut QueueSettings) {
        queue.limits.extend(self.limits.iter().cloned());
        queue.rate = queue.rate.or(self.rate);
    }
}

/// Reads the file: the settings themselves, or those of the scheduler's process, which has them
/// under `scheduling`.
pub(super) fn read(file: &File) -> Result<Config> {
    let root = file.root().object()?;
    let scheduling = root.take("scheduling").map(|at| at.object()).transpose()?;
    let object = scheduling.as_ref().unwrap_or(&root);
    let mut config = Config::default();
    if let Some(at) = object.take("priorityClasses") {
        for (name, at) in at.object()?.all() {
            class(name, &at, &mut config)?;
        }
    }
    config.default_class =
        object.take("defaultPriorityClassName").map(|at| at.word()).transpose()?;
    config.rate = rate(object)?;
    if let Some(at) = object.take("protectedFractionOfFairShare") {
        let share = at.number()?;
        if !(0.0..=1_000.0).contains(&share) {
            return Err(at.wrong(format!("`{share}` is not a number from 0 to 1000")));
        }
        if share < 1.0 {
            file.note(at.path(), "is below 1: queues keep all of their fair share all the same");
        }
        config.protected_share = Some(share.max(1.0));
    }
    let mut ignored = object.unused();
    if scheduling.is_some() {
        ignored.extend(root.unused());
    }
    if !ignored.is_empty() {
        ignored.sort_unstable();
        file.note("", format!("has settings without effect here: {}", ignored.join(", ")));
    }
    Ok(config)
}

fn class(name: &str, at: &At<'_>, config: &mut Config) -> Result<()> {
    muster_core::names::priority_class(name).map_err(|error| at.wrong(error))?;
    let object = at.object()?;
    let priority = object.require("priority")?;
    let expected = "a whole number of 32 bits";
    let priority = i32::try_from(priority.whole()?)
        .map_err(|_| priority.wrong(format!("it is not {expected}")))?;
    let preemptible = object.take("preemptible").map(|at| at.truth()).transpose()?;
    let settings = PriorityClassSettings { priority, preemptible: preemptible.unwrap_or_default() };
    config.classes.insert(name.to_owned(), settings);
    if let Some(at) = object.take("maximumResourceFractionPerQueue") {
        config.limits.extend(limit(name, None, &at)?);
    }
    if let Some(at) = object.take("maximumResourceFractionPerQueueByPool") {
        for (pool, at) in at.object()?.all() {
            config.limits.extend(limit(name, Some(pool), &at)?);
        }
    }
    object.ignore("awayNodeTypes", "a job belongs to one pool");
    object.finish();
    Ok(())
}

/// A limit of each queue; a resource of which a queue may have all is under none.
fn limit(class: &str, pool: Option<&str>, at: &At<'_>) -> Result<Option<QueueLimit>> {
    let mut limit = QueueLimit {
        class: Some(class.to_owned()),
        pool: pool.map(str::to_owned),
        ..QueueLimit::default()
    };
    for (resource, at) in at.object()?.all() {
        let fraction = at.number()?;
        if fraction < 0.0 {
            return Err(at.wrong(format!("`{fraction}` is not a fraction such as `0.25`")));
        }
        if fraction < 1.0 {
            let percent = format!("{:.3}%", fraction * 100.0);
            limit.resources.insert(resource.to_owned(), percent);
        }
    }
    Ok((!limit.resources.is_empty()).then_some(limit))
}

fn rate(object: &Object<'_>) -> Result<Option<Rate>> {
    let rate = object.take("maximumPerQueueSchedulingRate");
    let burst = object.take("maximumPerQueueSchedulingBurst");
    let Some(at) = rate else { return Ok(None) };
    let per_second = at.number()?;
    if per_second <= 0.0 {
        return Err(at.wrong(format!("`{per_second}` is not a number above 0")));
    }
    let burst = burst.map(|at| at.number()).transpose()?.unwrap_or(1.0);
    let burst = burst.clamp(1.0, f64::from(u32::MAX)) as u32;
    // What is beyond what a queue may be set to is no limit in practice.
    Ok((per_second <= RATE_MAX).then_some(Rate { per_second: per_second.max(0.001), burst }))
}
