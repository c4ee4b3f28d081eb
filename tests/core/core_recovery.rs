//! A world that went on while the status, the handler or the notes did not: older statuses, other pools, servers out of sight. What the
//! client has stays as it is, and nobody gets a second server.

use std::net::IpAddr;
use std::time::Duration;

use crate::support::look::{active, made, picture, reason, until_reason};
use crate::support::panel::{ADMIN, Panel};
use crate::support::seconds;
use crate::support::world::{Fault, World, handler, order};
use dci_operator::api::order::{OrderStatus, Returning};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::model::{AddressRow, Level, PanelUser, UserId};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::context::after;
use dci_operator::provisioning::facts::HandlerState;
use dci_operator::provisioning::tasks::BY_OPERATOR;
use serde_json::json;

fn with_recipe() -> World {
    let mut world = World::new(Panel::new(3, 6), handler(|_| ()));
    world.add(order("web", "u-web", |raw| raw["spec"]["recipes"] = json!(["ISPsystem__nginx.sh"])));
    world
}

/// Every status that an order had on its way to the client, with a server in it.
fn statuses(world: &mut World) -> Vec<OrderStatus> {
    let mut all: Vec<OrderStatus> = Vec::new();
    while world.phase("web") != "Active" {
        world.step();
        let status = world.status("web").clone();
        if status.server.is_some() && all.last() != Some(&status) {
            all.push(status);
        }
    }
    all
}

/// etcd is put back to a time before: the status is an old one, everything else is as it is.
fn put_back(world: &mut World, status: OrderStatus) {
    let stored = world.orders.get_mut("web").unwrap();
    stored.status = status;
    stored.version += 1;
    world.restart();
}

#[test]
fn an_older_status_neither_installs_over_a_clients_data_nor_gives_his_server_back() {
    let all = statuses(&mut with_recipe());
    assert!(all.len() >= 8, "{} statuses", all.len());
    for (at, status) in all.into_iter().enumerate() {
        for returning in [false, true] {
            let mut world = with_recipe();
            world.until_phase("web", "Active");
            world.run_for(Duration::from_hours(1));
            let (before, client) = (picture(&world), world.panel.user("acme").unwrap().id.clone());
            let mut status = status.clone();
            if returning {
                let since = status.server.as_ref().and_then(|_| status.steps[0].started_at).unwrap();
                status.server.as_mut().unwrap().returning =
                    Some(Returning { reason: "RecipeFailed".into(), message: "it failed".into(), then: "TryAnother".into(), since });
            }
            if status.server.as_ref().is_some_and(|s| s.handed_over_at.is_some()) && returning {
                continue;
            }
            put_back(&mut world, status);
            world.until_phase("web", "Active");
            world.run_for(Duration::from_hours(12));
            let server = &world.panel.servers["1"];
            assert_eq!((server.installs, server.owner.as_ref()), (1, Some(&client)), "{at} {returning}\n{}", world.describe());
            assert_eq!(picture(&world), before, "{at} {returning}\n{}", world.describe());
        }
    }
}

/// What somebody does to a world.
type Change = fn(&mut World);

/// The handler is changed while an order is Active; then its domain is.
#[test]
fn the_main_address_of_a_client_stays_whatever_becomes_of_the_pool() {
    let changes: [(&str, Change); 4] = [
        ("another group", |w| w.handler = handler(|h| h["ipManagement"]["publicIPType"] = json!("public2"))),
        ("another address manager", |w| {
            for used in &mut w.panel.used {
                used.note.clear();
                used.group = "elsewhere".into();
            }
        }),
        ("the record is gone", |w| w.panel.used.retain(|u| u.group != "public")),
        ("the group was renamed", |w| w.panel.used.iter_mut().for_each(|u| u.group = u.group.replace("public", "old"))),
    ];
    for (what, change) in changes {
        for restored in [false, true] {
            let mut world = active();
            world.panel.free.insert("public2".into(), vec!["198.51.100.1".parse().unwrap(), "198.51.100.2".parse().unwrap()]);
            let (main, replaced) = (world.panel.servers["1"].main, made(&world, "replaceMainAddress"));
            change(&mut world);
            if restored {
                put_back(&mut world, OrderStatus { observed_generation: Some(-1), ..OrderStatus::default() });
            }
            world.edit("web", |raw| raw.spec.domain = "new.example.net".into());
            world.run_for(Duration::from_hours(1));
            assert_eq!(world.phase("web"), "Active", "{what}\n{}", world.describe());
            assert_eq!(
                (world.panel.servers["1"].main, made(&world, "replaceMainAddress")),
                (main, replaced),
                "{what}\n{}",
                world.describe()
            );
            assert_eq!(world.panel.servers["1"].rows.iter().map(|r| r.domain.as_str()).collect::<Vec<_>>(), ["new.example.net"], "{what}");
        }
    }
}

