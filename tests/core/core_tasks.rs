//! Failures and hand work: what attempts are counted for, the one task that follows, what each answer does, and who is asked.

use std::time::Duration;

use crate::support::look::made;
use crate::support::panel::{ADMIN, Ipmi, Panel, TEMPLATE};
use crate::support::seconds;
use crate::support::sweep::try_all;
use crate::support::world::{Fault, Task, World, WriteFault, handler, order};
use dci_operator::api::condition::{ConditionType, find};
use dci_operator::api::order::OrderStatus;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::UserId;
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::notices;
use dci_operator::provisioning::order::Handler;
use serde_json::json;

/// What the model panel's connection says when an answer is lost.
const LOST: &str = "dci: install: no answer: reset";
const OTHER: &str = "ISPsystem__Ubuntu-24.04-x86_64";

fn reason(status: &OrderStatus, type_: ConditionType) -> &str {
    find(&status.conditions, type_).map_or("", |c| c.reason.as_str())
}

fn asked(world: &World, name: &str) -> usize {
    world.asked.iter().filter(|(_, c)| c.name() == name).count()
}

fn open(world: &World) -> Vec<&Task> {
    world.tasks.iter().filter(|t| t.resolution.is_none()).collect()
}

fn until_task(world: &mut World) {
    world.until("a task", Duration::from_hours(24), |w| !open(w).is_empty());
}

fn until_retrying(world: &mut World, attempts: i32) {
    world.until("a back-off", Duration::from_hours(12), |w| {
        let status = w.status("web");
        reason(status, ConditionType::Ready) == "Retrying" && status.attempts == attempts
    });
}

/// An order whose installation has failed twice of three times, and which waits for the third.
fn failing() -> World {
    let mut world = World::simple(2, 8);
    world.panel.installs_that_fail = 99;
    until_retrying(&mut world, 2);
    world
}

#[test]
fn a_change_that_the_step_does_not_read_neither_counts_anew_nor_cuts_the_back_off() {
    let mut world = failing();
    let (before, installs) = (world.status("web").clone(), world.panel.servers["1"].installs);
    world.edit("web", |raw| raw.spec.client.email = Some("ops@acme.example".into()));
    world.run_for(seconds(30));
    let after = world.status("web").clone();
    assert_eq!((after.attempts, after.attempts_for.clone(), after.next_retry_time), (2, before.attempts_for, before.next_retry_time));
    assert_eq!((world.panel.servers["1"].installs, after.observed_generation), (installs, Some(2)), "seen, and not acted upon");
    until_task(&mut world);
    assert_eq!(world.panel.servers["1"].installs, 3);
}

#[test]
fn a_change_that_the_step_acts_upon_is_tried_at_once_and_counted_anew() {
    let mut world = failing();
    let before = world.status("web").attempts_for.clone().unwrap();
    world.edit("web", |raw| raw.spec.operating_system.template = OTHER.into());
    world.run_for(seconds(30));
    assert_eq!((world.panel.servers["1"].installs, world.status("web").attempts), (3, 0), "at once");
    until_retrying(&mut world, 1);
    let after = world.status("web").attempts_for.clone().unwrap();
    assert!(after.intent != before.intent && after.since > before.since && after.step == "InstallOS");
    until_task(&mut world);
    assert_eq!(world.panel.servers["1"].installs, 5, "three attempts of its own");
    // Before the department answers the client asks for something else: the task is closed, and a new count begins.
    world.edit("web", |raw| raw.spec.operating_system.template = TEMPLATE.into());
    world.run_for(seconds(30));
    assert!(open(&world).is_empty() && world.tasks[0].by_operator && world.tasks[0].resolution == Some(Resolution::Cancelled));
    assert_eq!(world.panel.servers["1"].installs, 6);
    world.panel.installs_that_fail = 0;
    world.until_phase("web", "Active");
    assert_eq!(world.status("web").attempts_for, None);
    world.assert_quiet();
}

