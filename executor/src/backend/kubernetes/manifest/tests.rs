//! What becomes of a job's pod spec.

use bytes::Bytes;
use muster_core::id::{JobId, JobRef, ShardId};
use muster_core::resources::Resources;
use muster_core::shape::Gang;
use muster_core::time::Timestamp;

use super::*;

fn payload(spec: &Value) -> JobPayload {
    JobPayload {
        job: job(),
        found: true,
        queue: "q".into(),
        job_set: "a set".into(),
        namespace: "team".into(),
        count: Some(9),
        labels: Bytes::from_static(br#"{"mine":"1","muster.dev/cluster":"forged"}"#),
        annotations: Bytes::from_static(br#"{"note":"x","muster.dev/network":"forged"}"#),
        network: Bytes::new(),
        pod_spec: serde_json::to_vec(spec).unwrap().into(),
    }
}

fn job() -> JobId {
    JobId::new(Timestamp(1_700_000_000_000), ShardId(2), 7)
}

fn shape(amounts: &[(&str, &str)]) -> Shape {
    let amounts = amounts.iter().map(|(name, text)| ((*name).into(), text.parse().unwrap()));
    Shape::of_request(amounts.collect::<Resources>())
}

fn built_with(spec: &Value, shape: &Shape, config: &KubernetesConfig) -> Value {
    let payload = payload(spec);
    let key = RunKey { job: JobRef::task(job(), 7), attempt: 2 };
    let uniformity = shape.gang.as_ref().map(|_| "r1".to_owned());
    let (node, cluster, payload) = ("n1", "c", &payload);
    let parts = Parts { key, node, shape, payload, cluster, uniformity, config };
    manifest(&parts).unwrap()
}

fn built(spec: &Value) -> Value {
    let shape = shape(&[("cpu", "1"), ("memory", "1Gi")]);
    built_with(spec, &shape, &KubernetesConfig::default())
}

/// What a field of the first container's environment says.
fn variable<'a>(pod: &'a Value, name: &str) -> Vec<&'a Value> {
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    env.iter().filter(|one| one["name"] == name).map(|one| &one["value"]).collect()
}

#[test]
fn what_is_not_known_here_is_kept() {
    let spec = json!({
        "containers": [{ "name": "main", "image": "i", "of2031": { "deep": [1, 2.5, "x", null] },
            "resources": { "requests": { "cpu": "500m", "memory": "1Gi" }, "claims": [{ "name": "c" }] } }],
        "ofTomorrow": [{ "a": true }],
        "imagePullSecrets": [{ "name": "s" }],
        "serviceAccountName": "robot",
        "hostAliases": [],
        "activeDeadlineSeconds": 60,
        "terminationGracePeriodSeconds": 5,
        "restartPolicy": "Never",
    });
    let mut found = built(&spec)["spec"].clone();
    found["containers"][0].as_object_mut().unwrap().remove("env");
    found.as_object_mut().unwrap().remove("affinity");
    assert_eq!(found, spec);
}

#[test]
fn a_pod_knows_whose_it_is_and_so_does_the_job_in_it() {
    let pod = built(&json!({ "containers": [{ "name": "main", "env": [
        { "name": "OWN", "value": "$(MUSTER_JOB_ID)" }, { "name": "MUSTER_QUEUE", "value": "mine" }] }] }));
    let meta = &pod["metadata"];
    let id = format!("{}-7", job());
    assert_eq!(meta["name"], format!("muster-{id}-2"));
    assert_eq!(meta["namespace"], "team");
    let labels = [
        ("mine", "1"),
        ("muster.dev/cluster", "c"),
        ("muster.dev/queue", "q"),
        ("muster.dev/attempt", "2"),
        ("muster.dev/shard", "2"),
        ("muster.dev/array-index", "7"),
        ("armada_queue_id", "q"),
        ("muster.dev/job-id", &id),
        ("armada_job_id", &id),
    ];
    for (name, value) in labels {
        assert_eq!(meta["labels"][name], value, "{name}");
    }
    for (name, value) in
        [("note", "x"), ("muster.dev/job-set", "a set"), ("armada_jobset_id", "a set")]
    {
        assert_eq!(meta["annotations"][name], value, "{name}");
    }
    assert_eq!(variable(&pod, "MUSTER_JOB_ID"), [&id]);
    assert_eq!(variable(&pod, "MUSTER_ARRAY_INDEX"), ["7"]);
    assert_eq!(variable(&pod, "MUSTER_QUEUE"), ["mine"]);
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let place = |name: &str| env.iter().position(|one| one["name"] == name).unwrap();
    assert!(place("MUSTER_JOB_ID") < place("OWN"), "a variable may refer to those before it only");
}

#[test]
fn members_of_a_gang_know_their_gang_by_either_name() {
    let mut shape = shape(&[("cpu", "1")]);
    shape.gang = Some(Gang { id: "g".into(), cardinality: 4, uniformity: Some("rack".into()) });
    let spec = json!({ "containers": [{}] });
    let pod = built_with(&spec, &shape, &KubernetesConfig::default());
    for prefix in ["MUSTER", "ARMADA"] {
        let of = |name: &str| variable(&pod, &format!("{prefix}_GANG_{name}"));
        assert_eq!((of("ID"), of("CARDINALITY")), (vec![&json!("g")], vec![&json!("4")]));
        assert_eq!(of("NODE_UNIFORMITY_LABEL_NAME"), ["rack"]);
        assert_eq!(of("NODE_UNIFORMITY_LABEL_VALUE"), ["r1"]);
    }
}

