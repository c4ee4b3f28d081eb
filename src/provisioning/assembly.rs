//! Configurations of the client's own: the best free server, and what departments have to build or to buy.

use std::ops::ControlFlow::{Break, Continue};

use crate::api::order::{CustomConfiguration, OrderStatus};
use crate::api::task::{Resolution, TaskType};
use crate::panel::model::{ServerId, ServerRow};

use super::attempts::intent_of;
use super::context::{Cx, Flow, Halt, LONG, Next, Recheck, SHORT, Wait, WaitKind, cut};
use super::facts::{Inventory, Seen, TaskView};
use super::fitting::{Comparison, compare};
use super::give_back::{Then, give_back};
use super::hardware::Hardware;
use super::order::Order;
use super::reason::Reason;
use super::step::{State, Step};
use super::tasks::{Ask, OPEN, waits_for};
use super::wanted::Wanted;

/// `manualTasks[].state`: closed as Cancelled, and afterwards somebody asked for another attempt.
pub const REOPENED: &str = "Reopened";
/// What a summary says of a server that does not exist yet, before what it is made of and after that.
const WITH: &str = " server with ";
const FOR: &str = " for order ";
/// The bytes of a configuration that a summary shows.
const SHOWN: usize = 96;
/// What is told of the step meanwhile.
const AT_WORK: &str = "a department is at work";

/// A handler that sells server types only refuses what a client composes, and so may a department. What is reserved already goes on.
pub(super) fn refused(cx: &mut Cx<'_>) -> Flow {
    if !matches!(cx.order.wanted, Wanted::Custom(_)) {
        return Continue(());
    }
    if let Some((type_, _)) = last(cx).filter(|(_, state)| is_cancelled(state)) {
        return Break(cancelled(cx, type_, None));
    }
    if !cx.handler.by_server_type {
        return Continue(());
    }
    cx.supersede_tasks();
    let message = format!("handler {} sells server types only (byServerType): set configuration.serverType", cx.handler.key);
    Break(cx.stall(Step::Allocate, Reason::CustomConfigurationRefused, &message, Recheck::OnChange))
}

/// The free servers, the best first (see `fitting`). Those whose power cannot be asked stand behind the others of their kind.
pub(super) fn best_first(cx: &mut Cx<'_>, inventory: &Inventory, wanted: &CustomConfiguration, free: &[&ServerRow]) -> Flow<Vec<ServerId>> {
    let mut ranked = Vec::new();
    for row in free {
        // A form that was read in this pass is newer than what was read for the list.
        let hardware = match (cx.facts.forms.get(&row.id.0), inventory.hardware.get(&row.id.0)) {
            (Some(Seen::There(form)), _) => Hardware::of_server(&form.parts, &row.description),
            (Some(Seen::Missing), _) => continue,
            (None, Some(known)) => known.clone(),
            (None, None) => return Break(cx.wait_for_list(Step::Allocate)),
        };
        let compared = compare(wanted, &hardware);
        ranked.push((!compared.fits(), row.power.error, compared.rank, *row));
    }
    ranked.sort_by(|a, b| (a.0, a.1, &a.2, a.3.id.sort_key()).cmp(&(b.0, b.1, &b.2, b.3.id.sort_key())));
    Continue(ranked.into_iter().map(|(.., row)| row.id.clone()).collect())
}

/// The server has at least what was asked for; until then a department builds it, or buys what it needs.
pub(super) fn assemble(cx: &mut Cx<'_>, server: &ServerId) -> Flow {
    let step = Step::Assemble;
    if cx.state(step).over() {
        return Continue(());
    }
    let Wanted::Custom(wanted) = cx.order.wanted.clone() else {
        cx.finish(step, State::Skipped, "ready configuration");
        return Continue(());
    };
    // Tasks of a server that was given back before do not count.
    let asked = cx.state(step) == State::Waiting;
    if let Break(halt) = work(cx, &wanted, Some(server)) {
        if cx.status.waiting_on.as_ref().is_some_and(|w| w.kind == WaitKind::Department.as_str()) {
            cx.enter(step, State::Waiting, AT_WORK);
            cx.progress(step, step.percent(), AT_WORK);
        }
        return Break(halt);
    }
    if asked && !cx.facts.slot {
        // Nobody kept a place while people were at work.
        let name = cx.handler.key.to_string();
        let message = "limits.maxConcurrentOperations of the handler is reached".to_owned();
        let wait = Wait { kind: WaitKind::Capacity, name: &name, reason: Reason::LimitReached, message, until: None, deadline: None };
        return Break(cx.wait(step, wait));
    }
    cx.status.waiting_on = None;
    cx.finish(step, if asked { State::Done } else { State::Skipped }, "the server has what was asked for");
    Continue(())
}

