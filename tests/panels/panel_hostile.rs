//! Panels that mean harm: bodies and lists without end, bombs, answers ahead of their question, certificates out of their time.
//!
//! What is merely broken (silence, half answers, HTML, wrong UTF-8, depth) is in `panel_transport.rs` and
//! `panel_documents.rs`; here everything is counted, and nothing may grow with what the panel sends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{PASSWORD, Reply, Request, SESSION, Server, doc, logged_in, ok, refused, response, settings};
use dci_operator::panel::ServerPanel;
use dci_operator::panel::coremanager::Client;
use dci_operator::panel::coremanager::document::{MAX_BODY, MAX_FORM};
use dci_operator::panel::coremanager::params::Params;
use dci_operator::panel::dcimanager5::DciManager5;
use dci_operator::panel::dialect::Dialect;
use dci_operator::panel::error::{Outcome, PanelError};
use dci_operator::panel::model::{Expect, NotesEdit, OwnerEdit, ServerEdit, ServerId};
use dci_operator::panel::settings::TlsMode;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;

const GIB: usize = 1024 * 1024 * 1024;
/// What sockets may hold on both sides beside what the client has read: Linux lets a receiver's grow to 32 MiB on machines
/// with much memory (`tcp_rmem`) and a sender's to 4. To the byte, the bound of a document is tested in `panel_transport`.
const SOCKETS: usize = 64 * 1024 * 1024;

/// A panel whose log-in succeeds, and whose other answers are written by hand, for as long as somebody reads.
fn panel(answer: impl Fn(&mut TcpStream, &Request) -> std::io::Result<()> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                while let Some(request) = crate::support::read(&mut stream) {
                    if request.func() == "auth" {
                        let Reply::Json(json) = logged_in("30") else { return };
                        let _ = stream.write_all(&response("200 OK", "application/json", json.as_bytes()));
                        return;
                    }
                    if answer(&mut stream, &request).is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}/dcimgr")
}

async fn change(url: &str) -> Outcome<()> {
    let mut settings = settings(url.to_owned());
    settings.timeout = Duration::from_secs(20);
    let client = Client::new(&settings).unwrap();
    client.change("server.poweroff", &Params::new().with("elid", "17")).await.unit()
}

fn not_a_document(outcome: &Outcome<()>) -> &str {
    match outcome {
        Outcome::Ambiguous(PanelError::NotADocument { detail, .. }) => detail,
        other => panic!("{other:?}"),
    }
}

/// Writes until nobody reads any more, a gibibyte at most, and counts.
fn flood(stream: &mut TcpStream, piece: &[u8], sent: &AtomicUsize) -> std::io::Result<()> {
    while sent.load(Ordering::Relaxed) < GIB {
        stream.write_all(piece)?;
        sent.fetch_add(piece.len(), Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::test]
async fn of_a_gibibyte_only_so_much_is_read_as_a_document_may_have() {
    let heads = [
        ("with its end", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"doc\":{\"x\":\"", vec![b'x'; 1 << 16]),
        (
            "in chunks",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            [b"10000\r\n".as_slice(), &vec![b' '; 1 << 16], b"\r\n"].concat(),
        ),
    ];
    for (what, head, piece) in heads {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let url = panel(move |stream, _| {
            stream.write_all(head.as_bytes())?;
            flood(stream, &piece, &counter)
        });
        let outcome = change(&url).await;
        assert!(not_a_document(&outcome).contains("more than"), "{what}: {outcome:?}");
        let sent = sent.load(Ordering::Relaxed);
        assert!((MAX_FORM - (1 << 17)..MAX_FORM + SOCKETS).contains(&sent), "{what}: {sent} bytes were taken");
    }
}

#[tokio::test]
async fn an_announced_gibibyte_is_not_read_at_all() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let url = panel(move |stream, _| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {GIB}\r\n\r\n")?;
        flood(stream, &vec![b' '; 1 << 16], &counter)
    });
    let outcome = change(&url).await;
    assert!(not_a_document(&outcome).contains("more than"), "{outcome:?}");
    assert!(sent.load(Ordering::Relaxed) < SOCKETS, "{sent:?} bytes were taken");
}

