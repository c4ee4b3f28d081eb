//! `kubectl dci inventory`: what a handler's panel has, and what is ordered there.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::api::common::ObjectKey;
use crate::api::condition::{self, Condition, ConditionType};
use crate::api::handler::{HandlerStatus, Module};
use crate::api::{DedicatedServerOrder, ProcessingHandler};
use crate::controller::context::serving_handler;
use crate::provisioning::context::WaitKind;
use crate::provisioning::order::selector;
use crate::provisioning::reason::Reason;
use crate::provisioning::wanted::Wanted;

use super::known::Known;
use super::text::{NOTHING, Table, clean, when};

/// Configurations that a handler's status lists at most.
pub const LISTED: usize = 50;
/// Orders that cannot be read of which so many are named.
const NAMED: usize = 10;

/// The whole screen. `orders`: of all namespaces, where they may be read; `unread`: those of them that this version cannot read.
#[must_use]
pub fn screen(handler: &ProcessingHandler, orders: &Known<Vec<DedicatedServerOrder>>, unread: &[ObjectKey], now: Timestamp) -> String {
    let none = HandlerStatus::default();
    let status = handler.status.as_ref().unwrap_or(&none);
    let mut parts = vec![head(handler, status, now)];
    if handler.spec.module == Module::BILLmanager6 {
        return parts.remove(0);
    }
    parts.push(configurations(handler, status, orders, unread));
    parts.extend(strays(status));
    parts.join("\n")
}

fn head(handler: &ProcessingHandler, status: &HandlerStatus, now: Timestamp) -> String {
    let mut table = Table::bare();
    table.row(["Handler:", &handler.key().to_string()]);
    table.row(["Module:", handler.spec.module.as_str()]);
    table.row(["Panel:", status.panel.as_deref().unwrap_or(&handler.spec.connection.url)]);
    let said = |c: &Condition| format!("{} {}: {}", c.status, c.reason, c.message);
    table.row(["Ready:", &condition::find(&status.conditions, ConditionType::Ready).map_or_else(|| "not looked at yet".to_owned(), said)]);
    for type_ in
        [ConditionType::CredentialsValid, ConditionType::IPManagerReady, ConditionType::LicenseServerReady, ConditionType::WebhooksReady]
    {
        if let Some(bad) = condition::find(&status.conditions, type_).filter(|c| c.status != "True") {
            table.row([&format!("{}:", bad.type_), &said(bad)]);
        }
    }
    if handler.spec.suspend {
        table.row(["Suspended:", "nothing is changed at the panel (spec.suspend)"]);
    }
    if let Some(probed) = status.last_probe_time {
        // Written now and then only: it says how old the numbers are at most.
        table.row(["Probed:", &when(now, probed)]);
    }
    if let Some(servers) = &status.inventory {
        table.row(["Servers:", &format!("{} free of {}", servers.free, servers.total)]);
    }
    if let Some(licenses) = &status.licenses {
        let ends = licenses.soonest_expiry.map_or_else(String::new, |at| format!(", the next one ends {}", when(now, at)));
        table.row(["Licences:", &format!("{}, {} of orders{ends}", licenses.total, licenses.of_orders)]);
    }
    if let Some(orders) = &status.orders {
        table.row(["Orders:", &format!("{}, {} ready, {} wait for a task", orders.total, orders.ready, orders.waiting_for_task)]);
    }
    table.text()
}

