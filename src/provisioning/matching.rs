//! Which servers are free, and in which order they are tried.

use std::collections::BTreeMap;

use crate::panel::model::{FREE_DOMAIN, ServerForm, ServerRow};

use super::facts::Inventory;
use super::marker;

/// Whether a row by itself shows a free server, of whatever type: the vendor's predicate and ours (ispsystem-api.md 2.1, confirmed, and
/// [design]).
#[must_use]
pub fn is_free_of_any_type(row: &ServerRow) -> bool {
    let flags = &row.flags;
    row.owner.is_none()
        && row.hostname.eq_ignore_ascii_case(FREE_DOMAIN)
        && row.install.is_none()
        && !(flags.blocked || flags.disabled || flags.hardware_problem || flags.diagnostics || flags.operation_failed)
}

/// Whether the form agrees that nobody has the server.
#[must_use]
pub fn form_is_free(form: &ServerForm) -> bool {
    form.owner.is_none() && !form.disabled && marker::tokens(&form.notes).next().is_none()
}

fn is_of_type(row: &ServerRow, server_type: &str) -> bool {
    row.types.iter().any(|t| t == server_type)
}

/// Free servers of a type, lowest id first; those whose power cannot be asked come last, or not at all where IPMI errors count.
#[must_use]
pub fn candidates<'a>(inventory: &'a Inventory, server_type: &str, ipmi_errors_count: bool) -> Vec<&'a ServerRow> {
    free(inventory, ipmi_errors_count, |row| is_of_type(row, server_type))
}

/// The same for servers of all types.
#[must_use]
pub fn candidates_of_any_type(inventory: &Inventory, ipmi_errors_count: bool) -> Vec<&ServerRow> {
    free(inventory, ipmi_errors_count, |_| true)
}

/// A server whose MAC address another row has, too, is none of them: an installation could hit the wrong machine. One whose row shows no MAC
/// address is: not every list shows them, and ispsystem-api.md 2.1 has that check as [design] only.
fn free(inventory: &Inventory, ipmi_errors_count: bool, suits: impl Fn(&ServerRow) -> bool) -> Vec<&ServerRow> {
    let usable = |row: &&ServerRow| suits(row) && is_free_of_any_type(row) && !(ipmi_errors_count && row.power.error);
    let mut found: Vec<&ServerRow> = inventory.rows.values().filter(usable).collect();
    // One walk over all rows counts the MAC addresses of those that are free, however many they are.
    let mut known: BTreeMap<Vec<u8>, usize> =
        found.iter().filter_map(|row| Some((spelt(row.mac.as_deref()?).collect::<Vec<u8>>(), 0))).collect();
    let mut mac = Vec::new();
    for text in inventory.rows.values().filter_map(|row| row.mac.as_deref()).filter(|_| !found.is_empty()) {
        mac.clear();
        mac.extend(spelt(text));
        if let Some(times) = known.get_mut(mac.as_slice()) {
            *times += 1;
        }
    }
    found.retain(|row| {
        let own: Option<Vec<u8>> = row.mac.as_deref().map(|text| spelt(text).collect());
        own.is_none_or(|own| known.get(&own).is_none_or(|times| *times < 2))
    });
    found.sort_by(|a, b| (a.power.error, a.id.sort_key()).cmp(&(b.power.error, b.id.sort_key())));
    found
}

/// A MAC address in one spelling: panels keep it as a person wrote it, in either case, with colons or hyphens.
fn spelt(mac: &str) -> impl Iterator<Item = u8> {
    mac.bytes().map(|c| if c == b'-' { b':' } else { c.to_ascii_lowercase() })
}

/// Servers of a type that the list shows as free, and that no order is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotGiven {
    /// Those that share a MAC address with another one.
    pub share_mac: usize,
    /// Those that cannot be asked for their power, where that counts.
    pub powerless: usize,
}

/// How many servers of a type no order is given, although they are free.
#[must_use]
pub fn not_given(inventory: &Inventory, server_type: &str, ipmi_errors_count: bool) -> NotGiven {
    let listed = inventory.rows.values().filter(|row| is_free_of_any_type(row) && is_of_type(row, server_type)).count();
    if listed == 0 {
        return NotGiven { share_mac: 0, powerless: 0 };
    }
    let given = |strict| candidates(inventory, server_type, strict).len();
    let whatever_power = given(false);
    let powerless = if ipmi_errors_count { whatever_power - given(true) } else { 0 };
    NotGiven { share_mac: listed - whatever_power, powerless }
}

