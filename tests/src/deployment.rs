//! A whole deployment as processes: gateways, shard workers and executors with simulated clusters,
//! on one NATS server and one S3 server; load on it, and the audit of what it acknowledged.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use muster_api::http::QueueSettings;
use muster_client::{Answers, Client, Compression, Format, Options};
use muster_loadtest::acknowledged::Acknowledged;
use muster_loadtest::audit;
use muster_loadtest::job::Kind;
use muster_loadtest::submit::{self, Plan, Progress};
use muster_runtime::clock::Clock;
use tempfile::TempDir;

use crate::nats::NatsServer;
use crate::process::{Process, Program, free_port};
use crate::s3::S3Server;

/// How long a role may take until it answers.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a client of these tests sends a request again: longer than any outage they make.
const RETRIES_MAX: u32 = 200;

/// Jobs of one request; fewer where every queue would not get one.
const JOBS_PER_REQUEST_MAX: u64 = 500;

/// The longest pause of a client between two attempts.
const RETRY_DELAY_MAX: Duration = Duration::from_millis(500);

/// One process of a deployment, which can be started again as it was.
#[derive(Debug)]
pub struct Member {
    name: String,
    program: Program,
    process: Process,
}

impl Member {
    fn start(name: String, program: Program, log_dir: &Path) -> Result<Self> {
        let process = program.spawn(&name, log_dir)?;
        Ok(Self { name, program, process })
    }

    /// What it has logged, its earlier lives included.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }

    /// The process itself, to signal it and to read its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL, then the same again; the log goes on in the same file.
    ///
    /// # Errors
    /// When it cannot be killed or started.
    pub fn kill9_and_restart(&mut self, log_dir: &Path) -> Result<()> {
        self.process.kill9()?;
        self.process = self.program.spawn(&self.name, log_dir)?;
        Ok(())
    }
}

/// How many processes there are of each role.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Gateways.
    pub gateways: usize,
    /// Shard workers.
    pub shards: usize,
    /// Executors, each with a simulated cluster of 20 nodes.
    pub executors: usize,
}

/// A running deployment. Everything ends with it; a failed test prints the end of every log.
#[derive(Debug)]
pub struct Deployment {
    /// The gateways.
    pub gateways: Vec<Member>,
    /// The shard workers.
    pub shards: Vec<Member>,
    /// The executors.
    pub executors: Vec<Member>,
    /// The bus.
    pub nats: NatsServer,
    /// The store.
    pub s3: S3Server,
    ports: Vec<u16>,
    settings: Vec<(&'static str, &'static str)>,
    directory: TempDir,
}

impl Deployment {
    /// Starts one and waits until its gateways are ready.
    ///
    /// # Errors
    /// When a process does not start or does not answer.
    pub async fn start(size: Size) -> Result<Self> {
        Self::start_with(size, &[]).await
    }

    /// The same with variables of the environment for every process.
    ///
    /// # Errors
    /// Those of [`Deployment::start`].
    pub async fn start_with(size: Size, settings: &[(&'static str, &'static str)]) -> Result<Self> {
        let directory = TempDir::with_prefix("muster-deployment-")?;
        let s3_directory = directory.path().join("s3");
        std::fs::create_dir_all(&s3_directory)?;
        let mut deployment = Self {
            gateways: Vec::new(),
            shards: Vec::new(),
            executors: Vec::new(),
            nats: NatsServer::start().await?,
            s3: S3Server::start(&s3_directory)?,
            ports: Vec::new(),
            settings: settings.to_vec(),
            directory,
        };
        for number in 0..size.shards {
            let member = deployment.member("shard", number, |program| program)?;
            deployment.shards.push(member);
        }
        for number in 0..size.gateways {
            let port = free_port()?;
            let listen = format!("127.0.0.1:{port}");
            let member = deployment
                .member("gateway", number, |program| program.args(["--listen", &listen]))?;
            deployment.gateways.push(member);
            deployment.ports.push(port);
        }
        for number in 0..size.executors {
            let state_dir = deployment.state_dir(number);
            std::fs::create_dir_all(&state_dir)?;
            let cluster = format!("cluster-{number}");
            let member = deployment.member("executor", number, |program| {
                program
                    .args(["--cluster", &cluster, "--backend", "simulated", "--state-dir"])
                    .arg(&state_dir)
            })?;
            deployment.executors.push(member);
        }
        for number in 0..size.gateways {
            let url = format!("{}/health/ready", deployment.url(number));
            deployment.gateways[number].process.until_ready(&url, READY_TIMEOUT).await?;
        }
        Ok(deployment)
    }

