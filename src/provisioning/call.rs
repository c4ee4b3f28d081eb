//! The changes that can be asked of a panel, as data.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::panel::license::LicenseId;
use crate::panel::model::{AddressRowId, Family, ServerId, UserId};

use super::marker::Marker;

/// What a claim that has to be undone left in a server's form: nothing else is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// So much of the marker.
    Marker(String),
    /// Only the owner, as the form shows it.
    Owner(String),
}

/// One change at a panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Create the client's user; its password is in Secret `<order>-panel`.
    CreateUser {
        /// Log-in name.
        username: String,
    },
    /// Take a free server: owner and marker in one call, under its lock.
    Claim {
        /// Server.
        server: ServerId,
        /// The operator's own user, who owns servers in preparation.
        owner: UserId,
        /// Marker.
        marker: Marker,
    },
    /// Undo a claim whose marker the panel cut short, or did not keep.
    Unclaim {
        /// Server.
        server: ServerId,
        /// What stands there of the marker.
        left: Left,
    },
    /// Lift the administrative block.
    Enable {
        /// Server.
        server: ServerId,
    },
    /// Block administratively: the service is suspended.
    Disable {
        /// Server.
        server: ServerId,
    },
    /// Switch the network of one connection on.
    ConnectionOn {
        /// Server.
        server: ServerId,
        /// Row id of the connection.
        connection: String,
    },
    /// Switch the network of one connection off.
    ConnectionOff {
        /// Server.
        server: ServerId,
        /// Row id of the connection.
        connection: String,
    },
    /// Set the password of root or Administrator on a running system; the password itself is in a Secret.
    SetPassword {
        /// Server.
        server: ServerId,
        /// Version of the Secret.
        version: String,
    },
    /// Power on.
    PowerOn {
        /// Server.
        server: ServerId,
    },
    /// Power off, hard.
    PowerOff {
        /// Server.
        server: ServerId,
    },
    /// Take a free address in IPmanager.
    TakeAddress {
        /// Family.
        family: Family,
        /// Group.
        group: String,
        /// Domain.
        domain: String,
        /// Note.
        note: String,
    },
    /// Write the note of an address in IPmanager.
    SetNote {
        /// Address.
        address: IpAddr,
        /// Note.
        note: String,
    },
    /// Write the domain of an address in IPmanager.
    SetPoolDomain {
        /// Address.
        address: IpAddr,
        /// Domain.
        domain: String,
    },
    /// Give an address back to IPmanager.
    GiveBack {
        /// Address.
        address: IpAddr,
    },
    /// Replace the main address.
    ReplaceMain {
        /// Server.
        server: ServerId,
        /// Row of the main address.
        row: AddressRowId,
        /// What stands there.
        current: IpAddr,
        /// What shall stand there; `None` lets the panel choose.
        address: Option<IpAddr>,
        /// Group.
        group: String,
        /// Domain.
        domain: String,
    },
    /// Put an additional address onto the server.
    AddAddress {
        /// Server.
        server: ServerId,
        /// Family.
        family: Family,
        /// Group.
        group: String,
        /// Address; `None` lets the panel choose.
        address: Option<IpAddr>,
        /// Domain.
        domain: String,
        /// How many of this family are there already, so that one addition is not taken for the next.
        present: usize,
    },
    /// Take an additional address off the server.
    RemoveAddress {
        /// Server.
        server: ServerId,
        /// Row.
        row: AddressRowId,
        /// Address.
        address: IpAddr,
    },
    /// Set the domain of an address.
    SetDomain {
        /// Server.
        server: ServerId,
        /// Row.
        row: AddressRowId,
        /// Domain.
        domain: String,
    },
    /// Install a system: destroys what is on the disks.
    Install {
        /// Server.
        server: ServerId,
        /// Template.
        template: String,
        /// Recipe.
        recipe: Option<String>,
        /// Host name.
        hostname: String,
        /// Main address.
        address: Option<IpAddr>,
    },
    /// Run one recipe on an installed system.
    RunRecipe {
        /// Server.
        server: ServerId,
        /// Recipe.
        recipe: String,
    },
    /// Flag the disks for the panel's own cleaning.
    FlagForCleaning {
        /// Server.
        server: ServerId,
    },
    /// Cancel the running operation.
    CancelOperation {
        /// Server.
        server: ServerId,
    },
    /// Make the client the owner.
    HandOver {
        /// Server.
        server: ServerId,
        /// The client's user.
        owner: UserId,
        /// Our marker, which has to stand there and stays.
        marker: Marker,
    },
    /// Write our marker beside a client's server that is taken over; the owner stays. Under its lock.
    Adopt {
        /// Server.
        server: ServerId,
        /// The owner as the form shows it, who has to stand there.
        owner: String,
        /// Marker.
        marker: Marker,
    },
    /// Take our marker (or what is left of it) away and leave the server as it is.
    Unmark {
        /// Server.
        server: ServerId,
        /// What stands there of the marker.
        written: String,
    },
    /// Clear owner and marker in one call: the commit point of closing.
    Release {
        /// Server.
        server: ServerId,
        /// Our marker, which has to stand there.
        marker: Marker,
    },
    /// Order a licence: costs money.
    OrderLicense {
        /// Our id of it.
        remote_id: String,
        /// Tariff.
        pricelist: String,
        /// Addons by id.
        addons: BTreeMap<String, String>,
        /// Project to order for.
        project: Option<String>,
        /// Months.
        period: i32,
        /// The address it is bound to.
        address: IpAddr,
        /// Name.
        name: String,
    },
    /// Bind a licence to another address.
    EditLicense {
        /// Licence.
        license: LicenseId,
        /// Our id, which has to stand there and stays.
        remote_id: String,
        /// Address.
        address: IpAddr,
        /// Name.
        name: String,
    },
    /// Prolong a licence: costs money.
    RenewLicense {
        /// Licence.
        license: LicenseId,
        /// Our id of it.
        remote_id: String,
        /// Months.
        period: i32,
        /// The end that is prolonged, so that one renewal is not taken for the next.
        expires: Timestamp,
    },
    /// Stop a licence.
    SuspendLicense {
        /// Licence.
        license: LicenseId,
        /// Our id of it.
        remote_id: String,
    },
    /// Start a licence again.
    ResumeLicense {
        /// Licence.
        license: LicenseId,
        /// Our id of it.
        remote_id: String,
    },
    /// Make a licence nobody's: free name, no address, no remote id.
    FreeLicense {
        /// Licence.
        license: LicenseId,
        /// Our id, which has to stand there.
        remote_id: String,
    },
}

