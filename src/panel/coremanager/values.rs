//! What all products write alike: the levels of users, addresses, and which object a form shows.

use std::net::IpAddr;

use super::document::Fields;

/// The level of an ordinary user.
pub const ORDINARY: &str = "16";

/// Whether a level is that of an ordinary user (ispsystem-api.md 1.2 point 5 and 2.9: 16, confirmed; `lvUser` is its name on creation).
#[must_use]
pub fn is_ordinary(level: &str) -> bool {
    matches!(level.trim(), ORDINARY | "lvUser")
}

/// Whether a level is an administrator's: 16 is ordinary (confirmed), 29 and 30 are administrators (inferred), and anything above the
/// ordinary level is taken for one.
#[must_use]
pub fn is_administrators(level: &str) -> bool {
    level.trim().parse::<u32>().is_ok_and(|n| n > 16)
}

/// An address as the panels write it: alone, or with the length of its network.
#[must_use]
pub fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.split_once('/').map_or(text, |(address, _)| address).parse().ok()
}

/// A form that says which object it shows must show the one that was asked for.
pub fn same_object(form: &Fields<'_>, id: &str) -> Result<(), String> {
    match form.opt("elid") {
        Some(shown) if shown != id => Err(format!("the form of {id}")),
        Some(_) | None => Ok(()),
    }
}