#[test]
fn a_restart_forgets_neither_count_nor_back_off() {
    let mut world = failing();
    let (before, installs) = (world.status("web").clone(), world.panel.servers["1"].installs);
    for _ in 0..3 {
        world.restart();
        world.run_for(seconds(20));
    }
    let after = world.status("web");
    assert_eq!((after.attempts, after.next_retry_time, world.panel.servers["1"].installs), (2, before.next_retry_time, installs));
    until_task(&mut world);
    assert!(world.now >= before.next_retry_time.unwrap().0);
    assert_eq!(world.panel.servers["1"].installs, 3);
}

#[test]
fn the_task_says_what_was_tried_and_what_each_answer_does() {
    let mut world = failing();
    let first = world.status("web").attempts_for.as_ref().unwrap().since;
    until_task(&mut world);
    let last = world.status("web").last_error.as_ref().unwrap().time;
    let task = open(&world)[0].clone();
    assert_eq!((task.department.as_str(), task.summary.as_str()), ("Operations", "InstallOS of order shop/web failed 3 times"));
    let parts = [
        "Order shop/web (u-web), handler hosting/msk-1",
        "Step InstallOS, call install, target server/1",
        "Attempts: 3 (the handler allows 3)",
        &format!("the first failed at {first}, the last at {last}"),
        "Last error: InstallFailed: the panel reports that the installation failed",
        "Retry: the operator starts the step again and counts from zero",
        "Done: you have done it by hand",
        "Cancelled: ",
        "Abandon: ",
    ];
    for part in parts {
        assert!(task.details.contains(part), "{part} in\n{}", task.details);
    }
    assert!(first < last);
    // Deleted while it is needed: it comes back word for word.
    world.tasks.clear();
    world.run_for(seconds(60));
    assert_eq!((open(&world)[0].name.as_str(), open(&world)[0].details.as_str()), (task.name.as_str(), task.details.as_str()));
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    until_retrying(&mut world, 1);
    assert_eq!(world.panel.servers["1"].installs, 4, "counted from zero");
}

#[test]
fn answers_that_are_lost_are_counted_and_timed_like_any_failure_and_the_last_error_is_told() {
    for (faults, error, lost) in [
        ([Fault::LostNot; 3], Some(LOST), 3),
        ([Fault::CrashBefore; 3], None, 3),
        ([Fault::Refused, Fault::LostNot, Fault::LostNot], Some(LOST), 2),
        ([Fault::LostNot, Fault::CrashBefore, Fault::CrashBefore], Some(LOST), 3),
    ] {
        let mut world = World::simple(2, 8);
        let mut failed = Vec::new();
        for (n, fault) in faults.into_iter().enumerate() {
            world.always = Some(("install", fault));
            world.until("an attempt", Duration::from_hours(3), |w| asked(w, "install") == n + 1);
            failed.push(world.now);
        }
        until_task(&mut world);
        let (status, task) = (world.status("web"), open(&world)[0]);
        assert_eq!((asked(&world, "install"), status.attempts), (3, 3), "{faults:?}");
        assert_eq!(task.summary, "InstallOS of order shop/web failed 3 times", "{faults:?}");
        let counted = status.attempts_for.clone().unwrap();
        let (first, last) = (counted.since, counted.last.unwrap());
        // Each within seconds after it was asked for, and not when it was given up.
        for (told, was) in [(first, failed[0]), (last, failed[2])] {
            assert!(told.0.duration_since(was).abs() < jiff::SignedDuration::from_secs(90), "{faults:?}: {told} for {was}");
        }
        let times = format!("Attempts: 3 (the handler allows 3), the first failed at {first}, the last at {last}.");
        assert!(task.details.contains(&times) && first < last, "{faults:?}: {times} in\n{}", task.details);
        assert!(task.details.contains("Step InstallOS, call install, target server/1"), "{faults:?}\n{}", task.details);
        let told = error.map_or_else(
            || format!("AnswerLost: the answer to install was lost {lost} times"),
            |error| format!("AnswerLost: install was asked for {lost} times without an answer that says that it was done, and its effect never showed; the last: {error}"),
        );
        assert!(task.details.contains(&told), "{faults:?}: {told} in\n{}", task.details);
        world.always = None;
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        world.until_phase("web", "Active");
        assert_eq!((world.status("web").attempts, world.status("web").attempts_for.clone()), (0, None), "{faults:?}");
    }
}

