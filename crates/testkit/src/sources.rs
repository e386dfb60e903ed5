//! Time and randomness that a test decides.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use tollgate_model::sources::{Clock, Random, RandomError};

/// A clock that stands still until it is moved; clones share it.
#[derive(Debug, Clone)]
pub struct FixedClock(Arc<Mutex<Timestamp>>);

/// Bytes that look random and are the same in every run (SplitMix64); clones continue one sequence.
#[derive(Debug, Clone)]
pub struct SeededRandom(Arc<AtomicU64>);

// === impl FixedClock ===

impl FixedClock {
    /// Makes a clock that shows an RFC 3339 time.
    ///
    /// # Panics
    ///
    /// When the text is not such a time.
    pub fn at(time: &str) -> Self {
        Self::new(time.parse().expect("an RFC 3339 timestamp"))
    }

    /// Makes a clock that shows this time.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// Moves the clock to a time, which may lie in the past.
    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Default for FixedClock {
    fn default() -> Self {
        Self::at("2026-01-01T00:00:00Z")
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl SeededRandom ===

impl SeededRandom {
    /// Makes a source whose bytes follow from the seed alone.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_moves_only_when_told_and_its_clones_follow() {
        let clock = FixedClock::default();
        let other = clock.clone();
        let before = other.now();
        clock.advance(Duration::from_secs(90));
        assert_eq!(other.now().as_second() - before.as_second(), 90);
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        let draw = |seed| {
            let mut bytes = [0; 13];
            SeededRandom::new(seed).fill(&mut bytes).map(|()| bytes)
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
