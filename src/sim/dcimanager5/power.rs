//! Power, suspension: section 2.4 of the facts.

use crate::sim::{
    coremanager::{Call, doc::Doc},
    world::{dci::Dci, power::PowerCall, refusal::Refusal},
};

/// The servers that a group action names. One that the caller cannot see refuses the whole action.
fn servers(dci: &Dci, call: &Call<'_>) -> Result<Vec<u64>, Refusal> {
    call.elids()?.into_iter().map(|elid| dci.visible(elid, call.user)).collect()
}

/// `server.poweron`, `server.poweroff`, `server.reboot`.
pub(super) fn power(dci: &mut Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    let what = match call.func {
        "server.poweron" => PowerCall::On,
        "server.poweroff" => PowerCall::Off,
        _ => PowerCall::Reboot,
    };
    for id in servers(dci, call)? {
        dci.power(id, what, call.now)?;
    }
    Ok(Doc::ok())
}

/// `server.enable`, `server.disable`: administrators suspend and resume.
pub(super) fn disable(dci: &mut Dci, call: &Call<'_>) -> Result<Doc, Refusal> {
    call.admins_only()?;
    for id in servers(dci, call)? {
        dci.set_disabled(id, call.func == "server.disable", call.now)?;
    }
    Ok(Doc::ok())
}