/// A step that fails at this call, always.
fn stuck_at(call: &'static str, closing: bool) -> World {
    let mut world = World::new(Panel::new(2, 8), handler(|h| h["retry"]["maxAttempts"] = json!(2)));
    world.add(order("web", "u-web", |raw| raw["spec"]["addresses"] = json!({"ipv4": 2})));
    if closing {
        world.until_phase("web", "Active");
        world.delete("web");
    }
    world.always = Some((call, Fault::Refused));
    until_task(&mut world);
    world
}

#[test]
fn done_is_refused_politely_where_the_panel_does_not_agree_and_retry_goes_on() {
    for (call, closing, shows) in [
        ("createUser", false, "its list of users does not show acme"),
        ("powerOn", false, "its list shows server 1 off"),
        ("addAddress", false, "addAddress is still needed; the server's addresses are 203.0.113.1 (web.example.net)"),
        ("install", false, "its form names no system of server 1"),
        ("handOver", false, "the owner of server 1 is "),
        ("removeAddress", true, "removeAddress is still needed"),
        ("release", true, "the notes of server 1 still carry the order's marker"),
    ] {
        let mut world = stuck_at(call, closing);
        let (before, last) = (asked(&world, call), world.status("web").last_error.as_ref().unwrap().time);
        world.run_for(seconds(60));
        for number in 2..4 {
            world.resolve(TaskType::FailedOperation, Resolution::Done);
            world.until("a new task", Duration::from_hours(1), |w| !open(w).is_empty());
            let tasks = open(&world);
            assert_eq!(tasks.len(), 1, "{call}\n{}", world.describe());
            assert!(tasks[0].name.ends_with(&format!("-{number}")) && tasks[0].summary.contains("does not show that it is done"), "{call}");
            assert!(tasks[0].details.contains(shows), "{call}: {shows} in\n{}", tasks[0].details);
            assert!(tasks[0].details.contains("Attempts: 2 "), "{call}\n{}", tasks[0].details);
            // What was tried was tried when it was; the look at the panel is no attempt.
            let looked = world.status("web").last_error.as_ref().unwrap().time;
            assert!(tasks[0].details.contains(&format!("the last at {last}.")) && looked > last, "{call}\n{}", tasks[0].details);
            assert!(tasks[0].details.contains(&format!("Looked at since, at {looked}: the last task was closed as Done")), "{call}");
        }
        assert_eq!(asked(&world, call), before, "{call} was not asked for again");
        assert_eq!(world.status("web").phase.as_deref(), Some(if closing { "Deleting" } else { "AwaitingTask" }), "{call}");
        world.always = None;
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        world.until_phase("web", if closing { "gone" } else { "Active" });
        assert!(open(&world).is_empty(), "{call}");
    }
}

/// What a person does at the panel.
type ByHand = fn(&mut World);

