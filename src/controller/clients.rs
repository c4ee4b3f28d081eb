//! Kubernetes clients: one for requests, which never hangs or retries for hours, and one for watches.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};

use super::metrics::Metrics;
use super::metrics::writes::CountWrites;
use super::observe::{Observe, Observer};
use super::welcome::{Guest, Welcome};

/// The longest one request to the API server may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Both clients, and what the watches are doing.
#[derive(Clone)]
pub struct Clients {
    /// For single requests.
    pub api: Client,
    /// For watches.
    pub watch: Client,
    /// When each watch was last opened.
    pub pulse: Pulse,
    /// Whether the API server still takes us for who we are.
    pub welcome: Welcome,
}

/// Makes both clients.
///
/// kube's defaults have no read time-out, so that a half-open connection hangs a request for ever, and retry 429, 503
/// and 504 for up to hours within one call; both are switched off here. The watch client keeps no read time-out: a
/// quiet watch is not a dead one, and the watcher has an idle time-out of its own.
pub fn clients(config: &Config, metrics: &Arc<Metrics>) -> Result<Clients, kube::Error> {
    clients_with(config, REQUEST_TIMEOUT, metrics)
}

/// The same with another bound on single requests.
pub fn clients_with(config: &Config, timeout: Duration, metrics: &Arc<Metrics>) -> Result<Clients, kube::Error> {
    let mut api = config.clone();
    api.connect_timeout = Some(Duration::from_secs(5));
    api.read_timeout = Some(timeout);
    api.write_timeout = Some(timeout);
    api.reset_reader_on_write = true;
    api.default_retry = false;
    let mut watch = config.clone();
    watch.connect_timeout = Some(Duration::from_secs(5));
    watch.read_timeout = None;
    watch.write_timeout = Some(timeout);
    watch.default_retry = false;
    let (pulse, welcome) = (Pulse::default(), Welcome::default());
    let guest = || Observe(Guest::new(&welcome));
    Ok(Clients {
        api: ClientBuilder::try_from(api)?.with_layer(&guest()).with_layer(&Observe(CountWrites(metrics.clone()))).build(),
        watch: ClientBuilder::try_from(watch)?.with_layer(&guest()).with_layer(&Observe(pulse.clone())).build(),
        pulse,
        welcome,
    })
}

/// When each watch was last tried and last opened. A watch is reopened every minute, so that an old entry means a deaf process.
#[derive(Clone, Default)]
pub struct Pulse(Arc<Mutex<BTreeMap<String, Beat>>>);

/// One watch.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// Last request.
    pub tried: Instant,
    /// Last request that the server accepted.
    pub opened: Option<Instant>,
    /// What the server said last, if it refused.
    pub refused: Option<u16>,
}

impl Pulse {
    /// All watches by path.
    #[must_use]
    pub fn beats(&self) -> BTreeMap<String, Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tried(&self, path: &str) {
        let now = Instant::now();
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beats.entry(path.to_owned()).or_insert(Beat { tried: now, opened: None, refused: None }).tried = now;
    }

    fn told(&self, path: &str, status: StatusCode) {
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(beat) = beats.get_mut(path) {
            if status.is_success() {
                beat.opened = Some(Instant::now());
                beat.refused = None;
            } else {
                beat.refused = Some(status.as_u16());
            }
        }
    }
}

impl Observer for Pulse {
    /// Path of the watch.
    type Asked = String;

    fn asks(&self, request: &Request<Body>) -> String {
        let path = request.uri().path().to_owned();
        self.tried(&path);
        path
    }

    fn answered(&self, path: String, answer: Result<StatusCode, &(dyn Error + 'static)>) {
        if let Ok(status) = answer {
            self.told(&path, status);
        }
    }
}