impl Call {
    /// The server that is changed, if one is.
    #[must_use]
    pub fn server(&self) -> Option<&ServerId> {
        match self {
            Self::CreateUser { .. }
            | Self::TakeAddress { .. }
            | Self::SetNote { .. }
            | Self::SetPoolDomain { .. }
            | Self::GiveBack { .. }
            | Self::OrderLicense { .. }
            | Self::EditLicense { .. }
            | Self::RenewLicense { .. }
            | Self::SuspendLicense { .. }
            | Self::ResumeLicense { .. }
            | Self::FreeLicense { .. } => None,
            Self::Claim { server, .. }
            | Self::Unclaim { server, .. }
            | Self::Enable { server }
            | Self::Disable { server }
            | Self::ConnectionOn { server, .. }
            | Self::ConnectionOff { server, .. }
            | Self::SetPassword { server, .. }
            | Self::PowerOn { server }
            | Self::PowerOff { server }
            | Self::ReplaceMain { server, .. }
            | Self::AddAddress { server, .. }
            | Self::RemoveAddress { server, .. }
            | Self::SetDomain { server, .. }
            | Self::Install { server, .. }
            | Self::RunRecipe { server, .. }
            | Self::FlagForCleaning { server }
            | Self::CancelOperation { server }
            | Self::HandOver { server, .. }
            | Self::Adopt { server, .. }
            | Self::Unmark { server, .. }
            | Self::Release { server, .. } => Some(server),
        }
    }

    /// The connection that is switched, if one is.
    #[must_use]
    pub fn connection(&self) -> Option<&str> {
        if let Self::ConnectionOn { connection, .. } | Self::ConnectionOff { connection, .. } = self { Some(connection) } else { None }
    }

    /// Whether it is asked of `IPmanager`.
    #[must_use]
    pub fn at_pool(&self) -> bool {
        matches!(self, Self::TakeAddress { .. } | Self::SetNote { .. } | Self::SetPoolDomain { .. } | Self::GiveBack { .. })
    }

    /// Our id of the licence that is ordered or changed at the licence server, if one is.
    #[must_use]
    pub fn license(&self) -> Option<&str> {
        match self {
            Self::OrderLicense { remote_id, .. }
            | Self::EditLicense { remote_id, .. }
            | Self::RenewLicense { remote_id, .. }
            | Self::SuspendLicense { remote_id, .. }
            | Self::ResumeLicense { remote_id, .. }
            | Self::FreeLicense { remote_id, .. } => Some(remote_id),
            Self::CreateUser { .. }
            | Self::Claim { .. }
            | Self::Unclaim { .. }
            | Self::Enable { .. }
            | Self::Disable { .. }
            | Self::ConnectionOn { .. }
            | Self::ConnectionOff { .. }
            | Self::SetPassword { .. }
            | Self::PowerOn { .. }
            | Self::PowerOff { .. }
            | Self::TakeAddress { .. }
            | Self::SetNote { .. }
            | Self::SetPoolDomain { .. }
            | Self::GiveBack { .. }
            | Self::ReplaceMain { .. }
            | Self::AddAddress { .. }
            | Self::RemoveAddress { .. }
            | Self::SetDomain { .. }
            | Self::Install { .. }
            | Self::RunRecipe { .. }
            | Self::FlagForCleaning { .. }
            | Self::CancelOperation { .. }
            | Self::HandOver { .. }
            | Self::Adopt { .. }
            | Self::Unmark { .. }
            | Self::Release { .. } => None,
        }
    }

