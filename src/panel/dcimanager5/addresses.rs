//! Addresses of a server (ispsystem-api.md 2.5).

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::panel::coremanager::document::Document;
use crate::panel::coremanager::form::{gone, overlay};
use crate::panel::coremanager::params::Params;
use crate::panel::coremanager::values::{address, same_object};
use crate::panel::dialect::REPLACE_MAIN_ADDRESS;
use crate::panel::error::{Outcome, PanelError};
use crate::panel::model::{AddressRow, AddressRowId, AddressSpec, Family, MainAddress, ServerId};

use super::client::DciManager5;
use super::parse;

const EDIT: &str = "iplist.edit";

impl DciManager5 {
    pub(super) async fn do_addresses(&self, server: &ServerId) -> Result<Vec<AddressRow>, PanelError> {
        let params = || Params::new().with("elid", server.0.as_str());
        self.client.list("iplist", params, "id").await?.parse(&self.client, parse::address_row)
    }

    pub(super) async fn do_add_address(&self, server: &ServerId, spec: &AddressSpec) -> Outcome<IpAddr> {
        let params = Params::new()
            .with("plid", server.0.as_str())
            .with("sok", "ok")
            .with("domain", spec.domain.as_str())
            .with("iptype", spec.group.as_str())
            .with("family", spec.family.as_str())
            .with("ip", text(spec.address));
        self.client.change(EDIT, &params).await.and_then(|document| self.named(&document, spec.address))
    }

    /// The address that the answer names. One that was asked for by itself may go unnamed in an answer that says `ok`.
    fn named(&self, document: &Document, wanted: Option<IpAddr>) -> Outcome<IpAddr> {
        let fields = document.fields();
        match (fields.opt("ip").and_then(|t| address(&t)), wanted) {
            (Some(address), _) => Outcome::Applied(address),
            (None, Some(wanted)) if fields.has("ok") || fields.has("id") => Outcome::Applied(wanted),
            (None, _) => Outcome::of_error(self.client.incomplete(EDIT, "the new address (ip)")),
        }
    }

    pub(super) async fn do_set_domain(&self, server: &ServerId, row: &AddressRowId, domain: &str) -> Outcome<()> {
        let build = |document: &_| {
            self.check_row_form(EDIT, document, row)?;
            let mut fields = overlay(document, &[("domain", domain)]);
            // An empty address asks for another one; a form that does not show the address must not become that.
            fields.retain(|(name, value)| name != "ip" || !value.trim().is_empty());
            Ok(fields)
        };
        self.client.modify(EDIT, &[("elid", &row.0), ("plid", &server.0)], build).await.unit()
    }

    pub(super) async fn do_remove_address(&self, server: &ServerId, row: &AddressRowId) -> Outcome<()> {
        let params = Params::new().with("elid", row.0.as_str()).with("plid", server.0.as_str());
        gone(self.client.change("iplist.delete", &params).await)
    }

    /// An unknown call (ispsystem-api.md 2.5): the dialect says how it is made; success is what a later read shows.
    pub(super) async fn do_replace_main_address(&self, server: &ServerId, row: &AddressRowId, to: &MainAddress) -> Outcome<()> {
        let Some(call) = self.dialect.call(REPLACE_MAIN_ADDRESS) else {
            let detail = "say how the main address is replaced on this panel".to_owned();
            return Outcome::Refused(PanelError::Dialect { call: REPLACE_MAIN_ADDRESS.to_owned(), detail });
        };
        let values = BTreeMap::from([
            ("server", server.0.clone()),
            ("row", row.0.clone()),
            ("address", text(to.address)),
            ("current", to.current.to_string()),
            ("group", to.group.clone()),
            ("domain", to.domain.clone()),
            ("family", Family::of(to.address.unwrap_or(to.current)).as_str().to_owned()),
        ]);
        let params = call.fill(&values);
        if !call.is_edit() {
            return self.client.change(&call.func, &params).await.unit();
        }
        let pairs = params.expose();
        let (key, fields): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(name, _)| matches!(*name, "elid" | "plid"));
        let fields: Vec<_> = fields.into_iter().filter(|(name, _)| *name != "sok").collect();
        let elid = params.get("elid").unwrap_or_default();
        let build = |document: &Document| {
            same_object(&document.fields(), elid).map_err(|what| self.client.incomplete(&call.func, what))?;
            if elid == row.0 {
                self.check_row_form(&call.func, document, row)?;
            }
            let mut sent = overlay(document, &fields);
            // The same, but for a dialect that itself leaves the choice to the panel.
            let chosen = fields.iter().any(|(name, _)| *name == "ip");
            sent.retain(|(name, value)| name != "ip" || chosen || !value.trim().is_empty());
            Ok(sent)
        };
        self.client.modify(&call.func, &key, build).await.unit()
    }

    /// A document without the fields of an address is not its form, and must not be sent back as one.
    fn check_row_form(&self, func: &str, document: &Document, row: &AddressRowId) -> Result<(), PanelError> {
        let form = document.fields();
        if !form.has("ip") && !form.has("domain") {
            return Err(self.client.incomplete(func, "the form of an address (ip and domain)"));
        }
        same_object(&form, &row.0).map_err(|what| self.client.incomplete(func, what))
    }
}

/// Empty lets the panel choose (ispsystem-api.md 2.5, confirmed).
fn text(address: Option<IpAddr>) -> String {
    address.map(|a| a.to_string()).unwrap_or_default()
}
