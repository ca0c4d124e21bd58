//! The OpenAPI document says what the code does.

use std::collections::{BTreeMap, BTreeSet};

use muster_api::http::{self, Blocker, ErrorCode, Problem};
use muster_api::job_text::Dependency;
use muster_api::job_text::retry::{ExitCodes, RetryAction, RetryBackoff, RetryMemory, RetryRule};
use muster_api::request;
use muster_core::job::JobState;
use muster_core::retry::Reason;
use muster_gateway::{API_PREFIX, OPENAPI, ROUTES};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let document = document();
    assert_eq!(document["servers"][0]["url"], API_PREFIX);
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            described.insert((method.to_uppercase(), path.clone()));
            let in_path = path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}'));
            let named: BTreeSet<&str> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            assert_eq!(in_path.collect::<BTreeSet<_>>(), named, "{method} {path}");
        }
    }
    let routed: BTreeSet<_> =
        ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(described, routed);
    assert_eq!(routed.len(), ROUTES.len());
}

#[test]
fn references_lead_somewhere_and_every_schema_is_used() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if name == "$ref" {
                        let name = member.as_str().unwrap().rsplit('/').next().unwrap();
                        found.insert(name.to_owned());
                    }
                    references(member, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    let schemas: BTreeSet<String> =
        document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(found, schemas);
}

