//! The departments: they do what a task asks for, and close it; or only say that they did, or say something else.

use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::apiserver::{ORDERS, SECRETS, TASKS};
use super::determinism::now;
use super::invariants::{rest, view};
use super::objects::PANEL_PASSWORD;
use super::people::{MERGE, People, panel_of, server_of};
use super::world::{PROVIDER, SHOP, World};

/// What a department answers, other than usually.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done: at the panel, by hand, as far as a person can do it there.
    Done,
    /// It is done, and nothing was.
    Untrue,
    /// Another word, be it one that the type of task does not take: only newer servers refuse those.
    Word(&'static str),
}

/// What the first tasks of some types in a world are answered with.
#[derive(Clone, Debug, Default)]
pub struct Temper {
    /// The type, the answer, and for how many tasks.
    pub answers: Vec<(&'static str, Answer, u64)>,
}

impl Temper {
    /// The answer to the next task of a type; none where the department does what it usually does.
    fn next(&mut self, type_: &str) -> Option<Answer> {
        let (_, answer, left) = self.answers.iter_mut().find(|(of, _, left)| *of == type_ && *left > 0)?;
        *left -= 1;
        Some(*answer)
    }
}

impl People {
    /// The departments do what a task asks for, and close it.
    pub(super) fn departments(&mut self, world: &World) {
        let open: Vec<Value> = world.server(|s| s.all(TASKS).filter(|t| t["spec"]["resolution"].is_null()).cloned().collect());
        for task in open {
            let uid = task["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let since = *self.seen.entry(uid).or_insert_with(now);
            if now() < since + self.takes {
                continue;
            }
            let name = task["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let order = task["spec"]["orderRef"]["name"].as_str().unwrap_or_default().to_owned();
            let type_ = view::text(&task["spec"]["type"]);
            let resolution = match self.temper.next(type_) {
                Some(answer) => unusual(world, type_, &order, answer),
                None => self.usual(world, type_, &order),
            };
            world.tell(&format!("   a department closes {name} of {order}: {resolution}"));
            let patch = json!({"spec": {"resolution": resolution}});
            let _ = world.change(|s| s.patch(&(TASKS, PROVIDER.into(), name), MERGE, &patch, false, now()));
        }
    }

    /// What is asked for is done, or cannot be.
    fn usual(&mut self, world: &World, type_: &str, order: &str) -> &'static str {
        match type_ {
            // Whoever builds servers has what is asked for, or lacks parts; without a server there is nothing to build.
            "Assembly" => match server_of(world, order) {
                Some(_) if self.is_short_of_parts(world) => "PartsMissing",
                Some(id) => {
                    build(world, id);
                    "Done"
                }
                None => "Cancelled",
            },
            "StopServer" if world.adversary(|a| a.chance(250)) => "Retry",
            "StopServer" => {
                if let Some(id) = server_of(world, order) {
                    stop(world, id);
                }
                "Done"
            }
            "FailedOperation" => {
                let times = self.closed.entry(order.to_owned()).or_default();
                *times += 1;
                // What trying again does not cure is given up: the server where the order goes anyway, or the preparation.
                match (*times > 3, order_of(world, order).is_some_and(|o| view::is_deleting(&o))) {
                    (false, _) => "Retry",
                    (true, true) => "Abandon",
                    (true, false) => "Cancelled",
                }
            }
            _ => "Done",
        }
    }

    /// Whoever builds servers lacks parts, now and then, and where the first one is to be so.
    fn is_short_of_parts(&mut self, world: &World) -> bool {
        let by_chance = world.adversary(|a| a.chance(300));
        std::mem::take(&mut self.lacks_parts) || by_chance
    }
}

fn order_of(world: &World, name: &str) -> Option<Value> {
    world.server(|s| s.get(&(ORDERS, SHOP.to_owned(), name.to_owned())).ok()).map(|order| Value::clone(&order))
}

/// The department gives another answer; what came up is counted.
fn unusual(world: &World, type_: &str, order: &str, answer: Answer) -> &'static str {
    let takes = |word: &str| match type_ {
        "Assembly" => word != "Abandon",
        "Procurement" => !["Abandon", "PartsMissing"].contains(&word),
        "StopServer" => !["Cancelled", "PartsMissing"].contains(&word),
        _ => word != "PartsMissing",
    };
    let word = match answer {
        Answer::Done => {
            let done = by_hand(world, type_, order);
            world.tell(&format!("   by hand: {}", if done { "done" } else { "it cannot be done so" }));
            // Nobody runs a recipe by hand, and it counts as run all the same.
            if !done && order_of(world, order).is_some_and(|o| step_of(&o) == "RunRecipes") {
                believed(world, type_, order);
            }
            "Done"
        }
        Answer::Untrue => {
            believed(world, type_, order);
            "Done"
        }
        Answer::Word(word) => word,
    };
    world.met(&format!("answer-{type_}-{word}"));
    world.met(&match (type_, takes(word)) {
        (_, false) => "answer-refused".to_owned(),
        ("StopServer", true) => "answer-stop".to_owned(),
        ("FailedOperation", true) => format!("answer-{word}"),
        (_, true) => "answer-build".to_owned(),
    });
    word
}

fn build(world: &World, id: u64) {
    let mut built = super::scenario::fitting();
    built["panel"] = panel_of(id).into();
    let _ = world.panels.change_server(id, built);
}

fn stop(world: &World, id: u64) {
    let _ = world.panels.change_server(id, json!({"panel": panel_of(id), "power": "off", "ipmi": "alive"}));
}

/// The step that a department is asked about.
fn step_of(order: &Value) -> &str {
    let counted = view::text(&order["status"]["attemptsFor"]["step"]);
    if counted.is_empty() { view::text(&order["status"]["lastError"]["step"]) } else { counted }
}

/// A word that nothing stands behind, and that is believed all the same: what is done then is nobody's mistake but the department's.
/// Of a server that counts as off since a person says so for want of a panel that could tell it is true: nothing would look at it again.
fn believed(world: &World, type_: &str, order: &str) {
    let Some(id) = server_of(world, order) else { return };
    match (type_, order_of(world, order).as_ref().map_or("", step_of)) {
        ("FailedOperation", "PowerOff" | "StopPower") => stop(world, id),
        // The old system of an earlier client, or a recipe that never ran, count as what was asked for.
        ("FailedOperation", "InstallOS" | "RunRecipes") => world.said_installed(id),
        ("StopServer", _) => world.touch(&id.to_string()),
        _ => {}
    }
}

/// What a task asks for is done at the panel by hand; whether it could be.
fn by_hand(world: &World, type_: &str, name: &str) -> bool {
    let (Some(id), Some(order)) = (server_of(world, name), order_of(world, name)) else { return false };
    match type_ {
        "Assembly" => build(world, id),
        "StopServer" => stop(world, id),
        "FailedOperation" => return repaired(world, &order, id),
        _ => return false,
    }
    true
}

/// What failed too often, or was changed by hand, is put right at the panel.
fn repaired(world: &World, order: &Value, id: u64) -> bool {
    let state = world.panels.state();
    let text = id.to_string();
    let found = view::servers(&state).into_iter().find(|s| s.id() == text && s.panel == panel_of(id));
    let Some(notes) = found.map(|s| view::text(&s.state["notes"]).to_owned()) else { return false };
    let drifted = ["OwnerChanged", "NotOurServer"].contains(&view::text(&order["status"]["lastError"]["code"]));
    let client = &order["status"]["server"]["client"];
    let mut change = match step_of(order) {
        _ if drifted => {
            let owner = if order["status"]["server"]["handedOverAt"].is_null() { json!("operator") } else { client.clone() };
            json!({"owner": owner, "notes": marked(&notes, order)})
        }
        "PowerOn" => json!({"power": "on", "ipmi": "alive"}),
        "PowerOff" | "StopPower" => json!({"power": "off", "ipmi": "alive"}),
        "HandOver" => json!({"owner": client}),
        "Release" => json!({"owner": "", "hostname": "free.ds", "notes": unmarked(&notes), "flags": {"disabled": false}}),
        "InstallOS" => return install(world, order, id),
        _ => return false,
    };
    if !change["owner"].is_null() {
        world.by_hand(id, &change);
    }
    change["panel"] = panel_of(id).into();
    world.panels.change_server(id, change).is_ok()
}

/// The notes with the order's marker in them.
fn marked(notes: &str, order: &Value) -> String {
    let id = view::order_id(order);
    if view::marks(notes).iter().any(|mark| mark == id) {
        return notes.to_owned();
    }
    format!("{notes} k8s:sim/{}/{id}", view::name(order)).trim().to_owned()
}

/// The notes without any marker.
fn unmarked(notes: &str) -> String {
    notes.split_whitespace().filter(|word| !word.starts_with("k8s:")).collect::<Vec<_>>().join(" ")
}

/// Whoever does by hand what the operator could not installs the system through the panel, with the password of the order's Secret.
fn install(world: &World, order: &Value, id: u64) -> bool {
    let Some(password) = root_password(world, order) else { return false };
    let post = |form: &str| {
        let answer = world.panels.post(panel_of(id), form.as_bytes()).unwrap_or_default();
        serde_json::from_slice::<Value>(&answer).unwrap_or_default()
    };
    let entered = post(&format!("func=auth&username=operator&password={PANEL_PASSWORD}&out=json"));
    let session = view::text(&entered["doc"]["auth"]["$id"]).to_owned();
    let template = view::text(&order["spec"]["operatingSystem"]["template"]);
    let recipe = order["spec"]["recipes"][0].as_str().unwrap_or("null");
    let system = format!("operation=ostemplate&ostemplate={template}&recipe={recipe}&passwd={password}&confirm={password}");
    let answer = post(&format!("func=server.operations&elid={id}&{system}&sok=ok&out=json&auth={session}"));
    !session.is_empty() && answer["doc"]["error"].is_null()
}

/// What the Secret says that the order's system is to be entered with.
fn root_password(world: &World, order: &Value) -> Option<String> {
    let (name, key) = rest::root_password(order);
    let secret = world.server(|s| s.get(&(SECRETS, SHOP.to_owned(), name))).ok()?;
    let secret = Secret::deserialize(&*secret).ok()?;
    String::from_utf8(secret.data?.get(&key)?.0.clone()).ok()
}
