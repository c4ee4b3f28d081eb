//! Simulated panels: `DCImanager` 5, `IPmanager` 5 and `BILLmanager` 6 (licence server) with the behaviour that `ispsystem-api.md` describes.
//!
//! They share no code with the operator's clients, so that each checks the other. One [`Simulator`] serves any number
//! of panels; a process can have many simulators. Section numbers in the comments of this module are those of the
//! facts.
//!
//! - `world`: state and rules, without HTTP and without a clock of its own;
//! - `coremanager`: the protocol that all panels speak;
//! - `dcimanager5`, `ipmanager5`, `billmanager6`: the functions of each;
//! - `faults`, `journal`, `admin`: what goes wrong, what was asked for, and the people behind the panels.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails so says where"))]

mod admin;
mod billmanager6;
pub mod config;
mod core;
mod coremanager;
mod dcimanager5;
mod faults;
mod http;
mod ipmanager5;
mod journal;
mod line;
mod listener;
mod offline;
mod span;
mod tls;
mod world;

use std::{
    fmt::Write as _,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};

pub use self::{
    config::{Config, ConfigError},
    offline::Offline,
    tls::TlsError,
};
use self::{
    core::{Core, Place},
    listener::Listener,
    world::{World, bill::LicenseChange, human::ServerChange},
};

/// Bytes in hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why a simulator does not start, or does not do what it is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened at.
    #[error("cannot listen at {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
    /// There is no certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What a test asks for behind the panels cannot be done.
    #[error("{0}")]
    Admin(String),
}

/// Where and how to listen.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Where the panels listen that have no address of their own.
    pub listen: SocketAddr,
    /// Where `/_sim` is served besides, also while the panels are down.
    pub admin_listen: SocketAddr,
    /// Serve the panels with TLS and a certificate made at the start.
    pub tls: bool,
}

impl Options {
    /// Plain HTTP at this address.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls: false }
    }
}

/// What the panels of one simulator had on record at a moment.
#[derive(Debug, Clone)]
pub struct Backup(World);

/// A running simulator. It stops when it is dropped.
pub struct Simulator {
    /// Where the panels listen that have no address of their own.
    pub addr: SocketAddr,
    /// Ends when all listening has ended.
    pub handle: JoinHandle<io::Result<()>>,
    core: Arc<Core>,
    urls: Vec<(String, String)>,
    stop: watch::Sender<bool>,
    certificate: Option<(String, String)>,
}

impl Simulator {
    /// Starts the panels over plain HTTP.
    pub async fn start(config: Config, listen: SocketAddr) -> Result<Self, SimError> {
        Self::start_with(config, Options::new(listen)).await
    }

    /// Starts the panels. It is `async` since it needs a runtime to listen.
    #[expect(clippy::unused_async, reason = "listening needs a runtime, which an async function makes sure of")]
    pub async fn start_with(config: Config, options: Options) -> Result<Self, SimError> {
        let core = Arc::new(Core::new(&config)?);
        let mut addrs: Vec<(SocketAddr, Vec<usize>)> = vec![(options.listen, Vec::new())];
        for (index, panel) in core.panels.iter().enumerate() {
            let addr = panel.listen.unwrap_or(options.listen);
            match addrs.iter_mut().find(|(known, _)| *known == addr && (addr.port() != 0 || panel.listen.is_none())) {
                Some((_, panels)) => {
                    let twin = panels.iter().find(|other| core.panels[**other].place.mgr() == panel.place.mgr());
                    if let Some(twin) = twin {
                        let message = format!(
                            "`{}` and `{}` would both be at /{}; give one of them a `listen` of its own",
                            core.panels[*twin].name,
                            panel.name,
                            panel.place.mgr()
                        );
                        return Err(ConfigError::invalid("panels", message).into());
                    }
                    panels.push(index);
                }
                None => addrs.push((addr, vec![index])),
            }
        }
        let bind = |addr, panels| Listener::bind(&core, addr, panels).map_err(|source| SimError::Listen { addr, source });
        let listeners = addrs.into_iter().map(|(addr, panels)| bind(addr, panels)).collect::<Result<Vec<_>, _>>()?;
        let admin = bind(options.admin_listen, Vec::new())?;
        let bound: Vec<SocketAddr> = listeners.iter().map(|listener| listener.addr).collect();
        let identity = if options.tls { Some(tls::self_signed(&bound)?) } else { None };
        let scheme = if options.tls { "https" } else { "http" };
        let mut urls = Vec::new();
        for listener in &listeners {
            for panel in listener.panels() {
                let panel = &core.panels[*panel];
                urls.push((panel.name.clone(), format!("{scheme}://{}/{}", listener.addr, panel.place.mgr())));
            }
        }
        urls.push(("sim".to_owned(), format!("http://{}/_sim", admin.addr)));
        let (stop, stopped) = watch::channel(false);
        let tls_config = identity.as_ref().map(|identity| identity.config.clone());
        let mut tasks: Vec<JoinHandle<io::Result<()>>> = Vec::new();
        for listener in listeners {
            tasks.push(tokio::spawn(listener.run(core.clone(), tls_config.clone(), stopped.clone())));
        }
        tasks.push(tokio::spawn(admin.run(core.clone(), None, stopped)));
        let handle = tokio::spawn(async move {
            for task in tasks {
                task.await.map_err(io::Error::other)??;
            }
            Ok(())
        });
        let certificate = identity.map(|identity| (identity.fingerprint, identity.pem));
        Ok(Self { addr: bound[0], handle, core, urls, stop, certificate })
    }

