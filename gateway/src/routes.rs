//! The table of routes, and the router made of it. The OpenAPI document is held to this table by a
//! test.

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use axum::routing::{MethodRouter, delete, get, post, put};
use muster_api::http::ErrorCode;
use serde::de::DeserializeOwned;

use crate::gateway::Gateway;
use crate::problem::{Answer, Failure};
use crate::{
    cancel, cordons, events, health, job_sets, jobs, observe, openapi, pools, priority_classes,
    queues, reprioritize, submit,
};

/// Where the API lives; [`Operation::is_at_root`] names what answers at the root as well.
pub const API_PREFIX: &str = "/api/v1";

/// One thing that the gateway answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method, upper case.
    pub method: &'static str,
    /// The path behind [`API_PREFIX`], with names of segments in braces.
    pub path: &'static str,
    /// What it does.
    pub operation: Operation,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, the OpenAPI document says more")]
pub enum Operation {
    PutQueue,
    ListQueues,
    GetQueue,
    DeleteQueue,
    ListPriorityClasses,
    PutPriorityClass,
    GetPriorityClass,
    DeletePriorityClass,
    SubmitJobs,
    ListJobSets,
    GetJobSet,
    WatchJobSet,
    ListJobs,
    GetJob,
    GetLogs,
    WhyJob,
    Cancel,
    Reprioritize,
    ListPools,
    GetShares,
    GetPoolSettings,
    PutPoolSettings,
    DeletePoolSettings,
    ListClusters,
    CordonCluster,
    UncordonCluster,
    CordonNode,
    UncordonNode,
    PutNodeBack,
    GetOpenApi,
    GetLive,
    GetReady,
    GetMetrics,
}

impl Operation {
    /// Whether it answers without the prefix too: what orchestrators and scrapers ask for.
    #[must_use]
    pub fn is_at_root(self) -> bool {
        matches!(self, Self::GetLive | Self::GetReady | Self::GetMetrics)
    }
}

const fn route(method: &'static str, path: &'static str, operation: Operation) -> Route {
    Route { method, path, operation }
}

/// Everything that the gateway answers.
pub const ROUTES: &[Route] = &[
    route("GET", "/queues", Operation::ListQueues),
    route("PUT", "/queues/{queue}", Operation::PutQueue),
    route("GET", "/queues/{queue}", Operation::GetQueue),
    route("DELETE", "/queues/{queue}", Operation::DeleteQueue),
    route("GET", "/priority-classes", Operation::ListPriorityClasses),
    route("PUT", "/priority-classes/{name}", Operation::PutPriorityClass),
    route("GET", "/priority-classes/{name}", Operation::GetPriorityClass),
    route("DELETE", "/priority-classes/{name}", Operation::DeletePriorityClass),
    route("POST", "/queues/{queue}/jobs", Operation::SubmitJobs),
    route("GET", "/queues/{queue}/job-sets", Operation::ListJobSets),
    route("GET", "/queues/{queue}/job-sets/{jobSet}", Operation::GetJobSet),
    route("GET", "/queues/{queue}/job-sets/{jobSet}/events", Operation::WatchJobSet),
    route("GET", "/jobs", Operation::ListJobs),
    route("GET", "/jobs/{id}", Operation::GetJob),
    route("GET", "/jobs/{id}/logs", Operation::GetLogs),
    route("GET", "/jobs/{id}/why", Operation::WhyJob),
    route("POST", "/cancel", Operation::Cancel),
    route("POST", "/reprioritize", Operation::Reprioritize),
    route("GET", "/pools", Operation::ListPools),
    route("GET", "/pools/{pool}/shares", Operation::GetShares),
    route("GET", "/pools/{pool}/settings", Operation::GetPoolSettings),
    route("PUT", "/pools/{pool}/settings", Operation::PutPoolSettings),
    route("DELETE", "/pools/{pool}/settings", Operation::DeletePoolSettings),
    route("GET", "/clusters", Operation::ListClusters),
    route("PUT", "/clusters/{cluster}/cordon", Operation::CordonCluster),
    route("DELETE", "/clusters/{cluster}/cordon", Operation::UncordonCluster),
    route("PUT", "/clusters/{cluster}/nodes/{node}/cordon", Operation::CordonNode),
    route("DELETE", "/clusters/{cluster}/nodes/{node}/cordon", Operation::UncordonNode),
    route("POST", "/clusters/{cluster}/nodes/{node}/put-back", Operation::PutNodeBack),
    route("GET", "/openapi.json", Operation::GetOpenApi),
    route("GET", "/health/live", Operation::GetLive),
    route("GET", "/health/ready", Operation::GetReady),
    route("GET", "/metrics", Operation::GetMetrics),
];

