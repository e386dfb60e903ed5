//! The data directory: one process at a time, readable by its owner only.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// An open data directory; nobody else opens it while this lives.
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Returns where the embedded database of a data directory is.
pub(crate) fn sqlite_path(directory: &Path) -> PathBuf {
    directory.join("tollgate.db")
}

// === impl DataDir ===

impl DataDir {
    /// Opens the directory, and makes it when it is not there.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).with_context(|| format!("cannot make the data directory {}", path.display()))?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("cannot write to the data directory {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!(
                "another tollgate runs on the data directory {}: stop it, or choose another with --data",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock the data directory {}", path.display()))
            }
        }
    }

    /// Returns its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the URL of the embedded database.
    pub(crate) fn sqlite_url(&self) -> String {
        format!("sqlite:{}", sqlite_path(&self.path).display())
    }

    /// Returns where the last snapshot is kept.
    pub(crate) fn snapshot_path(&self) -> PathBuf {
        self.path.join("snapshot")
    }

    /// Returns where the keys of issuers outside are kept.
    pub(crate) fn issuer_keys_path(&self) -> PathBuf {
        self.path.join("issuer-keys.json")
    }

    /// Returns where the master key is kept, unless it comes from elsewhere.
    pub(crate) fn master_key_path(&self) -> PathBuf {
        self.path.join("master.key")
    }

    /// Returns where the admin's API token is kept.
    pub(crate) fn admin_token_path(&self) -> PathBuf {
        self.path.join("admin-token")
    }

    /// Returns where checkpoints of the journal are kept besides the store.
    pub(crate) fn checkpoints_path(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Returns where the keys and the password of the demo are kept.
    pub(crate) fn demo_path(&self) -> PathBuf {
        self.path.join("demo.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_serves_one_process_at_a_time() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("data");
        let open = DataDir::open(&path).expect("opens");
        let error = DataDir::open(&path).map(|_| ()).expect_err("locked").to_string();
        assert!(error.contains("another tollgate runs"), "{error}");
        drop(open);
        assert!(DataDir::open(&path).is_ok());
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("exists").permissions())
                & 0o777,
            0o700
        );
    }
}
