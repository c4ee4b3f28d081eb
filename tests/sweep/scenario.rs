//! What happens in each scenario: how it begins, what is done while requests go wrong, and by whom.

use serde_json::{Value, json};

use crate::support::kstatus::is_true;
use crate::support::objects::{self, merged};
use crate::support::{Setup, World};

use super::rig::Run;

const ORDER: &str = "DedicatedServerOrder";
const POLL: &str = "2s";
const LICENSE_PASSWORD: &str = "license-pass-3Kz8";
const PASSWORDS: [&str; 2] = ["first-Zx81-root", "second-Qd42-root"];
const RECIPES: [&str; 2] = ["ISPsystem__nginx.sh", "ISPsystem__php.sh"];

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// The operator starts, and an order with two addresses becomes Active.
    Open,
    /// A configuration of the client's own, which a department assembles once another one has bought the parts.
    Custom,
    /// The server of the handler with priority cannot be installed: it is given back, and the next handler's is taken.
    Failover,
    /// With two licences.
    Licence,
    /// The panel takes the addresses; recipes run and passwords are set by functions that the handler's dialect tells.
    ByPanel,
    /// Suspended and resumed.
    Suspend,
    /// More addresses, then fewer.
    Addresses,
    /// Another domain.
    Domain,
    /// A new token.
    Reinstall,
    /// One more recipe, on the running system.
    Recipe,
    /// Another root password.
    Password,
    /// A licence ends soon.
    Renew,
    /// Deleted, as it should be.
    Delete,
    /// Deleted, with an IPMI that does not answer, which is ignored.
    DeleteIgnore,
    /// The same, where a department has to stop the server.
    DeleteTask,
    /// Deleted with its licences.
    DeleteLicence,
    /// Deleted where the panel took the addresses, and cleans disks.
    DeleteByPanel,
}

/// The life of one order: scenarios that follow one another in one world. Each begins when the one before has come to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Plain,
    Assembled,
    Elsewhere,
    Licensed,
    ByPanel,
}