/// No server is free: a department is asked to build one, and the order keeps its place among those that wait.
pub(super) fn without_server(cx: &mut Cx<'_>, wanted: &CustomConfiguration) -> Halt {
    let before = cx.status.waiting_on.clone();
    let halt = match work(cx, wanted, None) {
        Break(halt) => halt,
        // Nothing fits no server.
        Continue(()) => cx.wait_for_list(Step::Allocate),
    };
    if !matches!(halt.next, Next::Wait(_)) || cx.status.waiting_on.as_ref().is_none_or(|w| w.kind != WaitKind::Department.as_str()) {
        return halt;
    }
    cx.status.waiting_on = before;
    let task = cx.status.manual_tasks.iter().rev().find(|t| t.state == OPEN);
    let task = task.map_or_else(String::new, |t| format!("; {} task {} {}", t.type_, t.name, waits_for(t)));
    let message = format!("no server is free{task}; {}", cx.facts.queue.place());
    super::allocation::wait_for_capacity(cx, Reason::WaitingForCapacity, message)
}

/// The tasks for a server that does not exist are not needed any more once there is one.
pub(super) fn reserved(cx: &mut Cx<'_>) {
    if last(cx).is_some_and(|(_, state)| state == OPEN) {
        cx.supersede_tasks();
    }
}

/// Somebody asked for another attempt, or changed the order, after a department had cancelled it.
pub(super) fn reopen(cx: &mut Cx<'_>) {
    let annotated = super::decide::asked(cx.order, &cx.status);
    let changed = cx.status.observed_generation.is_some_and(|seen| seen >= 0 && seen != cx.order.generation);
    if (annotated || changed)
        && let Some(task) = cx.status.manual_tasks.iter_mut().rev().find(|t| is_ours(&t.type_))
        && task.state == Resolution::Cancelled.as_str()
    {
        REOPENED.clone_into(&mut task.state);
    }
}

/// Calls off what was asked of departments for a server that does not exist yet, where the order asks for something else by now: its
/// configuration may change until a server is its own. What a task asks for stands in its summary, which the status keeps while it is open
/// whatever else is waited for meanwhile; that of a task of an earlier release does not say it.
pub(super) fn call_off(cx: &mut Cx<'_>) {
    if cx.status.server.is_some() {
        return;
    }
    let wanted = match cx.order.wanted {
        // Nobody builds these.
        Wanted::Ready(_) => None,
        Wanted::Custom(_) => Some(named(cx.order)),
    };
    let is_other = |summary: &str| match &wanted {
        None => true,
        Some(wanted) => summary
            .split_once(WITH)
            .is_some_and(|(_, made_of)| made_of.strip_prefix(wanted.as_str()).is_none_or(|rest| !rest.starts_with(FOR))),
    };
    if !cx.status.manual_tasks.iter().any(|t| t.state == OPEN && is_ours(&t.type_) && is_other(&t.message)) {
        return;
    }
    cx.supersede(TaskType::Assembly);
    cx.supersede(TaskType::Procurement);
    if cx.status.waiting_on.as_ref().is_some_and(|w| w.kind == WaitKind::Department.as_str()) {
        cx.status.waiting_on = None;
    }
}

/// What an order asks for, as summaries name it: one that is too long to be shown is told from others by a digest.
fn named(order: &Order) -> String {
    let wanted = order.wanted.to_string();
    let shown = cut(&wanted, SHOWN);
    if wanted.len() <= SHOWN { shown } else { format!("{shown} ({})", intent_of(order, Step::Assemble, None)) }
}

