//! What a panel's client makes of networks and proxies: every fault has one name, and nothing may pass for a success.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::{PASSWORD, Reply, SESSION, Server, doc, ok, response, settings};
use dci_operator::panel::coremanager::Client;
use dci_operator::panel::coremanager::document::{MAX_BODY, MAX_FORM};
use dci_operator::panel::coremanager::params::Params;
use dci_operator::panel::error::{Outcome, PanelError};

/// What became of a change whose answer is this.
async fn change(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Outcome<()> {
    let server = Server::panel(move |_| reply());
    let outcome = server.client().change("server.poweroff", &Params::new().with("elid", "17")).await.unit();
    assert_eq!(server.count("server.poweroff"), 1, "a change is never repeated by itself");
    let text = format!("{outcome:?}");
    assert!(!text.contains(PASSWORD) && !text.contains(SESSION), "{text}");
    outcome
}

fn raw(bytes: &'static [u8]) -> impl Fn() -> Reply + Send + Sync + 'static {
    move || Reply::Raw(bytes.to_vec())
}

fn body(status: &'static str, bytes: &'static [u8]) -> impl Fn() -> Reply + Send + Sync + 'static {
    move || Reply::Raw(response(status, "text/html", bytes))
}

fn no_answer(outcome: &Outcome<()>) -> &str {
    match outcome {
        Outcome::Ambiguous(PanelError::NoAnswer { detail, func, .. }) if func == "server.poweroff" => detail,
        other => panic!("{other:?}"),
    }
}

fn not_a_document(outcome: &Outcome<()>) -> &str {
    match outcome {
        Outcome::Ambiguous(PanelError::NotADocument { detail, .. }) => detail,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_parsed_success_is_applied() {
    assert_eq!(change(ok).await, Outcome::Applied(()));
    assert_eq!(change(|| doc("")).await, Outcome::Applied(()), "a document without an error is a success");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    no_answer(&change(|| Reply::Drop).await);
    no_answer(&change(raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"doc\":{\"ok\":{}}}")).await);
    no_answer(&change(raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"doc")).await);
    no_answer(&change(raw(b"HTTP/1.1 2")).await);
    no_answer(&change(raw(b"nonsense\r\n\r\n")).await);
}

#[tokio::test]
async fn the_deadline_covers_silence_and_slow_bodies() {
    let began = Instant::now();
    let outcome = change(|| Reply::Silence(Duration::from_secs(8))).await;
    assert!(no_answer(&outcome).contains("not complete within 2s"), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let began = Instant::now();
    let slow = || {
        let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_vec();
        bytes.extend(std::iter::repeat_n(b' ', 1000));
        Reply::Drip(bytes, Duration::from_millis(20))
    };
    assert!(no_answer(&change(slow).await).contains("not complete within 2s"));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_not_json_is_not_a_document() {
    for (status, bytes, says) in [
        ("200 OK", b"<html>The panel is being updated</html>".as_slice(), "an HTML or XML page of 39 bytes"),
        ("200 OK", b"", "an empty body"),
        ("200 OK", b"  \n", "an empty body"),
        ("200 OK", b"{\"doc\":{\"ok\"", "12 bytes that are not JSON"),
        ("200 OK", b"{\"doc\":{\"ok\":{\"$\":\"\xff\xfe\"}}}", "that are not JSON"),
        ("200 OK", b"[]", "JSON without an object doc"),
        ("200 OK", b"{\"doc\":[]}", "JSON without an object doc"),
        ("200 OK", b"{\"doc\":{\"error\":{}}}", "an error without type and text"),
        ("200 OK", b"{\"doc\":{\"$func\":\"desktop\"}}", "a document of desktop"),
        ("500 Internal Server Error", b"{\"doc\":{\"ok\":{}}}", "HTTP status 500"),
        ("502 Bad Gateway", b"<html>", "HTTP status 502"),
        ("503 Service Unavailable", b"", "HTTP status 503"),
        ("204 No Content", b"", "HTTP status 204"),
        ("401 Unauthorized", b"", "HTTP status 401"),
    ] {
        let outcome = change(body(status, bytes)).await;
        assert!(not_a_document(&outcome).contains(says), "{status}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_names_a_host_only() {
    let other = Server::raw(|_| ok());
    let target = format!("http://{}/x?password={PASSWORD}", other.address);
    let outcome = change(move || {
        Reply::Raw(format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n").into_bytes())
    })
    .await;
    assert_eq!(not_a_document(&outcome), "a redirect (307) to 127.0.0.1");
    assert!(other.funcs().is_empty());
}

#[tokio::test]
async fn a_redirect_names_no_host_but_the_panels_own() {
    for (target, to) in [
        (format!("http://{PASSWORD}/"), "another host"),
        (format!("//{PASSWORD}/x"), "another host"),
        // A host of another scheme is kept as it was written.
        (format!("x://{PASSWORD}/"), "another host"),
        (format!("http://{SESSION}.example/"), "another host"),
        ("file:///etc/passwd".to_owned(), "another host"),
        ("/elsewhere".to_owned(), "127.0.0.1"),
    ] {
        let outcome =
            change(move || Reply::Raw(format!("HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n").into_bytes())).await;
        assert_eq!(not_a_document(&outcome), format!("a redirect (302) to {to}"));
    }
    let outcome = change(raw(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n")).await;
    assert_eq!(not_a_document(&outcome), "a redirect (302) to nowhere");
}

#[tokio::test]
async fn a_body_is_bounded_announced_or_not() {
    let announced = || Reply::Raw(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{{", MAX_FORM + 1).into_bytes());
    assert!(not_a_document(&change(announced).await).contains("more than"));
    let streamed = || {
        let mut bytes = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"doc\":{}}".to_vec();
        bytes.resize(MAX_FORM + 200, b' ');
        Reply::Raw(bytes)
    };
    assert!(not_a_document(&change(streamed).await).contains("more than"));
    let just_fits = || {
        let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
        let mut bytes = [head.as_slice(), b"{\"doc\":{}}"].concat();
        bytes.resize(MAX_FORM + head.len(), b' ');
        Reply::Raw(bytes)
    };
    assert_eq!(change(just_fits).await, Outcome::Applied(()));
}

/// A list may be longer than anything else is.
#[tokio::test]
async fn a_list_has_a_bound_of_its_own() {
    for (beyond, fits) in [(0, true), (1, false)] {
        let server = Server::panel(move |_| {
            let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            let mut bytes = [head.as_slice(), b"{\"doc\":{}}"].concat();
            bytes.resize(MAX_BODY + head.len() + beyond, b' ');
            Reply::Raw(bytes)
        });
        let list = server.client().list("server", Params::new, "id").await;
        match list {
            Ok(list) => assert!(fits && list.rows().is_empty()),
            Err(PanelError::NotADocument { detail, .. }) => assert!(!fits && detail.contains("more than"), "{detail}"),
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn nothing_was_sent_where_nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::new(&settings(format!("http://{address}/dcimgr"))).unwrap();
    let outcome = client.change("server.poweroff", &Params::new()).await.unit();
    let Outcome::Refused(PanelError::Unreachable { panel, detail }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(panel, address.to_string());
    assert!(detail.contains("refused"), "{detail}");
}

#[tokio::test]
async fn nothing_was_sent_to_a_name_that_does_not_exist() {
    let client = Client::new(&settings("https://no-such-host.invalid:1500/dcimgr".to_owned())).unwrap();
    let outcome = client.change("server.poweroff", &Params::new()).await.unit();
    assert!(matches!(outcome, Outcome::Refused(PanelError::Unreachable { .. })), "{outcome:?}");
}

#[tokio::test]
async fn nothing_was_sent_while_the_connection_does_not_come_about() {
    // The listener never reads: the handshake of TLS, which needs an answer, never ends.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::new(&settings(format!("https://{}/dcimgr", listener.local_addr().unwrap()))).unwrap();
    let began = Instant::now();
    let outcome = client.change("server.poweroff", &Params::new()).await.unit();
    assert!(matches!(outcome, Outcome::Refused(PanelError::Unreachable { .. })), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_fault_of_the_log_in_leaves_the_change_unsent() {
    let server = Server::raw(|_| Reply::Drop);
    let outcome = server.client().change("server.poweroff", &Params::new()).await.unit();
    assert!(matches!(outcome, Outcome::Refused(PanelError::NoAnswer { .. })), "{outcome:?}");
    assert_eq!(server.funcs(), ["auth"]);
}

#[tokio::test]
async fn the_request_is_a_plain_post_without_credentials_in_its_address() {
    let server = Server::panel(|_| ok());
    server.client().read("server", &Params::new().with("elid", "a&b=c d%ü")).await.unwrap();
    for request in server.requests.lock().unwrap().iter() {
        let head = request.head.to_ascii_lowercase();
        assert!(head.starts_with("post /dcimgr http/1.1"), "{head}");
        assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
        assert!(!head.contains("accept-encoding"), "{head}");
        assert!(!head.contains(SESSION) && !head.contains("s3cret"), "{head}");
        assert_eq!((request.get("out"), request.get("lang")), ("json", "en"));
    }
    assert_eq!(server.last("server").get("elid"), "a&b=c d%ü");
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_costs_no_change() {
    // The hand-written server closes after each answer, although this answer does not say so.
    let server = Server::panel(|_| Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"doc\":{\"ok\":{}}}".to_vec()));
    let client = server.client();
    for _ in 0..20 {
        let outcome = client.change("server.enable", &Params::new()).await.unit();
        assert_eq!(outcome, Outcome::Applied(()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
