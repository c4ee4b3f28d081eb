//! (2) and (4): what the operator has read of a server when it changes something of it, and when it lets an order go.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::view::{self, marks, text};

/// Functions that harm whoever uses the server: what is off, wiped, broken off, or taken away. The last three are those that the tests'
/// handlers name in their dialect.
const HARMFUL: [&str; 10] = [
    "server.poweroff",
    "server.operations",
    "server.opercancel",
    "server.disable",
    "server.reboot",
    "server.connection.off",
    "iplist.delete",
    "server.setpasswd",
    "server.runrecipe",
    "server.flagclean",
];

/// Functions that change something without saying so by `sok=ok`.
const ACTIONS: [&str; 11] =
    ["delete", "poweron", "poweroff", "reboot", "enable", "disable", "opercancel", "on", "off", "suspend", "resume"];

/// How old what was read may be when it is acted upon where something goes wrong, in milliseconds: a decision waits for the API server at
/// most. For so long after that it may have been held up, too.
pub const DECISION: u64 = 60_000;

/// A call of a panel.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The process: what one has read another one does not know.
    pub who: String,
    /// Name of the panel in its state.
    pub panel: String,
    pub func: String,
    /// `17`, or `17/3`: what belongs to it.
    pub target: String,
    /// It asks for a change.
    pub change: bool,
    pub fields: BTreeMap<String, String>,
    /// When it left, in milliseconds.
    pub began: u64,
    /// What the operator was told; `None` as long as there is no answer.
    pub answer: Option<String>,
}

impl Call {
    /// A call as it is on the wire.
    pub fn read(who: &str, panel: &str, form: &str) -> Self {
        let fields = view::form(form);
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let func = field("func");
        let reads = ["auth", "session.newkey"].contains(&func.as_str());
        let acts = func.contains('.') && func.rsplit('.').next().is_some_and(|last| ACTIONS.contains(&last));
        let change = !reads && (field("sok") == "ok" || acts);
        let target = match (field("plid"), field("elid")) {
            (plid, elid) if plid.is_empty() => elid,
            (plid, elid) => format!("{plid}/{elid}"),
        };
        Self { who: who.to_owned(), panel: panel.to_owned(), func, target, change, fields, began: 0, answer: None }
    }

    /// The server that it is about.
    pub fn server(&self) -> &str {
        self.target.split('/').next().unwrap_or_default()
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// The row of an address, by panel.
    fn row(&self) -> Option<(String, String)> {
        (self.func == "iplist.edit" && !self.field("elid").is_empty()).then(|| (self.panel.clone(), self.target.clone()))
    }

    /// It takes an address or a licence away, or changes whose it is.
    fn takes_back(&self) -> bool {
        let known = ["ip.delete", "ip.edit", "soft.edit", "soft.suspend", "soft.resume"].contains(&self.func.as_str());
        self.change && known && !self.field("elid").is_empty()
    }

    /// The addresses or licences that it shows, each with the orders that it says.
    fn listed(&self) -> Vec<(String, Vec<String>)> {
        if self.change || !["ip", "ip.edit", "soft", "soft.edit"].contains(&self.func.as_str()) || !self.done() {
            return Vec::new();
        }
        let answer: Value = self.answer.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        if !self.target.is_empty() {
            return vec![(self.target.clone(), marks(&answer.to_string()))];
        }
        let rows = view::list(&answer["doc"]["elem"]).iter();
        let key = |row: &Value| ["id", "ip"].iter().map(|name| text(&row[name]["$"])).find(|key| !key.is_empty()).map(str::to_owned);
        rows.filter_map(|row| Some((key(row)?, marks(&row.to_string())))).collect()
    }

    /// It changes who owns a server, or what is noted of it.
    fn owns(&self) -> bool {
        self.change && self.func == "server.edit"
    }

    /// It makes a server nobody's, without a marker.
    pub fn releases(&self) -> bool {
        self.owns() && ["", "no_owner"].contains(&self.field("owner")) && marks(self.field("notes")).is_empty()
    }

    /// It shows the record of one server: owner and notes.
    fn shows(&self) -> bool {
        !self.change && self.func == "server.edit"
    }

    /// It asks for the servers of a panel, or for a page of them.
    fn lists(&self) -> bool {
        !self.change && self.func == "server" && self.target.is_empty()
    }

    /// An answer that is no error.
    fn done(&self) -> bool {
        self.answer.as_deref().is_some_and(|answer| answer.contains("\"doc\"") && !answer.contains("\"error\""))
    }
}

/// What a process has last read of a server.
#[derive(Clone, Debug)]
struct Seen {
    /// When it asked: what the panel has done since then the answer may not show.
    at: u64,
    marks: Vec<String>,
    /// Somebody's: neither nobody's nor unknown.
    owned: bool,
}

/// What a process has last read of an address or a licence.
#[derive(Clone, Debug)]
struct Listed {
    at: u64,
    marks: Vec<String>,
}

/// Rows that are read and changed one by one: addresses where they are kept, licences.
fn shelf(func: &str) -> Option<&'static str> {
    match func.split('.').next() {
        Some("ip") => Some("ip"),
        Some("soft") => Some("soft"),
        Some(_) | None => None,
    }
}

