//! Configurations of the client's own: the best server, what departments do, and who is served first.

use std::time::Duration;

use crate::support::panel::Panel;
use crate::support::seconds;
use crate::support::world::{World, handler, order};
use dci_operator::api::condition::{self, ConditionType};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::{Parts, UserId};
use dci_operator::provisioning::facts::HandlerState;
use dci_operator::provisioning::tasks::BY_OPERATOR;
use dci_operator::provisioning::wanted::Wanted;
use serde_json::{Value, json};

fn parts(cpu: &str, memory: u32, disks: &[&str]) -> Parts {
    Parts {
        processors: vec![cpu.into()],
        memory: Some(memory.to_string()),
        disks: disks.iter().map(|d| (*d).to_owned()).collect(),
        ..Parts::default()
    }
}

fn composed() -> Value {
    json!({"custom": {"cpu": {"model": "E-2146G"}, "memoryGiB": 64, "disks": [{"type": "SSD", "sizeGB": 1920, "count": 2}]}})
}

/// Servers with these parts, and one order of the usual configuration.
fn world(servers: &[Parts]) -> World {
    let mut panel = Panel::new(servers.len(), 6);
    for (n, parts) in servers.iter().enumerate() {
        panel.server(&(n + 1).to_string()).parts = parts.clone();
    }
    let mut world = World::new(panel, handler(|_| ()));
    world.add(order("web", "u-web", |raw| raw["spec"]["configuration"] = composed()));
    world
}

fn server_of(world: &World) -> &str {
    world.status("web").server.as_ref().map_or("none", |s| s.id.as_str())
}

fn state_of(world: &World, step: &str) -> String {
    world.status("web").steps.iter().find(|s| s.name == step).map(|s| s.state.clone()).unwrap_or_default()
}

fn until_task(world: &mut World, type_: TaskType) -> String {
    world.until(&format!("{type_:?} task"), Duration::from_hours(2), |w| w.open_tasks() == [type_]);
    world.run_for(seconds(150));
    assert_eq!(world.open_tasks(), [type_], "one task\n{}", world.describe());
    world.tasks.last().unwrap().details.clone()
}

fn stalled(world: &World) -> &str {
    condition::find(&world.status("web").conditions, ConditionType::Stalled).map_or("", |c| c.message.as_str())
}

fn reason(world: &World, type_: ConditionType) -> String {
    condition::find(&world.status("web").conditions, type_).map(|c| c.reason.clone()).unwrap_or_default()
}

#[test]
fn the_cheapest_server_that_fits_is_taken_without_any_task() {
    let big = parts("E-2146G", 128, &["1920SSD", "1920SSD"]);
    let fits = parts("Intel Xeon E-2146G", 64, &["1920SSD", "3840SSD"]);
    let mut world = world(&[Parts::default(), big, parts("E-2146G", 32, &["1920SSD", "1920SSD"]), fits.clone(), fits]);
    world.until_phase("web", "Active");
    assert_eq!(server_of(&world), "4");
    assert_eq!(state_of(&world, "Assemble"), "Skipped");
    assert!(world.tasks.is_empty());
    world.delete("web");
    world.until_phase("web", "gone");
    world.assert_clean();
}

