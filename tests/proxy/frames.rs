//! Events of watches on their way: held back, lost, doubled, cut in the middle, or made up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::forward::Cut;
use super::point::Place;

/// Which events: of all kinds, of a kind, of a namespace, of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Plural, such as `dedicatedserverorders`.
    pub resource: Option<String>,
    /// Namespace, by its own name.
    pub namespace: Option<String>,
    /// Name of the object.
    pub name: Option<String>,
}

impl Events {
    /// All of them.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those of a kind, by its plural.
    pub fn of(resource: &str) -> Self {
        Self { resource: Some(resource.to_owned()), ..Self::default() }
    }

    /// Of these, those of one object.
    #[must_use]
    pub fn named(mut self, namespace: &str, name: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self.name = Some(name.to_owned());
        self
    }

    /// What a watch with this path is for.
    pub(super) fn of_path(path: &str) -> Self {
        let place = Place::of(path);
        let namespace = Some(place.namespace).filter(|n| !n.is_empty());
        Self { resource: Some(place.resource), namespace, name: None }
    }

    /// Whether these and those may have something in common.
    fn meets(&self, other: &Self) -> bool {
        let fits = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
        fits(&self.resource, &other.resource) && fits(&self.namespace, &other.namespace) && fits(&self.name, &other.name)
    }
}

/// What happens to events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEvent {
    /// They wait for `Proxy::release`, bookmarks of their watch are lost meanwhile; other objects' events pass.
    Hold,
    /// The next so many are lost; whoever watches learns of the object with the one after them, or with the next list.
    Skip(usize),
    /// The next one comes twice.
    Duplicate,
    /// The watch breaks off in the middle of the next one.
    CutMidFrame,
    /// Instead of the next one: 410, which ends the watch.
    Gone,
}

type Line = mpsc::UnboundedSender<Result<Bytes, Cut>>;

struct Watch {
    id: u64,
    events: Events,
    line: Line,
}

struct Held {
    watch: u64,
    frame: Bytes,
}

struct Filter {
    id: u64,
    events: Events,
    what: OnEvent,
    held: Vec<Held>,
}

#[derive(Default)]
struct Inner {
    last: u64,
    watches: Vec<Watch>,
    filters: Vec<Filter>,
    /// How many events met each filter, also one that is over.
    hits: BTreeMap<u64, usize>,
    seen: Vec<(Events, Value)>,
}

/// Where the events of all watches of a proxy come through.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<Inner>>);

/// Whether a watch goes on.
enum Next {
    On,
    Over,
}

impl Gate {
    pub(super) fn add(&self, events: Events, what: OnEvent) -> u64 {
        let mut inner = self.0.lock().unwrap();
        inner.last += 1;
        let id = inner.last;
        inner.filters.push(Filter { id, events, what, held: Vec::new() });
        id
    }

    pub(super) fn release(&self, rule: u64) -> usize {
        let mut inner = self.0.lock().unwrap();
        let Some(index) = inner.filters.iter().position(|f| f.id == rule) else { return 0 };
        let filter = inner.filters.remove(index);
        let sent = filter.held.into_iter().filter(|held| {
            let watch = inner.watches.iter().find(|w| w.id == held.watch);
            watch.is_some_and(|w| w.line.send(Ok(held.frame.clone())).is_ok())
        });
        sent.count()
    }

    pub(super) fn forget(&self, rule: u64) -> usize {
        let mut inner = self.0.lock().unwrap();
        let Some(index) = inner.filters.iter().position(|f| f.id == rule) else { return 0 };
        inner.filters.remove(index).held.len()
    }

    pub(super) fn hits(&self, rule: u64) -> usize {
        self.0.lock().unwrap().hits.get(&rule).copied().unwrap_or_default()
    }

    pub(super) fn seen(&self, events: &Events) -> Vec<Value> {
        let inner = self.0.lock().unwrap();
        inner.seen.iter().filter(|(of, _)| events.meets(of)).map(|(_, event)| event.clone()).collect()
    }

    pub(super) fn inject(&self, event: &Value) -> usize {
        let frame = Bytes::from(format!("{event}\n"));
        let object = &event["object"];
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        let events = Events {
            resource: Some(format!("{kind}s")),
            namespace: object["metadata"]["namespace"].as_str().map(str::to_owned),
            name: None,
        };
        let inner = self.0.lock().unwrap();
        inner.watches.iter().filter(|w| w.events.meets(&events) && w.line.send(Ok(frame.clone())).is_ok()).count()
    }

