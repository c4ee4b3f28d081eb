//! (2): what takes a client's service away, or his data, was asked for: by a new value of `spec.reinstall`, a suspension, or a deletion.
//!
//! The status alone proves nothing here: whoever writes a leave that nobody gave would act upon it as well. So the specs are remembered.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::calls::Call;
use super::view::{self, text};

/// The function that installs a system.
const INSTALLS: &str = "server.operations";
/// Functions that stop what a client uses.
const STOPS: [&str; 4] = ["server.poweroff", "server.reboot", "server.disable", "server.connection.off"];
/// The steps that make these calls: of a suspension, and of a deletion.
const STOPPING: [&str; 4] = ["Suspend", "PortsOff", "StopPower", "PowerOff"];

/// What orders have asked for, by order id.
#[derive(Default)]
pub struct Asked {
    /// Values of `spec.reinstall` that an order was given while it was there, and that no installation has served yet.
    tokens: BTreeMap<String, BTreeSet<String>>,
    /// The generations that ask for the service to be suspended, or for the server to be taken back.
    stopped: BTreeMap<String, BTreeSet<i64>>,
}

/// What stands in the spec.
fn token(order: &Value) -> &str {
    text(&order["spec"]["reinstall"])
}

/// What an installation is under way for.
fn leave(order: &Value) -> &str {
    text(&order["status"]["server"]["reinstall"])
}

/// Whether the client is not to have his server any more, or not as long as this spec holds.
fn is_stopped(order: &Value) -> bool {
    order["spec"]["suspended"] == true || (view::is_deleting(order) && order["spec"]["deletionPolicy"] != "Orphan")
}

/// What was acted upon, or recorded, last.
fn handled(order: &Value) -> &str {
    text(&order["status"]["lastHandledReinstall"])
}

impl Asked {
    /// An order is not what it was.
    pub fn changed(&mut self, before: Option<&Value>, after: &Value) {
        let id = view::order_id(after);
        if is_stopped(after) {
            self.stopped.entry(id.to_owned()).or_default().insert(after["metadata"]["generation"].as_i64().unwrap_or_default());
        }
        let open = self.tokens.entry(id.to_owned()).or_default();
        let Some(before) = before else {
            // One that is restored in the middle of an installation goes on with it.
            open.insert(leave(after).to_owned());
            return;
        };
        if token(before) != token(after) && token(after) != handled(after) {
            open.insert(token(after).to_owned());
        }
        // Recorded at first sight, served by the first installation, or by one that is over.
        let over = handled(after);
        if leave(after) != over && (leave(before) == over || handled(before) != over) {
            open.remove(over);
        }
        // Another value has taken its place after it had begun.
        if leave(before) != leave(after) && leave(before) == handled(before) {
            open.remove(leave(before));
        }
    }

