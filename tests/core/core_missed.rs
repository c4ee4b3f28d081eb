//! The form of a server is missed although the list shows the server, or shows none at all: neither an order that is prepared nor one that
//! is being deleted waits for that for ever.

use std::time::Duration;

use crate::support::look::{active, reason, stalled};
use crate::support::panel::Panel;
use crate::support::world::{Fault, World, handler, order};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::UserId;
use serde_json::json;

/// For so long nobody is asked, and after so long somebody is.
const SHORT: Duration = Duration::from_mins(110);
const REST: Duration = Duration::from_mins(40);

/// Nobody is asked at first; in the end one department is, and is told this.
fn asked_in_the_end(world: &mut World, what: &str, told: &str) {
    world.run_for(SHORT);
    assert!(world.tasks.is_empty() && world.orders.contains_key("web"), "{what}\n{}", world.describe());
    let waits = world.status("web").waiting_on.as_ref().unwrap();
    assert!(waits.name == "1: form missed" && waits.deadline.is_some(), "{what}: {waits:?}");
    let wake = world.orders["web"].wake.unwrap();
    assert!(wake > crate::support::later(world.now, world.handler.poll), "{what}: each list looks anyway, and is the first to");
    world.run_for(REST);
    assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{what}\n{}", world.describe());
    assert!(world.tasks[0].details.contains(told), "{what}: {}", world.tasks[0].details);
    // One task is enough.
    world.run_for(Duration::from_hours(5));
    assert_eq!(world.tasks.len(), 1, "{what}\n{}", world.describe());
}

#[test]
fn an_order_whose_server_is_missed_while_the_list_is_empty_can_be_given_up() {
    let mut world = World::simple(1, 4);
    world.until_phase("web", "Active");
    world.run_for(Duration::from_mins(2));
    world.panel.server("1").gone = true;
    world.delete("web");
    asked_in_the_end(&mut world, "the only server of the panel", "the panel's list shows no server at all");
    assert!(world.panel.used.iter().any(|used| used.note.contains("u-web")), "an empty list is no proof: nothing is given back");
    world.resolve(TaskType::FailedOperation, Resolution::Abandon);
    world.until_phase("web", "gone");
}

#[test]
fn an_order_in_preparation_goes_on_when_its_entry_is_mended() {
    let mut world = World::simple(3, 6);
    world.until("it has a server", Duration::from_hours(1), |w| w.status("web").server.is_some());
    world.panel.forms_missed.insert("1".into());
    asked_in_the_end(&mut world, "in preparation", "the panel's list shows the server, and the form of server 1 is missed");
    assert_eq!(world.phase("web"), "AwaitingTask");
    world.panel.forms_missed.clear();
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until_phase("web", "Active");
}

#[test]
fn an_order_that_is_being_deleted_goes_on_when_its_entry_is_mended_or_is_given_up() {
    for (policy, resolution) in
        [("Release", Resolution::Retry), ("Release", Resolution::Abandon), ("Orphan", Resolution::Retry), ("Orphan", Resolution::Abandon)]
    {
        let what = format!("{policy}, {resolution:?}");
        let mut world = World::new(Panel::new(2, 4), handler(|h| h["allowedDeletionPolicies"] = json!(["Release", "Orphan"])));
        world.add(order("web", "u-web", |raw| raw["spec"]["deletionPolicy"] = json!(policy)));
        world.until_phase("web", "Active");
        world.run_for(Duration::from_mins(2));
        world.panel.forms_missed.insert("1".into());
        world.delete("web");
        asked_in_the_end(&mut world, &what, "the form of server 1 is missed");
        let retried = resolution == Resolution::Retry;
        if retried {
            world.panel.forms_missed.clear();
        }
        world.resolve(TaskType::FailedOperation, resolution);
        world.until_phase("web", "gone");
        let left = world.panel.servers["1"].notes.contains("u-web");
        assert_eq!(left, !retried, "{what}\n{}", world.describe());
        if retried && policy == "Release" {
            world.assert_clean();
        }
    }
}

/// The client's server is somebody else's by the list, and its form does not tell whose.
#[test]
fn an_active_order_says_so_and_goes_on_by_itself() {
    let mut world = active();
    let client = world.panel.servers["1"].owner.clone();
    world.panel.server("1").owner = Some(UserId("7".into()));
    world.panel.forms_missed.insert("1".into());
    asked_in_the_end(&mut world, "Active", "the form of server 1 is missed");
    assert!(stalled(&world) && reason(world.status("web")) == "NotOurServer", "{}", world.describe());
    world.panel.server("1").owner = client;
    world.panel.forms_missed.clear();
    world.until_phase("web", "Active");
    world.run_for(Duration::from_mins(10));
    assert!(world.open_tasks().is_empty() && !stalled(&world), "{}", world.describe());
}

#[test]
fn a_claim_whose_answer_was_lost_takes_no_second_server_meanwhile() {
    for deleted in [false, true] {
        let what = format!("deleted {deleted}");
        let mut world = World::simple(3, 6);
        (world.always, world.then_reads_fail) = (Some(("claim", Fault::LostApplied)), 1);
        world.until("claimed", Duration::from_hours(1), |w| w.asked.iter().any(|(_, call)| call.name() == "claim"));
        (world.always, world.then_reads_fail) = (None, 0);
        assert!(world.status("web").server.is_none(), "{what}\n{}", world.describe());
        world.panel.forms_missed.insert("1".into());
        if deleted {
            world.delete("web");
        }
        asked_in_the_end(&mut world, &what, "the form of server 1 is missed");
        let owned = |id: &str| world.panel.servers[id].owner.is_some();
        assert!(owned("1") && !owned("2") && !owned("3"), "{what}\n{}", world.describe());
        world.panel.forms_missed.clear();
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        world.until_phase("web", if deleted { "gone" } else { "Active" });
    }
}
