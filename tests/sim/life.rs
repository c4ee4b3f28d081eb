//! The life of a server, in the order of the vendor's own module: sections 2.3 and 2.8 of the facts.

use serde_json::{Value, json};

use crate::support::{Bench, column, error};

fn has(flag: &'static str) -> impl Fn(&Value) -> bool {
    move |row| row.get(flag).is_some()
}

#[tokio::test]
async fn opening_and_closing() {
    let bench = Bench::start().await;
    // Opening.
    let made = bench.done("func=user.edit&sok=ok&level=lvUser&name=bob&passwd=x").await;
    let bob = made["id"]["$"].as_str().unwrap().to_owned();
    assert_eq!(error(&bench.dci("func=user.edit&sok=ok&level=lvUser&name=bob&passwd=x").await), ("exists", "user"));
    assert_eq!(column(&bench.done("func=user").await, "level"), ["30", "29", "16", "16"]);
    let form = bench.done("func=server.edit&elid=17").await;
    assert_eq!(form["owner"]["$"], "no_owner");
    assert_eq!(form["notes"], json!({}));
    let mac = form["mac"]["$"].as_str().unwrap().to_owned();
    let own = |owner: &str| format!("func=server.edit&sok=ok&elid=17&mac={mac}&name=R1-10&notes=&type=E3-16G&owner={owner}");
    bench.done(&own("1")).await;
    let row = bench.server(17).await;
    assert_eq!((&row["owner"]["$"], &row["chassis_templ"]["$"]), (&json!("admin"), &json!("E3-16G")));
    bench.done("func=server.enable&elid=17").await;
    bench.done("func=server.poweron&elid=17").await;
    bench.until(17, "power", has("poweron")).await;
    let list = bench.done("func=iplist&elid=17").await;
    assert_eq!(column(&list, "type"), ["group", "ip"]);
    let main = list["elem"][1]["id"]["$"].as_str().unwrap().to_owned();
    bench.done(&format!("func=iplist.edit&elid={main}&plid=17&sok=ok&domain=n1.example")).await;
    assert_eq!(bench.server(17).await["hostname"]["$"], "n1.example");
    let extra = bench.done("func=iplist.edit&plid=17&domain=n1.example&sok=ok&iptype=public&ip=&family=ipv4").await;
    assert_eq!(extra["ip"]["$"], "203.0.113.1");
    let extra = bench.done("func=iplist.edit&plid=17&domain=n1.example&sok=ok&iptype=public&ip=&family=ipv6").await;
    assert_eq!(extra["ip"]["$"], "2001:db8::1");
    // Both operations last until told to end, so that the test can look at them.
    bench.sim.change_server(17, json!({"operations": [{"outcome": "hang"}, {"outcome": "hang"}]})).unwrap();
    let install = "func=server.operations&sok=ok&elid=17&operation=ostemplate&ostemplate=ISPsystem__Debian-12-x86_64\
                   &passwd=p%26w&confirm=p%26w&checkpasswd=p%26w&recipe=ISPsystem__nginx.sh";
    bench.done(install).await;
    let row = bench.server(17).await;
    assert!(row["install_in_progress"]["$"].as_str().unwrap().ends_with('%'), "{row}");
    assert_eq!(error(&bench.dci(install).await).0, "server_busy");
    let hint = bench.done("func=server&elid=17&clickstat=title&hint_field=install_in_progress").await;
    assert!(hint["value"]["$"].as_str().unwrap().ends_with('%'), "{hint}");
    bench.sim.change_server(17, json!({"finish_operation": true})).unwrap();
    let row = bench.until(17, "installed", |row| row.get("install_in_progress").is_none()).await;
    assert!(row.get("operation_failed").is_none());
    let form = bench.done("func=server.operations&elid=17").await;
    assert_eq!(form["ostemplate"]["$"], "ISPsystem__Debian-12-x86_64");
    bench.done(&own(&bob)).await;
    assert_eq!(bench.server(17).await["owner"]["$"], "bob");
    assert_eq!(
        bench.truth(17)["installed"],
        json!({"template": "ISPsystem__Debian-12-x86_64", "recipe": "ISPsystem__nginx.sh", "times": 1, "data": true})
    );
    // Suspension.
    bench.done("func=server.disable&elid=17").await;
    assert!(bench.server(17).await.get("disabled").is_some());
    // Closing.
    bench.done("func=server.enable&elid=17").await;
    crate::support::eventually("ports are switched", async || {
        let list = bench.done("func=server.connection&elid=17").await;
        list["elem"].as_array().unwrap().iter().all(|row| row.get("func_in_progress").is_none())
    })
    .await;
    bench.done("func=server.poweroff&elid=17").await;
    bench.until(17, "power", has("poweroff")).await;
    for row in bench.done("func=iplist&elid=17").await["elem"].as_array().unwrap() {
        let is_extra = row["type"]["$"] != "group" && row["ip"]["$"] != "10.0.0.17";
        if is_extra {
            bench.done(&format!("func=iplist.delete&plid=17&elid={}", row["id"]["$"].as_str().unwrap())).await;
        }
    }
    assert_eq!(error(&bench.dci(&format!("func=iplist.delete&plid=17&elid={main}")).await).0, "access");
    bench.done(&own("no_owner")).await;
    assert!(bench.server(17).await.get("diag_in_progress").is_none());
    bench.done(&format!("func=iplist.edit&elid={main}&plid=17&sok=ok&domain=free.ds")).await;
    assert!(bench.server(17).await.get("diag_in_progress").is_some());
    bench.sim.change_server(17, json!({"finish_operation": true})).unwrap();
    let row = bench.until(17, "diagnostics", |row| row.get("diag_in_progress").is_none()).await;
    assert!(row.get("owner").is_none() && row.get("hwproblem").is_none());
    assert_eq!(bench.truth(17)["installed"]["data"], false);
    let install_entry = bench.sim.journal(0).into_iter().find(|entry| entry["func"] == "server.operations").unwrap();
    assert_eq!(install_entry["params"]["passwd"], "***");
    assert_eq!(bench.sim.journal(0).last().unwrap()["target"], format!("17/{main}"));
}

