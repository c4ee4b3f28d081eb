//! Versions of the root passwords in users' Secrets: they tell whether a password is still the one that a system was given, and nothing of
//! the password to those who may not read Secrets.
//!
//! A version is a keyed digest of the value. Whatever else is written to a Secret, a label or another of its keys, changes nothing. A
//! password may be weak: a digest that anybody can compute, with the order's uid for a salt or not, would be one to try a list of
//! passwords against. The key is drawn at random and lies in a Secret of the order's own, beside the password: whoever can
//! read the key can read the password.

use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

use crate::api::DedicatedServerOrder;
use crate::provisioning::rotation;

use super::locks::hex;
use super::secrets::{self, SecretError};

/// What the name of the Secret with the key ends in.
const SUFFIX: &str = "password-key";
/// Digits of a digest: 128 bits.
const DIGITS: usize = 32;
/// Digits that tell one key from another.
const KEY_DIGITS: usize = 16;

/// The version of a password; empty where there is no key for it, and none can be made: then nothing is known of it.
pub async fn of(client: &kube::Client, order: &DedicatedServerOrder, password: &SecretString) -> Result<String, SecretError> {
    match secrets::generated(client, order, SUFFIX, "status.server.passwordVersion").await {
        Ok(key) => Ok(keyed(&key, password)),
        Err(error) if error.needs_somebody() => {
            tracing::warn!(order = %order.key(), %error, "no key: whether the root password is rotated is not known");
            Ok(String::new())
        }
        Err(error) => Err(error),
    }
}

fn keyed(key: &SecretString, password: &SecretString) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
    let tag = |of: &str, text: &str, digits: usize| hex(hmac::sign(&key, format!("{of}\n{text}").as_bytes()).as_ref(), digits);
    rotation::version(&tag("key", "", KEY_DIGITS), &tag("password", password.expose_secret(), DIGITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(key: &str, password: &str) -> String {
        keyed(&SecretString::from(key), &SecretString::from(password))
    }

    #[test]
    fn a_version_changes_with_the_password_and_shows_nothing_of_it_without_the_key() {
        let one = version("key-1", "secret");
        assert_eq!(one, version("key-1", "secret"));
        assert_ne!(one, version("key-1", "secret2"));
        assert!(rotation::comparable(&one, &version("key-1", "secret2")));
        assert!(!rotation::comparable(&one, &version("key-2", "secret")), "another key tells nothing");
        let parts = |text: &str| text.split(':').map(str::to_owned).collect::<Vec<_>>();
        let (with, other) = (parts(&one), parts(&version("key-2", "secret")));
        assert!(with.len() == 3 && with[0] == other[0] && with[1] != other[1] && with[2] != other[2], "{with:?} {other:?}");
    }
}
