//! Settings of the `kubernetes` back end.

use std::path::PathBuf;

use muster_core::names;
use muster_core::shape::POOL_LABEL;
use muster_runtime::config::{HumanDuration, Problems};
use serde::{Deserialize, Serialize};

/// Settings of the `kubernetes` back end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesConfig {
    /// The kubeconfig that names the cluster; empty means that of the pod it runs in, or else what
    /// `KUBECONFIG` or `~/.kube/config` say.
    pub kubeconfig: PathBuf,
    /// The context of the kubeconfig; empty means its current one.
    pub context: String,
    /// Who binds pods to their nodes.
    pub binding: Binding,
    /// The scheduler named in pods whose job names none; empty means the cluster's default one.
    pub scheduler_name: String,
    /// Whether pods keep the priority class that their job names, which is Muster's; otherwise
    /// they have the cluster's default one.
    pub keep_priority_class: bool,
    /// The label of a node that names its pool.
    pub pool_label: String,
    /// Labels of nodes that jobs may select by, `*` standing for anything.
    pub node_labels: Vec<String>,
    /// Namespaces that jobs may have, `*` standing for anything; empty means all.
    pub namespaces: Vec<String>,
    /// Whether a namespace that is missing is created; otherwise its jobs fail.
    pub create_namespaces: bool,
    /// Requests that change something and may be under way at the same time.
    pub requests_max: usize,
    /// How long the API server may take for a request.
    pub request_timeout: HumanDuration,
    /// How long a pod may be refused for reasons that may pass before its run is given back.
    pub create_timeout: HumanDuration,
    /// How often everything is listed anew, whatever the watches say.
    pub relist_interval: HumanDuration,
    /// How long after its grace period a pod that was told to end is removed by force.
    pub kill_timeout: HumanDuration,
    /// How long a pod that ended well is kept.
    pub retention: HumanDuration,
    /// How long a pod that ended badly is kept.
    pub failed_retention: HumanDuration,
    /// How many pods that ended are kept at most.
    pub ended_pods_max: usize,
    /// What is done with pods that do not come to run, before the built-in checks.
    pub checks: Vec<Check>,
    /// The Lease by which one executor serves the cluster at a time.
    pub lease_name: String,
    /// Its namespace; empty means that of the executor's pod or context.
    pub lease_namespace: String,
    /// How long an executor that says nothing is waited for before another takes over.
    pub lease_duration: HumanDuration,
    /// How often the cluster's metrics API is asked what pods use, where there is one; 0 means
    /// never.
    pub usage_interval: HumanDuration,
    /// The domain in which the ingresses of jobs have their hosts.
    pub ingress_domain: String,
    /// The class of the ingresses of jobs; empty means the cluster's default one.
    pub ingress_class: String,
    /// What follows the namespace and a `-` in the name of the secret with the certificate of an
    /// ingress that names none.
    pub ingress_cert_suffix: String,
}

/// Who binds pods to their nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// The cluster's scheduler, which is given one node to choose from.
    #[default]
    Scheduler,
    /// The executor.
    Direct,
}

/// What is done with pods that do not come to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is looked at.
    pub on: Symptom,
    /// The word for why, `*` standing for anything and `|` for or; empty means any.
    #[serde(default)]
    pub reason: String,
    /// The sentence about it, likewise.
    #[serde(default)]
    pub message: String,
    /// How long it has to last.
    pub after: HumanDuration,
    /// What is done then.
    pub then: Remedy,
}

/// What a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Symptom {
    /// The pod has no node.
    Unscheduled,
    /// A container waits.
    Waiting,
    /// A warning among the events of a pod that does not run.
    Event,
    /// No container has run, whatever the reason.
    Starting,
}

/// What is done with a pod that does not come to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Remedy {
    /// It is removed and its run given back, so that it starts elsewhere.
    Retry,
    /// It is removed and its run has failed.
    Fail,
    /// Nothing.
    Wait,
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        let labels = [
            "kubernetes.io/*",
            "topology.kubernetes.io/*",
            "node.kubernetes.io/instance-type",
            "muster.dev/*",
            "armadaproject.io/*",
        ];
        Self {
            kubeconfig: PathBuf::new(),
            context: String::new(),
            binding: Binding::default(),
            scheduler_name: String::new(),
            keep_priority_class: false,
            pool_label: POOL_LABEL.to_owned(),
            node_labels: labels.map(str::to_owned).to_vec(),
            namespaces: Vec::new(),
            create_namespaces: false,
            requests_max: 100,
            request_timeout: HumanDuration::secs(30),
            create_timeout: HumanDuration::secs(120),
            relist_interval: HumanDuration::secs(600),
            kill_timeout: HumanDuration::secs(30),
            retention: HumanDuration::secs(180),
            failed_retention: HumanDuration::secs(600),
            ended_pods_max: 1000,
            checks: Vec::new(),
            lease_name: "muster-executor".to_owned(),
            lease_namespace: String::new(),
            lease_duration: HumanDuration::secs(15),
            usage_interval: HumanDuration::secs(30),
            ingress_domain: "svc".to_owned(),
            ingress_class: String::new(),
            ingress_cert_suffix: "ingress-tls-certificate".to_owned(),
        }
    }
}

impl KubernetesConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        if self.requests_max == 0 {
            problems.add("requests_max", "is 0, at least 1 is needed");
        }
        let more_than_nothing = [
            ("request_timeout", self.request_timeout),
            ("relist_interval", self.relist_interval),
            ("lease_duration", self.lease_duration),
        ];
        for (key, duration) in more_than_nothing {
            if duration.0.is_zero() {
                problems.add(key, "is 0, more is needed");
            }
        }
        let texts = [
            ("pool_label", &self.pool_label),
            ("ingress_domain", &self.ingress_domain),
            ("ingress_cert_suffix", &self.ingress_cert_suffix),
        ];
        for (key, _) in texts.into_iter().filter(|(_, text)| text.is_empty()) {
            problems.add(key, "is empty");
        }
        for (key, name) in
            [("lease_name", &self.lease_name), ("lease_namespace", &self.lease_namespace)]
        {
            let may_be_empty = key == "lease_namespace";
            if let Err(error) = names::namespace(name)
                && !(may_be_empty && name.is_empty())
            {
                problems.add(key, error.to_string());
            }
        }
    }
}

/// Whether a text is as one of the patterns says, which are separated by `|` and in which `*`
/// stands for anything.
#[must_use]
pub fn matches(patterns: &str, text: &str) -> bool {
    patterns.split('|').any(|pattern| matches_one(pattern, text))
}

fn matches_one(pattern: &str, text: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    while let Some((middle, behind)) = rest.split_once('*') {
        let Some(at) = text.find(middle) else { return false };
        (text, rest) = (&text[at + middle.len()..], behind);
    }
    text.len() >= rest.len() && text.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_people_expect() {
        let cases = [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*a", "a", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("x|a*", "abc", true),
            ("*nodes are available*", "0/3 nodes are available: too few", true),
            ("", "", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }
}
