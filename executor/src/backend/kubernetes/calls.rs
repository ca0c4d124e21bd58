//! Carries out what the table asks of the API server.

use kube::api::{DeleteParams, GetParams, ListParams, PostParams, Preconditions};
use kube::core::Request;
use muster_api::bus::RunStatus;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, Creation};
use super::client::Api;
use super::labels;
use super::manifest::{Parts, manifest};
use super::network::{Exposed, Made, Object};
use super::object::{Happening, Pod};
use super::pace::Answer;
use super::table::{Call, Found, Refusal, Removed, Table};
use super::usage::{self, Look, PodMetrics, PodMetricsList};
use crate::config::KubernetesConfig;
use crate::runs::{Now, RunKey};

/// What came of a call.
pub(super) struct Outcome {
    key: RunKey,
    what: What,
    /// What it says of the pace.
    pub(super) pace: Answer,
}

enum What {
    Created(Creation, Option<Box<Pod>>),
    Exposed(Result<Exposed, Creation>),
    Namespace(Result<(), String>),
    Bound(Result<(), Refusal>),
    Removed(Result<Removed, String>),
    Looked(Found),
    Happened(Vec<Happening>),
}

#[derive(Deserialize)]
struct Items<T> {
    items: Option<Vec<T>>,
}

impl Outcome {
    /// Tells the table.
    pub(super) fn tell(self, table: &mut Table, now: Now) {
        let key = self.key;
        match self.what {
            What::Created(creation, pod) => table.created(key, creation, pod.as_deref(), now),
            What::Exposed(result) => table.exposed(key, result, now),
            What::Namespace(result) => table.namespace_created(key, result, now),
            What::Bound(result) => table.bound(key, result, now),
            What::Removed(result) => table.removed(key, result, now),
            What::Looked(found) => table.looked(key, found, now),
            What::Happened(happenings) => table.happened(key, happenings, now),
        }
    }
}

/// Asks the API server. `uniformity` is what the node says for the label of the run's gang.
pub(super) async fn perform(
    api: Api,
    config: KubernetesConfig,
    cluster: String,
    uniformity: Option<String>,
    call: Call,
) -> Outcome {
    match call {
        Call::Create { key, node, shape, payload } => {
            let parts = Parts {
                key,
                node: &node,
                shape: &shape,
                payload: &payload,
                cluster: &cluster,
                uniformity,
                config: &config,
            };
            create(&api, &parts).await
        }
        Call::Expose { key, objects } => expose(&api, key, &objects).await,
        Call::CreateNamespace { key, namespace } => create_namespace(&api, key, &namespace).await,
        Call::Bind { key, namespace, node } => bind(&api, key, &namespace, &node).await,
        Call::Remove { key, namespace, uid, grace } => {
            remove(&api, key, &namespace, &uid, grace).await
        }
        Call::Look { key, namespace } => look(&api, key, &namespace).await,
        Call::Happenings { key, namespace, uid } => happenings(&api, key, &namespace, &uid).await,
    }
}

/// The path of the pods of a namespace.
pub(super) fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

async fn create(api: &Api, parts: &Parts<'_>) -> Outcome {
    let key = parts.key;
    let pod = match manifest(parts) {
        Ok(pod) => pod,
        Err(message) => {
            let (status, reason) = (RunStatus::Failed, "InvalidPodSpec");
            let refused = Creation::Refused { status, reason, message };
            return Outcome { key, what: What::Created(refused, None), pace: Answer::Well };
        }
    };
    let result = post::<Pod>(api, &pods(&parts.payload.namespace), &pod).await;
    let (creation, pace) = (answer::creation(&result), answer::pace(&result));
    Outcome { key, what: What::Created(creation, result.ok().map(Box::new)), pace }
}

/// Makes the services and ingresses of a pod, one after the other.
async fn expose(api: &Api, key: RunKey, objects: &[Object]) -> Outcome {
    let mut exposed = Exposed::default();
    for object in objects {
        let made = make(api, object).await;
        match made {
            Ok(made) => exposed.add(object, &made),
            Err((refused, pace)) => {
                return Outcome { key, what: What::Exposed(Err(refused)), pace };
            }
        }
    }
    Outcome { key, what: What::Exposed(Ok(exposed)), pace: Answer::Well }
}

async fn make(api: &Api, object: &Object) -> Result<Made, (Creation, Answer)> {
    let result = post::<Made>(api, &object.path, &object.body).await;
    let (creation, pace) = (answer::creation(&result), answer::pace(&result));
    match (result, creation) {
        (Ok(made), _) => Ok(made),
        (Err(_), Creation::Exists) => find(api, object).await,
        (Err(_), other) => Err((other, pace)),
    }
}

