//! Which licence server an order or a handler names, whether it may be used, and what an order is shown of it.

use crate::api::common::ObjectKey;
use crate::api::handler::Module;
use crate::api::{DedicatedServerOrder, ProcessingHandler};
use crate::provisioning::context::{LONG, cut};
use crate::provisioning::facts::HandlerState;
use crate::provisioning::license_server::{LicensePolicy, LicenseServer};
use crate::provisioning::order::{Handler, Order};
use crate::provisioning::reason::Reason;
use crate::provisioning::selection::may_have_been_restored;

use super::context::Context;

/// The handler that an order's licences are at: the one that ordered them, else the one that its handler names.
pub(super) fn recorded(order: &DedicatedServerOrder) -> Option<ObjectKey> {
    let licenses = order.status.as_ref().map(|s| s.licenses.as_slice()).unwrap_or_default();
    let (namespace, name) = licenses.iter().find_map(|l| l.handler.as_deref())?.split_once('/')?;
    Some(ObjectKey { namespace: namespace.into(), name: name.into() })
}

/// What a reference to a licence server leads to.
#[derive(Debug)]
enum Found {
    /// A licence server.
    Server(Box<ProcessingHandler>),
    /// There may be one, and why nobody can tell. It is not taken for one that is not there: it may have licences of the order's.
    Untold(String),
    /// Nothing, or no licence server.
    Nothing,
}

fn find(context: &Context, key: &ObjectKey) -> Found {
    match context.handlers.find(key) {
        Some(Ok(handler)) if handler.spec.module == Module::BILLmanager6 => Found::Server(Box::new(handler)),
        Some(Ok(_)) | None => Found::Nothing,
        Some(Err(error)) => Found::Untold(format!("this version of the operator cannot read it: {}", cut(&error, LONG))),
    }
}

/// A licence server that may be used from a namespace. What may not be used looks the same as what does not exist.
async fn usable(context: &Context, key: &ObjectKey, namespace: &str) -> Result<Found, kube::Error> {
    match find(context, key) {
        Found::Server(handler) => {
            let allowed = context.allowed(&handler, namespace).await;
            if_allowed(handler, allowed)
        }
        other @ (Found::Untold(_) | Found::Nothing) => Ok(other),
    }
}

/// What comes of the answer whether a licence server may be used. That the operator may not ask will not pass: no order stops for it
/// without a word. The licence server says the same of itself.
fn if_allowed(handler: Box<ProcessingHandler>, allowed: Result<bool, kube::Error>) -> Result<Found, kube::Error> {
    match allowed {
        Ok(true) => Ok(Found::Server(handler)),
        Ok(false) => Ok(Found::Nothing),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            Ok(Found::Untold("the operator may not read the labels of namespaces, by which it is allowed".into()))
        }
        Err(error) => Err(error),
    }
}

/// What a pass over an order knows of its licence server; `None` also where the order has nothing to do with licences. Why one cannot be
/// used is the provider's business: the order hears no more than that it is so.
pub async fn facts(
    context: &Context,
    object: &DedicatedServerOrder,
    order: &Order,
    policy: &Handler,
) -> Result<Option<LicenseServer>, kube::Error> {
    let has = recorded(object);
    let restored = may_have_been_restored(order);
    if order.licenses.is_empty() && has.is_none() && !restored {
        return Ok(None);
    }
    let (key, found) = match (&has, &policy.license_server) {
        // Once something was ordered there, a server that no longer allows the namespace still takes it back. Of a restored order that goes
        // nobody knows whether something was.
        (Some(key), _) => (key, find(context, key)),
        (None, Some(key)) if order.deleting => (key, find(context, key)),
        (None, Some(key)) => (key, usable(context, key, &policy.key.namespace).await?),
        (None, None) => return Ok(None),
    };
    Ok(match found {
        Found::Server(handler) => Some(context.panels.licenses.get(key).shown(&handler, &order.uid)),
        Found::Untold(_) => {
            let state = HandlerState::NotReady("whether it may be used from the handler's namespace cannot be told".into());
            Some(LicenseServer { key: key.clone(), state, policy: LicensePolicy::default(), list: None, changed: None })
        }
        Found::Nothing => None,
    })
}

/// Condition `LicenseServerReady` of a handler that names a licence server: whether it is, and why not.
pub async fn readiness(context: &Context, handler: &ProcessingHandler) -> Option<(bool, Reason, String)> {
    let reference = handler.spec.license_server_ref.as_ref()?;
    let own = handler.key().namespace;
    let key = ObjectKey { namespace: reference.namespace.clone().unwrap_or_else(|| own.clone()), name: reference.name.clone() };
    let no = |message: String| Some((false, Reason::LicenseServerNotReady, message));
    match usable(context, &key, &own).await {
        Ok(Found::Nothing) => no(format!("licence server {key} does not exist, is none, or may not be used from this namespace")),
        Ok(Found::Untold(why)) => no(format!("licence server {key}: {why}")),
        Err(error) => no(format!("licence server {key}: {error}")),
        Ok(Found::Server(_)) => match context.panels.licenses.get(&key).state() {
            Some(HandlerState::Ready) => Some((true, Reason::Reachable, String::new())),
            Some(HandlerState::Suspended) => no(format!("licence server {key} is suspended")),
            Some(HandlerState::NotReady(why)) => no(format!("licence server {key}: {why}")),
            None => no(format!("licence server {key} has not been probed yet")),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::samples;

    #[test]
    fn what_may_not_be_asked_is_neither_a_yes_nor_a_no() {
        let refused = |code: u16| {
            let status = kube::core::Status { code, message: "no".into(), ..kube::core::Status::default() };
            Err(kube::Error::Api(Box::new(status)))
        };
        let found = |allowed| if_allowed(Box::new(samples::handler(&json!({}))), allowed);
        assert!(matches!(found(Ok(true)), Ok(Found::Server(_))));
        assert!(matches!(found(Ok(false)), Ok(Found::Nothing)));
        assert!(matches!(found(refused(403)), Ok(Found::Untold(_))));
        assert!(found(refused(500)).is_err(), "it may pass");
    }
}
