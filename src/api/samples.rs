//! Objects for unit tests: a plain one of a kind, and what a test wants otherwise.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{DedicatedServerOrder, IPManager, ManualTask, ProcessingHandler};

/// A plain order, `shop/web`, changed by a JSON merge patch.
pub(crate) fn order(change: &Value) -> DedicatedServerOrder {
    let order = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrder",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "generation": 1},
        "spec": {
            "handlerRef": {"name": "msk-1"}, "client": {"username": "acme"}, "configuration": {"serverType": "E3"},
            "domain": "a.example", "operatingSystem": {"template": "T"},
        },
    });
    changed(order, change)
}

/// A plain handler, `h/msk-1`, changed by a JSON merge patch.
pub(crate) fn handler(change: &Value) -> ProcessingHandler {
    let handler = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ProcessingHandler", "metadata": {"name": "msk-1", "namespace": "h"},
        "spec": {
            "module": "DCImanager5", "connection": {"url": "https://dci.example.net/dcimgr", "credentialsSecretRef": {"name": "dci"}},
            "ipManagement": {"ipManagerRef": {"name": "main"}},
        },
    });
    changed(handler, change)
}

/// A plain IPManager, `h/main`, changed by a JSON merge patch.
pub(crate) fn ip_manager(change: &Value) -> IPManager {
    let manager = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "IPManager", "metadata": {"name": "main", "namespace": "h"},
        "spec": {
            "flavor": "IPmanager5", "connection": {"url": "https://ipm.example.net/ipmgr", "credentialsSecretRef": {"name": "ipm"}},
        },
    });
    changed(manager, change)
}

/// A plain task of `shop/web`, `h/stopserver-u-1-1`, changed by a JSON merge patch.
pub(crate) fn task(change: &Value) -> ManualTask {
    let task = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ManualTask",
        "metadata": {"name": "stopserver-u-1-1", "namespace": "h", "resourceVersion": "7"},
        "spec": {
            "type": "StopServer", "department": "Operations", "orderRef": {"namespace": "shop", "name": "web", "uid": "u-1"},
            "summary": "Stop server 17",
        },
    });
    changed(task, change)
}

fn changed<K: DeserializeOwned>(mut object: Value, change: &Value) -> K {
    merge(&mut object, change);
    serde_json::from_value(object).unwrap()
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let fields = into.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.as_str()).or_insert(Value::Null), value);
        }
    }
}
