//! Leader election: for speed, never for safety. A Lease that is replaced under its resource version, observed by our own clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::sync::watch;

use super::fence::Fence;

/// A leader that did not renew for so long is not one any more.
const DURATION: Duration = Duration::from_secs(15);
/// How often it renews, and how often others look.
const PERIOD: Duration = Duration::from_secs(3);
/// A leader that could not renew for so long stops; before others may take over.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What was seen of somebody else's Lease, by our own clock: clocks of other machines are not compared.
struct Observed {
    holder: String,
    renewed: Option<MicroTime>,
    at: Instant,
}

/// The name of the Lease, where nobody says another one.
pub const NAME: &str = "dci-operator";

/// A replica that takes turns with others.
pub struct Candidate {
    /// Where the Lease is.
    pub leases: Api<Lease>,
    /// The Lease's name: those that share it take turns.
    pub name: String,
    /// Who this is.
    pub identity: String,
}

/// Waits for leadership, then keeps it; `leading` turns true, and false for good once it is lost. Ends when it is lost, or after `resign`,
/// which is to come when nothing is written any more: the next one takes over at once.
pub async fn campaign(candidate: Candidate, fence: Fence, leading: watch::Sender<bool>, mut resign: watch::Receiver<bool>) {
    let mut observed: Option<Observed> = None;
    let mut renewed: Option<Instant> = None;
    loop {
        // Others count from when they saw it, which is later.
        let began = Instant::now();
        let attempt = tokio::time::timeout(PERIOD * 2, candidate.try_once(&mut observed)).await;
        match attempt {
            Ok(Ok(true)) => {
                renewed = Some(began);
                fence.renewed(began);
                if !*leading.borrow() {
                    tracing::info!(identity = candidate.identity, lease = candidate.name, "leading");
                    leading.send_replace(true);
                }
            }
            Ok(Ok(false)) if renewed.is_some() => break,
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "leader election"),
            Err(_) => tracing::warn!("leader election: the API server did not answer in time"),
        }
        if renewed.is_some_and(|at| at.elapsed() >= DEADLINE) {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = async { let _ = resign.wait_for(|resign| *resign).await; } => {
                candidate.release().await;
                return;
            }
        }
    }
    tracing::error!("leadership lost");
    leading.send_replace(false);
}

impl Candidate {
    /// One look, and one guarded write where it is our turn. True: we hold it.
    async fn try_once(&self, observed: &mut Option<Observed>) -> Result<bool, kube::Error> {
        let identity = self.identity.as_str();
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(LeaseSpec {
                    holder_identity: Some(identity.into()),
                    lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                    acquire_time: Some(now.clone()),
                    renew_time: Some(now),
                    ..LeaseSpec::default()
                }),
            };
            return lost_if_conflict(self.leases.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.get_or_insert_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if holder != identity && !holder.is_empty() {
            let same = observed.as_ref().is_some_and(|o| o.holder == holder && o.renewed == spec.renew_time);
            if !same {
                *observed = Some(Observed { holder, renewed: spec.renew_time.clone(), at: Instant::now() });
                return Ok(false);
            }
            if observed.as_ref().is_some_and(|o| o.at.elapsed() < DURATION) {
                return Ok(false);
            }
        }
        if spec.holder_identity.as_deref() != Some(identity) {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        }
        spec.holder_identity = Some(identity.into());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        // The resource version in the object makes this a compare-and-swap.
        lost_if_conflict(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    /// Lets the next one take over at once.
    async fn release(&self) {
        let Ok(Ok(Some(mut lease))) = tokio::time::timeout(Duration::from_secs(2), self.leases.get_opt(&self.name)).await else { return };
        let Some(spec) = lease.spec.as_mut().filter(|s| s.holder_identity.as_deref() == Some(self.identity.as_str())) else { return };
        spec.holder_identity = None;
        spec.renew_time = None;
        let _ = tokio::time::timeout(Duration::from_secs(2), self.leases.replace(&self.name, &PostParams::default(), &lease)).await;
    }
}

fn lost_if_conflict(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
