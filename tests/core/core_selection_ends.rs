//! What is read of an order's object, where an order is closed that goes without a server, and what leads to another handler.

use std::sync::Arc;
use std::time::Duration;

use crate::support::panel::Panel;
use crate::support::sweep::{Kind, reach};
use crate::support::world::{Fault, World, handler, order};
use dci_operator::api::ORDER_ID_ANNOTATION;
use dci_operator::api::common::ObjectKey;
use dci_operator::api::handler::AllocateBy;
use dci_operator::api::order::OrderStatus;
use dci_operator::api::task::TaskType;
use dci_operator::panel::model::ServerRow;
use dci_operator::provisioning::decide::decide;
use dci_operator::provisioning::facts::{Facts, HandlerState, Inventory};
use dci_operator::provisioning::order::{Order, annotated_id, marked_id, order_id};
use dci_operator::provisioning::selection::{Candidate, closed_at};
use jiff::Timestamp;
use serde_json::{Value, json};

#[test]
fn the_id_of_an_order_is_what_its_annotation_says_where_that_can_be_one() {
    let long = "x".repeat(64);
    let longer = "x".repeat(65);
    for (written, id) in [("u-old", Some("u-old")), (&long, Some(&*long)), (&longer, None), ("", None), ("u old", None), ("u/old", None)] {
        let raw = order("web", "u-web", |raw| raw["metadata"]["annotations"] = json!({ORDER_ID_ANNOTATION: written}));
        assert_eq!((order_id(&raw), annotated_id(&raw.metadata)), (id, id), "{written}");
        assert_eq!(marked_id(&raw), Some(id.unwrap_or("u-web")), "{written}");
    }
    assert_eq!(order_id(&order("web", "u-web", |_| ())), None);
}

#[test]
fn who_takes_addresses_is_what_the_handler_says() {
    for (by, expected) in [(AllocateBy::Operator, true), (AllocateBy::Panel, false)] {
        let handler = handler(|h| h["ipManagement"]["allocateBy"] = serde_json::to_value(by).unwrap());
        assert_eq!(handler.operator_allocates(), expected);
    }
}

/// Its licences can be given back at any handler: the best one is asked.
#[test]
fn an_order_that_has_licences_alone_is_closed_where_all_was_looked_at_and_it_is_allowed() {
    let raw = order("web", "u-web", |raw| raw["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    let order = Order::for_closing(&raw, "c").unwrap();
    let license = json!({"name": "panel", "product": "p", "remoteId": "r-1", "state": "Active"});
    let status: OrderStatus = serde_json::from_value(json!({"licenses": [license]})).unwrap();
    let keys = ["a", "b"].map(|name| ObjectKey { namespace: "hosting".into(), name: name.into() });
    let known = Inventory { owners: ["acme".to_owned()].into(), ..Inventory::default() };
    // A server of the client's that nobody has looked at.
    let rows = Panel::new(1, 0).list();
    let rows = rows.into_iter().map(|(id, row)| (id, ServerRow { owner: Some("acme".into()), ..row })).collect();
    let unread = Inventory { rows, ..known.clone() };
    let candidate = |number: usize, priority: i32, allowed: bool, inventory| Candidate {
        key: &keys[number],
        priority,
        pool: None,
        allowed,
        going: false,
        state: &HandlerState::Ready,
        policy: None,
        login: "op",
        inventory: Some(inventory),
    };
    for (first, second, expected) in [
        (candidate(0, 1, true, &known), candidate(1, 2, true, &known), 0),
        (candidate(0, 2, true, &known), candidate(1, 1, true, &known), 1),
        (candidate(0, 1, true, &unread), candidate(1, 2, true, &known), 1),
        (candidate(0, 1, false, &known), candidate(1, 2, true, &known), 1),
        (candidate(0, 1, true, &unread), candidate(1, 2, false, &known), 1),
    ] {
        assert_eq!(closed_at(&order, &status, &[first, second]), [&keys[expected]]);
        assert!(closed_at(&order, &OrderStatus::default(), &[first, second]).is_empty(), "nothing is left of it");
    }
}

/// Whoever is asked to close an order, or meets one that another handler is at work for, does not begin it anew.
#[test]
fn the_records_of_an_order_that_goes_or_was_begun_elsewhere_stay() {
    let intent = json!({"operationId": "op-1", "step": "Allocate", "call": "claim", "target": "server/1", "handler": "hosting/a",
        "attempt": 1, "since": "2026-01-01T00:00:00Z", "outcome": "Sent"});
    let server = json!({"id": "1", "handler": "hosting/a", "configuration": "E3-16G"});
    for (what, deleting, more, stays) in [
        ("nothing", false, json!({}), false),
        ("it goes", true, json!({}), true),
        ("a claim is in flight", false, json!({"inFlight": intent}), true),
        ("it has a server", false, json!({"server": server}), true),
    ] {
        let raw = order("web", "u-web", |raw| {
            if deleting {
                raw["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
        });
        let order = Order::for_closing(&raw, "c").unwrap();
        let mut value = json!({"observedGeneration": 1, "handler": "hosting/a",
            "steps": [{"name": "CreateClient", "state": "Done", "message": "at a"}]});
        value.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let status: OrderStatus = serde_json::from_value(value).unwrap();
        let mut facts = Facts::new(HandlerState::Ready, "op-2".into());
        facts.inventory = Some(Arc::new(Inventory::default()));
        let decided = decide(&order, &handler(|_| ()), &facts, Timestamp::UNIX_EPOCH, &status).status;
        let kept = decided.steps.iter().any(|step| step.message == "at a");
        let at = if stays { "hosting/a" } else { "hosting/msk-1" };
        assert_eq!((decided.handler.as_deref(), kept), (Some(at), stays), "{what}: {decided:?}");
    }
}

/// Somebody deletes the client's user meanwhile. Nothing is wrong with the server: another one would meet the same.
#[test]
fn a_user_that_cannot_be_made_again_is_a_department_s_and_no_reason_to_give_the_server_back() {
    let mut world = World::of_sites();
    for (name, priority) in [("a", 10), ("b", 20)] {
        world.add_site(name, priority, "one", 2, |panel, spec: &mut Value| {
            panel.install_takes = Duration::from_mins(1);
            spec["retry"]["interval"] = json!("1m");
        });
    }
    world.add(order("web", "u-web", |raw| {
        raw["spec"]["handlerRef"] = Value::Null;
        raw["spec"]["handlerSelector"] = json!({"namespace": "hosting"});
    }));
    world.until("an installation", Duration::from_hours(1), |w| w.sites.all[0].panel.servers["1"].installs == 1);
    world.sites.all[0].panel.users.retain(|user| user.name != "acme");
    world.always = Some(("createUser", Fault::Refused));
    world.until("a task", Duration::from_hours(2), |w| {
        assert!(w.status("web").tried_servers.is_empty(), "{}", w.describe());
        w.open_tasks() == [TaskType::FailedOperation]
    });
    assert_eq!(world.status("web").server.as_ref().map(|s| s.handler.as_str()), Some("hosting/a"), "{}", world.describe());
    world.always = None;
    reach(&mut world, "Active", Kind::Plain);
    assert_eq!(world.status("web").server.as_ref().map(|s| s.handler.as_str()), Some("hosting/a"), "{}", world.describe());
}
