//! What happened to an order between two saved statuses, for counters and histograms.

use jiff::Timestamp;

use crate::api::DedicatedServerOrder;
use crate::api::order_status::OrderStatus;
use crate::provisioning::step::{State, Step};

use super::{Metrics, sla};

/// Counts what a saved status says that the one before it did not. `handler`: see `counts::handler_of`.
pub fn saved(metrics: &Metrics, handler: &str, old: &OrderStatus, stored: &DedicatedServerOrder) {
    let Some(new) = &stored.status else { return };
    for record in &new.steps {
        let Some(step) = Step::parse(&record.name) else { continue };
        let before = old.steps.iter().find(|s| s.name == record.name);
        let begun = record.attempts.saturating_sub(before.map_or(0, |s| s.attempts));
        count(&metrics.step_attempts, handler, step, begun);
        let was = before.map_or(State::Pending, |s| State::parse(&s.state));
        if State::parse(&record.state) == State::Done
            && was != State::Done
            && let (Some(began), Some(ended)) = (since(old, new, step), record.finished_at)
        {
            metrics.step_duration.of([handler, step.as_str()]).observe(between(began, ended.0));
        }
    }
    if let Some(attempts) = &new.attempts_for
        && let Some(step) = Step::parse(&attempts.step)
    {
        let same = old.attempts_for.as_ref().is_some_and(|a| (&a.step, &a.intent) == (&attempts.step, &attempts.intent));
        let before = if same { old.attempts } else { 0 };
        count(&metrics.step_failures, handler, step, new.attempts.saturating_sub(before));
    }
    if let (Some(created), Some(at)) = (&stored.metadata.creation_timestamp, handed_over(old, new)) {
        metrics.order_activation.of([handler]).observe(between(created.0, at));
    }
}

/// What is over has no attempts any more: the status before still has them.
fn since(old: &OrderStatus, new: &OrderStatus, step: Step) -> Option<Timestamp> {
    // A step that was over before is done anew, as in a reinstallation: its old times say nothing.
    let before = if sla::at_hand(old) == Some(step) { sla::since(old, step) } else { None };
    before.into_iter().chain(sla::since(new, step)).min()
}

/// When the client was given the server: not when one that was handed over long ago was adopted, or found again after a restore.
fn handed_over(old: &OrderStatus, new: &OrderStatus) -> Option<Timestamp> {
    let (before, now) = (old.server.as_ref()?, new.server.as_ref()?);
    let at = now.handed_over_at?;
    (before.handed_over_at.is_none() && before.id == now.id).then_some(at.0)
}

fn between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

fn count(metric: &super::series::Series<2, prometheus_client::metrics::counter::Counter>, handler: &str, step: Step, number: i32) {
    if let Ok(number @ 1..) = u64::try_from(number) {
        metric.of([handler, step.as_str()]).inc_by(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;
    use serde_json::{Value, json};

    fn at(second: i64) -> String {
        Timestamp::from_second(second).unwrap().to_string()
    }

    fn order(status: &Value) -> DedicatedServerOrder {
        samples::order(&json!({
            "metadata": {"namespace": "c", "creationTimestamp": at(0)}, "spec": {"handlerRef": {"name": "a"}}, "status": status,
        }))
    }

    #[test]
    fn an_orders_way_is_counted_once() {
        let metrics = Metrics::default();
        let power = |state: &str, attempts: i64, started: i64, finished: Option<i64>| json!({"name": "PowerOn", "state": state, "attempts": attempts, "startedAt": at(started), "finishedAt": finished.map(at)});
        let failed = |number: i64| json!({"attempts": number, "attemptsFor": {"step": "PowerOn", "intent": "x", "call": "c", "target": "t", "since": at(20)}});
        let with = |mut base: Value, more: Value| {
            base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            base
        };
        let server = |handed: Option<i64>| json!({"id": "17", "handler": "h/a", "configuration": "E3", "handedOverAt": handed.map(at)});
        let step = |record: Value| json!({"progress": {"percent": 15, "step": "PowerOn"}, "steps": [record], "server": server(None)});
        let way = [
            json!({}),
            step(power("Running", 1, 10, None)),
            with(step(power("Failed", 1, 10, None)), failed(1)),
            with(step(power("Running", 2, 300, None)), failed(1)),
            with(step(power("Failed", 2, 300, None)), failed(2)),
            with(step(power("Running", 3, 600, None)), failed(2)),
            step(power("Done", 3, 600, Some(620))),
            with(step(power("Done", 3, 600, Some(620))), json!({"server": server(Some(900)), "phase": "Active"})),
            with(step(power("Done", 3, 600, Some(620))), json!({"server": server(Some(900)), "phase": "Suspended"})),
        ];
        for pair in way.windows(2) {
            saved(&metrics, "h/a", &order(&pair[0]).status.unwrap(), &order(&pair[1]));
        }
        assert_eq!(metrics.step_attempts.of(["h/a", "PowerOn"]).get(), 3);
        assert_eq!(metrics.step_failures.of(["h/a", "PowerOn"]).get(), 2);
        let text = metrics.text().unwrap();
        for line in [
            "order_step_duration_seconds_sum{handler=\"h/a\",step=\"PowerOn\"} 600.0\n",
            "order_step_duration_seconds_count{handler=\"h/a\",step=\"PowerOn\"} 1\n",
            "order_activation_seconds_sum{handler=\"h/a\"} 900.0\n",
            "order_activation_seconds_count{handler=\"h/a\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_server_that_is_found_again_is_no_new_one() {
        let metrics = Metrics::default();
        let found = order(&json!({"server": {"id": "17", "handler": "h/a", "configuration": "E3", "handedOverAt": at(900)}}));
        saved(&metrics, "h/a", &OrderStatus::default(), &found);
        assert!(metrics.order_activation.is_empty());
    }
}
