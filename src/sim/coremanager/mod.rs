//! The protocol that both panels of this generation speak: section 1 of the facts. It knows no servers and no addresses.

pub(crate) mod desk;
pub(crate) mod doc;
pub(crate) mod list;
pub(crate) mod messages;
pub(crate) mod params;
pub(crate) mod render;
pub(crate) mod user;

use self::{desk::Filters, params::Params};
use super::world::{
    Moment,
    refusal::{Kind, Refusal},
    users::User,
};

/// One call of a function by a user who has been identified.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) func: &'a str,
    pub(crate) params: &'a Params,
    /// Who it is done as.
    pub(crate) user: &'a User,
    pub(crate) now: Moment,
    pub(crate) page_size: Option<usize>,
    pub(crate) filters: &'a mut Filters,
}

impl Call<'_> {
    /// Whether the form is submitted, rather than shown (section 1.3).
    pub(crate) fn is_submitted(&self) -> bool {
        self.params.is_submitted()
    }

    /// `elid`: one id, or several joined with commas (section 1.3, group actions).
    pub(crate) fn elids(&self) -> Result<Vec<&str>, Refusal> {
        let ids: Vec<&str> = self.params.get("elid").split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
        if ids.is_empty() { Err(Refusal::missed("elid", "")) } else { Ok(ids) }
    }

    /// Refuses whoever is no administrator.
    pub(crate) fn admins_only(&self) -> Result<(), Refusal> {
        if self.user.is_admin() { Ok(()) } else { Err(Refusal::access(self.func)) }
    }

    /// The refusal of a function that this panel does not have.
    pub(crate) fn unknown(&self) -> Refusal {
        Refusal::new(Kind::Missed, "func", self.func)
    }
}