#[tokio::test]
async fn the_same_in_xml() {
    let bench = Bench::start().await;
    let xml = async |query: &str| bench.send("dci", &format!("authinfo=admin:secret&out=xml&{query}")).await.unwrap();
    let row = async || {
        let list = xml("func=server").await;
        let row = list.split("<elem>").find(|row| row.contains("<id>17</id>")).unwrap();
        row.split("</elem>").next().unwrap().to_owned()
    };
    let free = row().await;
    assert!(free.contains("<hostname>free.ds</hostname>") && free.contains("<poweroff/>"), "{free}");
    assert!(!free.contains("<owner"), "{free}");
    let form = xml("func=server.edit&elid=17").await;
    assert!(form.contains("<slist name=\"owner\"><val key=\"no_owner\">-- none --</val><val key=\"1\">admin</val>"), "{form}");
    assert!(form.contains("<disabled>off</disabled>"), "{form}");
    assert!(xml("func=server.edit&elid=17&sok=ok&name=R1-10&mac=&notes=a%3Cb&type=E3-16G&owner=3").await.contains("<ok/>"));
    assert!(xml("func=server.edit&elid=17").await.contains("<notes>a&lt;b</notes>"));
    assert!(row().await.contains("<owner>acme</owner>"));
    let list = xml("func=iplist&elid=17").await;
    assert!(list.contains("<elem><id>1</id><type>group</type></elem>"), "{list}");
    let added = xml("func=iplist.edit&plid=17&sok=ok&iptype=public&ip=&family=ipv4").await;
    assert!(added.contains("<ip>203.0.113.1</ip>"), "{added}");
    let refused = xml("func=server.operations&elid=17&sok=ok&operation=ostemplate&ostemplate=none&passwd=a&confirm=a").await;
    assert!(refused.contains("<error type=\"value\" object=\"ostemplate\""), "{refused}");
    assert!(xml("func=server.disable&elid=17").await.contains("<ok/>"));
    assert!(xml("func=server.edit&elid=17").await.contains("<disabled>on</disabled>"));
}

#[tokio::test]
async fn operations_are_refused() {
    let bench = Bench::start().await;
    let good = "func=server.operations&sok=ok&elid=17&operation=ostemplate&ostemplate=ISPsystem__Debian-12-x86_64&passwd=a&confirm=a";
    for (more, object) in [
        ("&ostemplate=none", "ostemplate"),
        ("&ostemplate=ISPsystem__Diag-x86_64", "ostemplate"),
        ("&confirm=b", "confirm"),
        ("&checkpasswd=b", "checkpasswd"),
        ("&passwd=&confirm=", "passwd"),
        ("&recipe=none", "recipe"),
        ("&ipaddr=192.0.2.1", "ipaddr"),
        ("&operation=other", "operation"),
    ] {
        assert_eq!(error(&bench.dci(&format!("{good}{more}")).await), ("value", object), "{more}");
    }
    assert_eq!(error(&bench.dci("func=server.operations&sok=ok&elid=999").await), ("missed", "server"));
    assert!(bench.changes().iter().all(|(_, outcome, delivered)| outcome == "refused" && *delivered));
    let neutral = "&hostname=x&ipaddr=10.0.0.17&isotemplate=no_iso_template&clearhdd=off&fullhddclear=off&clicked_button=ok\
                   &diag=ISPsystem__Diag-x86_64&rescue=ISPsystem__Sysrescd-x86_64";
    bench.done(&format!("{good}{neutral}")).await;
}

