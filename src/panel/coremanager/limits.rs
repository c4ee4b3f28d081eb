//! Bounds the requests to one panel: so many per second, so many at a time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// A token bucket that holds one second's worth, and a semaphore.
pub(super) struct Limiter {
    slots: Semaphore,
    pace: Option<Pace>,
}

struct Pace {
    interval: Duration,
    burst: Duration,
    /// When the bucket would be full again if nobody asked; moves on with every request, also while nobody waits for it.
    full_at: Mutex<Instant>,
}

impl Limiter {
    /// Zero is no limit.
    pub(super) fn new(requests_per_second: u32, max_concurrent: usize) -> Self {
        let slots = if max_concurrent == 0 { Semaphore::MAX_PERMITS } else { max_concurrent.min(Semaphore::MAX_PERMITS) };
        let pace = (requests_per_second > 0).then(|| {
            let interval = Duration::from_secs(1) / requests_per_second;
            Pace { interval, burst: Duration::from_secs(1).saturating_sub(interval), full_at: Mutex::new(Instant::now()) }
        });
        Self { slots: Semaphore::new(slots), pace }
    }

    /// Waits until a request may be sent. The permit is held for as long as the request takes.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed; should it ever be, requests go on without a bound rather than not at all.
        let permit = self.slots.acquire().await.ok();
        if let Some(pace) = &self.pace {
            tokio::time::sleep_until(pace.reserve(Instant::now())).await;
        }
        permit
    }
}

impl Pace {
    /// Takes a token and tells from when on it may be used.
    fn reserve(&self, now: Instant) -> Instant {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*full_at).max(now);
        *full_at = start + self.interval;
        start.checked_sub(self.burst).map_or(now, |at| at.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_second_s_worth_at_once_then_evenly() {
        let limiter = Limiter::new(10, 0);
        let began = Instant::now();
        for _ in 0..10 {
            drop(limiter.permit().await);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            drop(limiter.permit().await);
        }
        assert!(began.elapsed() >= Duration::from_millis(990), "{:?}", began.elapsed());
        assert!(began.elapsed() <= Duration::from_millis(1050), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit() {
        let limiter = Limiter::new(0, 0);
        let began = Instant::now();
        let mut held = Vec::new();
        for _ in 0..1000 {
            held.push(limiter.permit().await);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_at_a_time() {
        let limiter = Limiter::new(0, 2);
        let first = limiter.permit().await;
        let _second = limiter.permit().await;
        assert!(tokio::time::timeout(Duration::from_secs(1), limiter.permit()).await.is_err());
        drop(first);
        assert!(tokio::time::timeout(Duration::from_secs(1), limiter.permit()).await.is_ok());
    }
}