#[tokio::test]
async fn headers_without_end_are_given_up() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let url = panel(move |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        flood(stream, format!("x-more: {}\r\n", "x".repeat(1000)).as_bytes(), &counter)
    });
    let outcome = change(&url).await;
    assert!(matches!(outcome, Outcome::Ambiguous(PanelError::NoAnswer { .. })), "{outcome:?}");
    assert!(sent.load(Ordering::Relaxed) < SOCKETS, "{sent:?} bytes were taken");
}

#[tokio::test]
async fn the_deadline_covers_headers_that_trickle() {
    let server = Server::panel(|_| Reply::Drip(b"HTTP/1.1 200 OK\r\nx: ".repeat(100), Duration::from_millis(50)));
    let began = Instant::now();
    let outcome = server.client().change("server.poweroff", &Params::new()).await.unit();
    assert!(matches!(&outcome, Outcome::Ambiguous(PanelError::NoAnswer { .. })), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(server.count("server.poweroff"), 1);
}

/// 64 KiB of blanks, as one member of a gzip file; members may follow one another.
const BLANKS: [u8; 97] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xed, 0xc1, 0x81, 0x00, 0x00, 0x00, 0x00, 0x80, 0x20, 0x95, 0xfd, 0x29,
    0x17, 0xa9, 0x0a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x6a, 0x94, 0x19, 0x2c, 0xb4, 0x00, 0x00, 0x01, 0x00,
];
/// `{"doc":{"ok":{}}}`.
const SUCCESS: [u8; 35] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab, 0x56, 0x4a, 0xc9, 0x4f, 0x56, 0xb2, 0xaa, 0x56, 0xca, 0xcf, 0x06,
    0x92, 0xb5, 0xb5, 0xb5, 0x00, 0x06, 0x22, 0xa0, 0xc0, 0x11, 0x00, 0x00, 0x00,
];

#[tokio::test]
async fn a_gzip_bomb_is_not_opened() {
    // A gibibyte of blanks with a success at the end: whoever inflates it runs out of memory, or believes it.
    let bomb = [BLANKS.repeat(GIB / (1 << 16)), SUCCESS.to_vec()].concat();
    for encoding in ["gzip", "x-gzip", "gzip, gzip"] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n", bomb.len());
        let bytes = [head.as_bytes(), &bomb].concat();
        let url = panel(move |stream, _| stream.write_all(&bytes));
        let outcome = change(&url).await;
        assert!(not_a_document(&outcome).contains(&format!("{} bytes that are not JSON", bomb.len())), "{encoding}: {outcome:?}");
    }
    let small = SUCCESS.to_vec();
    let url = panel(move |stream, _| {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", small.len())?;
        stream.write_all(&small)
    });
    assert!(not_a_document(&change(&url).await).contains("not JSON"));
}

#[tokio::test]
async fn an_answer_sent_ahead_is_not_taken_for_the_next_question_s() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let url = panel(move |stream, request| {
        counter.fetch_add(1, Ordering::Relaxed);
        let answer = |json: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{json}", json.len());
        if request.func() == "server.enable" {
            let ok = answer(r#"{"doc":{"ok":{}}}"#);
            stream.write_all(format!("{ok}{ok}").as_bytes())
        } else {
            stream.write_all(answer(&refused("value", "elid")).as_bytes())
        }
    });
    let client = Client::new(&settings(url)).unwrap();
    assert_eq!(client.change("server.enable", &Params::new()).await.unit(), Outcome::Applied(()));
    let outcome = client.change("server.poweroff", &Params::new()).await.unit();
    assert!(!matches!(outcome, Outcome::Applied(())), "the second answer to the first question was believed");
    assert!(asked.load(Ordering::Relaxed) <= 2);
}

