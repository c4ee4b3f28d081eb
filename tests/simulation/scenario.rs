//! What a run begins with, and what is going to happen in it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::adversary::{Adversary, Fault};
use super::apiserver::{HANDLERS, IPMANAGERS, NAMESPACES, SECRETS};
use super::objects::{self, PANEL_PASSWORD, POOL_PASSWORD, merged};
use super::people::{Act, People, Which};
use super::world::{PROVIDER, SHOP, SYSTEM, World};

/// Everything that decides a run.
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
    /// Replicas of the operator.
    pub processes: usize,
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
fn index(dice: &mut Adversary, most: usize) -> usize {
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
    match dice.below(20) {
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
            processes: 1,
        }
    }

    /// One order, opened and closed.
    pub fn life(seed: u64) -> Self {
        let mut scenario = Self::new(seed);
        scenario.script = vec![
            (1000, Act::Calm),
            (1000, Act::Order(order("web", &json!({})))),
            (1001, Act::Await(1_800_000)),
            (1002, Act::Delete("web".into())),
        ];
        scenario
    }

    /// A claim that lands long after its order is gone, which no protocol without compare-and-swap survives: the rules have to see it.
    pub fn hole(seed: u64) -> Self {
        let mut scenario = Self::life(seed);
        scenario.adversary.named = vec![("dcimgr server.edit 17".into(), Fault::Late(150_000))];
        scenario
    }

    /// Anything, with anything going wrong meanwhile.
    pub fn random(seed: u64) -> Self {
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
            scenario.processes = 2;
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
        let more = (0..self.servers).map(|n| json!({"id": 30 + n, "type": "E3-16G", "ip": format!("10.0.0.{}", 30 + n)}));
        let servers: Vec<Value> = panels["dcimanager5"][0]["servers"].as_array().into_iter().flatten().cloned().chain(more).collect();
        panels["dcimanager5"][0]["servers"] = servers.into();
        if self.two_panels {
            let servers = json!([
                {"id": 117, "type": "E3-16G", "ip": "10.0.1.17"}, {"id": 118, "type": "E5-64G", "ip": "10.0.1.18"},
            ]);
            let second = merged(panels["dcimanager5"][0].clone(), &json!({"name": "dci2", "servers": servers}));
            panels["dcimanager5"] = json!([panels["dcimanager5"][0].clone(), second]);
            panels["ipmanager5"][0]["holds_for"] = json!([{"panel": "dci", "user": "dci"}, {"panel": "dci2", "user": "dci"}]);
        }
        panels
    }

    /// Runs it to its end.
    pub fn run(self) -> Arc<World> {
        let panels = self.all_panels();
        let world = Arc::new(World::new(&panels, self.adversary, self.processes));
        for (kind, namespace, object) in [
            (NAMESPACES, "", json!({"metadata": {"name": SYSTEM}})),
            (NAMESPACES, "", json!({"metadata": {"name": PROVIDER}})),
            (NAMESPACES, "", json!({"metadata": {"name": SHOP}})),
            (SECRETS, PROVIDER, objects::secret("dci-admin", &json!({"username": "operator", "password": PANEL_PASSWORD}))),
            (SECRETS, PROVIDER, objects::secret("ipm-user", &json!({"username": "dci", "password": POOL_PASSWORD}))),
            (IPMANAGERS, PROVIDER, objects::ip_manager("https://panels.sim:1500/ipmgr", &json!({"pollInterval": "10s"}))),
            (HANDLERS, PROVIDER, handler("msk-1", "dcimgr", &self.handler)),
            (HANDLERS, PROVIDER, handler("msk-2", "dci2", &self.handler)),
        ] {
            if object["metadata"]["name"] == "msk-2" && !self.two_panels {
                continue;
            }
            let created = world.change(|s| s.create((kind, namespace.into(), String::new()), object, 0));
            created.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        }
        world.run(&mut People::new(self.script, self.department_takes));
        world
    }
}
