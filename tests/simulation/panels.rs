//! The way to the simulated panels: one form at a time, with what goes wrong on the way.

use std::sync::Arc;
use std::time::Duration;

use dci_operator::panel::coremanager::transport::{Wire, WireError};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::adversary::{Amiss, Fault};
use super::invariants::Call;
use super::replica::Replica;
use super::world::{Late, World};

/// A call as it is on the way.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The path of the panel.
    pub path: String,
    pub form: String,
    pub call: Call,
}

/// The wire of one process.
pub struct PanelWire {
    pub world: Arc<World>,
    pub who: Arc<Replica>,
}

/// How long a process may be frozen before its request, in milliseconds: less than `timeouts.settle`.
pub const FROZEN: u64 = 3000;

impl Wire for PanelWire {
    fn post(&self, url: &str, fields: &[(&str, &str)]) -> BoxFuture<'static, Result<Vec<u8>, WireError>> {
        let mut form = reqwest::Url::parse("http://x/").unwrap();
        form.query_pairs_mut().extend_pairs(fields);
        let form = form.query().unwrap_or_default().to_owned();
        let path = url.rsplit('/').next().unwrap_or_default().to_owned();
        let call = Call::read(&self.who.name, panel_of(&path), &form);
        Box::pin(post(self.world.clone(), self.who.clone(), Sent { path, form, call }))
    }
}

/// The name of the panel at this path.
pub fn panel_of(path: &str) -> &str {
    match path {
        "dcimgr" => "dci",
        "ipmgr" => "ipm",
        "billmgr" => "bill",
        own => own,
    }
}

/// A list of servers may not be what the panel has.
fn amiss(world: &World, call: &Call, answer: Vec<u8>) -> Vec<u8> {
    if call.change || call.func != "server" || !call.target.is_empty() {
        return answer;
    }
    let Some(how) = world.adversary(|a| a.amiss.pop_front()) else { return answer };
    let mut document: Value = serde_json::from_slice(&answer).unwrap_or_default();
    let Some(rows) = document["doc"]["elem"].as_array_mut() else { return answer };
    let kept: Vec<Value> = match how {
        Amiss::Nothing => Vec::new(),
        Amiss::Half(first) => rows.drain(..).skip(first).step_by(2).collect(),
    };
    world.tell(&format!("   the list shows {} servers", kept.len()));
    world.met("list-amiss");
    if !document["doc"]["p_elems"].is_null() {
        document["doc"]["p_elems"] = json!({"$": kept.len().to_string()});
    }
    document["doc"]["elem"] = kept.into();
    document.to_string().into_bytes()
}

async fn post(world: Arc<World>, who: Arc<Replica>, sent: Sent) -> Result<Vec<u8>, WireError> {
    who.alive().await;
    let mut call = sent.call.clone();
    call.began = super::determinism::now();
    world.sent(&call);
    let (way, down, lost) = world.adversary(|a| {
        let alone = a.panel_down.get(&call.panel).copied().unwrap_or(0);
        (3 + a.below(40), a.panels_down_until.max(alone), !call.change && a.chance(a.reads))
    });
    tokio::time::sleep(Duration::from_millis(way)).await;
    if who.alive().await > FROZEN {
        // A request that a frozen process sends when it is thawed, long after its order is gone, is a hole that is known (see the model).
        return Err(WireError::NotSent("frozen".into()));
    }
    if super::determinism::now() < down {
        world.disturb(0);
        return Err(WireError::NotSent("connection refused".into()));
    }
    let nobody_knows = || WireError::NoAnswer("connection closed".into());
    if lost {
        world.disturb(0);
        return Err(nobody_knows());
    }
    let fault = if call.change { world.meet(&format!("{} {} {}", sent.path, call.func, call.target)) } else { None };
    // What the panel showed may not be true any more when the answer comes.
    let old = world.adversary(|a| if !call.change && a.chance(a.old_answers) { 1000 + a.below(20_000) } else { 0 });
    let answer = match fault {
        None => {
            let answer = amiss(&world, &call, world.panel_call(&sent));
            if old > 0 {
                world.disturb(old);
            }
            tokio::time::sleep(Duration::from_millis(old)).await;
            answer
        }
        Some(Fault::CrashBefore) => return who.die(&world).await,
        Some(Fault::CrashAfter) => {
            world.panel_call(&sent);
            return who.die(&world).await;
        }
        Some(Fault::CrashLate(after)) => {
            world.later(after, Late::Call(sent));
            return who.die(&world).await;
        }
        Some(Fault::Unreachable) => return Err(WireError::NotSent("connection refused".into())),
        Some(Fault::Lost) => return Err(nobody_knows()),
        // A panel knows no conflicts: what it has done and says otherwise is told by nobody.
        Some(Fault::AnswerLost | Fault::ConflictAfter) => {
            world.panel_call(&sent);
            return Err(nobody_knows());
        }
        Some(Fault::Late(after)) => {
            world.later(after, Late::Call(sent));
            return Err(nobody_knows());
        }
        Some(Fault::Refused | Fault::ConflictBefore | Fault::TooMany) => {
            br#"{"doc":{"error":{"$type":"server_busy","$object":"operation","$lang":"en","msg":{"$":"The server is busy"}}}}"#.to_vec()
        }
        Some(Fault::Slow(after)) => {
            tokio::time::sleep(Duration::from_millis(after)).await;
            who.alive().await;
            world.panel_call(&sent)
        }
        Some(Fault::AnswerLate(after)) => {
            let answer = world.panel_call(&sent);
            tokio::time::sleep(Duration::from_millis(after)).await;
            answer
        }
        // A purchase that the network makes twice buys twice: the licence server has nothing to tell the two by.
        Some(Fault::Twice(_)) if call.func == "soft.order.param" => world.panel_call(&sent),
        // A copy that takes another address after its answer, while the order goes, is a hole that is known (see the model).
        Some(Fault::Twice(1..)) if call.func == "ip.edit" && call.target.is_empty() => world.panel_call(&sent),
        // So is one that puts the remains of a marker back where they were just taken away: they name their order to nobody who has not
        // seen them before.
        Some(Fault::Twice(1..)) if call.func == "server.edit" && world.cuts_notes => world.panel_call(&sent),
        Some(Fault::Twice(0)) => {
            world.panel_call(&sent);
            world.panel_call(&sent)
        }
        Some(Fault::Twice(after)) => {
            world.later(after, Late::Call(sent.clone()));
            world.panel_call(&sent)
        }
    };
    let back = world.adversary(|a| 3 + a.below(30));
    tokio::time::sleep(Duration::from_millis(back)).await;
    who.alive().await;
    call.answer = Some(String::from_utf8_lossy(&answer).into_owned());
    world.answered(&call);
    Ok(answer)
}
