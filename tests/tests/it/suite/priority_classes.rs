//! Priority classes: made, shown, named by jobs, deleted; by HTTP and from the command line.

use muster_tests::site::Site;
use serde_json::{Value, json};

use super::command_line::{json_and_yaml, quiet, run};
use super::{http, job, lines, post_lines, queue, submitted, until_state};

/// The job with that priority class.
fn of_class(class: &str) -> Value {
    let mut job = job(0);
    job["podSpec"]["priorityClassName"] = class.into();
    job
}

pub(crate) async fn a_job_names_a_class_that_there_is(site: &Site) {
    let (http, other) = (http(site), site.other_http().unwrap());
    queue(&http, "classes").await;
    let refused = post_lines(&http, "classes", "s", &[], lines(&[of_class("suite-class")])).await;
    let error = &refused.lines().unwrap()[0]["error"];
    assert_eq!(error["code"], "class_unknown", "{error}");
    assert!(error["detail"].as_str().unwrap().contains("`armada-default`"), "{error}");

    let path = "/api/v1/priority-classes/suite-class";
    let settings = json!({ "priority": 2000, "preemptible": true });
    let expected =
        json!({ "name": "suite-class", "priority": 2000, "preemptible": true, "builtIn": false });
    assert_eq!(other.put(path, &settings).await.unwrap().json(), expected);
    assert_eq!(http.get(path).await.unwrap().json(), expected, "any gateway shows it at once");
    let jobs = [of_class("suite-class"), of_class("armada-preemptible"), of_class("default")];
    let ids = submitted(&http, "classes", "s", &jobs).await;
    assert_eq!(other.delete(path).await.unwrap().status, 204);
    assert_eq!(http.get(path).await.unwrap().problem(), (404, "not_found".into()));
    // A job whose class is gone runs as one of the default class.
    for id in &ids {
        until_state(&http, id, "succeeded").await;
    }
}

pub(crate) async fn classes_are_set_and_shown_from_the_command_line(site: &Site) {
    let table = quiet(site, "priority-class set cli-spare --priority -5 --preemptible");
    let expected = "CLASS      PRIORITY  PREEMPTIBLE  BUILT IN\n\
                    cli-spare  -5        yes          no\n";
    assert_eq!(table, expected);
    let shown = json_and_yaml(site, "pc get cli-spare");
    assert_eq!((&shown["priority"], &shown["preemptible"]), (&json!(-5), &json!(true)));
    let listed = json_and_yaml(site, "pc list");
    let names = super::column(listed["priorityClasses"].as_array().unwrap(), "name");
    for name in ["armada-default", "armada-preemptible", "cli-spare", "default"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }
    assert_eq!(run(site, "pc set cli-spare").status.code(), Some(2), "a priority is needed");
    assert_eq!(run(site, "pc set Spare --priority 1").status.code(), Some(1));
    assert_eq!(run(site, "pc delete cli-spare").status.code(), Some(0));
    assert_eq!(run(site, "pc delete cli-spare").status.code(), Some(3));
    assert_eq!(run(site, "pc get cli-spare").status.code(), Some(3));
}
