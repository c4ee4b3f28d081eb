//! Any status that the types can hold.

use dci_operator::api::handler::{ClientClaim, ConfigurationCount, HandlerStatus, InventoryStatus, LicenseCounts, OrderCounts};
use dci_operator::api::handler_status::{GhostOrder, OrphanServer};
use dci_operator::api::ipmanager::{IPManagerStatus, Pool};
use dci_operator::api::order::{
    AttemptsFor, HandlerNote, InFlight, InstalledSystem, LastError, LicenseStatus, OrderStatus, Progress, Returning, ServerStatus,
    StepStatus, TaskSummary, TriedServer, WaitingOn,
};
use dci_operator::api::task::{Notification, TaskStatus};
use dci_operator::api::{Condition, Time};
use jiff::Timestamp;
use proptest::prelude::*;

// On the heap: the parts of a status are many, and a test has a small stack.
fn of<S: Strategy + 'static>(one: S) -> BoxedStrategy<Option<S::Value>> {
    proptest::option::of(one).boxed()
}

fn vec<S: Strategy + 'static>(one: S, count: std::ops::Range<usize>) -> BoxedStrategy<Vec<S::Value>> {
    proptest::collection::vec(one, count).boxed()
}

pub fn time() -> impl Strategy<Value = Time> {
    (0i64..4_102_444_800).prop_map(|second| Time(Timestamp::from_second(second).unwrap()))
}

pub fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[A-Za-z0-9 ./:_-]{0,12}", any::<String>()]
}

pub fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let one = (word(), word(), word(), word(), time(), of(any::<i64>())).prop_map(
        |(type_, status, reason, message, last_transition_time, observed_generation)| Condition {
            type_,
            status,
            reason,
            message,
            last_transition_time,
            observed_generation,
        },
    );
    vec(one, 0..3)
}

prop_compose! {
    pub fn step()(name in word(), state in word(), started_at in of(time()), finished_at in of(time()), attempts in any::<i32>(), message in word())
        -> StepStatus {
        StepStatus { name, state, started_at, finished_at, attempts, message }
    }
}

prop_compose! {
    pub fn returning()(reason in word(), message in word(), then in word(), since in time()) -> Returning {
        Returning { reason, message, then, since }
    }
}

prop_compose! {
    pub fn tried()(
        (panel, handler, id, name, reason, message) in (word(), word(), word(), word(), word(), word()),
        time in time(), stopped_at in of(any::<i64>()),
    ) -> TriedServer {
        TriedServer { panel, handler, id, name, reason, message, time, stopped_at }
    }
}

prop_compose! {
    pub fn system()(
        template in of(word()), recipes in vec(word(), 0..3), failed_recipes in vec(word(), 0..3), password_version in of(word()),
    ) -> InstalledSystem {
        InstalledSystem { template, recipes, failed_recipes, password_version }
    }
}

prop_compose! {
    pub fn server()(
        (id, name, handler, panel, configuration, client) in (word(), word(), word(), word(), word(), word()),
        (main_address, domain, addresses, parked_address) in (of(word()), of(word()), vec(word(), 0..3), of(word())),
        (template, recipes, power_state, handed_over_at) in (of(word()), vec(word(), 0..3), of(word()), of(time())),
        (reinstall, password_version, reinstall_unconfirmed) in (of(word()), of(word()), any::<bool>()),
        (template_stood, failure_stood, kept_address) in (any::<bool>(), any::<bool>(), of(word())),
        (running_recipe, failed_recipes, returning) in (of(word()), vec(word(), 0..3), of(returning())),
        (before_reinstall, reinstall_before, reinstall_again) in (of(system()), of(word()), of(word())),
    ) -> ServerStatus {
        ServerStatus {
            id, name, handler, panel, configuration, client, main_address, domain, addresses, parked_address, template, recipes,
            power_state, handed_over_at, running_recipe, failed_recipes, returning, reinstall, before_reinstall, reinstall_unconfirmed,
            password_version, template_stood, failure_stood, reinstall_before, reinstall_again, kept_address,
        }
    }
}

prop_compose! {
    pub fn task()(
        (name, type_, department, state, message) in (word(), word(), word(), word(), word()),
        opened_at in of(time()), closed_at in of(time()),
        (deadline, escalated_at, escalate_to) in (of(time()), of(time()), of(word())),
    ) -> TaskSummary {
        TaskSummary { name, type_, department, state, opened_at, closed_at, deadline, escalated_at, escalate_to, message }
    }
}

prop_compose! {
    pub fn attempts_for()(
        (step, intent, call, target) in (word(), word(), word(), word()), since in time(), last in of(time()), done_at in of(time()),
    ) -> AttemptsFor {
        AttemptsFor { step, intent, call, target, since, last, done_at }
    }
}

prop_compose! {
    pub fn notification()(
        (event, department, attempts) in (word(), word(), any::<i32>()),
        (at, next_attempt_at, delivered_at) in (of(time()), of(time()), of(time())),
        last_error in of(word()),
    ) -> Notification {
        Notification { event, department, at, attempts, next_attempt_at, delivered_at, last_error }
    }
}

prop_compose! {
    pub fn in_flight()(
        (operation_id, step, call, target, outcome) in (word(), word(), word(), word(), word()),
        handler in of(word()), intent in of(word()), attempt in any::<i32>(), since in time(), looks in any::<i32>(),
    ) -> InFlight {
        InFlight { operation_id, step, call, target, handler, intent, attempt, since, outcome, looks }
    }
}

