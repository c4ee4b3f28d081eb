//! What of a server is compared before it is taken over, and how an adoption ends that was not finished.

use std::sync::Arc;
use std::time::Duration;

use dci_operator::api::order::OrderStatus;
use dci_operator::panel::error::PanelError;
use dci_operator::panel::model::{ServerForm, ServerId, ServerRow};
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::context::Next;
use dci_operator::provisioning::decide::{Decision, decide};
use dci_operator::provisioning::facts::{Facts, HandlerState, Prepared, Seen};
use dci_operator::provisioning::marker::Marker;
use dci_operator::provisioning::order::Order;
use serde_json::{Value, json};

use super::adoption::adopting;
use super::{names, reason, until_reason};
use crate::support::look::picture;
use crate::support::panel::ADMIN;
use crate::support::seconds;
use crate::support::world::{CLUSTER, Fault, World, order};

const MARKER: &str = "k8s:cluster-1/shop/web/u-web";

/// Everything that is to be known of server 2 before it is taken over.
fn known(world: &mut World) -> Facts {
    world.list();
    let server = ServerId("2".into());
    let mut facts = Facts::new(HandlerState::Ready, "op".into());
    (facts.login, facts.inventory) = (ADMIN.into(), world.inventory.clone());
    facts.users = Some(world.panel.users.clone());
    facts.forms = [("2".to_owned(), Seen::There(world.panel.form(&server).unwrap()))].into();
    facts.addresses = Some(world.panel.servers["2"].rows.clone());
    (facts.locks, facts.client_name) = (Some([].into()), Some(Prepared::Ready));
    facts
}

fn row(facts: &mut Facts) -> &mut ServerRow {
    Arc::make_mut(facts.inventory.as_mut().unwrap()).rows.get_mut("2").unwrap()
}

fn form(facts: &mut Facts) -> &mut ServerForm {
    match facts.forms.get_mut("2") {
        Some(Seen::There(form)) => form,
        Some(Seen::Missing) | None => panic!("no form"),
    }
}

#[test]
fn list_and_form_are_compared_with_the_spec_before_a_server_is_taken_over() {
    type Change = fn(&mut Facts);
    type Spec = fn(&mut Value);
    let ready: Spec = |_| ();
    let custom: Spec = |raw| raw["spec"]["configuration"] = json!({"custom": {"memoryGiB": 64}});
    let suspended: Spec = |raw| raw["spec"]["suspended"] = json!(true);
    let rows: [(&str, Spec, Change, Option<&str>); 12] = [
        ("as it is", ready, |_| (), None),
        // A panel that does not know of the power does not say that it is off.
        ("neither on nor off", ready, |f| (row(f).power.on, row(f).power.off) = (false, false), None),
        ("on and off", ready, |f| (row(f).power.on, row(f).power.off) = (true, true), None),
        ("off", ready, |f| (row(f).power.on, row(f).power.off) = (false, true), Some("it is off")),
        ("disabled by the form", ready, |f| form(f).disabled = true, Some("it is suspended at the panel")),
        ("disabled by the list", ready, |f| row(f).flags.disabled = true, Some("it is suspended at the panel")),
        ("suspended, by the form", suspended, |f| form(f).disabled = true, None),
        ("suspended, by neither", suspended, |_| (), Some("it is not suspended at the panel")),
        ("its parts are unknown", custom, |_| (), None),
        ("it has what is asked", custom, |f| form(f).parts.memory = Some("64".into()), None),
        ("it has less", custom, |f| form(f).parts.memory = Some("32".into()), Some("spec.configuration.custom says: 32 GiB of memory")),
        // The lock is another order's since the locks were read.
        (
            "locked meanwhile",
            ready,
            |f| {
                let call = Call::Adopt { server: ServerId("2".into()), owner: "5".into(), marker: Marker::parse(MARKER).unwrap() };
                f.refused.push((call, PanelError::Expectation { server: "2".into(), detail: "locked by u-other".into() }));
            },
            Some("server 2 is not taken over: "),
        ),
    ];
    for (what, spec, change, refused) in rows {
        for types_only in [false, true] {
            let mut world = adopting(spec);
            // Which configurations a handler sells says nothing of servers that clients have.
            world.handler.by_server_type = types_only;
            let mut facts = known(&mut world);
            change(&mut facts);
            let order = Order::parse(&world.orders["web"].raw, CLUSTER).unwrap();
            let Decision { status, next } = decide(&order, &world.handler, &facts, world.now, &OrderStatus::default());
            let told = status.last_error.as_ref().map(|e| e.message.clone()).unwrap_or_default();
            assert_eq!(matches!(next, Next::Call(Call::Adopt { .. })), refused.is_none(), "{what}: {next:?} {told}");
            assert!(told.contains(refused.unwrap_or_default()), "{what}: {told}");
            assert_eq!(reason(&status), if refused.is_none() { "Allocating" } else { "AdoptionRefused" }, "{what}");
        }
    }
}

