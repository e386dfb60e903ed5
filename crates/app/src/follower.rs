//! Keeps a gateway's snapshot up to date: loads it, follows the change feed, saves it to disk.
//!
//! With the store out of reach a gateway begins with the snapshot on disk, and the follower tries again until it can
//! load. Entries of the journal have no gaps; should one be missing all the same, everything is loaded anew.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_credential::seal::MasterKey;
use tollgate_snapshot::{Builder, KINDS, ObjectChange, SharedSnapshot};
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

    /// Follows until `shutdown` turns true or its sender is dropped.
    pub async fn run(&self, mut shutdown: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow() => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }

    async fn follow(&self) {
        let mut wait = WAITS.0;
        loop {
            match self.follow_once(&mut wait).await {
                Ok(()) => tracing::warn!("the change feed has a gap: loading everything anew"),
                Err(error) => tracing::warn!(%error, "the store is out of reach: serving the last snapshot"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    /// Loads and follows; ends without an error when an entry is missing.
    async fn follow_once(&self, wait: &mut Duration) -> Result<(), ReadError> {
        let mut head = self.store.watch();
        let (mut seq, objects) = self.store.load(KINDS).await?;
        let master = Arc::clone(&self.master);
        // Compiling every flow takes a while: no serving thread does it.
        let Ok(mut builder) = tokio::task::spawn_blocking(move || Builder::load(seq, objects, master)).await
        else {
            return Ok(());
        };
        self.shared.publish(builder.current());
        builder = self.save(builder).await;
        loop {
            *wait = WAITS.0;
            let entries = self.store.changes_after(seq, BATCH).await?;
            if entries.is_empty() {
                if head.wait_for(|head| *head > seq).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            for entry in entries {
                if entry.seq != seq + 1 {
                    return Ok(());
                }
                seq = entry.seq;
                self.shared.publish(builder.apply(seq, changes(entry)));
            }
            builder = self.save(builder).await;
        }
    }

    /// Saves to disk; a failure costs only the next start without a store.
    async fn save(&self, builder: Builder) -> Builder {
        let Some(path) = self.path.clone() else { return builder };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = builder.save(&path) {
                tracing::warn!(%error, "the snapshot could not be saved to disk");
            }
            builder
        })
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
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
