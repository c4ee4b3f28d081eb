//! Listening addresses: with and without TLS, and closed while all panels behind them are down.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, extract::connect_info::IntoMakeServiceWithConnectInfo};
use axum_server::{
    Handle,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use tokio::{net::TcpSocket, sync::watch};

use super::{
    core::Core,
    http::{self, Door},
    line::LineAcceptor,
};

/// A listening address that is held as long as this is there, also while nobody listens.
pub(crate) struct Listener {
    pub(crate) addr: SocketAddr,
    /// Bound and never listening: it keeps the port from others, and connections to it are refused.
    _holder: TcpSocket,
    first: Option<std::net::TcpListener>,
    panels: Vec<usize>,
    app: Router,
}

fn socket(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    #[cfg(unix)]
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    socket(addr)?.listen(1024)?.into_std()
}

impl Listener {
    /// Takes an address. Port 0 is any free one.
    pub(crate) fn bind(core: &Arc<Core>, addr: SocketAddr, panels: Vec<usize>) -> io::Result<Self> {
        if addr.port() != 0 {
            // A port that somebody else listens at is an error, whatever that socket's options are.
            drop(std::net::TcpListener::bind(addr)?);
        }
        let holder = socket(addr)?;
        let addr = holder.local_addr()?;
        let door = Door { core: core.clone(), panels: panels.clone().into() };
        let app = super::admin::router(core.clone()).merge(Router::new().fallback(http::call).with_state(door));
        Ok(Self { addr, _holder: holder, first: Some(listen(addr)?), panels, app })
    }

    /// The panels behind it.
    pub(crate) fn panels(&self) -> &[usize] {
        &self.panels
    }

    /// Serves until told to stop.
    pub(crate) async fn run(mut self, core: Arc<Core>, tls: Option<RustlsConfig>, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        loop {
            let socket = match self.first.take() {
                Some(socket) => socket,
                None => listen(self.addr)?,
            };
            let app = self.app.clone().into_make_service_with_connect_info::<SocketAddr>();
            let handle = Handle::new();
            let serving = serve(socket, app, tls.clone(), handle.clone());
            tokio::select! {
                result = serving => return result,
                // Dropping what serves closes the socket; the handle ends the connections.
                () = core.until_down(&self.panels) => handle.shutdown(),
                _ = stop.wait_for(|stop| *stop) => {
                    handle.shutdown();
                    return Ok(());
                }
            }
            tokio::select! {
                () = core.until_up(&self.panels) => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }
}

async fn serve(
    socket: std::net::TcpListener,
    app: IntoMakeServiceWithConnectInfo<Router, SocketAddr>,
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let server = axum_server::from_tcp(socket)?.handle(handle).http1_only();
    match tls {
        Some(tls) => server.acceptor(RustlsAcceptor::new(tls).acceptor(LineAcceptor)).serve(app).await,
        None => server.acceptor(LineAcceptor).serve(app).await,
    }
}
