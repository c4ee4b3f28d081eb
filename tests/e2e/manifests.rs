//! Whatever somebody applies: the server refuses it and says which field, or the operator does with a reason and a cure, or it works;
//! no good order beside it is kept from its server, and each that works has one as it asks for; a good spec cures each refusal; and in the
//! end nothing of it is left (as Acto, SOSP '23, looks at operators). `DCI_MANIFESTS=n` draws so many, `DCI_MANIFESTS_SEED` decides which:
//! half of them are always the same, the others change with each commit, where it does not say otherwise.

use std::collections::BTreeMap;
use std::time::Instant;

use dci_operator::provisioning::reason::Reason;
use futures::StreamExt;
use http::{Method, Request};
use serde_json::{Value, json};

use super::support::kstatus::condition;
use super::support::manifests::{Draw, Manifest, Places, Schemas, manifest};
use super::support::record::KINDS;
use super::support::serves::unlike;
use super::support::{Setup, World, objects};

const ORDER: &str = "DedicatedServerOrder";
/// How many are there at the same time.
const BATCH: usize = 40;

/// Reasons of an order that is on its way: it has to be waited for.
const ON_ITS_WAY: [Reason; 9] = [
    Reason::Allocating,
    Reason::Preparing,
    Reason::Suspending,
    Reason::Resuming,
    Reason::WaitingForPanel,
    Reason::AnswerLost,
    Reason::GivingBack,
    Reason::LimitReached,
    Reason::Retrying,
];

pub(super) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().unwrap())
}

/// What decides which are drawn, by turns: always the same, and another one with each commit. `DCI_MANIFESTS_SEED=1,7` says which instead.
pub(super) fn seeds() -> Vec<u64> {
    let seeds: Vec<u64> = match std::env::var("DCI_MANIFESTS_SEED") {
        Ok(text) => text.split(',').map(|seed| seed.trim().parse::<u64>().unwrap()).collect(),
        Err(_) => std::iter::once(1).chain(super::commit::seed().map(|commit| commit % 1_000_000)).collect(),
    };
    let said: Vec<String> = seeds.iter().map(u64::to_string).collect();
    super::tables::tell(&format!("DCI_MANIFESTS_SEED={}", said.join(",")));
    seeds
}

/// What became of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    RefusedByServer,
    RefusedByOperator,
    Waits,
    Works,
}

/// Where objects of a kind are written by this test.
fn namespace<'a>(world: &'a World, kind: &str) -> &'a str {
    if kind == ORDER { &world.shop } else { &world.provider }
}

pub(super) fn path(world: &World, kind: &str) -> String {
    let plural = KINDS.iter().find(|(name, _)| *name == kind).unwrap().1;
    format!("/apis/dci-operator.dev/v1alpha1/namespaces/{}/{plural}", namespace(world, kind))
}

/// One request as it is, whatever is wrong with the object.
pub(super) async fn send(world: &World, method: Method, path: &str, body: &Value) -> Result<Value, kube::core::Status> {
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body.to_string().into_bytes()).unwrap();
    match world.kube.request::<Value>(request).await {
        Ok(stored) => Ok(stored),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(error) => panic!("{path}: {error}\n{body}"),
    }
}

/// A refusal of the server's says what is wrong with which field.
pub(super) fn assert_clear(status: &kube::core::Status, what: &Manifest) {
    let expected = matches!(status.code, 400 | 413 | 422);
    // Of metadata of another type it names the Go field, `ObjectMeta.Labels`.
    let message = status.message.to_lowercase();
    let field = ["spec", "metadata", "objectmeta", "status", "too large"].iter().any(|word| message.contains(word));
    assert!(expected && field, "{} {}: the server answers {} {}", what.kind, what.why, status.code, status.message);
}

