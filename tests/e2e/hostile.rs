//! A panel that means harm beside a good one: what the client bounds (`panels`: `panel_hostile`) bounds the whole operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::objects::{self, PANEL_PASSWORD};
use super::support::{Setup, World};

/// How many rows there are in one document: more than anybody has servers. 16 MiB of them still cost some 350 MiB while they are read
/// (docs/reliability.md): `DCI_HOSTILE_ROWS=200000` shows it.
const ROWS: u64 = 30_000;
/// By how much the operator may grow, in KiB.
const GROWTH: u64 = 100 * 1024;
const GIB: usize = 1024 * 1024 * 1024;

/// One request, up to the end of its form.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
    }
}

/// It trickles, floods, or shows many rows: each in its turn, whatever it is asked for, once somebody has logged in.
async fn harm(mut stream: TcpStream, turn: Arc<AtomicUsize>, rows: Arc<Vec<u8>>) -> std::io::Result<()> {
    let Some(asked) = request(&mut stream).await else { return Ok(()) };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    if asked.contains("func=auth") {
        return stream.write_all(br#"{"doc":{"auth":{"$id":"abcdef0123456789","$level":"30","$":"abcdef0123456789"}}}"#).await;
    }
    match turn.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => loop {
            stream.write_all(b" ").await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        },
        1 => {
            let piece = vec![b' '; 1 << 16];
            for _ in 0..GIB / (1 << 16) {
                stream.write_all(&piece).await?;
            }
            Ok(())
        }
        _ => stream.write_all(&rows).await,
    }
}

async fn hostile() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/dcimgr", listener.local_addr().unwrap());
    let row = |id: u64| format!(r#"{{"id":{{"$":"{id}"}},"name":{{"$":"R{id}"}},"owner":{{"$":"bob"}}}}"#);
    let many = std::env::var("DCI_HOSTILE_ROWS").map_or(ROWS, |text| text.parse().unwrap());
    let rows = (0..many).map(row).collect::<Vec<_>>().join(",");
    let rows = Arc::new(format!(r#"{{"doc":{{"elem":[{rows}]}}}}"#).into_bytes());
    let turn = Arc::new(AtomicUsize::new(0));
    let counter = turn.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // It ends when nobody listens any more.
            tokio::spawn(harm(stream, counter.clone(), rows.clone()));
        }
    });
    (url, turn)
}

/// Memory of the operator in KiB, as its field of the process's status says.
fn memory(world: &World, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.operator.as_ref().unwrap().pid())).unwrap();
    status.lines().find_map(|l| l.strip_prefix(field)?.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap()
}

#[tokio::test]
async fn a_panel_that_means_harm_takes_neither_memory_nor_the_good_panel_s_orders() {
    let mut world = World::start(Setup::default()).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    let before = memory(&world, "VmRSS:");
    let (url, turns) = hostile().await;
    let mut second = objects::handler(&url, &json!({"connection": {"timeout": "2s"}}));
    second["metadata"]["name"] = "msk-2".into();
    let provider = world.provider.clone();
    world.create(&provider, second).await;
    let order = json!({"handlerRef": {"name": "msk-2"}});
    world.order("web-02", &order).await;
    world.until("all of it was sent", |_| (turns.load(Ordering::Relaxed) >= 6).then_some(())).await;
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    let (after, peak) = (memory(&world, "VmRSS:"), memory(&world, "VmHWM:"));
    println!("{} answers; {before} KiB before, {after} KiB after, {peak} KiB at most", turns.load(Ordering::Relaxed));
    assert!(after < before + GROWTH, "{before} KiB, then {after} KiB");
    let second = world.record.get("ProcessingHandler", "msk-2").unwrap();
    assert!(!super::support::kstatus::is_true(&second, "Ready"), "{second:#}");
    assert!(!world.log.text().contains("panicked"), "{}", world.log.tail(40));
    for name in ["web-01", "web-02"] {
        world.delete("DedicatedServerOrder", name).await;
        world.until_gone(name).await;
    }
    world.end().await;
}

/// How long the operator waits for each answer of the panel that gives none: as long as may be.
const SILENCE: Duration = Duration::from_mins(5);

/// `dci`, and `dci2` with servers of its own.
fn two_panels() -> Value {
    let mut panels = objects::panels();
    let servers: Vec<Value> = (27..33).map(|id| json!({"id": id, "type": "E3-16G", "ip": format!("10.0.0.{id}")})).collect();
    let other = json!({"name": "dci2", "listen": "127.0.0.2:0", "servers": servers});
    let other = objects::merged(panels["dcimanager5"][0].clone(), &other);
    panels["dcimanager5"].as_array_mut().unwrap().push(other);
    panels["ipmanager5"][0]["holds_for"] = json!([{"panel": "dci", "user": "dci"}, {"panel": "dci2", "user": "dci"}]);
    panels
}

