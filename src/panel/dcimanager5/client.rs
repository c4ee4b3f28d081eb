//! The client of DCImanager 5: one object behind `ServerPanel`.

use std::net::IpAddr;
use std::sync::Arc;

use futures::FutureExt;
use secrecy::SecretString;

use crate::panel::ServerPanel;
use crate::panel::coremanager::Client;
use crate::panel::coremanager::values::is_administrators;
use crate::panel::dialect::{Dialect, FLAG_FOR_CLEANING, RUN_RECIPE};
use crate::panel::model::{
    AddressRow, AddressRowId, AddressSpec, Connection, InstallForm, InstallRequest, MainAddress, PanelUser, Power, Probe, ServerEdit,
    ServerForm, ServerId, ServerRow, UserId,
};
use crate::panel::traits::{Change, Read};

/// A DCImanager 5.
pub struct DciManager5 {
    pub(super) client: Arc<Client>,
    pub(super) dialect: Dialect,
}

impl DciManager5 {
    /// A panel behind this client, whose unknown calls are made as the dialect says.
    #[must_use]
    pub fn new(client: Arc<Client>, dialect: Dialect) -> Self {
        Self { client, dialect }
    }
}

impl ServerPanel for DciManager5 {
    fn probe(&self) -> Read<'_, Probe> {
        self.do_probe().boxed()
    }

    fn is_administrator(&self) -> bool {
        self.client.level().is_none_or(|level| is_administrators(&level))
    }

    fn servers(&self) -> Read<'_, Vec<ServerRow>> {
        self.do_servers().boxed()
    }

    fn users(&self) -> Read<'_, Vec<PanelUser>> {
        self.do_users().boxed()
    }

    fn create_user<'a>(&'a self, name: &'a str, password: &'a SecretString) -> Change<'a, UserId> {
        self.do_create_user(name, password).boxed()
    }

    fn server_form<'a>(&'a self, server: &'a ServerId) -> Read<'a, ServerForm> {
        self.do_server_form(server).boxed()
    }

    fn edit_server<'a>(&'a self, server: &'a ServerId, edit: &'a ServerEdit) -> Change<'a, ()> {
        self.do_edit_server(server, edit).boxed()
    }

    fn addresses<'a>(&'a self, server: &'a ServerId) -> Read<'a, Vec<AddressRow>> {
        self.do_addresses(server).boxed()
    }

    fn add_address<'a>(&'a self, server: &'a ServerId, address: &'a AddressSpec) -> Change<'a, IpAddr> {
        self.do_add_address(server, address).boxed()
    }

    fn replace_main_address<'a>(&'a self, server: &'a ServerId, row: &'a AddressRowId, address: &'a MainAddress) -> Change<'a, ()> {
        self.do_replace_main_address(server, row, address).boxed()
    }

    fn set_domain<'a>(&'a self, server: &'a ServerId, row: &'a AddressRowId, domain: &'a str) -> Change<'a, ()> {
        self.do_set_domain(server, row, domain).boxed()
    }

    fn remove_address<'a>(&'a self, server: &'a ServerId, row: &'a AddressRowId) -> Change<'a, ()> {
        self.do_remove_address(server, row).boxed()
    }

    fn power<'a>(&'a self, server: &'a ServerId, to: Power) -> Change<'a, ()> {
        self.do_power(server, to).boxed()
    }

    fn enable<'a>(&'a self, server: &'a ServerId) -> Change<'a, ()> {
        self.act("server.enable", server).boxed()
    }

    fn disable<'a>(&'a self, server: &'a ServerId) -> Change<'a, ()> {
        self.act("server.disable", server).boxed()
    }

    fn switch_connection<'a>(&'a self, server: &'a ServerId, connection: &'a str, to: Power) -> Change<'a, ()> {
        self.do_switch_connection(server, connection, to).boxed()
    }

    fn set_password<'a>(&'a self, server: &'a ServerId, password: &'a SecretString) -> Change<'a, ()> {
        self.do_set_password(server, password).boxed()
    }

    fn install_form<'a>(&'a self, server: &'a ServerId) -> Read<'a, InstallForm> {
        self.do_install_form(server).boxed()
    }

    fn install<'a>(&'a self, server: &'a ServerId, request: &'a InstallRequest) -> Change<'a, ()> {
        self.do_install(server, request).boxed()
    }

    fn run_recipe<'a>(&'a self, server: &'a ServerId, recipe: &'a str) -> Change<'a, ()> {
        self.by_dialect(RUN_RECIPE, server, recipe).boxed()
    }

    fn flag_for_cleaning<'a>(&'a self, server: &'a ServerId) -> Change<'a, ()> {
        self.by_dialect(FLAG_FOR_CLEANING, server, "").boxed()
    }

    fn cancel_operation<'a>(&'a self, server: &'a ServerId) -> Change<'a, ()> {
        self.act("server.opercancel", server).boxed()
    }

    fn operation_text<'a>(&'a self, server: &'a ServerId) -> Read<'a, Option<String>> {
        self.do_operation_text(server).boxed()
    }

    fn connections<'a>(&'a self, server: &'a ServerId) -> Read<'a, Vec<Connection>> {
        self.do_connections(server).boxed()
    }
}
