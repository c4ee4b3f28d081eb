//! What a `FailedOperation` task says: what was tried, how it ended, and what each resolution does.

use std::fmt::Write as _;

use crate::api::order::{AttemptsFor, TriedServer};

use super::context::{Cx, SHORT, cut};
use super::done::NOT_CONFIRMED;
use super::step::Step;

/// Servers that were tried before, of which a task tells.
const SHOWN: usize = 4;

/// What verifies `Done` of a `FailedOperation` task, step by step; the table in the README is made from it.
#[must_use]
pub fn done_means(step: Step) -> &'static str {
    match step {
        Step::CreateClient => "the panel's list of users shows the client",
        Step::Allocate => "the notes of exactly one server carry the order's marker",
        Step::Assemble | Step::Suspend | Step::Resume => "the operator would not ask for the failed call again",
        Step::PortsOff | Step::PortsOn => {
            "the operator would not ask for the failed call again (where the panel does not show whether a port is on, that is taken at your word, of the connections that the target names)"
        }
        Step::SetPassword => "the Secret has a password: that the system has the same is taken at your word",
        Step::PowerOn => "a new list of servers shows it on",
        Step::ChangeAddress => {
            "the server's addresses, and at IPmanager their groups and notes, are such that the failed call is not needed any more"
        }
        Step::InstallOS => {
            "a new list shows the installation at work, or no operation that failed, and the server's form names the template (that a recipe has run is taken at your word)"
        }
        Step::RunRecipes => "a new list shows it at work, or nothing of it: that a recipe has run is taken at your word",
        Step::IssueLicenses | Step::RevokeLicenses => "the licence server shows it: the failed call is not needed any more",
        Step::StopPower => "a new list of servers shows it off",
        Step::HandOver => "the server's form carries the order's marker and the client as owner",
        Step::PowerOff => "a new list of servers shows it off (a StopServer task is taken at its word)",
        Step::RemoveAddresses => "the server's addresses and IPmanager show none that the failed call would have to take away",
        Step::ParkAddress => "the server's addresses and IPmanager are such that the failed call is not needed any more",
        Step::Release => "the server's form does not carry the order's marker any more",
    }
}

impl Cx<'_> {
    /// Summary and details of a `FailedOperation` task. Made from the status alone, so that a task that was deleted comes back as it was.
    pub(super) fn failure_report(&self, step: Step) -> (String, String) {
        let name = step.as_str();
        let (code, error, last) = match &self.status.last_error {
            Some(e) => (e.code.as_str(), e.message.as_str(), e.time.to_string()),
            None => ("unknown", "", "unknown".to_owned()),
        };
        let counted = self.status.attempts_for.as_ref().filter(|a| a.step == name);
        let (call, target) = counted.map_or(("unknown", "unknown"), |a| (a.call.as_str(), a.target.as_str()));
        let attempts = self.attempts_in_words(counted, &last);
        let server = self.status.server.as_ref();
        let server = server.map_or_else(|| "none yet".to_owned(), |s| format!("{} ({})", s.id, s.name));
        let summary = match self.status.attempts {
            _ if code == NOT_CONFIRMED => format!("{name} of order {}: the panel does not show that it is done", self.order.key),
            ..=1 => format!("{name} of order {} failed", self.order.key),
            times => format!("{name} of order {} failed {times} times", self.order.key),
        };
        let error =
            if code == NOT_CONFIRMED { format!("Looked at since, at {last}: {error}") } else { format!("Last error: {code}: {error}") };
        let before = self.servers_before();
        let abandon = if step == Step::RevokeLicenses {
            "give the order's licences up, look after them at the licence server; the server is taken back all the same"
        } else if self.order.deleting {
            "give the server up without the panel's confirmation; recorded, nothing more is sent to it"
        } else {
            "as Cancelled; the order keeps the server in its status"
        };
        let details = format!(
            "Order {} ({}), handler {}, panel {}, server {server}.\n\
             Step {name}, call {call}, target {target}.\n\
             {attempts}\n\
             {error}\n\
             {before}\n\
             Close this task by setting spec.resolution to\n  \
             Retry: the operator starts the step again and counts from zero;\n  \
             Done: you have done it by hand. The operator looks whether {}, and goes on; where the panel does not agree, a new task says what it shows;\n  \
             Cancelled: it is not going to be done, the order stands still and says so;\n  \
             Abandon: {abandon}.",
            self.order.key,
            self.order.uid,
            self.handler.key,
            self.handler.panel,
            done_means(step),
        );
        (summary, details)
    }

    /// How often, and when. A status of a version that did not keep the time of the last attempt has that of the last error.
    fn attempts_in_words(&self, counted: Option<&AttemptsFor>, error_at: &str) -> String {
        let (attempts, allowed) = (self.status.attempts.max(1), self.handler.max_attempts);
        let last = counted.and_then(|a| a.last).map_or_else(|| error_at.to_owned(), |at| at.to_string());
        let first = counted.map_or_else(|| last.clone(), |a| a.since.to_string());
        let why = if attempts < allowed { "not repeated by itself".to_owned() } else { format!("the handler allows {allowed}") };
        match attempts {
            1 => format!("Attempts: 1 ({why}), at {last}."),
            _ => format!("Attempts: {attempts} ({why}), the first failed at {first}, the last at {last}."),
        }
    }

    /// Servers that were tried before this one, a line each.
    fn servers_before(&self) -> String {
        let tried: Vec<&TriedServer> = self.status.tried_servers.iter().filter(|t| t.stopped_at.is_none()).collect();
        tried.iter().skip(tried.len().saturating_sub(SHOWN)).fold(String::new(), |mut lines, t| {
            let _ = writeln!(
                lines,
                "Before, on server {} ({}), given back at {}: {}: {}",
                t.id,
                t.name,
                t.time,
                t.reason,
                cut(&t.message, SHORT)
            );
            lines
        })
    }
}