/// It takes whatever it is asked, and says nothing any more: with orders of its own, while it is polled, and one that is Active.
#[tokio::test]
async fn a_panel_that_never_answers_holds_up_nobody_else() {
    let mut world = World::start(Setup { panels: two_panels(), ..Setup::default() }).await;
    let timeout = format!("{}s", SILENCE.as_secs());
    let mut second = objects::handler(world.sim.url("dci2").unwrap(), &json!({"connection": {"timeout": timeout}}));
    second["metadata"]["name"] = "msk-2".into();
    let provider = world.provider.clone();
    world.create(&provider, second).await;
    for name in ["msk-1", "msk-2"] {
        world.until_reason("ProcessingHandler", name, "Ready", "Reachable").await;
    }
    let theirs = json!({"handlerRef": {"name": "msk-2"}, "client": {"username": "theirs"}});
    world.order("their-00", &theirs).await;
    world.until_active("their-00").await;
    let asked = |world: &World| world.request_counts("dci2").values().sum::<u64>();
    world.sim.add_fault(json!({"action": "delay-before", "panel": "dci2", "delay": "1h", "count": 0})).unwrap();
    let (before, began) = (asked(&world), Instant::now());
    for number in 1..5 {
        world.order(&format!("their-{number:02}"), &theirs).await;
    }
    world.delete("DedicatedServerOrder", "their-00").await;
    world.until("it is asked in vain", |world| (asked(world) > before).then_some(())).await;
    // Opened, changed and closed, before the first of these calls is given up.
    world.order("web-01", &json!({})).await;
    world.until_active("web-01").await;
    world.patch("DedicatedServerOrder", "web-01", &json!({"spec": {"addresses": {"ipv4": 2}}})).await;
    super::support::hands::settled(&mut world, "web-01", "Active").await;
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    world.assert_server_released(17);
    assert!(began.elapsed() < SILENCE, "one order took {:?} beside a panel that never answers", began.elapsed());
    let stuck = world.record.all("DedicatedServerOrder").len();
    assert_eq!(stuck, 5, "nobody answered for them");
    world.end().await;
}

/// It has the password that we logged in with, and shows it in whatever its lists and forms say.
#[tokio::test]
async fn a_panel_that_repeats_our_password_in_its_rows_shows_it_to_nobody() {
    let mut panels = objects::panels();
    let kind = format!("E3-{PANEL_PASSWORD}");
    panels["dcimanager5"][0]["server_types"].as_array_mut().unwrap().push(json!({"name": kind, "description": kind}));
    let named = |id: u64| json!({"id": id, "name": format!("R-{id} {PANEL_PASSWORD}"), "type": kind, "ip": format!("10.0.0.{id}")});
    panels["dcimanager5"][0]["servers"].as_array_mut().unwrap().extend([named(21), named(22)]);
    let mut world = World::start(Setup { panels, args: vec!["--log=trace".into()], ..Setup::default() }).await;
    // As if it were an order's that is gone: whose it is, is told.
    let notes = format!("k8s:e2e/{}/{PANEL_PASSWORD}/0c4f3a6e-0000-4000-8000-000000000000", world.shop);
    world.sim.change_server(21, json!({"owner": "operator", "hostname": "x.example.net", "notes": notes})).unwrap();
    let told = |object: &Value| object["status"].to_string();
    world
        .until("they are counted", |world| {
            let handler = world.record.get("ProcessingHandler", "msk-1")?;
            told(&handler).contains("E3-***").then_some(())
        })
        .await;
    // An order gets such a server, and says which.
    world.order("web-01", &json!({"configuration": {"serverType": "E3-***"}})).await;
    let active = world.until_active("web-01").await;
    assert!(told(&active).contains("R-22 ***"), "{active:#}");
    world.polls(3).await;
    let operator = world.operator.as_ref().unwrap();
    let page = operator.page(operator.metrics, "/metrics").await.1;
    assert!(page.contains("E3-***") && !page.contains(PANEL_PASSWORD), "{page}");
    world.delete("DedicatedServerOrder", "web-01").await;
    world.until_gone("web-01").await;
    assert_eq!(world.server(22)["name"], format!("R-22 {PANEL_PASSWORD}"), "what is sent back is as it was");
    // The log, statuses and events are searched.
    world.end().await;
}
