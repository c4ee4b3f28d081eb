//! One decision at a time: what a status is taken for as it stands, whoever wrote it, and what one pass remembers.

use dci_operator::api::DedicatedServerOrder;
use dci_operator::api::order::OrderStatus;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::error::Outcome;
use dci_operator::panel::model::{Family, Parts, PowerFlags, ServerFlags, ServerForm, ServerId, ServerRow, UserId};
use dci_operator::provisioning::attempts::intent_of;
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::context::Next;
use dci_operator::provisioning::decide::{Decision, decide};
use dci_operator::provisioning::facts::{Facts, HandlerState, Inventory, Look, Seen, TaskView};
use dci_operator::provisioning::marker::Marker;
use dci_operator::provisioning::order::Order;
use dci_operator::provisioning::step::Step;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::later;
use crate::support::panel::refused;
use crate::support::world::{CLUSTER, handler, order};

const BEFORE: &str = "2026-01-01T23:00:00Z";
const SOON: &str = "2026-01-02T00:03:00Z";
/// The steps before an order has something to do with its server.
const TAKEN: [Step; 2] = [Step::CreateClient, Step::Allocate];

fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

/// The order `web` with this in its spec.
fn wanted(deleting: bool, spec: &Value) -> DedicatedServerOrder {
    order("web", "u-web", |raw| {
        raw["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        if deleting {
            raw["metadata"]["deletionTimestamp"] = json!(BEFORE);
        }
    })
}

fn parsed(raw: &DedicatedServerOrder) -> Order {
    let deleting = raw.metadata.deletion_timestamp.is_some();
    if deleting { Order::for_closing(raw, CLUSTER) } else { Order::parse(raw, CLUSTER) }.unwrap()
}

/// A status with server 1 in which these steps are done.
fn status(deleting: bool, done: &[Step], more: &Value) -> Value {
    let steps: Vec<Value> = done.iter().map(|step| json!({"name": step.as_str(), "state": "Done"})).collect();
    let mut status = json!({
        "observedGeneration": 1, "phase": if deleting { "Deleting" } else { "Preparing" }, "handler": "hosting/msk-1", "steps": steps,
        "server": {
            "id": "1", "name": "R1-1", "handler": "hosting/msk-1", "panel": "dci.example.net:1500/dcimgr", "configuration": "E3-16G",
            "client": "acme",
        },
    });
    status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    status
}

fn decided(raw: &DedicatedServerOrder, status: &Value, change: impl FnOnce(&mut Facts)) -> Decision {
    let status: OrderStatus = serde_json::from_value(status.clone()).unwrap();
    let mut facts = Facts::new(HandlerState::Ready, "op-1".into());
    facts.login = "k8s-admin".into();
    change(&mut facts);
    decide(&parsed(raw), &handler(|_| ()), &facts, now(), &status)
}

