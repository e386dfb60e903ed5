//! Saves, as little as possible: changes go to the end of the log until it is long, and then to a new base.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use tollgate_credential::seal::MasterKey;

use super::log::{self, End};
use super::{Image, LogChanges, log_path, replace};

/// How long a log may be beside its base: an eighth of it, and a megabyte.
const PART: u64 = 8;
const SMALL: u64 = 1 << 20;

/// Where a snapshot is saved, by one writer.
pub struct Disk {
    path: PathBuf,
    master: Arc<MasterKey>,
    /// Length of the base.
    base: u64,
    /// Where the log goes on; `None` when the next thing to save is a whole base.
    log: Option<(Option<File>, End)>,
    unsynced: bool,
}

// === impl Disk ===

impl Disk {
    /// Saves to a file of which nothing is known: what comes first is a whole base.
    pub fn new(path: PathBuf, master: Arc<MasterKey>) -> Self {
        Self { path, master, base: 0, log: None, unsynced: false }
    }

    pub(super) fn going_on(path: PathBuf, master: Arc<MasterKey>, base: u64, end: Option<End>) -> Self {
        Self { path, master, base, log: end.map(|end| (None, end)), unsynced: false }
    }

    /// Tells whether it is time for a whole base.
    pub fn wants_all(&self) -> bool {
        self.log.as_ref().is_none_or(|(_, end)| end.len > SMALL + self.base / PART)
    }

    /// Writes a whole base, and begins its log.
    ///
    /// # Errors
    ///
    /// When the directory is not writable or the disk is full; what was there stays, and nothing else is left.
    pub fn save(&mut self, image: &Image) -> io::Result<()> {
        // Until it is known how both files are, no record can follow.
        self.log = None;
        let (stamp, len) = image.save(&self.path)?;
        self.base = len;
        // Killed here, the old log stays: it names another base, and does not count.
        let log = log_path(&self.path);
        let end = replace(&log, |file| log::begin(file, stamp))?;
        self.log = Some((None, end));
        self.unsynced = false;
        Ok(())
    }

    /// Writes what changed since what was written last; tells whether that could be done, or all must be written.
    ///
    /// A process that is killed from here on loses nothing of it. For what a machine loses that goes dark, see
    /// [`Disk::sync`].
    ///
    /// # Errors
    ///
    /// When it cannot be written; then the next thing to write is all of it.
    pub fn append(&mut self, changes: &LogChanges) -> io::Result<bool> {
        // Taken: when something fails, nobody knows where the log ends.
        let Some((file, end)) = self.log.take() else { return Ok(false) };
        let (bytes, next) = log::record(changes, &self.master, end)?;
        let mut file = match file {
            Some(file) => file,
            None => File::options().write(true).open(log_path(&self.path))?,
        };
        let written = file.set_len(end.len).and_then(|()| {
            file.seek(SeekFrom::Start(end.len))?;
            file.write_all(&bytes)
        });
        if let Err(error) = written {
            // A full disk: the beginning of a record helps nobody.
            let _ = file.set_len(end.len);
            return Err(error);
        }
        self.unsynced = true;
        self.log = Some((Some(file), next));
        Ok(true)
    }

    /// Has the disk hold what was written.
    ///
    /// # Errors
    ///
    /// When the disk fails; then the next thing to write is all of it.
    pub fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.unsynced)
            && let Some((Some(file), end)) = self.log.take()
        {
            file.sync_data()?;
            self.log = Some((Some(file), end));
        }
        Ok(())
    }
}
