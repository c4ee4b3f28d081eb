//! What a licence server sells: products are data, since their ids belong to whoever sells them.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Duration, NOT_BLANK_PATTERN, default_value, null_as_default};
use super::messages as msg;

/// Licences of a licence server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.products.all(name, name.matches('^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$'))")
        .message(msg::LICENSE_PRODUCT)
)]
pub struct Licenses {
    /// What may be ordered, by the name that orders use: at most 63 letters, digits, `-`, `_` and `.`. The name stands in the
    /// licence's remote id and is its key in the Secret, so that renaming a product makes another one of it.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 32))]
    pub products: BTreeMap<String, LicenseProduct>,
    /// How long before its end a licence is renewed, but never before half of its period is over; at least 1s.
    #[serde(default = "default_renewal", deserialize_with = "renewal_or_default")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message(msg::RENEW_BEFORE))]
    pub renew_before: Duration,
    /// What becomes of a licence when its order goes, or does not ask for it any more.
    #[serde(default, deserialize_with = "null_as_default")]
    pub on_deletion: LicenseDeletion,
    /// The panel's project (company) to order for; the panel's own choice when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = NOT_BLANK_PATTERN))]
    pub project: Option<String>,
}

default_value!(default_renewal, renewal_or_default: Duration = Duration::seconds(72 * 3600));

/// A product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LicenseProduct {
    /// Id of the tariff (`pricelist`) at the licence server.
    #[schemars(length(min = 1, max = 64), regex(pattern = NOT_BLANK_PATTERN))]
    pub pricelist: String,
    /// Addons: id at the licence server, and value; sent as `addon_<id>`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), with = "BTreeMap<String, AddonValue>")]
    pub addons: BTreeMap<String, String>,
}

/// Schema of an addon's value.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used: a bound on the values of a map")]
struct AddonValue(#[schemars(length(max = 128))] String);

/// What becomes of a licence that is not needed any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LicenseDeletion {
    /// It is suspended and keeps its remote id; it is not renewed any more.
    #[default]
    Suspend,
    /// It is suspended, renamed to `free.lic`, bound to 0.0.0.0, and its remote id is cleared, so that somebody can use it again.
    Release,
}