impl Life {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Plain, Self::Assembled, Self::Elsewhere, Self::Licensed, Self::ByPanel];

    /// What happens in it. It ends with a deletion.
    pub fn scenarios(self) -> &'static [Scenario] {
        match self {
            Self::Plain => {
                &[Scenario::Open, Scenario::Suspend, Scenario::Addresses, Scenario::Domain, Scenario::Reinstall, Scenario::Delete]
            }
            Self::Assembled => &[Scenario::Custom, Scenario::DeleteTask],
            Self::Elsewhere => &[Scenario::Failover, Scenario::DeleteIgnore],
            Self::Licensed => &[Scenario::Licence, Scenario::Renew, Scenario::DeleteLicence],
            Self::ByPanel => &[Scenario::ByPanel, Scenario::Recipe, Scenario::Password, Scenario::DeleteByPanel],
        }
    }

    /// Panels and handler.
    pub fn setup(self) -> Setup {
        let setup = match self {
            Self::Plain => Setup::default(),
            Self::Assembled => Setup::dci(&json!({"servers": assembled()})).handler(&json!({
                "byServerType": false, "ipmiErrorPolicy": "CreateTask",
                "departments": {"assembly": {"name": "Assembly"}, "procurement": {"name": "Procurement"}},
            })),
            Self::Elsewhere => {
                Setup { panels: two_panels(), ..Setup::default() }.handler(&json!({"priority": 10, "retry": {"maxAttempts": 1}}))
            }
            Self::Licensed => {
                let mut panels = objects::panels();
                panels["billmanager6"] = json!([{
                    "name": "bill",
                    "users": [{"name": "reseller", "password": LICENSE_PASSWORD}],
                    "pricelists": [{"id": 55227, "name": "ISPmanager 6 Lite"}, {"id": 55228, "name": "ISPmanager 6 Pro"}],
                }]);
                Setup { panels, ..Setup::default() }.handler(&json!({"licenseServerRef": {"name": "isp"}}))
            }
            Self::ByPanel => Setup::dci(&functions()).handler(&json!({"ipManagement": {"allocateBy": "Panel"}, "dialect": dialect()})),
        };
        let mut setup = setup;
        let mut panels = if setup.panels["dcimanager5"].is_array() { setup.panels } else { objects::panels() };
        for panel in panels["dcimanager5"].as_array_mut().unwrap() {
            // Somebody ends it; see `rig`.
            panel["durations"]["install"] = "1h".into();
        }
        setup.panels = panels;
        // Polls are most of what is computed, and waiting costs nothing.
        let slow = json!({"pollInterval": POLL});
        Setup { run: false, ip_manager: slow.clone(), ..setup }.handler(&merged(slow, &json!({"timeouts": {"settle": "2s"}})))
    }

    /// What else there is.
    pub async fn populate(self, world: &mut World) {
        match self {
            Self::Plain | Self::Assembled => {}
            Self::ByPanel => {
                world.keep_secret(PASSWORDS[0]);
                world.keep_secret(PASSWORDS[1]);
                let shop = world.shop.clone();
                world.create(&shop, objects::secret("root", &json!({"password": PASSWORDS[0]}))).await;
            }
            Self::Elsewhere => second_handler(world).await,
            Self::Licensed => licence_server(world).await,
        }
    }

    /// Objects that name a panel, and the panel.
    pub fn connections(self) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut all = vec![("IPManager", "main", "ipm"), ("ProcessingHandler", "msk-1", "dci")];
        match self {
            Self::Plain | Self::Assembled | Self::ByPanel => {}
            Self::Elsewhere => all.extend([("IPManager", "other", "ipm2"), ("ProcessingHandler", "msk-2", "dci2")]),
            Self::Licensed => all.push(("ProcessingHandler", "isp", "bill")),
        }
        all
    }

    /// The panel and the server whose installation fails.
    pub fn fails(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Elsewhere => Some(("dci", "17")),
            Self::Plain | Self::Assembled | Self::Licensed | Self::ByPanel => None,
        }
    }

    /// What the order is like at first.
    fn order(self, world: &World) -> Value {
        match self {
            Self::Plain => json!({"addresses": {"ipv4": 2}, "reinstall": "first"}),
            Self::Assembled => json!({"configuration": {"serverType": null, "custom": {
                "cpu": {"model": "E-2146G"}, "memoryGiB": 64, "disks": [{"type": "SSD", "sizeGB": 1920, "count": 2}],
            }}}),
            Self::Elsewhere => json!({
                "handlerRef": null, "handlerSelector": {"namespace": world.provider, "matchLabels": {"zone": "msk"}},
            }),
            Self::Licensed => json!({"licenses": [{"product": "Lite"}, {"product": "Pro", "period": 2}]}),
            Self::ByPanel => json!({
                "addresses": {"ipv4": 2}, "recipes": [RECIPES[0]],
                "operatingSystem": {"passwordSecretRef": {"name": "root", "key": "password"}},
            }),
        }
    }
}

