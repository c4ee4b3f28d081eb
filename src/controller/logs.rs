//! Logs: for people or for programs, with a filter that a file may change while the process runs.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracer;
use tracing::Metadata;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, LevelFilter, ParseError, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Registry, fmt, reload};

use super::trace;

/// How often the file is looked at. A mounted `ConfigMap` takes longer to arrive.
const LOOK: Duration = Duration::from_secs(2);
/// Longer than any filter; what follows is not read.
const LONGEST: usize = 4096;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there can be no logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a filter.
    #[error("--log {0:?}: {1}; write error, warn, info, debug or trace, or a filter such as info,dci_operator=debug")]
    Filter(String, FilterError),
    /// Somebody else logs already.
    #[error(transparent)]
    Init(#[from] TryInitError),
}

/// What is wrong with a filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// Not the language of filters.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A part that names no level.
    #[error("{0:?} is no level")]
    NoLevel(String),
}

/// The filter of a running process.
pub struct Filter {
    handle: reload::Handle<EnvFilter, Registry>,
    /// What counts where the file says nothing.
    given: String,
}

/// Starts logging; spans of steps go to the tracer, where there is one.
pub fn start(filter: &str, format: Format, tracer: Option<SdkTracer>) -> Result<Filter, LogError> {
    let parsed = parse(filter).map_err(|error| LogError::Filter(filter.to_owned(), error))?;
    let (reloadable, handle) = reload::Layer::new(parsed);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let shown = reloadable.and(filter_fn(is_harmless));
    let lines = match format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_filter(shown).boxed(),
        Format::Json => lines.json().with_filter(shown).boxed(),
    };
    let traces = tracer.map(|tracer| {
        // Spans of steps and nothing else: what is logged stays in the log, whatever its level.
        let spans = filter_fn(|meta| meta.is_span() && meta.target() == trace::TARGET);
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
        layer.with_tracked_inactivity(false).with_level(false).with_target(false).with_filter(spans)
    });
    tracing_subscriber::registry().with(lines).with(traces).try_init()?;
    Ok(Filter { handle, given: filter.to_owned() })
}

/// Not what the API client says of an answer that it cannot read: it says the whole answer, which may be a Secret. The error itself is told
/// by whoever asked.
fn is_harmless(meta: &Metadata<'_>) -> bool {
    meta.target() != "kube_client::client"
}

fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    let parsed = EnvFilter::builder().parse(filter)?;
    // A word without a level would be the name of a module, of which everything is logged, and nothing of all others: `warning`
    // for `warn` would make the operator silent. Commas between brackets are those of a span's fields.
    if !filter.contains('[') {
        for part in filter.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
            if level.is_empty() || level.parse::<LevelFilter>().is_err() {
                return Err(FilterError::NoLevel(part.to_owned()));
            }
        }
    }
    Ok(parsed)
}

/// The filter in a file: its first line that is neither empty nor a comment.
fn first_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))
}

impl Filter {
    /// Follows a file for ever. One that is not there, or is empty, stands for the filter that the process was started with; one
    /// that is wrong changes nothing.
    pub async fn follow(self, file: PathBuf) {
        let mut known = self.given.clone();
        loop {
            let wanted = read(&file).await.unwrap_or_else(|| self.given.clone());
            if wanted != known {
                self.change(&wanted);
                // Also what is wrong: told once.
                known = wanted;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn change(&self, wanted: &str) {
        let filter = match parse(wanted) {
            Ok(filter) => filter,
            Err(error) => {
                tracing::warn!(filter = wanted, %error, "the log filter in the file is wrong; the one before it stays");
                return;
            }
        };
        // Told by the filter that shows it, whichever of the two that is.
        tracing::warn!(filter = wanted, "what is logged changes");
        if let Err(error) = self.handle.reload(filter) {
            tracing::warn!(%error, "the log filter was not changed");
        }
    }
}

async fn read(file: &Path) -> Option<String> {
    let file = file.to_owned();
    let text = tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        let mut text = String::new();
        let file = std::fs::File::open(file).ok()?;
        file.take(LONGEST as u64).read_to_string(&mut text).ok()?;
        Some(text)
    });
    first_line(&text.await.ok()??).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged, and what is said, of a Secret whose answer ends too early.
    async fn of_a_broken_answer(shows: fn(&Metadata<'_>) -> bool) -> String {
        let answer = r#"{"kind": "Secret", "apiVersion": "v1", "data": {"password": "aHVzaGh1c2g="}, "type": {"x"#;
        let service =
            tower::service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::from(answer.as_bytes().to_vec()))) });
        let buffer = Buffer::default();
        let written = buffer.clone();
        let lines = fmt::layer().with_writer(move || buffer.clone()).with_filter(filter_fn(shows));
        let subscriber = tracing_subscriber::registry().with(lines);
        let _guard = tracing::subscriber::set_default(subscriber);
        let read = super::super::secrets::read(&Client::new(service, "shop"), "shop", "web-01-root").await;
        let text = String::from_utf8_lossy(&written.0.lock().unwrap()).into_owned();
        format!("{text}{}", read.err().unwrap())
    }

    #[tokio::test]
    async fn a_secret_that_comes_in_a_broken_answer_is_not_logged() {
        assert!(of_a_broken_answer(|_| true).await.contains("aHVzaGh1c2g="), "the API client says it: what is left out below");
        let told = of_a_broken_answer(is_harmless).await;
        assert!(
            !told.contains("aHVzaGh1c2g=") && told.ends_with("Secret shop/web-01-root: the API server's answer cannot be read"),
            "{told}"
        );
    }

    #[test]
    fn a_file_holds_one_filter_and_comments() {
        assert_eq!(first_line("# the level\n\n  info,dci_operator=debug \nwarn\n"), Some("info,dci_operator=debug"));
        assert_eq!(first_line("# nothing\n\n"), None);
        assert_eq!(first_line(""), None);
    }

    #[test]
    fn filters_are_levels_or_directives() {
        for good in
            ["info", "trace", "INFO", "off", "info,dci_operator=debug", "dci_operator::panel=trace, warn", "[action{server=17}]=debug,info"]
        {
            assert!(parse(good).is_ok(), "{good}");
        }
        // Names of modules to the library: taken as such they would silence everything else.
        for bad in ["dci_operator=loud", "warning", "info,dci_operator", "dci_operator=", "lowd"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
