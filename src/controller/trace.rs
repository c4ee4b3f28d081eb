//! One trace for each step of an order. A step takes many reconciles and outlives processes, so that the trace's id is not kept
//! anywhere: it follows from the order, the step and its begin. Reconciles and calls are spans of it; its root is told when it ends.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use kube::core::{NamespaceResourceScope, Resource};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use sha2::{Digest, Sha256};
use tracing::Span;
use tracing::field::{Empty, display};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::api::DedicatedServerOrder;
use crate::api::common::{ObjectKey, Time};
use crate::api::order_status::{OrderStatus, StepStatus};
use crate::panel::error::{Outcome, PanelError};
use crate::provisioning::call::Call;
use crate::provisioning::facts::{Facts, Look, Prepare};
use crate::provisioning::notices::Notice;
use crate::provisioning::step::State;

use super::otlp;
use super::stores::Guarded;

/// Target of the spans that are exported; nothing else is, so that no log line gets into a trace.
pub const TARGET: &str = "dci_operator::trace";

/// The trace of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTrace {
    id: TraceId,
    root: SpanId,
}

impl StepTrace {
    /// Follows from the order's uid, the name of the step, and when it began.
    #[must_use]
    pub fn new(uid: &str, step: &str, since: Option<&Time>) -> Self {
        let since = since.map_or(0, |t| t.0.as_second());
        // Neither a uid nor a step's name has a line break in it.
        let digest: [u8; 32] = Sha256::digest(format!("trace of a step\n{uid}\n{step}\n{since}")).into();
        let (mut id, mut root) = ([0; 16], [0; 8]);
        id.copy_from_slice(&digest[..16]);
        root.copy_from_slice(&digest[16..24]);
        Self { id: TraceId::from_bytes(id), root: SpanId::from_bytes(root) }
    }

    fn parent(self) -> Context {
        Context::new().with_remote_span_context(SpanContext::new(self.id, self.root, TraceFlags::SAMPLED, true, TraceState::default()))
    }
}

impl fmt::Display for StepTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

/// The step at hand, with its trace; none while nothing is to be done.
fn at_work<'s>(uid: &str, status: &'s OrderStatus) -> Option<(&'s str, StepTrace)> {
    let record = |name: &str| status.steps.iter().find(|s| s.name == name);
    let begun = |s: &&StepStatus| s.started_at.is_some() && s.finished_at.is_none() && State::parse(&s.state) != State::Pending;
    let step = match &status.in_flight {
        Some(flight) => Some(flight.step.as_str()),
        // Of steps that were left when the order was deleted, and of those that closing it takes, the latter are at hand.
        None => status.steps.iter().rev().find(begun).map(|s| s.name.as_str()).or_else(|| {
            let next = status.progress.as_ref().map(|p| p.step.as_str())?;
            record(next).is_none_or(|s| s.finished_at.is_none()).then_some(next)
        }),
    }?;
    Some((step, StepTrace::new(uid, step, record(step).and_then(|s| s.started_at.as_ref()))))
}

fn uid(order: &DedicatedServerOrder) -> &str {
    order.metadata.uid.as_deref().unwrap_or_default()
}

/// Around one reconcile of an object; what is logged in it says of which.
#[must_use]
pub fn reconcile<K>(object: &Guarded<K>) -> Span
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + fmt::Debug + serde::de::DeserializeOwned + 'static,
{
    let order = (object as &dyn Any).downcast_ref::<Guarded<DedicatedServerOrder>>().and_then(|guarded| guarded.0.as_ref().ok());
    let found = order.and_then(|order| Some((order, at_work(uid(order), order.status.as_ref()?)?)));
    let Some((order, (step, trace))) = found else {
        let meta = object.meta();
        let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        return tracing::error_span!("reconcile", kind = K::kind(&()).as_ref(), object = format_args!("{namespace}/{name}"));
    };
    // Of the gravest level, so that no filter of logs leaves the trace's id out.
    let span = tracing::error_span!(target: TARGET, "reconcile", order = %order.key(), step, trace_id = %trace);
    under(span, trace)
}

