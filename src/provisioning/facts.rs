//! What is known of the world while one decision is made: read on demand, dropped after every change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::common::Time;
use crate::api::task::{Resolution, TaskType};
use crate::panel::error::{ErrorClass, Outcome, PanelError};
use crate::panel::license::LicenseId;
use crate::panel::model::{AddressRow, Connection, InstallForm, PanelUser, PoolAddress, ServerForm, ServerId, ServerRow};

use super::call::Call;
use super::hardware::Hardware;
use super::license_server::LicenseFacts;
use super::marker::{Marker, tokens};
use super::queue::Queue;
use super::tasks::is_own_note;

/// Something to read at a panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The panel's users.
    Users,
    /// A server's form: owner and notes.
    Form(ServerId),
    /// A server's addresses.
    Addresses(ServerId),
    /// The addresses in use at IPmanager.
    Pool,
    /// What can be installed on a server.
    InstallForm(ServerId),
    /// A server's connections.
    Connections(ServerId),
    /// The locks of this panel's servers.
    Locks,
    /// The list of the licence server.
    Licenses,
    /// A licence.
    License(LicenseId),
}

/// Something to get ready in Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepare {
    /// Record that the client's name belongs to the order's namespace.
    ClientName,
    /// That the password of the client's panel user can stand in Secret `<order>-panel`; it is stored when the user is made.
    PanelPassword,
    /// The version of the user's Secret with the root password.
    PasswordVersion,
    /// The root password: the user's Secret, or one generated into `<order>-root`.
    RootPassword,
    /// The keys of the licences whose forms were read, in a Secret of the order's own.
    LicenseKeys,
}

/// One complete list of a panel's servers, and what the one before it said.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Rows by id.
    pub rows: BTreeMap<String, ServerRow>,
    /// When the list was asked for: nothing that changed later is in it.
    pub began: Timestamp,
    /// Which list of this process it is: what is read for some servers only is read for each of them in turn.
    pub turn: usize,
    /// The ids of the list before this one.
    pub previous: Option<BTreeSet<String>>,
    /// Ids of the users whose servers are looked at, by name, where the list made it necessary to know them.
    pub ids: BTreeMap<String, String>,
    /// Names that the panel's users were looked through for: one of them that has no id had no user then.
    pub asked: BTreeSet<String>,
    /// Names of the users whose servers were looked at.
    pub owners: BTreeSet<String>,
    /// Owners in the list who may be the operator under an earlier log-in: administrators, and those whom no user is. Their servers are
    /// looked at only while an order looks for one that it may have had before it was restored; `None` while none does.
    pub former: Option<BTreeSet<String>>,
    /// Markers read from the servers' notes, by server id.
    pub markers: BTreeMap<String, Vec<Marker>>,
    /// Servers of these owners whose notes cannot be read, by id.
    pub unread: BTreeMap<String, Unread>,
    /// What the free servers are made of, by server id; only while an order that composes its own configuration has no server.
    pub hardware: BTreeMap<String, Hardware>,
}

/// A server whose notes cannot be read, though the panel answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Since when.
    pub since: Timestamp,
    /// The last error.
    pub why: String,
}

/// What a list says of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row<'a> {
    /// Here it is.
    There(&'a ServerRow),
    /// Two complete lists in a row show other servers, but not this one.
    Gone,
    /// The list is older than the last change, or does not show the server for the first time.
    Unknown,
}

impl Inventory {
    /// What the list says of a server that was last changed at `changed`.
    #[must_use]
    pub fn row(&self, server: &str, changed: Option<Timestamp>) -> Row<'_> {
        if changed.is_some_and(|at| self.began < at) {
            return Row::Unknown;
        }
        match self.rows.get(server) {
            Some(row) => Row::There(row),
            None if !self.rows.is_empty() && self.previous.as_ref().is_some_and(|p| !p.is_empty() && !p.contains(server)) => Row::Gone,
            None => Row::Unknown,
        }
    }
}

/// A server's form, or that the panel does not know the server any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The form.
    There(ServerForm),
    /// `missed`.
    Missing,
}