impl Scenario {
    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Life::ALL.into_iter().flat_map(Life::scenarios).copied().find(|scenario| scenario.name() == name)
    }

    /// Its name in tables and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Custom => "custom",
            Self::Failover => "failover",
            Self::Licence => "licence",
            Self::ByPanel => "by-panel",
            Self::Suspend => "suspend",
            Self::Addresses => "addresses",
            Self::Domain => "domain",
            Self::Reinstall => "reinstall",
            Self::Recipe => "recipe",
            Self::Password => "password",
            Self::Renew => "renew",
            Self::Delete => "delete",
            Self::DeleteIgnore => "delete-ignore",
            Self::DeleteTask => "delete-task",
            Self::DeleteLicence => "delete-licence",
            Self::DeleteByPanel => "delete-by-panel",
        }
    }

    /// The order goes.
    pub fn deletes(self) -> bool {
        match self {
            Self::Delete | Self::DeleteIgnore | Self::DeleteTask | Self::DeleteLicence | Self::DeleteByPanel => true,
            Self::Open
            | Self::Custom
            | Self::Failover
            | Self::Licence
            | Self::ByPanel
            | Self::Suspend
            | Self::Addresses
            | Self::Domain
            | Self::Reinstall
            | Self::Recipe
            | Self::Password
            | Self::Renew => false,
        }
    }

    /// The life that it is part of.
    pub fn life(self) -> Life {
        Life::ALL.into_iter().find(|life| life.scenarios().contains(&self)).unwrap()
    }

    /// What is done while requests go wrong. It ends when all is as it was asked for.
    pub async fn act(self, run: &mut Run) {
        match self {
            Self::Open | Self::Custom | Self::Failover | Self::Licence | Self::ByPanel => {
                run.start_operator();
                let spec = self.life().order(&run.world);
                run.world.order("web-01", &spec).await;
                if self == Self::Custom {
                    assemble(run).await;
                }
                if self == Self::Failover {
                    answered(run).await;
                    // Nobody's, and locked, until somebody has repaired it.
                    run.rules.by_hand("17");
                    run.world.sim.change_server(17, json!({"panel": "dci", "flags": {"operation_failed": false}})).unwrap();
                } else {
                    settled(&mut run.world, "Active").await;
                }
            }
            Self::Suspend => {
                edit(&run.world, json!({"suspended": true})).await;
                settled(&mut run.world, "Suspended").await;
                edit(&run.world, json!({"suspended": false})).await;
                settled(&mut run.world, "Active").await;
            }
            Self::Addresses => {
                edit(&run.world, json!({"addresses": {"ipv4": 3}})).await;
                settled(&mut run.world, "Active").await;
                edit(&run.world, json!({"addresses": {"ipv4": 2}})).await;
                settled(&mut run.world, "Active").await;
            }
            Self::Domain => {
                edit(&run.world, json!({"domain": "other.example.net"})).await;
                settled(&mut run.world, "Active").await;
            }
            Self::Reinstall => {
                edit(&run.world, json!({"reinstall": "second"})).await;
                reinstalled(run).await;
            }
            Self::Recipe => {
                edit(&run.world, json!({"recipes": RECIPES})).await;
                answered(run).await;
            }
            Self::Password => rotated(run).await,
            Self::Renew => renewed(run).await,
            Self::Delete | Self::DeleteIgnore | Self::DeleteLicence | Self::DeleteByPanel => {
                if self == Self::DeleteIgnore {
                    run.world.sim.change_server(27, json!({"panel": "dci2", "ipmi": "dead"})).unwrap();
                }
                run.world.delete(ORDER, "web-01").await;
                run.world.until_gone("web-01").await;
            }
            Self::DeleteTask => {
                run.world.sim.change_server(20, json!({"ipmi": "dead"})).unwrap();
                run.world.delete(ORDER, "web-01").await;
                stop_server(run).await;
                run.world.until_gone("web-01").await;
            }
        }
    }
}

async fn edit(world: &World, spec: Value) {
    world.patch(ORDER, "web-01", &json!({ "spec": spec })).await;
}

/// The handler `msk-2` at the panel `dci2`, which comes after `msk-1`.
async fn second_handler(world: &mut World) {
    let provider = world.provider.clone();
    let mut other = objects::ip_manager(world.sim.url("ipm2").unwrap(), &json!({"pollInterval": POLL}));
    other["metadata"]["name"] = "other".into();
    world.create(&provider, other).await;
    let spec =
        json!({"pollInterval": POLL, "priority": 20, "ipManagement": {"ipManagerRef": {"name": "other"}}, "timeouts": {"settle": "2s"}});
    let mut second = objects::handler(world.sim.url("dci2").unwrap(), &spec);
    second["metadata"] = json!({"name": "msk-2", "labels": {"zone": "msk"}});
    world.create(&provider, second).await;
    world.patch("ProcessingHandler", "msk-1", &json!({"metadata": {"labels": {"zone": "msk"}}})).await;
}

/// The handler `isp` of the licence server `bill`.
async fn licence_server(world: &mut World) {
    let provider = world.provider.clone();
    world.keep_secret(LICENSE_PASSWORD);
    let credentials = json!({"username": "reseller", "password": LICENSE_PASSWORD});
    world.create(&provider, objects::secret("isp", &credentials)).await;
    let handler = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ProcessingHandler", "metadata": {"name": "isp"},
        "spec": {
            "module": "BILLmanager6",
            "connection": {"url": world.sim.url("bill").unwrap(), "credentialsSecretRef": {"name": "isp"}, "timeout": "5s"},
            "licenses": {"products": {"Lite": {"pricelist": "55227"}, "Pro": {"pricelist": "55228"}}},
            "pollInterval": POLL,
            "limits": {"requestsPerSecond": 0},
            "timeouts": {"settle": "2s"},
        },
    });
    world.create(&provider, handler).await;
}

/// Whether the order is Ready in this phase with what its spec says now.
fn is_settled(order: &Value, phase: &str) -> bool {
    let current = order["status"]["observedGeneration"] == order["metadata"]["generation"];
    order["status"]["phase"] == phase && is_true(order, "Ready") && current
}