/// A span of a step's trace: below the span that it is made in, where that is of the same trace.
fn under(span: Span, trace: StepTrace) -> Span {
    let here = Span::current().context();
    if here.span().span_context().trace_id() != trace.id {
        // Without an exporter there is nothing to set.
        let _ = span.set_parent(trace.parent());
    }
    span
}

/// Around something that is asked of a panel, or made ready for it.
fn action(order: &DedicatedServerOrder, status: &OrderStatus, what: &str, handler: &ObjectKey, server: Option<&str>) -> Span {
    let Some((step, trace)) = at_work(uid(order), status) else {
        return tracing::error_span!("action", what, order = %order.key());
    };
    let span = tracing::error_span!(
        target: TARGET, "action", otel.name = what, order = %order.key(), step, trace_id = %trace, handler = %handler, server,
        outcome = Empty, error.code = Empty, otel.status_code = Empty,
    );
    under(span, trace)
}

/// Around a look at a panel.
#[must_use]
pub fn look(order: &DedicatedServerOrder, status: &OrderStatus, look: &Look, handler: &ObjectKey) -> Span {
    let (what, server) = match look {
        Look::Users => ("look at users", None),
        Look::Form(server) => ("look at the server", Some(server.0.as_str())),
        Look::Addresses(server) => ("look at addresses", Some(server.0.as_str())),
        Look::Pool => ("look at the address pool", None),
        Look::InstallForm(server) => ("look at templates", Some(server.0.as_str())),
        Look::Connections(server) => ("look at connections", Some(server.0.as_str())),
        Look::Locks => ("look at locks", None),
        Look::Licenses => ("look at licences", None),
        Look::License(_) => ("look at a licence", None),
    };
    action(order, status, what, handler, server)
}

/// Around something that is made ready in Kubernetes.
#[must_use]
pub fn prepare(order: &DedicatedServerOrder, status: &OrderStatus, what: Prepare, handler: &ObjectKey) -> Span {
    let what = match what {
        Prepare::ClientName => "record the client's name",
        Prepare::PanelPassword => "look for the panel password",
        Prepare::PasswordVersion => "look at the root password's version",
        Prepare::RootPassword => "read or make the root password",
        Prepare::LicenseKeys => "store licence keys",
    };
    action(order, status, what, handler, None)
}

/// Around a change.
#[must_use]
pub fn call(order: &DedicatedServerOrder, status: &OrderStatus, call: &Call, handler: &ObjectKey) -> Span {
    action(order, status, call.name(), handler, call.server().map(|s| s.0.as_str()))
}

/// How a look ended.
pub fn looked(span: &Span, facts: &Facts) {
    if let Some(error) = &facts.failed {
        failed(span, error);
    }
}

/// How a change ended.
pub fn outcome<T>(span: &Span, outcome: &Outcome<T>) {
    let (word, error) = match outcome {
        Outcome::Applied(_) => ("applied", None),
        Outcome::Refused(error) => ("refused", Some(error)),
        Outcome::Ambiguous(error) => ("ambiguous", Some(error)),
    };
    span.record("outcome", word);
    if let Some(error) = error {
        failed(span, error);
    }
}

/// The code alone: the panel's words stand in the order's status, where its readers are known.
fn failed(span: &Span, error: &PanelError) {
    span.record("error.code", display(error.code()));
    span.record("otel.status_code", "error");
}

