//! The services and ingresses of a run. They are made once its pod is there, which owns them: they
//! go with it, whoever removes it. What there is to be made stands on the pod, so that a restart
//! finds it. Without IO.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_api::http::Address;
use muster_api::job_text::{Ingress, Network, Service, ServiceKind};
use serde::Deserialize;
use serde_json::{Value, json};

use super::labels;
use super::object::{Meta, Pod};
use crate::config::KubernetesConfig;
use crate::runs::RunKey;

/// The annotation by which an ingress names its class that does not do it in its spec.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// An object that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    /// The path of the objects of its kind in its namespace.
    pub(super) path: String,
    pub(super) name: String,
    pub(super) body: Value,
    /// Where it makes ports reachable, as far as that is known before.
    addresses: Vec<Address>,
}

/// An object that is there, with what of it is looked at.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Made {
    metadata: Meta,
    spec: MadeSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct MadeSpec {
    ports: Vec<MadePort>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MadePort {
    port: u32,
    node_port: Option<u32>,
}

/// Where ports can be reached.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Exposed {
    /// By hosts of their own.
    hosts: Vec<Address>,
    /// Port of the pod, and port of its node.
    node_ports: Vec<(u32, u32)>,
}

impl Object {
    /// Whether what was found under its name is what was to be made: of this pod and no other.
    pub(super) fn is(&self, found: &Made) -> bool {
        let owner = &self.body["metadata"]["ownerReferences"][0]["uid"];
        let own = [labels::CLUSTER, labels::JOB, labels::ATTEMPT];
        found.metadata.owner_references.iter().any(|it| *owner == *it.uid)
            && own.into_iter().all(|label| {
                let expected = &self.body["metadata"]["labels"][label];
                found.metadata.labels.get(label).is_some_and(|value| *expected == **value)
            })
    }
}

impl Exposed {
    /// Adds what an object brings.
    pub(super) fn add(&mut self, object: &Object, made: &Made) {
        self.hosts.extend(object.addresses.iter().cloned());
        let ports = made.spec.ports.iter();
        self.node_ports.extend(ports.filter_map(|it| Some((it.port, it.node_port?))));
    }

    /// Where ports of a pod can be reached that is on `host`.
    pub(super) fn addresses(&self, host: &str) -> Vec<Address> {
        // An address of version 6 stands in brackets before a port.
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let of_node = self.node_ports.iter();
        let of_node = of_node
            .map(|(port, on_node)| Address { port: *port, address: format!("{host}:{on_node}") });
        of_node.chain(self.hosts.iter().cloned()).collect()
    }
}

/// What is to be made for a pod that says so; none for most.
///
/// # Errors
/// When what it says cannot be read: somebody has changed it.
pub(super) fn plan(
    key: RunKey,
    pod: &Pod,
    config: &KubernetesConfig,
) -> Result<Option<Arc<[Object]>>, String> {
    let Some(text) = pod.metadata.annotations.get(labels::NETWORK) else { return Ok(None) };
    let network = Network::from_text(text.as_bytes())?;
    let planner = Planner { key, pod, config };
    let mut objects = Vec::new();
    for (number, ingress) in network.ingress.iter().enumerate() {
        let (service, ingress) = planner.ingress(number, ingress);
        objects.extend([service, ingress]);
    }
    for (number, service) in network.services.iter().enumerate() {
        objects.push(planner.service(network.ingress.len() + number, service));
    }
    Ok((!objects.is_empty()).then(|| objects.into()))
}

struct Planner<'a> {
    key: RunKey,
    pod: &'a Pod,
    config: &'a KubernetesConfig,
}

