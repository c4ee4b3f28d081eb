//! The state of one simulator: the world, who is logged in, the journal, the faults, and changes that come late.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    billmanager6,
    config::{Config, ConfigError, ProtocolConfig, SingleElem},
    coremanager::{
        Call,
        desk::{Desk, Rules},
        doc::{Doc, Node},
        params::Params,
    },
    dcimanager5,
    faults::{FaultSpec, Faults, Reach, Suspect},
    ipmanager5,
    journal::{Entry, EntryError, Journal, Outcome},
    world::{Moment, World, refusal::Refusal, users::Users},
};

/// Which product a panel is, with its place in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Dci(usize),
    Ipm(usize),
    Bill(usize),
}

impl Place {
    /// The name in the address and in cookies (section 1.1).
    pub(crate) fn mgr(self) -> &'static str {
        match self {
            Self::Dci(_) => "dcimgr",
            Self::Ipm(_) => "ipmgr",
            Self::Bill(_) => "billmgr",
        }
    }
}

/// What does not change of a panel.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) single: SingleElem,
    page_size: Option<usize>,
}

/// One call as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) panel: usize,
    pub(crate) params: Params,
    /// The session from the cookie.
    pub(crate) cookie: Option<String>,
    pub(crate) peer: IpAddr,
}

/// What a call has brought.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) doc: Result<Doc, Refusal>,
    /// A session that has just been opened.
    pub(crate) session: Option<String>,
    /// The entry of the journal.
    pub(crate) entry: Option<u64>,
}

struct Late {
    due: Moment,
    request: Request,
    entry: Option<u64>,
    fault: u64,
}

/// What changes; behind one lock, which is never held while waiting.
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) journal: Journal,
    pub(crate) faults: Faults,
    desks: Vec<Desk>,
    late: Vec<Late>,
}

/// Everything.
pub(crate) struct Core {
    pub(crate) panels: Vec<Panel>,
    start: Instant,
    wall: jiff::Timestamp,
    state: Mutex<State>,
    /// Counts changes of the faults, for those who wait for a panel to go down or to come back.
    faults_changed: watch::Sender<u64>,
}

