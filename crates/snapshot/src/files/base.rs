//! The base: everything as of one entry of the journal.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::Path;

use tollgate_credential::seal::{MasterKey, STAMP_LEN};
use tollgate_model::names::EnvironmentName;
use tollgate_model::objects::StoredObject;

use super::stamped::{Reader, Writer};
use super::{Image, RestoreError};
use crate::builder::Loading;
use crate::keys::PackedKey;

const MAGIC: &[u8; 20] = b"tollgate-snapshot 2\n";
/// What its stamp is for.
const PURPOSE: &str = "snapshot";
/// Bytes that are read and written at once.
const BUFFER: usize = 256 * 1024;
/// Keys that are put in their places at once.
const AT_ONCE: u64 = 8_192;

/// What a base says of itself.
pub(super) struct Base {
    pub(super) seq: u64,
    pub(super) hash: [u8; 32],
    pub(super) stamp: [u8; STAMP_LEN],
    pub(super) len: u64,
}

/// Writes a base; returns its stamp and its length.
pub(super) fn write(image: &Image, file: &mut File) -> io::Result<([u8; STAMP_LEN], u64)> {
    let mut out = Writer::new(BufWriter::with_capacity(BUFFER, file), image.master.stamp(PURPOSE));
    out.bytes(MAGIC)?;
    out.number(image.seq)?;
    out.bytes(&image.hash)?;
    out.number(image.objects.len() as u64)?;
    for ((realm, kind, key), body) in &image.objects {
        for text in [realm.as_str(), kind.as_str(), key, body] {
            out.text(text)?;
        }
    }
    out.number(image.keys.len() as u64)?;
    for ((realm, environment), keys) in &image.keys {
        out.text(realm.as_str())?;
        out.text(environment.as_str())?;
        out.number(keys.len() as u64)?;
        for key in keys.packed() {
            out.bytes(&key.to_bytes())?;
        }
    }
    out.number(image.unreadable_keys.len() as u64)?;
    for (realm, key) in &image.unreadable_keys {
        out.text(realm.as_str())?;
        out.text(key)?;
    }
    let (stamp, len, mut inner) = out.finish()?;
    inner.flush()?;
    Ok((stamp, len))
}

/// Reads a base. When it fails, `loading` holds nothing that anybody may use.
pub(super) fn read(path: &Path, master: &MasterKey, loading: &mut Loading) -> Result<Base, RestoreError> {
    let file = File::open(path).map_err(RestoreError::Read)?;
    let len = file.metadata().map_err(RestoreError::Read)?.len();
    let mut from = Reader::new(BufReader::with_capacity(BUFFER, file), master.stamp(PURPOSE), len)?;
    if from.array()? != *MAGIC {
        return Err(RestoreError::Damaged);
    }
    let (seq, hash) = (from.number()?, from.array()?);
    for _ in 0..from.number()? {
        let (realm, kind, key, body) = (from.realm()?, from.kind()?, from.text()?, from.text()?);
        loading.add(StoredObject { realm, kind, key, revision: 0, body });
    }
    for _ in 0..from.number()? {
        let (realm, environment) = (from.realm()?, from.text()?);
        let environment = EnvironmentName::parse(&environment).map_err(|_| RestoreError::Damaged)?;
        let home = (realm, environment);
        let mut left = from.number()?;
        while left > 0 {
            let many = left.min(AT_ONCE);
            let keys = (0..many)
                .map(|_| PackedKey::from_bytes(&from.array()?).ok_or(RestoreError::Damaged))
                .collect::<Result<_, _>>()?;
            loading.add_packed(&home, keys);
            left -= many;
        }
    }
    for _ in 0..from.number()? {
        let (realm, key) = (from.realm()?, from.text()?);
        loading.add_unreadable_key(realm, key);
    }
    let stamp = from.finish()?;
    Ok(Base { seq, hash, stamp, len })
}
