//! Functions that are made up for tests: absent unless a configuration names them.

use serde_json::json;

use crate::support::{Bench, CONFIG, error};

const RUN: &str = "func=server.runrecipe&sok=ok&elid=17&recipe=";

#[tokio::test]
async fn a_panel_has_none_of_them_by_itself() {
    let bench = Bench::start().await;
    for query in [RUN, "func=server.flagclean&sok=ok&elid=17", "func=server.setpasswd&sok=ok&elid=17&passwd=x"] {
        assert_eq!(error(&bench.dci(query).await), ("missed", "func"), "{query}");
    }
}

#[tokio::test]
async fn they_do_what_the_configuration_says() {
    let invented = "invented: {run_recipe: server.runrecipe, flag_for_cleaning: server.flagclean, set_password: server.setpasswd, \
                    recipe_duration: 20ms}";
    let release = "release: {diagnostics: true}";
    let bench = Bench::with(&CONFIG.replace(release, &format!("{invented}\n    release: {{diagnostics: false}}"))).await;
    let run = |recipe: &str| format!("{RUN}{recipe}");
    let set = "func=server.setpasswd&sok=ok&elid=17&passwd=new";
    // Without a system that runs, there is nothing to run them on.
    assert_eq!(error(&bench.dci(&run("ISPsystem__nginx.sh")).await), ("missed", "os"));
    assert_eq!(error(&bench.dci(set).await), ("missed", "os"));
    let install = "func=server.operations&sok=ok&elid=17&operation=ostemplate&ostemplate=ISPsystem__Debian-12-x86_64\
                   &passwd=old&confirm=old&recipe=null";
    bench.done(install).await;
    assert_eq!(error(&bench.dci(&run("ISPsystem__nginx.sh")).await).0, "server_busy");
    assert_eq!(error(&bench.dci(set).await).0, "server_busy");
    bench.until(17, "installed", |row| row.get("install_in_progress").is_none()).await;
    let old = bench.truth(17)["invented"].clone();
    assert_eq!((&old["recipes"], &old["toBeCleaned"]), (&json!([]), &json!(false)));
    assert_eq!(old["passwordSha256"].as_str().unwrap().len(), 64);
    // Forms have to be submitted, by administrators, and for what there is.
    assert_eq!(error(&bench.dci(&run("ISPsystem__nginx.sh").replace("&sok=ok", "")).await), ("value", "sok"));
    assert_eq!(error(&bench.dci(&run("nothing")).await), ("value", "recipe"));
    assert_eq!(error(&bench.dci("func=server.setpasswd&sok=ok&elid=17").await), ("value", "passwd"));
    assert_eq!(error(&bench.call_as("acme:acme-secret", "dci", set).await).0, "access");
    assert_eq!(bench.truth(17)["invented"], old);
    // A recipe shows as an installation does, and installs nothing.
    for (recipe, failed) in [("ISPsystem__nginx.sh", false), ("ISPsystem__bad.sh", true)] {
        bench.sim.change_server(17, json!({"operations": []})).unwrap();
        bench.done(&run(recipe)).await;
        let row = bench.until(17, "run", |row| row.get("install_in_progress").is_none()).await;
        assert_eq!(row.get("operation_failed").is_some(), failed, "{recipe}");
    }
    bench.done(set).await;
    bench.done("func=server.flagclean&sok=ok&elid=17").await;
    let truth = bench.truth(17);
    assert_eq!((&truth["invented"]["recipes"], &truth["installed"]["times"]), (&json!(["ISPsystem__nginx.sh"]), &json!(1)));
    assert!(truth["invented"]["toBeCleaned"] == true && truth["invented"]["passwordSha256"] != old["passwordSha256"]);
    // The journal hides the password.
    let journal = serde_json::to_string(&bench.sim.journal(0)).unwrap();
    assert!(journal.contains("server.setpasswd") && !journal.contains("new"), "{journal}");
    // The flag outdoes a policy without diagnostics, once.
    let mac = bench.done("func=server.edit&elid=17").await["mac"]["$"].as_str().unwrap().to_owned();
    let own = |owner: &str| format!("func=server.edit&sok=ok&elid=17&mac={mac}&name=R1-10&notes=&type=E3-16G&owner={owner}");
    let mut cleaned = Vec::new();
    for _ in 0..2 {
        bench.done(&own("1")).await;
        bench.done(&own("no_owner")).await;
        cleaned.push(bench.truth(17)["operation"]["kind"] == "diag");
        bench.until(17, "clean", |row| row.get("diag_in_progress").is_none()).await;
    }
    assert_eq!(cleaned, [true, false]);
    let truth = bench.truth(17);
    assert!(truth["installed"]["data"] == false && truth["invented"]["toBeCleaned"] == false, "{truth}");
}
