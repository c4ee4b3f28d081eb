//! Calls of a panel that are made otherwise than the built-in form, for what is not confirmed of a product.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{NOT_BLANK_PATTERN, null_as_default};
use super::messages as msg;

/// How a call of a panel is made where the built-in form does not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.func) != (has(self.method) && has(self.path)) && has(self.method) == has(self.path)")
        .message(msg::DIALECT)
)]
pub struct DialectCall {
    /// COREmanager function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9_.]+$"))]
    pub func: Option<String>,
    /// HTTP method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 6), regex(pattern = "^[A-Z]+$"))]
    pub method: Option<String>,
    /// Path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = NOT_BLANK_PATTERN))]
    pub path: Option<String>,
    /// Parameters; values may hold placeholders such as `{server}`.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64), with = "BTreeMap<String, ParamValue>")]
    pub params: BTreeMap<String, String>,
    /// Member of the answer that carries the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = NOT_BLANK_PATTERN))]
    pub answer: Option<String>,
    /// How the effect is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<DialectVerify>,
}

/// Schema of a parameter's value.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used: a bound on the values of a map")]
struct ParamValue(#[schemars(length(max = 512))] String);

/// How the effect of a dialect call is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DialectVerify {
    /// The call that is read.
    #[schemars(length(min = 1, max = 128), regex(pattern = NOT_BLANK_PATTERN))]
    pub call: String,
    /// What it has to show.
    #[schemars(length(min = 1, max = 512), regex(pattern = NOT_BLANK_PATTERN))]
    pub expect: String,
}