/// A task as the decision needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// Name.
    pub name: String,
    /// Type.
    pub type_: TaskType,
    /// How it was closed; `None` while it is open.
    pub resolution: Option<Resolution>,
    /// When that was seen; `None` while it is open.
    pub closed_at: Option<Timestamp>,
    /// What the department wrote.
    pub note: String,
    /// When it was made, as the API server says.
    pub made: Option<Time>,
    /// It is closed, and older than the question that bears its name: the status was set back, and gave a number again.
    pub earlier: bool,
}

impl TaskView {
    /// Whether the operator has closed it, while its order was away or pointed elsewhere: that is nobody's answer.
    #[must_use]
    pub fn is_closed_by_operator(&self) -> bool {
        self.resolution.is_some() && is_own_note(&self.note)
    }

    /// What a department answered to the question that bears this name. Neither what the operator has closed itself nor the answer to an
    /// earlier question is one.
    #[must_use]
    pub fn answer(&self) -> Option<Resolution> {
        self.resolution.filter(|_| !self.earlier && !self.is_closed_by_operator())
    }
}

/// Whether the handler can be used now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerState {
    /// Yes.
    Ready,
    /// It, or what it needs, is not ready: nothing is asked of the panel.
    NotReady(String),
    /// It is suspended: nothing is changed at the panel.
    Suspended,
}

/// Whether something got ready in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// It is there.
    Ready,
    /// It is not, and somebody has to do something about it.
    Missing(String),
}

/// An address that was taken, and what was in use before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taking {
    /// What was in use when it was asked for: nothing of that is what was taken.
    pub before: BTreeSet<IpAddr>,
    /// The address that the answer named, where it was not in use before.
    pub named: Option<IpAddr>,
}

/// Everything a decision may look at.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent things that are known or not")]
pub struct Facts {
    /// The handler.
    pub handler: HandlerState,
    /// Log-in name of the operator at the panel.
    pub login: String,
    /// The shared list; `None` until there is one.
    pub inventory: Option<Arc<Inventory>>,
    /// When this process last changed the order's server.
    pub changed: Option<Timestamp>,
    /// The panel's users.
    pub users: Option<Vec<PanelUser>>,
    /// Forms read.
    pub forms: BTreeMap<String, Seen>,
    /// Addresses of the order's server.
    pub addresses: Option<Vec<AddressRow>>,
    /// Addresses in use at IPmanager.
    pub pool: Option<Vec<PoolAddress>>,
    /// Install forms read; `None` when the panel refused to show one.
    pub install_forms: BTreeMap<String, Option<InstallForm>>,
    /// Connections of the order's server.
    pub connections: Option<Vec<Connection>>,
    /// Holders of locks by server id.
    pub locks: Option<BTreeMap<String, String>>,
    /// The client's name at this panel.
    pub client_name: Option<Prepared>,
    /// Whether the password for the client's panel user can be stored.
    pub panel_password: Option<Prepared>,
    /// The root password.
    pub root_password: Option<Prepared>,
    /// Version of the root password in the user's Secret, where one is named and was read; empty when it is not there.
    pub password_version: Option<String>,
    /// It is time to look whether that Secret has changed.
    pub password_due: bool,
    /// The licence server and what was read there.
    pub licenses: LicenseFacts,
    /// The tasks of this order.
    pub tasks: Vec<TaskView>,
    /// The handler or its credentials are gone.
    pub forsaken: Option<super::forsaken::Forsaken>,
    /// How long that is waited out before a department is asked.
    pub grace: std::time::Duration,
    /// Why no task can be made in the handler's namespace.
    pub unraisable: Option<String>,
    /// Another handler that the order selects could take it now.
    pub another_handler: bool,
    /// How many orders wait for such a place before this one.
    pub before_me: usize,
    /// A free place among the operations (or releases) that may run at once.
    pub slot: bool,
    /// Older orders of the same namespace at this handler.
    pub older_orders: usize,
    /// Other orders that wait for servers which this one could take.
    pub queue: Queue,
    /// Id for the next attempt.
    pub operation_id: String,
    /// The intent that this pass wrote: its calls have not been made by anybody else.
    pub own_operation: Option<String>,
    /// Calls that the panel said it did, in this pass.
    pub applied: Vec<Call>,
    /// Calls that it refused, in this pass.
    pub refused: Vec<(Call, PanelError)>,
    /// The last call of this pass, where it was refused.
    pub last_refused: Option<Call>,
    /// The call whose answer is missing.
    pub ambiguous: Option<(Call, PanelError)>,
    /// Addresses that were taken in this pass, as the answers named them.
    pub taken: Vec<IpAddr>,
    /// The last of them.
    pub taking: Option<Taking>,
    /// A read that failed.
    pub failed: Option<PanelError>,
    /// Servers that turned out not to be free, in this pass.
    pub not_free: BTreeSet<String>,
    /// Somebody asked for an attempt now: back-off and old verdicts do not count.
    pub forced: bool,
    /// With `forced`: nothing has changed but the process, so that a back-off goes on.
    pub restarted: bool,
    /// Until when this process leaves the order alone, where it found it stalled: `nextRetryTime` stays what it was when that was new.
    pub recheck: Option<Timestamp>,
}

