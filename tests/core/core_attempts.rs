//! How often anything is tried, how attempts are spread, and how many writes and looks calls of one step cost together.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::changes::reinstall;
use crate::support::look::{active, made};
use crate::support::seconds;
use crate::support::sweep::{Kind, reach};
use crate::support::world::{Fault, World, order};
use crate::support::{later, panel::Panel, world::handler};
use dci_operator::api::handler::DeletionPolicy;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::retry::jittered;
use serde_json::{from_value, json};

/// Orders that fail together are not tried again together.
#[test]
fn attempts_are_spread_over_a_fifth_of_the_interval() {
    let interval = Duration::from_secs(1000);
    let all: Vec<u64> = (0..1000).map(|n| jittered(interval, &format!("u-{n}"), n % 3 + 1).as_secs()).collect();
    for band in 0..10 {
        let (from, to) = (900 + 20 * band, 920 + 20 * band);
        let hits = all.iter().filter(|at| (from..to).contains(*at)).count();
        assert!((60..=150).contains(&hits), "{hits} of 1000 from {from} to {to}");
    }
    assert!(all.iter().collect::<BTreeSet<_>>().len() > 150);
}

/// What one step asks for is covered by one intent, written once; the marker is read once for all of it.
#[test]
fn additional_addresses_cost_one_intent_together() {
    let mut world = active();
    let (writes, asked, reads) = (world.writes, world.asked.len(), world.reads);
    world.edit("web", |raw| raw.spec.addresses.ipv4 = 4);
    world.run_for(Duration::from_mins(10));
    assert_eq!((world.panel.servers["1"].rows.len(), world.phase("web")), (4, "Active"));
    // Three are taken, and three are put onto the server; the intent is one write, and that it is over is the other.
    assert_eq!((world.asked.len() - asked, world.writes - writes), (6, 2), "{}", world.describe());
    assert!(world.reads - reads <= 15, "{} reads", world.reads - reads);
}

/// A parking address that IPmanager does not take back does not keep the server: it is tried so often, and told.
#[test]
fn a_parking_address_that_cannot_go_back_is_tried_as_often_as_anything() {
    let mut world = World::new(Panel::new(2, 4), handler(|h| h["allowedDeletionPolicies"] = json!(["Release", "Orphan"])));
    world.add(order("web", "u-web", |_| ()));
    world.always = Some(("giveBackAddress", Fault::Refused));
    world.until_phase("web", "Active");
    let before = world.asked.iter().filter(|(_, c)| c.name() == "giveBackAddress").count();
    world.edit("web", |raw| raw.spec.deletion_policy = DeletionPolicy::Orphan);
    world.delete("web");
    world.until_phase("web", "gone");
    let tries = world.asked.iter().filter(|(_, c)| c.name() == "giveBackAddress").count() - before;
    assert_eq!(tries, usize::try_from(world.handler.max_attempts).unwrap(), "{}", world.describe());
}

#[test]
fn an_empty_parking_group_is_told_after_as_many_tries_as_anything() {
    let mut world = active();
    let at = world.asked.len();
    world.panel.free.insert("parking".into(), Vec::new());
    world.delete("web");
    world.until("a task", Duration::from_hours(6), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let tries = world.asked[at..].iter().filter(|(_, c)| c.name() == "takeAddress").count();
    assert_eq!(tries, usize::try_from(world.handler.max_attempts).unwrap(), "{}", world.describe());
}

/// The licences are given up with that, and nothing else is.
#[test]
fn a_server_is_taken_back_although_its_licences_were_abandoned() {
    let mut world = Kind::Licensed.world();
    reach(&mut world, "Active", Kind::Licensed);
    world.always = Some(("suspendLicense", Fault::Refused));
    world.delete("web");
    world.until("a task", Duration::from_hours(12), |w| w.open_tasks() == [TaskType::FailedOperation]);
    world.resolve(TaskType::FailedOperation, Resolution::Abandon);
    world.until_phase("web", "gone");
    assert_eq!(made(&world, "release"), 1, "{}", world.describe());
    assert!(world.panel.servers["1"].owner.is_none() && world.panel.servers["1"].notes.is_empty());
}

/// It is made beside an order that is at something else: that has not failed.
#[test]
fn a_renewal_without_an_answer_is_no_error_of_a_reinstallation() {
    let mut world = Kind::Licensed.world();
    world.edit("web", |raw| raw.spec.licenses = vec![from_value(json!({"product": "Lite"})).unwrap()]);
    reach(&mut world, "Active", Kind::Licensed);
    world.run_for(seconds(60));
    reinstall(&mut world, "again");
    world.until("installing", seconds(600), |w| w.panel.servers["1"].operation.is_some());
    let end = later(world.now, Duration::from_hours(24));
    world.panel.licenses.rows.values_mut().for_each(|bought| bought.expires = end);
    let at = world.asked.len();
    world.faults.insert(at, Fault::LostNot);
    world.until("asked for", Duration::from_hours(2), |w| w.asked.len() > at);
    assert_eq!(world.asked[at].1.name(), "renewLicense");
    let status = world.status("web");
    assert!(status.in_flight.is_some() && status.last_error.is_none() && status.attempts_for.is_none(), "{}", world.describe());
}

/// What is told anew of one failure is that failure, and no further one.
#[test]
fn a_recipe_whose_answer_is_lost_has_failed_once_however_often_that_is_told() {
    let mut world = World::new(Panel::new(2, 4), handler(|h| h["dialect"] = json!({"runRecipe": {"func": "x"}})));
    world.add(order("web", "u-web", |_| ()));
    world.until_phase("web", "Active");
    world.faults.insert(world.asked.len(), Fault::LostNot);
    world.edit("web", |raw| raw.spec.recipes = vec!["a.sh".into()]);
    world.until("a task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
    assert_eq!(world.status("web").attempts, 1);
    for recipe in ["b.sh", "c.sh"] {
        world.edit("web", |raw| raw.spec.recipes.push(recipe.into()));
        world.run_for(Duration::from_hours(1));
        let told = (world.status("web").attempts, world.open_tasks().len(), made(&world, "runRecipe"));
        assert_eq!(told, (1, 1, 0), "{}", world.describe());
        assert!(world.tasks.last().unwrap().details.contains("Attempts: 1 "), "{}", world.tasks.last().unwrap().details);
    }
}
