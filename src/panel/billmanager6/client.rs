//! The client of a licence server: list, read, order, edit, renew, suspend, resume.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use jiff::Timestamp;

use crate::panel::coremanager::Client;
use crate::panel::coremanager::document::Document;
use crate::panel::coremanager::values::is_administrators;
use crate::panel::dialect::{Dialect, DialectCall};
use crate::panel::error::{Outcome, PanelError};
use crate::panel::license::{LicenseEdit, LicenseForm, LicenseId, LicenseOrder, LicensePanel, LicenseRow};
use crate::panel::model::Probe;
use crate::panel::{Change, Read};

use super::{calls, parse};

/// A BILLmanager that sells licences.
pub struct BillManager6 {
    client: Arc<Client>,
    dialect: Dialect,
}

type Values = BTreeMap<&'static str, String>;

impl BillManager6 {
    /// A panel behind this client, whose calls are made as the dialect says (see [`calls::dialect`]).
    #[must_use]
    pub fn new(client: Arc<Client>, dialect: Dialect) -> Self {
        Self { client, dialect }
    }

    fn call(&self, name: &'static str) -> Result<&DialectCall, PanelError> {
        let missing = || PanelError::Dialect { call: name.to_owned(), detail: "set func and params".to_owned() };
        self.dialect.call(name).ok_or_else(missing)
    }

    /// An ordinary account orders: the level is only told.
    async fn do_probe(&self) -> Result<Probe, PanelError> {
        let level = self.client.fresh_login().await?.level;
        self.client.unfiltered(&self.call(calls::LIST)?.func, &["id", "ip", "licname", "remoteid"]).await?;
        let administrator = level.is_some_and(|level| is_administrators(&level));
        Ok(Probe { login: self.client.username().to_owned(), user_id: None, administrator })
    }

    async fn do_licenses(&self) -> Result<Vec<LicenseRow>, PanelError> {
        let call = self.call(calls::LIST)?;
        let list = self.client.list(&call.func, || call.fill(&Values::new()), "id").await?;
        list.parse(&self.client, |row| parse::license_row(row).map(Some))
    }

    async fn do_license(&self, id: &LicenseId) -> Result<LicenseForm, PanelError> {
        let call = self.call(calls::READ)?;
        let document = self.client.read(&call.func, &call.fill(&Values::from([("license", id.0.clone())]))).await?;
        parse::license_form(&document, id).map_err(|what| self.client.incomplete(&call.func, what))
    }

    async fn do_order(&self, order: &LicenseOrder) -> Outcome<Option<LicenseId>> {
        let call = match self.call(calls::ORDER) {
            Ok(call) => call,
            Err(error) => return Outcome::Refused(error),
        };
        let mut params = call.fill(&Values::from([
            ("pricelist", order.pricelist.clone()),
            ("period", order.period.to_string()),
            ("address", order.address.to_string()),
            ("name", order.name.clone()),
            ("project", order.project.clone().unwrap_or_default()),
            ("remoteId", order.remote_id.clone()),
        ]));
        if let Some(project) = order.project.as_ref().filter(|_| !params.has("project")) {
            params.set("project", project.as_str());
        }
        for (addon, value) in &order.addons {
            params.set(&format!("addon_{addon}"), value.as_str());
        }
        // That the answer names it is confirmed of the published client's call (ispsystem-api.md 5.6), and not of what a dialect puts in its
        // place: it was bought all the same.
        self.client.change(&call.func, &params).await.map(|document: Document| document.fields().opt("id").map(LicenseId))
    }

    /// The published client sends these fields alone (ispsystem-api.md 5.6, change IP/name: confirmed).
    async fn do_edit(&self, id: &LicenseId, edit: &LicenseEdit) -> Outcome<()> {
        let call = match self.call(calls::EDIT) {
            Ok(call) => call,
            Err(error) => return Outcome::Refused(error),
        };
        match self.do_license(id).await {
            Ok(form) if form.remote_id.as_deref() == Some(edit.expect.as_str()) => {}
            // Only key and date are confirmed in forms: the list may tell.
            Ok(form) if form.remote_id.is_none() && self.is_listed_as(id, &edit.expect).await => {}
            Ok(form) => {
                let shown = form.remote_id.map_or_else(|| "none".to_owned(), |shown| format!("{shown:?}"));
                let what = format!("remote id {:?} of licence {id} (it shows {shown})", edit.expect);
                return Outcome::Refused(self.client.incomplete(&call.func, what));
            }
            Err(error) => return Outcome::Refused(error),
        }
        let values = Values::from([
            ("license", id.0.clone()),
            ("address", edit.address.to_string()),
            ("name", edit.name.clone()),
            ("remoteId", edit.remote_id.clone()),
        ]);
        self.client.change(&call.func, &call.fill(&values)).await.unit()
    }

    /// Whether the list shows a licence with this remote id.
    async fn is_listed_as(&self, id: &LicenseId, remote: &str) -> bool {
        let rows = self.do_licenses().await.unwrap_or_default();
        rows.iter().any(|row| row.id == *id && row.remote_id.as_deref() == Some(remote))
    }

    async fn act(&self, name: &'static str, values: &Values) -> Outcome<()> {
        match self.call(name) {
            Ok(call) => self.client.change(&call.func, &call.fill(values)).await.unit(),
            Err(error) => Outcome::Refused(error),
        }
    }

    async fn of_license(&self, name: &'static str, id: &LicenseId) -> Outcome<()> {
        self.act(name, &Values::from([("license", id.0.clone())])).await
    }

    async fn do_renew(&self, id: &LicenseId, months: i32) -> Outcome<Option<Timestamp>> {
        let call = match self.call(calls::RENEW) {
            Ok(call) => call,
            Err(error) => return Outcome::Refused(error),
        };
        let params = call.fill(&Values::from([("license", id.0.clone()), ("period", months.to_string())]));
        self.client.change(&call.func, &params).await.map(|document: Document| parse::prolonged(&document))
    }
}

impl LicensePanel for BillManager6 {
    fn probe(&self) -> Read<'_, Probe> {
        self.do_probe().boxed()
    }

    fn licenses(&self) -> Read<'_, Vec<LicenseRow>> {
        self.do_licenses().boxed()
    }

    fn license<'a>(&'a self, id: &'a LicenseId) -> Read<'a, LicenseForm> {
        self.do_license(id).boxed()
    }

    fn order<'a>(&'a self, order: &'a LicenseOrder) -> Change<'a, Option<LicenseId>> {
        self.do_order(order).boxed()
    }

    fn edit<'a>(&'a self, id: &'a LicenseId, edit: &'a LicenseEdit) -> Change<'a, ()> {
        self.do_edit(id, edit).boxed()
    }

    fn renew<'a>(&'a self, id: &'a LicenseId, months: i32) -> Change<'a, Option<Timestamp>> {
        self.do_renew(id, months).boxed()
    }

    fn suspend<'a>(&'a self, id: &'a LicenseId) -> Change<'a, ()> {
        self.of_license(calls::SUSPEND, id).boxed()
    }

    fn resume<'a>(&'a self, id: &'a LicenseId) -> Change<'a, ()> {
        self.of_license(calls::RESUME, id).boxed()
    }
}
