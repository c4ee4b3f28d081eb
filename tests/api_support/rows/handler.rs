//! Rows for handlers and `IPManager`s: connection, module, departments, durations.

use dci_operator::api::messages as msg;
use serde_json::{Value, json};

use super::super::support::{Kind, examples};
use super::Row;

fn create(name: &str, patch: &Value) -> Row {
    Row::create(Kind::Handler, name, patch)
}

pub fn rows() -> Vec<Row> {
    let mut rows = modules();
    rows.extend(connection(Kind::Handler));
    rows.extend(durations());
    rows.extend(namespaces_and_dialect());
    rows.extend(departments());
    rows
}

fn departments() -> Vec<Row> {
    let mut rows = Vec::new();
    for department in ["operations", "assembly", "procurement"] {
        let with = |name: &str, value: Value| {
            let mut row = create(&format!("{department}: {name}"), &json!({}));
            row.new["spec"]["departments"][department] = json!({"name": "Field"});
            for (key, value) in value.as_object().unwrap() {
                row.new["spec"]["departments"][department][key] = value.clone();
            }
            row
        };
        let hook = |url: &str| with(url, json!({"webhook": {"url": url, "secretRef": {"name": "hooks", "key": "hmac"}}}));
        rows.extend([
            with("nothing more", json!({})).accepted(&[msg::DEADLINE, msg::ESCALATE_TO]),
            with("a deadline", json!({"deadline": "4h"})).accepted(&[msg::DEADLINE, msg::ESCALATE_TO]),
            with("the shortest deadline", json!({"deadline": "1s", "escalateTo": "Leads"})).accepted(&[msg::DEADLINE, msg::ESCALATE_TO]),
            with("a deadline of nothing", json!({"deadline": "0s"})).refused(&[msg::DEADLINE]),
            with("escalation without a deadline", json!({"escalateTo": "Leads"})).refused(&[msg::ESCALATE_TO]),
            with("escalation to itself", json!({"deadline": "1h", "escalateTo": "Field"})).refused(&[msg::ESCALATE_TO]),
            hook("https://hooks.example.net/dci").accepted(&[msg::WEBHOOK_URL]),
            hook("http://127.0.0.1:8080/dci").accepted(&[msg::WEBHOOK_URL]),
            hook("http://hooks.example.net/dci").refused(&[msg::WEBHOOK_URL]),
            hook("https://user:secret@hooks.example.net/dci").refused(&[msg::WEBHOOK_URL]),
            hook("https://hooks.example.net/dci?token=x").refused(&[msg::WEBHOOK_URL]),
            hook("ftp://hooks.example.net/dci").refused(&[msg::WEBHOOK_URL]),
        ]);
    }
    rows
}

pub fn manager_rows() -> Vec<Row> {
    let poll = |name: &str, value: &str| Row::create(Kind::Manager, name, &json!({"spec": {"pollInterval": value}}));
    let mut rows = connection(Kind::Manager);
    rows.extend([
        Row::object(Kind::Manager, "the example", examples::ipmanager()).accepted(&[msg::POLL_INTERVAL, msg::URL, msg::TLS]),
        poll("every second", "1s").accepted(&[msg::POLL_INTERVAL]),
        poll("every 999ms", "999ms").refused(&[msg::POLL_INTERVAL]),
        Row::update(Kind::Manager, "the same flavor", &json!({}), &json!({"spec": {"pollInterval": "2s"}})).accepted(&[msg::FLAVOR_FIXED]),
        Row::update(Kind::Manager, "another flavor", &json!({}), &json!({"spec": {"flavor": "IPmanager6"}})).refused(&[msg::FLAVOR_FIXED]),
    ]);
    rows
}

