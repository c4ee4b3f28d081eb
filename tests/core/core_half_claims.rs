//! Panels that do not keep a claim's marker as it was written: what they made of it is told from what others wrote. What may be the order's
//! is not forgotten, nobody else's is undone, and no second server is taken meanwhile.

use std::time::Duration;

use crate::support::look::{reason, until_reason};
use crate::support::panel::ADMIN;
use crate::support::world::{Fault, World};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;

/// The order's marker.
const MARKER: &str = "k8s:cluster-1/shop/web/u-web";
/// How a claim may go: its answer may come, be lost, or find nobody.
const ANSWERS: [Option<Fault>; 3] = [None, Some(Fault::LostApplied), Some(Fault::CrashAfter)];

/// A world whose panel keeps so much of notes, writes that for a slash, and adds this.
fn world(servers: usize, kept: usize, slash: &'static str, end: &'static str) -> World {
    let mut world = World::simple(servers, 9);
    (world.panel.notes_max, world.panel.notes_slash, world.panel.notes_end) = (kept, slash, end);
    world
}

/// From now on the panel keeps what is written.
fn mend(world: &mut World) {
    (world.panel.notes_max, world.panel.notes_slash, world.panel.notes_end) = (usize::MAX, "/", "");
}

/// Claims, and what undoes them.
fn claims(world: &World) -> Vec<&str> {
    world.asked.iter().map(|(_, call)| call.name()).filter(|name| name.ends_with("laim")).collect()
}

#[test]
fn a_claim_whose_marker_was_changed_is_undone_and_no_second_server_is_taken() {
    let altered = [
        (usize::MAX, "/", "…"),
        (usize::MAX, "/", "<br>"),
        (usize::MAX, "/", "<br/>"),
        (usize::MAX, "\\/", ""),
        (usize::MAX, "&#47;", ""),
        (usize::MAX, "%2F", ""),
        (26, "/", "&hellip;"),
        (20, "/", "..."),
        (4, "/", "…"),
    ];
    for (kept, slash, end) in altered {
        for fault in ANSWERS {
            let tell = |world: &World| format!("{kept} {slash} {end} {fault:?}\n{}", world.describe());
            let mut world = world(3, kept, slash, end);
            world.faults.extend(fault.map(|fault| (1, fault)));
            until_reason(&mut world, "MarkerTruncated");
            assert_eq!(claims(&world), ["claim", "unclaim"], "{}", tell(&world));
            assert!(world.panel.servers.values().all(|s| s.owner.is_none() && s.notes.is_empty()), "{}", tell(&world));
            mend(&mut world);
            world.force("web");
            world.until_phase("web", "Active");
            assert_eq!(claims(&world), ["claim", "unclaim", "claim"], "{}", tell(&world));
        }
    }
}

/// Nobody knows whose word it is that stands where the marker should: it is told, and neither forgotten nor undone.
#[test]
fn a_claim_beside_a_word_that_nobody_knows_is_told_and_no_second_server_is_taken() {
    for (fault, goes) in ANSWERS.into_iter().flat_map(|fault| [(fault, false), (fault, true)]) {
        let mut world = world(3, 4, "/", "42");
        world.faults.extend(fault.map(|fault| (1, fault)));
        until_reason(&mut world, "MarkerTruncated");
        world.run_for(Duration::from_hours(3));
        world.restart();
        world.run_for(Duration::from_hours(1));
        assert_eq!(
            (claims(&world).as_slice(), reason(world.status("web"))),
            (["claim"].as_slice(), "MarkerTruncated"),
            "{}",
            world.describe()
        );
        let told = world.status("web").last_error.as_ref().map(|e| e.message.clone()).unwrap_or_default();
        assert!(told.contains("server 1 was asked for, and carries `k8s:42`"), "{told}");
        mend(&mut world);
        if goes {
            world.delete("web");
            world.until("a task", Duration::from_hours(12), |w| w.open_tasks() == [TaskType::FailedOperation]);
            assert!(world.panel.servers["1"].owner.is_some() && world.status("web").in_flight.is_some(), "{}", world.describe());
            let server = world.panel.server("1");
            (server.owner, server.notes) = (None, String::new());
            world.resolve(TaskType::FailedOperation, Resolution::Done);
            world.until_phase("web", "gone");
            world.assert_clean();
        } else if fault.is_none() {
            // A person took the owner away: it goes on.
            world.panel.server("1").owner = None;
            world.until_phase("web", "Active");
            assert_eq!(world.status("web").server.as_ref().map(|s| s.id.as_str()), Some("2"));
        } else {
            // A person put the marker there: it is the order's.
            world.panel.server("1").notes = MARKER.into();
            world.until_phase("web", "Active");
            assert_eq!(claims(&world), ["claim"], "{}", world.describe());
        }
    }
}

