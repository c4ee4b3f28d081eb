//! Worlds for the sweeps, and what must be true at the two ends of an order's life.

#[path = "../../commit/mod.rs"]
mod commit;

use std::net::IpAddr;
use std::time::Duration;

use dci_operator::api::condition::{ConditionType, is_true};
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::provisioning::call::Call;
use serde_json::json;

use super::panel::{Panel, Replace};
use super::seconds;
use super::world::{Fault, World, handler, order};

/// A kind of order and handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// Two IPv4 addresses and one IPv6 address.
    Several,
    DisableIpChange,
    ByPanel,
    ByPanelSeveral,
    NoParking,
    /// The server is administratively off, its power is on.
    Disabled,
    CreateTask,
    /// A configuration of the client's own, which no free server has: a department builds it.
    Custom,
    /// Two licences, suspended in the end.
    Licensed,
    /// Two licences, freed in the end.
    LicensedFreed,
    /// A recipe fails on the first server, which is given back; the order gets another one.
    Failover,
    /// Three recipes, two of them run by themselves; the disks are flagged at the end.
    Recipes,
    /// The panel says that it replaced the main address, and does it later.
    LateMain,
}

pub const KINDS: [Kind; 14] = [
    Kind::Plain,
    Kind::Several,
    Kind::DisableIpChange,
    Kind::ByPanel,
    Kind::ByPanelSeveral,
    Kind::NoParking,
    Kind::Disabled,
    Kind::CreateTask,
    Kind::Custom,
    Kind::Licensed,
    Kind::LicensedFreed,
    Kind::Failover,
    Kind::Recipes,
    Kind::LateMain,
];

/// Everything that may go wrong with one call.
pub const FAULTS: [Fault; 14] = [
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::CrashLate(Duration::from_secs(20)),
    Fault::CrashLate(Duration::from_secs(110)),
    // Later than the settle time, but before the second look.
    Fault::CrashLate(Duration::from_secs(200)),
    Fault::LostLate(Duration::from_secs(200)),
    Fault::LostApplied,
    Fault::LostNot,
    Fault::LostLate(Duration::from_secs(20)),
    Fault::LostLate(Duration::from_secs(110)),
    Fault::Refused,
    Fault::Unreachable,
    Fault::Ignored,
    Fault::Touched,
];

/// Recipes of [`Kind::Recipes`].
pub const RECIPES: [&str; 3] = ["ISPsystem__a.sh", "ISPsystem__b.sh", "ISPsystem__c.sh"];

impl Kind {
    pub fn wanted(self) -> (usize, usize) {
        if matches!(self, Self::Several | Self::ByPanelSeveral | Self::DisableIpChange) { (2, 1) } else { (1, 0) }
    }

    /// Servers that are given back before the order is Active, each after one installation.
    pub fn given_back(self) -> usize {
        usize::from(self == Self::Failover)
    }

    pub fn world(self) -> World {
        let handler = handler(|spec| match self {
            Self::Plain | Self::Several | Self::Disabled | Self::Custom | Self::Failover | Self::LateMain => {}
            Self::DisableIpChange => spec["ipManagement"]["disableIPChange"] = json!(true),
            Self::ByPanel | Self::ByPanelSeveral => spec["ipManagement"]["allocateBy"] = json!("Panel"),
            Self::NoParking => {
                spec["ipManagement"].as_object_mut().unwrap().remove("parkingIPType");
            }
            Self::Recipes => spec["dialect"] = json!({"runRecipe": {"func": "x"}, "flagForCleaning": {"func": "y"}}),
            Self::CreateTask => spec["ipmiErrorPolicy"] = json!("CreateTask"),
            Self::Licensed | Self::LicensedFreed => spec["licenseServerRef"] = json!({"name": "isp"}),
        });
        let mut panel = Panel::new(3, 6);
        panel.install_takes = Duration::from_mins(2);
        if matches!(self, Self::Several | Self::NoParking | Self::CreateTask) {
            // The client before had the same system: that it is there proves nothing.
            panel.servers.values_mut().for_each(|s| s.template = Some(super::panel::TEMPLATE.into()));
        }
        if self == Self::LicensedFreed {
            panel.licenses.policy = super::licenses::policy(|licenses| licenses["onDeletion"] = json!("Release"));
        }
        panel.recipes_that_fail = self.given_back();
        if self == Self::LateMain {
            panel.replace = Replace::Later(seconds(100));
        }
        let mut world = World::new(panel, handler);
        let (v4, v6) = self.wanted();
        world.add(order("web", "u-web", |raw| {
            raw["spec"]["addresses"] = json!({"ipv4": v4, "ipv6": v6});
            if self == Self::Custom {
                raw["spec"]["configuration"] = json!({"custom": {"memoryGiB": 64}});
            }
            if self.licensed() {
                raw["spec"]["licenses"] = json!([{"product": "Pro"}, {"product": "Lite", "period": 3}]);
            }
            if self == Self::Failover {
                raw["spec"]["recipes"] = json!(["ISPsystem__nginx.sh"]);
            }
            if self == Self::Recipes {
                raw["spec"]["recipes"] = json!(RECIPES);
            }
        }));
        world
    }

