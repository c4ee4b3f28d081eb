//! The index of markers: which servers carry whose, read from their forms once and again when owner or hostname changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::panel::ServerPanel;
use crate::panel::error::PanelError;
use crate::panel::model::{Level, PanelUser, ServerId, ServerRow};
use crate::provisioning::context::{SHORT, cut};
use crate::provisioning::facts::{Inventory, Unread};
use crate::provisioning::marker::{Marker, tokens};

use super::portion::forms;

/// Forms that are read at a time; the panel's own limits come on top.
const AT_A_TIME: usize = 8;

/// Whose servers are looked at.
pub struct Whose {
    /// The operator's own log-in, and the clients of the handler's orders.
    pub owners: BTreeSet<String>,
    /// Clients of earlier orders, as the handler's status has recorded them: a server of theirs may still carry a marker.
    pub remembered: BTreeSet<String>,
    /// Servers whose marker was changed while owner and host name were not.
    pub remarked: BTreeSet<String>,
    /// An order looks for a server that it may have had before it was restored. The operator may have had another log-in then.
    pub searched: bool,
}

/// Lists the panel's servers, and reads the notes of those whose owner may be ours.
///
/// The list does not show notes, so that a
/// server's form is read once, and again when its owner or hostname differs from the list before (design.md section 9).
pub async fn take(panel: &Arc<dyn ServerPanel>, before: Option<&Inventory>, whose: &Whose) -> Result<Inventory, PanelError> {
    let (began, turn) = (Timestamp::now(), before.map_or(0, |before| before.turn.wrapping_add(1)));
    let mut rows: BTreeMap<String, ServerRow> = panel.servers().await?.into_iter().map(|row| (row.id.0.clone(), row)).collect();
    let (ids, asked) = ids_of(panel, before, whose, &rows).await?;
    let names = whose.owners.union(&whose.remembered).cloned().collect();
    let known = |names: &BTreeSet<String>| -> BTreeSet<String> {
        names.iter().flat_map(|name| [Some(name), ids.get(name)]).flatten().cloned().collect()
    };
    let mut owners = known(&whose.owners);
    progress_text(panel, turn, before, &owners, &mut rows).await;
    owners.extend(known(&whose.remembered));
    let former = former(panel, before, whose, &rows, &owners).await?;
    owners.extend(former.iter().flatten().cloned());
    let mut markers = BTreeMap::new();
    let mut wanted = Vec::new();
    for (id, row) in rows.iter().filter(|(_, row)| row.owner.as_ref().is_some_and(|o| owners.contains(o))) {
        match before.and_then(|b| Some((b.rows.get(id)?, b.markers.get(id)?))) {
            Some((old, known)) if old.owner == row.owner && old.hostname == row.hostname && !whose.remarked.contains(id) => {
                markers.insert(id.clone(), known.clone());
            }
            Some(_) | None => wanted.push(id.clone()),
        }
    }
    // Those that cannot be read, or take their time, are not the first ones each time.
    let first = turn % wanted.len().max(1);
    wanted.rotate_left(first);
    // What was not read is not in the index: who might own it waits, and the next list goes on.
    let mut unread = BTreeMap::new();
    for (id, form) in forms(panel, wanted, AT_A_TIME).await {
        match form {
            Ok(form) => {
                markers.insert(id, tokens(&form.notes).filter_map(Marker::parse).collect());
            }
            Err(error) => {
                let since = before.and_then(|b| b.unread.get(&id)).map_or(began, |known| known.since);
                unread.insert(id, Unread { since, why: cut(&error.to_string(), SHORT) });
            }
        }
    }
    let previous = before.map(|b| b.rows.keys().cloned().collect());
    Ok(Inventory { rows, began, turn, previous, ids, asked, owners: names, former, markers, unread, hardware: BTreeMap::new() })
}

