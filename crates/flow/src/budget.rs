//! What one step of a run may cost.
//!
//! One expression is bounded by itself, but a step may hold thousands of them, and a message that names the last
//! message twice doubles with every step. So each step has a budget of work and of data, and a run that has
//! worked for a while lets other calls, and the clock of its own timeout, have their turn before the next step.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;

use serde_json::Value;
use tollgate_expression::{Meter, VALUE_BYTES, weigh};

/// Most work of one step: about a second.
const MAX_STEP_WORK: u64 = 80_000_000;
/// Most data that one step may make, in bytes of memory: twice the largest body and more.
pub(crate) const MAX_STEP_BYTES: u64 = 256 << 20;
/// Deepest nesting of a message: what a body may nest, the first message around it, and one template.
const MAX_NESTING: usize = 200;
/// Work after which a run lets others have their turn: about ten milliseconds.
const PAUSE_AFTER: u64 = 1_000_000;
/// Bytes that are copied in the time of one unit of work.
const BYTES_PER_WORK: u64 = 256;

/// What is spent of a step's budget. Shared by the expressions of one run, which run one after the other.
#[derive(Debug)]
pub(crate) struct Budget {
    max_bytes: u64,
    work: AtomicU64,
    bytes: AtomicU64,
    since_pause: AtomicU64,
}

// === impl Budget ===

impl Meter for Budget {
    fn spend_text(&self, text: &str) -> Result<(), String> {
        self.spend_bytes(VALUE_BYTES + text.len() as u64)
    }
}

impl Budget {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, work: AtomicU64::new(0), bytes: AtomicU64::new(0), since_pause: AtomicU64::new(0) }
    }

    /// Begins the next step.
    pub(crate) async fn begin_step(&self) {
        self.work.store(0, Relaxed);
        self.bytes.store(0, Relaxed);
        if self.since_pause.load(Relaxed) >= PAUSE_AFTER {
            self.since_pause.store(0, Relaxed);
            pause().await;
        }
    }

    /// Spends work.
    ///
    /// # Errors
    ///
    /// A sentence when the step has spent all that it has.
    pub(crate) fn spend_work(&self, work: u64) -> Result<(), String> {
        self.since_pause.fetch_add(work, Relaxed);
        if self.work.fetch_add(work, Relaxed).saturating_add(work) > MAX_STEP_WORK {
            return Err("the step would take too long on this much data".to_owned());
        }
        Ok(())
    }

    /// Spends the memory of a value, before it is copied.
    ///
    /// # Errors
    ///
    /// A sentence when the step would make more data than it may.
    pub(crate) fn spend_value(&self, value: &Value) -> Result<(), String> {
        self.spend_bytes(weigh(value))
    }

    fn spend_bytes(&self, bytes: u64) -> Result<(), String> {
        self.spend_work(bytes / BYTES_PER_WORK)?;
        if self.bytes.fetch_add(bytes, Relaxed).saturating_add(bytes) > self.max_bytes {
            return Err("the step would make too much data".to_owned());
        }
        Ok(())
    }
}

/// Tells whether a message nests so deep that whoever walks it could exhaust the stack.
pub(crate) fn is_too_deep(message: &Value) -> bool {
    fn within(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left > 0 && items.iter().all(|item| within(item, left - 1)),
            Value::Object(fields) => left > 0 && fields.values().all(|field| within(field, left - 1)),
            _ => true,
        }
    }
    !within(message, MAX_NESTING)
}

/// Gives way once.
async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
