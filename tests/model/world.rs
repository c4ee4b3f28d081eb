//! The state of the model: what the API server and the panel store, what is under way, and what the operators know.

/// An order, 0 or 1.
pub type Order = u8;
/// A server, 0 or 1.
pub type Server = u8;
/// A replica of the operator, 0 or 1.
pub type Replica = u8;

/// How many there are of each.
pub const TWO: [u8; 2] = [0, 1];

/// Who owns a server at the panel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Nobody.
    #[default]
    Nobody,
    /// The operator's own user.
    Operator,
    /// A client that no order speaks of.
    Stranger,
}

/// A server's record at the panel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// Owner.
    pub owner: Owner,
    /// Whose claim stands there. The marker in the notes shows it, unless that safeguard is removed.
    pub holder: Option<Order>,
    /// The last to write owner and notes was a person.
    pub by_hand: bool,
    /// The holder's system is on the disks. A flag of the row, not of the form.
    pub installed: bool,
    /// Running. A flag of the row, not of the form.
    pub on: bool,
}

/// The changes that an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Owner and marker, by an edit of the form.
    Claim,
    /// Install a system.
    Install,
    /// Switch off.
    PowerOff,
    /// Clear owner and marker, by an edit of the form.
    Release,
}

impl Kind {
    /// Whether a mistake would cost somebody something (`Call::destructive`).
    pub fn destructive(self) -> bool {
        self != Self::Claim
    }
}

/// How much is known of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Written, and nothing is known to be lost.
    Sent,
    /// An answer is missing; so often its effect was looked for in vain.
    Ambiguous(u8),
}

/// `status.inFlight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Intent {
    /// Call.
    pub kind: Kind,
    /// Target.
    pub server: Server,
    /// Outcome.
    pub outcome: Outcome,
}

/// How far the installation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Installed {
    /// Not begun.
    #[default]
    No,
    /// The panel accepted it.
    Asked,
    /// Done: the order is Active.
    Yes,
}

/// The part of an order's status that the protocol lives on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status {
    /// `status.server`.
    pub server: Option<Server>,
    /// `status.inFlight`.
    pub intent: Option<Intent>,
    /// Step `InstallOS`.
    pub installed: Installed,
    /// Step `PowerOff` is over.
    pub off: bool,
}

/// Whether an order is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// It is.
    #[default]
    Live,
    /// Its deletion was asked for; the finalizer holds it.
    Deleting,
    /// The finalizer went.
    Gone,
}

/// An order as the API server stores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// Wanted or not.
    pub life: Life,
    /// Status.
    pub status: Status,
    /// `timeouts.settle` has passed since the intent was last written.
    pub elapsed: bool,
}

/// Where a pass stands; between any two of these anything may happen.
///
/// What follows one another without anybody being able to tell is one step: reading, deciding and the guarded write of
/// the intent (which fails if the order changed meanwhile, and no panel sees it); lock, last look and sending (what comes
/// between looking and sending may as well come between sending and landing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// There is no pass.
    #[default]
    Idle,
    /// Will look, decide, and write the status.
    Decide,
    /// The intent is stored: takes the lock for a claim, reads the form that it will send back, sends.
    Call(Kind, Server),
    /// Has looked for the last time, and sends. Only where a process may be frozen there.
    Send(Kind, Server),
    /// Waits for the answer.
    Wait,
    /// Lets the lock go.
    Unlock,
    /// Removes the finalizer.
    Finalize,
}

/// What came of the last call of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// None was made.
    #[default]
    None,
    /// Applied.
    Applied(Kind),
    /// Refused: locked, or not as expected.
    Refused(Kind),
}

/// One pass of one replica over one order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Pass {
    /// Where it stands.
    pub at: At,
    /// Somebody else has written the order since it was read: the resource version differs.
    pub stale: bool,
    /// As it was read.
    pub deleting: bool,
    /// The status as this pass knows it.
    pub status: Status,
    /// The intent was written in this pass, and no answer under it is missing.
    pub own: bool,
    /// The last answer.
    pub answer: Answer,
    /// Servers that were refused in this pass, as bits.
    pub not_free: u8,
    /// The record was read for the call that is about to be sent, and was the order's. No operator keeps it; a property does.
    pub read_back: bool,
}

