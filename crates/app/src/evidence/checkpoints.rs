//! Making checkpoints, and keeping them in two places: the store, and a file that is not in it.
//!
//! Whoever can write the database can delete checkpoints there, too. Each process keeps what it sees in a file of its
//! own as well. A checkpoint that several processes make at once is kept once in the store.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::sync::Mutex;
use tollgate_credential::evidence::checkpoints::{Checkpoint, SignedCheckpoint, origin, split};
use tollgate_credential::evidence::keys::EvidenceKeys;
use tollgate_model::hex::hex;
use tollgate_model::next_steps::NextStep;

use super::Evidence;
use crate::App;
use crate::access::{Op, Permission};
use crate::errors::{Error, ErrorKind};

/// Where a process keeps checkpoints besides the store.
pub trait CheckpointFile: Send + Sync + 'static {
    /// Returns its name, for people.
    fn name(&self) -> String;

    /// Returns all that was ever appended; nothing when there is no file yet.
    ///
    /// # Errors
    ///
    /// When it can't be read.
    fn read(&self) -> io::Result<String>;

    /// Appends a checkpoint, on disk when this returns.
    ///
    /// # Errors
    ///
    /// When it can't be written whole.
    fn append(&self, note: &str) -> io::Result<()>;
}

/// A checkpoint that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCheckpoint {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The key that signed.
    pub kid: String,
    /// The signed text.
    pub note: String,
}

/// The file of this process, and the checkpoint that was appended to it last.
#[derive(Default)]
pub(crate) struct KeptCheckpoints {
    file: OnceLock<Arc<dyn CheckpointFile>>,
    last: Mutex<Option<(u64, [u8; 32])>>,
}

// === impl Evidence ===

impl Evidence {
    /// Keeps checkpoints in this file as well, from now on; the first file given stays.
    pub fn keep_in(&self, file: Arc<dyn CheckpointFile>) {
        let _ = self.0.0.checkpoints.file.set(file);
    }

    /// Returns a checkpoint of the journal as it is now: the newest, or a new one when there are entries after it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn checkpoint(&self, op: &Op) -> Result<KeptCheckpoint, Error> {
        op.demand(Permission::AuditRead)?;
        let (entries, hash) = self.0.store().head_hash().await?;
        let kept = match self.newest().await? {
            Some(newest) if (newest.checkpoint.entries, newest.checkpoint.hash) == (entries, hash) => newest,
            _ => {
                let signer = self.0.evidence_signer(op.now).await?.value;
                let origin = self.0.journal_origin().await?;
                let checkpoint = Checkpoint { origin, entries, hash, at: op.now };
                let note = checkpoint.sign(&signer).map_err(Error::internal)?;
                self.0
                    .store()
                    .keep_checkpoint(&key_of(&checkpoint), &note)
                    .await
                    .map_err(Error::unavailable)?;
                KeptCheckpoint { checkpoint, kid: signer.kid().to_owned(), note }
            }
        };
        self.append(&kept).await?;
        Ok(kept)
    }

    /// Returns the newest checkpoint that is kept in the store.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`]; [`ErrorKind::NotFound`] when there is none that is genuine.
    pub async fn newest_checkpoint(&self, op: &Op) -> Result<KeptCheckpoint, Error> {
        op.demand(Permission::AuditRead)?;
        self.newest().await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "not-found", "no checkpoint is kept")
                .hint("make one")
                .next(NextStep::MakeCheckpoint)
        })
    }

    /// Returns the newest checkpoint in the store, if it is genuine.
    async fn newest(&self) -> Result<Option<KeptCheckpoint>, Error> {
        let Some(record) = self.0.store().newest_checkpoint().await.map_err(Error::unavailable)? else {
            return Ok(None);
        };
        let Ok(signed) = SignedCheckpoint::parse(&record.body) else { return Ok(None) };
        let keys = self.0.public_evidence_keys().await?;
        let Ok(key) = signed.verify(&keys) else { return Ok(None) };
        let kid = key.kid().to_owned();
        Ok(Some(KeptCheckpoint { checkpoint: signed.checkpoint, kid, note: record.body }))
    }

    /// Appends a checkpoint to the file, unless it stands there last.
    async fn append(&self, kept: &KeptCheckpoint) -> Result<(), Error> {
        let KeptCheckpoints { file, last } = &self.0.0.checkpoints;
        let Some(file) = file.get() else { return Ok(()) };
        let place = (kept.checkpoint.entries, kept.checkpoint.hash);
        let mut last = last.lock().await;
        if last.is_none() {
            *last = read(file).await?.0.last().and_then(|note| {
                let checkpoint = SignedCheckpoint::parse(note).ok()?.checkpoint;
                Some((checkpoint.entries, checkpoint.hash))
            });
        }
        if *last == Some(place) {
            return Ok(());
        }
        if let Some((entries, hash)) = *last
            && self.0.store().hashes_at([entries]).await?.get(&entries) != Some(&hash)
        {
            tracing::error!(
                entries,
                file = file.name(),
                "the journal is not the one that the last checkpoint is of: run `tollgate audit verify`"
            );
        }
        let (file, note) = (Arc::clone(file), kept.note.clone());
        let written =
            tokio::task::spawn_blocking(move || file.append(&note)).await.map_err(Error::internal)?;
        written.map_err(Error::internal)?;
        *last = Some(place);
        Ok(())
    }
}

// === impl App ===

impl App {
    /// Returns the keys to verify with.
    pub(crate) async fn public_evidence_keys(&self) -> Result<EvidenceKeys, Error> {
        let keys = self.evidence_keys().await?;
        // Without any, nothing verifies; that is no reason to verify nothing.
        if keys.is_empty() {
            Ok(EvidenceKeys::default())
        } else {
            EvidenceKeys::stored(&keys).map_err(Error::internal)
        }
    }

    /// Returns the name of the journal.
    pub(crate) async fn journal_origin(&self) -> Result<String, Error> {
        let first = self.store().hashes_at([1]).await?;
        first.get(&1).map(origin).ok_or_else(|| Error::internal("the journal has no first entry"))
    }

    /// Returns what is in this process's file of checkpoints, and its name; `None` without a file.
    pub(super) async fn checkpoint_file(&self) -> Option<(String, Result<(Vec<String>, usize), Error>)> {
        let file = self.0.checkpoints.file.get()?;
        Some((file.name(), read(file).await))
    }
}

/// Returns the key under which a checkpoint is kept: one for each state of the journal.
pub(super) fn key_of(checkpoint: &Checkpoint) -> String {
    format!("{:020}-{}", checkpoint.entries, hex(&checkpoint.hash))
}

async fn read(file: &Arc<dyn CheckpointFile>) -> Result<(Vec<String>, usize), Error> {
    let file = Arc::clone(file);
    let text = tokio::task::spawn_blocking(move || file.read()).await.map_err(Error::internal)?;
    Ok(split(&text.map_err(Error::internal)?))
}
