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
        let renews = holder == identity;
        if !renews && !holder.is_empty() {
            let same = observed.as_ref().is_some_and(|o| o.holder == holder && o.renewed == spec.renew_time);
            if !same {
                *observed = Some(Observed { holder, renewed: spec.renew_time.clone(), at: Instant::now() });
                return Ok(false);
            }
            if observed.as_ref().is_some_and(|o| o.at.elapsed() < DURATION) {
                return Ok(false);
            }
        }
        if !renews {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        }
        spec.holder_identity = Some(identity.into());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        // The resource version in the object makes this a compare-and-swap.
        let written = self.leases.replace(&self.name, &PostParams::default(), &lease).await;
        // Whoever leads and was outrun, by a person or by its own renewal that came late, has lost nothing yet: the next look tells.
        if renews { written.map(|_| true) } else { lost_if_conflict(written) }
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    fn lease(holder: &str) -> Value {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NAME, "resourceVersion": "1"},
               "spec": {"holderIdentity": holder}})
    }

    /// Until leadership is lost, an API server gives these answers, one after the other; how many are left then.
    async fn campaign_over(answers: Vec<(u16, Value)>) -> usize {
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let left = answers.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            let (code, answer) = answers.lock().unwrap().pop_front().unwrap();
            let response = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap();
            async { Ok::<_, Infallible>(response) }
        });
        let leases = Api::default_namespaced(Client::new(service, "dci-system"));
        let candidate = Candidate { leases, name: NAME.into(), identity: "me".into() };
        let (leading, _leads) = watch::channel(false);
        let (_resign, asked) = watch::channel(false);
        campaign(candidate, Fence::closed(), leading, asked).await;
        left.lock().unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_is_outrun_looks_again_and_goes_when_another_one_has_the_lease() {
        let conflict =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "message": "m", "code": 409});
        let renewal = [(200, lease("me")), (200, lease("me"))];
        let outrun = [(200, lease("me")), (409, conflict.clone())];
        let all = [&renewal, &outrun, &renewal].into_iter().flatten().cloned().chain([(200, lease("other"))]);
        assert_eq!(campaign_over(all.collect()).await, 0, "it went before another one had it");
        let taken = [&renewal[..], &outrun, &[(200, lease("other"))]].concat();
        assert_eq!(campaign_over(taken).await, 0);
    }
}
