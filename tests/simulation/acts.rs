//! What somebody may do at any effect of a life, besides what `lives` has.

use serde_json::{Value, json};

use super::apiserver::{HANDLERS, IPMANAGERS, TASKS};
use super::lives::ACTS;
use super::mischief::Mischief;
use super::people::{Act, Which};
use super::scenario::Scenario;
use super::world::{PROVIDER, SHOP};

/// In each life.
const EVERYWHERE: [&str; 9] =
    ["clock-forward", "clock-back", "handler-edited", "power-on", "suspend-resume", "policy", "protection", "taken-out", "root-secret"];

/// In each life, too. Nobody meddles with what the life is about, and what is put back is all that there is to do: it ends as if nothing had happened.
const NOBODYS: [&str; 14] = [
    "panel-down",
    "address-manager-down",
    "api-down",
    "handler-suspended",
    "credentials",
    "mistyped",
    "pool-credentials",
    "handler-anew",
    "handler-deleted",
    "address-manager-anew",
    "address-manager-deleted",
    "leader-frozen",
    "leader-deposed",
    "task-by-hand",
];

/// What somebody may do in a life.
pub fn acts(life: &str) -> Vec<&'static str> {
    let own: &[&str] = match life {
        "stop" => &["ipmi-alive"],
        "full" => &["resume", "licence-gone", "licence-stopped", "licence-edited", "licence-server-anew", "licence-server-credentials"],
        _ => &[],
    };
    ACTS.into_iter().chain(EVERYWHERE).chain(NOBODYS).chain(own.iter().copied()).collect()
}

/// Whether such a life ends without a trace all the same.
pub fn is_nobodys(act: &str) -> bool {
    NOBODYS.contains(&act)
}

/// What follows when the life is over otherwise.
pub fn afterwards(act: &str) -> Vec<(u64, Act)> {
    match act {
        "protection" => vec![(1003, Act::Await(1_800_000)), (1004, Act::Also(Mischief::Protection("web".into(), false)))],
        _ => Vec::new(),
    }
}

impl Scenario {
    /// What somebody does by this name.
    pub(super) fn also(&mut self, name: &str) -> Act {
        let edit = |spec: Value| Act::Edit("web".into(), json!({"spec": spec}));
        let server = |change: Value| Act::Server(Which::Of("web".into()), change);
        let handler = |spec: Value| Act::Handler("msk-1".into(), spec);
        let then = |first: Act, after: u64, other: Act| Mischief::Then(Box::new(first), after, Box::new(other));
        let licence = |change: Value| Mischief::License("web".into(), change);
        let lose = |name: &str| Mischief::Lose(PROVIDER, name.into(), 60_000);
        let anew = |kind, name: &str, politely| Mischief::Anew { kind, name: name.into(), politely, after: 20_000 };
        Act::Also(match name {
            "clock-forward" => return Act::Clock(3600),
            "clock-back" => return Act::Clock(-1800),
            "panel-down" => return Act::PanelDown("dci".into(), 90_000),
            "address-manager-down" => return Act::PanelDown("ipm".into(), 90_000),
            "api-down" => Mischief::Outage(300_000),
            "handler-edited" => {
                let spec = json!({
                    "retry": {"interval": "5s", "maxAttempts": 2}, "timeouts": {"power": "20s"},
                    "departments": {"operations": {"name": "Night"}}, "limits": {"maxConcurrentOperations": 1, "maxConcurrentReleases": 1},
                });
                Mischief::Handler("msk-1".into(), spec, 60_000)
            }
            "handler-suspended" => then(handler(json!({"suspend": true})), 60_000, handler(json!({"suspend": false}))),
            "power-on" => return server(json!({"power": "on"})),
            "ipmi-alive" => return server(json!({"ipmi": "alive"})),
            "resume" => return edit(json!({"suspended": false})),
            "suspend-resume" => then(edit(json!({"suspended": true})), 15_000, edit(json!({"suspended": false}))),
            // The client whose server was taken over keeps it otherwise.
            "policy" => Mischief::Policy("web".into(), if self.adoption { "Release" } else { "Orphan" }),
            "protection" => Mischief::Protection("web".into(), true),
            "taken-out" => Mischief::Restore("web".into(), 20_000),
            "root-secret" => Mischief::Lose(SHOP, "web-root".into(), 60_000),
            "credentials" => lose("dci-admin"),
            "mistyped" => Mischief::Mistype(PROVIDER, "dci-admin".into(), 60_000),
            "pool-credentials" => lose("ipm-user"),
            "handler-anew" => anew(HANDLERS, "msk-1", false),
            "handler-deleted" => anew(HANDLERS, "msk-1", true),
            "address-manager-anew" => anew(IPMANAGERS, "main", false),
            "address-manager-deleted" => anew(IPMANAGERS, "main", true),
            "leader-frozen" | "leader-deposed" => {
                self.staff.processes = 2;
                if name == "leader-frozen" { Mischief::FreezeLeader(30_000) } else { Mischief::Depose }
            }
            // A task that no operator made, about an order that is not there.
            "task-by-hand" => {
                let order = json!({"namespace": SHOP, "name": "nowhere", "uid": "no-uid"});
                let spec = json!({"type": "Procurement", "department": "Procurement", "summary": "by hand", "orderRef": order});
                let task = json!({
                    "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ManualTask", "metadata": {"name": "by-hand"}, "spec": spec,
                });
                Mischief::Make(TASKS, PROVIDER, task)
            }
            "licence-gone" => licence(json!({"delete": true})),
            "licence-stopped" => licence(json!({"suspended": true})),
            "licence-edited" => licence(json!({"remote_id": "by hand"})),
            "licence-server-anew" => anew(HANDLERS, "isp", false),
            "licence-server-credentials" => lose("isp"),
            _ => panic!("nobody does {name:?}"),
        })
    }
}