/// What was called.
#[derive(Default)]
pub struct Calls {
    /// By process, panel and server.
    seen: BTreeMap<(String, String, String), Seen>,
    /// Rows of addresses as they were last shown.
    rows: BTreeMap<(String, String), String>,
    /// Addresses and licences as they were last read, by process, panel, shelf and id.
    listed: BTreeMap<(String, String, &'static str, String), Listed>,
    /// Servers that carried the marker of an order when the operator last had word of them, by order id.
    held: BTreeMap<String, BTreeSet<Place>>,
    /// When a change of a server was last on its way.
    changed: BTreeMap<Place, u64>,
    /// When a process last acted upon what it had read of a server: what it asked for before does not count any more.
    acted: BTreeMap<(String, String, String), u64>,
    /// Lists of which only some pages were shown, by process and panel: when the first was asked for, and the servers so far.
    pages: BTreeMap<Place, (u64, BTreeSet<String>)>,
    /// How many complete lists in a row have shown others and not this server, by process: each of them asked for after the last change.
    missed: BTreeMap<(String, Place), usize>,
}

/// Panel and server, or process and panel.
type Place = (String, String);

/// How many lists without a server say that it is gone.
const AGREE: usize = 2;

impl Calls {
    /// It harms whoever uses the server. A row that gets another address loses the one that it has: so the main one is replaced.
    fn harms(&self, call: &Call) -> bool {
        let replaces = |row: (String, String)| {
            let ip = call.field("ip");
            !ip.is_empty() && self.rows.get(&row).is_none_or(|shown| !shown.contains(&format!("\"{ip}\"")))
        };
        call.change && (HARMFUL.contains(&call.func.as_str()) || call.row().is_some_and(replaces))
    }

    /// (2): before each destructive call the marker was read back in the same decision. (6): users are made, never changed.
    /// `within`: how old what was read may be, in milliseconds.
    pub fn check(&self, call: &Call, at: u64, within: u64, orders: &[&Value]) -> Vec<String> {
        if call.change && call.func == "user.edit" && !call.field("elid").is_empty() {
            return vec![format!("(6) user {} of panel {} is changed", call.field("elid"), call.panel)];
        }
        if call.takes_back() {
            return self.of_one_that_acts(call, at, within, orders).into_iter().collect();
        }
        if !self.harms(call) && !call.owns() {
            return Vec::new();
        }
        let what = format!("{} of server {} of panel {}", call.func, call.target, call.panel);
        let key = (call.who.clone(), call.panel.clone(), call.server().to_owned());
        let Some(seen) = self.seen.get(&key) else {
            return vec![format!("(2) {what}, which was not read since it was changed")];
        };
        let mut wrong = Vec::new();
        if at > seen.at + within {
            wrong.push(format!("(2) {what}, which was read {} ms ago", at - seen.at));
        }
        let has = |o: &&&Value| view::server_of(o) == Some(call.server());
        let holders: Vec<&str> = orders.iter().filter(has).map(|o| view::order_id(o)).collect();
        match seen.marks.as_slice() {
            // Whoever claims a server writes the marker of an order that has noted that it will.
            [] if call.owns() => {
                let written = marks(call.field("notes"));
                if written.is_empty() || !written.iter().all(|id| holders.contains(&id.as_str())) {
                    wrong.push(format!("(2) {what} with marker {written:?}; what it is noted for: {holders:?}"));
                }
                let adopts = |o: &&Value| o["spec"]["adopt"]["serverId"] == call.server() && has(&o);
                if seen.owned && !orders.iter().any(adopts) {
                    wrong.push(format!("(2) {what}, which showed somebody's, and no order adopts it"));
                }
            }
            [] => wrong.push(format!("(2) {what}, which showed no marker")),
            // What a panel has cut is undone: it is the order's still.
            [one] if holders.iter().any(|id| id.starts_with(one.as_str())) => {}
            others => wrong.push(format!("(2) {what}, which showed the marker of {others:?}; orders that have it: {holders:?}")),
        }
        wrong
    }

