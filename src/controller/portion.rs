//! Forms that are read one by one, as many as there is time for: a panel of thousands is Ready meanwhile, and its next list goes on with
//! the rest.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::time::{Instant, timeout_at};

use crate::panel::ServerPanel;
use crate::panel::error::PanelError;
use crate::panel::model::{ServerForm, ServerId};

/// How long they are read for one list.
const READING: Duration = Duration::from_mins(1);

/// The forms of these servers, so many at a time; the panel's own limits come on top. A server that is not in the answer was not read.
pub async fn forms(panel: &Arc<dyn ServerPanel>, wanted: Vec<String>, at_a_time: usize) -> Vec<(String, Result<ServerForm, PanelError>)> {
    portion(wanted, at_a_time, |id| async move { panel.server_form(&ServerId(id)).await }).await
}

async fn portion<T, F>(wanted: Vec<String>, at_a_time: usize, read: impl Fn(String) -> F) -> Vec<(String, Result<T, PanelError>)>
where
    F: Future<Output = Result<T, PanelError>>,
{
    let until = Instant::now() + READING;
    let reads = stream::iter(wanted).map(|id| {
        let reading = read(id.clone());
        async move { (id, reading.await) }
    });
    let mut reads = Box::pin(reads.buffer_unordered(at_a_time));
    let mut found = Vec::new();
    while let Ok(Some((id, outcome))) = timeout_at(until, reads.next()).await {
        if let Err(error) = &outcome {
            tracing::debug!(server = %id, %error, "form not read");
            // There is nobody who would answer for the others.
            if error.nobody_there() {
                break;
            }
        }
        found.push((id, outcome));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const AT_A_TIME: usize = 8;

    fn ids(number: usize) -> Vec<String> {
        (0..number).map(|n| n.to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_notes_of_thousands_are_read_in_portions() {
        let slow = |id: String| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let broken = || PanelError::NotADocument { panel: "dci".into(), func: "server.edit".into(), detail: "HTTP 500".into() };
            if id == "3" { Err(broken()) } else { Ok(id) }
        };
        let began = Instant::now();
        let found = portion(ids(5000), AT_A_TIME, slow).await;
        assert_eq!(began.elapsed(), READING, "the handler is ready with what was read");
        assert!((60 * AT_A_TIME - AT_A_TIME..=60 * AT_A_TIME).contains(&found.len()), "{}", found.len());
        let good = |(id, read): &(String, Result<String, PanelError>)| read.as_ref().map_or(id == "3", |read| id == read && id != "3");
        assert!(found.iter().all(good), "one that fails costs the others nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panel_that_goes_down_is_asked_no_more() {
        let asked = AtomicUsize::new(0);
        let down = |_| {
            asked.fetch_add(1, Ordering::Relaxed);
            async { Err::<(), _>(PanelError::Unreachable { panel: "dci".into(), detail: "refused".into() }) }
        };
        assert!(portion(ids(5000), AT_A_TIME, down).await.is_empty());
        assert!(asked.load(Ordering::Relaxed) <= 2 * AT_A_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_before_the_panel_went_down_is_kept() {
        let read = |id: String| async move {
            match id.as_str() {
                "0" => Ok(id),
                "1" => Err(PanelError::Incomplete { panel: "dci".into(), func: "server.edit".into(), what: "a form".into() }),
                _ => Err(PanelError::Unreachable { panel: "dci".into(), detail: "refused".into() }),
            }
        };
        let found = portion(ids(5), 1, read).await;
        assert_eq!(found.iter().map(|(id, read)| (id.as_str(), read.is_ok())).collect::<Vec<_>>(), [("0", true), ("1", false)]);
    }
}