    /// Why a call must not be made on the server of this order.
    pub fn forbids(&self, call: &Call, order: &Value) -> Option<String> {
        let server = &order["status"]["server"];
        // What was never handed over holds nobody's data, and runs for nobody.
        if !call.change || server["id"] != call.server() || server["handedOverAt"].is_null() {
            return None;
        }
        let (id, name) = (view::order_id(order), view::name(order));
        let what = format!("(2) {} of server {} of panel {}", call.func, call.target, call.panel);
        if call.func == INSTALLS {
            let leave = leave(order);
            let open = !leave.is_empty() && self.tokens.get(id).is_some_and(|open| open.contains(leave));
            return (!open).then(|| format!("{what}: an installation over a client's data, which order {name} has not asked for"));
        }
        if !STOPS.contains(&call.func.as_str()) {
            return None;
        }
        // The spec may have changed since it was decided upon: the status says which one that was. Or the one before that, where another
        // process has looked since, and has found the intent of this call, whose answer it waits for.
        let observed = order["status"]["observedGeneration"].as_i64();
        let stood_still = STOPPING.contains(&text(&order["status"]["inFlight"]["step"]));
        let decided = [
            Some(order["metadata"]["generation"].as_i64().unwrap_or_default()),
            observed,
            observed.filter(|_| stood_still).map(|last| last - 1),
        ];
        let stopped = self.stopped.get(id).is_some_and(|all| all.iter().any(|one| decided.contains(&Some(*one))));
        (!stopped).then(|| format!("{what}: order {name} is neither suspended nor taken back, and its client has the server"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An order of a client who has server 17: token, leave, and what was handled last.
    fn order(generation: i64, token: &str, leave: &str, handled: &str) -> Value {
        json!({
            "metadata": {"namespace": "shop", "name": "web", "uid": "u-1", "generation": generation},
            "spec": {"reinstall": token},
            "status": {
                "observedGeneration": generation, "lastHandledReinstall": handled,
                "server": {"id": "17", "handedOverAt": "2026-01-01T00:00:00Z", "reinstall": leave},
            },
        })
    }

    fn call(func: &str) -> Call {
        Call::read("operator-0", "dci", &format!("func={func}&elid=17&sok=ok"))
    }

    /// What the specs and statuses of one order, in turn, make of a call.
    fn forbidden(orders: &[Value], func: &str) -> bool {
        let mut asked = Asked::default();
        for (index, after) in orders.iter().enumerate() {
            asked.changed(index.checked_sub(1).map(|before| &orders[before]), after);
        }
        asked.forbids(&call(func), orders.last().unwrap()).is_some()
    }

    #[test]
    fn a_system_is_installed_over_a_clients_data_where_he_asks_for_it() {
        let installs = |orders: &[Value]| !forbidden(orders, "server.operations");
        let active = || order(1, "first", "", "first");
        assert!(!installs(&[active()]), "nobody asked");
        assert!(!installs(&[order(1, "first", "", ""), order(1, "first", "first", "")]), "it was there at first");
        assert!(!installs(&[active(), order(1, "first", "again", "first")]), "the status alone says so");
        let asked = || vec![active(), order(2, "again", "", "first"), order(2, "again", "again", "first")];
        assert!(installs(&asked()));
        let begun = || [asked(), vec![order(2, "again", "again", "again")]].concat();
        assert!(installs(&begun()), "one that failed is made again");
        let over = || [begun(), vec![order(2, "again", "", "again")]].concat();
        assert!(!installs(&[over(), vec![order(2, "again", "again", "again")]].concat()), "it was served");
        let put_back = [over(), vec![order(3, "", "", "again"), order(4, "again", "", "again"), order(4, "again", "again", "again")]];
        assert!(!installs(&put_back.concat()), "it is the value that was served last");
        let third = [order(3, "third", "", "again"), order(3, "third", "third", "third"), order(3, "third", "", "third")];
        let other = [over(), third.to_vec(), vec![order(4, "again", "", "third"), order(4, "again", "again", "third")]];
        assert!(installs(&other.concat()), "asked for once more");
        let withdrawn = [asked(), vec![order(2, "again", "", "first"), order(2, "again", "again", "first")]].concat();
        assert!(installs(&withdrawn), "it had not begun");
        // The first one of all, on nobody's server.
        let mut fresh = order(1, "", "", "");
        fresh["status"]["server"]["handedOverAt"] = Value::Null;
        assert!(installs(&[fresh]));
    }

    #[test]
    fn a_clients_server_is_stopped_where_its_order_is_suspended_or_goes() {
        let with = |patch: Value, generation: i64, observed: i64| {
            let mut order = order(generation, "", "", "");
            order["status"]["observedGeneration"] = observed.into();
            for (part, members) in patch.as_object().unwrap() {
                for (name, value) in members.as_object().unwrap() {
                    order[part][name] = value.clone();
                }
            }
            order
        };
        let (plain, suspended) = (json!({}), json!({"spec": {"suspended": true}}));
        let going = |policy: &str| json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"deletionPolicy": policy}});
        for func in STOPS {
            let stops = |orders: &[Value]| !forbidden(orders, func);
            assert!(!stops(&[with(plain.clone(), 1, 1)]), "{func}");
            assert!(stops(&[with(plain.clone(), 1, 1), with(suspended.clone(), 2, 2)]), "{func}");
            // Resumed when the call was on its way, and some time ago.
            let resumed = |observed: i64| [with(suspended.clone(), 2, 2), with(plain.clone(), 3, observed)];
            assert!(stops(&resumed(2)) && !stops(&resumed(3)), "{func}");
            let mut in_flight = resumed(3);
            in_flight[1]["status"]["inFlight"] = json!({"step": "StopPower"});
            assert!(stops(&in_flight), "{func}");
            assert!(stops(&[with(going("Release"), 2, 2)]) && !stops(&[with(going("Orphan"), 2, 2)]), "{func}");
            // The client may keep it, since the call was on its way, and since some time ago.
            let kept = |observed: i64| [with(going("Release"), 2, 2), with(going("Orphan"), 3, observed)];
            assert!(stops(&kept(2)) && !stops(&kept(3)), "{func}");
        }
        assert!(!forbidden(&[with(plain, 1, 1)], "server.poweron"));
    }
}
