//! Each property of an order that has its server, of its handler and of its IPManager is changed, one by one (Acto, SOSP '23): the server
//! refuses it and says why, or the operator says what it makes of it; an order that works with it has a server as it asks for now, and in
//! all else the client's server stays as it is; what is put back works again, and an order that goes without that is given back all the
//! same. `DCI_MANIFESTS=n` changes so many properties of all, `DCI_MANIFESTS_SEED` decides which, and to what: of half of them always the
//! same, of the others the commit, where it does not say otherwise.

use std::collections::BTreeMap;

use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};

use super::manifests::{Fate, assert_clear, assert_told, fate, number, path, seeds, send, world_setup};
use super::support::manifests::{Draw, Manifest, Property, Schemas};
use super::support::serves::unlike;
use super::support::{World, objects};

const ORDER: &str = "DedicatedServerOrder";
/// How many are there at the same time.
const BATCH: usize = 12;
/// How often another value is drawn where the API server refuses one.
const TRIES: usize = 60;

/// An order with a server, a handler and an IPManager of its own, and what is changed of them.
struct Trio {
    name: String,
    property: Property,
    /// Of its server.
    id: u64,
    /// What was sent last.
    what: Manifest,
    /// The generation of what was stored last: an older one says nothing of it.
    stored: i64,
}

/// What a server is like for its client.
fn seen(world: &World, id: u64) -> Value {
    let server = world.server(id);
    let ips = server["ips"].as_array().unwrap();
    let of = |v6: bool| ips.iter().filter(|row| row["ip"].as_str().unwrap().contains(':') == v6).count();
    json!({
        "owner": server["owner"], "notes": server["notes"], "power": server["power"], "disabled": server["flags"]["disabled"],
        "installed": server["installed"]["times"], "hostname": server["hostname"],
        "main": server["ip"], "ipv4": of(false), "ipv6": of(true),
    })
}

/// What may become of a server by this change, other than nothing; once it is put back, too.
fn may_change(property: &Property, put_back: bool) -> &'static [&'static str] {
    match (property.kind, property.path.as_str()) {
        // A token is an installation, and putting the old one back is another.
        (ORDER, "spec.reinstall") => &["installed"],
        (ORDER, "spec.suspended") if !put_back => &["power", "disabled"],
        (ORDER, "spec.domain") if !put_back => &["hostname"],
        (ORDER, "spec.addresses.ipv4") if !put_back => &["ipv4"],
        (ORDER, "spec.addresses.ipv6") if !put_back => &["ipv6"],
        _ => &[],
    }
}

impl Trio {
    /// Makes all three; the order is to get a server.
    async fn new(world: &World, number: usize, property: Property) -> Self {
        let name = format!("p{number}");
        let named = |mut object: Value| {
            object["metadata"]["name"] = json!(name);
            object
        };
        world.create(&world.provider, named(objects::ip_manager(world.sim.url("ipm").unwrap(), &json!({})))).await;
        let management = json!({"ipManagerRef": {"name": name}, "parkingIPType": "parking"});
        let spec = json!({"ipManagement": management, "limits": {"maxConcurrentOperations": 0, "maxConcurrentReleases": 0}});
        world.create(&world.provider, named(objects::handler(world.sim.url("dci").unwrap(), &spec))).await;
        world.order(&name, &json!({"handlerRef": {"name": name}, "client": {"username": name}})).await;
        let what = Manifest { kind: property.kind, name: name.clone(), object: Value::Null, good: Value::Null, why: property.path.clone() };
        Self { name, property, id: 0, what, stored: 0 }
    }

    fn path(&self, world: &World) -> String {
        format!("{}/{}", path(world, self.what.kind), self.name)
    }

    /// Notes the server, and the spec that works.
    async fn settled(&mut self, world: &mut World) {
        let order = world.until_active(&self.name).await;
        self.id = order["status"]["server"]["id"].as_str().unwrap().parse().unwrap();
        self.what.good = send(world, Method::GET, &self.path(world), &Value::Null).await.unwrap()["spec"].clone();
    }

