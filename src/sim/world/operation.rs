//! Installation, diagnostics, rescue: section 2.6 of the facts.

use super::{
    Moment,
    dci::Dci,
    refusal::{Kind, Refusal},
    server::Server,
};
use crate::sim::config::{DiagOutcome, FailedUntil, Flag, OperationOutcome, RecipeOutcome, Script, TemplateKind};

/// An operation that runs.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) kind: TemplateKind,
    pub(crate) template: String,
    pub(crate) recipe: String,
    /// Digest of the root password that a new system gets.
    pub(super) password: String,
    /// The recipe is run on the system that is there.
    pub(super) recipe_alone: bool,
    pub(crate) started: Moment,
    /// From when on the list shows it.
    pub(super) visible: Moment,
    /// When it ends, or, if it hangs, when it should have ended.
    pub(crate) ends: Moment,
    pub(super) outcome: OperationOutcome,
    pub(super) clear_disks: bool,
    /// The panel started it by itself, and switches the server off afterwards.
    pub(super) power_off_after: bool,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct OperationCall {
    pub(crate) kind: TemplateKind,
    pub(crate) template: String,
    /// Empty when there is none.
    pub(crate) recipe: String,
    /// The root password of a new system, which is kept as a digest.
    pub(crate) password: String,
    pub(crate) clear_disks: bool,
}

impl Operation {
    /// How far it is, as people read it.
    pub(crate) fn progress(&self, now: Moment) -> String {
        let whole = self.ends.saturating_sub(self.started).as_millis().max(1);
        let done = now.saturating_sub(self.started).as_millis();
        format!("{}%", (done * 100 / whole).min(99))
    }

    /// Lets it end now.
    pub(crate) fn finish(&mut self, now: Moment, success: bool) {
        self.ends = now;
        self.outcome = if success { OperationOutcome::Success } else { OperationOutcome::Fail };
    }

    /// Whether the list shows it yet.
    pub(crate) fn is_visible(&self, now: Moment) -> bool {
        self.visible <= now
    }
}

impl Server {
    /// Ends the operation whose time has come.
    pub(crate) fn settle_operation(&mut self, now: Moment) {
        let ended = |operation: &mut Operation| operation.ends <= now && operation.outcome != OperationOutcome::Hang;
        let Some(operation) = self.operation.take_if(ended) else { return };
        self.power.settle(operation.ends);
        let success = match operation.outcome {
            OperationOutcome::Success => {
                self.marks.set(Flag::OperationFailed, false);
                true
            }
            OperationOutcome::Fail | OperationOutcome::Hang => {
                self.marks.set(Flag::OperationFailed, true);
                return;
            }
            OperationOutcome::RecipeFail => {
                self.marks.set(Flag::OperationFailed, true);
                false
            }
            OperationOutcome::Hwproblem => {
                self.marks.set(Flag::Hwproblem, true);
                true
            }
        };
        match operation.kind {
            TemplateKind::Os if operation.recipe_alone => {
                if success {
                    self.installed.recipes.push(operation.recipe);
                }
            }
            TemplateKind::Os => {
                self.installed.template = operation.template;
                self.installed.recipe = if success { operation.recipe } else { String::new() };
                self.installed.recipes = Some(self.installed.recipe.clone()).filter(|recipe| !recipe.is_empty()).into_iter().collect();
                self.installed.password = operation.password;
                self.installed.times += 1;
                self.installed.data = true;
                self.power.force(true);
            }
            TemplateKind::Diag => {
                if operation.clear_disks {
                    self.installed.template.clear();
                    self.installed.recipe.clear();
                    self.installed.recipes.clear();
                    self.installed.data = false;
                    self.installed.to_be_cleaned = false;
                }
                if operation.power_off_after {
                    self.power.force(false);
                }
            }
            TemplateKind::Rescue => self.power.force(true),
        }
    }
}

