//! Performs what was decided: reads, preparations and changes, one function each; no decision is made here.

use std::net::{IpAddr, Ipv4Addr};

use secrecy::SecretString;

use crate::api::DedicatedServerOrder;
use crate::panel::AddressPanel;
use crate::panel::error::{ErrorClass, Outcome, PanelError};
use crate::panel::license::{FREE_NAME, LicenseEdit, LicenseOrder};
use crate::panel::model::{
    AddressSpec, Expect, InstallRequest, MainAddress, NotesEdit, OwnerEdit, PoolRequest, Power, ServerEdit, ServerId,
};
use crate::provisioning::call::{Call, Left};
use crate::provisioning::facts::{Facts, Look, Prepare, Prepared, Seen};
use crate::provisioning::order::Order;

use super::client_user;
use super::context::Context;
use super::locks::Locked;
use super::password_version;
use super::runtime::ServerClient;
use super::secrets::{self, SecretError};
use super::status::StatusError;

/// Why a pass ended early. The next one begins by looking.
#[derive(Debug, thiserror::Error)]
pub enum PerformError {
    /// The API server said no, or nothing.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// A status could not be written.
    #[error("{0}")]
    Status(#[from] StatusError),
    /// A Secret could not be read or made.
    #[error("{0}")]
    Secret(#[from] SecretError),
}

/// The panels of one order.
pub struct Panels<'a> {
    /// What all reconcilers share.
    pub context: &'a Context,
    /// The handler's client.
    pub client: &'a ServerClient,
    /// The order.
    pub order: &'a Order,
    /// The object itself.
    pub object: &'a DedicatedServerOrder,
}

impl Panels<'_> {
    fn pool(&self) -> Result<std::sync::Arc<dyn AddressPanel>, PanelError> {
        let key = self.client.pool.as_ref().map(ToString::to_string).unwrap_or_default();
        let runtime = self.client.pool.as_ref().and_then(|k| self.context.panels.pool(k));
        // One that is not ready may be another one than the addresses of orders came from.
        runtime
            .filter(|r| r.ready.is_ok())
            .and_then(|r| r.panel)
            .ok_or_else(|| PanelError::Unreachable { panel: format!("IPManager {key}"), detail: "not ready".into() })
    }

    /// Reads something and records it; what fails is recorded too.
    pub async fn look(&self, look: &Look, facts: &mut Facts) -> Result<(), PerformError> {
        macro_rules! ready {
            ($what:expr) => {
                match $what {
                    Ok(ready) => ready,
                    Err(error) => {
                        facts.failed = Some(error);
                        return Ok(());
                    }
                }
            };
        }
        let failed = match look {
            Look::Licenses | Look::License(_) => {
                facts.failed = None;
                self.look_at_licenses(look, facts).await;
                return Ok(());
            }
            Look::Users => ready!(self.client.panel()).users().await.map(|users| facts.users = Some(users)).err(),
            Look::Form(server) => match ready!(self.client.panel()).server_form(server).await {
                Ok(form) => {
                    facts.forms.insert(server.0.clone(), Seen::There(form));
                    None
                }
                Err(error) if error.class() == ErrorClass::Missing => {
                    facts.forms.insert(server.0.clone(), Seen::Missing);
                    None
                }
                Err(error) => Some(error),
            },
            Look::Addresses(server) => ready!(self.client.panel()).addresses(server).await.map(|rows| facts.addresses = Some(rows)).err(),
            Look::Pool => ready!(self.pool()).addresses().await.map(|used| facts.pool = Some(used)).err(),
            Look::InstallForm(server) => match ready!(self.client.panel()).install_form(server).await {
                Ok(form) => {
                    facts.install_forms.insert(server.0.clone(), Some(form));
                    None
                }
                Err(error) if matches!(error.class(), ErrorClass::Refused | ErrorClass::Missing) && !error.refuses_session() => {
                    facts.install_forms.insert(server.0.clone(), None);
                    None
                }
                Err(error) => Some(error),
            },
            Look::Connections(server) => ready!(self.client.panel()).connections(server).await.map(|c| facts.connections = Some(c)).err(),
            Look::Locks => {
                let locks = self.context.locks.of_panel(&self.client.policy.panel).await?;
                facts.locks = Some(locks.into_iter().map(|l| (l.server, l.holder)).collect());
                None
            }
        };
        facts.failed = failed;
        Ok(())
    }

