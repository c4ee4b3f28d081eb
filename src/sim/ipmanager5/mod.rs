//! Simulated `IPmanager` 5: section 4.1 of the facts.

mod ip;

use super::{
    coremanager::{Call, doc::Doc, list, user},
    world::{Ipm, World, refusal::Refusal},
};

/// Does one call on the address manager with this place in the world.
pub(crate) fn dispatch(world: &mut World, ipm: usize, call: &mut Call<'_>) -> Result<Doc, Refusal> {
    let panel = &mut world.ipm[ipm];
    match call.func {
        "ip" => Ok(ip::list(panel, call)),
        "ip.filter" | "user.filter" => Ok(list::filter(call)),
        "ip.edit" => ip::edit(panel, call),
        "ip.delete" => ip::delete(panel, call),
        "user" => user::list(&panel.users, call),
        "user.edit" => user::edit(&mut panel.users, call),
        "user.delete" => {
            let Ipm { users, base, .. } = panel;
            user::delete(users, call, |user| base.taken.values().any(|taken| taken.holder == user.name))
        }
        "whoami" => Ok(user::whoami(call)),
        _ => Err(call.unknown()),
    }
}