/// A step that has nothing to do is named neither to people nor to a department; one that has begun is, and one that has something left.
#[test]
fn what_fails_is_told_of_the_step_at_hand() {
    let custom = json!({"configuration": {"custom": {"memoryGiB": 64}}});
    let recipes = json!({"recipes": ["nginx"]});
    let licenses = json!({"licenses": [{"product": "Lite"}]});
    let bought = json!({"licenses": [{"product": "Lite", "id": "7", "handler": "hosting/isp"}]});
    let installed = [&TAKEN[..], &[Step::PowerOn, Step::ChangeAddress, Step::InstallOS]].concat();
    let ran = [&installed[..], &[Step::RunRecipes]].concat();
    let begun = |step: &str, attempts: i32| {
        let done = json!({"name": "CreateClient", "state": "Done", "attempts": 1});
        json!({"steps": [done, {"name": "Allocate", "state": "Done"}, {"name": step, "state": "Pending", "attempts": attempts}]})
    };
    let asked = json!({"inFlight": {
        "operationId": "op-0", "step": "Assemble", "call": "none", "target": "server/1", "attempt": 1, "since": BEFORE, "outcome": "Sent",
    }});
    let mut running = status(false, &installed, &json!({}));
    running["server"]["runningRecipe"] = json!("nginx");
    let mut returning = status(false, &[], &bought);
    returning["server"]["returning"] = json!({"reason": "InstallFailed", "then": "TryAnother", "since": BEFORE});
    let none = json!({});
    for (what, deleting, spec, status, expected) in [
        ("nothing is built of what is ready", false, &none, status(false, &TAKEN, &none), "PowerOn"),
        ("it is listed, and has not begun", false, &none, status(false, &[], &begun("Assemble", 0)), "PowerOn"),
        ("it has begun", false, &none, status(false, &[], &begun("Assemble", 2)), "Assemble"),
        ("something was asked for", false, &none, status(false, &TAKEN, &asked), "Assemble"),
        ("a department builds", false, &custom, status(false, &TAKEN, &none), "Assemble"),
        ("no recipe", false, &licenses, status(false, &installed, &none), "IssueLicenses"),
        ("a recipe", false, &recipes, status(false, &installed, &none), "RunRecipes"),
        ("a recipe that is not wanted any more runs", false, &none, running, "RunRecipes"),
        ("no licence", false, &none, status(false, &ran, &none), "HandOver"),
        ("a licence", false, &licenses, status(false, &ran, &none), "IssueLicenses"),
        ("a licence that is not wanted any more", false, &none, status(false, &ran, &bought), "IssueLicenses"),
        ("the order goes, and has a licence", true, &none, status(true, &[], &bought), "RevokeLicenses"),
        ("the order goes, and has none", true, &none, status(true, &[], &none), "PowerOff"),
        ("the order keeps its licences for the next server", false, &none, returning, "PowerOff"),
    ] {
        let decision = decided(&wanted(deleting, spec), &status, |facts| facts.failed = Some(refused("value", "server")));
        let told = decision.status.last_error.map(|e| e.step).unwrap_or_default();
        assert_eq!(told, expected, "{what}");
    }
}

/// A status in which this step has failed twice.
fn failed(raw: &DedicatedServerOrder, step: Step, server: bool, waits: (&str, &str)) -> Value {
    let server_id = Some("1").filter(|_| !matches!(step, Step::CreateClient | Step::Allocate));
    let intent = intent_of(&parsed(raw), step, server_id);
    let name = step.as_str();
    let mut status = status(
        raw.metadata.deletion_timestamp.is_some(),
        &[],
        &json!({
            "attempts": 2, "nextRetryTime": SOON,
            "attemptsFor": {"step": name, "intent": intent, "call": "c", "target": "server/1", "since": BEFORE, "last": BEFORE},
            "lastError": {"step": name, "code": "busy", "message": "m", "retryable": true, "time": BEFORE},
            "waitingOn": {"kind": waits.0, "name": waits.1, "since": BEFORE, "message": "m"},
        }),
    );
    if !server {
        status.as_object_mut().unwrap().remove("server");
    }
    status
}

fn unreachable(facts: &mut Facts) {
    (facts.forced, facts.restarted) = (true, true);
    facts.handler = HandlerState::NotReady("it is down".into());
}

/// The process is new, which is no reason to try again; what the order does not do any more is another matter.
#[test]
fn a_back_off_is_kept_for_as_long_as_the_order_does_what_failed() {
    for (deleting, step, server, kept) in [
        (false, Step::Allocate, false, true),
        // The server is what it is to find.
        (false, Step::Allocate, true, true),
        (false, Step::InstallOS, true, true),
        (false, Step::Suspend, true, true),
        (false, Step::PowerOff, true, false),
        (true, Step::PowerOff, true, true),
        (true, Step::InstallOS, true, false),
        (true, Step::InstallOS, false, false),
        // A claim is undone under its own name.
        (true, Step::Allocate, false, true),
        (true, Step::Allocate, true, false),
        // What is settled before the server goes is no reason to wait; what goes on with it is.
        (true, Step::StopPower, true, false),
        (true, Step::SetPassword, true, false),
        (true, Step::Resume, true, true),
    ] {
        let raw = wanted(deleting, &json!({}));
        let found = failed(&raw, step, server, ("Retry", step.as_str()));
        let decision = decided(&raw, &found, unreachable);
        assert_eq!(decision.status.attempts, 2 * i32::from(kept), "{deleting} {step:?} {server}");
        assert_eq!(decision.next == Next::Wait(Some(SOON.parse().unwrap())), kept, "{deleting} {step:?} {server}");
    }
}

