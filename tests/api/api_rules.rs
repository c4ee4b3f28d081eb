//! The rules of the four kinds: each accepts and refuses what it should, with a message, and has a twin in Rust.

use std::collections::BTreeSet;

use crate::rows::Row;
use crate::support::bounds::{broken_bounds, full_examples};
use crate::support::{KINDS, Kind, example, quick_refusals, refusals, schema, schema_of, twin};
use dci_operator::api::messages as msg;
use dci_operator::panel::model::{FREE_DOMAIN, NO_OWNER};
use proptest::prelude::*;
use serde_json::{Value, json};

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort();
    items
}

#[test]
fn each_row_is_accepted_or_refused_by_exactly_its_rules() {
    for Row { kind, name, old, new, rules, refused } in crate::rows::all() {
        let found = refusals(kind, old.as_ref(), &new).unwrap_or_else(|error| panic!("{kind:?}, {name}: {error}"));
        let expected = if refused { rules.iter().map(ToString::to_string).collect() } else { Vec::new() };
        assert_eq!(sorted(found), sorted(expected), "{kind:?}, {name}");
    }
}

#[test]
fn each_row_is_within_the_schemas_bounds() {
    for Row { kind, name, old, new, .. } in crate::rows::all() {
        for object in old.iter().chain([&new]) {
            assert_eq!(schema::violations(schema_of(kind), object), Vec::<String>::new(), "{kind:?}, {name}");
        }
    }
}

#[test]
fn each_rule_has_a_row_that_it_accepts_and_one_that_it_refuses() {
    let table = crate::rows::all();
    for kind in KINDS {
        let mut known = BTreeSet::new();
        for (path, rule, message) in schema::rules(schema_of(kind)) {
            assert!(!message.is_empty(), "{kind:?}{path}: `{rule}` has no message");
            // A transition rule is not evaluated when an object is created: such a row would prove nothing.
            let transition = rule.contains("oldSelf");
            let covers = |row: &&Row| row.kind == kind && row.rules.contains(&message.as_str()) && (row.old.is_some() || !transition);
            for refused in [true, false] {
                assert!(
                    table.iter().filter(covers).any(|row| row.refused == refused),
                    "{kind:?}{path}: no row is {} by the rule `{message}`",
                    if refused { "refused" } else { "accepted" }
                );
            }
            known.insert(message);
        }
        for row in table.iter().filter(|row| row.kind == kind) {
            for rule in &row.rules {
                assert!(known.contains(*rule), "{kind:?}, {}: no rule says `{rule}`", row.name);
            }
        }
    }
}

#[test]
fn each_message_says_what_to_write_or_do() {
    let verbs = [
        "set ",
        "write ",
        "remove ",
        "create ",
        "choose ",
        "put it back",
        "must ",
        "has either",
        "may be changed",
        "needs",
        "goes with",
        "raises",
        "accepted",
    ];
    for kind in KINDS {
        for (path, _, message) in schema::rules(schema_of(kind)) {
            assert!(verbs.iter().any(|verb| message.contains(verb)), "{kind:?}{path}: `{message}`");
            assert!(message.chars().count() <= 200 && !message.contains('\n'), "{kind:?}{path}: `{message}`");
        }
    }
}

#[test]
fn words_of_the_panel_are_those_the_rules_name() {
    assert!(msg::DOMAIN_FREE.contains(FREE_DOMAIN));
    assert!(msg::USERNAME_TAKEN.contains(NO_OWNER));
}

/// Whether an object by itself passes schema and rules, and whether it passes the twin. `None`: it does not parse at all.
fn verdicts(kind: Kind, object: &Value) -> Option<(Vec<String>, Vec<String>)> {
    let problems = twin(kind, object).ok()?;
    let mut server = schema::violations(schema_of(kind), object);
    server.extend(quick_refusals(kind, object));
    Some((server, problems.into_iter().map(|problem| problem.message).collect()))
}

#[test]
fn the_twin_agrees_on_each_row_word_for_word() {
    for Row { kind, name, old, new, rules, refused } in crate::rows::all() {
        let (server, problems) = verdicts(kind, &new).unwrap();
        assert_eq!(sorted(server), sorted(problems.clone()), "{kind:?}, {name}");
        if refused && old.is_none() {
            assert_eq!(sorted(problems), sorted(rules.iter().map(ToString::to_string)), "{kind:?}, {name}");
        }
    }
}

#[test]
fn the_twin_refuses_each_broken_bound() {
    let mut tried = 0;
    for (kind, example) in full_examples() {
        for (path, object) in broken_bounds(kind, &example) {
            let server = schema::violations(schema_of(kind), &object);
            let Some((_, problems)) = verdicts(kind, &object) else {
                assert!(!server.is_empty(), "{kind:?}{path}: does not parse, but the schema takes it");
                continue;
            };
            let shown: String = object.pointer(&path).unwrap().to_string().chars().take(80).collect();
            assert_eq!(server.is_empty(), problems.is_empty(), "{kind:?}{path} = {shown}: schema {server:?}, twin {problems:?}");
            tried += 1;
        }
    }
    assert!(tried > 200, "only {tried} bounds were tried");
}