/// Owners in the list, beside those that are known, who may be the operator under an earlier log-in.
async fn former(
    panel: &Arc<dyn ServerPanel>,
    before: Option<&Inventory>,
    whose: &Whose,
    rows: &BTreeMap<String, ServerRow>,
    known: &BTreeSet<String>,
) -> Result<Option<BTreeSet<String>>, PanelError> {
    if !whose.searched {
        return Ok(None);
    }
    let owners = owners_in(rows);
    let same = before.filter(|b| !is_asked_again(b) && owners_in(&b.rows) == owners);
    if let Some(former) = same.and_then(|b| b.former.clone()) {
        return Ok(Some(former));
    }
    let mut strange: BTreeSet<String> = owners.into_iter().filter(|owner| !known.contains(owner)).collect();
    if !strange.is_empty() {
        let users = panel.users().await?;
        strange.retain(|owner| may_have_been_ours(owner, &users));
    }
    Ok(Some(strange))
}

/// After so many lists it is asked anew who is who: a user may be called otherwise by then.
const ASK_AGAIN: usize = 60;

/// Whether the list after this one asks anew.
fn is_asked_again(before: &Inventory) -> bool {
    before.turn.wrapping_add(1).is_multiple_of(ASK_AGAIN)
}

fn owners_in(rows: &BTreeMap<String, ServerRow>) -> BTreeSet<String> {
    rows.values().filter_map(|row| row.owner.clone()).collect()
}

/// Whether an owner is an administrator, or nobody whom the panel knows: a log-in that is not used any more may have been deleted.
fn may_have_been_ours(owner: &str, users: &[PanelUser]) -> bool {
    let mut named = users.iter().filter(|user| user.id.0 == owner || user.name == owner).peekable();
    named.peek().is_none() || named.any(|user| user.level == Level::Administrator)
}

/// The ids of the owners, for panels whose list shows those instead of names, and the names that were asked for. Read only where the list
/// shows an owner that is neither, and once: an id that is known stays known, and who had no user is asked for again when an owner shows
/// that is new. A name that is not looked at meanwhile is a new one.
async fn ids_of(
    panel: &Arc<dyn ServerPanel>,
    before: Option<&Inventory>,
    whose: &Whose,
    rows: &BTreeMap<String, ServerRow>,
) -> Result<(BTreeMap<String, String>, BTreeSet<String>), PanelError> {
    let looked_at = |name: &String| whose.owners.contains(name) || whose.remembered.contains(name);
    let known: BTreeMap<String, String> =
        before.map(|b| b.ids.iter().filter(|(name, _)| looked_at(name)).map(|(n, i)| (n.clone(), i.clone())).collect()).unwrap_or_default();
    let asked: BTreeSet<String> =
        before.iter().filter(|b| !is_asked_again(b)).flat_map(|b| &b.asked).filter(|name| looked_at(name)).cloned().collect();
    if !unsure(whose, &known, &asked, before.map(|b| owners_in(&b.rows)).as_ref(), &owners_in(rows)) {
        return Ok((known, asked));
    }
    let users = panel.users().await?.into_iter().filter(|u| looked_at(&u.name));
    Ok((users.map(|u| (u.name, u.id.0)).collect(), whose.owners.union(&whose.remembered).cloned().collect()))
}

/// Whether an owner in the list may be one of ours under an id that is not known.
fn unsure(
    whose: &Whose,
    known: &BTreeMap<String, String>,
    asked: &BTreeSet<String>,
    before: Option<&BTreeSet<String>>,
    now: &BTreeSet<String>,
) -> bool {
    let strange =
        |owner: &&String| !whose.owners.contains(*owner) && !whose.remembered.contains(*owner) && !known.values().any(|id| id == *owner);
    // Users that are only remembered may not exist any more: they are no reason to ask again and again. Nor are those who have no user yet,
    // as the client of an order for what is sold out.
    let all_known = whose.owners.iter().all(|name| known.contains_key(name) || asked.contains(name));
    // One whom no list has shown before may be one of ours who was made anew.
    let new = |owner: &String| before.is_some_and(|before| !before.contains(owner));
    now.iter().filter(strange).any(|owner| !all_known || new(owner))
}