#[test]
fn a_back_off_is_kept_only_where_this_step_is_what_waits_for_its_time() {
    let raw = wanted(false, &json!({}));
    for (kind, name, kept) in [("Retry", "InstallOS", true), ("Retry", "ChangeAddress", false), ("Panel", "InstallOS", false)] {
        let decision = decided(&raw, &failed(&raw, Step::InstallOS, true, (kind, name)), unreachable);
        assert_eq!(decision.next == Next::Wait(Some(SOON.parse().unwrap())), kept, "{kind} {name}");
        assert_eq!(decision.status.attempts, 2, "{kind} {name}");
    }
}

/// How the server was left is told by the step that failed; what another step said, or nobody would repeat, is of the past.
#[test]
fn a_spec_that_asks_for_something_else_keeps_what_tells_how_the_server_was_left() {
    let raw = wanted(false, &json!({}));
    for (step, retryable, kept) in
        [("InstallOS", true, true), ("InstallOS", false, false), ("PowerOn", true, false), ("PowerOn", false, false)]
    {
        let mut found = failed(&raw, Step::InstallOS, true, ("Handler", "hosting/msk-1"));
        found["attemptsFor"]["intent"] = json!("of another template");
        found["lastError"]["step"] = json!(step);
        found["lastError"]["retryable"] = json!(retryable);
        let after = decided(&raw, &found, unreachable).status;
        assert_eq!((after.attempts, after.attempts_for, after.last_error.is_some()), (0, None, kept), "{step} {retryable}");
        // Nobody was asked: what else was waited for has been waited for since then.
        let since = after.waiting_on.map(|w| w.since.0);
        assert_eq!(since, Some(BEFORE.parse().unwrap()), "{step} {retryable}");
    }
}

/// A department's task of this number, and what it was answered.
fn task(type_: TaskType, number: usize, resolution: Option<Resolution>) -> TaskView {
    let name = format!("{}-u-web-{number}", type_.as_str().to_lowercase());
    let closed_at = resolution.map(|_| now());
    TaskView { name, type_, resolution, closed_at, note: String::new(), made: None, earlier: false }
}

fn inventory(power: PowerFlags) -> Inventory {
    let row = ServerRow {
        id: ServerId("1".into()),
        name: "R1-1".into(),
        hostname: "web.example.net".into(),
        main_address: None,
        mac: None,
        owner: None,
        types: Vec::new(),
        names: Vec::new(),
        power,
        flags: ServerFlags::default(),
        install: None,
        description: String::new(),
    };
    Inventory { rows: [("1".to_owned(), row)].into(), began: now(), ..Inventory::default() }
}

