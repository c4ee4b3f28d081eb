//! Rows for tasks: who may close what with which word, and what nobody changes.

use dci_operator::api::messages as msg;
use serde_json::{Value, json};

use super::super::support::{Kind, examples};
use super::Row;

pub fn rows() -> Vec<Row> {
    let mut rows = words();
    rows.extend(changes());
    rows
}

/// Type, word, and the rule that refuses the word for the type.
fn words() -> Vec<Row> {
    let restricted = [("PartsMissing", msg::PARTS_MISSING), ("Cancelled", msg::CANCELLED), ("Abandon", msg::ABANDON)];
    let mut rows = Vec::new();
    for type_ in ["Assembly", "Procurement", "StopServer", "FailedOperation"] {
        for word in ["Done", "Retry", "PartsMissing", "Cancelled", "Abandon"] {
            let row = Row::create(Kind::Task, &format!("{type_} closed as {word}"), &json!({"spec": {"type": type_, "resolution": word}}));
            let taken = match word {
                "PartsMissing" => type_ == "Assembly",
                "Cancelled" => type_ != "StopServer",
                "Abandon" => matches!(type_, "FailedOperation" | "StopServer"),
                _ => true,
            };
            let rule: Vec<&'static str> = restricted.iter().filter(|(of, _)| *of == word).map(|(_, rule)| *rule).collect();
            rows.push(if taken { row.accepted(&rule) } else { row.refused(&rule) });
        }
        let open = json!({"spec": {"type": type_, "resolution": null, "note": null}});
        let row = Row::create(Kind::Task, &format!("{type_}, open"), &open);
        rows.push(row.accepted(&[msg::PARTS_MISSING, msg::CANCELLED, msg::ABANDON]));
    }
    rows.push(Row::object(Kind::Task, "the example", examples::task()).accepted(&[]));
    rows
}

fn changes() -> Vec<Row> {
    let spec = |value: Value| json!({"spec": value});
    let update = |name: &str, before: &Value, change: Value| Row::update(Kind::Task, name, before, &spec(change));
    let open = spec(json!({"resolution": null, "note": null}));
    let brief = spec(json!({"resolution": null, "details": null}));
    vec![
        update("it is closed", &open, json!({"resolution": "Done", "note": "done"})).accepted(&[msg::TASK_FIXED, msg::RESOLUTION_FIXED]),
        update("a note on an open task", &open, json!({"note": "looking"})).accepted(&[msg::TASK_FIXED, msg::RESOLUTION_FIXED]),
        update("a later note", &json!({}), json!({"note": "really done"})).accepted(&[msg::TASK_FIXED, msg::RESOLUTION_FIXED]),
        update("the note goes", &json!({}), json!({"note": null})).accepted(&[msg::TASK_FIXED, msg::RESOLUTION_FIXED]),
        update("another resolution", &json!({}), json!({"resolution": "Retry"})).refused(&[msg::RESOLUTION_FIXED]),
        update("no resolution any more", &json!({}), json!({"resolution": null})).refused(&[msg::RESOLUTION_FIXED]),
        update("another type", &open, json!({"type": "Procurement"})).refused(&[msg::TASK_FIXED]),
        update("another department", &open, json!({"department": "Operations"})).refused(&[msg::TASK_FIXED]),
        update("another order", &open, json!({"orderRef": {"name": "web-02"}})).refused(&[msg::TASK_FIXED]),
        update("another namespace", &open, json!({"orderRef": {"namespace": "other"}})).refused(&[msg::TASK_FIXED]),
        update("another uid", &open, json!({"orderRef": {"uid": "x"}})).refused(&[msg::TASK_FIXED]),
        update("another summary", &open, json!({"summary": "Do nothing"})).refused(&[msg::TASK_FIXED]),
        update("other details", &open, json!({"details": "Do nothing"})).refused(&[msg::TASK_FIXED]),
        update("another handler", &open, json!({"handlerRef": {"name": "msk-2"}})).refused(&[msg::TASK_FIXED]),
        update("no handler", &open, json!({"handlerRef": null})).refused(&[msg::TASK_FIXED]),
        update("a later deadline", &open, json!({"deadline": "2099-01-01T00:00:00Z"})).refused(&[msg::TASK_FIXED]),
        update("no deadline", &open, json!({"deadline": null})).refused(&[msg::TASK_FIXED]),
        update("another escalation", &open, json!({"escalateTo": "Mine"})).refused(&[msg::TASK_FIXED]),
        update("no escalation", &open, json!({"escalateTo": null})).refused(&[msg::TASK_FIXED]),
        update("no details", &open, json!({"details": null})).refused(&[msg::TASK_FIXED]),
        update("details at last", &brief, json!({"details": "Do this"})).refused(&[msg::TASK_FIXED]),
    ]
}
