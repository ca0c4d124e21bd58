//! Reports of a made-up simulation in every form.

use super::*;

fn report() -> Report {
    let wait = Percentiles { mean: 30.0, p50: 10.0, p90: 90.0, p99: 3_700.0, max: 90_000.0 };
    let queue = Queue {
        queue: "a<b".to_owned(),
        weight: 2.0,
        jobs: 10,
        submitted: 10,
        started: 9,
        succeeded: 8,
        failed: 1,
        preemptions: 3,
        wait_seconds: Some(wait),
    };
    let fairness = Fairness {
        contended_seconds: 100.0,
        mean_error: 0.013,
        max_error: 0.2,
        queues: vec![Shares { queue: "a<b".to_owned(), actual: 0.5, ideal: 0.51 }],
    };
    let of_queue = QueueSeries {
        queue: "a<b".to_owned(),
        actual: vec![0.5, 0.25],
        ideal: vec![0.5, 0.5],
        waiting: vec![4.0, 0.0],
    };
    let series = Series {
        at: vec![5.0, 15.0],
        utilisation: [("cpu".to_owned(), vec![1.0, 0.5])].into(),
        queues: vec![of_queue],
    };
    let pool = Pool {
        pool: "gpu".to_owned(),
        nodes: 2,
        capacity: [("cpu".to_owned(), "64".to_owned())].into(),
        mean_utilisation: [("cpu".to_owned(), 0.75)].into(),
        fairness,
        series,
    };
    Report {
        clusters: "two nodes".to_owned(),
        workload: "some & more".to_owned(),
        seed: 7,
        step_seconds: 10.0,
        end: End::Stalled,
        simulated_seconds: 3_725.0,
        makespan_seconds: Some(125.0),
        rounds: 12,
        notes: vec!["w.yaml: colour is not known here, and has no effect".to_owned()],
        queues: vec![queue],
        pools: vec![pool],
        timings: None,
    }
}

#[test]
fn the_text_has_every_part() {
    let text = text(&report());
    assert!(text.contains("1h2m simulated, STALLED"), "{text}");
    assert!(text.contains("makespan 2m5s"), "{text}");
    assert!(text.contains("      10s  1m30s  1h1m  1d1h\n"), "{text}");
    assert!(text.contains("pool gpu: 2 nodes, in use on average: cpu 75.0%"), "{text}");
    assert!(text.contains("share error 1.3% in the mean, 20.0% at most"), "{text}");
    assert!(!text.contains("took"), "{text}");
}

#[test]
fn the_page_needs_nothing_else_names_its_plots_and_escapes() {
    let page = html(&report());
    for foreign in ["http:", "https:", "<script", "src=", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
    assert!(page.contains("a&lt;b") && !page.contains("a<b"));
    assert!(page.contains("some &amp; more"));
    let plots = page.matches("role=\"img\" aria-label=\"").count();
    assert_eq!(plots, 3, "each is labelled");
    assert!(page.contains("aria-label=\"pool gpu: shares of queues, actual and ideal\""));
    assert!(page.contains("colour is not known here"));
}

#[test]
fn json_reads_back_as_it_was() {
    let report = report();
    assert_eq!(serde_json::from_str::<Report>(&report.json()).unwrap(), report);
}

#[test]
fn quantiles_are_of_what_there_is() {
    let times: Vec<Duration> = (1..=10).map(Duration::from_secs).collect();
    let of = |part| quantile(&times, part).unwrap().as_secs();
    assert_eq!((of(0.0), of(0.5), of(0.9), of(0.99), of(1.0)), (1, 5, 9, 10, 10));
    assert_eq!(quantile(&[], 0.5), None);
}
