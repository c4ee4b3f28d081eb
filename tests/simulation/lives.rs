//! The lives of one order that are looked at effect by effect, and what somebody may do in them.

use serde_json::{Value, json};

use super::acts;
use super::adversary::Fault;
use super::people::{Act, Which};
use super::replica::Staff;
use super::scenario::{Scenario, composed, order};
use super::world::PROVIDER;

/// Lives that differ in their calls.
pub const LIVES: [&str; 6] = ["life", "full", "custom", "adopt", "stop", "failover"];
/// One more, in which two processes act at once: they get in each other's way hundreds of times.
pub const TWINS: &str = "twins";
/// Not one of the lives: it ends with an Active order, where its handler was found to be cured.
pub const CURED: &str = "cured";
/// What somebody may do at any effect of a life; `acts` has more.
pub const ACTS: [&str; 14] = [
    "delete",
    "domain",
    "suspend",
    "reinstall",
    "addresses",
    "licenses",
    "owner",
    "marker",
    "power",
    "ipmi",
    "address",
    "moved",
    "server",
    "tasks",
];
/// What is his order's to ask for: it comes to its end all the same.
const HARMLESS: [&str; 8] = ["delete", "domain", "suspend", "resume", "suspend-resume", "reinstall", "addresses", "licenses"];

/// What has to come up in a life in which nothing goes wrong: what it is there for.
pub fn subject(life: &str) -> &'static [&'static str] {
    match life {
        "life" => &["phase-Active", "phase-Deleting"],
        "full" => &["phase-Active", "phase-Suspended", "licence-Issued", "licence-Suspended", "reinstalled"],
        "custom" => &["task-Assembly", "task-Procurement", "phase-Active"],
        "adopt" => &["adopted", "phase-Active"],
        "stop" => &["phase-Active", "task-StopServer"],
        "failover" => &["given-back", "second-panel", "phase-Active"],
        TWINS => &["Conflict", "phase-Active"],
        CURED => &["stalled-DeletionPolicyForbidden", "phase-Active"],
        other => panic!("{other} is no life"),
    }
}

impl Scenario {
    /// A life by its name: each with other calls in it.
    pub fn named(name: &str, seed: u64) -> Option<Self> {
        let mut scenario = Self { undisturbed: true, ..Self::new(seed) };
        let edit = |spec: Value| Act::Edit("web".into(), json!({"spec": spec}));
        let (mut first, mut then) = (json!({}), Vec::new());
        match name {
            "life" => {}
            "full" => {
                scenario.licenses = true;
                first = json!({"addresses": {"ipv4": 2, "ipv6": 1}, "licenses": [{"product": "Lite"}], "recipes": ["ISPsystem__nginx.sh"]});
                then = vec![
                    edit(json!({"domain": "other.example.net", "addresses": {"ipv4": 1, "ipv6": 0}})),
                    edit(json!({"suspended": true})),
                    edit(json!({"suspended": false, "licenses": []})),
                    edit(json!({"reinstall": "again"})),
                ];
            }
            "custom" => {
                (scenario.custom, scenario.lacks_parts) = (true, true);
                scenario.script.push((900, Act::Server(Which::Id(20), json!({"owner": "owner-of-18"}))));
                first = json!({"configuration": null});
            }
            "adopt" => {
                scenario.adoption = true;
                first =
                    json!({"adopt": {"serverId": "21"}, "addresses": {"ipv4": 2}, "domain": "old.example.net", "deletionPolicy": "Orphan"});
            }
            "stop" => {
                scenario.handler = json!({"ipmiErrorPolicy": "CreateTask"});
                then = vec![Act::Server(Which::Of("web".into()), json!({"ipmi": "dead"}))];
            }
            // Two of them at once: a leader is for speed, not for safety.
            TWINS => {
                scenario.staff = Staff { processes: 2, elect: false, ..scenario.staff };
                then = vec![edit(json!({"addresses": {"ipv4": 2}}))];
            }
            "failover" => {
                scenario.two_panels = true;
                scenario.handler = json!({"retry": {"maxAttempts": 2}});
                let fails = json!({"operations": vec![json!({"outcome": "fail"}); 20]});
                scenario.script.extend([17, 19].map(|id| (900, Act::Server(Which::Id(id), fails.clone()))));
                // A server whose installation failed is nobody's until somebody has looked at it, and so is its lock.
                then = vec![Act::Heal];
                first = json!({"handlerRef": null, "handlerSelector": {"namespace": PROVIDER, "matchLabels": {"zone": "msk"}}});
            }
            CURED => {
                scenario.undisturbed = false;
                scenario.handler = json!({"allowedDeletionPolicies": ["Release"]});
                first = json!({"deletionPolicy": "Orphan"});
                then = vec![Act::Handler("msk-1".into(), json!({"allowedDeletionPolicies": ["Release", "Orphan"]}))];
            }
            _ => return None,
        }
        let mut order = order("web", &first);
        if first["handlerSelector"].is_object() {
            order["spec"]["handlerRef"] = Value::Null;
        }
        if scenario.custom {
            order["spec"]["configuration"] = composed();
        }
        scenario.script.extend([(1000, Act::Calm), (1000, Act::Order(order))]);
        for act in then {
            scenario.script.extend([(1001, Act::Await(1_800_000)), (1002, act)]);
        }
        if name != CURED {
            scenario.script.extend([(1001, Act::Await(1_800_000)), (1002, Act::Delete("web".into()))]);
        }
        Some(scenario)
    }

    /// A claim that lands long after its order is gone, which no protocol without compare-and-swap survives: the rules have to see it.
    pub fn hole(seed: u64) -> Self {
        let mut scenario = Self::named("life", seed).unwrap();
        scenario.adversary.named = vec![("dcimgr server.edit 17".into(), Fault::Late(150_000))];
        scenario
    }

    /// Somebody does this when the effect of this number is about to happen.
    pub fn interrupted(mut self, effect: usize, name: &str) -> Self {
        let edit = |spec: Value| Act::Edit("web".into(), json!({"spec": spec}));
        let server = |change: Value| Act::Server(Which::Of("web".into()), change);
        let act = match name {
            "delete" => Act::Delete("web".into()),
            "domain" => edit(json!({"domain": "meanwhile.example.net"})),
            "suspend" => edit(json!({"suspended": true})),
            "reinstall" => edit(json!({"reinstall": "meanwhile"})),
            "addresses" => edit(json!({"addresses": {"ipv4": 3, "ipv6": 1}})),
            "licenses" if self.licenses => edit(json!({"licenses": [{"product": "Pro"}]})),
            // Where nobody sells licences the panel is asked for another recipe.
            "licenses" => edit(json!({"recipes": ["ISPsystem__nginx.sh"]})),
            "owner" => server(json!({"owner": "owner-of-18"})),
            "marker" => server(json!({"notes": ""})),
            "power" => server(json!({"power": "off"})),
            "ipmi" => server(json!({"ipmi": "dead"})),
            "address" => Act::Address("web".into(), true),
            "moved" => server(json!({"ip": "198.51.100.77"})),
            "server" => server(json!({"delete": true})),
            "tasks" => Act::LoseTasks,
            other => self.also(other),
        };
        self.adversary.acts = [(effect, act)].into();
        self.undisturbed &= HARMLESS.contains(&name) || acts::is_nobodys(name);
        // What is broken by hand is put right by hand, and the order asked again.
        let last = self.script.len().saturating_sub(1);
        self.script.splice(last..last, [(1001, Act::Heal), (1001, Act::AskAgain), (1001, Act::Await(1_800_000))]);
        self.script.extend(acts::afterwards(name));
        self
    }
}
