//! Servers and users: who we are, the lists, the edit form (ispsystem-api.md 1.2, 2.1, 2.2, 2.9).

use secrecy::SecretString;

use crate::panel::coremanager::document::Document;
use crate::panel::coremanager::params::Params;
use crate::panel::coremanager::values;
use crate::panel::error::{Outcome, PanelError};
use crate::panel::model::{Level, PanelUser, Probe, ServerEdit, ServerForm, ServerId, ServerRow, UserId};

use super::client::DciManager5;
use super::parse;

const EDIT: &str = "server.edit";

impl DciManager5 {
    /// Our level is what the log-in tells; where it tells none, what the list of users says of us.
    pub(super) async fn do_probe(&self) -> Result<Probe, PanelError> {
        let told = self.client.fresh_login().await?.level;
        let login = self.client.username().to_owned();
        let users = match self.do_users().await {
            Ok(users) => users,
            Err(error) if error.hides_users() => {
                return Ok(Probe { login, user_id: None, administrator: false });
            }
            Err(error) => return Err(error),
        };
        self.client.unfiltered("user", &["name"]).await?;
        self.client.unfiltered("server", &["id", "name", "hostname", "ip", "mac"]).await?;
        let own = users.into_iter().find(|user| user.name == login);
        let administrator = match told {
            Some(level) => values::is_administrators(&level),
            None => own.as_ref().is_some_and(|user| match user.level {
                Level::Administrator => true,
                Level::User => false,
            }),
        };
        Ok(Probe { login, user_id: own.map(|user| user.id), administrator })
    }

    pub(super) async fn do_servers(&self) -> Result<Vec<ServerRow>, PanelError> {
        let list = self.client.list("server", Params::new, "id").await?;
        list.parse(&self.client, |row| parse::server_row(row).map(Some))
    }

    pub(super) async fn do_users(&self) -> Result<Vec<PanelUser>, PanelError> {
        let read = self.client.list("user", Params::new, "id").await;
        let users = read.and_then(|list| list.parse(&self.client, |row| parse::user_row(row).map(Some)));
        let ordinary = match &users {
            Ok(users) => users.iter().any(|user| user.name == self.client.username() && user.level == Level::User),
            Err(error) => error.hides_users(),
        };
        if ordinary {
            // Whoever looks at the handler next asks who we are: a session may be older than our level.
            self.client.note_level(values::ORDINARY);
        }
        users
    }

    pub(super) async fn do_create_user(&self, name: &str, password: &SecretString) -> Outcome<UserId> {
        const FUNC: &str = "user.edit";
        let params = Params::new().with("sok", "ok").with("level", "lvUser").with("name", name).secret("passwd", password);
        let named = |document: Document| match document.fields().opt("id") {
            Some(id) => Outcome::Applied(UserId(id)),
            None => Outcome::of_error(self.client.incomplete(FUNC, "the id of the new user")),
        };
        self.client.change(FUNC, &params).await.and_then(named)
    }

    pub(super) async fn do_server_form(&self, server: &ServerId) -> Result<ServerForm, PanelError> {
        let document = self.client.read(EDIT, &Params::new().with("elid", server.0.as_str())).await?;
        parse::server_form(&document, server).map_err(|what| self.client.incomplete(EDIT, what))
    }

    /// The expectation is checked on the very form that is sent back, as late as it can be: the panel has no compare-and-swap.
    pub(super) async fn do_edit_server(&self, server: &ServerId, edit: &ServerEdit) -> Outcome<()> {
        let build = |document: &_| {
            let form = parse::server_form(document, server).map_err(|what| self.client.incomplete(EDIT, what))?;
            match parse::unmet(&edit.expect, &form) {
                Some(detail) => Err(PanelError::Expectation { server: server.0.clone(), detail }),
                None => Ok(parse::edited_form(document, &form, edit)),
            }
        };
        self.client.modify(EDIT, &[("elid", &server.0)], build).await.unit()
    }
}