fn modules() -> Vec<Row> {
    let bill = |patch: &Value| {
        let mut spec = json!({"spec": {
            "module": "BILLmanager6", "byServerType": false, "ipManagement": null,
            "licenseServerRef": null, "departments": {"assembly": null, "procurement": null}
        }});
        super::super::support::merge(&mut spec, patch);
        spec
    };
    let update = |name: &str, change: &Value| Row::update(Kind::Handler, name, &json!({}), change);
    vec![
        Row::object(Kind::Handler, "the example", examples::handler()).accepted(&[
            msg::DEPARTMENTS,
            msg::LICENSE_SERVER,
            msg::IP_MANAGEMENT,
            msg::ALLOWED_NAMESPACES,
            msg::DIALECT,
            msg::POLL_INTERVAL,
            msg::RETRY_INTERVAL,
            msg::TIMEOUTS,
        ]),
        Row::object(Kind::Handler, "the smallest", examples::minimal_handler()).accepted(&[msg::DEPARTMENTS, msg::IP_MANAGEMENT]),
        create("DCImanager6", &json!({"spec": {"module": "DCImanager6"}})).accepted(&[msg::DEPARTMENTS, msg::IP_MANAGEMENT]),
        create("no departments", &json!({"spec": {"departments": null}})).refused(&[msg::DEPARTMENTS]),
        create("no assembly", &json!({"spec": {"departments": {"assembly": null}}})).refused(&[msg::DEPARTMENTS]),
        create("no procurement", &json!({"spec": {"departments": {"procurement": null}}})).refused(&[msg::DEPARTMENTS]),
        create("DCImanager6 without", &json!({"spec": {"module": "DCImanager6", "departments": null}})).refused(&[msg::DEPARTMENTS]),
        create("legacy without departments", &json!({"spec": {"byServerType": true, "departments": null}})).accepted(&[msg::DEPARTMENTS]),
        create("legacy with departments", &json!({"spec": {"byServerType": true}})).accepted(&[msg::DEPARTMENTS]),
        create("no ipManagement", &json!({"spec": {"ipManagement": null}})).refused(&[msg::IP_MANAGEMENT]),
        create("DCImanager6 without ipManagement", &json!({"spec": {"module": "DCImanager6", "ipManagement": null}}))
            .refused(&[msg::IP_MANAGEMENT]),
        create("no parking", &json!({"spec": {"ipManagement": {"parkingIPType": null}}})).accepted(&[msg::PARKING]),
        create("parking of its own", &json!({"spec": {"ipManagement": {"publicIPType": "sold", "parkingIPType": "public"}}}))
            .accepted(&[msg::PARKING]),
        create("parking among what is sold", &json!({"spec": {"ipManagement": {"publicIPType": "sold", "parkingIPType": "sold"}}}))
            .refused(&[msg::PARKING]),
        create("parking in the usual group", &json!({"spec": {"ipManagement": {"publicIPType": null, "parkingIPType": "public"}}}))
            .refused(&[msg::PARKING]),
        create("a licence server", &bill(&json!({}))).accepted(&[msg::LICENSE_SERVER, msg::DEPARTMENTS, msg::IP_MANAGEMENT]),
        Row::object(Kind::Handler, "a licence server without departments", {
            let mut handler = super::super::support::patched(&examples::handler(), &bill(&json!({})));
            handler["spec"].as_object_mut().unwrap().remove("departments");
            handler
        })
        .accepted(&[msg::LICENSE_SERVER]),
        create("with byServerType", &bill(&json!({"spec": {"byServerType": true}}))).refused(&[msg::LICENSE_SERVER]),
        create("with ipManagement", &bill(&json!({"spec": {"ipManagement": {"ipManagerRef": {"name": "main"}}}})))
            .refused(&[msg::LICENSE_SERVER]),
        create("with assembly", &bill(&json!({"spec": {"departments": {"assembly": {"name": "A"}}}}))).refused(&[msg::LICENSE_SERVER]),
        create("with procurement", &bill(&json!({"spec": {"departments": {"procurement": {"name": "P"}}}})))
            .refused(&[msg::LICENSE_SERVER]),
        create("a licence server with products", &bill(&json!({"spec": {"licenses": {"products": {"Lite": {"pricelist": "55227"}}}}})))
            .accepted(&[msg::LICENSES, msg::LICENSE_PRODUCT, msg::RENEW_BEFORE]),
        create("products of DCImanager5", &json!({"spec": {"licenses": {"products": {"Lite": {"pricelist": "55227"}}}}}))
            .refused(&[msg::LICENSES]),
        create("a licence server of a licence server", &bill(&json!({"spec": {"licenseServerRef": {"name": "isp"}}})))
            .refused(&[msg::LICENSES]),
        create("a product with a slash", &bill(&json!({"spec": {"licenses": {"products": {"a/b": {"pricelist": "1"}}}}})))
            .refused(&[msg::LICENSE_PRODUCT]),
        create("a product with a long name", &bill(&json!({"spec": {"licenses": {"products": {"a".repeat(64): {"pricelist": "1"}}}}})))
            .refused(&[msg::LICENSE_PRODUCT]),
        create(
            "renewed too late",
            &bill(&json!({"spec": {"licenses": {"products": {"Lite": {"pricelist": "1"}}, "renewBefore": "999ms"}}})),
        )
        .refused(&[msg::RENEW_BEFORE]),
        update("the same module", &json!({"spec": {"byServerType": true, "departments": null}})).accepted(&[msg::MODULE_FIXED]),
        update("another module", &json!({"spec": {"module": "DCImanager6"}})).refused(&[msg::MODULE_FIXED]),
    ]
}