/// A request on its way to the panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// On behalf of.
    pub order: Order,
    /// What.
    pub kind: Kind,
    /// Where.
    pub server: Server,
    /// The replica that still waits for the answer.
    pub waiter: Option<Replica>,
    /// Made by the network.
    pub copy: bool,
}

/// A form that a person has open in a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenForm {
    /// Of which server.
    pub server: Server,
    /// As it was when it was opened.
    pub form: Record,
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Faults {
    /// Requests or answers lost or late.
    pub losses: u8,
    /// Requests doubled.
    pub copies: u8,
    /// Operators killed, or answers of the API server lost.
    pub crashes: u8,
    /// Acts of a person at the panel.
    pub hands: u8,
    /// Deletions of orders.
    pub deletions: u8,
}

/// What must not have happened; set once, never cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Harm {
    /// A destructive call of one order took effect on a server that was another's.
    pub stray: bool,
    /// A destructive call was sent without having read its server's record in the same decision, or to one that was not the order's then.
    pub blind: bool,
    /// An order went while the panel showed its marker.
    pub early: bool,
}

/// Requests that may be on their way at once.
pub const WIRE: usize = 3;

/// Everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct World {
    /// Orders.
    pub orders: [Object; 2],
    /// Holders of the locks.
    pub locks: [Option<Order>; 2],
    /// A sweep has found the lock idle and is about to remove it.
    pub sweeping: [bool; 2],
    /// The panel.
    pub servers: [Record; 2],
    /// Passes by replica and order.
    pub passes: [[Pass; 2]; 2],
    /// The network, sorted.
    pub wire: [Option<Message>; WIRE],
    /// What a person looks at.
    pub open: Option<OpenForm>,
    /// What may still go wrong.
    pub faults: Faults,
    /// What went wrong.
    pub harm: Harm,
}

/// Index of a small number.
pub fn at(number: u8) -> usize {
    usize::from(number)
}

/// The bit of a server.
pub fn bit(server: Server) -> u8 {
    1 << server
}

impl World {
    /// A pass.
    pub fn pass(&mut self, replica: Replica, order: Order) -> &mut Pass {
        &mut self.passes[at(replica)][at(order)]
    }

    /// Whether a form would show a free server (`matching::form_is_free`).
    pub fn is_free(&self, server: Server) -> bool {
        let record = self.servers[at(server)];
        record.owner == Owner::Nobody && record.holder.is_none()
    }

    /// Something wrote the order: all other passes over it hold an old version, and its settle time begins anew.
    pub fn wrote(&mut self, order: Order, by: Option<Replica>) {
        for replica in TWO {
            let pass = self.pass(replica, order);
            if pass.at != At::Idle && Some(replica) != by {
                pass.stale = true;
            }
        }
        self.orders[at(order)].elapsed = false;
    }

    /// Sorts what has no order of its own, so that equal states look equal: requests on the wire, and the two replicas.
    ///
    /// `guarded`: a pass that holds an old version can write nothing any more, so that it is over unless it still has
    /// something to do without writing: a call under an intent that it wrote, or a lock to let go.
    pub fn canonical(mut self, guarded: bool) -> Self {
        for replica in TWO {
            for order in TWO {
                let releasing = |p: &Pass| p.deleting && p.status.intent.is_some_and(|i| i.kind == Kind::Release);
                let over = |p: &Pass| match p.at {
                    At::Idle => true,
                    At::Decide | At::Wait => p.stale && guarded && !releasing(p),
                    At::Finalize => p.stale && guarded,
                    At::Call(..) | At::Send(..) | At::Unlock => false,
                };
                let pass = self.pass(replica, order);
                if over(pass) {
                    *pass = Pass::default();
                    self.forget_waiter(replica, Some(order));
                }
            }
        }
        if self.passes[0] < self.passes[1] {
            self.passes.swap(0, 1);
            for message in self.wire.iter_mut().flatten() {
                message.waiter = message.waiter.map(|r| 1 - r);
            }
        }
        self.wire.sort_unstable_by(|a, b| b.cmp(a));
        self
    }

    /// A pass ended: nobody waits for its answers any more.
    pub fn forget_waiter(&mut self, replica: Replica, order: Option<Order>) {
        for message in self.wire.iter_mut().flatten() {
            if message.waiter == Some(replica) && order.is_none_or(|o| o == message.order) {
                message.waiter = None;
            }
        }
    }
}