#[test]
fn done_that_the_panel_shows_is_not_done_again() {
    let by_hand: [(&str, bool, ByHand); 6] = [
        ("powerOn", false, |w| w.panel.server("1").on = true),
        ("install", false, |w| w.panel.server("1").template = Some(TEMPLATE.into())),
        ("handOver", false, |w| {
            let acme = w.panel.user("acme").unwrap().id.clone();
            w.panel.server("1").owner = Some(acme);
        }),
        ("removeAddress", true, |w| {
            let main = w.panel.servers["1"].main;
            w.panel.server("1").rows.retain(|r| r.address == main);
        }),
        ("addAddress", false, |w| {
            let note = |u: &&dci_operator::panel::model::PoolAddress| u.group == "public" && u.note.contains("u-web");
            let main = w.panel.servers["1"].main;
            let spare = w.panel.used.iter().filter(note).find(|u| u.address != main).unwrap().address;
            let row = w.panel.servers["1"].rows[0].clone();
            let row = dci_operator::panel::model::AddressRow { row: "900".into(), address: spare, ..row };
            w.panel.server("1").rows.push(row);
        }),
        ("release", true, |w| {
            w.panel.server("1").owner = None;
            w.panel.server("1").notes.clear();
        }),
    ];
    for (call, closing, change) in by_hand {
        let mut world = stuck_at(call, closing);
        let before = asked(&world, call);
        change(&mut world);
        world.resolve(TaskType::FailedOperation, Resolution::Done);
        world.until_phase("web", if closing { "gone" } else { "Active" });
        assert_eq!((asked(&world, call), world.tasks.len()), (before, 1), "{call}\n{}", world.describe());
    }
}

/// The system may be there and its flag as well; a failed recipe alone leaves the flag for good.
#[test]
fn an_installation_is_not_done_while_the_panel_shows_that_it_failed() {
    let mut world = World::simple(1, 4);
    world.panel.installs_that_fail = 3;
    until_task(&mut world);
    world.panel.server("1").template = Some(TEMPLATE.into());
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until("a new task", Duration::from_hours(1), |w| !open(w).is_empty());
    assert!(open(&world)[0].details.contains("its list shows that an operation on server 1 failed"), "{}", open(&world)[0].details);
    world.panel.server("1").failed = false;
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until_phase("web", "Active");
    assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (3, 2));
}

/// A person installs the system at the panel, and says so.
fn install_by_hand(world: &mut World) {
    world.always = None;
    let install =
        Call::Install { server: "1".into(), template: TEMPLATE.into(), recipe: None, hostname: "web.example.net".into(), address: None };
    let now = world.now;
    world.panel.apply(&install, now, true).unwrap();
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until_phase("web", "Active");
}

#[test]
fn an_installation_that_a_person_started_is_followed() {
    let mut world = stuck_at("install", false);
    install_by_hand(&mut world);
    assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (1, 1));
}

/// On a panel that shows a failure until something has succeeded: that of before is not the person's.
#[test]
fn an_installation_that_a_person_started_has_not_failed_by_what_showed_before() {
    let mut world = World::new(Panel::new(1, 4), handler(|h| h["retry"]["maxAttempts"] = json!(1)));
    world.add(order("web", "u-web", |_| ()));
    (world.panel.failures_stay, world.panel.installs_that_fail) = (true, 1);
    until_task(&mut world);
    install_by_hand(&mut world);
    assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (2, 1), "{}", world.describe());
}

/// Days may pass before a person comes to it: the installation has its time from when it was found.
#[test]
fn an_installation_that_a_person_started_late_has_its_time() {
    let mut world = stuck_at("install", false);
    world.run_for(Duration::from_hours(5));
    install_by_hand(&mut world);
    let cancelled = world.asked.iter().filter(|(_, call)| call.name() == "cancelOperation").count();
    assert_eq!((world.panel.servers["1"].installs, world.tasks.len(), cancelled), (1, 1, 0), "{}", world.describe());
}