    /// Changes the property to something that the API server takes, if there is such a thing. Whether there was.
    async fn change(&mut self, world: &World, draw: &mut Draw) -> bool {
        for _ in 0..TRIES {
            let patch = self.property.drawn(draw, &self.what.good);
            self.what.why = format!("{} of a live order is {patch}", self.property.path);
            match send(world, Method::PATCH, &self.path(world), &patch).await {
                Ok(stored) => {
                    self.stored = stored["metadata"]["generation"].as_i64().unwrap();
                    return true;
                }
                Err(status) => assert_clear(&status, &self.what),
            }
        }
        false
    }

    /// What the operator makes of the object as it was stored last, once it has said so.
    fn fate_now(&self, world: &World) -> Option<(Fate, String)> {
        let object = world.record.get(self.what.kind, &self.name)?;
        fate(self.what.kind, &object).filter(|_| object["metadata"]["generation"].as_i64() >= Some(self.stored))
    }

    async fn fate(&self, world: &mut World) -> Fate {
        let label = format!("the fate of {} {}: {}", self.what.kind, self.name, self.what.why);
        let (fate, text) = world.until(&label, |world| self.fate_now(world)).await;
        assert_told(&self.what, fate, &text);
        fate
    }

    /// The server is as it was before the change, but for what that is about; and where the order works, it is what the order asks for now.
    fn assert_served(&self, world: &World, before: &Value, put_back: bool) {
        let (now, mut expected) = (seen(world, self.id), before.clone());
        for name in may_change(&self.property, put_back) {
            expected[name] = now[name].clone();
        }
        let what = if put_back { "and put back: " } else { "" };
        assert_eq!(now, expected, "{}: {what}the server was {before}", self.what.why);
        let unlike = unlike(&world.sim.state(), &world.record.get(ORDER, &self.name).unwrap());
        assert!(unlike.is_empty(), "{}: {what}{}", self.what.why, unlike.join("; "));
    }

    /// Whether it can be deleted as it is, and everything is given back.
    fn may_go(&self, world: &World) -> bool {
        let order = world.record.get(ORDER, &self.name).unwrap();
        let kept = order["spec"]["deletionProtection"] == true || order["spec"]["deletionPolicy"] == "Orphan";
        // A handler that forbids its order's way of going, or changes nothing, holds it; one that leaves main addresses alone leaves this one.
        let held = [
            "spec.allowedDeletionPolicies",
            "spec.suspend",
            "spec.ipManagement",
            "spec.ipManagement.disableIPChange",
            "spec.ipManagement.parkingIPType",
        ];
        let kept = kept || held.contains(&self.property.path.as_str());
        !kept && self.fate_now(world).is_some_and(|(fate, _)| fate == Fate::Works)
    }

    /// Puts the good spec back.
    async fn put_back(&mut self, world: &World) {
        loop {
            let mut object = send(world, Method::GET, &self.path(world), &Value::Null).await.unwrap();
            object["spec"] = self.what.good.clone();
            match send(world, Method::PUT, &self.path(world), &object).await {
                Ok(stored) => {
                    self.stored = stored["metadata"]["generation"].as_i64().unwrap();
                    break;
                }
                Err(status) => assert_eq!(status.code, 409, "{}: it cannot be put back: {}", self.what.why, status.message),
            }
        }
    }

    /// Puts the good spec back, and waits until everything works.
    async fn cured(&mut self, world: &mut World) {
        self.put_back(world).await;
        let label = format!("{} {} works again: {}", self.what.kind, self.name, self.what.why);
        world.until(&label, |world| self.fate_now(world).filter(|(fate, _)| *fate == Fate::Works)).await;
        for kind in ["IPManager", "ProcessingHandler", ORDER] {
            let label = format!("{kind} {} works again: {}", self.name, self.what.why);
            world
                .until(&label, |world| {
                    let (fate, _) = fate(kind, &world.record.get(kind, &self.name)?)?;
                    (fate == Fate::Works).then_some(())
                })
                .await;
        }
    }

