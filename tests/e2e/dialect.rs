//! Calls that only a handler's `spec.dialect` knows: recipes run by themselves, disks flagged for cleaning, rotated passwords. What
//! the simulated panel calls them is made up.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::support::kstatus::is_true;
use super::support::objects::secret;
use super::support::{Setup, World};

const ORDER: &str = "DedicatedServerOrder";
const A: &str = "ISPsystem__nginx.sh";
const B: &str = "ISPsystem__php.sh";
const C: &str = "#local__backup.sh";

/// A panel that has the functions, and a handler that says how they are called.
fn setup() -> Setup {
    let panel = json!({
        "recipes": [{"name": A}, {"name": B}, {"name": C}],
        "invented": {
            "run_recipe": "server.runrecipe", "flag_for_cleaning": "server.flagclean", "set_password": "server.setpasswd",
            "recipe_duration": "700ms",
        },
        "durations": {"diag": "1h"},
    });
    Setup::dci(&panel).handler(&json!({"dialect": {
        "runRecipe": {"func": "server.runrecipe", "params": {"elid": "{server}", "recipe": "{recipe}", "sok": "ok"}},
        "flagForCleaning": {"func": "server.flagclean", "params": {"elid": "{server}", "sok": "ok"}},
        "setPassword": {"func": "server.setpasswd", "params": {"elid": "{server}", "passwd": "{password}", "sok": "ok"}},
    }}))
}

async fn edit(world: &World, spec: Value) {
    world.patch(ORDER, "web-01", &json!({ "spec": spec })).await;
}

/// Waits until the order is Ready with what its spec says now, and all its recipes have run.
async fn until_ran(world: &mut World, recipes: &[&str]) -> Value {
    world
        .until_order("web-01", "Ready with its recipes", |o| {
            o["status"]["server"]["recipes"] == json!(recipes)
                && is_true(o, "Ready")
                && o["status"]["observedGeneration"] == o["metadata"]["generation"]
        })
        .await
}

/// The changes at DCImanager that name none of these functions, without the panel's name.
fn of(world: &World, funcs: &[&str]) -> Vec<String> {
    let lines = world.changes();
    let words = lines.iter().filter_map(|line| line.strip_prefix("dci "));
    words.filter(|line| funcs.iter().any(|func| line.starts_with(&format!("{func} ")))).map(str::to_owned).collect()
}

const WORK: [&str; 4] = ["server.operations", "server.runrecipe", "server.flagclean", "server.setpasswd"];

fn invented(world: &World, server: u64) -> Value {
    world.server(server)["invented"].clone()
}

fn installed(server: u64, recipe: &str) -> String {
    format!("server.operations {server} ostemplate={} recipe={recipe}", super::support::objects::DEBIAN)
}