/// Whatever stands there by now, both markers in the notes of one server are a person's to tell apart.
#[test]
fn a_claim_that_finds_another_marker_beside_its_own_takes_no_second_server() {
    let other = "k8s:cluster-2/shop/web/u-9";
    for (ours, goes) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut world = world(3, usize::MAX, "/", " k8s:cluster-2/shop/web/u-9");
        until_reason(&mut world, "NotOurServer");
        world.run_for(Duration::from_hours(1));
        assert_eq!(
            (claims(&world).as_slice(), reason(world.status("web"))),
            (["claim"].as_slice(), "NotOurServer"),
            "{}",
            world.describe()
        );
        mend(&mut world);
        if goes {
            world.delete("web");
            world.until("a task", Duration::from_hours(1), |w| w.open_tasks() == [TaskType::FailedOperation]);
            assert_eq!((claims(&world).as_slice(), reason(world.status("web"))), (["claim"].as_slice(), "NotOurServer"));
        }
        world.panel.server("1").notes = if ours { MARKER } else { other }.into();
        if goes {
            world.until_phase("web", "gone");
            assert_eq!((world.panel.servers["1"].notes.as_str(), world.open_tasks()), (if ours { "" } else { other }, Vec::new()));
            continue;
        }
        world.until_phase("web", "Active");
        let (server, left) = if ours { ("1", MARKER) } else { ("2", other) };
        assert_eq!(world.status("web").server.as_ref().map(|s| s.id.as_str()), Some(server), "{}", world.describe());
        assert_eq!(world.panel.servers["1"].notes, left);
    }
}

/// Another order's marker, which is not to be mistaken, instead of ours: the server is lost, and stays as it is.
#[test]
fn servers_that_are_lost_to_others_one_after_the_other_are_few_in_one_pass() {
    let other = "k8s:cluster-2/shop/web/u-9";
    let mut world = world(9, 0, "/", other);
    until_reason(&mut world, "Retrying");
    assert_eq!(claims(&world), ["claim"; 5], "{}", world.describe());
    let admin = world.panel.user(ADMIN).map(|user| user.id.clone());
    let lost = world.panel.servers.values().filter(|s| s.notes == other && s.owner == admin).count();
    assert_eq!((lost, world.status("web").in_flight.is_some()), (5, false), "{}", world.describe());
    mend(&mut world);
    world.until_phase("web", "Active");
    assert_eq!(claims(&world), ["claim"; 6]);
}

/// What the panel said was done may show later: no second server is claimed meanwhile, and a panel that never does it is told of.
#[test]
fn a_claim_that_was_answered_and_does_not_show_is_waited_for() {
    for shows in [true, false] {
        let mut world = world(3, usize::MAX, "/", "");
        world.always = Some(("claim", Fault::Ignored));
        until_reason(&mut world, "WaitingForPanel");
        world.run_for(Duration::from_mins(1));
        assert_eq!(claims(&world), ["claim"], "{}", world.describe());
        if shows {
            let admin = world.panel.user(ADMIN).map(|user| user.id.clone());
            let server = world.panel.server("1");
            (server.owner, server.notes) = (admin, MARKER.into());
        } else {
            world.until("a task", Duration::from_hours(6), |w| w.open_tasks() == [TaskType::FailedOperation]);
            let first = |(_, call): &(String, Call)| call.server().is_none_or(|server| server.0 == "1");
            assert!(claims(&world) == ["claim"; 3] && world.asked.iter().all(first), "{}", world.describe());
            let told = world.status("web").last_error.as_ref().map(|e| e.message.clone()).unwrap_or_default();
            assert!(told.contains("claim was asked for 3 times and answered as done"), "{told}");
            world.always = None;
            world.resolve(TaskType::FailedOperation, Resolution::Retry);
        }
        world.until_phase("web", "Active");
        assert_eq!(world.status("web").server.as_ref().map(|s| s.id.as_str()), Some("1"), "{}", world.describe());
    }
}

