//! The way to the API server. Whom it leads to and who asks stands in files, which are replaced
//! now and then (certificates run out): they are read again, and the way is made anew when they say
//! something else. Tokens in files are looked after by the client itself.

use std::error::Error as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use muster_runtime::Clock;

use super::certificate;
use crate::backend::Error;
use crate::config::KubernetesConfig;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How soon they are after credentials were refused.
const DOUBT_INTERVAL: Duration = Duration::from_secs(1);

/// A client and what requests of it need.
#[derive(Clone)]
pub(super) struct Api {
    way: Arc<Way>,
    pub(super) clock: Clock,
    pub(super) timeout: Duration,
    /// The namespace of the executor's pod or context.
    pub(super) namespace: String,
}

struct Way {
    config: KubernetesConfig,
    current: Mutex<Current>,
}

struct Current {
    client: Client,
    /// What the files said.
    said: Said,
    /// When the files are looked at again.
    look_at: Duration,
    /// Whether it was said that the certificate has run out.
    is_expiry_told: bool,
}

/// What the files say, as far as a client is made of it once and for all.
#[derive(PartialEq)]
struct Said {
    server: String,
    authorities: Option<Vec<Vec<u8>>>,
    who: String,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A client for the cluster that the settings name.
pub(super) async fn connect(config: &KubernetesConfig, clock: &Clock) -> Result<Api, Error> {
    let (found, said) = read(config).await?;
    let namespace = found.default_namespace.clone();
    let client = made(found)?;
    let (clock, timeout) = (clock.clone(), config.request_timeout.0);
    let look_at = clock.monotonic() + LOOK_INTERVAL;
    let current = Mutex::new(Current { client, said, look_at, is_expiry_told: false });
    let way = Arc::new(Way { config: config.clone(), current });
    let api = Api { way, clock, timeout, namespace };
    api.tell_expiry();
    Ok(api)
}

fn made(mut config: Config) -> Result<Client, Error> {
    // The pace is kept here, and watches that fail begin anew: retries in between would hide what
    // the API server says.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| wrong(error.to_string()))
}

async fn read(config: &KubernetesConfig) -> Result<(Config, Said), Error> {
    let found = found(config).await?;
    let auth = &found.auth_info;
    let data = |base64: &Option<String>| base64.as_deref().and_then(certificate::decoded);
    let said = Said {
        server: found.cluster_url.to_string(),
        authorities: found.root_cert.clone(),
        who: told(auth)?,
        certificate: match data(&auth.client_certificate_data) {
            Some(data) => data,
            None => file(&auth.client_certificate)?,
        },
        key: file(&auth.client_key)?,
    };
    Ok((found, said))
}

/// All that stands in the kubeconfig about who asks.
fn told(auth: &AuthInfo) -> Result<String, Error> {
    serde_json::to_string(auth).map_err(|error| wrong(error.to_string()))
}

fn file(path: &Option<String>) -> Result<Vec<u8>, Error> {
    let Some(path) = path else { return Ok(Vec::new()) };
    std::fs::read(Path::new(path)).map_err(|error| wrong(format!("`{path}`: {error}")))
}

async fn found(config: &KubernetesConfig) -> Result<Config, Error> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let options =
        KubeConfigOptions { context: some(&config.context), ..KubeConfigOptions::default() };
    if !config.kubeconfig.as_os_str().is_empty() {
        let file = Kubeconfig::read_from(&config.kubeconfig);
        let file = file.map_err(|error| wrong(error.to_string()))?;
        let found = Config::from_custom_kubeconfig(file, &options).await;
        return found.map_err(|error| wrong(error.to_string()));
    }
    if options.context.is_some() {
        let found = Config::from_kubeconfig(&options).await;
        return found.map_err(|error| wrong(error.to_string()));
    }
    match Config::incluster() {
        Ok(found) => Ok(found),
        Err(no_pod) => Config::from_kubeconfig(&options)
            .await
            .map_err(|error| wrong(format!("{no_pod}; {error}"))),
    }
}

fn wrong(reason: String) -> Error {
    Error::Kubernetes { what: "connecting".to_owned(), reason }
}

/// An error with all that led to it: the first word alone is often no more than that it failed.
pub(super) fn explained(error: &kube::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        let said = found.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = found.source();
    }
    text
}

impl Api {
    /// The client, by what the files say now.
    pub(super) async fn client(&self) -> Client {
        let now = self.clock.monotonic();
        {
            let mut current = self.current();
            if now < current.look_at {
                return current.client.clone();
            }
            current.look_at = now + LOOK_INTERVAL;
        }
        match read(&self.way.config).await {
            Ok((found, said)) => self.renew(found, said),
            Err(error) => {
                tracing::warn!(%error, "credentials cannot be read again, those before are used");
            }
        }
        self.tell_expiry();
        self.current().client.clone()
    }

    fn renew(&self, found: Config, said: Said) {
        if self.current().said == said {
            return;
        }
        match made(found) {
            Ok(client) => {
                tracing::info!("credentials were replaced and are used from now on");
                let mut current = self.current();
                (current.client, current.said, current.is_expiry_told) = (client, said, false);
            }
            // They may be half replaced.
            Err(error) => tracing::warn!(%error, "new credentials cannot be used yet"),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing is left half done under the lock, so a panic elsewhere spoils nothing.
        self.way.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with the credentials as far as they say it themselves.
    pub(super) fn expired(&self) -> Option<String> {
        let now = self.clock.now();
        let at = certificate::ran_out(&self.current().said.certificate, now)?;
        Some(format!("its client certificate ran out at {}", muster_api::http::time_text(at)))
    }

    /// Credentials were refused: perhaps there are others by now.
    fn doubt(&self) {
        let soon = self.clock.monotonic() + DOUBT_INTERVAL;
        let mut current = self.current();
        current.look_at = current.look_at.min(soon);
    }

    fn tell_expiry(&self) {
        let Some(why) = self.expired() else { return };
        if !std::mem::replace(&mut self.current().is_expiry_told, true) {
            tracing::error!(%why, "the executor needs another certificate for this cluster");
        }
    }

    /// Waits for an answer for as long as the settings allow.
    pub(super) async fn within<T>(
        &self,
        asked: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, kube::Error> {
        tokio::select! {
            biased;
            answer = asked => {
                if matches!(&answer, Err(kube::Error::Api(status)) if status.code == 401) {
                    self.doubt();
                }
                answer
            }
            () = self.clock.sleep(self.timeout) => {
                let message = "the API server did not answer in time";
                let source = std::io::Error::new(std::io::ErrorKind::TimedOut, message);
                Err(kube::Error::ReadEvents(source))
            }
        }
    }
}
