//! An empty folder in which the product is used, and the command line run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

/// A folder of its own: home directory, data directory, files.
pub struct Home {
    directory: TempDir,
    /// What must never stand in a log or, in plain, on disk.
    secrets: Mutex<Vec<String>>,
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Returns the binary that was built with these tests; builds it when it is not there.
///
/// # Panics
///
/// When it cannot be built.
pub(crate) fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test executable");
    let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let binary = profile.join("tollgate");
    if !binary.exists() {
        let target = profile.parent().expect("a target directory");
        let cargo = option_env!("CARGO").unwrap_or("cargo");
        let status =
            Command::new(cargo).args(["build", "--package", "tollgate", "--target-dir"]).arg(target).status();
        assert!(status.is_ok_and(|status| status.success()), "the binary does not build");
    }
    binary
}

// === impl Home ===

impl Home {
    /// Makes an empty folder.
    ///
    /// # Panics
    ///
    /// When the temporary directory is not writable.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("tollgate-e2e-").tempdir().expect("a directory");
        Self { directory, secrets: Mutex::default() }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the data directory.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Returns the file with the server's log.
    pub fn log_path(&self) -> PathBuf {
        self.path().join("server.log")
    }

    /// Writes a file and returns its path.
    ///
    /// # Panics
    ///
    /// When it can't be written.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("writes a file");
        path.display().to_string()
    }

    /// Remembers a secret for [`Home::assert_secrets_stayed_secret`].
    pub fn keep_secret(&self, secret: &str) {
        assert!(secret.len() >= 8, "too short to be searched for: {secret}");
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).push(secret.to_owned());
    }

    /// Prepares a command of the binary in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.clean(Command::new(binary()));
        command.args(arguments);
        command
    }

    /// Prepares a script of the shell in this folder; arguments that are added go to it.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = self.clean(Command::new("/bin/sh"));
        command.args(["-c", script]);
        command
    }

    fn clean(&self, mut command: Command) -> Command {
        command
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null());
        command
    }

    /// Fails when a secret that was seen stands in the log, or in plain in the data directory.
    ///
    /// # Panics
    ///
    /// Naming the file.
    pub fn assert_secrets_stayed_secret(&self) {
        let mut files = vec![self.log_path()];
        let entries = std::fs::read_dir(self.data()).expect("a data directory");
        files.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // These two are made to hold secrets for their owner.
            if matches!(name.as_str(), "admin-token" | "demo.json") {
                continue;
            }
            let bytes = std::fs::read(&file).unwrap_or_default();
            for secret in self.secrets.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "a secret stands in {}", file.display());
            }
        }
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Outcome ===

impl Outcome {
    /// Reads the one JSON document on standard output.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in\n{self:?}"))
    }

    /// Fails unless the command ended with a code.
    ///
    /// # Panics
    ///
    /// With the whole output.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Fails unless a text stands on standard error.
    ///
    /// # Panics
    ///
    /// With the whole output.
    #[track_caller]
    pub fn expect_words(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "`{words}` is missing in {self:#?}");
        self
    }
}
