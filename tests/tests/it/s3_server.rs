//! The S3 server of the harness: honest with its locks, dishonest without them, and faulty as told.

use std::time::Duration;

use futures::future::join_all;
use muster_tests::s3::{
    ACCESS_KEY, BUCKET, Effect, Fault, Operation, REGION, S3Server, SECRET_KEY,
};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig,
};
use tempfile::TempDir;

const CREATORS: usize = 32;
const KEYS: usize = 50;

/// A client that shows every answer of the server as it is: it repeats nothing.
fn client(server: &S3Server) -> AmazonS3 {
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let options = ClientOptions::new().with_allow_http(true).with_timeout(Duration::from_secs(20));
    AmazonS3Builder::new()
        .with_client_options(options)
        .with_retry(retry)
        .with_endpoint(server.endpoint())
        .with_region(REGION)
        .with_bucket_name(BUCKET)
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key(SECRET_KEY)
        .build()
        .unwrap()
}

async fn create(store: &AmazonS3, key: &Path, text: &str) -> object_store::Result<()> {
    let payload = PutPayload::from(text.to_owned());
    store.put_opts(key, payload, PutMode::Create.into()).await.map(|_| ())
}

async fn content(store: &AmazonS3, key: &Path) -> String {
    let bytes = store.get(key).await.unwrap().bytes().await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Lets creators race for each key; returns for each key who was told that it won, and what stands
/// there.
async fn race(server: &S3Server) -> Vec<(Vec<String>, String)> {
    let store = client(server);
    let mut outcomes = Vec::new();
    for key in 0..KEYS {
        let key = Path::from(format!("race/{key:04}"));
        let creators = (0..CREATORS).map(async |creator| {
            let text = format!("creator {creator}");
            match create(&store, &key, &text).await {
                Ok(()) => Some(text),
                Err(Error::AlreadyExists { .. }) => None,
                Err(error) => panic!("{key}: {error}"),
            }
        });
        let winners = join_all(creators).await.into_iter().flatten().collect();
        outcomes.push((winners, content(&store, &key).await));
    }
    outcomes
}

#[tokio::test]
async fn with_locks_each_key_has_one_creator_and_keeps_its_content() {
    let directory = TempDir::new().unwrap();
    let server = S3Server::start(directory.path()).unwrap();
    for (winners, kept) in race(&server).await {
        assert_eq!(winners, [kept]);
    }
    let put = u64::try_from(CREATORS * KEYS).unwrap();
    assert_eq!(server.requests()[&Operation::Put], put);
}

#[tokio::test]
async fn without_locks_some_key_has_several_creators() {
    let directory = TempDir::new().unwrap();
    let server = S3Server::start_unsafe(directory.path()).unwrap();
    let outcomes = race(&server).await;
    assert!(outcomes.iter().any(|(winners, _)| winners.len() > 1));
}

#[tokio::test]
async fn objects_survive_a_restart_on_the_same_port() {
    let directory = TempDir::new().unwrap();
    let mut server = S3Server::start(directory.path()).unwrap();
    let endpoint = server.endpoint();
    let store = client(&server);
    let key = Path::from("finished_date=2026-01-01/a.parquet");
    create(&store, &key, "one").await.unwrap();

    server.stop().unwrap();
    assert!(store.head(&key).await.is_err());
    server.restart().unwrap();

    assert_eq!(server.endpoint(), endpoint);
    assert_eq!(content(&store, &key).await, "one");
    assert!(matches!(create(&store, &key, "two").await, Err(Error::AlreadyExists { .. })));
}

#[tokio::test]
async fn a_refused_write_is_not_there_and_a_lost_reply_is() {
    let directory = TempDir::new().unwrap();
    let server = S3Server::start(directory.path()).unwrap();
    let store = client(&server);
    let cases = [
        (Effect::Refuse(500), false),
        (Effect::Refuse(503), false),
        (Effect::Disconnect, false),
        (Effect::RefuseAfter(500), true),
        (Effect::LoseReply, true),
    ];
    for (case, (effect, written)) in cases.into_iter().enumerate() {
        let key = Path::from(format!("log/{case}"));
        let fault = Fault::new(effect).on(Operation::Put).under("log/");
        server.faults().add(fault.times(1));

        let outcome = create(&store, &key, "text").await;
        assert!(outcome.is_err(), "{effect:?}");
        assert_eq!(store.head(&key).await.is_ok(), written, "{effect:?}");
        // The fault is spent: the next attempt is answered as the store stands.
        assert_eq!(create(&store, &key, "text").await.is_ok(), !written, "{effect:?}");
    }
    assert_eq!(server.faults().injected(), 5);
}

#[tokio::test]
async fn a_write_whose_reply_is_late_is_there_before_it() {
    let directory = TempDir::new().unwrap();
    let server = S3Server::start(directory.path()).unwrap();
    let store = client(&server);
    let key = Path::from("log/1");
    let forever = Duration::from_secs(3600);
    server.faults().add(Fault::new(Effect::DelayReply(forever)).on(Operation::Put));

    let writing = create(&store, &key, "text");
    let seen =
        muster_tests::wait::eventually(Duration::from_secs(10), "it is written", async || {
            assert_eq!(store.get(&key).await?.bytes().await?, "text");
            Ok(())
        });
    tokio::select! {
        outcome = writing => panic!("it was answered: {outcome:?}"),
        seen = seen => seen.unwrap(),
    }
}

#[tokio::test]
async fn a_held_reply_comes_when_the_faults_are_cleared() {
    let directory = TempDir::new().unwrap();
    let server = S3Server::start(directory.path()).unwrap();
    let store = client(&server);
    let key = Path::from("log/1");
    for effect in [Effect::HoldReply, Effect::RefuseAfter(500)] {
        server.faults().add(Fault::new(effect).on(Operation::Put));
    }
    let mut writing = std::pin::pin!(create(&store, &key, "text"));
    let seen =
        muster_tests::wait::eventually(Duration::from_secs(10), "it is written", async || {
            Ok(store.head(&key).await?)
        });
    tokio::select! {
        outcome = &mut writing => panic!("it was answered: {outcome:?}"),
        seen = seen => drop(seen.unwrap()),
    }
    server.faults().clear();
    let error = writing.await.unwrap_err();
    assert!(!matches!(error, Error::AlreadyExists { .. }), "{error}");
    assert!(matches!(create(&store, &key, "two").await, Err(Error::AlreadyExists { .. })));
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let directory = TempDir::new().unwrap();
    let server = S3Server::start(directory.path()).unwrap();
    let store = AmazonS3Builder::new()
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_endpoint(server.endpoint())
        .with_region(REGION)
        .with_bucket_name(BUCKET)
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key("wrong")
        .build()
        .unwrap();
    assert!(create(&store, &Path::from("a"), "text").await.is_err());
}

mod probe {
    //! The check that every process makes of its store at start, against this server.

    use muster_runtime::Random;
    use muster_runtime::store::probe::{Error, probe};
    use muster_runtime::store::{self, Config, Secret};

    use super::{ACCESS_KEY, REGION, S3Server, SECRET_KEY, TempDir};

    fn opened(server: &S3Server) -> store::Store {
        let config = Config {
            url: server.url("probe"),
            endpoint: Some(server.endpoint()),
            region: Some(REGION.to_owned()),
            access_key_id: Some(ACCESS_KEY.to_owned()),
            secret_access_key: Some(Secret::new(SECRET_KEY)),
            allow_http: true,
            ..Config::default()
        };
        store::open(&config).unwrap()
    }

    #[tokio::test]
    async fn accepts_the_store_with_locks() {
        let directory = TempDir::new().unwrap();
        let server = S3Server::start(directory.path()).unwrap();
        probe(&opened(&server), &Random::from_os()).await.unwrap();
    }

    #[tokio::test]
    async fn refuses_the_store_without_locks() {
        let directory = TempDir::new().unwrap();
        let server = S3Server::start_unsafe(directory.path()).unwrap();
        let refusal = probe(&opened(&server), &Random::from_os()).await.unwrap_err();
        assert!(matches!(refusal, Error::Winners { .. } | Error::Content { .. }), "{refusal}");
    }
}