impl Planner<'_> {
    fn service(&self, number: usize, service: &Service) -> Object {
        let name = match service.name.as_str() {
            "" => self.name("service", number),
            given => given.to_owned(),
        };
        let spec = match service.kind {
            ServiceKind::NodePort => json!({ "type": "NodePort" }),
            ServiceKind::Headless => json!({ "type": "ClusterIP", "clusterIP": "None" }),
        };
        self.service_of(name, spec, &service.ports)
    }

    /// An ingress, and behind it its service.
    fn ingress(&self, number: usize, ingress: &Ingress) -> (Object, Object) {
        let service = self.name("service", number);
        let mut spec = json!({ "type": "ClusterIP" });
        if !ingress.use_cluster_ip {
            spec["clusterIP"] = "None".into();
        }
        let behind = self.service_of(service.clone(), spec, &ingress.ports);
        let addresses: Vec<Address> = ingress
            .ports
            .iter()
            .map(|port| Address { port: *port, address: self.host(*port) })
            .collect();
        let rule = |at: &Address| {
            let backend = json!({ "service": { "name": service, "port": { "number": at.port } } });
            json!({ "host": at.address, "http": { "paths": [
                { "path": "/", "pathType": "Prefix", "backend": backend }] } })
        };
        let mut spec = json!({ "rules": addresses.iter().map(rule).collect::<Vec<_>>() });
        if ingress.tls_enabled {
            let hosts: Vec<&str> = addresses.iter().map(|at| at.address.as_str()).collect();
            let secret = match ingress.cert_name.as_str() {
                "" => format!("{}-{}", self.namespace(), self.config.ingress_cert_suffix),
                named => named.to_owned(),
            };
            spec["tls"] = json!([{ "hosts": hosts, "secretName": secret }]);
        }
        let class = &self.config.ingress_class;
        if !class.is_empty() && !ingress.annotations.contains_key(CLASS_ANNOTATION) {
            spec["ingressClassName"] = class.as_str().into();
        }
        let name = self.name("ingress", number);
        let body = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": self.meta(&name, &ingress.annotations), "spec": spec });
        let path = format!("/apis/networking.k8s.io/v1/namespaces/{}/ingresses", self.namespace());
        (behind, Object { path, name, body, addresses })
    }

    fn service_of(&self, name: String, mut spec: Value, ports: &[u32]) -> Object {
        let port = |port: &u32| {
            json!({ "name": format!("port-{port}"), "port": port, "targetPort": port,
                "protocol": self.protocol(*port) })
        };
        spec["ports"] = ports.iter().map(port).collect();
        spec["selector"] = [labels::JOB, labels::ATTEMPT]
            .into_iter()
            .filter_map(|label| {
                Some((label.to_owned(), Value::from(self.labels().get(label)?.as_str())))
            })
            .collect();
        let body = json!({ "apiVersion": "v1", "kind": "Service",
            "metadata": self.meta(&name, &BTreeMap::new()), "spec": spec });
        let path = format!("/api/v1/namespaces/{}/services", self.namespace());
        Object { path, name, body, addresses: Vec::new() }
    }

    fn meta(&self, name: &str, annotations: &BTreeMap<String, String>) -> Value {
        let meta = &self.pod.metadata;
        let owner =
            json!({ "apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid });
        json!({ "name": name, "namespace": meta.namespace, "labels": meta.labels,
            "annotations": annotations, "ownerReferences": [owner] })
    }

    fn name(&self, kind: &str, number: usize) -> String {
        format!("{}-{kind}-{number}", labels::pod_name(self.key))
    }

    /// One label of the domain's name system, and behind it where it is.
    fn host(&self, port: u32) -> String {
        let (pod, namespace) = (labels::pod_name(self.key), self.namespace());
        format!("{port}-{pod}.{namespace}.{}", self.config.ingress_domain)
    }

    /// What the container says that has the port; most say nothing.
    fn protocol(&self, port: u32) -> &str {
        let ports = self.pod.spec.containers.iter().flat_map(|container| &container.ports);
        let mut said = ports.filter(|it| it.container_port == port).map(|it| it.protocol.as_str());
        said.find(|protocol| !protocol.is_empty()).unwrap_or("TCP")
    }

    fn namespace(&self) -> &str {
        &self.pod.metadata.namespace
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        &self.pod.metadata.labels
    }
}

#[cfg(test)]
mod tests {
    use muster_core::id::{JobId, JobRef, ShardId};
    use muster_core::resources::Resources;
    use muster_core::shape::Shape;
    use muster_core::time::Timestamp;

    use super::*;

    fn key() -> RunKey {
        RunKey { job: JobRef::task(JobId::new(Timestamp(1), ShardId(0), 1), 7), attempt: 2 }
    }

    fn pod(network: &str) -> Pod {
        let shape = Shape::of_request(Resources::new());
        let mut annotations = labels::annotations("n1", &shape, "q", "s");
        annotations.insert(labels::NETWORK.to_owned(), network.to_owned());
        let pod = json!({
            "metadata": { "name": labels::pod_name(key()), "namespace": "team", "uid": "u",
                "labels": labels::labels(key(), "c", "q"), "annotations": annotations },
            "spec": { "containers": [{ "name": "main", "ports": [
                { "containerPort": 53, "protocol": "UDP" }, { "containerPort": 80 }] }] } });
        serde_json::from_value(pod).unwrap()
    }

    fn planned(network: &str) -> Vec<Object> {
        let config = KubernetesConfig::default();
        plan(key(), &pod(network), &config).unwrap().map(|it| it.to_vec()).unwrap_or_default()
    }

    #[test]
    fn a_service_leads_to_its_pod_and_goes_with_it() {
        let text = r#"{"services":[{"type":"NodePort","ports":[80,53]},
            {"type":"Headless","ports":[9],"name":"mine"}]}"#;
        let objects = planned(text);
        let pod = labels::pod_name(key());
        let names: Vec<&str> = objects.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(names, [&*format!("{pod}-service-0"), "mine"]);
        assert!(objects.iter().all(|it| it.path == "/api/v1/namespaces/team/services"));
        let service = &objects[0].body;
        let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": "u" }]);
        assert_eq!(service["metadata"]["ownerReferences"], owner);
        assert_eq!(service["metadata"]["labels"], json!(labels::labels(key(), "c", "q")));
        let expected = json!({ "type": "NodePort",
            "selector": { "muster.dev/job-id": key().job.to_string(), "muster.dev/attempt": "2" },
            "ports": [
                { "name": "port-80", "port": 80, "targetPort": 80, "protocol": "TCP" },
                { "name": "port-53", "port": 53, "targetPort": 53, "protocol": "UDP" }] });
        assert_eq!(service["spec"], expected);
        assert_eq!(objects[1].body["spec"]["clusterIP"], "None");
    }

    #[test]
    fn an_ingress_has_a_host_for_each_port_and_a_service_behind_it() {
        let text = r#"{"ingress":[{"ports":[80,81],"annotations":{"a":"b"},"tlsEnabled":true},
            {"ports":[82],"tlsEnabled":true,"certName":"c","useClusterIP":true}],
            "services":[{"ports":[1]}]}"#;
        let objects = planned(text);
        let pod = labels::pod_name(key());
        let names = ["service-0", "ingress-0", "service-1", "ingress-1", "service-2"];
        let names = names.map(|name| format!("{pod}-{name}"));
        assert_eq!(objects.iter().map(|object| object.name.clone()).collect::<Vec<_>>(), names);
        assert_eq!(objects[0].body["spec"]["clusterIP"], "None");
        assert_eq!(objects[2].body["spec"].get("clusterIP"), None);
        let ingress = &objects[1].body;
        let host = format!("80-{pod}.team.svc");
        assert_eq!(ingress["spec"]["rules"][0]["host"], host);
        let backend = &ingress["spec"]["rules"][1]["http"]["paths"][0]["backend"]["service"];
        assert_eq!(*backend, json!({ "name": names[0], "port": { "number": 81 } }));
        assert_eq!(ingress["spec"]["tls"][0]["secretName"], "team-ingress-tls-certificate");
        assert_eq!(ingress["spec"]["tls"][0]["hosts"][0], host);
        assert_eq!(ingress["metadata"]["annotations"], json!({ "a": "b" }));
        assert_eq!(objects[3].body["spec"]["tls"][0]["secretName"], "c");
        let mut exposed = Exposed::default();
        objects.iter().for_each(|object| exposed.add(object, &Made::default()));
        assert_eq!(exposed.addresses("h").len(), 3);
        let longest = RunKey {
            job: JobRef::task(JobId::MAX, muster_core::limits::ARRAY_COUNT_MAX - 1),
            attempt: u32::MAX,
        };
        let label = format!("65535-{}", labels::pod_name(longest));
        assert!(label.len() <= 63 && format!("{}-service-15", &label[6..]).len() <= 63, "{label}");
    }

    #[test]
    fn classes_are_those_of_the_settings_unless_annotations_name_one() {
        let config =
            KubernetesConfig { ingress_class: "nginx".into(), ..KubernetesConfig::default() };
        let class = |annotations: &str| {
            let text = format!(r#"{{"ingress":[{{"ports":[80],"annotations":{annotations}}}]}}"#);
            let objects = plan(key(), &pod(&text), &config).unwrap().unwrap();
            objects[1].body["spec"]["ingressClassName"].clone()
        };
        assert_eq!(class("{}"), "nginx");
        assert_eq!(class(r#"{"kubernetes.io/ingress.class":"x"}"#), Value::Null);
    }

    #[test]
    fn what_was_made_tells_where_ports_are() {
        let objects = planned(r#"{"services":[{"ports":[80]}]}"#);
        let mut made = objects[0].body.clone();
        made["spec"]["ports"][0]["nodePort"] = 30_123.into();
        let made: Made = serde_json::from_value(made).unwrap();
        assert!(objects[0].is(&made));
        let mut exposed = Exposed::default();
        exposed.add(&objects[0], &made);
        let at = |address: &str| vec![Address { port: 80, address: address.to_owned() }];
        assert_eq!(exposed.addresses("10.0.0.1"), at("10.0.0.1:30123"));
        assert_eq!(exposed.addresses("fd00::1"), at("[fd00::1]:30123"));
        let mut others = objects[0].body.clone();
        others["metadata"]["ownerReferences"][0]["uid"] = "v".into();
        assert!(!objects[0].is(&serde_json::from_value(others).unwrap()));
        let mut others = objects[0].body.clone();
        others["metadata"]["labels"]["muster.dev/attempt"] = "3".into();
        assert!(!objects[0].is(&serde_json::from_value(others).unwrap()));
    }

    #[test]
    fn most_pods_have_nothing_of_the_kind() {
        assert_eq!(planned("{}"), []);
        let mut none = pod("{}");
        none.metadata.annotations.clear();
        assert_eq!(plan(key(), &none, &KubernetesConfig::default()), Ok(None));
        assert!(plan(key(), &pod("x"), &KubernetesConfig::default()).is_err());
    }
}
