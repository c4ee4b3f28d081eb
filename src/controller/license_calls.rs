//! Performs what was decided about licences: reads, changes, and the Secret of the keys.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::panel::error::{ErrorClass, Outcome, PanelError};
use crate::panel::license::{FREE_NAME, LicenseEdit, LicenseOrder, LicensePanel};
use crate::provisioning::call::Call;
use crate::provisioning::facts::{Facts, HandlerState, Look, Prepared};
use crate::provisioning::licenses::remote_id;

use super::license_server::LicenseRuntime;
use super::perform::{Panels, PerformError};
use super::secrets::{self, SecretError};

impl Panels<'_> {
    /// The licence server of this pass.
    fn license_server(&self, facts: &Facts) -> Result<(Arc<LicenseRuntime>, Arc<dyn LicensePanel>), PanelError> {
        let key = facts.licenses.server.as_ref().map(|s| s.key.clone()).unwrap_or_default();
        let runtime = self.context.panels.licenses.get(&key);
        match runtime.panel() {
            Some(panel) => Ok((runtime, panel)),
            None => Err(PanelError::Unreachable { panel: format!("licence server {key}"), detail: "not ready".into() }),
        }
    }

    /// Reads licences. A server that does not answer is the server's failure, and is told as its state.
    pub async fn look_at_licenses(&self, look: &Look, facts: &mut Facts) {
        let Err(error) = self.read_licenses(look, facts).await else { return };
        match (error.class(), &mut facts.licenses.server) {
            (ErrorClass::Down | ErrorClass::Credentials, Some(server)) => server.state = HandlerState::NotReady(error.to_string()),
            _ => facts.failed = Some(error),
        }
    }

    async fn read_licenses(&self, look: &Look, facts: &mut Facts) -> Result<(), PanelError> {
        let (runtime, panel) = self.license_server(facts)?;
        let Look::License(id) = look else {
            let list = runtime.list(panel.as_ref()).await?;
            facts.licenses.fresh = Some(list.rows.into_values().collect());
            return Ok(());
        };
        let form = match panel.license(id).await {
            Ok(form) => Some(form),
            Err(error) if error.class() == ErrorClass::Missing => None,
            Err(error) => return Err(error),
        };
        facts.licenses.forms.insert(id.0.clone(), form);
        Ok(())
    }

    /// Makes a change at the licence server. What an order bought is noted at once.
    pub async fn license_call(&self, call: &Call, facts: &mut Facts) -> Outcome<Option<IpAddr>> {
        let (runtime, panel) = match self.license_server(facts) {
            Ok(found) => found,
            Err(error) => return Outcome::Refused(error),
        };
        let outcome = match call {
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
                let outcome = panel.order(&order).await;
                if let Outcome::Applied(id) = &outcome {
                    facts.licenses.bought.insert(remote_id.clone(), id.clone());
                }
                outcome.unit()
            }
            Call::EditLicense { license, remote_id, address, name } => {
                let edit = LicenseEdit { expect: remote_id.clone(), address: *address, name: name.clone(), remote_id: remote_id.clone() };
                panel.edit(license, &edit).await
            }
            Call::FreeLicense { license, remote_id } => {
                let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                let edit = LicenseEdit { expect: remote_id.clone(), address: nowhere, name: FREE_NAME.into(), remote_id: String::new() };
                panel.edit(license, &edit).await
            }
            Call::RenewLicense { license, period, .. } => panel.renew(license, *period).await,
            Call::SuspendLicense { license, .. } => panel.suspend(license).await,
            Call::ResumeLicense { license, .. } => panel.resume(license).await,
            Call::CreateUser { .. }
            | Call::Claim { .. }
            | Call::Unclaim { .. }
            | Call::Enable { .. }
            | Call::Disable { .. }
            | Call::ConnectionOn { .. }
            | Call::ConnectionOff { .. }
            | Call::SetPassword { .. }
            | Call::PowerOn { .. }
            | Call::PowerOff { .. }
            | Call::TakeAddress { .. }
            | Call::SetNote { .. }
            | Call::GiveBack { .. }
            | Call::ReplaceMain { .. }
            | Call::AddAddress { .. }
            | Call::RemoveAddress { .. }
            | Call::SetDomain { .. }
            | Call::Install { .. }
            | Call::RunRecipe { .. }
            | Call::FlagForCleaning { .. }
            | Call::CancelOperation { .. }
            | Call::HandOver { .. }
            | Call::Adopt { .. }
            | Call::Unmark { .. }
            | Call::Release { .. } => Outcome::Applied(()),
        };
        let now = Timestamp::now();
        runtime.note_change(&self.order.uid, now);
        if let Some(server) = &mut facts.licenses.server {
            server.changed = Some(now);
        }
        match outcome {
            Outcome::Applied(()) => Outcome::Applied(None),
            Outcome::Refused(error) => Outcome::Refused(error),
            Outcome::Ambiguous(error) => Outcome::Ambiguous(error),
        }
    }

    /// The keys of all licences that were read, in one Secret.
    pub async fn store_keys(&self, facts: &mut Facts) -> Result<(), PerformError> {
        let prefix = remote_id(&self.order.marker.short(), "");
        let forms = facts.licenses.forms.values().flatten();
        let keys: BTreeMap<String, SecretString> = forms
            .filter_map(|form| {
                let product = form.remote_id.strip_prefix(&prefix)?;
                self.order.licenses.iter().any(|l| l.product == product).then_some(())?;
                Some((product.to_owned(), form.key.clone()?))
            })
            .collect();
        facts.licenses.keys = Some(match secrets::store(&self.context.client, self.object, "licenses", &keys).await {
            Ok(()) => Prepared::Ready,
            Err(error @ (SecretError::Missing(_) | SecretError::Conflict(_))) => Prepared::Missing(error.to_string()),
            Err(error @ (SecretError::Api { .. } | SecretError::Random(_))) => return Err(error.into()),
        });
        Ok(())
    }
}
