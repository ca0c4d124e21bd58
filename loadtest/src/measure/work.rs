//! What is submitted: jobs with pod specs of about a kilobyte, each different.

use std::fmt::Write as _;

use bytes::Bytes;

/// One job's line, about 1 KB, its environment different from every other's.
fn line(number: usize, annotations: &str) -> String {
    let mut env = String::new();
    for variable in 0..10 {
        let value = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ variable);
        let comma = if variable == 0 { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(env, r#"{comma}{{"name":"VARIABLE_{variable}","value":"{value:040x}"}}"#);
    }
    format!(
        r#"{{"priority":0,"namespace":"default"{annotations},"podSpec":{{"containers":[{{"name":"main","image":"registry.example/team/image:1","command":["/bin/run"],"args":["--input","part-{number:09}"],"env":[{env}],"resources":{{"requests":{{"cpu":"100m","memory":"64Mi"}},"limits":{{"cpu":"100m","memory":"64Mi"}}}}}}]}}}}"#
    )
}

/// Bodies of so many jobs each.
pub fn bodies(jobs: usize, per_body: usize) -> Vec<Bytes> {
    let numbers: Vec<usize> = (0..jobs).collect();
    let bodies = numbers.chunks(per_body).map(|part| {
        let text: String = part.iter().map(|number| line(*number, "") + "\n").collect();
        Bytes::from(text)
    });
    bodies.collect()
}

/// A body of small jobs that run so long on a simulated cluster.
pub fn short_jobs(jobs: usize, runtime: &str) -> Bytes {
    let job = format!(
        r#"{{"annotations":{{"muster.dev/simulated-runtime":"{runtime}"}},"podSpec":{{"containers":[{{"name":"main","image":"x","command":["true"],"resources":{{"requests":{{"cpu":"1","memory":"1Gi"}},"limits":{{"cpu":"1","memory":"1Gi"}}}}}}]}}}}"#
    );
    Bytes::from((job + "\n").repeat(jobs))
}
