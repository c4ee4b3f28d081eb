//! Manifests.

use serde_json::{Value, json};

/// A template that every simulated panel has.
pub const DEBIAN: &str = "ISPsystem__Debian-12-x86_64";
/// The panel user's password.
pub const PANEL_PASSWORD: &str = "panel-pass-7Hq2";
/// The address manager's.
pub const POOL_PASSWORD: &str = "pool-pass-9Xw4";

/// One value with another one's members put over it; null takes a member away.
pub fn merged(mut base: Value, patch: &Value) -> Value {
    merge(&mut base, patch);
    base
}

fn merge(base: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *base = patch.clone();
        return;
    };
    if !base.is_object() {
        *base = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            base.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut base[name], value);
        }
    }
}

/// An order with a ready configuration; the namespaces are filled in by the world.
pub fn order(name: &str, spec: &Value) -> Value {
    let base = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrder", "metadata": {"name": name},
        "spec": {
            "handlerRef": {"name": "msk-1"},
            "client": {"username": "acme"},
            "configuration": {"serverType": "E3-16G"},
            "domain": format!("{name}.example.net"),
            "operatingSystem": {"template": DEBIAN},
        },
    });
    merged(base, &json!({"spec": spec}))
}

/// The handler `msk-1`, quick in everything.
pub fn handler(url: &str, spec: &Value) -> Value {
    let base = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ProcessingHandler", "metadata": {"name": "msk-1"},
        "spec": {
            "module": "DCImanager5",
            "connection": {"url": url, "credentialsSecretRef": {"name": "dci-admin"}, "timeout": "5s"},
            "byServerType": true,
            "ipManagement": {"ipManagerRef": {"name": "main"}, "parkingIPType": "parking"},
            "pollInterval": "1s",
            "limits": {"requestsPerSecond": 0},
            "retry": {"interval": "1s", "maxAttempts": 10},
            "timeouts": {"power": "10s", "install": "60s", "step": "20s", "settle": "1s"},
            "allowedNamespaces": {"from": "All"},
        },
    });
    merged(base, &json!({"spec": spec}))
}

/// The IPManager `main`.
pub fn ip_manager(url: &str, spec: &Value) -> Value {
    let base = json!({
        "apiVersion": "dci-operator.dev/v1alpha1", "kind": "IPManager", "metadata": {"name": "main"},
        "spec": {
            "flavor": "IPmanager5",
            "connection": {"url": url, "credentialsSecretRef": {"name": "ipm-user"}, "timeout": "5s"},
            "pollInterval": "1s",
        },
    });
    merged(base, &json!({"spec": spec}))
}

/// A Secret.
pub fn secret(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
}

/// Two panels: three free servers from 17 on, one that is somebody's, templates with every ending.
pub fn panels() -> Value {
    json!({
        "dcimanager5": [{
            "name": "dci",
            "users": [
                {"name": "operator", "password": PANEL_PASSWORD, "level": 29},
                {"name": "owner-of-18", "password": "x"},
                {"name": "plain", "password": PANEL_PASSWORD},
            ],
            "durations": {"power": "200ms", "install": "2500ms", "connection": "100ms"},
            "server_types": [{"name": "E3-16G"}, {"name": "E5-64G"}],
            "os_templates": [
                {"name": DEBIAN},
                {"name": "ISPsystem__Slow-1", "duration": "60s"},
                {"name": "ISPsystem__Broken-1", "outcome": "fail"},
            ],
            "recipes": [{"name": "ISPsystem__nginx.sh"}],
            "servers": [
                {"id": 17, "name": "R1-17", "type": "E3-16G", "ip": "10.0.0.17"},
                {"id": 18, "name": "R1-18", "type": "E3-16G", "ip": "203.0.113.9", "owner": "owner-of-18",
                 "hostname": "theirs.example.net", "power": "on"},
                {"id": 19, "name": "R1-19", "type": "E3-16G", "ip": "10.0.0.19"},
                {"id": 20, "name": "R1-20", "type": "E5-64G", "ip": "10.0.0.20"},
            ],
        }],
        "ipmanager5": [{
            "name": "ipm",
            "users": [{"name": "dci", "password": POOL_PASSWORD}],
            "address_groups": [
                {"name": "public", "ranges": ["203.0.113.10-203.0.113.100", "2001:db8::/64"]},
                {"name": "parking", "ranges": ["10.0.0.0/16"]},
            ],
            "holds_for": [{"panel": "dci", "user": "dci"}],
        }],
    })
}
