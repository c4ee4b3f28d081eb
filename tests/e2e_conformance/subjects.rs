//! What is made of each kind, and what may become of it.

use serde_json::{Value, json};

use super::apiserver::{EVENTS, IPMANAGERS, Kind, LEASES, ORDERS, TASKS};

/// Objects of a kind, and what may be changed of them.
pub fn subject(kind: Kind) -> (Value, Vec<Value>) {
    match kind {
        IPMANAGERS => (
            json!({
                "apiVersion": "dci-operator.dev/v1alpha1", "kind": "IPManager", "metadata": {"name": "x"},
                "spec": {"flavor": "IPmanager5", "connection": {
                    "url": "https://ipm.example.net:1500/ipmgr", "credentialsSecretRef": {"name": "ipm"}}},
            }),
            vec![
                json!({"spec": {"pollInterval": "10s"}}),
                json!({"spec": {"pollInterval": null}}),
                json!({"spec": {"connection": {"timeout": "5s"}}}),
                json!({"spec": {"unknown": 1}}),
                json!({"spec": {"connection": null}}),
                json!({"spec": {"flavor": "Other"}}),
            ],
        ),
        ORDERS => (
            json!({
                "apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrder", "metadata": {"name": "x"},
                "spec": {
                    "handlerRef": {"name": "msk-1"}, "client": {"username": "acme"}, "configuration": {"serverType": "E3-16G"},
                    "domain": "web.example.net", "operatingSystem": {"template": "ISPsystem__Debian-12-x86_64"},
                },
            }),
            vec![
                json!({"spec": {"suspended": true}}),
                json!({"spec": {"addresses": {"ipv4": 2}}}),
                json!({"spec": {"addresses": {"ipv4": -1}}}),
                json!({"spec": {"addresses": null}}),
                json!({"spec": {"recipes": ["one", "two"], "unknown": {"a": 1}}}),
                json!({"spec": {"domain": null}}),
                json!({"spec": {"reinstall": "again"}}),
                json!({"spec": {"readyWhen": "Whenever"}}),
                json!({"spec": {"licenses": [{"product": "ISPmanager6Lite"}]}}),
            ],
        ),
        TASKS => (
            json!({
                "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ManualTask", "metadata": {"name": "x"},
                "spec": {
                    "type": "FailedOperation", "department": "Operations", "summary": "it failed", "details": "look",
                    "orderRef": {"namespace": "shop", "name": "web-01", "uid": "0c4f3a6e"}, "handlerRef": {"name": "msk-1"},
                },
            }),
            vec![
                json!({"spec": {"resolution": "Done", "note": "as asked"}}),
                json!({"spec": {"resolution": null}}),
                json!({"spec": {"resolution": "Whatever"}}),
                json!({"spec": {"deadline": "2026-01-01T00:00:00Z", "unknown": 1}}),
                json!({"spec": {"department": null}}),
                json!({"spec": {"orderRef": {"uid": null}}}),
            ],
        ),
        // Of these nothing is changed but their series; see `event_op`.
        EVENTS => (
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "x"}, "eventTime": "2026-01-01T00:00:00.000000Z",
                "type": "Warning", "reason": "AttemptFailed", "action": "AttemptFailed", "note": "PowerOn: no",
                "reportingController": "dci-operator", "reportingInstance": "dci-operator-0",
                "regarding": {
                    "apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrder", "name": "web-01", "uid": "0c4f3a6e",
                },
            }),
            Vec::new(),
        ),
        LEASES => (
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "x"}, "spec": {"holderIdentity": "a"}}),
            vec![json!({"spec": {"holderIdentity": "b"}}), json!({"spec": {"leaseTransitions": 2}})],
        ),
        _ => (
            json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": "x"}, "stringData": {"password": "p"}}),
            vec![json!({"stringData": {"password": "q"}}), json!({"data": {"more": "cXE="}})],
        ),
    }
}