#[test]
fn the_most_similar_server_is_reserved_and_built() {
    let mut world = world(&[Parts::default(), parts("E3", 16, &[]), parts("E-2146G", 64, &["480SSD", "1920SSD"])]);
    let details = until_task(&mut world, TaskType::Assembly);
    assert_eq!(server_of(&world), "3");
    assert_eq!(world.phase("web"), "AwaitingTask");
    assert!(details.contains("disk       2x 1920SSD  1x 1920SSD, 1x 480SSD  swap 1x 480SSD for 1x 1920SSD"), "{details}");
    assert!(details.contains("processor  1x E-2146G  1x E-2146G             nothing"), "{details}");
    assert!(details.contains("Only what the table swaps has to come out") && !details.contains("Nothing has to be removed"), "{details}");
    let progress = world.status("web").progress.clone().unwrap();
    assert_eq!((progress.step.as_str(), progress.message.as_str()), ("Assemble", "a department is at work"));
    assert!(world.panel.journal.iter().all(|c| matches!(c.name(), "createUser" | "claim")), "{:?}", world.panel.journal);
    let (reads, writes) = (world.reads, world.writes);
    world.run_for(seconds(1200));
    assert_eq!((world.reads, world.writes), (reads, writes), "waiting costs nothing");

    // Closed, but nothing was done: told again, with what is still wrong.
    world.resolve(TaskType::Assembly, Resolution::Done);
    let details = until_task(&mut world, TaskType::Assembly);
    assert!(details.contains("still shows other parts") && details.contains("swap 1x 480SSD"), "{details}");
    world.panel.server("3").parts.disks = vec!["1920SSD".into(), "1920SSD".into(), "480SSD".into()];
    world.resolve(TaskType::Assembly, Resolution::Done);
    world.until_phase("web", "Active");
    assert_eq!((server_of(&world), state_of(&world, "Assemble").as_str(), world.tasks.len()), ("3", "Done", 2));
    world.assert_quiet();
}

#[test]
fn missing_parts_are_bought_first() {
    let mut world = world(&[parts("E-2146G", 32, &["1920SSD"])]);
    let details = until_task(&mut world, TaskType::Assembly);
    assert!(details.contains("add 1x 1920SSD") && details.contains("Nothing has to be removed"), "{details}");
    world.resolve(TaskType::Assembly, Resolution::PartsMissing);
    let details = until_task(&mut world, TaskType::Procurement);
    assert!(details.contains("  32 GiB of memory\n  1x 1920SSD\n"), "{details}");
    let task = world.tasks.last().unwrap();
    assert_eq!((task.department.as_str(), task.summary.as_str()), ("P", "Buy 2 kinds of parts for order shop/web"));
    world.resolve(TaskType::Procurement, Resolution::Done);
    let details = until_task(&mut world, TaskType::Assembly);
    assert!(!details.contains("still"), "{details}");
    assert_eq!(world.tasks.last().unwrap().department, "A");
    // Bought again, and this time the parts are in the server before the task is raised anew.
    world.panel.server("1").parts = parts("E-2146G", 64, &["1920SSD"]);
    world.resolve(TaskType::Assembly, Resolution::PartsMissing);
    until_task(&mut world, TaskType::Procurement);
    assert_eq!(world.tasks.last().unwrap().summary, "Buy a part for order shop/web");
    world.panel.server("1").parts = parts("E-2146G", 64, &["1920SSD", "1920SSD"]);
    world.resolve(TaskType::Procurement, Resolution::Done);
    world.until_phase("web", "Active");
    assert_eq!(world.tasks.len(), 4);
}

#[test]
fn without_any_server_the_order_waits_and_one_is_to_be_built() {
    let mut world = world(&[parts("E-2146G", 64, &["1920SSD", "1920SSD"])]);
    world.panel.server("1").owner = Some(UserId("7".into()));
    let details = until_task(&mut world, TaskType::Assembly);
    assert!(details.contains("None is reserved") && details.contains("add 2x 1920SSD"), "{details}");
    let waiting = world.status("web").waiting_on.clone().unwrap();
    assert_eq!(waiting.kind, "Capacity");
    assert!(waiting.message.contains("place 1 of 1") && waiting.message.contains("Assembly task"), "{}", waiting.message);
    assert!(condition::is_true(&world.status("web").conditions, ConditionType::ManualActionRequired));
    world.assert_quiet();
    world.resolve(TaskType::Assembly, Resolution::Done);
    let details = until_task(&mut world, TaskType::Assembly);
    assert!(details.contains("There is still no free server"), "{details}");
    world.resolve(TaskType::Assembly, Resolution::PartsMissing);
    let details = until_task(&mut world, TaskType::Procurement);
    assert!(details.contains("1x E-2146G\n  64 GiB of memory\n  2x 1920SSD"), "{details}");
    // A server becomes free meanwhile: nobody has to buy anything any more.
    world.panel.server("1").owner = None;
    world.until_phase("web", "Active");
    assert_eq!(server_of(&world), "1");
    let states: Vec<&str> = world.status("web").manual_tasks.iter().map(|t| t.state.as_str()).collect();
    assert_eq!(states, ["Done", "PartsMissing", "Superseded"]);
}