#[tokio::test]
async fn operations_that_do_not_succeed() {
    let bench = Bench::start().await;
    let install = |template: &str, recipe: &str| {
        format!("func=server.operations&sok=ok&elid=17&operation=ostemplate&ostemplate={template}&passwd=a&confirm=a&recipe={recipe}")
    };
    bench.done(&install("ISPsystem__Broken", "null")).await;
    bench.until(17, "failure", has("operation_failed")).await;
    assert_eq!(bench.truth(17)["installed"]["template"], "");
    bench.done(&install("ISPsystem__Debian-12-x86_64", "ISPsystem__bad.sh")).await;
    bench.until(17, "failure of the recipe", has("operation_failed")).await;
    assert_eq!(bench.truth(17)["installed"]["template"], "ISPsystem__Debian-12-x86_64");
    assert_eq!(bench.truth(17)["installed"]["recipe"], "");
    bench.done(&install("ISPsystem__Endless", "")).await;
    let row = bench.server(17).await;
    assert!(row.get("install_in_progress").is_some());
    assert!(row.get("operation_failed").is_none(), "a new operation takes the mark away");
    bench.done("func=server.opercancel&elid=17").await;
    assert!(bench.server(17).await.get("install_in_progress").is_none());
    assert_eq!(error(&bench.dci("func=server.opercancel&elid=17").await), ("missed", "operation"));
    bench.done("func=server.operations&sok=ok&elid=17&operation=diag&diag=ISPsystem__Diag-x86_64&clearhdd=on").await;
    bench.until(17, "diagnostics", |row| row.get("diag_in_progress").is_none()).await;
    assert_eq!(bench.truth(17)["installed"]["template"], "");
}

#[tokio::test]
async fn of_two_claimers_the_last_one_wins() {
    let bench = Bench::start().await;
    let claim = |owner: u32, who: &str| format!("func=server.edit&sok=ok&elid=17&name=R1-10&mac=&type=E3-16G&owner={owner}&notes={who}");
    let first = bench.call_as("admin:secret", "dci", "func=server.edit&elid=17").await;
    let second = bench.call_as("other:secret", "dci", "func=server.edit&elid=17").await;
    assert_eq!((&first["owner"]["$"], &second["owner"]["$"]), (&json!("no_owner"), &json!("no_owner")));
    let first = claim(1, "first");
    let second = claim(2, "second");
    let (first, second) = tokio::join!(bench.call_as("admin:secret", "dci", &first), bench.call_as("other:secret", "dci", &second));
    assert!(first.get("error").is_none() && second.get("error").is_none(), "nobody is told");
    let form = bench.done("func=server.edit&elid=17").await;
    let last = bench.sim.journal(0).pop().unwrap();
    assert_eq!(form["notes"]["$"], last["params"]["notes"]);
    assert_eq!(form["owner"]["$"], last["params"]["owner"]);
    assert_eq!(bench.changes().len(), 2);
}

#[tokio::test]
async fn a_new_server() {
    let bench = Bench::start().await;
    let made = bench
        .done("func=server.edit&sok=ok&chassistempl=2&family=ipv4&hostname=free.ds&mac=00:16:3e:00:00:01&name=R9-1&rack=1&unit=4&unit2=4&ip_block=parking")
        .await;
    assert_eq!(made["id"]["$"], "20");
    let row = bench.server(20).await;
    assert_eq!((&row["hostname"]["$"], &row["type"]["$"]), (&json!("free.ds"), &json!("E5-64G")));
    assert_eq!((&row["ip"]["$"], &row["rack"]["$"]), (&json!("10.0.0.1"), &json!("R1 4")));
    let again = bench.dci("func=server.edit&sok=ok&mac=00:16:3e:00:00:01&name=R9-2").await;
    assert_eq!(error(&again), ("exists", "mac"));
    assert_eq!(bench.server(21).await, Value::Null);
}

#[tokio::test]
async fn power_of_a_dead_ipmi_and_of_several_servers() {
    let bench = Bench::start().await;
    assert!(bench.server(19).await.get("powererror").is_some());
    assert_eq!(error(&bench.dci("func=server.poweroff&elid=19").await), ("connection", "ipmi"));
    bench.done("func=server.poweron&elid=17,+18").await;
    bench.until(17, "power", has("poweron")).await;
    assert_eq!(error(&bench.dci("func=server.poweron&elid=17,+99").await), ("missed", "server"));
}
