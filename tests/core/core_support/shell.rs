//! The shell's loop: one pass over one order, its writes and its calls, with what goes wrong at each.

use std::net::IpAddr;
use std::time::Duration;

use dci_operator::api::common::Time;
use dci_operator::api::condition::{self, ConditionType};
use dci_operator::api::order::OrderStatus;
use dci_operator::api::task::{Resolution, TaskType};
use dci_operator::panel::error::{Outcome, PanelError, SESSION};
use dci_operator::panel::license::LicenseId;
use dci_operator::panel::model::UserId;
use dci_operator::provisioning::call::Call;
use dci_operator::provisioning::context::Next;
use dci_operator::provisioning::decide::{decide, refuse};
use dci_operator::provisioning::facts::{Facts, HandlerState, Look, Prepare, Prepared, Seen, TaskView};
use dci_operator::provisioning::give_back::tried_ids;
use dci_operator::provisioning::license_server::LicenseServer;
use dci_operator::provisioning::notices;
use dci_operator::provisioning::order::Order;
use dci_operator::provisioning::queue::{Queue, Waiting, compete};
use dci_operator::provisioning::round;
use dci_operator::provisioning::selection::{ended_without, notes};
use dci_operator::provisioning::tasks::{FOUND_WITHIN, OPEN, REFUSED_FOR, SHOWN_WITHIN, SUPERSEDED, TaskRequest, is_earlier};
use dci_operator::provisioning::wanted::Wanted;

use super::panel::{ADMIN, Late, refused};
use super::world::{CLUSTER, Ended, Fault, Pass, Stored, Task, World, WriteFault};
use super::{later, rules};

/// Why the namespace takes no tasks.
const NO_TASKS: &str = "the namespace is being terminated";

/// What an order is shown of a task that was asked for then.
fn view(task: &Task, opened_at: Option<Time>, within: Duration) -> TaskView {
    TaskView {
        name: task.name.clone(),
        type_: task.type_,
        resolution: task.resolution,
        closed_at: task.resolution.map(|_| task.made),
        note: task.note.clone(),
        made: Some(Time::seconds(task.made)),
        earlier: task.resolution.is_some() && is_earlier(Some(task.made), opened_at, within),
    }
}

impl World {
    fn operation_id(&mut self) -> String {
        self.operations += 1;
        format!("op-{}", self.operations)
    }

