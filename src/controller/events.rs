//! Events: published off the reconcile path by one task, bounded, and dropped (counted) rather than waited for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;

use crate::provisioning::notices::Notice;

use super::trace::StepTrace;

/// Annotation of an event: the trace that it belongs to.
const TRACE_ANNOTATION: &str = "dci-operator.dev/trace-id";
/// Who reports.
const CONTROLLER: &str = "dci-operator";
/// Events that may wait to be published.
const QUEUE: usize = 256;
/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an event is repeated rather than made anew.
const SERIES: Duration = Duration::from_mins(6);
/// Events that are remembered to be repeated.
const REMEMBERED: usize = 1024;
/// The longest part of an object's name in the name of its event, in bytes.
const NAME: usize = 200;

struct Said {
    object: ObjectReference,
    notice: Notice,
    trace: Option<StepTrace>,
}

/// Where events are handed in.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<Said>,
}

impl Events {
    /// Starts the publisher.
    #[must_use]
    pub fn start(client: Client) -> Self {
        let (queue, mut events) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let mut publisher = Publisher { client, published: BTreeMap::new() };
            while let Some(said) = events.recv().await {
                match tokio::time::timeout(PATIENCE, publisher.publish(&said)).await {
                    Ok(Ok(())) => {}
                    // A namespace that is being deleted takes no events: best effort.
                    Ok(Err(error)) => tracing::debug!(%error, "event not published"),
                    Err(_) => tracing::debug!("event not published in time"),
                }
            }
        });
        Self { queue }
    }

    /// Hands an event in; returns whether there was room.
    #[must_use]
    pub fn publish(&self, object: ObjectReference, notice: Notice) -> bool {
        self.publish_traced(object, notice, None)
    }

    /// The same for an event of a step.
    #[must_use]
    pub fn publish_traced(&self, object: ObjectReference, notice: Notice, trace: Option<StepTrace>) -> bool {
        self.queue.try_send(Said { object, notice, trace }).is_ok()
    }
}

/// What makes two events one: the same said of the same object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    uid: String,
    warning: bool,
    reason: String,
    message: String,
}

struct Published {
    name: String,
    times: i32,
    at: Instant,
}

struct Publisher {
    client: Client,
    published: BTreeMap<Key, Published>,
}

impl Publisher {
    async fn publish(&mut self, said: &Said) -> Result<(), kube::Error> {
        let Said { object, notice, trace } = said;
        self.forget();
        let key = Key {
            uid: object.uid.clone().unwrap_or_default(),
            warning: notice.warning,
            reason: notice.reason.clone(),
            message: notice.message.clone(),
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), object.namespace.as_deref().unwrap_or("default"));
        let now = MicroTime(Timestamp::now());
        if let Some(before) = self.published.get_mut(&key) {
            before.times = before.times.saturating_add(1);
            before.at = Instant::now();
            let patch = json!({
                "metadata": {"annotations": annotations(*trace)},
                "series": {"count": before.times, "lastObservedTime": now},
            });
            match api.patch(&before.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => return Ok(()),
                // Events are removed after a while, or by somebody.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let stored = api.create(&PostParams::default(), &event(object, notice, *trace, now)).await?;
        self.published.insert(key, Published { name: stored.name_any(), times: 1, at: Instant::now() });
        Ok(())
    }

    /// What is not repeated any more; and all of it, when there is too much.
    fn forget(&mut self) {
        self.published.retain(|_, event| event.at.elapsed() < SERIES);
        if self.published.len() >= REMEMBERED {
            self.published.clear();
        }
    }
}

fn annotations(trace: Option<StepTrace>) -> Option<BTreeMap<String, String>> {
    trace.map(|trace| BTreeMap::from([(TRACE_ANNOTATION.to_owned(), trace.to_string())]))
}

fn event(object: &ObjectReference, notice: &Notice, trace: Option<StepTrace>, now: MicroTime) -> Event {
    // Names of objects are ASCII.
    let name: String = object.name.as_deref().unwrap_or_default().chars().take(NAME).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", name.trim_end_matches(['.', '-']), now.0.as_nanosecond())),
            namespace: Some(object.namespace.clone().unwrap_or_else(|| "default".into())),
            annotations: annotations(trace),
            ..ObjectMeta::default()
        },
        type_: Some(if notice.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(notice.reason.clone()),
        action: Some(notice.reason.clone()),
        note: Some(notice.message.clone()),
        event_time: Some(now),
        regarding: Some(object.clone()),
        reporting_controller: Some(CONTROLLER.into()),
        reporting_instance: Some(std::env::var("HOSTNAME").unwrap_or_else(|_| CONTROLLER.into())),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_events_are_names_whatever_the_objects_name() {
        let notice = Notice { warning: false, reason: "R".into(), message: "m".into() };
        let object = |name: String| ObjectReference { name: Some(name), namespace: Some("n".into()), ..ObjectReference::default() };
        let now = MicroTime(Timestamp::UNIX_EPOCH);
        for (name, expected) in [("web-01".to_owned(), "web-01.0"), (format!("{}.b", "a".repeat(199)), &format!("{}.0", "a".repeat(199)))] {
            let event = event(&object(name), &notice, None, now.clone());
            assert_eq!(event.metadata.name.as_deref(), Some(expected));
            assert!(event.metadata.annotations.is_none());
        }
    }
}
