//! The way to the simulated panels: one form at a time, with what goes wrong on the way.

use std::sync::Arc;
use std::time::Duration;

use dci_operator::panel::coremanager::transport::{Wire, WireError};
use futures::future::BoxFuture;

use super::adversary::Fault;
use super::replica::Replica;
use super::world::{Late, World};

/// A call of a panel.
#[derive(Clone, Debug)]
pub struct Call {
    pub panel: String,
    pub form: String,
    pub func: String,
    pub target: String,
    /// It asks for a change.
    pub change: bool,
}

/// The wire of one process.
pub struct PanelWire {
    pub world: Arc<World>,
    pub who: Arc<Replica>,
}

/// How long a process may be frozen before its request, in milliseconds: less than `timeouts.settle`.
const FROZEN: u64 = 3000;

/// Functions that change something without saying so by `sok=ok`.
const ACTIONS: [&str; 8] = ["delete", "poweron", "poweroff", "enable", "disable", "opercancel", "on", "off"];

impl Wire for PanelWire {
    fn post(&self, url: &str, fields: &[(&str, &str)]) -> BoxFuture<'static, Result<Vec<u8>, WireError>> {
        let mut form = reqwest::Url::parse("http://x/").unwrap();
        form.query_pairs_mut().extend_pairs(fields);
        let field = |name: &str| fields.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()).unwrap_or_default();
        let func = field("func");
        let change = field("sok") == "ok" || func.rsplit('.').next().is_some_and(|last| ACTIONS.contains(&last));
        let (elid, plid) = (field("elid"), field("plid"));
        let target = if plid.is_empty() { elid } else { format!("{plid}/{elid}") };
        let panel = url.rsplit('/').next().unwrap_or_default().to_owned();
        let call = Call { panel, form: form.query().unwrap_or_default().to_owned(), func, target, change };
        Box::pin(post(self.world.clone(), self.who.clone(), call))
    }
}

async fn post(world: Arc<World>, who: Arc<Replica>, call: Call) -> Result<Vec<u8>, WireError> {
    who.alive().await;
    let (way, down, lost) = world.adversary(|a| (3 + a.below(40), a.panels_down_until, !call.change && a.chance(a.reads)));
    tokio::time::sleep(Duration::from_millis(way)).await;
    if who.alive().await > FROZEN {
        // A request that a frozen process sends when it is thawed, long after its order is gone, is a hole that is known (see the model).
        return Err(WireError::NotSent("frozen".into()));
    }
    if super::determinism::now() < down {
        return Err(WireError::NotSent("connection refused".into()));
    }
    let nobody_knows = || WireError::NoAnswer("connection closed".into());
    if lost {
        return Err(nobody_knows());
    }
    let fault = if call.change { world.meet(&format!("{} {} {}", call.panel, call.func, call.target)) } else { None };
    let answer = match fault {
        None => world.panel_call(&call),
        Some(Fault::CrashBefore) => return who.die(&world).await,
        Some(Fault::CrashAfter) => {
            world.panel_call(&call);
            return who.die(&world).await;
        }
        Some(Fault::CrashLate(after)) => {
            world.later(after, Late::Call(call));
            return who.die(&world).await;
        }
        Some(Fault::Unreachable) => return Err(WireError::NotSent("connection refused".into())),
        Some(Fault::Lost) => return Err(nobody_knows()),
        Some(Fault::AnswerLost) => {
            world.panel_call(&call);
            return Err(nobody_knows());
        }
        Some(Fault::Late(after)) => {
            world.later(after, Late::Call(call));
            return Err(nobody_knows());
        }
        Some(Fault::Refused) => {
            br#"{"doc":{"error":{"$type":"server_busy","$object":"operation","$lang":"en","msg":{"$":"The server is busy"}}}}"#.to_vec()
        }
        Some(Fault::Slow(after)) => {
            tokio::time::sleep(Duration::from_millis(after)).await;
            who.alive().await;
            world.panel_call(&call)
        }
    };
    let back = world.adversary(|a| 3 + a.below(30));
    tokio::time::sleep(Duration::from_millis(back)).await;
    who.alive().await;
    Ok(answer)
}
