//! Power, installation and connections of a server (ispsystem-api.md 2.4, 2.6, 2.7).

use std::collections::BTreeMap;

use secrecy::SecretString;

use crate::panel::coremanager::document::Document;
use crate::panel::coremanager::params::Params;
use crate::panel::coremanager::values::same_object;
use crate::panel::dialect::SET_PASSWORD;
use crate::panel::error::{Outcome, PanelError};
use crate::panel::model::{Connection, InstallForm, InstallRequest, Power, ServerId};

use super::client::DciManager5;
use super::parse;

const OPERATIONS: &str = "server.operations";

impl DciManager5 {
    /// A call that takes the server alone; success is a document without an error, its effect shows later in the list.
    pub(super) async fn act(&self, func: &str, server: &ServerId) -> Outcome<()> {
        self.client.change(func, &Params::new().with("elid", server.0.as_str())).await.unit()
    }

    pub(super) async fn do_power(&self, server: &ServerId, to: Power) -> Outcome<()> {
        let func = match to {
            Power::On => "server.poweron",
            Power::Off => "server.poweroff",
        };
        self.act(func, server).await
    }

    pub(super) async fn do_install_form(&self, server: &ServerId) -> Result<InstallForm, PanelError> {
        self.operations_form(server).await.map(|document| parse::install_form(&document))
    }

    async fn operations_form(&self, server: &ServerId) -> Result<Document, PanelError> {
        let document = self.client.read(OPERATIONS, &Params::new().with("elid", server.0.as_str())).await?;
        same_object(&document.fields(), &server.0).map_err(|what| self.client.incomplete(OPERATIONS, what))?;
        Ok(document)
    }

    /// The form of operations keeps nothing, it starts things: what it shows of other operations is not sent back. Of the
    /// tabs that erase disks or boot something else, those that the form has are sent as switched off.
    pub(super) async fn do_install(&self, server: &ServerId, request: &InstallRequest) -> Outcome<()> {
        let form = match self.operations_form(server).await {
            Ok(form) => form,
            Err(error) => return Outcome::Refused(error),
        };
        let form = form.fields();
        let mut params = Params::new()
            .with("elid", server.0.as_str())
            .with("sok", "ok")
            .with("operation", "ostemplate")
            .with("ostemplate", request.template.as_str())
            .with("recipe", request.recipe.as_deref().unwrap_or("null"))
            .secret("passwd", &request.password)
            .secret("confirm", &request.password)
            .secret("checkpasswd", &request.password);
        for (name, value) in parse::NEUTRAL {
            if form.has(name) {
                params.set(name, *value);
            }
        }
        let [hostname, ipaddr] = parse::OPTIONAL;
        if form.has(hostname) {
            params.set(hostname, request.hostname.as_str());
        }
        if let Some(address) = request.address
            && form.has(ipaddr)
        {
            params.set(ipaddr, address.to_string());
        }
        self.client.change(OPERATIONS, &params).await.unit()
    }

    /// A call of the dialect that names the server, and perhaps a recipe. The form of operations is no edit form: it is never read
    /// and sent back, so that nothing but what the dialect says is started.
    pub(super) async fn by_dialect(&self, name: &str, server: &ServerId, recipe: &str) -> Outcome<()> {
        let Some(call) = self.dialect.call(name) else {
            let detail = "the handler does not say how this call is made on its panel".to_owned();
            return Outcome::Refused(PanelError::Dialect { call: name.to_owned(), detail });
        };
        let values = BTreeMap::from([("server", server.0.clone()), ("recipe", recipe.to_owned())]);
        self.client.change(&call.func, &call.fill(&values)).await.unit()
    }

    /// The tooltip of the list's cell (ispsystem-api.md 1.3, confirmed).
    pub(super) async fn do_operation_text(&self, server: &ServerId) -> Result<Option<String>, PanelError> {
        let params = Params::new().with("elid", server.0.as_str()).with("clickstat", "title").with("hint_field", "install_in_progress");
        let document = self.client.read("server", &params).await?;
        Ok(document.fields().display("value").map(|text| crate::panel::coremanager::document::bounded(&text)))
    }

    /// `server.connection.on` and `.off` (ispsystem-api.md 2.7, confirmed): `plid` is the server, `elid` the connection.
    pub(super) async fn do_switch_connection(&self, server: &ServerId, connection: &str, to: Power) -> Outcome<()> {
        let func = match to {
            Power::On => "server.connection.on",
            Power::Off => "server.connection.off",
        };
        self.client.change(func, &Params::new().with("elid", connection).with("plid", server.0.as_str())).await.unit()
    }

    /// An unknown call: only the dialect says how it is made, and there is no default.
    pub(super) async fn do_set_password(&self, server: &ServerId, password: &SecretString) -> Outcome<()> {
        let Some(call) = self.dialect.call(SET_PASSWORD) else {
            let detail = "say how a password is set on this panel".to_owned();
            return Outcome::Refused(PanelError::Dialect { call: SET_PASSWORD.to_owned(), detail });
        };
        let params = call.fill_with(&BTreeMap::from([("server", server.0.clone())]), Some(password));
        if !call.is_edit() {
            return self.client.change(&call.func, &params).await.unit();
        }
        // A form is sent back whole: fields left out may be reset (ispsystem-api.md 1.3).
        let key = ["elid", "plid"].into_iter().filter_map(|name| params.get(name).map(|value| (name, value)));
        let key = || key.clone().fold(Params::new(), |key, (name, value)| key.with(name, value));
        let shown = match self.client.whole(&call.func, &key()).await {
            Ok((shown, _)) => shown,
            Err(error) => return Outcome::Refused(error),
        };
        if let Err(what) = same_object(&shown.fields(), params.get("elid").unwrap_or_default()) {
            return Outcome::Refused(self.client.incomplete(&call.func, what));
        }
        let whole = shown.fields().form().into_iter().fold(Params::new(), |whole, (name, value)| whole.with(&name, value));
        self.client.change(&call.func, &whole.and(params)).await.unit()
    }

    pub(super) async fn do_connections(&self, server: &ServerId) -> Result<Vec<Connection>, PanelError> {
        let params = || Params::new().with("elid", server.0.as_str());
        let list = self.client.list("server.connection", params, "id").await?;
        list.parse(&self.client, |row| parse::connection_row(row).map(Some))
    }
}
