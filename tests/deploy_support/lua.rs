//! Argo CD's health and action scripts, run by a Lua interpreter of the version that Argo CD's is (5.1), with no more of the
//! library than Argo CD gives them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What Argo CD shows of an object.
#[derive(Debug, PartialEq, Eq)]
pub struct Health {
    /// One of Argo CD's words.
    pub status: String,
    /// A sentence.
    pub message: String,
}

/// A kind and its scripts: health, discovery of actions, actions by name.
type Scripts = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The kinds, with the scripts of each.
pub const SCRIPTS: [Scripts; 4] = [
    ("DedicatedServerOrder", "health-order", "discovery-order", &[("reconcile", "action-reconcile")]),
    (
        "ProcessingHandler",
        "health-connection",
        "discovery-handler",
        &[("reconcile", "action-reconcile"), ("suspend", "action-suspend"), ("resume", "action-resume")],
    ),
    ("IPManager", "health-connection", "discovery-ipmanager", &[("reconcile", "action-reconcile")]),
    ("ManualTask", "health-task", "discovery-task", &[("done", "action-done"), ("retry", "action-retry")]),
];

/// The script of Argo CD's own kind Application, which an app of apps needs.
pub const APPLICATION: &str = "health-application";

/// The text of a script as Argo CD gets it: what the health scripts of our kinds begin with stands before each of them.
pub fn script(name: &str) -> String {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("deploy/argocd/lua/{name}.lua"));
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    if name.starts_with("health-") && name != APPLICATION { format!("{}\n{}", read("health-common"), read(name)) } else { read(name) }
}

/// The health script of a kind.
pub fn health_script(kind: &str) -> String {
    script(SCRIPTS.iter().find(|(name, ..)| *name == kind).unwrap().1)
}

/// The interpreter; a test that needs it is counted as skipped where there is none.
pub fn interpreter(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let found = found.map(|dir| dir.join("lua5.1")).find(|path| path.is_file());
    if found.is_none() {
        let _ = writeln!(std::io::stderr(), "SKIPPED (needs lua5.1): {test}");
    }
    found
}

/// Health of each object, by the script of its kind.
pub fn health(lua: &Path, objects: &[Value]) -> Vec<Health> {
    let mut program = String::from(SANDBOX);
    for object in objects {
        let kind = object["kind"].as_str().unwrap();
        writeln!(program, "obj = {}\nreport(function()\n{}\nend)", literal(object), health_script(kind)).unwrap();
    }
    let answers = run(lua, &program);
    let answers: Vec<Health> = answers
        .lines()
        .map(|line| {
            let (status, message) = line.split_once('\t').unwrap_or_else(|| panic!("no health: {line}"));
            Health { status: status.into(), message: message.into() }
        })
        .collect();
    assert_eq!(answers.len(), objects.len(), "one answer for each object");
    answers
}

/// Runs a script on an object, and then evaluates an expression over what it returned, `result`.
pub fn evaluate(lua: &Path, script: &str, object: &Value, expression: &str) -> String {
    let program = format!(
        "{SANDBOX}obj = {}\nlocal result = (function()\n{script}\nend)()\nout:write(tostring({expression}), '\\n')\n",
        literal(object)
    );
    run(lua, &program).trim_end().to_owned()
}

/// Argo CD opens the base, table, string and package libraries, and of os only time and date.
const SANDBOX: &str = r"
local out = io.stdout
io, debug, math, coroutine, dofile, loadfile = nil, nil, nil, nil, nil, nil
os = {time = os.time, date = os.date}
local function line(text) return (tostring(text):gsub('[\n\t]', ' ')) end
local function report(script)
  local hs = script()
  out:write(line(hs.status), '\t', line(hs.message), '\n')
end
";

fn run(lua: &Path, program: &str) -> String {
    let mut child = Command::new(lua).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut pipe, text) = (child.stdin.take().unwrap(), program.to_owned());
    let writer = std::thread::spawn(move || pipe.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A value as Argo CD hands it over: null is nil.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "nil".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("{{{}}}", items.iter().map(literal).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            format!("{{{}}}", members.iter().map(|(k, v)| format!("[{}]={}", quoted(k), literal(v))).collect::<Vec<_>>().join(","))
        }
    }
}

fn quoted(text: &str) -> String {
    let bytes = text.bytes().fold(String::new(), |mut all, byte| {
        match byte {
            b'"' | b'\\' => all.extend(['\\', char::from(byte)]),
            0x20..=0x7e => all.push(char::from(byte)),
            _ => write!(all, "\\{byte:03}").unwrap(),
        }
        all
    });
    format!("\"{bytes}\"")
}
