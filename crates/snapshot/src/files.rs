//! The snapshot on disk: with it a gateway starts while the store is down.
//!
//! The file holds the stored objects, not what was made of them: secrets in it are as sealed as they are in the store.
//! The first line is `tollgate-snapshot 1 <seq> <SHA-256 of the rest>`, the rest is JSON.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tollgate_credential::seal::MasterKey;
use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, StoredObject};

use crate::Builder;

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

// === impl Builder ===

impl Builder {
    /// Writes the objects to a file that only its owner can read, whole or not at all.
    ///
    /// # Errors
    ///
    /// When the directory is not writable or the disk is full; the file that was there stays.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let records: Vec<Record> = self
            .objects
            .iter()
            .map(|((realm, kind, key), body)| Record {
                realm: realm.clone(),
                kind: kind.as_str().to_owned(),
                key: key.clone(),
                body: body.clone(),
            })
            .collect();
        let body = serde_json::to_vec(&records)?;
        let header = format!("{MAGIC} {} {}\n", self.current().seq, hex(&body));
        let temporary = path.with_extension("tmp");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(header.as_bytes())?;
        file.write_all(&body)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    }

    /// Reads what [`Builder::save`] wrote.
    ///
    /// # Errors
    ///
    /// [`RestoreError`], by variant; never a part of a snapshot.
    pub fn restore(path: &Path, master: Arc<MasterKey>) -> Result<Self, RestoreError> {
        let bytes = std::fs::read(path)?;
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(RestoreError::Damaged)?;
        let (header, body) = bytes.split_at_checked(end + 1).ok_or(RestoreError::Damaged)?;
        let header = std::str::from_utf8(header).map_err(|_| RestoreError::Damaged)?;
        let rest = header.trim_end().strip_prefix(MAGIC).ok_or(RestoreError::Damaged)?;
        let (seq, sum) = rest.trim_start().split_once(' ').ok_or(RestoreError::Damaged)?;
        if hex(body) != sum {
            return Err(RestoreError::Damaged);
        }
        let seq = seq.parse().map_err(|_| RestoreError::Damaged)?;
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

fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
