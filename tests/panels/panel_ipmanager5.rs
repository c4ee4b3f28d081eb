//! The client of IPmanager 5 against the simulated panel.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dci_operator::panel::AddressPanel;
use dci_operator::panel::coremanager::Client;
use dci_operator::panel::coremanager::params::Params;
use dci_operator::panel::error::{ErrorClass, Outcome, PanelError};
use dci_operator::panel::ipmanager5::IpManager5;
use dci_operator::panel::model::{Family, PoolAddress, PoolRequest, Probe};
use dci_operator::panel::settings::ConnectionSettings;
use dci_operator::sim::{Config, Simulator};
use secrecy::SecretString;
use serde_json::json;

const YAML: &str = r#"
ipmanager5:
  - name: ipm
    users:
      - {name: ipadmin, password: secret, level: 30}
      - {name: dci, password: secret}
    protocol: {PROTOCOL}
    behaviour: {BEHAVIOUR}
    address_groups:
      - {name: public, ranges: [203.0.113.10-203.0.113.12, "2001:db8:5::/64"]}
    addresses:
      - {ip: 203.0.113.10, group: public, holder: dci, domain: old.example.net, note: "by hand"}
"#;

struct World {
    sim: Simulator,
    client: Arc<Client>,
    panel: IpManager5,
}

async fn with(protocol: &str, user: &str) -> World {
    behaving(protocol, "", user).await
}

async fn behaving(protocol: &str, behaviour: &str, user: &str) -> World {
    let yaml = YAML.replace("PROTOCOL", protocol).replace("BEHAVIOUR", behaviour);
    let sim = Simulator::start(Config::from_yaml(&yaml).unwrap(), SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let mut settings = ConnectionSettings::new(sim.url("ipm").unwrap(), user, SecretString::from("secret"));
    settings.timeout = Duration::from_secs(2);
    settings.requests_per_second = 0;
    let client = Arc::new(Client::new(&settings).unwrap());
    World { sim, panel: IpManager5::new(client.clone()), client }
}

fn request(family: Family) -> PoolRequest {
    PoolRequest { family, group: "public".into(), domain: "a.example".into(), note: "k8s:uid-1".into() }
}

fn applied<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Applied(value) => value,
        other => panic!("{other:?}"),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What the list shows of a public address.
fn record(address: IpAddr, domain: &str, note: &str) -> PoolAddress {
    PoolAddress { address, group: "public".into(), group_shown: None, domain: domain.into(), note: note.into() }
}

#[tokio::test]
async fn we_learn_who_we_are() {
    let probe = with("", "dci").await.panel.probe().await.unwrap();
    assert_eq!(probe, Probe { login: "dci".into(), user_id: None, administrator: false });
    assert!(with("", "ipadmin").await.panel.probe().await.unwrap().administrator);
}

#[tokio::test]
async fn an_address_is_taken_noted_and_given_back() {
    for protocol in ["", "single_elem: object", "page_size: 1"] {
        let world = with(protocol, "dci").await;
        let old = record(ip("203.0.113.10"), "old.example.net", "by hand");
        assert_eq!(world.panel.addresses().await.unwrap(), std::slice::from_ref(&old));
        for family in [Family::Ipv4, Family::Ipv6] {
            let taken = applied(world.panel.take(&request(family)).await);
            assert_eq!(Family::of(taken), family);
            let row = record(taken, "a.example", "k8s:uid-1");
            assert!(world.panel.addresses().await.unwrap().contains(&row));
            applied(world.panel.set_domain(taken, "b.example").await);
            let row = PoolAddress { domain: "b.example".into(), ..row };
            assert!(world.panel.addresses().await.unwrap().contains(&row), "the note stays");
            applied(world.panel.set_note(taken, "").await);
            let row = PoolAddress { note: String::new(), ..row };
            assert!(world.panel.addresses().await.unwrap().contains(&row), "only the note changes");
            applied(world.panel.give_back(taken).await);
            applied(world.panel.give_back(taken).await);
        }
        assert_eq!(world.panel.addresses().await.unwrap(), [old]);
    }
}

#[tokio::test]
async fn a_group_is_known_by_either_of_its_forms() {
    let world = behaving("", "group_numbers: true", "dci").await;
    applied(world.panel.take(&request(Family::Ipv4)).await);
    let rows = world.panel.addresses().await.unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!((row.group.as_str(), row.group_shown.as_deref()), ("1", Some("public")));
        assert!(row.is_of("1") && row.is_of("public") && !row.is_of("parking") && !row.is_of(""));
    }
}

#[tokio::test]
async fn an_empty_pool_refuses() {
    let world = with("", "dci").await;
    for _ in 0..2 {
        applied(world.panel.take(&request(Family::Ipv4)).await);
    }
    let outcome = world.panel.take(&request(Family::Ipv4)).await;
    assert!(matches!(outcome, Outcome::Refused(PanelError::Refused { .. })), "{outcome:?}");
    let outcome = world.panel.set_note(ip("203.0.113.99"), "x").await;
    assert!(matches!(&outcome, Outcome::Refused(e) if e.class() == ErrorClass::Missing), "{outcome:?}");
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_a_note_to_find_the_address_by() {
    let world = with("", "dci").await;
    world.sim.add_fault(json!({"action": "drop-answer", "func": "ip.edit", "changes": true})).unwrap();
    let outcome = world.panel.take(&request(Family::Ipv4)).await;
    assert!(matches!(outcome, Outcome::Ambiguous(PanelError::NoAnswer { .. })), "{outcome:?}");
    let found = world.panel.addresses().await.unwrap().into_iter().filter(|a| a.note == "k8s:uid-1").count();
    assert_eq!(found, 1);
}

/// A filter hides rows from its user without a word (ispsystem-api.md 1.3), and may be stored at any time.
#[tokio::test]
async fn a_filter_that_is_stored_after_the_probe_is_seen() {
    let world = with("", "dci").await;
    world.panel.probe().await.unwrap();
    world.panel.unfiltered().await.unwrap();
    applied(world.client.change("ip.filter", &Params::new().with("sok", "ok").with("domain", "x.example")).await);
    assert!(world.panel.addresses().await.unwrap().is_empty(), "the list does not say that it is filtered");
    let error = world.panel.unfiltered().await.unwrap_err();
    assert!(error.to_string().contains("a filter of our panel user by domain hides"), "{error}");
}
