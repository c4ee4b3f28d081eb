//! Plans by tables: what the manifest says, what is stored, and what has to be told.

use serde_json::{Value, json};

use super::*;
use crate::api::samples;

fn ready(status: &str, reason: &str) -> Value {
    json!({"type": "Ready", "status": status, "reason": reason, "message": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn offer(change: &Value) -> Offer {
    let plain = samples::handler(&json!({
        "spec": {"byServerType": true, "allowedNamespaces": {"from": "All"},
            "ipManagement": {"ipManagerRef": {"name": "main"}, "parkingIPType": "parking"}},
        "status": {"panel": "dci:443/dcimgr", "conditions": [ready("True", "Reachable")],
            "inventory": {"total": 4, "free": 2, "byConfiguration": [{"configuration": "E3", "free": 2, "total": 3},
                {"configuration": "E5", "free": 0, "total": 1}]}},
    }));
    let mut object = serde_json::to_value(plain).unwrap();
    merge(&mut object, change);
    let pool = samples::ip_manager(&json!({"status": {"conditions": [ready("True", "Reachable")]}}));
    Offer { handler: serde_json::from_value(object).unwrap(), pool: Known::Is(pool), license_server: Known::Absent }
}

fn merge(into: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| merge(&mut into[name.as_str()], value)),
        other => *into = other.clone(),
    }
}

fn question(spec: &Value, offers: Vec<Offer>) -> Question {
    let mut change = json!({"spec": {"handlerRef": {"name": "msk-1", "namespace": "h"}}});
    merge(&mut change["spec"], spec);
    Question {
        order: samples::order(&change),
        unknown_fields: Vec::new(),
        existing: Known::Absent,
        handlers: Known::Is(offers),
        unread_handlers: Vec::new(),
        labels: Known::Absent,
        neighbours: Known::Is(Vec::new()),
        unread_orders: Vec::new(),
        beside: 0,
    }
}

/// The same for an order that is there, with these fields of its spec and this server.
fn changed(was: &Value, spec: &Value, server: &Value, status: &Value, handler: &Value) -> Question {
    let mut asked = question(spec, vec![offer(handler)]);
    let mut stored = json!({"spec": {"handlerRef": {"name": "msk-1", "namespace": "h"}},
        "status": {"server": {"id": "17", "handler": "h/msk-1", "configuration": "E3"}}});
    merge(&mut stored["spec"], was);
    merge(&mut stored["status"]["server"], server);
    merge(&mut stored["status"], status);
    asked.existing = Known::Is(samples::order(&stored));
    asked
}

fn handed_over() -> Value {
    json!({"handedOverAt": "2026-01-01T00:00:00Z"})
}

fn step(plan: &Plan, step: Step) -> &Planned {
    plan.steps.iter().find(|p| p.step == step).unwrap()
}

#[test]
fn a_new_order_and_all_of_its_steps() {
    let plan = plan(&question(&json!({"addresses": {"ipv4": 2}, "recipes": ["nginx"]}), vec![offer(&json!({}))]));
    assert_eq!((plan.weight(), &plan.situation), (Weight::Good, &Situation::New));
    assert_eq!(
        text(&plan),
        "order shop/web: new\n\
         manifest: valid\n\
         \n\
         handler h/msk-1\n  \
           ok   it is Ready\n  \
           ok   IPManager main is Ready\n  \
           ok   namespace shop may use it\n  \
           ok   2 of 3 servers of type E3 are free\n  \
           ok   deletionPolicy Release is allowed\n\
         \n\
         steps:\n  \
           1   CreateClient    makes panel user acme where the panel does not have it; its log-in comes into Secret web-panel\n  \
           2   Allocate        claims one free server of type E3: owner and marker are written, and read back\n  \
           -   Assemble        skipped: ready configuration\n  \
           3   PowerOn         switches the server on, where it is off\n  \
           4   ChangeAddress   gives it 2 IPv4 of group public, taken in IPmanager, one of them as main address; the old main address goes back to group parking; all get domain a.example\n  \
           5   InstallOS       installs template T with recipe nginx; the root password is generated into Secret web-root\n  \
           6   RunRecipes      nothing by itself: the recipe is part of the installation; where one fails, another server is tried, once\n  \
           -   IssueLicenses   skipped: none ordered\n  \
           7   HandOver        makes acme the owner at the panel: the order is Ready\n\
         \n\
         only the panel knows, or nobody before it happens:\n  \
           - whether panel user acme exists, and is no administrator (ClientIsAdministrator)\n  \
           - how many servers are free when the order's turn comes: older orders are served first\n  \
           - whether one of 20 places (limits.maxConcurrentOperations) is free then\n  \
           - whether the panel offers T, and nginx for the server (UnknownTemplate, UnknownRecipe)\n  \
           - whether group public has free addresses: IPmanager 5 does not tell\n\
         \n\
         result: the steps above are taken\n"
    );
}

#[test]
fn a_bad_manifest_says_all_that_is_wrong_and_plans_nothing() {
    let mut asked = question(&json!({"domain": "free.ds", "addresses": {"ipv4": 0}}), vec![offer(&json!({}))]);
    asked.unknown_fields = vec!["spec.recipe".into()];
    let plan = plan(&asked);
    assert_eq!((plan.weight(), plan.problems.len()), (Weight::Stops, 3), "{:?}", plan.problems);
    let text = text(&plan);
    for part in ["manifest: INVALID", "free.ds marks servers", "spec.addresses.ipv4", "spec.recipe: there is no such field"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(plan.steps.is_empty() && plan.handlers.is_empty());
}

#[test]
fn what_speaks_for_and_against_a_handler() {
    let labelled = json!({"spec": {"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"shop": "yes"}}}}});
    for (spec, handler, weight, part) in [
        (json!({}), json!({"status": {"conditions": [ready("False", "Unreachable")]}}), Weight::Waits, "not Ready: Unreachable"),
        (json!({}), json!({"status": {"conditions": []}}), Weight::Waits, "not been looked at"),
        (json!({}), json!({"spec": {"suspend": true}}), Weight::Waits, "spec.suspend"),
        (json!({}), json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), Weight::Waits, "being deleted"),
        (json!({}), json!({"spec": {"module": "BILLmanager6"}}), Weight::Stops, "its module is BILLmanager6"),
        (json!({}), json!({"spec": {"allowedNamespaces": {"from": "Same"}}}), Weight::Stops, "namespace shop may not use it"),
        (json!({}), labelled, Weight::Unknown, "namespace shop does not exist yet: whether it will have the labels"),
        (json!({"configuration": {"serverType": "E5"}}), json!({}), Weight::Waits, "none of 1 servers of type E5 is free"),
        (
            json!({"configuration": {"serverType": "X"}}),
            json!({}),
            Weight::Waits,
            "no server of type X (WaitingForCapacity); it has: E3, E5",
        ),
        (
            json!({"configuration": {"serverType": "E5"}}),
            json!({"status": {"inventory": {"total": 1, "free": 1, "byConfiguration": [{"configuration": "E3", "free": 1, "total": 1},
                {"configuration": "E5", "free": 1, "total": 1}]}}}),
            Weight::Good,
            "1 of 1 servers of type E5 are free",
        ),
        (json!({}), json!({"status": {"inventory": null}}), Weight::Unknown, "has not counted"),
        (
            json!({"configuration": {"serverType": null, "custom": {"memoryGiB": 64}}}),
            json!({}),
            Weight::Stops,
            "CustomConfigurationRefused",
        ),
        (
            json!({"configuration": {"serverType": null, "custom": {"memoryGiB": 64}}}),
            json!({"spec": {"byServerType": false}}),
            Weight::Unknown,
            "which parts they have, only the panel knows",
        ),
        (
            json!({"configuration": {"serverType": null, "custom": {"memoryGiB": 64}}}),
            json!({"spec": {"byServerType": false, "departments": {"assembly": {"name": "Builders"}}}, "status": {"inventory": {"free": 0}}}),
            Weight::Waits,
            "asks department Builders",
        ),
        (json!({"deletionPolicy": "Orphan"}), json!({}), Weight::Stops, "set Release"),
        (json!({"adopt": {"serverId": "17"}}), json!({}), Weight::Stops, "AdoptionForbidden"),
        (json!({"adopt": {"serverId": "17"}}), json!({"spec": {"adoption": "Allowed"}}), Weight::Good, "may take over servers"),
        (json!({"recipes": ["a", "b"]}), json!({}), Weight::Stops, "SeveralRecipes"),
        (json!({"recipes": ["a", "b"]}), json!({"spec": {"dialect": {"runRecipe": {"func": "x"}}}}), Weight::Good, "is Ready"),
        (json!({"licenses": [{"product": "Lite"}]}), json!({}), Weight::Stops, "no licenseServerRef"),
        (
            json!({"licenses": [{"product": "Lite"}]}),
            json!({"spec": {"licenseServerRef": {"name": "l"}}}),
            Weight::Unknown,
            "licence server h/l does not exist; the licences wait for it",
        ),
        (json!({}), json!({"status": {"clients": [{"username": "ACME", "namespace": "rivals"}]}}), Weight::Stops, "ClientNameTaken"),
        (json!({}), json!({"status": {"clients": [{"username": "acme", "namespace": "shop"}]}}), Weight::Good, "belongs to this namespace"),
    ] {
        let plan = plan(&question(&spec, vec![offer(&handler)]));
        let findings = &plan.handlers[0].findings;
        assert_eq!(plan.weight(), weight, "{spec} {handler}: {findings:?}");
        assert!(findings.iter().any(|f| f.weight == weight && f.text.contains(part)), "{part}: {findings:?}");
        assert!(!text(&plan).contains("rivals"), "whose a client's name is, is nobody's business");
    }
}

#[test]
fn what_may_not_be_read_is_unknown() {
    let labelled = json!({"spec": {"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"shop": "yes"}}},
        "limits": {"maxOrdersPerNamespace": 1}}});
    let mut asked = question(&json!({}), vec![offer(&labelled)]);
    asked.labels = Known::Hidden("you may not read namespace shop".into());
    asked.neighbours = Known::Hidden("you may not list orders".into());
    let told = plan(&asked);
    let unknown = told.handlers[0].findings.iter().filter(|f| f.weight == Weight::Unknown).count();
    assert_eq!((told.weight(), unknown), (Weight::Unknown, 2));
    asked.labels = Known::Is(BTreeMap::from([("shop".into(), "yes".into())]));
    asked.neighbours = Known::Is(vec![samples::order(&json!({"metadata": {"name": "other"}, "spec": {"handlerRef": {"namespace": "h"}},
        "status": {"server": {"id": "1", "handler": "h/msk-1", "configuration": "E3"}}}))]);
    let told = plan(&asked);
    assert_eq!(told.weight(), Weight::Waits);
    assert!(text(&told).contains("LimitReached"), "{}", text(&told));
    asked.handlers = Known::Hidden("you may not get processinghandlers in namespace h".into());
    asked.existing = Known::Hidden("you may not get orders".into());
    let told = plan(&asked);
    assert_eq!(told.weight(), Weight::Unknown);
    let text = text(&told);
    assert!(text.contains("order shop/web: planned as a new one (you may not get orders)"), "{text}");
    assert!(text.contains("handler: unknown: you may not get processinghandlers in namespace h"), "{text}");
    assert!(text.contains("gives it 1 IPv4 public addresses, as its handler says"), "{text}");
}

#[test]
fn what_this_version_cannot_read_is_told_of_and_not_left_out() {
    let unread = |name: &str| ObjectKey { namespace: "h".into(), name: name.into() };
    let limited = json!({"spec": {"limits": {"maxOrdersPerNamespace": 1}}});
    let mut asked = question(&json!({}), vec![offer(&limited)]);
    assert_eq!(plan(&asked).weight(), Weight::Good);
    asked.unread_orders = vec![ObjectKey { namespace: "shop".into(), name: "new".into() }];
    let told = text(&plan(&asked));
    assert_eq!(plan(&asked).weight(), Weight::Unknown, "{told}");
    assert!(told.contains("0 orders of this namespace have servers or came before, 1 more cannot be read by this version"), "{told}");
    asked.unread_orders = vec![asked.order.key()];
    assert_eq!(plan(&asked).weight(), Weight::Good, "it does not stand in its own way");
    // One that is tried earlier may be among those that cannot be read.
    let selects = json!({"spec": {"handlerRef": null, "handlerSelector": {"namespace": "h"}}});
    let mut asked = question(&json!({}), vec![offer(&json!({}))]);
    asked.order = samples::order(&selects);
    asked.unread_handlers = vec![unread("msk-0")];
    let told = plan(&asked);
    assert_eq!(told.weight(), Weight::Unknown);
    assert!(text(&told).contains("h/msk-0: cannot be read by this version"), "{}", text(&told));
    asked.handlers = Known::Is(Vec::new());
    let told = plan(&asked);
    assert_eq!((told.weight(), told.no_handler.as_ref().map(|f| f.weight)), (Weight::Unknown, Some(Weight::Unknown)));
}

#[test]
fn a_handler_that_does_not_exist_stops_the_order() {
    for (spec, offers, part) in [
        (json!({}), Known::Absent, "handler h/msk-1 does not exist"),
        (json!({"handlerRef": null, "handlerSelector": {"namespace": "h"}}), Known::Is(Vec::new()), "no handler of namespace h"),
    ] {
        let mut asked = question(&json!({}), Vec::new());
        let mut order = serde_json::to_value(&asked.order).unwrap();
        merge(&mut order["spec"], &spec);
        asked.order = serde_json::from_value(order).unwrap();
        asked.handlers = offers;
        let plan = plan(&asked);
        assert_eq!(plan.weight(), Weight::Stops);
        assert!(text(&plan).contains(part), "{}", text(&plan));
    }
}

#[test]
fn a_selector_takes_the_first_handler_that_can() {
    let named = |name: &str, priority: i32, free: i32| {
        let servers = json!([{"configuration": "E3", "free": free, "total": 3}]);
        offer(&json!({"metadata": {"name": name}, "spec": {"priority": priority}, "status": {"inventory": {"byConfiguration": servers}}}))
    };
    let mut order = json!({"spec": {"handlerRef": null, "handlerSelector": {"namespace": "h", "matchLabels": {"a": "b"}}}});
    order["spec"]["addresses"] = json!({"ipv4": 1});
    for (offers, chosen, weight) in [
        (vec![named("b", 2, 1), named("a", 1, 0), named("c", 1, 1)], Some("h/c"), Weight::Good),
        (vec![named("b", 2, 0), named("a", 1, 0)], None, Weight::Waits),
    ] {
        let mut asked = question(&json!({}), offers);
        asked.order = samples::order(&order);
        let plan = plan(&asked);
        assert_eq!(plan.chosen.as_ref().map(ToString::to_string).as_deref(), chosen);
        assert_eq!(plan.weight(), weight);
        assert_eq!(plan.handlers[0].key.name, "a", "by priority, then by name");
    }
}

#[test]
fn steps_follow_handler_and_order() {
    let custom = json!({"configuration": {"serverType": null, "custom": {"memoryGiB": 64}}});
    for (spec, handler, at, act, part) in [
        (
            json!({}),
            json!({"spec": {"ipManagement": {"disableIPChange": true}}}),
            Step::ChangeAddress,
            Act::Does,
            "main address stays (disableIPChange), no other is added",
        ),
        (
            json!({"addresses": {"ipv4": 3, "ipv6": 1}}),
            json!({"spec": {"ipManagement": {"disableIPChange": true}}}),
            Step::ChangeAddress,
            Act::Does,
            "2 IPv4 and 1 IPv6 of group public are added",
        ),
        (json!({}), json!({"spec": {"ipManagement": {"allocateBy": "Panel"}}}), Step::ChangeAddress, Act::Does, "taken by the panel"),
        (custom.clone(), json!({"spec": {"byServerType": false}}), Step::Allocate, Act::Does, "has 64Gb with the least surplus"),
        (custom, json!({"spec": {"byServerType": false}}), Step::Assemble, Act::Does, "only where the server lacks parts"),
        (json!({}), json!({}), Step::RunRecipes, Act::Skips, "none asked for"),
        (
            json!({"recipes": ["a", "b"], "readyWhen": "OSInstalled"}),
            json!({"spec": {"dialect": {"runRecipe": {"func": "x"}}}}),
            Step::RunRecipes,
            Act::Does,
            "runs b, one after the other; one that fails is not waited for",
        ),
        (
            json!({"operatingSystem": {"passwordSecretRef": {"name": "s", "key": "k"}}}),
            json!({}),
            Step::InstallOS,
            Act::Does,
            "is key k of Secret s",
        ),
        (
            json!({"licenses": [{"product": "Lite", "period": 3}]}),
            json!({"spec": {"licenseServerRef": {"name": "l"}}}),
            Step::IssueLicenses,
            Act::Does,
            "Lite for 3 months at h/l",
        ),
        (json!({"suspended": true}), json!({}), Step::StopPower, Act::Does, "switches its power off"),
        (
            json!({"adopt": {"serverId": "17"}}),
            json!({"spec": {"adoption": "Allowed"}}),
            Step::InstallOS,
            Act::Skips,
            "an adopted server is not prepared",
        ),
        (json!({"adopt": {"serverId": "17"}}), json!({"spec": {"adoption": "Allowed"}}), Step::Allocate, Act::Does, "takes over server 17"),
    ] {
        let plan = plan(&question(&spec, vec![offer(&handler)]));
        let planned = step(&plan, at);
        assert_eq!(planned.act, act, "{planned:?}");
        assert!(planned.text.contains(part), "{part}: {planned:?}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_a_change_of_an_order_with_a_server_costs() {
    let run_recipe = json!({"spec": {"dialect": {"runRecipe": {"func": "x"}}}});
    let none = json!({});
    for (was, becomes, status, handler, field, effect, part) in [
        (
            json!({}),
            json!({"configuration": {"serverType": "E5"}}),
            &none,
            &none,
            "spec.configuration",
            Effect::Refused,
            "create another order",
        ),
        (json!({}), json!({"client": {"username": "bob"}}), &none, &none, "spec.client", Effect::Refused, "fixed"),
        (json!({}), json!({"handlerRef": {"name": "msk-2"}}), &none, &none, "spec.handlerRef", Effect::Refused, "fixed"),
        (json!({}), json!({"adopt": {"serverId": "18"}}), &none, &none, "spec.adopt", Effect::Refused, "cannot be added"),
        (json!({}), json!({"domain": "b.example"}), &none, &none, "spec.domain", Effect::AtOnce, "ChangeAddress"),
        (json!({}), json!({"addresses": {"ipv4": 3}}), &none, &none, "spec.addresses.ipv4", Effect::AtOnce, "adds 2 IPv4 of group public"),
        (
            json!({"addresses": {"ipv4": 3, "ipv6": 1}}),
            json!({"addresses": {"ipv4": 3}}),
            &none,
            &none,
            "spec.addresses.ipv6",
            Effect::AtOnce,
            "takes 1 IPv6 away from the server, the highest first",
        ),
        (
            json!({"addresses": {"ipv4": 3}}),
            json!({"addresses": {"ipv4": 2}}),
            &none,
            &json!({"spec": {"ipManagement": {"allocateBy": "Panel"}}}),
            "spec.addresses.ipv4",
            Effect::AtOnce,
            "takes 1 IPv4 away from the server, the last in the panel's list first",
        ),
        (
            json!({}),
            json!({"operatingSystem": {"template": "U"}}),
            &none,
            &none,
            "spec.operatingSystem.template",
            Effect::Later,
            "next reinstall",
        ),
        (json!({}), json!({"recipes": ["r"]}), &none, &none, "spec.recipes", Effect::Later, "next reinstall"),
        (json!({}), json!({"recipes": ["r"]}), &none, &run_recipe, "spec.recipes", Effect::AtOnce, "RunRecipes runs r"),
        (json!({}), json!({"reinstall": "now"}), &none, &none, "spec.reinstall", Effect::Wipes, "DESTROYS THE DATA"),
        (
            json!({}),
            json!({"reinstall": "now"}),
            &json!({"lastHandledReinstall": "now"}),
            &none,
            "spec.reinstall",
            Effect::AtOnce,
            "nothing: this value was acted upon",
        ),
        (
            json!({}),
            json!({"reinstall": "now", "suspended": true}),
            &none,
            &none,
            "spec.reinstall",
            Effect::Later,
            "when the service is resumed",
        ),
        (
            json!({}),
            json!({"reinstall": "now", "deletionProtection": true}),
            &none,
            &none,
            "spec.reinstall",
            Effect::Refused,
            "ReinstallProtected",
        ),
        (
            json!({"reinstall": "old", "deletionProtection": true}),
            json!({"reinstall": "old"}),
            &none,
            &none,
            "spec.reinstall",
            Effect::Wipes,
            "DESTROYS THE DATA",
        ),
        (
            json!({"reinstall": "old", "suspended": true}),
            json!({"reinstall": "old"}),
            &none,
            &none,
            "spec.reinstall",
            Effect::Wipes,
            "DESTROYS THE DATA",
        ),
        (json!({}), json!({"suspended": true}), &none, &none, "spec.suspended", Effect::AtOnce, "PortsOff"),
        (json!({}), json!({"deletionPolicy": "Orphan"}), &none, &none, "spec.deletionPolicy", Effect::Refused, "DeletionPolicyForbidden"),
        (
            json!({"licenses": [{"product": "Lite"}]}),
            json!({"licenses": [{"product": "Pro"}]}),
            &none,
            &none,
            "spec.licenses",
            Effect::AtOnce,
            "orders Pro; Lite: suspended or released",
        ),
    ] {
        let plan = plan(&changed(&was, &becomes, &handed_over(), status, handler));
        assert_eq!(plan.situation, Situation::HandedOver);
        let found = plan.changes.iter().find(|c| c.field == field).unwrap_or_else(|| panic!("{field}: {:?}", plan.changes));
        assert_eq!(found.effect, effect, "{found:?}");
        assert!(found.text.contains(part), "{part}: {found:?}");
        assert!(plan.steps.is_empty());
        let text = text(&plan);
        assert_eq!(
            text.contains("DATA ON THE SERVER ARE LOST"),
            plan.changes.iter().any(|c| c.effect == Effect::Wipes) && plan.weight() <= Weight::Unknown,
            "{text}"
        );
    }
}

#[test]
fn an_order_as_it_is_stored_changes_nothing() {
    let told = plan(&changed(&json!({}), &json!({}), &handed_over(), &json!({}), &json!({})));
    assert!(told.changes.is_empty());
    let told = text(&told);
    assert!(told.contains("changes: none") && told.ends_with("result: nothing happens\n"), "{told}");
}

#[test]
fn a_reinstallation_held_back_before_and_still_so_wipes_nothing() {
    let held = json!({"reinstall": "old", "deletionProtection": true});
    let told = plan(&changed(&held, &held, &handed_over(), &json!({}), &json!({})));
    assert!(told.changes.is_empty(), "{:?}", told.changes);
}

#[test]
fn an_order_in_preparation_shows_what_is_left() {
    let status = json!({"steps": [
        {"name": "CreateClient", "state": "Done"}, {"name": "Allocate", "state": "Done", "message": "server 17"},
        {"name": "Assemble", "state": "Skipped", "message": "ready configuration"}, {"name": "PowerOn", "state": "Running"}]});
    let told = plan(&changed(&json!({}), &json!({"reinstall": "x"}), &json!({}), &status, &json!({})));
    assert_eq!(told.situation, Situation::Preparing);
    assert_eq!((step(&told, Step::Allocate).act, step(&told, Step::PowerOn).act), (Act::Over, Act::Does));
    assert_eq!(told.changes[0].effect, Effect::AtOnce, "{:?}", told.changes);
    assert!(text(&told).contains("  1   PowerOn "), "{}", text(&told));
}

#[test]
fn an_order_that_goes_is_not_planned() {
    let mut asked = question(&json!({}), vec![offer(&json!({}))]);
    asked.existing = Known::Is(samples::order(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})));
    let told = plan(&asked);
    assert_eq!((&told.situation, told.weight()), (&Situation::Deleting, Weight::Good));
    assert!(text(&told).contains("is being deleted"), "{}", text(&told));
}

#[test]
fn the_handler_that_serves_an_order_is_asked() {
    let order = samples::order(&json!({}));
    let key = |namespace: &str| Wanted::Named(ObjectKey { namespace: namespace.into(), name: "msk-1".into() });
    assert_eq!(wanted_handlers(&order, None), key("shop"));
    let there = samples::order(&json!({"status": {"server": {"id": "17", "handler": "h/msk-1", "configuration": "E3"}}}));
    assert_eq!(wanted_handlers(&order, Some(&there)), key("h"));
    assert_eq!(wanted_handlers(&order, Some(&order)), key("shop"));
}

#[test]
fn an_order_that_does_not_go_on_says_so() {
    let stalled = json!({"observedGeneration": 1, "conditions": [{"type": "Stalled", "status": "True", "reason": "UnknownTemplate",
        "message": "the panel does not offer template T", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let asked = json!({"observedGeneration": 1, "waitingOn": {"kind": "Department", "name": "t-1", "since": "2026-01-01T00:00:00Z"},
        "manualTasks": [{"name": "t-1", "type": "FailedOperation", "department": "Ops", "state": "Open"}]});
    let asks = |status: &Value, spec: &Value| plan(&changed(&json!({}), spec, &json!({}), status, &json!({})));
    let same = asks(&stalled, &json!({}));
    assert_eq!(same.weight(), Weight::Stops);
    assert!(text(&same).contains("as it is: STOPS: UnknownTemplate: the panel does not offer template T"), "{}", text(&same));
    assert!(text(&same).ends_with(
        "result: the order STANDS STILL until somebody changes something: UnknownTemplate: the panel does not offer template T\n"
    ));
    let other = asks(&stalled, &json!({"operatingSystem": {"template": "Debian-13"}}));
    assert!(other.stands.is_none() && other.weight() != Weight::Stops, "{}", text(&other));
    assert!(
        text(&other).contains("whether the change helps the order, which does not go on as it is: UnknownTemplate"),
        "{}",
        text(&other)
    );
    let mut hidden = changed(&json!({}), &json!({}), &json!({}), &stalled, &json!({}));
    hidden.handlers = Known::Hidden("you may not list handlers".into());
    assert_eq!(plan(&hidden).weight(), Weight::Stops);
    assert!(text(&plan(&hidden)).contains("STANDS STILL until somebody changes something: UnknownTemplate"), "{}", text(&plan(&hidden)));
    let mut again = changed(&json!({}), &json!({}), &json!({}), &stalled, &json!({}));
    again.order.metadata.annotations = Some([(RECONCILE_ANNOTATION.to_owned(), "now".to_owned())].into());
    assert_ne!(plan(&again).weight(), Weight::Stops, "another attempt is asked for");
    let mut old = stalled.clone();
    old["observedGeneration"] = 0.into();
    assert_ne!(asks(&old, &json!({})).weight(), Weight::Stops, "it has not been looked at since");
    let waits = asks(&asked, &json!({}));
    assert_eq!(waits.weight(), Weight::Waits);
    assert!(text(&waits).contains("as it is: waits: department Ops has task t-1"), "{}", text(&waits));
    assert_eq!(asks(&json!({}), &json!({})).weight(), Weight::Good);
}

#[test]
fn orders_of_one_call_are_planned_one_by_one_and_say_so() {
    let mut asked = question(&json!({}), vec![offer(&json!({}))]);
    asked.beside = 4;
    assert!(text(&plan(&asked)).contains("which of the 4 other orders of this call come first"), "{}", text(&plan(&asked)));
}