    /// Gets something ready in Kubernetes.
    pub async fn prepare(&self, what: Prepare, facts: &mut Facts) -> Result<(), PerformError> {
        match what {
            Prepare::ClientName => facts.client_name = Some(super::client_names::claim(self.context, self.client, self.order).await?),
            Prepare::PanelPassword => {
                // It is made together with the user, by the order that makes that.
                let ready = secrets::panel_user_may_be_generated(&self.context.client, self.object, &self.order.username).await;
                facts.panel_password = Some(prepared(ready)?);
            }
            Prepare::RootPassword => {
                let password = self.root_password().await;
                if let Ok(password) = &password {
                    facts.password_version = Some(self.password_version(password).await?);
                }
                facts.root_password = Some(prepared(password)?);
            }
            Prepare::PasswordVersion => {
                let version = match self.root_password().await {
                    Ok(password) => self.password_version(&password).await?,
                    Err(error) if error.needs_somebody() => String::new(),
                    Err(error) => return Err(error.into()),
                };
                self.context.panels.handler(&self.client.policy.key).note_password(&self.order.uid);
                facts.password_version = Some(version);
            }
            Prepare::LicenseKeys => self.store_keys(facts).await?,
        }
        Ok(())
    }

    async fn panel_password(&self) -> Result<SecretString, SecretError> {
        secrets::generated(&self.context.client, self.object, secrets::PANEL, &self.order.username).await
    }

    async fn root_password(&self) -> Result<SecretString, SecretError> {
        match &self.object.spec.operating_system.password_secret_ref {
            Some(reference) => secrets::read(&self.context.client, &self.order.key.namespace, &reference.name).await?.text(&reference.key),
            None => secrets::generated(&self.context.client, self.object, "root", "root").await,
        }
    }

    /// The version of a root password from the user's Secret; empty for one that the operator made, which does not change.
    async fn password_version(&self, password: &SecretString) -> Result<String, SecretError> {
        match &self.object.spec.operating_system.password_secret_ref {
            Some(_) => password_version::of(&self.context.client, self.object, password).await,
            None => Ok(String::new()),
        }
    }

