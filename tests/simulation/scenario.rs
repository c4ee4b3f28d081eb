//! What a run begins with, and what is going to happen in it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::adversary::{Adversary, Fault};
use super::apiserver::{HANDLERS, IPMANAGERS, NAMESPACES, SECRETS};
use super::objects::{self, PANEL_PASSWORD, POOL_PASSWORD, merged};
use super::people::{Act, People};
use super::world::{PROVIDER, SHOP, SYSTEM, World};

/// Everything that decides a run.
pub struct Scenario {
    pub adversary: Adversary,
    /// Patch of the panels.
    pub panels: Value,
    /// Patch of the handler's spec.
    pub handler: Value,
    pub script: Vec<(u64, Act)>,
    pub department_takes: u64,
}

/// How quick the handler is: what a request may be late is less than `settle`.
fn handler(patch: &Value) -> Value {
    let quick = json!({
        "pollInterval": "10s", "retry": {"interval": "10s", "maxAttempts": 10},
        "timeouts": {"power": "60s", "install": "5m", "step": "2m", "settle": "5s"},
        "departments": {"operations": {"name": "Operations"}},
    });
    objects::handler("https://panels.sim:1500/dcimgr", &merged(quick, patch))
}

pub fn order(name: &str, spec: &Value) -> Value {
    let mut order = objects::order(name, spec);
    order["spec"]["handlerRef"]["namespace"] = PROVIDER.into();
    order
}

impl Scenario {
    pub fn new(seed: u64) -> Self {
        Self { adversary: Adversary::new(seed), panels: json!({}), handler: json!({}), script: Vec::new(), department_takes: 30_000 }
    }

    /// One order, opened and closed.
    pub fn life(seed: u64) -> Self {
        let mut scenario = Self::new(seed);
        scenario.script = vec![(1000, Act::Order(order("web", &json!({})))), (240_000, Act::Delete("web")), (240_001, Act::Calm)];
        scenario
    }

    /// With these faults at these effects.
    pub fn with(mut self, faults: &[(usize, Fault)]) -> Self {
        self.adversary.planned = faults.iter().copied().collect();
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Arc<World> {
        let panels = merged(objects::panels(), &self.panels);
        let world = Arc::new(World::new(&panels, self.adversary));
        for (kind, namespace, object) in [
            (NAMESPACES, "", json!({"metadata": {"name": SYSTEM}})),
            (NAMESPACES, "", json!({"metadata": {"name": PROVIDER}})),
            (NAMESPACES, "", json!({"metadata": {"name": SHOP}})),
            (SECRETS, PROVIDER, objects::secret("dci-admin", &json!({"username": "operator", "password": PANEL_PASSWORD}))),
            (SECRETS, PROVIDER, objects::secret("ipm-user", &json!({"username": "dci", "password": POOL_PASSWORD}))),
            (IPMANAGERS, PROVIDER, objects::ip_manager("https://panels.sim:1500/ipmgr", &json!({"pollInterval": "10s"}))),
            (HANDLERS, PROVIDER, handler(&self.handler)),
        ] {
            let created = world.change(|s| s.create((kind, namespace.into(), String::new()), object, 0));
            created.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        }
        world.run(&mut People::new(self.script, self.department_takes));
        world
    }
}
