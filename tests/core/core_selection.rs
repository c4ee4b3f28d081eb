//! Selection among several handlers, table by table.

use std::sync::Arc;
use std::time::Duration;

use crate::support::look::{reason, until_reason};
use crate::support::world::{Fault, World};
use dci_operator::api::DedicatedServerOrder;
use dci_operator::api::common::ObjectKey;
use dci_operator::api::handler::HandlerSpec;
use dci_operator::api::handler::IpmiErrorPolicy;
use dci_operator::api::order::OrderStatus;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::{FREE_DOMAIN, PowerFlags, ServerFlags, ServerRow};
use dci_operator::provisioning::attempts::intent_of;
use dci_operator::provisioning::context::Next;
use dci_operator::provisioning::decide::{Decision, decide};
use dci_operator::provisioning::facts::{Facts, HandlerState, Inventory, Look};
use dci_operator::provisioning::hardware::Hardware;
use dci_operator::provisioning::marker::Marker;
use dci_operator::provisioning::order::{Handler, Order};
use dci_operator::provisioning::reason::Reason;
use dci_operator::provisioning::selection::{
    Candidate, PassedOver, another, builds, ended_without, exhausted, found, has_own, looked_through, may_have_been_restored, moved,
    not_looked_through, notes, passes_over, sort,
};
use dci_operator::provisioning::step::Step;
use jiff::Timestamp;
use serde_json::{Value, json};

fn order(change: impl FnOnce(&mut Value)) -> Order {
    let mut raw = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrder",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-web", "generation": 1},
        "spec": {
            "handlerSelector": {"namespace": "hosting", "matchLabels": {"zone": "msk"}}, "client": {"username": "acme"},
            "configuration": {"serverType": "E3"}, "domain": "a.example", "operatingSystem": {"template": "T"},
        },
    });
    change(&mut raw);
    Order::parse(&serde_json::from_value::<DedicatedServerOrder>(raw).unwrap(), "c").unwrap()
}

fn status(value: Value) -> OrderStatus {
    serde_json::from_value(value).unwrap()
}

fn tried(handler: &str, id: &str) -> OrderStatus {
    let server = json!({"panel": handler, "handler": format!("hosting/{handler}"), "id": id, "reason": "OperationFailed",
        "time": "2026-01-01T00:00:00Z"});
    status(json!({"triedServers": [server]}))
}

fn row(id: &str) -> ServerRow {
    ServerRow {
        id: id.into(),
        name: String::new(),
        hostname: FREE_DOMAIN.into(),
        main_address: None,
        mac: None,
        owner: None,
        types: vec!["E3".into()],
        names: vec!["E3".into()],
        power: PowerFlags::default(),
        flags: ServerFlags::default(),
        description: String::new(),
        install: None,
    }
}

/// One handler as the process holds it.
struct One {
    key: ObjectKey,
    pool: ObjectKey,
    state: HandlerState,
    policy: Handler,
    inventory: Inventory,
    priority: i32,
}

fn one(name: &str, priority: i32, pool: &str, servers: &[&str]) -> One {
    let spec: HandlerSpec = serde_json::from_value(json!({
        "module": "DCImanager5", "connection": {"url": "https://dci:1500/dcimgr", "credentialsSecretRef": {"name": "dci"}},
        "ipManagement": {"ipManagerRef": {"name": pool}},
        "departments": {"assembly": {"name": "A"}, "procurement": {"name": "P"}},
    }))
    .unwrap();
    let key = ObjectKey { namespace: "hosting".into(), name: name.into() };
    One {
        policy: Handler::new(key.clone(), &spec, name.into()),
        key,
        pool: ObjectKey { namespace: "hosting".into(), name: pool.into() },
        state: HandlerState::Ready,
        inventory: Inventory {
            rows: servers.iter().map(|id| ((*id).to_owned(), row(id))).collect(),
            owners: ["acme".to_owned(), "op".to_owned()].into(),
            former: Some(["root".to_owned()].into()),
            ..Inventory::default()
        },
        priority,
    }
}

impl One {
    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            key: &self.key,
            priority: self.priority,
            pool: Some(&self.pool),
            allowed: true,
            going: false,
            state: &self.state,
            policy: Some(&self.policy),
            login: "op",
            inventory: Some(&self.inventory),
        }
    }
}

