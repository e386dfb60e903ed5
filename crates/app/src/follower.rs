//! Keeps a gateway's snapshot up to date: loads it, follows the change feed, saves it to disk.
//!
//! With the store out of reach a gateway begins with the snapshot on disk, and the follower tries again until it can
//! load. Entries of the journal have no gaps, and each names the hash of the one before. Should one be missing or not
//! continue what was read, everything is loaded anew: the database was restored from a backup, or a standby that lagged
//! took over, and what a gateway knows from entries that were lost must not stay.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tollgate_credential::seal::MasterKey;
use tollgate_snapshot::{Builder, Image, KINDS, ObjectChange, SharedSnapshot, Snapshot};
use tollgate_store::{JournalEntry, ReadError, Store};

/// Entries read at once.
const BATCH: u32 = 500;
/// Shortest and longest wait before another attempt.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Follows the store for a gateway.
pub struct Follower {
    /// What to follow.
    pub store: Store,
    /// Opens what is sealed.
    pub master: Arc<MasterKey>,
    /// Where the snapshot is published.
    pub shared: Arc<SharedSnapshot>,
    /// Where it is kept on disk.
    pub path: Option<PathBuf>,
}

// === impl Follower ===

impl Follower {
    /// Publishes the snapshot on disk, so that calls are answered before the store is.
    ///
    /// Returns whether there was one that could be read.
    pub async fn restore(&self) -> bool {
        let Some(path) = self.path.clone() else { return false };
        let master = Arc::clone(&self.master);
        match tokio::task::spawn_blocking(move || Builder::restore(&path, master)).await {
            Ok(Ok(builder)) => {
                self.shared.publish(builder.current());
                true
            }
            Ok(Err(error)) => {
                tracing::info!(%error, "no snapshot on disk to begin with");
                false
            }
            Err(_) => false,
        }
    }

    /// Follows until `shutdown` turns true or its sender is dropped; what is known then is on disk when it returns.
    pub async fn run(&self, mut shutdown: watch::Receiver<bool>) {
        let (images, latest) = watch::channel(None);
        let disk = Arc::default();
        tokio::select! {
            () = self.follow(&images) => {}
            () = self.save_each(latest, &disk) => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
        let last = images.borrow().clone();
        if let Some(image) = last {
            self.save(image, &disk).await;
        }
    }

    async fn follow(&self, images: &watch::Sender<Option<Image>>) {
        let mut wait = WAITS.0;
        loop {
            match self.follow_once(&mut wait, images).await {
                Ok(()) => tracing::warn!("the change feed is broken off: loading everything anew"),
                Err(ReadError::Unavailable(error)) => {
                    tracing::warn!(%error, "the store is out of reach: serving the last snapshot");
                }
                Err(error @ ReadError::Row(_)) => {
                    tracing::error!(%error, "the store cannot be followed: serving the last snapshot");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    /// Loads and follows; ends without an error when an entry is missing, or does not continue the one before.
    async fn follow_once(
        &self,
        wait: &mut Duration,
        images: &watch::Sender<Option<Image>>,
    ) -> Result<(), ReadError> {
        let mut head = self.store.watch();
        let (mut seq, objects) = self.store.load(KINDS).await?;
        let master = Arc::clone(&self.master);
        // Compiling every flow takes a while: no serving thread does it.
        let Ok(mut builder) = tokio::task::spawn_blocking(move || Builder::load(seq, objects, master)).await
        else {
            return Ok(());
        };
        let mut last_hash = None;
        let mut problems = Vec::new();
        self.publish(builder.current(), &mut problems);
        images.send_replace(Some(builder.image()));
        loop {
            *wait = WAITS.0;
            let entries = self.store.changes_after(seq, BATCH).await?;
            if entries.is_empty() {
                match head.wait_for(|head| *head != seq).await.map(|head| *head) {
                    Ok(head) if head > seq => continue,
                    _ => return Ok(()),
                }
            }
            // Most entries say nothing to a gateway, as those of refused attempts: nothing is saved for them.
            let mut news = false;
            for entry in entries {
                if entry.seq != seq + 1 || last_hash.is_some_and(|hash| hash != entry.previous_hash) {
                    return Ok(());
                }
                seq = entry.seq;
                last_hash = Some(entry.hash);
                let changes = changes(entry);
                news |= changes.iter().any(|change| KINDS.contains(&change.kind));
                self.publish(builder.apply(seq, changes), &mut problems);
            }
            if news {
                images.send_replace(Some(builder.image()));
            }
        }
    }

    /// Publishes a snapshot, and says in the log what of it has just broken.
    fn publish(&self, snapshot: Arc<Snapshot>, known: &mut Vec<String>) {
        for problem in snapshot.problems().iter().filter(|problem| !known.contains(problem)) {
            tracing::error!(
                problem,
                "a part of the configuration is broken: calls that need it are answered 503"
            );
        }
        *known = snapshot.problems().to_vec();
        self.shared.publish(snapshot);
    }

    /// Saves the latest image whenever there is a new one, beside the following: a large one takes a while to write,
    /// and no revocation waits for that.
    async fn save_each(&self, mut images: watch::Receiver<Option<Image>>, disk: &Arc<Mutex<()>>) {
        while images.changed().await.is_ok() {
            let image = images.borrow_and_update().clone();
            if let Some(image) = image {
                self.save(image, disk).await;
            }
        }
    }

    /// Saves to disk, one image after the other; a failure costs only the next start without a store.
    ///
    /// When the future is dropped the writing goes on, and the next waits for it.
    async fn save(&self, image: Image, disk: &Arc<Mutex<()>>) {
        let Some(path) = self.path.clone() else { return };
        let disk = Arc::clone(disk);
        let write = move || {
            let _one_at_a_time = disk.lock().unwrap_or_else(PoisonError::into_inner);
            image.save(&path)
        };
        let saved = tokio::task::spawn_blocking(write).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "the snapshot could not be saved to disk");
        }
    }
}

fn changes(entry: JournalEntry) -> Vec<ObjectChange> {
    let JournalEntry { realm, mutations, .. } = entry;
    mutations
        .into_iter()
        .map(|mutation| ObjectChange {
            realm: realm.clone(),
            kind: mutation.kind,
            key: mutation.key,
            body: mutation.body,
        })
        .collect()
}
