//! Types that several kinds share: references, connections, durations, times.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::messages as msg;

/// Reads an explicit null as if the field were absent, which is how an API server stores it.
pub(super) fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A field's default that is not its type's own, and the reader that takes null for it.
macro_rules! default_value {
    ($vis:vis $default:ident, $reader:ident: $type:ty = $value:expr) => {
        $vis fn $default() -> $type {
            $value
        }

        $vis fn $reader<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
            Ok(<Option<$type> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_else($default))
        }
    };
}
pub(super) use default_value;

default_value!(pub(super) default_poll, poll_or_default: Duration = Duration::seconds(30));
default_value!(default_timeout, timeout_or_default: Duration = Duration::seconds(60));

/// A point in time, RFC 3339, as Kubernetes writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time(pub Timestamp);

impl Time {
    /// The same instant cut to whole seconds, as conditions carry it.
    #[must_use]
    pub fn seconds(at: Timestamp) -> Self {
        Self(Timestamp::from_second(at.as_second()).unwrap_or(at))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// A duration as Kubernetes writes it: `300ms`, `1s`, `5m`, `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

/// Why a text is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a duration; write it as 300ms, 1s, 5m or 1h30m")]
pub struct DurationError(String);

/// What the schema allows: up to four parts, each short enough that the sum fits the 64 bit nanoseconds of a rule's `duration()`.
const DURATION_PATTERN: &str = "^([0-9]{1,9}(ms|s)|[0-9]{1,7}m|[0-9]{1,5}h){1,4}$";

impl Duration {
    /// A duration of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// Parses `300ms`, `1s`, `5m`, `1h30m`.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let error = || DurationError(text.chars().take(32).collect());
        let mut rest = text;
        let mut total = std::time::Duration::ZERO;
        let mut parts = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let (number, after) = rest.split_at(digits);
            let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, next) = after.split_at(unit_end);
            let (millis, longest): (u64, usize) = match unit {
                "ms" => (1, 9),
                "s" => (1_000, 9),
                "m" => (60_000, 7),
                "h" => (3_600_000, 5),
                _ => return Err(error()),
            };
            if number.is_empty() || number.len() > longest {
                return Err(error());
            }
            let number: u64 = number.parse().map_err(|_| error())?;
            total += std::time::Duration::from_millis(number.saturating_mul(millis));
            rest = next;
            parts += 1;
        }
        if parts == 0 || parts > 4 { Err(error()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (size, unit) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
            if millis >= size {
                write!(f, "{}{unit}", millis / size)?;
                millis %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": DURATION_PATTERN, "maxLength": 48})
    }
}

/// Names of objects. They become part of a request's path: a name with a slash would read somebody else's Secret.
pub(super) const NAME_PATTERN: &str = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$";
/// Names of namespaces, for the same reason.
pub(super) const NAMESPACE_PATTERN: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";

/// Values of labels that are not empty.
pub(super) const LABEL_PATTERN: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";

/// Something that can be read: more than spaces and control characters, by the categories of Unicode.
pub(super) const NOT_BLANK_PATTERN: &str = r"[^\p{Z}\p{Cc}]";

/// Schema of a label's value.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used: a bound on the values of a map")]
pub(super) struct LabelValue(#[schemars(length(max = 63), regex(pattern = "^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$"))] String);

/// A Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
}

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
    /// Key in it.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub key: String,
}

/// An object in this namespace or in another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespacedRef {
    /// Name.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
    /// Namespace; the object's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE_PATTERN))]
    pub namespace: Option<String>,
}

/// An object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME_PATTERN))]
    pub name: String,
}

/// How a panel is reached. Acted upon at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(r"self.url.matches('^https://[^\\s/@?#\\\\]+(/[^\\s@?#\\\\]*)?$') || self.url.matches('^http://(127[.][0-9]+[.][0-9]+[.][0-9]+|localhost|\\[::1\\])(:[0-9]+)?(/[^\\s@?#\\\\]*)?$')")
        .message(msg::URL)
)]
pub struct Connection {
    /// Full address of the panel, e.g. `https://dci.example.net:1500/dcimgr`. No user, query or fragment.
    #[schemars(length(min = 8, max = 512))]
    pub url: String,
    /// Secret with the keys `username` and `password`. Rotation takes effect by itself.
    pub credentials_secret_ref: LocalSecretRef,
    /// How the certificate is checked; system roots when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The longest one request may take; at least 1s and at most 5m.
    #[serde(default = "default_timeout", deserialize_with = "timeout_or_default")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('5m')").message(msg::TIMEOUT))]
    pub timeout: Duration,
}

/// How a panel's certificate is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.caBundle) ? 1 : 0) + (has(self.caBundleSecretRef) ? 1 : 0) + (has(self.pinnedSHA256) ? 1 : 0) + (self.insecureSkipVerify ? 1 : 0) <= 1")
        .message(msg::TLS)
)]
pub struct Tls {
    /// Certificates of the authorities to trust, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536), regex(pattern = NOT_BLANK_PATTERN))]
    pub ca_bundle: Option<String>,
    /// The same, from a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_secret_ref: Option<SecretKeyRef>,
    /// SHA-256 of the panel's own certificate (DER), hex.
    #[serde(default, rename = "pinnedSHA256", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 95), regex(pattern = "^([0-9A-Fa-f]{2}:?){32}$"))]
    pub pinned_sha256: Option<String>,
    /// Do not check the certificate at all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub insecure_skip_verify: bool,
}

/// Namespace and name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// That of an object of any kind: one that cannot be read has metadata, too.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self { namespace: metadata.namespace.clone().unwrap_or_default(), name: metadata.name.clone().unwrap_or_default() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_kubernetes_writes_them() {
        for (text, millis) in [("300ms", 300), ("1s", 1_000), ("5m", 300_000), ("2h", 7_200_000), ("1h30m", 5_400_000)] {
            assert_eq!(Duration::parse(text).map(|d| d.0.as_millis()), Ok(millis), "{text}");
        }
        for text in ["", "5", "m", "5x", "-5m", "1.5h", "1s1s1s1s1s", "9999999999s", "99999999m", "100000h", "5 m", "ｍ5"] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(millis in 0u64..1_000_000_000) {
            let duration = Duration(std::time::Duration::from_millis(millis));
            prop_assert_eq!(Duration::parse(&duration.to_string()), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,64}") {
            let _ = Duration::parse(&text);
        }
    }
}
