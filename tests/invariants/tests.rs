//! Each rule sees what breaks it, and nothing in what does not.

use serde_json::{Value, json};

use super::{Call, Event, Invariants};

const MARKER: &str = "k8s:c/shop/web/u-1";

fn order(server: Option<&str>, patch: &Value) -> Value {
    let mut order = json!({
        "kind": "DedicatedServerOrder",
        "metadata": {"namespace": "shop", "name": "web", "uid": "u-1", "finalizers": ["dci-operator.dev/release-server"]},
        "spec": {},
    });
    if let Some(server) = server {
        order["status"] = json!({"observedGeneration": -1, "handler": "hosting/msk-1", "server": {"id": server}});
    }
    for (name, value) in patch.as_object().into_iter().flatten() {
        for (inner, value) in value.as_object().into_iter().flatten() {
            order[name][inner] = value.clone();
        }
    }
    order
}

fn with_spec(order: &Value, spec: &Value) -> Value {
    let mut order = order.clone();
    order["spec"] = spec.clone();
    order
}

fn panels(notes: &str, patch: &Value) -> Value {
    let mut server = json!({"id": "17", "notes": notes, "owner": "", "power": "off"});
    for (name, value) in patch.as_object().into_iter().flatten() {
        server[name] = value.clone();
    }
    json!({"panels": {"dci": {"servers": [server, {"id": "18", "notes": ""}], "users": [{"id": "1", "name": "acme", "level": 16}]}}})
}

fn call(form: &str) -> Call {
    Call::read("operator-0", "dci", form)
}

fn answer(form: &str, notes: &str) -> Event {
    Event::Answered(Call { answer: Some(json!({"doc": {"notes": {"$": notes}}}).to_string()), ..call(form) })
}

fn edit(notes: &str, owner: &str) -> Event {
    Event::Sent(call(&format!("func=server.edit&elid=17&sok=ok&owner={owner}&notes={}", notes.replace(':', "%3A").replace('/', "%2F"))))
}

/// A read began when it was answered, unless it says otherwise.
fn broken(events: Vec<Event>) -> Vec<String> {
    let begun = |at: u64, event: Event| match event {
        Event::Answered(call) if call.began == 0 => Event::Answered(Call { began: at, ..call }),
        other => other,
    };
    let timed: Vec<(u64, Event)> = events.into_iter().zip(0..).map(|(event, n)| (n * 1000, begun(n * 1000, event))).collect();
    Invariants::new(&["hush"]).all(&timed)
}

fn breaks(rule: &str, events: Vec<Event>) {
    let found = broken(events);
    assert!(found.iter().any(|what| what.contains(rule)), "{rule} is not seen: {found:?}");
}

fn holds(events: Vec<Event>) {
    assert_eq!(broken(events), Vec::<String>::new());
}

fn has(server: &str) -> Event {
    Event::Object(None, Some(order(Some(server), &Value::Null)))
}

fn deleting() -> Value {
    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
}

const VIEW: &str = "func=server.edit&elid=17";

#[test]
fn one_server_for_one_order() {
    holds(vec![Event::Panels(panels(MARKER, &Value::Null))]);
    breaks("(1)", vec![Event::Panels(panels(&format!("{MARKER} k8s:c/shop/db/u-2"), &Value::Null))]);
    let mut two = panels(MARKER, &Value::Null);
    two["panels"]["dci"]["servers"][1]["notes"] = MARKER.into();
    breaks("(1)", vec![Event::Panels(two)]);
    let mut twice = panels("", &Value::Null);
    twice["panels"]["ipm"] = json!({"addresses": [{"ip": "203.0.113.9", "note": "k8s:u-1 k8s:u-2"}]});
    breaks("(1)", vec![Event::Panels(twice)]);
    let other = order(Some("17"), &json!({"metadata": {"name": "db", "uid": "u-2"}}));
    breaks("(1)", vec![has("17"), Event::Object(None, Some(other))]);
}

