//! What a run begins with, and what is going to happen in it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::adversary::{Adversary, Fault};
use super::apiserver::{HANDLERS, IPMANAGERS, NAMESPACES, SECRETS};
use super::objects::{self, PANEL_PASSWORD, POOL_PASSWORD, merged};
use super::people::{Act, People, Which};
use super::replica::Staff;
use super::world::{PROVIDER, SHOP, SYSTEM, World};
use super::{ending, swarm};

/// Everything that decides a run.
#[allow(clippy::struct_excessive_bools, reason = "each is a part of the world that is there or not")]
pub struct Scenario {
    pub adversary: Adversary,
    /// Patch of the panels.
    pub panels: Value,
    /// Patch of the handler's spec.
    pub handler: Value,
    /// In this order; each at its time, or later where one before it is waited for.
    pub script: Vec<(u64, Act)>,
    pub department_takes: u64,
    /// A second handler with a panel of its own.
    pub two_panels: bool,
    /// More servers, from 30 on.
    pub servers: u64,
    /// Replicas of the operator, and how long they are watched.
    pub staff: Staff,
    /// Where panels differ from the usual ones.
    pub swarm: Vec<(&'static str, &'static str, &'static str, Value)>,
    /// Nobody meddles: it ends without a trace, whatever goes wrong.
    pub undisturbed: bool,
    /// A licence server, and orders with licences.
    pub licenses: bool,
    /// Servers of known parts, departments that build and buy, and orders with configurations of their own.
    pub custom: bool,
    /// The first server that departments build lacks parts, which have to be bought.
    pub lacks_parts: bool,
    /// A client who has a server already.
    pub adoption: bool,
}

/// What a server has to be made of to fit a configuration of a client's own.
fn hardware(ram: &str, disk: &str) -> Value {
    json!({"cpu_0": "Intel Xeon E-2146G", "cpu_count": "1", "chassis_ram": ram, "hdd_0": "1920SSD", "hdd_1": disk})
}

/// What a department makes of a server.
pub fn fitting() -> Value {
    json!({"hardware": hardware("64", "1920SSD")})
}

/// The configuration of a client's own that such a server fits.
pub fn composed() -> Value {
    json!({"custom": {"cpu": {"model": "E-2146G"}, "memoryGiB": 64, "disks": [{"type": "SSD", "sizeGB": 1920, "count": 2}]}})
}

/// The handler of the licence server.
fn license_handler() -> Value {
    json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ProcessingHandler", "metadata": {"name": "isp"},
        "spec": {
            "module": "BILLmanager6",
            "connection": {"url": "https://panels.sim:1500/billmgr", "credentialsSecretRef": {"name": "isp"}, "timeout": "5s"},
            "licenses": {"products": {"Lite": {"pricelist": "55227"}, "Pro": {"pricelist": "55228"}}},
            "pollInterval": "10s", "retry": {"interval": "10s", "maxAttempts": 10},
            "timeouts": {"settle": "5s"},
            "limits": {"requestsPerSecond": 0},
        },
    })
}

fn license_server() -> Value {
    json!([{
        "name": "bill",
        "users": [{"name": "reseller", "password": PANEL_PASSWORD}],
        "behaviour": {"key_delay": "20s"},
        "pricelists": [{"id": 55227, "name": "ISPmanager 6 Lite"}, {"id": 55228, "name": "ISPmanager 6 Pro"}],
    }])
}

/// How quick a handler is: what a request may be late is less than `settle`.
fn handler(name: &str, panel: &str, patch: &Value) -> Value {
    let quick = json!({
        "pollInterval": "10s", "retry": {"interval": "10s", "maxAttempts": 10},
        "timeouts": {"power": "60s", "install": "5m", "step": "2m", "settle": "5s"},
        "departments": {"operations": {"name": "Operations"}},
    });
    let mut handler = objects::handler(&format!("https://panels.sim:1500/{panel}"), &merged(quick, patch));
    handler["metadata"]["name"] = name.into();
    handler["metadata"]["labels"] = json!({"zone": "msk"});
    handler
}

/// One of so many.
pub fn index(dice: &mut Adversary, most: usize) -> usize {
    usize::try_from(dice.below(most as u64)).unwrap_or(0)
}

/// One of these.
fn pick<T: Copy>(dice: &mut Adversary, of: &[T]) -> T {
    of[index(dice, of.len())]
}

