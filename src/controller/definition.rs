//! Whether an order is being deleted for itself, or because its definition is.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Resource};

use crate::api::DedicatedServerOrder;

use super::context::Context;

/// Whether the definition is being deleted, and every order with it: that is no wish to give servers back. Asked at each pass: an answer
/// may be a moment old, and the next one puts it right.
pub(super) async fn is_going(context: &Context) -> Result<bool, kube::Error> {
    let plural = DedicatedServerOrder::plural(&());
    if !context.wake_orders.everywhere() {
        // Namespaced mode has no rights on the cluster's objects. Discovery is open to everybody, and a definition that is
        // being deleted lets nothing be created any more.
        let served = context.client.list_api_group_resources(&DedicatedServerOrder::api_version(&())).await?;
        return Ok(!served.resources.iter().any(|r| r.name == plural && r.verbs.iter().any(|v| v == "create")));
    }
    let name = format!("{plural}.{}", DedicatedServerOrder::group(&()));
    let found = Api::<CustomResourceDefinition>::all(context.client.clone()).get_metadata_opt(&name).await?;
    Ok(found.is_none_or(|crd| crd.metadata.deletion_timestamp.is_some()))
}
