//! How a panel's certificate is checked: system authorities, a bundle, a pinned checksum, or not at all.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use super::causes::causes;
use super::denied::DeniedNetworks;
use super::resolver::Guarded;
use super::settings::{SettingsError, TlsMode};

/// An HTTP client that does what it is told and nothing else: no proxy, no redirect, and no request that is made a second time,
/// since a repeated change may take effect twice and whoever asks decides whether to ask again. No name leads it into a refused
/// network; an address that stands in the URL itself is checked by `resolver::check`.
pub fn http_client(mode: &TlsMode, denied: &DeniedNetworks) -> Result<reqwest::ClientBuilder, SettingsError> {
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(client_config(mode)?)
        .user_agent(concat!("dci-operator/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .dns_resolver(Arc::new(Guarded::new(denied.clone())))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never()))
}

/// The TLS side of the HTTP client.
fn client_config(mode: &TlsMode) -> Result<ClientConfig, SettingsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = PanelVerifier { trust: trust(mode, &provider)?, algorithms: provider.signature_verification_algorithms };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| SettingsError::Http(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

fn trust(mode: &TlsMode, provider: &Arc<CryptoProvider>) -> Result<Trust, SettingsError> {
    Ok(match mode {
        TlsMode::System => {
            let system = rustls_platform_verifier::Verifier::new(provider.clone());
            Trust::Authorities(Arc::new(system.map_err(|e| SettingsError::System(e.to_string()))?), Vec::new())
        }
        TlsMode::CaBundle(pem) => {
            let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| SettingsError::Bundle(format!("not PEM: {e}")))?;
            let mut roots = RootCertStore::empty();
            let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
            if usable == 0 {
                return Err(SettingsError::Bundle("holds no usable certificate".to_owned()));
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
            Trust::Authorities(verifier.map_err(|e| SettingsError::Bundle(e.to_string()))?, certificates)
        }
        TlsMode::Pinned(pin) => Trust::Pinned(*pin),
        TlsMode::Insecure => Trust::Anyone,
    })
}

#[derive(Debug)]
enum Trust {
    /// What these authorities signed; and these certificates themselves: the panels make self-signed ones, which are marked
    /// as authorities as often as not, and no authority may stand as a server's own certificate.
    Authorities(Arc<dyn ServerCertVerifier>, Vec<CertificateDer<'static>>),
    Pinned([u8; 32]),
    Anyone,
}

#[derive(Debug)]
struct PanelVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What was wrong with a certificate, with its checksum, so that a person can compare and pin it.
#[derive(Debug)]
pub struct CertificateRefusal {
    reason: String,
    sha256: [u8; 32],
}

impl fmt::Display for CertificateRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SHA-256 of the certificate presented: ", self.reason)?;
        for byte in self.sha256 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for CertificateRefusal {}

fn refusal(reason: String, sha256: [u8; 32]) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(CertificateRefusal { reason, sha256 }))))
}

impl ServerCertVerifier for PanelVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let sha256: [u8; 32] = Sha256::digest(end_entity).into();
        match &self.trust {
            Trust::Authorities(authorities, themselves) => {
                let described = |e: Error| match e {
                    Error::InvalidCertificate(reason) => refusal(certificate_text(&reason), sha256),
                    other => other,
                };
                if themselves.iter().any(|known| known == end_entity) {
                    let certificate = ParsedCertificate::try_from(end_entity).map_err(described)?;
                    return verify_server_name(&certificate, server_name).map(|()| ServerCertVerified::assertion()).map_err(described);
                }
                authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map_err(described)
            }
            Trust::Pinned(pin) if *pin == sha256 => Ok(ServerCertVerified::assertion()),
            Trust::Pinned(_) => Err(refusal("it is not the pinned one".to_owned(), sha256)),
            Trust::Anyone => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.trust {
            Trust::Anyone => Ok(HandshakeSignatureValid::assertion()),
            // A pinned certificate is public: only the signature proves that the other side has its key.
            Trust::Authorities(..) | Trust::Pinned(_) => verify_tls12_signature(message, certificate, signature, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.trust {
            Trust::Anyone => Ok(HandshakeSignatureValid::assertion()),
            Trust::Authorities(..) | Trust::Pinned(_) => verify_tls13_signature(message, certificate, signature, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What is wrong with a certificate, in words.
pub(crate) fn certificate_text(reason: &CertificateError) -> String {
    match reason {
        CertificateError::Other(other) => other.0.to_string(),
        // The library's own words tell the time of day: another text each second, and a write of every object that shows it.
        CertificateError::ExpiredContext { not_after, .. } => format!("it expired at {}", moment(*not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => format!("it is not valid before {}", moment(*not_before)),
        known => known.to_string(),
    }
}

fn moment(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    seconds.map_or_else(|| "a time beyond reckoning".to_owned(), |at| at.to_string())
}

/// What TLS said, where it was TLS that failed.
pub(crate) fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    causes(error).find_map(|e| e.downcast_ref::<Error>())
}
