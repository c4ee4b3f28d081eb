//! Traps of the Kubernetes client library, each measured before and each shown here to be avoided.

#![cfg(feature = "operator")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dci_operator::api::DedicatedServerOrder;
use dci_operator::controller::context::{Context, FirstLists, Wake};
use dci_operator::controller::events::Events;
use dci_operator::controller::locks::Locks;
use dci_operator::controller::memory::Memory;
use dci_operator::controller::notify::Hooks;
use dci_operator::controller::panels::Panels;
use dci_operator::controller::stores::{Guarded, Kind, Scope, watched};
use dci_operator::controller::{clients, runner};
use dci_operator::provisioning::notices::Notice;
use futures::StreamExt;
use kube::client::Body;
use kube::runtime::controller::Action;
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

const WAIT: Duration = Duration::from_secs(20);

fn order(name: &str) -> Value {
    json!({
        "apiVersion": "dci-operator.dev/v1alpha1",
        "kind": "DedicatedServerOrder",
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("u-{name}"), "resourceVersion": "5",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "yes"},
            "managedFields": [{"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]
        },
        "spec": {
            "handlerRef": {"name": "msk-1"}, "client": {"username": "acme"}, "configuration": {"serverType": "E3-16G"},
            "domain": "web.example.net", "operatingSystem": {"template": "ISPsystem__Debian-12-x86_64"}
        }
    })
}

/// A client whose server answers lists with these objects, never ends a watch, and notes each request.
fn server(items: Vec<Value>, requests: Arc<Mutex<Vec<String>>>) -> Client {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let uri = request.uri().to_string();
        requests.lock().unwrap().push(uri.clone());
        let list = json!({
            "apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrderList", "metadata": {"resourceVersion": "9"}, "items": items
        });
        async move {
            if uri.contains("watch=true") {
                futures::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(http::Response::builder().status(200).body(Body::from(list.to_string().into_bytes())).unwrap())
        }
    });
    Client::new(service, "shop")
}

/// Runs a watch until its first list is complete; returns the cache.
async fn synced(client: &Client) -> Kind<DedicatedServerOrder> {
    let watched = watched::<DedicatedServerOrder>(client, None);
    let mut all: Vec<_> = (0..3).map(|_| watched.synced.clone()).collect();
    tokio::spawn(watched.stream.for_each(|_| async {}));
    // Trap 2: several waiting for one cache lost their wake-ups. These wait on the stream's own word, and all get it.
    for synced in &mut all {
        tokio::time::timeout(WAIT, synced.wait_for(|s| *s)).await.expect("every waiter is woken").unwrap();
    }
    Kind::new(vec![watched.store])
}

#[tokio::test]
async fn everybody_who_waits_for_the_first_list_is_woken() {
    let client = server(vec![order("a")], Arc::default());
    assert_eq!(synced(&client).await.read(|o| o.metadata.name.clone()), ["a"]);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_stops_nobody() {
    let mut poison = order("b");
    poison["spec"]["addresses"] = json!({"ipv4": "two"});
    let client = server(vec![order("a"), poison, order("c")], Arc::default());
    let orders = synced(&client).await;
    let mut names = orders.read(|o| o.metadata.name.clone());
    names.sort();
    assert_eq!(names, ["a", "c"]);
    let bad: Vec<_> = orders.all().iter().filter_map(|o| o.0.as_ref().err().map(|e| (e.metadata.name.clone(), e.error.clone()))).collect();
    assert_eq!(bad.len(), 1, "its metadata is kept, so that it can be told");
    assert!(bad[0].0.as_deref() == Some("b") && bad[0].1.contains("two"), "{bad:?}");
}

#[tokio::test]
async fn what_nobody_reads_is_not_cached() {
    let client = server(vec![order("a")], Arc::default());
    let metadata = synced(&client).await.read(|o| Some(o.metadata.clone())).remove(0);
    assert_eq!(metadata.managed_fields.unwrap_or_default(), []);
    // Keys stay, since patches of metadata are made from what is cached; the applied manifest does not.
    let annotations = metadata.annotations.unwrap_or_default();
    assert_eq!(annotations["kept"], "yes");
    assert_eq!(annotations["kubectl.kubernetes.io/last-applied-configuration"], "");
}

#[tokio::test]
async fn caches_are_filled_by_plain_lists_and_watches_are_reopened_every_minute() {
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let client = server(vec![], requests.clone());
    synced(&client).await;
    let watch = async {
        loop {
            if let Some(uri) = requests.lock().unwrap().iter().find(|u| u.contains("watch=true")) {
                return uri.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    let watch = tokio::time::timeout(WAIT, watch).await.expect("a watch follows the list");
    assert!(watch.contains("timeoutSeconds=60"), "{watch}");
    let requests = requests.lock().unwrap();
    assert!(requests[0].contains("limit=250") && !requests[0].contains("watch=true"), "{requests:?}");
    assert!(!requests.iter().any(|u| u.contains("sendInitialEvents")), "{requests:?}");
}

#[tokio::test]
async fn a_watch_that_is_refused_waits_for_itself_only_and_goes_on() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let count = refusals.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let refuse = count.fetch_add(1, Ordering::SeqCst) < 2;
        let watch = request.uri().to_string().contains("watch=true");
        let list = json!({"apiVersion": "dci-operator.dev/v1alpha1", "kind": "DedicatedServerOrderList", "metadata": {"resourceVersion": "9"}, "items": [order("a")]});
        let refusal =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "forbidden", "reason": "Forbidden", "code": 403});
        async move {
            if watch {
                futures::future::pending::<()>().await;
            }
            let (status, body) = if refuse { (403, refusal) } else { (200, list) };
            Ok::<_, Infallible>(http::Response::builder().status(status).body(Body::from(body.to_string().into_bytes())).unwrap())
        }
    });
    // No error reaches the controller, whose one back-off would be shared by all its triggers.
    let orders = synced(&Client::new(service, "shop")).await;
    assert_eq!(orders.read(|o| o.metadata.name.clone()), ["a"]);
    assert!(refusals.load(Ordering::SeqCst) >= 3);
}

