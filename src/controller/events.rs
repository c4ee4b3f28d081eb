//! Events: published off the reconcile path by one task, bounded, and dropped (counted) rather than waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::json;
use tokio::sync::mpsc;

use crate::provisioning::notices::Notice;

use super::event_series::{Publish, Series};
use super::trace::StepTrace;

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

/// Annotation of an event: the trace that it belongs to.
const TRACE_ANNOTATION: &str = "dci-operator.dev/trace-id";

/// Events that may wait to be published.
const QUEUE: usize = 256;
/// The longest time that one of them may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// `reportingController`.
const CONTROLLER: &str = "dci-operator";

impl Events {
    /// Starts the publisher.
    #[must_use]
    pub fn start(client: Client) -> Self {
        let (queue, mut events) = mpsc::channel::<Said>(QUEUE);
        tokio::spawn(async move {
            let instance = std::env::var("HOSTNAME").unwrap_or_else(|_| CONTROLLER.into());
            let mut publisher = Publisher { client, instance, series: Series::default() };
            while let Some(said) = events.recv().await {
                publisher.publish(&said).await;
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

struct Publisher {
    client: Client,
    instance: String,
    series: Series,
}

impl Publisher {
    /// One request; two where an event that is to be seen again has expired. Best effort: a namespace that is being deleted takes none.
    async fn publish(&mut self, said: &Said) {
        let Said { object, notice, .. } = said;
        for _ in 0..2 {
            let now = Timestamp::now();
            let what = self.series.of(object, notice, now);
            let (Publish::New { name, .. } | Publish::Again { name, .. }) = &what;
            match tokio::time::timeout(PATIENCE, self.send(said, &what, now)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    self.series.forget(name);
                    let expired = matches!(&error, Error::Api(status) if status.code == 404) && matches!(what, Publish::Again { .. });
                    if !expired {
                        tracing::debug!(%error, "event not published");
                        return;
                    }
                }
                Err(_) => {
                    self.series.forget(name);
                    tracing::debug!("event not published in time");
                    return;
                }
            }
        }
    }

    async fn send(&self, said: &Said, what: &Publish, now: Timestamp) -> Result<(), Error> {
        let object = &said.object;
        let events: Api<Event> = Api::namespaced(self.client.clone(), object.namespace.as_deref().unwrap_or("default"));
        match what {
            Publish::New { name, message } => {
                events.create(&PostParams::default(), &self.event(said, name, message, now)).await?;
            }
            Publish::Again { name, count } => {
                let series = json!({
                    "metadata": {"annotations": annotations(said.trace)},
                    "series": {"count": count, "lastObservedTime": MicroTime(now)},
                });
                events.patch(name, &PatchParams::default(), &Patch::Merge(series)).await?;
            }
        }
        Ok(())
    }

    fn event(&self, said: &Said, name: &str, message: &str, now: Timestamp) -> Event {
        let Said { object, notice, trace } = said;
        Event {
            metadata: ObjectMeta {
                namespace: object.namespace.clone(),
                name: Some(name.to_owned()),
                annotations: annotations(*trace),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.into()),
            reason: Some(notice.reason.clone()),
            action: Some(notice.reason.clone()),
            note: Some(message.to_owned()),
            regarding: Some(object.clone()),
            reporting_controller: Some(CONTROLLER.into()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

fn annotations(trace: Option<StepTrace>) -> Option<BTreeMap<String, String>> {
    trace.map(|trace| BTreeMap::from([(TRACE_ANNOTATION.to_owned(), trace.to_string())]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    /// Events as a server keeps them, by name.
    type Kept = Arc<Mutex<BTreeMap<String, Value>>>;

    fn publisher(kept: &Kept) -> Publisher {
        let kept = kept.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let kept = kept.clone();
            async move {
                let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
                let body: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
                assert!(path.starts_with("/apis/events.k8s.io/v1/namespaces/shop/events"), "{path}");
                let mut kept = kept.lock().unwrap();
                let known = path.rsplit('/').next().and_then(|name| kept.get_mut(name));
                let (code, answer) = match (method.as_str(), known) {
                    ("POST", _) => {
                        let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                        assert!(kept.insert(name, body.clone()).is_none(), "two of one name");
                        (201, body)
                    }
                    ("PATCH", Some(event)) => {
                        event["series"] = body["series"].clone();
                        assert_eq!(body.as_object().unwrap().len(), 1, "nothing else of an event may change");
                        (200, event.clone())
                    }
                    _ => (
                        404,
                        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": "gone"}),
                    ),
                };
                Ok::<_, Infallible>(http::Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
            }
        });
        Publisher { client: Client::new(service, "shop"), instance: "pod-1".into(), series: Series::default() }
    }

    fn web() -> ObjectReference {
        ObjectReference { name: Some("web".into()), namespace: Some("shop".into()), uid: Some("u".into()), ..ObjectReference::default() }
    }

    fn raised(message: &str) -> Notice {
        Notice { warning: true, reason: "TaskRaised".into(), message: message.into() }
    }

    fn said(message: &str) -> Said {
        Said { object: web(), notice: raised(message), trace: None }
    }

    #[tokio::test]
    async fn each_text_is_shown_and_the_same_one_is_counted() {
        let kept = Kept::default();
        let mut publisher = publisher(&kept);
        for message in ["task 1", "task 2", "task 1", "task 3", "task 1"] {
            publisher.publish(&said(message)).await;
        }
        let shown: BTreeMap<String, Option<i64>> = {
            let kept = kept.lock().unwrap();
            kept.values().map(|e| (e["note"].as_str().unwrap().to_owned(), e["series"]["count"].as_i64())).collect()
        };
        let wanted = [("task 1", Some(3)), ("task 2", None), ("task 3", None)];
        assert_eq!(shown, wanted.map(|(note, count)| (note.to_owned(), count)).into());
        // The server has let them expire: what is said again is shown again.
        kept.lock().unwrap().clear();
        publisher.publish(&said("task 1")).await;
        let kept = kept.lock().unwrap();
        let event = kept.values().next().unwrap();
        assert_eq!(
            (event["note"].as_str(), event["type"].as_str(), event["reason"].as_str()),
            (Some("task 1"), Some("Warning"), Some("TaskRaised"))
        );
        assert_eq!((kept.len(), event["regarding"]["uid"].as_str()), (1, Some("u")));
    }
}
