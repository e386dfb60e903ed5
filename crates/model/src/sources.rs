//! Where time and randomness come from: always an argument, so that a test can say what they give.

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// Gives random bytes fit for keys and passwords.
pub trait Random: Send + Sync + 'static {
    /// Fills a buffer.
    ///
    /// # Errors
    ///
    /// [`RandomError`] when the system's source gives nothing; nothing secret may be made then.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError>;
}

/// The system's source of randomness gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's source of randomness is unavailable")]
pub struct RandomError;
