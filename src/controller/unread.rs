//! What this version cannot read, as it is stored: whether it uses an object that is about to be let go, or is given another meaning.
//!
//! Each is read by itself, so that this is asked only where nobody uses the object who can be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::{Api, ApiResource, DynamicObject};
use kube::{Client, Resource, ResourceExt};
use serde_json::Value;

use crate::api::common::ObjectKey;
use crate::api::{DedicatedServerOrder, ProcessingHandler};
use crate::panel::settings::PanelId;
use crate::provisioning::order::id_by;
use crate::provisioning::selection::Selector;

use super::context::Context;
use super::status::{self, StatusError};
use super::stores::Guarded;

/// How many of the orders that cannot be read may have something at a handler's panel.
pub(super) async fn orders_of(context: &Context, handler: &ProcessingHandler) -> usize {
    let (key, unread) = (handler.key(), keys(&context.orders.all()));
    let all = stored::<DedicatedServerOrder>(&context.client, unread).await;
    count(&all, |order| has_something(order) && is_served(order, &key, handler.labels()))
}

/// How many of them may have licences from a licence server.
pub(super) async fn orders_with_licenses(context: &Context, server: &ObjectKey) -> usize {
    let unread = keys(&context.orders.all());
    let all = stored::<DedicatedServerOrder>(&context.client, unread).await;
    count(&all, |order| has_licenses_from(order, server))
}

/// How many of the handlers that cannot be read name a licence server.
pub(super) async fn handlers_with_licenses(context: &Context, server: &ObjectKey) -> usize {
    let unread = keys(&context.handlers.all());
    let all = stored::<ProcessingHandler>(&context.client, unread).await;
    count(&all, |handler| refers(&handler.data["spec"]["licenseServerRef"], namespace(handler), server))
}

/// How many of them take their addresses from an IPManager.
pub(super) async fn handlers_of_pool(context: &Context, pool: &ObjectKey) -> usize {
    let unread = keys(&context.handlers.all());
    let all = stored::<ProcessingHandler>(&context.client, unread).await;
    count(&all, |handler| takes_from(handler, pool))
}