/// What is there under the name of an object that could not be made for that.
async fn find(api: &Api, object: &Object) -> Result<Made, (Creation, Answer)> {
    let result = async {
        let request = Request::new(&object.path).get(&object.name, &GetParams::default());
        let request = request.map_err(kube::Error::BuildRequest)?;
        api.within(api.client().await.request::<Made>(request)).await
    }
    .await;
    let pace = answer::pace(&result);
    let later = |message: String| Creation::Later { message, is_of_pod: true, may_exist: true };
    match result {
        Ok(found) if object.is(&found) => Ok(found),
        // It may be that of an earlier attempt, which goes with its pod.
        Ok(_) => {
            let message = format!("`{}` is there, and not this pod's", object.name);
            Err((later(message), pace))
        }
        Err(error) => Err((later(error.to_string()), pace)),
    }
}

async fn create_namespace(api: &Api, key: RunKey, namespace: &str) -> Outcome {
    let object = json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": namespace } });
    let result = post::<Value>(api, "/api/v1/namespaces", &object).await;
    let pace = answer::pace(&result);
    let made = match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(format!("namespace `{namespace}` cannot be created: {error}")),
    };
    Outcome { key, what: What::Namespace(made), pace }
}

async fn bind(api: &Api, key: RunKey, namespace: &str, node: &str) -> Outcome {
    let name = labels::pod_name(key);
    let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node } });
    let result = async {
        let data = serde_json::to_vec(&binding).map_err(kube::Error::SerdeError)?;
        let request = Request::new(pods(namespace));
        let request = request.create_subresource("binding", &name, &PostParams::default(), data);
        let request = request.map_err(kube::Error::BuildRequest)?;
        api.within(api.client().await.request_text(request)).await
    }
    .await;
    let pace = answer::pace(&result);
    let bound = match result {
        Ok(_) => Ok(()),
        // Somebody has bound it; the watch tells where to.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => {
            let is_final = matches!(&error, kube::Error::Api(status)
                if (400..500).contains(&status.code) && !matches!(status.code, 401 | 429));
            Err(Refusal { message: error.to_string(), is_final })
        }
    };
    Outcome { key, what: What::Bound(bound), pace }
}

async fn remove(api: &Api, key: RunKey, namespace: &str, uid: &str, grace: Option<u32>) -> Outcome {
    let params = DeleteParams {
        grace_period_seconds: grace,
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    let result = async {
        let request = Request::new(pods(namespace)).delete(&labels::pod_name(key), &params);
        let request = request.map_err(kube::Error::BuildRequest)?;
        api.within(api.client().await.request_text(request)).await
    }
    .await;
    let pace = answer::pace(&result);
    let removed = match &result {
        Ok(_) => Ok(Removed::Taken),
        Err(_) if answer::is_gone(&result) => Ok(Removed::NotThere),
        Err(error) => Err(error.to_string()),
    };
    Outcome { key, what: What::Removed(removed), pace }
}

async fn look(api: &Api, key: RunKey, namespace: &str) -> Outcome {
    let result = async {
        let request =
            Request::new(pods(namespace)).get(&labels::pod_name(key), &GetParams::default());
        let request = request.map_err(kube::Error::BuildRequest)?;
        api.within(api.client().await.request::<Pod>(request)).await
    }
    .await;
    let pace = answer::pace(&result);
    let found = match result {
        Ok(pod) => Found::Pod(Box::new(pod)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Found::Nothing,
        Err(error) => Found::Unknown(error.to_string()),
    };
    Outcome { key, what: What::Looked(found), pace }
}

async fn happenings(api: &Api, key: RunKey, namespace: &str, uid: &str) -> Outcome {
    let params = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(100);
    let result = async {
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/events")).list(&params);
        let request = request.map_err(kube::Error::BuildRequest)?;
        api.within(api.client().await.request::<Items<Happening>>(request)).await
    }
    .await;
    let pace = answer::pace(&result);
    let happenings = match result {
        Ok(list) => list.items.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(job = %key.job, %error, "the events of a pod cannot be looked at");
            Vec::new()
        }
    };
    Outcome { key, what: What::Happened(happenings), pace }
}

/// What is known of what the pods use that a selector names.
pub(super) async fn usage(api: &Api, selector: &str) -> Result<Vec<Look>, kube::Error> {
    let request = Request::new(usage::PATH).list(&ListParams::default().labels(selector));
    let request = request.map_err(kube::Error::BuildRequest)?;
    let list = api.within(api.client().await.request::<PodMetricsList>(request)).await?;
    Ok(list.items.into_iter().flatten().filter_map(PodMetrics::look).collect())
}

async fn post<T>(api: &Api, path: &str, object: &Value) -> Result<T, kube::Error>
where
    T: serde::de::DeserializeOwned,
{
    let data = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
    let request = Request::new(path).create(&PostParams::default(), data);
    let request = request.map_err(kube::Error::BuildRequest)?;
    api.within(api.client().await.request::<T>(request)).await
}
