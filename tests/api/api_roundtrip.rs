//! Manifests in, manifests out: examples, defaults, null, what is unknown, and statuses of other versions.

use crate::statuses::{handler_status, manager_status, order_status, task_status};
use crate::support::{KINDS, Kind, example, examples, patched, refusals, schema, schema_of, twin};
use dci_operator::api::common::Duration;
use dci_operator::api::handler::{
    Adoption, AllocateBy, DeletionPolicy, HandlerStatus, IpmiErrorPolicy, Limits, NamespacesFrom, ProductType, Retry, Timeouts,
};
use dci_operator::api::ipmanager::IPManagerStatus;
use dci_operator::api::order::{OrderStatus, ReadyWhen};
use dci_operator::api::task::TaskStatus;
use dci_operator::api::{DedicatedServerOrder, IPManager, ManualTask, ProcessingHandler};
use jiff::Timestamp;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn parse<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn written(kind: Kind, value: Value) -> Value {
    fn again<T: DeserializeOwned + Serialize>(value: Value) -> Value {
        serde_json::to_value(parse::<T>(value)).unwrap()
    }
    match kind {
        Kind::Order => again::<DedicatedServerOrder>(value),
        Kind::Manager => again::<IPManager>(value),
        Kind::Task => again::<ManualTask>(value),
        Kind::Handler => again::<ProcessingHandler>(value),
    }
}

#[test]
fn full_examples_come_back_as_they_were() {
    for kind in KINDS {
        let example = example(kind);
        let mut server = example.clone();
        defaulted(&schema_of(kind)["properties"]["spec"], &mut server["spec"]);
        assert_eq!(written(kind, example.clone()), server, "{kind:?}");
        assert_eq!(schema::violations(schema_of(kind), &example), Vec::<String>::new(), "{kind:?}");
        assert_eq!(refusals(kind, None, &example), Ok(Vec::new()), "{kind:?}");
        assert_eq!(twin(kind, &example), Ok(Vec::new()), "{kind:?}");
    }
}

#[test]
fn an_order_has_the_defaults_that_are_promised() {
    let order: DedicatedServerOrder = parse(examples::minimal_order());
    let spec = &order.spec;
    assert_eq!((spec.addresses.ipv4, spec.addresses.ipv6), (1, 0));
    assert_eq!(spec.ready_when, ReadyWhen::RecipesFinished);
    assert_eq!(spec.deletion_policy, DeletionPolicy::Release);
    assert!(!spec.suspended && !spec.deletion_protection && spec.reinstall.is_empty());
    assert!(spec.recipes.is_empty() && spec.licenses.is_empty() && spec.adopt.is_none());
    assert!(spec.handler_ref.as_ref().unwrap().namespace.is_none());
    let mut custom = examples::minimal_order();
    custom["spec"]["configuration"] = json!({"custom": {"cpu": {"model": "E"}, "disks": [{"type": "SSD", "sizeGB": 1}]}});
    custom["spec"]["licenses"] = json!([{"product": "ISPmanager6Lite"}]);
    custom["spec"]["addresses"] = json!({"ipv6": 2});
    let spec = parse::<DedicatedServerOrder>(custom).spec;
    let parts = spec.configuration.custom.unwrap();
    assert_eq!((parts.cpu.unwrap().count, parts.disks[0].count, spec.licenses[0].period), (1, 1, 1));
    assert_eq!((spec.addresses.ipv4, spec.addresses.ipv6), (1, 2));
}

#[test]
fn a_handler_has_the_defaults_that_are_promised() {
    let spec = parse::<ProcessingHandler>(examples::minimal_handler()).spec;
    assert_eq!(spec.product_type, ProductType::DedicatedServer);
    assert!(!spec.by_server_type && !spec.suspend && spec.priority == 0 && spec.dialect.is_empty());
    assert_eq!(spec.ipmi_error_policy, IpmiErrorPolicy::Ignore);
    assert_eq!(spec.connection.timeout, Duration::seconds(60));
    assert_eq!(spec.poll_interval, Duration::seconds(30));
    let limits = Limits { max_concurrent_operations: 20, max_concurrent_releases: 5, max_orders_per_namespace: 0, requests_per_second: 10 };
    assert_eq!(spec.limits, limits);
    assert_eq!(spec.retry, Retry { interval: Duration::seconds(300), max_attempts: 10 });
    let timeouts = Timeouts {
        power: Duration::seconds(600),
        install: Duration::seconds(7200),
        step: Duration::seconds(300),
        settle: Duration::seconds(120),
    };
    assert_eq!(spec.timeouts, timeouts);
    assert_eq!(spec.allowed_namespaces.from, NamespacesFrom::Same);
    assert_eq!(spec.allowed_deletion_policies, [DeletionPolicy::Release]);
    assert_eq!(spec.adoption, Adoption::Forbidden);
    assert_eq!(spec.departments.unwrap().operations.name, "Operations");
    let addresses = spec.ip_management.unwrap();
    assert_eq!((addresses.public_ip_type.as_str(), addresses.parking_ip_type, addresses.disable_ip_change), ("public", None, false));
    assert_eq!(addresses.allocate_by, AllocateBy::Operator);
}

