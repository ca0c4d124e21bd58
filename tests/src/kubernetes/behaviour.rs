//! What a pod does, said in its annotations for the virtual kubelet, and in its command for a real
//! one: so that a test of pods runs on both.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use muster_loadtest::job::RUNTIME_ANNOTATION;
use serde_json::{Value, json};

/// What the annotations begin with that a virtual kubelet obeys.
pub const PREFIX: &str = "virtual-kubelet.test/";
/// An image for real kubelets.
const IMAGE: &str = "busybox:1.36";
/// The exit code of what was killed with SIGKILL, as for want of memory.
const KILLED: i32 = 137;

/// What a pod does. By default it ends at once, with success.
///
/// As annotations, each after [`PREFIX`]: `starts-after` (a duration), `runs-for` (a duration, a
/// range `lo..hi` to draw one from, or `forever`), `ends` (`success`, `exit N`, `oom`, `evicted`),
/// `message` (of termination), `log` (written as it starts), `last-log` (as it ends), `image` and
/// `volume` (`missing`), `rejected` (the reason of a kubelet that does not take it), `dies-after`
/// (a duration, or `never`: what it does when it is deleted). `first-runs-for` and `first-ends`
/// take the places of `runs-for` and `ends` in the pods of jobs' first attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    pub(super) starts_after: Duration,
    pub(super) runs_for: Span,
    pub(super) end: End,
    pub(super) message: Option<String>,
    pub(super) log: Option<String>,
    pub(super) last_log: Option<String>,
    pub(super) image_missing: bool,
    pub(super) volume_missing: bool,
    pub(super) rejected: Option<String>,
    pub(super) dies_after: Option<Duration>,
    first_runs_for: Option<Span>,
    first_end: Option<End>,
}

/// A range of time to draw from, or for ever.
type Span = Option<(Duration, Duration)>;

/// How a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With this exit code.
    Exit(i32),
    /// It asks for more memory than it may have.
    OutOfMemory,
    /// The node has too little of something.
    Evicted,
}

impl End {
    pub(super) fn code(self) -> i32 {
        match self {
            Self::Exit(code) => code,
            Self::OutOfMemory | Self::Evicted => KILLED,
        }
    }

    fn of(text: &str) -> Result<Self> {
        Ok(match (text, text.strip_prefix("exit ")) {
            ("success", _) => Self::Exit(0),
            ("oom", _) => Self::OutOfMemory,
            ("evicted", _) => Self::Evicted,
            (_, Some(code)) => Self::Exit(code.parse()?),
            _ => bail!("no such end"),
        })
    }

    fn text(self) -> String {
        match self {
            Self::Exit(code) => format!("exit {code}"),
            Self::OutOfMemory => "oom".to_owned(),
            Self::Evicted => "evicted".to_owned(),
        }
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            starts_after: Duration::ZERO,
            runs_for: Some((Duration::ZERO, Duration::ZERO)),
            end: End::Exit(0),
            message: None,
            log: None,
            last_log: None,
            image_missing: false,
            volume_missing: false,
            rejected: None,
            dies_after: Some(Duration::ZERO),
            first_runs_for: None,
            first_end: None,
        }
    }
}

impl Behaviour {
    /// It runs so long.
    pub fn runs_for(time: Duration) -> Self {
        Self { runs_for: Some((time, time)), ..Self::default() }
    }

    /// It runs until it is deleted.
    pub fn runs_forever() -> Self {
        Self { runs_for: None, ..Self::default() }
    }

    /// Its image does not exist.
    pub fn without_image() -> Self {
        Self { image_missing: true, ..Self::default() }
    }

    /// A volume of it does not exist. Only for virtual kubelets.
    pub fn without_volume() -> Self {
        Self { volume_missing: true, ..Self::default() }
    }

    /// The kubelet does not take it, for this reason. Only for virtual kubelets.
    pub fn rejected(reason: &str) -> Self {
        Self { rejected: Some(reason.to_owned()), ..Self::default() }
    }

    /// Its container ends with this code.
    pub fn exits(self, code: i32) -> Self {
        Self { end: End::Exit(code), ..self }
    }

    /// Its container is killed since it takes too much memory.
    pub fn runs_out_of_memory(self) -> Self {
        Self { end: End::OutOfMemory, ..self }
    }

    /// Its node runs out of something, and sends it away. Only for virtual kubelets.
    pub fn is_evicted(self) -> Self {
        Self { end: End::Evicted, ..self }
    }

    /// It leaves a message as it ends.
    pub fn says(self, message: &str) -> Self {
        Self { message: Some(message.to_owned()), ..self }
    }

    /// It writes this, a line, as it starts.
    pub fn logs(self, text: &str) -> Self {
        Self { log: Some(text.to_owned()), ..self }
    }

