//! The parts of a cluster that are processes: the store, the API server, the controllers, the
//! scheduler. Each can be killed, stopped and started again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Request;

use super::{READY_TIMEOUT, kubeconfig};
use crate::authority::{Authority, Pair, write_key};
use crate::process::{Process, Program, free_port};
use crate::repo_root;

/// Which modules the parts are built from.
const MODULES: &str = include_str!("../../kubernetes/go.mod");
/// Who speaks to the API server with a token of its own, and in which groups they are. Controllers
/// and scheduler have only the roles that Kubernetes gives them.
const USERS: [(&str, &str, &str); 4] = [
    ("admin", "admin", "system:masters"),
    ("kubelet", "virtual-kubelet", "system:masters"),
    ("controllers", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
];
/// No node is taken for lost because a busy test machine is late.
const NODE_PATIENCE: &str = "24h";

/// The version of Kubernetes that the parts are built from, such as `v1.36.3`.
pub static VERSION: std::sync::LazyLock<&str> = std::sync::LazyLock::new(|| {
    let mut lines = MODULES.lines().map(str::trim);
    let version = lines.find_map(|line| line.strip_prefix("k8s.io/kubernetes "));
    version.and_then(|version| version.split_whitespace().next()).unwrap_or_default()
});

/// A part of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The store below the API server.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers.
    Controllers,
    /// The scheduler.
    Scheduler,
}

impl Part {
    /// All, in the order in which they start.
    pub const ALL: [Self; 4] = [Self::Etcd, Self::ApiServer, Self::Controllers, Self::Scheduler];

    /// The name of its program, and of its logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::Controllers => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }
}

/// The processes of a cluster. They end when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    directory: PathBuf,
    authority: Authority,
    store_port: u16,
    port: u16,
    programs: [Program; 4],
    processes: [Option<Process>; 4],
}

impl ControlPlane {
    /// Starts all parts and waits until the API server is ready.
    pub(super) async fn start(directory: &Path, pods_leave_after: Duration) -> Result<Self> {
        let authority = Authority::new(directory, "authority")?;
        let (store_port, peer_port, port) = (free_port()?, free_port()?, free_port()?);
        write_users(directory, port, authority.file())?;
        write_key(&directory.join("accounts.key"), &directory.join("accounts.pub"))?;
        let programs = [
            etcd(directory, store_port, peer_port)?,
            api_server(directory, &authority, (store_port, port), pods_leave_after)?,
            controllers(directory, authority.file())?,
            scheduler(directory)?,
        ];
        let directory = directory.to_owned();
        let processes = [None, None, None, None];
        let mut plane = Self { directory, authority, store_port, port, programs, processes };
        plane.spawn_all().await?;
        Ok(plane)
    }

    /// Where the API server is.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The port of the API server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the store is, for clients of its own protocol.
    pub fn store_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.store_port)
    }

    /// What certifies the servers of this cluster.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The kubeconfig of one of [`USERS`].
    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.directory.join(format!("{user}.kubeconfig"))
    }

    pub(super) fn log_of(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    /// What a part has logged since the cluster's start.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self, part: Part) -> Result<String> {
        let path = self.log_of(part.name());
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// The process of a part that is up, to signal it.
    ///
    /// # Errors
    /// When it is down.
    pub fn process(&mut self, part: Part) -> Result<&mut Process> {
        let process = self.processes[part as usize].as_mut();
        process.with_context(|| format!("{} is down", part.name()))
    }

    /// SIGKILL to a part. Nothing happens if it is down.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill9(&mut self, part: Part) -> Result<()> {
        self.processes[part as usize].take().map_or(Ok(()), |mut process| process.kill9())
    }

    /// Starts a part that is down; see [`ControlPlane::until_ready`].
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub fn spawn(&mut self, part: Part) -> Result<()> {
        let process = &mut self.processes[part as usize];
        ensure!(process.is_none(), "{} runs", part.name());
        *process = Some(self.programs[part as usize].spawn(part.name(), &self.directory)?);
        Ok(())
    }

    /// Starts all parts, of which none runs. The controllers end when the API server is not ready
    /// ten seconds after them, so they have to wait for it.
    ///
    /// # Errors
    /// When a part does not start, or the API server does not get ready.
    pub async fn spawn_all(&mut self) -> Result<()> {
        for part in Part::ALL {
            self.spawn(part)?;
            if part == Part::ApiServer {
                self.until_ready().await?;
            }
        }
        Ok(())
    }

    /// Waits until the API server says that it is ready.
    ///
    /// # Errors
    /// When it does not, or has ended.
    pub async fn until_ready(&mut self) -> Result<()> {
        let client = kubeconfig::client(&self.kubeconfig("admin")).await?;
        let api_server = self.process(Part::ApiServer)?;
        api_server
            .until("it says that it is ready", READY_TIMEOUT, async || {
                let request = Request::get("/readyz?verbose").body(Vec::new())?;
                let said = client.request_text(request).await?;
                ensure!(said.contains("readyz check passed"), "{said}");
                Ok(())
            })
            .await
    }
}

