//! What orders need of their licence server: reads, what has to be known after a change, and the Secret of the keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::panel::error::{ErrorClass, PanelError};
use crate::panel::license::LicensePanel;
use crate::provisioning::facts::{Facts, HandlerState, Look, Prepared};
use crate::provisioning::license_server::LIST;
use crate::provisioning::licenses::remote_id;

use super::license_server::LicenseRuntime;
use super::license_told::Asking;
use super::perform::{Panels, PerformError};
use super::secrets;

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

    /// Reads licences. A server that does not answer is the server's failure, and is told as its state. What it does not let be read is told
    /// of that licence: it is nothing of the panel of servers, and others may be read.
    pub async fn look_at_licenses(&self, look: &Look, facts: &mut Facts) {
        let Err(error) = self.read_licenses(look, facts).await else { return };
        match (error.class(), &mut facts.licenses.server) {
            (ErrorClass::Down | ErrorClass::Credentials, Some(server)) => server.state = HandlerState::NotReady(error.to_string()),
            _ => {
                let what = if let Look::License(id) = look { id.0.clone() } else { LIST.to_owned() };
                facts.licenses.unread.insert(what, error);
            }
        }
    }

    /// When a task of the order was closed last, in this pass or before.
    fn answered(&self, facts: &Facts) -> Option<Timestamp> {
        let before = self.object.status.iter().flat_map(|status| &status.manual_tasks).filter_map(|task| task.closed_at);
        let now = facts.tasks.iter().filter_map(|task| task.closed_at);
        before.map(|at| at.0).chain(now).max()
    }

    async fn read_licenses(&self, look: &Look, facts: &mut Facts) -> Result<(), PanelError> {
        let (runtime, panel) = self.license_server(facts)?;
        let Look::License(id) = look else {
            let own = remote_id(&self.order.marker.short(), "");
            let asking = Asking { own: &own, answered: self.answered(facts) };
            let list = runtime.list(panel.as_ref(), Some(asking)).await?;
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

    /// The licence server, where it is ready.
    pub(super) fn licenses(&self, facts: &Facts) -> Result<Arc<dyn LicensePanel>, PanelError> {
        self.license_server(facts).map(|(_, panel)| panel)
    }

    /// Something was asked for at the licence server: older lists do not speak of it any more, and what it answered is kept.
    pub(super) fn note_license_change(&self, facts: &mut Facts) {
        let now = Timestamp::now();
        if let Some(server) = &mut facts.licenses.server {
            self.context.panels.licenses.get(&server.key).note_change(&self.order.uid, now);
            server.changed = Some(now);
        }
        self.keep_answers(facts);
    }

    /// Keeps what was answered: somebody else may write the order before its status tells.
    pub(super) fn keep_answers(&self, facts: &Facts) {
        self.context.memory.keep_answers(&self.order.uid, facts.licenses.answers.clone());
    }

    /// The keys of all licences that were read, in one Secret.
    pub async fn store_keys(&self, facts: &mut Facts) -> Result<(), PerformError> {
        let prefix = remote_id(&self.order.marker.short(), "");
        let forms = facts.licenses.forms.iter().filter_map(|(id, form)| Some((id, form.as_ref()?)));
        let keys: BTreeMap<String, SecretString> = forms
            .filter_map(|(id, form)| {
                let remote = facts.licenses.remote_id_of(id)?;
                let product = remote.strip_prefix(&prefix)?;
                self.order.licenses.iter().any(|l| l.product == product).then_some(())?;
                Some((product.to_owned(), form.key.clone()?))
            })
            .collect();
        if let Some(without) = self.order.licenses.iter().find(|license| !keys.contains_key(&license.product)) {
            let why = format!("the licence server shows no key that is known to be that of {}", without.product);
            facts.licenses.keys = Some(Prepared::Missing(why));
            return Ok(());
        }
        let current = self.object.status.as_ref().and_then(|s| s.license_secret.as_deref());
        facts.licenses.keys = Some(match secrets::store(&self.context.client, self.object, "licenses", &keys, current).await {
            Ok(name) => {
                facts.licenses.secret = name;
                Prepared::Ready
            }
            Err(error) if error.needs_somebody() => Prepared::Missing(error.to_string()),
            Err(error) => return Err(error.into()),
        });
        Ok(())
    }
}
