//! The log: a line per event on stderr. JSON, for whatever collects it; words, when a person looks at it in a terminal. Then it
//! also begins after the banner, which would stand between its lines otherwise.
//!
//! A thread of its own writes the lines, so that no call waits for whoever reads them, and none fails with them: stderr
//! may be a pipe that nobody empties or whose reader is gone, or a file on a disk that is full. Lines that cannot be
//! written are lost, and how many is told by the next one that can.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Most that waits to be written, in bytes; what comes on top is lost.
const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;

/// How late a line may be written behind others.
const REST: Duration = Duration::from_millis(5);

/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How long a terminal waits for the banner before the first line: where the start takes longer, the log tells why.
const BANNER_FIRST: Duration = Duration::from_secs(5);

/// The log, from its start on. Dropped, it waits a little for what is not written yet.
pub(crate) struct Log {
    lines: Lines,
    /// Dropped to let the first line out.
    held: Option<Sender<()>>,
}

/// Where lines are handed over.
#[derive(Clone)]
struct Lines {
    items: Sender<Item>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    waiting_bytes: AtomicUsize,
    lost_lines: AtomicU64,
}

enum Item {
    Line(Vec<u8>),
    /// Answered when all lines before it were dealt with.
    Flush(Sender<()>),
}

/// Parts of the program that send log lines to a collector. What they log themselves is not sent, or each batch would make
/// the next one.
const SENDERS: [&str; 6] = ["opentelemetry", "reqwest", "hyper", "h2", "rustls", "tower"];

/// Starts logging what a filter lets through; also to a collector, where there is one.
pub(crate) fn start(filter: &str, collector: Option<&SdkLoggerProvider>) -> anyhow::Result<Log> {
    let filter =
        EnvFilter::builder().parse(filter).with_context(|| format!("`{filter}` is no log filter"))?;
    let people_look = io::stderr().is_terminal();
    let (held, banner) = channel();
    let lines = Lines::start(io::stderr(), people_look.then_some(banner)).context("cannot start the log")?;
    let writer = lines.clone();
    // Its own complaints would go to stderr, too, and panic when that is what fails.
    let layer = tracing_subscriber::fmt::layer().log_internal_errors(false);
    let stderr = if people_look {
        layer.with_ansi(false).with_target(false).with_writer(move || writer.clone()).boxed()
    } else {
        layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(move || writer.clone())
            .boxed()
    };
    let collector = collector.map(|provider| {
        let is_sent = |metadata: &tracing::Metadata<'_>| {
            !SENDERS.iter().any(|sender| metadata.target().starts_with(sender))
        };
        OpenTelemetryTracingBridge::new(provider).with_filter(filter_fn(is_sent))
    });
    tracing_subscriber::registry()
        .with(stderr)
        .with(collector)
        .with(filter)
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))?;
    Ok(Log { lines, held: Some(held) })
}

// === impl Log ===

impl Log {
    /// Says that the banner stands: lines may follow it.
    pub(crate) fn begin(&mut self) {
        self.held = None;
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.begin();
        let (sender, done) = channel();
        if self.lines.items.send(Item::Flush(sender)).is_ok() {
            // Nobody may read; then there is nothing to wait for.
            let _ = done.recv_timeout(LAST_LINES);
        }
    }
}

// === impl Lines ===

impl Lines {
    /// Starts the thread that writes, once whoever holds it back lets go. It ends when all senders are gone.
    fn start(sink: impl Write + Send + 'static, held: Option<Receiver<()>>) -> io::Result<Self> {
        let (items, receiver) = channel();
        let lines = Self { items, state: Arc::default() };
        let state = lines.state.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            if let Some(held) = held {
                // Let go of, or held for long enough: the lines are written either way.
                let _ = held.recv_timeout(BANNER_FIRST);
            }
            write(sink, &receiver, &state);
        })?;
        Ok(lines)
    }
}

impl Write for Lines {
    /// Takes a whole line, which is how it is called, and never waits or fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let waiting = self.state.waiting_bytes.fetch_add(line.len(), Ordering::Relaxed);
        if waiting.saturating_add(line.len()) > MAX_WAITING_BYTES
            || self.items.send(Item::Line(line.to_vec())).is_err()
        {
            self.state.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.state.lost_lines.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns what is to be done next; `None` when nobody can send anything any more.
///
/// Whoever sends to a thread that waits pays for waking it, and it takes the core from them. So it rests after each row of
/// lines, and finds those that came meanwhile together.
fn next(items: &Receiver<Item>) -> Option<Item> {
    items.try_recv().ok().or_else(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "to be woken for each line is what it is there to avoid"
        )]
        std::thread::sleep(REST);
        items.recv().ok()
    })
}

fn write(mut sink: impl Write, items: &Receiver<Item>, state: &State) {
    while let Some(item) = next(items) {
        let line = match item {
            Item::Line(line) => line,
            Item::Flush(done) => {
                // The receiver is gone when the wait was over.
                let _ = done.send(());
                continue;
            }
        };
        let written = sink.write_all(&line);
        state.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
        if written.is_err() {
            state.lost_lines.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let lost = state.lost_lines.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "lines of the log could not be written and are lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a line when it is told to, and says what it took.
    struct Sink(Receiver<io::Result<()>>, Sender<Vec<u8>>);

    impl Write for Sink {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)??;
            self.1.send(line.to_vec()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines() -> (Lines, Sender<io::Result<()>>, Receiver<Vec<u8>>) {
        let ((permit, permits), (taken, lines)) = (channel(), channel());
        (Lines::start(Sink(permits, taken), None).expect("a thread"), permit, lines)
    }

    #[test]
    fn a_log_that_nobody_reads_holds_up_nothing_and_stays_small() {
        let (mut log, permit, taken) = lines();
        let line = vec![b'x'; 64 * 1024];
        for _ in 0..1_000 {
            log.write_all(&line).expect("never waits, never fails");
        }
        assert!(log.state.waiting_bytes.load(Ordering::Relaxed) <= MAX_WAITING_BYTES);
        assert_eq!(log.state.lost_lines.load(Ordering::Relaxed), 1_000 - 128);
        permit.send(Ok(())).expect("the thread waits");
        assert_eq!(taken.recv().expect("written"), line);
    }

    #[test]
    fn the_first_line_waits_for_the_banner() {
        let (sink, taken) = (channel::<io::Result<()>>(), channel());
        let (held, banner) = channel();
        let mut lines = Lines::start(Sink(sink.1, taken.0), Some(banner)).expect("a thread");
        sink.0.send(Ok(())).expect("the thread waits");
        lines.write_all(b"ready").expect("never fails");
        let mut log = Log { lines, held: Some(held) };
        assert!(taken.1.try_recv().is_err(), "nothing is written before");
        log.begin();
        assert_eq!(taken.1.recv().expect("written"), b"ready");
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_the_next_one_is() {
        let (mut log, permit, taken) = lines();
        log.write_all(b"lost").expect("never fails");
        log.write_all(b"kept").expect("never fails");
        permit.send(Err(io::ErrorKind::BrokenPipe.into())).expect("the thread waits");
        permit.send(Ok(())).expect("the thread waits");
        assert_eq!(taken.recv().expect("written"), b"kept");
        drop(Log { lines: log.clone(), held: None });
        assert_eq!(log.state.lost_lines.load(Ordering::Relaxed), 0, "told, and counted anew");
        assert_eq!(log.state.waiting_bytes.load(Ordering::Relaxed), 0);
    }
}
