//! Jobs as people write them, good and bad.

use muster_core::limits;
use muster_core::shape::{Affinity, Requirement, Shape, Term, Toleration};
use proptest::prelude::*;

use super::*;

const ARMADA: &str = r#"{
    "priority": 0.6, "namespace": "personal-anonymous", "clientId": "a-1",
    "labels": {"app": "demo"}, "annotations": {"note": "first"},
    "requiredNodeLabels": {"zone": "a"}, "scheduler": "", "externalJobUri": "airflow://x/1",
    "podSpec": {
        "terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
        "nodeSelector": {"gpu": "no"},
        "tolerations": [{"key": "spot", "operator": "Exists"}, {"key": "t", "value": "v", "effect": "NoSchedule"}],
        "containers": [{
            "name": "sleeper", "image": "alpine:latest", "command": ["sh", "-c"], "args": ["sleep 5"],
            "resources": {"limits": {"memory": "64Mi", "cpu": "150m"}, "requests": {"memory": "64Mi", "cpu": "150m"}}
        }]
    }
}"#;

fn parse(text: &str) -> Result<(Shape, Option<u32>), Error> {
    Parser::new().parse(text.as_bytes()).map(|job| ((*job.shape.shape).clone(), job.count))
}

fn shape(pod_spec: &str) -> Shape {
    parse(&format!(r#"{{"podSpec":{pod_spec}}}"#)).unwrap_or_else(|e| panic!("{pod_spec}: {e}")).0
}

fn asks(pod_spec: &str) -> Vec<(String, String)> {
    shape(pod_spec).request.iter().map(|(n, q)| (n.to_string(), q.to_string())).collect()
}

fn refusal(text: &str) -> String {
    parse(text).map(drop).unwrap_err().to_string()
}

fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
    given.iter().map(|(n, q)| ((*n).to_owned(), (*q).to_owned())).collect()
}

#[test]
fn a_job_of_armada_is_read_and_its_pod_spec_kept_byte_for_byte() {
    let mut parser = Parser::new();
    let job = parser.parse(ARMADA.as_bytes()).unwrap();
    assert_eq!((job.priority, job.count, job.at_most_once), (1, None, false));
    assert_eq!((&*job.namespace, job.client_id.as_deref()), ("personal-anonymous", Some("a-1")));
    assert_eq!((job.labels, job.annotations), (r#"{"app": "demo"}"#, r#"{"note": "first"}"#));
    assert!(ARMADA.contains(job.pod_spec) && job.pod_spec.ends_with("}]\n    }"));
    let shape = &*job.shape.shape;
    assert_eq!(shape.canonical(), *job.shape.text);
    let selector: Vec<_> = shape.node_selector.iter().map(|(n, v)| (&**n, &**v)).collect();
    assert_eq!(selector, [("gpu", "no"), ("zone", "a")]);
    let tolerations = [
        Toleration { key: Some("spot".into()), value: None, effect: None },
        Toleration {
            key: Some("t".into()),
            value: Some("v".into()),
            effect: Some("NoSchedule".into()),
        },
    ];
    assert_eq!(shape.tolerations, tolerations);
    assert_eq!((&*shape.pool, &*shape.class), ("default", "default"));
}

#[test]
fn the_request_is_the_one_that_kubernetes_computes() {
    // Two containers add up; the second one's request comes from its limit.
    let two = r#"{"containers":[{"resources":{"requests":{"cpu":"1","memory":"1Gi"}}},
        {"resources":{"limits":{"cpu":0.5,"memory":"1Gi","nvidia.com/gpu":1}}}]}"#;
    let sum = [("cpu", "1500m"), ("memory", "2Gi"), ("nvidia.com/gpu", "1"), ("pods", "1")];
    assert_eq!(asks(two), pairs(&sum));
    // An init container counts only where it takes more.
    let init = r#"{"initContainers":[{"resources":{"requests":{"cpu":"4","memory":"1Mi"}}}],
        "containers":[{"resources":{"requests":{"cpu":"1","memory":"1Gi"}}}]}"#;
    assert_eq!(asks(init), pairs(&[("cpu", "4"), ("memory", "1Gi"), ("pods", "1")]));
    // One that restarts always runs beside the others.
    let beside = r#"{"initContainers":[
          {"restartPolicy":"Always","resources":{"requests":{"cpu":"1"}}},
          {"resources":{"requests":{"cpu":"3"}}}],
        "containers":[{"resources":{"requests":{"cpu":"2","memory":"1Gi"}}}],
        "overhead":{"cpu":"100m"}}"#;
    assert_eq!(asks(beside), pairs(&[("cpu", "4100m"), ("memory", "1Gi"), ("pods", "1")]));
    // What is neither requested nor limited gets the default; nothing asked for is not "nothing
    // said".
    assert_eq!(
        asks(r#"{"containers":[{}]}"#),
        pairs(&[("cpu", "1"), ("memory", "1Gi"), ("pods", "1")])
    );
    let zero = r#"{"containers":[{"resources":{"requests":{"cpu":"0","memory":"1"}}}]}"#;
    assert_eq!(asks(zero), pairs(&[("memory", "1"), ("pods", "1")]));
    let pod = r#"{"containers":[{}],"resources":{"requests":{"cpu":"7"}}}"#;
    assert_eq!(asks(pod), pairs(&[("cpu", "7"), ("memory", "1Gi"), ("pods", "1")]));
}

