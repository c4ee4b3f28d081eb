//! `server.operations`, `server.opercancel`: section 2.6 of the facts.

use crate::sim::{
    config::{FormTemplate, TemplateKind},
    coremanager::{
        Call,
        doc::{Doc, Node, slist},
    },
    world::{dci::Dci, edit::NULL, operation::OperationCall, refusal::Refusal},
};

/// Shows the form, or starts what it asks for.
pub(super) fn operations(dci: &mut Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    let id = dci.visible(call.params.get("elid"), call.user)?;
    if !call.is_submitted() {
        return form(dci, id);
    }
    let kind = match call.params.get("operation") {
        "ostemplate" => TemplateKind::Os,
        "diag" => TemplateKind::Diag,
        "rescue" => TemplateKind::Rescue,
        other => return Err(Refusal::value("operation", other)),
    };
    let template = match kind {
        TemplateKind::Os => "ostemplate",
        TemplateKind::Diag => "diag",
        TemplateKind::Rescue => "rescue",
    };
    let recipe = match (kind, call.params.get("recipe")) {
        (TemplateKind::Os, recipe) if recipe != NULL => recipe,
        _ => "",
    };
    if kind == TemplateKind::Os {
        check_password(call)?;
        let ip = call.params.get("ipaddr");
        let known = dci.server(id)?.rows.iter().any(|row| row.ip.to_string() == ip);
        if !ip.is_empty() && !known {
            return Err(Refusal::value("ipaddr", ip));
        }
    }
    let wanted = OperationCall {
        kind,
        template: call.params.get(template).to_owned(),
        recipe: recipe.to_owned(),
        password: call.params.get("passwd").to_owned(),
        clear_disks: ["clearhdd", "fullhddclear"].iter().any(|name| call.params.get(name) == "on"),
    };
    dci.start_operation(id, wanted, call.now)?;
    Ok(Doc::ok())
}

/// The password stands in two fields, or in three.
fn check_password(call: &Call<'_>) -> Result<(), Refusal> {
    let password = call.params.get("passwd");
    if password.is_empty() {
        return Err(Refusal::value("passwd", ""));
    }
    if call.params.get("confirm") != password {
        return Err(Refusal::value("confirm", ""));
    }
    match call.params.sent("checkpasswd") {
        Some(other) if other != password => Err(Refusal::value("checkpasswd", "")),
        Some(_) | None => Ok(()),
    }
}

fn form(dci: &Dci, id: u64) -> Result<Doc, Refusal> {
    let server = dci.server(id)?;
    let allowed = dci.type_named(&server.type_name).and_then(|kind| kind.os.as_ref());
    let templates = |wanted: TemplateKind| {
        dci.templates
            .iter()
            .filter(|template| template.kind == wanted)
            .filter(|template| wanted != TemplateKind::Os || allowed.is_none_or(|names| names.contains(&template.name)))
            .map(|template| (template.name.clone(), template.name.clone()))
            .collect::<Vec<_>>()
    };
    let first = |options: &[(String, String)]| options.first().map_or_else(String::new, |(key, _)| key.clone());
    let (diag, rescue) = (templates(TemplateKind::Diag), templates(TemplateKind::Rescue));
    let mut recipes = vec![(NULL.to_owned(), "-- none --".to_owned())];
    recipes.extend(dci.recipes.iter().map(|recipe| (recipe.name.clone(), recipe.name.clone())));
    let recipe = if server.installed.recipe.is_empty() { NULL } else { &server.installed.recipe };
    let ip = server.main_ip().map_or_else(String::new, |ip| ip.to_string());
    let template = match dci.behaviour.ostemplate_in_form {
        FormTemplate::Chosen if !server.installed.chosen.is_empty() => &server.installed.chosen,
        FormTemplate::Installed | FormTemplate::Chosen => &server.installed.template,
    };
    Ok(Doc::fields(vec![
        Node::text("elid", id.to_string()),
        Node::text("operation", "ostemplate"),
        Node::text("ostemplate", template.clone()),
        Node::text("recipe", recipe),
        Node::text("hostname", server.hostname()),
        Node::text("ipaddr", ip),
        Node::text("isotemplate", "no_iso_template"),
        Node::text("clearhdd", "off"),
        Node::text("fullhddclear", "off"),
        Node::text("diag", first(&diag)),
        Node::text("rescue", first(&rescue)),
        slist("ostemplate", templates(TemplateKind::Os)),
        slist("recipe", recipes),
        slist("diag", diag),
        slist("rescue", rescue),
    ]))
}

/// `server.opercancel`.
pub(super) fn cancel(dci: &mut Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    for elid in call.elids()? {
        let id = dci.visible(elid, call.user)?;
        dci.cancel_operation(id)?;
    }
    Ok(Doc::ok())
}
