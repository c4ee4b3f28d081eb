//! What handlers, licence servers and IPManagers have in common: they are held while they are needed, and their panels are asked
//! at most once in each interval, whatever wakes them.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use kube::core::NamespaceResourceScope;
use kube::runtime::controller::Action;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::api::common::ObjectKey;
use crate::api::{IN_USE_FINALIZER, RECONCILE_ANNOTATION};
use crate::provisioning::reason::Reason;

use super::panels::Panels;
use super::problem::Problem;
use super::runner::RECONCILE_TIMEOUT;
use super::status::{self, StatusError};

/// How soon a write is repeated that met another one.
pub const CONFLICT: Duration = Duration::from_secs(1);

/// The longest that a panel is asked in one turn. The reconcile ends a little later whatever it does, and has to tell of it before.
const ASKING: Duration = RECONCILE_TIMEOUT.saturating_sub(Duration::from_mins(1));

/// What a panel was asked for. Where each request is answered and all of them take too long, nobody would hear of it otherwise: the object
/// would stay Ready with what it knew before.
pub async fn in_time<T>(asked: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    tokio::time::timeout(ASKING, asked).await.unwrap_or_else(|_| {
        let most = crate::api::Duration(ASKING);
        let message = format!("its lists did not end within {most}, though it answers: find out why it is so slow");
        Err(Problem::passing(Reason::Unreachable, message))
    })
}

/// Keeps the finalizer on an object until nobody needs it and it is being deleted. An action: the reconcile ends here.
pub async fn hold<K>(client: &Client, object: &K, needed: bool) -> Result<Option<Action>, StatusError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let deleting = object.meta().deletion_timestamp.is_some();
    let operations = match (deleting, needed) {
        (true, true) => return Ok(None),
        (true, false) => status::remove_finalizer(object, IN_USE_FINALIZER),
        (false, _) if status::has_finalizer(object, IN_USE_FINALIZER) => return Ok(None),
        (false, _) => status::add_finalizer(object, IN_USE_FINALIZER),
    };
    if operations.is_empty() {
        return Ok(Some(Action::await_change()));
    }
    after_write(status::patch(client, object, operations).await).map(Some)
}

/// What follows a write that the next reconcile builds on: what was written brings it. After a conflict it comes by itself: that
/// somebody else's write is still to be seen is likely, and not certain.
pub fn after_write<T>(result: Result<T, StatusError>) -> Result<Action, StatusError> {
    match result {
        Ok(_) | Err(StatusError::Gone(_)) => Ok(Action::await_change()),
        Err(StatusError::Conflict(_)) => Ok(Action::requeue(CONFLICT)),
        Err(error) => Err(error),
    }
}

/// A write that came too late is made good by the next turn, or by the reconcile that the other's write brings.
pub fn tolerate<T>(result: Result<T, StatusError>) -> Result<(), StatusError> {
    match result {
        Ok(_) | Err(StatusError::Gone(_) | StatusError::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The turn of an object to ask its panel.
pub struct Turn<'t> {
    panels: &'t Panels,
    kind: &'static str,
    key: &'t ObjectKey,
    asked_for: String,
    interval: Duration,
    began: Instant,
}

impl<'t> Turn<'t> {
    /// Begins one; `Err` while the interval since the last one lasts and nothing else is asked for.
    pub fn take<K: Resource>(
        panels: &'t Panels,
        kind: &'static str,
        key: &'t ObjectKey,
        object: &K,
        interval: Duration,
    ) -> Result<Self, Action> {
        let interval = interval.max(Duration::from_secs(1));
        let asked_for = format!("{:?} {:?}", object.meta().generation, object.annotations().get(RECONCILE_ANNOTATION));
        match panels.rest(kind, key, &asked_for, interval) {
            Some(rest) => Err(Action::requeue(rest)),
            None => Ok(Self { panels, kind, key, asked_for, interval, began: Instant::now() }),
        }
    }

    /// Notes that the panel was asked; a failure is waited after for a moment only, from its end on: it may have taken longer than that.
    pub fn taken(&self, success: bool) {
        let at = if success { self.began } else { Instant::now() };
        self.panels.asked(self.kind, self.key, self.asked_for.clone(), at, success);
    }

    /// When the next one is.
    #[must_use]
    pub fn next(&self) -> Action {
        Action::requeue(self.interval.saturating_sub(self.began.elapsed()).max(Duration::from_millis(50)))
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::api::samples;

    /// A client of an API server that answers everything with this.
    fn answering(code: u16) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "", "code": code});
            Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(Body::from(status.to_string().into_bytes())).unwrap())
        });
        Client::new(service, "default")
    }

    #[tokio::test(start_paused = true)]
    async fn a_panel_whose_lists_do_not_end_is_told_of_before_the_reconcile_is_over() {
        let began = tokio::time::Instant::now();
        let slow = |minutes| async move {
            tokio::time::sleep(Duration::from_mins(minutes)).await;
            Ok(minutes)
        };
        assert_eq!(in_time(slow(8)).await.unwrap(), 8);
        let problem = in_time(slow(60)).await.unwrap_err();
        assert_eq!((problem.reason, problem.stalled), (Reason::Unreachable, false));
        assert!(problem.message.contains("did not end within 9m"), "{}", problem.message);
        assert!(began.elapsed() < Duration::from_mins(8) + RECONCILE_TIMEOUT);
    }

    #[test]
    fn a_failure_that_took_its_time_is_waited_after_all_the_same() {
        let (panels, key) = (Panels::default(), ObjectKey { namespace: "h".into(), name: "msk-1".into() });
        let handler = samples::handler(&json!({"metadata": {"generation": 1}}));
        let take = || Turn::take(&panels, "ProcessingHandler", &key, &handler, Duration::from_mins(1)).ok();
        let began = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        for success in [false, true] {
            panels.forget_handler(&key);
            Turn { began, ..take().unwrap() }.taken(success);
            assert!(take().is_none(), "success: {success}");
        }
    }

    #[tokio::test]
    async fn a_write_that_met_another_one_is_repeated_though_nothing_wakes_it() {
        let handler = samples::handler(&json!({"metadata": {"uid": "u-1", "resourceVersion": "7"}}));
        let hold = async |code| hold(&answering(code), &handler, true).await;
        assert_eq!(hold(409).await.unwrap(), Some(Action::requeue(CONFLICT)));
        assert_eq!(hold(404).await.unwrap(), Some(Action::await_change()), "it is gone");
        assert!(hold(500).await.is_err());
        let held = samples::handler(&json!({"metadata": {"finalizers": [IN_USE_FINALIZER]}}));
        assert_eq!(super::hold(&answering(500), &held, true).await.unwrap(), None, "nothing has to be written");
    }
}