fn connection(kind: Kind) -> Vec<Row> {
    let with = |name: &str, value: Value| {
        let mut row = Row::create(kind, name, &json!({}));
        for (key, value) in value.as_object().unwrap() {
            row.new["spec"]["connection"][key] = value.clone();
        }
        row
    };
    let url = |value: &str| with(value, json!({"url": value}));
    let mut rows: Vec<Row> = [
        "https://dci.example.net",
        "https://dci.example.net/",
        "https://dci.example.net:1500/dcimgr",
        "https://[2001:db8::1]:1500/dcimgr/",
        "http://127.0.0.1:8080/dcimgr",
        "http://127.8.0.1",
        "http://localhost:8080",
        "http://localhost/dcimgr",
        "http://[::1]:8080/dcimgr",
    ]
    .into_iter()
    .map(|text| url(text).accepted(&[msg::URL]))
    .collect();
    rows.extend(
        [
            "http://dci.example.net/dcimgr",
            "http://localhost.example.net/",
            "http://127.0.0.1.example.net/",
            "http://127.0.0.1:8080x/",
            "http://10.0.0.1/dcimgr",
            "http://[::2]/dcimgr",
            "https://admin@dci.example.net/dcimgr",
            "https://admin:secret@dci.example.net/dcimgr",
            "http://localhost@dci.example.net/",
            "https://dci.example.net/dcimgr?func=auth",
            "https://dci.example.net/dcimgr#top",
            "https://dci.example.net\\@example.org/",
            "https://dci.example.net/a b",
            "https:///dcimgr",
            "ftp://dci.example.net/",
            "HTTPS://dci.example.net/",
            "dci.example.net",
        ]
        .into_iter()
        .map(|text| url(text).refused(&[msg::URL])),
    );
    let pin = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let secret = json!({"name": "ca", "key": "ca.crt"});
    let tls = |name: &str, value: Value| with(name, json!({"tls": value}));
    rows.extend([
        Row::create(kind, "no tls", &json!({"spec": {"connection": {"tls": null}}})).accepted(&[]),
        tls("tls without anything", json!({})).accepted(&[msg::TLS]),
        tls("caBundle", json!({"caBundle": "PEM", "insecureSkipVerify": false})).accepted(&[msg::TLS]),
        tls("caBundleSecretRef", json!({"caBundleSecretRef": secret})).accepted(&[msg::TLS]),
        tls("pinnedSHA256", json!({"pinnedSHA256": pin})).accepted(&[msg::TLS]),
        tls("insecureSkipVerify", json!({"insecureSkipVerify": true})).accepted(&[msg::TLS]),
        tls("caBundle and Secret", json!({"caBundle": "PEM", "caBundleSecretRef": secret})).refused(&[msg::TLS]),
        tls("caBundle and pin", json!({"caBundle": "PEM", "pinnedSHA256": pin})).refused(&[msg::TLS]),
        tls("Secret and pin", json!({"caBundleSecretRef": secret, "pinnedSHA256": pin})).refused(&[msg::TLS]),
        tls("pin and no check", json!({"pinnedSHA256": pin, "insecureSkipVerify": true})).refused(&[msg::TLS]),
        with("a time-out of a second", json!({"timeout": "1000ms"})).accepted(&[msg::TIMEOUT]),
        with("a time-out of nothing", json!({"timeout": "0s"})).refused(&[msg::TIMEOUT]),
        with("the longest time-out", json!({"timeout": "4m60s"})).accepted(&[msg::TIMEOUT]),
        with("a time-out beyond the longest", json!({"timeout": "5m1ms"})).refused(&[msg::TIMEOUT]),
        with("the longest text of a time-out", json!({"timeout": "999999999s9999999m99999h999999999s"})).refused(&[msg::TIMEOUT]),
    ]);
    rows
}

