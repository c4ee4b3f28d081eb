//! What an order says of itself on its way, and what stays of it: progress, the times of its steps, what its attempts were for.

use std::time::Duration;

use dci_operator::api::order::StepStatus;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::{AddressRow, PoolAddress, UserId};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::step::{OPENING, Step};
use serde_json::json;

use crate::support::changes::settled;
use crate::support::look::{made, stalled, until_reason};
use crate::support::panel::{Ipmi, Panel};
use crate::support::seconds;
use crate::support::sweep::Kind;
use crate::support::world::{Fault, World, handler, order};

fn step<'w>(world: &'w World, name: &str) -> &'w StepStatus {
    world.status("web").steps.iter().find(|s| s.name == name).unwrap()
}

fn asked(world: &World, call: &str) -> usize {
    world.asked.iter().filter(|(_, c)| c.name() == call).count()
}

fn until_task(world: &mut World, type_: TaskType) {
    world.until(&format!("{type_:?} task"), Duration::from_hours(24), |w| w.open_tasks() == [type_]);
}

#[test]
fn all_steps_are_listed_from_the_beginning_and_progress_goes_on_with_each() {
    let mut world = World::simple(2, 4);
    let mut told: Vec<(String, i32)> = Vec::new();
    world.until("Active", Duration::from_hours(1), |w| {
        let status = w.status("web");
        if status.phase.is_some() {
            assert!(status.steps.iter().map(|s| s.name.as_str()).eq(OPENING.map(Step::as_str)), "{:?}", status.steps);
        }
        told.extend(status.progress.iter().map(|p| (p.step.clone(), p.percent)));
        told.dedup();
        w.phase("web") == "Active"
    });
    assert!(told.is_sorted_by(|(_, before), (_, after)| before < after), "{told:?}");
    let begun = |name: &str| told.iter().find(|(step, _)| step == name).map(|(_, percent)| *percent);
    assert!(begun("PowerOn") > Some(0) && told.last().is_some_and(|(_, percent)| *percent == 100), "{told:?}");
    // Most of the time passes while the panel installs: its own percentage is a part of the whole.
    let installs: Vec<i32> = told.iter().filter(|(step, _)| step == "InstallOS").map(|(_, percent)| *percent).collect();
    assert!(installs.len() > 1 && installs[1] - installs[0] > 20, "{told:?}");
}

#[test]
fn a_step_that_is_taken_once_more_has_not_ended() {
    let mut world = settled();
    let before = step(&world, "PowerOn").clone();
    assert!(before.finished_at.is_some());
    world.panel.server("1").on = false;
    world.until("switched on", Duration::from_hours(1), |w| made(w, "powerOn") == 2);
    let again = step(&world, "PowerOn");
    assert_eq!((again.state.as_str(), again.finished_at), ("Running", None), "{}", world.describe());
    world.until("it is on", Duration::from_hours(1), |w| step(w, "PowerOn").state == "Done");
    assert!(step(&world, "PowerOn").finished_at > before.finished_at);
}

#[test]
fn a_user_whose_making_was_lost_is_made_again_after_the_back_off() {
    let mut world = World::simple(2, 4);
    world.faults.insert(0, Fault::LostNot);
    world.until("asked for", seconds(60), |w| asked(w, "createUser") == 1);
    world.run_for(seconds(60));
    let status = world.status("web");
    assert_eq!((asked(&world, "createUser"), status.attempts), (1, 1), "{}", world.describe());
    assert!(status.next_retry_time.is_some_and(|at| at.0 > world.now));
    world.until_phase("web", "Active");
    assert_eq!(made(&world, "createUser"), 1);
}