prop_compose! {
    pub fn waiting()(kind in word(), name in word(), since in time(), deadline in of(time()), message in word()) -> WaitingOn {
        WaitingOn { kind, name, since, deadline, message }
    }
}

prop_compose! {
    pub fn error()(step in word(), code in word(), message in word(), retryable in any::<bool>(), time in time()) -> LastError {
        LastError { step, code, message, retryable, time }
    }
}

prop_compose! {
    pub fn license()(
        product in word(), id in of(word()), handler in of(word()), state in of(word()), address in of(word()), expires_at in of(time()),
        renewed_at in of(time()), renewal_failed_at in of(time()), (answered_at, answered_end) in (of(time()), of(time())),
    ) -> LicenseStatus {
        LicenseStatus { product, id, handler, state, address, expires_at, renewed_at, renewal_failed_at, answered_at, answered_end }
    }
}

prop_compose! {
    pub fn order_status()(
        (observed_generation, phase, conditions) in (of(any::<i64>()), of(word()), conditions()),
        progress in of((any::<i32>(), word(), word()).prop_map(|(percent, step, message)| Progress { percent, step, message })),
        (steps, server, manual_tasks, licenses) in (vec(step(), 0..3), of(server()), vec(task(), 0..3), vec(license(), 0..3)),
        (attempts, attempts_for, last_error, next_retry_time, waiting_on) in
            (any::<i32>(), of(attempts_for()), of(error()), of(time()), of(waiting())),
        (last_handled_reconcile_at, last_handled_reinstall, in_flight) in (of(word()), of(word()), of(in_flight())),
        license_secret in of(word()),
        (tried_servers, handler) in (vec(tried(), 0..3), of(word())),
        handlers in vec((word(), word(), word()).prop_map(|(name, reason, message)| HandlerNote { name, reason, message }), 0..3),
    ) -> OrderStatus {
        OrderStatus {
            observed_generation, phase, conditions, progress, steps, server, manual_tasks, licenses, attempts, attempts_for, last_error,
            next_retry_time, waiting_on, last_handled_reconcile_at, last_handled_reinstall, in_flight, tried_servers, handler, handlers,
            license_secret,
        }
    }
}

prop_compose! {
    pub fn inventory()(total in any::<i64>(), free in any::<i64>(), list in vec((word(), any::<i64>(), any::<i64>()), 0..3)) -> InventoryStatus {
        let by_configuration =
            list.into_iter().map(|(configuration, free, total)| ConfigurationCount { configuration, free, total }).collect();
        InventoryStatus { total, free, by_configuration }
    }
}

prop_compose! {
    pub fn handler_status()(
        (observed_generation, conditions, panel, inventory) in (of(any::<i64>()), conditions(), of(word()), of(inventory())),
        orders in of((any::<i64>(), any::<i64>(), any::<i64>())),
        licenses in of((any::<i64>(), any::<i64>(), of(time()))),
        clients in vec((word(), word()), 0..3),
        (last_probe_time, last_handled_reconcile_at) in (of(time()), of(word())),
        (orphans, ghosts) in (vec((word(), word()), 0..3), vec((word(), word()), 0..3)),
        (orphan_count, ghost_count, allocate_by) in (any::<i64>(), any::<i64>(), of(word())),
    ) -> HandlerStatus {
        let orphans = orphans.into_iter().map(|(server, marker)| OrphanServer { server, marker }).collect();
        let ghosts = ghosts.into_iter().map(|(order, server)| GhostOrder { order, server }).collect();
        let orders = orders.map(|(total, ready, waiting_for_task)| OrderCounts { total, ready, waiting_for_task });
        let clients = clients.into_iter().map(|(username, namespace)| ClientClaim { username, namespace }).collect();
        let licenses = licenses.map(|(total, of_orders, soonest_expiry)| LicenseCounts { total, of_orders, soonest_expiry });
        HandlerStatus {
            observed_generation, conditions, panel, allocate_by, inventory, licenses, orders, clients, orphans, orphan_count, ghosts, ghost_count, last_probe_time, last_handled_reconcile_at,
        }
    }
}

prop_compose! {
    pub fn manager_status()(
        (observed_generation, conditions, last_handled_reconcile_at) in (of(any::<i64>()), conditions(), of(word())),
        panel in of(word()),
        pools in vec((word(), of(any::<i64>()), of(any::<i64>()), of(any::<i64>())), 0..3),
    ) -> IPManagerStatus {
        let pools = pools.into_iter().map(|(name, used, free, total)| Pool { name, used, free, total }).collect();
        IPManagerStatus { observed_generation, conditions, panel, pools, last_handled_reconcile_at }
    }
}

prop_compose! {
    pub fn task_status()(
        observed_generation in of(any::<i64>()), phase in of(word()), opened_at in of(time()), closed_at in of(time()),
        (escalated_at, escalated_to, notifications) in (of(time()), of(word()), vec(notification(), 0..3)),
        (conditions, outcome) in (conditions(), of(word())),
    ) -> TaskStatus {
        TaskStatus { observed_generation, phase, opened_at, outcome, closed_at, escalated_at, escalated_to, notifications, conditions }
    }
}
