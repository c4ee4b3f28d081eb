//! Who takes the orders' addresses (`spec.ipManagement.allocateBy`): it stays while orders have something at the panel, and another way is
//! written down before it is used. Addresses that are given back in another way than they were taken stay taken for ever.

use crate::api::handler::{AllocateBy, ProcessingHandler};
use crate::provisioning::reason::Reason;

use super::problem::Problem;
use super::runtime::HandlerRuntime;

/// What one poll has to know of it.
pub(super) struct AllocatedBy {
    /// What the status says; written by an earlier poll.
    recorded: Option<String>,
    /// What the client does that orders use; none before this process has one.
    in_use: Option<&'static str>,
    /// What the spec says.
    wanted: Option<&'static str>,
    /// How many orders have something at the panel, or are about to.
    holders: usize,
}

impl AllocatedBy {
    pub(super) fn new(handler: &ProcessingHandler, runtime: &HandlerRuntime, holders: usize) -> Self {
        Self {
            recorded: handler.status.as_ref().and_then(|s| s.allocate_by.clone()),
            in_use: runtime.snapshot(None).client.map(|client| client.policy.allocate_by.as_str()),
            wanted: handler.spec.ip_management.as_ref().map(|m| m.allocate_by).map(AllocateBy::as_str),
            holders,
        }
    }

    /// How the addresses were taken that orders have; none where nothing was ever written down, as by an older version.
    fn was(&self) -> Option<&str> {
        self.in_use.or(self.recorded.as_deref())
    }

    /// Whether the handler may be used as its spec says.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let Some(wanted) = self.wanted else { return Ok(()) };
        match self.was() {
            Some(was) if was != wanted && self.holders > 0 => {
                let message = format!(
                    "the addresses of {} orders were taken with spec.ipManagement.allocateBy {was}, and it says {wanted}; put it back; for new orders create another handler",
                    self.holders
                );
                Err(Problem::stalled(Reason::PanelChanged, message))
            }
            Some(_) | None if self.recorded.as_deref().is_some_and(|recorded| recorded != wanted) => {
                let message = format!("spec.ipManagement.allocateBy {wanted} is written down before it is used");
                Err(Problem::passing(Reason::PanelChanged, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What has to stand in the status after this poll.
    pub(super) fn record(self) -> Option<String> {
        let was = self.was().map(str::to_owned).filter(|_| self.holders > 0);
        match self.wanted {
            Some(wanted) => was.or_else(|| Some(wanted.to_owned())),
            None => self.recorded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATOR: Option<&str> = Some("Operator");
    const PANEL: Option<&str> = Some("Panel");

    #[test]
    fn another_way_is_written_down_before_it_is_used_and_only_while_nobody_has_anything() {
        // Recorded, in use, wanted, orders: whether it goes on (true), waits (false) or stalls (none), and what is recorded then.
        for (recorded, in_use, wanted, holders, goes_on, then) in [
            (None, None, OPERATOR, 0, Some(true), OPERATOR),
            // An older version wrote nothing down.
            (None, None, PANEL, 3, Some(true), PANEL),
            (OPERATOR, OPERATOR, OPERATOR, 3, Some(true), OPERATOR),
            (OPERATOR, OPERATOR, PANEL, 3, None, OPERATOR),
            (OPERATOR, None, PANEL, 3, None, OPERATOR),
            (OPERATOR, OPERATOR, PANEL, 0, Some(false), PANEL),
            (PANEL, OPERATOR, PANEL, 0, Some(true), PANEL),
            // An order got its server between the two polls.
            (PANEL, OPERATOR, PANEL, 1, None, OPERATOR),
            // And the spec is put back.
            (PANEL, OPERATOR, OPERATOR, 1, Some(false), OPERATOR),
            (OPERATOR, OPERATOR, OPERATOR, 1, Some(true), OPERATOR),
            (OPERATOR, OPERATOR, None, 1, Some(true), OPERATOR),
        ] {
            let case = AllocatedBy { recorded: recorded.map(str::to_owned), in_use, wanted, holders };
            let label = format!("{recorded:?} {in_use:?} {wanted:?} {holders}");
            let problem = case.check().err();
            assert_eq!(problem.as_ref().map_or(Some(true), |p| (!p.stalled).then_some(false)), goes_on, "{label}");
            assert_eq!(case.record().as_deref(), then, "{label}");
        }
    }
}
