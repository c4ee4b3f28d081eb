//! What the free servers are made of: read from their forms while an order that composes its own configuration has no server.
//!
//! Cost: one form for each free server when such an order appears, [`FORMS`] for each list at most; then one form for each server
//! that became free, whose row differs or that we changed, and [`AGAIN`] for each list in turn, since parts may be changed without
//! any trace in the list. Nothing is read, and nothing kept, while no such order waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::{DedicatedServerOrder, ProcessingHandler};
use crate::panel::ServerPanel;
use crate::panel::error::PanelError;
use crate::panel::model::{ServerForm, ServerRow};
use crate::provisioning::facts::Inventory;
use crate::provisioning::hardware::Hardware;
use crate::provisioning::matching;

use super::portion::forms;

/// Forms that are read for one list.
const FORMS: usize = 64;
/// Forms of these that are known already, and read again in turn.
const AGAIN: usize = 8;
/// Forms that are read at a time; the panel's own limits come on top.
const AT_A_TIME: usize = 4;

/// Whether an order waits that composes its own configuration.
#[must_use]
pub fn is_needed<'o>(handler: &ProcessingHandler, mut orders: impl Iterator<Item = &'o DedicatedServerOrder>) -> bool {
    let waits = |order: &DedicatedServerOrder| {
        order.spec.configuration.custom.is_some()
            && order.metadata.deletion_timestamp.is_none()
            && order.status.as_ref().is_none_or(|s| s.server.is_none())
    };
    !handler.spec.by_server_type && orders.any(waits)
}

/// Reads what has to be read for this list. `changed`: servers that we changed since the list before it.
pub async fn take(
    panel: &Arc<dyn ServerPanel>,
    before: Option<&Inventory>,
    now: &Inventory,
    changed: &BTreeSet<String>,
) -> BTreeMap<String, Hardware> {
    let free: Vec<&ServerRow> = now.rows.values().filter(|row| matching::is_free_of_any_type(row)).collect();
    let mut known: BTreeMap<String, Hardware> = BTreeMap::new();
    // Those that may have other parts by now are as good as unknown.
    for row in free.iter().filter(|row| !differs(row, before, changed)) {
        if let Some(hardware) = before.and_then(|b| b.hardware.get(&row.id.0)) {
            known.insert(row.id.0.clone(), hardware.clone());
        }
    }
    let wanted = due(&free, &known, now.turn).into_iter().map(|row| row.id.0.clone()).collect();
    for (id, form) in forms(panel, wanted, AT_A_TIME).await {
        learn(&mut known, &now.rows[&id], form);
    }
    known
}

/// Notes what a server is made of. An order waits for the parts of those that were never read.
fn learn(known: &mut BTreeMap<String, Hardware>, row: &ServerRow, form: Result<ServerForm, PanelError>) {
    let id = row.id.0.clone();
    match form {
        Ok(form) => {
            known.insert(id, Hardware::of_server(&form.parts, &row.description));
        }
        // One server whose form cannot be read must not keep an order from all others: of it no more is known than before.
        Err(_) => {
            known.entry(id).or_default();
        }
    }
}

/// The servers whose forms are read now: the unknown first, then some in turn, each list those that come after the ones of the list before.
fn due<'r>(free: &[&'r ServerRow], known: &BTreeMap<String, Hardware>, turn: usize) -> Vec<&'r ServerRow> {
    let (still, missing): (Vec<&ServerRow>, Vec<&ServerRow>) = free.iter().partition(|row| known.contains_key(&row.id.0));
    let first = turn.wrapping_mul(AGAIN) % still.len().max(1);
    let again = still.iter().cycle().skip(first).take(AGAIN.min(still.len())).copied();
    missing.into_iter().chain(again).take(FORMS).collect()
}

/// Whether a server may have been changed since the list before.
fn differs(row: &ServerRow, before: Option<&Inventory>, changed: &BTreeSet<String>) -> bool {
    let was = before.and_then(|b| b.rows.get(&row.id.0));
    changed.contains(&row.id.0)
        || was.is_none_or(|was| {
            (&was.flags, &was.types, &was.description, &was.install, &was.owner, &was.hostname)
                != (&row.flags, &row.types, &row.description, &row.install, &row.owner, &row.hostname)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::model::FREE_DOMAIN;

    fn row(n: usize) -> ServerRow {
        ServerRow { hostname: FREE_DOMAIN.into(), ..ServerRow::blank(&n.to_string()) }
    }

    fn inventory(rows: &[ServerRow]) -> Inventory {
        Inventory { rows: rows.iter().map(|row| (row.id.0.clone(), row.clone())).collect(), ..Inventory::default() }
    }

    fn ids(rows: &[ServerRow], before: &Inventory, changed: &[&str], known: usize, turn: usize) -> Vec<usize> {
        let changed = changed.iter().map(|id| (*id).to_owned()).collect();
        let known = rows.iter().take(known).filter(|row| !differs(row, Some(before), &changed));
        let known = known.map(|row| (row.id.0.clone(), Hardware::default())).collect();
        let due = due(&rows.iter().collect::<Vec<_>>(), &known, turn);
        due.iter().map(|row| row.id.0.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_unknown_or_may_have_changed_comes_first_then_some_in_turn() {
        let mut rows: Vec<ServerRow> = (0..20).map(row).collect();
        let before = inventory(&rows);
        rows[3].flags.hardware_problem = true;
        rows[4].description = "other".into();
        // 18 and 19 are unknown, 3 and 4 differ, 5 was changed by us.
        assert_eq!(ids(&rows, &before, &["5"], 18, 0), [3, 4, 5, 18, 19, 0, 1, 2, 6, 7, 8, 9, 10]);
        assert_eq!(ids(&rows, &before, &["5"], 18, 13), [3, 4, 5, 18, 19, 17, 0, 1, 2, 6, 7, 8, 9]);
    }

    #[test]
    fn every_free_server_has_its_turn_however_many_there_are() {
        for number in [1, 5, 8, 10, 15, 20, 30, 60] {
            let rows: Vec<ServerRow> = (0..number).map(row).collect();
            let before = inventory(&rows);
            let read: BTreeSet<usize> = (0..=number / AGAIN).flat_map(|turn| ids(&rows, &before, &[], number, turn)).collect();
            assert_eq!(read.len(), number);
        }
    }

    #[test]
    fn parts_that_could_not_be_read_are_no_parts_that_are_not_there() {
        let read = Hardware { memory_gib: Some(64), ..Hardware::default() };
        let mut known = BTreeMap::from([("1".to_owned(), read.clone())]);
        let refused = || PanelError::Incomplete { panel: "dci".into(), func: "server.edit".into(), what: "a form".into() };
        learn(&mut known, &row(1), Err(refused()));
        learn(&mut known, &row(2), Err(refused()));
        assert_eq!(known, BTreeMap::from([("1".to_owned(), read.clone()), ("2".to_owned(), Hardware::default())]));
    }

    #[test]
    fn no_list_costs_more_than_so_many_forms() {
        let rows: Vec<ServerRow> = (0..500).map(row).collect();
        let before = inventory(&rows);
        assert_eq!(ids(&rows, &before, &[], 0, 0).len(), FORMS);
        assert_eq!(ids(&rows, &before, &[], 500, 7).len(), AGAIN);
        assert_eq!(ids(&rows[..3], &before, &[], 3, 1), [2, 0, 1], "no server twice");
        assert!(ids(&[], &before, &[], 0, 5).is_empty());
    }
}
