//! The password of a panel's user, read from its Secret before each log-in: a rotation counts at once, and the old one is not tried.

use std::fmt;
use std::pin::Pin;

use kube::Client;
use secrecy::{ExposeSecret, SecretString};

use crate::panel::settings::Passwords;

use super::secrets;

/// The Secret of a connection.
pub(super) struct SecretPassword {
    client: Client,
    namespace: String,
    name: String,
    /// Whose password it is; another name takes another client.
    username: String,
}

impl SecretPassword {
    pub(super) fn new(client: &Client, namespace: &str, name: &str, username: &str) -> Self {
        Self { client: client.clone(), namespace: namespace.to_owned(), name: name.to_owned(), username: username.to_owned() }
    }

    async fn now(&self) -> Result<SecretString, String> {
        let secret = secrets::read(&self.client, &self.namespace, &self.name).await.map_err(|e| e.to_string())?;
        if secret.text("username").map_err(|e| e.to_string())?.expose_secret() != self.username {
            return Err(format!("Secret {}/{} names another user now; the next probe logs in as that one", self.namespace, self.name));
        }
        secret.text("password").map_err(|e| e.to_string())
    }
}

impl fmt::Debug for SecretPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretPassword({}/{})", self.namespace, self.name)
    }
}

impl Passwords for SecretPassword {
    fn read(&self) -> Pin<Box<dyn Future<Output = Result<SecretString, String>> + Send + '_>> {
        Box::pin(self.now())
    }
}