#[test]
fn a_department_may_refuse_to_build_and_somebody_ask_again() {
    let mut world = world(&[parts("E-2146G", 64, &["1920SSD", "1920SSD"])]);
    world.panel.server("1").owner = Some(UserId("7".into()));
    until_task(&mut world, TaskType::Assembly);
    world.tasks[0].note = "no chassis left".into();
    world.resolve(TaskType::Assembly, Resolution::Cancelled);
    world.until_phase("web", "Failed");
    assert_eq!(reason(&world, ConditionType::Stalled), "TaskCancelled");
    assert_eq!(stalled(&world), "Assembly was cancelled by A: no chassis left");
    // A server that becomes free now is not taken, also not by a new process.
    world.panel.server("1").owner = None;
    world.restart();
    world.force("web");
    world.assert_quiet();
    assert_eq!((world.phase("web"), world.panel.journal.len()), ("Failed", 1), "{}", world.describe());
    assert_eq!(stalled(&world), "Assembly was cancelled by A: no chassis left");
    world.edit("web", |raw| {
        raw.metadata.annotations.get_or_insert_default().insert("dci-operator.dev/reconcile-requested-at".into(), "1".into());
    });
    world.until_phase("web", "Active");
}

#[test]
fn a_reserved_server_is_given_back_when_nobody_builds_it() {
    for procurement in [false, true] {
        let mut world = world(&[parts("E-2146G", 64, &[]), parts("E3", 64, &[])]);
        until_task(&mut world, TaskType::Assembly);
        if procurement {
            world.resolve(TaskType::Assembly, Resolution::PartsMissing);
            until_task(&mut world, TaskType::Procurement);
        }
        world.tasks.last_mut().unwrap().note = "not this year".into();
        world.resolve(if procurement { TaskType::Procurement } else { TaskType::Assembly }, Resolution::Cancelled);
        world.until("the order stalls without a server", Duration::from_hours(2), |w| {
            w.phase("web") == "Failed" && w.status("web").server.is_none()
        });
        assert_eq!(reason(&world, ConditionType::Stalled), "TaskCancelled");
        world.assert_quiet();
        let who = if procurement { "Procurement was cancelled by P" } else { "Assembly was cancelled by A" };
        assert_eq!(stalled(&world), format!("{who}: not this year"));
        assert!(world.panel.servers.values().all(|s| s.owner.is_none() && s.notes.is_empty()), "{}", world.describe());
        assert!(world.open_tasks().is_empty() && world.locks.is_empty(), "{}", world.describe());
        // Asked again, the same server is the most similar one.
        world.edit("web", |raw| {
            raw.metadata.annotations.get_or_insert_default().insert("dci-operator.dev/reconcile-requested-at".into(), "1".into());
        });
        until_task(&mut world, TaskType::Assembly);
        assert_eq!(server_of(&world), "1");
        world.panel.server("1").parts.disks = vec!["1920SSD".into(), "1920SSD".into()];
        world.resolve(TaskType::Assembly, Resolution::Done);
        world.until_phase("web", "Active");
        world.delete("web");
        world.until_phase("web", "gone");
        world.assert_clean();
    }
}

