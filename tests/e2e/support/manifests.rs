//! Manifests of all kinds that are drawn from our own schemas: a good one, and then one or two places of it made worse, or only odd.
//!
//! Nobody here knows whether what comes out is valid: that is for the server and the operator to say.

use dci_operator::api::crds::{self, Target};
use serde_json::{Map, Value, json};

use super::objects;

/// Choices from a seed (splitmix64).
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }

    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// One manifest.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub kind: &'static str,
    pub name: String,
    /// What is sent.
    pub object: Value,
    /// A spec that works.
    pub good: Value,
    /// What was done to it.
    pub why: String,
}

/// Texts that somebody once stumbled over, or tried.
const ODD: &[&str] = &[
    "",
    " ",
    "\t\r\n",
    "\u{a0}",
    "\u{200b}",
    "\u{202e}txet",
    "\u{0}",
    "\u{7f}",
    "ж",
    "ＡＢＣ",
    "e\u{301}",
    "👩‍👩‍👧‍👦",
    "İ",
    "-",
    ".",
    "..",
    "a.",
    "-a",
    "A",
    "a b",
    "a/b",
    "../../secrets",
    "a\nb",
    "a\r\nX-Header: 1",
    "k8s:e2e/shop/web-01/0c4f3a6e",
    "x k8s:0c4f3a6e y",
    "%s%n%x",
    "%00%0a",
    "{server}",
    "{{ .Values.x }}",
    "${HOME}",
    "$(id)",
    "';--",
    "\"><b>",
    "null",
    "true",
    "0x10",
    "1e9",
    "~",
    "no_owner",
    "NO_OWNER",
    "free.ds",
    "kube-system",
    "operator",
    "msk-1",
    "main",
    "dci-admin",
    "0s",
    "1ms",
    "1s",
    "99999h",
    "99999h99999h99999h99999h",
    "1h1h1h1h1h",
    "-1s",
    "1.5s",
    "5m ",
    "2026-02-30T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-23:59",
    "2026-11-22T10:00:00.123456789+05:00",
    "https://",
    "https://:1500/dcimgr",
    "https://127.0.0.1:0/dcimgr",
    "https://127.0.0.1:99999/dcimgr",
    "https://127.0.0.1:1/dcimgr",
    "https://127.1/dcimgr",
    "https://0x7f000001/dcimgr",
    "https://169.254.169.254/dcimgr",
    "https://[::ffff:169.254.169.254]/dcimgr",
    "https://[fe80::1%25eth0]/dcimgr",
    "https://user:pass@127.0.0.1:1/dcimgr",
    "https://127.0.0.1:1/dcimgr?func=auth",
    "http://127.0.0.1:1/dcimgr",
    "http://127.0.0.1:1/a/../b",
    "http://10.0.0.1/dcimgr",
    "file:///etc/passwd",
    "HTTPS://127.0.0.1:1/dcimgr",
];

/// Texts that mostly are what a field asks for, and mean something or nothing there.
const TAME: &[&str] = &[
    "a",
    "x1",
    "web-02",
    "acme",
    "root",
    "public",
    "parking",
    "Operations",
    "Leads",
    "Assembly",
    "E5-64G",
    "E9",
    "b.example.net",
    "free.ds",
    "ISPsystem__None-1",
    "ISPsystem__nginx.sh",
    "a@b.example",
    "nowhere",
    "main",
    "msk-1",
    "dci-admin",
    "ipm-user",
    "password",
    "1s",
    "7s",
    "1m",
    "2h30m",
    "2026-11-22T10:00:00Z",
    "POST",
    "server.edit",
    "{server}",
    "https://127.0.0.1:1/dcimgr",
    "https://169.254.169.254/dcimgr",
    "http://127.0.0.1:1/dcimgr",
    "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF",
    "17",
    "18",
    "19, 20",
];

