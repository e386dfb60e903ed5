//! Makes signed checkpoints of the journal in the background, and keeps them in `DATA/checkpoints` too: whoever can
//! write the database alone cannot take them away there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tollgate_app::App;
use tollgate_app::evidence::CheckpointFile;

use super::supervise::supervise;

/// How often is looked whether a checkpoint is due.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long entries wait for a checkpoint at most, while the store and this process work.
const AT_LATEST: Duration = Duration::from_mins(5);

/// How many entries wait for a checkpoint at most.
const MOST_ENTRIES: u64 = 1000;

/// Longest time for the checkpoint at the end.
const LAST_CHECKPOINT: Duration = Duration::from_secs(10);

/// The task that makes checkpoints, and what stops it.
pub(crate) struct CheckpointTask {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// A file to which checkpoints are appended, an empty line after each.
struct CheckpointLog(PathBuf);

// === impl CheckpointTask ===

impl CheckpointTask {
    /// Makes the first checkpoint, and goes on with it in the background.
    pub(crate) async fn start(app: App, head: watch::Receiver<u64>, path: PathBuf) -> Self {
        app.evidence().keep_in(Arc::new(CheckpointLog(path)));
        let first = make(&app).await;
        let (stop, stopped) = watch::channel(false);
        let task = supervise("checkpoints", stopped.clone(), move || {
            run(app.clone(), head.clone(), first, stopped.clone())
        });
        Self { task: tokio::spawn(task), stop }
    }

    /// Makes a last checkpoint and ends.
    pub(crate) async fn finish(self) {
        self.stop.send_replace(true);
        match tokio::time::timeout(LAST_CHECKPOINT, self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a task panicked"),
            Err(_) => tracing::warn!("the store is away: no checkpoint was made of the last changes"),
        }
    }
}

/// Makes checkpoints until it is told to stop, and once more then.
async fn run(
    app: App,
    head: watch::Receiver<u64>,
    mut last: Option<u64>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut made_at = Instant::now();
    loop {
        let stop = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => true,
            _ = tick.tick() => false,
        };
        let entries = *head.borrow();
        // At the end without a look: what other processes wrote last may not have been seen yet.
        if (stop || is_due(last, entries, made_at.elapsed()))
            && let Some(made) = make(&app).await
        {
            (last, made_at) = (Some(made), Instant::now());
        }
        if stop {
            return;
        }
    }
}

/// Tells whether it is time for a checkpoint.
fn is_due(last: Option<u64>, entries: u64, since: Duration) -> bool {
    let Some(last) = last else { return true };
    // There are fewer when the database was restored: another journal, of which to make a checkpoint at once.
    entries < last || entries - last >= MOST_ENTRIES || (entries > last && since >= AT_LATEST)
}

/// Makes a checkpoint; returns how many entries it is of.
async fn make(app: &App) -> Option<u64> {
    let made = match app.system_op() {
        Ok(op) => app.evidence().checkpoint(&op).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(kept) => Some(kept.checkpoint.entries),
        Err(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, source, "no checkpoint of the journal could be made");
            None
        }
    }
}

impl CheckpointFile for CheckpointLog {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn read(&self) -> io::Result<String> {
        match std::fs::read(&self.0) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    fn append(&self, note: &str) -> io::Result<()> {
        let is_new = !self.0.exists();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.0)?;
        // What was being written when the machine lost power must not become part of this one.
        let torn = !ends_with_empty_line(&mut file)?;
        let text = format!("{}{note}\n", if torn { "\n\n" } else { "" });
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        match self.0.parent().filter(|_| is_new) {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// Tells whether a file is empty or ends with an empty line.
fn ends_with_empty_line(file: &mut File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(true);
    }
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(2)))?;
    file.read_to_end(&mut end)?;
    Ok(end == b"\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_due_when_time_or_entries_have_passed() {
        let (soon, late) = (Duration::from_secs(1), AT_LATEST);
        assert!(is_due(None, 0, soon), "the first failed");
        assert!(!is_due(Some(7), 7, late), "nothing happened since");
        assert!(!is_due(Some(7), 8, soon) && is_due(Some(7), 8, late));
        assert!(!is_due(Some(7), 1006, soon) && is_due(Some(7), 1007, soon));
        assert!(is_due(Some(7), 6, soon), "entries were lost");
    }

    #[test]
    fn what_was_appended_is_read_and_what_was_torn_stays_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = CheckpointLog(directory.path().join("checkpoints"));
        assert_eq!(log.read().expect("no file yet"), "");
        log.append("one\n").expect("appends");
        std::fs::write(&log.0, "one\n\ntor").expect("writes");
        log.append("two\n").expect("appends");
        assert_eq!(log.read().expect("reads"), "one\n\ntor\n\ntwo\n\n");
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(
                &std::fs::metadata(&log.0).expect("exists").permissions()
            ) & 0o777,
            0o600
        );
    }
}
