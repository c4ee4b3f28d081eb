//! Events: published off the reconcile path by one task, bounded, and dropped (counted) rather than waited for.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use crate::provisioning::notices::Notice;

/// Where events are handed in.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(ObjectReference, Notice)>,
}

/// Events that may wait to be published.
const QUEUE: usize = 256;

impl Events {
    /// Starts the publisher.
    #[must_use]
    pub fn start(client: Client) -> Self {
        let (queue, mut events) = mpsc::channel::<(ObjectReference, Notice)>(QUEUE);
        tokio::spawn(async move {
            let reporter = Reporter { controller: "dci-operator".into(), instance: std::env::var("HOSTNAME").ok() };
            let mut recorder = Recorder::new(client.clone(), reporter.clone());
            let mut published = 0_u32;
            while let Some((object, notice)) = events.recv().await {
                let event = Event {
                    type_: if notice.warning { EventType::Warning } else { EventType::Normal },
                    reason: notice.reason.clone(),
                    note: Some(notice.message.clone()),
                    action: notice.reason,
                    secondary: None,
                };
                let publish = tokio::time::timeout(Duration::from_secs(10), recorder.publish(&event, &object));
                match publish.await {
                    Ok(Ok(())) => {}
                    // A namespace that is being deleted takes no events: best effort.
                    Ok(Err(error)) => tracing::debug!(%error, "event not published"),
                    Err(_) => tracing::debug!("event not published in time"),
                }
                published += 1;
                // The recorder scans its whole cache for each event; a new one starts with an empty cache.
                if published.is_multiple_of(1024) {
                    recorder = Recorder::new(client.clone(), reporter.clone());
                }
            }
        });
        Self { queue }
    }

    /// Hands an event in; returns whether there was room.
    #[must_use]
    pub fn publish(&self, object: ObjectReference, notice: Notice) -> bool {
        self.queue.try_send((object, notice)).is_ok()
    }
}