fn sorted(handlers: &[One], status: &OrderStatus) -> Vec<String> {
    let mut row: Vec<Candidate<'_>> = handlers.iter().map(One::candidate).collect();
    sort(&mut row, status);
    row.iter().map(|c| c.key.name.clone()).collect()
}

#[test]
fn labels_and_namespace_select() {
    let selector = order(|_| ()).selector.unwrap();
    let key = |namespace: &str| ObjectKey { namespace: namespace.into(), name: "h".into() };
    let labels = |text: &str| text.split_whitespace().filter_map(|p| p.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
    for (namespace, given, expected) in [
        ("hosting", "zone=msk", true),
        ("hosting", "zone=msk a=b", true),
        ("hosting", "zone=spb", false),
        ("hosting", "", false),
        ("other", "zone=msk", false),
    ] {
        assert_eq!(selector.selects(&key(namespace), &labels(given)), expected, "{namespace} {given}");
    }
    let own = order(|raw| raw["spec"]["handlerSelector"] = json!({})).selector.unwrap();
    assert!(own.selects(&key("shop"), &labels("")) && !own.selects(&key("hosting"), &labels("")), "no label is no condition");
}

#[test]
fn priority_then_name_and_after_a_failure_the_same_address_manager_first() {
    let handlers = [one("d", 20, "two", &[]), one("b", 10, "one", &[]), one("a", 10, "two", &[]), one("c", 30, "one", &[])];
    let rows = [
        (OrderStatus::default(), ["a", "b", "d", "c"]),
        (tried("b", "1"), ["c", "a", "d", "b"]),
        (tried("a", "1"), ["d", "b", "c", "a"]),
        (tried("gone", "1"), ["a", "b", "d", "c"]),
    ];
    for (status, expected) in rows {
        assert_eq!(sorted(&handlers, &status), expected, "{:?}", status.tried_servers);
    }
}

#[test]
fn each_handler_is_passed_over_for_a_reason() {
    let order = order(|_| ());
    let known = OrderStatus::default();
    let reason = |one: &One, status: &OrderStatus| passes_over(&order, status, &one.candidate()).map(|p| p.reason);
    let free = one("h", 1, "p", &["7"]);
    assert_eq!(reason(&free, &known), None);
    assert_eq!(reason(&free, &tried("h", "7")), Some(Reason::WaitingForCapacity), "its only server was given back");
    assert_eq!(reason(&free, &tried("other", "7")), None, "the same id at another panel is another server");
    assert_eq!(reason(&one("h", 1, "p", &[]), &known), Some(Reason::WaitingForCapacity));
    let down = One { state: HandlerState::NotReady("down".into()), ..one("h", 1, "p", &["7"]) };
    assert_eq!(reason(&down, &known), Some(Reason::HandlerNotReady));
    let suspended = One { state: HandlerState::Suspended, ..one("h", 1, "p", &["7"]) };
    assert_eq!(reason(&suspended, &known), Some(Reason::HandlerSuspended));
    for spoilt in [
        Candidate { going: true, ..free.candidate() },
        Candidate { policy: None, ..free.candidate() },
        Candidate { inventory: None, ..free.candidate() },
    ] {
        assert_eq!(passes_over(&order, &known, &spoilt).map(|p| p.reason), Some(Reason::HandlerNotReady));
    }
    let strict = |one: One| One { policy: Handler { ipmi: IpmiErrorPolicy::CreateTask, ..one.policy.clone() }, ..one };
    let mut broken = one("h", 1, "p", &["7"]);
    broken.inventory.rows.get_mut("7").unwrap().power.error = true;
    assert_eq!(reason(&broken, &known), None);
    assert_eq!(reason(&strict(broken), &known), Some(Reason::WaitingForCapacity));
}

#[test]
fn a_composed_configuration_is_served_where_it_fits_and_else_built_at_one_handler() {
    let order = order(|raw| raw["spec"]["configuration"] = json!({"custom": {"memoryGiB": 64}}));
    let known = OrderStatus::default();
    let with = |name: &str, parts: Option<&str>| {
        let mut one = one(name, 1, "p", &["7"]);
        one.inventory.hardware = parts.iter().map(|text| ("7".to_owned(), Hardware::parse(text))).collect();
        one
    };
    let reason = |one: &One| passes_over(&order, &known, &one.candidate()).map(|p| p.reason);
    let (small, fits, unread) = (with("a", Some("E3-16Gb")), with("b", Some("E3-64Gb")), with("c", None));
    assert_eq!(reason(&small), Some(Reason::WaitingForCapacity));
    assert_eq!((reason(&fits), reason(&unread)), (None, None), "what was not read yet may fit");
    let legacy = with("d", Some("E3-64Gb"));
    let legacy = One { policy: Handler { by_server_type: true, ..legacy.policy.clone() }, ..legacy };
    assert_eq!(reason(&legacy), Some(Reason::CustomConfigurationRefused));
    // Nobody has a server that fits: one handler's department builds it, the one that was asked before.
    let (other, down) = (with("e", Some("E3-32Gb")), with("0", None));
    let down = One { state: HandlerState::NotReady("down".into()), ..down };
    let all = [down.candidate(), legacy.candidate(), small.candidate(), other.candidate()];
    let passed: Vec<PassedOver> = all.iter().filter_map(|c| passes_over(&order, &known, c)).collect();
    assert_eq!(builds(&order, &known, &all, &passed), Some(&small.key));
    let looked = status(json!({"handler": "hosting/e"}));
    assert_eq!(builds(&order, &looked, &all, &passed), Some(&small.key), "it was only looked at");
    let task = json!({"name": "assembly-1", "type": "Assembly", "department": "A", "state": "Open"});
    let asked = status(json!({"handler": "hosting/e", "manualTasks": [task]}));
    assert_eq!(builds(&order, &asked, &all, &passed), Some(&other.key));
    assert_eq!(builds(&order, &known, &all[..2], &passed), None, "one that is down or refuses builds nothing");
    let ready = self::order(|_| ());
    assert_eq!(builds(&ready, &known, &all, &passed), None, "a ready configuration is waited for");
}

/// After a restart no handler's forms are read at first: that is no reason to call off what a department builds at another one.
#[test]
fn what_was_not_read_yet_calls_nobody_off_who_builds_at_another_handler() {
    let order = order(|raw| raw["spec"]["configuration"] = json!({"custom": {"memoryGiB": 64}}));
    let mut other = one("b", 1, "p", &["7"]);
    let task = |type_: &str, state: &str| json!({"name": "t-1", "type": type_, "department": "A", "state": state});
    let at = |handler: &str, task: Value| status(json!({"handler": handler, "manualTasks": [task]}));
    let reason = |one: &One, status: &OrderStatus| passes_over(&order, status, &one.candidate()).map(|p| p.reason);
    for type_ in ["Assembly", "Procurement"] {
        assert_eq!(reason(&other, &at("hosting/a", task(type_, "Open"))), Some(Reason::WaitingForCapacity), "{type_}");
        assert_eq!(reason(&other, &at("hosting/b", task(type_, "Open"))), None, "{type_}: its own forms are waited for");
        assert_eq!(reason(&other, &at("hosting/a", task(type_, "Superseded"))), None, "{type_}: nobody builds");
    }
    assert_eq!(reason(&other, &at("hosting/a", task("FailedOperation", "Open"))), None, "nobody builds");
    other.inventory.hardware = [("7".to_owned(), Hardware::parse("E3-64Gb"))].into();
    assert_eq!(reason(&other, &at("hosting/a", task("Assembly", "Open"))), None, "it has what is built");
}

#[test]
fn a_marker_of_ours_is_found_wherever_it_is() {
    let order = order(|_| ());
    let mut handler = one("h", 1, "p", &["7"]);
    let known = OrderStatus::default();
    assert!(!found(&order, &known, &handler.candidate()));
    let previous = Marker { order_id: "older".into(), ..order.marker.clone() };
    // Restored under another cluster id, or copied.
    let elsewhere = Marker { name: "other".into(), ..order.marker.clone() };
    let foreign = Marker { name: "other".into(), order_id: "another".into(), ..order.marker.clone() };
    // What a panel left of it is its own, too.
    let cut = Marker { order_id: "u-w".into(), ..order.marker.clone() };
    for (marker, expected, own) in
        [(&order.marker, true, true), (&cut, true, true), (&previous, true, false), (&elsewhere, true, false), (&foreign, false, false)]
    {
        handler.inventory.markers = [("7".to_owned(), vec![marker.clone()])].into();
        assert_eq!(found(&order, &known, &handler.candidate()), expected, "{marker}");
        assert_eq!(has_own(&order, &known, &handler.candidate()), own, "{marker}");
    }
    // Given back at midnight: what an older list shows of it is of the past, and nothing else is.
    let at = |second: i64| Timestamp::from_second("2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_second() + second).unwrap();
    for (marker, given_back, began, expected) in [
        (&order.marker, tried("h", "7"), at(-30), false),
        (&order.marker, tried("h", "7"), at(1), true),
        (&order.marker, tried("h", "8"), at(-30), true),
        (&order.marker, tried("other", "7"), at(-30), true),
        (&previous, tried("h", "7"), at(-30), true),
        (&elsewhere, tried("h", "7"), at(-30), true),
    ] {
        handler.inventory.markers = [("7".to_owned(), vec![marker.clone()])].into();
        handler.inventory.began = began;
        assert_eq!(found(&order, &given_back, &handler.candidate()), expected, "{marker}, {began}");
        let own = expected && *marker == order.marker;
        assert_eq!(has_own(&order, &given_back, &handler.candidate()), own, "{marker}, {began}");
    }
}

/// What failed, was cancelled or was done by hand at one handler, when the next one looks at the order.
#[test]
fn what_was_counted_at_another_handler_is_not_held_against_this_one() {
    let selects = order(|_| ());
    let names = order(|raw| {
        raw["spec"]["handlerSelector"] = Value::Null;
        raw["spec"]["handlerRef"] = json!({"name": "b", "namespace": "hosting"});
        raw["metadata"]["generation"] = json!(2);
    });
    let handler = one("b", 1, "p", &["7"]);
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    let mut facts = Facts::new(HandlerState::Ready, "op".into());
    // The list began when the department had answered.
    facts.inventory = Some(Arc::new(Inventory { began: now, ..handler.inventory.clone() }));
    (facts.login, facts.forced, facts.restarted) = ("op".into(), true, true);
    let cancelled = json!({"code": "TaskCancelled", "retryable": false});
    let waits = json!({
        "waitingOn": {"kind": "Retry", "name": "Allocate", "since": "2026-01-01T00:00:00Z", "message": "attempt 2 of 10 failed"},
        "nextRetryTime": "2026-01-02T00:05:00Z",
    });
    let done = json!({"attemptsFor": {"doneAt": "2026-01-01T00:00:00Z"}});
    for (what, order, step, more, kept) in [
        ("cancelled", &names, Step::Allocate, json!({"lastError": cancelled}), false),
        ("backing off", &names, Step::Allocate, waits.clone(), false),
        ("backing off, selected", &selects, Step::Allocate, waits, false),
        ("the client was made by hand", &names, Step::CreateClient, done.clone(), false),
        // There may be a server with our marker: whoever says so is asked about it.
        ("a server was given by hand", &names, Step::Allocate, done.clone(), true),
        ("a server was given by hand, selected", &selects, Step::Allocate, done, true),
        // Nobody but the selection has named this handler.
        ("cancelled, selected", &selects, Step::Allocate, json!({"lastError": cancelled}), true),
    ] {
        let intent = intent_of(order, step, None);
        let mut value = json!({
            "observedGeneration": 1, "handler": "hosting/a", "attempts": 2,
            "lastError": {"step": step.as_str(), "code": "refused", "message": "no", "retryable": true, "time": "2026-01-01T00:00:00Z"},
            "attemptsFor": {
                "step": step.as_str(), "intent": intent, "call": "claim", "target": "server/7", "since": "2026-01-01T00:00:00Z",
            },
        });
        for (name, member) in more.as_object().unwrap() {
            if let (Some(known), Some(member)) = (value[name].as_object_mut(), member.as_object()) {
                known.extend(member.clone());
            } else {
                value[name] = member.clone();
            }
        }
        let Decision { status, next } = decide(order, &handler.policy, &facts, now, &status(value));
        assert_eq!(status.attempts_for.is_some(), kept, "{what}: {status:?}");
        let stays = what == "cancelled, selected";
        assert_eq!(next, if stays { Next::Wait(None) } else { Next::Look(Look::Users) }, "{what}");
        assert_eq!(status.handler.as_deref(), Some(if stays { "hosting/a" } else { "hosting/b" }), "{what}");
    }
}

/// The client names another handler when the department has cancelled what failed at the first one.
#[test]
fn a_handler_that_is_named_after_a_task_was_cancelled_serves_the_order() {
    let mut world = World::simple(2, 4);
    world.always = Some(("claim", Fault::Refused));
    world.until("a task", Duration::from_hours(12), |w| w.open_tasks() == [TaskType::FailedOperation]);
    world.resolve(TaskType::FailedOperation, Resolution::Cancelled);
    until_reason(&mut world, "TaskCancelled");
    world.run_for(Duration::from_hours(1));
    assert_eq!(reason(world.status("web")), "TaskCancelled", "it stays so at the handler that it was cancelled at");
    world.always = None;
    world.handler.key.name = "msk-2".into();
    world.edit("web", |raw| raw.spec.handler_ref.as_mut().unwrap().name = "msk-2".into());
    world.until_phase("web", "Active");
    let status = world.status("web");
    assert_eq!(status.server.as_ref().map(|s| s.handler.as_str()), Some("hosting/msk-2"), "{}", world.describe());
    assert_eq!((status.attempts, world.tasks.len()), (0, 1));
}

#[test]
fn a_handler_is_looked_through_when_every_server_that_may_be_ours_was_read() {
    let order = order(|raw| raw["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": "u-old"}));
    assert!(may_have_been_restored(&order));
    let mut handler = one("h", 1, "p", &["7"]);
    assert!(looked_through(&order, &handler.candidate()));
    assert!(!looked_through(&order, &Candidate { inventory: None, ..handler.candidate() }));
    for owner in ["acme", "op", "12", "root"] {
        handler.inventory.ids = [("acme".to_owned(), "12".to_owned())].into();
        handler.inventory.rows.get_mut("7").unwrap().owner = Some(owner.into());
        assert!(!looked_through(&order, &handler.candidate()), "{owner}");
    }
    handler.inventory.rows.get_mut("7").unwrap().owner = Some("bob".into());
    assert!(looked_through(&order, &handler.candidate()), "nobody is told what another client's servers carry");
    handler.inventory.rows.get_mut("7").unwrap().owner = Some("root".into());
    assert!(looked_through(&self::order(|_| ()), &handler.candidate()), "an earlier log-in matters to restored orders alone");
    handler.inventory.markers = [("7".to_owned(), Vec::new())].into();
    assert!(looked_through(&order, &handler.candidate()));
    handler.inventory.former = None;
    assert!(!looked_through(&order, &handler.candidate()), "nobody looked for an earlier log-in of the operator's");
    assert!(looked_through(&self::order(|_| ()), &handler.candidate()), "nor is that asked for where nothing was restored");
    handler.inventory.owners.remove("acme");
    assert!(!looked_through(&self::order(|_| ()), &handler.candidate()), "nobody looked for this client");
}

#[test]
fn another_handler_is_one_at_which_nothing_failed() {
    let order = order(|_| ());
    let at = |status: OrderStatus| OrderStatus {
        server: serde_json::from_value(json!({"id": "7", "handler": "hosting/a", "configuration": "E3"})).unwrap(),
        ..status
    };
    let handlers = [one("a", 1, "p", &["7", "8"]), one("b", 2, "p", &["9"])];
    let row: Vec<Candidate<'_>> = handlers.iter().map(One::candidate).collect();
    assert!(another(&order, &at(OrderStatus::default()), &row));
    assert!(!another(&order, &at(tried("b", "5")), &row), "something failed there before");
    assert!(!another(&order, &at(OrderStatus::default()), &row[..1]), "only its own");
    assert!(!another(&order, &at(OrderStatus::default()), &[Candidate { allowed: false, ..row[1] }]));
}

#[test]
fn when_all_were_passed_over_the_order_waits_and_says_why() {
    let order = order(|_| ());
    let over = |name: &str, reason| PassedOver {
        key: ObjectKey { namespace: "hosting".into(), name: name.into() },
        reason,
        message: format!("because of {name}"),
    };
    for (reasons, kind, told) in [
        (vec![Reason::HandlerNotReady, Reason::WaitingForCapacity], "Capacity", "WaitingForCapacity"),
        (vec![Reason::HandlerNotReady, Reason::LimitReached], "Capacity", "LimitReached"),
        (vec![Reason::HandlerNotReady], "Handler", "HandlerNotReady"),
        (vec![Reason::UnknownTemplate], "Handler", "UnknownTemplate"),
    ] {
        let passed: Vec<PassedOver> = reasons.iter().enumerate().map(|(n, r)| over(&format!("h{n}"), *r)).collect();
        let told_now = exhausted(&order, &passed, Timestamp::UNIX_EPOCH, &OrderStatus::default());
        assert_eq!((told_now.waiting_on.as_ref().unwrap().kind.as_str(), told_now.phase.as_deref()), (kind, Some("Pending")));
        let ready = dci_operator::api::condition::find(&told_now.conditions, dci_operator::api::condition::ConditionType::Ready).unwrap();
        assert!(ready.reason == told && ready.message.contains("h0: because of h0"), "{ready:?}");
        assert_eq!(told_now.handlers.len(), passed.len());
        assert!(told_now.next_retry_time.is_none(), "it is woken, nothing else");
    }
    let many: Vec<PassedOver> = (0..100).map(|n| over(&n.to_string(), Reason::HandlerNotReady)).collect();
    assert_eq!(notes(&many).len(), 32);
}

#[test]
fn a_department_that_builds_is_called_off_also_where_no_handler_can_serve_the_order() {
    let task = json!({"name": "assembly-1", "type": "Assembly", "department": "A", "state": "Open",
        "message": "Build a server with 64Gb for order shop/web"});
    let known = status(json!({"handler": "hosting/a", "manualTasks": [task]}));
    let custom = |gib: u32| order(|raw| raw["spec"]["configuration"] = json!({"custom": {"memoryGiB": gib}}));
    for (order, state) in [(custom(64), "Open"), (custom(6), "Superseded"), (order(|_| ()), "Superseded")] {
        let over = PassedOver {
            key: ObjectKey { namespace: "hosting".into(), name: "a".into() },
            reason: Reason::HandlerNotReady,
            message: "down".into(),
        };
        let told = exhausted(&order, &[over], Timestamp::UNIX_EPOCH, &known);
        assert_eq!(told.manual_tasks[0].state, state, "{}", order.wanted);
    }
}

#[test]
fn a_restored_order_that_nobody_can_look_for_says_how_it_goes_on() {
    let message = |deleting: bool| {
        let order = order(|raw| {
            if deleting {
                raw["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
        });
        let told = not_looked_through(&order, Timestamp::UNIX_EPOCH, &OrderStatus::default());
        told.waiting_on.unwrap().message
    };
    assert!(message(false).ends_with("no other one is taken"), "{}", message(false));
    assert!(message(true).ends_with("remove the finalizer dci-operator.dev/release-server"), "{}", message(true));
}

#[test]
fn what_ends_at_one_handler_and_what_goes_on_to_the_next() {
    let key = ObjectKey { namespace: "hosting".into(), name: "h".into() };
    let with = |reason: &str, more: Value| {
        let mut value =
            json!({"conditions": [{"type": "Ready", "status": "False", "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        for (name, member) in more.as_object().unwrap() {
            value[name] = member.clone();
        }
        ended_without(&key, &status(value)).map(|p| p.reason)
    };
    let server = json!({"server": {"id": "1", "handler": "hosting/h", "configuration": "E3"}});
    assert_eq!(with("WaitingForCapacity", json!({})), Some(Reason::WaitingForCapacity));
    assert_eq!(with("LimitReached", json!({})), Some(Reason::LimitReached));
    assert_eq!(with("UnknownTemplate", json!({})), Some(Reason::UnknownTemplate));
    assert_eq!(with("LicenseServerNotReady", json!({})), Some(Reason::LicenseServerNotReady));
    assert_eq!(with("UnknownProduct", json!({})), Some(Reason::UnknownProduct));
    assert_eq!(with("MarkerTruncated", json!({})), Some(Reason::MarkerTruncated));
    assert_eq!(with("WaitingForCapacity", server), None, "an address is waited for at the handler that has the server");
    for own in ["WaitingForPanel", "PreviousServerFound", "SeveralServersFound", "ClientNameTaken", "Retrying", "AnswerLost"] {
        assert_eq!(with(own, json!({})), None, "{own}");
    }
}

#[test]
fn the_handler_is_fixed_as_the_spec_says_it() {
    let selects = order(|_| ());
    assert_eq!(moved(&selects, "hosting/any"), None);
    assert_eq!(moved(&selects, "other/any"), Some("handlerSelector"));
    let names = order(|raw| {
        raw["spec"]["handlerSelector"] = Value::Null;
        raw["spec"]["handlerRef"] = json!({"name": "h", "namespace": "hosting"});
    });
    assert_eq!(moved(&names, "hosting/h"), None);
    assert_eq!(moved(&names, "hosting/i"), Some("handlerRef"));
}
