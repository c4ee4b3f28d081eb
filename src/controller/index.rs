//! The index of markers: which servers carry whose, read from their forms once and again when owner or hostname changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;

use crate::panel::ServerPanel;
use crate::panel::error::PanelError;
use crate::panel::model::{ServerId, ServerRow};
use crate::provisioning::facts::Inventory;
use crate::provisioning::marker::{Marker, tokens};

/// Forms that are read at a time; the panel's own limits come on top.
const AT_A_TIME: usize = 8;

/// Lists the panel's servers, and reads the notes of those whose owner may be ours.
///
/// `owners`: the operator's own log-in, and the clients of the handler's orders. The list does not show notes, so that a
/// server's form is read once, and again when its owner or hostname differs from the list before (design.md section 9).
pub async fn take(panel: &Arc<dyn ServerPanel>, before: Option<&Inventory>, owners: &BTreeSet<String>) -> Result<Inventory, PanelError> {
    let began = Timestamp::now();
    let rows: BTreeMap<String, ServerRow> = panel.servers().await?.into_iter().map(|row| (row.id.0.clone(), row)).collect();
    let mut markers = BTreeMap::new();
    let mut wanted = Vec::new();
    for (id, row) in rows.iter().filter(|(_, row)| row.owner.as_ref().is_some_and(|o| owners.contains(o))) {
        match before.and_then(|b| Some((b.rows.get(id)?, b.markers.get(id)?))) {
            Some((old, known)) if old.owner == row.owner && old.hostname == row.hostname => {
                markers.insert(id.clone(), known.clone());
            }
            Some(_) | None => wanted.push(id.clone()),
        }
    }
    let views = stream::iter(wanted).map(|id| async move {
        let form = panel.server_form(&ServerId(id.clone())).await;
        (id, form)
    });
    let mut views = Box::pin(views.buffer_unordered(AT_A_TIME));
    while let Some((id, form)) = views.next().await {
        match form {
            Ok(form) => {
                markers.insert(id, tokens(&form.notes).filter_map(Marker::parse).collect());
            }
            // Not in the index: who might own it waits, and the next list tries again.
            Err(error) => tracing::debug!(server = %id, %error, "notes not read"),
        }
    }
    let previous = before.map(|b| b.rows.keys().cloned().collect());
    Ok(Inventory { rows, began, previous, markers })
}

/// Servers on which something differs between two lists.
#[must_use]
pub fn changed(before: Option<&Inventory>, now: &Inventory) -> BTreeSet<String> {
    let Some(before) = before else { return now.rows.keys().cloned().collect() };
    let differs = |id: &&String| before.rows.get(*id) != now.rows.get(*id) || before.markers.get(*id) != now.markers.get(*id);
    now.rows.keys().chain(before.rows.keys()).filter(differs).cloned().collect()
}
