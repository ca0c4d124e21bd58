//! One version of the control data as it lies in the store: a JSON document.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use muster_core::control::{
    Amount, Control, Cordon, Cordons, Limit, PoolSettings, PriorityClass, Queue, Rate,
};
use muster_core::shape::Placement;
use muster_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codec::policy::{self, RuleDetail};

const FORMAT_VERSION: u32 = 1;

/// The document as it lies in the store.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    format_version: u32,
    version: u64,
    nonce: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shards: Option<u16>,
    queues: BTreeMap<String, QueueDocument>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    priority_classes: BTreeMap<String, ClassDocument>,
    #[serde(default, skip_serializing_if = "CordonsDocument::is_empty")]
    cordons: CordonsDocument,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pools: BTreeMap<String, PoolDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PoolDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<RateDocument>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    floating_resources: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    placement: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    lends_to: BTreeSet<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CordonsDocument {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    clusters: BTreeMap<String, CordonDocument>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    nodes: BTreeMap<String, BTreeMap<String, CordonDocument>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    put_back: BTreeMap<String, BTreeMap<String, i64>>,
}

#[derive(Serialize, Deserialize)]
struct CordonDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClassDocument {
    priority: i32,
    #[serde(default)]
    preemptible: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueDocument {
    weight_millis: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    cordoned: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    limits: Vec<LimitDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jobs_queued_max: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<RateDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<Vec<RuleDetail>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    incarnation: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LimitDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    resources: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RateDocument {
    per_second_millis: u64,
    burst: u32,
}

impl From<Queue> for QueueDocument {
    fn from(queue: Queue) -> Self {
        let Queue {
            weight_millis,
            labels,
            cordoned,
            limits,
            jobs_queued_max,
            rate,
            retry,
            parent,
            incarnation,
        } = queue;
        let retry = retry.as_deref().map(policy::of_policy);
        let text = |(name, amount): (String, Amount)| (name, amount.to_string());
        let limit = |limit: Limit| LimitDocument {
            class: limit.class,
            pool: limit.pool,
            resources: limit.resources.into_iter().map(text).collect(),
        };
        let rate = rate.map(Into::into);
        let limits = limits.into_iter().map(limit).collect();
        Self {
            weight_millis,
            labels,
            cordoned,
            limits,
            jobs_queued_max,
            rate,
            retry,
            parent,
            incarnation,
        }
    }
}

impl TryFrom<QueueDocument> for Queue {
    type Error = String;

    fn try_from(queue: QueueDocument) -> Result<Self, String> {
        let QueueDocument {
            weight_millis,
            labels,
            cordoned,
            limits,
            jobs_queued_max,
            rate,
            retry,
            parent,
            incarnation,
        } = queue;
        let retry = retry.map(policy::into_policy).transpose()?;
        let amount = |(name, text): (String, String)| {
            Amount::parse(&text).map(|amount| (name, amount)).map_err(|error| error.to_string())
        };
        let limit = |LimitDocument { class, pool, resources }| {
            let resources = resources.into_iter().map(amount).collect::<Result<_, String>>()?;
            Ok(Limit { class, pool, resources })
        };
        let limits = limits.into_iter().map(limit).collect::<Result<_, String>>()?;
        let rate = rate.map(Into::into);
        Ok(Self {
            weight_millis,
            labels,
            cordoned,
            limits,
            jobs_queued_max,
            rate,
            retry,
            parent,
            incarnation,
        })
    }
}

impl From<Rate> for RateDocument {
    fn from(Rate { per_second_millis, burst }: Rate) -> Self {
        Self { per_second_millis, burst }
    }
}

impl From<RateDocument> for Rate {
    fn from(RateDocument { per_second_millis, burst }: RateDocument) -> Self {
        Self { per_second_millis, burst }
    }
}

impl From<PoolSettings> for PoolDocument {
    fn from(settings: PoolSettings) -> Self {
        let PoolSettings { rate, floating, placement, lends_to } = settings;
        let floating = floating.into_iter().map(|(name, amount)| (name, amount.to_string()));
        let placement = placement.map(|placement| placement.name().to_owned());
        Self {
            rate: rate.map(Into::into),
            floating_resources: floating.collect(),
            placement,
            lends_to,
        }
    }
}

impl TryFrom<PoolDocument> for PoolSettings {
    type Error = String;

    fn try_from(document: PoolDocument) -> Result<Self, String> {
        let PoolDocument { rate, floating_resources, placement, lends_to } = document;
        let known = |word: String| {
            Placement::from_name(&word).ok_or_else(|| format!("`{word}` is no placement"))
        };
        let placement = placement.map(known).transpose()?;
        let amount = |(name, text): (String, String)| {
            text.parse().map(|amount| (name, amount)).map_err(|_| format!("`{text}` is no amount"))
        };
        let floating = floating_resources.into_iter().map(amount).collect::<Result<_, String>>()?;
        Ok(Self { rate: rate.map(Into::into), floating, placement, lends_to })
    }
}

impl From<PriorityClass> for ClassDocument {
    fn from(class: PriorityClass) -> Self {
        let PriorityClass { priority, preemptible } = class;
        Self { priority, preemptible }
    }
}

impl From<ClassDocument> for PriorityClass {
    fn from(class: ClassDocument) -> Self {
        let ClassDocument { priority, preemptible } = class;
        Self { priority, preemptible }
    }
}

impl From<Cordon> for CordonDocument {
    fn from(Cordon { reason }: Cordon) -> Self {
        Self { reason }
    }
}

impl From<CordonDocument> for Cordon {
    fn from(CordonDocument { reason }: CordonDocument) -> Self {
        Self { reason }
    }
}

impl CordonsDocument {
    fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.nodes.is_empty() && self.put_back.is_empty()
    }
}

impl From<Cordons> for CordonsDocument {
    fn from(Cordons { clusters, nodes, put_back }: Cordons) -> Self {
        let nodes = nodes.into_iter().map(|(cluster, nodes)| (cluster, each(nodes)));
        let times = |nodes: BTreeMap<String, Timestamp>| {
            nodes.into_iter().map(|(node, at)| (node, at.0)).collect()
        };
        let put_back = put_back.into_iter().map(|(cluster, nodes)| (cluster, times(nodes)));
        let (clusters, nodes) = (each(clusters), nodes.collect());
        Self { clusters, nodes, put_back: put_back.collect() }
    }
}

impl From<CordonsDocument> for Cordons {
    fn from(CordonsDocument { clusters, nodes, put_back }: CordonsDocument) -> Self {
        let nodes = nodes.into_iter().map(|(cluster, nodes)| (cluster, each(nodes)));
        let times = |nodes: BTreeMap<String, i64>| {
            nodes.into_iter().map(|(node, at)| (node, Timestamp(at))).collect()
        };
        let put_back = put_back.into_iter().map(|(cluster, nodes)| (cluster, times(nodes)));
        let (clusters, nodes) = (each(clusters), nodes.collect());
        Self { clusters, nodes, put_back: put_back.collect() }
    }
}

/// Each value of a map as the other type.
fn each<A: Into<B>, B>(map: BTreeMap<String, A>) -> BTreeMap<String, B> {
    map.into_iter().map(|(name, value)| (name, value.into())).collect()
}

/// The bytes of a version.
pub(super) fn encode(control: &Control, nonce: &str) -> Bytes {
    let document = Document {
        format_version: FORMAT_VERSION,
        version: control.version,
        nonce: nonce.to_owned(),
        shards: control.shards,
        queues: each(control.queues.clone()),
        priority_classes: each(control.classes.clone()),
        cordons: control.cordons.clone().into(),
        pools: each(control.pools.clone()),
    };
    let text = serde_json::to_vec_pretty(&document);
    text.expect("numbers, texts and maps with text keys are always JSON").into()
}

/// The version behind bytes, and its nonce.
pub(super) fn decode(data: &[u8]) -> Result<(Control, String), String> {
    /// Read first: a later format may differ in everything else.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Format {
        format_version: u32,
    }
    let format: Format = serde_json::from_slice(data).map_err(|error| error.to_string())?;
    if format.format_version != FORMAT_VERSION {
        return Err(format!("format version {} is not {FORMAT_VERSION}", format.format_version));
    }
    let document: Document = serde_json::from_slice(data).map_err(|error| error.to_string())?;
    let Document { version, nonce, shards, queues, priority_classes, cordons, pools, .. } =
        document;
    let queue = |(name, queue): (String, QueueDocument)| Ok((name, queue.try_into()?));
    let queues = queues.into_iter().map(queue).collect::<Result<_, String>>()?;
    let pool = |(name, pool): (String, PoolDocument)| Ok((name, pool.try_into()?));
    let pools = pools.into_iter().map(pool).collect::<Result<_, String>>()?;
    let classes = each(priority_classes);
    let cordons = cordons.into();
    Ok((Control { version, shards, queues, classes, cordons, pools }, nonce))
}

