//! Armada's job files, with every field that they have, go in as they are.

use std::path::{Path, PathBuf};

use muster_tests::process::Program;
use muster_tests::site::Site;
use serde_json::{Value, json};

use super::{cordoned, http, shown};

/// What `armadactl submit` takes: each field of an item once, a list of one pod spec beside a
/// single one, and what has no meaning here but stands in such files.
const FILE: &str = r#"# A job file of Armada
queue: armada
jobSetId: night-run
jobs:
  - priority: 1000.4
    namespace: research
    clientId: "0001"
    labels: { app: "solver", zone: "a" }
    annotations:
      armadaproject.io/owner: "somebody"
    requiredNodeLabels: { kubernetes.io/arch: amd64 }
    scheduler: armada
    externalJobUri: https://example.com/1
    ingress:
      - { type: Ingress, ports: [80], tlsEnabled: true, annotations: { a: b } }
    services:
      - { type: Headless, ports: [81] }
    podSpec: &spec
      terminationGracePeriodSeconds: 0
      restartPolicy: Never
      priorityClassName: armada-default
      securityContext: { runAsUser: 1000 }
      nodeSelector: { disk: ssd }
      tolerations:
        - { key: dedicated, operator: Equal, value: "yes", effect: NoSchedule }
        - { operator: Exists }
      volumes: [{ name: scratch, emptyDir: {} }]
      initContainers:
        - name: prepare
          image: busybox
          command: ["true"]
          resources:
            limits: { cpu: 500m, memory: 128Mi }
            requests: { cpu: 500m, memory: 128Mi }
      containers:
        - name: main
          image: alpine:3
          imagePullPolicy: IfNotPresent
          command: ["sh", "-c"]
          args: ["echo $(date); sleep 5"]
          env: [{ name: A, value: b }]
          resources:
            limits: { memory: 64Mi, cpu: 150m, nvidia.com/gpu: 2 }
            requests: { memory: 64Mi, cpu: 0.15, nvidia.com/gpu: "2" }
  - podSpecs:
      - *spec
  - podSpec:
      containers:
        - name: bare
          image: alpine:3
"#;

fn run(site: &Site, args: &[&str], file: &Path) -> std::process::Output {
    let program =
        Program::built("muster").unwrap().env("MUSTER_URL", site.url()).args(args).arg(file);
    program.output().unwrap()
}

fn file(site: &Site, name: &str, text: &str) -> PathBuf {
    let path = site.log_dir().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

pub(crate) async fn job_files_of_armada_are_submitted_as_they_are(site: &Site) {
    let http = http(site);
    cordoned(&http, "armada").await;
    let submitted = run(site, &["submit"], &file(site, "armada.yaml", FILE));
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    let ids: Vec<String> =
        String::from_utf8(submitted.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), 3);

    let full = http.get(&format!("/api/v1/jobs/{}?spec=true", ids[0])).await.unwrap().json();
    assert_eq!((&full["queue"], &full["jobSet"]), (&json!("armada"), &json!("night-run")));
    assert_eq!((&full["priority"], &full["clientId"]), (&json!(1000), &json!("0001")));
    let spec = &full["spec"];
    assert_eq!(spec["namespace"], "research");
    assert_eq!(spec["labels"], json!({ "app": "solver", "zone": "a" }));
    assert_eq!(spec["annotations"]["armadaproject.io/owner"], "somebody");
    let ingress = json!([{ "ports": [80], "annotations": { "a": "b" }, "tlsEnabled": true }]);
    assert_eq!(spec["ingress"], ingress);
    assert_eq!(spec["services"], json!([{ "type": "Headless", "ports": [81] }]));
    let pod = &spec["podSpec"];
    assert_eq!(pod["volumes"][0]["name"], "scratch");
    assert_eq!(pod["containers"][0]["args"], json!(["echo $(date); sleep 5"]));
    // The larger of what the init container and what the container asks for, exactly.
    let expected = json!({ "cpu": "500m", "memory": "128Mi", "nvidia.com/gpu": "2", "pods": "1" });
    assert_eq!(quantities(&full["resources"]), quantities(&expected));
    let listed = http.get(&format!("/api/v1/jobs/{}?spec=true", ids[1])).await.unwrap().json();
    assert_eq!(listed["spec"]["podSpec"], *pod, "a list of one is that one");
    assert_eq!(listed["spec"]["namespace"], "default");
    // Where neither request nor limit says anything, Armada's defaults hold.
    let bare = shown(&http, &ids[2]).await;
    let expected = json!({ "cpu": "1", "memory": "1Gi", "pods": "1" });
    assert_eq!(quantities(&bare["resources"]), quantities(&expected));
    assert_eq!((&bare["priority"], &bare["clientId"]), (&json!(0), &Value::Null));

    // The same as JSON, as it is sent to Armada's API.
    let request = json!({
        "queue": "armada",
        "jobSetId": "as-request",
        "jobRequestItems": [{ "clientId": "0002", "podSpec": pod }],
    });
    let text = serde_json::to_string_pretty(&request).unwrap();
    let submitted = run(site, &["submit"], &file(site, "armada.json", &text));
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    let id = String::from_utf8(submitted.stdout).unwrap();
    assert_eq!(shown(&http, id.trim()).await["jobSet"], "as-request");
}

pub(crate) async fn what_armada_does_and_we_do_not_is_said(site: &Site) {
    cordoned(&http(site), "armada-not").await;
    let of = |field: &str| {
        let item = format!("{{{field} podSpec: {{ containers: [{{}}] }} }}");
        format!("queue: armada-not\njobSetId: s\njobs:\n  - {item}\n")
    };
    let fields = [
        ("ingress: [{}],", "ingress[0].ports: needs at least one port"),
        ("services: [{ type: LoadBalancer, ports: [80] }],", "`LoadBalancer` is neither"),
        ("podSpecs: [{}],", "podSpecs: not beside `podSpec`"),
        ("colour: red,", "unknown field `colour`"),
    ];
    for (field, expected) in fields {
        let refused = run(site, &["submit"], &file(site, "refused.yaml", &of(field)));
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{text}");
        assert!(text.contains(expected), "{text}");
        assert!(refused.stdout.is_empty());
    }
}

/// Amounts as numbers: `64Mi` and `67108864` are the same.
fn quantities(amounts: &Value) -> Vec<(String, muster_core::quantity::Quantity)> {
    let amounts = amounts.as_object().unwrap().iter();
    amounts.map(|(name, text)| (name.clone(), text.as_str().unwrap().parse().unwrap())).collect()
}
