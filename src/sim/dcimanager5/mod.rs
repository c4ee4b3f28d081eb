//! Simulated `DCImanager` 5: section 2 of the facts. Turns calls into rules of the world, and what it shows into documents.

mod connections;
mod equipment;
mod invented;
mod iplist;
mod operations;
mod power;
mod server;

use super::{
    coremanager::{Call, doc::Doc, list, user},
    world::{World, dci::Dci, refusal::Refusal},
};

/// Does one call on the panel with this place in the world.
pub(crate) fn dispatch(world: &mut World, dci: usize, call: &mut Call<'_>) -> Result<Doc, Refusal> {
    match call.func {
        "server" if call.params.get("clickstat") == "title" => server::tooltip(&world.dci[dci], call),
        "server" => Ok(server::list(&world.dci[dci], call)),
        "server.filter" | "user.filter" => Ok(list::filter(call)),
        "server.edit" => server::edit(world, dci, call),
        "server.delete" => server::delete(world, dci, call),
        "server.poweron" | "server.poweroff" | "server.reboot" => power::power(&mut world.dci[dci], call),
        "server.enable" | "server.disable" => power::disable(&mut world.dci[dci], call),
        "server.operations" => operations::operations(&mut world.dci[dci], call),
        "server.opercancel" => operations::cancel(&mut world.dci[dci], call),
        "server.connection" => connections::list(&world.dci[dci], call),
        "server.connection.edit" => connections::edit(&mut world.dci[dci], call),
        "server.connection.on" | "server.connection.off" => connections::switch(&mut world.dci[dci], call),
        "server.connection.delete" => connections::delete(&mut world.dci[dci], call),
        "server.connection.connwizipmi" | "server.connection.connwizport" | "server.connection.autocreateipmi" => {
            connections::add(&mut world.dci[dci], call)
        }
        "ipmiredirect" => connections::console(&world.dci[dci], call),
        "iplist" => iplist::list(&world.dci[dci], call),
        "iplist.edit" => iplist::edit(world, dci, call),
        "iplist.delete" => iplist::delete(world, dci, call),
        "user" => user::list(&world.dci[dci].users, call),
        "user.edit" => user::edit(&mut world.dci[dci].users, call),
        "user.delete" => {
            let Dci { users, servers, .. } = &mut world.dci[dci];
            user::delete(users, call, |user| servers.values().any(|server| server.owner == Some(user.id)))
        }
        "whoami" => Ok(user::whoami(call)),
        func => match invented::deed(&world.dci[dci], func) {
            Some(deed) => invented::perform(&mut world.dci[dci], deed, call),
            None => equipment::dispatch(&mut world.dci[dci], call),
        },
    }
}