/// Values of other types than a field has.
fn other_types() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(2_147_483_648_i64),
        json!(9_007_199_254_740_993_i64),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!("text"),
        json!([]),
        json!([null]),
        json!([{}]),
        json!({}),
        json!({"a": null}),
        json!({"": ""}),
        deep(60),
    ]
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!("bottom"), |inner, _| json!({"a": [inner]}))
}

/// What a node of a schema may be given.
fn values(draw: &mut Draw, schema: &Value, tame: bool) -> Value {
    if draw.one_in(if tame { 25 } else { 5 }) {
        let all = other_types();
        return draw.of(&all).clone();
    }
    let bound = |name: &str| schema[name].as_u64().and_then(|n| usize::try_from(n).ok());
    if let Some(words) = schema["enum"].as_array() {
        return match draw.below(if tame { 20 } else { 4 }) {
            0 => json!(draw.of(words).as_str().unwrap_or_default().to_lowercase()),
            1 => json!(""),
            _ => draw.of(words).clone(),
        };
    }
    match schema["type"].as_str() {
        Some("string") if tame && !draw.one_in(8) => json!(draw.of(TAME)),
        Some("string") => text(draw, bound("minLength").unwrap_or(0), bound("maxLength").unwrap_or(300)),
        Some("integer" | "number") => {
            let (low, high) = (schema["minimum"].as_f64().unwrap_or(0.0), schema["maximum"].as_f64().unwrap_or(1e6));
            #[expect(clippy::cast_possible_truncation, reason = "bounds of int32 fields")]
            let all = [low, low + 1.0, low + 2.0, high, high - 1.0, high + 1.0, low - 1.0, f64::from(i32::MIN), f64::from(i32::MAX)]
                .map(|n| n as i64);
            json!(draw.of(if tame { &all[..4] } else { &all }))
        }
        Some("boolean") => json!(draw.one_in(2)),
        Some("array") => {
            let most = bound("maxItems").unwrap_or(4);
            let count = if tame { draw.below(3) } else { [0, 2, most, most + 1][draw.below(4)] };
            let first = values(draw, &schema["items"], tame);
            let all = (0..count).map(|_| if !tame && draw.one_in(2) { first.clone() } else { values(draw, &schema["items"], tame) });
            Value::Array(all.collect())
        }
        Some("object") if schema["additionalProperties"].is_object() => {
            let most = bound("maxProperties").unwrap_or(4);
            let count = if tame { draw.below(3) } else { [0, 2, most, most + 1][draw.below(4)] };
            let mut all = Map::new();
            for number in 0..count {
                let key = if tame || draw.one_in(2) { format!("key-{number}") } else { format!("{}{number}", draw.of(ODD)) };
                all.insert(key, values(draw, &schema["additionalProperties"], tame));
            }
            Value::Object(all)
        }
        _ => {
            // An object with some of its properties, each as it comes; a tame one has those that it must.
            let required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|r| r == name));
            let mut all = Map::new();
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                if (tame && required(name)) || draw.one_in(if tame { 4 } else { 2 }) {
                    all.insert(name.clone(), values(draw, property, tame));
                }
            }
            Value::Object(all)
        }
    }
}

fn text(draw: &mut Draw, least: usize, most: usize) -> Value {
    let filler = *draw.of(&["a", "a.", "ж", "0", "\u{1f600}", "a-"]);
    let of_length = |length: usize| filler.chars().cycle().take(length).collect::<String>();
    match draw.below(8) {
        0 => json!(of_length(most)),
        1 => json!(of_length(most + 1)),
        2 => json!(of_length(least.saturating_sub(1))),
        3 => json!(of_length(least)),
        _ => json!(draw.of(ODD)),
    }
}