    /// One pass over one order, as the shell makes it.
    #[expect(clippy::too_many_lines, reason = "one arm for each next")]
    pub fn pass(&mut self, name: &str) -> Ended {
        if self.delete_before_pass == Some(self.passes) {
            self.delete(name);
        }
        let begun = self.sites.begun.take();
        let Some(stored) = self.orders.get_mut(name) else { return Ended::Forgotten };
        let forced = std::mem::take(&mut stored.forced);
        let restarted = std::mem::take(&mut stored.restarted);
        stored.wake = None;
        let (mut raw, mut status, mut version) = (stored.raw.clone(), begun.unwrap_or_else(|| stored.status.clone()), stored.version);
        self.passes += 1;
        self.pace();
        raw.status = Some(status.clone());
        let deleting = raw.metadata.deletion_timestamp.is_some();
        let parsed = if deleting { Order::for_closing(&raw, CLUSTER) } else { Order::parse(&raw, CLUSTER) };
        let order = match parsed {
            Ok(order) => order,
            Err(refusal) => {
                let generation = raw.metadata.generation.unwrap_or_default();
                let new = refuse(&refusal, generation, raw.metadata.deletion_timestamp.is_some(), &raw.spec.reinstall, self.now, &status);
                return self.save(name, &mut version, &new).err().unwrap_or(Ended::Waited);
            }
        };
        let mut facts = Facts::new(self.state.clone(), self.operation_id());
        facts.login = ADMIN.into();
        facts.inventory.clone_from(&self.inventory);
        facts.changed = self.changed.get(name).copied();
        facts.slot = self.slot;
        facts.queue = self.queue(name);
        facts.another_handler = self.sites.another;
        if let Some(passed) = &self.sites.selecting {
            status.handlers = notes(passed);
        }
        facts.forsaken.clone_from(&self.forsaken);
        facts.forced = forced || restarted;
        facts.restarted = restarted && !forced;
        facts.licenses.server = self.license_server(name, &order);
        let asked = status.in_flight.as_ref().is_some_and(|f| f.target.starts_with("license/"));
        facts.licenses.answers = self.panel.licenses.answers.get(name).filter(|_| asked).cloned().unwrap_or_default();
        facts.licenses.note_stored(&status.licenses);
        let due = self.password_at.is_none_or(|at| later(at, self.handler.retry_interval) <= self.now);
        facts.password_due = self.handler.sets_password && order.own_password && due;
        if status.manual_tasks.iter().any(|t| t.state == OPEN) {
            let asked_at = |task: &Task| status.manual_tasks.iter().find(|s| s.name == task.name).and_then(|s| s.opened_at);
            facts.tasks = self.tasks.iter().filter(|t| t.uid == order.uid).map(|t| view(t, asked_at(t), SHOWN_WITHIN)).collect();
        }
        let lately = self.refused.get(name).is_some_and(|at| self.now < later(*at, REFUSED_FOR));
        facts.unraisable = lately.then(|| NO_TASKS.to_owned());
        let mut pass = Pass::default();
        for _ in 0..300 {
            let decided = self.now;
            let decision = decide(&order, &self.handler, &facts, self.now, &status);
            // It holds for all or for none: not every decision has to be made twice.
            if self.passes.is_multiple_of(8) {
                assert_eq!(decision, decide(&order, &self.handler, &facts, self.now, &status), "not a function of its arguments");
            }
            let before = std::mem::replace(&mut status, decision.status);
            self.tick();
            match decision.next {
                Next::Look(look) => self.look(&look, &mut facts, &mut pass),
                Next::Prepare(what) => self.prepare(what, &mut facts),
                Next::Call(call) => {
                    if status.in_flight != self.orders[name].status.in_flight {
                        if let Err(ended) = self.save(name, &mut version, &status) {
                            return ended;
                        }
                        facts.own_operation = status.in_flight.as_ref().map(|f| f.operation_id.clone());
                        facts.operation_id = self.operation_id();
                    }
                    if call.destructive() && self.orders[name].version != version {
                        return self.conflict(name);
                    }
                    rules::before_call(self, name, &order, &call, &pass, facts.own_operation.as_deref());
                    pass.forms.clear();
                    if let Some(remote) = call.license() {
                        facts.licenses.answers.forget(remote);
                    }
                    match self.perform(name, &order, &call) {
                        Some(outcome) => {
                            self.note_bought(name, &call, &outcome, &mut facts);
                            facts.after(&call, outcome, self.now);
                        }
                        None => return Ended::Crashed,
                    }
                    if let Some(at) = facts.changed {
                        self.changed.insert(name.to_owned(), at);
                    }
                    self.tick();
                }
                Next::Raise(task) => {
                    assert!(facts.unraisable.is_none(), "raised again\n{}", self.describe());
                    // On record first; what is not needed any more is closed before the next one is open.
                    if let Err(ended) = self.save(name, &mut version, &status) {
                        return ended;
                    }
                    if self.no_tasks {
                        self.refused.insert(name.to_owned(), self.now);
                        facts.unraisable = Some(NO_TASKS.into());
                        status = before;
                        continue;
                    }
                    if self.close_tasks(|t| task.replaces.contains(&t.name)) {
                        return Ended::Crashed;
                    }
                    if self.raise(&order.uid, &task, &mut facts) {
                        return Ended::Crashed;
                    }
                }
                Next::Wait(until) => {
                    let selecting = self.sites.selecting.is_some() && !self.sites.last && !deleting;
                    // What was written ahead in this pass is taken back first.
                    let taken_back = self.orders[name].status.in_flight.is_none();
                    if let Some(over) = ended_without(&self.handler.key, &status).filter(|_| selecting && taken_back) {
                        self.sites.over = Some(over);
                        return Ended::Over;
                    }
                    let ended = self.save(name, &mut version, &status).err().unwrap_or(Ended::Waited);
                    if ended == Ended::Waited {
                        let superseded = |t: &Task| status.manual_tasks.iter().any(|s| s.state == SUPERSEDED && s.name == t.name);
                        if self.close_tasks(|t| t.uid == order.uid && superseded(t)) {
                            return Ended::Crashed;
                        }
                    }
                    if let (Ended::Waited, Some(stored)) = (ended, self.orders.get_mut(name)) {
                        stored.wake = stored.wake.into_iter().chain(until).min();
                        assert!(until.is_none_or(|at| at > decided), "{name} waits for a time that has passed\n{}", self.describe());
                    }
                    return ended;
                }
                Next::Forget => {
                    // Others are looked at before the order goes.
                    let others = self.sites.selecting.is_some() && status.server.is_none();
                    let saved = !others || round::is_saved(Some(&self.orders[name].status), &status, self.sites.last);
                    if saved && let Err(ended) = self.save(name, &mut version, &status) {
                        return ended;
                    }
                    if others {
                        self.sites.left = Some(status);
                        return Ended::Forgotten;
                    }
                    return self.forget(name, &order);
                }
            }
        }
        panic!("a pass without end\n{}", self.describe());
    }