    /// A free server may be sold although it is disabled only where a person set that after the claim.
    pub fn disturb(self, world: &mut World) {
        if self == Self::Custom
            && world.open_tasks().contains(&TaskType::Assembly)
            && let Some(id) = world.status("web").server.as_ref().map(|s| s.id.clone())
        {
            world.panel.server(&id).parts.memory = Some("64".into());
        }
        if self == Self::Disabled && world.status("web").server.is_some() {
            let id = world.status("web").server.as_ref().unwrap().id.clone();
            if !world.panel.journal.iter().any(|c| matches!(c, Call::Enable { .. })) && world.phase("web") == "Deleting" {
                world.panel.server(&id).disabled = true;
            }
        }
    }

    pub fn licensed(self) -> bool {
        matches!(self, Self::Licensed | Self::LicensedFreed)
    }

    fn by_panel(self) -> bool {
        matches!(self, Self::ByPanel | Self::ByPanelSeveral)
    }
}

/// Every so many-th of the points, with each commit others; all of them where `DCI_SWEEP=all` (`make check-all`).
pub fn one_in<T>(share: usize, points: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    let share = if std::env::var("DCI_SWEEP").is_ok_and(|sweep| sweep == "all") { 1 } else { share };
    let first = usize::try_from(commit::seed().unwrap_or_default()).unwrap_or_default() % share;
    points.skip(first).step_by(share)
}

/// Tries every point, and fails at the end with what went wrong first in each.
pub fn try_all(points: impl Iterator<Item = (String, Box<dyn FnOnce()>)>) {
    let mut tried = 0;
    let mut failed = Vec::new();
    std::panic::set_hook(Box::new(|_| ()));
    for (point, live) in points {
        tried += 1;
        if let Err(error) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(live)) {
            let text = error.downcast_ref::<String>().cloned().or_else(|| error.downcast_ref::<&str>().map(ToString::to_string));
            failed.push((point, text.unwrap_or_default()));
        }
    }
    let _ = std::panic::take_hook();
    println!("{tried} points");
    for (point, text) in &failed {
        println!("{point}: {}", text.lines().take(4).collect::<Vec<_>>().join(" | "));
    }
    assert!(failed.is_empty(), "{} of {tried} points; the first is {}\n{}", failed.len(), failed[0].0, failed[0].1);
}

/// Goes on until a phase is reached; whoever looks after stalled orders asks for another attempt now and then.
pub fn reach(world: &mut World, phase: &str, kind: Kind) {
    let end = super::later(world.now, Duration::from_hours(8));
    let mut since = world.now;
    let mut steps = 0;
    while world.phase("web") != phase {
        steps += 1;
        assert!(steps < 20_000, "time stands still\n{}", world.describe());
        assert!(world.now < end, "{phase} is not reached\n{}", world.describe());
        let stalled = world.orders.get("web").is_some_and(|o| is_true(&o.status.conditions, ConditionType::Stalled));
        if stalled && world.now > super::later(since, seconds(120)) {
            since = world.now;
            world.force("web");
        }
        kind.disturb(world);
        if let Some(task) = world.tasks.iter_mut().find(|t| t.resolution.is_none()) {
            task.resolution = Some(Resolution::Retry);
        }
        world.step();
    }
}

