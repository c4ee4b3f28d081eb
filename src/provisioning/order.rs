//! Orders and handlers as checked types: what the decisions read instead of the raw resources.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::common::ObjectKey;
use crate::api::handler::{Adoption, AllocateBy, DeletionPolicy, HandlerSpec, IpmiErrorPolicy};
use crate::api::order::{License, ReadyWhen};
use crate::api::{DedicatedServerOrder, ORDER_ID_ANNOTATION, RECONCILE_ANNOTATION};

use crate::panel::dialect::{FLAG_FOR_CLEANING, RUN_RECIPE};
use crate::panel::model::ServerId;

use super::marker::Marker;
use super::reason::Reason;
use super::selection::Selector;
use super::wanted::Wanted;

/// An order whose fields are in order.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent wishes of the spec")]
pub struct Order {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Uid of the object.
    pub uid: String,
    /// The first uid: what stands in markers.
    pub order_id: String,
    /// Generation.
    pub generation: i64,
    /// When its deletion was asked for.
    pub deleting: bool,
    /// When it was created.
    pub created: Timestamp,
    /// Marker.
    pub marker: Marker,
    /// The handler that the spec names now.
    pub handler: Option<ObjectKey>,
    /// Or the handlers that it selects.
    pub selector: Option<Selector>,
    /// Client's name at the panel.
    pub username: String,
    /// What is asked for.
    pub wanted: Wanted,
    /// Domain.
    pub domain: String,
    /// IPv4 addresses, the main one included.
    pub ipv4: usize,
    /// IPv6 addresses.
    pub ipv6: usize,
    /// Template.
    pub template: String,
    /// The root password comes from a Secret of the user's.
    pub own_password: bool,
    /// Which one, and which key of it; empty where there is none.
    pub password_secret: String,
    /// Recipes, in the order in which they run.
    pub recipes: Vec<String>,
    /// What is waited for before the order is Ready.
    pub ready_when: ReadyWhen,
    /// Licences.
    pub licenses: Vec<License>,
    /// The service is to be suspended.
    pub suspended: bool,
    /// What becomes of the server in the end.
    pub deletion_policy: DeletionPolicy,
    /// Nothing that destroys data is done, and no deletion.
    pub deletion_protection: bool,
    /// A server to be taken over instead of allocated.
    pub adopt: Option<ServerId>,
    /// The value of the reconcile annotation.
    pub reconcile_requested: Option<String>,
    /// The reinstall token.
    pub reinstall: String,
}

/// Why an order is not acted upon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Reason of the condition.
    pub reason: Reason,
    /// What to do.
    pub message: String,
}

impl Order {
    /// Checks an order. `cluster` is the cluster id of markers.
    pub fn parse(raw: &DedicatedServerOrder, cluster: &str) -> Result<Self, Refusal> {
        if let Some(problem) = crate::api::check::check_order(raw).into_iter().next() {
            return Err(Refusal { reason: Reason::InvalidSpec, message: format!("{}: {}", problem.field, problem.message) });
        }
        Ok(Self::read(raw, cluster))
    }

    fn read(raw: &DedicatedServerOrder, cluster: &str) -> Self {
        let spec = &raw.spec;
        let uid = raw.metadata.uid.clone().unwrap_or_default();
        let key = raw.key();
        let order_id = marked_id(raw).unwrap_or_default().to_owned();
        let marker =
            Marker { cluster: cluster.to_owned(), namespace: key.namespace.clone(), name: key.name.clone(), order_id: order_id.clone() };
        let secret = spec.operating_system.password_secret_ref.as_ref();
        Self {
            generation: raw.metadata.generation.unwrap_or_default(),
            deleting: raw.metadata.deletion_timestamp.is_some(),
            created: raw.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            handler: handler_key(raw),
            selector: selector(raw),
            username: spec.client.username.clone(),
            wanted: Wanted::new(&spec.configuration),
            domain: spec.domain.clone(),
            ipv4: usize::try_from(spec.addresses.ipv4).unwrap_or(1),
            ipv6: usize::try_from(spec.addresses.ipv6).unwrap_or(0),
            template: spec.operating_system.template.clone(),
            own_password: secret.is_some(),
            password_secret: secret.map(|s| format!("{}\n{}", s.name, s.key)).unwrap_or_default(),
            recipes: spec.recipes.clone(),
            ready_when: spec.ready_when,
            licenses: spec.licenses.clone(),
            suspended: spec.suspended,
            deletion_policy: spec.deletion_policy,
            deletion_protection: spec.deletion_protection,
            adopt: spec.adopt.as_ref().map(|a| ServerId(a.server_id.clone())),
            reconcile_requested: annotation(&raw.metadata, RECONCILE_ANNOTATION).map(str::to_owned),
            reinstall: spec.reinstall.clone(),
            key,
            uid,
            order_id,
            marker,
        }
    }
}

