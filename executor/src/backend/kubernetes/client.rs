//! The way to the API server.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use muster_runtime::Clock;

use crate::backend::Error;
use crate::config::KubernetesConfig;

/// A client and what requests of it need.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) timeout: Duration,
    /// The namespace of the executor's pod or context.
    pub(super) namespace: String,
}

/// A client for the cluster that the settings name.
pub(super) async fn connect(config: &KubernetesConfig, clock: &Clock) -> Result<Api, Error> {
    let mut found = read(config).await?;
    // The pace is kept here, and watches that fail begin anew: retries in between would hide what
    // the API server says.
    found.default_retry = false;
    let namespace = found.default_namespace.clone();
    let client = Client::try_from(found).map_err(|error| wrong(error.to_string()))?;
    let (clock, timeout) = (clock.clone(), config.request_timeout.0);
    Ok(Api { client, clock, timeout, namespace })
}

async fn read(config: &KubernetesConfig) -> Result<Config, Error> {
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

impl Api {
    /// Waits for an answer for as long as the settings allow.
    pub(super) async fn within<T>(
        &self,
        asked: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, kube::Error> {
        tokio::select! {
            biased;
            answer = asked => answer,
            () = self.clock.sleep(self.timeout) => {
                let message = "the API server did not answer in time";
                let source = std::io::Error::new(std::io::ErrorKind::TimedOut, message);
                Err(kube::Error::ReadEvents(source))
            }
        }
    }
}
