//! What the tests of the API share: example manifests, schemas, and one way to validate any kind.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "each test binary uses its own part")]

pub mod bounds;
pub mod examples;
pub mod schema;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use dci_operator::api::check::{self, Problem};
use dci_operator::api::crds::{self, Target};
use dci_operator::api::{DedicatedServerOrder, IPManager, ManualTask, ProcessingHandler};
use kube::CustomResourceExt;
use kube::core::cel;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The four kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Order,
    Manager,
    Task,
    Handler,
}

pub const KINDS: [Kind; 4] = [Kind::Order, Kind::Manager, Kind::Task, Kind::Handler];

/// The definition of a kind for current servers.
pub fn definition(kind: Kind, target: Target) -> Value {
    let index = KINDS.iter().position(|k| *k == kind).unwrap();
    crds::all(target).unwrap().swap_remove(index)
}

/// The schema of a kind.
pub fn schema_of(kind: Kind) -> &'static Value {
    static SCHEMAS: OnceLock<BTreeMap<Kind, Value>> = OnceLock::new();
    let all = SCHEMAS.get_or_init(|| {
        let schema = |kind| definition(kind, Target::Current)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take();
        KINDS.into_iter().map(|kind| (kind, schema(kind))).collect()
    });
    &all[&kind]
}

/// Messages of the rules that refuse an object by itself, from rules compiled once: for tests that look at thousands of objects.
pub fn quick_refusals(kind: Kind, object: &Value) -> Vec<String> {
    thread_local! {
        static RULES: (cel::Validator, BTreeMap<Kind, cel::CompiledSchema>) =
            (cel::Validator::new(), KINDS.into_iter().map(|kind| (kind, cel::compile_schema(schema_of(kind)))).collect());
    }
    let result = RULES.with(|(validator, schemas)| validator.validate_compiled(&schemas[&kind], object, None));
    result.err().into_iter().flatten().map(|error| error.message).collect()
}

/// The complete example of a kind.
pub fn example(kind: Kind) -> Value {
    match kind {
        Kind::Order => examples::order(),
        Kind::Manager => examples::ipmanager(),
        Kind::Task => examples::task(),
        Kind::Handler => examples::handler(),
    }
}

/// Messages of the rules that refuse an object; `Err` when it does not even parse.
pub fn refusals(kind: Kind, old: Option<&Value>, new: &Value) -> Result<Vec<String>, String> {
    match kind {
        Kind::Order => evaluate::<DedicatedServerOrder>(old, new),
        Kind::Manager => evaluate::<IPManager>(old, new),
        Kind::Task => evaluate::<ManualTask>(old, new),
        Kind::Handler => evaluate::<ProcessingHandler>(old, new),
    }
}

fn parse<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|e| e.to_string())
}

// The derive's own `validate_cel` and `validate_cel_update` are these two functions.
fn evaluate<T: CustomResourceExt + Serialize + DeserializeOwned>(old: Option<&Value>, new: &Value) -> Result<Vec<String>, String> {
    let new: T = parse(new)?;
    let result = match old {
        None => cel::validate_cel(&new),
        Some(old) => cel::validate_cel_update(&new, &parse::<T>(old)?),
    };
    Ok(result.err().into_iter().flatten().map(|error| error.message).collect())
}

/// What the Rust twin says; `Err` when the object does not even parse.
pub fn twin(kind: Kind, value: &Value) -> Result<Vec<Problem>, String> {
    Ok(match kind {
        Kind::Order => check::check_order(&parse(value)?),
        Kind::Manager => check::check_ipmanager(&parse(value)?),
        Kind::Task => check::check_task(&parse(value)?),
        Kind::Handler => check::check_handler(&parse(value)?),
    })
}

/// JSON merge patch (RFC 7386): null removes.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let map = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// A copy with a patch applied.
pub fn patched(base: &Value, patch: &Value) -> Value {
    let mut value = base.clone();
    merge(&mut value, patch);
    value
}
