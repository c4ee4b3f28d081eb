//! Tasks for departments: raised once, raised again when somebody deletes one that is needed, and read when closed.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::common::Time;
use crate::api::order::{OrderStatus, TaskSummary};
use crate::api::task::{Resolution, TaskType};

use super::context::{Cx, Flow, Halt, Next, SHORT, Wait, WaitKind, after, cut};
use super::facts::TaskView;
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
    /// When it was asked for: what is older is another one.
    pub opened_at: Option<Time>,
    /// Until when the department should have closed it.
    pub deadline: Option<Time>,
    /// The department that may act as well from then on.
    pub escalate_to: Option<String>,
    /// Tasks that nobody needs any more and that this one takes the place of: closed before it is raised, so that never two are open.
    pub replaces: Vec<String>,
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

/// Whether the time of a task has passed, and it was not noted yet.
#[must_use]
pub fn is_overdue(task: &TaskSummary, now: Timestamp) -> bool {
    task.escalated_at.is_none() && task.deadline.is_some_and(|at| at.0 <= now)
}

/// Whom an open task waits for.
#[must_use]
pub fn waits_for(task: &TaskSummary) -> String {
    let overdue = match (task.escalated_at, task.deadline, &task.escalate_to) {
        (Some(_), Some(deadline), Some(other)) => format!("; it was due at {deadline}, and {other} may close it too"),
        (Some(_), Some(deadline), None) => format!("; it was due at {deadline}"),
        (Some(_) | None, _, _) => String::new(),
    };
    format!("waits for {}{overdue}", task.department)
}

/// How the note of a task begins that the operator has closed.
pub const BY_OPERATOR: &str = "closed by the operator: ";

/// Whether the operator wrote the note of a task that is closed. One in which a department speaks of such a note is the department's.
#[must_use]
pub fn is_own_note(note: &str) -> bool {
    note.starts_with(BY_OPERATOR)
}

/// How far a task may seem to be older than its question where it is found in the place of one that was to be made: both times are whole
/// seconds. Where the clocks differ by more, the department is asked once more.
pub const FOUND_WITHIN: Duration = Duration::from_secs(1);
/// The same where it is shown among the order's tasks: clocks may differ, and no answer may be lost to that.
pub const SHOWN_WITHIN: Duration = Duration::from_mins(10);

/// For how long it is believed that no task can be made for an order: to try is a write of the status, and another one when it was refused.
/// Shorter than such an order waits, which is kept in whole seconds.
pub const REFUSED_FOR: Duration = Duration::from_secs(55);

/// Whether a closed task was made before the question that bears its name was asked. Numbers follow from the status: one that was set back
/// gives them again, and what a department said then was not said of this.
#[must_use]
pub fn is_earlier(made: Option<Timestamp>, opened_at: Option<Time>, within: Duration) -> bool {
    made.zip(opened_at).is_some_and(|(made, opened_at)| after(made, within) < opened_at.0)
}

/// An open task without an answer is its question, whenever the status came to name it: what was asked is as old as that. The API server
/// says how old it is, and the operator's clock may be ahead of its; by that clock every answer would be from before the question.
pub(super) fn date_open(status: &mut OrderStatus, shown: &[TaskView]) {
    for task in status.manual_tasks.iter_mut().filter(|t| t.state == OPEN) {
        let made = shown.iter().find(|view| view.name == task.name && view.resolution.is_none()).and_then(|view| view.made);
        task.opened_at = task.opened_at.map(|at| made.map_or(at, |made| at.min(made)));
    }
}

/// No open task of an order is needed any more; the shell closes the objects.
pub(super) fn supersede_all(status: &mut OrderStatus, now: Timestamp) {
    status.manual_tasks.iter_mut().filter(|t| t.state == OPEN).for_each(|task| supersede(task, now));
}

fn supersede(task: &mut TaskSummary, now: Timestamp) {
    task.state = SUPERSEDED.into();
    task.closed_at = Some(Time::seconds(now));
}

