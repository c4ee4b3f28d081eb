//! Which certificates a panel's client accepts, and that nothing is sent where it does not.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;

use crate::support::{response, settings};
use dci_operator::panel::coremanager::Client;
use dci_operator::panel::coremanager::params::Params;
use dci_operator::panel::error::{Outcome, PanelError};
use dci_operator::panel::settings::{SettingsError, TlsMode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

/// A certificate with its key.
struct Identity {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

fn params(name: &str, authority: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

fn self_signed(name: &str, authority: bool) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params(name, authority).self_signed(&key).unwrap();
    Identity { der: certificate.der().clone(), pem: certificate.pem(), key }
}

fn signed_by_authority(name: &str) -> (Identity, String) {
    let issuer = CertifiedIssuer::self_signed(params("authority", true), KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params(name, false).signed_by(&key, &issuer).unwrap();
    (Identity { der: certificate.der().clone(), pem: certificate.pem(), key }, issuer.pem())
}

/// Serves a successful log-in to every request, over TLS.
fn serve(identity: &Identity) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.der.clone()], key)
        .unwrap();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let config = config.clone();
            std::thread::spawn(move || {
                let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config).unwrap(), socket);
                if crate::support::read(&mut stream).is_some() {
                    let _ = stream.write_all(&response("200 OK", "application/json", br#"{"doc":{"ok":{},"auth":{"$":"x"}}}"#));
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            });
        }
    });
    format!("https://127.0.0.1:{}/dcimgr", address.port())
}

async fn ask(url: &str, tls: TlsMode) -> Outcome<()> {
    let mut settings = settings(url.to_owned());
    settings.tls = tls;
    Client::new(&settings).unwrap().change("server.enable", &Params::new()).await.unit()
}

fn certificate(outcome: &Outcome<()>) -> &str {
    match outcome {
        Outcome::Refused(PanelError::Certificate { detail, .. }) => detail,
        other => panic!("{other:?}"),
    }
}

fn fingerprint(identity: &Identity) -> String {
    Sha256::digest(&identity.der).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[tokio::test]
async fn an_unknown_certificate_is_refused_with_its_checksum() {
    let panel = self_signed("127.0.0.1", false);
    let url = serve(&panel);
    let outcome = ask(&url, TlsMode::System).await;
    assert!(certificate(&outcome).contains(&fingerprint(&panel)), "{outcome:?}");
    let outcome = ask(&url, TlsMode::CaBundle(self_signed("127.0.0.1", true).pem)).await;
    certificate(&outcome);
}

#[tokio::test]
async fn a_pinned_certificate_is_accepted_and_no_other() {
    let panel = self_signed("some.other.name", false);
    let url = serve(&panel);
    assert_eq!(ask(&url, TlsMode::pinned(&fingerprint(&panel)).unwrap()).await, Outcome::Applied(()));
    let wrong = fingerprint(&self_signed("some.other.name", false));
    let outcome = ask(&url, TlsMode::pinned(&wrong).unwrap()).await;
    assert!(certificate(&outcome).contains("not the pinned one"), "{outcome:?}");
    assert!(certificate(&outcome).contains(&fingerprint(&panel)), "{outcome:?}");
}

#[tokio::test]
async fn an_authority_of_the_bundle_is_trusted_for_the_panel_s_name() {
    let (panel, authority) = signed_by_authority("127.0.0.1");
    assert_eq!(ask(&serve(&panel), TlsMode::CaBundle(authority)).await, Outcome::Applied(()));
    let (panel, authority) = signed_by_authority("dci.example.net");
    let outcome = ask(&serve(&panel), TlsMode::CaBundle(authority)).await;
    assert!(certificate(&outcome).contains("name"), "{outcome:?}");
}

#[tokio::test]
async fn a_self_signed_panel_in_the_bundle_is_trusted_marked_as_authority_or_not() {
    for authority in [false, true] {
        let panel = self_signed("127.0.0.1", authority);
        assert_eq!(ask(&serve(&panel), TlsMode::CaBundle(panel.pem.clone())).await, Outcome::Applied(()), "{authority}");
        let panel = self_signed("dci.example.net", authority);
        let outcome = ask(&serve(&panel), TlsMode::CaBundle(panel.pem.clone())).await;
        assert!(certificate(&outcome).contains("name"), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_insecure_handler_asks_no_questions() {
    let panel = self_signed("some.other.name", true);
    assert_eq!(ask(&serve(&panel), TlsMode::Insecure).await, Outcome::Applied(()));
}

#[tokio::test]
async fn a_panel_without_tls_gets_no_request() {
    let server = crate::support::Server::raw(|_| crate::support::ok());
    let url = format!("https://{}/dcimgr", server.address);
    let outcome = ask(&url, TlsMode::Insecure).await;
    assert!(matches!(outcome, Outcome::Refused(PanelError::Unreachable { .. })), "{outcome:?}");
    assert!(server.funcs().is_empty());
}

#[test]
fn a_bundle_without_certificates_is_named() {
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let mut settings = settings("https://127.0.0.1:1/dcimgr".to_owned());
        settings.tls = TlsMode::CaBundle(pem.to_owned());
        assert!(matches!(Client::new(&settings).map(|_| ()), Err(SettingsError::Bundle(_))), "{pem}");
    }
}