/// A server may be the order's by then: it is looked for first, whoever the client is now.
#[test]
fn a_claim_whose_answer_was_lost_is_found_though_its_client_went() {
    let mut world = World::simple(2, 4);
    world.faults.insert(1, Fault::LostApplied);
    world.then_reads_fail = 1;
    world.until("claimed", Duration::from_hours(1), |w| made(w, "claim") == 1);
    assert!(world.status("web").server.is_none() && world.status("web").in_flight.is_some(), "{}", world.describe());
    world.then_reads_fail = 0;
    world.panel.users.retain(|user| user.name != "acme");
    world.until("found", Duration::from_hours(1), |w| w.status("web").server.is_some());
    assert_eq!((made(&world, "createUser"), made(&world, "claim")), (1, 1), "{}", world.describe());
    world.until_phase("web", "Active");
}

/// Nothing of the form may ever name what a person has installed.
#[test]
fn done_of_an_installation_that_was_cancelled_is_believed() {
    let mut world = World::new(Panel::new(1, 4), handler(|h| h["retry"]["maxAttempts"] = json!(1)));
    world.add(order("web", "u-web", |_| ()));
    world.until("it installs", Duration::from_hours(1), |w| w.panel.servers["1"].operation.is_some());
    world.run_for(seconds(60));
    world.panel.server("1").operation = None;
    until_task(&mut world, TaskType::FailedOperation);
    assert!(world.tasks[0].details.contains("somebody cancelled it there"), "{}", world.tasks[0].details);
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until_phase("web", "Active");
    assert_eq!((world.panel.servers["1"].installs, world.tasks.len()), (1, 1), "{}", world.describe());
}

#[test]
fn a_task_that_is_closed_with_a_word_that_its_type_does_not_know_is_asked_anew() {
    let mut world = World::new(Panel::new(2, 8), handler(|h| h["ipmiErrorPolicy"] = json!("CreateTask")));
    world.add(order("web", "u-web", |_| ()));
    world.until_phase("web", "Active");
    world.panel.server("1").ipmi = Ipmi::Refuses;
    world.delete("web");
    until_task(&mut world, TaskType::StopServer);
    world.resolve(TaskType::StopServer, Resolution::Cancelled);
    until_task(&mut world, TaskType::StopServer);
    let states: Vec<&str> = world.status("web").manual_tasks.iter().map(|t| t.state.as_str()).collect();
    assert_eq!((states, world.tasks.len()), (vec!["Refused Cancelled", "Open"], 2), "{}", world.describe());
    world.resolve(TaskType::StopServer, Resolution::Done);
    world.until_phase("web", "gone");
}

/// What is left to do meanwhile is no further attempt of what a department has done.
#[test]
fn an_answer_that_is_lost_while_done_is_looked_at_costs_no_other_task() {
    let mut world = World::new(Panel::new(2, 8), handler(|h| h["retry"]["maxAttempts"] = json!(2)));
    world.add(order("web", "u-web", |raw| raw["spec"]["addresses"] = json!({"ipv4": 2})));
    world.always = Some(("addAddress", Fault::Refused));
    until_task(&mut world, TaskType::FailedOperation);
    let main = world.panel.servers["1"].main;
    let spare = |u: &&PoolAddress| u.group == "public" && u.note.contains("u-web") && u.address != main;
    let address = world.panel.used.iter().find(spare).unwrap().address;
    world.panel.server("1").rows.push(AddressRow { row: "900".into(), address, domain: "web.example.net".into() });
    world.always = None;
    world.faults.insert(world.asked.len(), Fault::LostNot);
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until_phase("web", "Active");
    let back = world.asked.iter().filter(|(_, call)| matches!(call, Call::GiveBack { .. })).count();
    assert_eq!((back, asked(&world, "addAddress"), world.tasks.len()), (2, 2, 1), "{}", world.describe());
}

/// The panel says that it has replaced the main address, and is at work on it: whatever cannot be read meanwhile, it is asked for once.
#[test]
fn a_main_address_that_is_being_replaced_is_asked_for_once_though_a_read_fails() {
    let world = || {
        let mut world = Kind::LateMain.world();
        world.until("switched on", Duration::from_hours(1), |w| made(w, "powerOn") == 1);
        world
    };
    let mut undisturbed = world();
    let before = undisturbed.reads;
    undisturbed.until("asked for", Duration::from_hours(1), |w| asked(w, "replaceMainAddress") == 1);
    for failing in before..undisturbed.reads + 4 {
        let mut world = world();
        world.read_faults.insert(failing);
        world.until("it installs", Duration::from_hours(1), |w| made(w, "install") == 1);
        assert_eq!(asked(&world, "replaceMainAddress"), 1, "read {failing}\n{}", world.describe());
    }
}

