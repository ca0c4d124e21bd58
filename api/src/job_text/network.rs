//! Services and ingresses of a job: how the ports of its pod are reached from elsewhere. Field
//! names and meanings are Armada's. The same text goes from gateways to executors.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::{limits, names};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::Error;

/// The services and ingresses of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Ingresses; each brings a service of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Ingress>,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// What kind of service.
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub kind: ServiceKind,
    /// Ports of the pod.
    #[serde(default, deserialize_with = "or_default")]
    pub ports: Vec<u32>,
    /// Its name; one is given to it if this is empty.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A kind of service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Word")]
pub enum ServiceKind {
    /// Each node hands connections to a port of its own on to the pod.
    #[default]
    NodePort,
    /// A name within the cluster that stands for the pod's own address.
    Headless,
}

/// An ingress: a host name for each of its ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ingress {
    /// What kind of ingress; there is one.
    #[serde(rename = "type", default, deserialize_with = "or_default", skip_serializing)]
    pub kind: IngressKind,
    /// Ports of the pod.
    #[serde(default, deserialize_with = "or_default")]
    pub ports: Vec<u32>,
    /// Annotations of the ingress.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whether it speaks TLS.
    #[serde(
        default,
        alias = "tls_enabled",
        deserialize_with = "or_default",
        skip_serializing_if = "is_false"
    )]
    pub tls_enabled: bool,
    /// The secret that holds its certificate, if it is not that of the namespace.
    #[serde(
        default,
        alias = "cert_name",
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub cert_name: String,
    /// Whether its service has an address of its own within the cluster; else it stands for the
    /// pod's.
    #[serde(
        default,
        rename = "useClusterIP",
        alias = "use_clusterIP",
        deserialize_with = "or_default",
        skip_serializing_if = "is_false"
    )]
    pub use_cluster_ip: bool,
}

/// A kind of ingress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Word")]
pub enum IngressKind {
    /// An ingress.
    #[default]
    Ingress,
}

/// Armada takes the number of a kind as well as its name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Number(u64),
    Name(String),
}

impl TryFrom<Word> for ServiceKind {
    type Error = String;

    fn try_from(word: Word) -> Result<Self, String> {
        match word {
            Word::Number(0) => Ok(Self::NodePort),
            Word::Number(1) => Ok(Self::Headless),
            Word::Name(name) if name == "NodePort" => Ok(Self::NodePort),
            Word::Name(name) if name == "Headless" => Ok(Self::Headless),
            Word::Number(other) => {
                Err(format!("type {other} is neither `NodePort` nor `Headless`"))
            }
            Word::Name(other) => {
                Err(format!("type `{other}` is neither `NodePort` nor `Headless`"))
            }
        }
    }
}

impl TryFrom<Word> for IngressKind {
    type Error = String;

    fn try_from(word: Word) -> Result<Self, String> {
        match word {
            Word::Number(0) => Ok(Self::Ingress),
            Word::Name(name) if name == "Ingress" => Ok(Self::Ingress),
            Word::Number(other) => Err(format!("type {other} is not `Ingress`")),
            Word::Name(other) => Err(format!("type `{other}` is not `Ingress`")),
        }
    }
}