/// Waits until it is.
async fn settled(world: &mut World, phase: &str) {
    world.until_order("web-01", phase, |order| is_settled(order, phase)).await;
}

/// The one open task, of this type; any other is one too many.
async fn task(world: &mut World, type_: &str) -> Value {
    world
        .until(&format!("one open task {type_}"), |world| {
            let open: Vec<Value> = world.record.all("ManualTask").into_iter().filter(|t| t["spec"]["resolution"].is_null()).collect();
            assert!(open.len() <= 1 && open.iter().all(|t| t["spec"]["type"] == type_), "one task {type_}: {open:?}");
            open.into_iter().next()
        })
        .await
}

/// The department builds what it is asked for, once it has the parts.
async fn assemble(run: &mut Run) {
    let missing = task(&mut run.world, "Assembly").await;
    resolve(run, &missing, "PartsMissing").await;
    let buying = task(&mut run.world, "Procurement").await;
    close(run, &buying).await;
    let task = task(&mut run.world, "Assembly").await;
    run.rules.by_hand("20");
    run.world.sim.change_server(20, json!({"hardware": {"hdd_1": "1920SSD"}})).unwrap();
    close(run, &task).await;
}

/// Waits until it is installed again. Whether an installation was made whose answer is lost and which shows no trace is for a department to
/// say, since the server was handed over.
async fn reinstalled(run: &mut Run) {
    let not_again = |run: &Run| assert_eq!(run.world.server(17)["installed"]["times"], 1, "what was installed is not asked about");
    active(run, not_again).await;
}

/// Waits until the order is Active where its handler asks a department at the first answer that is lost.
async fn answered(run: &mut Run) {
    active(run, |run| assert!(run.proxy.met(), "nothing went wrong, and a department is asked")).await;
}

/// Waits until the order is Ready with what its spec says now. Whoever is asked about a failed operation has it tried again.
async fn active(run: &mut Run, when_asked: impl Fn(&Run)) {
    let done = |world: &World| world.record.get(ORDER, "web-01").filter(|order| is_settled(order, "Active"));
    let open = |world: &World| {
        let mut tasks = world.record.all("ManualTask").into_iter();
        tasks.find(|t| t["spec"]["resolution"].is_null() && t["spec"]["type"] == "FailedOperation")
    };
    while let Some(task) = run.world.until("Active, or a task", |world| open(world).map(Some).or_else(|| done(world).map(|_| None))).await {
        when_asked(run);
        resolve(run, &task, "Retry").await;
    }
}

/// Another root password, which is the server's in the end.
async fn rotated(run: &mut Run) {
    let world = &mut run.world;
    let before = world.server(17)["invented"]["passwordSha256"].clone();
    let patch = json!({"stringData": {"password": PASSWORDS[1]}}).to_string();
    let (code, text) = world.kubectl(&["patch", "secret", "root", "-n", &world.shop, "--type=merge", "-p", &patch]).await;
    assert_eq!(code, 0, "{text}");
    world.until("the new password", |world| (world.server(17)["invented"]["passwordSha256"] != before).then_some(())).await;
    let done = |order: &Value| is_settled(order, "Active") && order["status"]["inFlight"].is_null();
    world.until_order("web-01", "Active, and nothing under way", done).await;
}

/// The licence that is paid for one month ends today: it is prolonged.
async fn renewed(run: &mut Run) {
    let world = &mut run.world;
    let lite = |world: &World| {
        let state = world.sim.state();
        let all = state["panels"]["bill"]["licenses"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|license| license["pricelist"] == 55227).unwrap()
    };
    let id = lite(world)["id"].as_str().unwrap().parse().unwrap();
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    world.sim.change_license(id, json!({"expires": today.to_string()})).unwrap();
    let told = |world: &World| {
        let (order, license) = (world.record.get(ORDER, "web-01")?, lite(world));
        let end = license["expires"].as_str()?;
        let known = order["status"]["licenses"][0]["expiresAt"].as_str()?.contains(end);
        // What a proxy sends twice is prolonged twice, as what it orders twice is bought twice.
        (license["renewals"].as_u64()? >= 1 && known && is_settled(&order, "Active")).then_some(())
    };
    world.until("renewed, and told", told).await;
}

