//! What orders cost: requests to the panels, versions of the objects, memory and processor, for fleets of different sizes.
//!
//! Run by `make bench`. The table is for people; the bounds are ratios, so that they hold on any machine: what one order costs must
//! not grow with the number of orders, and an idle fleet costs one list for each poll, whatever its size.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::support::{Setup, World};

/// Fleets.
const SIZES: [usize; 3] = [1, 20, 80];
/// Polls that an idle fleet is watched for.
const POLLS: u64 = 10;

/// What one fleet cost.
struct Cost {
    orders: usize,
    /// Requests to both panels, by phase.
    open: u64,
    close: u64,
    /// Changes among them.
    changes: usize,
    /// Versions of one order's object, from creation to Active.
    versions: f64,
    /// The same from then to its end.
    closed: f64,
    /// Requests for each poll of the idle fleet.
    idle: f64,
    /// Versions of all objects that an idle fleet made.
    idle_writes: usize,
    /// Resident memory after all were opened, in KiB.
    grown: u64,
    /// Resident memory of a process that found them all Active, in KiB.
    resident: u64,
    /// Forms that it read to find the markers.
    reads: u64,
    /// Processor time for the opening, in milliseconds.
    processor: u64,
}

fn panels(orders: usize) -> Value {
    let servers: Vec<Value> = (0..orders)
        .map(|n| json!({"id": 100 + n, "name": format!("R-{n}"), "type": "E3-16G", "ip": format!("10.0.1.{}", n + 1)}))
        .collect();
    json!({"servers": servers})
}

fn requests(world: &World) -> BTreeMap<String, u64> {
    let both = ["dci", "ipm"].into_iter().flat_map(|panel| {
        let counts = world.request_counts(panel).into_iter();
        counts.map(move |(func, count)| (format!("{panel} {func}"), count))
    });
    both.collect()
}

fn total(world: &World) -> u64 {
    requests(world).values().sum()
}

fn written(world: &World) -> Vec<String> {
    let all = ["DedicatedServerOrder", "ProcessingHandler", "IPManager"].into_iter().flat_map(|kind| world.record.all(kind));
    all.map(|o| format!("{} {}", o["metadata"]["name"], o["metadata"]["resourceVersion"])).collect()
}

/// Resident memory in KiB, and processor time in milliseconds, as Linux tells them.
pub fn usage(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<u64> = stat.rsplit_once(") ").unwrap().1.split(' ').filter_map(|f| f.parse().ok()).collect();
    // The state is no number; user and system time are the 11th and 12th after it, in hundredths of a second.
    (resident, (fields[10] + fields[11]) * 10)
}

async fn fleet(orders: usize) -> Cost {
    let mut world = World::start(Setup::dci(&panels(orders))).await;
    world.until_reason("ProcessingHandler", "msk-1", "Ready", "Reachable").await;
    let pid = world.operator.as_ref().unwrap().pid();
    let names: Vec<String> = (0..orders).map(|n| format!("web-{n:03}")).collect();
    let (before, used) = (total(&world), usage(pid).1);
    for name in &names {
        world.order(name, &json!({})).await;
    }
    for name in &names {
        world.until_active(name).await;
    }
    let (open, changes, processor) = (total(&world) - before, world.changes().len(), usage(pid).1 - used);
    let versions: usize = names.iter().map(|name| world.record.versions("DedicatedServerOrder", name).len()).sum();
    world
        .until("the handler counts them", |world| {
            let ready = &world.record.get("ProcessingHandler", "msk-1")?["status"]["orders"]["ready"];
            (ready.as_u64() == u64::try_from(orders).ok()).then_some(())
        })
        .await;
    world.polls(2).await;
    let (mut idle, versions_before) = (requests(&world), written(&world));
    let lists = world.requests("dci", "server");
    world.polls(POLLS).await;
    let lists = world.requests("dci", "server") - lists;
    for (func, count) in requests(&world) {
        let before = idle.entry(func).or_default();
        *before = count - *before;
    }
    // What the address manager is asked for at its own pace is not the orders'.
    let of_servers: u64 = idle.iter().filter(|(func, _)| func.starts_with("dci ")).map(|(_, count)| *count).sum();
    let idle_writes = written(&world).iter().filter(|version| !versions_before.contains(version)).count();
    let grown = usage(pid).0;
    world.kill_and_restart().await;
    let reads = world.requests("dci", "server.edit");
    world.polls(POLLS).await;
    let resident = usage(world.operator.as_ref().unwrap().pid()).0;
    let reads = world.requests("dci", "server.edit") - reads;
    let before = total(&world);
    for name in &names {
        world.delete("DedicatedServerOrder", name).await;
    }
    for name in &names {
        world.until_gone(name).await;
    }
    let close = total(&world) - before;
    let closed: usize = names.iter().map(|name| world.record.versions("DedicatedServerOrder", name).len()).sum();
    world.end().await;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let per = |count: u64, by: u64| count as f64 / by as f64;
    Cost {
        orders,
        open,
        close,
        changes,
        versions: per(versions as u64, orders as u64),
        closed: per((closed - versions) as u64, orders as u64),
        idle: per(of_servers, lists),
        idle_writes,
        grown,
        resident,
        reads,
        processor,
    }
}

#[tokio::test]
#[ignore = "make bench"]
async fn bench() {
    let mut fleets = Vec::new();
    for orders in SIZES {
        fleets.push(fleet(orders).await);
    }
    println!(
        "| orders | requests to open | changes | versions | ms of processor | requests to close | versions | requests per idle poll | versions while idle | KiB then | KiB after a restart | forms read by it |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let each = |count: u64, orders: usize| count as f64 / orders as f64;
    for cost in &fleets {
        let orders = cost.orders;
        println!(
            "| {orders} | {:.1} | {:.1} | {:.1} | {:.0} | {:.1} | {:.1} | {:.2} | {} | {} | {} | {} |",
            each(cost.open, orders),
            each(cost.changes as u64, orders),
            cost.versions,
            each(cost.processor, orders),
            each(cost.close, orders),
            cost.closed,
            cost.idle,
            cost.idle_writes,
            cost.grown,
            cost.resident,
            cost.reads,
        );
    }
    let (few, many) = (&fleets[1], &fleets[2]);
    let more = u64::try_from(many.orders - few.orders).unwrap();
    println!("\n{} bytes of memory for each further idle order", (many.resident.saturating_sub(few.resident)) * 1024 / more);
    let one = each(fleets[0].open, 1);
    for cost in &fleets {
        assert!(each(cost.open, cost.orders) <= one * 1.25, "opening one of {} costs more than opening the only one", cost.orders);
        assert!((0.99..=1.01).contains(&cost.idle), "{} requests for each poll of {} idle orders", cost.idle, cost.orders);
        assert_eq!(cost.idle_writes, 0, "{} idle orders are written", cost.orders);
    }
    for (few, many) in [(few.versions, many.versions), (few.closed, many.closed)] {
        assert!(many <= few * 1.5, "an object is written {many} times in the larger fleet, {few} times in the smaller one");
    }
}