/// The order has exactly what it wants, and nothing else is anybody's.
pub fn assert_active(world: &World, kind: Kind) {
    let tell = || world.describe();
    let status = world.status("web");
    let bound = status.server.as_ref().expect("a server");
    let server = &world.panel.servers[&bound.id];
    let (v4, v6) = kind.wanted();
    let client = world.panel.user("acme").expect("the client").id.clone();
    assert_eq!(server.owner, Some(client), "owner\n{}", tell());
    assert!(server.on && !server.disabled && server.port && server.operation.is_none() && !server.failed, "state\n{}", tell());
    assert_eq!(server.template.as_deref(), Some(super::panel::TEMPLATE), "template\n{}", tell());
    let rows: Vec<IpAddr> = server.rows.iter().map(|r| r.address).collect();
    assert_eq!(rows.iter().filter(|a| a.is_ipv4()).count(), v4, "IPv4 rows\n{}", tell());
    assert_eq!(rows.iter().filter(|a| a.is_ipv6()).count(), v6, "IPv6 rows\n{}", tell());
    assert!(server.rows.iter().all(|r| r.domain == "web.example.net"), "domains\n{}", tell());
    let public: Vec<IpAddr> = world.panel.used.iter().filter(|u| u.group == "public").map(|u| u.address).collect();
    let expected = v4 + v6 - usize::from(kind == Kind::DisableIpChange);
    assert_eq!(public.len(), expected, "public addresses in use\n{}", tell());
    assert!(public.iter().all(|a| rows.contains(a)), "an address is not on the server\n{}", tell());
    if !kind.by_panel() {
        // A parking address that was not taken back is ours as well, until it is.
        let ours = || world.panel.used.iter().filter(|u| u.note == "k8s:u-web" && u.group == "public");
        assert!(ours().all(|u| u.domain == "web.example.net"), "a name at IPmanager\n{}", tell());
        let noted = ours().count();
        assert_eq!(noted, expected, "notes\n{}", tell());
    }
    let parked = world.panel.used.iter().filter(|u| u.group == "parking").count();
    let stays = matches!(kind, Kind::DisableIpChange | Kind::NoParking);
    let kept = world.panel.servers.len() - usize::from(!stays);
    assert_eq!(parked, kept, "parking addresses in use\n{}", tell());
    assert_eq!(status.server.as_ref().map(|s| s.addresses.len()), Some(v4 + v6), "status\n{}", tell());
    for (id, other) in world.panel.servers.iter().filter(|(id, _)| **id != bound.id) {
        let returned = status.tried_servers.iter().any(|t| t.id == *id);
        assert!(other.owner.is_none() && other.notes.is_empty(), "server {id} was touched\n{}", tell());
        assert!(other.installs == 0 || returned, "something was installed on server {id}\n{}", tell());
        assert!(other.rows.iter().all(|r| r.domain == "free.ds"), "server {id} keeps domains\n{}", tell());
    }
    if kind == Kind::Recipes {
        let mut ran = server.ran.clone();
        ran.dedup();
        // A run that the panel took and never made shows nowhere: it is believed.
        let taken: Vec<&str> = RECIPES.into_iter().filter(|r| !world.ignored_recipes.iter().any(|i| i == r)).collect();
        assert_eq!(ran, taken, "recipes\n{}", tell());
    }
    assert!(world.open_tasks().is_empty(), "tasks\n{}", tell());
    assert_licensed(world, kind);
}

/// Each licence was bought exactly once, whatever happened on the way, and is on the server's main address.
fn assert_licensed(world: &World, kind: Kind) {
    let tell = || world.describe();
    let licenses = &world.panel.licenses;
    let status = world.status("web");
    let wanted = if kind.licensed() { 2 } else { 0 };
    assert_eq!((licenses.rows.len(), licenses.orders.len(), status.licenses.len()), (wanted, wanted, wanted), "licences\n{}", tell());
    for record in &status.licenses {
        let remote = format!("k8s:u-web/{}", record.product);
        assert_eq!(licenses.orders.get(&remote), Some(&1), "{remote} was bought more than once\n{}", tell());
        let row = &licenses.rows[record.id.as_ref().expect("an id")];
        assert_eq!((&row.remote_id, row.suspended, row.renewals), (&remote, false, 0), "{}", tell());
        assert_eq!(Some(row.address.to_string()), status.server.as_ref().unwrap().main_address, "{}", tell());
        assert_eq!((record.state.as_deref(), record.expires_at.map(|t| t.0.as_second())), (Some("Issued"), Some(row.expires.as_second())));
    }
}

/// No licence of the order runs any more, and none was bought twice.
fn assert_revoked(world: &World, kind: Kind) {
    for (id, row) in &world.panel.licenses.rows {
        assert!(row.suspended, "licence {id} runs\n{}", world.describe());
        assert_eq!(row.remote_id.is_empty(), kind == Kind::LicensedFreed, "licence {id}\n{}", world.describe());
    }
    assert!(world.panel.licenses.orders.values().all(|n| *n == 1), "bought twice\n{}", world.describe());
}

/// Everything is free again.
pub fn assert_released(world: &World, kind: Kind) {
    assert_revoked(world, kind);
    if kind != Kind::NoParking {
        world.assert_clean();
        return;
    }
    // The public main address stays where nothing takes its place, without our note.
    assert!(world.panel.servers.values().all(|s| s.owner.is_none() && s.notes.is_empty() && s.rows.len() == 1), "{}", world.describe());
    assert!(world.panel.used.iter().all(|u| u.note.is_empty()), "{}", world.describe());
}
