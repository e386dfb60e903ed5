//! Servers, each on the core that is kept for servers, and what they use of it.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// The core of the servers; the load generator has another.
const CORE: &str = "0";
/// Longest start of a server.
const START: Duration = Duration::from_secs(60);
/// How the system counts the time that a process used: `sysconf(_SC_CLK_TCK)`, 100 a second on Linux for decades.
const TICKS_PER_SECOND: f64 = 100.0;

/// A server; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

/// Returns a port that is free now.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

// === impl Process ===

impl Process {
    /// Starts a program on the core of the servers; what it says goes into a file.
    pub(crate) fn start(
        directory: &Path,
        name: &str,
        program: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let said = File::create(directory.join(format!("{name}.log")))?;
        let child = Command::new("taskset")
            .args(["-c", CORE, program])
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn();
        Ok(Self(child.with_context(|| format!("cannot start {name}"))?))
    }

    /// Waits until it listens.
    pub(crate) fn wait_for(&mut self, address: SocketAddr, log: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if self.0.try_wait()?.is_some() || Instant::now() > deadline {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                bail!("{} does not start: {}", log.display(), last.join(" | "));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Tells whether it ended by itself.
    pub(crate) fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Has it end as an operator would, and waits for that.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let told = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status()?;
        anyhow::ensure!(told.success(), "cannot stop it");
        let deadline = Instant::now() + START;
        while self.0.try_wait()?.is_none() {
            anyhow::ensure!(Instant::now() < deadline, "it does not stop");
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Returns the memory that it has in use, and the most that it ever had, in MiB.
    pub(crate) fn memory(&self) -> anyhow::Result<(f64, f64)> {
        let read = |file: &str, name: &str| {
            let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id()))?;
            let line = text.lines().find_map(|line| line.strip_prefix(name)).context("a line of memory")?;
            let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
            anyhow::Ok(kib / 1024.0)
        };
        Ok((read("smaps_rollup", "Rss:")?, read("status", "VmHWM:")?))
    }

    /// Returns the time that the process used of its core so far, in user and system mode.
    pub(crate) fn used(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        // The name may hold anything, so it is counted from the bracket behind it (proc(5)).
        let (_, fields) = stat.rsplit_once(')').context("a line of /proc/PID/stat")?;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u32>);
        let (Some(Ok(user)), Some(Ok(system))) = (times.next(), times.next()) else {
            bail!("/proc/PID/stat has no times");
        };
        Ok(Duration::from_secs_f64(f64::from(user + system) / TICKS_PER_SECOND))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