impl Cx<'_> {
    /// Whether a department is asked for this.
    #[must_use]
    pub fn is_open(&self, type_: TaskType) -> bool {
        self.status.manual_tasks.iter().any(|t| t.type_ == type_.as_str() && t.state == OPEN)
    }

    /// The answer of a department; until there is one, exactly one open task.
    pub fn ask(&mut self, ask: &Ask) -> Flow<Resolution> {
        let type_ = ask.type_.as_str();
        let open = self.status.manual_tasks.iter().rposition(|t| t.type_ == type_ && t.state == OPEN);
        let Some(at) = open else { return Flow::Break(self.raise_new(ask)) };
        let name = self.status.manual_tasks[at].name.clone();
        let view = self.facts.tasks.iter().find(|t| t.name == name);
        let nobodys = view.is_some_and(|v| v.resolution.is_some() && v.answer().is_none());
        match view.and_then(|v| v.resolution.map(|resolution| (resolution, v.note.clone()))) {
            Some(_) if nobodys => {
                self.supersede_at(at);
                Flow::Break(self.raise_new(ask))
            }
            Some((resolution, note)) if ask.type_.takes(resolution) => {
                self.close(at, resolution.as_str(), &note);
                self.status.waiting_on = None;
                Flow::Continue(resolution)
            }
            Some((resolution, _)) => {
                self.close(at, &format!("Refused {}", resolution.as_str()), "this type of task is not closed with that word");
                Flow::Break(self.raise_new(ask))
            }
            None if self.status.manual_tasks[at].department != ask.department => {
                // The handler names another department now: it is asked instead.
                self.supersede_at(at);
                Flow::Break(self.raise_new(ask))
            }
            // The order was restored with its status: a task of its old uid would be nobody's.
            None if view.is_none() && !name.starts_with(&self.task_names(ask.type_)) => {
                self.supersede_at(at);
                Flow::Break(self.raise_new(ask))
            }
            // Deleted by somebody while it is needed.
            None if view.is_none() => Flow::Break(self.raise(&name, ask)),
            None => Flow::Break(self.wait_for_department(ask, &name)),
        }
    }

    /// No open task is needed any more; the shell closes the objects.
    pub fn supersede_tasks(&mut self) {
        supersede_all(&mut self.status, self.now);
    }

    /// No open task of this type is needed any more; whether there was one.
    pub(super) fn supersede(&mut self, type_: TaskType) -> bool {
        let is = |t: &TaskSummary| t.type_ == type_.as_str() && t.state == OPEN;
        let found: Vec<usize> = (0..self.status.manual_tasks.len()).filter(|at| is(&self.status.manual_tasks[*at])).collect();
        for at in &found {
            self.supersede_at(*at);
        }
        !found.is_empty()
    }

    fn supersede_at(&mut self, at: usize) {
        let now = self.now;
        if let Some(task) = self.status.manual_tasks.get_mut(at).filter(|t| t.state == OPEN) {
            supersede(task, now);
        }
    }

    /// Notes that the time of an open task has passed. The task itself escalates without its order.
    pub(super) fn note_overdue(&mut self) {
        let now = self.now;
        for task in self.status.manual_tasks.iter_mut().filter(|t| t.state == OPEN && is_overdue(t, now)) {
            task.escalated_at = Some(Time::seconds(now));
        }
    }

    pub(super) fn close(&mut self, at: usize, state: &str, note: &str) {
        let task = &mut self.status.manual_tasks[at];
        state.clone_into(&mut task.state);
        task.closed_at = Some(Time::seconds(self.now));
        task.message = cut(note, SHORT);
    }

    /// The handler's namespace takes no tasks: it is gone, or on its way.
    fn cannot_raise(&mut self, ask: &Ask, why: &str) -> Halt {
        let way_out = if self.order.deleting {
            format!(
                "; or, to end the order and leave everything at the panels as it is, remove the finalizer {} from it",
                crate::api::ORDER_FINALIZER
            )
        } else {
            String::new()
        };
        let message = format!(
            "{}: the {} task for {} cannot be made in namespace {} ({why}): make the namespace and what was in it again{way_out}",
            ask.step.as_str(),
            ask.type_.as_str(),
            ask.department,
            self.handler.key.namespace,
        );
        let name = self.handler.key.to_string();
        let deadline = self.status.waiting_on.as_ref().filter(|w| w.name == name).and_then(|w| w.deadline).map(|t| t.0);
        let until = Some(super::context::after(self.now, Duration::from_mins(1)));
        self.wait(ask.step, Wait { kind: WaitKind::Handler, name: &name, reason: Reason::WaitingForTask, message, until, deadline })
    }

    fn raise_new(&mut self, ask: &Ask) -> Halt {
        if let Some(why) = self.facts.unraisable.clone() {
            return self.cannot_raise(ask, &why);
        }
        let number = self.highest_number(ask.type_).saturating_add(1);
        let name = format!("{}{number}", self.task_names(ask.type_));
        let opened_at = Time::seconds(self.now);
        let desk = self.handler.desks.of(ask.type_);
        self.status.manual_tasks.push(TaskSummary {
            name: name.clone(),
            type_: ask.type_.as_str().into(),
            department: ask.department.clone(),
            state: OPEN.into(),
            opened_at: Some(opened_at),
            closed_at: None,
            deadline: desk.deadline.map(|span| Time::seconds(after(opened_at.0, span))),
            escalated_at: None,
            escalate_to: desk.escalate_to.clone(),
            message: cut(&ask.summary, SHORT),
        });
        forget_oldest(&mut self.status.manual_tasks);
        self.raise(&name, ask)
    }

    /// How the names of the order's tasks of a type begin.
    fn task_names(&self, type_: TaskType) -> String {
        format!("{}-{}-", type_.as_str().to_lowercase(), self.order.uid)
    }

    /// Names are never used twice: the list never forgets the last task of a type. Where it was set back, what is there tells.
    fn highest_number(&self, type_: TaskType) -> usize {
        let known = self.status.manual_tasks.iter().filter(|t| t.type_ == type_.as_str()).map(|t| t.name.as_str());
        let shown = self.facts.tasks.iter().filter(|t| t.type_ == type_).map(|t| t.name.as_str());
        known.chain(shown).filter_map(|name| name.rsplit('-').next()?.parse().ok()).max().unwrap_or(0)
    }

    fn raise(&mut self, name: &str, ask: &Ask) -> Halt {
        if let Some(why) = self.facts.unraisable.clone() {
            return self.cannot_raise(ask, &why);
        }
        let tasks = &self.status.manual_tasks;
        let known = tasks.iter().find(|t| t.name == name);
        let request = TaskRequest {
            name: name.to_owned(),
            type_: ask.type_,
            department: ask.department.clone(),
            summary: ask.summary.clone(),
            details: ask.details.clone(),
            opened_at: known.and_then(|t| t.opened_at),
            deadline: known.and_then(|t| t.deadline),
            escalate_to: known.and_then(|t| t.escalate_to.clone()),
            replaces: tasks.iter().filter(|t| t.type_ == ask.type_.as_str() && t.state == SUPERSEDED).map(|t| t.name.clone()).collect(),
        };
        let verdict = self.wait_for_department(ask, name).verdict;
        Halt { next: Next::Raise(request), verdict }
    }

    fn wait_for_department(&mut self, ask: &Ask, name: &str) -> Halt {
        let known = self.status.manual_tasks.iter().find(|t| t.name == name);
        let deadline = known.and_then(|t| t.deadline).map(|t| t.0);
        let waits = known.map_or_else(|| format!("waits for {}", ask.department), waits_for);
        let message = format!("{}: {} task {name} {waits}", ask.step.as_str(), ask.type_.as_str());
        let until = deadline.filter(|at| *at > self.now);
        self.wait(ask.step, Wait { kind: WaitKind::Department, name, reason: Reason::WaitingForTask, message, until, deadline })
    }

    /// The department gave the server up: recorded, and the order goes without the panel's confirmation.
    pub fn abandon(&mut self, step: Step) -> Halt {
        let server = self.status.server.as_ref().map_or_else(|| "none".to_owned(), |s| s.id.clone());
        let message = if self.order.deleting {
            format!("server {server} was given up by resolution Abandon in step {}", step.as_str())
        } else {
            format!("step {} was closed with Abandon; the order keeps server {server} as it is", step.as_str())
        };
        if self.order.deleting {
            // The last step too: nothing more is sent to this server, also when the order does not go at once.
            self.finish(step, State::Skipped, &message);
            self.finish(Step::Release, State::Skipped, &message);
            self.status.waiting_on = None;
            return Halt { next: Next::Forget, verdict: Verdict::Progressing(super::verdict::Phase::Deleting, Reason::Deleting, message) };
        }
        // Remembered as what was cancelled is: a restart, or a panel that was down, does not ask again.
        self.count_for(step);
        self.stall(step, Reason::TaskCancelled, &message, super::context::Recheck::OnChange)
    }
}

