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
        processors: named(document, &form, "cpu"),
        processor_count: form.reference("cpu_count"),
        memory: memory(document, &form),
        disks: named(document, &form, "hdd"),
        cards: named(document, &form, "pci"),
    }
}

fn named(document: &Document, form: &Fields<'_>, prefix: &str) -> Vec<String> {
    (0..FIELDS).map(|n| format!("{prefix}_{n}")).filter_map(|field| part(document, form, &field)).collect()
}

fn part(document: &Document, form: &Fields<'_>, field: &str) -> Option<String> {
    let id = form.reference(field)?;
    let words = document.option_text(field, &id).or_else(|| form.display(field).filter(|text| *text != id));
    let unnamed = || if id.chars().all(|c| c.is_ascii_digit()) { format!("id {id}") } else { id.clone() };
    Some(words.unwrap_or_else(unnamed))
}

/// A number that is typed in, or one that is chosen.
fn memory(document: &Document, form: &Fields<'_>) -> Option<String> {
    let value = form.reference("chassis_ram")?;
    Some(document.option_text("chassis_ram", &value).unwrap_or(value))
}
