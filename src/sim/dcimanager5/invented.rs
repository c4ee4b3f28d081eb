//! Functions that are made up for tests. The facts (section 6.5: what is unknown) do not tell whether the panel has any of them,
//! so each has a name only where the configuration gives it one, and what it takes and shows proves nothing about a real panel.

use crate::sim::{
    coremanager::{Call, doc::Doc},
    world::{dci::Dci, refusal::Refusal},
};

/// What a made-up function does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Deed {
    RunRecipe,
    FlagForCleaning,
    SetPassword,
}

/// What the function does, if the configuration gave one this name.
pub(super) fn deed(dci: &Dci, func: &str) -> Option<Deed> {
    let named = |name: &Option<String>| name.as_deref() == Some(func);
    let invented = &dci.invented;
    [
        (&invented.run_recipe, Deed::RunRecipe),
        (&invented.flag_for_cleaning, Deed::FlagForCleaning),
        (&invented.set_password, Deed::SetPassword),
    ]
    .into_iter()
    .find_map(|(name, deed)| named(name).then_some(deed))
}

/// Does it. All of them are forms that have to be submitted, and nothing for ordinary users.
pub(super) fn perform(dci: &mut Dci, deed: Deed, call: &Call<'_>) -> Result<Doc, Refusal> {
    call.admins_only()?;
    let id = dci.visible(call.params.get("elid"), call.user)?;
    if !call.is_submitted() {
        return Err(Refusal::value("sok", ""));
    }
    match deed {
        Deed::RunRecipe => dci.run_recipe(id, call.params.get("recipe"), call.now)?,
        Deed::FlagForCleaning => dci.server_mut(id)?.installed.to_be_cleaned = true,
        Deed::SetPassword => dci.set_password(id, call.params.get("passwd"))?,
    }
    Ok(Doc::ok())
}
