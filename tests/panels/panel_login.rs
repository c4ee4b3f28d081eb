//! Log-in, session, re-login, and the pause after a refusal: a wrong password must never lock the account.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{PASSWORD, Reply, SESSION, Server, doc, logged_in, ok, refused};
use dci_operator::panel::billmanager6::{BillManager6, calls};
use dci_operator::panel::coremanager::client::BUSY_PAUSE;
use dci_operator::panel::coremanager::document::Document;
use dci_operator::panel::coremanager::params::Params;
use dci_operator::panel::coremanager::{Client, Observer};
use dci_operator::panel::dcimanager5::DciManager5;
use dci_operator::panel::dialect::{Dialect, SET_PASSWORD};
use dci_operator::panel::error::{ErrorClass, Outcome, PanelError};
use dci_operator::panel::ipmanager5::IpManager5;
use dci_operator::panel::license::LicensePanel;
use dci_operator::panel::settings::Passwords;
use dci_operator::panel::{AddressPanel, ServerPanel};
use futures::future::join_all;
use secrecy::SecretString;

/// So many calls at the same time.
async fn at_once(client: &Client, calls: usize) -> Vec<Result<Document, PanelError>> {
    let params = none();
    join_all((0..calls).map(|_| client.read("server", &params))).await
}

fn none() -> Params {
    Params::new()
}

#[tokio::test]
async fn calls_at_once_share_one_log_in() {
    let server = Server::panel(|_| ok());
    let client = server.client();
    let results = at_once(&client, 20).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(server.count("auth"), 1);
    client.read("server", &none()).await.unwrap();
    assert_eq!(server.count("auth"), 1);
}

#[tokio::test]
async fn calls_at_once_share_a_failed_log_in() {
    let server = Server::raw(|_| Reply::Silence(Duration::from_millis(300)));
    let client = server.client();
    let results = at_once(&client, 20).await;
    assert!(results.iter().all(|r| matches!(r, Err(PanelError::NoAnswer { .. }))), "{results:?}");
    assert_eq!(server.count("auth"), 1);
    // Not a refusal: the next call may try at once.
    assert!(client.read("server", &none()).await.is_err());
    assert_eq!(server.count("auth"), 2);
}

#[tokio::test]
async fn an_expired_session_is_renewed_once_and_the_call_made_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let server = Server::panel(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        1 => Reply::Json(refused("auth", "session")),
        _ => ok(),
    });
    let client = server.client();
    client.read("server", &none()).await.unwrap();
    assert_eq!(client.change("server.enable", &none()).await.unit(), Outcome::Applied(()));
    assert_eq!(server.funcs(), ["auth", "server", "server.enable", "auth", "server.enable"]);
}

/// Passwords that a Secret holds one after another; none is left at the end.
#[derive(Debug)]
struct Rotated(Mutex<Vec<&'static str>>);

impl Passwords for Rotated {
    fn read(&self) -> Pin<Box<dyn Future<Output = Result<SecretString, String>> + Send + '_>> {
        let next = self.0.lock().unwrap().pop().map(SecretString::from).ok_or_else(|| "the Secret is gone".to_owned());
        Box::pin(async { next })
    }
}

#[tokio::test]
async fn a_password_is_read_before_each_log_in_and_the_old_one_not_tried() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    // Every second call finds its session expired.
    let server = Server::panel(move |_| match seen.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Reply::Json(refused("auth", "session")),
        _ => ok(),
    });
    let mut settings = server.settings();
    settings.password = SecretString::from("as it was once");
    settings.passwords = Some(Arc::new(Rotated(Mutex::new(vec![PASSWORD, PASSWORD, PASSWORD]))));
    let client = Client::new(&settings).unwrap();
    client.read("server", &none()).await.unwrap();
    client.read("server", &none()).await.unwrap();
    assert_eq!(server.count("auth"), 3, "{:?}", server.funcs());
    // Gone: nothing is sent, and it is known that nothing was.
    let outcome = client.change("server.enable", &none()).await.unit();
    let Outcome::Refused(error @ PanelError::NotSent { .. }) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().ends_with(": nothing was sent: the Secret is gone"), "the panel is not the one to blame: {error}");
    assert!(error.nobody_there() && error.class() == ErrorClass::Down);
    assert_eq!(server.count("auth"), 3, "{:?}", server.funcs());
}

#[tokio::test]
async fn the_log_in_form_instead_of_an_answer_is_an_expired_session() {
    let calls = AtomicUsize::new(0);
    let server = Server::panel(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => doc(r#""$func":"logon","username":{}"#),
        _ => ok(),
    });
    assert_eq!(server.client().change("server.enable", &none()).await.unit(), Outcome::Applied(()));
    assert_eq!(server.count("auth"), 2);
}