#[test]
fn addresses_of_a_group_that_is_not_used_any_more_are_given_back_like_the_others() {
    let mut world = World::new(Panel::new(3, 6), handler(|_| ()));
    world.add(order("web", "u-web", |raw| raw["spec"]["addresses"] = json!({"ipv4": 2})));
    world.until_phase("web", "Active");
    world.handler = handler(|h| h["ipManagement"]["publicIPType"] = json!("public2"));
    world.panel.free.insert("public2".into(), vec!["198.51.100.1".parse().unwrap()]);
    world.edit("web", |raw| raw.spec.domain = "new.example.net".into());
    world.run_for(Duration::from_hours(1));
    assert_eq!((world.phase("web"), world.panel.free["public2"].len()), ("Active", 1), "it has two\n{}", world.describe());
    world.delete("web");
    world.until_phase("web", "gone");
    world.assert_clean();
}

fn restored(world: &mut World) {
    world.orders.remove("web");
    world.restart();
    world.add(order("web", "u-new", |raw| raw["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": "u-web"})));
}

#[test]
fn a_restored_order_whose_server_is_out_of_sight_takes_no_second_one_and_frees_no_address_in_use() {
    let several = || {
        let mut world = World::new(Panel::new(3, 6), handler(|_| ()));
        world.add(order("web", "u-web", |raw| raw["spec"]["addresses"] = json!({"ipv4": 2, "ipv6": 1})));
        world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
        world.until_phase("web", "Active");
        world.run_for(seconds(90));
        // The list shows main addresses only; the additional ones come first.
        world.panel.used.reverse();
        world
    };
    for (deleted, world) in [false, true].into_iter().flat_map(|deleted| [active as fn() -> World, several].map(|world| (deleted, world))) {
        let mut world = world();
        let client = world.panel.server("1").owner.replace(UserId("7".into()));
        let before = picture(&world);
        restored(&mut world);
        if deleted {
            world.delete("web");
        }
        until_reason(&mut world, if deleted { "NotOurServer" } else { "PreviousServerFound" });
        world.run_for(Duration::from_hours(6));
        assert_eq!(picture(&world), before, "deleted {deleted}\n{}", world.describe());
        // Its owner is put back.
        world.panel.server("1").owner = client;
        world.until_phase("web", if deleted { "gone" } else { "Active" });
        if deleted {
            world.assert_clean();
        }
    }
}

#[test]
fn a_client_whose_name_is_another_users_id_does_not_have_that_users_servers() {
    let admin = |world: &World| world.panel.users.iter().find(|u| u.name == ADMIN).unwrap().id.0.clone();
    let mut world = World::new(Panel::new(3, 6), handler(|_| ()));
    let name = admin(&world);
    world.add(order("web", "u-web", |raw| raw["spec"]["client"]["username"] = json!(name)));
    world.until_phase("web", "Active");
    let client = world.panel.user(&name).unwrap().id.clone();
    assert_ne!(client.0, name);
    let server = &world.panel.servers["1"];
    assert_eq!((server.installs, server.owner.as_ref()), (1, Some(&client)), "{}", world.describe());
    // Nor are the servers of somebody whose id it is taken over.
    let mut world = World::new(Panel::new(3, 6), handler(|h| h["adoption"] = json!("Allowed")));
    world.panel.users.push(PanelUser { id: "70".into(), name: "bob".into(), level: Level::User });
    world.panel.users.push(PanelUser { id: "71".into(), name: "70".into(), level: Level::User });
    world.panel.server("2").owner = Some(UserId("70".into()));
    world.add(order("web", "u-web", |raw| {
        raw["spec"]["client"]["username"] = json!("70");
        raw["spec"]["adopt"] = json!({"serverId": "2"});
    }));
    until_reason(&mut world, "AdoptionRefused");
    assert!(world.panel.servers["2"].notes.is_empty(), "{}", world.describe());
}