#[test]
fn a_handler_of_server_types_refuses_what_is_composed() {
    let mut world = world(&[parts("E-2146G", 64, &["1920SSD", "1920SSD"])]);
    world.handler.by_server_type = true;
    world.until_phase("web", "Failed");
    assert_eq!(reason(&world, ConditionType::Stalled), "CustomConfigurationRefused");
    world.assert_quiet();
    assert!(world.tasks.is_empty() && world.asked.is_empty());
    // The mode is switched, which the shell tells by judging all orders anew.
    world.handler.by_server_type = false;
    world.force("web");
    world.until_phase("web", "Active");
}

#[test]
fn a_switch_closes_what_is_not_needed_and_leaves_alone_what_is_reserved() {
    let mut waiting = world(&[parts("E-2146G", 64, &[])]);
    waiting.panel.server("1").owner = Some(UserId("7".into()));
    until_task(&mut waiting, TaskType::Assembly);
    waiting.handler.by_server_type = true;
    waiting.force("web");
    waiting.until_phase("web", "Failed");
    assert_eq!(waiting.status("web").manual_tasks[0].state, "Superseded");
    assert_eq!(waiting.open_tasks(), []);

    let mut reserved = world(&[parts("E-2146G", 64, &[])]);
    until_task(&mut reserved, TaskType::Assembly);
    reserved.handler.by_server_type = true;
    (reserved.handler.assembly, reserved.handler.procurement) = (None, None);
    reserved.force("web");
    reserved.run_for(seconds(300));
    assert_eq!(reserved.open_tasks().len(), 1, "{}", reserved.describe());
    reserved.panel.server("1").parts = parts("E-2146G", 64, &["1920SSD", "1920SSD"]);
    reserved.resolve(TaskType::Assembly, Resolution::Done);
    reserved.until_phase("web", "Active");
}

#[test]
fn what_is_built_or_bought_for_a_configuration_that_changes_is_called_off() {
    let long = json!({"custom": {"memoryGiB": 64, "pci": ["a".repeat(100), "b".repeat(100)]}});
    let longer = json!({"custom": {"memoryGiB": 64, "pci": ["a".repeat(100), "c".repeat(100)]}});
    let with_disk = json!({"custom": {"memoryGiB": 64, "disks": [{"type": "SSD", "sizeGB": 480, "count": 1}]}});
    for (bought, down, first, second) in [
        (false, false, composed(), json!({"custom": {"memoryGiB": 128}})),
        (true, false, composed(), json!({"custom": {"memoryGiB": 128}})),
        (true, true, composed(), json!({"custom": {"memoryGiB": 128}})),
        (false, false, with_disk, json!({"custom": {"memoryGiB": 64}})),
        (false, true, long, longer),
    ] {
        let edit =
            |world: &mut World, to: &Value| world.edit("web", |raw| raw.spec.configuration = serde_json::from_value(to.clone()).unwrap());
        let mut world = world(&[parts("E-2146G", 64, &["1920SSD", "1920SSD"])]);
        world.panel.server("1").owner = Some(UserId("7".into()));
        edit(&mut world, &first);
        until_task(&mut world, TaskType::Assembly);
        if bought {
            world.resolve(TaskType::Assembly, Resolution::PartsMissing);
            until_task(&mut world, TaskType::Procurement);
        }
        // Neither another change of the order nor a restart calls anybody off.
        let raised = world.tasks.len();
        world.edit("web", |raw| raw.spec.client.email = Some("ops@acme.example".into()));
        world.restart();
        world.run_for(seconds(150));
        assert_eq!((world.tasks.len(), world.open_tasks().len()), (raised, 1), "{}", world.describe());
        if down {
            // Something else is waited for by now, and the department is told at once all the same.
            world.state = HandlerState::NotReady("down".into());
            world.run_for(seconds(150));
        }
        edit(&mut world, &second);
        world.run_for(seconds(150));
        assert!(world.tasks[raised - 1].by_operator && world.tasks.len() == if down { raised } else { raised + 1 }, "{}", world.describe());
        world.state = HandlerState::Ready;
        let details = until_task(&mut world, TaskType::Assembly);
        let asked = Wanted::new(&world.orders["web"].raw.spec.configuration).to_string();
        assert!(details.contains(&asked) && details.contains("None is reserved"), "{asked} in {details}");
        assert_eq!(world.tasks.len(), raised + 1);
        // A server type is built by nobody.
        edit(&mut world, &json!({"serverType": "E9"}));
        world.run_for(seconds(150));
        assert_eq!((world.open_tasks(), world.phase("web")), (Vec::new(), "Pending"), "{}", world.describe());
        assert!(world.tasks[raised].by_operator);
        world.assert_quiet();
    }
}