    /// Starts one more executor, for a cluster that is not simulated: the settings say which.
    ///
    /// # Errors
    /// When it does not start.
    pub fn add_executor(&mut self, cluster: &str, settings: &[(String, String)]) -> Result<()> {
        let number = self.executors.len();
        let state_dir = self.state_dir(number);
        std::fs::create_dir_all(&state_dir)?;
        let settings = settings.to_vec();
        let member = self.member("executor", number, |program| {
            let program = program.args(["--cluster", cluster, "--state-dir"]).arg(&state_dir);
            program.envs(settings)
        })?;
        self.executors.push(member);
        Ok(())
    }

    fn member(
        &self,
        role: &str,
        number: usize,
        finish: impl FnOnce(Program) -> Program,
    ) -> Result<Member> {
        let mut program = Program::built("muster")?
            .arg(role)
            .args(["--bus", &self.nats.url(), "--shards", "4"])
            .envs(self.s3.env())
            .env("MUSTER_SHARD__LEASE_TTL", "2s")
            .env("MUSTER_EXECUTOR__RECORD_RUNS", "true")
            .env("MUSTER_EXECUTOR__SIMULATED__NODES", "20")
            .env("MUSTER_EXECUTOR__SIMULATED__CPU", "16")
            .env("MUSTER_EXECUTOR__SIMULATED__RUNTIME", "200ms")
            .envs(self.settings.iter().copied());
        if role != "executor" {
            program = program.args(["--store", &self.s3.url("prefix")]);
        }
        Member::start(format!("{role}-{number}"), finish(program), self.log_dir())
    }

    /// Where the logs are.
    pub fn log_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Holds the executors' own records of what ran, `runs` at least, to what is promised: no
    /// attempt twice, no two of a job at once.
    ///
    /// # Errors
    /// When they say otherwise.
    pub fn audit_runs(&self, runs: u64) -> Result<()> {
        let directories = (0..self.executors.len()).map(|number| self.state_dir(number));
        let recorded = audit::runs::Runs::read(&directories.collect::<Vec<_>>())?;
        let findings = recorded.findings();
        ensure!(findings.is_empty(), "{findings:?}");
        ensure!(recorded.count() >= runs, "{} runs were recorded", recorded.count());
        Ok(())
    }

    /// Where an executor keeps what must survive it.
    pub fn state_dir(&self, executor: usize) -> PathBuf {
        self.directory.path().join(format!("state-{executor}"))
    }

    /// The URL of a gateway; the same after its restart.
    pub fn url(&self, gateway: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[gateway])
    }

    /// A client of a gateway that is more patient than any outage of these tests is long.
    ///
    /// # Errors
    /// Never for a running deployment.
    pub fn client(&self, gateway: usize) -> Result<Client> {
        patient_client(&self.url(gateway))
    }

    /// A client of all gateways, as patient: it asks the first until that one fails.
    ///
    /// # Errors
    /// Never for a running deployment.
    pub fn client_of_all(&self) -> Result<Client> {
        let urls = (0..self.ports.len()).map(|gateway| self.url(gateway)).collect::<Vec<_>>();
        patient_client(&urls.join(","))
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let members = [&self.gateways, &self.shards, &self.executors];
        for member in members.into_iter().flatten() {
            let log = member.process.log().unwrap_or_default();
            let lines = log.lines().collect::<Vec<_>>();
            let end = lines[lines.len().saturating_sub(25)..].join("\n");
            // The test fails already; what cannot be printed is not worth a second panic.
            let _ = writeln!(std::io::stderr(), "--- {}\n{end}", member.name);
        }
    }
}