    /// It writes this, a line, as it ends by itself.
    pub fn logs_at_last(self, text: &str) -> Self {
        Self { last_log: Some(text.to_owned()), ..self }
    }

    /// It takes so long until it starts. Only for virtual kubelets.
    pub fn starts_after(self, time: Duration) -> Self {
        Self { starts_after: time, ..self }
    }

    /// It takes so long to die when it is deleted, or stays for ever. Only for virtual kubelets.
    pub fn dies_after(self, time: Option<Duration>) -> Self {
        Self { dies_after: time, ..self }
    }

    /// The first attempt of a job runs until it is deleted. Only for virtual kubelets.
    pub fn runs_forever_at_first(self) -> Self {
        Self { first_runs_for: Some(None), ..self }
    }

    /// The first attempt of a job ends with this code. Only for virtual kubelets.
    pub fn exits_at_first(self, code: i32) -> Self {
        Self { first_end: Some(End::Exit(code)), ..self }
    }

    /// What the pod of a name does: that of a job's first attempt may do something else.
    pub(super) fn of_pod(self, name: &str) -> Self {
        if !name.ends_with("-1") {
            return self;
        }
        let (runs_for, end) = (self.first_runs_for, self.first_end);
        Self { runs_for: runs_for.unwrap_or(self.runs_for), end: end.unwrap_or(self.end), ..self }
    }

    /// It as annotations; what is as by default is not said.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let default = Self::default();
        let mut said = Vec::new();
        let mut say = |name: &str, value: String| said.push((format!("{PREFIX}{name}"), value));
        if self.starts_after != default.starts_after {
            say("starts-after", format!("{}ms", self.starts_after.as_millis()));
        }
        let runs_for = Some(self.runs_for).filter(|span| *span != default.runs_for);
        for (name, span) in [("runs-for", runs_for), ("first-runs-for", self.first_runs_for)] {
            if let Some(span) = span {
                say(name, span_text(span));
            }
        }
        let end = Some(self.end).filter(|end| *end != default.end);
        for (name, end) in [("ends", end), ("first-ends", self.first_end)] {
            if let Some(end) = end {
                say(name, end.text());
            }
        }
        let texts = [("message", &self.message), ("log", &self.log), ("last-log", &self.last_log)];
        for (name, text) in texts.into_iter().chain([("rejected", &self.rejected)]) {
            if let Some(text) = text {
                say(name, text.clone());
            }
        }
        for (name, missing) in [("image", self.image_missing), ("volume", self.volume_missing)] {
            if missing {
                say(name, "missing".to_owned());
            }
        }
        match self.dies_after {
            None => say("dies-after", "never".to_owned()),
            Some(time) if self.dies_after != default.dies_after => {
                say("dies-after", format!("{}ms", time.as_millis()));
            }
            Some(_) => {}
        }
        said.into_iter().collect()
    }

    /// What annotations say.
    pub(super) fn of(annotations: &BTreeMap<String, String>) -> Result<Self> {
        let mut behaviour = Self::default();
        for (key, value) in annotations {
            // Jobs of load tests run for as long here as on a simulated cluster.
            let name = match key.strip_prefix(PREFIX) {
                Some(name) => name,
                None if key == RUNTIME_ANNOTATION => "runs-for",
                None => continue,
            };
            behaviour.set(name, value).with_context(|| format!("{key}: {value}"))?;
        }
        Ok(behaviour)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "starts-after" => self.starts_after = duration(value)?,
            "runs-for" => self.runs_for = span(value)?,
            "first-runs-for" => self.first_runs_for = Some(span(value)?),
            "ends" => self.end = End::of(value)?,
            "first-ends" => self.first_end = Some(End::of(value)?),
            "message" => self.message = Some(value.to_owned()),
            "log" => self.log = Some(value.to_owned()),
            "last-log" => self.last_log = Some(value.to_owned()),
            "image" => self.image_missing = value == "missing",
            "volume" => self.volume_missing = value == "missing",
            "rejected" => self.rejected = Some(value.to_owned()),
            "dies-after" if value == "never" => self.dies_after = None,
            "dies-after" => self.dies_after = Some(duration(value)?),
            _ => bail!("no such annotation"),
        }
        Ok(())
    }

    /// How long a pod runs: the same for the same name.
    pub(super) fn run_time(&self, namespace: &str, name: &str) -> Option<Duration> {
        let (least, most) = self.runs_for?;
        let mut hasher = DefaultHasher::new();
        (namespace, name).hash(&mut hasher);
        let span = u64::try_from((most - least).as_millis()).unwrap_or(u64::MAX);
        let drawn = if span == 0 { 0 } else { hasher.finish() % (span + 1) };
        Some(least + Duration::from_millis(drawn))
    }

    /// A pod of one container that does it, on virtual kubelets and, where they can, on real ones.
    pub fn pod(&self, name: &str) -> Value {
        let image = if self.image_missing { "muster.invalid/none:1" } else { IMAGE };
        let asked = json!({ "cpu": "100m", "memory": "64Mi" });
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "annotations": self.annotations() },
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main",
                    "image": image,
                    "command": ["sh", "-c", self.script()],
                    "resources": { "requests": asked, "limits": asked },
                }],
            },
        })
    }

    /// The same as a program of a shell.
    fn script(&self) -> String {
        let mut lines = Vec::new();
        let quoted = |text: &String| format!("'{}'", text.replace('\'', r"'\''"));
        if let Some(text) = &self.log {
            lines.push(format!("echo {}", quoted(text)));
        }
        match self.runs_for {
            None => lines.push("sleep 86400".to_owned()),
            Some((_, most)) => lines.push(format!("sleep {}", most.as_secs_f64())),
        }
        if let Some(text) = &self.last_log {
            lines.push(format!("echo {}", quoted(text)));
        }
        if let Some(text) = &self.message {
            lines.push(format!("printf %s {} >/dev/termination-log", quoted(text)));
        }
        match self.end {
            End::OutOfMemory => lines.push("tail /dev/zero".to_owned()),
            end => lines.push(format!("exit {}", end.code())),
        }
        lines.join("; ")
    }
}