/// Changes one place below `spec`; says which.
fn change(draw: &mut Draw, schema: &Value, value: &mut Value, path: &str, tame: bool) -> String {
    let properties = schema["properties"].as_object();
    let deeper = match (&*value, properties) {
        (Value::Object(_), Some(properties)) if !properties.is_empty() && (path == "spec" || draw.below(10) < 7) => {
            let names: Vec<&String> = properties.keys().collect();
            Some((*draw.of(&names)).clone())
        }
        _ => None,
    };
    if let Some(name) = deeper {
        let (below, child) = (&schema["properties"][&name], format!("{path}.{name}"));
        let members = value.as_object_mut().unwrap();
        if draw.one_in(12) {
            members.remove(&name);
            return format!("{child} is absent");
        }
        if draw.one_in(20) {
            members.insert(format!("{name}X"), json!("unknown"));
            return format!("{child}X is unknown");
        }
        let entry = members.entry(name).or_insert(Value::Null);
        return change(draw, below, entry, &child, tame);
    }
    *value = values(draw, schema, tame);
    let shown: String = value.to_string().chars().take(120).collect();
    format!("{path} is {shown}")
}

/// Changes something of the metadata.
fn metadata(draw: &mut Draw, object: &mut Value) -> String {
    let odd = *draw.of(ODD);
    let long = "x".repeat(*draw.of(&[63, 64, 5000]));
    let (field, value) = match draw.below(9) {
        0 => ("annotations", json!({"dci-operator.dev/order-id": odd})),
        1 => ("annotations", json!({"dci-operator.dev/reconcile-requested-at": odd})),
        2 => ("annotations", json!({"dci-operator.dev/reconcile-requested-at": long})),
        3 => ("annotations", json!({"example.net/big": "x".repeat(*draw.of(&[200_000, 262_145]))})),
        4 => ("labels", json!({"example.net/label": odd})),
        5 => ("labels", json!({ odd: "value" })),
        6 => ("labels", json!({"dci-operator.dev/order-uid": "0c4f3a6e", "app.kubernetes.io/managed-by": "dci-operator"})),
        7 => ("annotations", json!({"dci-operator.dev/order-id": long})),
        _ => ("labels", draw.of(&other_types()).clone()),
    };
    let shown: String = value.to_string().chars().take(120).collect();
    object["metadata"][field] = value;
    format!("metadata.{field} is {shown}")
}

/// A name that no other manifest has: short, long, as long as may be, and too long.
fn name(draw: &mut Draw, number: usize) -> String {
    let head = format!("m{number}");
    let padded = |length: usize, filler: &str| {
        let mut name = format!("{head}-{}", filler.repeat(length));
        name.truncate(length - 1);
        name + "z"
    };
    match draw.below(16) {
        0 => padded(63, "a"),
        1 => padded(64, "a"),
        2 => padded(253, "a"),
        3 => padded(254, "a"),
        4 => format!("{head}.a.b-c"),
        5 => format!("{head}-a-web-01-root"),
        6 => format!("{head}-Web"),
        7 => format!("{head}_web"),
        _ => head,
    }
}

/// Where manifests lead.
pub struct Places<'a> {
    pub provider: &'a str,
    pub dci: &'a str,
    pub ipm: &'a str,
}

const KINDS: [&str; 4] = ["DedicatedServerOrder", "ProcessingHandler", "IPManager", "ManualTask"];

/// The schemas of the specs, by kind.
pub struct Schemas(Vec<(String, Value)>);

impl Schemas {
    pub fn new() -> Self {
        let all = crds::all(Target::Current).unwrap().into_iter().map(|crd| {
            let kind = crd["spec"]["names"]["kind"].as_str().unwrap().to_owned();
            (kind, crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone())
        });
        Self(all.collect())
    }

    /// Every property of the specs that an order depends upon; what has properties of its own is each of these.
    pub fn properties(&self) -> Vec<Property> {
        fn below(kind: &'static str, path: &str, schema: &Value, all: &mut Vec<Property>) {
            match schema["properties"].as_object().filter(|properties| !properties.is_empty()) {
                Some(properties) => properties.iter().for_each(|(name, schema)| below(kind, &format!("{path}.{name}"), schema, all)),
                None => all.push(Property { kind, path: path.to_owned(), schema: schema.clone() }),
            }
        }
        let mut all = Vec::new();
        for kind in &KINDS[..3] {
            below(kind, "spec", self.of(kind), &mut all);
        }
        all
    }