    /// The other orders that wait for servers which this one could take, as the shell finds them.
    fn queue(&self, name: &str) -> Queue {
        let age = |o: &Stored| (o.raw.metadata.creation_timestamp.as_ref().map(|t| t.0), o.raw.metadata.uid.clone());
        let mine = &self.orders[name];
        let wanted = Wanted::new(&mine.raw.spec.configuration);
        let mut queue = Queue::default();
        for (_, other) in self.orders.iter().filter(|(other, _)| *other != name) {
            let status = &other.status;
            let stalled = condition::is_true(&status.conditions, ConditionType::Stalled);
            let theirs = Wanted::new(&other.raw.spec.configuration);
            let out = stalled || status.server.is_some() || status.last_error.is_some() || other.raw.metadata.deletion_timestamp.is_some();
            if out || !compete(&wanted, &theirs) {
                continue;
            }
            if age(other) > age(mine) {
                queue.behind += 1;
                continue;
            }
            let asked_for = status.in_flight.as_ref().and_then(|f| f.target.strip_prefix("server/")).map(str::to_owned);
            let server_type = match theirs {
                Wanted::Ready(server_type) => Some(server_type),
                Wanted::Custom(_) => None,
            };
            queue.ahead.push(Waiting { server_type, asked_for, tried: tried_ids(status) });
        }
        queue
    }

    /// As the shell tells it: only to orders that have to do with licences.
    fn license_server(&self, name: &str, order: &Order) -> Option<LicenseServer> {
        let recorded = self.orders[name].status.licenses.iter().any(|l| l.handler.is_some());
        let concerned = recorded || !order.licenses.is_empty() || order.order_id != order.uid;
        let key = self.handler.license_server.clone().filter(|_| concerned && self.panel.licenses.usable)?;
        let server = &self.panel.licenses;
        let (state, policy, list) = (server.state.clone(), server.policy.clone(), server.list.clone());
        Some(LicenseServer { key, state, policy, list, changed: server.changed.get(name).copied() })
    }

    /// What the shell notes of a call at the licence server.
    fn note_bought(&mut self, name: &str, call: &Call, outcome: &Outcome<Option<IpAddr>>, facts: &mut Facts) {
        let Some(remote) = call.license() else { return };
        self.panel.licenses.changed.insert(name.to_owned(), self.now);
        if let Some(server) = &mut facts.licenses.server {
            server.changed = Some(self.now);
        }
        if let (Call::OrderLicense { .. }, Outcome::Applied(_)) = (call, outcome) {
            // An answer may name a licence that is not there.
            let kept: String = remote.chars().take(self.panel.licenses.remote_max).collect();
            let id = self.panel.licenses.of(&kept).pop().unwrap_or_else(|| LicenseId("9999".into()));
            facts.licenses.answers.bought.insert(remote.to_owned(), Some(id).filter(|_| !self.panel.licenses.unnamed));
        }
        if let (Call::RenewLicense { license, expires, .. }, Outcome::Applied(_)) = (call, outcome) {
            // One that says no more than that it is done names no end.
            let end = self.panel.licenses.rows.get(&license.0).map(|b| b.expires).filter(|end| end > expires);
            facts.licenses.answers.prolonged.insert(remote.to_owned(), end);
        }
        self.panel.licenses.answers.insert(name.to_owned(), facts.licenses.answers.clone());
    }

