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
    let mut rows: BTreeMap<String, ServerRow> = panel.servers().await?.into_iter().map(|row| (row.id.0.clone(), row)).collect();
    let ids = ids_of(panel, before, owners, &rows).await?;
    let owners: &BTreeSet<String> = &owners.iter().chain(ids.values()).cloned().collect();
    progress_text(panel, before, owners, &mut rows).await;
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
    Ok(Inventory { rows, began, previous, ids, markers, hardware: BTreeMap::new() })
}

/// The ids of the owners, for panels whose list shows those instead of names. Read only where the list shows an owner
/// that is neither, and once: an id that is known stays known.
async fn ids_of(
    panel: &Arc<dyn ServerPanel>,
    before: Option<&Inventory>,
    owners: &BTreeSet<String>,
    rows: &BTreeMap<String, ServerRow>,
) -> Result<BTreeMap<String, String>, PanelError> {
    let known: BTreeMap<String, String> = before
        .map(|b| b.ids.iter().filter(|(name, _)| owners.contains(*name)).map(|(n, i)| (n.clone(), i.clone())).collect())
        .unwrap_or_default();
    let strange = rows.values().filter_map(|row| row.owner.as_ref()).any(|o| !owners.contains(o) && !known.values().any(|id| id == o));
    if !strange || known.len() == owners.len() {
        return Ok(known);
    }
    Ok(panel.users().await?.into_iter().filter(|u| owners.contains(&u.name)).map(|u| (u.name, u.id.0)).collect())
}

/// The panel's words for installations whose flag carries none: one tooltip for each list, in turn, never one for each order.
async fn progress_text(
    panel: &Arc<dyn ServerPanel>,
    before: Option<&Inventory>,
    owners: &BTreeSet<String>,
    rows: &mut BTreeMap<String, ServerRow>,
) {
    let silent = |row: &ServerRow| row.install.as_deref() == Some("") && row.owner.as_ref().is_some_and(|o| owners.contains(o));
    let known = |id: &String| before.and_then(|b| b.rows.get(id)?.install.clone()).filter(|text| !text.is_empty());
    let waiting: Vec<String> = rows.values().filter(|row| silent(row)).map(|row| row.id.0.clone()).collect();
    // Those that have no text yet come first; then one after the other as time goes by.
    let turn = usize::try_from(Timestamp::now().as_second()).unwrap_or_default();
    let next = waiting.iter().find(|id| known(id).is_none()).or_else(|| waiting.get(turn % waiting.len().max(1)));
    let asked = match next {
        Some(id) => panel.operation_text(&ServerId(id.clone())).await.ok().flatten().map(|text| (id.clone(), text)),
        None => None,
    };
    for id in &waiting {
        let text = asked.as_ref().filter(|(of, _)| of == id).map(|(_, text)| text.clone()).or_else(|| known(id));
        if let (Some(text), Some(row)) = (text, rows.get_mut(id)) {
            row.install = Some(text);
        }
    }
}

/// Servers on which something differs between two lists.
#[must_use]
pub fn changed(before: Option<&Inventory>, now: &Inventory) -> BTreeSet<String> {
    let Some(before) = before else { return now.rows.keys().cloned().collect() };
    let differs = |id: &&String| before.rows.get(*id) != now.rows.get(*id) || before.markers.get(*id) != now.markers.get(*id);
    now.rows.keys().chain(before.rows.keys()).filter(differs).cloned().collect()
}
