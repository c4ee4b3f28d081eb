//! Reads the rows and forms of IPmanager 5 (ispsystem-api.md 4.1), without any I/O.

use std::net::IpAddr;

use crate::panel::coremanager::document::{Document, Fields};
use crate::panel::coremanager::values::address;
use crate::panel::model::PoolAddress;

/// A row of `ip`: `ip, domain, iptype, note` (confirmed).
pub fn pool_row(row: &Fields<'_>) -> Result<PoolAddress, String> {
    let group = row.opt("iptype").unwrap_or_default();
    Ok(PoolAddress {
        address: row.opt("ip").and_then(|text| address(&text)).ok_or("an address (ip) in one of its rows")?,
        group_shown: row.display("iptype").filter(|shown| *shown != group),
        group,
        domain: row.opt("domain").unwrap_or_default(),
        note: row.text("note"),
    })
}

/// Checks that a view of `ip.edit` shows this address: the key is the `ip` element itself (confirmed).
pub fn check_form(document: &Document, wanted: IpAddr) -> Result<(), String> {
    let form = document.fields();
    if !["ip", "domain", "iptype", "note"].iter().any(|name| form.has(name)) {
        return Err("the form of an address (ip, domain, iptype, note)".to_owned());
    }
    for name in ["ip", "elid"] {
        if form.opt(name).and_then(|text| address(&text)).is_some_and(|shown| shown != wanted) {
            return Err(format!("the form of {wanted}"));
        }
    }
    Ok(())
}
