//! The log: what changed since the base, record by record.

use std::fs::File;
use std::io::{self, Cursor, Read as _, Write};
use std::path::Path;

use tollgate_credential::seal::{MasterKey, STAMP_LEN, Stamp};

use super::stamped::{Reader, Writer};
use super::{LogChanges, RestoreError};
use crate::ObjectChange;

const MAGIC: &[u8; 24] = b"tollgate-snapshot-log 1\n";
/// What its stamps are for.
const PURPOSE: &str = "snapshot-log";
/// Length of the beginning: the magic and the stamp of the base.
const BEGIN: u64 = MAGIC.len() as u64 + STAMP_LEN as u64;
/// Length of the length of a record.
const LENGTH: u64 = 8;

/// Where a log ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// The stamp of its last record; of its base, when it has none.
    pub(super) stamp: [u8; STAMP_LEN],
    /// Its length.
    pub(super) len: u64,
}

/// A log that was read.
pub(super) struct Log {
    pub(super) records: Vec<LogChanges>,
    /// `None` when it is not the log of this base.
    pub(super) end: Option<End>,
    /// Bytes behind the end.
    pub(super) cut: u64,
}

/// Writes the beginning of a log.
pub(super) fn begin(file: &mut File, base: [u8; STAMP_LEN]) -> io::Result<End> {
    file.write_all(MAGIC)?;
    file.write_all(&base)?;
    Ok(End { stamp: base, len: BEGIN })
}

/// Returns the bytes of a record behind an end, and where the log ends with it.
pub(super) fn record(changes: &LogChanges, master: &MasterKey, end: End) -> io::Result<(Vec<u8>, End)> {
    let mut out = Writer::new(Vec::new(), chained(master, end.stamp));
    out.number(changes.seq)?;
    out.bytes(&changes.hash)?;
    out.number(changes.changes.len() as u64)?;
    for ObjectChange { realm, kind, key, body } in &changes.changes {
        for text in [realm.as_str(), kind.as_str(), key] {
            out.text(text)?;
        }
        out.bytes(&[u8::from(body.is_some())])?;
        out.text(body.as_deref().unwrap_or_default())?;
    }
    let (stamp, len, record) = out.finish()?;
    let bytes = [&len.to_le_bytes(), record.as_slice()].concat();
    Ok((bytes, End { stamp, len: end.len + LENGTH + len }))
}

/// Reads the log of a base, as far as it is whole.
pub(super) fn read(path: &Path, master: &MasterKey, base: [u8; STAMP_LEN]) -> Log {
    let mut log = Log { records: Vec::new(), end: None, cut: 0 };
    // Without a log the base is what there is. It is bounded by what a base may have for a log.
    let mut bytes = Vec::new();
    if File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).is_err() {
        return log;
    }
    let begin = bytes.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(&base));
    let Some(mut rest) = begin else { return log };
    let mut end = End { stamp: base, len: BEGIN };
    while let Some((changes, next, behind)) = next(rest, master, end) {
        log.records.push(changes);
        (end, rest) = (next, behind);
    }
    log.cut = rest.len() as u64;
    log.end = Some(end);
    log
}

/// Reads the first record; `None` when it is not whole, or not the one that belongs there.
fn next<'a>(bytes: &'a [u8], master: &MasterKey, end: End) -> Option<(LogChanges, End, &'a [u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let len = u64::from_le_bytes(*len);
    let (record, behind) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    let (changes, stamp) = parse(record, chained(master, end.stamp)).ok()?;
    Some((changes, End { stamp, len: end.len + LENGTH + len }, behind))
}

fn parse(record: &[u8], stamp: Stamp) -> Result<(LogChanges, [u8; STAMP_LEN]), RestoreError> {
    let mut from = Reader::new(Cursor::new(record), stamp, record.len() as u64)?;
    let (seq, hash) = (from.number()?, from.array()?);
    let mut changes = Vec::new();
    for _ in 0..from.number()? {
        let (realm, kind, key) = (from.realm()?, from.kind()?, from.text()?);
        let [there] = from.array()?;
        let body = from.text()?;
        changes.push(ObjectChange { realm, kind, key, body: (there == 1).then_some(body) });
    }
    Ok((LogChanges { seq, hash, changes }, from.finish()?))
}

/// Begins the stamp of a record behind another.
fn chained(master: &MasterKey, before: [u8; STAMP_LEN]) -> Stamp {
    let mut stamp = master.stamp(PURPOSE);
    stamp.update(&before);
    stamp
}