/// The handler that an order names.
#[must_use]
pub fn handler_key(raw: &DedicatedServerOrder) -> Option<ObjectKey> {
    let reference = raw.spec.handler_ref.as_ref()?;
    let namespace = reference.namespace.clone().or_else(|| raw.metadata.namespace.clone()).unwrap_or_default();
    Some(ObjectKey { namespace, name: reference.name.clone() })
}

/// The handlers that an order selects.
#[must_use]
pub fn selector(raw: &DedicatedServerOrder) -> Option<Selector> {
    let selector = raw.spec.handler_selector.as_ref()?;
    let namespace = selector.namespace.clone().or_else(|| raw.metadata.namespace.clone()).unwrap_or_default();
    Some(Selector { namespace, labels: selector.match_labels.clone() })
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str).filter(|v| !v.is_empty())
}

/// The order id that the annotation carries.
#[must_use]
pub fn order_id(raw: &DedicatedServerOrder) -> Option<&str> {
    annotated_id(&raw.metadata)
}

/// The same by the metadata alone, which an order that cannot be read has, too.
#[must_use]
pub fn annotated_id(metadata: &ObjectMeta) -> Option<&str> {
    annotation(metadata, ORDER_ID_ANNOTATION).filter(|id| id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
}

/// The id that markers, locks and Secrets name the order by: what its annotation carries, or else its uid. Nothing only of an object
/// that no server has seen.
#[must_use]
pub fn marked_id(raw: &DedicatedServerOrder) -> Option<&str> {
    id_by(&raw.metadata)
}

/// The same by the metadata alone.
#[must_use]
pub fn id_by(metadata: &ObjectMeta) -> Option<&str> {
    annotated_id(metadata).or(metadata.uid.as_deref())
}

/// What the decisions need of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "as independent as the switches of the spec")]
pub struct Handler {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Identity of the panel.
    pub panel: String,
    /// What an IPMI error means in closing.
    pub ipmi: IpmiErrorPolicy,
    /// The main address is never changed.
    pub disable_ip_change: bool,
    /// Group of public addresses.
    pub public_group: String,
    /// Group of parking addresses.
    pub parking_group: Option<String>,
    /// Who takes addresses.
    pub allocate_by: AllocateBy,
    /// Ready configurations only.
    pub by_server_type: bool,
    /// The department for failures and manual stops.
    pub operations: String,
    /// The department that builds servers.
    pub assembly: Option<String>,
    /// The department that buys parts.
    pub procurement: Option<String>,
    /// Deadlines and escalation of the departments.
    pub desks: super::desk::Desks,
    /// The handler that orders licences.
    pub license_server: Option<ObjectKey>,
    /// Orders may take over servers.
    pub adoption: bool,
    /// What orders may ask for in the end.
    pub deletion_policies: BTreeSet<DeletionPolicy>,
    /// Time between attempts.
    pub retry_interval: std::time::Duration,
    /// Attempts before a person is asked.
    pub max_attempts: i32,
    /// Time-outs.
    pub power: std::time::Duration,
    /// Installation.
    pub install: std::time::Duration,
    /// Any other step.
    pub step: std::time::Duration,
    /// How long a lost answer may still take effect.
    pub settle: std::time::Duration,
    /// The dialect says how a password is set on a running system.
    pub sets_password: bool,
    /// How often the panel is listed.
    pub poll: std::time::Duration,
    /// Recipes can be run by themselves.
    pub run_recipe: bool,
    /// The panel has to be told which disks to clean.
    pub flag_for_cleaning: bool,
    /// Orders of one namespace; 0 is no limit.
    pub max_orders_per_namespace: usize,
}

impl Handler {
    /// Takes what the decisions need out of a handler's spec. The shortest settle time is a second, whatever an old server let through.
    #[must_use]
    pub fn new(key: ObjectKey, spec: &HandlerSpec, panel: String) -> Self {
        let second = std::time::Duration::from_secs(1);
        let ip = spec.ip_management.as_ref();
        let departments = spec.departments.clone().unwrap_or_default();
        let license_server = spec
            .license_server_ref
            .as_ref()
            .map(|r| ObjectKey { namespace: r.namespace.clone().unwrap_or_else(|| key.namespace.clone()), name: r.name.clone() });
        Self {
            key,
            panel,
            by_server_type: spec.by_server_type,
            desks: super::desk::Desks::new(&departments),
            operations: departments.operations.name,
            assembly: departments.assembly.map(|d| d.name),
            procurement: departments.procurement.map(|d| d.name),
            license_server,
            adoption: spec.adoption == Adoption::Allowed,
            deletion_policies: spec.allowed_deletion_policies.iter().copied().collect(),
            ipmi: spec.ipmi_error_policy,
            disable_ip_change: ip.is_some_and(|i| i.disable_ip_change),
            public_group: ip.map_or_else(|| "public".into(), |i| i.public_ip_type.clone()),
            parking_group: ip.and_then(|i| i.parking_ip_type.clone()),
            allocate_by: ip.map_or_else(AllocateBy::default, |i| i.allocate_by),
            retry_interval: spec.retry.interval.0.max(second),
            max_attempts: spec.retry.max_attempts.max(1),
            power: spec.timeouts.power.0.max(second),
            install: spec.timeouts.install.0.max(second),
            step: spec.timeouts.step.0.max(second),
            settle: spec.timeouts.settle.0.max(second),
            sets_password: spec.dialect.contains_key(crate::panel::dialect::SET_PASSWORD),
            poll: spec.poll_interval.0.max(second),
            run_recipe: spec.dialect.contains_key(RUN_RECIPE),
            flag_for_cleaning: spec.dialect.contains_key(FLAG_FOR_CLEANING),
            max_orders_per_namespace: usize::try_from(spec.limits.max_orders_per_namespace).unwrap_or(0),
        }
    }

    /// Whether addresses are taken by the operator in IPmanager.
    #[must_use]
    pub fn operator_allocates(&self) -> bool {
        self.allocate_by == AllocateBy::Operator
    }
}

impl Handler {
    /// Stands where there is no handler: an order waits for it and decides nothing.
    #[must_use]
    pub fn placeholder() -> Self {
        let second = std::time::Duration::from_secs(1);
        Self {
            key: ObjectKey::default(),
            panel: String::new(),
            ipmi: IpmiErrorPolicy::CreateTask,
            disable_ip_change: true,
            public_group: String::new(),
            parking_group: None,
            allocate_by: AllocateBy::default(),
            by_server_type: true,
            operations: crate::api::handler::Departments::default().operations.name,
            desks: super::desk::Desks::default(),
            assembly: None,
            procurement: None,
            license_server: None,
            adoption: false,
            deletion_policies: BTreeSet::new(),
            retry_interval: second,
            max_attempts: 1,
            power: second,
            install: second,
            step: second,
            settle: second,
            sets_password: false,
            poll: second,
            run_recipe: false,
            flag_for_cleaning: false,
            max_orders_per_namespace: 0,
        }
    }
}

impl Order {
    /// Reads an order that is being deleted. What is wrong with its spec must not keep its server: only what speaks of the
    /// deletion itself is looked at.
    pub fn for_closing(raw: &DedicatedServerOrder, cluster: &str) -> Result<Self, Refusal> {
        if raw.spec.deletion_protection {
            return Err(Refusal { reason: Reason::DeletionProtected, message: crate::api::messages::DELETION_PROTECTED.into() });
        }
        Ok(Self::read(raw, cluster))
    }
}
