//! The client of IPmanager 5 (ispsystem-api.md 4.1): list, take, note, give back.

use std::net::IpAddr;
use std::sync::Arc;

use futures::FutureExt;

use crate::panel::AddressPanel;
use crate::panel::coremanager::Client;
use crate::panel::coremanager::document::Document;
use crate::panel::coremanager::form::{gone, overlay};
use crate::panel::coremanager::params::Params;
use crate::panel::coremanager::values::{address, is_administrators};
use crate::panel::error::{Outcome, PanelError};
use crate::panel::model::{PoolAddress, PoolRequest, Probe};
use crate::panel::traits::{Change, Read};

use super::parse;

const LIST: &str = "ip";
const EDIT: &str = "ip.edit";
const DELETE: &str = "ip.delete";

/// An IPmanager 5.
pub struct IpManager5 {
    client: Arc<Client>,
}

impl IpManager5 {
    /// A panel behind this client.
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        Self { client }
    }

    /// An ordinary user is what the integration uses here (ispsystem-api.md 4.1, confirmed), so the level is only told.
    async fn do_probe(&self) -> Result<Probe, PanelError> {
        let level = self.client.fresh_login().await?.level;
        self.do_unfiltered().await?;
        let administrator = level.is_some_and(|level| is_administrators(&level));
        Ok(Probe { login: self.client.username().to_owned(), user_id: None, administrator })
    }

    async fn do_unfiltered(&self) -> Result<(), PanelError> {
        self.client.unfiltered(LIST, &["ip", "domain", "note"]).await
    }

    async fn do_addresses(&self) -> Result<Vec<PoolAddress>, PanelError> {
        self.client.list(LIST, Params::new, "ip").await?.parse(&self.client, |row| parse::pool_row(row).map(Some))
    }

    async fn do_take(&self, request: &PoolRequest) -> Outcome<IpAddr> {
        let params = Params::new()
            .with("sok", "ok")
            .with("family", request.family.as_str())
            .with("ip", "")
            .with("domain", request.domain.as_str())
            .with("iptype", request.group.as_str())
            .with("note", request.note.as_str());
        let named = |document: Document| match document.fields().opt("ip").and_then(|text| address(&text)) {
            Some(address) => Outcome::Applied(address),
            None => Outcome::of_error(self.client.incomplete(EDIT, "the new address (ip)")),
        };
        self.client.change(EDIT, &params).await.and_then(named)
    }

    /// The key is the address in the panel's own spelling (ispsystem-api.md 4.1), of which IPv6 has many: the list knows it.
    async fn key(&self, wanted: IpAddr) -> Result<String, PanelError> {
        if wanted.is_ipv4() {
            return Ok(wanted.to_string());
        }
        let list = self.client.list(LIST, Params::new, "ip").await?;
        let spelt = list.rows().into_iter().filter_map(|row| row.opt("ip")).find(|text| address(text) == Some(wanted));
        Ok(spelt.unwrap_or_else(|| wanted.to_string()))
    }

    /// The form is read and sent back whole, so that what else stands there is kept.
    async fn do_set(&self, wanted: IpAddr, field: &str, value: &str) -> Outcome<()> {
        let key = match self.key(wanted).await {
            Ok(key) => key,
            Err(error) => return Outcome::Refused(error),
        };
        let build = |document: &_| {
            parse::check_form(document, wanted).map_err(|what| self.client.incomplete(EDIT, what))?;
            let mut fields = overlay(document, &[(field, value)]);
            // An empty address asks for any free one; a form that does not show the address must not become that.
            fields.retain(|(name, value)| name != "ip" || !value.trim().is_empty());
            Ok(fields)
        };
        self.client.modify(EDIT, &[("elid", &key)], build).await.unit()
    }

    async fn do_give_back(&self, wanted: IpAddr) -> Outcome<()> {
        match self.key(wanted).await {
            Ok(key) => gone(self.client.change(DELETE, &Params::new().with("elid", key)).await),
            Err(error) => Outcome::Refused(error),
        }
    }
}

impl AddressPanel for IpManager5 {
    fn probe(&self) -> Read<'_, Probe> {
        self.do_probe().boxed()
    }

    fn unfiltered(&self) -> Read<'_, ()> {
        self.do_unfiltered().boxed()
    }

    fn addresses(&self) -> Read<'_, Vec<PoolAddress>> {
        self.do_addresses().boxed()
    }

    fn take<'a>(&'a self, request: &'a PoolRequest) -> Change<'a, IpAddr> {
        self.do_take(request).boxed()
    }

    fn set_note<'a>(&'a self, address: IpAddr, note: &'a str) -> Change<'a, ()> {
        self.do_set(address, "note", note).boxed()
    }

    fn set_domain<'a>(&'a self, address: IpAddr, domain: &'a str) -> Change<'a, ()> {
        self.do_set(address, "domain", domain).boxed()
    }

    fn give_back(&self, address: IpAddr) -> Change<'_, ()> {
        self.do_give_back(address).boxed()
    }
}
