//! The data plane.
#![expect(dead_code, reason = "wip")]
mod body;
mod bounded;
mod cors;
mod passwords;
mod problem;
mod rate_limits;
mod request;
mod server;
mod upstreams;
mod usage;

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
