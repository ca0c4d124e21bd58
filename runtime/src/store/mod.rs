//! The object store: the only truth. Opens it from a URL, counts what is asked of it, proves at
//! start that it keeps its word ([`probe`]), and keeps the control data ([`control`]).
//!
//! Every key is relative to the URL's prefix. Three kinds: `s3://bucket/prefix`,
//! `file:///directory` and `memory:///` (which forgets everything with the last clone).
//!
//! A local directory is as durable as its disk: an object is written beside, synced, linked into
//! place and its directory synced before the write is answered. Deletions are not synced: after a
//! power cut an object that was deleted may be back, which is safe, for nothing is ever decided by
//! an object's absence after it was deleted.

mod config;
pub mod control;
mod counted;
#[cfg(test)]
mod faulty;
pub mod probe;

use std::fs;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig,
};
use prometheus_client::registry::Registry;
use url::Url;

pub use config::{Config, Secret};
use counted::Counted;
pub use counted::Requests;

/// An open object store. Clones share the connection and the counters.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<Counted>,
    kind: Kind,
    url: Arc<str>,
}

/// What stands behind a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An S3-compatible service.
    S3,
    /// A directory of this machine.
    File,
    /// Memory of this process.
    Memory,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none of the three forms.
    #[error(
        "store URL `{url}` is not of the form `s3://bucket/prefix`, `file:///directory` or `memory:///`"
    )]
    Url {
        /// What was given.
        url: String,
    },
    /// The directory could not be made.
    #[error("store directory `{directory}` cannot be created")]
    Directory {
        /// Which.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The client refused its settings.
    #[error("store `{url}` cannot be opened")]
    Client {
        /// Which.
        url: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
}

/// What a conditional write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object was not there and is there as written.
    Yes,
    /// The store refused: another object is there, or another write of the key was under way, or
    /// this very write landed on an attempt that was then repeated. Only reading the object tells
    /// which.
    Refused,
}

/// Opens the store that `config` names; it is not touched yet, except that a directory is created.
///
/// # Errors
/// When the URL has none of the known forms, the directory cannot be made or the settings do not
/// fit.
pub fn open(config: &Config) -> Result<Store, Error> {
    let url = config.url.as_str();
    let (kind, parsed) = parse(url)?;
    match kind {
        Kind::S3 => open_s3(&parsed, config),
        Kind::File => open_directory(&parsed),
        Kind::Memory => Ok(Store::over(Arc::new(InMemory::new()), Kind::Memory, url)),
    }
}

/// What a URL says of the store behind it.
fn parse(url: &str) -> Result<(Kind, Url), Error> {
    let refused = || Error::Url { url: url.to_owned() };
    let parsed = Url::parse(url).map_err(|_| refused())?;
    let kind = match parsed.scheme() {
        "s3" if parsed.host_str().is_some_and(|bucket| !bucket.is_empty()) => Kind::S3,
        "file" if parsed.to_file_path().is_ok() => Kind::File,
        "memory" => Kind::Memory,
        _ => return Err(refused()),
    };
    Ok((kind, parsed))
}

impl Store {
    /// A store over one that is already open: for tests that put faults between.
    #[must_use]
    pub fn over(objects: Arc<dyn ObjectStore>, kind: Kind, url: &str) -> Self {
        Self { objects: Arc::new(Counted::new(objects)), kind, url: url.into() }
    }

