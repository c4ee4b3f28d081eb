//! The steps of an order, in order, and the states a step can be in.

/// A step of opening or closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The client's user at the panel.
    CreateClient,
    /// A server is found and claimed.
    Allocate,
    /// A department builds it.
    Assemble,
    /// Power on.
    PowerOn,
    /// Public addresses instead of the parking address.
    ChangeAddress,
    /// The system is installed.
    InstallOS,
    /// Recipes run.
    RunRecipes,
    /// Licences are ordered.
    IssueLicenses,
    /// The client becomes the owner.
    HandOver,
    /// Licences are given back.
    RevokeLicenses,
    /// Power off.
    PowerOff,
    /// Additional addresses go.
    RemoveAddresses,
    /// The parking address comes back.
    ParkAddress,
    /// The owner is cleared: the server is free.
    Release,
    /// Suspension: the server is disabled.
    Suspend,
    /// Suspension: its switch ports are off.
    PortsOff,
    /// Suspension: its power is off.
    StopPower,
    /// End of a suspension: the server is enabled.
    Resume,
    /// End of a suspension: its switch ports are on. Power comes back with `PowerOn`.
    PortsOn,
    /// A password that was rotated is set on the server.
    SetPassword,
}

/// The steps of opening, in order.
pub const OPENING: [Step; 9] = [
    Step::CreateClient,
    Step::Allocate,
    Step::Assemble,
    Step::PowerOn,
    Step::ChangeAddress,
    Step::InstallOS,
    Step::RunRecipes,
    Step::IssueLicenses,
    Step::HandOver,
];

/// The steps of closing, in order.
pub const CLOSING: [Step; 5] = [Step::RevokeLicenses, Step::PowerOff, Step::RemoveAddresses, Step::ParkAddress, Step::Release];

/// Steps that an Active order takes when its spec asks for them; they appear in the status only when used.
pub const CHANGES: [Step; 6] = [Step::Suspend, Step::PortsOff, Step::StopPower, Step::Resume, Step::PortsOn, Step::SetPassword];

impl Step {
    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateClient => "CreateClient",
            Self::Allocate => "Allocate",
            Self::Assemble => "Assemble",
            Self::PowerOn => "PowerOn",
            Self::ChangeAddress => "ChangeAddress",
            Self::InstallOS => "InstallOS",
            Self::RunRecipes => "RunRecipes",
            Self::IssueLicenses => "IssueLicenses",
            Self::HandOver => "HandOver",
            Self::RevokeLicenses => "RevokeLicenses",
            Self::PowerOff => "PowerOff",
            Self::RemoveAddresses => "RemoveAddresses",
            Self::ParkAddress => "ParkAddress",
            Self::Release => "Release",
            Self::Suspend => "Suspend",
            Self::PortsOff => "PortsOff",
            Self::StopPower => "StopPower",
            Self::Resume => "Resume",
            Self::PortsOn => "PortsOn",
            Self::SetPassword => "SetPassword",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        OPENING.into_iter().chain(CLOSING).chain(CHANGES).find(|s| s.as_str() == name)
    }

    /// How far an order is when this step begins, in percent.
    #[must_use]
    pub fn percent(self) -> i32 {
        match self {
            Self::CreateClient | Self::RevokeLicenses => 0,
            Self::Allocate | Self::PowerOff => 5,
            Self::Assemble => 10,
            Self::PowerOn => 15,
            Self::ChangeAddress => 20,
            Self::InstallOS => 30,
            Self::RemoveAddresses => 40,
            Self::ParkAddress => 60,
            Self::Release => 80,
            Self::RunRecipes => 90,
            Self::IssueLicenses => 93,
            Self::HandOver => 96,
            Self::Suspend | Self::Resume => 97,
            Self::PortsOff | Self::PortsOn => 98,
            Self::StopPower | Self::SetPassword => 99,
        }
    }

    /// Where the panel's own percentage of this step ends on the order's scale.
    #[must_use]
    pub fn percent_end(self) -> i32 {
        if self == Self::InstallOS { 90 } else { self.percent() }
    }
}

/// The state of a step. The words are part of the protocol: see `ServerStatus` in the API and `inflight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not begun.
    Pending,
    /// Begun. Without an intent in flight it means: the panel said that it is done, its effect has not been seen yet.
    Running,
    /// The panel was seen at work, or somebody is waited for.
    Waiting,
    /// Done.
    Done,
    /// Not needed.
    Skipped,
    /// The last attempt failed.
    Failed,
}

impl State {
    /// The name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Waiting => "Waiting",
            Self::Done => "Done",
            Self::Skipped => "Skipped",
            Self::Failed => "Failed",
        }
    }

    /// Reads a name; what is unknown counts as not begun.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        [Self::Running, Self::Waiting, Self::Done, Self::Skipped, Self::Failed]
            .into_iter()
            .find(|s| s.as_str() == name)
            .unwrap_or(Self::Pending)
    }

    /// Nothing is left to do.
    #[must_use]
    pub fn over(self) -> bool {
        matches!(self, Self::Done | Self::Skipped)
    }
}
