//! What is decided while the operator's panel user is an ordinary one: it is shown its own servers only, and told that no others exist. And
//! while a filter that is stored for it hides users.

use std::time::Duration;

use crate::support::look::stalled;
use crate::support::panel::Panel;
use crate::support::seconds;
use crate::support::world::{World, handler, order};
use dci_operator::api::task::TaskType;
use dci_operator::panel::model::Level;
use serde_json::json;

/// `web` is Active, and `slow` is being prepared for an hour: it is the operator's user who has its server, so that no list is empty.
fn beside_another(policy: &str) -> World {
    let mut world = World::new(Panel::new(3, 6), handler(|h| h["allowedDeletionPolicies"] = json!(["Release", "Orphan"])));
    world.add(order("web", "u-web", |raw| raw["spec"]["deletionPolicy"] = json!(policy)));
    world.until_phase("web", "Active");
    world.run_for(seconds(90));
    world.panel.install_takes = Duration::from_hours(1);
    world.add(order("slow", "u-slow", |_| ()));
    world.until("slow is being installed", Duration::from_hours(1), |w| w.panel.servers["2"].operation.is_some());
    world
}

/// Everything that the client of `web` has, and nobody else may get.
fn clients(world: &World) -> String {
    format!("{:?} {:?}", world.panel.servers["1"], world.panel.used)
}

#[test]
fn a_server_that_an_ordinary_user_is_not_shown_is_not_gone() {
    for (policy, deleted) in [("Release", true), ("Orphan", true), ("Release", false)] {
        for hides_users in [true, false] {
            let what = format!("{policy}, deleted {deleted}, users hidden {hides_users}");
            let mut world = beside_another(policy);
            let before = clients(&world);
            world.panel.hides_users = hides_users;
            world.panel.set_level(Level::User);
            if deleted {
                world.delete("web");
            }
            world.run_for(Duration::from_mins(20));
            assert_eq!(clients(&world), before, "{what}\n{}", world.describe());
            assert!(world.orders.contains_key("web") && !stalled(&world) && world.tasks.is_empty(), "{what}\n{}", world.describe());
            world.panel.set_level(Level::Administrator);
            world.until_phase("web", if deleted { "gone" } else { "Active" });
            for name in ["web", "slow"] {
                world.delete(name);
                world.until_phase(name, "gone");
            }
            if policy == "Release" {
                world.assert_clean();
            }
        }
    }
}

#[test]
fn what_an_ordinary_user_is_shown_is_not_all_that_a_restored_order_may_have() {
    for deleted in [true, false] {
        for hides_users in [true, false] {
            let what = format!("deleted {deleted}, users hidden {hides_users}");
            let mut world = beside_another("Release");
            let before = clients(&world);
            world.panel.hides_users = hides_users;
            world.panel.set_level(Level::User);
            world.orders.remove("web");
            world.restart();
            world.add(order("web", "u-new", |raw| raw["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": "u-web"})));
            if deleted {
                world.delete("web");
            }
            world.run_for(Duration::from_mins(20));
            assert_eq!(clients(&world), before, "{what}\n{}", world.describe());
            assert!(world.orders.contains_key("web") && world.tasks.is_empty(), "{what}\n{}", world.describe());
            world.panel.set_level(Level::Administrator);
            world.until_phase("web", if deleted { "gone" } else { "Active" });
            let owned = |id: &str| world.panel.servers[id].owner.is_some();
            assert_eq!((owned("1"), owned("3")), (!deleted, false), "{what}\n{}", world.describe());
        }
    }
}

/// A list of what the whole panel has is read by all orders: that it lacks some is the handler's failure, and not one of each of them.
#[test]
fn users_that_are_hidden_are_the_handlers_failure_and_no_orders() {
    let mut world = beside_another("Release");
    world.panel.users_incomplete = true;
    world.delete("web");
    world.run_for(Duration::from_mins(90));
    for name in ["web", "slow"] {
        let waits = world.status(name).waiting_on.as_ref().unwrap();
        assert_eq!((waits.kind.as_str(), waits.name.as_str()), ("Handler", "hosting/msk-1: IncompleteAnswer"), "{}", world.describe());
    }
    assert!(world.tasks.is_empty() && world.panel.servers["1"].owner.is_some(), "{}", world.describe());
    world.panel.users_incomplete = false;
    world.until_phase("slow", "Active");
    world.until_phase("web", "gone");
    // Where it lasts, while the panel's other list is answered, somebody has to look.
    world.panel.users_incomplete = true;
    world.delete("slow");
    world.run_for(Duration::from_hours(3));
    assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{}", world.describe());
}
