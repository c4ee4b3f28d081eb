//! `/_sim`: looking behind the panels, making faults, and playing the people who work at them.
//!
//! Bodies are JSON or YAML. `panel` may be left out everywhere: it is then the first one that fits.
//!
//! - `GET /_sim/state`, `GET /_sim/journal?since=N`, `GET /_sim/requests`
//! - `GET`, `POST`, `DELETE /_sim/faults`, `DELETE /_sim/faults/{id}`; the body is a fault as in the configuration,
//!   for example `{"action": "drop-answer", "panel": "dci", "func": "server.edit", "match": {"sok": "ok"}, "nth": 2}`;
//!   the answer is `{"id": 1}`
//! - `POST /_sim/servers`: servers as in the configuration, and `panel`; the answer is `{"ids": ["20"]}`
//! - `POST /_sim/servers/{id}`: `{"owner": "acme" or "", "hostname", "name", "mac", "notes", "type", "power": "on",
//!   "ipmi": "dead", "ip", "flags": {"hwproblem": true, "blocked", "disabled", "operation_failed"},
//!   "operations": [{"outcome": "fail", "duration": "5s"}], "finish_operation": true, "cancel_operation": true, "delete": true}`,
//!   each optional; the answer is the server; `DELETE /_sim/servers/{id}`
//! - `POST /_sim/users`: `{"name", "password", "level", "delete"}`
//! - `POST /_sim/addresses`: `{"ip", "group", "holder", "domain", "note", "delete"}`
//! - `POST /_sim/licenses/{id}`: `{"remote_id", "ip", "expires": "2026-12-31", "issue_key": true, "suspended": true,
//!   "delete": true}`, each optional

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    config::ServerConfig,
    core::{Core, Place},
    faults::FaultSpec,
    world::{
        bill::LicenseChange,
        human::{AddressChange, ServerChange, UserChange},
        refusal::Refusal,
    },
};

/// Why something behind the panels cannot be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// The body is not what it should be.
    #[error("{0}")]
    Body(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The world does not allow it.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        (status, Json(json!({"error": self.to_string()}))).into_response()
    }
}

type Answer = Result<Json<Value>, AdminError>;
type Shared = State<Arc<Core>>;

/// All paths under `/_sim`.
pub(crate) fn router(core: Arc<Core>) -> Router {
    Router::new()
        .route("/_sim", get(help))
        .route("/_sim/", get(help))
        .route("/_sim/state", get(|State(core): Shared| async move { Json(state(&core)) }))
        .route("/_sim/journal", get(|State(core): Shared, query: Query<Since>| async move { Json(journal(&core, query.since)) }))
        .route("/_sim/requests", get(|State(core): Shared| async move { Json(requests(&core)) }))
        .route("/_sim/faults", get(|State(core): Shared| async move { faults(&core) }).post(post_fault).delete(delete_faults))
        .route("/_sim/faults/{id}", axum::routing::delete(delete_fault))
        .route("/_sim/servers", post(|State(core): Shared, body: Bytes| async move { answer(add_servers(&core, parse(&body)?)) }))
        .route("/_sim/servers/{id}", post(post_server).delete(delete_server))
        .route("/_sim/users", post(|State(core): Shared, body: Bytes| async move { answer(user(&core, &parse(&body)?)) }))
        .route("/_sim/addresses", post(|State(core): Shared, body: Bytes| async move { answer(address(&core, &parse(&body)?)) }))
        .route("/_sim/licenses/{id}", post(post_license))
        .with_state(core)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Since {
    since: u64,
}

fn answer(result: Result<Value, AdminError>) -> Answer {
    result.map(Json)
}

/// Reads a body. It is read as YAML, of which JSON is a part, so that a message names the place.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, AdminError> {
    let text = std::str::from_utf8(body).map_err(|error| AdminError::Body(error.to_string()))?;
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_yaml::from_str(text).map_err(|error| AdminError::Body(error.to_string()))
}