/// A panel that shows an error cannot tell: whoever says that he has switched the server off is believed, where it is taken back. Its task
/// is the next one of its type, whatever else was asked and whatever the status has forgotten.
#[test]
fn done_of_a_server_that_is_to_be_off_is_believed_where_the_panel_cannot_tell() {
    let power = |on, off, error| PowerFlags { on, off, error };
    for (step, power, shown) in [
        (Step::PowerOff, power(false, true, false), None),
        (Step::PowerOff, power(false, false, true), None),
        (Step::PowerOff, power(false, false, false), Some("neither on nor off")),
        (Step::PowerOff, power(true, false, true), Some("1 on, with a power error")),
        (Step::PowerOff, power(true, true, false), Some("both on and off")),
        (Step::StopPower, power(false, true, false), None),
        // The client's server goes on to be his: nothing shows that it is off.
        (Step::StopPower, power(false, false, true), Some("neither on nor off, with a power error")),
    ] {
        let what = format!("{step:?} {power:?}");
        let raw = wanted(step == Step::PowerOff, &json!({"suspended": step == Step::StopPower}));
        let mut found = failed(&raw, step, true, ("Department", "failedoperation-u-web-1"));
        found["attemptsFor"]["doneAt"] = json!(BEFORE);
        let decision = decided(&raw, &found, |facts| {
            facts.inventory = Some(inventory(power).into());
            facts.tasks =
                vec![task(TaskType::FailedOperation, 4, Some(Resolution::Done)), task(TaskType::StopServer, 9, Some(Resolution::Done))];
        });
        match (decision.next, shown) {
            (Next::Raise(task), Some(shown)) => {
                assert_eq!(task.name, "failedoperation-u-web-5", "{what}");
                assert!(task.details.contains(shown), "{what}: {}", task.details);
            }
            (Next::Raise(task), None) => panic!("{what}: {}", task.details),
            (next, Some(_)) => panic!("{what}: {next:?}"),
            (_, None) => assert_eq!(decision.status.attempts_for, None, "{what}: it is found to be done"),
        }
    }
}

/// What was under way when a person took over is his to judge. Nothing but the intent leads back to half a marker, and what is asked for
/// beside it was not what he was asked about.
#[test]
fn done_of_a_step_forgets_its_intent_and_no_other() {
    for (deleting, step, in_flight, call, kept) in [
        (false, Step::PowerOn, "PowerOn", "powerOn", false),
        (false, Step::PowerOn, "IssueLicenses", "renewLicense", true),
        (false, Step::Allocate, "Allocate", "claim", false),
        (false, Step::Allocate, "Allocate", "unclaim", true),
        (false, Step::Allocate, "Allocate", "unmark", true),
        (true, Step::Allocate, "Allocate", "claim", true),
    ] {
        let what = format!("{deleting} {step:?} {call}");
        let raw = wanted(deleting, &json!({}));
        let mut found = failed(&raw, step, step == Step::PowerOn, ("Department", "failedoperation-u-web-1"));
        found["inFlight"] = json!({
            "operationId": "op-0", "step": in_flight, "call": call, "target": "server/1", "attempt": 1, "since": BEFORE,
            "outcome": "Ambiguous",
        });
        let asked = json!({
            "name": "failedoperation-u-web-1", "type": "FailedOperation", "department": "Operations", "state": "Open", "openedAt": BEFORE,
            "deadline": SOON,
        });
        found["manualTasks"] = json!([asked]);
        let waiting = decided(&raw, &found, |facts| facts.tasks = vec![task(TaskType::FailedOperation, 1, None)]);
        assert_eq!(waiting.next, Next::Wait(Some(SOON.parse().unwrap())), "{what}: it is looked at when the task is due");
        let decision = decided(&raw, &found, |facts| facts.tasks = vec![task(TaskType::FailedOperation, 1, Some(Resolution::Done))]);
        assert_eq!(decision.status.manual_tasks[0].state, "Done", "{what}");
        assert_eq!(decision.status.in_flight.is_some(), kept, "{what}");
        if step == Step::PowerOn {
            // The list that is read next may have been begun before the answer.
            let until = later(now(), 2 * handler(|_| ()).poll);
            assert_eq!(decision.next, Next::Wait(Some(until)), "{what}");
        }
    }
}

