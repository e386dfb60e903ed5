//! Keeps a gateway's snapshot up to date: loads it, follows the change feed, saves it to disk.
//!
//! With the store out of reach a gateway begins with the snapshot on disk, and the follower tries again until it can
//! load. With the store there, too, it begins with what was on disk, as long as the store still has the journal entry that
//! this is as of: what was written since is read, and not everything. Entries of the journal have no gaps, and each names
//! the hash of the one before. Should one be missing or not continue what was read, everything is loaded anew: the
//! database was restored from a backup, or a standby that lagged took over, and what a gateway knows from entries that
//! were lost must not stay.

mod saving;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tollgate_credential::seal::MasterKey;
use tollgate_model::objects::StoredObject;
use tollgate_snapshot::{
    Builder, Disk, KINDS, Loading, LogChanges, ObjectChange, Restored, SharedSnapshot, Snapshot,
};
use tollgate_store::{Hash, JournalEntry, ReadError, Store};

use saving::Saving;

/// Entries read at once. An entry may hold a thousand objects: many of those together would take much memory.
const BATCH: u32 = 100;
/// Shortest and longest wait before another attempt.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Entries that say nothing to a gateway, after which is saved that they were read.
const SILENT: u64 = 1_000;

/// Follows the store for a gateway.
pub struct Follower {
    store: Store,
    master: Arc<MasterKey>,
    shared: Arc<SharedSnapshot>,
    path: Option<PathBuf>,
    /// What is on disk and was not followed yet.
    restored: Mutex<Option<Restored>>,
    /// Up to which entry was followed since the start.
    followed: watch::Sender<Option<u64>>,
}

/// A snapshot that is as of an entry of the journal.
struct Position {
    builder: Builder,
    seq: u64,
    hash: Hash,
}

// === impl Follower ===

impl Follower {
    /// Makes a follower that publishes in `shared`, opens what is sealed with `master`, and keeps the snapshot in the file
    /// `path`.
    pub fn new(
        store: Store,
        master: Arc<MasterKey>,
        shared: Arc<SharedSnapshot>,
        path: Option<PathBuf>,
    ) -> Self {
        Self { store, master, shared, path, restored: Mutex::default(), followed: watch::Sender::new(None) }
    }

    /// Begins with what was on disk, and was published already.
    #[must_use]
    pub fn beginning_with(self, restored: Option<Restored>) -> Self {
        Self { restored: Mutex::new(restored), ..self }
    }

    /// Returns up to which entry the store was followed since the start: what is published is at least as new, and is what
    /// the store says.
    pub fn followed(&self) -> watch::Receiver<Option<u64>> {
        self.followed.subscribe()
    }

    /// Follows until `shutdown` turns true or its sender is dropped; what is known then is on disk when it returns.
    pub async fn run(&self, mut shutdown: watch::Receiver<bool>) {
        let restored = self.restored.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (begun, disk) = match restored {
            Some(Restored { builder, hash, disk, .. }) => {
                let seq = builder.current().seq;
                (Some(Position { builder, seq, hash }), Some(disk))
            }
            None => (None, self.path.clone().map(|path| Disk::new(path, Arc::clone(&self.master)))),
        };
        let saving = Saving::new(disk);
        tokio::select! {
            () = self.follow(begun, &saving) => {}
            () = saving.run() => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
        saving.finish().await;
    }

    async fn follow(&self, mut begun: Option<Position>, saving: &Saving) {
        let mut wait = WAITS.0;
        loop {
            match self.follow_once(&mut begun, &mut wait, saving).await {
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
        begun: &mut Option<Position>,
        wait: &mut Duration,
        saving: &Saving,
    ) -> Result<(), ReadError> {
        let mut head = self.store.watch();
        let mut problems = Vec::new();
        let Position { mut builder, mut seq, hash: mut last_hash } = match self.go_on(begun).await? {
            Some(position) => position,
            None => {
                let Some(position) = self.load().await? else { return Ok(()) };
                saving.add_all(position.builder.image(position.hash));
                position
            }
        };
        self.publish(builder.current(), &mut problems);
        let mut saved = seq;
        loop {
            *wait = WAITS.0;
            let entries = match self.store.changes_after(seq, BATCH).await {
                Ok(entries) => entries,
                Err(error) => {
                    if let ReadError::Unavailable(_) = error {
                        // It goes on from here when the store is back, and need not read everything.
                        *begun = Some(Position { builder, seq, hash: last_hash });
                    }
                    return Err(error);
                }
            };
            if entries.is_empty() {
                self.followed.send_replace(Some(seq));
                match head.wait_for(|head| *head != seq).await.map(|head| *head) {
                    Ok(head) if head > seq => continue,
                    _ => return Ok(()),
                }
            }
            let mut news = Vec::new();
            for entry in entries {
                if entry.seq != seq + 1 || last_hash != entry.previous_hash {
                    return Ok(());
                }
                (seq, last_hash) = (entry.seq, entry.hash);
                let changes = changes(entry);
                // Most entries say nothing to a gateway, as those of refused attempts.
                news.extend(changes.iter().filter(|change| KINDS.contains(&change.kind)).cloned());
                self.publish(builder.apply(seq, changes), &mut problems);
            }
            self.followed.send_replace(Some(seq));
            if !news.is_empty() || seq - saved >= SILENT {
                saved = seq;
                saving.add(LogChanges { seq, hash: last_hash, changes: news }, || builder.image(last_hash));
            }
        }
    }

    /// Returns what was on disk, when the store has the journal entry that it is as of.
    async fn go_on(&self, begun: &mut Option<Position>) -> Result<Option<Position>, ReadError> {
        let Some(position) = begun.as_ref() else { return Ok(None) };
        let known = self.store.hash_at(position.seq).await?;
        let position = begun.take().filter(|position| known == Some(position.hash));
        if position.is_none() {
            tracing::warn!("the snapshot on disk is not of this store: loading everything");
        }
        Ok(position)
    }

    /// Loads everything; `None` when what it is made of panics.
    async fn load(&self) -> Result<Option<Position>, ReadError> {
        let (parts, mut coming) = mpsc::channel::<Vec<StoredObject>>(1);
        let mut loading = Loading::new(Arc::clone(&self.master));
        // Parsing everything and compiling every flow takes a while: no serving thread does it.
        let taking = tokio::task::spawn_blocking(move || {
            while let Some(part) = coming.blocking_recv() {
                part.into_iter().for_each(|object| loading.add(object));
            }
            loading
        });
        let loaded = self.store.load_in_parts(KINDS, parts).await;
        let taken = taking.await;
        let (seq, hash) = loaded?;
        let Ok(loading) = taken else { return Ok(None) };
        let Ok(builder) = tokio::task::spawn_blocking(move || loading.finish(seq)).await else {
            return Ok(None);
        };
        Ok(Some(Position { builder, seq, hash }))
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
