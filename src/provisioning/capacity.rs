//! What the list of servers alone says of an order that waits for a free one: it waits without asking the panel anything, and without
//! a place among those at work, so that no number of orders for what is sold out keeps others from what is not.

use crate::api::handler::IpmiErrorPolicy;
use crate::api::order::OrderStatus;
use crate::panel::model::ServerRow;

use super::facts::Inventory;
use super::give_back::was_tried;
use super::marker::Marker;
use super::matching::{self, NotGiven};
use super::order::{Handler, Order};
use super::queue::Queue;
use super::selection::may_have_been_restored;
use super::wanted::Wanted;

/// That there are free servers, and none for this order.
pub const FOR_OTHERS: &str = "the free servers are for orders that came before";

/// Free servers by the list, of the type or of any type, but for those that the order gave back, lowest id first.
#[must_use]
pub fn free<'i>(wanted: &Wanted, status: &OrderStatus, handler: &Handler, inventory: &'i Inventory) -> Vec<&'i ServerRow> {
    let strict = handler.ipmi == IpmiErrorPolicy::CreateTask;
    let mut free = match wanted {
        Wanted::Ready(server_type) => matching::candidates(inventory, server_type, strict),
        Wanted::Custom(_) => matching::candidates_of_any_type(inventory, strict),
    };
    free.retain(|row| !was_tried(status, handler, &row.id));
    free
}

/// Why there is no server for an order that nothing was ever asked of the panel for. `None`: there may be one, or one that is its own
/// already, and the panel has to be asked.
#[must_use]
pub fn nothing_for(order: &Order, status: &OrderStatus, handler: &Handler, inventory: &Inventory, queue: &Queue) -> Option<String> {
    let Wanted::Ready(server_type) = &order.wanted else { return None };
    let begun = status.server.is_some() || status.in_flight.is_some() || may_have_been_restored(order);
    if begun || order.deleting || order.adopt.is_some() || is_marked(order, inventory) {
        return None;
    }
    let free = free(&order.wanted, status, handler, inventory);
    let for_others = !free.is_empty();
    if !queue.left_over(free).is_empty() {
        return None;
    }
    let none = if for_others { FOR_OTHERS.to_owned() } else { no_server(server_type, inventory, handler) };
    Some(lack(&none, status, queue))
}

/// Whether a server carries the marker of this order, of an earlier one of its name, or its id.
#[must_use]
pub fn is_marked(order: &Order, inventory: &Inventory) -> bool {
    is_marked_but(order, inventory, |_| false)
}

/// The same, but for this order's own marker on servers of which the list says nothing any more.
pub(super) fn is_marked_but(order: &Order, inventory: &Inventory, past: impl Fn(&str) -> bool) -> bool {
    let mine = &order.marker;
    let concerns = |found: &Marker| {
        found.order_id == mine.order_id || (&found.cluster, &found.namespace, &found.name) == (&mine.cluster, &mine.namespace, &mine.name)
    };
    inventory.markers.iter().any(|(id, markers)| markers.iter().any(|found| concerns(found) && !(found == mine && past(id))))
}

/// Whether a server carries this order's own marker, or what a panel left of it.
pub(super) fn is_own(own: &Marker, status: &OrderStatus, panel: &str, list: &Inventory) -> bool {
    let carries = |found: &[Marker]| found.iter().any(|marker| marker == own || own.is_cut_to(marker));
    list.markers.iter().any(|(id, found)| carries(found) && !went_back(status, panel, id, list))
}

/// Whether the order gave a server back, which its form had confirmed by then, since a list was asked for.
pub(super) fn went_back(status: &OrderStatus, panel: &str, id: &str, list: &Inventory) -> bool {
    // Whole seconds are kept: of a list from within the same one it is not known.
    status.tried_servers.iter().any(|tried| tried.panel == panel && tried.id == id && tried.time.0 >= list.began)
}

/// What is said of an order that waits: that there is none, and its place.
#[must_use]
pub fn lack(none: &str, status: &OrderStatus, queue: &Queue) -> String {
    let tried = if status.tried_servers.is_empty() { "" } else { ", but for those in status.triedServers" };
    format!("{none}{tried}; {}", queue.place())
}

