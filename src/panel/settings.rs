//! How a panel is reached, as plain data: address, credentials, certificate check, limits; and which panel it is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::denied::{Denied, DeniedNetworks};
use super::error::DEFAULT_TIMEOUT;

/// Why settings can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The address is not one of a panel.
    #[error("connection.url: {0}")]
    Url(&'static str),
    /// The address is in a network that is refused.
    #[error("connection.url: {0}")]
    Denied(#[from] Denied),
    /// The pinned checksum is not SHA-256.
    #[error("connection.tls.pinnedSHA256: expected 32 bytes as hexadecimal digits")]
    Pin,
    /// The bundle holds no certificate that can be used.
    #[error("connection.tls.caBundle: {0}")]
    Bundle(String),
    /// There is nothing to check certificates against.
    #[error("no certificates of authorities on this system: {0}; give connection.tls.caBundle or connection.tls.pinnedSHA256")]
    System(String),
    /// The HTTP client could not be made.
    #[error("HTTP client: {0}")]
    Http(String),
}

/// How a panel's certificate is checked (ispsystem-api.md 1.1: self-signed certificates are the norm there).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Against the authorities of the system.
    #[default]
    System,
    /// Against these certificates (PEM). A panel that presents one of them itself is accepted under its own name.
    CaBundle(String),
    /// The panel's own certificate has this SHA-256; neither its name nor its dates matter.
    Pinned([u8; 32]),
    /// Not at all.
    Insecure,
}

impl TlsMode {
    /// Reads a SHA-256 checksum: 64 hexadecimal digits, colons between bytes allowed.
    pub fn pinned(text: &str) -> Result<Self, SettingsError> {
        let digits: Vec<u8> = text.trim().bytes().filter(|b| *b != b':').collect();
        let mut pin = [0u8; 32];
        if digits.len() != 64 {
            return Err(SettingsError::Pin);
        }
        for (byte, pair) in pin.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                (None, _) | (_, None) => return Err(SettingsError::Pin),
            }
        }
        Ok(Self::Pinned(pin))
    }
}

/// Where a password is read anew before each log-in.
pub trait Passwords: fmt::Debug + Send + Sync {
    /// The password now. An error says why there is none, and tells nothing of it.
    fn read(&self) -> Pin<Box<dyn Future<Output = Result<SecretString, String>> + Send + '_>>;
}

/// Whether a request is still to be sent: asked when its turn has come, which may be long after it was decided upon.
#[derive(Clone)]
pub struct Permission(Arc<dyn Fn() -> bool + Send + Sync>);

impl Permission {
    /// One that asks this.
    #[must_use]
    pub fn new(ask: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Asks.
    #[must_use]
    pub fn is_given(&self) -> bool {
        (self.0)()
    }
}

impl Default for Permission {
    /// Always given.
    fn default() -> Self {
        Self::new(|| true)
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permission({})", self.is_given())
    }
}

/// Everything that is needed to speak with one panel. `Debug` shows no password.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// Full address, e.g. `https://dci.example.net:1500/dcimgr` (ispsystem-api.md 1.1).
    pub url: String,
    /// Log-in name.
    pub username: String,
    /// Password.
    pub password: SecretString,
    /// Where it is read anew before each log-in; when absent it stays as it is.
    pub passwords: Option<Arc<dyn Passwords>>,
    /// How the certificate is checked.
    pub tls: TlsMode,
    /// The longest one call may take, the answer's body included; waiting for the limits is not.
    pub timeout: Duration,
    /// Requests per second; 0 is no limit.
    pub requests_per_second: u32,
    /// Requests at a time; 0 is no limit.
    pub max_concurrent: usize,
    /// Where no panel is.
    pub denied: DeniedNetworks,
    /// Whether anything is still to be sent.
    pub permission: Permission,
}

impl ConnectionSettings {
    /// Settings with the defaults: system authorities, 60 seconds, ten requests per second, eight at a time, no link-local panels.
    #[must_use]
    pub fn new(url: impl Into<String>, username: impl Into<String>, password: SecretString) -> Self {
        Self {
            url: url.into(),
            username: username.into(),
            password,
            passwords: None,
            tls: TlsMode::System,
            timeout: DEFAULT_TIMEOUT,
            requests_per_second: 10,
            max_concurrent: 8,
            denied: DeniedNetworks::default(),
            permission: Permission::default(),
        }
    }
}

/// Which panel it is, however its address is written: host, port and path.
///
/// The scheme is no part of it, and `/manager/dcimgr` and `/dcimgr` of one host are the same manager (ispsystem-api.md 1.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PanelId {
    host: String,
    port: u16,
    path: String,
}

