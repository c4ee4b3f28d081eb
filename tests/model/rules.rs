//! What the protocol does and what the world may do: each safeguard and each assumption is a switch.

use super::world::Faults;

/// The safeguards of design section 4; `true` is the protocol as implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is switched off alone")]
pub struct Safeguards {
    /// The call is written into the status before it is made.
    pub intent: bool,
    /// A Lease per server, whose creation is the compare-and-swap.
    pub lock: bool,
    /// The claim writes whose it is into the panel's own record.
    pub marker: bool,
    /// The marker is read back after a claim and before each destructive call.
    pub read_back: bool,
    /// A lost answer gets its time before anything else is tried.
    pub settle: bool,
    /// Writes to the API server fail when somebody else wrote since the read.
    pub resource_version: bool,
    /// A release waits until the calls of the preparation, and copies of them, have had their time.
    pub earlier_calls: bool,
}

impl Default for Safeguards {
    fn default() -> Self {
        Self { intent: true, lock: true, marker: true, read_back: true, settle: true, resource_version: true, earlier_calls: true }
    }
}

/// What the protocol does not do yet, and what checking it has shown to be missing; `false` is the protocol as implemented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// The release is asked for, and the order let go, only when every earlier request of the order had its time.
    pub quiet: bool,
}

/// What the protocol takes for granted; `true` is what it is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// A process acts within `timeouts.settle` of its intent, or not at all: it is not frozen in between and thawed later.
    pub no_long_pause: bool,
    /// Copies that the network makes of a request land before its answer arrives.
    pub no_late_copy: bool,
    /// A person does not switch a server off while a request to do so is late.
    pub no_hand_on_power: bool,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self { no_long_pause: true, no_late_copy: true, no_hand_on_power: true }
    }
}

/// One model to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rules {
    /// Safeguards.
    pub safe: Safeguards,
    /// Repairs.
    pub repair: Repairs,
    /// Assumptions.
    pub assume: Assumptions,
    /// How much may go wrong.
    pub faults: Faults,
}
