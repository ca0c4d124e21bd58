//! The jobs that load is made of, as JSON lines or rows of columns, with pod specs of a wanted
//! length.

use std::fmt::Write;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use muster_api::batch::public::{Row, Writer};

/// How long a simulated job runs: an annotation that the simulated executor reads.
pub const RUNTIME_ANNOTATION: &str = "muster.dev/simulated-runtime";
/// How likely a simulated job fails, 0 to 1.
pub const FAILURE_RATE_ANNOTATION: &str = "muster.dev/simulated-failure-rate";

/// What one kind of job is like.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// As a Kubernetes quantity.
    pub cpu: String,
    /// As a Kubernetes quantity.
    pub memory: String,
    /// How long it runs, where it is simulated.
    pub runtime: Option<Duration>,
    /// How likely it fails, where it is simulated.
    pub failure_rate: Option<f64>,
    /// Tasks, for an array.
    pub count: Option<u32>,
    /// Bytes of its pod spec, at least.
    pub spec_bytes: usize,
}

/// Writes jobs of one kind.
#[derive(Debug, Clone)]
pub struct Template {
    /// A line up to its pod spec.
    head: String,
    /// The pod spec up to the number in it.
    before: String,
    /// And behind it.
    after: String,
    annotations: Option<String>,
    count: Option<u32>,
    /// Whether each job differs from every other one.
    is_distinct: bool,
}

/// What ends a line behind its pod spec.
const TAIL: &str = "}\n";
/// Digits of the number that makes a job distinct.
const NUMBER_DIGITS: usize = 20;

impl Template {
    /// A writer of equal jobs.
    #[must_use]
    pub fn equal(kind: &Kind) -> Self {
        Self { is_distinct: false, ..Self::distinct(kind) }
    }

    /// A writer of jobs that differ in their pod specs.
    #[must_use]
    pub fn distinct(kind: &Kind) -> Self {
        let spec = pod_spec(kind);
        let marker = "00000000000000000000";
        let at = spec.find(marker).expect("the spec holds the number");
        let annotations = annotations(kind);
        let mut head = String::from("{");
        if let Some(count) = kind.count {
            write!(head, "\"count\":{count},").expect("a string takes everything");
        }
        if let Some(annotations) = &annotations {
            write!(head, "\"annotations\":{annotations},").expect("a string takes everything");
        }
        head += "\"podSpec\":";
        Self {
            head,
            before: spec[..at].to_owned(),
            after: spec[at + marker.len()..].to_owned(),
            annotations,
            count: kind.count,
            is_distinct: true,
        }
    }

    /// Bytes of one line.
    #[must_use]
    pub fn line_bytes(&self) -> usize {
        self.head.len() + self.before.len() + NUMBER_DIGITS + self.after.len() + TAIL.len()
    }

    /// Adds a line; `number` is what makes it distinct.
    pub fn write(&self, number: u64, into: &mut BytesMut) {
        into.reserve(self.line_bytes());
        into.put_slice(self.head.as_bytes());
        into.put_slice(self.before.as_bytes());
        into.put_slice(&self.digits(number));
        into.put_slice(self.after.as_bytes());
        into.put_slice(TAIL.as_bytes());
    }

    /// Adds a row; `number` is what makes it distinct.
    pub fn write_row(&self, number: u64, into: &mut Writer) {
        let digits = self.digits(number);
        let digits = std::str::from_utf8(&digits).expect("digits are text");
        into.push(&Row {
            count: self.count,
            annotations: self.annotations.as_deref(),
            pod_spec: &[&self.before, digits, &self.after].concat(),
            ..Row::default()
        });
    }

    fn digits(&self, number: u64) -> [u8; NUMBER_DIGITS] {
        let mut digits = [b'0'; NUMBER_DIGITS];
        if self.is_distinct {
            let mut rest = number;
            for digit in digits.iter_mut().rev() {
                *digit += (rest % 10) as u8;
                rest /= 10;
            }
        }
        digits
    }
}

fn annotations(kind: &Kind) -> Option<String> {
    let mut pairs = Vec::new();
    if let Some(runtime) = kind.runtime {
        pairs.push(format!("\"{RUNTIME_ANNOTATION}\":\"{}ms\"", runtime.as_millis()));
    }
    if let Some(rate) = kind.failure_rate {
        pairs.push(format!("\"{FAILURE_RATE_ANNOTATION}\":\"{rate}\""));
    }
    (!pairs.is_empty()).then(|| format!("{{{}}}", pairs.join(",")))
}

fn pod_spec(kind: &Kind) -> String {
    let resources = format!(r#"{{"cpu":"{}","memory":"{}"}}"#, kind.cpu, kind.memory);
    let with = |filler: &str| {
        format!(
            concat!(
                r#"{{"restartPolicy":"Never","containers":[{{"name":"main","image":"busybox:1","#,
                r#""command":["true"],"env":[{{"name":"NUMBER","value":"00000000000000000000"}},"#,
                r#"{{"name":"FILLER","value":"{filler}"}}],"#,
                r#""resources":{{"requests":{resources},"limits":{resources}}}}}]}}"#,
            ),
            filler = filler,
            resources = resources,
        )
    };
    let missing = kind.spec_bytes.saturating_sub(with("").len());
    // Not all one letter: a filler that compresses to nothing would flatter the numbers.
    let filler: String = (0..missing).map(|at| letter(at as u64)).collect();
    with(&filler)
}

fn letter(at: u64) -> char {
    let mixed = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    char::from(b'a' + ((mixed >> 33) % 26) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind() -> Kind {
        Kind {
            cpu: "100m".to_owned(),
            memory: "64Mi".to_owned(),
            runtime: Some(Duration::from_millis(1500)),
            failure_rate: Some(0.25),
            count: Some(3),
            spec_bytes: 1024,
        }
    }

    #[test]
    fn lines_are_jobs_of_the_wanted_size() {
        let mut text = BytesMut::new();
        let template = Template::distinct(&kind());
        template.write(1, &mut text);
        template.write(2, &mut text);
        let lines: Vec<_> = text[..].split(|byte| *byte == b'\n').collect();
        let mut parser = muster_api::job_text::Parser::new();
        let job = parser.parse(lines[0]).unwrap();
        assert_eq!((job.count, job.pod_spec.len()), (Some(3), 1024));
        assert!(job.annotations.contains(r#""muster.dev/simulated-runtime":"1500ms""#));
        assert_ne!(lines[0], lines[1]);
        assert_eq!(lines[0].len() + 1, template.line_bytes());
    }

    #[test]
    fn a_row_holds_what_a_line_holds() {
        let (mut line, mut rows) = (BytesMut::new(), Writer::new());
        let template = Template::distinct(&kind());
        template.write(42, &mut line);
        template.write_row(42, &mut rows);
        let mut stream = muster_api::batch::public::Stream::new();
        stream.push(&rows.finish());
        let batch = stream.next_batch().unwrap().unwrap();
        let mut parser = muster_api::job_text::Parser::new();
        let of_row = batch.job(0, &mut parser).unwrap();
        assert_eq!(of_row, muster_api::job_text::Parser::new().parse(&line).unwrap());
    }

    #[test]
    fn equal_jobs_are_equal() {
        let template =
            Template::equal(&Kind { count: None, runtime: None, failure_rate: None, ..kind() });
        let (mut one, mut two) = (BytesMut::new(), BytesMut::new());
        template.write(1, &mut one);
        template.write(2, &mut two);
        assert_eq!(one, two);
        assert!(one.starts_with(b"{\"podSpec\":{\"restartPolicy\""));
    }
}