/// The department pulls the plug. Until then the server is the client's.
async fn stop_server(run: &mut Run) {
    let task = task(&mut run.world, "StopServer").await;
    run.world.polls(2).await;
    assert_eq!(run.world.server(20)["owner"], "acme", "the server is released while its task is open");
    close(run, &task).await;
}

async fn close(run: &Run, task: &Value) {
    resolve(run, task, "Done").await;
}

async fn resolve(run: &Run, task: &Value, resolution: &str) {
    let name = task["metadata"]["name"].as_str().unwrap();
    run.rules.closing(task, resolution);
    run.world.patch("ManualTask", name, &json!({"spec": {"resolution": resolution, "note": "as asked"}})).await;
}

/// A panel that has functions for what the interface of DCImanager does not tell, and takes addresses by itself.
fn functions() -> Value {
    json!({
        "address_groups": [
            {"name": "public", "ranges": ["203.0.113.10-203.0.113.60"]}, {"name": "parking", "ranges": ["10.0.0.0/16"]},
        ],
        "recipes": [{"name": RECIPES[0]}, {"name": RECIPES[1]}],
        "invented": {
            "run_recipe": "server.runrecipe", "flag_for_cleaning": "server.flagclean", "set_password": "server.setpasswd",
            "recipe_duration": "1h",
        },
        "durations": {"diag": "1s"},
    })
}

/// How these functions are called.
fn dialect() -> Value {
    json!({
        "runRecipe": {"func": "server.runrecipe", "params": {"elid": "{server}", "recipe": "{recipe}", "sok": "ok"}},
        "flagForCleaning": {"func": "server.flagclean", "params": {"elid": "{server}", "sok": "ok"}},
        "setPassword": {"func": "server.setpasswd", "params": {"elid": "{server}", "passwd": "{password}", "sok": "ok"}},
    })
}

fn hardware(ram: &str, disks: [&str; 2]) -> Value {
    json!({"cpu_0": "Intel Xeon E-2146G", "cpu_count": "1", "chassis_ram": ram, "hdd_0": disks[0], "hdd_1": disks[1]})
}

/// Servers of which one, 20, has nearly what is ordered; the others are out of order, or somebody's. Where its form cannot be read a
/// server that would need more parts is as good, and what follows would be another life.
fn assembled() -> Value {
    json!([
        {"id": 17, "name": "R1-17", "type": "E3-16G", "ip": "10.0.0.17", "flags": ["blocked"]},
        {"id": 18, "name": "R1-18", "type": "E3-16G", "ip": "203.0.113.9", "owner": "owner-of-18", "hostname": "theirs.example.net",
         "power": "on", "hardware": hardware("64", ["1920SSD", "1920SSD"])},
        {"id": 19, "name": "R1-19", "type": "E3-16G", "ip": "10.0.0.19", "flags": ["hwproblem"],
         "hardware": hardware("16", ["480SSD", "null"])},
        {"id": 20, "name": "R1-20", "type": "E5-64G", "ip": "10.0.0.20", "hardware": hardware("64", ["1920SSD", "SSD 480 GB"])},
    ])
}

/// `dci` has a server whose installation fails, and no other of its type; `dci2` has one. Each has an address manager of its own.
fn two_panels() -> Value {
    let mut panels = objects::panels();
    let first = panels["dcimanager5"][0].clone();
    let theirs = json!({"id": 18, "type": "E3-16G", "ip": "203.0.113.9", "owner": "owner-of-18", "hostname": "theirs.example.net"});
    let other = json!({"id": 20, "name": "R1-20", "type": "E5-64G", "ip": "10.0.0.20"});
    let fails = json!({"id": 17, "name": "R1-17", "type": "E3-16G", "ip": "10.0.0.17"});
    let server = json!({"id": 27, "name": "R-27", "type": "E3-16G", "ip": "10.0.0.27"});
    panels["dcimanager5"] = json!([
        merged(first.clone(), &json!({"servers": [fails, theirs, other]})),
        merged(first, &json!({"name": "dci2", "listen": "127.0.0.2:0", "servers": [server]})),
    ]);
    let pool = panels["ipmanager5"][0].clone();
    let second = merged(pool.clone(), &json!({"name": "ipm2", "listen": "127.0.0.4:0", "holds_for": [{"panel": "dci2", "user": "dci"}]}));
    panels["ipmanager5"] = json!([pool, second]);
    panels
}
