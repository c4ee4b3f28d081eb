//! The proxy by itself, in front of a server that counts what arrives and has one watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::any;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};

use super::{Events, Fault, OnEvent, Point, Proxy, Rule, Running, http};

/// A server behind a proxy.
struct Behind {
    proxy: Running,
    url: String,
    /// Where the server is, without the proxy.
    base: String,
    arrived: Arc<AtomicU32>,
    events: futures::channel::mpsc::UnboundedSender<String>,
}

impl Behind {
    async fn start() -> Self {
        let arrived = Arc::new(AtomicU32::new(0));
        let counted = arrived.clone();
        let (events, coming) = futures::channel::mpsc::unbounded::<String>();
        let coming = Arc::new(tokio::sync::Mutex::new(Some(coming)));
        let panel = any(move || async move { format!("answer {}", counted.fetch_add(1, Ordering::SeqCst) + 1) });
        let watch = any(move || async move {
            let coming = coming.lock().await.take().unwrap_or_else(|| futures::channel::mpsc::unbounded().1);
            Body::from_stream(coming.map(|text| Ok::<_, std::io::Error>(Bytes::from(text))))
        });
        let router = Router::new().route("/dcimgr", panel).route("/apis/g/v1/namespaces/shop/things", watch);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let proxy = Proxy::start(&[]);
        let url = proxy.panel("dci", &format!("{base}/dcimgr")).await;
        Self { proxy, url, base, arrived, events }
    }

    /// One request: the answer, or nothing.
    async fn ask(&self, func: &str) -> Option<(u16, String)> {
        let request = http(Vec::new(), false).post(&self.url).body(format!("func={func}&elid=17"));
        let answer = request.timeout(Duration::from_secs(20)).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }

    fn arrived(&self) -> u32 {
        self.arrived.load(Ordering::SeqCst)
    }

    async fn with(&self, fault: Fault) -> Option<(u16, String)> {
        self.proxy.clear();
        self.proxy.add(Rule::first(1, fault, |asked| asked.point.side == "dci"));
        self.ask("server").await
    }

    /// A watch of things, as lines.
    async fn watch(&self) -> reqwest::Response {
        let base = self.url.strip_suffix("/dcimgr").unwrap();
        let url = format!("{base}/apis/g/v1/namespaces/shop/things?watch=true");
        http(Vec::new(), false).get(url).send().await.unwrap()
    }

    async fn happens(&self, name: &str, version: u32) {
        let event = json!({"type": "MODIFIED", "object": {"kind": "Thing", "metadata": {
            "namespace": "shop", "name": name, "resourceVersion": version.to_string()}}});
        self.events.clone().send(format!("{event}\n")).await.unwrap();
    }
}

/// The next event: name and version.
async fn next(watch: &mut reqwest::Response) -> Option<(String, String)> {
    let chunk = tokio::time::timeout(Duration::from_secs(20), watch.chunk()).await.unwrap().ok()??;
    let event: Value = serde_json::from_slice(&chunk).ok()?;
    let metadata = &event["object"]["metadata"];
    Some((metadata["name"].as_str()?.to_owned(), metadata["resourceVersion"].as_str()?.to_owned()))
}

fn is(name: &str, version: &str) -> (String, String) {
    (name.to_owned(), version.to_owned())
}

#[tokio::test]
async fn each_fault_is_what_it_says() {
    let behind = Behind::start().await;
    let whole = |count: u32| Some((200, format!("answer {count}")));
    assert_eq!((behind.ask("server").await, behind.arrived()), (whole(1), 1));
    assert_eq!((behind.with(Fault::Drop).await, behind.arrived()), (None, 1));
    assert_eq!((behind.with(Fault::DropAnswer).await, behind.arrived()), (None, 2));
    assert_eq!((behind.with(Fault::Duplicate).await, behind.arrived()), (whole(3), 4));
    assert_eq!((behind.with(Fault::Status(503, false)).await.unwrap().0, behind.arrived()), (503, 4));
    assert_eq!((behind.with(Fault::Status(500, true)).await.unwrap().0, behind.arrived()), (500, 5));
    let garbage = behind.with(Fault::Garbage).await.unwrap();
    assert_eq!((garbage.0, garbage.1.contains("answer"), behind.arrived()), (200, false, 6));
    assert_eq!((behind.with(Fault::Truncate).await, behind.arrived()), (None, 7));
    let began = Instant::now();
    assert_eq!((behind.with(Fault::Late(Duration::from_millis(300))).await, behind.arrived()), (whole(8), 8));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(behind.ask("server").await, whole(9), "each of them once");
}