    fn conflict(&mut self, name: &str) -> Ended {
        if let Some(stored) = self.orders.get_mut(name) {
            stored.wake = Some(self.now);
        }
        Ended::Conflict
    }

    /// Writes a status when it differs, guarded by the version.
    pub fn save(&mut self, name: &str, version: &mut u64, status: &OrderStatus) -> Result<(), Ended> {
        let stored = &self.orders[name];
        let mut new = status.clone();
        notices::carry_times(&stored.status, &mut new);
        if self.panel.licenses.drops_answers {
            new.licenses.iter_mut().for_each(|l| (l.answered_at, l.answered_end) = (None, None));
        }
        if new == stored.status {
            return Ok(());
        }
        let fault = self.write_faults.remove(&self.writes);
        self.writes += 1;
        if fault == Some(WriteFault::CrashBefore) {
            self.restart();
            return Err(Ended::Crashed);
        }
        if stored.version != *version {
            return Err(self.conflict(name));
        }
        let text = serde_json::to_string(&new).expect("JSON");
        rules::durable(self, name, &new, text.len());
        let stored = self.orders.get_mut(name).expect("an order");
        // What is read back is what went through the API server.
        stored.status = serde_json::from_str(&text).expect("a status");
        stored.version += 1;
        stored.writes += 1;
        // Its own write comes back as a change of the order.
        stored.wake = Some(later(self.now, Duration::from_millis(50)));
        *version = stored.version;
        if fault == Some(WriteFault::CrashAfter) {
            self.restart();
            return Err(Ended::Crashed);
        }
        Ok(())
    }

    fn look(&mut self, look: &Look, facts: &mut Facts, pass: &mut Pass) {
        self.reads += 1;
        assert!(facts.failed.is_none(), "a read after one that failed\n{}", self.describe());
        if self.read_faults.remove(&(self.reads - 1)) {
            if let (Look::Licenses | Look::License(_), Some(server)) = (look, &mut facts.licenses.server) {
                server.state = HandlerState::NotReady("reset".into());
                return;
            }
            facts.failed = Some(PanelError::NoAnswer { panel: "dci".into(), func: "read".into(), detail: "reset".into() });
            return;
        }
        match look {
            Look::Users => match self.panel.list_users() {
                Ok(users) => facts.users = Some(users),
                Err(error) => facts.failed = Some(error),
            },
            Look::Form(server) => {
                let seen = self.panel.form(server).map_or(Seen::Missing, Seen::There);
                if let Seen::There(form) = &seen {
                    pass.forms.insert(server.0.clone(), form.notes.clone());
                }
                facts.forms.insert(server.0.clone(), seen);
                if facts.noted_otherwise(look).is_some() {
                    self.index.remove(&server.0);
                }
            }
            Look::Addresses(server) => match self.panel.shown(server) {
                Some(s) => facts.addresses = Some(s.rows.clone()),
                None => facts.failed = Some(refused("missed", "iplist")),
            },
            Look::Pool => {
                self.pools_read += 1;
                facts.pool = Some(self.panel.pool());
            }
            Look::InstallForm(server) => {
                let form = (!self.panel.forms_refused.contains(&server.0)).then(|| self.panel.install_form(server, self.now));
                facts.install_forms.insert(server.0.clone(), form);
            }
            Look::Connections(server) => facts.connections = Some(self.panel.connections(server, self.now)),
            Look::Locks => facts.locks = Some(self.locks.clone()),
            Look::Licenses => facts.licenses.fresh = Some(self.panel.licenses.fresh(self.now)),
            Look::License(id) if self.panel.licenses.refused.contains(&id.0) => {
                assert!(!facts.licenses.unread.contains_key(&id.0), "read again though it was refused\n{}", self.describe());
                facts.licenses.unread.insert(id.0.clone(), refused("access", "soft.edit"));
            }
            Look::License(id) => {
                facts.licenses.forms.insert(id.0.clone(), self.panel.licenses.form(id, self.now));
            }
        }
    }