impl Core {
    /// Makes the state that a configuration describes.
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        let world = World::build(config)?;
        let mut panels = Vec::new();
        let mut desks = Vec::new();
        let dci = config.dcimanager5.iter().enumerate();
        let dci = dci.map(|(index, panel)| (&panel.name, Place::Dci(index), panel.listen, &panel.protocol));
        let ipm = config.ipmanager5.iter().enumerate();
        let ipm = ipm.map(|(index, panel)| (&panel.name, Place::Ipm(index), panel.listen, &panel.protocol));
        let bill = config.billmanager6.iter().enumerate();
        let bill = bill.map(|(index, panel)| (&panel.name, Place::Bill(index), panel.listen, &panel.protocol));
        for (name, place, listen, protocol) in dci.chain(ipm).chain(bill) {
            if panels.iter().any(|panel: &Panel| panel.name == *name) {
                return Err(ConfigError::invalid("panels", format!("there are two panels with the name `{name}`")));
            }
            let ProtocolConfig { session_idle, session_bound_to_ip, session_keeps_level, single_elem, page_size } = *protocol;
            panels.push(Panel { name: name.clone(), place, listen, single: single_elem, page_size });
            let rules = Rules { idle: session_idle.0, bound_to_ip: session_bound_to_ip, keeps_level: session_keeps_level };
            desks.push(Desk::new(rules));
        }
        if panels.is_empty() {
            return Err(ConfigError::invalid("panels", "there is neither a `dcimanager5` nor an `ipmanager5`, and no `billmanager6`"));
        }
        let names: Vec<String> = panels.iter().map(|panel| panel.name.clone()).collect();
        let mut faults = Faults::new(config.seed);
        for (place, spec) in config.faults.iter().enumerate() {
            spec.check(&names).map_err(|error| ConfigError::invalid(format!("faults[{place}]"), error.to_string()))?;
            faults.add(spec.clone(), Moment::ZERO);
        }
        let journal = Journal::new(config.journal.capacity);
        Ok(Self {
            panels,
            start: Instant::now(),
            wall: jiff::Timestamp::now(),
            state: Mutex::new(State { world, journal, faults, desks, late: Vec::new() }),
            faults_changed: watch::Sender::new(0),
        })
    }

    /// How long after the start it is.
    pub(crate) fn now(&self) -> Moment {
        self.start.elapsed()
    }

    /// A moment as people and programs write it.
    pub(crate) fn time(&self, moment: Moment) -> String {
        let at = self.wall.checked_add(moment).unwrap_or(self.wall);
        format!("{at:.3}")
    }

    /// The state, with everything settled that has happened up to now.
    pub(crate) fn settled(&self) -> (MutexGuard<'_, State>, Moment) {
        let (mut state, now) = self.locked();
        state.world.advance(now);
        (state, now)
    }

    /// The state, with the changes made that were late; time has not passed for the rest, which is what takes long when
    /// there are many servers.
    fn locked(&self) -> (MutexGuard<'_, State>, Moment) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that time never runs backwards for the world.
        let now = self.now();
        loop {
            let due = state.late.iter().enumerate().filter(|(_, late)| late.due <= now);
            let Some((next, _)) = due.min_by_key(|(_, late)| late.due) else { break };
            let late = state.late.remove(next);
            let applied = self.apply_in(&mut state, &late.request, Some(late.fault), late.due);
            if let Some(entry) = applied.entry.and_then(|seq| state.journal.get_mut(seq)) {
                entry.late_of = late.entry;
            }
        }
        (state, now)
    }

    /// Does a call.
    pub(crate) fn apply(&self, request: &Request, fault: Option<u64>) -> Applied {
        let (mut state, now) = self.locked();
        self.apply_in(&mut state, request, fault, now)
    }

    fn apply_in(&self, state: &mut State, request: &Request, fault: Option<u64>, now: Moment) -> Applied {
        state.world.advance(now);
        let panel = &self.panels[request.panel];
        let mut session = None;
        let (doc, done_as) = perform(state, panel, request, &mut session, now);
        let entry = request.params.is_change().then(|| {
            let mut entry = self.entry(state, request, now);
            entry.fault = fault;
            entry.done_as = done_as.filter(|name| *name != entry.caller);
            match &doc {
                Ok(doc) => {
                    let made = doc.children.iter().find(|node| node.name == "id" || node.name == "ip");
                    entry.result = made.map(|node| node.text.clone());
                }
                Err(refusal) => {
                    entry.outcome = Outcome::Refused;
                    let kind = refusal.kind.word().to_owned();
                    entry.error = Some(EntryError { kind, object: refusal.object.clone() });
                }
            }
            state.journal.write(entry)
        });
        Applied { doc, session, entry }
    }

    /// Writes into the journal that a change was asked for and not made.
    pub(crate) fn note(&self, request: &Request, outcome: Outcome, fault: u64, error: Option<EntryError>) -> Option<u64> {
        let (mut state, now) = self.locked();
        request.params.is_change().then(|| {
            let mut entry = self.entry(&state, request, now);
            (entry.outcome, entry.fault, entry.error) = (outcome, Some(fault), error);
            state.journal.write(entry)
        })
    }

    fn entry(&self, state: &State, request: &Request, now: Moment) -> Entry {
        let panel = &self.panels[request.panel];
        let users = users(&state.world, panel.place);
        Entry {
            seq: 0,
            time: self.time(now),
            panel: panel.name.clone(),
            caller: state.desks[request.panel].guess(users, &request.params, request.cookie.as_deref()),
            done_as: None,
            func: request.params.func().to_owned(),
            params: request.params.redacted(),
            target: request.params.target(),
            outcome: Outcome::Applied,
            result: None,
            error: None,
            delivered: false,
            fault: None,
            late_of: None,
        }
    }

    /// Lets a change be made when nobody waits for it any more.
    pub(crate) fn defer(&self, request: Request, fault: u64, delay: Duration) {
        let entry = self.note(&request, Outcome::Deferred, fault, None);
        let (mut state, now) = self.locked();
        state.late.push(Late { due: now + delay, request, entry, fault });
    }

    /// Counts a call and finds the fault that it meets.
    pub(crate) fn meet(&self, request: &Request) -> Option<(u64, FaultSpec)> {
        let (mut state, now) = self.locked();
        let panel = &self.panels[request.panel];
        state.journal.count(&panel.name, request.params.func());
        let users = users(&state.world, panel.place);
        let caller = state.desks[request.panel].guess(users, &request.params, request.cookie.as_deref());
        let call = Suspect { panel: &panel.name, params: &request.params, caller: &caller };
        state.faults.pick(&call, now)
    }

    /// Ends all sessions of a panel.
    pub(crate) fn end_sessions(&self, panel: usize) {
        self.locked().0.desks[panel].end_sessions();
    }

    /// Notes that the caller got the answer.
    pub(crate) fn delivered(&self, entry: u64) {
        if let Some(entry) = self.locked().0.journal.get_mut(entry) {
            entry.delivered = true;
        }
    }

    /// Changes the faults, and tells those who wait for it.
    pub(crate) fn change_faults<T>(&self, change: impl FnOnce(&mut Faults, Moment) -> T) -> T {
        let (mut state, now) = self.locked();
        let result = change(&mut state.faults, now);
        drop(state);
        self.faults_changed.send_modify(|count| *count += 1);
        result
    }

    /// Whether all these panels accept nothing, and when to look again.
    fn are_down(&self, panels: &[usize]) -> Reach {
        let (state, now) = self.locked();
        let mut soonest: Option<Duration> = None;
        for panel in panels {
            match state.faults.reach(&self.panels[*panel].name, now) {
                Reach::Up => return Reach::Up,
                Reach::Down(None) => {}
                Reach::Down(Some(end)) => {
                    let left = end.saturating_sub(now);
                    soonest = Some(soonest.map_or(left, |soonest| soonest.min(left)));
                }
            }
        }
        Reach::Down(soonest)
    }

    /// Waits until all these panels accept nothing.
    pub(crate) async fn until_down(&self, panels: &[usize]) {
        let mut changed = self.faults_changed.subscribe();
        if panels.is_empty() {
            std::future::pending::<()>().await;
        }
        while self.are_down(panels) == Reach::Up {
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until one of these panels accepts calls.
    pub(crate) async fn until_up(&self, panels: &[usize]) {
        let mut changed = self.faults_changed.subscribe();
        while let Reach::Down(left) = self.are_down(panels) {
            let wait = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                _ = changed.changed() => {}
            }
        }
    }

    /// How many sessions a panel has.
    pub(crate) fn session_count(state: &State, panel: usize) -> usize {
        state.desks[panel].session_count()
    }

    /// The ids of all sessions of all panels.
    pub(crate) fn session_ids(&self) -> Vec<String> {
        self.settled().0.desks.iter().flat_map(Desk::session_ids).map(str::to_owned).collect()
    }
}

