//! What the clients send, and what they make of lists and forms that are not as they should be.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::{Reply, Request, Server, doc, ok, refused};
use dci_operator::panel::coremanager::client::Client;
use dci_operator::panel::coremanager::params::Params;
use dci_operator::panel::dcimanager5::DciManager5;
use dci_operator::panel::dialect::Dialect;
use dci_operator::panel::error::{Outcome, PanelError};
use dci_operator::panel::ipmanager5::IpManager5;
use dci_operator::panel::model::{AddressSpec, Family, InstallRequest, MainAddress};
use dci_operator::panel::settings::Permission;
use dci_operator::panel::{AddressPanel, ServerPanel};
use secrecy::SecretString;

fn panel(server: &Server) -> DciManager5 {
    DciManager5::new(server.client(), Dialect::default())
}

fn sent(request: &Request) -> Vec<(&str, &str)> {
    let own = ["auth", "func", "lang", "out"];
    request.form.iter().map(|(n, v)| (n.as_str(), v.as_str())).filter(|(n, _)| !own.contains(n)).collect()
}

/// A page of a list of so many servers, of which those given are shown.
fn page(total: usize, ids: &[usize]) -> Reply {
    let rows: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":{{"$":"{id}"}}}}"#)).collect();
    doc(&format!(r#""p_elems":{{"$":"{total}"}},"elem":[{}]"#, rows.join(",")))
}

async fn servers(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Result<Vec<String>, String> {
    let server = Server::panel(answer);
    match panel(&server).servers().await {
        Ok(rows) => Ok(rows.into_iter().map(|r| r.id.0).collect()),
        Err(error @ PanelError::Incomplete { .. }) => Err(error.to_string()),
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn pages_are_fetched_and_checked() {
    let ids = servers(|r| match r.get("p_num") {
        "" | "1" => page(5, &[1, 2]),
        "2" => page(5, &[3, 4]),
        _ => page(5, &[5]),
    })
    .await;
    assert_eq!(ids.unwrap(), ["1", "2", "3", "4", "5"]);
    assert_eq!(servers(|_| page(2, &[1, 2, 2])).await.unwrap(), ["1", "2"]);
    assert_eq!(servers(|_| page(1, &[1, 2])).await.unwrap(), ["1", "2"]);
    assert_eq!(servers(|_| doc("")).await.unwrap(), Vec::<String>::new());
    assert_eq!(servers(|_| doc(r#""elem":{"id":{"$":"7"}}"#)).await.unwrap(), ["7"]);
}

#[tokio::test]
async fn a_list_that_lacks_rows_never_looks_complete() {
    for (what, answer) in [
        ("the same page again", Box::new(|_: &Request| page(5, &[1, 2])) as Box<dyn Fn(&Request) -> Reply + Send + Sync>),
        ("an empty page", Box::new(|r| if r.get("p_num") == "2" { page(5, &[]) } else { page(5, &[1, 2]) })),
        ("no rows at all", Box::new(|_| page(5, &[]))),
        ("no number", Box::new(|_| doc(r#""p_elems":{"$":"x"},"elem":[]"#))),
        ("a page without number", Box::new(|r| if r.get("p_num") == "2" { doc(r#""elem":[{"id":"3"}]"#) } else { page(3, &[1, 2]) })),
        ("a row that is none", Box::new(|_| doc(r#""elem":[{"id":{"$":"1"}},"x"]"#))),
        ("a row without id", Box::new(|_| doc(r#""elem":[{"id":{"$":"1"}},{"name":{"$":"x"}}]"#))),
        ("a list that is none", Box::new(|_| doc(r#""elem":"x""#))),
        ("an empty row", Box::new(|_| doc(r#""elem":{}"#))),
        ("a filter", Box::new(|_| doc(r#""filter":{"$":"on"},"elem":[{"id":{"$":"1"}}]"#))),
    ] {
        let result = servers(answer).await;
        assert!(result.is_err(), "{what}: {result:?}");
    }
}

#[tokio::test]
async fn a_list_that_moves_between_two_pages_is_read_again() {
    // Server 1 goes away after the first page was read; the list closes up, and 3 slips onto the first page.
    let calls = AtomicUsize::new(0);
    let ids = servers(move |r| match (calls.fetch_add(1, Ordering::SeqCst), r.get("p_num")) {
        (0, _) => page(4, &[1, 2]),
        (_, "2") => page(3, &[4]),
        _ => page(3, &[2, 3]),
    })
    .await;
    assert_eq!(ids.unwrap(), ["2", "3", "4"]);
    // The same, but a new server hides it from the total.
    let calls = AtomicUsize::new(0);
    let ids = servers(move |r| match (calls.fetch_add(1, Ordering::SeqCst), r.get("p_num")) {
        (0, _) => page(4, &[1, 2]),
        (_, "2") => page(4, &[4, 5]),
        _ => page(4, &[2, 3]),
    })
    .await;
    assert_eq!(ids.unwrap(), ["2", "3", "4", "5"]);
    // A list that never holds still is an error.
    let calls = AtomicUsize::new(0);
    let ids = servers(move |_| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        page(100 + call, &[call, call + 1])
    })
    .await;
    assert!(ids.is_err());
}

/// Nine rows in pages of three. Between the second page and the third, number 5 goes and number 10 comes: 7 slips onto a page that was
/// read before, the total stays, and so does the first page.
#[tokio::test]
async fn a_row_that_slips_onto_an_earlier_page_unseen_is_not_lost() {
    let server = Server::panel({
        let moved = AtomicBool::new(false);
        move |r| match (r.get("p_num"), moved.load(Ordering::SeqCst)) {
            ("2", false) => {
                moved.store(true, Ordering::SeqCst);
                page(9, &[4, 5, 6])
            }
            ("2", true) => page(9, &[4, 6, 7]),
            ("3", _) => page(9, &[8, 9, 10]),
            _ => page(9, &[1, 2, 3]),
        }
    });
    let rows = panel(&server).servers().await.unwrap();
    let ids: Vec<String> = rows.into_iter().map(|r| r.id.0).collect();
    assert_eq!(ids, ["1", "2", "3", "4", "6", "7", "8", "9", "10"]);
    // Twice three pages and each but the last once more, of which the first look ended with the second.
    assert_eq!(server.count("server"), 3 + 2 + 3 + 2);
}

#[tokio::test]
async fn only_a_list_of_several_pages_is_read_twice() {
    for (pages, requests) in [(1, 1), (2, 3), (3, 5), (5, 9)] {
        let server = Server::panel(move |r| {
            let number: usize = r.get("p_num").parse().unwrap_or(1);
            page(pages * 2, &[number * 2, number * 2 + 1])
        });
        assert_eq!(panel(&server).servers().await.unwrap().len(), pages * 2);
        assert_eq!(server.count("server"), requests, "{pages} pages");
    }
}

/// A server's addresses by the last part of each; 0 is a row that groups others.
fn addresses(total: &str, rows: &[u8]) -> Reply {
    let row = |n: &u8| match n {
        0 => r#"{"id":{"$":"g1"},"type":{"$":"group"}}"#.to_owned(),
        n => format!(r#"{{"id":{{"$":"{n}"}},"ip":{{"$":"10.0.0.{n}"}},"type":{{"$":"ip"}}}}"#),
    };
    doc(&format!(r#"{total}"elem":[{}]"#, rows.iter().map(row).collect::<Vec<_>>().join(",")))
}

/// That the number of rows counts those that group others is not known. Where it does not, the first page has as many rows as it says.
#[tokio::test]
async fn an_address_on_the_page_behind_is_not_missed_for_a_row_that_groups_others() {
    let server = Server::panel(|r| match r.get("p_num") {
        "2" => addresses(r#""p_elems":{"$":"3"},"#, &[3]),
        _ => addresses(r#""p_elems":{"$":"3"},"#, &[0, 1, 2]),
    });
    let panel = panel(&server);
    for requests in [3, 6] {
        assert_eq!(panel.addresses(&"17".into()).await.unwrap().len(), 3);
        assert_eq!(server.count("iplist"), requests, "nothing is learned from that");
    }
    // A list that says three addresses and shows two has lost one.
    let server = Server::panel(|r| match r.get("p_num") {
        "2" => addresses(r#""p_elems":{"$":"4"},"#, &[]),
        _ => addresses(r#""p_elems":{"$":"4"},"#, &[0, 1, 2]),
    });
    assert!(self::panel(&server).addresses(&"17".into()).await.is_err());
}

/// A row that groups others is of another table: its id may be the one of an address.
#[tokio::test]
async fn an_address_with_the_id_of_a_row_that_groups_others_is_not_lost() {
    let rows = |total: &str| {
        doc(&format!(
            r#"{total}"elem":[{{"id":"1","type":"group"}},{{"id":"501","ip":"203.0.113.9"}},{{"id":"2","type":"group"}},{{"id":"1","ip":"203.0.113.5"}}]"#
        ))
    };
    for (total, requests) in [("", 1), (r#""p_elems":"2","#, 1), (r#""p_elems":"4","#, 2)] {
        let server = Server::panel(move |r| match r.get("p_num") {
            "2" => doc(&format!("{total}\"elem\":[]")),
            _ => rows(total),
        });
        let found = panel(&server).addresses(&"17".into()).await.unwrap();
        let shown: Vec<String> = found.iter().map(|a| format!("{} {}", a.row.0, a.address)).collect();
        assert_eq!(shown, ["501 203.0.113.9", "1 203.0.113.5"], "{total}");
        // Of a total that counts those that group others, the page behind the last one is asked for, and the first one once more.
        assert!(server.count("iplist") >= requests, "{total}: {:?}", server.funcs());
    }
}

/// Of two rows with one id the second would be lost: an address that is on the server, or a server.
#[tokio::test]
async fn two_rows_that_one_id_names_are_no_whole_list() {
    let two = r#""elem":[{"id":"1","ip":"203.0.113.5"},{"id":"1","ip":"203.0.113.6"}]"#;
    for total in ["", r#""p_elems":"1","#, r#""p_elems":"2","#] {
        let server = Server::panel(move |_| doc(&format!("{total}{two}")));
        let error = panel(&server).addresses(&"17".into()).await.unwrap_err();
        assert!(matches!(&error, PanelError::Incomplete { what, .. } if what.contains("two different ones have 1")), "{total}: {error}");
    }
    let server = |kind: &str| format!(r#"{{"id":"1","name":"R1","type":"{kind}"}}"#);
    for (first, second, read) in [("group", "group", true), ("group", "E3", false)] {
        let rows = servers({
            let both = format!(r#""elem":[{},{}]"#, server(first), server(second));
            move |_| doc(&both)
        });
        assert_eq!(rows.await.is_ok(), read, "a server type may be called so: {first}, {second}");
    }
}

#[tokio::test]
async fn that_a_panel_counts_rows_that_group_others_is_asked_once() {
    type Page = fn() -> Reply;
    let whole = [0, 1, 2];
    let total = r#""p_elems":{"$":"3"},"#;
    // The page behind the last is empty, also without a word of how many rows there are, is the last one again, or is refused.
    let behind: [(Page, [usize; 3]); 4] = [
        (|| addresses(r#""p_elems":{"$":"3"},"#, &[]), [3, 4, 5]),
        (|| doc(""), [3, 4, 5]),
        (|| addresses(r#""p_elems":{"$":"3"},"#, &[0, 1, 2]), [3, 4, 5]),
        (|| Reply::Json(refused("value", "p_num")), [2, 3, 4]),
    ];
    for (page, requests) in behind {
        let server = Server::panel(move |r| match r.get("p_num") {
            "2" => page(),
            _ => addresses(total, &whole),
        });
        let panel = panel(&server);
        for count in requests {
            assert_eq!(panel.addresses(&"17".into()).await.unwrap().len(), 2);
            assert_eq!(server.count("iplist"), count);
        }
    }
    // What shows rows and does not say how many there are is no page behind the last.
    let server = Server::panel(|r| match r.get("p_num") {
        "2" => addresses("", &[3]),
        _ => addresses(r#""p_elems":{"$":"3"},"#, &[0, 1, 2]),
    });
    assert!(panel(&server).addresses(&"17".into()).await.is_err());
    // Another refusal says nothing of the page.
    let server = Server::panel(|r| match r.get("p_num") {
        "2" => Reply::Json(refused("busy", "server")),
        _ => addresses(r#""p_elems":{"$":"3"},"#, &[0, 1, 2]),
    });
    assert!(panel(&server).addresses(&"17".into()).await.is_err());
    // Nothing is in doubt where the addresses alone are as many, or no number is said.
    for total in [r#""p_elems":{"$":"2"},"#, ""] {
        let server = Server::panel(move |_| addresses(total, &[0, 1, 2]));
        assert_eq!(panel(&server).addresses(&"17".into()).await.unwrap().len(), 2);
        assert_eq!(server.count("iplist"), 1, "{total}");
    }
}

#[tokio::test]
async fn an_installation_sends_no_dangerous_value_of_the_form() {
    let server = Server::panel(|r| match r.get("sok") {
        "ok" => ok(),
        _ => doc(r#""elid":{"$":"17"},"operation":{"$":"diag"},"ostemplate":{"$":"old"},"clearhdd":{"$":"on"},"fullhddclear":{"$":"on"},
               "isotemplate":{"$":"some.iso"},"diag":{"$":"ISPsystem__Diag"},"wipe":{"$":"on"},"hostname":{"$":"old"},"passwd":{}"#),
    });
    let request = InstallRequest {
        template: "ISPsystem__Debian-12".into(),
        recipe: None,
        hostname: "new.example".into(),
        address: Some("203.0.113.5".parse().unwrap()),
        password: SecretString::from("rootpw9"),
    };
    assert!(!format!("{request:?}").contains("rootpw9"));
    assert_eq!(panel(&server).install(&"17".into(), &request).await, Outcome::Applied(()));
    assert_eq!(
        sent(&server.last("server.operations")),
        [
            ("checkpasswd", "rootpw9"),
            ("clearhdd", "off"),
            ("confirm", "rootpw9"),
            ("elid", "17"),
            ("fullhddclear", "off"),
            ("hostname", "new.example"),
            ("isotemplate", "no_iso_template"),
            ("operation", "ostemplate"),
            ("ostemplate", "ISPsystem__Debian-12"),
            ("passwd", "rootpw9"),
            ("recipe", "null"),
            ("sok", "ok"),
        ]
    );
}

#[tokio::test]
async fn an_address_that_the_form_does_not_show_is_not_sent_empty() {
    let server = Server::panel(|r| match r.get("sok") {
        "ok" => ok(),
        _ => doc(r#""ip":{},"domain":{"$":"a"},"iptype":{"$":"public"},"extra":{"$":"kept"}"#),
    });
    assert_eq!(panel(&server).set_domain(&"17".into(), &"501".into(), "b.example").await, Outcome::Applied(()));
    assert_eq!(
        sent(&server.last("iplist.edit")),
        [("domain", "b.example"), ("elid", "501"), ("extra", "kept"), ("iptype", "public"), ("plid", "17"), ("sok", "ok")]
    );
}

/// Empty, it would ask the address manager for any free address.
#[tokio::test]
async fn an_address_that_the_address_manager_s_form_does_not_show_is_not_sent_empty() {
    for shown in [r#""ip":{},"#, r#""ip":{"$":" "},"#, ""] {
        let form = format!(r#"{shown}"domain":{{"$":"a"}},"iptype":{{"$":"public"}},"note":{{"$":"old"}}"#);
        let server = Server::panel(move |r| if r.get("sok") == "ok" { ok() } else { doc(&form) });
        let panel = IpManager5::new(server.client());
        let address = "203.0.113.5".parse().unwrap();
        assert_eq!(panel.set_note(address, "k8s:u-1").await, Outcome::Applied(()));
        let expected = [("domain", "a"), ("elid", "203.0.113.5"), ("iptype", "public"), ("note", "k8s:u-1"), ("sok", "ok")];
        assert_eq!(sent(&server.last("ip.edit")), expected, "{shown}");
        assert_eq!(panel.set_domain(address, "b").await, Outcome::Applied(()));
        assert_eq!(sent(&server.last("ip.edit"))[0], ("domain", "b"), "{shown}");
        assert!(!server.last("ip.edit").form.contains_key("ip"), "{shown}");
    }
}

/// A dialect that names the new address otherwise; and the default, which leaves the choice to the panel where there is none.
#[tokio::test]
async fn a_main_address_that_the_form_does_not_show_is_left_to_the_panel_only_on_the_dialect_s_word() {
    let params = [("elid", "{row}"), ("plid", "{server}"), ("sok", "ok"), ("newip", "{address}")];
    let other: BTreeMap<String, String> = params.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    for (dialect, address, expected) in [
        (Dialect::new([("replaceMainAddress", "iplist.edit", &other)]).unwrap(), Some("203.0.113.5"), None),
        (Dialect::default(), Some("203.0.113.5"), Some("203.0.113.5")),
        (Dialect::default(), None, Some("")),
    ] {
        let server = Server::panel(|r| match r.get("sok") {
            "ok" => ok(),
            _ => doc(r#""elid":{"$":"501"},"ip":{},"domain":{"$":"a"},"iptype":{"$":"parking"}"#),
        });
        let address = address.map(|text| text.parse().unwrap());
        let to = MainAddress { current: "10.0.0.1".parse().unwrap(), address, group: "public".into(), domain: "b".into() };
        let panel = DciManager5::new(server.client(), dialect);
        assert_eq!(panel.replace_main_address(&"17".into(), &"501".into(), &to).await, Outcome::Applied(()));
        let sent = server.last("iplist.edit");
        assert_eq!(sent.form.get("ip").map(String::as_str), expected, "{sent:?}");
    }
}

#[tokio::test]
async fn a_document_that_is_no_form_is_not_sent_back() {
    for wrong in ["", r#""ok":{}"#, r#""elid":{"$":"502"},"ip":{"$":"10.0.0.1"}"#] {
        let server = Server::panel(move |_| doc(wrong));
        let outcome = panel(&server).set_domain(&"17".into(), &"501".into(), "b.example").await;
        assert!(matches!(outcome, Outcome::Refused(PanelError::Incomplete { .. })), "{wrong}: {outcome:?}");
        assert_eq!(server.count("iplist.edit"), 1, "{wrong}");
    }
}

#[tokio::test]
async fn an_address_asked_for_may_go_unnamed_but_not_one_left_to_the_panel() {
    let explicit: IpAddr = "203.0.113.5".parse().unwrap();
    for (answer, address, applied) in [
        (r#""ip":{"$":"203.0.113.5"}"#, None, true),
        (r#""ok":{}"#, Some(explicit), true),
        (r#""id":{"$":"9"}"#, Some(explicit), true),
        ("", Some(explicit), false),
        (r#""ok":{}"#, None, false),
        (r#""ip":{"$":"soon"}"#, None, false),
    ] {
        let server = Server::panel(move |_| doc(answer));
        let spec = AddressSpec { family: Family::Ipv4, group: "public".into(), address, domain: "a".into() };
        let outcome = panel(&server).add_address(&"17".into(), &spec).await;
        match outcome {
            Outcome::Applied(got) => assert!(applied && got == explicit, "{answer}"),
            Outcome::Ambiguous(PanelError::Incomplete { .. }) => assert!(!applied, "{answer}"),
            other => panic!("{answer}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn our_level_is_told_by_the_log_in_or_by_the_list() {
    for (level, users, expected) in [
        (r#","$level":"30""#, r#"{"id":{"$":"1"},"name":{"$":"root"},"level":{"$":"30"}}"#, (None, true)),
        (r#","$level":"29""#, r#"{"id":{"$":"2"},"name":{"$":"op"},"level":{"$":"29"}}"#, (Some("2"), true)),
        (r#","$level":"16""#, r#"{"id":{"$":"2"},"name":{"$":"op"},"level":{"$":"16"}}"#, (Some("2"), false)),
        ("", r#"{"id":{"$":"2"},"name":{"$":"op"},"level":{"$":"Administrator","$orig":"29"}}"#, (Some("2"), true)),
        ("", r#"{"id":{"$":"2"},"name":{"$":"op"},"level":{"$":"User","$orig":"16"}}"#, (Some("2"), false)),
        ("", r#"{"id":{"$":"1"},"name":{"$":"root"},"level":{"$":"30"}}"#, (None, false)),
    ] {
        let server = Server::raw(move |r| match r.func() {
            "auth" => doc(&format!(r#""auth":{{"$":"s"{level}}}"#)),
            "user" => doc(&format!(r#""elem":{users}"#)),
            _ => Reply::Json(refused("missed", "func")),
        });
        let probe = panel(&server).probe().await.unwrap();
        let got = (probe.user_id.as_ref().map(|u| u.0.as_str()), probe.administrator);
        assert_eq!(got, expected, "{level} {users}");
    }
}

/// A session may be older than our level: whoever sees that we are not an administrator any more has the handler ask who we are.
#[tokio::test]
async fn what_the_users_say_of_our_level_is_heard() {
    let row = |level: &str| format!(r#""elem":{{"id":{{"$":"2"}},"name":{{"$":"op"}},"level":{{"$":"{level}"}}}}"#);
    for (users, administrator) in [(Some(row("29")), true), (Some(row("16")), false), (None, false)] {
        let shown = users.is_some();
        let server = Server::raw(move |r| match (r.func(), &users) {
            ("auth", _) => doc(r#""auth":{"$":"s","$level":"29"}"#),
            ("user", Some(rows)) => doc(rows),
            ("user", None) => Reply::Json(refused("access", "user")),
            _ => Reply::Json(refused("missed", "func")),
        });
        let panel = panel(&server);
        assert!(panel.is_administrator(), "as far as anybody knows");
        assert_eq!(panel.users().await.is_ok(), shown);
        assert_eq!(panel.is_administrator(), administrator, "{shown}");
    }
}

#[tokio::test]
async fn an_ipv6_address_is_named_as_the_panel_spells_it() {
    let server = Server::panel(|r| match (r.func(), r.get("sok")) {
        ("ip", _) => doc(r#""elem":[{"ip":{"$":"2001:0DB8:0:0::0001"},"note":{"$":"a"}}]"#),
        ("ip.edit", "") => doc(r#""ip":{"$":"2001:0DB8:0:0::0001"},"note":{"$":"a"},"domain":{"$":"d"}"#),
        _ => ok(),
    });
    let panel = IpManager5::new(server.client());
    let address = "2001:db8::1".parse().unwrap();
    assert_eq!(panel.set_note(address, "b").await, Outcome::Applied(()));
    assert_eq!(server.last("ip.edit").get("elid"), "2001:0DB8:0:0::0001");
    assert_eq!((server.last("ip.edit").get("domain"), server.last("ip.edit").get("note")), ("d", "b"));
    assert_eq!(panel.give_back(address).await, Outcome::Applied(()));
    assert_eq!(server.last("ip.delete").get("elid"), "2001:0DB8:0:0::0001");
}

#[tokio::test]
async fn what_waited_for_its_turn_is_not_sent_when_somebody_else_may_lead_by_then() {
    let leads = Arc::new(AtomicBool::new(true));
    let at_work = Arc::new(tokio::sync::Notify::new());
    let (seen, lost) = (at_work.clone(), leads.clone());
    let server = Server::panel(move |request| {
        if request.func() == "server.poweron" {
            seen.notify_one();
            // Leadership goes while this one is on its way, and the other one waits behind it.
            lost.store(false, Ordering::SeqCst);
        }
        ok()
    });
    let mut settings = server.settings();
    settings.max_concurrent = 1;
    let asked = leads.clone();
    settings.permission = Permission::new(move || asked.load(Ordering::SeqCst));
    let client = Client::new(&settings).unwrap();
    let (first, second) = tokio::join!(async { client.change("server.poweron", &Params::new()).await.unit() }, async {
        at_work.notified().await;
        client.change("server.poweroff", &Params::new()).await.unit()
    });
    assert_eq!(first, Outcome::Applied(()), "it was sent before");
    assert!(matches!(&second, Outcome::Refused(PanelError::Unreachable { detail, .. }) if detail.contains("not sent")), "{second:?}");
    assert_eq!(server.count("server.poweroff"), 0);
}