    /// Makes a change at the server panel, the pool or the licence server.
    #[expect(clippy::too_many_lines, reason = "one arm for each call")]
    pub async fn call(&self, call: &Call, facts: &mut Facts) -> Result<Outcome<Option<IpAddr>>, PerformError> {
        // A panel that is not ready refuses: nothing was sent. Nor was it where Kubernetes does not answer before the call: an intent
        // that nobody knows more of would be taken for an answer that was lost.
        macro_rules! ready {
            ($what:expr) => {
                match $what {
                    Ok(ready) => ready,
                    Err(error) => return Ok(Outcome::Refused(error)),
                }
            };
        }
        if let Some(remote) = call.license() {
            facts.licenses.answers.forget(remote);
            self.keep_answers(facts);
        }
        let panel = self.client.panel();
        let none = |outcome: Outcome<()>| outcome.map(|()| None);
        let outcome = match call {
            Call::CreateUser { username } => {
                let (panel, name) = (ready!(panel), &self.client.policy.panel);
                let turn = self.context.panels.making_user(name, username);
                match client_user::make(&turn, panel.as_ref(), name, username, self.panel_password()).await {
                    Ok(outcome) => none(outcome),
                    Err(error) => {
                        if error.needs_somebody() {
                            facts.panel_password = Some(Prepared::Missing(error.to_string()));
                        }
                        Outcome::Refused(self.not_sent(&error))
                    }
                }
            }
            Call::Claim { server, owner, marker } => {
                let notes = NotesEdit::Add(marker.to_string());
                let edit = ServerEdit { expect: Expect::Free, owner: OwnerEdit::User(owner.clone()), notes };
                none(self.mark(server, &edit).await)
            }
            Call::Unclaim { server, left } => {
                let (expect, notes) = match left {
                    Left::Marker(written) => (Expect::Marker(written.clone()), NotesEdit::Remove(written.clone())),
                    Left::Owner(owner) => (Expect::Owner(owner.clone()), NotesEdit::Keep),
                };
                let edit = ServerEdit { expect, owner: OwnerEdit::Nobody, notes };
                none(ready!(panel).edit_server(server, &edit).await)
            }
            Call::Enable { server } => none(ready!(panel).enable(server).await),
            Call::Disable { server } => none(ready!(panel).disable(server).await),
            Call::ConnectionOn { server, connection } => none(ready!(panel).switch_connection(server, connection, Power::On).await),
            Call::ConnectionOff { server, connection } => none(ready!(panel).switch_connection(server, connection, Power::Off).await),
            Call::SetPassword { server, version: _ } => {
                let password = ready!(self.root_password().await.map_err(|e| self.not_sent(&e)));
                none(ready!(panel).set_password(server, &password).await)
            }
            Call::PowerOn { server } => none(ready!(panel).power(server, Power::On).await),
            Call::PowerOff { server } => none(ready!(panel).power(server, Power::Off).await),
            Call::ReplaceMain { server, row, current, address, group, domain } => {
                let main = MainAddress { current: *current, address: *address, group: group.clone(), domain: domain.clone() };
                none(ready!(panel).replace_main_address(server, row, &main).await)
            }
            Call::AddAddress { server, family, group, address, domain, present: _ } => {
                let spec = AddressSpec { family: *family, group: group.clone(), address: *address, domain: domain.clone() };
                ready!(panel).add_address(server, &spec).await.map(Some)
            }
            Call::RemoveAddress { server, row, address: _ } => none(ready!(panel).remove_address(server, row).await),
            Call::SetDomain { server, row, domain } => none(ready!(panel).set_domain(server, row, domain).await),
            Call::Install { server, template, recipe, hostname, address } => {
                let password = ready!(self.root_password().await.map_err(|e| self.not_sent(&e)));
                let request = InstallRequest {
                    template: template.clone(),
                    recipe: recipe.clone(),
                    hostname: hostname.clone(),
                    address: *address,
                    password,
                };
                none(ready!(panel).install(server, &request).await)
            }
            Call::RunRecipe { server, recipe } => none(ready!(panel).run_recipe(server, recipe).await),
            Call::FlagForCleaning { server } => none(ready!(panel).flag_for_cleaning(server).await),
            Call::CancelOperation { server } => none(ready!(panel).cancel_operation(server).await),
            Call::HandOver { server, owner, marker } => {
                let edit = ServerEdit {
                    expect: Expect::Marker(marker.to_string()),
                    owner: OwnerEdit::User(owner.clone()),
                    notes: NotesEdit::Keep,
                };
                none(ready!(panel).edit_server(server, &edit).await)
            }
            Call::Adopt { server, owner, marker } => {
                let notes = NotesEdit::Add(marker.to_string());
                let edit = ServerEdit { expect: Expect::Owner(owner.clone()), owner: OwnerEdit::Keep, notes };
                none(self.mark(server, &edit).await)
            }
            Call::Unmark { server, written } => {
                let edit = ServerEdit {
                    expect: Expect::Marker(written.clone()),
                    owner: OwnerEdit::Keep,
                    notes: NotesEdit::Remove(written.clone()),
                };
                none(ready!(panel).edit_server(server, &edit).await)
            }
            Call::Release { server, marker } => {
                let marker = marker.to_string();
                let edit =
                    ServerEdit { expect: Expect::Marker(marker.clone()), owner: OwnerEdit::Nobody, notes: NotesEdit::Remove(marker) };
                none(ready!(panel).edit_server(server, &edit).await)
            }
            Call::TakeAddress { family, group, domain, note } => {
                let request = PoolRequest { family: *family, group: group.clone(), domain: domain.clone(), note: note.clone() };
                ready!(self.pool()).take(&request).await.map(Some)
            }
            Call::SetNote { address, note } => none(ready!(self.pool()).set_note(*address, note).await),
            Call::SetPoolDomain { address, domain } => none(ready!(self.pool()).set_domain(*address, domain).await),
            Call::GiveBack { address } => none(ready!(self.pool()).give_back(*address).await),
            Call::OrderLicense { remote_id, pricelist, addons, project, period, address, name } => {
                let order = LicenseOrder {
                    pricelist: pricelist.clone(),
                    addons: addons.clone(),
                    project: project.clone(),
                    period: *period,
                    address: *address,
                    name: name.clone(),
                    remote_id: remote_id.clone(),
                };
                let outcome = ready!(self.licenses(facts)).order(&order).await;
                if let Outcome::Applied(id) = &outcome {
                    // Known from now on, whatever happens to the reads that follow.
                    facts.licenses.answers.bought.insert(remote_id.clone(), id.clone());
                }
                none(outcome.unit())
            }
            Call::EditLicense { license, remote_id, address, name } => {
                let edit = LicenseEdit { expect: remote_id.clone(), address: *address, name: name.clone(), remote_id: remote_id.clone() };
                none(ready!(self.licenses(facts)).edit(license, &edit).await)
            }
            Call::FreeLicense { license, remote_id } => {
                let nowhere = Ipv4Addr::UNSPECIFIED.into();
                let edit = LicenseEdit { expect: remote_id.clone(), address: nowhere, name: FREE_NAME.into(), remote_id: String::new() };
                none(ready!(self.licenses(facts)).edit(license, &edit).await)
            }
            Call::RenewLicense { license, remote_id, period, .. } => {
                let outcome = ready!(self.licenses(facts)).renew(license, *period).await;
                if let Outcome::Applied(end) = &outcome {
                    facts.licenses.answers.prolonged.insert(remote_id.clone(), *end);
                }
                none(outcome.unit())
            }
            Call::SuspendLicense { license, .. } => none(ready!(self.licenses(facts)).suspend(license).await),
            Call::ResumeLicense { license, .. } => none(ready!(self.licenses(facts)).resume(license).await),
        };
        if call.at_license_server() {
            self.note_license_change(facts);
        }
        Ok(outcome)
    }

