//! A client's name belongs to one namespace per panel: recorded in the handler's status, first come first served.

use kube::Api;

use crate::api::handler_status::{ClientClaim, HandlerStatus};
use crate::api::{DedicatedServerOrder, ProcessingHandler};
use crate::panel::settings::PanelId;
use crate::provisioning::facts::{Inventory, Prepared};
use crate::provisioning::order::Order;

use super::context::Context;
use super::runtime::ServerClient;
use super::status::{self, StatusError};

/// Names that one handler can record: bounded, so that its status stays storable.
const NAMES: usize = 5000;
/// Tries against other writers of the handler's status.
const TRIES: usize = 8;

/// Records that a name is this namespace's, or tells that it is another's.
pub async fn claim(context: &Context, client: &ServerClient, order: &Order) -> Result<Prepared, StatusError> {
    let api: Api<ProcessingHandler> = Api::namespaced(context.client.clone(), &client.policy.key.namespace);
    let object = format!("ProcessingHandler {}", client.policy.key);
    let known = context.handlers.get(&client.policy.key).and_then(|h| h.status);
    if known.is_some_and(|s| owner(&s.clients, &order.username) == Some(&order.key.namespace)) {
        // Recorded once, it stays.
        return Ok(Prepared::Ready);
    }
    // One after the other: many new clients at once would else write the same status against each other, and two namespaces the same name
    // at two handlers.
    let naming = context.panels.naming(&client.policy.panel);
    let _turn = naming.lock().await;
    let taken = || Prepared::Missing(format!("client name {} is taken at this panel; choose another spec.client.username", order.username));
    for _ in 0..TRIES {
        if taken_elsewhere(context, client, order).await? {
            return Ok(taken());
        }
        let handler = api.get(&client.policy.key.name).await.map_err(|e| status::patch_error(object.clone(), e))?;
        let mut new = handler.status.clone().unwrap_or_default();
        match owner(&new.clients, &order.username) {
            Some(namespace) if namespace == order.key.namespace => return Ok(Prepared::Ready),
            Some(_) => return Ok(taken()),
            None if used_elsewhere(context, client, order) => return Ok(taken()),
            None if new.clients.len() >= NAMES => {
                return Ok(Prepared::Missing(format!(
                    "the handler has recorded {NAMES} client names; use another handler for new clients"
                )));
            }
            None => {}
        }
        new.clients.push(ClientClaim { username: order.username.clone(), namespace: order.key.namespace.clone() });
        new.panel.get_or_insert_with(|| client.policy.panel.clone());
        match status::write(&context.client, &handler, &new).await {
            Ok(_) => return Ok(Prepared::Ready),
            Err(StatusError::Conflict(_)) => {}
            Err(error @ (StatusError::CrdOutdated { .. } | StatusError::Json(_))) => return Ok(Prepared::Missing(error.to_string())),
            Err(error @ (StatusError::Api { .. } | StatusError::Gone(_))) => return Err(error),
        }
    }
    // Nothing that the order's author could mend: the pass fails, and is repeated.
    Err(StatusError::Conflict(object))
}

/// Whether a name is another namespace's at another handler of the same panel, which shares its users. Read anew: what was recorded there a
/// moment ago the cache does not show yet.
async fn taken_elsewhere(context: &Context, client: &ServerClient, order: &Order) -> Result<bool, StatusError> {
    let beside = |h: &ProcessingHandler| {
        // One that is new says it in its spec only.
        let panel = PanelId::of_url(&h.spec.connection.url).ok().map(|panel| panel.to_string());
        let known = h.status.as_ref().and_then(|s| s.panel.clone());
        let here = [panel, known].into_iter().flatten().any(|panel| panel == client.policy.panel);
        Some(h.key()).filter(|key| here && *key != client.policy.key)
    };
    for key in context.handlers.read(beside) {
        let api: Api<ProcessingHandler> = Api::namespaced(context.client.clone(), &key.namespace);
        let handler = api.get_opt(&key.name).await.map_err(|e| status::patch_error(format!("ProcessingHandler {key}"), e))?;
        let status = handler.and_then(|h| h.status).unwrap_or_default();
        if owner(&status.clients, &order.username).is_some_and(|namespace| namespace != order.key.namespace) {
            return Ok(true);
        }
    }
    // What this version cannot read goes on to give its name to whom it gave it.
    super::unread::handlers_give_away(context, &client.policy.panel, &order.username, &order.key.namespace).await
}

