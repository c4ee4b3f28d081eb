//! Functions of a server panel that no public source knows: made up for tests, not a fact of the panel.

use serde::Deserialize;

use crate::sim::span::Span;

/// The names of functions that the facts do not have. Absent: the panel does not have it either, which is the default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Invented {
    /// Runs the recipe `recipe` on the system that is installed on the server `elid`; shows as an installation does.
    pub(crate) run_recipe: Option<String>,
    /// Has the disks of the server `elid` cleaned when it becomes free, whatever `release` says.
    pub(crate) flag_for_cleaning: Option<String>,
    /// Sets the root password of the running system of the server `elid` to `passwd`.
    pub(crate) set_password: Option<String>,
    /// How long a recipe takes that is run by itself.
    pub(crate) recipe_duration: Span,
}

impl Default for Invented {
    fn default() -> Self {
        let recipe_duration = Span(std::time::Duration::from_secs(5));
        Self { run_recipe: None, flag_for_cleaning: None, set_password: None, recipe_duration }
    }
}