    /// The order whose marker the process has last read on the server that a call is about.
    pub fn holder<'o>(&self, call: &Call, orders: &[&'o Value]) -> Option<&'o Value> {
        let seen = self.seen.get(&(call.who.clone(), call.panel.clone(), call.server().to_owned()))?;
        let [one] = seen.marks.as_slice() else { return None };
        let has = |o: &&Value| view::server_of(o) == Some(call.server()) && view::order_id(o).starts_with(one.as_str());
        orders.iter().copied().find(has)
    }

    /// (2): an address or a licence that is taken away was read in the same decision, and an order that changes or goes has it.
    fn of_one_that_acts(&self, call: &Call, at: u64, within: u64, orders: &[&Value]) -> Option<String> {
        let what = format!("(2) {} of {} at panel {}", call.func, call.target, call.panel);
        let key = (call.who.clone(), call.panel.clone(), shelf(&call.func)?, call.target.clone());
        let Some(listed) = self.listed.get(&key).filter(|listed| at <= listed.at + within) else {
            return Some(format!("{what}, which was not read in the same decision"));
        };
        let acts = |o: &Value| !o["status"]["inFlight"].is_null() || view::is_deleting(o);
        let has = |o: &&&Value| match listed.marks.as_slice() {
            // Parking addresses, and what a note was cut from: the order itself knows it.
            [] => o["status"].to_string().contains(&format!("\"{}\"", call.target)),
            ids => ids.iter().any(|id| view::order_id(o).starts_with(id.as_str())),
        };
        let holders: Vec<String> = orders.iter().filter(has).map(|o| view::name(o)).collect();
        if orders.iter().filter(has).any(|o| acts(o)) {
            return None;
        }
        Some(format!(
            "{what}, which showed the marks {:?}; orders that have it: {holders:?}, and none of them changes or goes",
            listed.marks
        ))
    }

    /// A change is on its way: what was read before does not count any more, but for what goes on within one step.
    pub fn sent(&mut self, call: &Call, at: u64) {
        if !call.change {
            return;
        }
        if !call.server().is_empty() {
            self.changed.insert((call.panel.clone(), call.server().to_owned()), at);
        }
        let key = (call.who.clone(), call.panel.clone(), call.server().to_owned());
        if self.harms(call) || call.owns() {
            self.seen.remove(&key);
            self.acted.insert(key, at);
        }
        for id in marks(call.field("notes")).into_iter().filter(|_| call.owns()) {
            self.held.entry(id).or_default().insert((call.panel.clone(), call.server().to_owned()));
        }
    }

    /// The operator was told something. What was asked for before a change, and answered after it, may not show it.
    pub fn answered(&mut self, call: &Call) {
        let Some(answer) = &call.answer else { return };
        if call.shows() && call.done() {
            self.shown(call, answer);
        }
        if let Some(row) = call.row().filter(|_| !call.change && call.done()) {
            self.rows.insert(row, answer.clone());
        }
        for (id, marks) in call.listed() {
            let Some(shelf) = shelf(&call.func) else { continue };
            self.listed.insert((call.who.clone(), call.panel.clone(), shelf, id), Listed { at: call.began, marks });
        }
        if call.lists() && call.done() {
            self.servers_listed(call, &serde_json::from_str(answer).unwrap_or_default());
        }
    }

    /// The record of one server.
    fn shown(&mut self, call: &Call, answer: &str) {
        let place: Place = (call.panel.clone(), call.server().to_owned());
        let shown = marks(answer);
        if self.changed.get(&place).is_none_or(|changed| call.began >= *changed) {
            for (id, places) in &mut self.held {
                if !shown.contains(id) {
                    places.remove(&place);
                }
            }
            for id in &shown {
                self.held.entry(id.clone()).or_default().insert(place.clone());
            }
        }
        let key = (call.who.clone(), call.panel.clone(), call.server().to_owned());
        // Other processes' changes this one cannot know of.
        if self.acted.get(&key).is_some_and(|acted| call.began < *acted) {
            return;
        }
        let record: Value = serde_json::from_str(answer).unwrap_or_default();
        let owned = !["", "no_owner"].contains(&text(&record["doc"]["owner"]["$"]));
        self.seen.insert(key, Seen { at: call.began, marks: shown, owned });
    }

    /// A list, or a page of one. Two complete ones that show others, asked for after the last change, say that a server is gone.
    fn servers_listed(&mut self, call: &Call, answer: &Value) {
        let rows = match &answer["doc"]["elem"] {
            Value::Array(rows) => rows.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        let ids = rows.iter().map(|row| text(&row["id"]["$"]).to_owned());
        let total = text(&answer["doc"]["p_elems"]["$"]).parse().unwrap_or(rows.len());
        let page = (call.who.clone(), call.panel.clone());
        let first = call.field("p_num").is_empty() || call.field("p_num") == "1";
        let (began, mut listed) = self.pages.remove(&page).filter(|_| !first).unwrap_or((call.began, BTreeSet::new()));
        listed.extend(ids);
        if listed.len() < total {
            self.pages.insert(page, (began, listed));
            return;
        }
        for places in self.held.values_mut() {
            places.retain(|place| {
                if place.0 != call.panel {
                    return true;
                }
                let key = (call.who.clone(), place.clone());
                if listed.contains(&place.1) {
                    self.missed.remove(&key);
                } else if !listed.is_empty() && self.changed.get(place).is_none_or(|changed| began >= *changed) {
                    *self.missed.entry(key.clone()).or_default() += 1;
                }
                self.missed.get(&key).is_none_or(|lists| *lists < AGREE)
            });
        }
    }

    /// (4): a server that carried the order's marker when the operator last read it.
    pub fn unconfirmed(&self, id: &str) -> Option<String> {
        let (panel, server) = self.held.get(id)?.first()?;
        Some(format!("server {panel}/{server} carried its marker when it was last read"))
    }
}
