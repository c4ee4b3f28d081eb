//! The client of DCImanager 5 against the simulated panel: every call, and every call with faults.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dci_operator::controller::client_user;
use dci_operator::panel::ServerPanel;
use dci_operator::panel::coremanager::Client;
use dci_operator::panel::coremanager::params::Params;
use dci_operator::panel::dcimanager5::DciManager5;
use dci_operator::panel::dialect::Dialect;
use dci_operator::panel::error::{ErrorClass, Outcome, PanelError};
use dci_operator::panel::model::*;
use dci_operator::panel::settings::ConnectionSettings;
use dci_operator::sim::{Config, Simulator};
use futures::future::join_all;
use secrecy::SecretString;
use serde_json::json;

const YAML: &str = r#"
dcimanager5:
  - name: dci
    users:
      - {name: admin, password: secret, level: 30}
      - {name: operator, password: secret, level: 29}
      - {name: acme, password: acme-secret}
    PROTOCOL
    behaviour: {BEHAVIOUR}
    durations: {power: 100ms, install: 400ms, connection: 100ms}
    server_types: [{name: E3-16G}]
    os_templates: [{name: ISPsystem__Debian-12-x86_64}, {name: ISPsystem__Endless-1, outcome: hang}]
    recipes: [{name: ISPsystem__nginx.sh}]
    address_groups:
      - {name: public, ranges: [203.0.113.128/26, "2001:db8:5::/64"]}
      - {name: parking, ranges: [10.0.0.1-10.0.255.254]}
    servers:
      - {id: 17, name: R1-10, type: E3-16G, ip: 10.0.0.17, notes: "bad fan\nsecond line", mac: "00:16:3e:00:00:11"}
      - {id: 18, type: E3-16G, ip: 203.0.113.130, hostname: web.example.net, owner: acme, power: "on"}
      - {id: 19, type: E3-16G, ip: 10.0.0.19, ipmi: dead, flags: [hwproblem, blocked]}
      - {id: 20, type: E3-16G, ip: 10.0.0.20, flags: [disabled]}
"#;

struct World {
    sim: Simulator,
    panel: DciManager5,
}

