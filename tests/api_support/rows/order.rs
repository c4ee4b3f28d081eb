//! Rows for orders: unions, names, and what is fixed from when on.

use dci_operator::api::messages as msg;
use serde_json::{Value, json};

use super::super::support::{Kind, examples};
use super::Row;

fn create(name: &str, patch: &Value) -> Row {
    Row::create(Kind::Order, name, patch)
}

pub fn rows() -> Vec<Row> {
    let mut rows = unions();
    rows.extend(names());
    rows.extend(fixed());
    rows.extend(adopt());
    rows
}

fn unions() -> Vec<Row> {
    let selector = json!({"namespace": "hosting", "matchLabels": {"zone": "msk"}});
    let custom = |custom: &Value| json!({"spec": {"configuration": {"serverType": null, "custom": custom}}});
    let only = |part: &str| {
        let mut row = create(&format!("custom with {part} only"), &custom(&json!({})));
        row.new["spec"]["configuration"]["custom"] = json!({part: examples::custom()[part]});
        row.accepted(&[msg::CUSTOM_PART, msg::ONE_CONFIGURATION])
    };
    let bare = |name: &str, value: Value| {
        let mut row = create(name, &json!({"spec": {"configuration": {"serverType": null}}}));
        row.new["spec"]["configuration"]["custom"] = value;
        row
    };
    vec![
        Row::object(Kind::Order, "the example", examples::order()).accepted(&[
            msg::ONE_HANDLER,
            msg::ONE_CONFIGURATION,
            msg::ORDER_NAME,
            msg::DOMAIN_FREE,
            msg::USERNAME_TAKEN,
        ]),
        Row::object(Kind::Order, "the smallest", examples::minimal_order()).accepted(&[msg::ONE_HANDLER, msg::ONE_CONFIGURATION]),
        create("a selector", &json!({"spec": {"handlerRef": null, "handlerSelector": selector}})).accepted(&[msg::ONE_HANDLER]),
        create("no handler", &json!({"spec": {"handlerRef": null}})).refused(&[msg::ONE_HANDLER]),
        create("two handlers", &json!({"spec": {"handlerSelector": selector}})).refused(&[msg::ONE_HANDLER]),
        create("no configuration", &json!({"spec": {"configuration": {"serverType": null}}})).refused(&[msg::ONE_CONFIGURATION]),
        create("two configurations", &json!({"spec": {"configuration": {"custom": examples::custom()}}}))
            .refused(&[msg::ONE_CONFIGURATION]),
        create("a custom one", &custom(&examples::custom())).accepted(&[msg::ONE_CONFIGURATION, msg::CUSTOM_PART]),
        only("cpu"),
        only("memoryGiB"),
        only("disks"),
        only("pci"),
        bare("custom without parts", json!({})).refused(&[msg::CUSTOM_PART]),
        bare("custom with empty lists", json!({"disks": [], "pci": []})).refused(&[msg::CUSTOM_PART]),
    ]
}

fn names() -> Vec<Row> {
    let name = |length: usize| json!({"metadata": {"name": "n".repeat(length)}});
    vec![
        create("a name of 63", &name(63)).accepted(&[msg::ORDER_NAME]),
        create("a name of 64", &name(64)).refused(&[msg::ORDER_NAME]),
        create("the domain of free servers", &json!({"spec": {"domain": "free.ds"}})).refused(&[msg::DOMAIN_FREE]),
        create("a domain below it", &json!({"spec": {"domain": "web.free.ds"}})).accepted(&[msg::DOMAIN_FREE]),
        create("the client nobody", &json!({"spec": {"client": {"username": "no_owner"}}})).refused(&[msg::USERNAME_TAKEN]),
        create("the client Null", &json!({"spec": {"client": {"username": "Null"}}})).refused(&[msg::USERNAME_TAKEN]),
        create("a client like nobody", &json!({"spec": {"client": {"username": "no_owner2"}}})).accepted(&[msg::USERNAME_TAKEN]),
    ]
}