#[test]
fn a_public_address_is_on_one_server() {
    let both = |ip: &str| {
        let rows = json!([{"ip": ip}]);
        let mut state = panels("", &json!({ "ips": rows }));
        state["panels"]["dci"]["servers"][1]["ips"] = rows;
        Event::Panels(state)
    };
    breaks("(1)", vec![both("203.0.113.9")]);
    holds(vec![both("10.0.0.9")]);
    holds(vec![Event::Hand("18".into()), both("203.0.113.9")]);
}

#[test]
fn a_server_is_gone_when_two_lists_that_show_others_agree() {
    let list = |began: u64, ids: &[&str]| {
        let rows: Vec<Value> = ids.iter().map(|id| json!({"id": {"$": id}})).collect();
        Event::Answered(Call { began, answer: Some(json!({"doc": {"elem": rows}}).to_string()), ..call("func=server") })
    };
    let page = |began: u64, number: &str, id: &str| {
        let answer = json!({"doc": {"p_elems": {"$": "2"}, "elem": [{"id": {"$": id}}]}}).to_string();
        Event::Answered(Call { began, answer: Some(answer), ..call(&format!("func=server&p_num={number}")) })
    };
    let after = |lists: Vec<Event>| {
        let gone = Event::Object(Some(order(Some("17"), &deleting())), None);
        [vec![has("17"), answer(VIEW, MARKER)], lists, vec![gone]].concat()
    };
    breaks("(4)", after(vec![list(2000, &["18"])]));
    breaks("(4)", after(vec![list(2000, &[]), list(3000, &[])]));
    breaks("(4)", after(vec![list(2000, &["18"]), list(3000, &["17", "18"]), list(4000, &["18"])]));
    breaks("(4)", after(vec![page(2000, "1", "18"), page(2000, "1", "18")]));
    // Asked for before the last change.
    let reboot = Event::Sent(call("func=server.poweron&elid=17"));
    breaks("(4)", after(vec![reboot.clone(), list(1000, &["18"]), list(1500, &["18"])]));
    holds(after(vec![reboot, list(4000, &["18"]), list(5000, &["18"])]));
    holds(after(vec![list(2000, &["18"]), page(3000, "1", "18"), page(3000, "2", "19")]));
    // That its form cannot be had says nothing.
    let missed = Event::Answered(Call { answer: Some(r#"{"doc": {"error": {"$type": "missed"}}}"#.into()), ..call(VIEW) });
    breaks("(4)", after(vec![missed]));
}

#[test]
fn an_address_and_a_licence_for_one_order() {
    let at = |first: &str, second: &str, note: &str| {
        let row = json!([{"ip": "203.0.113.9"}]);
        let mut state = panels(MARKER, &json!({ "ips": row }));
        state["panels"]["dci"]["servers"][0]["notes"] = first.into();
        state["panels"]["dci"]["servers"][1] = json!({"id": "18", "notes": second, "ips": if second.is_empty() { json!([]) } else { row }});
        state["panels"]["ipm"] = json!({"addresses": [{"ip": "203.0.113.9", "note": note}]});
        vec![Event::Panels(state)]
    };
    holds(at(MARKER, "", "k8s:u-1"));
    holds(at("", "", "k8s:u-1"));
    breaks("(1)", at(MARKER, "k8s:c/shop/db/u-2", ""));
    breaks("(1)", at(MARKER, "", "k8s:u-2"));
    let with = |name: &str, server: &str, status: &Value| {
        let mut order = order(Some(server), &json!({"metadata": {"name": name, "uid": name}}));
        for (name, value) in status.as_object().into_iter().flatten() {
            order["status"][name] = value.clone();
        }
        Event::Object(None, Some(order))
    };
    let has = |server: &str, ip: &str| json!({"server": {"id": server, "addresses": [ip]}});
    breaks("(1)", vec![with("web", "17", &has("17", "203.0.113.9")), with("db", "18", &has("18", "203.0.113.9"))]);
    holds(vec![with("web", "17", &has("17", "203.0.113.9")), with("db", "18", &has("18", "203.0.113.8"))]);
    let bought = json!({"licenses": [{"product": "Lite", "id": "7"}]});
    breaks("(1)", vec![with("web", "17", &bought), with("db", "18", &bought)]);
}

#[test]
fn read_before_it_is_harmed() {
    let off = || Event::Sent(call("func=server.poweroff&elid=17"));
    breaks("(2)", vec![has("17"), off()]);
    holds(vec![has("17"), answer(VIEW, MARKER), off()]);
    breaks("(2)", vec![has("17"), answer(VIEW, ""), off()]);
    breaks("(2)", vec![has("17"), answer(VIEW, "k8s:c/shop/db/u-2"), off()]);
    // What was read before a change of the same server is old.
    breaks("(2)", vec![has("17"), answer(VIEW, MARKER), off(), off()]);
    // What another process has read is its own.
    let theirs = Event::Answered(Call { who: "operator-1".into(), answer: Some(json!({"doc": MARKER}).to_string()), ..call(VIEW) });
    breaks("(2)", vec![has("17"), theirs, off()]);
    // Nobody has it in its status.
    breaks("(2)", vec![has("18"), answer(VIEW, MARKER), off()]);
    let late = [(0, has("17")), (0, answer(VIEW, MARKER)), (super::calls::DECISION + 1, off())];
    assert!(!Invariants::default().all(&late).is_empty());
    breaks(
        "(2)",
        vec![
            has("17"),
            answer(VIEW, MARKER),
            Event::Sent(call("func=iplist.delete&plid=17&elid=3")),
            Event::Sent(call("func=server.operations&elid=17&sok=ok")),
        ],
    );
    for function in ["server.opercancel", "server.setpasswd", "server.runrecipe", "server.flagclean"] {
        let asked = || Event::Sent(call(&format!("func={function}&elid=17&sok=ok")));
        breaks("(2)", vec![has("17"), asked()]);
        holds(vec![has("17"), answer(VIEW, MARKER), asked()]);
    }
    // The main address, and addresses and licences where they are kept.
    breaks("(2)", vec![has("17"), Event::Sent(call("func=iplist.edit&plid=17&elid=3&ip=10.0.0.5&sok=ok"))]);
    holds(vec![Event::Sent(call("func=iplist.edit&plid=17&ip=203.0.113.7&sok=ok"))]);
    // Another domain, for one address after the other: nobody loses one.
    let domain = |row: u8| Event::Sent(call(&format!("func=iplist.edit&plid=17&elid={row}&domain=other.example.net&sok=ok")));
    holds(vec![has("17"), answer(VIEW, MARKER), domain(3), domain(4)]);
    let replaced = Event::Sent(call("func=iplist.edit&plid=17&elid=3&ip=10.0.0.5&domain=other.example.net&sok=ok"));
    breaks("(2)", vec![has("17"), answer(VIEW, MARKER), off(), replaced]);
    // Addresses and licences where they are kept.
    let listed = |marks: &str| {
        let rows = json!({"doc": {"elem": [{"ip": {"$": "203.0.113.7"}, "note": {"$": marks}}, {"id": {"$": "700001"}, "remoteid": {"$": marks}}]}});
        let of = |func: &str| Event::Answered(Call { answer: Some(rows.to_string()), ..call(func) });
        vec![of("func=ip"), of("func=soft")]
    };
    let at_work = |uid: &str| {
        let status =
            json!({"observedGeneration": -1, "inFlight": {"target": "server/17"}, "server": {"id": "17", "parkedAddress": "203.0.113.7"}});
        Event::Object(None, Some(order(None, &json!({"metadata": {"name": uid, "uid": uid}, "status": status}))))
    };
    for change in ["func=ip.delete&elid=203.0.113.7", "func=soft.suspend&elid=700001", "func=soft.edit&elid=700001&ip=0.0.0.0&sok=ok"] {
        let change = || vec![Event::Sent(call(change))];
        breaks("(2)", [vec![at_work("u-1")], change()].concat());
        holds([vec![at_work("u-1")], listed("k8s:u-1"), change()].concat());
        // Another order's, which does nothing, or nobody's.
        breaks("(2)", [vec![at_work("u-2"), has("17")], listed("k8s:u-1"), change()].concat());
        breaks("(2)", [vec![has("17")], listed("k8s:u-1"), change()].concat());
    }
    holds([vec![at_work("u-1")], listed(""), vec![Event::Sent(call("func=ip.delete&elid=203.0.113.7"))]].concat());
    breaks("(2)", [vec![at_work("u-1")], listed(""), vec![Event::Sent(call("func=ip.delete&elid=203.0.113.8"))]].concat());
    // A claim.
    let intent = order(None, &json!({"status": {"observedGeneration": -1, "inFlight": {"target": "server/17"}}}));
    let intent = || Event::Object(None, Some(intent.clone()));
    holds(vec![intent(), answer(VIEW, ""), edit(MARKER, "operator")]);
    breaks("(2)", vec![answer(VIEW, ""), edit(MARKER, "operator")]);
    // A stranger's server is neither let go nor claimed; his own one is adopted.
    breaks("(2)", vec![intent(), answer(VIEW, ""), edit("", "no_owner")]);
    let owned = || Event::Answered(Call { answer: Some(json!({"doc": {"notes": {}, "owner": {"$": "7"}}}).to_string()), ..call(VIEW) });
    breaks("(2)", vec![intent(), owned(), edit(MARKER, "operator")]);
    let adopts = with_spec(&order(Some("17"), &Value::Null), &json!({"adopt": {"serverId": "17"}}));
    holds(vec![Event::Object(None, Some(adopts)), owned(), edit(MARKER, "7")]);
}

#[test]
fn what_a_client_has_is_neither_installed_over_nor_stopped() {
    let handed = |patch: Value| {
        let server = json!({"id": "17", "handedOverAt": "2026-01-01T00:00:00Z"});
        let mut order = order(Some("17"), &patch);
        order["status"]["server"] = server;
        Event::Object(None, Some(order))
    };
    for func in ["server.operations", "server.poweroff"] {
        let asked = || Event::Sent(call(&format!("func={func}&elid=17&sok=ok")));
        holds(vec![has("17"), answer(VIEW, MARKER), asked()]);
        breaks("(2)", vec![handed(Value::Null), answer(VIEW, MARKER), asked()]);
    }
    holds(vec![handed(deleting()), answer(VIEW, MARKER), Event::Sent(call("func=server.poweroff&elid=17"))]);
}

#[test]
fn what_was_read_may_be_older_where_something_went_wrong() {
    let late = |disturbed: Option<u64>| {
        let mut rules = Invariants { decision: 2000, ..Invariants::default() };
        if let Some(until) = disturbed {
            rules.disturbed(until);
        }
        let read = Event::Answered(Call { began: 100_000, answer: Some(json!({"doc": MARKER}).to_string()), ..call(VIEW) });
        let off = Event::Sent(call("func=server.poweroff&elid=17"));
        rules.all(&[(0, has("17")), (100_000, read), (110_000, off)])
    };
    let over = 110_000 - super::calls::DECISION;
    assert!(!late(None).is_empty() && !late(Some(over - 1)).is_empty() && late(Some(over)).is_empty() && late(Some(200_000)).is_empty());
}

#[test]
fn an_old_answer_tells_nothing_new() {
    let off = || Event::Sent(call("func=server.poweroff&elid=17"));
    let asked = |began: u64, who: &str, notes: &str| match answer(VIEW, notes) {
        Event::Answered(call) => Event::Answered(Call { began, who: who.into(), ..call }),
        other => other,
    };
    // Asked for before the change before, and answered after it.
    breaks("(2)", vec![has("17"), answer(VIEW, MARKER), off(), asked(1500, "operator-0", MARKER), off()]);
    holds(vec![has("17"), answer(VIEW, MARKER), off(), asked(2500, "operator-0", MARKER), off()]);
    // Another process cannot know of that change.
    let theirs = Event::Sent(Call { who: "operator-1".into(), ..call("func=server.poweroff&elid=17") });
    holds(vec![has("17"), answer(VIEW, MARKER), off(), asked(1500, "operator-1", MARKER), theirs]);
    // How old it is counts from when it was asked for.
    let late = |asked_at: u64| {
        let read = Event::Answered(Call { began: asked_at, answer: Some(json!({"doc": MARKER}).to_string()), ..call(VIEW) });
        Invariants::default().all(&[(0, has("17")), (super::calls::DECISION, read), (super::calls::DECISION + 1, off())])
    };
    assert!(!late(0).is_empty() && late(1).is_empty());
    // Nor does it confirm a release.
    let release = |began: u64| {
        let gone = Event::Object(Some(order(Some("17"), &deleting())), None);
        vec![has("17"), answer(VIEW, MARKER), edit("", "no_owner"), asked(began, "operator-0", ""), gone]
    };
    breaks("(4)", release(1500));
    holds(release(2000));
}

#[test]
fn nothing_is_left_and_the_panel_has_said_so() {
    let gone = |order: Value| Event::Object(Some(order), None);
    breaks("(3)", vec![has("17"), Event::Panels(panels(MARKER, &Value::Null)), gone(order(Some("17"), &deleting()))]);
    breaks("(3)", vec![has("17"), gone(order(Some("17"), &deleting())), Event::Panels(panels(MARKER, &Value::Null))]);
    holds(vec![has("17"), Event::Panels(panels("", &Value::Null)), gone(order(Some("17"), &deleting()))]);
    // Given up, and on record.
    let given_up = |step: &str, state: &str| {
        let status = json!({"manualTasks": [{"state": "Abandon"}], "steps": [{"name": step, "state": state}]});
        order(Some("17"), &json!({ "status": status }))
    };
    let ends = |order: Value, state: Value| vec![has("17"), Event::Panels(state), gone(order)];
    let marked = || panels(MARKER, &Value::Null);
    holds(ends(given_up("Release", "Skipped"), marked()));
    // Something else was given up, and long ago: the release was not.
    breaks("(3)", ends(given_up("InstallOS", "Skipped"), marked()));
    breaks("(3)", ends(given_up("Release", "Running"), marked()));
    breaks("(3)", ends(given_up("RevokeLicenses", "Skipped"), marked()));
    let licensed = || json!({"panels": {"bill": {"licenses": [{"id": "7", "remoteId": "k8s:u-1/Lite", "status": "2"}]}}});
    holds(ends(given_up("RevokeLicenses", "Skipped"), licensed()));
    breaks("(3)", ends(given_up("RevokeLicenses", "Done"), licensed()));
    // They alone may run on: whatever else says later that it is the order's is told. So it is where a client keeps his server.
    let kept = || with_spec(&order(Some("17"), &deleting()), &json!({"deletionPolicy": "Orphan"}));
    for goes in [ends(given_up("RevokeLicenses", "Skipped"), licensed()), ends(kept(), licensed())] {
        holds([goes.clone(), vec![Event::Panels(licensed())]].concat());
        breaks("(3)", [goes, vec![Event::Panels(marked())]].concat());
    }
    // Released, but nobody has looked.
    let released = || vec![has("17"), answer(VIEW, MARKER), edit("", "no_owner"), Event::Panels(panels("", &Value::Null))];
    breaks("(4)", [released(), vec![gone(order(Some("17"), &deleting()))]].concat());
    holds([released(), vec![answer(VIEW, ""), gone(order(Some("17"), &deleting()))]].concat());
}

#[test]
fn not_before_its_task_is_closed_and_one_task_for_one_reason() {
    let task = |name: &str, resolution: Value| {
        json!({"kind": "ManualTask", "metadata": {"namespace": "hosting", "name": name},
               "spec": {"type": "StopServer", "orderRef": {"uid": "u-1"}, "resolution": resolution}})
    };
    let handler = json!({"kind": "ProcessingHandler", "metadata": {"namespace": "hosting", "name": "msk-1"}, "spec": {"ipmiErrorPolicy": "CreateTask"}});
    let open = || Event::Object(None, Some(task("stop", Value::Null)));
    let closed = || Event::Object(Some(task("stop", Value::Null)), Some(task("stop", "Done".into())));
    let begin = || {
        let on = Event::Panels(panels(MARKER, &json!({"power": "on"})));
        vec![
            Event::Object(None, Some(handler.clone())),
            Event::Object(None, Some(order(Some("17"), &deleting()))),
            on,
            answer(VIEW, MARKER),
        ]
    };
    breaks("(5)", [begin(), vec![edit("", "no_owner")]].concat());
    let kept = || with_spec(&order(Some("17"), &deleting()), &json!({"deletionPolicy": "Orphan", "client": {"username": "acme"}}));
    let orphaned = |owner: &str| {
        let on = Event::Panels(panels(MARKER, &json!({"power": "on", "owner": owner})));
        vec![Event::Object(None, Some(handler.clone())), Event::Object(None, Some(kept())), on, answer(VIEW, MARKER)]
    };
    breaks("(5)", [orphaned("acme"), vec![edit("", "no_owner")]].concat());
    holds([orphaned(""), vec![edit("", "no_owner")]].concat());
    // Given back for another one, while the order lives.
    let back =
        |server: &str| Event::Object(None, Some(order(Some(server), &json!({"status": {"server": {"id": server, "returning": {}}}}))));
    let returns = || {
        let mut on = panels(MARKER, &json!({"power": "on"}));
        on["panels"]["dci"]["servers"][1]["power"] = "on".into();
        vec![Event::Object(None, Some(handler.clone())), back("17"), Event::Panels(on), answer(VIEW, MARKER)]
    };
    breaks("(5)", [returns(), vec![edit("", "no_owner")]].concat());
    holds([returns(), vec![open(), closed(), edit("", "no_owner")]].concat());
    // That the one is off says nothing of the next one; not even when the task is seen closed once more.
    let next = || {
        let mut edit = call("func=server.edit&elid=18&sok=ok&owner=no_owner&notes=");
        edit.who = "operator-0".into();
        let view = Event::Answered(Call {
            answer: Some(json!({"doc": {"notes": {"$": MARKER}}}).to_string()),
            ..call("func=server.edit&elid=18")
        });
        vec![back("18"), view, Event::Sent(edit)]
    };
    breaks("(5)", [returns(), vec![open(), closed()], next()].concat());
    breaks("(5)", [returns(), vec![open(), closed(), back("18"), closed()], next()].concat());
    breaks("(5)", [begin(), vec![open(), edit("", "no_owner")]].concat());
    let again = || Event::Object(Some(task("stop", Value::Null)), Some(task("stop", "Retry".into())));
    breaks("(5)", [begin(), vec![open(), again(), edit("", "no_owner")]].concat());
    holds([begin(), vec![open(), closed(), edit("", "no_owner")]].concat());
    holds([begin(), vec![Event::Panels(panels(MARKER, &Value::Null)), edit("", "no_owner")]].concat());
    breaks("(5)", vec![open(), Event::Object(None, Some(task("stop-2", Value::Null)))]);
    holds(vec![open(), closed(), Event::Object(None, Some(task("stop-2", Value::Null)))]);
}

#[test]
fn bought_once_and_never_changed() {
    let licenses = |all: Value| Event::Panels(json!({"panels": {"bill": {"licenses": all}}}));
    let one = json!({"id": "1", "remoteId": "k8s:u-1/ISPmanager6Lite"});
    let other = json!({"id": "2", "remoteId": "k8s:u-1/ISPmanager6Lite"});
    holds(vec![licenses(json!([one, {"id": "2", "remoteId": "k8s:u-1/Other"}]))]);
    breaks("(6)", vec![licenses(json!([one, other]))]);
    let mut changed = panels("", &Value::Null);
    changed["panels"]["dci"]["users"][0]["passwordSha256"] = "other".into();
    breaks("(6)", vec![Event::Panels(panels("", &Value::Null)), Event::Panels(changed)]);
    breaks("(6)", vec![Event::Sent(call("func=user.edit&elid=4&sok=ok&passwd=x"))]);
    holds(vec![Event::Sent(call("func=user.edit&name=acme&sok=ok&passwd=x"))]);
    let secret = |password: &str| {
        json!({"kind": "Secret", "metadata": {"name": "web-panel", "uid": "s", "ownerReferences": [{"kind": "DedicatedServerOrder"}]},
               "data": {"password": password}})
    };
    breaks("(6)", vec![Event::Object(Some(secret("a")), Some(secret("b")))]);
    holds(vec![Event::Object(Some(secret("a")), Some(secret("a")))]);
}

#[test]
fn at_rest() {
    let status = |phase: &str, conditions: Value| json!({"status": {"observedGeneration": 1, "phase": phase, "conditions": conditions}, "metadata": {"generation": 1}});
    let free = panels("", &json!({"hostname": "free.ds", "type": "E3"}));
    let handlers = [json!({"metadata": {"name": "here"}, "panel": "dci"}), json!({"metadata": {"name": "there"}, "panel": "dci2"})];
    let settled = |order: &Value, panels: &Value| {
        let room = super::rest::Room { panels, orders: &[], handlers: &handlers, panel_of: |h| h["panel"].as_str() };
        super::rest::unsettled(order, &room).is_none()
    };
    let ready = json!([{"type": "Ready", "status": "True", "reason": "Active", "message": "m"}]);
    assert!(settled(&order(None, &status("Active", ready.clone())), &free));
    let mut old = order(None, &status("Active", ready));
    old["metadata"]["generation"] = 2.into();
    assert!(!settled(&old, &free));
    let waits = json!([{"type": "Reconciling", "status": "True", "reason": "WaitingForCapacity", "message": "m"}]);
    let waiting = order(None, &status("Pending", waits));
    assert!(!settled(&waiting, &free) && settled(&waiting, &panels("", &json!({"owner": "somebody"}))));
    let at = |handler: &str| with_spec(&waiting, &json!({"handlerRef": {"name": handler}}));
    assert!(!settled(&at("here"), &free) && settled(&at("there"), &free), "it waits for a server of its own handler");
    let cut = |at: &[&str], reason: &str| {
        let notes: Vec<Value> = at.iter().map(|name| json!({"name": name, "reason": reason})).collect();
        let mut order = with_spec(&waiting, &json!({"handlerSelector": {"matchLabels": {}}}));
        (order["status"]["handlers"], order["status"]["conditions"][0]["reason"]) = (notes.into(), reason.into());
        order
    };
    assert!(settled(&cut(&["here"], "MarkerTruncated"), &free), "the panel with the free server cuts markers");
    assert!(!settled(&cut(&["there"], "MarkerTruncated"), &free) && !settled(&cut(&["here"], "WaitingForCapacity"), &free));
    for (cure, good) in [("put the owner back", true), ("", false)] {
        let stalled = json!([{"type": "Stalled", "status": "True", "reason": "OwnerChanged", "message": cure}]);
        assert_eq!(settled(&order(None, &status("Failed", stalled)), &free), good);
    }
    // What another order that stands has, or may have, is not free; nor is a place among the few of its handler.
    let stands = |status: Value| {
        let stalled = json!([{"type": "Stalled", "status": "True", "reason": "OwnerChanged", "message": "m"}]);
        let mut other = order(None, &json!({"metadata": {"uid": "u-2"}, "status": {"conditions": stalled, "handler": "/here"}}));
        for (name, value) in status.as_object().unwrap() {
            other["status"][name] = value.clone();
        }
        other
    };
    let full = json!([{"type": "Reconciling", "status": "True", "reason": "LimitReached", "message": "m"}]);
    let kept_out = order(None, &status("Pending", full));
    let may_wait = |order: &Value, others: &[Value], most: u64| {
        let mut handlers = handlers.clone();
        handlers[0]["spec"]["limits"]["maxConcurrentOperations"] = most.into();
        let room = super::rest::Room { panels: &free, orders: others, handlers: &handlers, panel_of: |h| h["panel"].as_str() };
        super::rest::unsettled(order, &room).is_none()
    };
    let about = |server: &str| stands(json!({"inFlight": {"target": format!("server/{server}")}}));
    assert!(
        may_wait(&waiting, &[about("17")], 0) && !may_wait(&waiting, &[about("18")], 0) && !may_wait(&waiting, &[stands(json!({}))], 0)
    );
    assert!(may_wait(&kept_out, &[about("17")], 1) && may_wait(&kept_out, &[about("17"), about("18")], 2));
    assert!(!may_wait(&kept_out, &[about("17")], 0), "without a limit nobody is kept out");
    assert!(!may_wait(&kept_out, &[about("17")], 2), "there is another place");
    let elsewhere = stands(json!({"inFlight": {"target": "server/17"}, "handler": "/there"}));
    let handed = stands(json!({"inFlight": {"target": "server/17"}, "server": {"id": "17", "handedOverAt": "2026-01-01T00:00:00Z"}}));
    assert!(!may_wait(&kept_out, &[elsewhere], 1) && !may_wait(&kept_out, &[handed], 1));
    let (mut before, mut after) = (order(None, &Value::Null), order(None, &Value::Null));
    (before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"]) = ("1".into(), "2".into());
    assert!(!super::rest::counts(Some(&before), Some(&after)));
    after["status"]["nextRetryTime"] = "2026-01-01T00:00:00Z".into();
    assert!(super::rest::counts(Some(&before), Some(&after)));
}

#[test]
fn nobody_is_at_work_for_nothing() {
    let restless = |objects, passes| super::rest::restless("ManualTask", objects, passes, 120_000).is_some();
    assert!(!restless(0, 0) && !restless(1, 180) && !restless(2, 360));
    assert!(restless(1, 181) && restless(2, 361) && restless(0, 181), "a task and an order that is not there wake each other");
}

#[test]
fn the_secret_says_how_to_log_in() {
    // What `sha256sum` makes of "hush".
    let digest = "dc8331bcb2283e89d275a1c2fe66f7bf5ac3163ec1967f149dd7e27906365f0c";
    let installed = |digest: &str| panels(MARKER, &json!({"invented": {"passwordSha256": digest}}));
    let ready = |spec: Value| {
        let conditions = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        with_spec(&order(Some("17"), &conditions), &spec)
    };
    let wrong = |order: &Value, digest: &str, password: Option<&str>| {
        super::rest::wrong_password(order, &installed(digest), password.map(str::as_bytes)).is_some()
    };
    let plain = ready(json!({}));
    assert!(!wrong(&plain, digest, Some("hush")) && wrong(&plain, digest, Some("other")) && wrong(&plain, digest, None));
    assert!(wrong(&plain, "", Some("hush")), "nothing is installed");
    let adopted = ready(json!({"adopt": {"serverId": "17"}}));
    assert!(!wrong(&adopted, "", None) && wrong(&adopted, digest, None));
    assert!(!wrong(&order(Some("17"), &Value::Null), digest, None), "it is not ready yet");
    assert_eq!(super::rest::root_password(&plain), ("web-root".to_owned(), "password".to_owned()));
    let own = ready(json!({"operatingSystem": {"passwordSecretRef": {"name": "mine", "key": "root"}}}));
    assert_eq!(super::rest::root_password(&own), ("mine".to_owned(), "root".to_owned()));
}
