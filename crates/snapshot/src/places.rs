//! Places for calls that run at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many calls run at once, so many more wait for so long, in the order in which they came. Whatever comes on top is
/// turned away at once: an answer that says so early is worth more than one that comes when nobody waits any more.
#[derive(Debug)]
pub struct CallPlaces {
    limit: usize,
    queue: usize,
    patience: Duration,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// The place of a call that runs; given back when it is dropped.
#[derive(Debug)]
pub struct CallPlace(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// There is no place, and none became free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPlace;

// === impl CallPlaces ===

impl CallPlaces {
    /// Returns places for `limit` calls, and for `queue` more that wait no longer than `patience`.
    pub fn new(limit: usize, queue: usize, patience: Duration) -> Self {
        let (limit, queue) = (limit.min(Semaphore::MAX_PERMITS), queue.min(Semaphore::MAX_PERMITS));
        let (running, waiting) = (Arc::new(Semaphore::new(limit)), Arc::new(Semaphore::new(queue)));
        Self { limit, queue, patience, running, waiting }
    }

    /// Takes a place, and waits for one if the queue has room.
    ///
    /// Dropping the future gives up the place in the queue.
    ///
    /// # Errors
    ///
    /// [`NoPlace`] when the queue is full, or the wait was over.
    pub async fn take(&self) -> Result<CallPlace, NoPlace> {
        // Whoever waits is served first: there is a permit only while nobody does.
        if let Ok(permit) = self.running.clone().try_acquire_owned() {
            return Ok(CallPlace(permit));
        }
        let _waits = self.waiting.try_acquire().map_err(|_| NoPlace)?;
        // Apart, so that a call that need not wait does not carry what waiting takes.
        let free = Box::pin(tokio::time::timeout(self.patience, self.running.clone().acquire_owned()));
        free.await.map_err(|_| NoPlace)?.map(CallPlace).map_err(|_| NoPlace)
    }

    /// Returns how many calls run and how many wait.
    pub fn load(&self) -> (usize, usize) {
        let of = |all: usize, free: &Semaphore| all.saturating_sub(free.available_permits());
        (of(self.limit, &self.running), of(self.queue, &self.waiting))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_place_is_turned_away_at_once_and_what_waits_in_time() {
        let places = CallPlaces::new(1, 1, PATIENCE);
        let running = places.take().await.expect("free");
        let mut waits = pin!(places.take());
        assert!(tokio::time::timeout(Duration::ZERO, waits.as_mut()).await.is_err());
        let started = Instant::now();
        assert_eq!(places.take().await.err(), Some(NoPlace));
        assert_eq!((started.elapsed(), places.load()), (Duration::ZERO, (1, 1)));
        assert_eq!(waits.await.err(), Some(NoPlace));
        assert_eq!((started.elapsed(), places.load()), (PATIENCE, (1, 0)));
        drop(running);
        assert!(places.take().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_to_those_who_wait_in_their_order_and_come_back_from_those_who_leave() {
        let places = CallPlaces::new(1, 3, PATIENCE);
        let running = places.take().await.expect("free");
        let (mut first, mut second) = (Box::pin(places.take()), Box::pin(places.take()));
        for waits in [&mut first, &mut second] {
            assert!(tokio::time::timeout(Duration::ZERO, waits.as_mut()).await.is_err());
        }
        drop(first);
        drop(running);
        let mut late = Box::pin(places.take());
        assert!(tokio::time::timeout(Duration::ZERO, late.as_mut()).await.is_err(), "nobody overtakes");
        drop(second.await.expect("next"));
        assert!(late.await.is_ok());
        assert_eq!(places.load(), (0, 0));
    }
}
