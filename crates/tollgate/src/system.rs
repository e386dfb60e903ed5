//! The system's clock and source of randomness.

use jiff::Timestamp;
use tollgate_model::sources::{Clock, Random, RandomError};

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemClock;

/// The system's source of randomness, through aws-lc.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemRandom;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one clock that the binary passes in")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        aws_lc_rs::rand::fill(buffer).map_err(|_| RandomError)
    }
}