    fn prepare(&mut self, what: Prepare, facts: &mut Facts) {
        let prepared = if self.missing == Some(what) { Prepared::Missing("it is not there".into()) } else { Prepared::Ready };
        match what {
            Prepare::ClientName => facts.client_name = Some(prepared),
            Prepare::PanelPassword => facts.panel_password = Some(prepared),
            Prepare::RootPassword => {
                facts.root_password = Some(prepared);
                facts.password_version = Some(self.password.clone());
            }
            Prepare::PasswordVersion => {
                self.passwords_read += 1;
                self.password_at = Some(self.now);
                facts.password_version = Some(self.password.clone());
            }
            Prepare::LicenseKeys => {
                let keyed = facts.licenses.forms.values().flatten().all(|f| f.key.is_some());
                assert!(keyed, "a key is missing\n{}", self.describe());
                facts.licenses.keys = Some(prepared);
                facts.licenses.secret = Some("web-01-licenses".into());
            }
        }
    }

    fn raise(&mut self, uid: &str, request: &TaskRequest, facts: &mut Facts) -> bool {
        let fault = self.write_faults.remove(&self.writes);
        self.writes += 1;
        if fault == Some(WriteFault::CrashBefore) {
            self.restart();
            return true;
        }
        if !self.tasks.iter().any(|t| t.name == request.name) {
            self.tasks.push(Task {
                name: request.name.clone(),
                uid: uid.into(),
                type_: request.type_,
                department: request.department.clone(),
                summary: request.summary.clone(),
                details: request.details.clone(),
                resolution: None,
                note: String::new(),
                made: Time::seconds(self.now - self.api_behind).0,
                by_operator: false,
            });
            let open = self.tasks.iter().filter(|t| t.uid == uid && t.type_ == request.type_ && t.resolution.is_none()).count();
            assert_eq!(open, 1, "several open tasks of one type\n{}", self.describe());
        }
        if fault == Some(WriteFault::CrashAfter) {
            self.restart();
            return true;
        }
        let task = self.tasks.iter().find(|t| t.name == request.name).expect("the task");
        facts.raised(view(task, request.opened_at, FOUND_WITHIN));
        false
    }

    /// Closes open tasks that are not needed; whether the process died.
    fn close_tasks(&mut self, which: impl Fn(&Task) -> bool) -> bool {
        while let Some(at) = self.tasks.iter().position(|t| t.resolution.is_none() && which(t)) {
            let fault = self.write_faults.remove(&self.writes);
            self.writes += 1;
            if fault != Some(WriteFault::CrashBefore) {
                let word = if self.tasks[at].type_ == TaskType::StopServer { Resolution::Retry } else { Resolution::Cancelled };
                self.tasks[at].resolution = Some(word);
                self.tasks[at].by_operator = true;
            }
            if fault.is_some() {
                self.restart();
                return true;
            }
        }
        false
    }

    fn lock(&mut self, order: &Order, call: &Call) -> Result<(), PanelError> {
        let (Call::Claim { server, .. } | Call::Adopt { server, .. }) = call else { return Ok(()) };
        let holder = self.locks.entry(server.0.clone()).or_insert_with(|| order.order_id.clone());
        if *holder == order.order_id {
            return Ok(());
        }
        Err(PanelError::Expectation { server: server.0.clone(), detail: format!("locked by {holder}") })
    }

