//! Files of scenarios that are in order, and files that are not.

use super::*;

const CLUSTERS: &str = "
clusters:
  - name: cpu-01
    pool: cpu
    nodeTemplates:
      - number: 2
        totalResources: { resources: { cpu: '32', memory: 1024Gi } }
  - name: gpu-01
    pool: gpu
    nodeTemplates:
      - number: 1
        labels: { kind: big }
        taints: [{ key: gpu, value: 'true', effect: NoSchedule }]
        totalResources: { resources: { cpu: 128, memory: 4096Gi, nvidia.com/gpu: 8 } }
";

fn clusters() -> Vec<Cluster> {
    clusters::read(&tree::File::parse("c.yaml", CLUSTERS).unwrap()).unwrap().clusters
}

fn config_of(text: &str) -> Result<(Config, Vec<String>)> {
    let file = tree::File::parse("s.yaml", text)?;
    let config = config::read(&file)?;
    Ok((config, file.notes()))
}

/// A workload of one queue with these templates.
fn workload(templates: &str) -> Result<(Read, Vec<String>)> {
    let text =
        format!("name: w\nqueues:\n  - name: a\n    weight: 2.5\n    jobTemplates:\n{templates}");
    let file = tree::File::parse("w.yaml", &text)?;
    let read = workload::read(&file, &Config::default(), &clusters())?;
    Ok((read, file.notes()))
}

/// What is wrong with such a workload.
fn wrong(templates: &str) -> String {
    workload(templates).unwrap_err().to_string()
}

#[test]
fn clusters_are_read_in_both_forms_of_the_file() {
    let clusters = clusters();
    let shown: Vec<_> = clusters.iter().map(|c| (&*c.name, &*c.pool, c.nodes.len())).collect();
    assert_eq!(shown, [("cpu-01", "cpu", 2), ("gpu-01", "gpu", 1)]);
    let node = &clusters[1].nodes[0];
    assert_eq!(&*node.labels["armadaproject.io/clusterName"], "gpu-01");
    assert_eq!((&*node.labels["kind"], node.taints.len()), ("big", 1));
    assert_eq!(node.allocatable.get("nvidia.com/gpu").to_string(), "8");

    let old = "
pools:
  - name: pool1
    clusterGroups:
      - clusters:
          - name: ''
            nodeTemplates: [{ number: 3, totalResources: { resources: { cpu: 1 } } }]
";
    let read = clusters::read(&tree::File::parse("old.yaml", old).unwrap()).unwrap();
    assert_eq!((read.name.as_str(), read.clusters.len()), ("old", 1));
    let cluster = &read.clusters[0];
    assert_eq!((&*cluster.name, &*cluster.pool, cluster.nodes.len()), ("pool1-0", "pool1", 3));
}

#[test]
fn a_template_says_what_its_jobs_ask_for_and_when_they_come() {
    let (read, notes) = workload(
        "
      - id: first
        number: 3
        jobSet: night
        queuePriority: 7
        priorityClassName: armada-preemptible
        requirements:
          resourceRequirements: { requests: { cpu: 500m, memory: 1Gi } }
        runtimeDistribution: { minimum: 1m, tailMean: 30s }
        repeat: { numTimes: 2, period: 1h }
        earliestSubmitTime: 30m
      - number: 1
        dependencies: [first]
        earliestSubmitTimeFromDependencyCompletion: 5m
        requirements:
          tolerations: [{ key: gpu, operator: Exists }]
          resourceRequirements: { requests: { nvidia.com/gpu: 1 } }
",
    )
    .unwrap();
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(read.queues[0].settings.weight, 2.5);
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let [one, two, last] = read.templates.as_slice() else { panic!("{:?}", read.templates) };
    assert_eq!((&*one.id, &*two.id), ("first-repeat-0", "first-repeat-1"));
    assert_eq!((one.earliest, two.earliest), (minutes(30), minutes(90)));
    assert_eq!((one.number, &*one.job_set, &*one.shape.class), (3, "night", "armada-preemptible"));
    assert_eq!(one.job["priority"], 7);
    assert_eq!(one.runtime.tail_mean, Duration::from_secs(30));
    assert_eq!((&*one.shape.pool, &*last.shape.pool), ("cpu", "gpu"), "where its jobs fit");
    assert_eq!((last.after.as_slice(), last.pause), ([0, 1].as_slice(), minutes(5)));
    assert_eq!(last.shape.request.get("cpu").to_string(), "0", "nothing is added");
    assert_eq!(&*last.id, "a-1");
}

