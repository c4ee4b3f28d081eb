//! What a server is connected to, and switching it: section 2.7 of the facts.

use super::{Moment, dci::Dci, refusal::Refusal};
use crate::sim::config::{ConnectionKind, Flag};

/// One connection of a server.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) kind: ConnectionKind,
    pub(crate) ip: String,
    pub(crate) port: String,
    pub(crate) on: bool,
    /// What it is being switched to, and when that is done.
    pub(crate) change: Option<(Moment, bool)>,
}

impl Connection {
    /// Ends the switching whose time has come.
    pub(crate) fn settle(&mut self, now: Moment) {
        if let Some((due, on)) = self.change
            && due <= now
        {
            self.on = on;
            self.change = None;
        }
    }
}

impl Dci {
    /// `server.disable` and `server.enable`: the mark at once, the switch ports a while later (section 2.4).
    pub(crate) fn set_disabled(&mut self, id: u64, disabled: bool, now: Moment) -> Result<(), Refusal> {
        let due = now + self.durations.connection.0;
        let server = self.server_mut(id)?;
        if server.marks.has(Flag::Disabled) == disabled {
            return Ok(());
        }
        server.marks.set(Flag::Disabled, disabled);
        for connection in &mut server.connections {
            match connection.kind {
                ConnectionKind::Switch => connection.change = Some((due, !disabled)),
                ConnectionKind::Ipmi | ConnectionKind::Pdu => {}
            }
            connection.settle(now);
        }
        Ok(())
    }

    /// `server.connection.on` and `.off`. A disabled server's ports stay off (section 2.7).
    pub(crate) fn switch_connection(&mut self, server: u64, id: u64, on: bool, now: Moment) -> Result<(), Refusal> {
        let due = now + self.durations.connection.0;
        let server = self.server_mut(server)?;
        if on && server.marks.has(Flag::Disabled) {
            return Err(Refusal::access("server"));
        }
        let connection = server
            .connections
            .iter_mut()
            .find(|connection| connection.id == id)
            .ok_or_else(|| Refusal::missed("connection", &id.to_string()))?;
        connection.change = Some((due, on));
        connection.settle(now);
        Ok(())
    }

    /// Adds a connection and returns its id.
    pub(crate) fn connect(&mut self, server: u64, kind: ConnectionKind, ip: &str, port: &str) -> Result<u64, Refusal> {
        let id = self.next_connection_id();
        let connection = Connection { id, kind, ip: ip.to_owned(), port: port.to_owned(), on: true, change: None };
        self.server_mut(server)?.connections.push(connection);
        Ok(id)
    }
}
