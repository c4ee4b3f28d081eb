//! Whether an order is being deleted for itself, or because its definition is.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Resource};

use crate::api::DedicatedServerOrder;

use super::context::Context;

/// While the definition itself is being deleted every order is: that is no wish to give servers back. An order that was being deleted
/// when its definition was not is asked about once: what becomes of the definition later takes nothing from that wish.
pub(super) async fn deletion_is_meant(context: &Context, uid: &str) -> Result<bool, kube::Error> {
    if context.memory.is_meant(uid) {
        return Ok(true);
    }
    let meant = !crd_is_going(context).await?;
    if meant {
        context.memory.note_meant(uid);
    }
    Ok(meant)
}

async fn crd_is_going(context: &Context) -> Result<bool, kube::Error> {
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
