//! The list of servers and the form of one: sections 2.1 and 2.2 of the facts.

use crate::sim::{
    config::{ConnectionKind, Flag, NoOwner, TemplateKind, TypeFields},
    coremanager::{
        Call,
        doc::{Doc, Node, slist},
        list as lists,
    },
    world::{Moment, World, dci::Dci, edit::NO_OWNER, refusal::Refusal, server::Server},
};

/// `server`: administrators see all servers, users their own.
pub(super) fn list(dci: &Dci, call: &Call<'_>) -> Doc {
    let seen = |server: &&Server| call.user.is_admin() || server.owner == Some(call.user.id);
    let rows = dci.servers.values().filter(seen).map(|server| row(dci, server, call.now)).collect();
    lists::show(call, rows)
}

fn row(dci: &Dci, server: &Server, now: Moment) -> Node {
    let behaviour = &dci.behaviour;
    let mut row = Node::new("elem")
        .field("id", server.id.to_string())
        .field("name", server.name.clone())
        .field("hostname", server.hostname())
        .field("ip", server.main_ip().map_or_else(String::new, |ip| ip.to_string()));
    if behaviour.list_mac {
        row = row.field("mac", server.mac.clone());
    }
    match (dci.owner_name(server), behaviour.no_owner_in_list) {
        (Some(name), _) => row = row.field("owner", name),
        (None, NoOwner::Empty) => row = row.field("owner", ""),
        (None, NoOwner::Absent) => {}
    }
    let (old, new) = match behaviour.type_fields {
        TypeFields::Both => (true, true),
        TypeFields::Type => (true, false),
        TypeFields::ChassisTempl => (false, true),
    };
    if old {
        row = row.field("type", server.type_name.clone());
    }
    if new {
        row = row.field("chassis_templ", server.type_name.clone());
    }
    row = row.field("gen_chassis_name", dci.description(server));
    let form = |name: &str| server.form.get(name).map_or("", String::as_str);
    let rack = dci.racks.iter().find(|rack| rack.id.to_string() == form("rack"));
    // The first word is the name of the rack.
    row = row.field("rack", rack.map_or_else(String::new, |rack| format!("{} {}", rack.name, form("unit"))));
    if server.connections.iter().any(|connection| connection.kind == ConnectionKind::Ipmi) {
        row = row.field("ipmi", format!("IPMI S{}", server.id));
    }
    let mut row = row
        .flag(server.power.flag(behaviour, now).word(), true)
        .flag("blocked", server.marks.has(Flag::Blocked))
        .flag("disabled", server.marks.has(Flag::Disabled))
        .flag("hwproblem", server.marks.has(Flag::Hwproblem))
        .flag("operation_failed", server.marks.has(Flag::OperationFailed));
    if let Some(operation) = server.operation.as_ref().filter(|operation| operation.is_visible(now)) {
        let flag = match operation.kind {
            TemplateKind::Os | TemplateKind::Rescue => "install_in_progress",
            TemplateKind::Diag => "diag_in_progress",
        };
        row = row.field(flag, operation.progress(now));
    }
    row
}

/// The tooltip of a cell: how far an operation is, as people read it (section 1.3).
pub(super) fn tooltip(dci: &Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    let server = dci.server(dci.visible(call.params.get("elid"), call.user)?)?;
    let text = match call.params.get("hint_field") {
        "install_in_progress" | "diag_in_progress" => {
            server.operation.as_ref().map_or_else(String::new, |operation| operation.progress(call.now))
        }
        field => row(dci, server, call.now).child_text(field).unwrap_or_default().to_owned(),
    };
    Ok(Doc::fields(vec![Node::text("value", text)]))
}

/// `server.edit`: shows the form, changes a server, or makes one.
pub(super) fn edit(world: &mut World, dci: usize, call: &Call<'_>) -> Result<Doc, Refusal> {
    let elid = call.params.get("elid");
    if !call.is_submitted() {
        let panel = &world.dci[dci];
        let fields = if elid.is_empty() {
            call.admins_only()?;
            panel.form(&crate::sim::world::edit::blank_server(0))
        } else {
            panel.form(panel.server(panel.visible(elid, call.user)?)?)
        };
        let mut children: Vec<Node> = fields.into_iter().map(|(name, value)| Node::text(name, value)).collect();
        if call.user.is_admin() {
            children.extend(options(panel));
        }
        return Ok(Doc::fields(children));
    }
    call.admins_only()?;
    if elid.is_empty() {
        let id = world.create_server(dci, &call.params.0, call.now)?;
        return Ok(Doc::created("id", id));
    }
    let id = world.dci[dci].visible(elid, call.user)?;
    world.edit_server(dci, id, &call.params.0, call.now)?;
    Ok(Doc::ok())
}

/// The options of the form's select fields. Users may own servers; so may administrators (section 2.3, step 4).
fn options(dci: &Dci) -> Vec<Node> {
    let mut owners = vec![(NO_OWNER.to_owned(), "-- none --".to_owned())];
    owners.extend(dci.users.iter().map(|user| (user.id.to_string(), user.name.clone())));
    let types = dci.types.iter().map(|kind| (kind.id.to_string(), kind.name.clone()));
    let racks = dci.racks.iter().map(|rack| (rack.id.to_string(), rack.name.clone()));
    let blocks = dci.base.groups.iter().map(|group| (group.name.clone(), group.name.clone()));
    let mut lists = vec![slist("owner", owners), slist("chassistempl", types), slist("rack", racks), slist("ip_block", blocks)];
    lists.extend(dci.part_options().into_iter().map(|(field, options)| slist(field, options)));
    lists
}

/// `server.delete`: a person takes a machine out of the panel.
pub(super) fn delete(world: &mut World, dci: usize, call: &Call<'_>) -> Result<Doc, Refusal> {
    call.admins_only()?;
    for elid in call.elids()? {
        let id = world.dci[dci].visible(elid, call.user)?;
        let server = world.dci[dci].delete_server(id)?;
        for row in server.rows {
            world.give_back(dci, id, row.ip);
        }
    }
    Ok(Doc::ok())
}
