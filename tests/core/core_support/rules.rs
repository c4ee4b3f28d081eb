//! What must hold at all times: checked before each call, at each change and at each durable write.

use dci_operator::api::condition::{self, ConditionType};
use dci_operator::api::order::OrderStatus;
use dci_operator::panel::license::LicenseId;
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::marker;
use dci_operator::provisioning::order::Order;

use super::world::{Pass, World};

/// Steps whose intent may cover a call.
fn covering(call: &Call) -> &'static [&'static str] {
    match call {
        Call::CreateUser { .. } => &[],
        Call::Claim { .. } | Call::Unclaim { .. } | Call::Adopt { .. } => &["Allocate"],
        Call::Unmark { .. } => &["Allocate", "Release"],
        Call::Enable { .. } => &["PowerOn", "Resume", "PortsOn", "Release"],
        Call::Disable { .. } => &["Suspend"],
        Call::ConnectionOff { .. } => &["PortsOff"],
        Call::ConnectionOn { .. } => &["PortsOn"],
        Call::SetPassword { .. } => &["SetPassword"],
        Call::PowerOn { .. } => &["PowerOn"],
        Call::PowerOff { .. } => &["PowerOff", "StopPower"],
        Call::TakeAddress { .. } | Call::ReplaceMain { .. } => &["ChangeAddress", "ParkAddress"],
        Call::SetNote { .. } | Call::GiveBack { .. } => &["ChangeAddress", "RemoveAddresses", "ParkAddress", "Release"],
        Call::AddAddress { .. } | Call::SetPoolDomain { .. } => &["ChangeAddress"],
        Call::RemoveAddress { .. } => &["ChangeAddress", "RemoveAddresses"],
        Call::SetDomain { .. } => &["ChangeAddress", "Release"],
        Call::Install { .. } => &["InstallOS"],
        Call::RunRecipe { .. } => &["RunRecipes"],
        Call::CancelOperation { .. } => &["InstallOS", "PowerOff"],
        Call::HandOver { .. } => &["HandOver"],
        Call::FlagForCleaning { .. } | Call::Release { .. } => &["Release"],
        Call::OrderLicense { .. } | Call::EditLicense { .. } | Call::RenewLicense { .. } | Call::ResumeLicense { .. } => &["IssueLicenses"],
        Call::SuspendLicense { .. } | Call::FreeLicense { .. } => &["IssueLicenses", "RevokeLicenses"],
    }
}

/// Intent, marker and target of a call that is about to be made.
pub fn before_call(world: &World, name: &str, order: &Order, call: &Call, pass: &Pass, own: Option<&str>) {
    let fail = |what: &str| panic!("{what}: {call:?}\n{}", world.describe());
    if matches!(call, Call::CreateUser { .. }) {
        return;
    }
    let status = &world.orders[name].status;
    let Some(intent) = &status.in_flight else { return fail("no durable intent") };
    if own != Some(&intent.operation_id) || intent.outcome != "Sent" {
        fail("the intent is not this pass's own");
    }
    if !covering(call).contains(&intent.step.as_str()) {
        fail("the intent is of another step");
    }
    if call.wants_own_intent() && intent.call != call.name() {
        fail("the intent names another call");
    }
    if let Some(remote) = call.license() {
        if intent.target != format!("license/{remote}") {
            fail("the intent names another licence");
        }
        if matches!(call, Call::OrderLicense { .. }) && !status.licenses.iter().any(|l| remote.ends_with(&format!("/{}", l.product))) {
            fail("a licence is bought that the status does not know of");
        }
        let known = |id: &LicenseId| status.licenses.iter().any(|l| l.id.as_deref() == Some(id.0.as_str()));
        let named = match call {
            // Of what the order bought a server that cuts remote ids may have kept nothing.
            Call::SuspendLicense { license, .. } | Call::FreeLicense { license, .. } => known(license),
            _ => false,
        };
        if !remote.starts_with("k8s:u-") && !named {
            fail("not the order's licence");
        }
    }
    let bound = status.server.as_ref().map(|s| s.id.clone());
    let Some(server) = call.server() else { return };
    if intent.target != format!("server/{server}") {
        fail("the intent names another server");
    }
    let marked = |notes: &str| marker::tokens(notes).eq([order.marker.to_string().as_str()]);
    match call {
        Call::Claim { .. } | Call::Unclaim { .. } | Call::Adopt { .. } => {
            if bound.is_some() {
                fail("a second server");
            }
        }
        // An adoption that is undone is of no server in the status.
        Call::Unmark { .. } if bound.is_none() => {}
        Call::Unmark { .. } => {
            if bound.as_deref() != Some(server.0.as_str()) {
                fail("not the order's server");
            }
        }
        _ => {
            if bound.as_deref() != Some(server.0.as_str()) {
                fail("not the order's server");
            }
            if !world.panel.servers.get(&server.0).is_some_and(|s| marked(&s.notes)) {
                fail("somebody else's server");
            }
        }
    }
    if call.destructive() && !pass.forms.get(&server.0).is_some_and(|notes| marked(notes)) {
        fail("the marker was not read back");
    }
    let client = world.panel.user(&order.username).map(|u| u.id.clone());
    let owner = world.panel.servers.get(&server.0).and_then(|s| s.owner.clone());
    if matches!(call, Call::Install { .. }) && owner.is_some() && owner == client {
        let leave = status.server.as_ref().and_then(|s| s.reinstall.as_deref());
        if leave.is_none() || order.deletion_protection && status.last_handled_reinstall.as_deref() != leave {
            fail("an installation over a client's data");
        }
        if order.suspended && status.last_handled_reinstall.as_deref() != leave {
            fail("an installation on a suspended server");
        }
    }
}