/// Keeps the list short, and with it the numbers that were given: an old task's answer would be taken for a new one's.
fn forget_oldest(tasks: &mut Vec<TaskSummary>) {
    let followed = |at: usize| tasks[at + 1..].iter().any(|later| later.type_ == tasks[at].type_);
    let oldest = (0..tasks.len()).find(|at| tasks[*at].state != OPEN && followed(*at));
    if let Some(oldest) = oldest.filter(|_| tasks.len() > REMEMBERED) {
        tasks.remove(oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_of_an_earlier_question_where_it_was_made_before_it_was_asked() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (made, asked, within, earlier) in [
            (Some(1_000), Some(1_000), FOUND_WITHIN, false),
            (Some(999), Some(1_000), FOUND_WITHIN, false),
            (Some(998), Some(1_000), FOUND_WITHIN, true),
            (Some(1_001), Some(1_000), FOUND_WITHIN, false),
            (Some(998), Some(1_000), SHOWN_WITHIN, false),
            (Some(399), Some(1_000), SHOWN_WITHIN, true),
            (None, Some(1_000), FOUND_WITHIN, false),
            (Some(1), None, FOUND_WITHIN, false),
        ] {
            assert_eq!(is_earlier(made.map(at), asked.map(|s| Time(at(s))), within), earlier, "{made:?} {asked:?} {within:?}");
        }
    }

    #[test]
    fn an_open_task_is_as_old_as_its_question_and_one_that_is_closed_is_not() {
        let at = |second| Time(Timestamp::from_second(second).unwrap());
        let done = Some(Resolution::Done);
        for (state, opened, made, resolution, dated) in [
            (OPEN, Some(1_000), Some(100), None, Some(100)),
            (OPEN, Some(1_000), Some(2_000), None, Some(1_000)),
            (OPEN, Some(1_000), Some(100), done, Some(1_000)),
            (OPEN, Some(1_000), None, None, Some(1_000)),
            (OPEN, None, Some(100), None, None),
            (SUPERSEDED, Some(1_000), Some(100), None, Some(1_000)),
        ] {
            let task = TaskSummary { name: "t".into(), state: state.into(), opened_at: opened.map(at), ..TaskSummary::default() };
            let mut status = OrderStatus { manual_tasks: vec![task], ..OrderStatus::default() };
            let (type_, made) = (TaskType::StopServer, made.map(at));
            date_open(
                &mut status,
                &[TaskView { name: "t".into(), type_, resolution, closed_at: None, note: String::new(), made, earlier: false }],
            );
            assert_eq!(status.manual_tasks[0].opened_at, dated.map(at), "{state} {opened:?} {made:?} {resolution:?}");
        }
    }

    #[test]
    fn the_last_task_of_a_type_is_never_forgotten_whatever_comes_after_it() {
        let task = |type_: TaskType, number: usize, state: &str| TaskSummary {
            name: format!("{}-u-{number}", type_.as_str().to_lowercase()),
            type_: type_.as_str().into(),
            state: state.into(),
            ..TaskSummary::default()
        };
        let mut tasks = vec![task(TaskType::FailedOperation, 1, "Retry"), task(TaskType::StopServer, 1, OPEN)];
        for number in 1..=40 {
            tasks.push(task(TaskType::Assembly, number, "Done"));
            forget_oldest(&mut tasks);
        }
        assert_eq!(tasks.len(), REMEMBERED);
        let names: Vec<&str> = tasks.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(&names[..3], ["failedoperation-u-1", "stopserver-u-1", "assembly-u-27"]);
        assert_eq!(names.last(), Some(&"assembly-u-40"));
    }
}