/// The panel's words for installations whose flag carries none: one tooltip for each list, in turn, never one for each order.
async fn progress_text(
    panel: &Arc<dyn ServerPanel>,
    turn: usize,
    before: Option<&Inventory>,
    owners: &BTreeSet<String>,
    rows: &mut BTreeMap<String, ServerRow>,
) {
    let silent = |row: &ServerRow| row.install.as_deref() == Some("") && row.owner.as_ref().is_some_and(|o| owners.contains(o));
    let known = |id: &String| before.and_then(|b| b.rows.get(id)?.install.clone()).filter(|text| !text.is_empty());
    let waiting: Vec<String> = rows.values().filter(|row| silent(row)).map(|row| row.id.0.clone()).collect();
    // Also those that have no text yet: one of which the panel says nothing keeps no other from its turn.
    let asked = match waiting.get(turn % waiting.len().max(1)) {
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

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::net::IpAddr;
    use std::sync::Mutex;

    use futures::FutureExt as _;
    use secrecy::SecretString;

    use super::*;
    use crate::controller::panels::lock;
    use crate::panel::model::{
        AddressRow, AddressRowId, AddressSpec, Connection, InstallForm, InstallRequest, MainAddress, PanelUser, Parts, Power, Probe,
        ServerEdit, ServerForm, UserId,
    };
    use crate::panel::{Change, Read};

    /// Two servers of ours that install without words; only the second has a tooltip. What it was asked about is noted.
    #[derive(Default)]
    struct Installing {
        texts: Mutex<Vec<String>>,
    }

    impl ServerPanel for Installing {
        fn is_administrator(&self) -> bool {
            true
        }

        fn servers(&self) -> Read<'_, Vec<ServerRow>> {
            let row = |id: &str| ServerRow { owner: Some("dci".into()), install: Some(String::new()), ..ServerRow::blank(id) };
            ready(Ok(vec![row("17"), row("18")])).boxed()
        }

        fn users(&self) -> Read<'_, Vec<PanelUser>> {
            pending().boxed()
        }

        fn server_form<'a>(&'a self, _: &'a ServerId) -> Read<'a, ServerForm> {
            let (notes, parts) = (String::new(), Parts::default());
            ready(Ok(ServerForm { owner: None, notes, hostname: None, disabled: false, parts })).boxed()
        }

        fn operation_text<'a>(&'a self, server: &'a ServerId) -> Read<'a, Option<String>> {
            lock(&self.texts).push(server.0.clone());
            ready(Ok((server.0 == "18").then(|| "Installing: 42%".to_owned()))).boxed()
        }

        fn probe(&self) -> Read<'_, Probe> {
            pending().boxed()
        }

        fn create_user<'a>(&'a self, _: &'a str, _: &'a SecretString) -> Change<'a, UserId> {
            pending().boxed()
        }

        fn edit_server<'a>(&'a self, _: &'a ServerId, _: &'a ServerEdit) -> Change<'a, ()> {
            pending().boxed()
        }

        fn addresses<'a>(&'a self, _: &'a ServerId) -> Read<'a, Vec<AddressRow>> {
            pending().boxed()
        }

        fn add_address<'a>(&'a self, _: &'a ServerId, _: &'a AddressSpec) -> Change<'a, IpAddr> {
            pending().boxed()
        }

        fn replace_main_address<'a>(&'a self, _: &'a ServerId, _: &'a AddressRowId, _: &'a MainAddress) -> Change<'a, ()> {
            pending().boxed()
        }

        fn set_domain<'a>(&'a self, _: &'a ServerId, _: &'a AddressRowId, _: &'a str) -> Change<'a, ()> {
            pending().boxed()
        }

        fn remove_address<'a>(&'a self, _: &'a ServerId, _: &'a AddressRowId) -> Change<'a, ()> {
            pending().boxed()
        }

        fn power<'a>(&'a self, _: &'a ServerId, _: Power) -> Change<'a, ()> {
            pending().boxed()
        }

        fn enable<'a>(&'a self, _: &'a ServerId) -> Change<'a, ()> {
            pending().boxed()
        }

        fn disable<'a>(&'a self, _: &'a ServerId) -> Change<'a, ()> {
            pending().boxed()
        }

        fn switch_connection<'a>(&'a self, _: &'a ServerId, _: &'a str, _: Power) -> Change<'a, ()> {
            pending().boxed()
        }

        fn set_password<'a>(&'a self, _: &'a ServerId, _: &'a SecretString) -> Change<'a, ()> {
            pending().boxed()
        }

        fn install_form<'a>(&'a self, _: &'a ServerId) -> Read<'a, InstallForm> {
            pending().boxed()
        }

        fn install<'a>(&'a self, _: &'a ServerId, _: &'a InstallRequest) -> Change<'a, ()> {
            pending().boxed()
        }

        fn run_recipe<'a>(&'a self, _: &'a ServerId, _: &'a str) -> Change<'a, ()> {
            pending().boxed()
        }

        fn flag_for_cleaning<'a>(&'a self, _: &'a ServerId) -> Change<'a, ()> {
            pending().boxed()
        }

        fn cancel_operation<'a>(&'a self, _: &'a ServerId) -> Change<'a, ()> {
            pending().boxed()
        }

        fn connections<'a>(&'a self, _: &'a ServerId) -> Read<'a, Vec<Connection>> {
            pending().boxed()
        }
    }

    fn set(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|s| (*s).to_owned()).collect()
    }

    #[tokio::test]
    async fn each_server_that_installs_has_its_turn_whatever_the_others_say() {
        let installing = Arc::new(Installing::default());
        let panel: Arc<dyn ServerPanel> = installing.clone();
        let whose = Whose { owners: set(&["dci"]), remembered: BTreeSet::new(), remarked: BTreeSet::new(), searched: false };
        let mut list: Option<Inventory> = None;
        for turn in 0..4 {
            let next = take(&panel, list.as_ref(), &whose).await.unwrap();
            assert_eq!(next.turn, turn);
            list = Some(next);
        }
        assert_eq!(*lock(&installing.texts), ["17", "18", "17", "18"], "however far the lists are apart");
        let texts: Vec<Option<String>> = list.unwrap().rows.into_values().map(|row| row.install).collect();
        assert_eq!(texts, [Some(String::new()), Some("Installing: 42%".to_owned())], "what was read stays");
    }

    #[test]
    fn users_are_asked_for_where_an_owner_may_be_one_of_ours_under_another_id() {
        let whose = Whose { owners: set(&["dci", "acme"]), remembered: set(&["old"]), remarked: BTreeSet::new(), searched: false };
        let all = BTreeMap::from([("dci".to_owned(), "2".to_owned()), ("acme".to_owned(), "57".to_owned())]);
        let some = BTreeMap::from([("dci".to_owned(), "2".to_owned())]);
        let asking = |known, asked: &[&str], before: Option<&[&str]>, now: &[&str]| {
            unsure(&whose, known, &set(asked), before.map(set).as_ref(), &set(now))
        };
        let unsure = |known, before: Option<&[&str]>, now: &[&str]| asking(known, &[], before, now);
        assert!(!unsure(&some, None, &["dci", "acme", "old"]), "the list shows names");
        assert!(unsure(&some, None, &["2", "57"]));
        assert!(!unsure(&all, Some(&["2", "57", "99"]), &["2", "57", "99"]), "a stranger who was there before");
        assert!(unsure(&all, Some(&["2", "57"]), &["2", "91"]), "acme may have been made anew");
        assert!(!unsure(&all, None, &["2", "99"]));
        // Acme had no user when that was asked.
        let both = ["dci", "acme"];
        assert!(!asking(&some, &both, Some(&["2", "99"]), &["2", "99"]), "nor has he one now, as far as the list shows");
        assert!(asking(&some, &both, Some(&["2", "99"]), &["2", "99", "57"]), "and now he may have one");
        assert!(asking(&some, &["dci"], Some(&["2", "99"]), &["2", "99"]), "he was not asked for");
    }

    #[test]
    fn an_earlier_log_in_is_an_administrator_or_nobody_whom_the_panel_knows() {
        let user = |id: &str, name: &str, level: Level| PanelUser { id: id.into(), name: name.into(), level };
        let users = [user("1", "root", Level::Administrator), user("7", "bob", Level::User), user("8", "1", Level::User)];
        for (owner, expected) in [("root", true), ("1", true), ("99", true), ("gone", true), ("bob", false), ("7", false), ("8", false)] {
            assert_eq!(may_have_been_ours(owner, &users), expected, "{owner}");
        }
    }
}