#[test]
fn an_ipmanager_has_the_defaults_that_are_promised() {
    let spec = parse::<IPManager>(patched(&example(Kind::Manager), &json!({"spec": {"pollInterval": null}}))).spec;
    assert_eq!(spec.poll_interval, Duration::seconds(30));
}

/// Fills in what a schema has as defaults, as an API server does.
fn defaulted(schema: &Value, value: &mut Value) {
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let Some(map) = value.as_object_mut() else { return };
        if let Some(default) = child.get("default") {
            map.entry(name).or_insert_with(|| default.clone());
        }
        if let Some(value) = map.get_mut(name) {
            defaulted(child, value);
        }
    }
    value.as_array_mut().into_iter().flatten().for_each(|item| defaulted(&schema["items"], item));
    if schema["additionalProperties"].is_object() {
        value.as_object_mut().into_iter().flatten().for_each(|(_, item)| defaulted(&schema["additionalProperties"], item));
    }
}

#[test]
fn schema_and_types_have_the_same_defaults() {
    let mut sparse = examples::minimal_order();
    sparse["spec"]["configuration"] = json!({"custom": {"cpu": {"model": "E"}, "disks": [{"type": "SSD", "sizeGB": 1}]}});
    sparse["spec"]["licenses"] = json!([{"product": "ISPmanager6Lite"}]);
    sparse["spec"]["addresses"] = json!({});
    let mut handler = examples::minimal_handler();
    for part in ["limits", "retry", "timeouts", "allowedNamespaces"] {
        handler["spec"][part] = json!({});
    }
    handler["spec"]["departments"]["operations"] = json!({});
    handler["spec"]["connection"]["tls"] = json!({});
    let objects = [
        (Kind::Order, examples::minimal_order()),
        (Kind::Order, sparse),
        (Kind::Handler, examples::minimal_handler()),
        (Kind::Handler, handler),
        (Kind::Manager, patched(&example(Kind::Manager), &json!({"spec": {"pollInterval": null, "connection": {"timeout": null}}}))),
    ];
    for (kind, object) in objects {
        let mut server = object.clone();
        defaulted(&schema_of(kind)["properties"]["spec"], &mut server["spec"]);
        assert_eq!(written(kind, server), written(kind, object), "{kind:?}");
    }
}

/// Every path of an optional field that an object has, as JSON pointers.
fn optional(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, child) in value.as_object().into_iter().flatten() {
        let known = &schema["properties"][name];
        if known.is_null() {
            continue;
        }
        let path = format!("{path}/{name}");
        if !required.contains(&name.as_str()) {
            found.push(path.clone());
        }
        optional(known, child, &path, found);
        for (index, item) in child.as_array().into_iter().flatten().enumerate() {
            optional(&known["items"], item, &format!("{path}/{index}"), found);
        }
        for (key, item) in child.as_object().into_iter().flatten() {
            optional(&known["additionalProperties"], item, &format!("{path}/{key}"), found);
        }
    }
}

fn without(value: &Value, path: &str) -> Value {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let mut value = value.clone();
    value.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
    value
}

fn objects_for_null() -> Vec<(Kind, Value)> {
    let mut custom = examples::minimal_order();
    custom["spec"]["configuration"] = json!({"custom": examples::custom()});
    let mut tls = examples::handler();
    tls["spec"]["connection"]["tls"] = json!({"caBundleSecretRef": {"name": "ca", "key": "ca.crt"}, "insecureSkipVerify": false});
    let mut statuses = KINDS.map(|kind| (kind, example(kind)));
    statuses[0].1["status"] = order_status_example();
    statuses[1].1["status"] = json!({"observedGeneration": 1, "pools": [{"name": "public", "used": 1}], "conditions": []});
    statuses[2].1["status"] = json!({"observedGeneration": 1, "phase": "Open", "openedAt": "2026-11-22T10:00:00Z", "conditions": []});
    statuses[3].1["status"] = json!({
        "observedGeneration": 1, "panel": "dci.example.net:1500/dcimgr", "inventory": {"total": 2, "free": 1, "byConfiguration": []},
        "orders": {"total": 1, "ready": 1, "waitingForTask": 0}, "clients": [], "lastProbeTime": "2026-11-22T10:00:00Z"
    });
    [(Kind::Order, custom), (Kind::Handler, tls)].into_iter().chain(statuses).collect()
}

#[test]
fn null_is_the_same_as_absent() {
    let mut tried = 0;
    for (kind, object) in objects_for_null() {
        let mut paths = Vec::new();
        for part in ["spec", "status"] {
            optional(&schema_of(kind)["properties"][part], &object[part], &format!("/{part}"), &mut paths);
        }
        for path in paths {
            let mut null = object.clone();
            *null.pointer_mut(&path).unwrap() = Value::Null;
            assert_eq!(written(kind, null), written(kind, without(&object, &path)), "{kind:?}{path}");
            tried += 1;
        }
    }
    assert!(tried > 130, "only {tried} fields were tried");
}

