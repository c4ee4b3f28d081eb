//! A client's name belongs to one namespace per panel: recorded in the handler's status, first come first served.

use kube::Api;

use crate::api::ProcessingHandler;
use crate::api::handler_status::ClientClaim;
use crate::provisioning::facts::Prepared;
use crate::provisioning::order::Order;

use super::context::Context;
use super::panels::ServerClient;
use super::status::{self, StatusError};

/// Names that one handler can record: bounded, so that its status stays storable.
const NAMES: usize = 5000;
/// Tries against other writers of the handler's status.
const TRIES: usize = 8;

/// Records that a name is this namespace's, or tells that it is another's.
pub async fn claim(context: &Context, client: &ServerClient, order: &Order) -> Result<Prepared, kube::Error> {
    let api: Api<ProcessingHandler> = Api::namespaced(context.client.clone(), &client.policy.key.namespace);
    let taken = || Prepared::Missing(format!("client name {} is taken at this panel; choose another spec.client.username", order.username));
    for _ in 0..TRIES {
        // Handlers of the same panel share its users.
        let elsewhere = context.handlers.read(|h| {
            let status = h.status.as_ref().filter(|s| s.panel.as_deref() == Some(&client.policy.panel))?;
            owner(&status.clients, &order.username).map(str::to_owned)
        });
        if elsewhere.iter().any(|namespace| *namespace != order.key.namespace) {
            return Ok(taken());
        }
        let handler = api.get(&client.policy.key.name).await?;
        let mut new = handler.status.clone().unwrap_or_default();
        match owner(&new.clients, &order.username) {
            Some(namespace) if namespace == order.key.namespace => return Ok(Prepared::Ready),
            Some(_) => return Ok(taken()),
            None if new.clients.len() >= NAMES => {
                return Ok(Prepared::Missing(format!(
                    "the handler has recorded {NAMES} client names; use another handler for new clients"
                )));
            }
            None => {}
        }
        new.clients.push(ClientClaim { username: order.username.clone(), namespace: order.key.namespace.clone() });
        new.panel.get_or_insert_with(|| client.policy.panel.clone());
        match status::write(&context.client, &handler, &new).await {
            Ok(_) => return Ok(Prepared::Ready),
            Err(StatusError::Conflict(_)) => {}
            Err(StatusError::Api { source, .. }) => return Err(*source),
            Err(error @ (StatusError::Gone(_) | StatusError::CrdOutdated { .. } | StatusError::Json(_))) => {
                return Ok(Prepared::Missing(error.to_string()));
            }
        }
    }
    Ok(Prepared::Missing("the handler's status is being written by others; trying again".into()))
}

fn owner<'a>(claims: &'a [ClientClaim], username: &str) -> Option<&'a str> {
    claims.iter().find(|c| c.username.eq_ignore_ascii_case(username)).map(|c| c.namespace.as_str())
}
