//! What the functions do that are made up for tests: recipes on a running system, and its root password.

use sha2::{Digest, Sha256};

use super::{
    Moment,
    dci::Dci,
    operation::Operation,
    refusal::{Kind, Refusal},
    server::Server,
};
use crate::sim::config::{FailedUntil, Flag, OperationOutcome, RecipeOutcome, Script, TemplateKind};

/// What is kept of a password, so that it can be compared and not told.
pub(crate) fn digest(password: &str) -> String {
    crate::sim::hex(&Sha256::digest(password.as_bytes()))
}

impl Dci {
    /// The server, whose system runs. Refused while an operation runs, and without a system.
    fn running_system(&mut self, id: u64) -> Result<&mut Server, Refusal> {
        let busy = self.behaviour.busy_error.clone();
        let server = self.server_mut(id)?;
        if server.operation.is_some() {
            return Err(Refusal::new(Kind::from_word(&busy.kind), &busy.object, &id.to_string()));
        }
        if !server.installed.data || !server.power.on {
            return Err(Refusal::missed("os", &id.to_string()));
        }
        Ok(server)
    }

    /// Runs a recipe on the system that is there. Refused while an operation runs, and without a system.
    pub(crate) fn run_recipe(&mut self, id: u64, name: &str, now: Moment) -> Result<(), Refusal> {
        let recipe = self.recipes.iter().find(|recipe| recipe.name == name).ok_or_else(|| Refusal::value("recipe", name))?;
        let usual = match recipe.outcome {
            RecipeOutcome::Success => OperationOutcome::Success,
            RecipeOutcome::Fail => OperationOutcome::RecipeFail,
        };
        let duration = self.invented.recipe_duration;
        let visible = now + self.durations.operation_visible_after.0;
        let forgives = self.behaviour.operation_failed_until == FailedUntil::NextOperation;
        let server = self.running_system(id)?;
        let script = server.scripts.pop_front().unwrap_or(Script { outcome: usual, duration: None });
        if forgives {
            server.marks.set(Flag::OperationFailed, false);
        }
        server.operation = Some(Operation {
            kind: TemplateKind::Os,
            template: server.installed.template.clone(),
            recipe: name.to_owned(),
            password: String::new(),
            recipe_alone: true,
            started: now,
            visible,
            ends: now + script.duration.unwrap_or(duration).0,
            outcome: script.outcome,
            clear_disks: false,
            power_off_after: false,
        });
        Ok(())
    }

    /// Sets the root password of the system that runs. Refused without one, and while an operation runs.
    pub(crate) fn set_password(&mut self, id: u64, password: &str) -> Result<(), Refusal> {
        if password.is_empty() {
            return Err(Refusal::value("passwd", ""));
        }
        let server = self.running_system(id)?;
        server.installed.password = digest(password);
        Ok(())
    }
}