/// Whether any server of this type is known at all.
#[must_use]
pub fn type_is_known(inventory: &Inventory, server_type: &str) -> bool {
    inventory.rows.values().any(|row| is_of_type(row, server_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::model::Parts;

    fn row(id: &str) -> ServerRow {
        ServerRow {
            name: format!("R1-{id}"),
            hostname: FREE_DOMAIN.into(),
            mac: Some(format!("00:{id}")),
            types: vec!["E3-16G".into()],
            ..ServerRow::blank(id)
        }
    }

    type Spoil = fn(&mut ServerRow);

    #[test]
    fn the_free_predicate_row_by_row() {
        let is_free = |row: ServerRow| {
            let inventory = Inventory { rows: [(row.id.0.clone(), row)].into(), ..Inventory::default() };
            !candidates(&inventory, "E3-16G", true).is_empty()
        };
        assert!(is_free(row("1")));
        assert!(is_free(ServerRow { mac: None, ..row("1") }), "not every list shows MAC addresses");
        let rows: [(&str, Spoil); 9] = [
            ("owner", |r| r.owner = Some("bob".into())),
            ("hostname", |r| r.hostname = "a.example".into()),
            ("type", |r| r.types = vec!["E5".into()]),
            ("blocked", |r| r.flags.blocked = true),
            ("disabled", |r| r.flags.disabled = true),
            ("hwproblem", |r| r.flags.hardware_problem = true),
            ("diagnostics", |r| r.flags.diagnostics = true),
            ("operation_failed", |r| r.flags.operation_failed = true),
            ("install", |r| r.install = Some(String::new())),
        ];
        for (what, spoil) in rows {
            let mut spoiled = row("1");
            spoil(&mut spoiled);
            assert!(!is_free(spoiled), "{what}");
        }
    }

    #[test]
    fn the_lowest_id_comes_first_by_number_and_shared_macs_are_left_out() {
        let mut inventory = Inventory::default();
        for id in ["10", "9", "2", "3"] {
            inventory.rows.insert(id.into(), row(id));
        }
        for id in ["2", "3"] {
            inventory.rows.get_mut(id).unwrap().mac = Some("same".into());
        }
        let ids = |strict| candidates(&inventory, "E3-16G", strict).iter().map(|r| r.id.0.clone()).collect::<Vec<_>>();
        assert_eq!(ids(true), ["9", "10"]);
        inventory.rows.get_mut("9").unwrap().power.error = true;
        let ids = |strict| candidates(&inventory, "E3-16G", strict).iter().map(|r| r.id.0.clone()).collect::<Vec<_>>();
        assert_eq!(ids(true), ["10"]);
        assert_eq!(ids(false), ["10", "9"]);
        assert!(type_is_known(&inventory, "E3-16G") && !type_is_known(&inventory, "X"));
        let not_given = |strict| not_given(&inventory, "E3-16G", strict);
        assert_eq!(not_given(false), NotGiven { share_mac: 2, powerless: 0 });
        assert_eq!(not_given(true), NotGiven { share_mac: 2, powerless: 1 });
    }

    #[test]
    fn a_mac_that_is_written_otherwise_is_the_same() {
        let free = |macs: [&str; 2]| {
            let mut inventory = Inventory::default();
            for (id, mac) in ["1", "2"].into_iter().zip(macs) {
                inventory.rows.insert(id.into(), ServerRow { mac: Some(mac.into()), ..row(id) });
            }
            candidates(&inventory, "E3-16G", true).len()
        };
        for other in ["00:16:3e:00:00:ab", "00:16:3E:00:00:AB", "00-16-3E-00-00-ab"] {
            assert_eq!(free(["00:16:3e:00:00:ab", other]), 0, "{other}");
        }
        for other in ["00:16:3e:00:00:ac", "00:16:3e:00:00:a"] {
            assert_eq!(free(["00:16:3e:00:00:ab", other]), 2, "{other}");
        }
    }

    #[test]
    fn a_form_with_anybodys_marker_is_not_free() {
        let free = ServerForm { owner: None, notes: "old disk".into(), hostname: None, disabled: false, parts: Parts::default() };
        assert!(form_is_free(&free));
        for form in [
            ServerForm { owner: Some("3".into()), ..free.clone() },
            ServerForm { notes: "k8s:other/a/b/c".into(), ..free.clone() },
            ServerForm { disabled: true, ..free.clone() },
        ] {
            assert!(!form_is_free(&form), "{form:?}");
        }
    }
}