async fn with(protocol: &str, behaviour: &str, dialect: Dialect) -> World {
    let yaml = YAML.replace("PROTOCOL", &format!("protocol: {{{protocol}}}")).replace("BEHAVIOUR", behaviour);
    let sim = Simulator::start(Config::from_yaml(&yaml).unwrap(), SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let panel = DciManager5::new(Arc::new(Client::new(&settings(&sim, "operator", "secret")).unwrap()), dialect);
    World { sim, panel }
}

fn settings(sim: &Simulator, user: &str, password: &str) -> ConnectionSettings {
    let mut settings = ConnectionSettings::new(sim.url("dci").unwrap(), user, SecretString::from(password));
    settings.timeout = Duration::from_secs(2);
    settings.requests_per_second = 0;
    settings
}

async fn world() -> World {
    with("", "", Dialect::default()).await
}

impl World {
    async fn row(&self, server: &str) -> ServerRow {
        self.panel.servers().await.unwrap().into_iter().find(|r| r.id.0 == server).unwrap()
    }

    async fn until(&self, server: &str, what: impl Fn(&ServerRow) -> bool) -> ServerRow {
        for _ in 0..100 {
            let row = self.row(server).await;
            if what(&row) {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?}", self.row(server).await);
    }

    fn fault(&self, fault: serde_json::Value) {
        self.sim.add_fault(fault).unwrap();
    }

    async fn main_row(&self, server: &str) -> AddressRow {
        self.panel.addresses(&server.into()).await.unwrap().remove(0)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn applied<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Applied(value) => value,
        other => panic!("{other:?}"),
    }
}

fn claim() -> ServerEdit {
    ServerEdit { expect: Expect::Free, owner: OwnerEdit::User("2".into()), notes: NotesEdit::Add(MARKER.into()) }
}

const MARKER: &str = "k8s:cluster/shop/web-01/uid-1";

#[tokio::test]
async fn we_learn_who_we_are() {
    let world = world().await;
    let probe = world.panel.probe().await.unwrap();
    assert_eq!(probe, Probe { login: "operator".into(), user_id: Some("2".into()), administrator: true });
    let ordinary = Client::new(&settings(&world.sim, "acme", "acme-secret")).unwrap();
    let probe = DciManager5::new(Arc::new(ordinary), Dialect::default()).probe().await.unwrap();
    assert!(!probe.administrator);
    let wrong = Client::new(&settings(&world.sim, "operator", "wrong")).unwrap();
    let error = DciManager5::new(Arc::new(wrong), Dialect::default()).probe().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Credentials, "{error}");
}

/// A log-in tells the level, also one that a call needed by itself; a session that is older may keep its rights, or lose them at once.
#[tokio::test]
async fn another_level_of_our_user_is_learned_with_the_next_log_in() {
    for keeps in [true, false] {
        let world = with(&format!("session_keeps_level: {keeps}"), "", Dialect::default()).await;
        assert!(world.panel.is_administrator(), "nobody has logged in yet");
        assert!(world.panel.probe().await.unwrap().administrator && world.panel.is_administrator());
        let human = Client::new(&settings(&world.sim, "admin", "secret")).unwrap();
        let level = |level: &str| Params::new().with("sok", "ok").with("elid", "2").with("name", "operator").with("level", level);
        applied(human.change("user.edit", &level("16")).await);
        assert_eq!(world.panel.servers().await.unwrap().len(), if keeps { 4 } else { 0 }, "keeps {keeps}");
        assert_eq!(world.panel.users().await.is_ok(), keeps);
        assert!(!world.panel.is_administrator(), "the list of users tells, or that it is hidden");
        world.fault(json!({"action": "expire-sessions", "func": "server"}));
        assert!(world.panel.servers().await.unwrap().is_empty(), "keeps {keeps}");
        assert!(!world.panel.is_administrator());
        let error = world.panel.users().await.unwrap_err();
        assert!(error.hides_users() && error.class() == ErrorClass::Credentials, "{error}");
        applied(human.change("user.edit", &level("29")).await);
        assert!(world.panel.probe().await.unwrap().administrator && world.panel.is_administrator());
    }
}

#[tokio::test]
async fn a_filter_of_our_user_does_not_hide_servers_in_silence() {
    let world = world().await;
    let human = Client::new(&settings(&world.sim, "operator", "secret")).unwrap();
    applied(human.change("server.filter", &Params::new().with("sok", "ok").with("name", "R1")).await);
    let error = world.panel.probe().await.unwrap_err();
    assert!(error.to_string().contains("filter"), "{error}");
}

#[tokio::test]
async fn the_list_shows_every_flag() {
    let world = world().await;
    let rows = world.panel.servers().await.unwrap();
    assert_eq!(rows.len(), 4);
    let free = &rows[0];
    assert_eq!((free.name.as_str(), free.hostname.as_str(), free.main_address), ("R1-10", FREE_DOMAIN, Some(ip("10.0.0.17"))));
    assert_eq!((&free.owner, free.types.as_slice(), &free.install), (&None, ["E3-16G".to_owned()].as_slice(), &None));
    assert_eq!(free.power, PowerFlags { off: true, ..PowerFlags::default() });
    assert_eq!(free.flags, ServerFlags::default());
    assert_eq!((rows[1].owner.as_deref(), rows[1].power.on), (Some("acme"), true));
    assert!(rows[2].flags.hardware_problem && rows[2].flags.blocked && rows[2].power.error);
    assert!(rows[3].flags.disabled);
}

#[tokio::test]
async fn lists_are_the_same_in_every_shape() {
    for (protocol, behaviour) in
        [("single_elem: object", ""), ("page_size: 1", ""), ("page_size: 3", ""), ("", "no_owner_in_list: empty, type_fields: type")]
    {
        let world = with(protocol, behaviour, Dialect::default()).await;
        let rows = world.panel.servers().await.unwrap();
        let ids: Vec<&str> = rows.iter().map(|r| r.id.0.as_str()).collect();
        assert_eq!(ids, ["17", "18", "19", "20"], "{protocol} {behaviour}");
        assert_eq!(rows[0].owner, None);
        assert_eq!(rows[0].types, ["E3-16G"]);
        assert_eq!(world.panel.users().await.unwrap().len(), 3);
        assert_eq!(world.panel.addresses(&"17".into()).await.unwrap().len(), 1);
        assert_eq!(world.panel.connections(&"17".into()).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn users_are_listed_and_made() {
    let world = world().await;
    let users = world.panel.users().await.unwrap();
    let levels: Vec<(&str, Level)> = users.iter().map(|u| (u.name.as_str(), u.level)).collect();
    assert_eq!(levels, [("admin", Level::Administrator), ("operator", Level::Administrator), ("acme", Level::User)]);
    let password = SecretString::from("a client's password");
    let id = applied(world.panel.create_user("new", &password).await);
    assert!(world.panel.users().await.unwrap().contains(&PanelUser { id, name: "new".into(), level: Level::User }));
    let again = world.panel.create_user("new", &password).await;
    let Outcome::Refused(error) = again else { panic!("{again:?}") };
    assert_eq!(error.class(), ErrorClass::Exists);
}

/// Else each of them stores a password of its own, and only one of these opens anything.
#[tokio::test]
async fn of_several_orders_of_a_new_client_one_makes_the_user_and_stores_a_password() {
    let world = world().await;
    let (turn, counter) = (tokio::sync::Mutex::new(()), AtomicUsize::new(0));
    let stored = &counter;
    let password = || async move {
        stored.fetch_add(1, Ordering::SeqCst);
        Ok::<_, String>(SecretString::from("a client's password"))
    };
    let made = join_all((0..4).map(|_| client_user::make(&turn, &world.panel, "dci", "new", password()))).await;
    let exists = |outcome: &Outcome<()>| matches!(outcome, Outcome::Refused(error) if error.class() == ErrorClass::Exists);
    let made: Vec<Outcome<()>> = made.into_iter().map(Result::unwrap).collect();
    assert!(made.contains(&Outcome::Applied(())) && made.iter().filter(|outcome| exists(outcome)).count() == 3, "{made:?}");
    assert_eq!(stored.load(Ordering::SeqCst), 1);
    // Nothing is asked of the panel where no password can be stored.
    let none = async { Err::<SecretString, _>("a quota".to_owned()) };
    assert_eq!(client_user::make(&turn, &world.panel, "dci", "another", none).await, Err("a quota".to_owned()));
    assert!(world.panel.users().await.unwrap().iter().all(|user| user.name != "another"));
}

#[tokio::test]
async fn a_claim_changes_owner_and_notes_and_nothing_else() {
    let world = world().await;
    let server = ServerId::from("17");
    let before = world.row("17").await;
    applied(world.panel.edit_server(&server, &claim()).await);
    let form = world.panel.server_form(&server).await.unwrap();
    assert_eq!(form.owner.as_deref(), Some("2"));
    assert_eq!(form.notes, format!("bad fan\nsecond line\n{MARKER}"));
    let after = world.row("17").await;
    assert_eq!(after.owner.as_deref(), Some("operator"));
    assert_eq!(ServerRow { owner: None, ..after }, before);

    let again = world.panel.edit_server(&server, &claim()).await;
    assert!(
        matches!(&again, Outcome::Refused(PanelError::Expectation { detail, .. }) if detail.contains("expected no owner")),
        "{again:?}"
    );
    let foreign = ServerEdit { expect: Expect::Marker("k8s:other".into()), owner: OwnerEdit::Nobody, notes: NotesEdit::Keep };
    let foreign = world.panel.edit_server(&server, &foreign).await;
    assert!(matches!(&foreign, Outcome::Refused(PanelError::Expectation { detail, .. }) if detail.contains(MARKER)), "{foreign:?}");

    let hand_over = ServerEdit { expect: Expect::Marker(MARKER.into()), owner: OwnerEdit::User("3".into()), notes: NotesEdit::Keep };
    applied(world.panel.edit_server(&server, &hand_over).await);
    assert_eq!(world.row("17").await.owner.as_deref(), Some("acme"));

    let release = ServerEdit { expect: Expect::Marker(MARKER.into()), owner: OwnerEdit::Nobody, notes: NotesEdit::Remove(MARKER.into()) };
    applied(world.panel.edit_server(&server, &release).await);
    let form = world.panel.server_form(&server).await.unwrap();
    assert_eq!((form.owner, form.notes.as_str()), (None, "bad fan\nsecond line"));
    assert_eq!(world.row("17").await, before);
}

#[tokio::test]
async fn a_hardware_problem_survives_an_edit() {
    let world = world().await;
    applied(world.panel.edit_server(&"19".into(), &claim()).await);
    assert!(world.row("19").await.flags.hardware_problem);
    assert!(world.panel.server_form(&"20".into()).await.unwrap().disabled);
}

#[tokio::test]
async fn a_server_that_is_gone_is_missing() {
    let world = world().await;
    let error = world.panel.server_form(&"99".into()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Missing);
    let outcome = world.panel.edit_server(&"99".into(), &claim()).await;
    assert!(matches!(&outcome, Outcome::Refused(e) if e.class() == ErrorClass::Missing), "{outcome:?}");
}

#[tokio::test]
async fn addresses_come_and_go() {
    let world = world().await;
    let server = ServerId::from("17");
    let spec = AddressSpec { family: Family::Ipv4, group: "public".into(), address: None, domain: "a.example".into() };
    let chosen = applied(world.panel.add_address(&server, &spec).await);
    let wanted = AddressSpec { address: Some(ip("203.0.113.150")), ..spec.clone() };
    assert_eq!(applied(world.panel.add_address(&server, &wanted).await), ip("203.0.113.150"));
    let v6 = AddressSpec { family: Family::Ipv6, ..spec };
    let v6 = applied(world.panel.add_address(&server, &v6).await);
    let rows = world.panel.addresses(&server).await.unwrap();
    let all: Vec<IpAddr> = rows.iter().map(|r| r.address).collect();
    assert_eq!(all, [ip("10.0.0.17"), chosen, ip("203.0.113.150"), v6]);

    applied(world.panel.set_domain(&server, &rows[2].row, "b.example").await);
    let rows = world.panel.addresses(&server).await.unwrap();
    assert_eq!((rows[2].address, rows[2].domain.as_str()), (ip("203.0.113.150"), "b.example"));

    applied(world.panel.remove_address(&server, &rows[1].row).await);
    applied(world.panel.remove_address(&server, &rows[1].row).await);
    assert_eq!(world.panel.addresses(&server).await.unwrap().len(), 3);
    let main = world.panel.remove_address(&server, &rows[0].row).await;
    assert!(matches!(main, Outcome::Refused(PanelError::Refused { .. })), "{main:?}");
}

#[tokio::test]
async fn the_main_address_is_replaced_as_the_dialect_says() {
    let world = world().await;
    let server = ServerId::from("17");
    let row = world.main_row("17").await;
    let to = MainAddress { current: row.address, address: Some(ip("203.0.113.151")), group: "public".into(), domain: "m.example".into() };
    applied(world.panel.replace_main_address(&server, &row.row, &to).await);
    let now = world.main_row("17").await;
    assert_eq!((now.address, now.domain.as_str()), (ip("203.0.113.151"), "m.example"));
    let back = MainAddress { current: now.address, address: None, group: "parking".into(), domain: FREE_DOMAIN.into() };
    applied(world.panel.replace_main_address(&server, &now.row, &back).await);
    assert!(world.main_row("17").await.address.to_string().starts_with("10.0."));

    let refusing = with("", "main_ip_replace: refused", Dialect::default()).await;
    let row = refusing.main_row("17").await;
    let outcome = refusing.panel.replace_main_address(&server, &row.row, &to).await;
    assert!(matches!(outcome, Outcome::Refused(PanelError::Refused { .. })), "{outcome:?}");

    let params = [("elid", "{row}"), ("plid", "{server}"), ("sok", "ok"), ("ip", "{address}"), ("domain", "x-{family}-{current}")];
    let params = params.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let dialect = Dialect::new([("replaceMainAddress", "iplist.edit", &params)]).unwrap();
    let world = with("", "", dialect).await;
    let row = world.main_row("17").await;
    applied(world.panel.replace_main_address(&server, &row.row, &to).await);
    assert_eq!(world.main_row("17").await.domain, "x-ipv4-10.0.0.17");
}

#[tokio::test]
async fn power_is_switched_and_shows_later() {
    let world = world().await;
    let server = ServerId::from("17");
    applied(world.panel.power(&server, Power::On).await);
    world.until("17", |r| r.power.on).await;
    applied(world.panel.power(&server, Power::Off).await);
    world.until("17", |r| r.power.off && !r.power.on).await;
    let dead = world.panel.power(&"19".into(), Power::Off).await;
    assert!(matches!(&dead, Outcome::Refused(e) if e.class() == ErrorClass::Refused), "{dead:?}");
    applied(world.panel.enable(&"20".into()).await);
    world.until("20", |r| !r.flags.disabled).await;
}

fn installation(template: &str, recipe: Option<&str>) -> InstallRequest {
    InstallRequest {
        template: template.into(),
        recipe: recipe.map(Into::into),
        hostname: "web-01.example.net".into(),
        address: Some(ip("10.0.0.17")),
        password: SecretString::from("rootpw9"),
    }
}

#[tokio::test]
async fn an_installation_runs_and_ends() {
    let world = world().await;
    let server = ServerId::from("17");
    let form = world.panel.install_form(&server).await.unwrap();
    assert!(form.current.is_none() && form.shows_current);
    assert_eq!(form.templates.unwrap(), ["ISPsystem__Debian-12-x86_64", "ISPsystem__Endless-1"]);
    assert_eq!(form.recipes.unwrap(), ["ISPsystem__nginx.sh"]);
    applied(world.panel.install(&server, &installation("ISPsystem__Debian-12-x86_64", Some("ISPsystem__nginx.sh"))).await);
    world.until("17", |r| r.install.is_some()).await;
    assert!(world.panel.operation_text(&server).await.unwrap().is_some());
    let busy = world.panel.install(&server, &installation("ISPsystem__Debian-12-x86_64", None)).await;
    assert!(matches!(busy, Outcome::Refused(PanelError::Refused { .. })), "{busy:?}");
    let done = world.until("17", |r| r.install.is_none()).await;
    assert!(!done.flags.operation_failed);
    assert_eq!(world.panel.install_form(&server).await.unwrap().current.as_deref(), Some("ISPsystem__Debian-12-x86_64"));
    let unknown = world.panel.install(&server, &installation("ISPsystem__No-such", None)).await;
    assert!(matches!(unknown, Outcome::Refused(PanelError::Refused { .. })), "{unknown:?}");
    let journal = serde_json::to_string(&world.sim.journal(0)).unwrap();
    assert!(!journal.contains("\"clearhdd\":\"on\""), "{journal}");
}

#[tokio::test]
async fn an_operation_is_cancelled() {
    let world = world().await;
    let server = ServerId::from("17");
    applied(world.panel.install(&server, &installation("ISPsystem__Endless-1", None)).await);
    world.until("17", |r| r.install.is_some()).await;
    applied(world.panel.cancel_operation(&server).await);
    world.until("17", |r| r.install.is_none()).await;
}

#[tokio::test]
async fn connections_are_shown() {
    let world = world().await;
    let connections = world.panel.connections(&"17".into()).await.unwrap();
    let kinds: Vec<&str> = connections.iter().map(|c| c.kind.as_str()).collect();
    assert_eq!(kinds, ["Switch", "IPMI"]);
    assert!(connections.iter().all(|c| !c.busy));
}

#[tokio::test]
async fn a_fault_before_the_change_is_known_and_one_after_it_is_not() {
    let server = ServerId::from("17");
    // (fault, whether the outcome is known, whether the panel changed)
    for (action, ambiguous, changed) in [
        (json!({"action": "error", "type": "value", "object": "owner"}), false, false),
        // The panel could not reach one of its parts: how far that part came is not known.
        (json!({"action": "error", "type": "client", "object": "open"}), true, false),
        (json!({"action": "status", "status": 502}), true, false),
        (json!({"action": "html"}), true, false),
        (json!({"action": "drop-before"}), true, false),
        (json!({"action": "drop-answer"}), true, true),
        (json!({"action": "garbage"}), true, true),
        (json!({"action": "truncate", "bytes": 5}), true, true),
        (json!({"action": "oversize", "bytes": 17_000_000}), true, true),
        (json!({"action": "delay-after", "delay": "4s"}), true, true),
        (json!({"action": "drip", "bytes": 1, "delay": "500ms"}), true, true),
    ] {
        let world = world().await;
        let mut fault = action.clone();
        fault["func"] = json!("server.edit");
        fault["changes"] = json!(true);
        world.fault(fault);
        let outcome = world.panel.edit_server(&server, &claim()).await;
        match &outcome {
            Outcome::Ambiguous(error) => {
                let class = if action["type"] == "client" { ErrorClass::Refused } else { ErrorClass::Down };
                assert!(ambiguous && error.class() == class, "{action}: {outcome:?}");
            }
            Outcome::Refused(_) => assert!(!ambiguous, "{action}: {outcome:?}"),
            Outcome::Applied(()) => panic!("{action}"),
        }
        let form = world.panel.server_form(&server).await.unwrap();
        assert_eq!(form.notes.contains(MARKER), changed, "{action}");
    }
}

#[tokio::test]
async fn a_fault_while_the_form_is_read_sends_nothing() {
    for action in ["html", "drop-before", "drop-answer", "garbage"] {
        let world = world().await;
        world.fault(json!({"action": action, "func": "server.edit", "changes": false}));
        let outcome = world.panel.edit_server(&"17".into(), &claim()).await;
        assert!(matches!(&outcome, Outcome::Refused(e) if e.class() == ErrorClass::Down), "{action}: {outcome:?}");
        assert!(world.sim.journal(0).is_empty(), "{action}");
    }
}

#[tokio::test]
async fn a_success_that_changed_nothing_shows_on_the_next_read() {
    let world = world().await;
    world.fault(json!({"action": "ignore", "func": "server.edit", "changes": true}));
    applied(world.panel.edit_server(&"17".into(), &claim()).await);
    assert_eq!(world.panel.server_form(&"17".into()).await.unwrap().owner, None);
}

#[tokio::test]
async fn lost_sessions_are_not_noticed_by_those_who_call() {
    let world = world().await;
    world.fault(json!({"action": "expire-sessions", "count": 0}));
    for _ in 0..2 {
        world.panel.servers().await.unwrap_err();
    }
    world.sim.remove_faults(None);
    world.fault(json!({"action": "expire-sessions", "func": "server.edit", "changes": true}));
    applied(world.panel.edit_server(&"17".into(), &claim()).await);
}

#[tokio::test]
async fn a_panel_that_is_down_is_unreachable_or_silent_never_fine() {
    let world = world().await;
    world.fault(json!({"action": "down", "count": 0}));
    let outcome = world.panel.enable(&"20".into()).await;
    assert!(!matches!(outcome, Outcome::Applied(())), "{outcome:?}");
    assert_eq!(world.panel.servers().await.unwrap_err().class(), ErrorClass::Down);
}