    /// Writes our marker under the server's lock.
    async fn mark(&self, server: &ServerId, edit: &ServerEdit) -> Outcome<()> {
        match self.lock(server).await {
            Ok(Locked::Ours) => match self.client.panel() {
                Ok(panel) => panel.edit_server(server, edit).await,
                Err(error) => Outcome::Refused(error),
            },
            Ok(Locked::Theirs(holder)) => {
                let detail = format!("locked by order {holder}");
                Outcome::Refused(PanelError::Expectation { server: server.0.clone(), detail })
            }
            Ok(Locked::Contended) => {
                let detail = "its lock is being written by another replica of the operator".to_owned();
                Outcome::Refused(PanelError::Expectation { server: server.0.clone(), detail })
            }
            Err(error) => Outcome::Refused(self.not_sent(&error)),
        }
    }

    async fn lock(&self, server: &ServerId) -> Result<Locked, kube::Error> {
        let order = self.order.key.to_string();
        self.context.locks.acquire(&self.client.policy.panel, &server.0, &self.order.order_id, &order).await
    }

    /// Something that a call needs first could not be had from Kubernetes.
    fn not_sent(&self, error: &impl std::fmt::Display) -> PanelError {
        PanelError::NotSent { panel: self.client.policy.panel.clone(), detail: error.to_string() }
    }
}

/// What a Secret's absence means for the decision; an API server that does not answer ends the pass.
fn prepared<T>(result: Result<T, SecretError>) -> Result<Prepared, SecretError> {
    match result {
        Ok(_) => Ok(Prepared::Ready),
        Err(error) if error.needs_somebody() => Ok(Prepared::Missing(error.to_string())),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::samples;
    use crate::provisioning::order::Handler;

    #[tokio::test]
    async fn a_panel_is_not_to_blame_for_a_lock_that_kubernetes_does_not_give() {
        let context = Context::with(&Context::refusing());
        let client = ServerClient::unasked(Handler::placeholder());
        let object = samples::order(&json!({}));
        let order = Order::parse(&object, &context.cluster).unwrap();
        let panels = Panels { context: &context, client: &client, order: &order, object: &object };
        let edit = ServerEdit { expect: Expect::Owner(String::new()), owner: OwnerEdit::Nobody, notes: NotesEdit::Keep };
        let outcome = panels.mark(&ServerId("17".into()), &edit).await;
        assert!(matches!(&outcome, Outcome::Refused(PanelError::NotSent { .. })), "{outcome:?}");
    }
}
