//! The bus over TLS: a real server, certificates of the moment.

use std::path::Path;
use std::time::Duration;

use muster_runtime::bus::{self, Error, Options};
use muster_tests::authority::Authority;
use muster_tests::nats::NatsServer;
use muster_tests::process::{Program, free_port};
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(30);

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
    let authority = |name| Authority::new(directory.path(), name).unwrap();
    let (ours, other) = (authority("ours"), authority("other"));
    let nats = NatsServer::start_with_tls(ours.server("server").unwrap()).await.unwrap();
    assert!(nats.url().starts_with("tls://"));
    connect(&nats.url(), ours.file()).await.unwrap();
    // A server that wants TLS gets it from those too who did not ask for it.
    connect(&nats.url().replace("tls", "nats"), ours.file()).await.unwrap();

    let refusal = connect(&nats.url(), other.file()).await.unwrap_err().to_string();
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
    let authority = |name| Authority::new(directory.path(), name).unwrap();
    let (ours, other) = (authority("ours"), authority("other"));
    let nats = NatsServer::start_with_tls(ours.server("server").unwrap()).await.unwrap();
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let store = format!("file://{}", directory.path().join("store").display());
    let program = |authority: &Authority| {
        Program::built("muster")
            .unwrap()
            .args(["gateway", "--bus", &nats.url(), "--store", &store, "--listen", &address])
            .env("MUSTER_BUS__TLS_CA_FILE", authority.file())
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
