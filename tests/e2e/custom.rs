//! Configurations of the client's own: the best server, and what departments do until there is one.

use serde_json::{Value, json};

use super::support::kstatus::condition;
use super::support::{Setup, World};

/// What every order of these tests asks for.
fn composed() -> Value {
    json!({"configuration": {"serverType": null, "custom": {
        "cpu": {"model": "E-2146G"}, "memoryGiB": 64, "disks": [{"type": "SSD", "sizeGB": 1920, "count": 2}],
    }}})
}

fn departments() -> Value {
    json!({"byServerType": false, "departments": {"assembly": {"name": "Assembly"}, "procurement": {"name": "Procurement"}}})
}

fn hardware(ram: &str, disks: [&str; 2]) -> Value {
    json!({"cpu_0": "Intel Xeon E-2146G", "cpu_count": "1", "chassis_ram": ram, "hdd_0": disks[0], "hdd_1": disks[1]})
}

/// Server 17 is made of nothing that is known; the two others are these.
fn setup(servers: [Value; 2]) -> Setup {
    let [a, b] = servers;
    let servers = json!([
        {"id": 17, "name": "R1-17", "type": "E3-16G", "ip": "10.0.0.17"},
        {"id": 18, "name": "R1-18", "type": "E3-16G", "ip": "203.0.113.9", "owner": "owner-of-18", "hostname": "theirs.example.net",
         "power": "on", "hardware": hardware("64", ["1920SSD", "1920SSD"])},
        {"id": 19, "name": "R1-19", "type": "E3-16G", "ip": "10.0.0.19", "hardware": a},
        {"id": 20, "name": "R1-20", "type": "E5-64G", "ip": "10.0.0.20", "hardware": b},
    ]);
    Setup::dci(&json!({"servers": servers})).handler(&departments())
}

fn similar() -> Setup {
    setup([hardware("16", ["480SSD", "null"]), hardware("64", ["1920SSD", "SSD 480 GB"])])
}

/// The one open task, of this type.
async fn until_task(world: &mut World, type_: &str) -> Value {
    world
        .until(&format!("one open task {type_}"), |world| {
            let open: Vec<Value> = world.record.all("ManualTask").into_iter().filter(|t| t["spec"]["resolution"].is_null()).collect();
            open.first().filter(|t| open.len() == 1 && t["spec"]["type"] == type_).cloned()
        })
        .await
}

async fn close(world: &World, task: &Value, resolution: &str) {
    let name = task["metadata"]["name"].as_str().unwrap();
    world.patch("ManualTask", name, &json!({"spec": {"resolution": resolution}})).await;
}