/// What an object shows of its fate; `None` while it is being looked at.
pub(super) fn fate(kind: &str, object: &Value) -> Option<(Fate, String)> {
    let status = &object["status"];
    if status["observedGeneration"] != object["metadata"]["generation"] {
        return None;
    }
    let told = |type_: &str| {
        condition(object, type_).map(|c| (c["reason"].as_str().unwrap_or_default(), c["message"].as_str().unwrap_or_default()))
    };
    let holds = |type_: &str| condition(object, type_).is_some_and(|c| c["status"] == "True");
    let text = |told: Option<(&str, &str)>| told.map_or_else(String::new, |(reason, message)| format!("{reason}: {message}"));
    if holds("Stalled") {
        return Some((Fate::RefusedByOperator, text(told("Stalled"))));
    }
    if holds("Ready") || (kind == "ManualTask" && status["phase"] == "Open") {
        return Some((Fate::Works, String::new()));
    }
    let (reason, _) = told("Ready")?;
    if kind == ORDER {
        let known = Reason::ALL.iter().find(|r| r.as_str() == reason)?;
        let suspended = *known == Reason::Suspended;
        return (!ON_ITS_WAY.contains(known)).then(|| (if suspended { Fate::Works } else { Fate::Waits }, text(told("Ready"))));
    }
    holds("Reconciling").then(|| (Fate::Waits, text(told("Ready"))))
}

/// What the operator says has a known reason, a message, and where the object itself is wrong the field.
pub(super) fn assert_told(what: &Manifest, fate: Fate, text: &str) {
    if fate == Fate::Works {
        return;
    }
    let (reason, message) = text.split_once(": ").unwrap_or((text, ""));
    let known = Reason::ALL.iter().find(|r| r.as_str() == reason);
    assert!(known.is_some() && !message.trim().is_empty(), "{} {}: {text}", what.kind, what.why);
    if matches!(known, Some(Reason::InvalidSpec | Reason::InvalidObject)) {
        let names = ["spec", "metadata", "connection.", "field", "annotation"].iter().any(|word| message.contains(word));
        assert!(names, "{} {}: the message names no field: {text}", what.kind, what.why);
    }
    assert!(message.len() <= 4096 && !message.contains('\n'), "{} {}: {text}", what.kind, what.why);
}

struct Run {
    world: World,
    fates: BTreeMap<(&'static str, Fate), usize>,
    cured: usize,
    made_anew: usize,
}

impl Run {
    /// Waits until the fate of every one of these is known.
    async fn fates(&mut self, batch: &[Manifest]) -> Vec<(Fate, String)> {
        let mut known = Vec::new();
        for what in batch {
            let label = format!("the fate of {} {}: {}", what.kind, what.name, what.why);
            let found = self.world.until(&label, |world| fate(what.kind, &world.record.get(what.kind, &what.name)?)).await;
            known.push(found);
        }
        known
    }

    /// An order that works has a server as it asks for.
    fn assert_served(&self, kind: &str, name: &str, why: &str) {
        if kind == ORDER {
            let unlike = unlike(&self.world.sim.state(), &self.world.record.get(kind, name).unwrap());
            assert!(unlike.is_empty(), "{why}: {}", unlike.join("; "));
        }
    }

    /// Sends the manifests; those that are stored come back.
    async fn apply(&mut self, batch: Vec<Manifest>) -> Vec<Manifest> {
        let world = &self.world;
        let sent = futures::stream::iter(batch).map(|what| async move {
            let answer = send(world, Method::POST, &path(world, what.kind), &what.object).await;
            (what, answer)
        });
        let answers: Vec<_> = sent.buffered(8).collect().await;
        let mut stored = Vec::new();
        for (what, answer) in answers {
            match answer {
                Ok(_) => stored.push(what),
                Err(status) => {
                    assert_clear(&status, &what);
                    *self.fates.entry((what.kind, Fate::RefusedByServer)).or_default() += 1;
                }
            }
        }
        stored
    }

