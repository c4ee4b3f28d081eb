//! `iplist`: the addresses of a server. Section 2.5 of the facts.

use std::net::IpAddr;

use crate::sim::{
    coremanager::{
        Call,
        doc::{Doc, Node, slist},
        list as lists,
    },
    world::{
        World,
        addresses::Family,
        dci::Dci,
        iplist::{NewAddress, RowChange},
        refusal::Refusal,
        server::{IpRow, Server},
    },
};

/// `iplist`, `elid` = the server. Rows of type `group` stand between the addresses and are none: their ids are those of another table, and
/// may be the ids of addresses.
pub(super) fn list(dci: &Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    let elid = match call.params.get("elid") {
        "" => call.params.get("plid"),
        elid => elid,
    };
    let server = dci.server(dci.visible(elid, call.user)?)?;
    let mut rows = Vec::new();
    let mut groups: Vec<&str> = Vec::new();
    for row in &server.rows {
        if dci.behaviour.iplist_groups && !groups.contains(&row.group.as_str()) {
            groups.push(&row.group);
            rows.push(Node::new("elem").field("id", groups.len().to_string()).field("type", "group"));
        }
        rows.push(
            Node::new("elem")
                .field("id", row.id.to_string())
                .field("ip", row.ip.to_string())
                .field("domain", row.domain.clone())
                .field("type", "ip"),
        );
    }
    Ok(lists::show(call, rows))
}

fn find<'a>(server: &'a Server, elid: &str) -> Result<&'a IpRow, Refusal> {
    let row = server.rows.iter().find(|row| row.id.to_string() == elid);
    row.ok_or_else(|| Refusal::missed("ip", elid))
}

fn address(field: &str, text: &str) -> Result<Option<IpAddr>, Refusal> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Refusal::value(field, text)),
    }
}

/// `iplist.edit`, `plid` = the server, `elid` = a row: shows, adds, changes.
pub(super) fn edit(world: &mut World, dci: usize, call: &Call<'_>) -> Result<Doc, Refusal> {
    let server = world.dci[dci].visible(call.params.get("plid"), call.user)?;
    let elid = call.params.get("elid");
    if !call.is_submitted() {
        return form(&world.dci[dci], server, elid);
    }
    let group = match call.params.get("iptype") {
        "" => call.params.get("selected_ip_type"),
        group => group,
    };
    let ip = address("ip", call.params.get("ip"))?;
    if elid.is_empty() {
        call.admins_only()?;
        let family = call.params.get("family");
        let family = Family::parse(family).ok_or_else(|| Refusal::value("family", family))?;
        let usual = world.dci[dci].server(server)?.hostname().to_owned();
        let domain = call.params.sent("domain").unwrap_or(&usual);
        let new = NewAddress { group, family, ip, domain };
        let ip = world.add_address(dci, server, &new, call.now)?;
        return Ok(Doc::fields(vec![Node::text("ip", ip.to_string())]));
    }
    let row = find(world.dci[dci].server(server)?, elid)?.id;
    // An address field that is sent but empty asks for any address of the group.
    let any_of = (call.params.sent("ip") == Some("") && !group.is_empty()).then_some(group);
    if ip.is_some() || any_of.is_some() {
        call.admins_only()?;
    }
    let change = RowChange { domain: call.params.sent("domain"), ip, any_of };
    world.change_row(dci, server, row, change, call.now)?;
    Ok(Doc::ok())
}

fn form(dci: &Dci, server: u64, elid: &str) -> Result<Doc, Refusal> {
    let server = dci.server(server)?;
    let mut fields = if elid.is_empty() {
        vec![
            Node::text("domain", server.hostname()),
            Node::text("iptype", dci.base.groups.first().map_or("", |group| &group.name)),
            Node::text("family", "ipv4"),
            Node::new("ip"),
        ]
    } else {
        let row = find(server, elid)?;
        vec![
            Node::text("elid", row.id.to_string()),
            Node::text("ip", row.ip.to_string()),
            Node::text("domain", row.domain.clone()),
            Node::text("iptype", row.group.clone()),
            Node::text("family", Family::of(row.ip).word()),
        ]
    };
    fields.push(slist("iptype", dci.base.groups.iter().map(|group| (group.name.clone(), group.name.clone()))));
    Ok(Doc::fields(fields))
}

/// `iplist.delete`.
pub(super) fn delete(world: &mut World, dci: usize, call: &Call<'_>) -> Result<Doc, Refusal> {
    call.admins_only()?;
    let server = world.dci[dci].visible(call.params.get("plid"), call.user)?;
    for elid in call.elids()? {
        let row = find(world.dci[dci].server(server)?, elid)?.id;
        world.delete_row(dci, server, row)?;
    }
    Ok(Doc::ok())
}