#[test]
fn what_is_wrong_is_told_with_file_place_and_what_is_expected() {
    let place = "w.yaml: queues[0].jobTemplates[0]";
    let cases = [
        ("      - {}", ": `number` is missing"),
        ("      - { number: many }", ".number: `many` is not a whole number from 0 to 10000000"),
        (
            "      - { number: 1, earliestSubmitTime: soon }",
            ".earliestSubmitTime: `soon` is not a length of time such as `90s` or `1h30m`",
        ),
        (
            "      - { number: 5, gangCardinality: 2 }",
            ".gangCardinality: `number`, 5, is no multiple of 2",
        ),
        (
            "      - { number: 1, dependencies: [b] }",
            ".dependencies: there is no template with the id `b`",
        ),
        (
            "      - { number: 1, requirements: { resourceRequirements: { requests: { cpu: x } } } }",
            ".requirements.resourceRequirements.requests.cpu: `x` is not a quantity",
        ),
        (
            "      - { number: 1, requirements: { tolerations: [{ operator: Perhaps }] } }",
            ": podSpec.tolerations[0]",
        ),
        (
            "      - { number: 1, priorityClassName: c }",
            ".priorityClassName: there is no priority class `c`, only ",
        ),
    ];
    for (templates, expected) in cases {
        let found = wrong(templates);
        assert!(found.starts_with(&format!("{place}{expected}")), "{templates}: {found}");
    }
    let circle = wrong(
        "      - { id: x, number: 1, dependencies: [y] }\n      - { id: y, number: 1, dependencies: [x] }",
    );
    assert_eq!(circle, "w.yaml: template `x` depends on itself in the end");
    let no_file = tree::File::read(Path::new("/nowhere/w.yaml")).err().unwrap().to_string();
    assert!(no_file.starts_with("/nowhere/w.yaml: cannot be read: "), "{no_file}");
}

#[test]
fn what_has_no_effect_is_named() {
    let (_, notes) =
        workload("      - { number: 1, colour: red, requirements: { priority: 3 } }").unwrap();
    let at = "w.yaml: queues[0].jobTemplates[0]";
    assert_eq!(
        notes,
        [
            format!("{at}.requirements.priority has no effect: the priority class says it"),
            format!("{at} asks for no resources: its jobs take nothing"),
            format!("{at}.colour is not known here, and has no effect"),
        ]
    );
}

#[test]
fn settings_become_classes_limits_and_rates() {
    let (config, notes) = config_of(
        "
scheduling:
  priorityClasses:
    high:
      priority: 30000
      preemptible: false
      maximumResourceFractionPerQueue: { cpu: 0.25, memory: 1.0 }
    low: { priority: 1000, preemptible: true }
  defaultPriorityClassName: low
  maximumPerQueueSchedulingRate: 50
  maximumPerQueueSchedulingBurst: 1000
  nodeEvictionProbability: 1.0
  indexedResources: []
grpc: {}
",
    )
    .unwrap();
    assert_eq!(config.default_class.as_deref(), Some("low"));
    assert!(config.classes["low"].preemptible && config.classes["high"].priority == 30_000);
    let mut queue = QueueSettings::default();
    config.apply(&mut queue);
    let limit = &queue.limits[0];
    assert_eq!(
        (limit.class.as_deref(), limit.resources["cpu"].as_str()),
        (Some("high"), "25.000%")
    );
    assert_eq!((queue.limits.len(), limit.resources.len()), (1, 1), "all of it is no limit");
    let rate = queue.rate.unwrap();
    assert_eq!((rate.per_second, rate.burst), (50.0, 1_000));
    let ignored =
        "has settings without effect here: grpc, indexedResources, nodeEvictionProbability";
    assert_eq!(notes, [format!("s.yaml: {ignored}")]);

    let (config, _) = config_of("maximumPerQueueSchedulingRate: '+Inf'").unwrap();
    assert!(config.rate.is_none());
    let error = config_of("priorityClasses: { x: { priority: high } }").err().unwrap();
    let expected = "s.yaml: priorityClasses.x.priority: `high` is not a whole number";
    assert_eq!(error.to_string(), expected);
}