/// An adoption that was asked for, and whose answer never came; the process died.
fn begun(change: impl FnOnce(&mut World)) -> (World, String) {
    let mut world = adopting(|_| ());
    change(&mut world);
    let before = picture(&world);
    world.faults.insert(0, Fault::CrashAfter);
    world.until("asked for", seconds(600), |w| !w.asked.is_empty());
    assert!(world.status("web").server.is_none() && world.status("web").in_flight.is_some(), "{}", world.describe());
    (world, before)
}

/// The panel's list shows the server: what was written into its notes is there, whatever the form says.
#[test]
fn an_adoption_whose_server_has_no_form_for_a_while_is_not_forgotten() {
    for forbidden in [false, true] {
        let (mut world, before) = begun(|_| ());
        world.panel.forms_missed.insert("2".into());
        if forbidden {
            world.handler.adoption = false;
            world.force("web");
            until_reason(&mut world, "web", "AdoptionForbidden");
            assert!(world.status("web").in_flight.is_some(), "{}", world.describe());
        }
        world.delete("web");
        world.run_for(Duration::from_hours(1));
        assert!(world.orders.contains_key("web") && world.status("web").in_flight.is_some(), "{}", world.describe());
        world.panel.forms_missed.clear();
        world.until_phase("web", "gone");
        assert_eq!((picture(&world), names(&world.asked)), (before, vec!["adopt", "unmark"]), "{}", world.describe());
    }
}

#[test]
fn what_is_left_of_a_marker_goes_with_an_order_that_is_deleted_before_it_has_the_server() {
    let (mut world, before) = begun(|w| w.panel.notes_max = 22);
    world.delete("web");
    world.until_phase("web", "gone");
    assert_eq!((picture(&world), names(&world.asked)), (before, vec!["adopt", "unmark"]), "{}", world.describe());
}

/// The adoption was refused; then a person writes into the notes.
#[test]
fn what_a_person_wrote_is_no_adoption() {
    for (kept, left) in [(MARKER.len(), ""), (20, &MARKER[..20])] {
        let mut world = adopting(|raw| raw["spec"]["domain"] = json!("other.example.net"));
        until_reason(&mut world, "web", "AdoptionRefused");
        let owner = world.panel.servers["2"].owner.clone();
        world.panel.server("2").notes = MARKER.into();
        world.restart();
        world.list();
        // The list is older than that.
        world.panel.server("2").notes = MARKER[..kept].into();
        world.delete("web");
        world.until_phase("web", "gone");
        let server = &world.panel.servers["2"];
        assert_eq!((server.notes.as_str(), &server.owner, server.on), (left, &owner, true), "{}", world.describe());
        assert!(names(&world.asked).iter().all(|name| *name == "unmark"), "{}", world.describe());
    }
}

#[test]
fn an_adopted_server_of_a_restored_order_goes_as_its_policy_says() {
    let mut world = adopting(|_| ());
    world.panel.server("2").notes.clear();
    world.until_phase("web", "Active");
    let raw = world.orders.remove("web").unwrap().raw;
    world.restart();
    world.add(order("web", "u-new", |new| {
        new["spec"] = serde_json::to_value(&raw.spec).unwrap();
        new["metadata"]["annotations"] = json!({"dci-operator.dev/order-id": "u-web"});
    }));
    world.delete("web");
    world.until_phase("web", "gone");
    world.assert_clean();
}