#[test]
fn a_claim_whose_answer_was_lost_is_not_repeated_on_a_server_that_is_not_sold_any_more() {
    for fault in [Fault::CrashBefore, Fault::LostNot] {
        for kind in [true, false] {
            let mut world = World::simple(3, 4);
            // After the client's user.
            world.faults.insert(1, fault);
            world.until("claimed", Duration::from_hours(1), |w| matches!(w.asked.last(), Some((_, Call::Claim { .. }))));
            let Some((_, Call::Claim { server, .. })) = world.asked.last().cloned() else { unreachable!() };
            if kind {
                world.panel.server(&server.0).kind = "E5-64G".into();
            } else {
                world.panel.server(&server.0).rows[0].domain = "reserved.example.net".into();
            }
            world.until_phase("web", "Active");
            assert!(world.panel.servers[&server.0].owner.is_none(), "{fault:?}\n{}", world.describe());
            assert_eq!(world.panel.servers.values().filter(|s| s.owner.is_some()).count(), 1);
        }
    }
}

#[test]
fn a_server_that_its_client_switched_on_again_is_not_released_running() {
    let mut world = active();
    let parking = world.panel.free.insert("parking".into(), Vec::new()).unwrap();
    world.delete("web");
    world.until("a wait", Duration::from_hours(1), |w| w.status("web").waiting_on.as_ref().is_some_and(|wait| wait.kind == "Capacity"));
    world.panel.server("1").on = true;
    world.panel.free.insert("parking".into(), parking);
    world.until_phase("web", "gone");
    world.assert_clean();
    assert_eq!(made(&world, "powerOff"), 2);
}

/// An order was told to take one of two markers out of a server's notes: owner and host name stay, and the list tells nothing of it.
#[test]
fn a_marker_that_is_taken_out_by_hand_is_noticed() {
    let mut world = active();
    let other = "k8s:cluster-1/shop/other/u-other";
    world.panel.server("1").notes = format!("{} {other}", world.panel.servers["1"].notes);
    restored(&mut world);
    until_reason(&mut world, "NotOurServer");
    world.panel.server("1").notes = other.into();
    world.panel.used.retain(|u| u.note != "k8s:u-web");
    let end = after(world.now, Duration::from_hours(1));
    world.until("another server", Duration::from_hours(2), |w| w.now > end || w.phase("web") == "Active");
    assert_eq!(world.status("web").server.as_ref().map(|s| s.id.as_str()), Some("2"), "{}", world.describe());
    // Nor does the marker of an earlier order of this name hold back for ever.
    let mut world = active();
    world.orders.remove("web");
    world.restart();
    world.add(order("web", "u-new", |_| ()));
    until_reason(&mut world, "PreviousServerFound");
    world.panel.server("1").notes.clear();
    world.until_phase("web", "Active");
    assert_eq!(reason(world.status("web")), "Active");
    world.run_for(seconds(60));
    assert!(world.tasks.iter().all(|t| t.resolution != Some(Resolution::Done)));
}

/// A server that has got its main address, and whose installation the panel refuses.
fn before_the_installation() -> (World, IpAddr) {
    let mut world = World::simple(3, 6);
    world.always = Some(("install", Fault::Refused));
    world.until("an address", Duration::from_hours(1), |w| made(w, "giveBackAddress") == 1 && w.status("web").last_error.is_some());
    let main = world.panel.servers["1"].main;
    (world, main)
}

/// The panel takes it, and whoever was asked says so.
fn installs_again(world: &mut World) {
    world.always = None;
    for task in &mut world.tasks {
        task.resolution = Some(Resolution::Retry);
    }
    world.until_phase("web", "Active");
}

