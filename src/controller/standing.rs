//! Whether a list of servers is whole: an ordinary user is shown its own servers only, and nothing in the list tells that others are left out.
//!
//! Our user may become an ordinary one while the operator runs. Each log-in tells the level, at no cost; whether a session that is older
//! loses its rights at once is not known. So the panel is asked where servers are missing that were there, or that orders have: one request
//! for such a list, and none for any other.

use crate::api::DedicatedServerOrder;
use crate::panel::ServerPanel;
use crate::panel::model::Level;
use crate::provisioning::facts::Inventory;
use crate::provisioning::reason::Reason;

use super::problem::{Problem, problem_of};

/// Somebody has to give our user its level.
pub(super) fn not_administrator(login: &str) -> Problem {
    let message = format!("panel user {login} is not an administrator, and is not shown all servers; give it that level");
    Problem::stalled(Reason::NotAdministrator, message)
}

/// An error where whoever read this list may not be an administrator: it must not be published then.
pub(super) async fn check(
    panel: &dyn ServerPanel,
    login: &str,
    before: Option<&Inventory>,
    now: &Inventory,
    orders: &[&DedicatedServerOrder],
) -> Result<(), Problem> {
    if panel.is_administrator() && misses(before, now, orders) {
        let users = panel.users().await.map_err(|e| problem_of(&e))?;
        match users.iter().find(|user| user.name == login).map(|user| user.level) {
            // Nothing is done to an order where the users do not show ours.
            Some(Level::Administrator) | None => {}
            Some(Level::User) => return Err(not_administrator(login)),
        }
    }
    if panel.is_administrator() { Ok(()) } else { Err(not_administrator(login)) }
}

/// Whether a server is not in the list that was in the one before. Where there was none, one that an order has: it is doubted once.
fn misses(before: Option<&Inventory>, now: &Inventory, orders: &[&DedicatedServerOrder]) -> bool {
    let missing = |id: &String| !now.rows.contains_key(id);
    match before {
        Some(before) => before.rows.keys().any(missing),
        None => orders.iter().filter_map(|order| order.status.as_ref()?.server.as_ref()).any(|server| missing(&server.id)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::panel::model::ServerRow;

    #[test]
    fn a_list_is_doubted_that_lacks_a_server_of_an_order_or_of_the_list_before() {
        type Row<'r> = (&'r str, Option<&'r [&'r str]>, &'r [&'r str], &'r DedicatedServerOrder, bool);
        let list = |ids: &[&str]| Inventory {
            rows: ids.iter().map(|id| ((*id).to_owned(), ServerRow::blank(id))).collect(),
            ..Inventory::default()
        };
        let without = crate::api::samples::order(&json!({}));
        let bound = crate::api::samples::order(&json!({"status": {"server": {"id": "17", "handler": "h/msk-1", "configuration": "E3"}}}));
        let rows: [Row<'_>; 7] = [
            ("the first list", None, &["1"], &without, false),
            ("the same", Some(&["1"]), &["1"], &without, false),
            ("another server more", Some(&["1"]), &["1", "2"], &without, false),
            ("a server less", Some(&["1", "2"]), &["1"], &without, true),
            ("nothing", Some(&["1"]), &[], &without, true),
            ("an order's server", None, &["1", "17"], &bound, false),
            ("an order's server less, since the start", None, &["1"], &bound, true),
        ];
        for (what, before, now, order, doubted) in rows {
            assert_eq!(misses(before.map(list).as_ref(), &list(now), &[order]), doubted, "{what}");
        }
    }
}
