//! Users of a panel, the same way on both panels: section 2.9 of the facts.

use super::{
    Call,
    doc::{Doc, Node},
    list as lists,
};
use crate::sim::world::{
    refusal::Refusal,
    users::{User, Users, parse_level},
};

/// `user`.
pub(crate) fn list(users: &Users, call: &Call<'_>) -> Result<Doc, Refusal> {
    call.admins_only()?;
    let row = |user: &User| {
        Node::new("elem").field("id", user.id.to_string()).field("name", user.name.clone()).field("level", user.level.to_string())
    };
    Ok(lists::show(call, users.iter().map(row).collect()))
}

fn find(users: &Users, elid: &str) -> Result<u64, Refusal> {
    users.find(elid).map(|user| user.id).ok_or_else(|| Refusal::missed("user", elid))
}

/// `user.edit`: shows, makes (`id` of the new one), changes.
pub(crate) fn edit(users: &mut Users, call: &Call<'_>) -> Result<Doc, Refusal> {
    call.admins_only()?;
    let elid = call.params.get("elid");
    if !call.is_submitted() {
        let user = if elid.is_empty() { None } else { users.get(find(users, elid)?) };
        let level = user.map_or_else(|| "16".to_owned(), |user| user.level.to_string());
        return Ok(Doc::fields(vec![
            Node::text("elid", elid),
            Node::text("name", user.map_or("", |user| &user.name)),
            Node::text("level", level),
        ]));
    }
    let password = call.params.sent("passwd").filter(|password| !password.is_empty());
    if let Some(confirm) = call.params.sent("confirm")
        && confirm != password.unwrap_or_default()
    {
        return Err(Refusal::value("confirm", ""));
    }
    let level = call.params.get("level");
    let parsed = parse_level(level).ok_or_else(|| Refusal::value("level", level))?;
    if elid.is_empty() {
        let password = password.ok_or_else(|| Refusal::value("passwd", ""))?;
        let id = users.create(call.params.get("name"), password, parsed)?;
        return Ok(Doc::created("id", id));
    }
    let id = find(users, elid)?;
    let name = call.params.sent("name").filter(|name| !name.is_empty());
    users.change(id, name, password, (!level.is_empty()).then_some(parsed))?;
    Ok(Doc::ok())
}

/// `user.delete`. A user who has something stays.
pub(crate) fn delete(users: &mut Users, call: &Call<'_>, has_something: impl Fn(&User) -> bool) -> Result<Doc, Refusal> {
    call.admins_only()?;
    for elid in call.elids()? {
        let id = find(users, elid)?;
        if users.get(id).is_some_and(&has_something) {
            return Err(Refusal::value("owner", elid));
        }
        users.delete(id)?;
    }
    Ok(Doc::ok())
}

/// `whoami`: the user as whom calls are done.
pub(crate) fn whoami(call: &Call<'_>) -> Doc {
    let user = Node::new("user").attr("name", call.user.name.clone()).attr("level", call.user.level.to_string());
    Doc::fields(vec![user])
}
