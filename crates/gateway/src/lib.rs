//! The data plane: parses, routes, checks, limits, runs, answers.
//!
//! A call sees one [`tollgate_snapshot::Snapshot`] from its beginning to its end and never the store. It goes through
//! these modules, in this order:
//!
//! 1. [`server`]: the connection, with its limits and timeouts;
//! 2. [`request`]: the head of the request, which must have one reading only;
//! 3. [`gateway`]: route, method, CORS preflight, declared length;
//! 4. [`checks`]: credentials and rate limits; their outcome is a `Permit`;
//! 5. [`flows`]: the body, then the flow, which demands the permit.
//!
//! Whatever refuses the call on its way answers with a [`problem`].

mod body;
mod bounded;
mod checks;
mod cors;
mod flows;
mod gateway;
mod pages;
mod passwords;
mod problem;
mod rate_limits;
mod request;
mod server;
mod upstreams;
mod usage;

pub use gateway::{Gateway, GatewaySettings, ListenerId, REQUEST_ID, ScheduledRun};
pub use problem::{Answer, Code, TOLLGATE_ERROR};
pub use server::ListenerSettings;
pub use usage::Usage;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tollgate_model::sources::{Random, RandomError};

    /// Bytes that are never the same twice in a run.
    #[derive(Default)]
    pub(crate) struct Counter(AtomicU64);

    impl Random for Counter {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
            for chunk in buffer.chunks_mut(32) {
                let n = self.0.fetch_add(1, Ordering::Relaxed);
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &n.to_be_bytes());
                chunk.copy_from_slice(&digest.as_ref()[..chunk.len()]);
            }
            Ok(())
        }
    }
}
