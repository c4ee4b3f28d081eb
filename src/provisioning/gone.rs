//! Whether a server is gone from its panel: two lists in a row and its form say so, and whoever read them is an administrator.
//!
//! An ordinary user is shown its own servers only, and told that all others do not exist. Our user may become one while the operator runs:
//! each client's server would be given up, and its addresses given to others.

use std::ops::ControlFlow::Continue;

use crate::panel::model::ServerId;

use super::context::{Cx, Flow};
use super::facts::{Row, Seen};
use super::people::people;
use super::step::Step;

impl Cx<'_> {
    /// Whether the panel does not have this server any more. A filter that somebody stored for our user hides servers from the list; the
    /// form tells. The users are asked for last: no list and no form is newer than what they say of us.
    pub(super) fn is_gone(&mut self, step: Step, server: &ServerId) -> Flow<bool> {
        if self.row(server) != Row::Gone || self.form(step, server)? != Seen::Missing {
            return Continue(false);
        }
        people(self, step)?;
        Continue(true)
    }
}