fn is_ours(type_: &str) -> bool {
    type_ == TaskType::Assembly.as_str() || type_ == TaskType::Procurement.as_str()
}

/// Whether departments are at work for an order: they build a server, or buy what it needs.
pub(super) fn are_at_work(status: &OrderStatus) -> bool {
    status.manual_tasks.iter().any(|t| t.state == OPEN && is_ours(&t.type_))
}

/// The latest task of the two kinds: type and state.
fn last(cx: &Cx<'_>) -> Option<(TaskType, String)> {
    let task = cx.status.manual_tasks.iter().rev().find(|t| is_ours(&t.type_))?;
    let type_ = if task.type_ == TaskType::Assembly.as_str() { TaskType::Assembly } else { TaskType::Procurement };
    Some((type_, task.state.clone()))
}

/// Whether a department has cancelled the last task of the order.
fn is_cancelled(state: &str) -> bool {
    [Resolution::Cancelled, Resolution::Abandon].iter().any(|r| r.as_str() == state)
}

/// Goes by what the departments said last. `Continue`: the server has what was asked for.
fn work(cx: &mut Cx<'_>, wanted: &CustomConfiguration, server: Option<&ServerId>) -> Flow {
    // Every turn but the last one closes a task that was open.
    loop {
        match last(cx) {
            Some((type_, state)) if state == OPEN => {
                let ask = pending(cx, type_, wanted, server)?;
                cx.ask(&ask)?;
            }
            Some((TaskType::Assembly, state)) if state == Resolution::PartsMissing.as_str() => {
                let compared = present(cx, wanted, server)?.1;
                if compared.fits() {
                    return Continue(());
                }
                let ask = buy(cx, &compared);
                cx.ask(&ask)?;
            }
            Some((type_, state)) if is_cancelled(&state) => return Break(cancelled(cx, type_, server)),
            last => {
                let (hardware, compared) = present(cx, wanted, server)?;
                if compared.fits() {
                    return Continue(());
                }
                let done = last.is_some_and(|(type_, state)| type_ == TaskType::Assembly && state == Resolution::Done.as_str());
                let again = done && cx.state(step_of(server)) == State::Waiting;
                let ask = build(cx, &hardware, &compared, server, again);
                cx.ask(&ask)?;
            }
        }
    }
}

/// An open task. Its text is made only where it may be raised anew, since that costs a request.
fn pending(cx: &mut Cx<'_>, type_: TaskType, wanted: &CustomConfiguration, server: Option<&ServerId>) -> Flow<Ask> {
    let department = department(cx, type_);
    let open = cx.status.manual_tasks.iter().rev().find(|t| t.type_ == type_.as_str() && t.state == OPEN);
    let view = open.filter(|t| t.department == department).and_then(|t| cx.facts.tasks.iter().find(|v| v.name == t.name));
    let stands = |v: &TaskView| v.resolution.is_none() || v.answer().is_some_and(|r| type_.takes(r));
    if view.is_some_and(stands) {
        return Continue(Ask { type_, department, step: step_of(server), summary: String::new(), details: String::new() });
    }
    let (hardware, compared) = present(cx, wanted, server)?;
    Continue(if type_ == TaskType::Procurement { buy(cx, &compared) } else { build(cx, &hardware, &compared, server, false) })
}

fn step_of(server: Option<&ServerId>) -> Step {
    if server.is_some() { Step::Assemble } else { Step::Allocate }
}

/// What is there now, read anew, against what was asked for.
fn present(cx: &mut Cx<'_>, wanted: &CustomConfiguration, server: Option<&ServerId>) -> Flow<(Hardware, Comparison)> {
    let hardware = match server {
        None => Hardware::default(),
        Some(server) => {
            let form = cx.own_form(Step::Assemble, server)?;
            let row = cx.facts.inventory.as_ref().and_then(|i| i.rows.get(&server.0));
            Hardware::of_server(&form.parts, row.map(|r| r.description.as_str()).unwrap_or_default())
        }
    };
    let compared = compare(wanted, &hardware);
    Continue((hardware, compared))
}