/// Somebody gives the server another main address after it got its own, and before the system is installed with that.
#[test]
fn a_main_address_that_is_changed_before_the_installation_is_put_right() {
    let (mut world, main) = before_the_installation();
    let moved = "192.0.2.1".parse().unwrap();
    let server = world.panel.server("1");
    (server.main, server.rows[0].address) = (moved, moved);
    world.until("seen", Duration::from_hours(1), |w| w.panel.servers["1"].main == main);
    installs_again(&mut world);
    assert_eq!(world.panel.servers["1"].main, main, "{}", world.describe());
}

/// The panel cuts our marker short, and the process dies before it has seen that: what is left of it looks like an earlier order's.
#[test]
fn a_claim_that_was_cut_short_is_undone_after_a_crash() {
    let mut world = World::simple(3, 6);
    world.panel.notes_max = "k8s:cluster-1/shop/web/u-web".len() - 2;
    world.faults.insert(1, Fault::CrashAfter);
    until_reason(&mut world, "MarkerTruncated");
    assert!(world.panel.servers.values().all(|s| s.owner.is_none() && s.notes.is_empty()), "{}", world.describe());
}

/// The same, and the panel refuses to take the rest away, and does not answer what is asked next.
#[test]
fn a_claim_that_was_cut_short_is_not_forgotten_where_the_panel_goes_down_after_a_refusal() {
    for reads in 0..4 {
        let mut world = World::simple(3, 6);
        world.panel.notes_max = "k8s:cluster-1/shop/web/u-web".len() - 2;
        world.faults.extend([(1, Fault::CrashAfter), (2, Fault::Refused)]);
        world.then_reads_fail = reads;
        until_reason(&mut world, "MarkerTruncated");
        assert!(world.panel.servers.values().all(|s| s.owner.is_none() && s.notes.is_empty()), "{reads}: {}", world.describe());
    }
}

/// The main address of a server is of whichever family its parking address was.
#[test]
fn a_main_address_of_the_other_family_counts_in_its_own() {
    let mut world = World::new(Panel::new(2, 6), handler(|_| ()));
    world.add(order("web", "u-web", |raw| raw["spec"]["addresses"] = json!({"ipv4": 1, "ipv6": 1})));
    let parked = "fd00::1".parse().unwrap();
    for id in ["1", "2"] {
        let server = world.panel.server(id);
        (server.main, server.rows[0].address) = (parked, parked);
    }
    world.panel.used.retain(|u| u.address.to_string() != "10.0.0.1");
    world.panel.used.push(crate::support::pool::parked(parked));
    world.until_phase("web", "Active");
    let before: Vec<_> = world.panel.servers["1"].rows.iter().map(|r| r.address).collect();
    assert!(world.panel.servers["1"].main.is_ipv6() && before.len() == 2, "{}", world.describe());
    world.edit("web", |raw| raw.spec.domain = "new.example.net".into());
    world.run_for(Duration::from_hours(1));
    let after: Vec<_> = world.panel.servers["1"].rows.iter().map(|r| r.address).collect();
    assert_eq!((world.phase("web"), after), ("Active", before), "{}", world.describe());
    world.assert_quiet();
}

/// Before the installation somebody gives the server another main address, and leaves it the one that it had.
#[test]
fn a_main_address_that_is_added_before_the_installation_is_replaced() {
    let (mut world, main) = before_the_installation();
    let added = "192.0.2.1".parse().unwrap();
    let server = world.panel.server("1");
    let row = AddressRow { row: "900".into(), address: added, ..server.rows[0].clone() };
    server.rows.push(row);
    server.main = added;
    world.until("put right", Duration::from_hours(2), |w| w.panel.servers["1"].main == main && w.panel.servers["1"].rows.len() == 1);
    installs_again(&mut world);
    world.assert_quiet();
}

