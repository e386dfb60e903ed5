//! Random bytes for the ids of calls: nothing secret, so they are drawn many at a time.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_model::sources::{Random, RandomError};

/// Bytes of one id.
pub(crate) const ID_BYTES: usize = 10;
/// Ids that are drawn at once.
const AT_ONCE: usize = 64;

static SOURCES: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static DRAWN: RefCell<Drawn> = const { RefCell::new(Drawn { by: 0, bytes: [0; ID_BYTES * AT_ONCE], left: 0 }) };
}

/// Where the ids of one gateway come from. What was drawn and not used waits in the thread that drew it.
pub(crate) struct IdSource(u64);

struct Drawn {
    /// The source that drew them.
    by: u64,
    bytes: [u8; ID_BYTES * AT_ONCE],
    /// How many ids are left.
    left: usize,
}

// === impl IdSource ===

impl IdSource {
    pub(crate) fn new() -> Self {
        Self(SOURCES.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns bytes that were never returned before.
    ///
    /// # Errors
    ///
    /// [`RandomError`] when there is no randomness.
    pub(crate) fn next(&self, random: &dyn Random) -> Result<[u8; ID_BYTES], RandomError> {
        DRAWN.with_borrow_mut(|drawn| {
            if drawn.by != self.0 || drawn.left == 0 {
                // Until it is known that they are there, none is.
                drawn.left = 0;
                random.fill(&mut drawn.bytes)?;
                (drawn.by, drawn.left) = (self.0, AT_ONCE);
            }
            drawn.left -= 1;
            Ok(drawn.bytes.as_chunks().0.get(drawn.left).copied().unwrap_or_default())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::AtomicBool;

    use tollgate_testkit::SeededRandom;

    use super::*;

    #[test]
    fn no_bytes_come_twice_whoever_asks_in_between() {
        let (random, one, other) = (SeededRandom::new(7), IdSource::new(), IdSource::new());
        let mut all = HashSet::new();
        for n in 0..AT_ONCE * 3 {
            for source in if n % 7 == 0 { [&one, &other] } else { [&one, &one] } {
                assert!(all.insert(source.next(&random).expect("random")), "{n}");
            }
        }
    }

    #[test]
    fn what_could_not_be_drawn_is_not_given_out() {
        struct Dry(AtomicBool);
        impl Random for Dry {
            fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
                buffer.fill(1);
                if self.0.swap(true, Ordering::Relaxed) { Err(RandomError) } else { Ok(()) }
            }
        }
        let (source, random) = (IdSource::new(), Dry(AtomicBool::new(false)));
        for _ in 0..AT_ONCE {
            assert!(source.next(&random).is_ok());
        }
        assert!(source.next(&random).is_err());
        assert!(source.next(&random).is_err());
    }
}