/// What the operator closes, while an order is away or points elsewhere, is no department's answer.
#[test]
fn a_task_that_the_operator_closed_is_asked_anew_with_all_that_it_said() {
    for (reserved, bought) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = world(&[parts("E-2146G", 32, &["1920SSD"])]);
        if !reserved {
            world.panel.server("1").owner = Some(UserId("7".into()));
        }
        until_task(&mut world, TaskType::Assembly);
        if bought {
            world.resolve(TaskType::Assembly, Resolution::PartsMissing);
            until_task(&mut world, TaskType::Procurement);
        }
        let closed = world.tasks.last_mut().unwrap();
        (closed.resolution, closed.note) =
            (Some(Resolution::Cancelled), format!("{BY_OPERATOR}departments of another namespace are asked"));
        let (closed, raised) = (closed.clone(), world.tasks.len());
        world.force("web");
        until_task(&mut world, closed.type_);
        let anew = &world.tasks[raised];
        assert!(closed.details.contains("1920SSD"), "{}", closed.details);
        assert_eq!((&anew.summary, &anew.details, world.tasks.len()), (&closed.summary, &closed.details, raised + 1));
        if !reserved {
            // What it asks for is known from then on.
            world.edit("web", |raw| raw.spec.configuration = serde_json::from_value(json!({"custom": {"memoryGiB": 128}})).unwrap());
            world.run_for(seconds(150));
            assert!(world.tasks[raised].by_operator, "{}", world.describe());
        }
    }
}

#[test]
fn a_better_server_in_the_form_than_in_the_list_is_no_reason_to_take_a_worse_one() {
    let fits = parts("E-2146G", 64, &["1920SSD", "1920SSD"]);
    let mut world = world(&[fits.clone(), fits]);
    let waiting = world.orders.remove("web").unwrap();
    world.step();
    // After the list somebody took a disk out of the first one.
    world.panel.server("1").parts.disks.pop();
    world.orders.insert("web".into(), waiting);
    world.pass("web");
    world.until_phase("web", "Active");
    assert_eq!((server_of(&world), world.tasks.len()), ("2", 0), "{}", world.describe());
}

/// The best server is of a type for which the panel has other systems.
#[test]
fn a_server_that_can_be_installed_is_taken_where_a_better_one_cannot() {
    let fits = || parts("E-2146G", 64, &["1920SSD", "1920SSD"]);
    let other = || vec!["ISPsystem__Ubuntu-24.04-x86_64".to_owned()];
    for both in [false, true] {
        let mut world = world(&[fits(), fits()]);
        world.panel.server("2").kind = "E5-64G".into();
        world.panel.templates_of.insert("1".into(), Some(other()));
        if both {
            world.panel.templates_of.insert("2".into(), Some(other()));
            world.until_phase("web", "Failed");
            assert_eq!(reason(&world, ConditionType::Stalled), "UnknownTemplate");
            assert!(stalled(&world).contains("for server 1;") && world.status("web").server.is_none(), "{}", world.describe());
            world.panel.templates_of.remove("2");
        }
        world.until_phase("web", "Active");
        assert_eq!((server_of(&world), world.tasks.len(), world.panel.servers["1"].installs), ("2", 0, 0), "{}", world.describe());
    }
    // A template that nobody has costs no request for each free server.
    for (kinds, most) in [(1, 8), (20, 24)] {
        let mut world = world(&[(); 20].map(|()| fits()));
        for (n, server) in world.panel.servers.values_mut().enumerate() {
            server.kind = format!("E{}", n % kinds);
        }
        world.panel.templates = Some(other());
        world.until_phase("web", "Failed");
        assert!((5..=most).contains(&world.reads), "{} reads\n{}", world.reads, world.describe());
    }
}