/// A handler that was switched to server types may have no such departments any more: then operations looks after it.
fn department(cx: &Cx<'_>, type_: TaskType) -> String {
    let named = if type_ == TaskType::Procurement { &cx.handler.procurement } else { &cx.handler.assembly };
    named.clone().unwrap_or_else(|| cx.handler.operations.clone())
}

fn build(cx: &Cx<'_>, hardware: &Hardware, compared: &Comparison, server: Option<&ServerId>, again: bool) -> Ask {
    let key = &cx.order.key;
    let name = cx.status.server.as_ref().map(|s| s.name.clone()).unwrap_or_default();
    let table = compared.table();
    let (summary, situation, done) = match server {
        Some(server) => (
            if again {
                format!("Server {server} still lacks parts for order {key}")
            } else {
                format!("Assemble server {server} for order {key}")
            },
            format!(
                "{} Server {server} ({name}) is reserved for the order.\n\n{table}\nThe server is now: {}\n{}",
                if again {
                    "The panel still shows other parts than were asked for."
                } else {
                    "No free server has what was asked for; this one is the most similar."
                },
                cut(&if hardware.is_unknown() { format!("unknown {hardware}") } else { hardware.to_string() }, LONG).trim_end(),
                if compared.swaps {
                    "Only what the table swaps has to come out: what else is in the server may stay."
                } else {
                    "Nothing has to be removed: what else is in the server may stay."
                },
            ),
            "Done: the parts are in the server, and its form at the panel shows them; they are read again",
        ),
        None => (
            format!("{}{WITH}{}{FOR}{key}", if again { "Still no free" } else { "Build a" }, named(cx.order)),
            format!(
                "{} None is reserved: build one, and add it to the panel as a free server. The order takes the first server that becomes free, and closes this task by itself.\n\n{table}",
                if again { "There is still no free server." } else { "There is no free server at all." },
            ),
            "Done: a server is there; it is looked for again",
        ),
    };
    Ask {
        type_: TaskType::Assembly,
        department: department(cx, TaskType::Assembly),
        step: step_of(server),
        summary,
        details: format!(
            "Order {key} ({}) asks for {}.\n{situation}\n\nClose this task with\n  {done};\n  PartsMissing: parts have to be bought first, and this task comes back afterwards;\n  Cancelled: {}the order stops.",
            cx.order.uid,
            cut(&cx.order.wanted.to_string(), SHORT),
            if server.is_some() { "the server is given back, and " } else { "" },
        ),
    }
}

fn buy(cx: &Cx<'_>, compared: &Comparison) -> Ask {
    let key = &cx.order.key;
    let parts: Vec<String> = compared.missing.iter().map(|part| format!("  {}", cut(part, SHORT))).collect();
    let what = if parts.len() == 1 { "a part".to_owned() } else { format!("{} kinds of parts", parts.len()) };
    let reserved = cx.status.server.is_some();
    Ask {
        type_: TaskType::Procurement,
        department: department(cx, TaskType::Procurement),
        step: if reserved { Step::Assemble } else { Step::Allocate },
        summary: if reserved { format!("Buy {what}{FOR}{key}") } else { format!("Buy {what} for a{WITH}{}{FOR}{key}", named(cx.order)) },
        details: format!(
            "Order {key} ({}) needs parts that {} does not have:\n{}\n\nClose this task with\n  Done: they are there, and the server can be built;\n  Cancelled: they are not going to be bought; the order stops.",
            cx.order.uid,
            department(cx, TaskType::Assembly),
            parts.join("\n"),
        ),
    }
}

/// A department does not want to do it: what is reserved is given back.
fn cancelled(cx: &mut Cx<'_>, type_: TaskType, server: Option<&ServerId>) -> Halt {
    let message = format!("{} was cancelled by {}{}", type_.as_str(), department(cx, type_), cx.answered(type_));
    match server {
        Some(_) => give_back(cx, Then::Stall(Reason::TaskCancelled, message)),
        None => cx.stall(Step::Allocate, Reason::TaskCancelled, &message, Recheck::OnChange),
    }
}