    /// The store itself. Keys are relative to the URL's prefix; requests are counted.
    #[must_use]
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects) as Arc<dyn ObjectStore>
    }

    /// What stands behind it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The URL that it was opened with.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many requests were made since it was opened.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.objects.requests()
    }

    /// Registers the request counters as `requests_total` and `bytes_total`.
    pub fn register(&self, registry: &mut Registry) {
        self.objects.register(registry);
    }

    /// Writes `data` under `key` unless an object is there.
    ///
    /// # Errors
    /// When the store did not answer or answered with an error: the object may be there all the
    /// same.
    pub async fn create(&self, key: &Path, data: Bytes) -> Result<Created, object_store::Error> {
        let payload = PutPayload::from_bytes(data);
        match self.objects.put_opts(key, payload, PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Yes),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::Refused),
            Err(error) => Err(error),
        }
    }

    /// Reads a whole object; `None` when there is none.
    ///
    /// # Errors
    /// When the store cannot be reached or answers with an error.
    pub async fn read(&self, key: &Path) -> Result<Option<Bytes>, object_store::Error> {
        match self.objects.get(key).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn open_s3(url: &Url, config: &Config) -> Result<Store, Error> {
    let bucket = url.host_str().ok_or_else(|| Error::Url { url: url.to_string() })?;
    let client_error = |source| Error::Client { url: url.to_string(), source };
    let client = ClientOptions::new()
        .with_timeout(config.request_timeout.0)
        .with_connect_timeout(config.connect_timeout.0)
        .with_allow_http(config.allow_http);
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: config.retries_max,
        retry_timeout: config.request_timeout.0,
    };
    let mut builder = AmazonS3Builder::from_env()
        .with_client_options(client)
        .with_retry(retry)
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_virtual_hosted_style_request(config.virtual_hosted_style);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(id) = &config.access_key_id {
        builder = builder.with_access_key_id(id);
    }
    if let Some(secret) = &config.secret_access_key {
        builder = builder.with_secret_access_key(secret.reveal());
    }
    let s3 = builder.build().map_err(client_error)?;
    let prefix =
        Path::from_url_path(url.path()).map_err(|_| Error::Url { url: url.to_string() })?;
    let objects: Arc<dyn ObjectStore> = if prefix.as_ref().is_empty() {
        Arc::new(s3)
    } else {
        Arc::new(PrefixStore::new(s3, prefix))
    };
    Ok(Store::over(objects, Kind::S3, url.as_str()))
}

fn open_directory(url: &Url) -> Result<Store, Error> {
    let directory = url.to_file_path().map_err(|()| Error::Url { url: url.to_string() })?;
    create_durably(&directory)
        .map_err(|source| Error::Directory { directory: directory.clone(), source })?;
    let local = LocalFileSystem::new_with_prefix(&directory)
        .map_err(|source| Error::Client { url: url.to_string(), source })?
        .with_fsync(true);
    Ok(Store::over(Arc::new(local), Kind::File, url.as_str()))
}

/// Creates a directory and those above it, and syncs each directory that got a new entry.
fn create_durably(directory: &FilePath) -> io::Result<()> {
    let missing: Vec<&FilePath> = directory.ancestors().take_while(|d| !d.exists()).collect();
    fs::create_dir_all(directory)?;
    for made in missing {
        if let Some(parent) = made.parent() {
            fs::File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_is_created_and_keeps_the_first_of_two_objects() {
        let parent = tempfile::tempdir().unwrap();
        let url = format!("file://{}/a/b", parent.path().display());
        let store = open(&Config::at(&url)).unwrap();
        let key = Path::from("x/1");
        assert_eq!(store.read(&key).await.unwrap(), None);
        assert_eq!(store.create(&key, "one".into()).await.unwrap(), Created::Yes);
        assert_eq!(store.create(&key, "two".into()).await.unwrap(), Created::Refused);
        let again = open(&Config::at(&url)).unwrap();
        assert_eq!(again.read(&key).await.unwrap().as_deref(), Some(&b"one"[..]));
        assert!(parent.path().join("a/b/x/1").is_file());
    }

    #[test]
    fn other_urls_are_refused() {
        for url in ["", "/tmp/x", "gs://bucket", "file://host/x", "s3:///x"] {
            let error = open(&Config::at(url)).unwrap_err();
            assert!(matches!(error, Error::Url { .. }), "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn requests_are_counted_by_kind() {
        let store = open(&Config::at("memory:///")).unwrap();
        let key = Path::from("x");
        store.create(&key, "four".into()).await.unwrap();
        store.create(&key, "four".into()).await.unwrap();
        store.read(&key).await.unwrap();
        store.objects().head(&key).await.unwrap();
        store.objects().delete(&key).await.unwrap();
        let before = store.requests();
        assert_eq!((before.put, before.get, before.head, before.delete), (2, 1, 1, 1));
        assert_eq!((before.list, before.put_bytes, before.get_bytes), (0, 8, 4));
        assert_eq!(store.requests().since(&before), Requests::default());
        let mut registry = Registry::default();
        store.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("requests_total{kind=\"put\"} 2"), "{text}");
    }

    #[test]
    fn an_s3_store_opens_with_settings_and_shows_no_secret() {
        let config = Config {
            url: "s3://bucket/some/prefix".to_owned(),
            endpoint: Some("http://127.0.0.1:9".to_owned()),
            region: Some("eu-central-1".to_owned()),
            access_key_id: Some("id".to_owned()),
            secret_access_key: Some(Secret::new("hush")),
            allow_http: true,
            ..Config::default()
        };
        let store = open(&config).unwrap();
        assert_eq!((store.kind(), store.url()), (Kind::S3, "s3://bucket/some/prefix"));
        assert!(!format!("{config:?} {store:?}").contains("hush"));
    }
}