/// A crash leaves nothing but the intent to tell which licence it was.
#[test]
fn a_licence_whose_order_gets_no_answer_is_named_by_the_task() {
    let mut world = Kind::Licensed.world();
    world.always = Some(("orderLicense", Fault::CrashBefore));
    until_task(&mut world, TaskType::FailedOperation);
    let target = world.status("web").attempts_for.as_ref().map(|a| a.target.clone()).unwrap();
    assert!(target.starts_with("license/") && world.tasks[0].details.contains(&format!("call orderLicense, target {target}.")), "{target}");
}

/// A department has stopped one licence of two, or says so.
#[test]
fn done_of_one_licence_is_nothing_that_was_said_of_another() {
    for by_hand in [true, false] {
        let mut world = Kind::Licensed.world();
        world.until_phase("web", "Active");
        world.delete("web");
        world.always = Some(("suspendLicense", Fault::Refused));
        until_task(&mut world, TaskType::FailedOperation);
        let before = asked(&world, "suspendLicense");
        let refused = world.asked.last().map(|(_, call)| call.clone()).unwrap();
        assert!(matches!(refused, Call::SuspendLicense { .. }), "{refused:?}");
        if by_hand {
            world.panel.licenses.apply(&refused, world.now).unwrap();
        }
        world.always = None;
        world.resolve(TaskType::FailedOperation, Resolution::Done);
        if by_hand {
            world.until_phase("web", "gone");
            assert_eq!((asked(&world, "suspendLicense"), world.tasks.len()), (before + 1, 1), "{}", world.describe());
            assert!(world.panel.licenses.rows.values().all(|row| row.suspended), "{}", world.describe());
        } else {
            until_task(&mut world, TaskType::FailedOperation);
            assert!(world.tasks[1].details.contains("suspendLicense is still needed"), "{}", world.tasks[1].details);
            assert_eq!(asked(&world, "suspendLicense"), before, "{}", world.describe());
        }
    }
}

/// The spec asks for something else than a department was asked about: nobody is waited for when that is begun.
#[test]
fn what_is_begun_anew_waits_for_no_department() {
    let mut world = World::simple(2, 8);
    world.panel.installs_that_fail = 99;
    until_task(&mut world, TaskType::FailedOperation);
    world.run_for(seconds(60));
    assert_eq!(world.status("web").waiting_on.as_ref().map(|w| w.kind.as_str()), Some("Department"));
    world.faults.insert(world.asked.len(), Fault::CrashBefore);
    world.edit("web", |raw| raw.spec.operating_system.template = "ISPsystem__Ubuntu-24.04-x86_64".into());
    let installs = asked(&world, "install");
    world.until("begun", seconds(120), |w| asked(w, "install") > installs);
    let status = world.status("web");
    let call = status.in_flight.as_ref().map(|f| f.call.as_str());
    assert_eq!((call, status.waiting_on.as_ref()), (Some("install"), None), "{}", world.describe());
}

#[test]
fn a_server_that_was_put_right_is_not_told_as_changed_by_hand() {
    let mut world = World::simple(2, 4);
    world.panel.power_takes = Duration::from_mins(2);
    world.until("switched on", Duration::from_hours(1), |w| made(w, "powerOn") == 1);
    let owner = world.panel.server("1").owner.replace(UserId("70".into()));
    until_reason(&mut world, "OwnerChanged");
    assert!(stalled(&world));
    world.panel.server("1").owner = owner;
    world.force("web");
    world.until("it installs", Duration::from_hours(2), |w| made(w, "install") == 1);
    assert_eq!(world.status("web").last_error, None, "{}", world.describe());
}
