//! What a panel can do: the vocabulary (`model`, `error`, `license`) and one module per product behind three traits.
//!
//! That of licence servers stands with their vocabulary, in `license`.
//!
//! `model` and `error` are plain data and build without any client, so that the pure decisions in
//! `provisioning` can speak of what a panel shows; so do the parsers of each product. The traits below are what
//! the controllers call.

pub mod billmanager6;
pub mod coremanager;
pub mod dcimanager5;
pub mod denied;
pub mod dialect;
pub mod error;
pub mod ipmanager5;
pub mod license;
pub mod model;
pub mod settings;

#[cfg(feature = "operator")]
pub(crate) mod causes;
#[cfg(feature = "operator")]
pub mod resolver;
#[cfg(feature = "operator")]
pub mod tls;

#[cfg(feature = "operator")]
pub use traits::{AddressPanel, Change, Read, ServerPanel};

#[cfg(feature = "operator")]
mod traits {
    use std::net::IpAddr;

    use futures::future::BoxFuture;
    use secrecy::SecretString;

    use super::error::{Outcome, PanelError};
    use super::model::{
        AddressRow, AddressRowId, AddressSpec, Connection, InstallForm, InstallRequest, MainAddress, PanelUser, PoolAddress, PoolRequest,
        Power, Probe, ServerEdit, ServerForm, ServerId, ServerRow, UserId,
    };

    /// A read: it changes nothing, so an error may always be answered by asking again.
    pub type Read<'a, T> = BoxFuture<'a, Result<T, PanelError>>;
    /// A change: its outcome is never guessed (design.md section 4, rule 4).
    pub type Change<'a, T> = BoxFuture<'a, Outcome<T>>;

    /// A panel that keeps dedicated servers (DCImanager).
    pub trait ServerPanel: Send + Sync {
        /// Logs in afresh and tells who we are there.
        fn probe(&self) -> Read<'_, Probe>;
        /// Whether the last log-in, of which nobody has to know, told the level of an administrator; true where it told none. Costs nothing.
        fn is_administrator(&self) -> bool;
        /// The complete list of servers, unfiltered; an ordinary user's own ones.
        fn servers(&self) -> Read<'_, Vec<ServerRow>>;
        /// All users of the panel, administrators included.
        fn users(&self) -> Read<'_, Vec<PanelUser>>;
        /// Creates an ordinary user. `exists` is `Refused`.
        fn create_user<'a>(&'a self, name: &'a str, password: &'a SecretString) -> Change<'a, UserId>;
        /// The edit form of one server: owner and notes as they are now.
        fn server_form<'a>(&'a self, server: &'a ServerId) -> Read<'a, ServerForm>;
        /// Reads the form, checks `edit.expect` against it, and sends it back with owner and notes changed in one call.
        /// When the expectation does not hold nothing is sent and the outcome is `Refused(PanelError::Expectation)`.
        fn edit_server<'a>(&'a self, server: &'a ServerId, edit: &'a ServerEdit) -> Change<'a, ()>;
        /// The addresses of one server, grouping rows left out.
        fn addresses<'a>(&'a self, server: &'a ServerId) -> Read<'a, Vec<AddressRow>>;
        /// Adds an address; the answer names it.
        fn add_address<'a>(&'a self, server: &'a ServerId, address: &'a AddressSpec) -> Change<'a, IpAddr>;
        /// Replaces the main address: an unknown call, so it is taken from the dialect.
        fn replace_main_address<'a>(&'a self, server: &'a ServerId, row: &'a AddressRowId, address: &'a MainAddress) -> Change<'a, ()>;
        /// Sets the domain of one address.
        fn set_domain<'a>(&'a self, server: &'a ServerId, row: &'a AddressRowId, domain: &'a str) -> Change<'a, ()>;
        /// Takes an address off the server.
        fn remove_address<'a>(&'a self, server: &'a ServerId, row: &'a AddressRowId) -> Change<'a, ()>;
        /// Switches the power; the effect shows later in the list.
        fn power<'a>(&'a self, server: &'a ServerId, to: Power) -> Change<'a, ()>;
        /// Lifts the administrative block of a suspended server.
        fn enable<'a>(&'a self, server: &'a ServerId) -> Change<'a, ()>;
        /// Blocks a server administratively: the service is suspended.
        fn disable<'a>(&'a self, server: &'a ServerId) -> Change<'a, ()>;
        /// Switches the network of one connection on or off; the effect shows later in the list of connections.
        fn switch_connection<'a>(&'a self, server: &'a ServerId, connection: &'a str, to: Power) -> Change<'a, ()>;
        /// Sets the password of root or Administrator on a running system: an unknown call, so it is taken from the dialect.
        fn set_password<'a>(&'a self, server: &'a ServerId, password: &'a SecretString) -> Change<'a, ()>;
        /// What can be installed on this server, and what is.
        fn install_form<'a>(&'a self, server: &'a ServerId) -> Read<'a, InstallForm>;
        /// Starts an installation: destroys what is on the disks.
        fn install<'a>(&'a self, server: &'a ServerId, request: &'a InstallRequest) -> Change<'a, ()>;
        /// Runs one recipe on an installed system: an unknown call, so it is taken from the dialect.
        fn run_recipe<'a>(&'a self, server: &'a ServerId, recipe: &'a str) -> Change<'a, ()>;
        /// Flags the disks for the panel's own cleaning: an unknown call, so it is taken from the dialect.
        fn flag_for_cleaning<'a>(&'a self, server: &'a ServerId) -> Change<'a, ()>;
        /// Cancels the running operation.
        fn cancel_operation<'a>(&'a self, server: &'a ServerId) -> Change<'a, ()>;
        /// The panel's own words for how far an installation is; `None` when it has none.
        fn operation_text<'a>(&'a self, server: &'a ServerId) -> Read<'a, Option<String>>;
        /// The connections of a server (switch ports, IPMI, PDU).
        fn connections<'a>(&'a self, server: &'a ServerId) -> Read<'a, Vec<Connection>>;
    }

    /// A panel that keeps addresses (IPmanager).
    pub trait AddressPanel: Send + Sync {
        /// Logs in afresh and tells who we are there.
        fn probe(&self) -> Read<'_, Probe>;
        /// Looks whether a filter that is stored for our user hides addresses. A part of `probe`: one may be stored at any time.
        fn unfiltered(&self) -> Read<'_, ()>;
        /// The addresses in use that we may see.
        fn addresses(&self) -> Read<'_, Vec<PoolAddress>>;
        /// Takes a free address of a group; the answer names it.
        fn take<'a>(&'a self, request: &'a PoolRequest) -> Change<'a, IpAddr>;
        /// Replaces the note of an address that is in use.
        fn set_note<'a>(&'a self, address: IpAddr, note: &'a str) -> Change<'a, ()>;
        /// Replaces the domain of an address that is in use; its note stays.
        fn set_domain<'a>(&'a self, address: IpAddr, domain: &'a str) -> Change<'a, ()>;
        /// Gives an address back to its pool.
        fn give_back(&self, address: IpAddr) -> Change<'_, ()>;
    }
}