#[test]
fn every_spec_field_is_in_an_example() {
    for kind in KINDS {
        let examples: Vec<Value> = full_examples().into_iter().filter(|(k, _)| *k == kind).map(|(_, value)| value).collect();
        schema::walk(&schema_of(kind)["properties"]["spec"], "", &mut |path, _| {
            let there = |value: &Value| {
                path.replace("{}", ".*")
                    .replace("[]", ".*")
                    .split('.')
                    .filter(|part| !part.is_empty())
                    .try_fold(value, |at, part| match (part, at) {
                        ("*", Value::Array(items)) => items.first(),
                        ("*", Value::Object(map)) => map.values().next(),
                        (part, at) => at.get(part),
                    })
                    .is_some()
            };
            assert!(
                examples.iter().any(|example| there(&example["spec"])),
                "{kind:?}.spec{path}: no example has it, so no bound of it is tried"
            );
        });
    }
}

/// Where a value stands, as people write it: without numbers of items and names of entries.
fn place(path: &str, schema: &Value) -> String {
    let mut at = &schema["properties"]["spec"];
    let mut text = "spec".to_owned();
    for part in path.trim_start_matches("/spec").split('/').filter(|part| !part.is_empty()) {
        if at["properties"][part].is_object() {
            text = format!("{text}.{part}");
            at = &at["properties"][part];
        } else {
            at = if at["items"].is_object() { &at["items"] } else { &at["additionalProperties"] };
        }
    }
    text
}

#[test]
fn each_field_refuses_something_and_the_twin_names_it() {
    for kind in KINDS {
        let schema = schema_of(kind);
        let mut refused: BTreeSet<String> = BTreeSet::new();
        for (_, example) in full_examples().into_iter().filter(|(k, _)| *k == kind) {
            for (path, object) in broken_bounds(kind, &example) {
                let place = place(&path, schema);
                if schema::violations(schema, &object).is_empty() {
                    continue;
                }
                // What does not parse is told with the parser's words.
                for problem in twin(kind, &object).unwrap_or_default() {
                    let field = problem.field.replace("[]", "");
                    let near = place.starts_with(&field) || field.starts_with(&place);
                    assert!(near, "{kind:?}{path}: the twin blames {}: {}", problem.field, problem.message);
                }
                refused.insert(place);
            }
        }
        schema::walk(&schema["properties"]["spec"], "spec", &mut |path, node| {
            // The server itself refuses what is no time.
            let time = node["format"] == "date-time";
            let leaf = !time && matches!(node["type"].as_str(), Some("string" | "integer" | "number"));
            let place = path.replace("{}", "").replace("[]", "");
            assert!(!leaf || refused.contains(&place), "{kind:?}, {path}: any value is taken: bound it, or say why not");
        });
    }
}

/// Texts that nearly have, or have, the forms that the patterns ask for.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9._@:/?#\\\\ -]{0,12}",
        "[a-z0-9.-]{1,70}",
        "https?://[a-z0-9.:@\\[\\]-]{0,12}(/[a-z?#]{0,4})?",
        "http://(127\\.0\\.0\\.[0-9]|localhost|\\[::1\\])(:[0-9]{0,3})?[/a-z]{0,3}",
        "([0-9a-f]{2}:?){31,33}",
        "[a-z]{1,3}@[a-z.@ ]{0,6}",
        "[ \t\r\u{a0}\u{85}\u{2028}\u{feff}]{0,4}",
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_twin_agrees_on_any_text(text in text(), field in 0usize..13) {
        let fields = [
            (Kind::Manager, "/spec/connection/url"),
            (Kind::Manager, "/spec/connection/tls/pinnedSHA256"),
            (Kind::Manager, "/spec/connection/credentialsSecretRef/name"),
            (Kind::Order, "/spec/domain"),
            (Kind::Order, "/spec/client/username"),
            (Kind::Order, "/spec/client/email"),
            (Kind::Order, "/spec/handlerRef/namespace"),
            (Kind::Order, "/spec/operatingSystem/passwordSecretRef/key"),
            (Kind::Task, "/spec/department"),
            (Kind::Handler, "/spec/allowedNamespaces/selector/matchLabels/team"),
            (Kind::Handler, "/spec/dialect/runRecipe/func"),
            (Kind::Order, "/spec/operatingSystem/template"),
            (Kind::Order, "/spec/recipes/0"),
        ];
        let (kind, path) = fields[field];
        let mut object = example(kind);
        *object.pointer_mut(path).unwrap() = json!(text);
        let (server, problems) = verdicts(kind, &object).unwrap();
        prop_assert_eq!(server.is_empty(), problems.is_empty(), "{}: schema {:?}, twin {:?}", path, server, problems);
    }

    #[test]
    fn a_duration_parses_where_the_schema_takes_it(text in prop_oneof!["([0-9]{1,10}(ms|s|m|h|us)?){0,5}", any::<String>()]) {
        let mut object = example(Kind::Manager);
        object["spec"]["pollInterval"] = json!(text);
        let server = schema::violations(schema_of(Kind::Manager), &object);
        prop_assert_eq!(server.is_empty(), twin(Kind::Manager, &object).is_ok());
        if let Some((server, problems)) = verdicts(Kind::Manager, &object) {
            prop_assert_eq!(server, problems);
        }
    }
}
