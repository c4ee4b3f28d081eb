//! What the operator says of an order. No bound, enum or pattern: an old schema must never refuse the write that matters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Time, null_as_default};
use super::condition::Condition;

/// What the operator says of an order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderStatus {
    /// The generation that was acted upon; -1 before the operator saw the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// For people: Pending, Allocating, `AwaitingTask`, Preparing, Active, Suspended, Deleting, Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// For programs.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The handler that serves the order, or is tried, as namespace/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// Of the handlers that `spec.handlerSelector` selects those that were passed over, and why; at most 32.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub handlers: Vec<HandlerNote>,
    /// The steps, in order.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepStatus>,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStatus>,
    /// Servers that were given back while the order lived, newest last, at most 16; emptied when an attempt is asked for by annotation.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub tried_servers: Vec<TriedServer>,
    /// Tasks raised for this order, newest last, at most 16.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub manual_tasks: Vec<TaskSummary>,
    /// Licences; their keys are in the Secret named in `licenseSecret`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<LicenseStatus>,
    /// Name of the Secret that holds the keys of all licences. Other keys come into another Secret: none is ever changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_secret: Option<String>,
    /// Failed attempts of the step at hand.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_zero")]
    pub attempts: i32,
    /// What these attempts were made for. A change of the spec that the step acts upon starts the count anew, any other does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_for: Option<AttemptsFor>,
    /// The last error; absent once it is overcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// When it is tried again by itself; past where an order is stalled and is looked at now and then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_time: Option<Time>,
    /// What is waited for; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_on: Option<WaitingOn>,
    /// The value of the reconcile annotation that was acted upon last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// The value of `spec.reinstall` that was acted upon or recorded last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reinstall: Option<String>,
    /// The external call about to be made, written before it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<InFlight>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(value: &i32) -> bool {
    *value == 0
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// 0 to 100.
    pub percent: i32,
    /// The step at hand.
    pub step: String,
    /// What happens, where possible in the panel's own words.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A handler that was passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandlerNote {
    /// Name, in the namespace of the selector.
    pub name: String,
    /// Why: one word for programs.
    pub reason: String,
    /// In words.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Name.
    pub name: String,
    /// Pending; Running: begun, the panel not yet seen at work; Waiting: the panel is seen at work, or somebody is waited for;
    /// Done; Skipped; Failed.
    pub state: String,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// How often it was begun.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_zero")]
    pub attempts: i32,
    /// What happened.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The server of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Id at the panel.
    pub id: String,
    /// Label at the panel.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The handler, as namespace/name.
    pub handler: String,
    /// Identity of the panel (host, port, path).
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub panel: String,
    /// The configuration it was taken for.
    pub configuration: String,
    /// The client it was taken for.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// Main address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_address: Option<String>,
    /// Domain that its addresses were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// All public addresses, the main one first.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The main address it had when it was free; absent once that is replaced and given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_address: Option<String>,
    /// One of these that IPmanager need not know: the server had it before and kept it (`disableIPChange`), or somebody gave the server this
    /// main address since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_address: Option<String>,
    /// Template that was installed last by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Recipes that were run with it.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub recipes: Vec<String>,
    /// The recipe that runs, or is about to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_recipe: Option<String>,
    /// The value of `spec.reinstall` whose installation is asked for or under way; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reinstall: Option<String>,
    /// What the system is, while that installation has not begun: said again where it is withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_reinstall: Option<InstalledSystem>,
    /// The value of `spec.reinstall` that was handled before that: put back, it asks for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reinstall_before: Option<String>,
    /// The value for which a department has said that the installation is to be made once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reinstall_again: Option<String>,
    /// True: nothing shows that this installation was made, its answer being lost or not; a department says whether it is repeated.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub reinstall_unconfirmed: bool,
    /// True, while the system is being installed: the panel's form named the template before it could be there, or was not shown, so that it
    /// tells nothing of this installation.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub template_stood: bool,
    /// True, while the system is being installed or a recipe runs: the panel's list showed a failed operation before that was asked for.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub failure_stood: bool,
    /// Version of the password from the user's Secret that the system was given last: a digest with a key from Secret `<order>-password-key`.
    /// It ends in `unknown` where the answer to a change is missing: the password of the Secret is set again then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_version: Option<String>,
    /// Recipes that failed, and were not waited for.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub failed_recipes: Vec<String>,
    /// On, Off or Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_state: Option<String>,
    /// When it was handed over to the client; from then on nothing on its disks is ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over_at: Option<Time>,
    /// Set while it is given back although the order lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning: Option<Returning>,
}

