//! Simulated licence server: section 5.6 of the facts.

mod soft;

use super::{
    coremanager::{Call, doc::Doc, list, user},
    world::{World, refusal::Refusal},
};

/// Does one call on the licence server with this place in the world.
pub(crate) fn dispatch(world: &mut World, bill: usize, call: &mut Call<'_>) -> Result<Doc, Refusal> {
    let panel = &mut world.bill[bill];
    match call.func {
        "soft" => Ok(soft::list(panel, call)),
        "soft.filter" | "user.filter" => Ok(list::filter(call)),
        "soft.edit" => soft::edit(panel, call),
        "soft.order.param" => soft::order(panel, call),
        "soft.suspend" => soft::set_status(panel, call, crate::sim::world::bill::Status::Suspended),
        "soft.resume" => soft::set_status(panel, call, crate::sim::world::bill::Status::Active),
        "service.prolong" => soft::prolong(panel, call),
        "user" => user::list(&panel.users, call),
        "whoami" => Ok(user::whoami(call)),
        _ => Err(call.unknown()),
    }
}