impl PanelId {
    /// Reads the identity from a panel's address. Refused: any scheme but https (http for loopback addresses only),
    /// credentials, query and fragment, and characters that two programs could read in two ways.
    pub fn of_url(url: &str) -> Result<Self, SettingsError> {
        let url = url.trim().to_ascii_lowercase();
        let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(SettingsError::Url("must begin with https://")),
        };
        if rest.contains('@') {
            return Err(SettingsError::Url("must not carry credentials; they belong into the Secret of connection.credentialsSecretRef"));
        }
        if rest.contains(['?', '#']) {
            return Err(SettingsError::Url("must have neither query nor fragment"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_authority(authority)?;
        let port = match port {
            None | Some("") => {
                if secure {
                    443
                } else {
                    80
                }
            }
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|p| *p != 0).ok_or(SettingsError::Url("the port must be between 1 and 65535"))?
            }
            Some(_) => return Err(SettingsError::Url("the port must be a number")),
        };
        if !secure && !is_loopback(&host) {
            return Err(SettingsError::Url("http:// is accepted for a loopback address only; use https://"));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/');
        if !path.bytes().all(plain) || path.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(SettingsError::Url("the path must be that of a manager, such as /dcimgr"));
        }
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if parts.len() > 1 && parts[0] == "manager" {
            parts.remove(0);
        }
        Ok(Self { host, port, path: parts.join("/") })
    }

    /// Host and port, for messages.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for PanelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.path)
    }
}

fn split_authority(authority: &str) -> Result<(String, Option<&str>), SettingsError> {
    const HOST: SettingsError = SettingsError::Url("the host must be a name or an address");
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(HOST)?;
        let address: Ipv6Addr = address.parse().map_err(|_| HOST)?;
        let port = match port {
            "" => None,
            _ => Some(port.strip_prefix(':').ok_or(HOST)?),
        };
        return Ok((format!("[{address}]"), port));
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !host.split('.').all(label) {
        return Err(HOST);
    }
    // A name that ends in a number is an address, which URL parsers also read in octal, hexadecimal or with parts missing.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(HOST);
    }
    Ok((host.to_owned(), port))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(url: &str) -> String {
        PanelId::of_url(url).map_or_else(|e| e.to_string(), |id| id.to_string())
    }

    #[test]
    fn one_panel_has_one_identity() {
        for (url, expected) in [
            ("https://dci.example.net:1500/dcimgr", "dci.example.net:1500/dcimgr"),
            ("https://DCI.example.net.:1500/manager/dcimgr/", "dci.example.net:1500/dcimgr"),
            ("https://dci.example.net:1500//dcimgr//", "dci.example.net:1500/dcimgr"),
            ("https://dci.example.net/dcimgr", "dci.example.net:443/dcimgr"),
            ("https://10.0.0.1/ipmgr", "10.0.0.1:443/ipmgr"),
            ("https://[2001:DB8:0::1]:1500/ipmgr", "[2001:db8::1]:1500/ipmgr"),
            ("http://127.0.0.1:8080/dcimgr", "127.0.0.1:8080/dcimgr"),
            ("http://[::1]:8080/dcimgr", "[::1]:8080/dcimgr"),
            ("http://localhost/manager", "localhost:80/manager"),
        ] {
            assert_eq!(id(url), expected, "{url}");
        }
    }

    #[test]
    fn an_address_that_could_be_read_in_two_ways_is_refused() {
        for url in [
            "",
            "dci.example.net",
            "ftp://x/dcimgr",
            "http://dci.example.net/dcimgr",
            "https://op:pw@x/dcimgr",
            "https://x/dcimgr?func=auth",
            "https://x/dcimgr#x",
            "https:///dcimgr",
            "https://x:0/d",
            "https://x:99999/d",
            "https://x:1a/d",
            "https://x..y/d",
            "https://0x7f.1/d",
            "https://127.1/d",
            "https://x/a/../b",
            "https://x/%64",
            "https://[::1/d",
            "https://[::1]1/d",
            "https://x y/d",
        ] {
            assert!(PanelId::of_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_pin_is_read_with_and_without_colons() {
        let plain = TlsMode::pinned(&"0aF1".repeat(16)).unwrap();
        let colons = ["0a:f1"; 16].join(":");
        assert_eq!(TlsMode::pinned(&colons).unwrap(), plain);
        for wrong in ["", "00", &"0g".repeat(32), &"00".repeat(33)] {
            assert_eq!(TlsMode::pinned(wrong), Err(SettingsError::Pin));
        }
    }

    #[test]
    fn settings_show_no_password() {
        let settings = ConnectionSettings::new("https://x/dcimgr", "op", SecretString::from("hunter2"));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_identity(text in "\\PC{0,60}") {
            let _ = PanelId::of_url(&text);
            let _ = PanelId::of_url(&format!("https://{text}"));
            let _ = TlsMode::pinned(&text);
        }

        #[test]
        fn an_identity_is_its_own_identity(text in "https://[a-z]{1,8}(:[1-9][0-9]{0,3})?(/[a-z]{0,4}){0,3}") {
            let id = PanelId::of_url(&text).unwrap();
            let again = PanelId::of_url(&format!("https://{id}")).unwrap();
            // Taking "manager/" away once more would be another manager only for a path nobody has.
            prop_assume!(!id.to_string().contains("/manager/"));
            prop_assert_eq!(id, again);
        }
    }
}
