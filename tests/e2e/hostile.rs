//! A panel that means harm beside a good one: what the client bounds (`panels`: `panel_hostile`) bounds the whole operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::objects;
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