/// The panel says that it took away what was left of a claim, and took nothing: nothing but the intent leads back to the server.
#[test]
fn a_claim_that_was_said_to_be_undone_and_still_shows_is_not_forgotten() {
    for (kept, fault) in [(12, None), (20, None), (20, Some(Fault::CrashAfter))] {
        let mut world = world(2, kept, "/", "");
        world.faults.extend(fault.map(|fault| (1, fault)));
        world.always = Some(("unclaim", Fault::Ignored));
        world.until("a task", Duration::from_hours(12), |w| {
            let status = format!("{:?}", w.status("web"));
            assert!(!status.contains("was undone"), "{status}");
            w.open_tasks() == [TaskType::FailedOperation]
        });
        let asked = claims(&world);
        assert!(asked[0] == "claim" && asked[1..].iter().all(|name| *name == "unclaim"), "{}", world.describe());
        let target = world.status("web").in_flight.as_ref().map(|f| f.target.as_str());
        assert_eq!(target, Some("server/1"), "{}", world.describe());
        assert!(world.panel.servers["1"].owner.is_some() && world.panel.servers["2"].owner.is_none(), "{}", world.describe());
        world.always = None;
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        until_reason(&mut world, "MarkerTruncated");
        assert!(world.panel.servers.values().all(|s| s.owner.is_none() && s.notes.is_empty()), "{}", world.describe());
        assert!(world.status("web").in_flight.is_none());
    }
}

/// The same where the panel kept nothing of the marker: whose the server is by now is for a person to say.
#[test]
fn an_owner_that_was_said_to_be_taken_away_and_still_shows_is_told() {
    let mut world = world(2, 0, "/", "");
    world.always = Some(("unclaim", Fault::Ignored));
    until_reason(&mut world, "MarkerTruncated");
    world.run_for(Duration::from_hours(3));
    let status = world.status("web");
    let told = status.last_error.as_ref().map(|e| e.message.clone()).unwrap_or_default();
    assert!(told.contains("server 1 was asked for, and has an owner without a marker"), "{told}");
    assert_eq!(status.in_flight.as_ref().map(|f| (f.call.as_str(), f.target.as_str())), Some(("unclaim", "server/1")));
    assert_eq!((claims(&world).as_slice(), world.panel.servers["2"].owner.is_none()), (["claim", "unclaim"].as_slice(), true));
    mend(&mut world);
    world.panel.server("1").owner = None;
    world.until("a look", Duration::from_hours(1), |w| w.status("web").in_flight.is_none());
    world.force("web");
    world.until_phase("web", "Active");
}

/// What was undone right before the process died is not claimed, and undone, once more.
#[test]
fn a_claim_that_was_undone_before_a_crash_is_not_made_again() {
    let mut world = world(2, 20, "/", "");
    world.faults.insert(2, Fault::CrashAfter);
    until_reason(&mut world, "MarkerTruncated");
    assert_eq!(claims(&world), ["claim", "unclaim"], "{}", world.describe());
    assert!(world.status("web").in_flight.is_none() && world.panel.servers["1"].owner.is_none(), "{}", world.describe());
}

/// A copy of a claim lands after the claim was undone: the status leads nowhere any more, the panel's notes alone tell.
#[test]
fn what_is_left_of_a_claim_that_landed_once_more_is_told_when_the_order_goes() {
    for answered in [None, Some(Resolution::Abandon)] {
        let mut world = world(1, 26, "/", "");
        until_reason(&mut world, "MarkerTruncated");
        let operator = world.panel.user(ADMIN).map(|user| user.id.clone());
        let server = world.panel.server("1");
        (server.owner, server.notes) = (operator, MARKER[..26].into());
        world.list();
        world.delete("web");
        until_reason(&mut world, "NotOurServer");
        assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{}", world.describe());
        world.run_for(Duration::from_hours(2));
        assert!(world.orders.contains_key("web"), "{}", world.describe());
        match answered {
            Some(word) => world.resolve(TaskType::FailedOperation, word),
            None => {
                let server = world.panel.server("1");
                (server.owner, server.notes) = (None, String::new());
            }
        }
        world.until("gone", Duration::from_hours(1), |w| !w.orders.contains_key("web"));
        assert_eq!((claims(&world).as_slice(), world.open_tasks().len()), (["claim", "unclaim"].as_slice(), 0), "{answered:?}");
    }
}

/// The panel's list shows such a server, and its form is missed.
#[test]
fn what_is_left_of_a_claim_is_not_waited_for_without_end_where_its_form_is_missed() {
    let mut world = world(1, 26, "/", "");
    until_reason(&mut world, "MarkerTruncated");
    let operator = world.panel.user(ADMIN).map(|user| user.id.clone());
    let server = world.panel.server("1");
    (server.owner, server.notes) = (operator, MARKER[..26].into());
    world.list();
    world.panel.forms_missed.insert("1".into());
    world.delete("web");
    world.run_for(Duration::from_mins(110));
    assert!(world.open_tasks().is_empty() && world.orders.contains_key("web"), "{}", world.describe());
    world.run_for(Duration::from_mins(40));
    assert_eq!(world.open_tasks(), [TaskType::FailedOperation], "{}", world.describe());
    world.panel.forms_missed.clear();
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    until_reason(&mut world, "NotOurServer");
}
