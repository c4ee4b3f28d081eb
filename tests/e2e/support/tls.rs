//! TLS in front of a plain server of a test, with a certificate of an authority that nobody else knows.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;

/// A running front. It lives as long as the process: its threads wait for connections.
pub struct Front {
    /// Where it listens.
    pub url: String,
    /// The authority, PEM.
    pub authority: String,
    refused: Arc<AtomicUsize>,
}

/// An authority with this name, PEM with what it signs by.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Another authority, PEM.
pub fn stranger() -> String {
    authority("stranger").pem()
}

impl Front {
    /// Takes TLS connections for 127.0.0.1, and hands what comes in on to the server at `plain`.
    pub fn start(plain: &str) -> Self {
        let issuer = authority("departments");
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, path) = plain.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let url = format!("https://{}/{path}", listener.local_addr().unwrap());
        let (refused, address) = (Arc::new(AtomicUsize::new(0)), address.to_owned());
        let counted = refused.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (config, address, counted) = (config.clone(), address.clone(), counted.clone());
                std::thread::spawn(move || {
                    if hand_on(config, socket, &address).is_err() {
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        Self { url, authority: issuer.pem(), refused }
    }

    /// Connections that came to nothing because the client did not trust the certificate.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

/// One request and its answer.
fn hand_on(config: Arc<rustls::ServerConfig>, mut socket: TcpStream, address: &str) -> std::io::Result<()> {
    let mut connection = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    let mut client = rustls::StreamOwned::new(connection, socket);
    let mut request = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            // An alert of the client is read here when it comes after the handshake.
            return if request.is_empty() { Err(std::io::Error::other("nothing was asked")) } else { Ok(()) };
        }
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:").map(|n| n.trim().parse::<usize>()));
        if body.len() >= length.and_then(Result::ok).unwrap_or(0) {
            break;
        }
    }
    let mut server = TcpStream::connect(address)?;
    server.write_all(&request)?;
    let count = server.read(&mut buffer)?;
    client.write_all(&buffer[..count])?;
    client.conn.send_close_notify();
    client.flush()
}