/// Whether one of them has, or may have, recorded a client's name for another namespace at this panel. An error where that is not told.
pub(super) async fn handlers_give_away(context: &Context, panel: &str, username: &str, namespace: &str) -> Result<bool, StatusError> {
    let unread = keys(&context.handlers.all());
    for handler in stored::<ProcessingHandler>(&context.client, unread).await {
        let handler = handler.map_err(|error| status::patch_error("ProcessingHandler that cannot be read".into(), error))?;
        if may_be_at(&handler, panel) && gives_away(&handler, username, namespace) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn keys<K: Resource>(objects: &[Arc<Guarded<K>>]) -> Vec<ObjectKey> {
    objects.iter().filter_map(|object| object.0.as_ref().err()).map(|invalid| ObjectKey::of(&invalid.metadata)).collect()
}

/// These objects as they are stored, and errors of those that could not be read in this way either. What is gone is left out.
async fn stored<K: Resource<DynamicType = ()>>(client: &Client, keys: Vec<ObjectKey>) -> Vec<Result<DynamicObject, kube::Error>> {
    let resource = ApiResource::erase::<K>(&());
    let mut all = Vec::new();
    for key in keys {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &key.namespace, &resource);
        match api.get_opt(&key.name).await {
            Ok(Some(found)) => all.push(Ok(found)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(kind = %resource.kind, object = %key, %error, "what it uses is not known");
                all.push(Err(error));
            }
        }
    }
    all
}

/// Those that use something. One of which nobody can tell may do so.
fn count(all: &[Result<DynamicObject, kube::Error>], uses: impl Fn(&DynamicObject) -> bool) -> usize {
    all.iter().filter(|object| object.as_ref().ok().is_none_or(&uses)).count()
}

fn namespace(object: &DynamicObject) -> &str {
    object.metadata.namespace.as_deref().unwrap_or_default()
}

/// The same as of an order that can be read: of any other nothing was ever asked of a panel.
fn has_something(order: &DynamicObject) -> bool {
    let status = &order.data["status"];
    let noted = ["server", "inFlight"].into_iter().any(|part| !status[part].is_null());
    let licensed = status["licenses"].as_array().map_or(!status["licenses"].is_null(), |all| !all.is_empty());
    noted || licensed || id_by(&order.metadata) != order.metadata.uid.as_deref()
}

/// Whether an order, which has something, may have it at this handler: by its status, else by its spec.
fn is_served(order: &DynamicObject, handler: &ObjectKey, labels: &BTreeMap<String, String>) -> bool {
    let (spec, status) = (&order.data["spec"], &order.data["status"]);
    let noted = ["server", "inFlight"].into_iter().filter_map(|part| status[part]["handler"].as_str());
    let noted: Vec<&str> = noted.filter(|name| name.contains('/')).collect();
    if !noted.is_empty() {
        return noted.contains(&handler.to_string().as_str());
    }
    let (reference, selector) = (&spec["handlerRef"], &spec["handlerSelector"]);
    match (reference.is_null(), selector.is_null()) {
        (false, _) => refers(reference, namespace(order), handler),
        (true, false) => selects(selector, namespace(order), handler, labels),
        // It has something, and nobody knows where.
        (true, true) => true,
    }
}

/// Whether a reference may lead to an object.
fn refers(reference: &Value, own: &str, to: &ObjectKey) -> bool {
    let named = reference["name"].as_str().is_none_or(|name| name == to.name);
    !reference.is_null() && named && reference["namespace"].as_str().unwrap_or(own) == to.namespace
}

fn selects(selector: &Value, own: &str, handler: &ObjectKey, labels: &BTreeMap<String, String>) -> bool {
    let namespace = selector["namespace"].as_str().unwrap_or(own).to_owned();
    // Labels that cannot be read may be any.
    let wanted = serde_json::from_value(selector["matchLabels"].clone()).unwrap_or_default();
    Selector { namespace, labels: wanted }.selects(handler, labels)
}

fn has_licenses_from(order: &DynamicObject, server: &ObjectKey) -> bool {
    let licenses = &order.data["status"]["licenses"];
    let from = |license: &Value| license["handler"].as_str() == Some(server.to_string().as_str());
    licenses.as_array().map_or(!licenses.is_null(), |all| all.iter().any(from))
}

/// Whether a handler's panel may be this one: by its status, or, where it is new, by its spec.
fn may_be_at(handler: &DynamicObject, panel: &str) -> bool {
    let url = handler.data["spec"]["connection"]["url"].as_str();
    let named = url.and_then(|url| PanelId::of_url(url).ok()).map(|panel| panel.to_string());
    let noted = handler.data["status"]["panel"].as_str().map(str::to_owned);
    let told: Vec<String> = named.into_iter().chain(noted).collect();
    told.is_empty() || told.iter().any(|told| told == panel)
}

/// Whether a handler has recorded a client's name for another namespace than this one, or something of which nobody can tell.
fn gives_away(handler: &DynamicObject, username: &str, namespace: &str) -> bool {
    let clients = &handler.data["status"]["clients"];
    let theirs = |client: &Value| {
        let named = client["username"].as_str().is_none_or(|name| name.eq_ignore_ascii_case(username));
        named && client["namespace"].as_str() != Some(namespace)
    };
    clients.as_array().map_or(!clients.is_null(), |all| all.iter().any(theirs))
}

fn takes_from(handler: &DynamicObject, pool: &ObjectKey) -> bool {
    let management = &handler.data["spec"]["ipManagement"];
    let named = management["ipManagerRef"]["name"].as_str().is_none_or(|name| name == pool.name);
    !management.is_null() && named && namespace(handler) == pool.namespace
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::api::ORDER_ID_ANNOTATION;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "hosting".into(), name: name.into() }
    }

    fn object(namespace: &str, spec: &Value, status: &Value) -> DynamicObject {
        let metadata = json!({"name": "x", "namespace": namespace, "uid": "u-1"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn an_order_that_cannot_be_read_holds_the_handler_that_it_may_have_something_at() {
        let labels = BTreeMap::from([("zone".to_owned(), "msk".to_owned())]);
        let holds = |order: &DynamicObject| has_something(order) && is_served(order, &key("msk-1"), &labels);
        let server = |handler: &str| json!({"server": {"id": "17", "handler": handler}});
        let named = |name: &str| json!({"domain": 5, "handlerRef": {"namespace": "hosting", "name": name}});
        let selects = |zone: &Value| json!({"handlerSelector": {"namespace": "hosting", "matchLabels": {"zone": zone}}});
        let odd = json!({"server": 17});
        for (what, spec, status, expected) in [
            ("its server is there", json!({}), server("hosting/msk-1"), true),
            ("its server is elsewhere", named("msk-1"), server("hosting/msk-2"), false),
            ("it asks for one", named("msk-2"), json!({"inFlight": {"handler": "hosting/msk-1"}}), true),
            ("it has nothing", named("msk-1"), json!({}), false),
            ("a server of which nobody can tell", named("msk-1"), odd.clone(), true),
            ("the same, named elsewhere", named("msk-2"), odd.clone(), false),
            ("the same, selected", selects(&json!("msk")), odd.clone(), true),
            ("the same, not selected", selects(&json!("spb")), odd.clone(), false),
            ("the same, by labels of which nobody can tell", selects(&json!(5)), odd.clone(), true),
            ("the same, and no word of where", json!(5), odd, true),
            ("it has licences, which may be for a server", named("msk-1"), json!({"licenses": [{"product": "Lite"}]}), true),
        ] {
            assert_eq!(holds(&object("shop", &spec, &status)), expected, "{what}");
        }
        let mut restored = object("hosting", &json!({"handlerRef": {"name": "msk-1"}}), &json!({}));
        assert!(!holds(&restored));
        restored.metadata.annotations = Some([(ORDER_ID_ANNOTATION.to_owned(), "u-0".to_owned())].into());
        assert!(holds(&restored), "its status is lost, and what it has is not");
    }

    #[test]
    fn what_else_is_named_by_what_cannot_be_read_is_held() {
        let (none, nothing) = (json!({}), Value::Null);
        let licensed = |licenses: Value| has_licenses_from(&object("shop", &none, &json!({"licenses": licenses})), &key("isp"));
        assert!(licensed(json!([{"product": "Lite"}, {"handler": "hosting/isp"}])) && licensed(json!("some")));
        assert!(!licensed(json!([{"handler": "hosting/other"}])) && !licensed(nothing.clone()));
        let takes = |namespace: &str, management: Value| {
            takes_from(&object(namespace, &json!({"ipManagement": management}), &nothing), &key("main"))
        };
        let named = |name: &str| json!({"ipManagerRef": {"name": name}});
        assert!(takes("hosting", named("main")) && takes("hosting", json!(5)));
        assert!(!takes("hosting", named("other")) && !takes("elsewhere", named("main")) && !takes("hosting", nothing.clone()));
        assert!(refers(&json!({"name": "isp"}), "hosting", &key("isp")) && refers(&json!(5), "hosting", &key("isp")));
        assert!(!refers(&json!({"name": "isp"}), "elsewhere", &key("isp")) && !refers(&nothing, "hosting", &key("isp")));
    }

    #[test]
    fn a_name_that_a_handler_recorded_which_cannot_be_read_is_its_namespaces() {
        let (here, there) = ("dci.example.net:443/dcimgr", "dci2.example.net:443/dcimgr");
        let spec = |url: &Value| json!({"connection": {"url": url}, "priority": "high"});
        let [ours, other] = ["dci", "dci2"].map(|host| spec(&json!(format!("https://{host}.example.net/dcimgr"))));
        let clients = |clients: Value| json!({"clients": clients});
        let acme = clients(json!([{"username": "bob", "namespace": "thief"}, {"username": "Acme", "namespace": "shop"}]));
        let at = |panel: &str| json!({"panel": panel, "clients": [{"username": "acme", "namespace": "shop"}]});
        for (what, spec, status, taken) in [
            ("by its spec", ours.clone(), acme.clone(), true),
            ("at another panel", other.clone(), acme.clone(), false),
            ("by its status", other.clone(), at(here), true),
            ("moved from another one", ours.clone(), at(there), true),
            ("nobody can tell where", spec(&json!(5)), acme, true),
            ("for the same namespace", ours.clone(), clients(json!([{"username": "acme", "namespace": "thief"}])), false),
            ("another name", ours.clone(), clients(json!([{"username": "bob", "namespace": "shop"}])), false),
            ("none", ours.clone(), json!({}), false),
            ("something of which nobody can tell", ours, clients(json!("acme")), true),
        ] {
            let handler = object("hosting", &spec, &status);
            assert_eq!(may_be_at(&handler, here) && gives_away(&handler, "acme", "thief"), taken, "{what}");
        }
    }

    #[tokio::test]
    async fn what_is_not_told_holds_and_what_is_gone_does_not() {
        let found = json!({"apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrder", "metadata": {"name": "x"}});
        let failed = |code: u16, reason: &str| json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "", "reason": reason, "code": code});
        for (code, answer, held, told) in [
            (200, found, 0, 1),
            (404, failed(404, "NotFound"), 0, 0),
            (403, failed(403, "Forbidden"), 1, 1),
            (500, failed(500, "InternalError"), 1, 1),
        ] {
            let service = tower::service_fn(move |_: Request<Body>| {
                let body = Body::from(answer.to_string().into_bytes());
                async move { Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(body).unwrap()) }
            });
            let all = stored::<DedicatedServerOrder>(&Client::new(service, "default"), vec![key("x")]).await;
            assert_eq!((count(&all, |_| false), all.len()), (held, told), "{code}");
        }
    }
}
