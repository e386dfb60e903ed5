//! Tasks that must not end: started again when they panic.
//!
//! A follower that is gone leaves the gateway with a snapshot that nobody renews: keys that are revoked would work for
//! ever. So a panic is said in the log and the task begins anew.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

/// How long to wait before a task that panicked begins anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs what `make` gives, again after each panic, until it ends by itself or `shutdown` turns true.
///
/// Dropping the future ends the task.
pub(crate) async fn supervise<F>(
    name: &'static str,
    mut shutdown: watch::Receiver<bool>,
    make: impl Fn() -> F + Send,
) where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let mut task = AbortOnDrop(tokio::spawn(make()));
        match (&mut task.0).await {
            Err(error) if error.is_panic() && !*shutdown.borrow() => {
                tracing::error!(task = name, "a task panicked and begins anew");
            }
            _ => return,
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_begins_anew_until_it_ends_by_itself() {
        let (_stop, shutdown) = watch::channel(false);
        let runs = Arc::new(AtomicUsize::new(0));
        let make = {
            let runs = runs.clone();
            move || {
                let run = runs.fetch_add(1, Ordering::Relaxed);
                async move { assert!(std::hint::black_box(run) == 2, "on purpose") }
            }
        };
        supervise("test", shutdown, make).await;
        assert_eq!(runs.load(Ordering::Relaxed), 3);
    }
}