fn step(order: &Value, name: &str) -> String {
    let steps = order["status"]["steps"].as_array().unwrap();
    steps.iter().find(|s| s["name"] == name).unwrap()["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_cheapest_server_that_fits_is_taken_whatever_its_type() {
    let mut world = World::start(setup([hardware("128", ["1920SSD", "1920SSD"]), hardware("64", ["1920SSD", "SSD 3840 GB"])])).await;
    world.order("web-01", &composed()).await;
    let active = world.until_active("web-01").await;
    assert_eq!(active["status"]["server"]["id"], "20");
    assert_eq!(active["status"]["server"]["configuration"], "1xE-2146G-64Gb-2x1920SSD");
    assert_eq!(step(&active, "Assemble"), "Skipped");
    assert!(world.record.all("ManualTask").is_empty());
    // What the form shows goes back with every edit, the parts included.
    assert_eq!(world.parts(20, "hdd_1"), "SSD 3840 GB");
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.assert_released(20);
    assert!(!world.touched(17) && !world.touched(19));
    world.end().await;
}

#[tokio::test]
async fn the_most_similar_server_is_built_and_verified() {
    let mut world = World::start(similar()).await;
    world.order("web-01", &composed()).await;
    let task = until_task(&mut world, "Assembly").await;
    assert_eq!(task["spec"]["department"], "Assembly");
    let details = task["spec"]["details"].as_str().unwrap();
    assert!(details.contains("Server 20 (R1-20) is reserved"), "{details}");
    assert!(details.contains("swap 1x 480SSD for 1x 1920SSD"), "{details}");
    let waiting = world.until_order("web-01", "waits for Assembly", |o| o["status"]["waitingOn"]["kind"] == "Department").await;
    assert_eq!((&waiting["status"]["phase"], step(&waiting, "Assemble").as_str()), (&json!("AwaitingTask"), "Waiting"));
    assert_eq!(world.made(), ["user.edit", "server.edit"], "claimed, and nothing else");
    // Closed without anything done: a new task says what is still wrong, and nothing goes on.
    close(&world, &task, "Done").await;
    let task = until_task(&mut world, "Assembly").await;
    assert!(task["metadata"]["name"].as_str().unwrap().ends_with("-2"));
    assert!(task["spec"]["details"].as_str().unwrap().contains("The panel still shows other parts"));
    assert_eq!(world.made(), ["user.edit", "server.edit"]);
    world.sim.change_server(20, json!({"hardware": {"hdd_1": "1920SSD"}})).unwrap();
    close(&world, &task, "Done").await;
    let active = world.until_active("web-01").await;
    assert_eq!((active["status"]["server"]["id"].as_str(), step(&active, "Assemble").as_str()), (Some("20"), "Done"));
    assert!(!world.touched(17) && !world.touched(19));
    // Each task, and each answer, is an event of its own.
    let tasks = active["status"]["manualTasks"].as_array().unwrap().clone();
    let wanted: Vec<String> = tasks
        .iter()
        .flat_map(|t| {
            let name = t["name"].as_str().unwrap();
            [format!("TaskRaised Assembly task {name} for Assembly"), format!("TaskClosed Assembly task {name}: Done")]
        })
        .collect();
    assert_eq!(wanted.len(), 4);
    let shop = world.shop.clone();
    let shown = [
        "get",
        "events",
        "-n",
        &shop,
        "--field-selector",
        "involvedObject.name=web-01",
        "-o",
        "jsonpath={range .items[*]}{.reason} {.message}{'\\n'}{end}",
    ];
    for _ in 0..200 {
        let (_, text) = world.kubectl(&shown).await;
        if wanted.iter().all(|line| text.lines().any(|l| l == line)) {
            world.end().await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{wanted:#?} in {}", world.kubectl(&shown).await.1);
}

#[tokio::test]
async fn missing_parts_are_bought_and_a_killed_operator_goes_on_with_the_same_task() {
    let mut world = World::start(similar()).await;
    world.order("web-01", &composed()).await;
    let task = until_task(&mut world, "Assembly").await;
    world.kill_and_restart().await;
    close(&world, &task, "PartsMissing").await;
    let buying = until_task(&mut world, "Procurement").await;
    assert_eq!(buying["spec"]["department"], "Procurement");
    assert!(buying["spec"]["details"].as_str().unwrap().contains("\n  1x 1920SSD\n"), "{}", buying["spec"]["details"]);
    world.kill_and_restart().await;
    close(&world, &buying, "Done").await;
    let task = until_task(&mut world, "Assembly").await;
    world.sim.change_server(20, json!({"hardware": {"hdd_1": "1920SSD"}})).unwrap();
    close(&world, &task, "Done").await;
    world.until_active("web-01").await;
    let claims = world.changes().iter().filter(|c| c.starts_with("dci server.edit 20")).count();
    assert_eq!(claims, 2, "claimed once and handed over once: {:?}", world.changes());
    world.end().await;
}

#[tokio::test]
async fn a_reserved_server_is_given_back_when_assembly_cancels() {
    let mut world = World::start(similar()).await;
    world.order("web-01", &composed()).await;
    let task = until_task(&mut world, "Assembly").await;
    close(&world, &task, "Cancelled").await;
    let stalled = world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "TaskCancelled").await;
    assert!(condition(&stalled, "Stalled").unwrap()["message"].as_str().unwrap().contains("cancelled by Assembly"));
    world.until_order("web-01", "has no server", |o| o["status"]["server"].is_null()).await;
    world.assert_released(20);
    world.polls(3).await;
    assert!(world.server(20)["owner"].as_str().unwrap_or_default().is_empty(), "and it stays free");
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.end().await;
}

#[tokio::test]
async fn without_a_free_server_one_is_to_be_built_and_the_first_one_that_appears_is_taken() {
    let mut world = World::start(Setup::dci(&json!({"servers": []})).handler(&departments())).await;
    world.order("web-01", &composed()).await;
    let first = until_task(&mut world, "Assembly").await;
    assert!(first["spec"]["details"].as_str().unwrap().contains("None is reserved"));
    world.next_second("web-01").await;
    world.order("web-02", &composed()).await;
    for (name, place) in [("web-01", "place 1 of 2"), ("web-02", "place 2 of 2")] {
        let waiting = |o: &Value| {
            o["status"]["waitingOn"]["kind"] == "Capacity" && o["status"]["waitingOn"]["message"].as_str().unwrap().contains(place)
        };
        world.until_order(name, place, waiting).await;
    }
    world.behind("servers", &json!({"id": 30, "ip": "10.0.0.30", "hardware": hardware("64", ["1920SSD", "1920SSD"])})).await;
    let active = world.until_active("web-01").await;
    assert_eq!(active["status"]["server"]["id"], "30");
    assert_eq!(active["status"]["manualTasks"][0]["state"], "Superseded");
    world.until_order("web-02", "first now", |o| o["status"]["waitingOn"]["message"].as_str().unwrap().contains("place 1 of 1")).await;
    let name = first["metadata"]["name"].as_str().unwrap();
    assert_eq!(world.record.get("ManualTask", name).unwrap()["spec"]["resolution"], "Cancelled");
    // Switched to server types: what is composed is refused, and nobody builds anything any more.
    world.patch("ProcessingHandler", "msk-1", &json!({"spec": {"byServerType": true}})).await;
    world.until_reason("DedicatedServerOrder", "web-02", "Stalled", "CustomConfigurationRefused").await;
    world.until("no task is open", |w| w.record.all("ManualTask").iter().all(|t| !t["spec"]["resolution"].is_null()).then_some(())).await;
    assert_eq!(world.until_active("web-01").await["status"]["server"]["id"], "30");
    world.end().await;
}

/// Nobody builds for an order that is being deleted, also while it cannot be closed.
#[tokio::test]
async fn what_is_built_for_an_order_that_goes_is_called_off_though_the_credentials_are_gone() {
    let mut world = World::start(similar()).await;
    world.order("web-01", &composed()).await;
    let task = until_task(&mut world, "Assembly").await;
    let provider = world.provider.clone();
    let (code, text) = world.kubectl(&["delete", "secret", "dci-admin", "-n", &provider]).await;
    assert_eq!(code, 0, "{text}");
    world.until_reason("ProcessingHandler", "msk-1", "CredentialsValid", "CredentialsMissing").await;
    // A new process has never logged in: the order is closed without a panel.
    world.kill_and_restart().await;
    world.delete("DedicatedServerOrder", "web-01").await;
    let name = task["metadata"]["name"].as_str().unwrap();
    world.until("nobody builds", |w| (w.record.get("ManualTask", name)?["spec"]["resolution"] == "Cancelled").then_some(())).await;
    assert!(world.record.get("DedicatedServerOrder", "web-01").is_some(), "it waits for the credentials");
    world.create(&provider, super::support::objects::secret("dci-admin", &Setup::default().credentials)).await;
    world.until_gone("web-01").await;
    world.assert_released(20);
    world.end().await;
}

/// Nobody keeps a place while people are at work: whoever has it by then is served first.
#[tokio::test]
async fn an_order_whose_server_was_built_waits_for_a_place_like_any_other() {
    let mut world = World::start(similar().handler(&json!({"limits": {"maxConcurrentOperations": 1}}))).await;
    world.order("web-01", &composed()).await;
    let task = until_task(&mut world, "Assembly").await;
    world.order("web-02", &json!({"operatingSystem": {"template": "ISPsystem__Slow-1"}})).await;
    world.until("the other one installs", |world| (world.asked("server.operations") == 1).then_some(())).await;
    world.sim.change_server(20, json!({"hardware": {"hdd_1": "1920SSD"}})).unwrap();
    close(&world, &task, "Done").await;
    world.until_reason("DedicatedServerOrder", "web-01", "Ready", "LimitReached").await;
    world.polls(5).await;
    let waiting = world.until_reason("DedicatedServerOrder", "web-01", "Ready", "LimitReached").await;
    assert_eq!(step(&waiting, "PowerOn"), "Pending", "{:#?}", world.changes());
    let served = world.record.get("DedicatedServerOrder", "web-02").unwrap();
    let at = served["status"]["server"]["id"].as_str().unwrap().parse().unwrap();
    world.sim.change_server(at, json!({"finish_operation": true})).unwrap();
    world.until_active("web-02").await;
    world.until_active("web-01").await;
    world.end().await;
}

/// A deletion that is refused is no reason to go on with the preparation: nobody builds a server for an order that goes.
#[tokio::test]
async fn a_deletion_that_is_refused_calls_off_what_departments_were_asked_for() {
    let mut world = World::start(similar()).await;
    let mut spec = composed();
    spec["deletionProtection"] = true.into();
    world.order("web-01", &spec).await;
    until_task(&mut world, "Assembly").await;
    let order = world.record.get("DedicatedServerOrder", "web-01").unwrap();
    let server: u64 = order["status"]["server"]["id"].as_str().unwrap().parse().unwrap();
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_reason("DedicatedServerOrder", "web-01", "Stalled", "DeletionProtected").await;
    let closed = |w: &World| w.record.all("ManualTask").iter().all(|task| task["spec"]["resolution"] == "Cancelled");
    world.until("its task is closed", |w| closed(w).then_some(())).await;
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"deletionProtection": false}})).await;
    world.until_gone("web-01").await;
    world.assert_server_released(server);
    world.end().await;
}