/// Free servers by configuration, and how many orders wait for one.
fn configurations(
    handler: &ProcessingHandler,
    status: &HandlerStatus,
    orders: &Known<Vec<DedicatedServerOrder>>,
    unread: &[ObjectKey],
) -> String {
    let Some(servers) = &status.inventory else { return "The panel's servers have not been listed yet.\n".into() };
    let mut waiting = orders.get().map(|orders| waiting(orders, &handler.key())).unwrap_or_default();
    let mut table = Table::new(&["CONFIGURATION", "FREE", "TOTAL", "WAITING"]);
    let counted = |count: Option<usize>| match orders {
        Known::Is(_) => count.unwrap_or(0).to_string(),
        Known::Absent | Known::Hidden(_) => NOTHING.to_owned(),
    };
    for row in &servers.by_configuration {
        let waits = counted(waiting.remove(&row.configuration));
        table.row([row.configuration.clone(), row.free.to_string(), row.total.to_string(), waits]);
    }
    // Asked for, and not listed: a custom configuration, or a type that the panel does not have.
    for (configuration, count) in waiting {
        table.row([configuration, NOTHING.to_owned(), NOTHING.to_owned(), count.to_string()]);
    }
    let mut text = if table.is_empty() { "The panel has no servers.\n".to_owned() } else { table.text() };
    if servers.by_configuration.len() >= LISTED {
        text.push_str("Only the largest configurations are listed.\n");
    }
    if let Some(why) = orders.hidden() {
        let _ = writeln!(text, "WAITING is not known: {}", clean(why));
    }
    if !unread.is_empty() {
        let names = unread.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let more = if unread.len() > NAMED { ", …" } else { "" };
        let count = unread.len();
        let _ = writeln!(text, "WAITING lacks orders that this version cannot read ({count}): {}{more}", clean(&names));
    }
    text
}

/// Orders that wait for a server at this handler, by what they want.
#[must_use]
pub fn waiting(orders: &[DedicatedServerOrder], handler: &ObjectKey) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for order in orders.iter().filter(|order| waits(order, handler)) {
        *counts.entry(Wanted::new(&order.spec.configuration).to_string()).or_insert(0) += 1;
    }
    counts
}

fn waits(order: &DedicatedServerOrder, handler: &ObjectKey) -> bool {
    let Some(status) = order.status.as_ref().filter(|s| s.server.is_none()) else { return false };
    let capacity = status.waiting_on.as_ref().is_some_and(|w| w.kind == WaitKind::Capacity.as_str());
    let reason = condition::find(&status.conditions, ConditionType::Ready).map(|c| c.reason.as_str());
    let lacks = capacity && reason == Some(Reason::WaitingForCapacity.as_str()) && order.metadata.deletion_timestamp.is_none();
    let here = match serving_handler(order) {
        Some(serving) => serving == *handler,
        // One that selects waits at each handler that it was passed over at for want of a server.
        None => {
            let noted = |n: &crate::api::order::HandlerNote| n.name == handler.name && n.reason == Reason::WaitingForCapacity.as_str();
            selector(order).is_some_and(|s| s.namespace == handler.namespace) && status.handlers.iter().any(noted)
        }
    };
    lacks && here
}

