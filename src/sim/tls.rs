//! Self-signed certificates, as such panels usually have: section 1.1 of the facts.

use std::{net::SocketAddr, sync::Arc};

use axum_server::tls_rustls::RustlsConfig;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use sha2::{Digest, Sha256};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// It cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// It cannot be used.
    #[error("cannot use the certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// A certificate made just now.
pub(crate) struct Identity {
    pub(crate) config: RustlsConfig,
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub(crate) fingerprint: String,
    /// The certificate, as a file would hold it.
    pub(crate) pem: String,
}

/// Makes a certificate for this machine and the addresses listened at.
pub(crate) fn self_signed(addrs: &[SocketAddr]) -> Result<Identity, TlsError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    for addr in addrs {
        let ip = addr.ip().to_string();
        if !names.contains(&ip) {
            names.push(ip);
        }
    }
    let made = rcgen::generate_simple_self_signed(names)?;
    let der = made.cert.der().clone();
    let fingerprint = super::hex(&Sha256::digest(&der));
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![der], key)?;
    Ok(Identity { config: RustlsConfig::from_config(Arc::new(config)), fingerprint, pem: made.cert.pem() })
}
