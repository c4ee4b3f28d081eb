//! Power of one server: sections 2.4 and 2.7 of the facts.

use std::time::Duration;

use super::{
    Moment,
    dci::Dci,
    refusal::{Kind, Refusal},
};
use crate::sim::config::{DciBehaviour, DeadIpmiAnswer, DeadIpmiList, IpmiHealth};

/// What can be asked of the power of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PowerCall {
    On,
    Off,
    Reboot,
}

/// The power flag that the list shows (section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PowerFlag {
    On,
    Off,
    Error,
}

impl PowerFlag {
    /// The name of the element.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::On => "poweron",
            Self::Off => "poweroff",
            Self::Error => "powererror",
        }
    }
}

/// The power of one server.
#[derive(Debug, Clone)]
pub(crate) struct Power {
    pub(crate) on: bool,
    /// What it is going to be, and when.
    change: Option<(Moment, bool)>,
    pub(crate) ipmi: IpmiHealth,
    /// From when on the list knows that the IPMI does not answer.
    error_from: Option<Moment>,
}

impl Power {
    /// Power that has been like this for long.
    pub(crate) fn new(on: bool, ipmi: IpmiHealth) -> Self {
        Self { on, change: None, ipmi, error_from: None }
    }

    /// Makes the change whose time has come.
    pub(crate) fn settle(&mut self, now: Moment) {
        if let Some((due, on)) = self.change
            && due <= now
        {
            self.on = on;
            self.change = None;
        }
    }

    /// Puts the power into a state at once, as a hand on the button does.
    pub(crate) fn force(&mut self, on: bool) {
        self.on = on;
        self.change = None;
    }

    /// Lets the IPMI die or live.
    pub(crate) fn set_ipmi(&mut self, health: IpmiHealth) {
        self.ipmi = health;
        self.error_from = None;
    }

    /// What the list shows.
    pub(crate) fn flag(&self, behaviour: &DciBehaviour, now: Moment) -> PowerFlag {
        let known = match (self.ipmi, behaviour.dead_ipmi_list, behaviour.dead_ipmi_answer) {
            (IpmiHealth::Alive, _, _) | (IpmiHealth::Dead, DeadIpmiList::LastKnown, _) => false,
            (IpmiHealth::Dead, DeadIpmiList::Powererror, DeadIpmiAnswer::Error) => true,
            // A panel that answers such calls with "ok" learns of the failure only by trying.
            (IpmiHealth::Dead, DeadIpmiList::Powererror, DeadIpmiAnswer::Ok) => self.error_from.is_some_and(|from| from <= now),
        };
        match (known, self.on) {
            (true, _) => PowerFlag::Error,
            (false, true) => PowerFlag::On,
            (false, false) => PowerFlag::Off,
        }
    }

    /// Asks for a change, which happens `delay` later.
    pub(crate) fn ask(&mut self, call: PowerCall, behaviour: &DciBehaviour, delay: Duration, now: Moment) -> Result<(), Refusal> {
        match (self.ipmi, behaviour.dead_ipmi_answer) {
            (IpmiHealth::Dead, DeadIpmiAnswer::Error) => {
                let name = &behaviour.dead_ipmi_error;
                return Err(Refusal::new(Kind::from_word(&name.kind), &name.object, ""));
            }
            (IpmiHealth::Dead, DeadIpmiAnswer::Ok) => {
                self.error_from.get_or_insert(now + delay);
                return Ok(());
            }
            (IpmiHealth::Alive, _) => {}
        }
        match call {
            PowerCall::On => self.change = Some((now + delay, true)),
            PowerCall::Off => self.change = Some((now + delay, false)),
            // A reset does not start a server that is off.
            PowerCall::Reboot => {}
        }
        self.settle(now);
        Ok(())
    }
}

impl Dci {
    /// `server.poweron`, `server.poweroff`, `server.reboot` of one server.
    pub(crate) fn power(&mut self, id: u64, call: PowerCall, now: Moment) -> Result<(), Refusal> {
        let delay = self.durations.power.0;
        let behaviour = self.behaviour.clone();
        self.server_mut(id)?.power.ask(call, &behaviour, delay, now)
    }
}