/// The tokens that the API server takes, and a kubeconfig for each.
fn write_users(directory: &Path, port: u16, authority: &Path) -> Result<()> {
    let mut lines = String::new();
    for (name, user, groups) in USERS {
        // Guessed by nobody who could not read it here: the port is on loopback, for minutes.
        let token = format!("token-of-{name}");
        lines += &format!("{token},{user},{user},\"{groups}\"\n");
        let token_file = directory.join(format!("{name}.token"));
        std::fs::write(&token_file, token)?;
        let path = directory.join(format!("{name}.kubeconfig"));
        let server = format!("https://127.0.0.1:{port}");
        kubeconfig::write(&path, &server, authority, &token_file)?;
    }
    std::fs::write(directory.join("tokens.csv"), lines).context("write the tokens")
}

fn etcd(directory: &Path, port: u16, peer_port: u16) -> Result<Program> {
    let (clients, peers) =
        (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    let program = binary(Part::Etcd)?
        .args(["--name", "store", "--log-level", "warn"])
        // It shall survive the death of its process, not that of the machine.
        .args(["--unsafe-no-fsync", "--quota-backend-bytes", "8589934592"])
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("store={peers}"), "--data-dir"])
        .arg(directory.join("etcd"));
    Ok(program)
}

fn api_server(
    directory: &Path,
    authority: &Authority,
    (store_port, port): (u16, u16),
    pods_leave_after: Duration,
) -> Result<Program> {
    let (shown, to_kubelets) = (authority.server("apiserver")?, authority.client("apiserver-out")?);
    let Pair { certificate, key } = shown;
    let seconds = pods_leave_after.as_secs();
    let program = binary(Part::ApiServer)?
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        .arg(format!("--secure-port={port}"))
        .arg(format!("--etcd-servers=http://127.0.0.1:{store_port}"))
        .arg(flag("tls-cert-file", &certificate))
        .arg(flag("tls-private-key-file", &key))
        .arg(flag("client-ca-file", authority.file()))
        .arg(flag("kubelet-certificate-authority", authority.file()))
        .arg(flag("kubelet-client-certificate", &to_kubelets.certificate))
        .arg(flag("kubelet-client-key", &to_kubelets.key))
        .arg("--kubelet-preferred-address-types=InternalIP")
        .arg(flag("token-auth-file", &directory.join("tokens.csv")))
        .arg("--authorization-mode=Node,RBAC")
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(flag("service-account-key-file", &directory.join("accounts.pub")))
        .arg(flag("service-account-signing-key-file", &directory.join("accounts.key")))
        .args(["--service-cluster-ip-range=10.0.0.0/16", "--endpoint-reconciler-type=none"])
        .arg("--enable-admission-plugins=NodeRestriction")
        .arg(format!("--default-not-ready-toleration-seconds={seconds}"))
        .arg(format!("--default-unreachable-toleration-seconds={seconds}"))
        .args(["--allow-privileged=true", "--profiling=false"]);
    Ok(program)
}

fn controllers(directory: &Path, authority: &Path) -> Result<Program> {
    let program = binary(Part::Controllers)?
        .arg(flag("kubeconfig", &directory.join("controllers.kubeconfig")))
        .args(["--leader-elect=false", "--secure-port=0", "--use-service-account-credentials"])
        .arg(flag("service-account-private-key-file", &directory.join("accounts.key")))
        .arg(flag("root-ca-file", authority))
        .arg(format!("--node-monitor-grace-period={NODE_PATIENCE}"))
        .args(["--node-monitor-period=1s", "--kube-api-qps=500", "--kube-api-burst=1000"]);
    Ok(program)
}

fn scheduler(directory: &Path) -> Result<Program> {
    let config = directory.join("scheduler.json");
    let text = serde_json::json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": { "leaderElect": false },
        "clientConnection": {
            "kubeconfig": directory.join("scheduler.kubeconfig"),
            "qps": 2000,
            "burst": 4000,
        },
        // A pod that found no place is looked at again soon, where nothing has told of room.
        "podMaxBackoffSeconds": 2,
    });
    std::fs::write(&config, text.to_string())?;
    Ok(binary(Part::Scheduler)?.args(["--secure-port=0"]).arg(flag("config", &config)))
}

fn flag(name: &str, path: &Path) -> std::ffi::OsString {
    let mut flag = std::ffi::OsString::from(format!("--{name}="));
    flag.push(path);
    flag
}

fn binary(part: Part) -> Result<Program> {
    let path = repo_root().join(".tools/bin").join(part.name());
    ensure!(
        path.is_file(),
        "{} is not built: run `make kubernetes`, or set MUSTER_TEST_KUBECONFIG",
        path.display()
    );
    Ok(Program::at(path))
}
