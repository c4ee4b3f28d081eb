//! Licences that nobody needs any more: stopped where they are ours, and never forgotten.

use std::time::Duration;

use crate::core_licenses::{active, order_licenses, stalled};
use crate::support::seconds;
use crate::support::sweep::{Kind, assert_released, reach};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::license::FREE_NAME;
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::facts::HandlerState;

/// What is not read any more is not stopped for that.
#[test]
fn a_licence_of_ours_that_cannot_be_read_is_not_taken_for_stopped() {
    let mut world = active();
    let own = world.panel.licenses.rows.keys().next().cloned();
    world.panel.licenses.unread.clone_from(&own);
    world.delete("web");
    world.until("Stalled", Duration::from_hours(1), |w| stalled(w).0 == "PanelError");
    world.run_for(Duration::from_hours(1));
    assert!(!world.panel.licenses.rows[&own.unwrap()].suspended && world.panel.servers["1"].on, "{}", world.describe());
    world.panel.licenses.unread = None;
    world.force("web");
    reach(&mut world, "gone", Kind::Licensed);
    assert_released(&world, Kind::Licensed);
}

/// A filter that is stored at the licence server hides rows without a word: what is ordered would go on when the order is gone.
#[test]
fn a_licence_that_the_list_hides_is_not_taken_for_gone() {
    for (kind, remote) in [(Kind::Licensed, "k8s:u-web/Lite"), (Kind::LicensedFreed, "k8s:u-web/Pro")] {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        world.run_for(seconds(60));
        let own = world.panel.licenses.of(remote)[0].0.clone();
        world.panel.licenses.hidden.insert(own.clone());
        world.delete("web");
        world.until("a task", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
        let told = world.tasks.last().unwrap().details.clone();
        assert!(told.contains(&format!("does not show licence {own}")), "{told}");
        let reads = world.reads;
        world.run_for(Duration::from_hours(1));
        assert!(!world.panel.licenses.rows[&own].suspended && world.panel.servers["1"].on, "{}", world.describe());
        assert!(world.reads - reads < 60, "{} reads while it waits", world.reads - reads);
        world.panel.licenses.hidden.clear();
        world.resolve(TaskType::FailedOperation, Resolution::Retry);
        reach(&mut world, "gone", kind);
        assert_released(&world, kind);
    }
}

#[test]
fn a_licence_that_the_list_hides_is_not_forgotten_by_an_order_that_does_not_want_it_any_more() {
    let mut world = active();
    let pro = world.panel.licenses.of("k8s:u-web/Pro")[0].0.clone();
    world.panel.licenses.hidden.insert(pro.clone());
    order_licenses(&mut world, &["Lite"]);
    world.until("Stalled", Duration::from_hours(1), |w| stalled(w).0 == "PanelError");
    assert_eq!(world.status("web").licenses.len(), 2, "{}", world.describe());
    // Somebody else has it by now: there is nothing of ours to be stopped.
    world.panel.licenses.rows.get_mut(&pro).unwrap().remote_id = "somebody's".into();
    world.force("web");
    world.until("Pro is let go", Duration::from_hours(1), |w| w.phase("web") == "Active" && w.status("web").licenses.len() == 1);
    assert!(!world.panel.licenses.rows[&pro].suspended, "{}", world.describe());
}

/// The list shows no remote ids: what a form told once may not be true any more.
#[test]
fn a_licence_is_not_stopped_for_what_its_form_showed_once() {
    let mut world = active();
    let [lite, pro] = ["k8s:u-web/Lite", "k8s:u-web/Pro"].map(|remote| world.panel.licenses.of(remote)[0].0.clone());
    world.panel.licenses.remembered = [(lite.clone(), "k8s:u-web/Lite".to_owned()), (pro.clone(), "k8s:u-web/Pro".to_owned())].into();
    world.panel.licenses.rows.get_mut(&lite).unwrap().remote_id = "somebody's".into();
    world.delete("web");
    reach(&mut world, "gone", Kind::Licensed);
    let rows = &world.panel.licenses.rows;
    assert_eq!((rows[&lite].suspended, rows[&pro].suspended), (false, true), "{}", world.describe());
}

#[test]
fn the_deletion_waits_for_the_licence_server_before_it_touches_the_server() {
    for kind in [Kind::Licensed, Kind::LicensedFreed] {
        let mut world = kind.world();
        reach(&mut world, "Active", kind);
        world.panel.licenses.state = HandlerState::NotReady("Unreachable: nothing there".into());
        let asked = world.asked.len();
        world.delete("web");
        world.run_for(Duration::from_hours(5));
        let on = world.status("web").waiting_on.clone().unwrap();
        assert_eq!((on.kind.as_str(), on.name.as_str()), ("Handler", "hosting/isp"));
        assert!(on.message.contains("nothing there"), "{}", on.message);
        assert_eq!(world.asked.len(), asked, "nothing is done to the server\n{}", world.describe());
        world.panel.licenses.state = HandlerState::Ready;
        reach(&mut world, "gone", kind);
        assert_released(&world, kind);
        let off = world.panel.journal.iter().position(|c| matches!(c, Call::PowerOff { .. })).unwrap();
        let last = world.panel.journal.iter().rposition(Call::at_license_server).unwrap();
        assert!(last < off, "licences first\n{}", world.describe());
        let names: Vec<&str> = world.panel.licenses.rows.values().map(|b| b.name.as_str()).collect();
        assert!(kind == Kind::Licensed || names == [FREE_NAME, FREE_NAME], "{names:?}");
    }
}

/// A protected order that is deleted is refused first: when it is let go, what it had is taken back all the same.
#[test]
fn licences_kept_for_the_next_server_are_stopped_where_the_deletion_was_refused_at_first() {
    let mut world = Kind::Licensed.world();
    world.handler.run_recipe = true;
    world.panel.licenses.key_takes = Duration::from_hours(1);
    world.until("bought", Duration::from_hours(1), |w| w.panel.licenses.rows.len() == 2);
    world.panel.runs_that_fail = 1;
    world.edit("web", |raw| raw.spec.recipes.push("more.sh".into()));
    world.until("given back", Duration::from_hours(2), |w| w.status("web").steps.iter().any(|s| s.name == "RevokeLicenses"));
    world.edit("web", |raw| raw.spec.deletion_protection = true);
    world.delete("web");
    world.run_for(Duration::from_mins(10));
    assert_eq!(world.phase("web"), "Deleting");
    world.edit("web", |raw| raw.spec.deletion_protection = false);
    reach(&mut world, "gone", Kind::Licensed);
    assert!(world.panel.licenses.rows.values().all(|b| b.suspended), "{}", world.describe());
}
