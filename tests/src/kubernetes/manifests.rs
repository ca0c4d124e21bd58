//! Manifests, applied as a person would with `kubectl`.

use anyhow::{Context, Result};
use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Api, Client};
use serde::Deserialize;

/// Who the fields belong to that are set so.
const MANAGER: &str = "muster-test";

/// Applies every document of a manifest, in its order. Those without a namespace go into the one
/// that is given, if one is.
pub(super) async fn apply(client: &Client, manifest: &str, given: Option<&str>) -> Result<()> {
    for document in serde_yaml_ng::Deserializer::from_str(manifest) {
        let object = Option::<DynamicObject>::deserialize(document).context("read the manifest")?;
        // Between two lines of dashes there may be nothing but comments.
        let Some(object) = object else { continue };
        let types = object.types.clone().context("a document says neither version nor kind")?;
        let name = object.metadata.name.clone().context("a document has no name")?;
        let kind = GroupVersionKind::try_from(&types)?;
        let resource = ApiResource::from_gvk(&kind);
        let objects: Api<DynamicObject> = match object.metadata.namespace.as_deref().or(given) {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let params = PatchParams::apply(MANAGER).force();
        let applied = objects.patch(&name, &params, &Patch::Apply(&object)).await;
        applied.with_context(|| format!("apply {} {name}", kind.kind))?;
    }
    Ok(())
}