/// A template whose name is mistyped: a form that shows none, or is refused, does not say that the server can have it.
#[test]
fn a_server_whose_form_tells_nothing_is_not_taken_where_the_panel_said_no() {
    for refused in [false, true] {
        let mut world = world(&[parts("E-2146G", 64, &["1920SSD", "1920SSD"]), Parts::default()]);
        world.panel.server("2").kind = "E5-64G".into();
        world.panel.templates_of.insert("1".into(), Some(vec!["ISPsystem__Ubuntu-24.04-x86_64".to_owned()]));
        if refused {
            world.panel.forms_refused.insert("2".into());
        } else {
            world.panel.templates_of.insert("2".into(), None);
        }
        world.until_phase("web", "Failed");
        world.run_for(Duration::from_hours(1));
        assert_eq!(
            (reason(&world, ConditionType::Stalled).as_str(), server_of(&world)),
            ("UnknownTemplate", "none"),
            "{}",
            world.describe()
        );
        assert!(world.tasks.is_empty() && world.asked.iter().all(|(_, call)| call.name() != "claim"), "{}", world.describe());
        world.panel.templates_of.remove("1");
        world.until_phase("web", "Active");
        assert_eq!((server_of(&world), world.tasks.len()), ("1", 0), "{}", world.describe());
    }
}

#[test]
fn who_came_first_is_served_first() {
    for configuration in [json!({"serverType": "E3-16G"}), composed()] {
        let mut world = World::new(Panel::new(1, 6), handler(|_| ()));
        world.panel.server("1").parts = parts("E-2146G", 64, &["1920SSD", "1920SSD"]);
        world.panel.server("1").owner = Some(UserId("7".into()));
        // By name, and so by pass, the youngest comes first.
        for (name, created) in [("a", "2026-01-01T00:00:03Z"), ("b", "2026-01-01T00:00:02Z"), ("c", "2026-01-01T00:00:01Z")] {
            world.add(order(name, &format!("u-{name}"), |raw| {
                raw["metadata"]["creationTimestamp"] = json!(created);
                raw["spec"]["configuration"] = configuration.clone();
            }));
        }
        world.run_for(seconds(600));
        for (name, place) in [("c", "place 1 of 3"), ("b", "place 2 of 3"), ("a", "place 3 of 3")] {
            let waiting = world.status(name).waiting_on.clone().unwrap();
            assert!(waiting.kind == "Capacity" && waiting.message.contains(place), "{name}: {}", waiting.message);
        }
        world.panel.server("1").owner = None;
        for name in ["c", "b", "a"] {
            world.until_phase(name, "Active");
            let waiting = world.orders.keys().filter(|other| world.status(other).server.is_none()).count();
            assert_eq!(waiting, world.orders.len() - 1);
            world.delete(name);
            world.until_phase(name, "gone");
        }
        world.assert_clean();
    }
}

#[test]
fn an_order_that_could_not_take_the_server_keeps_nobody_waiting() {
    let mut world = World::new(Panel::new(1, 6), handler(|_| ()));
    world.add(order("old", "u-old", |raw| raw["spec"]["operatingSystem"]["template"] = json!("ISPsystem__Unknown")));
    world.add(order("young", "u-young", |raw| raw["metadata"]["creationTimestamp"] = json!("2026-01-01T00:01:00Z")));
    world.until_phase("young", "Active");
    assert!(world.status("old").server.is_none());
}