/// What a server was installed with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstalledSystem {
    /// See `server.template`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// See `server.recipes`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub recipes: Vec<String>,
    /// See `server.failedRecipes`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub failed_recipes: Vec<String>,
    /// See `server.passwordVersion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_version: Option<String>,
}

/// Why a server is given back while its order lives, and what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Returning {
    /// One word for programs.
    pub reason: String,
    /// In words.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What the order does once the server is free: `TryAnother` or `Stall`.
    pub then: String,
    /// Since when.
    pub since: Time,
}

/// A server that was given back while the order lived: it is not taken for this order again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriedServer {
    /// Identity of the panel (host, port, path).
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub panel: String,
    /// The handler, as namespace/name.
    pub handler: String,
    /// Id at the panel.
    pub id: String,
    /// Label at the panel.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Why it was given back: one word for programs.
    pub reason: String,
    /// In words.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it was free again.
    pub time: Time,
    /// The generation of the order that takes no other server because of this one; absent where another one is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<i64>,
}

/// A task of this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskSummary {
    /// Name of the `ManualTask`, in the handler's namespace.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub type_: String,
    /// Department.
    pub department: String,
    /// Open, or how it was closed.
    pub state: String,
    /// When it was raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Time>,
    /// When it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Time>,
    /// Until when the department should have closed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// When that time had passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalated_at: Option<Time>,
    /// The department that may act as well from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_to: Option<String>,
    /// What it is about.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A licence of this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LicenseStatus {
    /// Product.
    pub product: String,
    /// Id at the licence server; absent while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The handler that ordered it, as namespace/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// Ordered: its key is awaited; Issued; Suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The address it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When it was last seen to be renewed; it is not renewed again within half of its period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_at: Option<Time>,
    /// When a renewal last came to nothing while the order waited for something else: it is asked for again an hour later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_failed_at: Option<Time>,
    /// When the licence server answered that it was ordered, or renewed, while it does not show that: it is not paid for again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Time>,
    /// The end that this answer named, where it was a renewal's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_end: Option<Time>,
}

/// What failed attempts are counted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptsFor {
    /// The step.
    pub step: String,
    /// A short hash of step, server, and the fields of the spec that the step acts upon.
    pub intent: String,
    /// The call that failed last.
    pub call: String,
    /// What it was done to, e.g. `server/17`; of a switch port also the connections, as `server/17/connection/1,3`.
    pub target: String,
    /// When the first attempt failed, or its answer was lost.
    pub since: Time,
    /// When the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Time>,
    /// When a department said `Done`, until the panel has been asked whether it agrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Time>,
}

/// The last error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// The step it happened in.
    pub step: String,
    /// One word for programs.
    pub code: String,
    /// What happened, and what can be done.
    pub message: String,
    /// Whether it is tried again by itself.
    pub retryable: bool,
    /// When.
    pub time: Time,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingOn {
    /// Panel, Department, Capacity, Handler or Retry.
    pub kind: String,
    /// Name of what is waited for.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Since when.
    pub since: Time,
    /// Until when at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// In words.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The external call about to be made. It stays until its effect was read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// Unique for each attempt.
    pub operation_id: String,
    /// The step it belongs to.
    pub step: String,
    /// The call, or the first of several of this step.
    pub call: String,
    /// What it is done to, e.g. `server/17`.
    pub target: String,
    /// The handler at whose panel it is done, as namespace/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// A hash of what the step was to bring about, as in `attemptsFor.intent`: a spec that asks for something else by now is told by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// When it was written, or, once Ambiguous or Answered, since when its effect has been looked for.
    pub since: Time,
    /// Sent; Ambiguous: its answer is missing; or Answered: the panel said that it was done, and does not show it.
    pub outcome: String,
    /// How often the effect was looked for in vain.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "is_zero")]
    pub looks: i32,
}

impl InFlight {
    /// The server that the call is done to, by its id at the panel; none where it is something else's.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        self.target.strip_prefix("server/")
    }
}