    fn of(&self, kind: &str) -> &Value {
        &self.0.iter().find(|(name, _)| name == kind).unwrap().1
    }
}

/// A property of a spec that has none below it.
#[derive(Clone, Debug)]
pub struct Property {
    pub kind: &'static str,
    /// With dots, from `spec` on.
    pub path: String,
    schema: Value,
}

impl Property {
    /// A patch that gives it another value than it has in this spec.
    pub fn drawn(&self, draw: &mut Draw, spec: &Value) -> Value {
        let names: Vec<&str> = self.path.split('.').collect();
        let now = names[1..].iter().fold(spec, |value, name| &value[*name]);
        let value = loop {
            let value = values(draw, &self.schema, true);
            if value != *now {
                break value;
            }
        };
        names.iter().rev().fold(value, |inner, name| json!({ *name: inner }))
    }
}

/// Draws the manifest with this number.
pub fn manifest(draw: &mut Draw, schemas: &Schemas, places: &Places, number: usize) -> Manifest {
    // Half of them orders: those are what untrusted people write.
    let kind = if draw.one_in(2) { KINDS[0] } else { *draw.of(&KINDS) };
    let mut name = name(draw, number);
    let mut object = good(kind, &name, places, number);
    let good = object["spec"].clone();
    let mut why = Vec::new();
    // Two of three are nearly right: the server takes most of them, and the operator has to find what is wrong.
    let tame = !draw.one_in(3);
    for _ in 0..=draw.below(2) {
        if draw.one_in(8) {
            why.push(metadata(draw, &mut object));
        } else {
            why.push(change(draw, schemas.of(kind), &mut object["spec"], "spec", tame));
        }
    }
    // A task whose name is what the operator would call it.
    if kind == "ManualTask" && draw.one_in(2) {
        let part = |value: &Value| value.as_str().unwrap_or("x").to_lowercase();
        name = format!("{}-{}-{}", part(&object["spec"]["type"]), part(&object["spec"]["orderRef"]["uid"]), number + 1);
        object["metadata"]["name"] = name.clone().into();
        why.push(format!("it is named {name}"));
    }
    if draw.one_in(30) {
        object["status"] =
            json!({"phase": "Active", "observedGeneration": 1, "server": {"id": "18", "handler": "a/b", "configuration": "x"}});
        why.push("it brings a status along".into());
    }
    Manifest { kind, name, object, good, why: why.join(", ") }
}

/// One that works.
fn good(kind: &str, name: &str, places: &Places, number: usize) -> Value {
    match kind {
        "DedicatedServerOrder" => {
            let client = format!("client-{}", number % 7);
            let spec = json!({
                "handlerRef": {"namespace": places.provider}, "client": {"username": client}, "domain": format!("m{number}.example.net"),
            });
            objects::order(name, &spec)
        }
        "ProcessingHandler" => {
            let mut handler = objects::handler(places.dci, &json!({"pollInterval": "2s", "allowedNamespaces": {"from": "Same"}}));
            handler["metadata"]["name"] = name.into();
            handler
        }
        "IPManager" => {
            let mut manager = objects::ip_manager(places.ipm, &json!({"pollInterval": "2s"}));
            manager["metadata"]["name"] = name.into();
            manager
        }
        _ => json!({
            "apiVersion": "dci-operator.dev/v1alpha1", "kind": "ManualTask", "metadata": {"name": name},
            "spec": {
                "type": "FailedOperation", "department": "Operations", "summary": "by hand", "details": "look",
                "orderRef": {"namespace": "shop", "name": "web-01", "uid": format!("0c4f3a6e-{number}")}, "handlerRef": {"name": "msk-1"},
            },
        }),
    }
}