/// A server on a real port that plays one script for each connection.
async fn port(script: impl Fn(usize) -> Option<Vec<u8>> + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    tokio::spawn(async move {
        let mut kept = VecDeque::new();
        loop {
            let Ok((mut socket, _)) = listener.accept().await else { return };
            let mut buffer = [0_u8; 4096];
            let _ = socket.read(&mut buffer).await;
            let number = count.fetch_add(1, Ordering::SeqCst);
            if let Some(answer) = script(number) {
                let _ = socket.write_all(&answer).await;
            }
            kept.push_back(socket);
        }
    });
    (address, served)
}

fn config(address: SocketAddr) -> Config {
    Config::new(format!("http://{address}").parse().unwrap())
}

#[tokio::test]
async fn a_server_that_never_answers_does_not_hang_a_request() {
    let (address, _) = port(|_| None).await;
    let api: Api<DedicatedServerOrder> =
        Api::namespaced(clients::clients_with(&config(address), Duration::from_millis(500), &Arc::default()).unwrap().api, "shop");
    let began = Instant::now();
    let answer = tokio::time::timeout(WAIT, api.get("a")).await.expect("the request ends by itself");
    assert!(answer.is_err());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn no_request_is_repeated_behind_our_back() {
    let busy = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 3600\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (address, served) = port(move |_| Some(busy.to_vec())).await;
    let made = clients::clients(&config(address), &Arc::default()).unwrap();
    for client in [made.api, made.watch] {
        let before = served.load(Ordering::SeqCst);
        let api: Api<DedicatedServerOrder> = Api::namespaced(client, "shop");
        tokio::time::timeout(WAIT, api.get("a")).await.expect("503 is an answer").unwrap_err();
        assert_eq!(served.load(Ordering::SeqCst), before + 1);
    }
}

#[tokio::test]
async fn events_are_dropped_rather_than_waited_for() {
    let service = tower::service_fn(|_: http::Request<Body>| async {
        futures::future::pending::<()>().await;
        Ok::<_, Infallible>(http::Response::new(Body::empty()))
    });
    let events = Events::start(Client::new(service, "shop"));
    let notice = || Notice { warning: false, reason: "Active".into(), message: "ready".into() };
    let taken = (0..1000).filter(|_| events.publish(k8s_openapi::api::core::v1::ObjectReference::default(), notice())).count();
    assert!((256..=257).contains(&taken), "{taken}");
}

/// What reconcilers share, with nothing behind it.
fn context(client: &Client) -> Context {
    Context {
        client: client.clone(),
        cluster: "c1".into(),
        orders: Kind::new(vec![]),
        handlers: Kind::new(vec![]),
        scope: Scope::Cluster,
        ipmanagers: Kind::new(vec![]),
        tasks: Kind::new(vec![]),
        panels: Panels::default(),
        wire: None,
        locks: Locks::new(client.clone(), "dci"),
        events: Events::start(client.clone()),
        metrics: Arc::default(),
        wake_orders: Wake::new(vec![]),
        wake_handlers: Wake::new(vec![]),
        wake_tasks: Wake::new(vec![]),
        hooks: Hooks::default(),
        handler_grace: std::time::Duration::from_mins(15),
        task_retention: std::time::Duration::from_hours(168),
        memory: Memory::default(),
        fence: dci_operator::controller::fence::Fence::default(),
        denied: dci_operator::panel::denied::DeniedNetworks::default(),
        first_lists: FirstLists::default(),
    }
}

#[tokio::test]
async fn a_new_order_does_not_wait_behind_busy_ones_and_a_panic_stops_nobody() {
    let mut items: Vec<Value> = (0..300).map(|n| order(&format!("busy-{n}"))).collect();
    items.push(order("panics"));
    items.push(order("new"));
    let client = server(items, Arc::default());
    let watched = watched::<DedicatedServerOrder>(&client, None);
    let (told, mut finished) = mpsc::unbounded_channel();
    let (_keep, stop) = watch::channel(false);
    let reconcile = move |object: Arc<Guarded<DedicatedServerOrder>>, _: Arc<Context>| {
        let told = told.clone();
        async move {
            let name = object.0.as_ref().map(|o| o.metadata.name.clone().unwrap_or_default()).unwrap_or_default();
            match name.as_str() {
                "new" => told.send(name).map(|()| Action::await_change()).map_err(|e| e.to_string()),
                "panics" => panic!("poison"),
                _ => futures::future::pending().await,
            }
        }
    };
    let nobody = futures::stream::pending();
    tokio::spawn(runner::run(Arc::new(context(&client)), watched.stream, watched.store, nobody, stop, reconcile, |_, _| ()));
    let name = tokio::time::timeout(WAIT, finished.recv()).await.expect("the new order has its turn").unwrap();
    assert_eq!(name, "new");
}

#[tokio::test]
async fn nothing_is_reconciled_before_all_caches_have_their_first_list() {
    let client = server(vec![order("web")], Arc::default());
    let watched = watched::<DedicatedServerOrder>(&client, None);
    let (handlers_listed, listed) = watch::channel(false);
    let first_lists = FirstLists::new(vec![("orders".into(), watched.synced.clone()), ("handlers".into(), listed)]);
    let (told, mut begun) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let reconcile = move |_: Arc<Guarded<DedicatedServerOrder>>, _: Arc<Context>| {
        let told = told.clone();
        async move { told.send(()).map(|()| Action::await_change()).map_err(|e| e.to_string()) }
    };
    let (nobody, context) = (futures::stream::pending(), Arc::new(Context { first_lists: first_lists.clone(), ..context(&client) }));
    let (stream, mut orders_listed) = (watched.stream, watched.synced);
    let running = tokio::spawn(runner::run(context, stream, watched.store, nobody, stopped.clone(), reconcile.clone(), |_, _| ()));
    orders_listed.wait_for(|l| *l).await.unwrap();
    assert_eq!(first_lists.awaited().collect::<Vec<_>>(), ["handlers"]);
    assert!(tokio::time::timeout(Duration::from_millis(300), begun.recv()).await.is_err(), "the handlers are not known yet");
    handlers_listed.send_replace(true);
    tokio::time::timeout(WAIT, begun.recv()).await.expect("now everything is known").unwrap();
    stop.send_replace(true);
    tokio::time::timeout(WAIT, running).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn who_waits_for_a_list_that_never_comes_still_ends() {
    let client = server(vec![order("web")], Arc::default());
    let watched = watched::<DedicatedServerOrder>(&client, None);
    let (_never, listed) = watch::channel(false);
    let context = Context { first_lists: FirstLists::new(vec![("handlers".into(), listed)]), ..context(&client) };
    let (stop, stopped) = watch::channel(false);
    let reconcile = |_: Arc<Guarded<DedicatedServerOrder>>, _: Arc<Context>| async { Err::<Action, _>("not to be called") };
    let (stream, mut orders_listed) = (watched.stream, watched.synced);
    let running =
        tokio::spawn(runner::run(Arc::new(context), stream, watched.store, futures::stream::pending(), stopped, reconcile, |_, _| ()));
    orders_listed.wait_for(|l| *l).await.unwrap();
    stop.send_replace(true);
    tokio::time::timeout(WAIT, running).await.expect("it ends").unwrap();
}
