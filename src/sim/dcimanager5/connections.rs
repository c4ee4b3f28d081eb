//! `server.connection`, `ipmiredirect`: section 2.7 of the facts.

use crate::sim::{
    config::ConnectionKind,
    coremanager::{
        Call,
        doc::{Doc, Node},
        list as lists,
    },
    world::{connections::Connection, dci::Dci, refusal::Refusal},
};

/// `server.connection`, `elid` = the server. The flag `func_in_progress` stands while a port is being switched.
pub(super) fn list(dci: &Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    let server = dci.server(dci.visible(call.params.get("elid"), call.user)?)?;
    let rows = server.connections.iter().map(|connection| {
        Node::new("elem")
            .field("id", connection.id.to_string())
            .field("type", connection.kind.word())
            .field("ip", connection.ip.clone())
            .field("port", connection.port.clone())
            .field("status", if connection.on { "on" } else { "off" })
            .flag("func_in_progress", connection.change.is_some())
    });
    Ok(lists::show(call, rows.collect()))
}

fn named(dci: &Dci, call: &Call<'_>) -> Result<(u64, u64), Refusal> {
    let server = dci.visible(call.params.get("plid"), call.user)?;
    let elid = call.params.get("elid");
    let found = dci.server(server)?.connections.iter().find(|connection| connection.id.to_string() == elid);
    found.map(|connection| (server, connection.id)).ok_or_else(|| Refusal::missed("connection", elid))
}

fn find(dci: &mut Dci, server: u64, id: u64) -> Result<&mut Connection, Refusal> {
    let mut connections = dci.server_mut(server)?.connections.iter_mut();
    connections.find(|connection| connection.id == id).ok_or_else(|| Refusal::missed("connection", &id.to_string()))
}

/// `server.connection.edit`: `port` of a switch, `ip` of an IPMI.
pub(super) fn edit(dci: &mut Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    let (server, id) = named(dci, call)?;
    let connection = find(dci, server, id)?;
    if call.is_submitted() {
        call.admins_only()?;
        for (name, field) in [("ip", &mut connection.ip), ("port", &mut connection.port)] {
            if let Some(value) = call.params.sent(name) {
                value.clone_into(field);
            }
        }
        return Ok(Doc::ok());
    }
    let mut fields = vec![Node::text("elid", id.to_string()), Node::text("type", connection.kind.word())];
    match connection.kind {
        ConnectionKind::Switch | ConnectionKind::Pdu => fields.push(Node::text("port", connection.port.clone())),
        ConnectionKind::Ipmi => {
            fields.push(Node::text("ip", connection.ip.clone()));
            // Public clients read either name.
            fields.push(Node::text("ipmiip", connection.ip.clone()));
        }
    }
    Ok(Doc::fields(fields))
}

/// `server.connection.on`, `server.connection.off`.
pub(super) fn switch(dci: &mut Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    call.admins_only()?;
    let server = dci.visible(call.params.get("plid"), call.user)?;
    for elid in call.elids()? {
        let id = elid.parse().map_err(|_| Refusal::missed("connection", elid))?;
        dci.switch_connection(server, id, call.func == "server.connection.on", call.now)?;
    }
    Ok(Doc::ok())
}

/// `server.connection.delete`.
pub(super) fn delete(dci: &mut Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    call.admins_only()?;
    let (server, id) = named(dci, call)?;
    dci.server_mut(server)?.connections.retain(|connection| connection.id != id);
    Ok(Doc::ok())
}

/// The wizards that connect a server to an IPMI or a switch port.
pub(super) fn add(dci: &mut Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    call.admins_only()?;
    let server = dci.visible(call.params.get("plid"), call.user)?;
    let field = |name: &str| call.params.get(name);
    let has_ipmi = dci.server(server)?.connections.iter().any(|connection| connection.kind == ConnectionKind::Ipmi);
    let id = match call.func {
        "server.connection.connwizport" => {
            let port = format!("{} {}", field("switch"), field("port"));
            dci.connect(server, ConnectionKind::Switch, "", port.trim())?
        }
        "server.connection.connwizipmi" => dci.connect(server, ConnectionKind::Ipmi, field("ip"), "")?,
        // Makes a connection where there is none yet; otherwise only a user of the IPMI, which is not simulated.
        _ if has_ipmi => return Ok(Doc::ok()),
        _ => dci.connect(server, ConnectionKind::Ipmi, "", "")?,
    };
    Ok(Doc::created("id", id))
}

/// `ipmiredirect`: the address of the console stands in `ok`.
pub(super) fn console(dci: &Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    let server = dci.server(dci.visible(call.params.get("elid"), call.user)?)?;
    let value = call.params.get("value");
    let known = server.connections.iter().any(|connection| connection.kind == ConnectionKind::Ipmi);
    if !known || (!value.is_empty() && value != format!("IPMI S{}", server.id)) {
        return Err(Refusal::missed("ipmi", value));
    }
    Ok(Doc::fields(vec![Node::text("ok", format!("/ipmiproxy/{}/", server.id)).attr("type", "url")]))
}