fn users(world: &World, place: Place) -> &Users {
    match place {
        Place::Dci(index) => &world.dci[index].users,
        Place::Ipm(index) => &world.ipm[index].users,
        Place::Bill(index) => &world.bill[index].users,
    }
}

/// Does a call, and tells as whom.
fn perform(
    state: &mut State,
    panel: &Panel,
    request: &Request,
    session: &mut Option<String>,
    now: Moment,
) -> (Result<Doc, Refusal>, Option<String>) {
    let State { world, desks, .. } = state;
    let desk = &mut desks[request.panel];
    let users = users(world, panel.place);
    if request.params.func() == "auth" && request.params.sent("username").is_some() {
        return (log_in(desk, users, request, session, now), None);
    }
    let user = desk.identify(users, &request.params, request.cookie.as_deref(), request.peer, now);
    let user = match user {
        Ok(user) => user,
        Err(refusal) => return (Err(refusal), None),
    };
    let done_as = Some(user.name.clone());
    if request.params.func() == "session.newkey" {
        return (desk.new_key(users, &user, &request.params, now).map(|()| Doc::ok()), done_as);
    }
    let mut call = Call {
        func: request.params.func(),
        params: &request.params,
        user: &user,
        now,
        page_size: panel.page_size,
        filters: &mut desk.filters,
    };
    let doc = match panel.place {
        Place::Dci(index) => dcimanager5::dispatch(world, index, &mut call),
        Place::Ipm(index) => ipmanager5::dispatch(world, index, &mut call),
        Place::Bill(index) => billmanager6::dispatch(world, index, &mut call),
    };
    (doc, done_as)
}

fn log_in(desk: &mut Desk, users: &Users, request: &Request, session: &mut Option<String>, now: Moment) -> Result<Doc, Refusal> {
    let mut bytes = [0; 12];
    // Without randomness, what the simulator hands out can be guessed, which is no reason to stop.
    if getrandom::fill(&mut bytes).is_err() {
        bytes[..8].copy_from_slice(&u64::try_from(now.as_nanos()).unwrap_or_default().to_be_bytes());
    }
    let id = super::hex(&bytes);
    let (id, user) = desk.log_in(users, &request.params, request.peer, id, now)?;
    *session = Some(id.clone());
    Ok(Doc::fields(vec![Node::text("auth", id.clone()).attr("id", id).attr("level", user.level.to_string())]))
}
