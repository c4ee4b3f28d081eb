//! The table of the rules: objects and changes, and which rule accepts or refuses each.

mod handler;
mod order;
mod task;

use serde_json::Value;

use super::support::{Kind, example, patched};

/// One object, or one change of an object.
pub struct Row {
    pub kind: Kind,
    pub name: String,
    /// The object as it was; a creation when absent.
    pub old: Option<Value>,
    pub new: Value,
    /// The rules this row is an example for.
    pub rules: Vec<&'static str>,
    /// Whether those rules refuse it, and no others; else no rule does.
    pub refused: bool,
}

impl Row {
    fn create(kind: Kind, name: &str, patch: &Value) -> Self {
        Self::object(kind, name, patched(&example(kind), patch))
    }

    fn object(kind: Kind, name: &str, new: Value) -> Self {
        Self { kind, name: name.to_owned(), old: None, new, rules: Vec::new(), refused: false }
    }

    /// A change from the example with `before` applied to the same with `change` applied on top.
    fn update(kind: Kind, name: &str, before: &Value, change: &Value) -> Self {
        let old = patched(&example(kind), before);
        let new = patched(&old, change);
        Self { kind, name: name.to_owned(), old: Some(old), new, rules: Vec::new(), refused: false }
    }

    fn accepted(mut self, rules: &[&'static str]) -> Self {
        self.rules = rules.to_vec();
        self
    }

    fn refused(mut self, rules: &[&'static str]) -> Self {
        self.rules = rules.to_vec();
        self.refused = true;
        self
    }
}

/// The whole table.
pub fn all() -> Vec<Row> {
    [order::rows(), handler::rows(), handler::manager_rows(), task::rows()].into_iter().flatten().collect()
}
