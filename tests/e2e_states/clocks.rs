//! The clock on the operator's wall is put forward and back, with libfaketime where the machine has it: of the process alone, and not of what
//! it measures durations by. Without it only the simulation steps clocks (docs/reliability.md).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::support::hands::{ORDER, settled, up};
use super::support::{Setup, World};

/// Where Debian has it.
fn library() -> Option<PathBuf> {
    let known = ["x86_64-linux-gnu", "aarch64-linux-gnu"].map(|arch| format!("/usr/lib/{arch}/faketime/libfaketimeMT.so.1"));
    let found = known.into_iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        let _ = writeln!(std::io::stderr(), "SKIPPED (needs libfaketime): clocks");
    }
    found
}

/// Puts the clock to this distance from the true time, at once.
fn step(file: &Path, offset: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{offset}\n")).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn steps_of_the_clock_take_no_second_server_and_leave_nothing() {
    let Some(library) = library() else { return };
    let mut world = World::start(Setup { run: false, ..Setup::default() }).await;
    let file = std::env::temp_dir().join(format!("dci-operator-e2e-{}.clock", world.system));
    step(&file, "+0");
    let preload = library.to_str().unwrap().to_owned();
    world.launch.env = [
        ("LD_PRELOAD", preload.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    up(&mut world).await;
    world.sim.change_server(17, json!({"operations": [{"duration": "3s"}]})).unwrap();
    world.order("web-01", &json!({"addresses": {"ipv4": 2}})).await;
    // Forward while it is claimed, prepared and installed, the last of it beyond every time-out; then back a little.
    step(&file, "+3600");
    world.until("it is claimed", |world| (world.asked("server.edit") > 0).then_some(())).await;
    step(&file, "+3630");
    world.until("it is being installed", |world| world.server(17)["operation"].is_object().then_some(())).await;
    for offset in ["+10800", "+10790"] {
        step(&file, offset);
        world.polls(1).await;
    }
    world.until_active("web-01").await;
    let told = world.log.text();
    assert!(told.lines().any(|line| line.starts_with(&hour(3600))), "the operator's clock was put forward:\n{}", world.log.tail(5));
    // At rest nothing follows from the time.
    let made = world.changes().len();
    for offset in ["+86400", "-86400", "-90000"] {
        step(&file, offset);
        world.polls(2).await;
    }
    assert_eq!(world.changes()[made..], [] as [String; 0]);
    step(&file, "-172800");
    world.patch(ORDER, "web-01", &json!({"spec": {"domain": "other.example.net"}})).await;
    settled(&mut world, "web-01", "Active").await;
    world.delete(ORDER, "web-01").await;
    world.until("it is being released", |world| (world.asked("server.poweroff") > 0).then_some(())).await;
    step(&file, "+7200");
    world.until_gone("web-01").await;
    world.assert_released(17);
    assert!(!world.touched(19) && !world.touched(20), "{:?}", world.changes());
    let claims = world.changes().iter().filter(|line| line.contains("server.edit 17 owner=1 ")).count();
    assert_eq!(claims, 1, "{:#?}", world.changes());
    std::fs::remove_file(file).unwrap();
    world.end().await;
}

/// How log lines begin that are written in this hour, as a clock shows it that is so many seconds off.
fn hour(offset: i64) -> String {
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(offset);
    then.to_string()[..13].to_owned()
}