#[test]
fn done_of_a_server_that_is_gone_ends_in_what_follows_from_that() {
    let mut world = World::simple(2, 4);
    world.until_phase("web", "Active");
    world.always = Some(("powerOff", Fault::LostNot));
    world.delete("web");
    world.until("a department is asked", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
    // The dead machine was taken out of the panel.
    world.panel.server("1").gone = true;
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until_phase("web", "gone");
    assert!(world.panel.used.iter().all(|a| !a.note.contains("u-web")), "{}", world.describe());
}

#[test]
fn a_crash_while_done_is_verified_asks_once() {
    let live = |fault: Option<(usize, WriteFault)>| {
        let mut world = stuck_at("powerOn", false);
        let first = world.writes;
        if let Some((at, fault)) = fault {
            world.write_faults.insert(first + at, fault);
        }
        world.resolve(TaskType::FailedOperation, Resolution::Done);
        world.until("a new task", Duration::from_hours(1), |w| !open(w).is_empty());
        world.run_for(seconds(300));
        assert_eq!((open(&world).len(), world.tasks.len()), (1, 2), "{}", world.describe());
        world.writes - first
    };
    let writes = live(None);
    assert!(writes >= 2);
    let points = (0..writes).flat_map(|at| [WriteFault::CrashBefore, WriteFault::CrashAfter].map(|fault| (at, fault)));
    try_all(points.map(|(at, fault)| {
        let run: Box<dyn FnOnce()> = Box::new(move || {
            live(Some((at, fault)));
        });
        (format!("write {at}, {fault:?}"), run)
    }));
}

#[test]
fn cancelled_stays_so_until_the_spec_or_somebody_asks_again() {
    let cancelled = || {
        let mut world = failing();
        until_task(&mut world);
        world.tasks[0].note = "no spare parts".into();
        world.resolve(TaskType::FailedOperation, Resolution::Cancelled);
        world.until("stalled", Duration::from_hours(1), |w| reason(w.status("web"), ConditionType::Stalled) == "TaskCancelled");
        world
    };
    let mut world = cancelled();
    let message = find(&world.status("web").conditions, ConditionType::Stalled).unwrap().message.clone();
    assert_eq!(message, "InstallOS was cancelled by Operations: no spare parts");
    world.restart();
    world.force("web");
    world.run_for(seconds(600));
    world.edit("web", |raw| raw.spec.client.email = Some("ops@acme.example".into()));
    world.run_for(seconds(600));
    assert_eq!((world.panel.servers["1"].installs, world.tasks.len(), world.phase("web")), (3, 1, "Failed"));
    assert_eq!(find(&world.status("web").conditions, ConditionType::Stalled).unwrap().message, message);
    world.assert_quiet();
    // The spec asks for something else.
    world.panel.installs_that_fail = 0;
    world.edit("web", |raw| raw.spec.operating_system.template = OTHER.into());
    world.until_phase("web", "Active");
    // Somebody asks for another attempt: it has as many as the first one had.
    let mut world = cancelled();
    world.edit("web", |raw| {
        let annotation = ("dci-operator.dev/reconcile-requested-at".to_owned(), "now".to_owned());
        raw.metadata.annotations = Some([annotation].into());
    });
    until_task(&mut world);
    assert_eq!(world.panel.servers["1"].installs, 6);
}

/// The same handler with another department for failures.
fn moved(handler: &Handler, name: &str) -> Handler {
    Handler { operations: name.into(), ..handler.clone() }
}

#[test]
fn another_department_is_asked_instead_and_never_two_at_a_time() {
    for (call, type_, closing) in [("install", TaskType::FailedOperation, false), ("powerOff", TaskType::StopServer, true)] {
        let start = move || {
            if !closing {
                return stuck_at(call, false);
            }
            let mut world = World::new(Panel::new(2, 8), handler(|h| h["ipmiErrorPolicy"] = json!("CreateTask")));
            world.add(order("web", "u-web", |_| ()));
            world.until_phase("web", "Active");
            world.panel.server("1").ipmi = Ipmi::Refuses;
            world.delete("web");
            until_task(&mut world);
            world
        };
        let live = move |fault: Option<(usize, WriteFault)>| {
            let mut world = start();
            let (first, made_before) = (world.writes, asked(&world, call));
            if let Some((at, fault)) = fault {
                world.write_faults.insert(first + at, fault);
            }
            world.handler = moved(&world.handler, "Field");
            world.until("the other department is asked", Duration::from_hours(1), |w| {
                open(w).iter().any(|t| t.department == "Field") && !open(w).iter().any(|t| t.department == "Operations")
            });
            world.run_for(seconds(300));
            assert_eq!((open(&world).len(), world.tasks.len()), (1, 2), "{}", world.describe());
            assert!(world.tasks[0].by_operator, "closed by the operator");
            assert!(type_.takes(world.tasks[0].resolution.unwrap()), "with a word that the type takes");
            assert_eq!(asked(&world, call), made_before, "what the operator wrote itself is nobody's answer");
            world.writes - first
        };
        let writes = live(None);
        let points = (0..writes).flat_map(|at| [WriteFault::CrashBefore, WriteFault::CrashAfter].map(|fault| (at, fault)));
        try_all(points.map(|(at, fault)| {
            let run: Box<dyn FnOnce()> = Box::new(move || {
                live(Some((at, fault)));
            });
            (format!("{call}, write {at}, {fault:?}"), run)
        }));
    }
}

#[test]
fn an_answer_that_was_given_before_the_department_changed_counts() {
    let mut world = stuck_at("install", false);
    world.always = None;
    world.handler = moved(&world.handler, "Field");
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until_phase("web", "Active");
    assert_eq!((world.tasks.len(), world.tasks[0].by_operator), (1, false));
}

#[test]
fn a_deadline_is_noted_once_with_and_without_a_panel() {
    let operations = json!({"name": "Operations", "deadline": "2h", "escalateTo": "Leads"});
    for panel_is_down in [false, true] {
        let mut world = World::new(Panel::new(2, 8), handler(|h| h["departments"]["operations"] = operations.clone()));
        world.add(order("web", "u-web", |_| ()));
        world.panel.installs_that_fail = 99;
        until_task(&mut world);
        world.step();
        let task = world.status("web").manual_tasks[0].clone();
        let (opened, deadline) = (task.opened_at.unwrap(), task.deadline.unwrap());
        assert_eq!(deadline.0.duration_since(opened.0).as_secs(), 7200);
        if panel_is_down {
            world.state = dci_operator::provisioning::facts::HandlerState::NotReady("down".into());
        } else {
            assert_eq!(world.status("web").waiting_on.as_ref().unwrap().deadline, Some(deadline));
        }
        world.run_for(seconds(7000));
        let before = world.status("web").clone();
        assert!(before.manual_tasks[0].escalated_at.is_none());
        world.run_for(seconds(300));
        let after = world.status("web").clone();
        let escalated = after.manual_tasks[0].escalated_at.unwrap();
        assert!(escalated >= deadline);
        let message = &find(&after.conditions, ConditionType::ManualActionRequired).unwrap().message;
        assert!(message.contains("it was due at") && message.contains("Leads may close it too"), "{message}");
        let events: Vec<String> = notices::between(&before, &after).into_iter().map(|n| n.reason).collect();
        assert_eq!(events, ["TaskOverdue"]);
        world.restart();
        world.run_for(seconds(600));
        assert_eq!(world.status("web").manual_tasks[0].escalated_at, Some(escalated), "once");
        assert_eq!(world.tasks.len(), 1);
    }
}

#[test]
fn a_department_that_says_done_of_a_claim_is_believed_when_a_server_carries_the_marker() {
    let mut world = World::new(Panel::new(1, 8), handler(|h| h["retry"]["maxAttempts"] = json!(2)));
    world.add(order("web", "u-web", |_| ()));
    world.always = Some(("claim", Fault::Refused));
    until_task(&mut world);
    assert!(open(&world)[0].summary.starts_with("Allocate "), "{}", open(&world)[0].summary);
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until("a new task", Duration::from_hours(1), |w| !open(w).is_empty());
    assert!(open(&world)[0].details.contains("carries `k8s:cluster-1/shop/web/u-web` in its notes"), "{}", open(&world)[0].details);
    let me: UserId = world.panel.user(ADMIN).unwrap().id.clone();
    world.panel.server("1").owner = Some(me);
    world.panel.server("1").notes = "k8s:cluster-1/shop/web/u-web".into();
    world.locks.insert("1".into(), "u-web".into());
    world.always = None;
    let before = made(&world, "claim");
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until_phase("web", "Active");
    assert_eq!((made(&world, "claim"), world.tasks.len()), (before, 2));
}