/// The credentials are good: a handler would say so, while its orders wait for better ones.
#[tokio::test]
async fn a_session_that_is_refused_right_after_a_log_in_that_worked_is_the_call_s_failure() {
    let server = Server::panel(|_| Reply::Json(refused("auth", "ip")));
    let outcome = server.client().change("server.enable", &none()).await.unit();
    let Outcome::Refused(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!((error.class(), error.code().as_str()), (ErrorClass::Refused, "panel:session/ip"));
    let text = error.to_string();
    assert!(text.contains("server.enable") && text.contains("a log-in that worked") && text.ends_with(": No"), "{text}");
    assert_eq!(server.funcs(), ["auth", "server.enable", "auth", "server.enable"]);
    // Nor is such a panel taken for one that can be used.
    let dci = DciManager5::new(server.client(), Dialect::default());
    let ipm = IpManager5::new(server.client());
    let billing = BillManager6::new(server.client(), calls::dialect([]).unwrap());
    for probe in [dci.probe().await, ipm.probe().await, billing.probe().await] {
        let error = probe.unwrap_err();
        assert!(matches!(&error, PanelError::Refused { error, .. } if error.kind == "session"), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_log_in_is_not_repeated_for_a_minute() {
    let server = Server::panel(|_| ok());
    let mut settings = server.settings();
    settings.password = SecretString::from("wrong");
    settings.timeout = Duration::from_hours(1);
    let client = Arc::new(Client::new(&settings).unwrap());
    let login = |e: PanelError| matches!(e, PanelError::Login { .. });
    // Virtual time passes only while nothing else is to be done, so the real answers come first.
    tokio::time::resume();
    let results = at_once(&client, 20).await;
    assert!(results.into_iter().all(|r| login(r.unwrap_err())));
    assert!(login(client.fresh_login().await.unwrap_err()));
    assert_eq!(server.funcs(), ["auth"]);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(59)).await;
    tokio::time::resume();
    assert!(login(client.fresh_login().await.unwrap_err()));
    assert_eq!(server.funcs(), ["auth"]);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    assert!(login(client.fresh_login().await.unwrap_err()));
    assert!(login(client.read("server", &none()).await.unwrap_err()));
    assert_eq!(server.funcs(), ["auth", "auth"]);
}

#[tokio::test]
async fn a_fresh_log_in_is_one_although_there_is_a_session() {
    let server = Server::panel(|_| ok());
    let client = server.client();
    client.read("server", &none()).await.unwrap();
    assert_eq!(client.fresh_login().await.unwrap().level.as_deref(), Some("30"));
    assert_eq!(server.count("auth"), 2);
}

#[tokio::test]
async fn the_session_may_stand_in_the_text_alone() {
    let server = Server::raw(|request| match request.func() {
        "auth" => doc(&format!(r#""auth":{{"$":"{SESSION}"}}"#)),
        _ if request.get("auth") == SESSION => ok(),
        _ => Reply::Json(refused("auth", "session")),
    });
    server.client().read("server", &none()).await.unwrap();
}

#[tokio::test]
async fn without_a_session_every_call_carries_the_credentials() {
    let right = format!("op:{PASSWORD}");
    let server = Server::raw(move |request| match request.func() {
        "auth" => ok(),
        _ if request.get("authinfo") == right => ok(),
        _ => Reply::Json(refused("auth", "badpassword")),
    });
    let client = server.client();
    client.read("server", &none()).await.unwrap();
    client.read("server", &none()).await.unwrap();
    assert_eq!(server.funcs(), ["auth", "whoami", "server", "server"]);
}

#[tokio::test]
async fn without_a_session_a_wrong_password_is_tried_once() {
    let server = Server::raw(|request| match request.func() {
        "auth" => ok(),
        _ => Reply::Json(refused("auth", "badpassword")),
    });
    let client = server.client();
    let results = at_once(&client, 20).await;
    assert!(results.into_iter().all(|r| matches!(r, Err(PanelError::Login { .. }))));
    assert_eq!(server.funcs(), ["auth", "whoami"]);
}

#[tokio::test]
async fn a_password_lost_without_a_session_stops_at_once() {
    let calls = AtomicUsize::new(0);
    let server = Server::raw(move |request| match (request.func(), calls.fetch_add(1, Ordering::SeqCst)) {
        ("auth", _) | (_, 0..=2) => ok(),
        _ => Reply::Json(refused("auth", "badpassword")),
    });
    let client = server.client();
    client.read("server", &none()).await.unwrap();
    for _ in 0..5 {
        assert!(matches!(client.read("server", &none()).await, Err(PanelError::Login { .. })));
    }
    assert_eq!(server.funcs(), ["auth", "whoami", "server", "server"]);
}

#[tokio::test]
async fn another_error_of_the_log_in_is_no_refused_password() {
    let server = Server::raw(|_| Reply::Json(refused("limit", "sessions")));
    let client = server.client();
    for tries in [1, 2] {
        // Every call would bring another log-in: they share one for a moment.
        for _ in 0..3 {
            let error = client.read("server", &none()).await.unwrap_err();
            assert!(matches!(&error, PanelError::Refused { func, .. } if func == "auth"), "{error:?}");
            assert_eq!(error.class(), ErrorClass::Down, "it says nothing of the call that it was for");
        }
        assert_eq!(server.count("auth"), tries);
        tokio::time::pause();
        tokio::time::advance(BUSY_PAUSE).await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn no_secret_comes_back_in_an_error() {
    let echo = format!(
        r#"{{"doc":{{"error":{{"$type":"value","$object":"passwd","param":[{{"$name":"value","$":"rootpw9"}}],"msg":{{"$":"rootpw9 {SESSION} s3cret&amp;pass {PASSWORD} are wrong"}}}}}}}}"#
    );
    let server = Server::panel(move |_| Reply::Json(echo.clone()));
    let client = server.client();
    let params = Params::new().secret("passwd", &SecretString::from("rootpw9"));
    let outcome = client.change("server.operations", &params).await.unit();
    let Outcome::Refused(PanelError::Refused { error, .. }) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(error.message, "*** *** *** *** are wrong");
    assert_eq!(error.value, "***");
    assert!(!format!("{params:?}").contains("rootpw9"));
}

#[tokio::test]
async fn a_password_within_a_larger_parameter_does_not_come_back_alone() {
    let said = "rootpw9 is too short; root:rootpw9 was sent";
    let echo = format!(r#"{{"doc":{{"error":{{"$type":"value","$object":"cred","msg":{{"$":"{said}"}}}}}}}}"#);
    let server = Server::panel(move |_| Reply::Json(echo.clone()));
    let params = BTreeMap::from([("cred".to_owned(), "root:{password}".to_owned())]);
    let panel = DciManager5::new(server.client(), Dialect::new([(SET_PASSWORD, "server.passwd", &params)]).unwrap());
    let outcome = panel.set_password(&"17".into(), &SecretString::from("rootpw9")).await;
    let Outcome::Refused(PanelError::Refused { error, .. }) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(error.message, "*** is too short; *** was sent");
    assert_eq!(server.last("server.passwd").get("cred"), "root:rootpw9");
}

#[tokio::test]
async fn a_password_that_is_a_word_of_the_protocol_changes_no_error() {
    let server = Server::raw(|_| Reply::Json(refused("auth", "badpassword")));
    let mut settings = server.settings();
    settings.password = SecretString::from("auth");
    let client = Client::new(&settings).unwrap();
    for _ in 0..3 {
        assert!(matches!(client.fresh_login().await, Err(PanelError::Login { .. })));
    }
    assert_eq!(server.count("auth"), 1);
}

#[derive(Default)]
struct Seen(Mutex<Vec<(String, &'static str)>>);

impl Observer for Seen {
    fn call(&self, func: &str, result: &'static str, _took: Duration) {
        self.0.lock().unwrap().push((func.to_owned(), result));
    }
}

#[tokio::test]
async fn every_request_is_observed() {
    let server = Server::panel(|request| match request.func() {
        "server" => ok(),
        "user" => Reply::Json(refused("access", "user")),
        _ => Reply::Drop,
    });
    let seen = Arc::new(Seen::default());
    let client = server.observed(seen.clone());
    for func in ["server", "user", "iplist"] {
        let _ = client.read(func, &none()).await;
    }
    let calls: Vec<String> = seen.0.lock().unwrap().iter().map(|(f, r)| format!("{f} {r}")).collect();
    assert_eq!(calls, ["auth ok", "server ok", "user refused", "iplist no_answer"]);
}

#[tokio::test]
async fn the_limits_bound_what_is_sent_but_not_the_deadline() {
    let server = Server::raw(|request| {
        std::thread::sleep(Duration::from_millis(100));
        if request.func() == "auth" { logged_in("30") } else { ok() }
    });
    let mut settings = server.settings();
    settings.max_concurrent = 1;
    settings.timeout = Duration::from_millis(800);
    let client = Client::new(&settings).unwrap();
    // Twelve calls one after another take longer than the deadline of each.
    let results = at_once(&client, 12).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}