impl Dci {
    /// Starts an operation. Refused while another one runs, for an unknown template, and without MAC or address
    /// (section 2.6, preconditions).
    pub(crate) fn start_operation(&mut self, id: u64, call: OperationCall, now: Moment) -> Result<(), Refusal> {
        let field = match call.kind {
            TemplateKind::Os => "ostemplate",
            TemplateKind::Diag => "diag",
            TemplateKind::Rescue => "rescue",
        };
        let server = self.server(id)?;
        if server.operation.is_some() {
            let busy = &self.behaviour.busy_error;
            return Err(Refusal::new(Kind::from_word(&busy.kind), &busy.object, &id.to_string()));
        }
        let template = self
            .templates
            .iter()
            .find(|template| template.name == call.template && template.kind == call.kind)
            .ok_or_else(|| Refusal::value(field, &call.template))?;
        if call.kind == TemplateKind::Os
            && let Some(kind) = self.types.iter().find(|kind| kind.name == server.type_name)
            && let Some(allowed) = &kind.os
            && !allowed.contains(&call.template)
        {
            return Err(Refusal::value(field, &call.template));
        }
        let recipe_outcome = if call.recipe.is_empty() {
            RecipeOutcome::Success
        } else {
            let recipe = self.recipes.iter().find(|recipe| recipe.name == call.recipe);
            recipe.ok_or_else(|| Refusal::value("recipe", &call.recipe))?.outcome
        };
        if server.mac.is_empty() {
            return Err(Refusal::missed("mac", ""));
        }
        if server.rows.is_empty() {
            return Err(Refusal::missed("ip", ""));
        }
        let usual = match call.kind {
            TemplateKind::Os => self.durations.install,
            TemplateKind::Diag => self.durations.diag,
            TemplateKind::Rescue => self.durations.rescue,
        };
        let usual = template.duration.unwrap_or(usual);
        let outcome = match (template.outcome, recipe_outcome) {
            (OperationOutcome::Success, RecipeOutcome::Fail) => OperationOutcome::RecipeFail,
            (outcome, _) => outcome,
        };
        let visible = now + self.durations.operation_visible_after.0;
        let forgives = self.behaviour.operation_failed_until == FailedUntil::NextOperation;
        let server = self.server_mut(id)?;
        let script = server.scripts.pop_front().unwrap_or(Script { outcome, duration: None });
        if forgives {
            server.marks.set(Flag::OperationFailed, false);
        }
        if call.kind == TemplateKind::Os {
            server.installed.chosen.clone_from(&call.template);
        }
        server.operation = Some(Operation {
            kind: call.kind,
            template: call.template,
            recipe: call.recipe,
            password: super::invented::digest(&call.password),
            recipe_alone: false,
            started: now,
            visible,
            ends: now + script.duration.unwrap_or(usual).0,
            outcome: script.outcome,
            clear_disks: call.clear_disks,
            power_off_after: false,
        });
        Ok(())
    }

    /// `server.opercancel`: ends the operation without a result, or takes the mark of a failed one away.
    pub(crate) fn cancel_operation(&mut self, id: u64) -> Result<(), Refusal> {
        let server = self.server_mut(id)?;
        if server.operation.take().is_none() && !server.marks.has(Flag::OperationFailed) {
            return Err(Refusal::missed("operation", &id.to_string()));
        }
        server.marks.set(Flag::OperationFailed, false);
        Ok(())
    }

    /// What the panel does by itself when a server has become free (section 2.8).
    pub(crate) fn after_change(&mut self, id: u64, was_released: bool, now: Moment) {
        let policy = self.release.clone();
        let ends = now + self.durations.diag.0;
        let template = self.templates.iter().find(|template| template.kind == TemplateKind::Diag);
        let template = template.map_or_else(String::new, |template| template.name.clone());
        let Ok(server) = self.server_mut(id) else { return };
        if was_released || !server.is_released() {
            return;
        }
        let to_be_cleaned = server.installed.to_be_cleaned;
        if !policy.diagnostics && !to_be_cleaned {
            return;
        }
        if server.operation.is_some() {
            return;
        }
        let usual = match policy.outcome {
            DiagOutcome::Ok => OperationOutcome::Success,
            DiagOutcome::Hwproblem => OperationOutcome::Hwproblem,
        };
        let script = server.scripts.pop_front().unwrap_or(Script { outcome: usual, duration: None });
        server.operation = Some(Operation {
            kind: TemplateKind::Diag,
            template,
            recipe: String::new(),
            password: String::new(),
            recipe_alone: false,
            started: now,
            visible: now,
            ends: script.duration.map_or(ends, |duration| now + duration.0),
            outcome: script.outcome,
            clear_disks: policy.clear_disks || to_be_cleaned,
            power_off_after: policy.power_off,
        });
    }
}