/// A client that sends again for minutes.
///
/// # Errors
/// When `urls`, separated by commas, are none.
pub fn patient_client(urls: &str) -> Result<Client> {
    patient_client_with(urls, Options::default().answer_timeout)
}

/// The same, which leaves a gateway that is silent for so long.
///
/// # Errors
/// When `urls`, separated by commas, are none.
pub fn patient_client_with(urls: &str, answer_timeout: Duration) -> Result<Client> {
    let options = Options {
        answer_timeout,
        retries_max: RETRIES_MAX,
        delay_first: Duration::from_millis(50),
        delay_max: RETRY_DELAY_MAX,
        ..Options::default()
    };
    Ok(Client::new(urls, options)?)
}

/// Creates the queues `load-0` and so on.
///
/// # Errors
/// When the deployment refuses one.
pub async fn create_queues(client: &Client, count: usize) -> Result<Vec<String>> {
    let names = (0..count).map(|number| format!("load-{number}")).collect::<Vec<_>>();
    for name in &names {
        let settings = QueueSettings::default();
        client.put_queue(name, &settings).await.with_context(|| format!("create {name}"))?;
    }
    Ok(names)
}

/// Submits so many small jobs, spread over a job set of that name in each queue, and gives what was
/// acknowledged. Each runs for 200 ms.
///
/// # Errors
/// When a request fails for good, or a job is refused.
pub async fn submit_jobs(
    client: &Client,
    queues: &[String],
    job_set: &str,
    jobs: u64,
    progress: Arc<Progress>,
) -> Result<Acknowledged> {
    submit_jobs_of(Duration::from_millis(200), client, queues, job_set, jobs, progress).await
}

/// The same with jobs that run for so long.
///
/// # Errors
/// Those of [`submit_jobs`].
pub async fn submit_jobs_of(
    runtime: Duration,
    client: &Client,
    queues: &[String],
    job_set: &str,
    jobs: u64,
    progress: Arc<Progress>,
) -> Result<Acknowledged> {
    let plan = Plan {
        jobs,
        jobs_per_request: (jobs / queues.len() as u64).clamp(1, JOBS_PER_REQUEST_MAX),
        connections: 2,
        queues: queues.to_vec(),
        job_set: job_set.to_owned(),
        kind: Kind {
            cpu: "100m".to_owned(),
            memory: "64Mi".to_owned(),
            runtime: Some(runtime),
            failure_rate: None,
            count: None,
            spec_bytes: 256,
        },
        distinct: false,
        format: Format::Ndjson,
        compression: Compression::None,
        answers: Answers::Each,
    };
    let (report, acknowledged) = submit::submit(client, &Clock::system(), plan, progress).await?;
    ensure!(report.rejected == 0, "jobs were refused: {:?}", report.refusals);
    ensure!(acknowledged.jobs() == jobs, "{} of {jobs} acknowledged", acknowledged.jobs());
    Ok(acknowledged)
}

/// Waits until all jobs have ended, and holds the deployment to what it acknowledged.
///
/// # Errors
/// When anything was lost or done twice, or lives after `drain`.
pub async fn audited(client: &Client, acknowledged: Acknowledged, drain: Duration) -> Result<()> {
    let report = audit::audit(client, &Clock::system(), acknowledged, drain).await?;
    ensure!(report.passed(), "{}", report.text());
    ensure!(report.unacknowledged == 0, "{}", report.text());
    Ok(())
}