    /// Waits until the deleted order is gone. What keeps it is told to a department, which puts it right.
    async fn gone(&mut self, world: &mut World) {
        let label = format!("{} is gone, or somebody is asked: {}", self.name, self.what.why);
        let asked = |world: &World| {
            let of_order = |task: &Value| task["spec"]["orderRef"]["name"] == self.name.as_str() && task["spec"]["resolution"].is_null();
            world.record.all("ManualTask").into_iter().find(of_order)
        };
        let gone = |world: &World| world.record.get(ORDER, &self.name).is_none().then_some(None);
        let asked = world.until(&label, |world| gone(world).or_else(|| asked(world).map(Some))).await;
        if let Some(task) = asked {
            self.put_back(world).await;
            let answer = json!({"spec": {"resolution": "Retry", "note": "put back"}});
            world.patch("ManualTask", task["metadata"]["name"].as_str().unwrap(), &answer).await;
            world.until_gone(&self.name).await;
        }
    }
}

/// `draws`: what decides by turns what the properties become.
async fn batch(world: &mut World, draws: &mut [Draw], properties: Vec<(usize, Property)>, fates: &mut BTreeMap<Fate, usize>) {
    let made = futures::stream::iter(properties).map(|(number, property)| Trio::new(world, number, property));
    let mut trios: Vec<Trio> = made.buffered(4).collect().await;
    let mut changed = Vec::new();
    let turns = draws.len();
    for (place, mut trio) in trios.drain(..).enumerate() {
        trio.settled(world).await;
        let before = seen(world, trio.id);
        let taken = trio.change(world, &mut draws[place % turns]).await;
        if !taken {
            *fates.entry(Fate::RefusedByServer).or_default() += 1;
        }
        changed.push((trio, before, taken));
    }
    for (trio, _, taken) in &changed {
        if *taken {
            *fates.entry(trio.fate(world).await).or_default() += 1;
        }
    }
    // Orders are decided upon what has changed for them, too.
    world.polls(3).await;
    for (number, (trio, before, _)) in changed.iter_mut().enumerate() {
        trio.assert_served(world, before, false);
        if number % 2 == 0 || !trio.may_go(world) {
            trio.cured(world).await;
            trio.assert_served(world, before, true);
        }
        world.delete(ORDER, &trio.name).await;
    }
    for (trio, ..) in &mut changed {
        trio.gone(world).await;
        world.delete("ProcessingHandler", &trio.name).await;
    }
    for (trio, ..) in &changed {
        world.assert_released(trio.id);
        let label = format!("handler {} is gone", trio.name);
        world.until(&label, |world| world.record.get("ProcessingHandler", &trio.name).is_none().then_some(())).await;
        world.delete("IPManager", &trio.name).await;
    }
}

#[tokio::test]
async fn every_property_of_a_live_order_and_its_handler_may_change() {
    let count = usize::try_from(number("DCI_MANIFESTS", BATCH as u64)).unwrap();
    let mut world = World::start(world_setup()).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    let mut draws: Vec<Draw> = seeds().into_iter().map(Draw::new).collect();
    let mut left: Vec<(usize, Property)> = Schemas::new().properties().into_iter().enumerate().collect();
    let (there_are, turns) = (left.len(), draws.len());
    let looked_at = count.min(there_are);
    let mut chosen = Vec::new();
    for (turn, draw) in draws.iter_mut().enumerate() {
        let share = looked_at.saturating_sub(turn).div_ceil(turns);
        chosen.push((0..share).map(|_| left.remove(draw.below(left.len()))).collect::<Vec<_>>().into_iter());
    }
    let mut all: Vec<(usize, Property)> = (0..looked_at).filter_map(|place| chosen[place % turns].next()).collect();
    let mut fates = BTreeMap::new();
    while !all.is_empty() {
        let rest = all.split_off(all.len().min(BATCH));
        batch(&mut world, &mut draws, std::mem::replace(&mut all, rest), &mut fates).await;
    }
    let taken = fates.iter().filter(|(fate, _)| **fate != Fate::RefusedByServer).map(|(_, count)| count).sum::<usize>();
    assert!(taken * 3 > looked_at, "too few were changed at all: {fates:?}");
    super::tables::tell(&format!("{looked_at} of {there_are} properties: {fates:?}"));
    world.end().await;
}
