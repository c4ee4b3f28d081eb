//! What is known of the licence server of an order while one decision is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::common::ObjectKey;
use crate::api::handler::{HandlerSpec, LicenseDeletion, LicenseProduct};
use crate::api::order::LicenseStatus;
use crate::panel::error::PanelError;
use crate::panel::license::{LicenseForm, LicenseId, LicenseRow};

use super::facts::{HandlerState, Prepared};

/// What the handler of a licence server says; by default nothing is sold, and nothing is renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LicensePolicy {
    /// Products by name.
    pub products: BTreeMap<String, LicenseProduct>,
    /// Project to order for.
    pub project: Option<String>,
    /// How long before its end a licence is renewed.
    pub renew_before: Duration,
    /// What becomes of a licence that is not needed any more.
    pub on_deletion: LicenseDeletion,
}

impl LicensePolicy {
    /// Takes it out of a handler's spec.
    #[must_use]
    pub fn new(spec: &HandlerSpec) -> Self {
        match &spec.licenses {
            Some(sold) => Self {
                products: sold.products.clone(),
                project: sold.project.clone(),
                renew_before: sold.renew_before.0,
                on_deletion: sold.on_deletion,
            },
            None => Self::default(),
        }
    }
}

/// One complete list of a licence server, shared by all orders.
#[derive(Clone, Debug, Default)]
pub struct LicenseList {
    /// Rows by id; every row tells its remote id, but for those whose forms cannot be read.
    pub rows: BTreeMap<String, LicenseRow>,
    /// When the list was asked for: nothing that changed later is in it.
    pub began: Timestamp,
}

/// The licence server of an order.
#[derive(Clone, Debug)]
pub struct LicenseServer {
    /// Its handler.
    pub key: ObjectKey,
    /// Whether it can be used now.
    pub state: HandlerState,
    /// What its handler says.
    pub policy: LicensePolicy,
    /// The shared list.
    pub list: Option<Arc<LicenseList>>,
    /// When this process last changed a licence of the order.
    pub changed: Option<Timestamp>,
}

/// Stands for the list among [`LicenseFacts::unread`]: no licence has this id.
pub const LIST: &str = "";

/// What one pass has read of licences.
#[derive(Clone, Debug, Default)]
pub struct LicenseFacts {
    /// The server; `None`: there is none, or it may not be used. One of which that cannot be told is there, and not ready.
    pub server: Option<LicenseServer>,
    /// The list, read in this pass since its last change.
    pub fresh: Option<Vec<LicenseRow>>,
    /// Forms read since the last change; `None`: the server does not know the licence any more.
    pub forms: BTreeMap<String, Option<LicenseForm>>,
    /// What could not be read of the licences in this pass, though the server answers: by the licence's id, the list under [`LIST`].
    pub unread: BTreeMap<String, PanelError>,
    /// The keys in the order's Secret.
    pub keys: Option<Prepared>,
    /// The Secret that they are in; none when there are no keys.
    pub secret: Option<String>,
    /// What was answered to the calls of this pass, or to the one in flight where this process has made it.
    pub answers: LicenseAnswers,
    /// Products of which the status as it is stored tells when an answer came (`licenses[].answeredAt`).
    pub stored: BTreeSet<String>,
}

/// What the answers to purchases named, by our ids of the licences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LicenseAnswers {
    /// Licences that were ordered; `None` where an answer named none.
    pub bought: BTreeMap<String, Option<LicenseId>>,
    /// The new ends of licences that were renewed; `None` where an answer named none that is understood.
    pub prolonged: BTreeMap<String, Option<Timestamp>>,
}

impl LicenseAnswers {
    /// Something else is about to be asked of a licence: what was answered before is known by now.
    pub fn forget(&mut self, remote: &str) {
        self.bought.remove(remote);
        self.prolonged.remove(remote);
    }
}

impl LicenseFacts {
    /// Notes what stands in the stored status before anything is decided.
    pub fn note_stored(&mut self, licenses: &[LicenseStatus]) {
        self.stored = licenses.iter().filter(|record| record.answered_at.is_some()).map(|record| record.product.clone()).collect();
    }

    /// Forgets what a change may have changed.
    pub fn forget(&mut self) {
        self.fresh = None;
        self.forms.clear();
    }

    /// The remote id of a licence whose form was read: as that shows it, or the list itself where the form shows none (only key and date
    /// are confirmed in forms, ispsystem-api.md 5.6).
    #[must_use]
    pub fn remote_id_of(&self, id: &str) -> Option<String> {
        let form = self.forms.get(id)?.as_ref()?;
        let shared = self.server.iter().filter_map(|server| server.list.as_deref()).flat_map(|list| list.rows.values());
        let mut rows = self.fresh.iter().flatten().chain(shared).filter(|row| row.id.0 == id && !row.by_form);
        form.remote_id.clone().or_else(|| rows.find_map(|row| row.remote_id.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::license::LicenseState;

    #[test]
    fn the_list_tells_whose_a_licence_is_where_its_form_does_not() {
        let form = |remote: Option<&str>| LicenseForm {
            key: None,
            remote_id: remote.map(str::to_owned),
            name: "web.example.net".into(),
            address: None,
            expires: Ok(None),
        };
        let row = |remote: &str, by_form| LicenseRow {
            id: LicenseId("7".into()),
            name: "web.example.net".into(),
            address: None,
            remote_id: Some(remote.to_owned()),
            by_form,
            state: LicenseState::Active,
            expires: None,
        };
        for (shown, listed, expected) in [
            (Some("a"), row("b", false), Some("a")),
            (None, row("b", false), Some("b")),
            (None, row("b", true), None),
            (Some(""), row("b", false), Some("")),
        ] {
            let facts =
                LicenseFacts { forms: [("7".to_owned(), Some(form(shown)))].into(), fresh: Some(vec![listed]), ..LicenseFacts::default() };
            assert_eq!(facts.remote_id_of("7").as_deref(), expected, "{shown:?}");
            assert_eq!(facts.remote_id_of("8"), None);
        }
    }
}
