//! The snapshot on disk: with it a gateway starts while the store is down.
//!
//! The file holds the stored objects, not what was made of them: secrets in it are as sealed as they are in the store.
//! The first line is `tollgate-snapshot 1 <seq> <sum>`, the rest is JSON. The sum is SHA-256 over `<seq>`, a line feed
//! and the JSON. It is there against damage, not against those who may write the file.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use tollgate_credential::seal::MasterKey;
use tollgate_model::hex::hex;
use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, StoredObject};

use crate::Builder;
use crate::builder::Place;

const MAGIC: &str = "tollgate-snapshot 1";

/// Why a snapshot file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It could not be read.
    #[error("cannot read the snapshot file")]
    Read(#[from] std::io::Error),
    /// It is not one, or not whole.
    #[error("the snapshot file is damaged")]
    Damaged,
}

#[derive(Serialize, Deserialize)]
struct Record {
    realm: RealmName,
    kind: String,
    key: String,
    body: String,
}

/// The objects that a snapshot was made of, as of one entry of the journal; cheap to clone and to send elsewhere.
#[derive(Clone)]
pub struct Image {
    seq: u64,
    objects: OrdMap<Place, Arc<str>>,
}

// === impl Builder ===

impl Builder {
    /// Returns the objects of the latest snapshot, to be saved while the builder goes on.
    pub fn image(&self) -> Image {
        Image { seq: self.current().seq, objects: self.objects().clone() }
    }

    /// Reads what [`Image::save`] wrote.
    ///
    /// # Errors
    ///
    /// [`RestoreError`], by variant; never a part of a snapshot.
    pub fn restore(path: &Path, master: Arc<MasterKey>) -> Result<Self, RestoreError> {
        let bytes = std::fs::read(path)?;
        let (seq, body) = read_header(&bytes).ok_or(RestoreError::Damaged)?;
        let records: Vec<Record> = serde_json::from_slice(body).map_err(|_| RestoreError::Damaged)?;
        let objects = records
            .into_iter()
            .map(|Record { realm, kind, key, body }| {
                let kind = Kind::parse(&kind).ok_or(RestoreError::Damaged)?;
                Ok(StoredObject { realm, kind, key, revision: 0, body })
            })
            .collect::<Result<_, RestoreError>>()?;
        Ok(Self::load(seq, objects, master))
    }
}

// === impl Image ===

impl Image {
    /// Writes the objects to a file that only its owner can read, whole or not at all.
    ///
    /// # Errors
    ///
    /// When the directory is not writable or the disk is full; the file that was there stays, and nothing else is left.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let records: Vec<Record> = self
            .objects
            .iter()
            .map(|((realm, kind, key), body)| Record {
                realm: realm.clone(),
                kind: kind.as_str().to_owned(),
                key: key.clone(),
                body: body.to_string(),
            })
            .collect();
        let body = serde_json::to_vec(&records)?;
        let seq = self.seq;
        let header = format!("{MAGIC} {seq} {}\n", sum(seq, &body));
        let temporary = path.with_extension("tmp");
        let written = write(&temporary, &[header.as_bytes(), &body]);
        let saved = written.and_then(|()| std::fs::rename(&temporary, path));
        if saved.is_err() {
            // On a full disk the rest of a file would take the last of the space that the database needs.
            let _ = std::fs::remove_file(&temporary);
        }
        saved
    }
}

/// Writes a new file that only its owner can read, in place of whatever has its name.
pub(crate) fn write(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    // What a crash, or somebody else, left under this name has a mode of its own or is a link to elsewhere.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => options.write(true).create_new(true),
    };
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

/// Splits a file into the journal entry that it is as of and its JSON; `None` when the sum does not fit.
fn read_header(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (header, body) = bytes.split_at_checked(end)?;
    let body = body.strip_prefix(b"\n")?;
    let header = std::str::from_utf8(header).ok()?.strip_prefix(MAGIC)?.strip_prefix(' ')?;
    let (seq, written) = header.split_once(' ')?;
    let seq = seq.parse().ok()?;
    (sum(seq, body) == written).then_some((seq, body))
}

fn sum(seq: u64, body: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(format!("{seq}\n").as_bytes());
    context.update(body);
    hex(context.finish().as_ref())
}

#[cfg(test)]
mod tests;