/// What is null is not given.
fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Network {
    /// Whether there is none of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.ingress.is_empty()
    }

    /// What a text says that [`Network::text`] has made; an empty one says nothing.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_text(text: &[u8]) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }

    /// Both lists of such a text, as texts.
    #[must_use]
    pub fn lists(text: &str) -> (Option<Box<RawValue>>, Option<Box<RawValue>>) {
        #[derive(Default, Deserialize)]
        struct Lists {
            services: Option<Box<RawValue>>,
            ingress: Option<Box<RawValue>>,
        }
        let Lists { services, ingress } = serde_json::from_str(text).unwrap_or_default();
        (services, ingress)
    }

    /// The text of it, if it is in order; empty where there is nothing. `count` is that of the
    /// array.
    pub(super) fn text(&self, count: Option<u32>) -> Result<String, Error> {
        if self.is_empty() {
            return Ok(String::new());
        }
        self.check(count)?;
        serde_json::to_string(self).map_err(|error| Error::malformed("services", &error))
    }

    fn check(&self, count: Option<u32>) -> Result<(), Error> {
        for (field, len) in [("services", self.services.len()), ("ingress", self.ingress.len())] {
            if len > limits::SERVICES_MAX {
                let reason = format!("holds {len}, limit is {}", limits::SERVICES_MAX);
                return Err(Error::field(field, reason));
            }
        }
        let mut names = BTreeSet::new();
        for (at, service) in self.services.iter().enumerate() {
            let path = format!("services[{at}]");
            ports(&service.ports, &path)?;
            if service.name.is_empty() {
                continue;
            }
            let wrong = |reason: String| Error::field(format!("{path}.name"), reason);
            service_name(&service.name).map_err(wrong)?;
            if count.is_some() {
                return Err(wrong("the tasks of an array cannot share a service".to_owned()));
            }
            if !names.insert(service.name.as_str()) {
                return Err(wrong(format!("there are two of the name `{}`", service.name)));
            }
        }
        let mut taken = BTreeSet::new();
        for (at, ingress) in self.ingress.iter().enumerate() {
            let path = format!("ingress[{at}]");
            ports(&ingress.ports, &path)?;
            if let Some(port) = ingress.ports.iter().find(|port| !taken.insert(**port)) {
                let reason = format!("port {port} has two ingresses");
                return Err(Error::field(format!("{path}.ports"), reason));
            }
        }
        Ok(())
    }
}

/// Whether each of these may be a port, and none is there twice.
fn ports(ports: &[u32], path: &str) -> Result<(), Error> {
    let wrong = |reason: String| Err(Error::field(format!("{path}.ports"), reason));
    if ports.is_empty() {
        return wrong("needs at least one port".to_owned());
    }
    if ports.len() > limits::SERVICE_PORTS_MAX {
        return wrong(format!("holds {}, limit is {}", ports.len(), limits::SERVICE_PORTS_MAX));
    }
    let mut seen = BTreeSet::new();
    for port in ports {
        if !(1..=u32::from(u16::MAX)).contains(port) {
            return wrong(format!("{port} is not from 1 to {}", u16::MAX));
        }
        if !seen.insert(port) {
            return wrong(format!("names port {port} twice"));
        }
    }
    Ok(())
}

