//! The client of a licence server against recorded documents, a small HTTP server, and the simulated panel.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Reply, Server, doc, logged_in, ok, refused};
use dci_operator::panel::billmanager6::{BillManager6, calls};
use dci_operator::panel::coremanager::Client;
use dci_operator::panel::error::{ErrorClass, Outcome, PanelError};
use dci_operator::panel::license::{LicenseEdit, LicenseId, LicenseOrder, LicensePanel, LicenseState};
use dci_operator::panel::settings::ConnectionSettings;
use dci_operator::sim::{Config, Simulator};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

const YAML: &str = r"
billmanager6:
  - name: bill
    users:
      - {name: reseller, password: secret}
      - {name: other, password: secret}
    protocol: {PROTOCOL}
    behaviour: {BEHAVIOUR}
    pricelists: [{id: 55227, name: Lite}]
    licenses: [{owner: other, pricelist: 55227, ip: 198.51.100.7, remote_id: theirs}]
";

struct World {
    sim: Simulator,
    panel: BillManager6,
}

async fn with(protocol: &str, behaviour: &str) -> World {
    let yaml = YAML.replace("PROTOCOL", protocol).replace("BEHAVIOUR", behaviour);
    let sim = Simulator::start(Config::from_yaml(&yaml).unwrap(), SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let mut settings = ConnectionSettings::new(sim.url("bill").unwrap(), "reseller", SecretString::from("secret"));
    settings.timeout = Duration::from_secs(2);
    settings.requests_per_second = 0;
    let panel = BillManager6::new(Arc::new(Client::new(&settings).unwrap()), calls::dialect([]).unwrap());
    World { sim, panel }
}

fn an_order() -> LicenseOrder {
    LicenseOrder {
        pricelist: "55227".into(),
        addons: BTreeMap::from([("7".to_owned(), "2".to_owned())]),
        project: None,
        period: 1,
        address: "203.0.113.10".parse().unwrap(),
        name: "web-01.example.net".into(),
        remote_id: "k8s:uid-1/Lite".into(),
    }
}

fn applied<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Applied(value) => value,
        other => panic!("{other:?}"),
    }
}

/// The licence that the answer names.
fn bought(outcome: Outcome<Option<LicenseId>>) -> LicenseId {
    applied(outcome).unwrap()
}

#[tokio::test]
async fn an_ordinary_account_is_enough() {
    let probe = with("", "").await.panel.probe().await.unwrap();
    assert!(probe.login == "reseller" && !probe.administrator);
}

#[tokio::test]
async fn a_licence_lives_from_order_to_release() {
    for protocol in ["", "single_elem: object", "page_size: 1"] {
        let World { sim, panel } = with(protocol, "key_delay: 1h").await;
        assert!(panel.licenses().await.unwrap().is_empty(), "another account's licence does not show");
        let id = bought(panel.order(&an_order()).await);
        let form = panel.license(&id).await.unwrap();
        assert!(form.key.is_none() && form.remote_id.as_deref() == Some("k8s:uid-1/Lite") && form.address == Some(an_order().address));
        sim.change_license(id.0.parse().unwrap(), json!({"issue_key": true, "expires": "2031-01-30"})).unwrap();
        assert!(panel.license(&id).await.unwrap().key.unwrap().expose_secret().starts_with("LIC-"));
        let row = panel.licenses().await.unwrap().pop().unwrap();
        assert_eq!((row.remote_id.as_deref(), row.state), (Some("k8s:uid-1/Lite"), LicenseState::Active));
        let end = "2031-03-31T00:00:00Z".parse().ok();
        assert_eq!(applied(panel.renew(&id, 2).await), end, "the answer names it");
        assert_eq!(panel.license(&id).await.unwrap().expires, Ok(end), "sixty days");
        let moved = LicenseEdit {
            expect: "k8s:uid-1/Lite".into(),
            address: "203.0.113.11".parse().unwrap(),
            name: "web-01".into(),
            remote_id: "k8s:uid-1/Lite".into(),
        };
        applied(panel.edit(&id, &moved).await);
        assert_eq!(panel.license(&id).await.unwrap().address, Some(moved.address));
        let theirs = LicenseEdit { expect: "k8s:uid-2/Lite".into(), ..moved };
        assert!(matches!(panel.edit(&id, &theirs).await, Outcome::Refused(_)), "somebody else's licence is not changed");
        applied(panel.suspend(&id).await);
        assert_eq!(panel.licenses().await.unwrap()[0].state, LicenseState::Suspended);
        applied(panel.resume(&id).await);
        assert_eq!(panel.licenses().await.unwrap()[0].state, LicenseState::Active);
        sim.change_license(id.0.parse().unwrap(), json!({"delete": true})).unwrap();
        assert_eq!(panel.license(&id).await.unwrap_err().class(), ErrorClass::Missing);
    }
}

