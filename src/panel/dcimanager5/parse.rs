//! Reads the rows and forms of DCImanager 5 (ispsystem-api.md section 2), without any I/O.
//!
//! Errors are texts that say what is missing; the client adds panel and function.

use crate::panel::coremanager::document::{Document, Fields, is_nothing};
use crate::panel::coremanager::values::{address, is_ordinary, same_object};
use crate::panel::model::{
    AddressRow, AddressRowId, Connection, Expect, InstallForm, Level, OwnerEdit, PanelUser, PowerFlags, ServerEdit, ServerFlags,
    ServerForm, ServerId, ServerRow, UserId,
};

use super::notes;

/// A row of `server` (ispsystem-api.md 2.1, confirmed).
pub fn server_row(row: &Fields<'_>) -> Result<ServerRow, String> {
    let (mut types, mut names) = (Vec::new(), Vec::new());
    for field in ["chassis_templ", "type"] {
        let (reference, name) = (row.reference(field), row.display(field).filter(|v| !is_nothing(v)));
        add(&mut names, name.clone().or_else(|| reference.clone()));
        add(&mut types, reference);
        add(&mut types, name);
    }
    Ok(ServerRow {
        id: ServerId(row.opt("id").ok_or("id in one of its rows")?),
        name: row.opt("name").unwrap_or_default(),
        hostname: row.opt("hostname").unwrap_or_default(),
        main_address: row.opt("ip").and_then(|text| address(&text)),
        mac: row.reference("mac"),
        owner: row.reference("owner"),
        types,
        names,
        power: PowerFlags { on: row.flag("poweron"), off: row.flag("poweroff"), error: row.flag("powererror") },
        flags: ServerFlags {
            blocked: row.flag("blocked"),
            disabled: row.flag("disabled"),
            hardware_problem: row.flag("hwproblem"),
            diagnostics: row.flag("diag_in_progress"),
            operation_failed: row.flag("operation_failed"),
        },
        install: row.flag("install_in_progress").then(|| row.display("install_in_progress").unwrap_or_default()),
        description: row.display("gen_chassis_name").unwrap_or_default(),
    })
}

/// One more, unless it is there already.
fn add(texts: &mut Vec<String>, text: Option<String>) {
    let new = text.filter(|text| !texts.contains(text));
    texts.extend(new);
}

/// A row of `user` (ispsystem-api.md 1.2 point 5 and 2.9: 16 is an ordinary user, confirmed; `lvUser` is its name on creation).
pub fn user_row(row: &Fields<'_>) -> Result<PanelUser, String> {
    let ordinary = [row.opt("level"), row.display("level")].into_iter().flatten().any(|level| is_ordinary(&level));
    Ok(PanelUser {
        id: UserId(row.opt("id").ok_or("id in one of its rows")?),
        name: row.opt("name").ok_or("name in one of its rows")?,
        level: if ordinary { Level::User } else { Level::Administrator },
    })
}

/// A row of `iplist`; `None` for a grouping row (ispsystem-api.md 2.5, confirmed).
pub fn address_row(row: &Fields<'_>) -> Result<Option<AddressRow>, String> {
    if row.opt("type").as_deref() == Some("group") {
        return Ok(None);
    }
    Ok(Some(AddressRow {
        row: AddressRowId(row.opt("id").ok_or("id in one of its rows")?),
        address: row.opt("ip").and_then(|text| address(&text)).ok_or("an address (ip) in one of its rows")?,
        domain: row.opt("domain").unwrap_or_default(),
    }))
}

/// A row of `server.connection` (ispsystem-api.md 2.7, confirmed).
pub fn connection_row(row: &Fields<'_>) -> Result<Connection, String> {
    Ok(Connection {
        id: row.opt("id").ok_or("id in one of its rows")?,
        kind: row.opt("type").unwrap_or_default(),
        busy: row.flag("func_in_progress"),
        on: row.opt("status").and_then(|status| match status.to_ascii_lowercase().as_str() {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        }),
    })
}

