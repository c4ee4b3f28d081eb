//! Tasks for departments: raised once, raised again when somebody deletes one that is needed, and read when closed.

use crate::api::common::Time;
use crate::api::order::TaskSummary;
use crate::api::task::{Resolution, TaskType};

use super::context::{Cx, Flow, Halt, Next, SHORT, Wait, WaitKind, cut};
use super::reason::Reason;
use super::step::{State, Step};
use super::verdict::Verdict;

/// A task to be raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRequest {
    /// Name, derived from order, type and attempt: that it exists already means that it is this one.
    pub name: String,
    /// Type.
    pub type_: TaskType,
    /// Department.
    pub department: String,
    /// One line.
    pub summary: String,
    /// What to do.
    pub details: String,
}

/// A question to a department.
pub struct Ask {
    /// Type.
    pub type_: TaskType,
    /// Department.
    pub department: String,
    /// The step that waits.
    pub step: Step,
    /// One line.
    pub summary: String,
    /// What to do.
    pub details: String,
}

/// Tasks that a status remembers.
const REMEMBERED: usize = 16;
/// A task that is open.
pub const OPEN: &str = "Open";
/// A task that is not needed any more: the order is being closed, or what was wrong has come right.
pub const SUPERSEDED: &str = "Superseded";

impl Cx<'_> {
    /// The answer of a department; until there is one, exactly one open task.
    pub fn ask(&mut self, ask: &Ask) -> Flow<Resolution> {
        let type_ = ask.type_.as_str();
        let open = self.status.manual_tasks.iter().rposition(|t| t.type_ == type_ && t.state == OPEN);
        let Some(at) = open else { return Flow::Break(self.raise_new(ask)) };
        let name = self.status.manual_tasks[at].name.clone();
        let Some(view) = self.facts.tasks.iter().find(|t| t.name == name) else {
            // Deleted by somebody while it is needed.
            return Flow::Break(self.raise(&name, ask));
        };
        match view.resolution {
            None => Flow::Break(self.wait_for_department(ask, &name)),
            Some(resolution) if ask.type_.takes(resolution) => {
                let note = view.note.clone();
                self.close(at, resolution.as_str(), &note);
                self.status.waiting_on = None;
                Flow::Continue(resolution)
            }
            Some(resolution) => {
                self.close(at, &format!("Refused {}", resolution.as_str()), "this type of task is not closed with that word");
                Flow::Break(self.raise_new(ask))
            }
        }
    }

    /// No open task is needed any more; the shell closes the objects.
    pub fn supersede_tasks(&mut self) {
        let now = Time::seconds(self.now);
        for task in self.status.manual_tasks.iter_mut().filter(|t| t.state == OPEN) {
            task.state = SUPERSEDED.into();
            task.closed_at = Some(now);
        }
    }

    /// No open task of this type is needed any more.
    pub fn supersede_tasks_of(&mut self, type_: TaskType) {
        let now = Time::seconds(self.now);
        for task in self.status.manual_tasks.iter_mut().filter(|t| t.state == OPEN && t.type_ == type_.as_str()) {
            task.state = SUPERSEDED.into();
            task.closed_at = Some(now);
        }
    }

    fn close(&mut self, at: usize, state: &str, note: &str) {
        let task = &mut self.status.manual_tasks[at];
        state.clone_into(&mut task.state);
        task.closed_at = Some(Time::seconds(self.now));
        task.message = cut(note, SHORT);
    }

    fn raise_new(&mut self, ask: &Ask) -> Halt {
        let number = 1 + self.status.manual_tasks.iter().filter(|t| t.type_ == ask.type_.as_str()).count();
        let number = number.max(self.highest_number(ask.type_) + 1);
        let name = format!("{}-{}-{number}", ask.type_.as_str().to_lowercase(), self.order.uid);
        self.status.manual_tasks.push(TaskSummary {
            name: name.clone(),
            type_: ask.type_.as_str().into(),
            department: ask.department.clone(),
            state: OPEN.into(),
            opened_at: Some(Time::seconds(self.now)),
            closed_at: None,
            message: cut(&ask.summary, SHORT),
        });
        if self.status.manual_tasks.len() > REMEMBERED {
            self.status.manual_tasks.remove(0);
        }
        self.raise(&name, ask)
    }

    /// Names are never used twice, also when the list has forgotten the oldest tasks.
    fn highest_number(&self, type_: TaskType) -> usize {
        let numbers = self.status.manual_tasks.iter().filter(|t| t.type_ == type_.as_str());
        numbers.filter_map(|t| t.name.rsplit('-').next()?.parse().ok()).max().unwrap_or(0)
    }

    fn raise(&mut self, name: &str, ask: &Ask) -> Halt {
        let request = TaskRequest {
            name: name.to_owned(),
            type_: ask.type_,
            department: ask.department.clone(),
            summary: ask.summary.clone(),
            details: ask.details.clone(),
        };
        let verdict = self.wait_for_department(ask, name).verdict;
        Halt { next: Next::Raise(request), verdict }
    }

    fn wait_for_department(&mut self, ask: &Ask, name: &str) -> Halt {
        let message = format!("{}: {} task {name} waits for {}", ask.step.as_str(), ask.type_.as_str(), ask.department);
        self.wait(ask.step, Wait { kind: WaitKind::Department, name, reason: Reason::WaitingForTask, message, until: None, deadline: None })
    }

    /// The department gave the server up: recorded, and the order goes without the panel's confirmation.
    pub fn abandon(&mut self, step: Step) -> Halt {
        let server = self.status.server.as_ref().map_or_else(|| "none".to_owned(), |s| s.id.clone());
        let message = format!("server {server} was given up by resolution Abandon in step {}", step.as_str());
        if self.order.deleting {
            // The last step too: nothing more is sent to this server, also when the order does not go at once.
            self.finish(step, State::Skipped, &message);
            self.finish(Step::Release, State::Skipped, &message);
            self.status.waiting_on = None;
            return Halt { next: Next::Forget, verdict: Verdict::Progressing(super::verdict::Phase::Deleting, Reason::Deleting, message) };
        }
        self.stall(step, Reason::TaskCancelled, &message, super::context::Recheck::OnChange)
    }
}