fn durations() -> Vec<Row> {
    let mut rows = Vec::new();
    let fields = [
        (msg::POLL_INTERVAL, "/spec/pollInterval"),
        (msg::RETRY_INTERVAL, "/spec/retry/interval"),
        (msg::TIMEOUTS, "/spec/timeouts/power"),
        (msg::TIMEOUTS, "/spec/timeouts/install"),
        (msg::TIMEOUTS, "/spec/timeouts/step"),
        (msg::TIMEOUTS, "/spec/timeouts/settle"),
    ];
    for (rule, path) in fields {
        for (text, enough) in [("1s", true), ("0m1s", true), ("2h", true), ("1m0s", true), ("999ms", false), ("0s", false)] {
            let mut row = create(&format!("{path} {text}"), &json!({}));
            *row.new.pointer_mut(path).unwrap() = json!(text);
            rows.push(if enough { row.accepted(&[rule]) } else { row.refused(&[rule]) });
        }
    }
    rows
}

fn namespaces_and_dialect() -> Vec<Row> {
    let allowed = |name: &str, value: Value| {
        let mut row = create(name, &json!({}));
        row.new["spec"]["allowedNamespaces"] = value;
        row
    };
    let selector = json!({"matchLabels": {"team": "shop"}});
    let call = |name: &str, value: Value| {
        let mut row = create(name, &json!({}));
        row.new["spec"]["dialect"] = json!({"good": {"func": "server"}, "tried": value});
        row
    };
    vec![
        allowed("nothing said", json!({})).accepted(&[msg::ALLOWED_NAMESPACES]),
        allowed("Same", json!({"from": "Same"})).accepted(&[msg::ALLOWED_NAMESPACES]),
        allowed("All", json!({"from": "All"})).accepted(&[msg::ALLOWED_NAMESPACES]),
        allowed("Selector", json!({"from": "Selector", "selector": selector})).accepted(&[msg::ALLOWED_NAMESPACES]),
        allowed("Selector without selector", json!({"from": "Selector"})).refused(&[msg::ALLOWED_NAMESPACES]),
        allowed("selector without from", json!({"selector": selector})).refused(&[msg::ALLOWED_NAMESPACES]),
        allowed("All with selector", json!({"from": "All", "selector": selector})).refused(&[msg::ALLOWED_NAMESPACES]),
        call("func", json!({"func": "server.edit", "params": {"elid": "{server}"}})).accepted(&[msg::DIALECT]),
        call("method and path", json!({"method": "POST", "path": "/server/{server}/power"})).accepted(&[msg::DIALECT]),
        call("nothing", json!({})).refused(&[msg::DIALECT]),
        call("method alone", json!({"method": "POST"})).refused(&[msg::DIALECT]),
        call("path alone", json!({"path": "/server"})).refused(&[msg::DIALECT]),
        call("func and method", json!({"func": "server", "method": "POST"})).refused(&[msg::DIALECT]),
        call("func and path", json!({"func": "server", "path": "/server"})).refused(&[msg::DIALECT]),
        call("all three", json!({"func": "server", "method": "POST", "path": "/server"})).refused(&[msg::DIALECT]),
    ]
}
