//! The settings of a gateway.

use std::net::SocketAddr;

use muster_runtime::config::{ByteSize, FieldDoc, HumanDuration, Problems};
use muster_runtime::http::exposed;
use serde::{Deserialize, Serialize};

/// Settings of a gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Whether it may listen where other machines can reach it, although nobody has to say who they
    /// are.
    pub insecure: bool,
    /// Shards of the deployment; the same for every role, and never changed once jobs were
    /// submitted.
    #[serde(skip)]
    pub shards: u16,
    /// How long a change is tried before the answer is 503.
    pub write_timeout: HumanDuration,
    /// How long a question is tried before the answer is 503.
    pub read_timeout: HumanDuration,
    /// Connections at once; a further one takes the place of one that waits for a request.
    pub connections_max: usize,
    /// Submissions at once; a further one takes the place of one whose body hardly comes, and is
    /// answered with 429 where there is none.
    pub submissions_max: usize,
    /// Streams of events and logs at once; further ones are answered with 429.
    pub streams_max: usize,
    /// Bytes of submissions held at once; further ones are read when there is room.
    pub submit_bytes_max: ByteSize,
    /// How long a client may take to send the headers of a request.
    pub header_timeout: HumanDuration,
    /// How long a client may send nothing of a body before the rest is given up.
    pub body_timeout: HumanDuration,
    /// How long a client may take nothing of an answer, and send nothing, before it is cut off.
    pub send_timeout: HumanDuration,
    /// Time between signs of life on a stream of events that has none.
    pub keep_alive: HumanDuration,
    /// How long requests may go on after the gateway was asked to stop.
    pub drain_timeout: HumanDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            insecure: false,
            shards: 4,
            write_timeout: HumanDuration::secs(30),
            read_timeout: HumanDuration::secs(10),
            connections_max: 4096,
            submissions_max: 256,
            streams_max: 1024,
            submit_bytes_max: ByteSize::mib(256),
            header_timeout: HumanDuration::secs(10),
            body_timeout: HumanDuration::secs(30),
            send_timeout: HumanDuration::secs(30),
            keep_alive: HumanDuration::secs(15),
            drain_timeout: HumanDuration::secs(20),
        }
    }
}

impl Config {
    /// What each key means.
    #[must_use]
    pub fn docs() -> Vec<FieldDoc> {
        [
            ("listen", "address and port to listen on; port 0 picks a free one"),
            (
                "insecure",
                "whether it may listen where other machines can reach it, although nobody has to say who they are",
            ),
            ("write_timeout", "how long a change is tried before the answer is 503"),
            ("read_timeout", "how long a question is tried before the answer is 503"),
            (
                "connections_max",
                "connections at once; a further one takes the place of the one that has waited longest for a request",
            ),
            (
                "submissions_max",
                "submissions at once; a further one takes the place of one whose body hardly comes, and is answered with 429 where there is none",
            ),
            (
                "streams_max",
                "streams of events and logs at once; further ones are answered with 429",
            ),
            (
                "submit_bytes_max",
                "bytes of submissions held at once; further ones are read when there is room",
            ),
            ("header_timeout", "how long a client may take to send the headers of a request"),
            (
                "body_timeout",
                "how long a client may send nothing of a body before the rest is given up",
            ),
            (
                "send_timeout",
                "how long a client may take nothing of an answer, and send nothing, before it is cut off",
            ),
            ("keep_alive", "time between signs of life on a stream of events that has none"),
            ("drain_timeout", "how long requests may go on after the gateway was asked to stop"),
        ]
        .map(|(key, what)| FieldDoc::new(key, what))
        .to_vec()
    }

    /// What is wrong with the settings beyond the type of each.
    pub fn validate(&self, problems: &mut Problems) {
        if let Some(reason) = exposed(self.listen, self.insecure) {
            problems.add("listen", reason);
        }
        if self.shards == 0 || self.shards > 1024 {
            problems.add("shards", format!("{} is not from 1 to 1024", self.shards));
        }
        if self.connections_max == 0 || self.submissions_max == 0 {
            problems.add("connections_max", "it and submissions_max are at least 1");
        }
        if self.streams_max == 0 {
            problems.add("streams_max", "it is at least 1");
        }
        if self.submit_bytes_max < ByteSize::mib(16) {
            problems
                .add("submit_bytes_max", format!("{} is less than 16MiB", self.submit_bytes_max));
        }
        for (key, value) in [
            ("write_timeout", self.write_timeout),
            ("read_timeout", self.read_timeout),
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("send_timeout", self.send_timeout),
            ("keep_alive", self.keep_alive),
        ] {
            if value.0 < std::time::Duration::from_millis(100) {
                problems.add(key, format!("{value} is shorter than 100ms"));
            }
        }
    }
}
