//! Whose client an order names, and what is done where nobody can tell whose a server is.

use std::time::Duration;

use crate::support::changes::reinstall;
use crate::support::look::{made, picture, reason, stalled, until_reason};
use crate::support::panel::ADMIN;
use crate::support::seconds;
use crate::support::world::{World, order};
use dci_operator::api::condition::{ConditionType, find};
use dci_operator::api::task::TaskType;
use dci_operator::panel::model::{Level, PanelUser, UserId};
use dci_operator::provisioning::facts::Prepare;
use dci_operator::provisioning::step::{OPENING, State, Step};
use serde_json::json;

/// Its client is there, and it waits for something else: until a server is asked for, another client may be named.
fn before_its_claim() -> World {
    let mut world = World::simple(2, 4);
    world.panel.users.push(PanelUser { id: "70".into(), name: "root2".into(), level: Level::Administrator });
    world.panel.templates = Some(vec!["ISPsystem__Ubuntu-24.04-x86_64".into()]);
    until_reason(&mut world, "UnknownTemplate");
    assert!(world.status("web").server.is_none() && world.panel.user("acme").is_some(), "{}", world.describe());
    world.panel.templates = None;
    world
}

#[test]
fn another_client_is_looked_at_as_the_first_one_was() {
    for (name, wanted) in [(ADMIN, "ClientIsAdministrator"), ("root2", "ClientIsAdministrator"), ("taken", "ClientNameTaken")] {
        let mut world = before_its_claim();
        world.missing = (name == "taken").then_some(Prepare::ClientName);
        world.edit("web", |raw| raw.spec.client.username = name.into());
        until_reason(&mut world, wanted);
        world.run_for(Duration::from_hours(1));
        assert_eq!((made(&world, "claim"), made(&world, "createUser")), (0, 1), "{name}\n{}", world.describe());
    }
    let mut world = before_its_claim();
    world.edit("web", |raw| raw.spec.client.username = "globex".into());
    world.until_phase("web", "Active");
    let globex = world.panel.user("globex").unwrap().id.clone();
    assert_eq!((world.panel.servers["1"].owner.as_ref(), made(&world, "createUser")), (Some(&globex), 2));
}

/// Two orders of a new client have both seen that it is not there.
#[test]
fn a_user_that_another_order_made_a_moment_ago_costs_no_attempt() {
    let mut world = World::simple(2, 4);
    world.user_before_create = true;
    world.until("a server is asked for", seconds(60), |w| made(w, "claim") == 1);
    let status = world.status("web");
    assert_eq!((made(&world, "createUser"), status.attempts, status.last_error.is_none()), (1, 0, true), "{}", world.describe());
    world.until_phase("web", "Active");
}

/// A server of the operator's own user may carry the marker of any order: while its notes cannot be read, nobody gets a server. The orders
/// say which one it is.
#[test]
fn a_server_that_cannot_be_read_is_named_by_the_orders_that_wait_for_it() {
    let mut world = World::simple(2, 4);
    world.panel.server("2").owner = Some(UserId("1".into()));
    world.unread = Some(("2".into(), world.now));
    world.until("it is named", Duration::from_mins(5), |w| {
        find(&w.status("web").conditions, ConditionType::Ready)
            .is_some_and(|c| c.message.contains("server 2") && c.message.contains("an error document"))
    });
    assert!(reason(world.status("web")) == "WaitingForPanel" && !stalled(&world), "it may be over in a moment");
    until_reason(&mut world, "PanelError");
    world.run_for(Duration::from_hours(6));
    assert!(stalled(&world) && made(&world, "claim") == 0 && world.tasks.is_empty(), "{}", world.describe());
    world.unread = None;
    world.until_phase("web", "Active");
}

/// The Secret names another administrator since the server was taken, and the order was restored without its status. No address carries its
/// note yet.
#[test]
fn a_restored_order_finds_its_server_also_where_an_earlier_log_in_of_the_operator_has_it() {
    // An administrator whom the panel still knows, and one who was deleted.
    for (former, deleted) in [("70", false), ("70", true), ("99", false), ("99", true)] {
        let mut world = World::simple(3, 4);
        world.panel.users.push(PanelUser { id: "70".into(), name: "root2".into(), level: Level::Administrator });
        world.until("a server", Duration::from_hours(1), |w| w.status("web").server.is_some());
        let ours = world.panel.server("1").owner.replace(UserId(former.into()));
        assert!(ours.is_some() && world.panel.used.iter().all(|u| u.note.is_empty()), "{}", world.describe());
        world.orders.remove("web");
        world.restart();
        world.add(order("web", "u-new", |raw| raw["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": "u-web"})));
        world.run_for(seconds(60));
        let before = picture(&world);
        if deleted {
            world.delete("web");
        }
        until_reason(&mut world, "OwnerChanged");
        world.run_for(Duration::from_hours(6));
        assert_eq!((picture(&world), made(&world, "claim")), (before, 1), "{former} {deleted}\n{}", world.describe());
        // Whoever deleted it waits for somebody who can tell whose it is.
        let asked: &[TaskType] = if deleted { &[TaskType::FailedOperation] } else { &[] };
        assert_eq!(world.open_tasks(), asked, "{former} {deleted}\n{}", world.describe());
        world.panel.server("1").owner = ours;
        world.until_phase("web", if deleted { "gone" } else { "Active" });
        assert_eq!(made(&world, "claim"), 1, "{}", world.describe());
        if deleted {
            world.assert_clean();
        }
    }
}

/// Somebody deletes the client's user while the system is being installed. What begins anew for it ends: as long as a step of the opening is
/// open, no reinstallation begins.
#[test]
fn a_user_that_is_made_again_at_the_hand_over_leaves_no_step_open() {
    let mut world = World::simple(2, 4);
    world.until("an installation", Duration::from_hours(1), |w| w.panel.servers["1"].installs == 1);
    world.panel.users.retain(|user| user.name != "acme");
    world.until_phase("web", "Active");
    let open = |world: &World| {
        let state = |step: &Step| world.status("web").steps.iter().find(|s| s.name == step.as_str()).map_or("", |s| s.state.as_str());
        OPENING.iter().filter(|step| !State::parse(state(step)).over()).map(|step| step.as_str()).collect::<Vec<_>>()
    };
    assert_eq!((open(&world), made(&world, "createUser")), (Vec::new(), 2), "{}", world.describe());
    // Left by a version that did not end it.
    let client = world.orders.get_mut("web").unwrap().status.steps.iter_mut().find(|s| s.name == Step::CreateClient.as_str()).unwrap();
    client.state = State::Running.as_str().into();
    world.run_for(seconds(90));
    assert_eq!(open(&world), Vec::<&str>::new(), "{}", world.describe());
    reinstall(&mut world, "again");
    world.until("installed again", Duration::from_hours(2), |w| w.panel.servers["1"].installs == 2 && w.phase("web") == "Active");
}