    /// The names of the panels with their addresses; the last one, `sim`, is `/_sim`.
    #[must_use]
    pub fn urls(&self) -> &[(String, String)] {
        &self.urls
    }

    /// The address of a panel, or of `sim`.
    #[must_use]
    pub fn url(&self, name: &str) -> Option<&str> {
        self.urls.iter().find(|(known, _)| known == name).map(|(_, url)| url.as_str())
    }

    /// SHA-256 of the certificate, in hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        self.certificate.as_ref().map(|(fingerprint, _)| fingerprint.as_str())
    }

    /// The certificate, as a file would hold it.
    #[must_use]
    pub fn certificate_pem(&self) -> Option<&str> {
        self.certificate.as_ref().map(|(_, pem)| pem.as_str())
    }

    /// The whole state: what `/_sim/state` shows.
    #[must_use]
    pub fn state(&self) -> Value {
        admin::state(&self.core)
    }

    /// A window on the state for somebody else, who looks while calls are made.
    #[must_use]
    pub fn window(&self) -> Window {
        Window(self.core.clone())
    }

    /// The changes asked for after this number: what `/_sim/journal` shows.
    #[must_use]
    pub fn journal(&self, since: u64) -> Vec<Value> {
        admin::journal(&self.core, since)
    }

    /// How often each function of each panel was called: what `/_sim/requests` shows.
    #[must_use]
    pub fn requests(&self) -> Value {
        admin::requests(&self.core)
    }

    /// The ids of all sessions at all panels: no page shows them, and nobody else may.
    #[must_use]
    pub fn session_ids(&self) -> Vec<String> {
        self.core.session_ids()
    }

    /// Adds a fault, as `POST /_sim/faults` does, and returns its id.
    pub fn add_fault(&self, fault: Value) -> Result<u64, SimError> {
        let spec = serde_json::from_value(fault).map_err(|error| SimError::Admin(error.to_string()))?;
        admin::add_fault(&self.core, spec).map_err(|error| SimError::Admin(error.to_string()))
    }

    /// Removes one fault, or all.
    pub fn remove_faults(&self, id: Option<u64>) {
        self.core.change_faults(|faults, _| faults.remove(id));
    }

    /// Changes a server behind the panel, as `POST /_sim/servers/{id}` does.
    pub fn change_server(&self, id: u64, change: Value) -> Result<Value, SimError> {
        let change: ServerChange = serde_json::from_value(change).map_err(|error| SimError::Admin(error.to_string()))?;
        admin::server(&self.core, id, &change).map_err(|error| SimError::Admin(error.to_string()))
    }

    /// Changes a licence behind the panel, as `POST /_sim/licenses/{id}` does.
    pub fn change_license(&self, id: u64, change: Value) -> Result<Value, SimError> {
        let change: LicenseChange = serde_json::from_value(change).map_err(|error| SimError::Admin(error.to_string()))?;
        admin::license(&self.core, id, &change).map_err(|error| SimError::Admin(error.to_string()))
    }

    /// What the panels have on record now, as their backups keep it.
    #[must_use]
    pub fn backup(&self) -> Backup {
        Backup(self.core.settled().0.world.clone())
    }

    /// Puts the records of a panel back to what they were: servers, owners, notes, addresses, users. What machines do in the meantime is
    /// part of the record here, so that an installation that has ended since runs to its end once more.
    pub fn restore(&self, panel: &str, from: &Backup) -> Result<(), SimError> {
        let found = self.core.panels.iter().find(|known| known.name == panel).map(|known| known.place);
        let place = found.ok_or_else(|| SimError::Admin(format!("there is no panel `{panel}`")))?;
        let (mut state, _) = self.core.settled();
        match place {
            Place::Dci(index) => state.world.dci[index] = from.0.dci[index].clone(),
            Place::Ipm(index) => state.world.ipm[index] = from.0.ipm[index].clone(),
            Place::Bill(index) => state.world.bill[index] = from.0.bill[index].clone(),
        }
        Ok(())
    }

    /// Stops listening, and ends all connections.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Shows the state of panels that somebody else runs.
#[derive(Clone)]
pub struct Window(Arc<Core>);

impl Window {
    /// The whole state: what `/_sim/state` shows.
    #[must_use]
    pub fn state(&self) -> Value {
        admin::state(&self.0)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop();
    }
}