/// That there is no free server of a type, or none at all; and how many look free that nobody is given.
#[must_use]
pub fn no_server(server_type: &str, inventory: &Inventory, handler: &Handler) -> String {
    if !matching::type_is_known(inventory, server_type) {
        return format!("the panel knows no server of type {server_type}");
    }
    let NotGiven { share_mac, powerless } = matching::not_given(inventory, server_type, handler.ipmi == IpmiErrorPolicy::CreateTask);
    let counts = [(share_mac, "share a MAC address with another server"), (powerless, "cannot be asked for their power")];
    let more: Vec<String> = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} more {what}")).collect();
    let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
    format!("no free server of type {server_type}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::{Value, json};

    use crate::api::common::ObjectKey;
    use crate::api::condition::{self, ConditionType};
    use crate::api::handler::DeletionPolicy;
    use crate::api::samples;
    use crate::panel::model::FREE_DOMAIN;
    use crate::provisioning::decide;
    use crate::provisioning::facts::{Facts, HandlerState};
    use crate::provisioning::queue::Waiting;

    fn handler() -> Handler {
        let key = ObjectKey { namespace: "h".into(), name: "msk-1".into() };
        Handler { key, panel: "dci/dcimgr".into(), deletion_policies: [DeletionPolicy::Release].into(), ..Handler::placeholder() }
    }

    /// Servers 1 and 2, free, of type E3, and 3, of type E5, which somebody has.
    fn inventory() -> Inventory {
        let row = |id: &str, kind: &str, owner: Option<&str>| ServerRow {
            types: vec![kind.into()],
            hostname: FREE_DOMAIN.into(),
            owner: owner.map(str::to_owned),
            ..ServerRow::blank(id)
        };
        let rows = [row("1", "E3", None), row("2", "E3", None), row("3", "E5", Some("bob"))];
        Inventory { rows: rows.into_iter().map(|row| (row.id.0.clone(), row)).collect(), ..Inventory::default() }
    }

    fn marked(namespace: &str, name: &str, order_id: &str) -> Inventory {
        let marker = Marker { cluster: "c".into(), namespace: namespace.into(), name: name.into(), order_id: order_id.into() };
        Inventory { markers: [("3".to_owned(), vec![marker])].into(), ..inventory() }
    }

    fn ahead(number: usize) -> Queue {
        let waiting = Waiting { server_type: Some("E3".into()), asked_for: None, tried: Vec::new() };
        Queue { ahead: vec![waiting; number], behind: 2 }
    }

    #[test]
    fn the_list_says_that_there_is_nothing_only_where_the_panel_could_say_nothing_else() {
        let ready = |kind: &str| json!({"spec": {"configuration": {"serverType": kind}}});
        let tried = |ids: &[&str]| {
            let all: Vec<Value> = ids
                .iter()
                .map(|id| json!({"id": id, "panel": "dci/dcimgr", "handler": "h/msk-1", "reason": "x", "time": "2026-01-01T00:00:00Z"}))
                .collect();
            json!({"spec": {}, "status": {"triedServers": all}})
        };
        let nobody = Queue::default();
        let intent = json!({"operationId": "op", "step": "Allocate", "call": "claim", "target": "server/1", "attempt": 1,
            "since": "2026-01-01T00:00:00Z", "outcome": "Sent"});
        let server = json!({"id": "3", "handler": "h/msk-1", "configuration": "E5"});
        let restored = json!({crate::api::ORDER_ID_ANNOTATION: "u-0"});
        for (change, inventory, queue, said) in [
            (ready("E3"), inventory(), &nobody, None),
            (ready("E3"), inventory(), &ahead(1), None),
            (ready("E3"), inventory(), &ahead(2), Some("the free servers are for orders that came before; place 3 of 5")),
            (ready("E5"), inventory(), &nobody, Some("no free server of type E5; place 1 of 1")),
            (ready("E9"), inventory(), &nobody, Some("the panel knows no server of type E9; place 1 of 1")),
            (tried(&["1"]), inventory(), &nobody, None),
            (
                tried(&["1", "2"]),
                inventory(),
                &nobody,
                Some("no free server of type E3, but for those in status.triedServers; place 1 of 1"),
            ),
            // One may be its own, or stand in its way.
            (ready("E5"), marked("shop", "web", "u-1"), &nobody, None),
            (ready("E5"), marked("shop", "web", "u-0"), &nobody, None),
            (ready("E5"), marked("other", "web", "u-1"), &nobody, None),
            (ready("E5"), marked("other", "web", "u-0"), &nobody, Some("no free server of type E5; place 1 of 1")),
            (json!({"spec": {"configuration": {"serverType": "E5"}, "adopt": {"serverId": "3"}}}), inventory(), &nobody, None),
            // Something was asked for, was got, or may have been before a restore.
            (json!({"spec": {"configuration": {"serverType": "E5"}}, "status": {"inFlight": intent}}), inventory(), &nobody, None),
            (json!({"spec": {"configuration": {"serverType": "E5"}}, "status": {"server": server}}), inventory(), &nobody, None),
            (json!({"metadata": {"annotations": restored}, "spec": {"configuration": {"serverType": "E5"}}}), inventory(), &nobody, None),
            (json!({"spec": {"configuration": {"serverType": null, "custom": {"memoryGiB": 999}}}}), inventory(), &nobody, None),
        ] {
            let raw = samples::order(&change);
            let order = Order::parse(&raw, "c").unwrap();
            let found = nothing_for(&order, &raw.status.unwrap_or_default(), &handler(), &inventory, queue);
            assert_eq!(found.as_deref(), said, "{change}");
        }
    }

    #[test]
    fn servers_that_look_free_and_are_given_to_nobody_are_told_of() {
        let strict = Handler { ipmi: IpmiErrorPolicy::CreateTask, ..handler() };
        let mut inventory = inventory();
        for (id, mac, powerless) in [("1", "00:16:3e:00:00:01", false), ("2", "00-16-3E-00-00-01", false), ("3", "00:16:3e:00:00:03", true)]
        {
            let row = inventory.rows.get_mut(id).unwrap();
            (row.owner, row.types, row.mac, row.power.error) = (None, vec!["E3".into()], Some(mac.into()), powerless);
        }
        assert_eq!(
            no_server("E3", &inventory, &strict),
            "no free server of type E3 (2 more share a MAC address with another server, 1 more cannot be asked for their power)"
        );
        assert!(free(&Wanted::Ready("E3".into()), &OrderStatus::default(), &strict, &inventory).is_empty());
        assert_eq!(no_server("E9", &inventory, &strict), "the panel knows no server of type E9");
    }

    #[test]
    fn who_is_kept_back_hears_by_what_and_how_many_come_before() {
        type Change = fn(&mut Handler, &mut Facts);
        let order = Order::parse(&samples::order(&json!({})), "c").unwrap();
        let rows: [(Change, &str, &str); 4] = [
            (
                |_, facts| (facts.slot, facts.before_me) = (false, 0),
                "LimitReached",
                "limits.maxConcurrentOperations of the handler is reached; place 1 in the queue",
            ),
            (|_, facts| (facts.slot, facts.before_me) = (false, 3), "LimitReached", "place 4 in the queue"),
            (
                |handler, facts| (handler.max_orders_per_namespace, facts.older_orders) = (3, 8),
                "LimitReached",
                "limits.maxOrdersPerNamespace (3) of the handler is reached in this namespace; place 6 in the queue",
            ),
            // Whether there is a place or not: without a server none is needed.
            (
                |_, facts| (facts.slot, facts.queue) = (false, ahead(2)),
                "WaitingForCapacity",
                "the free servers are for orders that came before",
            ),
        ];
        for (change, reason, said) in rows {
            let (mut handler, mut facts) = (handler(), Facts::new(HandlerState::Ready, "1".into()));
            facts.inventory = Some(Arc::new(inventory()));
            change(&mut handler, &mut facts);
            let decided = decide::decide(&order, &handler, &facts, Timestamp::UNIX_EPOCH, &OrderStatus::default());
            let ready = condition::find(&decided.status.conditions, ConditionType::Ready).unwrap();
            assert!(ready.reason == reason && ready.message.contains(said), "{reason}: {ready:?}");
            // Where there is no server that is what the order is about, although its client is not there yet.
            let allocate = decided.status.steps.iter().find(|step| step.name == "Allocate").map_or("", |step| step.state.as_str());
            assert_eq!(allocate, if reason == "WaitingForCapacity" { "Waiting" } else { "Pending" }, "{said}");
        }
    }
}
