//! Random faults over many orders that come and go, with an operator that is killed now and then: in the end nothing is left over.
//!
//! Run by `make soak`: `DCI_SOAK_MINUTES` (30), `DCI_SOAK_ORDERS` (200), `DCI_SOAK_SEED` (1). What happens depends on the machine's speed, so
//! that a seed gives the same choices, not the same run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::invariants::{Call, Invariants, view};
use super::support::{Setup, World};

/// How long everything may take to be given back once nothing goes wrong any more.
const DRAIN: Duration = Duration::from_mins(10);

/// Choices from a seed (xorshift).
struct Choices(u64);

impl Choices {
    fn per_mille(&mut self, of: u64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % 1000 < of
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// One in so many calls goes wrong, each in its own way.
fn faults() -> Vec<Value> {
    let change = |action: &str, percent: u8| json!({"action": action, "percent": percent, "count": 0, "changes": true});
    let any = |action: &str, percent: u8| json!({"action": action, "percent": percent, "count": 0});
    let with = |mut fault: Value, name: &str, value: Value| {
        fault[name] = value;
        fault
    };
    vec![
        change("drop-before", 2),
        change("drop-answer", 2),
        with(change("late", 1), "delay", json!("700ms")),
        change("ignore", 1),
        with(change("error", 2), "type", json!("busy")),
        with(with(json!({"action": "error", "percent": 5, "count": 0}), "func", json!("server.poweroff")), "type", json!("ipmi")),
        any("garbage", 1),
        any("expire-sessions", 1),
        with(any("status", 1), "status", json!(503)),
        with(any("delay-after", 1), "delay", json!("2s")),
    ]
}

fn resident(world: &World) -> u64 {
    let pid = world.operator.as_ref().unwrap().pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap()
}

/// Whoever works in the departments: what failed is tried again, and servers that would not stop are said to be off.
#[derive(Default)]
struct Departments {
    /// How many tasks they have closed.
    closed: u64,
    /// `StopServer` tasks that are open: the server, and the last change that the panels had been asked for when the task was first seen.
    stopping: BTreeMap<String, (String, u64)>,
    /// The last change that is known.
    read: u64,
    /// Servers that the panels were asked to release, each with the number of the change.
    released: Vec<(u64, String)>,
}

impl Departments {
    /// What the panels were asked for since.
    fn read(&mut self, world: &World) {
        for entry in world.sim.journal(self.read) {
            self.read = entry["seq"].as_u64().unwrap();
            let fields = serde_json::from_value(entry["params"].clone()).unwrap();
            let call = Call { func: view::text(&entry["func"]).to_owned(), change: true, fields, ..Call::default() };
            // One that lands late was asked for before.
            if call.releases() && entry["lateOf"].is_null() {
                self.released.push((self.read, view::text(&entry["target"]).to_owned()));
            }
        }
    }

    /// The server that a task wants stopped.
    fn to_stop(world: &World, task: &Value) -> Option<String> {
        let orders = world.record.all("DedicatedServerOrder");
        let order = orders.iter().find(|order| order["metadata"]["uid"] == task["spec"]["orderRef"]["uid"])?;
        view::server_of(order).filter(|_| task["spec"]["type"] == "StopServer").map(str::to_owned)
    }

    /// Closes what is open. A `StopServer` task is looked at twice: what is released in between is released while it is open.
    async fn work(&mut self, world: &World) {
        for task in world.record.all("ManualTask").into_iter().filter(|t| t["spec"]["resolution"].is_null()) {
            let name = view::text(&task["metadata"]["name"]);
            self.read(world);
            if let Some(server) = Self::to_stop(world, &task)
                && !self.stopping.contains_key(name)
            {
                self.stopping.insert(name.to_owned(), (server, self.read));
                continue;
            }
            let answer = if task["spec"]["type"] == "StopServer" { "Done" } else { "Retry" };
            // As it was seen, or not at all: then it was open until now.
            let patch = json!({"metadata": {"resourceVersion": task["metadata"]["resourceVersion"]}, "spec": {"resolution": answer}});
            let patch = patch.to_string();
            let (code, _) = world.kubectl(&["patch", "manualtask", name, "-n", &world.provider, "--type=merge", "-p", &patch]).await;
            if code != 0 {
                continue;
            }
            self.closed += 1;
            if let Some((server, since)) = self.stopping.remove(name) {
                let early = self.released.iter().any(|(at, released)| *at > since && *released == server);
                assert!(!early, "(5) server {server} was released while task {name} was open");
            }
        }
    }
}

/// What the client of one order does next.
async fn client(world: &World, name: &str, choices: &mut Choices) -> &'static str {
    let Some(order) = world.record.get("DedicatedServerOrder", name) else {
        world.order(name, &json!({"addresses": {"ipv4": if choices.per_mille(300) { 2 } else { 1 }}})).await;
        return "created";
    };
    if order["metadata"]["deletionTimestamp"].is_string() {
        return "";
    }
    let phase = order["status"]["phase"].as_str().unwrap_or_default();
    let rest = matches!(phase, "Active" | "Suspended");
    let patch = |patch: Value| async move { world.patch("DedicatedServerOrder", name, &json!({"spec": patch})).await };
    if choices.per_mille(if rest { 40 } else { 3 }) {
        world.delete("DedicatedServerOrder", name).await;
        return "deleted";
    }
    if rest && choices.per_mille(20) {
        patch(json!({"suspended": phase == "Active"})).await;
        return "suspended or resumed";
    }
    if rest && choices.per_mille(20) {
        let number = order["metadata"]["generation"].as_u64().unwrap_or_default();
        patch(json!({"domain": format!("{name}-{number}.example.net")})).await;
        return "renamed";
    }
    ""
}

/// What must hold at every moment, as far as it shows without the operator's reads: objects as they change, then the panels.
fn obey(world: &World, rules: &mut Invariants) {
    let changes = world.record.take_changes();
    let panels = world.sim.state();
    let mut broken = rules.panels(&panels);
    for (before, after) in &changes {
        broken.extend(rules.changed(before.as_ref(), after.as_ref(), &panels));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What the panels hold for whoever it is: addresses that are taken, of both groups, and users by name.
fn held(world: &World) -> Value {
    let state = world.sim.state();
    let of = |panel: &Value| {
        let taken = view::list(&panel["addresses"]);
        let (public, parking): (Vec<&str>, Vec<&str>) = taken.iter().map(|row| view::text(&row["ip"])).partition(|ip| view::is_public(ip));
        let users: Vec<&Value> = view::list(&panel["users"]).iter().map(|user| &user["name"]).collect();
        json!({"public": public.len(), "parking": parking.len(), "users": users})
    };
    state["panels"].as_object().unwrap().iter().map(|(name, panel)| (name.clone(), of(panel))).collect()
}

#[tokio::test]
#[ignore = "make soak"]
async fn soak() {
    let (minutes, orders) = (setting("DCI_SOAK_MINUTES", 30), setting("DCI_SOAK_ORDERS", 200));
    let mut choices = Choices(setting("DCI_SOAK_SEED", 1).max(1));
    // Fewer servers than orders: some wait.
    let servers: Vec<Value> = (0..orders * 9 / 10)
        .map(|n| json!({"id": 1000 + n, "name": format!("R-{n}"), "type": "E3-16G", "ip": format!("10.0.{}.{}", 1 + n / 200, 1 + n % 200)}))
        .collect();
    let mut setup = Setup::dci(&json!({"servers": servers})).handler(&json!({
        "timeouts": {"settle": "3s"}, "retry": {"interval": "2s"}, "limits": {"maxConcurrentReleases": 10},
        // One that fails becomes a task at once: the departments are to have work.
        "ipmiErrorPolicy": "CreateTask",
    }));
    setup.panels["ipmanager5"][0]["address_groups"][0]["ranges"] = json!(["198.18.0.1-198.18.7.254"]);
    let mut world = World::start(setup).await;
    let names: Vec<String> = (0..orders).map(|n| format!("web-{n:03}")).collect();
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    let mut rules = Invariants::new(&[]);
    rules.blind = true;
    obey(&world, &mut rules);
    for fault in faults() {
        world.sim.add_fault(fault).unwrap();
    }
    let (began, span) = (Instant::now(), Duration::from_mins(minutes));
    let mut at_first = held(&world);
    let (mut done, mut departments, mut kills) = (BTreeMap::<&str, u64>::new(), Departments::default(), 0);
    let mut sizes = Vec::new();
    let mut minute = Instant::now();
    while began.elapsed() < span {
        for name in &names {
            *done.entry(client(&world, name, &mut choices).await).or_default() += 1;
        }
        departments.work(&world).await;
        // Also: no rule of the statuses is broken, no secret is told, and the process lives.
        world.until("the rules hold", |_| Some(())).await;
        obey(&world, &mut rules);
        if minute.elapsed() > Duration::from_mins(1) {
            minute = Instant::now();
            sizes.push(resident(&world));
            let count = |phase: &str| world.record.all("DedicatedServerOrder").iter().filter(|o| o["status"]["phase"] == phase).count();
            println!(
                "{:>3} min: {} Active, {} Deleting, {} KiB",
                began.elapsed().as_secs() / 60,
                count("Active"),
                count("Deleting"),
                sizes[sizes.len() - 1]
            );
            // Afterwards one process has to do: only of that one it shows whether its memory grows.
            if began.elapsed() < span / 3 && choices.per_mille(500) {
                world.kill_and_restart().await;
                kills += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let changes = world.sim.journal(0).len();
    world.sim.remove_faults(None);
    for name in &names {
        if world.record.get("DedicatedServerOrder", name).is_some_and(|o| o["metadata"]["deletionTimestamp"].is_null()) {
            world.delete("DedicatedServerOrder", name).await;
        }
    }
    let drained = Instant::now();
    loop {
        departments.work(&world).await;
        world.until("the rules hold", |_| Some(())).await;
        obey(&world, &mut rules);
        let left = world.record.all("DedicatedServerOrder");
        if left.is_empty() {
            break;
        }
        assert!(drained.elapsed() < DRAIN, "{} orders are left after {DRAIN:?}, the first is {}", left.len(), left[0]);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    done.remove("");
    let tasks = departments.closed;
    println!("\n{orders} orders, {minutes} minutes: {done:?}, {tasks} tasks closed, {kills} kills, {changes} changes at the panels");
    println!("given back in {:?}; resident KiB by minute: {sizes:?}", drained.elapsed());
    for n in 0..orders * 9 / 10 {
        world.assert_released(1000 + n);
    }
    let leases = Api::<Lease>::namespaced(world.kube.clone(), &world.system);
    world.polls(2).await;
    let left = leases.list(&ListParams::default()).await.unwrap().items;
    assert!(left.is_empty(), "locks are left: {:?}", left.iter().map(|l| &l.metadata.name).collect::<Vec<_>>());
    // The one client of all orders keeps its user.
    at_first["dci"]["users"].as_array_mut().unwrap().push("acme".into());
    assert_eq!(held(&world), at_first, "what the panels hold is not what they held at first");
    let open: Vec<Value> = world.record.all("ManualTask").into_iter().filter(|t| t["spec"]["resolution"].is_null()).collect();
    assert!(open.is_empty(), "tasks are open: {open:?}");
    assert!(minutes < 3 || tasks > 0, "no department was asked for anything: these faults show nothing of tasks");
    if let ([first, .., last], true) = (&sizes[sizes.len() / 3..], sizes.len() > 9) {
        assert!(*last < first * 5 / 4, "memory grows: {sizes:?} KiB");
    }
    world.end().await;
}