fn span(text: &str) -> Result<Span> {
    if text == "forever" {
        return Ok(None);
    }
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let (least, most) = (duration(least)?, duration(most)?);
    ensure!(least <= most, "the range is empty");
    Ok(Some((least, most)))
}

fn span_text(span: Span) -> String {
    match span {
        None => "forever".to_owned(),
        Some((least, most)) => format!("{}ms..{}ms", least.as_millis(), most.as_millis()),
    }
}

fn duration(text: &str) -> Result<Duration> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().context("a duration such as `5s` is wanted")?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => bail!("a duration ends with ms, s or m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_does_is_read_as_it_was_said() {
        let second = Duration::from_secs(1);
        let odd = Behaviour::runs_for(second).exits(3).says("gone").logs("it's me");
        let odd = odd.logs_at_last("it was me");
        let odd = odd.starts_after(second).dies_after(None);
        let said = [
            Behaviour::default(),
            Behaviour::runs_forever().dies_after(Some(second)),
            Behaviour::without_image(),
            Behaviour::without_volume(),
            Behaviour::rejected("OutOfcpu"),
            Behaviour::default().runs_out_of_memory(),
            Behaviour::default().is_evicted(),
            Behaviour::runs_for(second).runs_forever_at_first(),
            Behaviour::default().exits(1).exits_at_first(0),
            odd,
        ];
        for behaviour in said {
            assert_eq!(Behaviour::of(&behaviour.annotations()).unwrap(), behaviour);
        }
        assert!(Behaviour::default().annotations().is_empty());
    }

    #[test]
    fn the_first_attempt_may_do_something_else() {
        let second = Duration::from_secs(1);
        let behaviour = Behaviour::runs_for(second).runs_forever_at_first().exits_at_first(3);
        let of = |name: &str| {
            let behaviour = behaviour.clone().of_pod(name);
            (behaviour.runs_for.is_none(), behaviour.end)
        };
        assert_eq!(of("muster-x-1"), (true, End::Exit(3)));
        assert_eq!(of("muster-x-2"), (false, End::Exit(0)));
        assert_eq!(of("muster-x-11"), (false, End::Exit(0)));
        let same = Behaviour::runs_for(second).exits(2);
        assert_eq!(same.clone().of_pod("muster-x-1"), same);
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        for (name, value) in
            [("run-for", "5s"), ("runs-for", "5"), ("runs-for", "3s..2s"), ("ends", "well")]
        {
            let annotations = [(format!("{PREFIX}{name}"), value.to_owned())].into();
            assert!(Behaviour::of(&annotations).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn the_time_a_pod_runs_is_drawn_from_its_range_by_its_name() {
        let annotations = [(format!("{PREFIX}runs-for"), "1s..3s".to_owned())].into();
        let behaviour = Behaviour::of(&annotations).unwrap();
        let times: Vec<_> =
            (0..20).filter_map(|n| behaviour.run_time("here", &n.to_string())).collect();
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(3));
        assert!(times.iter().all(|time| (least..=most).contains(time)), "{times:?}");
        assert!(times.iter().any(|time| *time != times[0]), "{times:?}");
        assert_eq!(behaviour.run_time("here", "0"), Some(times[0]));
    }
}
