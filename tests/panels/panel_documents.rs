//! Documents, rows and forms of the panels: tables of shapes, and random ones. Pure: needs no feature.

use dci_operator::panel::coremanager::document::{Answer, Document, MAX_BODY, Malformed, Total, bounded};
use dci_operator::panel::dcimanager5::parse;
use dci_operator::panel::error::{ErrorDocument, MAX_TEXT};
use dci_operator::panel::ipmanager5::parse as ipm;
use dci_operator::panel::model::{Expect, NotesEdit, OwnerEdit, ServerEdit, ServerForm, ServerId};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(value: &Value) -> Result<Answer, Malformed> {
    Document::parse(value.to_string().as_bytes(), &[])
}

fn document(value: &Value) -> Document {
    match read(&json!({ "doc": value })) {
        Ok(Answer::Document(document)) => document,
        other => panic!("{other:?}"),
    }
}

fn error(value: &Value) -> ErrorDocument {
    match read(value) {
        Ok(Answer::Error(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_value_is_read_in_every_shape() {
    for (value, text) in [
        (json!({"$": "x"}), "x"),
        (json!({"$": "shown", "$orig": "17"}), "17"),
        (json!({"$orig": "17"}), "17"),
        (json!({"$": 17}), "17"),
        (json!({"$": true}), "true"),
        (json!("x"), "x"),
        (json!(17), "17"),
        (json!(1.5), "1.5"),
        (json!([{"$": "x"}]), "x"),
        (json!([{"$": "x"}, {"$": "y"}]), "x"),
        (json!({}), ""),
        (json!(null), ""),
        (json!({"$": null}), ""),
        (json!({"$": ""}), ""),
        (json!({"$": {"$": "x"}}), ""),
        (json!([]), ""),
        (json!([["x"]]), ""),
    ] {
        assert_eq!(document(&json!({ "v": value })).fields().text("v"), text, "{value}");
    }
    let document = document(&json!({"v": {"$": " shown ", "$orig": "17", "$level": 30}}));
    assert_eq!(document.fields().display("v").as_deref(), Some("shown"));
    assert_eq!(document.fields().attribute("v", "$level").as_deref(), Some("30"));
    assert_eq!(document.fields().text("missing"), "");
    assert_eq!(document.fields().opt("missing"), None);
}

#[test]
fn a_flag_is_told_by_presence() {
    for value in [json!({}), json!(null), json!({"$": ""}), json!({"$": "42%"}), json!({"$": "off"}), json!(""), json!(true)] {
        assert!(document(&json!({ "f": value })).fields().flag("f"), "{value}");
    }
    assert!(!document(&json!({"f": false})).fields().flag("f"));
    assert!(!document(&json!({})).fields().flag("f"));
}

#[test]
fn rows_come_as_list_single_or_not_at_all() {
    for (elem, rows) in [
        (json!([{"id": {"$": "1"}}, {"id": {"$": "2"}}]), Some(2)),
        (json!({"id": {"$": "1"}}), Some(1)),
        (json!([]), Some(0)),
        (json!(null), Some(0)),
        (json!(["x"]), None),
        (json!([{"id": "1"}, null]), None),
        (json!("x"), None),
        (json!(1), None),
    ] {
        assert_eq!(document(&json!({ "elem": elem })).rows().map(|r| r.len()), rows, "{elem}");
    }
    assert_eq!(document(&json!({})).rows().map(|r| r.len()), Some(0));
    for (total, expected) in [
        (json!({"p_elems": {"$": "12"}}), Total::Rows(12)),
        (json!({"p_elems": 12}), Total::Rows(12)),
        (json!({"$p_elems": "12"}), Total::Rows(12)),
        (json!({}), Total::Unsaid),
        (json!({"p_elems": {}}), Total::Unsaid),
        (json!({"p_elems": {"$": "many"}}), Total::Unreadable),
        (json!({"p_elems": {"$": "-1"}}), Total::Unreadable),
    ] {
        assert_eq!(document(&total).total(), expected, "{total}");
    }
}

#[test]
fn errors_are_found_wherever_they_stand() {
    let full = json!({"$type": "exists", "$object": "user", "msg": {"$": "taken"}, "stack": {"x": []},
        "param": [{"$name": "object", "$": "user"}, {"$name": "value", "$": "john"}]});
    let expected = ErrorDocument { kind: "exists".into(), object: "user".into(), value: "john".into(), message: "taken".into() };
    for value in [
        json!({"doc": {"error": full}}),
        json!({"doc": {"ok": {}, "error": [full]}}),
        json!({"error": full}),
        json!({"doc": {}, "error": full}),
    ] {
        assert_eq!(error(&value), expected, "{value}");
    }
    let text = |message: &str| ErrorDocument { message: message.into(), ..ErrorDocument::default() };
    assert_eq!(error(&json!({"error": {"msg": {"$": "no"}}})), text("no"));
    assert_eq!(error(&json!({"doc": {"error": "no"}})), text("no"));
    assert_eq!(error(&json!({"doc": {"error": {"$": "no"}}})), text("no"));
    assert_eq!(error(&json!({"doc": {"error": {"type": {"$": "connection"}, "text": {"$": "no"}}}})).kind, "connection");
    assert_eq!(error(&json!({"doc": {"error": {"$type": "value", "param": {"$name": "value", "$": "x"}}}})).value, "x");
    assert_eq!(error(&json!({"doc": {"error": {"$type": "value", "$value": "x"}}})).value, "x");
    for mute in [json!({}), json!([]), json!(""), json!({"$type": ""}), json!({"$object": "x"}), json!([[]])] {
        assert_eq!(read(&json!({"doc": {"error": mute}})), Err(Malformed::MuteError), "{mute}");
    }
    assert!(matches!(read(&json!({"doc": {"error": null}})), Ok(Answer::Document(_))));
}

#[test]
fn an_error_is_bounded_and_holds_no_secret() {
    let long = format!("{}pw1", "ü".repeat(MAX_TEXT / 2));
    let body =
        json!({"doc": {"error": {"$type": "value", "$object": "x", "msg": {"$": long}, "param": {"$name": "value", "$": "a pw1\nb"}}}});
    let Ok(Answer::Error(error)) = Document::parse(body.to_string().as_bytes(), &["pw1", ""]) else { panic!() };
    assert!(error.message.len() <= MAX_TEXT && !error.message.contains("pw"), "{error}");
    assert_eq!(error.value, "a *** b");
    let body = json!({"doc": {"error": {"$type": "value", "$object": "passwd", "param": {"$name": "value", "$": "too short"}}}});
    assert_eq!(self::error(&body).value, "***");
    let secret = document(&json!({"auth": {"$": "c0ffee01"}}));
    assert!(!format!("{secret:?}").contains("c0ffee01"));
}

#[test]
fn what_is_no_document_is_named_without_being_repeated() {
    let deep = format!("{{\"doc\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    for (body, expected) in [
        ("", "an empty body"),
        ("   ", "an empty body"),
        ("<!doctype html><p>secret", "an HTML or XML page"),
        ("\u{feff}<?xml version=\"1.0\"?><doc/>", "an HTML or XML page"),
        ("secret", "not JSON"),
        ("{\"doc\":{}} secret", "not JSON"),
        (deep.as_str(), "not JSON"),
        ("[{\"id\":\"17\"}]", "without an object doc"),
        ("{}", "without an object doc"),
        ("{\"doc\":null}", "without an object doc"),
        ("\"doc\"", "without an object doc"),
    ] {
        let text = Document::parse(body.as_bytes(), &[]).unwrap_err().to_string();
        assert!(text.contains(expected) && !text.contains("secret"), "{text}");
    }
    assert_eq!(Document::parse(&vec![b' '; MAX_BODY + 1], &[]), Err(Malformed::TooLarge));
    assert!(Document::parse("\u{feff}{\"doc\":{}}".as_bytes(), &[]).is_ok());
}

#[test]
fn a_form_is_sent_back_without_what_is_no_field() {
    let form = document(&json!({
        "$func": "server.edit", "elid": {"$": "17"}, "mac": {"$": "00:16"}, "notes": {}, "type": null, "owner": {"$": "bob", "$orig": "3"},
        "hwproblem": {"$": "off"}, "unit": 10, "many": [{"$": "a"}, {"$": "b"}], "odd": {"sub": {"$": "x"}}, "rows": [{"sub": {}}],
        "slist": [{"$name": "owner", "val": [{"$key": "3", "$": "bob"}]}], "metadata": {"$name": "x"}, "tparams": {}, "sok": {"$": "ok"},
        "auth": {"$": "s"}, "p_num": {"$": "1"}, "su": {"$": "root"}, "clicked_button": {"$": "x"},
    }));
    let pairs = form.fields().form();
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        pairs,
        [("hwproblem", "off"), ("mac", "00:16"), ("many", "a, b"), ("notes", ""), ("owner", "3"), ("type", ""), ("unit", "10")]
    );
}

#[test]
fn options_of_a_select_are_its_keys() {
    let form = |slist: Value| document(&json!({ "slist": slist })).options("ostemplate");
    let values = |values: Value| form(json!([{"$name": "other"}, {"$name": "ostemplate", "val": values}]));
    let two = Some(vec!["A".to_owned(), "B".to_owned()]);
    assert_eq!(values(json!([{"$key": "A", "$": "Name"}, {"$key": "B"}])), two);
    assert_eq!(values(json!([{"$": "A"}, {"$": "B"}, {"$key": "null", "$": "none"}, {}])), two);
    assert_eq!(values(json!(["A", "B"])), two);
    assert_eq!(values(json!({"$key": "A"})), Some(vec!["A".to_owned()]));
    assert_eq!(values(json!(null)), Some(vec![]));
    assert_eq!(form(json!({"$name": "ostemplate", "val": [{"$": "A"}, {"$": "B"}]})), two);
    assert_eq!(form(json!([{"$name": "other"}])), None);
    assert_eq!(form(json!("x")), None);
    assert_eq!(document(&json!({})).options("ostemplate"), None);
}

#[test]
fn a_form_of_operations_says_that_another_system_is_there_only_where_it_can_be_compared() {
    let offer =
        json!({"$name": "ostemplate", "val": [{"$key": "Own", "$": "Our own"}, {"$key": "ISPsystem__A"}, {"$key": "ISPsystem__B"}]});
    for (current, named, another) in [
        (json!({"$": "ISPsystem__A"}), Some("ISPsystem__A"), false),
        (json!({"$": "A for people", "$orig": "ISPsystem__A"}), Some("ISPsystem__A"), false),
        (json!({"$": "ISPsystem__B"}), Some("ISPsystem__B"), true),
        (json!({"$": "Own"}), Some("Own"), true),
        // Not on offer any more, but written as a template is.
        (json!({"$": "ISPsystem__Old"}), Some("ISPsystem__Old"), true),
        (json!({"$": "A for people"}), Some("A for people"), false),
        (json!({}), None, true),
        (json!({"$": "null"}), None, true),
    ] {
        let form = parse::install_form(&document(&json!({"ostemplate": current, "slist": offer})));
        assert_eq!((form.current.as_deref(), form.shows_current), (named, true), "{current}");
        assert_eq!(form.names_another("ISPsystem__A"), another, "{current}");
    }
    let form = parse::install_form(&document(&json!({"slist": offer})));
    assert!(form.current.is_none() && !form.names_another("ISPsystem__A"), "a form without a place for it says nothing");
}

#[test]
fn an_owner_may_be_missing_in_many_ways() {
    for owner in [json!(null), json!({}), json!({"$": ""}), json!({"$": "no_owner"}), json!({"$": "null"}), json!(" ")] {
        let list = document(&json!({"elem": {"id": {"$": "17"}, "owner": owner}}));
        assert_eq!(parse::server_row(&list.rows().unwrap()[0]).unwrap().owner, None, "{owner}");
        let form = document(&json!({"mac": {}, "name": {}, "owner": owner, "notes": owner}));
        assert_eq!(parse::server_form(&form, &"17".into()).unwrap().owner, None, "{owner}");
    }
}

#[test]
fn a_server_has_either_type() {
    let types = |row: Value| {
        let list = document(&json!({ "elem": row }));
        parse::server_row(&list.rows().unwrap()[0]).unwrap().types
    };
    assert_eq!(types(json!({"id": "1", "type": {"$": "E3"}, "chassis_templ": {"$": "E3"}})), ["E3"]);
    assert_eq!(types(json!({"id": "1", "type": {"$": "E3"}, "chassis_templ": {}})), ["E3"]);
    let both = json!({"id": "1", "chassis_templ": {"$": "E5", "$orig": "4"}, "type": {"$": "E3"}});
    assert_eq!(types(both.clone()), ["4", "E5", "E3"]);
    assert!(types(json!({"id": "1"})).is_empty());
    // People know it by its names, and by its id only where there is no name.
    let names = |row: Value| {
        let list = document(&json!({ "elem": row }));
        parse::server_row(&list.rows().unwrap()[0]).unwrap().names
    };
    assert_eq!(names(both), ["E5", "E3"]);
    assert_eq!(names(json!({"id": "1", "type": {"$orig": "4"}})), ["4"]);
    assert_eq!(names(json!({"id": "1", "type": {"$": "E3"}, "chassis_templ": {"$": "E3", "$orig": "4"}})), ["E3"]);
    let list = document(&json!({"elem": [{"name": "x"}, {"id": {}}]}));
    assert!(list.rows().unwrap().iter().all(|r| parse::server_row(r).is_err()));
}

#[test]
fn nothing_but_the_form_of_that_server_is_one() {
    let server = ServerId::from("17");
    let whole = json!({"elid": {"$": "17"}, "mac": {}, "name": null, "owner": {}, "notes": {}});
    assert!(parse::server_form(&document(&whole), &server).is_ok());
    // Without notes it would show a server that we release as released, and without owner as nobody's.
    for left_out in ["mac", "name", "owner", "notes"] {
        let mut form = whole.clone();
        form.as_object_mut().unwrap().remove(left_out);
        let missing = parse::server_form(&document(&form), &server).unwrap_err();
        assert!(missing.contains(left_out), "{left_out}: {missing}");
    }
    let mut another = whole;
    another["elid"] = json!({"$": "18"});
    for wrong in [json!({}), json!({"ok": {}}), another] {
        assert!(parse::server_form(&document(&wrong), &server).is_err(), "{wrong}");
    }
    let address = "10.0.0.1".parse().unwrap();
    for wrong in [json!({}), json!({"ok": {}}), json!({"ip": {"$": "10.0.0.2"}}), json!({"elid": {"$": "10.0.0.2"}, "note": {}})] {
        assert!(ipm::check_form(&document(&wrong), address).is_err(), "{wrong}");
    }
    assert!(ipm::check_form(&document(&json!({"ip": {"$": "10.0.0.1"}})), address).is_ok());
}

#[test]
fn an_expectation_holds_or_says_why_not() {
    let form = |owner: Option<&str>, notes: &str| ServerForm {
        owner: owner.map(Into::into),
        notes: notes.into(),
        hostname: None,
        disabled: false,
        parts: dci_operator::panel::model::Parts::default(),
    };
    let marker = |m: &str| Expect::Marker(m.into());
    assert_eq!(parse::unmet(&Expect::Free, &form(None, "bad fan")), None);
    assert!(parse::unmet(&Expect::Free, &form(Some("3"), "")).is_some());
    assert!(parse::unmet(&Expect::Free, &form(None, "x\nk8s:a/b/c/d")).is_some());
    assert!(parse::unmet(&Expect::Free, &form(None, "note: k8s:a/b/c/d")).is_some());
    assert_eq!(parse::unmet(&marker("k8s:a"), &form(Some("3"), "x\r\nk8s:a\r\n")), None);
    for notes in ["", "k8s:ab", "k8s", "xk8s:a"] {
        assert!(parse::unmet(&marker("k8s:a"), &form(None, notes)).is_some(), "{notes}");
    }
    assert!(parse::unmet(&marker(""), &form(None, "")).is_some(), "no marker is no marker");
}

#[test]
fn an_edit_sends_owner_and_notes_whatever_the_form_shows() {
    let edit = |owner, notes| ServerEdit { expect: Expect::Free, owner, notes };
    let sent = |form: Value, edit: &ServerEdit| {
        let document = document(&form);
        let shown = parse::server_form(&document, &"17".into()).unwrap();
        parse::edited_form(&document, &shown, edit)
    };
    let pairs = |list: &[(&str, &str)]| list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    let full = json!({"mac": {"$": "m"}, "name": {"$": "n"}, "notes": {"$": "a"}, "owner": {"$": "3"}, "type": {}});
    let keep = edit(OwnerEdit::Keep, NotesEdit::Keep);
    assert_eq!(sent(full.clone(), &keep), pairs(&[("mac", "m"), ("name", "n"), ("notes", "a"), ("owner", "3"), ("type", "")]));
    let add = edit(OwnerEdit::User("9".into()), NotesEdit::Add("k8s:x".into()));
    assert_eq!(sent(full, &add), pairs(&[("mac", "m"), ("name", "n"), ("notes", "a\nk8s:x"), ("owner", "9"), ("type", "")]));
    let empty = json!({"mac": null, "name": {}, "owner": {}, "notes": null});
    assert_eq!(sent(empty, &keep), pairs(&[("mac", ""), ("name", ""), ("notes", ""), ("owner", "no_owner")]));
    let nobody = edit(OwnerEdit::Nobody, NotesEdit::Remove("k8s:x".into()));
    let ours = json!({"mac": {}, "name": {}, "owner": {"$": "9"}, "notes": {"$": "k8s:x"}});
    assert_eq!(sent(ours, &nobody), pairs(&[("mac", ""), ("name", ""), ("notes", ""), ("owner", "no_owner")]));
}

#[test]
fn grouping_rows_are_no_addresses() {
    let row = |row: Value| {
        let list = document(&json!({ "elem": row }));
        parse::address_row(&list.rows().unwrap()[0])
    };
    assert_eq!(row(json!({"id": {"$": "g1"}, "type": {"$": "group"}})), Ok(None));
    assert!(row(json!({"id": {"$": "1"}, "ip": {"$": "2001:db8::1/64"}})).unwrap().is_some());
    assert!(row(json!({"id": {"$": "1"}, "ip": {"$": "public"}})).is_err());
    assert!(row(json!({"ip": {"$": "10.0.0.1"}})).is_err());
}

#[test]
fn texts_are_cut_between_characters() {
    assert_eq!(bounded("a\r\n\u{1b}b"), "a   b");
    assert!(bounded(&"€".repeat(1000)).len() <= MAX_TEXT);
}

fn json_value() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        Just("$".to_owned()),
        Just("$orig".into()),
        Just("$type".into()),
        Just("$name".into()),
        Just("$key".into()),
        Just("elem".into()),
        Just("error".into()),
        Just("msg".into()),
        Just("param".into()),
        Just("slist".into()),
        Just("val".into()),
        Just("id".into()),
        Just("owner".into()),
        Just("notes".into()),
        Just("mac".into()),
        Just("ip".into()),
        Just("p_elems".into()),
        "[a-z$]{0,4}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(json!("k8s:a/b/c/d")),
        Just(json!("ostemplate")),
        Just(json!("10.0.0.1")),
    ];
    leaf.prop_recursive(5, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// Reads everything there is to read.
fn exhaust(document: &Document) {
    let server = ServerId::from("17");
    let _ = (document.total(), document.options("ostemplate"), document.func(), parse::install_form(document));
    for row in document.rows().unwrap_or_default() {
        let _ =
            (parse::server_row(&row), parse::user_row(&row), parse::address_row(&row), parse::connection_row(&row), ipm::pool_row(&row));
    }
    let _ = ipm::check_form(document, "10.0.0.1".parse().unwrap());
    if let Ok(form) = parse::server_form(document, &server) {
        let edit = ServerEdit { expect: Expect::Free, owner: OwnerEdit::Keep, notes: NotesEdit::Add("k8s:x".into()) };
        let sent = parse::edited_form(document, &form, &edit);
        assert!(sent.iter().any(|(n, v)| n == "notes" && v.contains("k8s:x")));
        assert!(sent.iter().all(|(n, _)| !n.starts_with('$') && n != "elid" && n != "func" && n != "auth"));
        let _ = parse::unmet(&edit.expect, &form);
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_parser_and_only_a_document_is_one(body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(answer) = Document::parse(&body, &["x"]) {
            prop_assert!(body.windows(5).any(|w| w == b"\"doc\"") || body.windows(7).any(|w| w == b"\"error\""), "{:?}", answer);
        }
    }

    #[test]
    fn no_json_breaks_the_parser(value in json_value(), wrapped in any::<bool>()) {
        let value = if wrapped { json!({ "doc": value }) } else { value };
        let answer = read(&value);
        let failed = |v: &Value| v.get("error").is_some_and(|e| !e.is_null());
        let doc = value.get("doc").filter(|d| d.is_object());
        match answer {
            Ok(Answer::Document(document)) => {
                prop_assert!(doc.is_some() && !failed(&value) && !doc.is_some_and(failed), "{}", value);
                exhaust(&document);
            }
            Ok(Answer::Error(_)) | Err(Malformed::MuteError) => prop_assert!(failed(&value) || doc.is_some_and(failed), "{}", value),
            Err(_) => prop_assert!(doc.is_none(), "{}", value),
        }
    }

    #[test]
    fn a_document_that_breaks_off_is_none(value in json_value(), cut in 1usize..40) {
        let body = json!({ "doc": {"x": value} }).to_string();
        let end = body.len().saturating_sub(cut);
        prop_assert!(Document::parse(&body.as_bytes()[..end], &[]).is_err());
    }

    #[test]
    fn an_edit_keeps_every_field_that_it_does_not_change(
        fields in prop::collection::btree_map("[a-z]{3,6}2", "\\PC{0,8}", 0..8), notes in "[a-z \n]{0,20}",
    ) {
        let mut form: serde_json::Map<String, Value> = fields.iter().map(|(n, v)| (n.clone(), json!({"$": v}))).collect();
        for (name, value) in [("mac", "m"), ("name", "n"), ("owner", "no_owner"), ("notes", notes.as_str())] {
            form.insert(name.into(), json!({"$": value}));
        }
        let document = document(&Value::Object(form));
        let shown = parse::server_form(&document, &"17".into()).unwrap();
        let edit = ServerEdit { expect: Expect::Free, owner: OwnerEdit::User("9".into()), notes: NotesEdit::Keep };
        let sent = parse::edited_form(&document, &shown, &edit);
        prop_assert_eq!(sent.len(), fields.len() + 4);
        for (name, value) in &fields {
            prop_assert!(sent.contains(&(name.clone(), value.clone())));
        }
        prop_assert!(sent.contains(&("notes".to_owned(), notes)));
        prop_assert!(sent.contains(&("owner".to_owned(), "9".to_owned())));
    }
}
