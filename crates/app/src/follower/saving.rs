//! Saves to disk what is published, beside the following: no change waits for a disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tollgate_snapshot::{Disk, Image, LogChanges, ObjectChange};

/// What is written at once comes together for so long: a hundred changes a second are twenty records.
const TOGETHER: Duration = Duration::from_millis(50);
/// How often the disk is told to keep what was written.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Bytes of changes that may wait. A disk that is slower gets all there is instead, once.
const WAITING: usize = 4 << 20;

/// What is to be saved, and where.
pub(super) struct Saving {
    /// `None` when nothing is kept on disk.
    disk: Option<Arc<Mutex<Disk>>>,
    waiting: Arc<Mutex<Waiting>>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Everything, as of the last change.
    image: Option<Image>,
    /// What changed since the last time; `None` when everything must be written.
    changes: Option<LogChanges>,
    bytes: usize,
}

// === impl Saving ===

impl Saving {
    pub(super) fn new(disk: Option<Disk>) -> Self {
        let disk = disk.map(|disk| Arc::new(Mutex::new(disk)));
        Self { disk, waiting: Arc::default(), news: Notify::new() }
    }

    /// Has everything saved.
    pub(super) fn add_all(&self, image: Image) {
        if self.disk.is_some() {
            *lock(&self.waiting) = Waiting { image: Some(image), changes: None, bytes: 0 };
            self.news.notify_one();
        }
    }

    /// Has a change saved; `image` makes everything, as of then.
    pub(super) fn add(&self, new: LogChanges, image: impl FnOnce() -> Image) {
        if self.disk.is_none() {
            return;
        }
        let mut waiting = lock(&self.waiting);
        let bytes = new.changes.iter().map(size).sum::<usize>();
        let changes = match (waiting.image.take(), waiting.changes.take()) {
            (Some(_), None) => None,
            (_, Some(_)) if waiting.bytes + bytes > WAITING => None,
            (_, Some(mut before)) => {
                before.changes.extend(new.changes);
                Some(LogChanges { seq: new.seq, hash: new.hash, changes: before.changes })
            }
            (None, None) => Some(new),
        };
        waiting.bytes = if changes.is_some() { waiting.bytes + bytes } else { 0 };
        waiting.changes = changes;
        waiting.image = Some(image());
        drop(waiting);
        self.news.notify_one();
    }

    /// Saves whenever there is something, for ever.
    pub(super) async fn run(&self) {
        let mut sync = tokio::time::interval(SYNC_EVERY);
        sync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.news.notified() => {
                    tokio::time::sleep(TOGETHER).await;
                    self.save(false).await;
                }
                _ = sync.tick() => self.save(true).await,
            }
        }
    }

    /// Saves what is left.
    pub(super) async fn finish(&self) {
        self.save(true).await;
    }

    /// Saves what waits, one after the other; a failure costs only the next start.
    ///
    /// When the future is dropped the writing goes on, and the next waits for it.
    async fn save(&self, sync: bool) {
        let Some(disk) = self.disk.clone() else { return };
        let waiting = Arc::clone(&self.waiting);
        let write = move || {
            let mut disk = lock(&disk);
            // Taken by whoever has the disk, so that what came first is written first.
            let Waiting { image, changes, .. } = std::mem::take(&mut *lock(&waiting));
            if let Some(image) = image {
                let appended = match changes {
                    Some(changes) if !disk.wants_all() => disk.append(&changes)?,
                    _ => false,
                };
                if !appended {
                    disk.save(&image)?;
                }
            }
            if sync { disk.sync() } else { Ok(()) }
        };
        let saved = tokio::task::spawn_blocking(write).await;
        if let Ok(Err(error)) = saved {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the snapshot could not be saved to disk");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(change: &ObjectChange) -> usize {
    change.key.len() + change.body.as_ref().map_or(0, String::len)
}