/// Whether orders of another namespace have servers of this client, by what they say or by what the panel shows: a handler that was
/// restored without its status knows no names.
fn used_elsewhere(context: &Context, client: &ServerClient, order: &Order) -> bool {
    let panel = &client.policy.panel;
    let bound = context.orders.read(|o| {
        let server = o.status.as_ref().and_then(|s| s.server.as_ref()).filter(|s| s.panel == *panel)?;
        let theirs = o.metadata.namespace.as_deref() != Some(&order.key.namespace) && server.client.eq_ignore_ascii_case(&order.username);
        theirs.then_some(())
    });
    let inventory = context.panels.handler(&client.policy.key).inventory();
    !bound.is_empty() || inventory.is_some_and(|i| marked_elsewhere(&i, &context.cluster, order))
}

/// Whether a server of this client's carries the marker of an order of another namespace.
fn marked_elsewhere(inventory: &Inventory, cluster: &str, order: &Order) -> bool {
    let name = &order.username;
    let id = inventory.ids.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, id)| id);
    let of_client = |owner: &String| owner.eq_ignore_ascii_case(name) || Some(owner) == id;
    let servers = inventory.rows.iter().filter(|(_, row)| row.owner.as_ref().is_some_and(of_client));
    let mut markers = servers.filter_map(|(server, _)| inventory.markers.get(server)).flatten();
    markers.any(|m| m.cluster == cluster && m.namespace != order.key.namespace)
}

/// Records the names of orders that have servers, as far as they are not known: as after a restore of the handler without its status.
pub fn recall(status: &mut HandlerStatus, orders: &[&DedicatedServerOrder]) {
    for order in orders.iter().filter(|o| o.status.as_ref().is_some_and(|s| s.server.is_some())) {
        let (username, namespace) = (&order.spec.client.username, order.metadata.namespace.clone().unwrap_or_default());
        if status.clients.len() < NAMES && owner(&status.clients, username).is_none() {
            status.clients.push(ClientClaim { username: username.clone(), namespace });
        }
    }
}

fn owner<'a>(claims: &'a [ClientClaim], username: &str) -> Option<&'a str> {
    claims.iter().find(|c| c.username.eq_ignore_ascii_case(username)).map(|c| c.namespace.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use crate::panel::model::ServerRow;
    use serde_json::{Value, json};

    fn order(namespace: &str, username: &str, status: &Value) -> DedicatedServerOrder {
        samples::order(&json!({"metadata": {"namespace": namespace}, "spec": {"client": {"username": username}}, "status": status}))
    }

    #[test]
    fn names_of_orders_with_servers_are_known_again() {
        let bound = json!({"server": {"id": "17", "handler": "hosting/msk", "configuration": "E3"}});
        let mut status = HandlerStatus::default();
        let orders = [order("shop", "acme", &bound), order("other", "ACME", &bound), order("other", "bob", &json!({}))];
        recall(&mut status, &orders.iter().collect::<Vec<_>>());
        assert_eq!(status.clients, [ClientClaim { username: "acme".into(), namespace: "shop".into() }], "the first one, once");
    }

    #[test]
    fn a_marker_of_another_namespace_on_a_server_of_the_client_keeps_the_name() {
        let row = |owner: &str| ServerRow { owner: Some(owner.into()), ..ServerRow::blank("17") };
        let inventory = |owner: &str, marker: &str| Inventory {
            rows: [("17".to_owned(), row(owner))].into(),
            ids: [("acme".to_owned(), "4".to_owned())].into(),
            markers: [("17".to_owned(), crate::provisioning::marker::Marker::parse(marker).into_iter().collect())].into(),
            ..Inventory::default()
        };
        let parsed = Order::parse(&order("thief", "acme", &json!({})), "c").unwrap();
        for (owner, marker, expected) in [
            ("acme", "k8s:c/shop/web/u-9", true),
            ("4", "k8s:c/shop/web/u-9", true),
            ("acme", "k8s:c/thief/web/u-9", false),
            ("bob", "k8s:c/shop/web/u-9", false),
            ("acme", "k8s:another/shop/web/u-9", false),
        ] {
            assert_eq!(marked_elsewhere(&inventory(owner, marker), "c", &parsed), expected, "{owner} {marker}");
        }
    }
}