/// Where main addresses are not changed those that carry the note are additional ones, and the list shows none of them.
#[test]
fn addresses_of_a_server_out_of_sight_stay_where_the_main_one_is_not_ours() {
    let mut world = World::new(Panel::new(3, 6), handler(|h| h["ipManagement"]["disableIPChange"] = json!(true)));
    world.add(order("web", "u-web", |raw| raw["spec"]["addresses"] = json!({"ipv4": 2})));
    world.panel.users.push(PanelUser { id: "7".into(), name: "bob".into(), level: Level::User });
    world.until_phase("web", "Active");
    world.run_for(seconds(90));
    let client = world.panel.server("1").owner.replace(UserId("7".into()));
    let before = picture(&world);
    restored(&mut world);
    world.delete("web");
    until_reason(&mut world, "NotOurServer");
    world.run_for(Duration::from_hours(6));
    assert_eq!(picture(&world), before, "{}", world.describe());
    world.panel.server("1").owner = client;
    world.until_phase("web", "gone");
    world.assert_clean();
}

/// The panel takes the claim, and keeps nothing of what was added to the notes.
#[test]
fn a_claim_whose_marker_was_not_kept_is_undone_and_no_second_server_is_taken() {
    for kept in ["", "k8s:"] {
        let mut world = World::simple(3, 6);
        world.panel.notes_max = kept.len();
        until_reason(&mut world, "MarkerTruncated");
        let names: Vec<&str> = world.asked.iter().map(|(_, c)| c.name()).filter(|n| n.ends_with("laim")).collect();
        assert_eq!(names, ["claim", "unclaim"], "{kept:?}: {}", world.describe());
        assert!(world.panel.servers.values().all(|s| s.owner.is_none() && s.notes.is_empty()), "{}", world.describe());
    }
}

/// The same, and the answer never comes: a person may have given the server to the operator's user since, so it is not touched.
#[test]
fn a_claim_that_may_have_kept_no_marker_is_told_and_no_second_server_is_taken() {
    for (fault, goes) in [Fault::LostApplied, Fault::CrashAfter].into_iter().flat_map(|fault| [(fault, false), (fault, true)]) {
        let mut world = World::simple(3, 6);
        world.panel.notes_max = 0;
        world.faults.insert(1, fault);
        until_reason(&mut world, "MarkerTruncated");
        world.run_for(Duration::from_hours(3));
        world.restart();
        world.run_for(Duration::from_hours(1));
        let names: Vec<&str> = world.asked.iter().map(|(_, c)| c.name()).filter(|n| n.ends_with("laim")).collect();
        assert_eq!(names, ["claim"], "{fault:?}: {}", world.describe());
        let told = world.status("web").last_error.as_ref().map(|e| e.message.clone()).unwrap_or_default();
        assert!(told.contains("server 1 was asked for, and has an owner without a marker"), "{told}");
        if goes {
            // Nor is it forgotten when the order goes.
            world.delete("web");
            world.until("a task", Duration::from_hours(12), |w| w.open_tasks() == [TaskType::FailedOperation]);
            // `Done` is not believed while it is not so.
            world.resolve(TaskType::FailedOperation, Resolution::Done);
            world.run_for(Duration::from_hours(1));
            assert_eq!(
                (world.open_tasks().as_slice(), world.tasks.len()),
                ([TaskType::FailedOperation].as_slice(), 2),
                "{}",
                world.describe()
            );
            world.panel.server("1").owner = None;
            world.resolve(TaskType::FailedOperation, Resolution::Done);
            world.until_phase("web", "gone");
            world.assert_clean();
        } else if fault == Fault::CrashAfter {
            // A person put the marker there: it is the order's.
            world.panel.notes_max = usize::MAX;
            world.panel.server("1").notes = "k8s:cluster-1/shop/web/u-web".into();
            world.until_phase("web", "Active");
            assert_eq!(world.asked.iter().filter(|(_, c)| c.name() == "claim").count(), 1);
        } else {
            // A person took the owner away: it goes on.
            world.panel.server("1").owner = None;
            world.panel.notes_max = usize::MAX;
            world.until_phase("web", "Active");
        }
    }
    // Known to be made, and not let go at once: it is not undone later, when somebody may have had his hands on it, but told.
    let mut world = World::simple(3, 6);
    world.panel.notes_max = 0;
    world.faults.insert(2, Fault::Refused);
    until_reason(&mut world, "MarkerTruncated");
    world.run_for(Duration::from_hours(3));
    let names: Vec<&str> = world.asked.iter().map(|(_, c)| c.name()).filter(|n| n.ends_with("laim")).collect();
    assert_eq!(names, ["claim", "unclaim"], "{}", world.describe());
    // The server is taken out of the panel: there is nothing left to look at.
    world.panel.server("1").gone = true;
    world.panel.notes_max = usize::MAX;
    world.until_phase("web", "Active");
    // Word for word what every marker begins with, on a server that somebody else has.
    let mut world = World::simple(1, 4);
    world.faults.insert(1, Fault::CrashBefore);
    world.until("the claim is asked for", Duration::from_hours(1), |w| w.asked.len() > 1);
    let server = world.panel.server("1");
    (server.owner, server.notes) = (Some("7".into()), "k8s: ask the desk".into());
    world.run_for(Duration::from_hours(3));
    assert!(world.panel.servers["1"].owner.is_some() && world.panel.servers["1"].notes.starts_with("k8s:"), "{}", world.describe());
}

