//! Objects and changes of the tables: what the server accepts and what it refuses, and with which words.

use futures::{StreamExt, stream};
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::plane::plane;
use crate::rows::{self, Row};
use crate::server::{Refusal, Server, name};
use crate::support::bounds::{broken_bounds, full_examples};
use crate::support::{KINDS, Kind, definition, example, quick_refusals, schema, schema_of};

/// The rules by which something is refused, and nothing else: each is the end of one cause.
fn assert_rules(refusal: &Refusal, rules: &[&str], what: &str) {
    assert_eq!(refusal.code, 422, "{what}: {refusal:?}");
    assert_eq!(refusal.causes.len(), rules.len(), "{what}: {refusal:?}");
    for rule in rules {
        assert!(refusal.causes.iter().any(|(_, said)| said.ends_with(rule)), "{what}: `{rule}` is not in {refusal:?}");
    }
}

#[tokio::test]
async fn each_row_is_accepted_or_refused_by_exactly_its_rules() {
    let Some(server) = Server::start("each_row_is_accepted_or_refused_by_exactly_its_rules").await else { return };
    let table = rows::all();
    let (mut accepted, mut refused) = (0, 0);
    for Row { kind, name: row, old, new, rules, refused: expected } in &table {
        let what = format!("{kind:?}, {row}");
        let stored = match old {
            None => None,
            Some(old) => {
                let mut stored = server.create(*kind, old).await.unwrap_or_else(|refusal| panic!("{what}, before: {refusal:?}"));
                if old["status"].is_object() {
                    stored = server.set_status(*kind, name(old), &old["status"]).await.unwrap();
                }
                Some(stored)
            }
        };
        let answer = match &stored {
            None => server.create(*kind, new).await,
            Some(stored) => server.replace(*kind, stored, new).await,
        };
        match (answer, expected) {
            (Ok(_), false) => accepted += 1,
            (Err(refusal), true) => {
                assert_rules(&refusal, rules, &what);
                refused += 1;
            }
            (answer, _) => panic!("{what}: {answer:?}"),
        }
        if stored.is_some() || !expected {
            server.delete(*kind, name(new)).await;
        }
    }
    assert_eq!(accepted + refused, table.len());
    println!("{accepted} rows accepted, {refused} refused");
    server.end();
}

#[tokio::test]
async fn each_broken_bound_is_refused_where_the_tests_own_evaluator_refuses_it() {
    let Some(server) = Server::start("each_broken_bound_is_refused").await else { return };
    let server = &server;
    let ask = async |kind: Kind, path: String, object: Value| {
        let mut ours = schema::violations(schema_of(kind), &object);
        ours.extend(quick_refusals(kind, &object));
        let answer = server.would_create(kind, &object).await;
        let shown: String = object.pointer(&path).unwrap().to_string().chars().take(80).collect();
        assert_eq!(answer.is_ok(), ours.is_empty(), "{kind:?}{path} = {shown}: server {answer:?}, ours {ours:?}");
        answer.is_ok()
    };
    let all = full_examples().into_iter().flat_map(|(kind, example)| {
        let broken = broken_bounds(kind, &example).into_iter();
        broken.map(move |(path, object)| (kind, path, object))
    });
    let taken: Vec<bool> = stream::iter(all).map(|(kind, path, object)| ask(kind, path, object)).buffer_unordered(8).collect().await;
    let accepted = taken.iter().filter(|taken| **taken).count();
    let refused = taken.len() - accepted;
    assert!(refused > 200, "only {refused} bounds were refused");
    println!("{refused} values refused, {accepted} accepted");
    server.end();
}

/// What a fresh object looks like: what the user left out has its default, and nothing looks as if it had been acted upon.
#[tokio::test]
async fn a_fresh_object_has_its_defaults_and_no_status_of_the_users() {
    let Some(server) = Server::start("a_fresh_object_has_its_defaults").await else { return };
    for kind in KINDS {
        let mut object = example(kind);
        object["status"] = json!({"observedGeneration": 7});
        object["spec"]["unheard"] = json!("of");
        let made = server.create(kind, &object).await.unwrap();
        assert_eq!(made["status"], json!({"observedGeneration": -1}), "{kind:?}");
        assert_eq!(made["metadata"]["generation"], 1, "{kind:?}");
        assert!(made["spec"].get("unheard").is_none(), "{kind:?}: {made}");
        let status = server.set_status(kind, name(&made), &json!({"observedGeneration": 1})).await.unwrap();
        assert_eq!((&status["status"], &status["metadata"]["generation"]), (&json!({"observedGeneration": 1}), &json!(1)), "{kind:?}");
    }
    server.end();
}

/// Every field that the definitions name can be selected by, in a list and in a watch, and no other.
#[tokio::test]
async fn objects_are_selected_by_the_fields_of_the_definitions() {
    if !plane().selects_fields("objects_are_selected_by_the_fields_of_the_definitions") {
        return;
    }
    let Some(server) = Server::start("objects_are_selected").await else { return };
    let mut tried = 0;
    for kind in KINDS {
        let fields = definition(kind, dci_operator::api::crds::Target::Current)["spec"]["versions"][0]["selectableFields"].take();
        let mut object = example(kind);
        let made = server.create(kind, &object).await.unwrap();
        if kind == Kind::Order {
            object["status"] = json!({"observedGeneration": 1, "phase": "Active", "server": {"id": "17", "configuration": "E3-16G", "handler": "hosting/msk-1"}});
            server.set_status(kind, name(&made), &object["status"]).await.unwrap();
        }
        for field in fields.as_array().into_iter().flatten() {
            let path = field["jsonPath"].as_str().unwrap().trim_start_matches('.');
            let value = object
                .pointer(&format!("/{}", path.replace('.', "/")))
                .and_then(Value::as_str)
                .unwrap_or_else(|| panic!("{kind:?}: {path}"));
            let count = async |selector: &str| {
                let list = server.all(kind).list(&ListParams::default().fields(selector)).await.unwrap();
                list.items.len()
            };
            assert_eq!(count(&format!("{path}={value}")).await, 1, "{kind:?}: {path}");
            assert_eq!(count(&format!("{path}!={value}")).await, 0, "{kind:?}: {path}");
            assert_eq!(count(&format!("{path}=another")).await, 0, "{kind:?}: {path}");
            tried += 1;
        }
        let refused = server.all(kind).list(&ListParams::default().fields("spec.unheard=1")).await;
        assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 400), "{kind:?}: {refused:?}");
    }
    assert!(tried >= 7, "only {tried} fields were tried");
    server.end();
}