/// A DNS label that begins with a letter.
fn service_name(name: &str) -> Result<(), String> {
    names::namespace(name).map_err(|error| error.to_string().replace("namespace", "name"))?;
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(format!("`{name}` does not begin with a letter"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job_text::Parser;

    fn parse(fields: &str) -> Result<String, String> {
        let text = format!(r#"{{"podSpec":{{"containers":[{{}}]}},{fields}}}"#);
        let job = Parser::new().parse(text.as_bytes()).map(|job| job.network);
        job.map_err(|error| error.to_string())
    }

    #[test]
    fn services_and_ingresses_are_read_as_armada_writes_them() {
        let fields = r#""services":[{"type":"Headless","ports":[80,443]},{"type":0,"ports":[8080],
            "name":"mine"},{"ports":[1]}],"ingress":[{"type":"Ingress","ports":[80],"tlsEnabled":true,
            "certName":"c","annotations":{"a":"b"},"useClusterIP":true},{"type":0,"ports":[81],
            "tls_enabled":false,"cert_name":"d","use_clusterIP":false,"annotations":null}]"#;
        let text = parse(&fields.replace('\n', "")).unwrap();
        let read = Network::from_text(text.as_bytes()).unwrap();
        let service = |kind, ports: &[u32], name: &str| Service {
            kind,
            ports: ports.to_vec(),
            name: name.to_owned(),
        };
        let services = [
            service(ServiceKind::Headless, &[80, 443], ""),
            service(ServiceKind::NodePort, &[8080], "mine"),
            service(ServiceKind::NodePort, &[1], ""),
        ];
        assert_eq!(read.services, services);
        let with_all = Ingress {
            kind: IngressKind::Ingress,
            ports: vec![80],
            annotations: [("a".to_owned(), "b".to_owned())].into(),
            tls_enabled: true,
            cert_name: "c".to_owned(),
            use_cluster_ip: true,
        };
        let other = Ingress { ports: vec![81], cert_name: "d".to_owned(), ..Ingress::default() };
        assert_eq!(read.ingress, [with_all, other]);
        let (services, ingress) = Network::lists(&text);
        assert!(services.unwrap().get().starts_with(r#"[{"type":"Headless","ports":[80,443]},"#));
        assert!(ingress.unwrap().get().ends_with(r#"{"ports":[81],"certName":"d"}]"#));
        assert_eq!(parse(r#""services":[],"ingress":null"#), Ok(String::new()));
        assert_eq!(Network::from_text(b""), Ok(Network::default()));
    }

    #[test]
    fn services_and_ingresses_that_make_no_sense_are_refused_with_their_field() {
        let many = vec![r#"{"ports":[1]}"#; limits::SERVICES_MAX + 1].join(",");
        let ports: Vec<String> = (1..=65).map(|port| port.to_string()).collect();
        let cases = [
            (r#""services":[{}]"#, "services[0].ports: needs at least one port"),
            (r#""ingress":[{"ports":[]}]"#, "ingress[0].ports: needs at least one port"),
            (r#""services":[{"ports":[0]}]"#, "services[0].ports: 0 is not from 1 to 65535"),
            (r#""services":[{"ports":[65536]}]"#, "ports: 65536 is not from 1 to 65535"),
            (r#""services":[{"ports":[9,9]}]"#, "services[0].ports: names port 9 twice"),
            (
                r#""ingress":[{"ports":[1,2]},{"ports":[2]}]"#,
                "ingress[1].ports: port 2 has two ingresses",
            ),
            (
                r#""services":[{"type":"X","ports":[1]}]"#,
                "`X` is neither `NodePort` nor `Headless`",
            ),
            (r#""services":[{"type":2,"ports":[1]}]"#, "2 is neither `NodePort` nor `Headless`"),
            (r#""ingress":[{"type":"X","ports":[1]}]"#, "type `X` is not `Ingress`"),
            (r#""services":[{"ports":[1],"x":1}]"#, "unknown field `x`"),
            (r#""services":[{"ports":[1],"name":"A"}]"#, "services[0].name: "),
            (r#""services":[{"ports":[1],"name":"1a"}]"#, "does not begin with a letter"),
            (
                r#""count":2,"services":[{"ports":[1],"name":"a"}]"#,
                "services[0].name: the tasks of an array cannot share a service",
            ),
            (
                r#""services":[{"ports":[1],"name":"a"},{"ports":[2],"name":"a"}]"#,
                "services[1].name: there are two of the name `a`",
            ),
            (&format!(r#""services":[{many}]"#), "services: holds 17, limit is 16"),
            (&format!(r#""ingress":[{many}]"#), "ingress: holds 17, limit is 16"),
            (
                &format!(r#""services":[{{"ports":[{}]}}]"#, ports.join(",")),
                "services[0].ports: holds 65, limit is 64",
            ),
        ];
        for (fields, expected) in cases {
            let said = parse(fields).unwrap_err();
            assert!(said.contains(expected), "{fields}: {said}");
        }
    }

    #[test]
    fn a_job_is_as_large_as_its_services_make_it() {
        // What was written as a number goes on as a word.
        let services = vec![r#"{"type":1,"ports":[1]}"#; limits::SERVICES_MAX].join(",");
        let with = |note: usize| {
            let note = "x".repeat(note);
            parse(&format!(r#""labels":{{"a":"{note}"}},"services":[{services}]"#))
        };
        let said = with(limits::JOB_BYTES_MAX - 500).unwrap_err();
        assert!(said.contains("limit is 65536"), "{said}");
        assert!(with(limits::JOB_BYTES_MAX - 800).is_ok());
    }
}