#[cfg(test)]
mod tests {
    use muster_core::control::Place;
    use muster_core::quantity::Quantity;

    use super::*;

    fn queue() -> Queue {
        let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        Queue { weight_millis: 1500, labels, cordoned: true, ..Queue::default() }
    }

    #[test]
    fn the_document_is_as_documented() {
        let control = Control::default().with_queue("a", queue()).unwrap();
        let text = encode(&control, "00ff");
        let expected = r#"{"formatVersion":1,"version":1,"nonce":"00ff","queues":{"a":
            {"weightMillis":1500,"labels":{"team":"a"},"cordoned":true,"incarnation":1}}}"#;
        let json = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
        assert_eq!(json(&text), json(expected.as_bytes()));
        assert_eq!(decode(&text), Ok((control.clone(), "00ff".to_owned())));
        let control = control.with_shards(8).unwrap();
        let text = encode(&control, "01");
        assert_eq!(json(&text)["shards"], 8);
        assert_eq!(decode(&text), Ok((control.clone(), "01".to_owned())));
        let class = PriorityClass { priority: -7, preemptible: true };
        let control = control.with_class("spare", class).unwrap();
        let text = encode(&control, "02");
        let spare = r#"{"spare":{"priority":-7,"preemptible":true}}"#;
        assert_eq!(json(&text)["priorityClasses"], json(spare.as_bytes()));
        assert_eq!(decode(&text), Ok((control, "02".to_owned())));
        let resources = [("cpu", "100"), ("memory", "12.5%")];
        let amount = |(name, text): (&str, &str)| (name.to_owned(), Amount::parse(text).unwrap());
        let limit = Limit {
            class: Some("spare".to_owned()),
            pool: None,
            resources: resources.into_iter().map(amount).collect(),
        };
        let limited = Queue {
            limits: vec![limit],
            jobs_queued_max: Some(1000),
            rate: Some(Rate { per_second_millis: 50_000, burst: 7 }),
            parent: Some("team".to_owned()),
            ..Queue::default()
        };
        let control = Control::default().with_queue("team", Queue::default()).unwrap();
        let control = control.with_queue("b", limited).unwrap();
        let text = encode(&control, "03");
        let expected = r#"{"weightMillis":1000,"cordoned":false,"incarnation":2,"parent":"team",
            "limits":[{"class":"spare","resources":{"cpu":"100","memory":"12.5%"}}],
            "jobsQueuedMax":1000,"rate":{"perSecondMillis":50000,"burst":7}}"#;
        assert_eq!(json(&text)["queues"]["b"], json(expected.as_bytes()));
        assert_eq!(decode(&text), Ok((control, "03".to_owned())));
        let node = Place::Node { cluster: "c", node: "n" };
        let reason = Some("disk".to_owned());
        let control = Control::default().with_cordon(node, Cordon { reason }).unwrap();
        let control = control.with_cordon(Place::Cluster("d"), Cordon::default()).unwrap();
        let control = control.with_node_put_back(("c", "m"), Timestamp(5)).unwrap();
        let text = encode(&control, "04");
        let cordons = r#"{"clusters":{"d":{}},"nodes":{"c":{"n":{"reason":"disk"}}},
            "putBack":{"c":{"m":5}}}"#;
        assert_eq!(json(&text)["cordons"], json(cordons.as_bytes()));
        assert_eq!(decode(&text), Ok((control, "04".to_owned())));
        let floating = [("a/seat".to_owned(), Quantity::from_units(20))].into();
        let rate = Some(Rate { per_second_millis: 500, burst: 3 });
        let lends_to = BTreeSet::from(["cpu".to_owned()]);
        let placement = Some(Placement::Spread);
        let settings = PoolSettings { rate, floating, placement, lends_to };
        let control = Control::default().with_pool("gpu", settings).unwrap();
        let text = encode(&control, "05");
        let pools = r#"{"gpu":{"rate":{"perSecondMillis":500,"burst":3},
            "floatingResources":{"a/seat":"20"},"placement":"spread",
            "lendsTo":["cpu"]}}"#;
        assert_eq!(json(&text)["pools"], json(pools.as_bytes()));
        assert_eq!(decode(&text), Ok((control, "05".to_owned())));
        let later = r#"{"formatVersion":1,"version":0,"nonce":"","queues":{},"colours":{}}"#;
        assert!(decode(later.as_bytes()).is_ok(), "fields that are not known are left alone");
        assert!(decode(br#"{"formatVersion":2,"version":1}"#).unwrap_err().contains("version 2"));
    }
}