/// The router over [`ROUTES`].
pub fn router(gateway: Gateway) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let path = [API_PREFIX, route.path].concat();
        router = router.route(&path, handler(route.operation));
        if route.operation.is_at_root() {
            router = router.route(route.path, handler(route.operation));
        }
    }
    let observed = axum::middleware::from_fn_with_state(gateway.clone(), observe::observe);
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(observed)
        .with_state(gateway)
}

fn handler(operation: Operation) -> MethodRouter<Gateway> {
    match operation {
        Operation::PutQueue => put(queues::put),
        Operation::ListQueues => get(queues::list),
        Operation::GetQueue => get(queues::get),
        Operation::DeleteQueue => delete(queues::delete),
        Operation::ListPriorityClasses => get(priority_classes::list),
        Operation::PutPriorityClass => put(priority_classes::put),
        Operation::GetPriorityClass => get(priority_classes::get),
        Operation::DeletePriorityClass => delete(priority_classes::delete),
        Operation::SubmitJobs => post(submit::submit),
        Operation::ListJobSets => get(job_sets::list),
        Operation::GetJobSet => get(job_sets::get),
        Operation::WatchJobSet => get(events::watch),
        Operation::ListJobs => get(jobs::list),
        Operation::GetJob => get(jobs::get),
        Operation::GetLogs => get(jobs::logs),
        Operation::WhyJob => get(jobs::why),
        Operation::Cancel => post(cancel::cancel),
        Operation::Reprioritize => post(reprioritize::reprioritize),
        Operation::ListPools => get(pools::list),
        Operation::GetShares => get(pools::shares),
        Operation::GetPoolSettings => get(pools::settings::get),
        Operation::PutPoolSettings => put(pools::settings::put),
        Operation::DeletePoolSettings => delete(pools::settings::delete),
        Operation::ListClusters => get(pools::clusters),
        Operation::CordonCluster => put(cordons::put_cluster),
        Operation::UncordonCluster => delete(cordons::delete_cluster),
        Operation::CordonNode => put(cordons::put_node),
        Operation::UncordonNode => delete(cordons::delete_node),
        Operation::PutNodeBack => post(cordons::put_node_back),
        Operation::GetOpenApi => get(openapi::get),
        Operation::GetLive => get(health::live),
        Operation::GetReady => get(health::ready),
        Operation::GetMetrics => get(health::metrics),
    }
}

async fn not_found(uri: Uri) -> Failure {
    Failure::not_found(format!("there is nothing at `{}`", uri.path()))
}

async fn method_not_allowed(method: axum::http::Method, uri: Uri) -> Failure {
    let detail = format!("`{}` does not take {method}", uri.path());
    Failure::new(ErrorCode::MethodNotAllowed, detail)
}

/// The segments of a path that have names.
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(segments)| Self(segments))
            .map_err(|error| Failure::bad_request(error.body_text()))
    }
}

/// The parameters of a URL.
pub(crate) fn query<T: DeserializeOwned>(uri: &Uri) -> Answer<T> {
    Query::try_from_uri(uri)
        .map(|Query(parameters)| parameters)
        .map_err(|error| Failure::bad_request(error.body_text()))
}

/// The size of a page as asked for.
pub(crate) fn page_size(limit: Option<usize>) -> Answer<usize> {
    use muster_core::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
    match limit.unwrap_or(PAGE_SIZE_DEFAULT) {
        limit if (1..=PAGE_SIZE_MAX).contains(&limit) => Ok(limit),
        limit => Err(Failure::bad_request(format!(
            "parameter limit: {limit} is not from 1 to {PAGE_SIZE_MAX}"
        ))),
    }
}

/// A list in one parameter: names with commas between them.
pub(crate) fn names(text: Option<&str>) -> Vec<String> {
    let parts = text.unwrap_or_default().split(',').map(str::trim);
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