/// A value with every field set has the schema's properties; one with none set has the required
/// ones.
fn check(name: &str, full: impl Serialize, least: impl Serialize) {
    let schema = &document()["components"]["schemas"][name];
    let keys = |value: Value| -> BTreeSet<String> {
        value.as_object().unwrap_or_else(|| panic!("{name}: {value}")).keys().cloned().collect()
    };
    let properties = keys(schema["properties"].clone());
    assert_eq!(keys(serde_json::to_value(full).unwrap()), properties, "{name}");
    let required: BTreeSet<String> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let least = keys(serde_json::to_value(least).unwrap());
    assert!(required.is_subset(&least), "{name}: {required:?} are required, {least:?} are sent");
    if schema["additionalProperties"] != false {
        assert_eq!(required, least, "{name}: what is always sent is required");
    }
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn run() -> http::Run {
    http::Run {
        attempt: 1,
        cluster: "c".to_owned(),
        node: "n".to_owned(),
        leased_at: String::new(),
        started_at: Some(String::new()),
        addresses: vec![address()],
        ended_at: Some(String::new()),
        exit_code: Some(0),
        signal: Some(9),
        reason: Some(String::new()),
        message: Some(String::new()),
        memory_peak_bytes: Some(1),
        cpu_time_ms: Some(1),
    }
}

fn address() -> http::Address {
    http::Address { port: 80, address: String::new() }
}

fn spec() -> http::JobSpec {
    http::JobSpec {
        namespace: String::new(),
        labels: Some(raw("{}")),
        annotations: Some(raw("{}")),
        services: Some(raw("[]")),
        ingress: Some(raw("[]")),
        pod_spec: raw("{}"),
    }
}

fn job() -> http::Job {
    http::Job {
        job_id: String::new(),
        queue: String::new(),
        job_set: String::new(),
        client_id: Some(String::new()),
        state: String::new(),
        priority: 0,
        submitted_at: String::new(),
        finished_at: Some(String::new()),
        reason: Some(String::new()),
        resources: BTreeMap::new(),
        runs: vec![run()],
        count: Some(1),
        counts: Some(BTreeMap::new()),
        held_back: Some(held_back()),
        spec: Some(spec()),
    }
}

fn held_back() -> http::HeldBack {
    let depends_on = vec![Dependency {
        job_id: Some(String::new()),
        client_id: Some(String::new()),
        after: String::new(),
    }];
    let kind = http::HeldBackKind::Dependency;
    let not_before = Some(String::new());
    http::HeldBack { kind, detail: String::new(), depends_on, max_running: Some(1), not_before }
}

fn event() -> http::Event {
    http::Event {
        cursor: String::new(),
        job_id: String::new(),
        event: String::new(),
        at: String::new(),
        count: 2,
        attempt: Some(1),
        cluster: Some(String::new()),
        node: Some(String::new()),
        addresses: vec![address()],
        priority: Some(0),
        exit_code: Some(0),
        signal: Some(0),
        reason: Some(String::new()),
        message: Some(String::new()),
    }
}

#[test]
fn schemas_of_jobs_have_the_fields_that_are_sent() {
    let least_run = http::Run {
        started_at: None,
        addresses: Vec::new(),
        ended_at: None,
        exit_code: None,
        signal: None,
        reason: None,
        message: None,
        memory_peak_bytes: None,
        cpu_time_ms: None,
        ..run()
    };
    check("Run", run(), least_run);
    let least_spec =
        http::JobSpec { labels: None, annotations: None, services: None, ingress: None, ..spec() };
    check("JobSpec", spec(), least_spec);
    check("Address", address(), address());
    let least = http::Job {
        client_id: None,
        finished_at: None,
        reason: None,
        count: None,
        counts: None,
        held_back: None,
        spec: None,
        ..job()
    };
    check("Job", job(), least);
    let least = http::HeldBack {
        depends_on: Vec::new(),
        max_running: None,
        not_before: None,
        ..held_back()
    };
    check("HeldBack", held_back(), least);
    let dependency = held_back().depends_on.remove(0);
    check("Dependency", &dependency, &dependency);
    let page = http::JobPage { jobs: vec![job()], cursor: Some(String::new()) };
    check("JobPage", page, http::JobPage::default());
    let set =
        http::JobSet { queue: String::new(), job_set: String::new(), counts: BTreeMap::new() };
    check("JobSet", &set, &set);
    let page = http::JobSetPage { job_sets: vec![set], cursor: Some(String::new()) };
    check("JobSetPage", page, http::JobSetPage::default());
    let least = http::Event {
        count: 1,
        attempt: None,
        cluster: None,
        node: None,
        addresses: Vec::new(),
        priority: None,
        exit_code: None,
        signal: None,
        reason: None,
        message: None,
        ..event()
    };
    check("Event", event(), least);
    check("Applied", http::Applied::default(), http::Applied::default());
}

#[test]
fn schemas_of_queues_and_pools_have_the_fields_that_are_sent() {
    let limit = http::QueueLimit {
        class: Some(String::new()),
        pool: Some(String::new()),
        resources: BTreeMap::new(),
    };
    check("QueueLimit", &limit, http::QueueLimit::default());
    let rate = http::Rate { per_second: 1.0, burst: 1 };
    check("Rate", rate, rate);
    let settings = http::QueueSettings {
        limits: vec![limit],
        jobs_queued_max: Some(1),
        rate: Some(rate),
        retry: vec![retry_rule()],
        parent: Some(String::new()),
        ..http::QueueSettings::default()
    };
    let least = http::QueueSettings::default();
    check("QueueSettings", &settings, &least);
    let of = |settings| http::Queue { name: String::new(), settings };
    check("Queue", of(settings), of(least));
    check("QueueList", http::QueueList { queues: vec![] }, http::QueueList { queues: vec![] });
    let settings = http::PriorityClassSettings { priority: 1, preemptible: false };
    check("PriorityClassSettings", settings, settings);
    let class = http::PriorityClass {
        name: String::new(),
        priority: 1,
        preemptible: false,
        built_in: true,
    };
    check("PriorityClass", &class, &class);
    let list = http::PriorityClassList::default();
    check("PriorityClassList", &list, &list);
    let settings = http::PoolSettings {
        rate: Some(rate),
        floating_resources: [("a/seat".to_owned(), "1".to_owned())].into(),
        placement: Some("spread".to_owned()),
        lends_to: ["cpu".to_owned()].into(),
    };
    check("PoolSettings", settings, http::PoolSettings::default());
    check("Pool", http::Pool::default(), http::Pool::default());
    let usage = [("cpu".to_owned(), "1".to_owned())].into();
    let full = http::QueueShare { decayed_usage: usage, ..http::QueueShare::default() };
    check("QueueShare", full, http::QueueShare::default());
    let out = http::NodeTakenOut::default();
    check("NodeTakenOut", &out, &out);
    let full = http::Cluster { taken_out: vec![out], ..http::Cluster::default() };
    check("Cluster", full, http::Cluster::default());
    check("PoolList", request::PoolList::default(), request::PoolList::default());
    let cordon = http::Cordon {
        cluster: String::new(),
        node: Some(String::new()),
        reason: Some(String::new()),
    };
    check("Cordon", &cordon, http::Cordon::default());
    let reason = Some(String::new());
    check("CordonSettings", http::CordonSettings { reason }, http::CordonSettings::default());
    let list = request::ClusterList { clusters: vec![], cordons: vec![cordon] };
    check("ClusterList", list, request::ClusterList::default());
}

fn retry_rule() -> RetryRule {
    RetryRule {
        exit_codes: vec![ExitCodes::One(1)],
        signals: vec![9],
        reasons: vec![String::new()],
        action: RetryAction::Retry,
        limit: Some(1),
        backoff: Some(RetryBackoff { base_seconds: 1.0, factor: 2.0, max_seconds: 3.0 }),
        other_node: true,
        memory: Some(RetryMemory { factor: 2.0, max: String::new() }),
    }
}

#[test]
fn schemas_of_retry_policies_have_the_fields_that_are_read() {
    let rule = retry_rule();
    let least = RetryRule {
        exit_codes: Vec::new(),
        signals: Vec::new(),
        reasons: Vec::new(),
        limit: None,
        backoff: None,
        other_node: false,
        memory: None,
        ..rule.clone()
    };
    check("RetryRule", &rule, least);
    check("RetryBackoff", rule.backoff, rule.backoff);
    check("RetryMemory", &rule.memory, &rule.memory);
    let schemas = &document()["components"]["schemas"];
    let listed = schemas["RetryRule"]["properties"]["reasons"]["items"]["enum"].clone();
    assert_eq!(listed, serde_json::json!(Reason::ALL.map(Reason::name)));
}

#[test]
fn schemas_of_explanations_have_the_fields_that_are_sent() {
    let some = || Some(String::new());
    let place = http::LinePlace { ahead_max: Some(1), ..http::LinePlace::default() };
    check("LinePlace", &place, http::LinePlace::default());
    check("ShareWhy", http::ShareWhy::default(), http::ShareWhy::default());
    let before = http::QueueBefore { class: some(), ..http::QueueBefore::default() };
    check("QueueBefore", before, http::QueueBefore::default());
    let none = http::RuledOut::default;
    let full = http::RuledOut { what: some(), has: some(), lacks: some(), ..none() };
    check("RuledOut", full, none());
    let full = http::ClusterFit { cordoned: some(), ..http::ClusterFit::default() };
    check("ClusterFit", full, http::ClusterFit::default());
    let full = http::Estimate { seconds: Some(1), ..http::Estimate::default() };
    check("Estimate", full, http::Estimate::default());
    check("PoolWhy", http::PoolWhy::default(), http::PoolWhy::default());
    let full = http::ShapeFit { fits_ever: Some(true), ..http::ShapeFit::default() };
    check("ShapeFit", full, http::ShapeFit::default());
    let pool = Some(http::PoolWhy::default());
    let full = http::Why { place: Some(place), pool, ..http::Why::default() };
    check("Why", full, http::Why::default());
}

#[test]
fn every_kind_of_blocker_is_documented_with_its_fields() {
    let text = String::new;
    let (pool, queue, resource, limit, held) = (text(), text(), text(), text(), text());
    let blockers = [
        Blocker::QueueCordoned { queue },
        Blocker::NoCluster { pool: pool.clone() },
        Blocker::NeverFits { pool: pool.clone() },
        Blocker::NodesClosed { nodes: 1 },
        Blocker::Limit { class: Some(text()), resource, limit, held, requested: text() },
        Blocker::Floating { resource: text(), limit: text(), held: text(), requested: text() },
        Blocker::Rate { per_second: 1.0, burst: 1 },
        Blocker::PoolRate { pool: pool.clone(), per_second: 1.0, burst: 1 },
        Blocker::HeldBack { detail: text() },
        Blocker::GangWaiting { gang: text(), live: 1, waiting: 1, cardinality: 1 },
        Blocker::GangRoom { gang: text(), cardinality: 1, uniform: Some(text()), room: Some(1) },
        Blocker::RoomKept { queues: 1 },
        Blocker::SharesKept { queues: 1 },
        Blocker::NoRoom { nodes: 1 },
        Blocker::Claimed { cluster: text(), node: text(), preempting: true, by: Some(text()) },
        Blocker::Line { jobs: 1, higher_queues: 1, lower_queues: 1 },
        Blocker::NextRound,
        Blocker::NotOffered { pool: pool.clone() },
        Blocker::NoLeader { pool, detail: text() },
        Blocker::Starting { cluster: text(), node: text() },
    ];
    let schema = &document()["components"]["schemas"]["Blocker"]["properties"];
    let mut sent = BTreeSet::new();
    let mut kinds = Vec::new();
    for blocker in blockers {
        let value = serde_json::to_value(blocker).unwrap();
        kinds.push(value["kind"].clone());
        sent.extend(value.as_object().unwrap().keys().cloned());
    }
    assert_eq!(schema["kind"]["enum"], Value::Array(kinds));
    assert_eq!(sent, schema.as_object().unwrap().keys().cloned().collect());
}

#[test]
fn schemas_of_requests_have_the_fields_that_are_read() {
    let submit = request::SubmitRequest { job_set: Some(String::new()), jobs: vec![raw("{}")] };
    check("SubmitRequest", &submit, request::SubmitRequest { job_set: None, jobs: vec![] });
    let problem = Problem::new(ErrorCode::Internal, "");
    check("LineProblem", &problem, &problem);
    let error = request::LineError { line: 1, error: problem };
    check("LineError", &error, &error);
    let dry = request::DryRun { errors: vec![error.clone()], ..Default::default() };
    check("DryRun", dry, request::DryRun::default());
    let summary = request::SubmitSummary { errors: vec![error], ..Default::default() };
    check("SubmitSummary", summary, request::SubmitSummary::default());
    check("SubmitAnswers", request::SubmitAnswers::default(), request::SubmitAnswers::default());
    let some = || Some(String::from("x"));
    let list = || vec![String::from("x")];
    let cancel = request::CancelRequest {
        job_ids: list(),
        queue: some(),
        job_set: some(),
        states: list(),
        reason: some(),
    };
    check("CancelRequest", cancel, request::CancelRequest::default());
    let mut reprioritize = request::ReprioritizeRequest {
        job_ids: list(),
        queue: some(),
        job_set: some(),
        states: list(),
        priority: 0,
    };
    check("ReprioritizeRequest", &reprioritize, &reprioritize);
    reprioritize.priority = 1;
}

#[test]
fn every_field_of_a_job_is_documented_and_taken() {
    let schema = &document()["components"]["schemas"]["JobText"];
    let mut parser = muster_api::job_text::Parser::new();
    for (field, schema) in schema["properties"].as_object().unwrap() {
        let value = match schema["type"].as_str().unwrap() {
            "string" => r#""x""#,
            "integer" | "number" => "1",
            "array" if field == "podSpecs" => r#"[{"containers":[{}]}]"#,
            "array" => "[]",
            _ if field == "podSpec" => r#"{"containers":[{}]}"#,
            _ => r#"{"a":"b"}"#,
        };
        let spec =
            if field.starts_with("podSpec") { "" } else { r#","podSpec":{"containers":[{}]}"# };
        let count = if field == "maxRunning" { r#","count":1"# } else { "" };
        let text = format!(r#"{{"{field}":{value}{count}{spec}}}"#);
        parser.parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    // The parser names what it takes in its refusal of anything else.
    let refusal = parser.parse(b"{\"zzz\":1}").unwrap_err().to_string();
    for field in schema["properties"].as_object().unwrap().keys() {
        assert!(refusal.contains(&format!("`{field}`")), "{refusal}");
    }
    let named = refusal.matches('`').count() / 2 - 1;
    assert_eq!(named, schema["properties"].as_object().unwrap().len(), "{refusal}");
}

#[test]
fn codes_and_states_are_listed() {
    let document = document();
    let listed = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    let schemas = &document["components"]["schemas"];
    let codes: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| serde_json::to_value(code).unwrap().as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed(&schemas["ErrorCode"]["enum"]), codes);
    let states: Vec<String> = JobState::ALL.iter().map(|state| state.name().to_owned()).collect();
    assert_eq!(listed(&schemas["Job"]["properties"]["state"]["enum"]), states);
}