    /// Whether it is asked of the licence server.
    #[must_use]
    pub fn at_license_server(&self) -> bool {
        self.license().is_some()
    }

    /// Whether a mistake would cost a client something: such a call wants the marker read back immediately before.
    #[must_use]
    pub fn destructive(&self) -> bool {
        match self {
            Self::PowerOff { .. }
            | Self::Disable { .. }
            | Self::ConnectionOff { .. }
            | Self::SetPassword { .. }
            | Self::ReplaceMain { .. }
            | Self::RemoveAddress { .. }
            | Self::Install { .. }
            | Self::RunRecipe { .. }
            | Self::FlagForCleaning { .. }
            | Self::CancelOperation { .. }
            | Self::HandOver { .. }
            | Self::Release { .. } => true,
            // `Claim`, `Unclaim`, `Adopt` and `Unmark` check the form themselves; of a licence the form, or a fresh list, was read in the same
            // decision; the rest can be repeated or undone.
            Self::CreateUser { .. }
            | Self::Claim { .. }
            | Self::Unclaim { .. }
            | Self::Enable { .. }
            | Self::ConnectionOn { .. }
            | Self::PowerOn { .. }
            | Self::TakeAddress { .. }
            | Self::SetNote { .. }
            | Self::SetPoolDomain { .. }
            | Self::GiveBack { .. }
            | Self::AddAddress { .. }
            | Self::SetDomain { .. }
            | Self::Adopt { .. }
            | Self::Unmark { .. }
            | Self::OrderLicense { .. }
            | Self::EditLicense { .. }
            | Self::RenewLicense { .. }
            | Self::SuspendLicense { .. }
            | Self::ResumeLicense { .. }
            | Self::FreeLicense { .. } => false,
        }
    }

    /// Whether it writes or takes away nothing but our marker or with it the owner, and reads the form itself before and after.
    #[must_use]
    pub fn marks(&self) -> bool {
        matches!(self, Self::Claim { .. } | Self::Unclaim { .. } | Self::Adopt { .. } | Self::Unmark { .. })
    }

    /// Whether the intent has to name this very call, because after a crash it matters that it may have been made.
    #[must_use]
    pub fn wants_own_intent(&self) -> bool {
        matches!(
            self,
            Self::Claim { .. }
                | Self::Unclaim { .. }
                | Self::Adopt { .. }
                | Self::Unmark { .. }
                | Self::Install { .. }
                | Self::RunRecipe { .. }
                | Self::FlagForCleaning { .. }
                | Self::HandOver { .. }
                | Self::PowerOff { .. }
                | Self::Release { .. }
        ) || self.at_license_server()
    }

    /// Whether its effect is waited for against a time-out that begins with the call.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        matches!(self, Self::PowerOn { .. } | Self::PowerOff { .. } | Self::Install { .. } | Self::RunRecipe { .. })
    }

    /// The name that stands in `inFlight.call` and in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateUser { .. } => "createUser",
            Self::Claim { .. } => "claim",
            Self::Unclaim { .. } => "unclaim",
            Self::Enable { .. } => "enable",
            Self::Disable { .. } => "disable",
            Self::ConnectionOn { .. } => "connectionOn",
            Self::ConnectionOff { .. } => "connectionOff",
            Self::SetPassword { .. } => "setPassword",
            Self::PowerOn { .. } => "powerOn",
            Self::PowerOff { .. } => "powerOff",
            Self::TakeAddress { .. } => "takeAddress",
            Self::SetNote { .. } => "setAddressNote",
            Self::SetPoolDomain { .. } => "setAddressDomain",
            Self::GiveBack { .. } => "giveBackAddress",
            Self::ReplaceMain { .. } => "replaceMainAddress",
            Self::AddAddress { .. } => "addAddress",
            Self::RemoveAddress { .. } => "removeAddress",
            Self::SetDomain { .. } => "setDomain",
            Self::Install { .. } => "install",
            Self::RunRecipe { .. } => "runRecipe",
            Self::FlagForCleaning { .. } => "flagForCleaning",
            Self::CancelOperation { .. } => "cancelOperation",
            Self::HandOver { .. } => "handOver",
            Self::Adopt { .. } => "adopt",
            Self::Unmark { .. } => "unmark",
            Self::Release { .. } => "release",
            Self::OrderLicense { .. } => "orderLicense",
            Self::EditLicense { .. } => "editLicense",
            Self::RenewLicense { .. } => "renewLicense",
            Self::SuspendLicense { .. } => "suspendLicense",
            Self::ResumeLicense { .. } => "resumeLicense",
            Self::FreeLicense { .. } => "freeLicense",
        }
    }
}
