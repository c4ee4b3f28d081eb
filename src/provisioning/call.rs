//! The changes that can be asked of a panel, as data.

use std::net::IpAddr;

use crate::panel::model::{AddressRowId, Family, ServerId, UserId};

use super::marker::Marker;

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
    /// Undo a claim whose marker the panel cut short.
    Unclaim {
        /// Server.
        server: ServerId,
        /// What stands there of the marker.
        written: String,
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
    /// Clear owner and marker in one call: the commit point of closing.
    Release {
        /// Server.
        server: ServerId,
        /// Our marker, which has to stand there.
        marker: Marker,
    },
}

impl Call {
    /// The server that is changed, if one is.
    #[must_use]
    pub fn server(&self) -> Option<&ServerId> {
        match self {
            Self::CreateUser { .. } | Self::TakeAddress { .. } | Self::SetNote { .. } | Self::GiveBack { .. } => None,
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
            | Self::CancelOperation { server }
            | Self::HandOver { server, .. }
            | Self::Release { server, .. } => Some(server),
        }
    }

    /// Whether it is asked of `IPmanager`.
    #[must_use]
    pub fn at_pool(&self) -> bool {
        matches!(self, Self::TakeAddress { .. } | Self::SetNote { .. } | Self::GiveBack { .. })
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
            | Self::CancelOperation { .. }
            | Self::HandOver { .. }
            | Self::Release { .. } => true,
            // `Claim` and `Unclaim` check the form themselves; the rest can be repeated or undone.
            Self::CreateUser { .. }
            | Self::Claim { .. }
            | Self::Unclaim { .. }
            | Self::Enable { .. }
            | Self::ConnectionOn { .. }
            | Self::PowerOn { .. }
            | Self::TakeAddress { .. }
            | Self::SetNote { .. }
            | Self::GiveBack { .. }
            | Self::AddAddress { .. }
            | Self::SetDomain { .. } => false,
        }
    }

    /// Whether the intent has to name this very call, because after a crash it matters that it may have been made.
    #[must_use]
    pub fn wants_own_intent(&self) -> bool {
        matches!(self, Self::Claim { .. } | Self::Install { .. } | Self::HandOver { .. } | Self::PowerOff { .. } | Self::Release { .. })
    }

    /// Whether its effect is waited for against a time-out that begins with the call.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        matches!(self, Self::PowerOn { .. } | Self::PowerOff { .. } | Self::Install { .. })
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
            Self::GiveBack { .. } => "giveBackAddress",
            Self::ReplaceMain { .. } => "replaceMainAddress",
            Self::AddAddress { .. } => "addAddress",
            Self::RemoveAddress { .. } => "removeAddress",
            Self::SetDomain { .. } => "setDomain",
            Self::Install { .. } => "install",
            Self::CancelOperation { .. } => "cancelOperation",
            Self::HandOver { .. } => "handOver",
            Self::Release { .. } => "release",
        }
    }
}