#[test]
fn what_is_unknown_is_ignored() {
    fn sprinkle(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(sprinkle);
                map.insert("ofALaterVersion".into(), json!({"any": [1, "two", null]}));
            }
            Value::Array(items) => items.iter_mut().for_each(sprinkle),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for (kind, mut object) in objects_for_null() {
        // Maps of the user's own are not sprinkled: there each key means something.
        for own in ["dialect", "allowedNamespaces", "handlerSelector"] {
            object["spec"].as_object_mut().unwrap().remove(own);
        }
        let mut later = object.clone();
        sprinkle(&mut later["spec"]);
        if later["status"].is_object() {
            sprinkle(&mut later["status"]);
        }
        assert_eq!(written(kind, later), written(kind, object), "{kind:?}");
    }
}

fn order_status_example() -> Value {
    let at = "2026-11-22T10:00:00Z";
    json!({
        "observedGeneration": 3, "phase": "Preparing",
        "conditions": [{
            "type": "Ready", "status": "False", "reason": "Preparing", "message": "installs", "lastTransitionTime": at,
            "observedGeneration": 3
        }],
        "progress": {"percent": 60, "step": "InstallOS", "message": "installs"},
        "steps": [{"name": "Allocate", "state": "Done", "startedAt": at, "finishedAt": at, "attempts": 1, "message": "server 17"}],
        "server": {
            "id": "17", "name": "R1-U10", "handler": "hosting/msk-1", "panel": "dci.example.net:1500/dcimgr", "configuration": "E3-16G",
            "client": "acme", "mainAddress": "192.0.2.10", "domain": "web-01.example.net", "addresses": ["192.0.2.10"], "parkedAddress": "10.0.0.17",
            "template": "ISPsystem__Debian-12-x86_64", "recipes": ["ISPsystem__nginx.sh"], "reinstall": "2",
            "passwordVersion": "u-1/5", "powerState": "On", "handedOverAt": at
        },
        "manualTasks": [{
            "name": "mt-1", "type": "Assembly", "department": "Assembly", "state": "Done", "openedAt": at, "closedAt": at, "message": "x"
        }],
        "licenses": [{"product": "ISPmanager6Lite", "id": "5", "expiresAt": at, "renewedAt": at}],
        "attempts": 2,
        "lastError": {"step": "InstallOS", "code": "Timeout", "message": "x", "retryable": true, "time": at},
        "nextRetryTime": at,
        "waitingOn": {"kind": "Panel", "name": "hosting/msk-1", "since": at, "deadline": at, "message": "x"},
        "lastHandledReconcileAt": "1", "lastHandledReinstall": "2",
        "inFlight": {
            "operationId": "1", "step": "InstallOS", "call": "server.operations", "target": "server/17", "attempt": 1, "since": at,
            "outcome": "Sent", "looks": 1
        }
    })
}

#[test]
fn the_status_has_the_fields_that_are_promised() {
    let mut order = examples::minimal_order();
    order["status"] = order_status_example();
    assert_eq!(written(Kind::Order, order.clone())["status"], order["status"]);
    assert_eq!(schema::violations(schema_of(Kind::Order), &order), Vec::<String>::new());
}

#[test]
fn words_of_another_version_in_a_status_are_kept() {
    fn strange(value: &mut Value) {
        match value {
            Value::String(text) if text.parse::<Timestamp>().is_err() => *text = "НечтоНовое/2".into(),
            Value::Object(map) => map.values_mut().for_each(strange),
            Value::Array(items) => items.iter_mut().for_each(strange),
            _ => {}
        }
    }
    for (kind, mut object) in objects_for_null() {
        if object["status"].is_object() {
            strange(&mut object["status"]);
            assert_eq!(written(kind, object.clone())["status"]["observedGeneration"], object["status"]["observedGeneration"], "{kind:?}");
            assert_eq!(schema::violations(schema_of(kind), &object), Vec::<String>::new(), "{kind:?}");
        }
    }
}

#[test]
fn an_empty_status_is_written_as_nothing() {
    assert_eq!(serde_json::to_value(OrderStatus::default()).unwrap(), json!({}));
    assert_eq!(serde_json::to_value(HandlerStatus::default()).unwrap(), json!({}));
    assert_eq!(serde_json::to_value(IPManagerStatus::default()).unwrap(), json!({}));
    assert_eq!(serde_json::to_value(TaskStatus::default()).unwrap(), json!({}));
}

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(kind: Kind, status: &T) -> Result<(), TestCaseError> {
    let text = serde_json::to_string(status).unwrap();
    prop_assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), status);
    let found = schema::violations(&schema_of(kind)["properties"]["status"], &serde_json::from_str(&text).unwrap());
    prop_assert_eq!(found, Vec::<String>::new());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_status_of_an_order_comes_back(order in order_status()) {
        comes_back(Kind::Order, &order)?;
    }

    #[test]
    fn any_other_status_comes_back(handler in handler_status(), manager in manager_status(), task in task_status()) {
        comes_back(Kind::Handler, &handler)?;
        comes_back(Kind::Manager, &manager)?;
        comes_back(Kind::Task, &task)?;
    }
}
