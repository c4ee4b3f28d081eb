//! What the rules say. One text serves the schema's rule and its twin in `check`, so that old servers say the same.
//!
//! Each text tells what to write instead.

/// `connection.url`.
pub const URL: &str =
    "connection.url must be https://HOST[:PORT]/MANAGER without user, query and fragment; http:// is accepted for a loopback address only";
/// `connection.tls`.
pub const TLS: &str = "connection.tls takes one of caBundle, caBundleSecretRef, pinnedSHA256 and insecureSkipVerify; remove the others";
/// `connection.timeout`.
pub const TIMEOUT: &str = "connection.timeout must be between 1s and 5m";
/// `pollInterval`.
pub const POLL_INTERVAL: &str = "pollInterval must be at least 1s";
/// `retry.interval`.
pub const RETRY_INTERVAL: &str = "retry.interval must be at least 1s";
/// `timeouts`.
pub const TIMEOUTS: &str = "timeouts must be at least 1s each";

/// `module`, on update.
pub const MODULE_FIXED: &str = "spec.module cannot be changed; create another ProcessingHandler and let new orders refer to it";
/// Departments of a DCImanager module.
pub const DEPARTMENTS: &str =
    "set spec.departments.assembly and spec.departments.procurement, or byServerType: true for ready configurations only";
/// What a licence server does not have.
pub const LICENSE_SERVER: &str =
    "module BILLmanager6 is a licence server: remove byServerType, ipManagement, departments.assembly and departments.procurement";
/// `licenses` and `licenseServerRef`.
pub const LICENSES: &str =
    "spec.licenses belongs to module BILLmanager6, and spec.licenseServerRef to the DCImanager modules; remove the one that does not fit";
/// Keys of `licenses.products`.
pub const LICENSE_PRODUCT: &str =
    "names in licenses.products must have at most 63 letters, digits, -, _ and ., with a letter or digit at both ends";
/// `licenses.renewBefore`.
pub const RENEW_BEFORE: &str = "licenses.renewBefore must be at least 1s";
/// Addresses of a DCImanager module.
pub const IP_MANAGEMENT: &str = "set spec.ipManagement.ipManagerRef: the modules DCImanager5 and DCImanager6 need an IPManager";
/// `ipManagement.parkingIPType`.
pub const PARKING: &str =
    "ipManagement.parkingIPType must be another group than publicIPType; remove it, and the main address stays on a free server";
/// `allowedNamespaces`.
pub const ALLOWED_NAMESPACES: &str = "allowedNamespaces.selector goes with from: Selector; set both or neither";
/// `departments.*.deadline`.
pub const DEADLINE: &str = "a department's deadline must be at least 1s";
/// `departments.*.escalateTo`.
pub const ESCALATE_TO: &str =
    "a department's escalateTo goes with a deadline, and names another department; set deadline, or remove escalateTo";
/// `departments.*.webhook.url`.
pub const WEBHOOK_URL: &str =
    "webhook.url must be https://HOST[:PORT]/PATH without user, query and fragment; http:// is accepted for a loopback address only";
/// `dialect`.
pub const DIALECT: &str = "a dialect call has either func (COREmanager panels) or method and path (REST panels)";

/// `flavor`, on update.
pub const FLAVOR_FIXED: &str = "spec.flavor cannot be changed; create another IPManager and let handlers refer to it";

/// Name of an order.
pub const ORDER_NAME: &str = "metadata.name of an order must have at most 63 characters; choose a shorter name";
/// Which handler.
pub const ONE_HANDLER: &str = "set exactly one of spec.handlerRef and spec.handlerSelector";
/// `configuration`.
pub const ONE_CONFIGURATION: &str = "set exactly one of configuration.serverType and configuration.custom";
/// `configuration.custom`.
pub const CUSTOM_PART: &str = "configuration.custom needs at least one of cpu, memoryGiB, disks and pci";
/// `licenses` of an order; the schema says it as a list that is a map by product.
pub const LICENSES_UNIQUE: &str = "spec.licenses names each product once: one server has one licence of it; remove the others";
/// `domain`, where it would make a sold server look free.
pub const DOMAIN_FREE: &str = "domain free.ds marks servers that nobody has; write the domain of this server";
/// `client.username`, where it would make a sold server look free.
pub const USERNAME_TAKEN: &str = "client.username no_owner and null mean nobody to the panel; write the client's log-in name";
/// `configuration`, on update.
pub const CONFIGURATION_FIXED: &str = "spec.configuration is fixed once a server is allocated; put it back, or create another order";
/// `client`, on update.
pub const CLIENT_FIXED: &str = "spec.client is fixed once a server is allocated; put it back, or create another order";
/// `handlerRef`, on update.
pub const HANDLER_REF_FIXED: &str = "spec.handlerRef is fixed once a server is allocated; put it back, or create another order";
/// `handlerSelector`, on update.
pub const HANDLER_SELECTOR_FIXED: &str = "spec.handlerSelector is fixed once a server is allocated; put it back, or create another order";
/// `deletionProtection`, on deletion.
pub const DELETION_PROTECTED: &str = "spec.deletionProtection is true: nothing is powered off or released; set it to false, and the server is released (deletionPolicy: Release) or left as it is (deletionPolicy: Orphan)";
/// `adopt` beside `handlerSelector`.
pub const ADOPT_HANDLER: &str = "spec.adopt names a server of one panel: set spec.handlerRef instead of spec.handlerSelector";
/// `adopt`, on update.
pub const ADOPT_FIXED: &str = "spec.adopt cannot be added, changed or removed; create another order";

/// All but resolution and note, on update.
pub const TASK_FIXED: &str = "only spec.resolution and spec.note of a task may be changed; the operator writes the rest";
/// `resolution`, on update.
pub const RESOLUTION_FIXED: &str = "spec.resolution is set once and stays; the operator raises a new task where more is needed";
/// `PartsMissing`.
pub const PARTS_MISSING: &str = "PartsMissing closes Assembly tasks only; write Done, Retry or Cancelled";
/// `Cancelled`.
pub const CANCELLED: &str =
    "a StopServer task is not cancelled: write Done when the server is off, Retry to try the power once more, or Abandon";
/// `Abandon`.
pub const ABANDON: &str = "Abandon closes FailedOperation and StopServer tasks only; write Done or Cancelled";
