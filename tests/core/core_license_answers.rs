//! What a licence server answers and shows is believed as far as it goes: ends, remote ids, and what it says that it did.

use std::time::Duration;

use crate::core_licenses::{days, made, monthly, renewals, stalled};
use crate::support::sweep::{Kind, assert_active, assert_released, reach};
use crate::support::world::Fault;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;

/// Taken for the end of a licence that has none, it would let the licence lapse.
#[test]
fn an_end_that_is_no_date_is_told_before_the_client_relies_on_it() {
    let mut world = Kind::Licensed.world();
    world.panel.licenses.no_date = Some("22.12.2026".into());
    world.until("a task", Duration::from_hours(24), |w| w.open_tasks() == [TaskType::FailedOperation]);
    let told = world.tasks.last().unwrap().details.clone();
    assert!(told.contains("UnknownDate: licence 7001 shows `22.12.2026` as its end"), "{told}");
    assert_eq!(made(&world, |c| matches!(c, Call::OrderLicense { .. } | Call::HandOver { .. })), 1, "{}", world.describe());
    world.panel.licenses.no_date = None;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    reach(&mut world, "Active", Kind::Licensed);
    assert_active(&world, Kind::Licensed);
    // Whose a licence is, and that it is stopped, shows all the same.
    world.panel.licenses.no_date = Some("22.12.2026".into());
    world.delete("web");
    reach(&mut world, "gone", Kind::Licensed);
    assert_released(&world, Kind::Licensed);
}

/// The licence server shows ends in another form from some day on.
#[test]
fn an_end_that_was_a_date_once_is_told_when_it_is_near() {
    let mut world = monthly();
    world.panel.licenses.no_date = Some("31 Jan 2026".into());
    (0..24).for_each(|_| days(&mut world, 1));
    assert_eq!((world.phase("web"), world.open_tasks()), ("Active", Vec::new()), "{}", world.describe());
    (0..3).for_each(|_| days(&mut world, 1));
    assert_eq!((renewals(&world), world.open_tasks()), (0, vec![TaskType::FailedOperation]), "{}", world.describe());
    world.panel.licenses.no_date = None;
    world.resolve(TaskType::FailedOperation, Resolution::Retry);
    world.run_for(Duration::from_hours(1));
    assert_eq!((renewals(&world), world.phase("web")), (1, "Active"), "{}", world.describe());
}

/// Neither list nor forms show remote ids, and the answer to a purchase is lost: whether it was made nobody knows.
#[test]
fn nothing_is_bought_again_where_no_form_tells_whose_a_licence_is() {
    let mut world = Kind::Licensed.world();
    world.panel.licenses.untold = true;
    world.always = Some(("orderLicense", Fault::LostApplied));
    world.until("Stalled", Duration::from_hours(3), |w| stalled(w).0 == "PanelError");
    assert!(stalled(&world).1.contains("no remote id of licences 7001"), "{}", stalled(&world).1);
    world.run_for(Duration::from_hours(6));
    assert_eq!(world.panel.licenses.rows.len(), 1, "{}", world.describe());
    (world.always, world.panel.licenses.untold) = (None, false);
    world.force("web");
    reach(&mut world, "Active", Kind::Licensed);
    assert_active(&world, Kind::Licensed);
}

/// The answer names it, so that it is not bought again; but the order does not rely on what may be somebody else's.
#[test]
fn a_licence_that_was_named_and_does_not_tell_whose_it_is_is_told_and_stopped_in_the_end() {
    let mut world = Kind::Licensed.world();
    world.panel.licenses.untold = true;
    world.until("Stalled", Duration::from_hours(3), |w| stalled(w).0 == "PanelError");
    assert!(stalled(&world).1.contains("the form of licence 7001 shows no remote id"), "{}", stalled(&world).1);
    world.restart();
    world.run_for(Duration::from_hours(6));
    assert_eq!((world.panel.licenses.rows.len(), world.status("web").licenses[0].id.as_deref()), (1, Some("7001")), "{}", world.describe());
    world.delete("web");
    reach(&mut world, "gone", Kind::Licensed);
    assert_released(&world, Kind::Licensed);
}
