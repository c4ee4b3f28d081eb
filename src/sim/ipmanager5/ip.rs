//! Addresses: `ip`, `ip.edit`, `ip.delete`. Section 4.1 of the facts; the parameters of `ip.edit` are inferred there.

use std::net::IpAddr;

use crate::sim::{
    config::Omitted,
    coremanager::{
        Call,
        doc::{Doc, Node, slist},
        list as lists,
    },
    world::{
        Ipm,
        addresses::{Family, Group, Taken, Want},
        edit::cut,
        refusal::Refusal,
    },
};

/// `ip`: a user sees the own addresses, an administrator all of them.
pub(super) fn list(ipm: &Ipm, call: &Call<'_>) -> Doc {
    let rows = ipm.base.taken.iter().filter(|(_, taken)| may_see(taken, call)).map(|(ip, taken)| {
        let row = Node::new("elem")
            .field("ip", ip.to_string())
            .field("domain", taken.domain.clone())
            .with(group(ipm, &taken.group))
            .field("note", taken.note.clone());
        if call.user.is_admin() { row.field("owner", taken.holder.clone()) } else { row }
    });
    lists::show(call, rows.collect())
}

/// The group of an address, as the list shows it.
fn group(ipm: &Ipm, name: &str) -> Node {
    let node = Node::text("iptype", name);
    match ipm.base.groups.iter().position(|group| group.name == name) {
        Some(number) if ipm.behaviour.group_numbers => node.attr("orig", (number + 1).to_string()),
        Some(_) | None => node,
    }
}

fn may_see(taken: &Taken, call: &Call<'_>) -> bool {
    call.user.is_admin() || taken.holder == call.user.name
}

fn find<'a>(ipm: &'a mut Ipm, elid: &str, call: &Call<'_>) -> Result<(IpAddr, &'a mut Taken), Refusal> {
    let missed = || Refusal::missed("ip", elid);
    let ip = elid.parse().map_err(|_| missed())?;
    let taken = ipm.base.taken.get_mut(&ip).filter(|taken| may_see(taken, call)).ok_or_else(missed)?;
    Ok((ip, taken))
}

/// `ip.edit`: `elid` is the address itself. Without it, takes an address: the one named, or any free one.
pub(super) fn edit(ipm: &mut Ipm, call: &Call<'_>) -> Result<Doc, Refusal> {
    let elid = call.params.get("elid");
    if !call.is_submitted() {
        return form(ipm, elid, call);
    }
    let limit = ipm.behaviour.note_limit;
    if elid.is_empty() {
        return take(ipm, limit, call);
    }
    let keeps = match ipm.behaviour.ip_edit_omitted {
        Omitted::Keep => true,
        Omitted::Reset => false,
    };
    let (_, taken) = find(ipm, elid, call)?;
    for (name, field) in [("domain", &mut taken.domain), ("note", &mut taken.note)] {
        match call.params.sent(name) {
            Some(value) => *field = cut(value, limit.filter(|_| name == "note")),
            None if keeps => {}
            None => field.clear(),
        }
    }
    Ok(Doc::fields(vec![Node::text("ip", elid), Node::new("ok")]))
}

fn take(ipm: &mut Ipm, limit: Option<usize>, call: &Call<'_>) -> Result<Doc, Refusal> {
    let field = |name: &str| call.params.get(name);
    let ip = match field("ip") {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| Refusal::value("ip", text))?),
    };
    let family = match (field("family"), ip) {
        ("", Some(ip)) => Family::of(ip),
        (text, _) => Family::parse(text).ok_or_else(|| Refusal::value("family", text))?,
    };
    let group = match (field("iptype"), ip) {
        ("", Some(ip)) => ipm.base.group_of(ip).map_or_else(String::new, |group| group.name.clone()),
        (group, _) => group.to_owned(),
    };
    let note = cut(field("note"), limit);
    let want =
        Want { group: &group, family, ip, holder: &call.user.name, is_admin: call.user.is_admin(), domain: field("domain"), note: &note };
    let ip = ipm.base.take(&want)?;
    Ok(Doc::fields(vec![Node::text("ip", ip.to_string()), Node::new("ok")]))
}

fn form(ipm: &mut Ipm, elid: &str, call: &Call<'_>) -> Result<Doc, Refusal> {
    let allowed = |group: &&Group| call.user.is_admin() || group.users.as_ref().is_none_or(|users| users.contains(&call.user.name));
    let groups: Vec<(String, String)> =
        ipm.base.groups.iter().filter(allowed).map(|group| (group.name.clone(), group.name.clone())).collect();
    let mut fields = if elid.is_empty() {
        ["family", "ip", "domain", "iptype", "note"].map(Node::new).to_vec()
    } else {
        let (ip, taken) = find(ipm, elid, call)?;
        vec![
            Node::text("elid", ip.to_string()),
            Node::text("family", Family::of(ip).word()),
            Node::text("ip", ip.to_string()),
            Node::text("domain", taken.domain.clone()),
            Node::text("iptype", taken.group.clone()),
            Node::text("note", taken.note.clone()),
        ]
    };
    fields.push(slist("iptype", groups));
    Ok(Doc::fields(fields))
}

/// `ip.delete`: gives addresses back.
pub(super) fn delete(ipm: &mut Ipm, call: &Call<'_>) -> Result<Doc, Refusal> {
    for elid in call.elids()? {
        let (ip, _) = find(ipm, elid, call)?;
        ipm.base.taken.remove(&ip);
    }
    Ok(Doc::ok())
}