/// Something that somebody does about an order.
fn any_act(name: &str, dice: &mut Adversary) -> Act {
    let server = |change: Value| Act::Server(Which::Of(name.to_owned()), change);
    let edit = |spec: Value| Act::Edit(name.to_owned(), json!({"spec": spec}));
    match dice.below(25) {
        0..4 => Act::Delete(name.to_owned()),
        4 => edit(json!({"domain": "other.example.net"})),
        5 => edit(json!({"suspended": true})),
        6 => edit(json!({"suspended": false})),
        7 => edit(json!({"reinstall": format!("again-{}", dice.below(3))})),
        8 => edit(json!({"addresses": {"ipv4": 1 + dice.below(3), "ipv6": dice.below(2)}})),
        9 => server(json!({"owner": ""})),
        10 => server(json!({"notes": ""})),
        11 => server(json!({"owner": "owner-of-18"})),
        12 => server(json!({"power": "off"})),
        13 => server(json!({"power": "on"})),
        14 => server(json!({"ipmi": "dead"})),
        15 => server(json!({"delete": dice.chance(300), "hostname": "by-hand.example.net"})),
        16 => Act::LoseTasks,
        17 => Act::PanelsDown(dice.below(60_000)),
        18 => Act::ApiDown(dice.below(60_000)),
        19 => Act::PanelDown(pick(dice, &["dci", "dci2", "ipm", "bill"]).to_owned(), dice.below(90_000)),
        20 => Act::Address(name.to_owned(), dice.chance(300)),
        21 => server(json!({"ipmi": "alive"})),
        22 => server(json!({"operations": [{"outcome": "fail"}]})),
        23 => edit(json!({"licenses": if dice.chance(500) { json!([]) } else { json!([{"product": "Pro"}]) }})),
        _ => Act::Handler("msk-1".into(), json!({"suspend": dice.chance(500)})),
    }
}

pub fn order(name: &str, spec: &Value) -> Value {
    let mut order = objects::order(name, spec);
    order["spec"]["handlerRef"]["namespace"] = PROVIDER.into();
    order
}

impl Scenario {
    pub fn new(seed: u64) -> Self {
        Self {
            adversary: Adversary::new(seed),
            panels: json!({}),
            handler: json!({}),
            script: Vec::new(),
            department_takes: 30_000,
            two_panels: false,
            servers: 0,
            staff: Staff::default(),
            swarm: Vec::new(),
            undisturbed: false,
            licenses: false,
            custom: false,
            lacks_parts: false,
            adoption: false,
        }
    }