/// At any time: no order has two servers.
pub fn one_server_each(world: &World) {
    for (name, stored) in &world.orders {
        let uid = stored.raw.metadata.uid.as_deref().unwrap_or_default();
        let marker = format!("/{name}/{uid}");
        let servers = world.panels().flat_map(|p| p.servers.values());
        let marked = servers.filter(|s| marker::tokens(&s.notes).any(|t| t.ends_with(&marker))).count();
        assert!(marked <= 1, "{marked} servers carry the marker of {name}\n{}", world.describe());
    }
}

/// A status, written out only where a rule is broken.
struct Shown<'a>(&'a OrderStatus);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string_pretty(self.0).unwrap())
    }
}

/// What every stored status keeps to; `size`: of it as JSON.
pub fn durable(world: &World, name: &str, new: &OrderStatus, size: usize) {
    let old = &world.orders[name].status;
    let generation = world.orders[name].raw.metadata.generation;
    let text = Shown(new);
    let is = |type_| condition::is_true(&new.conditions, type_);
    let (ready, reconciling, stalled) = (is(ConditionType::Ready), is(ConditionType::Reconciling), is(ConditionType::Stalled));
    assert!(usize::from(ready) + usize::from(reconciling) + usize::from(stalled) == 1, "not one of three: {text}");
    for type_ in [ConditionType::Reconciling, ConditionType::Stalled, ConditionType::ManualActionRequired, ConditionType::Suspended] {
        assert!(condition::find(&new.conditions, type_).is_none_or(|c| c.status == "True"), "{type_:?} is there but not true: {text}");
    }
    assert!(new.observed_generation >= old.observed_generation && new.observed_generation <= generation, "generation: {text}");
    for c in &new.conditions {
        assert_eq!(c.observed_generation, new.observed_generation, "{}: {text}", c.type_);
        assert!(!c.reason.is_empty(), "{}: {text}", c.type_);
        let was = old.conditions.iter().find(|o| o.type_ == c.type_ && o.status == c.status);
        assert!(was.is_none_or(|o| o.last_transition_time == c.last_transition_time), "{} moved: {text}", c.type_);
    }
    assert_eq!(ready, matches!(new.phase.as_deref(), Some("Active" | "Suspended")), "phase and Ready: {text}");
    let asked = world.orders[name].raw.spec.suspended;
    assert!(new.phase.as_deref() != Some("Suspended") || (is(ConditionType::Suspended) && asked), "Suspended: {text}");
    if ready {
        assert!(new.waiting_on.is_none() && new.last_error.is_none() && new.in_flight.is_none(), "Active, but: {text}");
        assert!(new.next_retry_time.is_none() && new.manual_tasks.iter().all(|t| t.state != "Open"), "Active, but: {text}");
    }
    let deleting = world.orders[name].raw.metadata.deletion_timestamp.is_some();
    let early = new.observed_generation != generation;
    assert!(!deleting || early || new.phase.as_deref() == Some("Deleting"), "phase while deleting: {text}");
    if new.waiting_on.as_ref().is_some_and(|w| w.kind == "Retry") {
        assert!(new.next_retry_time.is_some(), "no time of the next attempt: {text}");
    }
    if let (Some(was), Some(is)) = (&old.server, &new.server) {
        assert_eq!(was.id, is.id, "another server: {text}");
        let found = was.handed_over_at.is_none() && is.handed_over_at.is_some();
        assert!(was.returning.is_none() || is.returning.is_some() || found, "a server on its way back is kept: {text}");
    }
    if let (Some(was), None) = (&old.server, &new.server) {
        assert!(was.returning.is_some() && was.handed_over_at.is_none(), "the server was forgotten: {text}");
        let tried = new.tried_servers.last().is_some_and(|t| t.id == was.id && t.panel == was.panel);
        assert!(tried && new.in_flight.is_none(), "the server given back is not remembered: {text}");
        let server = &world.panel.servers[&was.id];
        assert!(server.gone || !server.notes.contains(&format!("/{name}/")), "given back with our marker: {text}");
    }
    for type_ in ["Assembly", "Procurement", "StopServer", "FailedOperation"] {
        let open = new.manual_tasks.iter().filter(|t| t.type_ == type_ && t.state == "Open").count();
        assert!(open <= 1, "{open} open {type_} tasks: {text}");
    }
    let words = ["Pending", "Running", "Waiting", "Done", "Skipped", "Failed"];
    assert!(new.steps.iter().all(|s| words.contains(&s.state.as_str())), "a step without a state: {text}");
    assert!(size < 32 * 1024, "too large: {text}");
}