#[tokio::test]
async fn no_redirect_is_followed_by_whatever_name_and_no_password_goes_along() {
    let other = Server::raw(|_| ok());
    let mut requests = 0;
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect", "300 Multiple Choices"]
    {
        for target in [
            format!("http://{}/dcimgr", other.address),
            format!("//{}/dcimgr", other.address),
            "file:///etc/passwd".into(),
            "http://169.254.169.254/".into(),
        ] {
            let head = format!("HTTP/1.1 {status}\r\nlocation: {target}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let (login, call) = (head.clone(), head);
            let server = Server::raw(move |_| Reply::Raw(login.clone().into_bytes()));
            let outcome = server.client().change("server.poweroff", &Params::new()).await.unit();
            assert!(matches!(outcome, Outcome::Refused(PanelError::NotADocument { .. })), "{status} of the log-in: {outcome:?}");
            let server = Server::panel(move |_| Reply::Raw(call.clone().into_bytes()));
            let outcome = server.client().change("server.poweroff", &Params::new()).await.unit();
            assert!(not_a_document(&outcome).contains("redirect"), "{status}: {outcome:?}");
            assert_eq!(server.count("server.poweroff"), 1);
            requests += server.funcs().len();
        }
    }
    assert!(requests > 0 && other.funcs().is_empty(), "somebody else was asked: {:?}", other.funcs());
}

// ---- certificates --------------------------------------------------------------------------------------------------

/// Serves a successful log-in over TLS, with a certificate for these years, and counts the requests that it could read.
fn serve(from: i32, until: i32, authority_until: i32, for_servers: bool) -> (String, String, Arc<AtomicUsize>) {
    let mut authority = CertificateParams::new(vec!["authority".to_owned()]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.not_after = rcgen::date_time_ymd(authority_until, 1, 1);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    if !for_servers {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/dcimgr", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config.clone()).unwrap(), socket);
            if crate::support::read(&mut stream).is_some() {
                counter.fetch_add(1, Ordering::Relaxed);
                let _ = stream.write_all(&response("200 OK", "application/json", br#"{"doc":{"ok":{},"auth":{"$":"x"}}}"#));
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (url, issuer.pem(), asked)
}

#[tokio::test]
async fn a_certificate_out_of_its_time_or_purpose_is_refused_and_nothing_is_sent() {
    for (what, (url, authority, asked), says) in [
        // The same text at any time: it goes into statuses.
        ("expired", serve(2001, 2002, 4000, true), "it expired at 2002-01-01T00:00:00Z ("),
        ("not valid yet", serve(3001, 3002, 4000, true), "it is not valid before 3001-01-01T00:00:00Z ("),
        ("not for servers", serve(2001, 3002, 4000, false), ""),
    ] {
        let mut settings = settings(url);
        settings.tls = TlsMode::CaBundle(authority);
        let outcome = Client::new(&settings).unwrap().change("server.enable", &Params::new()).await.unit();
        let Outcome::Refused(PanelError::Certificate { detail, .. }) = &outcome else { panic!("{what}: {outcome:?}") };
        assert!(detail.contains(says), "{what}: {detail}");
        assert_eq!(asked.load(Ordering::Relaxed), 0, "{what}: something was sent");
    }
    let (url, authority, asked) = serve(2001, 3002, 4000, true);
    let mut settings = settings(url);
    settings.tls = TlsMode::CaBundle(authority);
    let outcome = Client::new(&settings).unwrap().change("server.enable", &Params::new()).await.unit();
    assert_eq!(outcome, Outcome::Applied(()), "the same in its time");
    assert!(asked.load(Ordering::Relaxed) > 0);
}

// ---- ids and lists -------------------------------------------------------------------------------------------------

const ODD: [&str; 12] = [
    "../../../etc/passwd",
    "17&func=server.delete&elid=2",
    "17=18",
    "a b+c%20d",
    "17;18",
    "\u{202e}71",
    "17\u{0}18",
    "сервер",
    "🖥",
    "k8s:a/b/c/d",
    "{server}",
    "'\"<x>",
];

fn operator(server: &Server) -> DciManager5 {
    DciManager5::new(server.client(), Dialect::default())
}

#[tokio::test]
async fn odd_ids_are_sent_back_as_they_came_in_one_field() {
    let rows: Vec<_> = ODD.iter().map(|id| serde_json::json!({"id": {"$": id}, "name": {"$": id}})).collect();
    let list = serde_json::json!({"doc": {"elem": rows, "p_elems": {"$": ODD.len().to_string()}}}).to_string();
    let server = Server::panel(move |request| match request.func() {
        "server" => Reply::Json(list.clone()),
        "server.edit" => Reply::Json(
            serde_json::json!({"doc": {"elid": {"$": request.get("elid")}, "mac": {}, "name": {}, "owner": {}, "notes": {}}}).to_string(),
        ),
        _ => ok(),
    });
    let panel = operator(&server);
    let found = panel.servers().await.unwrap();
    assert_eq!(found.iter().map(|row| row.id.0.as_str()).collect::<Vec<_>>(), ODD);
    for row in found {
        panel.server_form(&row.id).await.unwrap();
        let request = server.last("server.edit");
        assert_eq!((request.func(), request.get("elid")), ("server.edit", row.id.0.as_str()));
        let names: Vec<&str> = request.form.keys().map(String::as_str).filter(|n| *n != "auth" && *n != "out" && *n != "lang").collect();
        assert_eq!(names, ["elid", "func"], "{:?} made other fields", row.id);
    }
    assert_eq!(server.count("server.delete"), 0);
}

#[tokio::test]
async fn half_a_million_servers_in_one_document_are_refused_as_too_large() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let url = panel(move |stream, _| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"doc\":{\"elem\":[")?;
        for id in 0..500_000 {
            let row = format!("{{\"id\":{{\"$\":\"{id}\"}},\"name\":{{\"$\":\"R{id}\"}},\"owner\":{{\"$\":\"bob\"}}}},");
            stream.write_all(row.as_bytes())?;
            counter.fetch_add(row.len(), Ordering::Relaxed);
        }
        stream.write_all(b"{}]}}")
    });
    let mut settings = settings(url);
    settings.timeout = Duration::from_mins(1);
    let panel = DciManager5::new(Arc::new(Client::new(&settings).unwrap()), Dialect::default());
    let error = panel.servers().await.unwrap_err();
    assert!(matches!(&error, PanelError::NotADocument { detail, .. } if detail.contains("more than")), "{error}");
    assert!(sent.load(Ordering::Relaxed) < MAX_BODY + SOCKETS, "{sent:?} bytes were taken");
}

/// The number of this page, the first being 1.
fn page_of(request: &Request) -> usize {
    request.get("p_num").parse().unwrap_or(1)
}

#[tokio::test]
async fn half_a_million_servers_in_pages_are_all_seen_with_two_requests_a_page() {
    const PAGE: usize = 5_000;
    const ALL: usize = 500_000;
    let server = Server::panel(move |request| {
        let from = (page_of(request) - 1) * PAGE;
        let rows: Vec<String> = (from..(from + PAGE).min(ALL)).map(|id| format!("{{\"id\":\"{id}\"}}")).collect();
        doc(&format!("\"elem\":[{}],\"p_elems\":{ALL}", rows.join(",")))
    });
    let mut settings = server.settings();
    settings.timeout = Duration::from_mins(1);
    let panel = DciManager5::new(Arc::new(Client::new(&settings).unwrap()), Dialect::default());
    assert_eq!(panel.servers().await.unwrap().len(), ALL);
    // Each page once, and all but the last once more, to see that nothing moved.
    assert_eq!(server.count("server"), 2 * (ALL / PAGE) - 1);
}

#[tokio::test]
async fn a_list_that_never_ends_is_given_up() {
    let server = Server::panel(|request| doc(&format!("\"elem\":[{{\"id\":\"{}\"}}],\"p_elems\":1000000000", page_of(request))));
    let error = operator(&server).servers().await.unwrap_err();
    assert!(matches!(error, PanelError::Incomplete { .. }), "{error}");
    let asked = server.count("server");
    assert!((1_000..=3_003).contains(&asked), "{asked} requests");
}

#[tokio::test]
async fn pages_are_together_no_larger_than_a_list_in_one() {
    const PAGE: usize = 2 * 1024 * 1024;
    let server = Server::panel(|request| {
        let number = page_of(request);
        doc(&format!("\"elem\":[{{\"id\":\"{number}\",\"name\":\"{}\"}}],\"p_elems\":1000000000", "x".repeat(PAGE)))
    });
    let error = operator(&server).servers().await.unwrap_err();
    assert!(matches!(&error, PanelError::NotADocument { detail, .. } if detail.contains("in all pages")), "{error}");
    let asked = server.count("server");
    assert!(asked <= MAX_BODY / PAGE + 1, "{asked} requests");
}

/// What a panel knows of us, as it is, as a program that wants to be clever writes it, and as requests have it.
fn echo() -> String {
    let escaped = PASSWORD.replace('s', "\\u0073");
    format!("session {SESSION}, password {PASSWORD}, {escaped}, s3cret%26pass")
}

/// Nothing of it is in a text, in any of these forms.
fn assert_silent(what: &str, text: &str) {
    for secret in [SESSION, PASSWORD, "s3cret"] {
        assert!(!text.contains(secret), "{what}: {text}");
    }
}

#[tokio::test]
async fn what_a_hostile_panel_says_shows_no_secret() {
    let echo = echo();
    let row = ["name", "type", "chassis_templ", "owner", "hostname", "mac", "gen_chassis_name", "install_in_progress"]
        .map(|name| format!(r#""{name}":{{"$":"{echo}","$orig":"{echo}"}}"#))
        .join(",");
    let offers = format!(r#""slist":{{"$name":"ostemplate","val":[{{"$key":"{echo}","$":"{echo}"}}]}}"#);
    let answers = [
        format!("<html>{echo}</html>"),
        format!("{{\"doc\":{{\"error\":{{\"$type\":\"value\",\"msg\":{{\"$\":\"{echo}\"}}}}}}}}"),
        format!("{{\"doc\":{{\"x\":\"{echo}"),
        format!("{{\"doc\":{{\"$func\":\"{echo}\"}}}}"),
        format!("{{\"doc\":{{\"elem\":\"{echo}\",\"p_elems\":\"{echo}\"}}}}"),
        format!("{{\"doc\":{{\"elem\":[{{\"id\":\"17\",{row}}}]}}}}"),
        format!("{{\"doc\":{{\"elem\":[{{\"id\":\"{PASSWORD}-1\",{row}}},{{\"id\":\"{PASSWORD}-2\",{row}}}]}}}}"),
        format!("{{\"doc\":{{\"{SESSION}\":\"x\",\"notes\":{{\"$\":\"k8s:{PASSWORD} {echo}\"}},{offers},{row}}}}}"),
    ];
    let mut read = 0;
    for answer in answers {
        let said = answer.clone();
        let server = Server::panel(move |_| Reply::Raw(response("200 OK", &format!("text/{SESSION}"), said.as_bytes())));
        let (panel, id) = (operator(&server), ServerId::from("17"));
        let claim = ServerEdit { expect: Expect::Free, owner: OwnerEdit::Keep, notes: NotesEdit::Keep };
        let (rows, form) = (panel.servers().await, panel.server_form(&id).await);
        read += usize::from(rows.as_ref().is_ok_and(|rows| rows.len() == 1)) + usize::from(form.is_ok());
        assert_silent(&answer, &format!("{:?}", server.client().change("server.poweroff", &Params::new()).await));
        assert_silent(&answer, &format!("{rows:?} {form:?}"));
        assert_silent(&answer, &format!("{:?} {:?}", panel.users().await, panel.install_form(&id).await));
        assert_silent(&answer, &format!("{:?} {:?}", panel.edit_server(&id, &claim).await, panel.connections(&id).await));
    }
    assert!(read >= 2, "a list and a form were read, and not only refused");
}

/// Everything that is logged, at whatever level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_a_hostile_panel_says_in_its_headers_is_not_logged() {
    let log = Log::default();
    let lines = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(move || lines.clone()).finish();
    let logged = {
        let _guard = tracing::subscriber::set_default(subscriber);
        let kind = format!("text/{PASSWORD}");
        let server = Server::panel(move |_| Reply::Raw(response(&format!("200 {SESSION}"), &kind, br#"{"doc":{"ok":{}}}"#)));
        let told = || String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        // Another test may just find out, for all, that nobody listens to what is told of answers.
        for _ in 0..100 {
            tracing::callsite::rebuild_interest_cache();
            server.client().read("server", &Params::new()).await.unwrap();
            if told().lines().any(|line| line.contains("dci_operator") && line.contains("answer")) {
                break;
            }
        }
        told()
    };
    let ours: Vec<&str> = logged.lines().filter(|line| line.contains("dci_operator")).collect();
    assert!(ours.iter().any(|line| line.contains("answer")), "{logged}");
    assert_silent("the log", &ours.join("\n"));
}

/// What is blotted out of it would be written over what stands there; what is told of it is another matter.
#[tokio::test]
async fn a_form_that_is_sent_back_is_as_the_panel_shows_it() {
    let (owner, comment) = (format!("o-{PASSWORD}"), format!("{PASSWORD} {SESSION}"));
    let shown =
        format!(r#""mac":"x","name":"R1-17","owner":{{"$":"{owner}"}},"comment":{{"$":"{comment}"}},"notes":{{"$":"by {PASSWORD}"}}"#);
    let server = Server::panel(move |request| if request.get("sok") == "ok" { ok() } else { doc(&shown) });
    let (panel, id) = (operator(&server), ServerId::from("17"));
    let edit = |expect| ServerEdit { expect, owner: OwnerEdit::Keep, notes: NotesEdit::Add("k8s:a/b/c/d".into()) };
    let refused = panel.edit_server(&id, &edit(Expect::Free)).await;
    assert_eq!(server.count("server.edit"), 1, "{refused:?}");
    assert!(format!("{refused:?}").contains("found o-***"), "{refused:?}");
    assert_silent("refused", &format!("{refused:?}"));
    let done = panel.edit_server(&id, &edit(Expect::Owner(owner.clone()))).await;
    assert_eq!(done, Outcome::Applied(()));
    let sent = server.last("server.edit");
    assert_eq!((sent.get("owner"), sent.get("comment")), (owner.as_str(), comment.as_str()));
    assert!(sent.get("notes").starts_with(&format!("by {PASSWORD}")) && sent.get("notes").contains("k8s:a/b/c/d"), "{}", sent.get("notes"));
}

#[test]
fn the_bomb_is_one() {
    // Lengths in the trailers of its members, so that the test above can't become harmless by a slip.
    let length = |member: &[u8]| u32::from_le_bytes(member[member.len() - 4..].try_into().unwrap());
    assert_eq!((length(&BLANKS), length(&SUCCESS)), (1 << 16, 17));
    let mut magic = [0; 2];
    BLANKS.as_slice().read_exact(&mut magic).unwrap();
    assert_eq!(magic, [0x1f, 0x8b]);
}
