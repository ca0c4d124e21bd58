//! Runs with services and ingresses.

use super::*;
use crate::backend::kubernetes::network::{Exposed, Made, Object};

/// The pod of a run that has a service and an ingress.
fn reachable(n: u32, status: &Value) -> object::Pod {
    let mut pod = pod(n, status);
    let network = r#"{"services":[{"ports":[80]}],"ingress":[{"ports":[81]}]}"#;
    pod.metadata.annotations.insert(labels::NETWORK.to_owned(), network.to_owned());
    pod
}

fn on_host(mut status: Value) -> Value {
    status["hostIP"] = "10.0.0.1".into();
    status
}

/// What the API server answers when it has made them.
fn made(objects: &[Object]) -> Exposed {
    let mut exposed = Exposed::default();
    for object in objects {
        let mut body = object.body.clone();
        if body["spec"]["type"] == "NodePort" {
            body["spec"]["ports"][0]["nodePort"] = 30_000.into();
        }
        let made: Made = serde_json::from_value(body).unwrap();
        exposed.add(object, &made);
    }
    exposed
}

impl World {
    fn see_reachable(&mut self, n: u32, status: &Value) {
        let now = self.now();
        assert!(self.table.seen(&reachable(n, status), now));
    }

    /// What is to be made, if that is all that is asked of the API server.
    fn objects(&mut self) -> Arc<[Object]> {
        let Some(Call::Expose { objects, .. }) = self.table.next_call() else { panic!() };
        assert!(self.table.next_call().is_none());
        objects
    }

    fn exposed(&mut self, n: u32, result: Result<Exposed, Creation>) {
        let now = self.now();
        self.table.exposed(key(n), result, now);
    }
}

fn started() -> World {
    let mut world = world();
    world.start(1);
    assert_eq!(world.calls(), ["create 1"]);
    world.created(1, Creation::Created, Some(&reachable(1, &pending())));
    world
}

#[test]
fn a_run_is_said_to_run_when_its_services_are_there_and_where() {
    let mut world = started();
    let objects = world.objects();
    assert_eq!(objects.len(), 3);
    world.see_reachable(1, &on_host(running()));
    assert_eq!(world.said(), ["1 Pending"]);
    world.exposed(1, Ok(made(&objects)));
    let events = world.table.take_events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].status, RunStatus::Running);
    assert_eq!(muster_api::http::time_text(events[0].at), START.replace('Z', ".000Z"));
    let addresses: Vec<(u32, &str)> =
        events[0].addresses.iter().map(|at| (at.port, at.address.as_str())).collect();
    let host = format!("81-{}.team.svc", labels::pod_name(key(1)));
    assert_eq!(addresses, [(80, "10.0.0.1:30000"), (81, &*host)]);
    world.see_reachable(1, &ended("Succeeded", 0));
    assert_eq!(world.said(), ["1 Succeeded"]);
    assert!(world.calls().is_empty());
}

#[test]
fn services_that_are_refused_end_the_run_and_others_are_tried_again() {
    let mut world = started();
    world.objects();
    let refused = |reason| Creation::Refused {
        status: RunStatus::Failed,
        reason,
        message: "no more ports".to_owned(),
    };
    world.exposed(1, Err(refused("Rejected")));
    assert_eq!(world.calls(), ["remove 1"]);
    world.gone(1, &pending());
    let events = world.table.take_events();
    let (last, exit) = (events.last().unwrap(), &events.last().unwrap().exit);
    assert_eq!((last.status, exit.reason.as_deref()), (RunStatus::Failed, Some("Rejected")));
    let expected = "its services and ingresses cannot be made: no more ports";
    assert_eq!(exit.message.as_deref(), Some(expected));

    let mut world = started();
    let later = || Creation::Later {
        message: "User \"x\" cannot create resource \"services\"".to_owned(),
        is_of_pod: true,
        may_exist: false,
    };
    let mut tries = 0;
    while world.seconds < 120 {
        world.objects();
        world.exposed(1, Err(later()));
        assert!(world.calls().is_empty());
        world.pass(10);
        tries += 1;
    }
    assert_eq!(tries, 12);
    world.objects();
    world.exposed(1, Err(later()));
    assert_eq!(world.calls(), ["remove 1"]);
    world.gone(1, &pending());
    assert_eq!(world.said(), ["1 Pending", "1 Failed Forbidden"]);
}

#[test]
fn an_api_server_that_is_away_is_waited_for_without_end_for_services_too() {
    let mut world = started();
    let away = || Creation::Later { message: "away".to_owned(), is_of_pod: false, may_exist: true };
    // One that does not run would be given up for that.
    world.see_reachable(1, &running());
    for _ in 0..99 {
        world.objects();
        world.exposed(1, Err(away()));
        world.pass(10);
    }
    let objects = world.objects();
    world.exposed(1, Ok(made(&objects)));
    assert_eq!(world.said(), ["1 Pending", "1 Running"]);
}

#[test]
fn a_restart_makes_services_that_may_be_missing_and_says_again_that_a_run_runs() {
    let mut world =
        World { table: Table::new(KubernetesConfig::default(), "c".into()), seconds: 0 };
    world.see_reachable(1, &on_host(running()));
    world.see_reachable(2, &ended("Succeeded", 0));
    let now = world.now();
    let adopted = world.table.adopt(now);
    assert_eq!(adopted[0].report.status, RunStatus::Pending);
    let objects = world.objects();
    world.exposed(1, Ok(made(&objects)));
    let events = world.table.take_events();
    let said: Vec<(u32, RunStatus, usize)> = events
        .iter()
        .map(|it| (it.key.job.index.unwrap(), it.status, it.addresses.len()))
        .collect();
    assert_eq!(said, [(2, RunStatus::Succeeded, 0), (1, RunStatus::Running, 2)]);
}

#[test]
fn a_run_that_is_over_or_to_go_needs_no_services() {
    let mut over = world();
    over.start(1);
    over.calls();
    over.see_reachable(1, &ended("Failed", 3));
    assert_eq!(over.said(), ["1 Running", "1 Failed Error"]);
    assert!(over.calls().is_empty());
    let mut stopped = started();
    stopped.stop(1);
    assert_eq!(stopped.calls(), ["remove 1"]);

    let mut forged = world();
    forged.start(1);
    forged.calls();
    let mut pod = reachable(1, &pending());
    pod.metadata.annotations.insert(labels::NETWORK.to_owned(), "x".to_owned());
    let now = forged.now();
    forged.table.seen(&pod, now);
    assert_eq!(forged.calls(), ["remove 1"]);
    forged.gone(1, &pending());
    assert_eq!(forged.said(), ["1 Pending", "1 Failed InvalidPodSpec"]);
}