    /// Gives an object a spec that works. What may not be changed is kept where the object has a server, and where the server says
    /// that a field is fixed the object is made anew, as its message tells.
    async fn cure(&mut self, what: &Manifest) {
        let path = format!("{}/{}", path(&self.world, what.kind), what.name);
        self.cured += 1;
        let refused = loop {
            // As it is now: what is changed meanwhile is a conflict, and looked at again.
            let mut object = send(&self.world, Method::GET, &path, &Value::Null).await.unwrap();
            let status = &object["status"];
            let bound = what.kind == ORDER && (status["server"].is_object() || status["inFlight"].is_object());
            let mut spec = what.good.clone();
            for fixed in ["client", "configuration", "handlerRef", "handlerSelector"].iter().filter(|_| bound) {
                spec[fixed] = object["spec"][fixed].clone();
            }
            if what.kind == ORDER && spec["client"] != object["spec"]["client"] {
                // The log-in of the user that may have been made for it is in the way of another one's, as the order would say.
                let secret = format!("/api/v1/namespaces/{}/secrets/{}-panel", self.world.shop, what.name);
                let _ = send(&self.world, Method::DELETE, &secret, &json!({})).await;
            }
            object["spec"] = spec;
            match send(&self.world, Method::PUT, &path, &object).await {
                Ok(_) => return,
                Err(status) if status.code == 409 => {}
                Err(status) => break status,
            }
        };
        assert!(refused.message.contains("cannot be changed") || refused.message.contains("fixed"), "{}: {}", what.why, refused.message);
        self.remove(what).await;
        let mut healthy = what.object.clone();
        healthy["metadata"] = json!({"name": what.name});
        healthy["spec"] = what.good.clone();
        send(&self.world, Method::POST, &self::path(&self.world, what.kind), &healthy).await.unwrap();
        self.made_anew += 1;
    }

    async fn remove(&mut self, what: &Manifest) {
        let path = format!("{}/{}", path(&self.world, what.kind), what.name);
        send(&self.world, Method::DELETE, &path, &json!({})).await.unwrap();
        let label = format!("{} {} is gone: {}", what.kind, what.name, what.why);
        self.world.until(&label, |world| world.record.get(what.kind, &what.name).is_none().then_some(())).await;
    }

