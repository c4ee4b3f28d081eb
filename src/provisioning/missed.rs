//! The form of a server is `missed` although the panel's list shows the server, or shows no server at all: not for ever.
//!
//! A form may miss what it refers to, such as a user who was deleted (ispsystem-api.md 1.4: an object or a parameter was not found), and a
//! list that is empty is no proof that a server is gone. Neither has to come right by itself, so that after a while a person looks at it.

use std::ops::ControlFlow::Break;

use jiff::Timestamp;

use crate::api::common::Time;
use crate::panel::model::ServerId;

use super::context::{Cx, Halt, Wait, WaitKind, after};
use super::decide::UNREADABLE;
use super::drift;
use super::people::people;
use super::reason::Reason;
use super::step::Step;

/// `lastError.code`: the form of a server is missed, and no list says that the server is gone.
const FORM_MISSED: &str = "panel:missed";

impl Cx<'_> {
    /// The panel misses the form of a server. Whether the server is gone is what its lists say; where they do not, it is waited for, and
    /// then a department is asked.
    pub(super) fn form_missing(&mut self, step: Step, server: &ServerId) -> Halt {
        let Some((shown, began)) = self.shown_all_the_same(server) else { return self.wait_for_list(step) };
        // What a department was told of a server that was changed by hand stays as it was told.
        let rests = super::opening::at_rest(self);
        if let Some((reason, message)) = self.known_drift().filter(|_| rests) {
            return drift::drifted(self, reason, &message);
        }
        let what = format!("{shown}, and the form of server {server} is missed");
        // Not the wait for the next list, which may have been for something else.
        let name = format!("{server}: form missed");
        let since = self.status.waiting_on.as_ref().filter(|w| w.name == name).map(|w| w.since.0);
        let deadline = after(since.unwrap_or(self.now), UNREADABLE);
        if since.is_some() && began >= deadline {
            // A user who is no administrator any more is told that what others have does not exist.
            if let Break(halt) = people(self, step) {
                return halt;
            }
            let message = format!("{what}: look at its entry at the panel, and at what it refers to, such as a user who was deleted");
            if rests {
                return drift::drifted(self, Reason::NotOurServer, &message);
            }
            return self.fail_for_good(step, FORM_MISSED, &message, Time::seconds(self.now));
        }
        let message = format!("{}: {what}; waiting for the panel", step.as_str());
        let until = Some(after(self.now, self.handler.poll * 2));
        let wait = Wait { kind: WaitKind::Panel, name: &name, reason: Reason::WaitingForPanel, message, until, deadline: Some(deadline) };
        self.wait(step, wait)
    }

    /// What the latest list says that does not go with a form that is missed, and when it began; `None` where it shows other servers only:
    /// the next one tells whether the server is gone.
    fn shown_all_the_same(&self, server: &ServerId) -> Option<(&'static str, Timestamp)> {
        let list = self.facts.inventory.as_ref()?;
        if list.rows.is_empty() {
            return Some(("the panel's list shows no server at all, which is no proof that one is gone", list.began));
        }
        list.rows.contains_key(&server.0).then_some(("the panel's list shows the server", list.began))
    }

    /// The drift that was told of, where one was.
    fn known_drift(&self) -> Option<(Reason, String)> {
        let error = self.status.last_error.as_ref().filter(|e| drift::is_drift(&e.code))?;
        let reason = Reason::ALL.iter().copied().find(|r| r.as_str() == error.code)?;
        Some((reason, error.message.clone()))
    }
}