async fn help(State(core): Shared) -> Json<Value> {
    let panels: Vec<Value> =
        core.panels.iter().map(|panel| json!({"name": panel.name, "path": format!("/{}", panel.place.mgr())})).collect();
    Json(json!({
        "panels": panels,
        "paths": ["GET /_sim/state", "GET /_sim/journal?since=N", "GET /_sim/requests", "GET|POST|DELETE /_sim/faults",
                  "DELETE /_sim/faults/{id}", "POST /_sim/servers", "POST|DELETE /_sim/servers/{id}",
                  "POST /_sim/users", "POST /_sim/addresses", "POST /_sim/licenses/{id}"],
    }))
}

/// The whole world.
pub(crate) fn state(core: &Core) -> Value {
    let (state, now) = core.settled();
    let mut panels = state.world.snapshot(now);
    for (index, panel) in core.panels.iter().enumerate() {
        panels[&panel.name]["sessions"] = Core::session_count(&state, index).into();
    }
    json!({"time": core.time(now), "panels": panels})
}

/// The entries of the journal after a number.
pub(crate) fn journal(core: &Core, since: u64) -> Vec<Value> {
    let entries: Vec<_> = core.settled().0.journal.since(since).cloned().collect();
    entries.iter().map(|entry| json!(entry)).collect()
}

/// How often each function was called.
pub(crate) fn requests(core: &Core) -> Value {
    json!(core.settled().0.journal.requests())
}

fn faults(core: &Core) -> Response {
    let (state, _) = core.settled();
    Json(state.faults.list()).into_response()
}

/// Adds a fault and returns its id.
pub(crate) fn add_fault(core: &Core, spec: FaultSpec) -> Result<u64, AdminError> {
    let names: Vec<String> = core.panels.iter().map(|panel| panel.name.clone()).collect();
    spec.check(&names).map_err(|error| AdminError::Body(error.to_string()))?;
    Ok(core.change_faults(|faults, now| faults.add(spec, now)))
}

async fn post_fault(State(core): Shared, body: Bytes) -> Answer {
    let id = add_fault(&core, parse(&body)?)?;
    Ok(Json(json!({"id": id})))
}

async fn delete_faults(State(core): Shared) -> Json<Value> {
    Json(json!({"removed": core.change_faults(|faults, _| faults.remove(None))}))
}

async fn delete_fault(State(core): Shared, Path(id): Path<u64>) -> Answer {
    match core.change_faults(|faults, _| faults.remove(Some(id))) {
        0 => Err(AdminError::NotFound(format!("there is no fault {id}"))),
        removed => Ok(Json(json!({"removed": removed}))),
    }
}

/// The server panel with this name, or the first one.
fn dci(core: &Core, name: Option<&str>) -> Result<usize, AdminError> {
    let found = core.panels.iter().find_map(|panel| match panel.place {
        Place::Dci(index) if name.is_none_or(|name| name == panel.name) => Some(index),
        Place::Dci(_) | Place::Ipm(_) | Place::Bill(_) => None,
    });
    found.ok_or_else(|| AdminError::NotFound(format!("there is no server panel `{}`", name.unwrap_or_default())))
}

/// The address manager with this name, or the first one.
fn ipm(core: &Core, name: Option<&str>) -> Result<usize, AdminError> {
    let found = core.panels.iter().find_map(|panel| match panel.place {
        Place::Ipm(index) if name.is_none_or(|name| name == panel.name) => Some(index),
        Place::Dci(_) | Place::Ipm(_) | Place::Bill(_) => None,
    });
    found.ok_or_else(|| AdminError::NotFound(format!("there is no address manager `{}`", name.unwrap_or_default())))
}

