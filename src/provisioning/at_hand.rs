//! Steps that have nothing to do for an order: never named as the step at hand, in no message and no task.

use super::context::Cx;
use super::step::Step;
use super::wanted::Wanted;

/// Whether it is certain, without asking anybody, that a step that has not begun is going to be skipped.
pub(super) fn is_empty(cx: &Cx<'_>, step: Step) -> bool {
    let begun = cx.status.steps.iter().any(|s| s.name == step.as_str() && s.attempts > 0) || cx.intent(step).is_some();
    !begun
        && match step {
            Step::Assemble => !matches!(cx.order.wanted, Wanted::Custom(_)),
            Step::RunRecipes => cx.order.recipes.is_empty() && super::recipes::next(cx).is_none(),
            Step::IssueLicenses => cx.order.licenses.is_empty() && cx.status.licenses.is_empty(),
            // A server that goes back while the order lives keeps its licences.
            Step::RevokeLicenses => !cx.order.deleting || !super::license_revocation::may_have_any(cx),
            Step::CreateClient
            | Step::Allocate
            | Step::PowerOn
            | Step::ChangeAddress
            | Step::InstallOS
            | Step::HandOver
            | Step::PowerOff
            | Step::RemoveAddresses
            | Step::ParkAddress
            | Step::Release
            | Step::Suspend
            | Step::PortsOff
            | Step::StopPower
            | Step::Resume
            | Step::PortsOn
            | Step::SetPassword => false,
        }
}
