//! Labels of namespaces: what handlers with `allowedNamespaces.from: Selector` need, and whether they may be read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use crate::api::ProcessingHandler;
use crate::api::handler::NamespacesFrom;
use crate::provisioning::reason::Reason;

use super::context::Context;
use super::problem::Problem;

/// What to do about labels that cannot be read, for both modes.
const CURE: &str = "set allowedNamespaces.from to All or Same";

/// The labels of a namespace; none where only some namespaces are watched, since then nothing of the cluster's own is read.
pub(super) async fn labels(context: &Context, namespace: &str) -> Result<BTreeMap<String, String>, kube::Error> {
    if !context.wake_handlers.everywhere() {
        return Ok(BTreeMap::new());
    }
    let api: Api<Namespace> = Api::all(context.client.clone());
    Ok(api.get_metadata_opt(namespace).await?.and_then(|found| found.metadata.labels).unwrap_or_default())
}

/// Refuses a handler that selects namespaces by labels which the operator may not read: it would serve nobody, without a word.
pub(super) async fn readable(context: &Context, handler: &ProcessingHandler) -> Result<(), Problem> {
    match handler.spec.allowed_namespaces.from {
        NamespacesFrom::Same | NamespacesFrom::All => return Ok(()),
        NamespacesFrom::Selector => {}
    }
    if !context.wake_handlers.everywhere() {
        let message = format!("the operator watches some namespaces only, and reads no labels of namespaces then; {CURE}");
        return Err(Problem::stalled(Reason::NamespaceLabelsForbidden, message));
    }
    match labels(context, handler.metadata.namespace.as_deref().unwrap_or_default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let message = format!("the operator may not read labels of namespaces: set the chart's rbac.namespaceSelectors, or {CURE}");
            Err(Problem::stalled(Reason::NamespaceLabelsForbidden, message))
        }
        Err(error) => Err(Problem::passing(Reason::NamespaceLabelsForbidden, format!("labels of namespaces: {error}"))),
    }
}
