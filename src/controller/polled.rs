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

use super::panels::Panels;
use super::status::{self, StatusError};

/// Keeps the finalizer on an object until nobody needs it and it is being deleted. False: the reconcile ends here, and what was
/// written brings the next one.
pub async fn hold<K>(client: &Client, object: &K, needed: bool) -> Result<bool, StatusError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let deleting = object.meta().deletion_timestamp.is_some();
    let operations = match (deleting, needed) {
        (true, true) => return Ok(true),
        (true, false) => status::remove_finalizer(object, IN_USE_FINALIZER),
        (false, _) if status::has_finalizer(object, IN_USE_FINALIZER) => return Ok(true),
        (false, _) => status::add_finalizer(object, IN_USE_FINALIZER),
    };
    if !operations.is_empty() {
        tolerate(status::patch(client, object, operations).await)?;
    }
    Ok(false)
}

/// A write that came too late is made good by the reconcile that the other's write brings.
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

    /// Notes that the panel was asked; a failure is not waited after.
    pub fn taken(&self, success: bool) {
        self.panels.asked(self.kind, self.key, self.asked_for.clone(), self.began, success);
    }

    /// When the next one is.
    #[must_use]
    pub fn next(&self) -> Action {
        Action::requeue(self.interval.saturating_sub(self.began.elapsed()).max(Duration::from_millis(50)))
    }
}
