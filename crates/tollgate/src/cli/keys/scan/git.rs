//! The program `git`, used so that a repository that is scanned cannot make it run or fetch anything.
//!
//! Only plumbing is called, and what in a repository's own settings could start a program or reach the network is
//! switched off: file system monitors, hooks, and fetching what a partial clone lacks.

use std::io::{self, BufRead, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use super::findings::shown;

/// How much of what git complains about is kept.
const MAX_COMPLAINT_BYTES: u64 = 4096;
/// Longest line that git writes before an object: a path is not longer.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// A repository.
pub(super) struct Repository {
    git_dir: PathBuf,
    /// The directory with the files; none of a bare one.
    work_tree: Option<PathBuf>,
}

/// A running git.
pub(super) struct Git {
    child: Child,
    complaint: Option<JoinHandle<String>>,
}

/// An object of a repository, before its content.
#[derive(Debug)]
pub(super) enum Header {
    /// It is there.
    Object {
        id: String,
        /// `blob`, `commit`, `tag` or `tree`.
        kind: String,
        size_bytes: u64,
        /// The path that led to it.
        path: Vec<u8>,
    },
    /// It is named and not there: a partial clone, or a broken repository.
    Missing(String),
}

/// Makes a command of git that trusts nothing of the repository. Variables of a hook that point elsewhere are only
/// kept where `in_hook` says so.
fn command(in_hook: bool) -> Command {
    let mut command = Command::new("git");
    command
        .args(["--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false"])
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.untrackedCache=false"])
        // No transport at all, whatever the settings of the repository allow.
        .env("GIT_ALLOW_PROTOCOL", "none")
        .env("GIT_NO_LAZY_FETCH", "1")
        // What an object was replaced by is in the history beside it.
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    if !in_hook {
        for variable in [
            "GIT_DIR",
            "GIT_WORK_TREE",
            "GIT_INDEX_FILE",
            "GIT_COMMON_DIR",
            "GIT_OBJECT_DIRECTORY",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES",
            "GIT_NAMESPACE",
        ] {
            command.env_remove(variable);
        }
    }
    command
}

/// Makes a command for the repository around a directory, in a hook or not.
pub(super) fn at(directory: &Path) -> Command {
    let mut command = command(true);
    command.arg("-C").arg(directory);
    command
}

/// Returns what git ignores below a directory of a repository; nothing where there is none.
pub(super) fn ignored_below(directory: &Path) -> Vec<PathBuf> {
    let mut command = command(false);
    command.arg("-C").arg(directory);
    list_ignored(command, directory).unwrap_or_default()
}

fn list_ignored(mut command: Command, directory: &Path) -> Result<Vec<PathBuf>, String> {
    command.args(["ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z"]);
    let output =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().map_err(|it| not_started(&it))?;
    if !output.status.success() {
        return Err(shown(String::from_utf8_lossy(&output.stderr).trim()));
    }
    let paths = output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    Ok(paths.map(|path| directory.join(to_path(path.strip_suffix(b"/").unwrap_or(path)))).collect())
}

#[cfg(unix)]
fn to_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;

    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(not(unix))]
fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

fn not_started(error: &io::Error) -> String {
    format!("cannot run git: {error}; install it, or leave the history out with --no-history")
}

// === impl Repository ===

impl Repository {
    /// Names the repository whose files lie in a directory.
    pub(super) fn with_work_tree(directory: &Path) -> Self {
        Self { git_dir: directory.join(".git"), work_tree: Some(directory.to_owned()) }
    }

    /// Names a repository without files.
    pub(super) fn bare(directory: &Path) -> Self {
        Self { git_dir: directory.to_owned(), work_tree: None }
    }

    /// Returns what to call it.
    pub(super) fn label(&self) -> String {
        shown(&self.work_tree.as_ref().unwrap_or(&self.git_dir).to_string_lossy())
    }

    /// Makes a command for it.
    pub(super) fn git(&self) -> Command {
        let mut command = command(false);
        command.arg("--git-dir").arg(&self.git_dir);
        command
    }

    /// Returns what git ignores in it; of a directory that is ignored as a whole only its own path.
    ///
    /// # Errors
    ///
    /// In words, when git cannot tell.
    pub(super) fn ignored(&self) -> Result<Vec<PathBuf>, String> {
        let Some(work_tree) = &self.work_tree else { return Ok(Vec::new()) };
        let mut command = command(false);
        command.arg("-C").arg(work_tree).args(["--git-dir=.git", "--work-tree=."]);
        list_ignored(command, work_tree)
    }
}

// === impl Git ===

impl Git {
    /// Starts a command and returns what it writes.
    ///
    /// # Errors
    ///
    /// In words, when it does not start.
    pub(super) fn start(command: &mut Command) -> Result<(Self, ChildStdout), String> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| not_started(&error))?;
        let stdout = child.stdout.take().ok_or("git has no output")?;
        let complaint = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut kept = Vec::new();
                let _ = stderr.by_ref().take(MAX_COMPLAINT_BYTES).read_to_end(&mut kept);
                let _ = io::copy(&mut stderr, &mut io::sink());
                String::from_utf8_lossy(&kept).into_owned()
            })
        });
        Ok((Self { child, complaint }, stdout))
    }

    /// Returns where it reads from, if that is a pipe; it reads to the end once this is dropped.
    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// With what git complained about, when it failed.
    pub(super) fn end(mut self) -> Result<(), String> {
        let status = self.child.wait();
        let complaint = self.complaint.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(complained(status, complaint.trim())),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Git {
    fn drop(&mut self) {
        // When reading was given up; one that has ended is not harmed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn complained(status: ExitStatus, complaint: &str) -> String {
    if complaint.is_empty() { format!("git ended with {status}") } else { complaint.to_owned() }
}

// === impl Header ===

impl Header {
    /// What `git cat-file --batch` is to write before each object.
    pub(super) const FORMAT: &'static str = "--batch=%(objectname) %(objecttype) %(objectsize) %(rest)";

    /// Reads the line before the next object; `None` at the end.
    ///
    /// # Errors
    ///
    /// When reading fails, or something else stands there.
    pub(super) fn read<R: BufRead>(from: &mut R) -> io::Result<Option<Self>> {
        let mut line = Vec::new();
        from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        let Some(line) = line.strip_suffix(b"\n") else {
            return if line.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        };
        let mut words = line.splitn(4, |byte| *byte == b' ');
        let mut word = || String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
        let (id, kind) = (word(), word());
        if kind == "missing" {
            return Ok(Some(Self::Missing(id)));
        }
        let size_bytes = word().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let path = words.next().unwrap_or_default().to_vec();
        Ok(Some(Self::Object { id, kind, size_bytes, path }))
    }
}
