//! Lists: stored filters and paging. Section 1.3 of the facts.

use super::{
    Call,
    doc::{Doc, Node},
};
use crate::sim::world::Form;

/// Parameters that are no fields of a filter.
const NOT_FIELDS: [&str; 12] =
    ["func", "auth", "authinfo", "out", "lang", "sok", "su", "clicked_button", "progressid", "sfrom", "operafake", "filter"];

/// A list as this caller sees it: what the stored filter lets through, and of that one page.
pub(crate) fn show(call: &Call<'_>, rows: Vec<Node>) -> Doc {
    let rows = match call.filters.get(call.user.id, call.func) {
        Some(filter) => rows.into_iter().filter(|row| passes(row, filter)).collect(),
        None => rows,
    };
    let total = rows.len();
    let number = |name: &str| call.params.get(name).parse::<usize>().ok().filter(|number| *number > 0);
    let size = number("p_cnt").or(call.page_size);
    let page = number("p_num").unwrap_or(1);
    let mut children: Vec<Node> = match size {
        Some(size) => rows.into_iter().skip((page - 1).saturating_mul(size)).take(size).collect(),
        None => rows,
    };
    children.push(Node::text("p_elems", total.to_string()));
    children.push(Node::text("p_num", page.to_string()));
    if let Some(size) = size {
        children.push(Node::text("p_cnt", size.to_string()));
    }
    Doc::list(children)
}

fn passes(row: &Node, filter: &Form) -> bool {
    filter.iter().all(|(field, wanted)| row.child_text(field).is_some_and(|text| text.to_lowercase().contains(&wanted.to_lowercase())))
}

/// `X.filter`: shows the stored filter, or stores another, which affects the user's later calls of `X` without a word.
pub(crate) fn filter(call: &mut Call<'_>) -> Doc {
    let list = call.func.trim_end_matches(".filter").to_owned();
    if !call.is_submitted() {
        let fields = call.filters.get(call.user.id, &list).cloned().unwrap_or_default();
        return Doc::fields(fields.into_iter().map(|(name, value)| Node::text(name, value)).collect());
    }
    let fields = call.params.0.iter().filter(|(name, value)| !NOT_FIELDS.contains(&name.as_str()) && !value.is_empty());
    let fields = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
    call.filters.store(call.user.id, &list, fields);
    Doc::ok()
}