#[tokio::test]
async fn a_late_request_lands_when_nobody_waits_any_more() {
    let behind = Behind::start().await;
    behind.proxy.add(Rule::first(1, Fault::Late(Duration::from_millis(500)), |_| true));
    let request = http(Vec::new(), false).post(&behind.url).body("func=server").timeout(Duration::from_millis(100));
    assert!(request.send().await.is_err());
    assert_eq!(behind.arrived(), 0);
    let mut changes = behind.proxy.changes();
    while behind.arrived() == 0 {
        changes.changed().await.unwrap();
    }
}

#[tokio::test]
async fn a_kill_that_finds_nobody_is_on_record() {
    let behind = Behind::start().await;
    assert_eq!(behind.with(Fault::Kill).await, None);
    let mut child = std::process::Command::new("true").spawn().unwrap();
    behind.proxy.victim(child.id());
    child.wait().unwrap();
    assert_eq!(behind.with(Fault::KillBefore).await, None);
    assert_eq!(behind.proxy.failed().len(), 2, "{:?}", behind.proxy.failed());
}

#[tokio::test]
async fn who_was_killed_is_not_killed_again() {
    let behind = Behind::start().await;
    let mut child = tokio::process::Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
    behind.proxy.victim(child.id().unwrap());
    assert_eq!(behind.with(Fault::Kill).await, None);
    child.wait().await.unwrap();
    assert_eq!(behind.with(Fault::Kill).await, None);
    let met = behind.proxy.asked().iter().filter(|asked| asked.fault.is_some()).count();
    assert_eq!((met, behind.proxy.failed().len()), (1, 0));
}

#[tokio::test]
async fn the_victim_dies_before_it_has_an_answer() {
    let behind = Behind::start().await;
    let mut child = tokio::process::Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
    behind.proxy.victim(child.id().unwrap());
    behind.proxy.add(Rule::first(1, Fault::Kill, |_| true));
    assert_eq!((behind.ask("server").await, behind.arrived()), (None, 1));
    assert!(!child.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_point_is_met_once_and_by_its_number() {
    let behind = Behind::start().await;
    let point: Point = "dci server 17 #2".parse().unwrap();
    behind.proxy.add(Rule::at(point.clone(), Fault::Drop));
    assert!(behind.ask("server").await.is_some());
    assert!(behind.ask("user").await.is_some());
    assert!(behind.ask("server").await.is_none());
    assert!(behind.ask("server").await.is_some());
    let met: Vec<Point> = behind.proxy.asked().into_iter().filter(|a| a.fault.is_some()).map(|a| a.point).collect();
    assert_eq!(met, [point]);
    behind.proxy.count_anew();
    behind.ask("server").await;
    assert_eq!(behind.proxy.asked().last().unwrap().point.to_string(), "dci server 17 #1");
    behind.proxy.down("dci", true);
    assert!(behind.ask("server").await.is_none());
    behind.proxy.down("dci", false);
    assert!(behind.ask("server").await.is_some());
}

#[tokio::test]
async fn events_are_held_skipped_doubled_repeated_and_cut() {
    let mut behind = Behind::start().await;
    // The same server, as an API server this time.
    behind.url = format!("{}/dcimgr", behind.proxy.kube_at(&behind.base).await);
    let mut watch = behind.watch().await;
    let of = |name: &str| Events::of("things").named("shop", name);
    let held = behind.proxy.on_events(of("a"), OnEvent::Hold);
    behind.happens("a", 1).await;
    behind.happens("b", 2).await;
    assert_eq!(next(&mut watch).await, Some(is("b", "2")), "only the one is held");
    assert_eq!((behind.proxy.release(held), behind.proxy.met_by(held)), (1, 1));
    assert_eq!(next(&mut watch).await, Some(is("a", "1")));
    let skipped = behind.proxy.on_events(of("a"), OnEvent::Skip(1));
    assert_eq!(behind.proxy.met_by(skipped), 0);
    behind.happens("a", 3).await;
    behind.happens("a", 4).await;
    assert_eq!(next(&mut watch).await, Some(is("a", "4")));
    assert_eq!(behind.proxy.met_by(skipped), 1, "the next one is not its any more");
    let old = behind.proxy.events(&of("a"))[0].clone();
    assert_eq!(behind.proxy.inject(&old), 1);
    assert_eq!(next(&mut watch).await, Some(is("a", "1")), "an old one once more");
    assert_eq!(behind.proxy.events(&of("a")).len(), 3, "what was skipped is on record");
    let cut = behind.proxy.on_events(of("b"), OnEvent::CutMidFrame);
    behind.happens("b", 5).await;
    assert_eq!(next(&mut watch).await, None);
    assert!(watch.chunk().await.is_err());
    assert_eq!(behind.proxy.met_by(cut), 1);
}
