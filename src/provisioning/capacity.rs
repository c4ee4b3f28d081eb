//! What the list of servers alone says of an order that waits for a free one: it waits without asking the panel anything, and without
//! a place among those at work, so that no number of orders for what is sold out keeps others from what is not.

use crate::api::handler::IpmiErrorPolicy;
use crate::api::order::OrderStatus;
use crate::panel::model::ServerRow;

use super::facts::Inventory;
use super::give_back::was_tried;
use super::matching;
use super::order::{Handler, Order};
use super::queue::Queue;
use super::selection::may_have_been_restored;
use super::wanted::Wanted;

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
    Some(lack(server_type, status, inventory, queue, for_others))
}

/// Whether a server carries the marker of this order, of an earlier one of its name, or its id.
fn is_marked(order: &Order, inventory: &Inventory) -> bool {
    let mine = &order.marker;
    let concerns = |found: &super::marker::Marker| {
        found.order_id == mine.order_id || (&found.cluster, &found.namespace, &found.name) == (&mine.cluster, &mine.namespace, &mine.name)
    };
    inventory.markers.values().flatten().any(concerns)
}

/// What is said of an order that waits for a server of a type. `for_others`: there are free ones, and older orders get them.
#[must_use]
pub fn lack(server_type: &str, status: &OrderStatus, inventory: &Inventory, queue: &Queue, for_others: bool) -> String {
    let none = if for_others { "the free servers are for orders that came before".to_owned() } else { no_server(server_type, inventory) };
    let tried = if status.tried_servers.is_empty() { "" } else { ", but for those in status.triedServers" };
    format!("{none}{tried}; {}", queue.place())
}

/// That there is no free server of a type, or none at all.
#[must_use]
pub fn no_server(server_type: &str, inventory: &Inventory) -> String {
    let known = matching::type_is_known(inventory, server_type);
    format!("{} {server_type}", if known { "no free server of type" } else { "the panel knows no server of type" })
}