    async fn batch(&mut self, batch: Vec<Manifest>, good: &str) {
        let stored = self.apply(batch).await;
        self.world.order(good, &json!({"client": {"username": "good"}})).await;
        for (what, (fate, text)) in stored.iter().zip(self.fates(&stored).await) {
            assert_told(what, fate, &text);
            self.assert_served(what.kind, &what.name, &what.why);
            *self.fates.entry((what.kind, fate)).or_default() += 1;
        }
        self.world.until_active(good).await;
        self.assert_served(ORDER, good, "a good one");
        // Tasks are made by the operator: one that a person made is only deleted.
        let mut cured = Vec::new();
        // And a name that is too long is cured by another one.
        for what in stored.iter().filter(|what| what.kind != "ManualTask" && (what.kind != ORDER || what.name.len() <= 63)) {
            let now = self.world.record.get(what.kind, &what.name).unwrap();
            let kept = now["spec"]["deletionProtection"] == true || now["spec"]["deletionPolicy"] == "Orphan";
            if kept || fate(what.kind, &now).is_none_or(|(fate, _)| fate != Fate::Works) {
                self.cure(what).await;
                cured.push(what);
            }
        }
        for what in cured {
            let label = format!("{} {} works once its spec is good: {}", what.kind, what.name, what.why);
            self.world
                .until(&label, |world| {
                    let (fate, _) = fate(what.kind, &world.record.get(what.kind, &what.name)?)?;
                    (fate == Fate::Works).then_some(())
                })
                .await;
            self.assert_served(what.kind, &what.name, &what.why);
        }
        // All at once, orders first: handlers that orders use are kept by them.
        let mut order = stored;
        order.sort_by_key(|what| usize::from(what.kind != ORDER));
        self.world.delete(ORDER, good).await;
        for what in order.iter().filter(|what| what.kind == ORDER) {
            let path = format!("{}/{}", path(&self.world, what.kind), what.name);
            send(&self.world, Method::DELETE, &path, &json!({})).await.unwrap();
        }
        for what in order.iter().filter(|what| what.kind == ORDER) {
            self.world.until_gone(&what.name).await;
        }
        for what in order.iter().filter(|what| what.kind != ORDER) {
            self.remove(what).await;
        }
        self.world.until_gone(good).await;
    }
}

pub(super) fn world_setup() -> Setup {
    let mut panels = objects::panels();
    let servers = (100..100 + 2 * BATCH)
        .map(|id| json!({"id": id, "name": format!("R2-{id}"), "type": "E3-16G", "ip": format!("10.0.1.{}", id - 90)}));
    panels["dcimanager5"][0]["servers"].as_array_mut().unwrap().extend(servers);
    // An order may ask for 64 addresses.
    panels["ipmanager5"][0]["address_groups"][0]["ranges"].as_array_mut().unwrap().push("198.18.0.0/20".into());
    panels["dcimanager5"][0]["durations"] = json!({"power": "50ms", "install": "2500ms", "connection": "50ms"});
    let mut setup = Setup { panels, ..Setup::default() };
    setup.handler = json!({"limits": {"maxConcurrentOperations": 0, "maxConcurrentReleases": 0}});
    setup
}

async fn run(count: usize) {
    let mut draws: Vec<Draw> = seeds().into_iter().map(Draw::new).collect();
    let turns = draws.len();
    eprintln!("DCI_MANIFESTS={count}");
    let mut world = World::start(world_setup()).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    let (provider, dci, ipm) = (world.provider.clone(), world.sim.url("dci").unwrap().to_owned(), world.sim.url("ipm").unwrap().to_owned());
    let places = Places { provider: &provider, dci: &dci, ipm: &ipm };
    let (schemas, began) = (Schemas::new(), Instant::now());
    let mut run = Run { world, fates: BTreeMap::new(), cured: 0, made_anew: 0 };
    for first in (0..count).step_by(BATCH) {
        let draw = &mut draws[first / BATCH % turns];
        let batch: Vec<Manifest> = (first..count.min(first + BATCH)).map(|number| manifest(draw, &schemas, &places, number)).collect();
        if first == 0 {
            by_kubectl(&run.world, &batch).await;
        }
        run.batch(batch, &format!("good-{first}")).await;
    }
    let took = began.elapsed();
    super::tables::tell(&format!("{:?}, {} cured by a good spec ({} made anew), {took:?}", run.fates, run.cured, run.made_anew));
    let of = |fate: Fate| run.fates.iter().filter(|((_, f), _)| *f == fate).map(|(_, n)| n).sum::<usize>();
    assert!(of(Fate::RefusedByServer) > 0 && of(Fate::RefusedByOperator) > 0 && of(Fate::Works) > 0, "{:?}", run.fates);
    for id in (17..=20).chain(100..100 + 2 * BATCH as u64).filter(|id| *id != 18) {
        run.world.assert_released(id);
    }
    run.world.end().await;
}

/// What the server refuses kubectl refuses too, with words; the other way round kubectl may know more.
async fn by_kubectl(world: &World, batch: &[Manifest]) {
    for what in batch.iter().step_by(5) {
        let file = std::env::temp_dir().join(format!("dci-operator-e2e-{}-{}.json", world.shop, &what.name[..what.name.len().min(40)]));
        std::fs::write(&file, what.object.to_string()).unwrap();
        let (file_name, namespace) = (file.to_string_lossy().into_owned(), namespace(world, what.kind));
        let (code, text) = world.kubectl(&["create", "--dry-run=server", "-n", namespace, "-f", &file_name]).await;
        std::fs::remove_file(&file).unwrap();
        let dry = format!("{}?dryRun=All", path(world, what.kind));
        let answer = send(world, Method::POST, &dry, &what.object).await;
        assert!(answer.is_ok() || code != 0, "{} {}: kubectl takes what the server refuses: {text}", what.kind, what.why);
        assert!(code == 0 || !text.trim().is_empty(), "{} {}", what.kind, what.why);
    }
}

#[tokio::test]
async fn every_manifest_is_refused_with_a_cure_or_works() {
    run(usize::try_from(number("DCI_MANIFESTS", 80)).unwrap()).await;
}