/// Servers without an order, and orders without a server.
fn strays(status: &HandlerStatus) -> Option<String> {
    let mut text = String::new();
    let mut table = Table::new(&["ORPHAN SERVER", "MARKER"]);
    status.orphans.iter().for_each(|o| table.row([&o.server, &o.marker]));
    if !table.is_empty() {
        text.push_str(&table.text());
        let _ = writeln!(
            text,
            "orphans: {}; no order answers to their markers, and nothing is done with them (docs/letting-go.md)",
            status.orphan_count
        );
    }
    let mut table = Table::new(&["GHOST ORDER", "SERVER"]);
    status.ghosts.iter().for_each(|g| table.row([&g.order, &g.server]));
    if !table.is_empty() {
        text.push_str(&table.text());
        let _ = writeln!(text, "ghosts: {}; the panel does not list their servers, or not as theirs", status.ghost_count);
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-01-01T12:00:00Z".parse().unwrap()
    }

    fn handler(change: &Value) -> ProcessingHandler {
        let status = json!({"status": {
            "panel": "dci.example.net:443/dcimgr", "lastProbeTime": "2026-01-01T11:55:00Z",
            "conditions": [{"type": "Ready", "status": "True", "reason": "Reachable", "message": "Reachable",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "inventory": {"total": 4, "free": 2, "byConfiguration": [
                {"configuration": "E3", "free": 2, "total": 3}, {"configuration": "E5", "free": 0, "total": 1}]},
            "orders": {"total": 2, "ready": 1, "waitingForTask": 1},
        }});
        let mut object = serde_json::to_value(samples::handler(&status)).unwrap();
        for (name, value) in change.as_object().unwrap() {
            object["status"][name] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn waits_for(configuration: &Value, reason: &str) -> DedicatedServerOrder {
        samples::order(&json!({"spec": {"handlerRef": {"name": "msk-1", "namespace": "h"}, "configuration": configuration}, "status": {
            "waitingOn": {"kind": "Capacity", "name": "x", "since": "2026-01-01T00:00:00Z"},
            "conditions": [{"type": "Ready", "status": "False", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }}))
    }

    #[test]
    fn a_panel_on_one_screen() {
        let orders = vec![
            waits_for(&json!({"serverType": "E5"}), "WaitingForCapacity"),
            waits_for(&json!({"serverType": "E5"}), "LimitReached"),
            waits_for(&json!({"serverType": null, "custom": {"memoryGiB": 64}}), "WaitingForCapacity"),
            samples::order(&json!({})),
        ];
        assert_eq!(
            screen(&handler(&json!({})), &Known::Is(orders), &[], now()),
            "Handler:   h/msk-1\n\
             Module:    DCImanager5\n\
             Panel:     dci.example.net:443/dcimgr\n\
             Ready:     True Reachable: Reachable\n\
             Probed:    5m ago\n\
             Servers:   2 free of 4\n\
             Orders:    2, 1 ready, 1 wait for a task\n\
             \n\
             CONFIGURATION   FREE   TOTAL   WAITING\n\
             E3              2      3       0\n\
             E5              0      1       1\n\
             64Gb            -      -       1\n"
        );
    }

    #[test]
    fn what_may_not_be_read_is_not_counted() {
        let text = screen(&handler(&json!({})), &Known::Hidden("you may not list orders".into()), &[], now());
        assert!(text.contains("E3              2      3       -\n"), "{text}");
        assert!(text.ends_with("WAITING is not known: you may not list orders\n"), "{text}");
    }

    #[test]
    fn orders_that_cannot_be_read_are_told_of_where_they_are_not_counted() {
        let unread = [ObjectKey { namespace: "shop".into(), name: "new".into() }];
        let text = screen(&handler(&json!({})), &Known::Is(Vec::new()), &unread, now());
        assert!(text.contains("WAITING lacks orders that this version cannot read (1): shop/new\n"), "{text}");
    }

    #[test]
    fn strays_and_what_is_wrong_are_told() {
        let change = json!({
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "IPManagerNotReady", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "IPManagerReady", "status": "False", "reason": "IPManagerNotReady", "message": "no", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "orphans": [{"server": "17", "marker": "k8s:c/shop/web/1"}], "orphanCount": 1,
            "ghosts": [{"order": "shop/old", "server": "18"}], "ghostCount": 1,
        });
        let text = screen(&handler(&change), &Known::Is(Vec::new()), &[], now());
        for part in [
            "False IPManagerNotReady: m",
            "IPManagerReady:   False IPManagerNotReady: no",
            "17              k8s:c/shop/web/1",
            "orphans: 1;",
            "shop/old      18",
            "ghosts: 1;",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_handler_that_nobody_has_looked_at_says_so() {
        let text = screen(&samples::handler(&json!({"spec": {"suspend": true}})), &Known::Is(Vec::new()), &[], now());
        assert!(text.contains("Panel:       https://dci.example.net/dcimgr\nReady:       not looked at yet\nSuspended:   "), "{text}");
        assert!(text.ends_with("The panel's servers have not been listed yet.\n"), "{text}");
    }
}
