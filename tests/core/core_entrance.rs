//! The entrance of the decisions: what is looked at again, what is left alone, and what is said where no panel can be asked.

use crate::support::look::{active, until_reason};
use crate::support::panel::refused;
use crate::support::seconds;
use crate::support::world::{CLUSTER, World, handler, order};
use dci_operator::api::RECONCILE_ANNOTATION;
use dci_operator::api::condition::{ConditionType, find};
use dci_operator::api::order::OrderStatus;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::error::PanelError;
use dci_operator::provisioning::context::Next;
use dci_operator::provisioning::decide::{Decision, asked, decide, without_handler};
use dci_operator::provisioning::facts::{Facts, HandlerState, TaskView};
use dci_operator::provisioning::forsaken::{Forsaken, is_known_there};
use dci_operator::provisioning::order::Order;
use dci_operator::provisioning::reason::Reason;
use jiff::Timestamp;
use serde_json::{Value, json};

const HOUR: i64 = 3600;

fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

fn web(change: impl FnOnce(&mut Value)) -> Order {
    Order::parse(&order("web", "u-web", change), CLUSTER).unwrap()
}

fn status(value: Value) -> OrderStatus {
    serde_json::from_value(value).unwrap()
}

fn down() -> Facts {
    Facts::new(HandlerState::NotReady("it is down".into()), "op-1".into())
}

/// Why the order is Ready or not, and what is told of it.
fn ready(status: &OrderStatus) -> (&str, &str) {
    find(&status.conditions, ConditionType::Ready).map_or(("", ""), |c| (c.reason.as_str(), c.message.as_str()))
}

/// What is shown of a task of operations.
fn view(name: &str, resolution: Option<Resolution>) -> TaskView {
    let (note, type_) = (String::new(), TaskType::FailedOperation);
    TaskView { name: name.into(), type_, resolution, closed_at: None, note, made: None, earlier: false }
}

#[test]
fn an_attempt_is_asked_for_by_a_word_that_was_not_handled_yet() {
    for (word, handled, wanted) in [
        (None, None, false),
        (None, Some("a"), false),
        (Some("a"), None, true),
        (Some("a"), Some("a"), false),
        (Some("b"), Some("a"), true),
    ] {
        let order = web(|raw| {
            if let Some(word) = word {
                raw["metadata"]["annotations"] = json!({ RECONCILE_ANNOTATION: word });
            }
        });
        let status = OrderStatus { last_handled_reconcile_at: handled.map(str::to_owned), ..OrderStatus::default() };
        assert_eq!(order.reconcile_requested.as_deref(), word);
        assert_eq!(asked(&order, &status), wanted, "{word:?} after {handled:?}");
    }
}

#[test]
fn a_reinstall_token_is_no_demand_where_the_order_is_seen_for_the_first_time() {
    for (token, seen, handled) in [
        ("t", None, Some("t")),
        ("t", Some(-1), Some("t")),
        ("t", Some(0), None),
        ("t", Some(1), None),
        ("", None, None),
        ("", Some(-1), None),
    ] {
        let order = web(|raw| raw["spec"]["reinstall"] = json!(token));
        let before = OrderStatus { observed_generation: seen, ..OrderStatus::default() };
        let after = without_handler(&order, "hosting/msk-1", Reason::HandlerNotFound, "there is none", now(), &before);
        assert_eq!(after.last_handled_reinstall.as_deref(), handled, "{token:?}, seen {seen:?}");
        assert_eq!(
            (ready(&after), after.observed_generation, after.phase.as_deref()),
            (("HandlerNotFound", "there is none"), Some(1), Some("Pending"))
        );
        let waits = after.waiting_on.unwrap();
        assert_eq!((waits.kind.as_str(), waits.name.as_str()), ("Handler", "hosting/msk-1"));
    }
}

#[test]
fn what_fails_is_told_of_the_first_step_that_is_not_over_and_not_skipped() {
    let done = |names: &[&str]| names.iter().map(|name| json!({"name": name, "state": "Done"})).collect::<Vec<_>>();
    let rows: [(&[&str], &str); 3] = [(&[], "CreateClient"), (&["CreateClient"], "Allocate"), (&["CreateClient", "Allocate"], "PowerOn")];
    for (over, waits) in rows {
        let before = status(json!({"observedGeneration": 1, "steps": done(over)}));
        let mut facts = Facts::new(HandlerState::Ready, "op-1".into());
        facts.failed = Some(refused("value", "read"));
        let decided = decide(&web(|_| ()), &handler(|_| ()), &facts, now(), &before);
        let error = decided.status.last_error.as_ref().map(|e| e.step.as_str());
        assert_eq!(error, Some(waits), "{over:?}: {decided:?}");
    }
}