#[test]
fn numbers_are_read_as_written() {
    let exact =
        r#"{"containers":[{"resources":{"requests":{"cpu":0.1,"memory":9007199254740993}}}]}"#;
    let asked = pairs(&[("cpu", "100m"), ("memory", "9007199254740993"), ("pods", "1")]);
    assert_eq!(asks(exact), asked);
}

#[test]
fn annotations_choose_the_pool_and_forbid_a_second_attempt() {
    let text = r#"{"annotations":{"muster.dev/pool":"gpu","muster.dev/at-most-once":"true"},
        "podSpec":{"priorityClassName":"high","containers":[{}]}}"#;
    let mut parser = Parser::new();
    let job = parser.parse(text.as_bytes()).unwrap();
    assert!(job.at_most_once);
    assert_eq!((&*job.shape.shape.pool, &*job.shape.shape.class), ("gpu", "high"));
    // The same pod spec without the annotations is another shape.
    let plain = br#"{"podSpec":{"priorityClassName":"high","containers":[{}]}}"#;
    assert_eq!(&*parser.parse(plain).unwrap().shape.shape.pool, "default");
}

#[test]
fn a_node_selector_by_pool_chooses_the_pool_too() {
    let selecting = |outer: &str| {
        format!(
            r#"{{{outer}"podSpec":{{"nodeSelector":{{"muster.dev/pool":"gpu"}},"containers":[{{}}]}}}}"#
        )
    };
    let mut parser = Parser::new();
    let pool = |parser: &mut Parser, text: &str| {
        parser.parse(text.as_bytes()).map(|job| job.shape.shape.pool.to_string())
    };
    assert_eq!(pool(&mut parser, &selecting("")).unwrap(), "gpu");
    let same = selecting(r#""annotations":{"muster.dev/pool":"gpu"},"#);
    assert_eq!(pool(&mut parser, &same).unwrap(), "gpu");
    let other = selecting(r#""annotations":{"muster.dev/pool":"cpu"},"#);
    let refusal = pool(&mut parser, &other).unwrap_err().to_string();
    assert!(refusal.contains("is `cpu`, but the node selector asks for `gpu`"), "{refusal}");
    let armada =
        r#"{"requiredNodeLabels":{"muster.dev/pool":"big"},"podSpec":{"containers":[{}]}}"#;
    assert_eq!(pool(&mut parser, armada).unwrap(), "big");
    let bad = r#"{"requiredNodeLabels":{"muster.dev/pool":"a..b"},"podSpec":{"containers":[{}]}}"#;
    let refusal = pool(&mut parser, bad).unwrap_err().to_string();
    assert!(refusal.starts_with("podSpec.nodeSelector.muster.dev/pool: pool `a..b`"), "{refusal}");
}

#[test]
fn equal_shapes_come_out_as_one() {
    let mut parser = Parser::new();
    let texts: Vec<String> =
        (0..3).map(|n| format!(r#"{{"podSpec":{{"containers":[{{"args":["{n}"]}}]}}}}"#)).collect();
    let shapes: Vec<_> =
        texts.iter().map(|text| parser.parse(text.as_bytes()).unwrap().shape).collect();
    assert!(shapes.windows(2).all(|pair| Arc::ptr_eq(&pair[0].shape, &pair[1].shape)));
}

#[test]
fn priorities_are_rounded_into_range() {
    for (given, expected) in
        [("0", 0), ("-3", 0), ("2.5", 3), ("1e3", 1000), ("1e300", u32::MAX), ("null", 0)]
    {
        let text = format!(r#"{{"priority":{given},"podSpec":{{"containers":[{{}}]}}}}"#);
        assert_eq!(Parser::new().parse(text.as_bytes()).unwrap().priority, expected, "{given}");
    }
}

#[test]
fn counts_are_taken_at_the_limit_and_refused_past_it() {
    let of =
        |count: u64| parse(&format!(r#"{{"count":{count},"podSpec":{{"containers":[{{}}]}}}}"#));
    assert_eq!(of(10_000_000).unwrap().1, Some(limits::ARRAY_COUNT_MAX));
    assert_eq!(of(1).unwrap().1, Some(1));
    let refused = of(10_000_001).unwrap_err().to_string();
    assert_eq!(refused, "count: 10000001 is not from 1 to 10000000");
    assert!(of(0).is_err());
}

#[test]
fn a_job_is_taken_at_the_size_limit_and_refused_one_byte_past_it() {
    let frame = r#"{"podSpec":{"containers":[{"args":[""]}]}}"#.len();
    let of = |bytes: usize| {
        let fill = "x".repeat(bytes - frame);
        parse(&format!(r#"{{"podSpec":{{"containers":[{{"args":["{fill}"]}}]}}}}"#))
    };
    assert!(of(limits::JOB_BYTES_MAX).is_ok());
    let error = of(limits::JOB_BYTES_MAX + 1).unwrap_err();
    assert_eq!(error.to_string(), "job has 65537 bytes, limit is 65536");
    assert_eq!(error.problem().code, ErrorCode::PayloadTooLarge);
}

#[test]
fn what_is_wrong_is_said_with_its_path() {
    let pod = |spec: &str| refusal(&format!(r#"{{"podSpec":{spec}}}"#));
    let container = |rest: &str| pod(&format!(r#"{{"containers":[{{"resources":{rest}}}]}}"#));
    let cases = [
        (
            container(r#"{"requests":{"cpu":"1x"}}"#),
            "podSpec.containers[0].resources.requests.cpu: `1x` is not a quantity such as `2`, `500m` or `1.5Gi`",
        ),
        (
            container(r#"{"requests":{"cpu":"2"},"limits":{"cpu":"1"}}"#),
            "podSpec.containers[0].resources.requests.cpu: request 2 is more than limit 1",
        ),
        (
            container(r#"{"limits":{"cpu":"-1"}}"#),
            "podSpec.containers[0].resources.limits.cpu: `-1` is negative",
        ),
        (container(r#"{"requests":{"cpu":"1","cpu":"2"}}"#), "duplicate key `cpu`"),
        (
            pod(r#"{"containers":[{"command":["a"],"command":["b"]}]}"#),
            "podSpec: duplicate field `command`",
        ),
        (
            pod(r#"{"containers":[{"env":[{"name":"A","value":"1","value":"2"}]}]}"#),
            "podSpec: duplicate field `value`",
        ),
        (pod(r#"{"containers":[]}"#), "podSpec.containers: a pod has at least one"),
        (pod("null"), "podSpec: a job has one"),
        (pod("7"), "podSpec: invalid type"),
        (
            pod(r#"{"containers":[{}],"terminationGracePeriodSeconds":301}"#),
            "podSpec.terminationGracePeriodSeconds: 301 s is not from 0 s to 300 s",
        ),
        (
            pod(r#"{"containers":[{}],"terminationGracePeriodSeconds":-1}"#),
            "podSpec.terminationGracePeriodSeconds",
        ),
        (
            pod(
                r#"{"containers":[{}],"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{}}}}"#,
            ),
            "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: there is none",
        ),
        (
            pod(r#"{"containers":[{}],"tolerations":[{"operator":"Gt","key":"a"}]}"#),
            "podSpec.tolerations[0]: operator `Gt` is not `Equal` or `Exists`",
        ),
        (refusal("[]"), "job: invalid type"),
        (pod(r#"{"containers":[[null,null]]}"#), "podSpec: invalid type: sequence"),
        (pod(r#"[[{}]]"#), "podSpec: invalid type: sequence"),
        (refusal(r#"{"podspec":{}}"#), "job: unknown field `podspec`"),
        (refusal(r#"{"ingress":[{}],"podSpec":{}}"#), "ingress[0].ports: needs at least one port"),
        (refusal(r#"{"podSpec":{},"podSpecs":[{}]}"#), "podSpecs: not beside `podSpec`"),
        (refusal(r#"{"podSpecs":[{},{}]}"#), "podSpecs: holds 2 pod specs, limit is 1"),
        (refusal(r#"{"namespace":"A","podSpec":{}}"#), "namespace: namespace `A`"),
        (refusal(r#"{"labels":{"a":1},"podSpec":{}}"#), "labels: invalid type"),
        (
            refusal(r#"{"annotations":{"muster.dev/pool":""},"podSpec":{}}"#),
            "annotations.muster.dev/pool: pool is empty",
        ),
        (
            refusal(r#"{"annotations":{"muster.dev/at-most-once":"yes"},"podSpec":{}}"#),
            "annotations.muster.dev/at-most-once: `yes`",
        ),
        (
            refusal(
                r#"{"requiredNodeLabels":{"a":"1"},"podSpec":{"nodeSelector":{"a":"2"},"containers":[{}]}}"#,
            ),
            "requiredNodeLabels.a: both `2` and `1`",
        ),
    ];
    for (found, expected) in cases {
        assert!(found.contains(expected), "`{found}` does not say `{expected}`");
    }
}

#[test]
fn affinity_that_says_what_a_node_selector_says_is_taken_as_one() {
    let text = r#"{"containers":[{}],"nodeSelector":{"b":"2"},"affinity":{"podAntiAffinity":{},
        "nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[],
        "requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":
        [{"key":"a","operator":"In","values":["1"]}]}]}}}}"#;
    assert_eq!(shape(text), shape(r#"{"containers":[{}],"nodeSelector":{"a":"1","b":"2"}}"#));
}

/// The shape of a pod with these terms of required node affinity, as JSON.
fn affine(terms: &str) -> Result<Arc<Shape>, Error> {
    let text = format!(
        r#"{{"podSpec":{{"containers":[{{}}],"affinity":{{"nodeAffinity":{{
        "preferredDuringSchedulingIgnoredDuringExecution":[{{"weight":1,"preference":{{}}}}],
        "requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":{terms}}}}}}}}}}}"#
    );
    Parser::new().parse(text.as_bytes()).map(|job| job.shape.shape)
}

#[test]
fn required_affinity_is_taken_with_every_operator() {
    let terms = r#"[{"matchExpressions":[
        {"key":"a","operator":"In","values":["2","1","2"]},
        {"key":"b","operator":"NotIn","values":["x"]},
        {"key":"c","operator":"Exists"},
        {"key":"d","operator":"DoesNotExist","values":[]},
        {"key":"e","operator":"Gt","values":["-3"]},
        {"key":"f","operator":"Lt","values":["7"]}]},
        {"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]},
        {"key":"metadata.name","operator":"NotIn","values":["n2"]}]},
        {},{"matchExpressions":[]}]"#;
    let shape = affine(terms).unwrap();
    let name = Name::from;
    let labels = [
        Requirement::In(name("a"), [name("1"), name("2")].into()),
        Requirement::NotIn(name("b"), [name("x")].into()),
        Requirement::Exists(name("c")),
        Requirement::DoesNotExist(name("d")),
        Requirement::Gt(name("e"), -3),
        Requirement::Lt(name("f"), 7),
    ];
    let fields = [Requirement::Named(name("n1")), Requirement::NotNamed(name("n2"))];
    let terms = [Term { requirements: labels.into() }, Term { requirements: fields.into() }];
    assert_eq!(shape.affinity, Some(Affinity { terms: terms.into() }), "without the empty ones");
    assert!(shape.node_selector.is_empty());
    // The order in which it is written down makes no other shape.
    let one = r#"{"matchExpressions":[{"key":"a","operator":"In","values":["1","2"]}]}"#;
    let two = r#"{"matchExpressions":[{"key":"b","operator":"Exists"}]}"#;
    let of = |terms: &str| affine(terms).unwrap().key();
    assert_eq!(of(&format!("[{one},{two}]")), of(&format!("[{two},{one},{two}]")));
}

#[test]
fn of_a_single_term_what_says_one_label_is_a_node_selector_and_the_rest_is_not() {
    let expressions = r#"{"key":"a","operator":"In","values":["1"]},
        {"key":"b","operator":"Exists"}"#;
    let single = affine(&format!(r#"[{{"matchExpressions":[{expressions}]}}]"#)).unwrap();
    assert_eq!(single.node_selector, [("a".into(), "1".into())].into());
    let rest = Term { requirements: [Requirement::Exists("b".into())].into() };
    assert_eq!(single.affinity, Some(Affinity { terms: [rest].into() }));
    // An alternative is nothing that every node must have.
    let with_empty = affine(&format!(r#"[{{"matchExpressions":[{expressions}]}},{{}}]"#)).unwrap();
    assert!(with_empty.node_selector.is_empty());
    assert_eq!(with_empty.affinity.as_ref().unwrap().terms.len(), 1);
    // A term that asks for nothing is met by no node.
    assert_eq!(affine("[{}]").unwrap().affinity, Some(Affinity::default()));
}

#[test]
fn affinity_that_kubernetes_would_refuse_is_refused_with_its_place() {
    let expression = |expression: &str| format!(r#"[{{}},{{"matchExpressions":[{expression}]}}]"#);
    let field = |field: &str| format!(r#"[{{"matchFields":[{field}]}}]"#);
    let cases = [
        ("[]".to_owned(), "nodeSelectorTerms: there is none"),
        (
            expression(r#"{"key":"a","operator":"Is","values":["1"]}"#),
            "nodeSelectorTerms[1].matchExpressions[0]: operator `Is` is not `In`",
        ),
        (expression(r#"{"key":"a","operator":"In"}"#), "there are no values"),
        (expression(r#"{"key":"","operator":"Exists"}"#), "name is empty"),
        (expression(r#"{"key":"a","operator":"Exists","values":["1"]}"#), "takes no values"),
        (expression(r#"{"key":"a","operator":"Gt","values":["x"]}"#), "`x` is no integer"),
        (expression(r#"{"key":"a","operator":"Lt","values":["1","2"]}"#), "takes one value, not 2"),
        (expression(r#"{"key":"a"}"#), "missing field `operator`"),
        (
            field(r#"{"key":"metadata.uid","operator":"In","values":["n"]}"#),
            "nodeSelectorTerms[0].matchFields[0]: key `metadata.uid` is not `metadata.name`",
        ),
        (field(r#"{"key":"metadata.name","operator":"Exists"}"#), "operator `Exists` is not"),
        (field(r#"{"key":"metadata.name","operator":"In","values":[]}"#), "one value, not 0"),
        (
            field(r#"{"key":"metadata.name","operator":"In","values":["a","b"]}"#),
            "one value, not 2",
        ),
    ];
    for (terms, expected) in cases {
        let said = affine(&terms).unwrap_err().to_string();
        assert!(said.contains(expected), "{terms}: {said}");
    }
}

#[test]
fn affinity_is_taken_at_its_limits_and_refused_one_past_them() {
    let expression = r#"{"key":"a","operator":"Exists"}"#;
    let of = |terms: usize, expressions: usize| {
        let term = |n: usize| {
            let more = if n == 0 { expressions - (terms - 1) } else { 1 };
            let list = vec![expression; more].join(",");
            format!(r#"{{"matchExpressions":[{list}]}}"#)
        };
        affine(&format!("[{}]", (0..terms).map(term).collect::<Vec<_>>().join(",")))
    };
    let (terms, all) = (limits::AFFINITY_TERMS_MAX, limits::AFFINITY_REQUIREMENTS_MAX);
    assert!(of(terms, terms).is_ok() && of(2, all).is_ok());
    assert!(of(terms + 1, terms + 1).unwrap_err().to_string().ends_with("65 terms, limit is 64"));
    let said = of(2, all + 1).unwrap_err().to_string();
    assert!(said.ends_with("257 requirements in all, limit is 256"), "{said}");
}

/// What docs/armada.md shows is what happens: each row has a job and the answer to it.
#[test]
fn the_table_of_differences_from_armada_is_true() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/armada.md");
    let document = std::fs::read_to_string(document).unwrap();
    let rows = document.lines().filter_map(|line| {
        let cells: Vec<&str> =
            line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let [_, job, answer] = cells[..] else { return None };
        Some((job.strip_prefix("`{")?.strip_suffix('`')?.to_owned(), answer.trim_matches('`')))
    });
    let (mut taken, mut refused) = (0, 0);
    for (job, answer) in rows {
        // What every job needs and no row is about.
        let job = job.replace("\"podSpec\":…", r#""podSpec":{"containers":[{}]}"#);
        let text = format!("{{{}", job.replace("\"containers\":…", r#""containers":[{}]"#));
        match Parser::new().parse(text.as_bytes()) {
            Ok(_) => {
                assert!(answer.starts_with("taken"), "{text} is taken, not `{answer}`");
                taken += 1;
            }
            Err(error) => {
                assert_eq!(error.to_string(), answer, "{text}");
                assert_eq!(error.problem().code, ErrorCode::InvalidJob);
                refused += 1;
            }
        }
    }
    assert!(taken >= 8 && refused >= 10, "{taken} rows are taken, {refused} refused");
}

#[test]
fn tolerations_resources_and_labels_are_taken_at_their_limits_and_refused_one_past_them() {
    let list = |n: usize, item: fn(usize) -> String| (0..n).map(item).collect::<Vec<_>>().join(",");
    let tolerations = |n| {
        let items = list(n, |i| format!(r#"{{"key":"k{i}","operator":"Exists"}}"#));
        parse(&format!(r#"{{"podSpec":{{"containers":[{{}}],"tolerations":[{items}]}}}}"#))
    };
    assert!(tolerations(limits::TOLERATIONS_MAX).is_ok());
    assert!(tolerations(limits::TOLERATIONS_MAX + 1).is_err());
    let labels = |n| {
        let items = list(n, |i| format!(r#""k{i}":"v""#));
        parse(&format!(r#"{{"podSpec":{{"containers":[{{}}],"nodeSelector":{{{items}}}}}}}"#))
    };
    assert!(labels(limits::NODE_SELECTOR_MAX).is_ok());
    assert!(labels(limits::NODE_SELECTOR_MAX + 1).is_err());
    let resources = |n: usize| {
        let items = list(n - 2, |i| format!(r#""r{i}":"1""#));
        let limits = format!(r#"{{"limits":{{{items}}}}}"#);
        parse(&format!(r#"{{"podSpec":{{"containers":[{{"resources":{limits}}}]}}}}"#))
    };
    assert!(resources(limits::RESOURCES_PER_JOB_MAX).is_ok());
    assert!(resources(limits::RESOURCES_PER_JOB_MAX + 1).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in r#"[{}\[\]",:a-zé0-9\\ ]{0,80}"#) {
        let _ = Parser::new().parse(text.as_bytes());
    }

    #[test]
    fn a_job_cut_anywhere_is_refused(at in 1usize..ARMADA.len() - 1) {
        prop_assert!(Parser::new().parse(&ARMADA.as_bytes()[..at]).is_err());
    }

    #[test]
    fn a_parser_that_saw_other_jobs_reads_the_same(
        order in proptest::collection::vec(0usize..4, 1..20)
    ) {
        let texts = [
            ARMADA,
            r#"{"podSpec":{"containers":[{}]}}"#,
            r#"{"requiredNodeLabels":{"a":"1"},"podSpec":{"containers":[{}]}}"#,
            r#"{"annotations":{"muster.dev/pool":"p"},"podSpec":{"containers":[{}]}}"#,
        ];
        let mut parser = Parser::new();
        for at in order {
            let fresh = Parser::new().parse(texts[at].as_bytes()).unwrap();
            prop_assert_eq!(parser.parse(texts[at].as_bytes()).unwrap(), fresh);
        }
    }
}