#[tokio::test]
async fn an_order_whose_answer_is_lost_is_found_by_its_remote_id() {
    let World { sim, panel } = with("", "").await;
    sim.add_fault(json!({"action": "drop-answer", "func": "soft.order.param", "changes": true})).unwrap();
    assert!(matches!(panel.order(&an_order()).await, Outcome::Ambiguous(PanelError::NoAnswer { .. })));
    let found = panel.licenses().await.unwrap();
    assert_eq!(found.iter().filter(|row| row.remote_id.as_deref() == Some("k8s:uid-1/Lite")).count(), 1);
    let wrong = LicenseOrder { pricelist: "1".into(), ..an_order() };
    assert!(matches!(panel.order(&wrong).await, Outcome::Refused(PanelError::Refused { .. })));
}

fn against(answer: impl Fn(&crate::support::Request) -> Reply + Send + Sync + 'static) -> (Server, BillManager6) {
    let server = Server::panel(answer);
    let panel = BillManager6::new(server.client(), calls::dialect([]).unwrap());
    (server, panel)
}

/// What a vendor-published client sends, field by field (ispsystem-api.md 5.6).
#[tokio::test]
async fn the_calls_are_those_of_the_published_client() {
    let (server, panel) = against(|request| match request.func() {
        "soft.order.param" => doc(r#""id":{"$":"7001"},"ok":{}"#),
        "soft.edit" if request.get("sok").is_empty() => doc(r#""elid":{"$":"7001"},"remoteid":{"$":"r"},"lickey":{"$":"K"}"#),
        "service.prolong" => doc(r#""doc":{"newexpiredate":{"$":"2031-01-01"}}"#),
        _ => ok(),
    });
    let id = bought(panel.order(&LicenseOrder { project: Some("4".into()), ..an_order() }).await);
    assert_eq!(id, LicenseId::from("7001"));
    let sent = server.last("soft.order.param").form;
    let of = |names: &[&str]| names.iter().map(|n| sent.get(*n).cloned().unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!(of(&["pricelist", "period", "ip", "licname", "project"]), ["55227", "1", "203.0.113.10", "web-01.example.net", "4"]);
    assert_eq!(of(&["remoteid", "sok", "skipbasket", "clicked_button", "addon_7"]), ["k8s:uid-1/Lite", "ok", "on", "finish", "2"]);
    assert_eq!(applied(panel.renew(&id, 3).await), "2031-01-01T00:00:00Z".parse().ok());
    let renewed = server.last("service.prolong");
    assert_eq!((renewed.get("elid"), renewed.get("period"), renewed.get("sok")), ("7001", "3", "ok"));
    let edit = LicenseEdit { expect: "r".into(), address: "0.0.0.0".parse().unwrap(), name: "free.lic".into(), remote_id: String::new() };
    applied(panel.edit(&id, &edit).await);
    let freed = server.last("soft.edit");
    assert_eq!((freed.get("ip"), freed.get("licname"), freed.get("remoteid")), ("0.0.0.0", "free.lic", ""));
    assert!(freed.form.contains_key("remoteid") && !freed.form.contains_key("lickey"), "{:?}", freed.form);
    applied(panel.suspend(&id).await);
    assert_eq!(server.last("soft.suspend").get("elid"), "7001");
}

/// It was bought: a fate that is not known would have it bought again.
#[tokio::test]
async fn an_order_without_an_id_in_its_answer_is_made_all_the_same() {
    let (_server, panel) = against(|_| ok());
    assert_eq!(applied(panel.order(&an_order()).await), None);
    let (_server, panel) = against(|_| Reply::Json(refused("limit", "balance")));
    assert!(matches!(panel.order(&an_order()).await, Outcome::Refused(_)));
    let (_server, panel) = against(|_| Reply::Drop);
    assert!(matches!(panel.order(&an_order()).await, Outcome::Ambiguous(_)));
}

#[tokio::test]
async fn a_list_without_remote_ids_says_so() {
    let World { panel, sim: _sim } = with("", "list_remote_id: false").await;
    let id = bought(panel.order(&an_order()).await);
    assert_eq!(panel.licenses().await.unwrap()[0].remote_id, None, "which is not the same as an empty one");
    assert_eq!(panel.license(&id).await.unwrap().remote_id.as_deref(), Some("k8s:uid-1/Lite"));
}

/// What the answers name is all that shows for a while.
#[tokio::test]
async fn an_answer_names_what_does_not_show_yet() {
    let World { panel, sim } = with("", "show_delay: 1h").await;
    let id = bought(panel.order(&an_order()).await);
    assert!(panel.licenses().await.unwrap().is_empty());
    assert_eq!(panel.license(&id).await.unwrap_err().class(), ErrorClass::Missing);
    sim.change_license(id.0.parse().unwrap(), json!({"expires": "2031-01-30"})).unwrap();
    let (before, end) = ("2031-01-30T00:00:00Z".parse().ok(), "2031-03-01T00:00:00Z".parse().ok());
    assert_eq!(applied(panel.renew(&id, 1).await), end);
    assert_eq!(panel.license(&id).await.unwrap().expires, Ok(before));
    assert_eq!(panel.licenses().await.unwrap()[0].expires, before);
}

/// Only key and date are confirmed in the form: without a remote id it is nobody's as little as ours.
#[tokio::test]
async fn a_form_without_a_remote_id_says_so() {
    let World { panel, sim } = with("", "list_remote_id: false, form_remote_id: false").await;
    let id = bought(panel.order(&an_order()).await);
    assert_eq!(panel.licenses().await.unwrap()[0].remote_id, None);
    let form = panel.license(&id).await.unwrap();
    assert_eq!((form.remote_id, form.address), (None, Some(an_order().address)));
    for expect in ["k8s:uid-1/Lite", ""] {
        let edit =
            LicenseEdit { expect: expect.into(), address: "0.0.0.0".parse().unwrap(), name: "free.lic".into(), remote_id: String::new() };
        let Outcome::Refused(error) = panel.edit(&id, &edit).await else { panic!("not known whose it is: {expect:?}") };
        assert!(error.to_string().contains("(it shows none)"), "{error}");
    }
    assert_eq!(sim.state()["panels"]["bill"]["licenses"][1]["name"], "web-01.example.net", "nothing was sent");
}

/// Where the form shows no remote id the list may.
#[tokio::test]
async fn what_the_list_alone_tells_of_may_be_edited_by_whom_it_names() {
    let World { panel, sim } = with("", "form_remote_id: false").await;
    let id = bought(panel.order(&an_order()).await);
    let edit = |expect: &str| LicenseEdit {
        expect: expect.into(),
        address: "0.0.0.0".parse().unwrap(),
        name: "free.lic".into(),
        remote_id: String::new(),
    };
    assert!(matches!(panel.edit(&id, &edit("k8s:uid-2/Lite")).await, Outcome::Refused(_)));
    assert_eq!(sim.state()["panels"]["bill"]["licenses"][1]["name"], "web-01.example.net", "nothing was sent");
    applied(panel.edit(&id, &edit(&an_order().remote_id)).await);
    assert_eq!(sim.state()["panels"]["bill"]["licenses"][1]["name"], "free.lic");
}

#[tokio::test]
async fn a_dialect_replaces_a_call() {
    let server = Server::raw(|request| match request.func() {
        "auth" => logged_in("16"),
        _ => doc(r#""elem":[{"id":{"$":"1"},"remoteid":{"$":"x"}}]"#),
    });
    let params = BTreeMap::from([("itemtype".to_owned(), "soft".to_owned())]);
    let dialect = calls::dialect([(calls::LIST, "service", &params)]).unwrap();
    let panel = BillManager6::new(server.client(), dialect);
    assert_eq!(panel.licenses().await.unwrap().len(), 1);
    assert_eq!(server.last("service").get("itemtype"), "soft");
}