    /// Makes a call, or what the fault makes of it; `None` is a crash.
    fn perform(&mut self, name: &str, order: &Order, call: &Call) -> Option<Outcome<Option<IpAddr>>> {
        let number = self.asked.len();
        self.asked.push((name.to_owned(), call.clone()));
        self.asked_at.push(self.handler.key.name.clone());
        if let Call::Adopt { server, .. } | Call::Unmark { server, .. } = call {
            // The shell has such a server's notes read again with the next list.
            self.index.remove(&server.0);
        }
        let always = self.always.filter(|(name, _)| *name == call.name()).map(|(_, fault)| fault);
        let fault = self.faults.remove(&number).or(always);
        if fault.is_some() {
            self.read_faults.extend((self.reads..).take(self.then_reads_fail));
        }
        if matches!(call, Call::PowerOff { .. }) && matches!(fault, Some(Fault::Refused | Fault::Ignored)) {
            self.may_stay_on = true;
        }
        if let Err(error) = self.lock(order, call) {
            return Some(Outcome::Refused(error));
        }
        if matches!(call, Call::Claim { .. })
            && let Some(id) = self.taken_before_claim.take()
        {
            self.panel.server(&id).owner = Some(UserId("7".into()));
        }
        if matches!(call, Call::Claim { .. })
            && let Some(change) = self.before_claim.take()
        {
            change(&mut self.panel);
        }
        if matches!(call, Call::CreateUser { .. }) && std::mem::take(&mut self.user_before_create) {
            let _ = self.panel.apply(call, self.now, true);
        }
        let lost = || PanelError::NoAnswer { panel: "dci".into(), func: call.name().into(), detail: "reset".into() };
        let now = self.now;
        let outcome = match fault {
            None | Some(Fault::Nothing) => Some(self.panel.apply(call, now, true).map_or_else(Outcome::of_error, Outcome::Applied)),
            Some(Fault::CrashBefore) => None,
            Some(Fault::CrashAfter) => {
                let _ = self.panel.apply(call, now, true);
                None
            }
            Some(Fault::LostApplied) => {
                let _ = self.panel.apply(call, now, true);
                Some(Outcome::Ambiguous(lost()))
            }
            Some(Fault::LostNot) => Some(Outcome::Ambiguous(lost())),
            Some(Fault::LostLate(span) | Fault::CrashLate(span)) => {
                if self.panel.check(call).is_ok() {
                    self.panel.late.push(Late { at: later(now, span), call: call.clone() });
                }
                matches!(fault, Some(Fault::LostLate(_))).then(|| Outcome::Ambiguous(lost()))
            }
            Some(Fault::Refused) => Some(Outcome::Refused(refused("busy", call.name()))),
            Some(Fault::Session) => Some(Outcome::Refused(refused(SESSION, call.name()))),
            Some(Fault::Unreachable) => {
                Some(Outcome::of_error(PanelError::Unreachable { panel: "dci".into(), detail: "connection refused".into() }))
            }
            Some(Fault::Ignored) => {
                if let Call::RunRecipe { recipe, .. } = call {
                    self.ignored_recipes.push(recipe.clone());
                }
                Some(Outcome::Applied(None))
            }
            Some(Fault::Touched) => {
                if let Some(stored) = self.orders.get_mut(name) {
                    stored.version += 1;
                }
                Some(self.panel.apply(call, now, true).map_or_else(Outcome::of_error, Outcome::Applied))
            }
        };
        if let (Call::Claim { server, .. }, true) = (call, self.missed_after_claim) {
            self.panel.forms_missed.insert(server.0.clone());
        }
        rules::one_server_each(self);
        if outcome.is_none() {
            self.restart();
        }
        if self.delete_after_call == Some(number) {
            self.delete(name);
        }
        outcome
    }

    pub fn forget(&mut self, name: &str, order: &Order) -> Ended {
        let fault = self.write_faults.remove(&self.writes);
        self.writes += 1;
        if fault == Some(WriteFault::CrashBefore) {
            self.restart();
            return Ended::Crashed;
        }
        self.locks.retain(|_, holder| *holder != order.order_id);
        self.tasks.retain(|t| t.uid != order.uid || t.resolution.is_some());
        self.orders.remove(name);
        self.changed.remove(name);
        self.gone.push(name.to_owned());
        if fault == Some(WriteFault::CrashAfter) {
            self.restart();
        }
        Ended::Forgotten
    }
}