#[tokio::test]
async fn recipes_run_in_order_and_those_that_are_added_at_once() {
    let mut world = World::start(setup()).await;
    world.order("web-01", &json!({"recipes": [A, B]})).await;
    until_ran(&mut world, &[A, B]).await;
    let run = |recipe: &str| format!("server.runrecipe 17 recipe={recipe}");
    let mut expected = vec![installed(17, A), run(B)];
    assert_eq!(of(&world, &WORK), expected);
    // The client gets the server when the last one has run, and not before.
    let all = world.changes();
    let at = |text: &str| all.iter().rposition(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {all:#?}"));
    assert!(at("server.edit 17 owner=") > at("server.runrecipe 17"), "{all:#?}");
    // One more is run on the running system; killed while the answer is on its way: it is followed, not run again.
    world.sim.add_fault(json!({"action": "delay-after", "func": "server.runrecipe", "nth": 1, "delay": "20s"})).unwrap();
    world.sim.change_server(17, json!({"operations": [{"duration": "1h"}]})).unwrap();
    edit(&world, json!({"recipes": [A, B, C]})).await;
    world.until("the panel runs it", |world| world.server(17)["operation"].is_object().then_some(())).await;
    world.kill_and_restart().await;
    world.polls(3).await;
    world.sim.change_server(17, json!({"finish_operation": true})).unwrap();
    until_ran(&mut world, &[A, B, C]).await;
    expected.push(run(C) + " (answer lost)");
    assert_eq!(of(&world, &WORK), expected);
    assert_eq!((&invented(&world, 17)["recipes"], &world.server(17)["installed"]["times"]), (&json!([A, B, C]), &json!(1)));
    assert!(world.record.all("ManualTask").is_empty());
    // Given back: there is something on the disks, so they are flagged, once, before the release, and the panel cleans them.
    world.delete(ORDER, "web-01").await;
    world.until_gone("web-01").await;
    expected.push("server.flagclean 17".to_owned());
    assert_eq!(of(&world, &WORK), expected);
    assert!(world.server(17)["flags"]["diag_in_progress"] == true, "{}", world.server(17));
    world.assert_released(17);
    world.end().await;
}

/// Until a panel was asked since the operator started, nobody knows more of an order than what its handler's spec says.
#[tokio::test]
async fn an_order_is_not_called_ready_with_a_recipe_that_nobody_has_run() {
    let mut world = World::start(setup()).await;
    world.order("web-01", &json!({"recipes": [A]})).await;
    until_ran(&mut world, &[A]).await;
    let down = world.sim.add_fault(json!({"action": "down", "panel": "dci"})).unwrap();
    world.kill_and_restart().await;
    edit(&world, json!({"recipes": [A, B]})).await;
    let taken_up = |o: &Value| o["status"]["observedGeneration"] == o["metadata"]["generation"];
    let order = world.until_order("web-01", "taken up", taken_up).await;
    assert!(!is_true(&order, "Ready"), "{}", order["status"]);
    world.sim.remove_faults(Some(down));
    until_ran(&mut world, &[A, B]).await;
    world.end().await;
}

#[tokio::test]
async fn a_failed_recipe_gives_the_server_back_flagged_and_the_second_one_ends_with_a_task() {
    let mut world = World::start(setup()).await;
    // On the first server the second recipe fails; on the other one too.
    for server in [17, 19] {
        world.sim.change_server(server, json!({"operations": [{}, {"outcome": "recipe-fail", "duration": "500ms"}]})).unwrap();
    }
    world.order("web-01", &json!({"recipes": [A, B]})).await;
    let task = world.until("a task", |world| world.record.all("ManualTask").pop()).await;
    assert_eq!(task["spec"]["type"], "FailedOperation");
    let run = |server: u64| format!("server.runrecipe {server} recipe={B}");
    let mut expected = vec![installed(17, A), run(17), "server.flagclean 17".to_owned(), installed(19, A), run(19)];
    assert_eq!(of(&world, &WORK), expected);
    // The first one was given back whole, and only then was another one taken.
    world.assert_server_released(17);
    assert_eq!((&world.server(17)["flags"]["diag_in_progress"], &world.server(17)["power"]), (&json!(true), &json!("off")));
    let all = world.changes();
    let place = |check: &dyn Fn(&String) -> bool| all.iter().position(check).unwrap_or_else(|| panic!("{all:#?}"));
    let flagged = place(&|line| line.contains("server.flagclean 17"));
    let released = place(&|line| line.contains("server.edit 17 owner=no_owner"));
    let claimed = place(&|line| line.contains("server.edit 19"));
    assert!(flagged < released && released < claimed, "{all:#?}");
    assert!(!all[released + 1..].iter().any(|line| line.starts_with("dci ") && line.split(' ').nth(2) == Some("17")), "{all:#?}");
    // Its addresses went back as well; those that are noted as ours are the second server's.
    let second = world.server(19);
    let ours: Vec<String> = world.taken().into_iter().filter(|(_, note)| note.contains("k8s:")).map(|(ip, _)| ip).collect();
    assert_eq!(json!(ours), json!([second["ip"]]), "{second}");
    // A person has seen to it.
    let name = task["metadata"]["name"].as_str().unwrap().to_owned();
    world.patch("ManualTask", &name, &json!({"spec": {"resolution": "Retry"}})).await;
    let order = until_ran(&mut world, &[A, B]).await;
    assert_eq!(order["status"]["server"]["id"], "19");
    expected.push(run(19));
    assert_eq!(of(&world, &WORK), expected);
    world.end().await;
}

#[tokio::test]
async fn a_rotated_password_is_set_once_and_told_to_nobody() {
    let mut world = World::start(setup()).await;
    let passwords = ["first-Zx81-root", "second-Qd42-root"];
    for password in passwords {
        world.keep_secret(password);
    }
    let digest =
        |password: &str| json!(Sha256::digest(password.as_bytes()).iter().fold(String::new(), |text, b| text + &format!("{b:02x}")));
    let shop = world.shop.clone();
    world.create(&shop, secret("root", &json!({"password": passwords[0]}))).await;
    world.order("web-01", &json!({"operatingSystem": {"passwordSecretRef": {"name": "root", "key": "password"}}})).await;
    world.until_active("web-01").await;
    assert_eq!(invented(&world, 17)["passwordSha256"], digest(passwords[0]));
    // Nothing is set while nothing was rotated, whatever else is written to the Secret.
    let patches = [json!({"metadata": {"labels": {"team": "web"}}}), json!({"stringData": {"other": "key"}})];
    for patch in patches {
        let (code, text) = world.kubectl(&["patch", "secret", "root", "-n", &shop, "--type=merge", "-p", &patch.to_string()]).await;
        assert_eq!(code, 0, "{text}");
        world.polls(4).await;
        assert_eq!(of(&world, &WORK), [installed(17, "null")], "{patch}");
    }
    let version = |order: &serde_json::Value| order["status"]["server"]["passwordVersion"].as_str().unwrap_or_default().to_owned();
    let first = version(&world.record.get("DedicatedServerOrder", "web-01").unwrap());
    let key =
        world.kubectl(&["get", "secret", "web-01-password-key", "-n", &shop, "-o", "jsonpath={.metadata.ownerReferences[0].name}"]).await;
    assert!(first.starts_with("hmac-sha256:") && key == (0, "web-01".to_owned()), "{first} {key:?}");
    // The first answer is lost before the panel saw the call: a password may be set twice.
    world.sim.add_fault(json!({"action": "drop-before", "func": "server.setpasswd", "nth": 1})).unwrap();
    let patch = json!({"stringData": {"password": passwords[1]}}).to_string();
    let (code, text) = world.kubectl(&["patch", "secret", "root", "-n", &shop, "--type=merge", "-p", &patch]).await;
    assert_eq!(code, 0, "{text}");
    world.until("the new password", |world| (invented(world, 17)["passwordSha256"] == digest(passwords[1])).then_some(())).await;
    let order = world.until_order("web-01", "nothing under way", |o| o["status"]["inFlight"].is_null() && is_true(o, "Ready")).await;
    assert_ne!(version(&order), first);
    let calls = of(&world, &WORK);
    world.polls(4).await;
    assert_eq!(of(&world, &WORK), calls, "set again");
    let set: Vec<&String> = calls.iter().filter(|line| line.starts_with("server.setpasswd 17")).collect();
    assert!(set.len() == 2 && !set[1].contains("lost"), "{calls:?}");
    assert_eq!(world.server(17)["installed"]["times"], 1);
    world.end().await;
}

#[tokio::test]
async fn a_dialect_that_learns_to_set_passwords_wakes_the_orders_that_rest() {
    let mut world = World::start(Setup::dci(&json!({"invented": {"set_password": "server.setpasswd"}}))).await;
    let shop = world.shop.clone();
    let password = "later-Kp77-root";
    for password in ["first-Zx81-root", password] {
        world.keep_secret(password);
    }
    world.create(&shop, secret("root", &json!({"password": "first-Zx81-root"}))).await;
    world.order("web-01", &json!({"operatingSystem": {"passwordSecretRef": {"name": "root", "key": "password"}}})).await;
    world.until_active("web-01").await;
    let patch = json!({"stringData": {"password": password}}).to_string();
    let (code, text) = world.kubectl(&["patch", "secret", "root", "-n", &shop, "--type=merge", "-p", &patch]).await;
    assert_eq!(code, 0, "{text}");
    world.polls(2).await;
    assert!(!world.made().iter().any(|func| func == "server.setpasswd"), "{:?}", world.made());
    let call = json!({"func": "server.setpasswd", "params": {"elid": "{server}", "passwd": "{password}", "sok": "ok"}});
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"dialect": {"setPassword": call}}})).await;
    let digest = Sha256::digest(password.as_bytes()).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    world.until("the new password", |world| (invented(world, 17)["passwordSha256"] == json!(digest)).then_some(())).await;
    world.end().await;
}
