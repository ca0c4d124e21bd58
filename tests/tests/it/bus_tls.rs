//! The bus over TLS: a real server, certificates of the moment.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_runtime::bus::{self, Error, Options};
use muster_tests::nats::{NatsServer, Tls};
use muster_tests::process::{Program, free_port};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(30);

/// An authority, and the file that clients know it by.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(directory: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = directory.join(format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// A certificate for servers on loopback.
    fn server(&self, directory: &Path) -> Tls {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = ["server.pem", "server.key"].map(|name| directory.join(name));
        std::fs::write(&files[0], certificate.pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        let [certificate, key] = files;
        Tls { certificate, key }
    }
}

async fn connect(url: &str, authority: &Path) -> Result<(), Error> {
    let options = Options { tls_ca_file: Some(authority.to_owned()), ..Options::default() };
    let bus = bus::open(url, &options).await?;
    let mut messages = bus.subscribe("greetings", None).await?;
    bus.publish("greetings", "hello".into()).await?;
    assert_eq!(messages.next().await.unwrap().payload, "hello");
    let bucket = bus.key_value("words", None).await?;
    bucket.put("a", "b".into()).await.map(|_| ())
}

#[tokio::test]
async fn a_server_is_spoken_to_over_tls_by_those_who_know_its_authority_only() {
    let directory = TempDir::new().unwrap();
    let (ours, other) =
        (Authority::new(directory.path(), "ours"), Authority::new(directory.path(), "other"));
    let nats = NatsServer::start_with_tls(ours.server(directory.path())).await.unwrap();
    assert!(nats.url().starts_with("tls://"));
    connect(&nats.url(), &ours.file).await.unwrap();
    // A server that wants TLS gets it from those too who did not ask for it.
    connect(&nats.url().replace("tls", "nats"), &ours.file).await.unwrap();

    let refusal = connect(&nats.url(), &other.file).await.unwrap_err().to_string();
    assert!(refusal.contains("the certificate of the server is not trusted"), "{refusal}");
    let missing = directory.path().join("missing.pem");
    let refusal = connect(&nats.url(), &missing).await.unwrap_err().to_string();
    assert!(refusal.contains("No such file"), "{refusal}");
    let plain = NatsServer::start().await.unwrap();
    let options = Options { connect_timeout: Duration::from_secs(1), ..Options::default() };
    let opened = bus::open(&plain.url().replace("nats", "tls"), &options).await;
    assert!(opened.is_err(), "a server without TLS is not spoken to in the clear");
}

#[tokio::test]
async fn a_process_takes_the_authority_from_its_settings() {
    let directory = TempDir::new().unwrap();
    let (ours, other) =
        (Authority::new(directory.path(), "ours"), Authority::new(directory.path(), "other"));
    let nats = NatsServer::start_with_tls(ours.server(directory.path())).await.unwrap();
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let store = format!("file://{}", directory.path().join("store").display());
    let program = |authority: &Authority| {
        Program::built("muster")
            .unwrap()
            .args(["gateway", "--bus", &nats.url(), "--store", &store, "--listen", &address])
            .env("MUSTER_BUS__TLS_CA_FILE", &authority.file)
    };
    let mut process = program(&ours).spawn("trusting", directory.path()).unwrap();
    process.until_ready(&format!("http://{address}/health/ready"), WAIT).await.unwrap();
    process.kill9().unwrap();

    let mut process = program(&other).spawn("mistrusting", directory.path()).unwrap();
    let status = process.wait(WAIT).await.unwrap();
    let log = process.log().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the certificate of the server is not trusted"), "{log}");
}
