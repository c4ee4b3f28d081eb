//! The client's user at a panel: made by one order, whose Secret alone says its password.

use secrecy::SecretString;
use tokio::sync::Mutex;

use crate::panel::ServerPanel;
use crate::panel::error::{ErrorDocument, Outcome, PanelError};

/// Makes a user, unless a look shows that it is there by now. Several orders of a new client have all seen that it is not: the first one
/// makes it, with its password; what the others stored would open nothing, and is not theirs to remove. `turn`: held by one of them at a
/// time. `password`: stores one; awaited only where the user is made.
pub async fn make<E>(
    turn: &Mutex<()>,
    panel: &dyn ServerPanel,
    name: &str,
    username: &str,
    password: impl Future<Output = Result<SecretString, E>>,
) -> Result<Outcome<()>, E> {
    let _turn = turn.lock().await;
    match panel.users().await {
        Ok(users) if users.iter().any(|user| user.name == username) => return Ok(Outcome::Refused(is_there(name, username))),
        Ok(_) => {}
        Err(error) => return Ok(Outcome::Refused(error)),
    }
    let password = password.await?;
    Ok(panel.create_user(username, &password).await.unit())
}

/// What the panel would answer: the next decision looks at the users again, and goes on.
fn is_there(panel: &str, username: &str) -> PanelError {
    let error = ErrorDocument {
        kind: "exists".to_owned(),
        object: "user".to_owned(),
        value: username.to_owned(),
        message: "made by another order a moment ago".to_owned(),
    };
    PanelError::Refused { panel: panel.to_owned(), func: "user.edit".to_owned(), error }
}
