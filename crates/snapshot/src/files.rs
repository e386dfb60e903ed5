//! The snapshot on disk: with it a gateway starts while the store is down, and starts fast where there is much in it.
//!
//! There are two files. `snapshot` is the base: the stored objects as of one entry of the journal, and the packed API keys.
//! `snapshot.log` holds what changed since, so that saving a change costs what the change has and not what there is. When
//! the log has grown, a new base is written beside the old one and takes its place, and a new log begins.
//!
//! ```text
//! snapshot      = "tollgate-snapshot 2\n" ‖ seq ‖ hash ‖ objects ‖ keys ‖ unreadable keys ‖ stamp
//! snapshot.log  = "tollgate-snapshot-log 1\n" ‖ stamp of the base ‖ record …
//! record        = length ‖ seq ‖ hash ‖ changes ‖ stamp over the stamp before and the record
//! ```
//!
//! `seq` and `hash` are number and hash of the journal entry that it is as of: whoever has a store can tell whether it still
//! has that entry, and go on from there. Secrets are as sealed as they are in the store.
//!
//! Stamps are made under the master key ([`MasterKey::stamp`]): what somebody else wrote, or a disk spoiled, is no snapshot.
//! A base counts whole or not at all. Of a log counts what is whole: a process that is killed leaves the beginning of a
//! record, and what stands before it was true once. The records are chained, and begin with the base, so that none can be
//! left out or be taken to another base. Whoever may write the files can bring back older ones; the store then tells what
//! is missing, and without the store they are what there is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imbl::OrdMap;
use tollgate_credential::seal::{MasterKey, STAMP_LEN};
use tollgate_model::names::RealmName;

use crate::builder::api_keys::Home;
use crate::builder::{Loading, Place};
use crate::{Builder, Keys, ObjectChange};

mod base;
mod disk;
mod log;
mod stamped;

pub use disk::Disk;

/// Why a snapshot file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It could not be read.
    #[error("cannot read the snapshot file")]
    Read(#[source] io::Error),
    /// It is not one, not whole, or not written under this master key.
    #[error("the snapshot file is damaged, of another version, or not written under this master key")]
    Damaged,
}

/// What a snapshot was made of, as of one entry of the journal; cheap to clone and to send elsewhere.
#[derive(Clone)]
pub struct Image {
    master: Arc<MasterKey>,
    seq: u64,
    hash: [u8; 32],
    objects: OrdMap<Place, Arc<str>>,
    keys: BTreeMap<Home, Keys>,
    unreadable_keys: Vec<(RealmName, String)>,
}

/// What changed up to an entry of the journal, since the one that was told before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChanges {
    /// Number of the entry.
    pub seq: u64,
    /// Its hash.
    pub hash: [u8; 32],
    /// What was written and deleted, in order.
    pub changes: Vec<ObjectChange>,
}

/// What was on disk.
pub struct Restored {
    /// Has the snapshot.
    pub builder: Builder,
    /// Hash of the journal entry that the snapshot is as of.
    pub hash: [u8; 32],
    /// How many bytes at the end of the log were of no use.
    pub cut: u64,
    /// Goes on saving where these files end.
    pub disk: Disk,
}

// === impl Builder ===

impl Builder {
    /// Returns what the latest snapshot was made of, to be saved while the builder goes on; `hash` is that of its journal
    /// entry.
    pub fn image(&self, hash: [u8; 32]) -> Image {
        let unreadable_keys = self.unreadable_keys().map(|(realm, key)| (realm.clone(), key.to_owned()));
        Image {
            master: self.master().clone(),
            seq: self.current().seq,
            hash,
            objects: self.objects().clone(),
            keys: self.keys().clone(),
            unreadable_keys: unreadable_keys.collect(),
        }
    }

    /// Reads what [`Disk::save`] wrote.
    ///
    /// # Errors
    ///
    /// [`RestoreError`], by variant; never a part of a snapshot.
    pub fn restore(path: &Path, master: Arc<MasterKey>) -> Result<Restored, RestoreError> {
        let mut loading = Loading::new(master.clone());
        let base = base::read(path, &master, &mut loading)?;
        let log = log::read(&log_path(path), &master, base.stamp);
        let (mut seq, mut hash) = (base.seq, base.hash);
        let mut later = Vec::new();
        for record in log.records {
            (seq, hash) = (record.seq, record.hash);
            later.extend(record.changes);
        }
        let mut builder = loading.finish(base.seq);
        if seq > base.seq {
            builder.apply(seq, later);
        }
        let disk = Disk::going_on(path.to_owned(), master, base.len, log.end);
        Ok(Restored { builder, hash, cut: log.cut, disk })
    }
}

// === impl Image ===

impl Image {
    /// Writes the base file alone, whole or not at all; only its owner can read it. Returns its stamp and its length.
    fn save(&self, path: &Path) -> io::Result<([u8; STAMP_LEN], u64)> {
        replace(path, |file| base::write(self, file))
    }
}

/// Returns where the log of a base is.
fn log_path(path: &Path) -> PathBuf {
    path.with_extension("log")
}

/// Writes a new file and puts it in the place of another, or leaves everything as it was.
pub(crate) fn replace<T>(path: &Path, write: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let written = create(&temporary).and_then(|mut file| {
        let written = write(&mut file)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        Ok(written)
    });
    if written.is_err() {
        // On a full disk the rest of a file would take the last of the space that the database needs.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Makes a file that only its owner can read, in place of whatever has its name.
fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    // What a crash, or somebody else, left under this name has a mode of its own or is a link to elsewhere.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => options.write(true).create_new(true),
    };
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests;