/// What concerns one server only is not the panel's failure: its list is answered all the time.
#[test]
fn a_server_that_cannot_be_read_while_the_panel_answers_is_told_to_a_department() {
    let mut world = World::simple(1, 4);
    world.until_phase("web", "Active");
    world.delete("web");
    world.read_faults.extend(world.reads..world.reads + 100_000);
    world.until("a task", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let waits = world.status("web").steps.iter().map(|s| s.message.clone()).collect::<Vec<_>>();
    assert!(waits.iter().any(|message| message.contains("no answer")), "{waits:?}");
    world.read_faults.clear();
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.until_phase("web", "gone");
    world.assert_clean();
}

/// A read that fails once, after the panel was away for long, is not what the order was waiting for.
#[test]
fn one_read_that_fails_when_the_panel_is_back_counts_for_nothing() {
    let mut world = World::new(Panel::new(1, 4), handler(|h| h["retry"]["maxAttempts"] = json!(1)));
    world.add(order("web", "u-web", |_| ()));
    world.until_phase("web", "Active");
    world.state = HandlerState::NotReady("down".into());
    world.delete("web");
    world.run_for(Duration::from_hours(5));
    world.state = HandlerState::Ready;
    world.read_faults.insert(world.reads);
    world.until_phase("web", "gone");
    assert!(world.read_faults.is_empty() && world.tasks.is_empty(), "{}", world.describe());
}

/// Asked about half a claim in the very pass that made it, the department says `Done`: what is left of it is looked for all the same.
#[test]
fn done_about_half_a_claim_does_not_forget_it() {
    let mut world = World::new(Panel::new(3, 4), handler(|h| h["retry"]["maxAttempts"] = json!(1)));
    world.add(order("web", "u-web", |_| ()));
    world.panel.notes_max = 20;
    world.faults.insert(2, Fault::Refused);
    world.until("a task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
    world.resolve(TaskType::FailedOperation, Resolution::Done);
    world.until("it is not so", Duration::from_hours(1), |w| w.tasks.len() == 2);
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    until_reason(&mut world, "MarkerTruncated");
    let claims = world.asked.iter().filter(|(_, c)| c.name() == "claim").count();
    assert!(claims == 1 && world.panel.servers.values().all(|s| s.owner.is_none() && s.notes.is_empty()), "{}", world.describe());
    // What the department was asked is settled: the order goes on when it is asked to.
    world.panel.notes_max = usize::MAX;
    world.force("web");
    world.until_phase("web", "Active");
    assert_eq!(world.tasks.len(), 2, "{}", world.describe());
}

/// What the operator closes, while an order is away or points elsewhere, is no department's answer.
#[test]
fn a_task_that_the_operator_closed_is_asked_anew_where_it_is_needed() {
    let mut world = World::simple(1, 4);
    world.panel.installs_that_fail = 3;
    world.until("a task", Duration::from_hours(12), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let task = world.tasks.last_mut().unwrap();
    (task.resolution, task.note) = (Some(Resolution::Cancelled), format!("{BY_OPERATOR}its order is gone"));
    world.force("web");
    world.until("another task", Duration::from_hours(1), |w| w.tasks.len() == 2);
    assert_eq!((world.open_tasks().as_slice(), world.phase("web")), ([TaskType::FailedOperation].as_slice(), "AwaitingTask"));
}