    /// Anything, with anything going wrong meanwhile, at panels of the usual kind, with a leader where there are two.
    pub fn plain(seed: u64) -> Self {
        let mut dice = Adversary::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x51);
        let mut scenario = Self::new(seed);
        scenario.adversary.rate = pick(&mut dice, &[0, 10, 30, 80]);
        scenario.adversary.reads = pick(&mut dice, &[0, 0, 10, 30]);
        scenario.adversary.lag = pick(&mut dice, &[0, 0, 500, 8000]);
        scenario.handler = json!({
            "ipmiErrorPolicy": pick(&mut dice, &["Ignore", "CreateTask"]),
            "limits": {
                "maxConcurrentOperations": pick(&mut dice, &[0, 1, 2]),
                "maxConcurrentReleases": pick(&mut dice, &[0, 1]),
                "maxOrdersPerNamespace": pick(&mut dice, &[0, 0, 0, 2]),
            },
        });
        scenario.two_panels = dice.chance(300);
        (scenario.licenses, scenario.custom, scenario.adoption) = (dice.chance(250), dice.chance(250), dice.chance(200));
        scenario.department_takes = 1000 + dice.below(60_000);
        let names = &["a", "b", "c"][..=index(&mut dice, 3)];
        let mut script = Vec::new();
        for name in names {
            script.push((500 + dice.below(40_000), Act::Order(scenario.any_order(name, &mut dice))));
        }
        for _ in 0..dice.below(7) {
            let name = pick(&mut dice, names);
            let at = 1000 + dice.below(300_000);
            script.push((at, any_act(name, &mut dice)));
            if let Some((_, Act::Delete(_))) = script.last()
                && dice.chance(500)
            {
                // Another one of the same name, perhaps before the first is gone: then it is refused.
                script.push((at + dice.below(120_000), Act::Order(scenario.any_order(name, &mut dice))));
            }
        }
        if dice.chance(250) {
            scenario.staff.processes = 2;
            for _ in 0..=dice.below(3) {
                script.push((1000 + dice.below(200_000), Act::Freeze(index(&mut dice, 2), dice.below(60_000))));
            }
        }
        if dice.chance(150) {
            scenario.adversary.punctual = true;
            for _ in 0..=dice.below(2) {
                let seconds = i64::try_from(dice.below(7200)).unwrap_or(0) - 3600;
                script.push((1000 + dice.below(200_000), Act::Clock(seconds)));
            }
        }
        // Drawn apart, so that what else a seed decides stays as it is.
        let mut more = Adversary::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xad);
        scenario.adversary.old_answers = pick(&mut more, &[0, 0, 20, 60]);
        if more.chance(150) {
            let moved = json!({"ip": format!("198.51.100.{}", 100 + more.below(100))});
            script.push((1000 + more.below(300_000), Act::Server(Which::Of(pick(&mut more, names).into()), moved)));
        }
        script.sort_by_key(|(at, _)| *at);
        let calm = 150_000 + dice.below(200_000);
        script.retain(|(at, _)| *at < calm);
        script.extend([(calm, Act::Heal), (calm, Act::Calm), (calm + 20_000, Act::AskAgain)]);
        if dice.chance(600) {
            script.extend([(calm + 30_000, Act::Await(1_800_000 * dice.below(2))), (calm + 30_000, Act::DeleteAll)]);
        }
        scenario.script = script;
        scenario
    }

    /// Twenty orders at a handler with few places: opened, in part deleted meanwhile, and closed.
    pub fn bulk(seed: u64) -> Self {
        let mut dice = Adversary::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0xb);
        let mut scenario = Self::new(seed);
        scenario.adversary.rate = pick(&mut dice, &[0, 5, 20]);
        scenario.adversary.lag = pick(&mut dice, &[0, 2000]);
        let namespace = pick(&mut dice, &[0, 0, 6]);
        scenario.handler = json!({"limits": {
            "maxConcurrentOperations": 1 + dice.below(4), "maxConcurrentReleases": 1 + dice.below(2), "maxOrdersPerNamespace": namespace,
        }});
        scenario.servers = 8 + dice.below(16);
        let name = |n: u64| format!("bulk-{n:02}");
        let mut script: Vec<(u64, Act)> = (0..20).map(|n| (1000 + dice.below(2000), Act::Order(order(&name(n), &json!({}))))).collect();
        for n in 0..20 {
            if dice.chance(400) {
                script.push((5000 + dice.below(200_000), Act::Delete(name(n))));
            }
        }
        script.sort_by_key(|(at, _)| *at);
        let calm = 100_000 + dice.below(200_000);
        script.retain(|(at, _)| *at < calm);
        script.extend([(calm, Act::Calm), (calm, Act::Await(3_600_000 * dice.below(2))), (calm + 1, Act::DeleteAll)]);
        scenario.script = script;
        scenario
    }

    fn any_order(&self, name: &str, dice: &mut Adversary) -> Value {
        let mut order = order(name, &json!({"addresses": {"ipv4": 1 + dice.below(2), "ipv6": dice.below(2)}}));
        if self.two_panels && dice.chance(600) {
            order["spec"]["handlerRef"] = Value::Null;
            order["spec"]["handlerSelector"] = json!({"namespace": PROVIDER, "matchLabels": {"zone": "msk"}});
        }
        if dice.chance(100) {
            order["spec"]["suspended"] = true.into();
        }
        if dice.chance(200) {
            order["spec"]["configuration"] = json!({"serverType": "E5-64G"});
        }
        if self.custom && dice.chance(600) {
            order["spec"]["configuration"] = composed();
        }
        if self.licenses && dice.chance(700) {
            order["spec"]["licenses"] =
                if dice.chance(500) { json!([{"product": "Lite"}]) } else { json!([{"product": "Lite"}, {"product": "Pro"}]) };
        }
        if self.adoption && dice.chance(300) {
            order["spec"]["adopt"] = json!({"serverId": "21"});
            order["spec"]["domain"] = "old.example.net".into();
            order["spec"]["deletionPolicy"] = pick(dice, &["Release", "Orphan"]).into();
        }
        order
    }

    /// With these faults at these effects.
    pub fn with(mut self, faults: &[(usize, Fault)]) -> Self {
        self.adversary.planned = faults.iter().copied().collect();
        self
    }

    /// The configuration of all panels.
    fn all_panels(&self) -> Value {
        let mut panels = merged(objects::panels(), &self.panels);
        // Longer than from one list to the next, as what takes minutes does: it is seen while it runs.
        panels["dcimanager5"][0]["durations"]["install"] = "15s".into();
        let more = (0..self.servers).map(|n| json!({"id": 30 + n, "type": "E3-16G", "ip": format!("10.0.0.{}", 30 + n)}));
        let servers: Vec<Value> = panels["dcimanager5"][0]["servers"].as_array().into_iter().flatten().cloned().chain(more).collect();
        panels["dcimanager5"][0]["servers"] = servers.into();
        if self.licenses {
            panels["billmanager6"] = license_server();
        }
        if self.custom {
            for (place, (ram, disk)) in [(2, ("16", "480SSD")), (3, ("64", "1920SSD"))] {
                panels["dcimanager5"][0]["servers"][place]["hardware"] = hardware(ram, disk);
            }
        }
        if self.adoption {
            let users = panels["dcimanager5"][0]["users"].as_array_mut().unwrap();
            users.push(json!({"name": "acme", "password": "x"}));
            panels["dcimanager5"][0]["servers"].as_array_mut().unwrap().push(json!({
                "id": 21, "type": "E3-16G", "ip": "203.0.113.77", "extra_ips": ["203.0.113.78"], "owner": "acme",
                "hostname": "old.example.net", "power": "on", "notes": "contract 7", "installed": "ISPsystem__CentOS-7-x86_64",
            }));
        }
        if self.two_panels {
            let servers = json!([
                {"id": 117, "type": "E3-16G", "ip": "10.0.1.17"}, {"id": 118, "type": "E5-64G", "ip": "10.0.1.18"},
            ]);
            let second = merged(panels["dcimanager5"][0].clone(), &json!({"name": "dci2", "servers": servers}));
            panels["dcimanager5"] = json!([panels["dcimanager5"][0].clone(), second]);
            panels["ipmanager5"][0]["holds_for"] = json!([{"panel": "dci", "user": "dci"}, {"panel": "dci2", "user": "dci"}]);
        }
        swarm::apply(&mut panels, &self.swarm);
        panels
    }

    /// What the handlers differ in from the usual ones.
    fn policy(&self) -> Value {
        let mut policy = json!({"allowedDeletionPolicies": ["Release", "Orphan"]});
        if self.licenses {
            policy["licenseServerRef"] = json!({"name": "isp"});
        }
        if self.custom {
            policy["byServerType"] = false.into();
            policy["departments"] = json!({"assembly": {"name": "Assembly"}, "procurement": {"name": "Procurement"}});
        }
        if self.adoption {
            policy["adoption"] = "Allowed".into();
        }
        merged(policy, &self.handler)
    }

    /// Every order is deleted in the end, at panels of the usual kind, and nobody does anything by hand meanwhile: whatever else goes
    /// wrong, none of them stays.
    fn leaves_nothing(&self) -> bool {
        let acts = || self.script.iter().map(|(_, act)| act).chain(self.adversary.acts.values());
        self.swarm.is_empty() && acts().any(|act| matches!(act, Act::DeleteAll)) && !acts().any(Act::is_by_hand)
    }

    /// Runs it to its end.
    pub fn run(self) -> Arc<World> {
        let (panels, policy) = (self.all_panels(), self.policy());
        let leaves_nothing = self.leaves_nothing();
        let world = Arc::new(World::new(&panels, self.adversary, self.staff));
        for (kind, part, field, value) in &self.swarm {
            world.tell(&format!("{kind}: {part}.{field} is {value}"));
        }
        for (kind, namespace, object) in [
            (NAMESPACES, "", json!({"metadata": {"name": SYSTEM}})),
            (NAMESPACES, "", json!({"metadata": {"name": PROVIDER}})),
            (NAMESPACES, "", json!({"metadata": {"name": SHOP}})),
            (SECRETS, PROVIDER, objects::secret("dci-admin", &json!({"username": "operator", "password": PANEL_PASSWORD}))),
            (SECRETS, PROVIDER, objects::secret("ipm-user", &json!({"username": "dci", "password": POOL_PASSWORD}))),
            (IPMANAGERS, PROVIDER, objects::ip_manager("https://panels.sim:1500/ipmgr", &json!({"pollInterval": "10s"}))),
            (SECRETS, PROVIDER, objects::secret("isp", &json!({"username": "reseller", "password": PANEL_PASSWORD}))),
            (HANDLERS, PROVIDER, license_handler()),
            (HANDLERS, PROVIDER, handler("msk-1", "dcimgr", &policy)),
            (HANDLERS, PROVIDER, handler("msk-2", "dci2", &merged(policy.clone(), &json!({"priority": 20})))),
        ] {
            let name = object["metadata"]["name"].as_str();
            if (name == Some("msk-2") && !self.two_panels) || (name == Some("isp") && !self.licenses) {
                continue;
            }
            let created = world.change(|s| s.create((kind, namespace.into(), String::new()), object, 0));
            created.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        }
        world.run(&mut People::new(self.script, self.department_takes, self.lacks_parts));
        ending::judge(&world, self.undisturbed, leaves_nothing);
        world
    }
}
