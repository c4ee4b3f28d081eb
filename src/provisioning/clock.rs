//! Times in a status that have not come yet: the clock was ahead when they were written, and was put back since.
//!
//! Whatever counts from such a time would wait until the clock is there once more. So it counts from now, at the latest: nothing gets less
//! time than it is due, and nothing waits for hours.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::common::Time;
use crate::api::order::OrderStatus;

use super::context::after;
use super::order::Handler;

/// Two replicas on two nodes may differ by so much without anybody having touched a clock: nothing is written for that.
const SKEW: Duration = Duration::from_mins(1);

/// The next attempt may be so far away, whatever the interval is: of an order without its handler that is not known.
const LONGEST: Duration = Duration::from_hours(1);

/// Puts every time that something counts from, and lies ahead, to now, and bounds the time of the next attempt.
pub(super) fn put_right(status: &mut OrderStatus, handler: &Handler, now: Timestamp) {
    let ahead = |time: &Time| time.0 > after(now, SKEW);
    let counted = status.attempts_for.iter_mut().flat_map(|a| [Some(&mut a.since), a.last.as_mut(), a.done_at.as_mut()]).flatten();
    let steps = status.steps.iter_mut().flat_map(|s| [s.started_at.as_mut(), s.finished_at.as_mut()]).flatten();
    let calls = status.in_flight.iter_mut().map(|f| &mut f.since);
    let waits = status.waiting_on.iter_mut().map(|w| &mut w.since);
    for time in counted.chain(steps).chain(calls).chain(waits).filter(|time| ahead(time)) {
        *time = Time::seconds(now);
    }
    // Attempts are spread by a tenth of the interval.
    let latest = after(now, handler.retry_interval.saturating_mul(2).max(LONGEST));
    status.next_retry_time = status.next_retry_time.map(|at| at.min(Time::seconds(latest)));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn handler() -> Handler {
        Handler { retry_interval: Duration::from_mins(5), ..Handler::placeholder() }
    }

    #[test]
    fn what_counts_from_a_time_that_has_not_come_counts_from_now() {
        let status = |time: &str| -> OrderStatus {
            serde_json::from_value(json!({
                "steps": [{"name": "PowerOn", "state": "Running", "startedAt": time, "finishedAt": time}],
                "attempts": 1,
                "attemptsFor": {"step": "PowerOn", "intent": "i", "call": "powerOn", "target": "server/17", "since": time,
                    "last": time, "doneAt": time},
                "inFlight": {"operationId": "1", "step": "PowerOn", "call": "powerOn", "target": "server/17", "attempt": 1,
                    "since": time, "outcome": "Ambiguous"},
                "waitingOn": {"kind": "Panel", "name": "p", "since": time, "message": "m"},
                "nextRetryTime": time,
            }))
            .unwrap()
        };
        let now: Timestamp = "2026-11-30T10:00:00Z".parse().unwrap();
        for (time, stands) in [
            ("2026-11-30T09:00:00Z", true),
            ("2026-11-30T10:00:30Z", true),
            ("2026-11-30T10:01:00Z", true),
            ("2026-11-30T12:00:00Z", false),
        ] {
            let mut found = status(time);
            put_right(&mut found, &handler(), now);
            let mut expected = status(if stands { time } else { "2026-11-30T10:00:00Z" });
            let next = if stands { time } else { "2026-11-30T11:00:00Z" };
            expected.next_retry_time = Some(Time(next.parse().unwrap()));
            assert_eq!(found, expected, "{time}");
        }
    }
}