/// The view of `server.edit` (ispsystem-api.md 2.2).
///
/// A missing field is empty, but a document without the fields that every form of a server has (confirmed) is none: taken for one, it would
/// show a server without owner or without notes, free for everybody, and one that we release as released.
pub fn server_form(document: &Document, server: &ServerId) -> Result<ServerForm, String> {
    let form = document.fields();
    let missing: Vec<&str> = ["mac", "name", "owner", "notes"].into_iter().filter(|name| !form.has(name)).collect();
    if !missing.is_empty() {
        return Err(format!("the form of a server ({})", missing.join(", ")));
    }
    same_object(&form, &server.0)?;
    Ok(ServerForm {
        owner: form.reference("owner"),
        notes: form.text("notes"),
        hostname: form.opt("hostname"),
        disabled: form.ticked("disabled"),
        parts: super::parts::parts(document),
    })
}

/// Why the expectation does not hold; `None` when it does.
#[must_use]
pub fn unmet(expect: &Expect, form: &ServerForm) -> Option<String> {
    match expect {
        Expect::Free => match (&form.owner, notes::markers(&form.notes).next()) {
            (Some(owner), _) => Some(format!("expected no owner, found {owner}")),
            (None, Some(marker)) => Some(format!("expected no marker in the notes, found {marker}")),
            (None, None) => None,
        },
        Expect::Owner(owner) => match (&form.owner, notes::markers(&form.notes).next()) {
            (Some(found), None) if found == owner => None,
            (Some(found), None) => Some(format!("expected owner {owner}, found {found}")),
            (None, None) => Some(format!("expected owner {owner}, found none")),
            (_, Some(marker)) => Some(format!("expected no marker in the notes, found {marker}")),
        },
        Expect::Marker(marker) if notes::has(&form.notes, marker) => None,
        Expect::Marker(marker) => match notes::markers(&form.notes).next() {
            Some(other) => Some(format!("expected {marker} in the notes, found {other}")),
            None => Some(format!("expected {marker} in the notes, found none")),
        },
    }
}

/// The fields to send back for an edit of owner and notes: all that the form shows, with these two changed
/// (ispsystem-api.md 1.3 and 2.2: fields left out may be reset).
#[must_use]
pub fn edited_form(document: &Document, shown: &ServerForm, edit: &ServerEdit) -> Vec<(String, String)> {
    let mut fields = document.fields().form();
    // `notes` is sent also where the form shows none, and `owner` in the form's own word for nobody: an empty one is no user.
    let owner = match &edit.owner {
        OwnerEdit::Keep => shown.owner.clone().unwrap_or_else(|| crate::panel::model::NO_OWNER.to_owned()),
        OwnerEdit::User(id) => id.0.clone(),
        OwnerEdit::Nobody => crate::panel::model::NO_OWNER.to_owned(),
    };
    for (name, value) in [("notes", notes::edited(&shown.notes, &edit.notes)), ("owner", owner)] {
        match fields.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => fields.push((name.to_owned(), value)),
        }
    }
    fields
}

/// The view of `server.operations` (ispsystem-api.md 2.6, confirmed).
#[must_use]
pub fn install_form(document: &Document) -> InstallForm {
    InstallForm {
        current: document.fields().reference("ostemplate"),
        shows_current: document.fields().has("ostemplate"),
        templates: document.options("ostemplate"),
        recipes: document.options("recipe"),
        tags: ["ostemplate", "recipe"].into_iter().flat_map(|list| document.option_tags(list)).collect(),
    }
}

/// Fields of `server.operations` that destroy more than an installation does, or start something else, with the values that
/// do not (ispsystem-api.md 2.6, confirmed). Sent whenever the form has them, whatever it shows.
pub const NEUTRAL: &[(&str, &str)] = &[("clearhdd", "off"), ("fullhddclear", "off"), ("isotemplate", "no_iso_template")];

/// Fields of `server.operations` that are filled in only where the form has them (ispsystem-api.md 2.6: hostname, ipaddr).
pub const OPTIONAL: [&str; 2] = ["hostname", "ipaddr"];
