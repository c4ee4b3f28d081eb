//! The parts that the form of a server names (ispsystem-api.md 2.2, confirmed: components are ids or the literal `null`).

use crate::panel::coremanager::document::{Document, Fields};
use crate::panel::model::Parts;

/// The most fields of one kind that a form has: `hdd_0` to `hdd_29`.
const FIELDS: usize = 32;

/// What the form's options call its parts. An id without words stays an id: it is known to be something, and not what.
#[must_use]
pub fn parts(document: &Document) -> Parts {
    let form = document.fields();
    Parts {
        processors: named(document, form, "cpu"),
        processor_count: form.reference("cpu_count"),
        memory: memory(document, form),
        disks: named(document, form, "hdd"),
        cards: named(document, form, "pci"),
    }
}

fn named(document: &Document, form: Fields<'_>, prefix: &str) -> Vec<String> {
    (0..FIELDS).map(|n| format!("{prefix}_{n}")).filter_map(|field| part(document, form, &field)).collect()
}

fn part(document: &Document, form: Fields<'_>, field: &str) -> Option<String> {
    let id = form.reference(field)?;
    let words = document.option_text(field, &id).or_else(|| form.display(field).filter(|text| *text != id));
    let unnamed = || if id.chars().all(|c| c.is_ascii_digit()) { format!("id {id}") } else { id.clone() };
    Some(words.unwrap_or_else(unnamed))
}

/// A number that is typed in, or one that is chosen.
fn memory(document: &Document, form: Fields<'_>) -> Option<String> {
    let value = form.reference("chassis_ram")?;
    Some(document.option_text("chassis_ram", &value).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::coremanager::document::Answer;
    use serde_json::{Value, json};

    fn read(doc: &Value) -> Parts {
        match Document::parse(json!({"doc": doc}).to_string().as_bytes(), &[]) {
            Ok(Answer::Document(document)) => parts(&document),
            other => panic!("{other:?}"),
        }
    }

    fn options(name: &str, values: &Value) -> Value {
        json!({"$name": name, "val": values})
    }

    #[test]
    fn ids_are_what_the_options_call_them() {
        let cpu = json!([{"$key": "null", "$": "-- none --"}, {"$key": "7", "$": "Intel Xeon E-2146G "}]);
        let shown = read(&json!({
            "cpu_0": {"$": "7"}, "cpu_1": {"$": "null"}, "cpu_count": {"$": "2"}, "chassis_ram": {"$": "64"},
            "hdd_0": {"$": "3"}, "hdd_1": {"$orig": "4", "$": "SSD 480 GB"}, "hdd_2": {"$": "1920SSD"}, "hdd_29": {"$": "5"}, "hdd_3": {},
            "pci_0": {"$": "null"}, "pci_6": {"$": "9"}, "pci_x": {"$": "9"},
            "slist": [options("cpu_0", &cpu), options("hdd_29", &json!({"$key": "5", "msg": {"$": "960NVMe"}})), options("pci_6", &json!([]))],
        }));
        let expected = Parts {
            processors: vec!["Intel Xeon E-2146G".into()],
            processor_count: Some("2".into()),
            memory: Some("64".into()),
            disks: vec!["id 3".into(), "SSD 480 GB".into(), "1920SSD".into(), "960NVMe".into()],
            cards: vec!["id 9".into()],
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn memory_may_be_chosen_and_shapes_are_not_trusted() {
        let chosen = json!({"chassis_ram": {"$": "2"}, "slist": options("chassis_ram", &json!({"$key": "2", "$": "32 GB"}))});
        assert_eq!(read(&chosen).memory.as_deref(), Some("32 GB"));
        for doc in [
            json!({}),
            json!({"cpu_0": [], "hdd_0": {"x": 1}, "slist": "no list"}),
            json!({"cpu_0": {"$": ""}, "slist": [{"$name": "cpu_0", "val": [1, "x", null]}]}),
            json!({"hdd_0": null, "chassis_ram": {"$": "null"}}),
        ] {
            assert_eq!(read(&doc), Parts::default(), "{doc}");
        }
    }
}