#[test]
fn a_pod_can_go_to_its_node_only() {
    let field = json!({ "key": "metadata.name", "operator": "In", "values": ["n1"] });
    let terms = |pod: &Value| {
        let affinity = &pod["spec"]["affinity"]["nodeAffinity"];
        affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"].clone()
    };
    let plain = json!({ "containers": [{}] });
    assert_eq!(terms(&built(&plain)), json!([{ "matchFields": [field] }]));
    let null = json!({ "containers": [{}], "affinity": null });
    assert_eq!(terms(&built(&null)), json!([{ "matchFields": [field] }]));
    let either = json!({ "containers": [{}], "affinity": { "podAntiAffinity": {}, "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "a", "operator": "Exists" }] },
            { "matchFields": [{ "key": "metadata.name", "operator": "NotIn", "values": ["n2"] }] }] } } } });
    let pod = built(&either);
    let expected = json!([
        { "matchExpressions": [{ "key": "a", "operator": "Exists" }], "matchFields": [field] },
        { "matchFields": [{ "key": "metadata.name", "operator": "NotIn", "values": ["n2"] }, field] }]);
    assert_eq!(terms(&pod), expected);
    assert_eq!(pod["spec"]["affinity"]["podAntiAffinity"], json!({}));
    let direct = KubernetesConfig { binding: Binding::Direct, ..KubernetesConfig::default() };
    let pod = built_with(&plain, &shape(&[("cpu", "1")]), &direct);
    assert_eq!((terms(&pod), &pod["spec"]["schedulerName"]), (Value::Null, &json!("muster")));
}

#[test]
fn resources_that_no_node_has_and_muster_s_own_words_are_taken_out() {
    let spec = json!({
        "containers": [{ "resources": {
            "requests": { "cpu": 2, "memory": "1Gi", "licence": "1", "nvidia.com/gpu": 1 },
            "limits": { "licence": "1", "nvidia.com/gpu": 1 } } }],
        "nodeSelector": { "muster.dev/pool": "gpu", "disk": "ssd" },
        "priorityClassName": "armada-default",
    });
    let leased = shape(&[("cpu", "2"), ("memory", "1Gi"), ("nvidia.com/gpu", "1")]);
    let pod = built_with(&spec, &leased, &KubernetesConfig::default());
    let resources = &pod["spec"]["containers"][0]["resources"];
    let expected = json!({ "requests": { "cpu": 2, "memory": "1Gi", "nvidia.com/gpu": 1 },
        "limits": { "nvidia.com/gpu": 1 } });
    assert_eq!(*resources, expected);
    assert_eq!(pod["spec"]["nodeSelector"], json!({ "disk": "ssd" }));
    assert_eq!(pod["spec"].get("priorityClassName"), None);
    let config = KubernetesConfig { keep_priority_class: true, ..KubernetesConfig::default() };
    let pod = built_with(&spec, &leased, &config);
    assert_eq!(pod["spec"]["priorityClassName"], "armada-default");
}

#[test]
fn an_attempt_that_was_given_more_memory_asks_for_it() {
    let spec = json!({ "containers": [
        { "resources": { "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "memory": "2Gi" } } },
        { "resources": { "requests": { "cpu": "1", "memory": "1Gi" } } }] });
    let grown = shape(&[("cpu", "2"), ("memory", "3Gi")]);
    let pod = built_with(&spec, &grown, &KubernetesConfig::default());
    let of =
        |n: usize, list: &str| pod["spec"]["containers"][n]["resources"][list]["memory"].clone();
    assert_eq!(of(0, "requests"), "1536Mi");
    assert_eq!((of(0, "limits"), of(1, "requests")), (json!("3Gi"), json!("1536Mi")));
    let limited = json!({ "containers": [
        { "resources": { "limits": { "cpu": "1", "memory": "2Gi" } } },
        { "resources": { "requests": { "cpu": "1", "memory": "1Gi" } } }] });
    let pod = built_with(&limited, &grown, &KubernetesConfig::default());
    assert_eq!(
        pod["spec"]["containers"][0]["resources"]["limits"]["memory"], "2Gi",
        "it is as asked for"
    );
}

#[test]
fn what_a_job_does_not_say_is_as_it_is_counted_and_as_in_armada() {
    let pod = built(&json!({ "containers": [{ "resources": { "limits": { "cpu": "1" } } }, {}],
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 0 }));
    let resources = |n: usize| pod["spec"]["containers"][n]["resources"].clone();
    assert_eq!(resources(0), json!({ "limits": { "cpu": "1" }, "requests": { "memory": "1Gi" } }));
    assert_eq!(resources(1), json!({ "requests": { "cpu": "1", "memory": "1Gi" } }));
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 1);
    assert_eq!(pod["spec"]["activeDeadlineSeconds"], 72 * 3600);
}

#[test]
fn services_and_ingresses_stand_on_the_pod() {
    let spec = json!({ "containers": [{ "name": "main" }] });
    let annotation = |pod: &Value| pod["metadata"]["annotations"]["muster.dev/network"].clone();
    assert_eq!(annotation(&built(&spec)), Value::Null, "nobody but Muster says what they are");
    let (shape, config) = (shape(&[]), KubernetesConfig::default());
    let built = |network: &'static str| {
        let payload = JobPayload { network: network.into(), ..payload(&spec) };
        let key = RunKey { job: JobRef::task(job(), 7), attempt: 2 };
        let (node, cluster) = ("n1", "c");
        let (payload, shape, config) = (&payload, &shape, &config);
        manifest(&Parts { key, node, shape, payload, cluster, uniformity: None, config })
    };
    let network = r#"{"services":[{"type":"Headless","ports":[80]}]}"#;
    assert_eq!(annotation(&built(network).unwrap()), network);
    let unread = built("{").unwrap_err();
    assert!(unread.starts_with("its services and ingresses cannot be read: "), "{unread}");
}