/// Tells the roots of the steps that ended between two saved statuses, begin and end as the status has them.
pub fn ended(order: &DedicatedServerOrder, old: &OrderStatus, new: &OrderStatus) {
    for step in &new.steps {
        let (Some(since), Some(until)) = (&step.started_at, &step.finished_at) else { continue };
        let before = old.steps.iter().find(|s| s.name == step.name).and_then(|s| s.finished_at.as_ref());
        if before == Some(until) {
            continue;
        }
        let trace = StepTrace::new(uid(order), &step.name, Some(since));
        let status = match State::parse(&step.state) {
            State::Failed => Status::Error { description: Cow::Borrowed("failed") },
            State::Pending | State::Running | State::Waiting | State::Done | State::Skipped => Status::Ok,
        };
        let builder = SpanBuilder::from_name(step.name.clone()).with_start_time(at(since)).with_attributes([
            KeyValue::new("order", order.key().to_string()),
            KeyValue::new("order.uid", uid(order).to_owned()),
            KeyValue::new("step", step.name.clone()),
            KeyValue::new("state", step.state.clone()),
            KeyValue::new("attempts", i64::from(step.attempts)),
        ]);
        let tracer = opentelemetry::global::tracer(otlp::SCOPE);
        let mut span = otlp::with_ids(trace.id, trace.root, || tracer.build_with_context(builder, &Context::new()));
        span.set_status(status);
        span.end_with_timestamp(at(until));
    }
}

fn at(time: &Time) -> SystemTime {
    time.0.into()
}

/// The trace that an event belongs to: that of the step which it says is done, else that of the step at hand.
#[must_use]
pub fn of_notice(order: &DedicatedServerOrder, old: &OrderStatus, new: &OrderStatus, notice: &Notice) -> Option<StepTrace> {
    let named = notice.reason.strip_suffix("Done").and_then(|name| new.steps.iter().find(|s| s.name == name));
    match named {
        Some(step) => Some(StepTrace::new(uid(order), &step.name, step.started_at.as_ref())),
        None => at_work(uid(order), new).or_else(|| at_work(uid(order), old)).map(|(_, trace)| trace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: &serde_json::Value) -> OrderStatus {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn an_id_follows_from_order_step_and_begin() {
        let time = |text: &str| -> Time { serde_json::from_value(text.into()).unwrap() };
        let (a, b) = (time("2026-01-01T00:00:00Z"), time("2026-01-01T00:00:01Z"));
        let trace = StepTrace::new("u", "InstallOS", Some(&a));
        assert_eq!(trace, StepTrace::new("u", "InstallOS", Some(&a)));
        for other in [
            StepTrace::new("v", "InstallOS", Some(&a)),
            StepTrace::new("u", "PowerOn", Some(&a)),
            StepTrace::new("u", "InstallOS", Some(&b)),
            StepTrace::new("u", "InstallOS", None),
        ] {
            assert_ne!(trace.id, other.id);
            assert_ne!(trace.root, other.root);
        }
        let text = trace.to_string();
        assert!(text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()), "{text}");
    }

    #[test]
    fn the_step_at_hand_is_the_one_that_is_begun_and_not_over() {
        let begun = |name: &str| serde_json::json!({"name": name, "state": "Running", "startedAt": "2026-01-01T00:00:00Z"});
        let over = |name: &str| {
            let mut step = begun(name);
            step["state"] = "Done".into();
            step["finishedAt"] = "2026-01-01T00:01:00Z".into();
            step
        };
        let pending = |name: &str| serde_json::json!({"name": name, "state": "Pending"});
        let flight = |step: &str| {
            serde_json::json!({"operationId": "1", "step": step, "call": "x", "target": "t", "attempt": 1,
                "since": "2026-01-01T00:00:00Z", "outcome": "Sent"})
        };
        for (value, expected) in [
            (serde_json::json!({}), None),
            (serde_json::json!({"steps": [over("Allocate"), begun("InstallOS"), pending("HandOver")]}), Some("InstallOS")),
            (serde_json::json!({"steps": [begun("InstallOS"), over("PowerOff"), begun("Release")]}), Some("Release")),
            (serde_json::json!({"steps": [begun("InstallOS")], "inFlight": flight("PowerOff")}), Some("PowerOff")),
            (serde_json::json!({"steps": [over("Allocate")], "progress": {"percent": 5, "step": "PowerOn"}}), Some("PowerOn")),
            (serde_json::json!({"steps": [over("HandOver")], "progress": {"percent": 100, "step": "HandOver"}}), None),
        ] {
            assert_eq!(at_work("u", &status(&value)).map(|(step, _)| step), expected, "{value}");
        }
    }
}