impl Facts {
    /// The server whose form was just read, where the index of markers shows something else of it: somebody changed its notes since they
    /// were read, and nothing that the list shows tells of it.
    #[must_use]
    pub fn noted_otherwise<'l>(&self, look: &'l Look) -> Option<&'l ServerId> {
        let Look::Form(server) = look else { return None };
        let Some(Seen::There(form)) = self.forms.get(&server.0) else { return None };
        let indexed = self.inventory.as_ref()?.markers.get(&server.0)?;
        (!tokens(&form.notes).filter_map(Marker::parse).eq(indexed.iter().cloned())).then_some(server)
    }

    /// Nothing read yet.
    #[must_use]
    pub fn new(handler: HandlerState, operation_id: String) -> Self {
        Self {
            handler,
            login: String::new(),
            inventory: None,
            changed: None,
            users: None,
            forms: BTreeMap::new(),
            addresses: None,
            pool: None,
            install_forms: BTreeMap::new(),
            connections: None,
            locks: None,
            client_name: None,
            panel_password: None,
            root_password: None,
            password_version: None,
            password_due: false,
            licenses: LicenseFacts::default(),
            tasks: Vec::new(),
            forsaken: None,
            grace: std::time::Duration::from_mins(15),
            unraisable: None,
            another_handler: false,
            before_me: 0,
            slot: true,
            older_orders: 0,
            queue: Queue::default(),
            operation_id,
            own_operation: None,
            applied: Vec::new(),
            refused: Vec::new(),
            last_refused: None,
            ambiguous: None,
            taken: Vec::new(),
            taking: None,
            failed: None,
            not_free: BTreeSet::new(),
            forced: false,
            restarted: false,
            recheck: None,
        }
    }

    /// Records a task that was made, or was there already: a department may have answered it, so that what it has changed since
    /// the forms were read has to be read again.
    pub fn raised(&mut self, task: TaskView) {
        self.tasks.retain(|known| known.name != task.name);
        self.tasks.push(task);
        self.forms.clear();
    }

    /// Records how a change ended, and forgets what it may have changed: the next decision has to read it again.
    pub fn after(&mut self, call: &Call, outcome: Outcome<Option<IpAddr>>, now: Timestamp) {
        self.forms.clear();
        self.addresses = None;
        self.connections = None;
        let in_use = self.pool.take().unwrap_or_default();
        self.install_forms.clear();
        self.licenses.forget();
        if matches!(call, Call::CreateUser { .. }) {
            self.users = None;
        }
        if call.server().is_some() && !matches!(outcome, Outcome::Refused(_)) {
            self.changed = Some(now);
        }
        // A lost answer belongs to the intent it was asked under; by now that one says so itself.
        self.ambiguous = None;
        self.last_refused = matches!(outcome, Outcome::Refused(_)).then(|| call.clone());
        match outcome {
            Outcome::Applied(address) => {
                self.applied.push(call.clone());
                if matches!(call, Call::TakeAddress { .. }) {
                    let before: BTreeSet<IpAddr> = in_use.iter().map(|a| a.address).collect();
                    // That an answer names what was taken is inferred (ispsystem-api.md 4.1): what somebody had before it is not.
                    let named = address.filter(|a| !before.contains(a));
                    self.taken.extend(named);
                    self.taking = Some(Taking { before, named });
                }
            }
            Outcome::Refused(error) => {
                if let (Call::Claim { server, .. }, ErrorClass::Expectation) = (call, error.class()) {
                    self.not_free.insert(server.0.clone());
                }
                self.refused.push((call.clone(), error));
            }
            Outcome::Ambiguous(error) => self.ambiguous = Some((call.clone(), error)),
        }
    }

    /// Whether the panel said in this pass that it did something of this kind.
    #[must_use]
    pub fn applied(&self, is: impl Fn(&Call) -> bool) -> bool {
        self.applied.iter().any(is)
    }

    /// Whether this pass has asked for a change of this server before, for which its marker was read.
    #[must_use]
    pub fn verified(&self, server: &ServerId) -> bool {
        let mut asked = self.applied.iter().chain(self.refused.iter().map(|(call, _)| call));
        asked.any(|call| !call.marks() && (call.server() == Some(server) || call.at_pool()))
    }

    /// How the panel refused something of this kind in this pass.
    #[must_use]
    pub fn refusal(&self, is: impl Fn(&Call) -> bool) -> Option<&PanelError> {
        self.refused.iter().rev().find(|(call, _)| is(call)).map(|(_, error)| error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(ids: &[&str], previous: Option<&[&str]>) -> Inventory {
        Inventory {
            rows: ids.iter().map(|id| ((*id).to_owned(), ServerRow::blank(id))).collect(),
            began: Timestamp::from_second(100).unwrap(),
            previous: previous.map(|p| p.iter().map(|s| (*s).to_owned()).collect()),
            ..Inventory::default()
        }
    }

    #[test]
    fn a_server_is_gone_only_when_two_complete_lists_say_so() {
        assert!(matches!(inventory(&["1"], None).row("1", None), Row::There(_)));
        assert_eq!(inventory(&["1"], None).row("2", None), Row::Unknown);
        assert_eq!(inventory(&["1"], Some(&["1", "2"])).row("2", None), Row::Unknown);
        assert_eq!(inventory(&["1"], Some(&["1"])).row("2", None), Row::Gone);
        assert_eq!(inventory(&[], Some(&["1"])).row("2", None), Row::Unknown, "an empty list proves nothing");
        assert_eq!(inventory(&["1"], Some(&[])).row("2", None), Row::Unknown);
    }

    #[test]
    fn what_was_read_before_a_task_was_raised_is_read_again() {
        let mut facts = Facts::new(HandlerState::Ready, String::new());
        facts.forms.insert("1".into(), Seen::Missing);
        facts.raised(view(Some(Resolution::Done), "", false));
        assert!(facts.forms.is_empty() && facts.tasks.len() == 1);
    }

    fn view(resolution: Option<Resolution>, note: &str, earlier: bool) -> TaskView {
        TaskView { name: "t".into(), type_: TaskType::Assembly, resolution, closed_at: None, note: note.into(), made: None, earlier }
    }

    #[test]
    fn an_answer_is_a_departments_and_one_to_this_question() {
        let done = Some(Resolution::Done);
        for (view, expected) in [
            (view(None, "", false), None),
            (view(done, "", false), done),
            (view(done, "closed by the operator: its order is gone", false), None),
            (view(done, "see the last one, closed by the operator: nobody needs it", false), done),
            (view(done, "", true), None),
        ] {
            assert_eq!(view.answer(), expected, "{view:?}");
        }
    }

    #[test]
    fn a_list_that_began_before_the_last_change_says_nothing() {
        let at = |s| Some(Timestamp::from_second(s).unwrap());
        assert_eq!(inventory(&["1"], None).row("1", at(101)), Row::Unknown);
        assert!(matches!(inventory(&["1"], None).row("1", at(100)), Row::There(_)));
    }
}