/// An order that stalled until a time is looked at before it where a department has something to say, or is late.
#[test]
fn only_a_task_that_is_open_wakes_an_order_that_is_left_alone() {
    let stalled = json!({"type": "Stalled", "status": "True", "reason": "OutOfAttempts", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let task = |name: &str, state: &str, deadline: &str| json!({"name": name, "type": "FailedOperation", "department": "Operations", "state": state, "deadline": deadline});
    let (late, early) = ("2026-01-01T23:00:00Z", "2026-01-03T00:00:00Z");
    let until = now().checked_add(jiff::SignedDuration::from_secs(HOUR)).unwrap();
    let closed = Some(Resolution::Done);
    let rows = [
        ("no task", vec![], vec![], true),
        ("open and due", vec![task("a", "Open", late)], vec![view("a", None)], false),
        ("open, and not due", vec![task("a", "Open", early)], vec![view("a", None)], true),
        ("closed by its department", vec![task("a", "Open", early)], vec![view("a", closed)], false),
        ("deleted by somebody", vec![task("a", "Open", early)], vec![], false),
        ("closed long ago", vec![task("a", "Done", late)], vec![], true),
        (
            "another one was closed",
            vec![task("a", "Open", early), task("b", "Done", early)],
            vec![view("b", closed), view("a", None)],
            true,
        ),
        (
            "closed beside one that was before",
            vec![task("a", "Open", early), task("b", "Done", early)],
            vec![view("b", None), view("a", closed)],
            false,
        ),
    ];
    for (what, tasks, views, left_alone) in rows {
        let before = status(json!({
            "observedGeneration": 1, "phase": "Failed", "conditions": [stalled], "nextRetryTime": until.to_string(), "manualTasks": tasks,
        }));
        let mut facts = down();
        facts.tasks = views;
        let decided = decide(&web(|_| ()), &handler(|_| ()), &facts, now(), &before);
        let held = Decision { status: before, next: Next::Wait(Some(until)) };
        // When an open task was asked for is noted in any case.
        let same = decided.next == held.next && decided.status.conditions == held.status.conditions;
        assert_eq!(same, left_alone, "{what}: {decided:?}");
    }
}

/// An Active order whose server is another user's by now.
fn drifted() -> World {
    let mut world = active();
    world.panel.server("1").owner = Some("7".into());
    until_reason(&mut world, "OwnerChanged");
    world.run_for(seconds(120));
    world
}

/// Nothing heals, and nothing is concluded, for as long as the panel does not show the server.
#[test]
fn an_order_that_stalled_stays_as_it_is_while_its_server_cannot_be_seen() {
    let world = drifted();
    let stored = world.status("web").clone();
    let order = |change: fn(&mut Value)| {
        let mut raw = serde_json::to_value(&world.orders["web"].raw).unwrap();
        change(&mut raw);
        Order::parse(&serde_json::from_value(raw).unwrap(), CLUSTER).unwrap()
    };
    let facts = |change: fn(&mut Facts)| {
        let mut facts = down();
        (facts.login, facts.forced, facts.restarted, facts.slot) = ("k8s-admin".into(), true, true, true);
        facts.inventory.clone_from(&world.inventory);
        facts.tasks.extend(world.tasks.iter().map(|t| view(&t.name, t.resolution)));
        change(&mut facts);
        facts
    };
    // Something else than a drift is told of the order.
    let refused = |change: fn(&mut OrderStatus)| {
        let mut status = stored.clone();
        status.last_error = None;
        status.manual_tasks.clear();
        change(&mut status);
        status
    };
    let ready_again = |status: &mut OrderStatus| {
        status.conditions.retain(|c| c.type_ != "Stalled");
        status.phase = Some("Active".into());
    };
    let past = |status: &mut OrderStatus| status.next_retry_time = serde_json::from_value(json!("2025-12-31T00:00:00Z")).unwrap();
    let other: fn(&mut Value) = |raw| raw["spec"]["domain"] = json!("other.example.net");
    let newer: fn(&mut Value) = |raw| raw["metadata"]["generation"] = json!(2);
    let at_once: fn(&mut Facts) = |facts| facts.restarted = false;
    let unforced: fn(&mut Facts) = |facts| (facts.forced, facts.restarted) = (false, false);
    let unseen: fn(&mut Facts) = |facts| (facts.handler, facts.inventory) = (HandlerState::Ready, None);
    let up: fn(&mut Facts) = |facts| facts.handler = HandlerState::Ready;
    let none: fn(&mut Value) = |_| ();
    let rows = vec![
        ("down, and the last list shows it", order(none), facts(|_| ()), stored.clone(), true),
        ("up, and no list shows it yet", order(none), facts(unseen), stored.clone(), true),
        ("up and seen", order(none), facts(up), stored.clone(), false),
        ("a drift that somebody wants looked at", order(none), facts(at_once), stored.clone(), true),
        ("changed since", order(newer), facts(|_| ()), stored.clone(), false),
        ("not what was asked for", order(other), facts(|_| ()), stored.clone(), false),
        ("never stalled", order(none), facts(|_| ()), refused(ready_again), false),
        ("refused, and a start", order(none), facts(|_| ()), refused(|_| ()), true),
        ("refused, and time to look again", order(none), facts(unforced), refused(past), true),
        ("refused, and something has changed", order(none), facts(at_once), refused(|_| ()), false),
    ];
    for (what, order, facts, before, left_alone) in rows {
        let decided = decide(&order, &world.handler, &facts, world.now, &before);
        let until = crate::support::later(world.now, world.handler.poll);
        let same = decided.status.conditions == before.conditions
            && decided.status.observed_generation == before.observed_generation
            && decided.next == Next::Wait(Some(until));
        assert_eq!(same, left_alone, "{what}: {:?} {:?}", decided.next, decided.status);
    }
}

/// A slow panel is waited for by its own name; one that says no, or is not there at all, is no slow panel.
#[test]
fn only_a_panel_that_is_there_and_says_nothing_is_waited_for_as_slow() {
    let no_answer = PanelError::NoAnswer { panel: "dci".into(), func: "read".into(), detail: "reset".into() };
    let unreachable = PanelError::Unreachable { panel: "dci".into(), detail: "connection refused".into() };
    for (error, slow) in [(no_answer, true), (unreachable, false), (refused("value", "read"), false)] {
        let mut facts = Facts::new(HandlerState::Ready, "op-1".into());
        let what = error.to_string();
        facts.failed = Some(error);
        let decided = decide(&web(|_| ()), &handler(|_| ()), &facts, now(), &OrderStatus::default());
        let waits = decided.status.waiting_on.as_ref();
        assert_eq!(waits.is_some_and(|w| w.name.starts_with("hosting/msk-1: ")), slow, "{what}: {waits:?}");
    }
}

#[test]
fn what_an_order_may_have_at_a_panel_is_told_by_each_of_three_records() {
    let server = json!({"id": "17", "name": "s17", "handler": "h/msk-1", "panel": "dci:1500", "configuration": "E3", "client": "acme"});
    let intent = json!({
        "operationId": "op-1", "step": "Allocate", "call": "claim", "target": "server/1", "outcome": "Sent", "attempt": 1, "since": "2026-01-01T00:00:00Z",
    });
    let licence = json!({"product": "lite", "handler": "hosting/isp"});
    for (record, known) in
        [(json!({}), false), (json!({"server": server}), true), (json!({"inFlight": intent}), true), (json!({"licenses": [licence]}), true)]
    {
        assert_eq!(is_known_there(&status(record.clone())), known, "{record}");
    }
}

/// A restored order that is deleted, and whose handler nobody sees: its task is its department's only where that is open and shown.
#[test]
fn a_department_may_answer_where_its_own_task_is_open_and_shown() {
    let raw = order("web", "u-new", |raw| {
        raw["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": "u-web"});
        raw["metadata"]["deletionTimestamp"] = json!("2026-01-01T12:00:00Z");
    });
    let order = Order::for_closing(&raw, CLUSTER).unwrap();
    let rows = [
        ("open and shown", "Open", vec![view("a", None)], true),
        ("answered", "Open", vec![view("a", Some(Resolution::Retry))], true),
        ("not shown", "Open", vec![], false),
        ("another one is shown", "Open", vec![view("b", None)], false),
        ("closed before", "Retry", vec![view("a", Some(Resolution::Retry))], false),
    ];
    for (what, state, views, may) in rows {
        let task = json!({"name": "a", "type": "FailedOperation", "department": "Operations", "state": state});
        let before = status(json!({"observedGeneration": 1, "phase": "Deleting", "manualTasks": [task]}));
        let mut facts = down();
        facts.forsaken = Some(Forsaken::HandlerMissing);
        facts.tasks = views;
        let decided = decide(&order, &handler(|_| ()), &facts, now(), &before);
        let nobody = ready(&decided.status).1.contains("make the handler again");
        assert_eq!(!nobody, may, "{what}: {decided:?}");
    }
}
