//! Server types, racks, switches, PDUs, templates, traffic: the smaller functions of sections 2.2 and 2.5 to 2.9.

use crate::sim::{
    config::{ConnectionKind, TemplateKind},
    coremanager::{
        Call,
        doc::{Doc, Node},
        list as lists,
    },
    world::{
        addresses::{Group, Range},
        dci::{Dci, Rack},
        refusal::Refusal,
        server::Server,
    },
};

/// Does the call, if it is one of these.
pub(super) fn dispatch(dci: &mut Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    match call.func {
        "osmgr" => Ok(lists::show(call, templates(dci))),
        "traffic" | "trafficburstable" | "trafficpie" | "trafficburstable_pie" => Ok(traffic(dci, call)),
        "chassistempl" | "rack" | "switch" | "switch.port" | "pdu" | "pdu.port" | "ipdb" => {
            call.admins_only()?;
            rows(dci, call).map(|rows| lists::show(call, rows))
        }
        "switch.port.on" | "switch.port.off" | "switch.port.edit" | "switch.port.refresh" => switch_port(dci, call),
        "pdu.on" | "pdu.off" => pdu_port(dci, call),
        "ipdb.edit" => add_range(dci, call),
        _ => Err(call.unknown()),
    }
}

fn templates(dci: &Dci) -> Vec<Node> {
    let row = |template: &crate::sim::config::TemplateConfig| {
        let kind = match template.kind {
            TemplateKind::Os => "OS",
            TemplateKind::Diag => "diag",
            TemplateKind::Rescue => "rescue",
        };
        let (repository, name) = template.name.split_once("__").unwrap_or(("", &template.name));
        Node::new("elem")
            .field("id", template.name.clone())
            .field("name", name)
            .field("template", template.name.clone())
            .field("repository", repository)
            .field("type", kind)
            .field("status", "ok")
    };
    dci.templates.iter().map(row).collect()
}

fn rows(dci: &Dci, call: &Call<'_>) -> Result<Vec<Node>, Refusal> {
    let elem = |id: u64| Node::new("elem").field("id", id.to_string());
    let in_rack = |rack: &Rack| elem(rack.id).field("rack", rack.name.clone()).field("rack_id", rack.id.to_string());
    Ok(match call.func {
        "chassistempl" => {
            dci.types.iter().map(|kind| elem(kind.id).field("name", kind.name.clone()).field("descr", kind.description.clone())).collect()
        }
        "rack" => dci.racks.iter().map(|rack| elem(rack.id).field("name", rack.name.clone())).collect(),
        // Each rack has one switch and one PDU, which have its number.
        "switch" => dci.racks.iter().map(|rack| in_rack(rack).field("ip", format!("172.31.0.{}", rack.id))).collect(),
        "pdu" => dci.racks.iter().map(|rack| in_rack(rack).field("name", format!("pdu-{}", rack.name))).collect(),
        "ipdb" => (1..).zip(&dci.base.groups).map(|(id, group)| elem(id).field("name", group.name.clone())).collect(),
        "switch.port" => ports(dci, call)?,
        _ => in_rack_of(dci, call)?
            .map(|server| elem(server.id).field("serverhname", server.hostname()).field("power", if server.power.on { "1" } else { "0" }))
            .collect(),
    })
}

fn in_rack_of<'a>(dci: &'a Dci, call: &Call<'_>) -> Result<impl Iterator<Item = &'a Server>, Refusal> {
    let elid = call.params.get("elid").to_owned();
    if !dci.racks.iter().any(|rack| rack.id.to_string() == elid) {
        return Err(Refusal::missed("device", &elid));
    }
    Ok(dci.servers.values().filter(move |server| server.form.get("rack") == Some(&elid)))
}

fn ports(dci: &Dci, call: &Call<'_>) -> Result<Vec<Node>, Refusal> {
    let mut rows = Vec::new();
    for server in in_rack_of(dci, call)? {
        for connection in server.connections.iter().filter(|connection| connection.kind == ConnectionKind::Switch) {
            rows.push(
                Node::new("elem")
                    .field("id", connection.id.to_string())
                    .field("identity", connection.id.to_string())
                    .field("descr", connection.port.clone())
                    .field("serverhname", server.hostname())
                    .field("status", if connection.on { "on" } else { "off" }),
            );
        }
    }
    Ok(rows)
}

fn switch_port(dci: &mut Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    call.admins_only()?;
    let elid = call.params.get("elid");
    let port = dci.servers.values().find_map(|server| {
        let found = server.connections.iter().find(|connection| connection.id.to_string() == elid);
        found.map(|connection| (server.id, connection.id, connection.on))
    });
    let (server, id, on) = port.ok_or_else(|| Refusal::missed("port", elid))?;
    match call.func {
        "switch.port.on" => dci.switch_connection(server, id, true, call.now)?,
        "switch.port.off" => dci.switch_connection(server, id, false, call.now)?,
        "switch.port.refresh" => return Ok(Doc::fields(vec![Node::text("status", if on { "on" } else { "off" })])),
        _ => {}
    }
    Ok(Doc::ok())
}

/// `pdu.on`, `pdu.off`: cuts or gives power whatever the IPMI says.
fn pdu_port(dci: &mut Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    call.admins_only()?;
    let id = dci.visible(call.params.get("elid"), call.user)?;
    let on = call.func == "pdu.on";
    dci.server_mut(id)?.power.force(on);
    Ok(Doc::ok())
}

/// `ipdb.edit`: adds a range to the panel's own base.
fn add_range(dci: &mut Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    call.admins_only()?;
    let text = call.params.get("range");
    let range = Range::parse(text, false).map_err(|_| Refusal::value("range", text))?;
    match dci.base.groups.first_mut() {
        Some(group) => group.ranges.push(range),
        None => dci.base.groups.push(Group { name: "public".to_owned(), ranges: vec![range], users: None }),
    }
    Ok(Doc::created("id", 1))
}

/// Reports of traffic, in the shapes that public clients read. No traffic is simulated.
fn traffic(dci: &Dci, call: &Call<'_>) -> Doc {
    let seen = |server: &&Server| call.user.is_admin() || server.owner == Some(call.user.id);
    let mut traff = Node::new("traff");
    for server in dci.servers.values().filter(seen) {
        traff = traff.with(
            Node::new("elem")
                .field("id", server.id.to_string())
                .field("hostname", server.hostname())
                .field("rx", "0")
                .field("tx", "0")
                .field("burst", "0"),
        );
    }
    let report = if call.func == "trafficpie" { Node::new("trafficpie").with(Node::new("elem").with(traff)) } else { traff };
    Doc::fields(vec![Node::new("reportdata").with(report)])
}
