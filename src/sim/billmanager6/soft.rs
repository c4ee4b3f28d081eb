//! Licences: `soft`, `soft.edit`, `soft.order.param`, `soft.suspend`, `soft.resume`, `service.prolong`. Section 5.6 of the facts;
//! the list is inferred there.

use crate::sim::{
    coremanager::{
        Call,
        doc::{Doc, Node},
        list as lists,
    },
    world::{
        bill::{Bill, License, Order, Status},
        edit::cut,
        refusal::Refusal,
    },
};

fn ip(license: &License) -> String {
    license.ip.map_or_else(String::new, |ip| ip.to_string())
}

/// `soft`: an account sees its own licences.
pub(super) fn list(bill: &Bill, call: &Call<'_>) -> Doc {
    let own = bill.licenses.values().filter(|license| license.owner == call.user.name);
    let rows = own.filter_map(|license| license.shown(call.now)).map(|license| {
        let row = Node::new("elem")
            .field("id", license.id.to_string())
            .field("pricelist", bill.pricelists.get(&license.pricelist).cloned().unwrap_or_default())
            .field("licname", license.name.clone())
            .field("ip", ip(license))
            .field("status", license.status.number())
            .field("expiredate", license.expires.to_string());
        if bill.behaviour.list_remote_id { row.field("remoteid", license.remote_id.clone()) } else { row }
    });
    lists::show(call, rows.collect())
}

/// `soft.edit`: shows a licence with its key, or changes address, name and remote id; what is left out stays.
pub(super) fn edit(bill: &mut Bill, call: &Call<'_>) -> Result<Doc, Refusal> {
    let (now, limit, tells) = (call.now, bill.behaviour.remote_id_limit, bill.behaviour.form_remote_id);
    let elid = call.params.get("elid");
    if !call.is_submitted() {
        let license = bill.find(elid, &call.user.name)?.shown(now).ok_or_else(|| Refusal::missed("soft", elid))?;
        let mut fields = vec![
            Node::text("elid", elid),
            Node::text("licname", license.name.clone()),
            Node::text("ip", ip(license)),
            Node::text("lickey", license.key(now)),
            Node::text("expiredate", license.expires.to_string()),
        ];
        if tells {
            fields.push(Node::text("remoteid", license.remote_id.clone()));
        }
        return Ok(Doc::fields(fields));
    }
    let license = bill.change(elid, &call.user.name, now)?;
    if let Some(text) = call.params.sent("ip") {
        license.ip = Some(text.parse().map_err(|_| Refusal::value("ip", text))?);
    }
    if let Some(name) = call.params.sent("licname") {
        name.clone_into(&mut license.name);
    }
    if let Some(remote) = call.params.sent("remoteid") {
        license.remote_id = cut(remote, limit);
    }
    Ok(Doc::ok())
}

/// `soft.order.param`: ordered at once when the basket is skipped and the wizard is finished.
pub(super) fn order(bill: &mut Bill, call: &Call<'_>) -> Result<Doc, Refusal> {
    let get = |name: &str| call.params.get(name);
    if !call.is_submitted() {
        return Ok(Doc::fields(["pricelist", "period", "ip", "licname", "project", "remoteid"].map(Node::new).to_vec()));
    }
    for (name, wanted) in [("skipbasket", "on"), ("clicked_button", "finish")] {
        if get(name) != wanted {
            return Err(Refusal::value(name, get(name)));
        }
    }
    let addons = call.params.0.iter().filter_map(|(name, value)| Some((name.strip_prefix("addon_")?.to_owned(), value.clone())));
    let order = Order {
        owner: &call.user.name,
        pricelist: get("pricelist"),
        period: get("period"),
        ip: get("ip"),
        name: get("licname"),
        project: get("project"),
        remote_id: get("remoteid"),
        addons: addons.collect(),
    };
    Ok(Doc::created("id", bill.order(&order, call.now)?))
}

/// `soft.suspend` and `soft.resume`.
pub(super) fn set_status(bill: &mut Bill, call: &Call<'_>, status: Status) -> Result<Doc, Refusal> {
    for elid in call.elids()? {
        bill.change(elid, &call.user.name, call.now)?.status = status;
    }
    Ok(Doc::ok())
}

/// `service.prolong`: the answer is a document in the document.
pub(super) fn prolong(bill: &mut Bill, call: &Call<'_>) -> Result<Doc, Refusal> {
    if !call.is_submitted() {
        return Ok(Doc::fields(vec![Node::new("period")]));
    }
    let end = bill.prolong(call.params.get("elid"), &call.user.name, call.params.get("period"), call.now)?;
    Ok(Doc::fields(vec![Node::new("doc").field("newexpiredate", end.to_string())]))
}