    pub(super) fn cut(&self, events: &Events) -> usize {
        let mut inner = self.0.lock().unwrap();
        let before = inner.watches.len();
        let (cut, left): (Vec<Watch>, Vec<Watch>) = inner.watches.drain(..).partition(|w| w.events.meets(events));
        for watch in cut {
            let _ = watch.line.send(Err(Cut));
        }
        inner.watches = left;
        before - inner.watches.len()
    }

    pub(super) fn standing(&self, events: &Events) -> usize {
        self.0.lock().unwrap().watches.iter().filter(|w| w.events.meets(events) && !w.line.is_closed()).count()
    }

    /// The answer of a watch, event by event.
    pub(super) fn body(&self, events: Events, response: reqwest::Response) -> Body {
        let (line, frames) = mpsc::unbounded_channel();
        let mut inner = self.0.lock().unwrap();
        inner.last += 1;
        let id = inner.last;
        inner.watches.push(Watch { id, events: events.clone(), line: line.clone() });
        drop(inner);
        let gate = self.clone();
        tokio::spawn(async move {
            gate.read(id, &events, line, response).await;
            gate.0.lock().unwrap().watches.retain(|w| w.id != id);
        });
        Body::from_stream(UnboundedReceiverStream::new(frames))
    }

    /// Reads until either side ends it.
    async fn read(&self, watch: u64, events: &Events, line: Line, mut response: reqwest::Response) {
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            let chunk = tokio::select! {
                () = line.closed() => return,
                chunk = response.chunk() => chunk,
            };
            match chunk {
                Ok(Some(chunk)) => buffer.extend_from_slice(&chunk),
                Ok(None) => return,
                Err(_) => {
                    let _ = line.send(Err(Cut));
                    return;
                }
            }
            while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                let frame: Bytes = buffer.drain(..=end).collect::<Vec<u8>>().into();
                match self.pass(watch, events, &line, frame) {
                    Next::On => {}
                    Next::Over => return,
                }
            }
        }
    }

    /// One event.
    fn pass(&self, watch: u64, events: &Events, line: &Line, frame: Bytes) -> Next {
        let event: Value = serde_json::from_slice(&frame).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let metadata = &event["object"]["metadata"];
        let mut inner = self.0.lock().unwrap();
        // Cut by hand: what comes now is too late.
        if !inner.watches.iter().any(|w| w.id == watch) {
            return Next::Over;
        }
        if event["type"] == "BOOKMARK" {
            // A bookmark beyond what is held would be a promise that is not kept.
            if !inner.filters.iter().any(|f| f.held.iter().any(|held| held.watch == watch)) {
                let _ = line.send(Ok(frame));
            }
            return Next::On;
        }
        let of = Events { resource: events.resource.clone(), namespace: text(&metadata["namespace"]), name: text(&metadata["name"]) };
        inner.seen.push((of.clone(), event));
        let Some(index) = inner.filters.iter().position(|f| f.events.meets(&of)) else {
            let _ = line.send(Ok(frame));
            return Next::On;
        };
        let id = inner.filters[index].id;
        *inner.hits.entry(id).or_default() += 1;
        let filter = &mut inner.filters[index];
        let (next, done) = match &mut filter.what {
            OnEvent::Hold => {
                filter.held.push(Held { watch, frame });
                (Next::On, false)
            }
            OnEvent::Skip(0) => {
                let _ = line.send(Ok(frame));
                (Next::On, true)
            }
            OnEvent::Skip(left) => {
                *left -= 1;
                (Next::On, *left == 0)
            }
            OnEvent::Duplicate => {
                let _ = line.send(Ok(frame.clone()));
                let _ = line.send(Ok(frame));
                (Next::On, true)
            }
            OnEvent::CutMidFrame => {
                let _ = line.send(Ok(frame.slice(..frame.len() / 2)));
                let line = line.clone();
                // What has been sent gets a moment to arrive before the connection breaks.
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let _ = line.send(Err(Cut));
                });
                (Next::Over, true)
            }
            OnEvent::Gone => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired",
                                    "message": "too old resource version", "code": 410});
                let _ = line.send(Ok(format!("{}\n", json!({"type": "ERROR", "object": status})).into()));
                (Next::Over, true)
            }
        };
        if done {
            inner.filters.remove(index);
        }
        next
    }
}
