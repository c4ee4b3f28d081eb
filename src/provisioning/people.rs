//! The panel's users that matter to an order, the operator's own and the client's, and which of them a server belongs to.

use std::ops::ControlFlow::{Break, Continue};

use crate::panel::model::{Level, PanelUser, ServerForm};

use super::context::{Cx, Flow};
use super::facts::Look;
use super::reason::Reason;
use super::step::Step;

/// The panel's users: ours and the client's.
pub(super) struct People {
    /// The operator's own.
    pub me: PanelUser,
    /// The client's, where it exists.
    pub client: Option<PanelUser>,
    /// Whether the client's name is an administrator's, in whatever case.
    pub client_is_administrator: bool,
    /// Whose names are the id of somebody else.
    ambiguous: Vec<String>,
}

impl People {
    /// Whether an owner, as the panel shows it, is this user. Panels show ids or names (ispsystem-api.md 2.3), and a client may be called
    /// what another user's id is: that one has it then.
    fn is(&self, owner: &str, user: &PanelUser) -> bool {
        owner == user.id.0 || (owner == user.name && !self.ambiguous.contains(&user.name))
    }

    /// Whether this owner is the operator's own user.
    pub(super) fn is_me(&self, owner: &str) -> bool {
        self.is(owner, &self.me)
    }

    /// Whether this owner is the client.
    pub(super) fn is_client(&self, owner: &str) -> bool {
        self.client.as_ref().is_some_and(|client| self.is(owner, client))
    }

    /// Whether a server is the client's.
    pub(super) fn client_has(&self, form: &ServerForm) -> bool {
        form.owner.as_deref().is_some_and(|owner| self.is_client(owner))
    }
}

/// Reads the users and finds the two that matter. Nothing that the panel shows is acted upon where ours is an ordinary one: it is shown its
/// own servers only.
pub(super) fn people(cx: &mut Cx<'_>, step: Step) -> Flow<People> {
    let Some(users) = &cx.facts.users else { return Break(cx.look(step, Look::Users)) };
    let named = |name: &str| users.iter().find(|u| u.name == name).cloned();
    let (me, client) = (named(&cx.facts.login), named(&cx.order.username));
    let Some(me) = me else {
        let message = format!("the panel's list of users does not show `{}`, the operator's own user", cx.facts.login);
        return Break(cx.wait_for_handler(step, Reason::HandlerNotReady, message));
    };
    match me.level {
        Level::Administrator => {}
        Level::User => {
            let message =
                format!("panel user `{}` is not an administrator any more, and is not shown all servers; give it that level", me.name);
            return Break(cx.wait_for_handler(step, Reason::HandlerNotReady, message));
        }
    }
    let anothers = |user: &&PanelUser| users.iter().any(|u| u.id.0 == user.name && u.name != user.name);
    let ambiguous = [Some(&me), client.as_ref()].into_iter().flatten().filter(anothers).map(|u| u.name.clone()).collect();
    let is_clients = |user: &PanelUser| user.name.eq_ignore_ascii_case(&cx.order.username);
    let client_is_administrator = users.iter().any(|u| u.level == Level::Administrator && is_clients(u));
    Continue(People { me, client, client_is_administrator, ambiguous })
}