/// Changes of what is fixed once allocated: name, patch of the object before, patch that changes it, the rules that refuse it.
fn changes() -> Vec<(&'static str, Value, Value, Vec<&'static str>)> {
    let spec = |value: Value| json!({"spec": value});
    let select = || spec(json!({"handlerRef": null, "handlerSelector": {"matchLabels": {"zone": "msk"}}}));
    let custom = || spec(json!({"configuration": {"serverType": null, "custom": examples::custom()}}));
    let none = || json!({});
    let (configuration, client) = (vec![msg::CONFIGURATION_FIXED], vec![msg::CLIENT_FIXED]);
    let (reference, selector) = (vec![msg::HANDLER_REF_FIXED], vec![msg::HANDLER_SELECTOR_FIXED]);
    let both = vec![msg::HANDLER_REF_FIXED, msg::HANDLER_SELECTOR_FIXED];
    vec![
        ("change serverType", none(), spec(json!({"configuration": {"serverType": "E5"}})), configuration.clone()),
        ("serverType to custom", none(), custom(), configuration.clone()),
        ("custom to serverType", custom(), spec(json!({"configuration": {"custom": null, "serverType": "E5"}})), configuration.clone()),
        ("change a part", custom(), spec(json!({"configuration": {"custom": {"memoryGiB": 128}}})), configuration.clone()),
        ("remove a part", custom(), spec(json!({"configuration": {"custom": {"cpu": null}}})), configuration.clone()),
        (
            "add a part",
            spec(json!({"configuration": {"serverType": null, "custom": {"memoryGiB": 64}}})),
            spec(json!({"configuration": {"custom": {"pci": ["X520"]}}})),
            configuration,
        ),
        ("change username", none(), spec(json!({"client": {"username": "other"}})), client.clone()),
        ("change email", none(), spec(json!({"client": {"email": "new@acme.example"}})), client.clone()),
        ("remove email", none(), spec(json!({"client": {"email": null}})), client.clone()),
        ("add email", spec(json!({"client": {"email": null}})), spec(json!({"client": {"email": "new@acme.example"}})), client),
        ("change handlerRef", none(), spec(json!({"handlerRef": {"name": "msk-2"}})), reference.clone()),
        ("remove its namespace", none(), spec(json!({"handlerRef": {"namespace": null}})), reference.clone()),
        (
            "add its namespace",
            spec(json!({"handlerRef": {"namespace": null}})),
            spec(json!({"handlerRef": {"namespace": "hosting"}})),
            reference,
        ),
        ("handlerRef to selector", none(), select(), both.clone()),
        ("selector to handlerRef", select(), spec(json!({"handlerSelector": null, "handlerRef": {"name": "msk-1"}})), both),
        ("change a label", select(), spec(json!({"handlerSelector": {"matchLabels": {"zone": "spb"}}})), selector.clone()),
        ("add a label", select(), spec(json!({"handlerSelector": {"matchLabels": {"tier": "1"}}})), selector.clone()),
        ("remove a label", select(), spec(json!({"handlerSelector": {"matchLabels": {"zone": null}}})), selector.clone()),
        ("add the selector's namespace", select(), spec(json!({"handlerSelector": {"namespace": "hosting"}})), selector),
    ]
}

fn fixed() -> Vec<Row> {
    let server = json!({"status": {"server": {"id": "17", "handler": "hosting/msk-1", "configuration": "E3-16G"}}});
    let in_flight = json!({"status": {"inFlight": {
        "operationId": "1", "step": "Allocate", "call": "claim", "target": "server/17", "attempt": 1,
        "since": "2026-11-22T10:00:00Z", "outcome": "Sent"
    }}});
    let fresh = json!({"status": {"observedGeneration": -1}});
    let mut rows = Vec::new();
    for (name, before, change, rules) in changes() {
        for (state, status, allowed) in [
            ("before allocation", &json!({}), true),
            ("when new", &fresh, true),
            ("with a server", &server, false),
            ("in flight", &in_flight, false),
        ] {
            let mut before = before.clone();
            super::super::support::merge(&mut before, status);
            let row = Row::update(Kind::Order, &format!("{name}, {state}"), &before, &change);
            rows.push(if allowed { row.accepted(&rules) } else { row.refused(&rules) });
        }
    }
    for (state, status) in [("with a server", &server), ("in flight", &in_flight)] {
        let change = json!({"spec": {"domain": "web-02.example.net", "recipes": [], "suspended": false, "reinstall": "again"}});
        let row = Row::update(Kind::Order, &format!("what may change, {state}"), status, &change);
        rows.push(row.accepted(&[
            msg::CONFIGURATION_FIXED,
            msg::CLIENT_FIXED,
            msg::HANDLER_REF_FIXED,
            msg::HANDLER_SELECTOR_FIXED,
            msg::ADOPT_FIXED,
        ]));
        // A write of status takes both from the object: the intent itself must pass.
        let row = Row::update(Kind::Order, &format!("the status alone, {state}"), &json!({}), status);
        rows.push(row.accepted(&[msg::CONFIGURATION_FIXED, msg::CLIENT_FIXED, msg::HANDLER_REF_FIXED]));
        let row = Row::update(Kind::Order, &format!("the status goes, {state}"), status, &json!({"status": null}));
        rows.push(row.accepted(&[msg::CONFIGURATION_FIXED]));
    }
    rows
}

fn adopt() -> Vec<Row> {
    let adopting = json!({"spec": {"adopt": {"serverId": "17"}}});
    let update = |name: &str, before: &Value, change: &Value| Row::update(Kind::Order, name, before, change);
    vec![
        Row::create(Kind::Order, "adopt beside a handler", &adopting).accepted(&[msg::ADOPT_HANDLER]),
        Row::create(
            Kind::Order,
            "adopt beside a selector",
            &json!({"spec": {"adopt": {"serverId": "17"}, "handlerRef": null, "handlerSelector": {"matchLabels": {"zone": "msk"}}}}),
        )
        .refused(&[msg::ADOPT_HANDLER]),
        update("adopt stays", &adopting, &json!({"spec": {"suspended": false}})).accepted(&[msg::ADOPT_FIXED]),
        update("adopt is added", &json!({}), &adopting).refused(&[msg::ADOPT_FIXED]),
        update("adopt is changed", &adopting, &json!({"spec": {"adopt": {"serverId": "18"}}})).refused(&[msg::ADOPT_FIXED]),
        update("adopt is removed", &adopting, &json!({"spec": {"adopt": null}})).refused(&[msg::ADOPT_FIXED]),
    ]
}