/// The body of `POST /_sim/servers`: a server as the configuration has it, and the panel.
fn add_servers(core: &Core, mut body: serde_yaml::Mapping) -> Result<Value, AdminError> {
    let panel = body.remove("panel").and_then(|name| name.as_str().map(str::to_owned));
    let entry: ServerConfig =
        serde_yaml::from_value(serde_yaml::Value::Mapping(body)).map_err(|error| AdminError::Body(error.to_string()))?;
    let panel = dci(core, panel.as_deref())?;
    let ids = core.settled().0.world.human_add_servers(panel, &entry).map_err(AdminError::Body)?;
    Ok(json!({"ids": ids.iter().map(u64::to_string).collect::<Vec<_>>()}))
}

/// Changes a server as a person does, and returns it as it is then.
pub(crate) fn server(core: &Core, id: u64, change: &ServerChange) -> Result<Value, AdminError> {
    let panel = dci(core, change.panel.as_deref())?;
    let (mut state, now) = core.settled();
    state.world.human_server(panel, id, change, now)?;
    state.world.advance(now);
    let panel = &state.world.dci[panel];
    Ok(panel.servers.get(&id).map_or_else(|| json!({"deleted": id.to_string()}), |server| panel.server_snapshot(server, now)))
}

async fn post_server(State(core): Shared, Path(id): Path<u64>, body: Bytes) -> Answer {
    answer(server(&core, id, &parse(&body)?))
}

async fn delete_server(State(core): Shared, Path(id): Path<u64>) -> Answer {
    answer(server(&core, id, &ServerChange { delete: true, ..ServerChange::default() }))
}

/// Makes, changes or deletes a user.
pub(crate) fn user(core: &Core, change: &UserChange) -> Result<Value, AdminError> {
    let found = match &change.panel {
        None => core.panels.first(),
        Some(name) => core.panels.iter().find(|panel| panel.name == *name),
    };
    let place = found.ok_or_else(|| AdminError::NotFound("there is no such panel".to_owned()))?.place;
    let (mut state, _) = core.settled();
    let users = match place {
        Place::Dci(index) => &mut state.world.dci[index].users,
        Place::Ipm(index) => &mut state.world.ipm[index].users,
        Place::Bill(index) => &mut state.world.bill[index].users,
    };
    let known = users.named(&change.name).map(|user| user.id);
    let id = match (known, change.delete) {
        (Some(id), true) => {
            users.delete(id)?;
            id
        }
        (None, true) => return Err(AdminError::NotFound(format!("there is no user `{}`", change.name))),
        (Some(id), false) => {
            users.change(id, None, change.password.as_deref(), change.level)?;
            id
        }
        (None, false) => {
            let password = change.password.as_deref().unwrap_or_default();
            users.create(&change.name, password, change.level.unwrap_or(super::world::users::LEVEL_USER))?
        }
    };
    Ok(json!({"id": id.to_string()}))
}

/// Takes, changes or gives back an address of an address manager.
pub(crate) fn address(core: &Core, change: &AddressChange) -> Result<Value, AdminError> {
    let panel = ipm(core, change.panel.as_deref())?;
    core.settled().0.world.human_address(panel, change)?;
    Ok(json!({"ip": change.ip}))
}

/// Changes or deletes a licence, as a person does.
pub(crate) fn license(core: &Core, id: u64, change: &LicenseChange) -> Result<Value, AdminError> {
    let found = core.panels.iter().find_map(|panel| match panel.place {
        Place::Bill(index) if change.panel.as_ref().is_none_or(|name| *name == panel.name) => Some(index),
        Place::Dci(_) | Place::Ipm(_) | Place::Bill(_) => None,
    });
    let panel = found.ok_or_else(|| AdminError::NotFound("there is no such licence server".to_owned()))?;
    let (mut state, now) = core.settled();
    state.world.human_license(panel, id, change, now)?;
    Ok(json!({"id": id.to_string()}))
}

async fn post_license(State(core): Shared, Path(id): Path<u64>, body: Bytes) -> Answer {
    answer(license(&core, id, &parse(&body)?))
}