#[test]
fn what_is_waited_for_is_waited_for_since_it_was_first() {
    let raw = wanted(false, &json!({}));
    for (kind, name, since) in [
        ("Handler", "hosting/msk-1", BEFORE),
        ("Handler", "hosting/other", "2026-01-02T00:00:00Z"),
        ("Panel", "hosting/msk-1", "2026-01-02T00:00:00Z"),
    ] {
        let waits = json!({"waitingOn": {"kind": kind, "name": name, "since": BEFORE, "message": "m"}});
        let after = decided(&raw, &status(false, &TAKEN, &waits), unreachable).status.waiting_on.unwrap();
        assert_eq!((after.kind.as_str(), after.name.as_str()), ("Handler", "hosting/msk-1"));
        assert_eq!(after.since.0, since.parse().unwrap(), "{kind} {name}");
    }
}

/// It is read once in a pass, for the first change of the server or of its addresses that is asked for, whatever becomes of that.
#[test]
fn a_marker_counts_as_read_for_the_server_whose_change_was_asked_for() {
    let server = || ServerId("1".into());
    let taken =
        Call::TakeAddress { family: Family::Ipv4, group: "public".into(), domain: "web.example.net".into(), note: "k8s:u-web".into() };
    let marker = Marker { cluster: CLUSTER.into(), namespace: "shop".into(), name: "web".into(), order_id: "u-web".into() };
    for (call, of_it, of_another) in [
        (Call::PowerOn { server: server() }, true, false),
        (taken, true, true),
        (Call::GiveBack { address: "203.0.113.1".parse().unwrap() }, true, true),
        (Call::CreateUser { username: "acme".into() }, false, false),
        // It is written by that, and not read.
        (Call::Claim { server: server(), owner: UserId("1".into()), marker }, false, false),
    ] {
        for outcome in [Outcome::Applied(None), Outcome::Refused(refused("busy", "x"))] {
            let mut facts = Facts::new(HandlerState::Ready, "op-1".into());
            let what = format!("{call:?}, {outcome:?}");
            facts.after(&call, outcome, now());
            assert_eq!((facts.verified(&server()), facts.verified(&ServerId("2".into()))), (of_it, of_another), "{what}");
        }
    }
}

#[test]
fn notes_that_were_changed_since_the_list_are_seen_when_the_form_is_read() {
    let ours = "k8s:cluster-1/shop/web/u-web";
    for (notes, changed) in
        [(ours.to_owned(), false), (format!("rack 4 {ours}"), false), (String::new(), true), (format!("{ours} {ours}"), true)]
    {
        let mut facts = Facts::new(HandlerState::Ready, "op-1".into());
        let mut listed = inventory(PowerFlags { on: true, off: false, error: false });
        listed.markers.insert("1".into(), Marker::parse(ours).into_iter().collect());
        facts.inventory = Some(listed.into());
        let form = ServerForm { owner: None, notes: notes.clone(), hostname: None, disabled: false, parts: Parts::default() };
        facts.forms.insert("1".into(), Seen::There(form));
        let look = Look::Form(ServerId("1".into()));
        assert_eq!(facts.noted_otherwise(&look).is_some(), changed, "{notes}");
    }
}

#[test]
fn a_task_that_is_raised_once_more_is_shown_once_and_hides_no_other() {
    let mut facts = Facts::new(HandlerState::Ready, "op-1".into());
    let (first, second) = (TaskType::FailedOperation, TaskType::StopServer);
    for task in [task(first, 1, None), task(second, 1, None), task(first, 1, Some(Resolution::Done))] {
        facts.raised(task);
    }
    assert_eq!(facts.tasks, [task(second, 1, None), task(first, 1, Some(Resolution::Done))]);
}

#[test]
fn our_word_goes_from_a_note_and_leaves_what_else_stands_there() {
    let marker = Marker { cluster: CLUSTER.into(), namespace: "shop".into(), name: "web".into(), order_id: "u-web".into() };
    for (note, left) in [("k8s:u-web", ""), ("rack 4 k8s:u-web spare", "rack 4 spare"), ("k8s:u-web-2", "k8s:u-web-2")] {
        assert_eq!(marker.without_short(note), left, "{note}");
    }
}
