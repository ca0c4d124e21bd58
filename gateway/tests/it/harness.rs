//! A gateway on a free port, and shards that answer what a test tells them to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use muster_api::batch;
use muster_api::bus::{IdRun, ShardReply, ShardRequest, decode, encode, subject};
use muster_api::http::{Applied, EventPage, JobPage, JobSetPage};
use muster_core::id::{JobId, ShardId};
use muster_core::time::Timestamp;
use muster_gateway::{Config, Deps};
use muster_runtime::bus::{Bus, Options, memory::Memory};
use muster_runtime::http::Health;
use muster_runtime::store::{self, Store, control::ControlStore};
use muster_runtime::tasks::{BoxError, Policy};
use muster_runtime::{Blocking, Clock, Metrics, Random, Supervisor};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What a shard is to answer; `None` answers nothing.
pub(crate) type Script = Arc<dyn Fn(u16, &ShardRequest) -> Option<ShardReply> + Send + Sync>;

pub(crate) struct Harness {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<(u16, ShardRequest)>>>,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: Supervisor,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) store: Store,
}

pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

impl Harness {
    /// A gateway with shards that take everything.
    pub(crate) async fn start() -> Self {
        Self::with(Config::default(), Arc::new(|shard, request| Some(take(shard, request)))).await
    }

    pub(crate) async fn with(config: Config, script: Script) -> Self {
        let bus: Arc<dyn Bus> = Arc::new(Memory::new(&Options::default()));
        let random = Random::seeded(1);
        let tasks = Supervisor::new(random.clone());
        let seen = Arc::new(Mutex::new(Vec::new()));
        for shard in 0..config.shards {
            respond(&bus, &tasks, shard, Arc::clone(&seen), Arc::clone(&script)).await;
        }
        let store = store::open(&store::Config::at("memory:///")).unwrap();
        let deps = Deps {
            bus: Arc::clone(&bus),
            control: ControlStore::new(store.clone(), random.clone()),
            clock: Clock::system(),
            random,
            tasks: tasks.clone(),
            blocking: Blocking::new(2),
            metrics: Metrics::new(),
            health: Health::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        tasks.spawn_once("gateway", Policy::VITAL, move |_| async move {
            muster_gateway::run(config, deps, listener, token).await
        });
        let harness = Self { address, seen, cancel, tasks, bus, store };
        harness.until_ready().await;
        harness
    }

    async fn until_ready(&self) {
        let ready = async {
            while self.get("/health/ready").await.status != StatusCode::OK {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ready).await.expect("it becomes ready");
    }

    pub(crate) async fn queue(&self, name: &str) {
        let got = self.send("PUT", &format!("/api/v1/queues/{name}"), &[], "{}").await;
        assert_eq!(got.status, StatusCode::OK, "{}", got.text());
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, kind: &str, body: impl Into<Bytes>) -> Got {
        self.send("POST", path, &[("content-type", kind)], body).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Got {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut request = Request::builder().method(method).uri(path).header("host", "test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let exchange = async {
            let response = sender.send_request(request).await.unwrap();
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Got { status: head.status, headers: head.headers, body }
        };
        tokio::select! {
            got = exchange => got,
            // The exchange ends first; a connection that breaks shows there.
            Err(error) = connection => panic!("{error}"),
        }
    }

    /// Requests that shards got, in the order in which they came.
    pub(crate) fn seen(&self) -> Vec<(u16, ShardRequest)> {
        self.seen.lock().unwrap().clone()
    }

    /// The jobs that were submitted.
    pub(crate) fn submitted(&self) -> Vec<muster_core::command::NewJob> {
        self.seen()
            .into_iter()
            .filter_map(|(_, request)| match request {
                ShardRequest::Submit(submit) => Some(batch::read(submit.batch).unwrap()),
                _ => None,
            })
            .flatten()
            .collect()
    }
}

async fn respond(
    bus: &Arc<dyn Bus>,
    tasks: &Supervisor,
    shard: u16,
    seen: Arc<Mutex<Vec<(u16, ShardRequest)>>>,
    script: Script,
) {
    let mut requests = bus.subscribe(&subject::shard(ShardId(shard)), None).await.unwrap();
    let bus = Arc::clone(bus);
    tasks.spawn_once("shard", Policy::DETACHED, move |_| async move {
        while let Some(message) = requests.next().await {
            let request: ShardRequest = decode(&message.payload).unwrap();
            let reply = script(shard, &request);
            seen.lock().unwrap().push((shard, request));
            if let (Some(reply), Some(to)) = (reply, &message.reply) {
                bus.respond(to, encode(&reply)).await.unwrap();
            }
        }
        Ok::<(), BoxError>(())
    });
}

/// A shard that takes everything and has nothing.
pub(crate) fn take(shard: u16, request: &ShardRequest) -> ShardReply {
    match request {
        ShardRequest::Submit(submit) => {
            let jobs = batch::read(submit.batch.clone()).unwrap();
            let run = |line: u64| IdRun { line, first: id(shard, line), count: 1 };
            ShardReply::Submitted(jobs.iter().map(|job| run(job.line)).collect())
        }
        ShardRequest::Cancel(_) | ShardRequest::Reprioritize(_) => {
            ShardReply::Applied(Applied { changed: 1, ..Applied::default() })
        }
        ShardRequest::CloseQueue(_) => ShardReply::Done,
        ShardRequest::Job(_) => ShardReply::Job(None),
        ShardRequest::Jobs(_) => ShardReply::Jobs(JobPage::default()),
        ShardRequest::JobSets(_) => ShardReply::JobSets(JobSetPage::default()),
        ShardRequest::Events(_) => ShardReply::Events(EventPage::default()),
        other => panic!("a gateway does not ask {other:?}"),
    }
}

/// The id that [`take`] gives to a line.
pub(crate) fn id(shard: u16, line: u64) -> JobId {
    JobId::new(Timestamp(1_800_000_000_000), ShardId(shard), line)
}

/// The text, compressed.
pub(crate) fn gzip(text: &str) -> Vec<u8> {
    compress(text, false)
}

/// The text, compressed.
pub(crate) fn zstd(text: &str) -> Vec<u8> {
    compress(text, true)
}

fn compress(text: &str, zstd: bool) -> Vec<u8> {
    use futures::FutureExt;
    use tokio::io::AsyncReadExt;
    let mut bytes = Vec::new();
    let read = async {
        if zstd {
            let mut encoder = async_compression::tokio::bufread::ZstdEncoder::new(text.as_bytes());
            encoder.read_to_end(&mut bytes).await.unwrap();
        } else {
            let mut encoder = async_compression::tokio::bufread::GzipEncoder::new(text.as_bytes());
            encoder.read_to_end(&mut bytes).await.unwrap();
        }
    };
    read.now_or_never().expect("memory is always ready");
    bytes
}
