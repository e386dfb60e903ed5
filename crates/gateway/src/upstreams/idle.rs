//! Connections that wait for a call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};

use super::client::{Line, Shared};

/// Most connections to one upstream that wait for a call.
const MAX_IDLE: usize = 64;

/// Who waits is looked at so often, and given up when it was not used between so many of these times: after a minute.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const MAX_LOOKS: u32 = 6;

/// Where connections go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Host {
    pub(super) is_tls: bool,
    pub(super) authority: Authority,
}

/// A connection that can be used.
pub(super) enum Kept {
    Line(Box<Line>),
    Shared(Shared),
}

/// The connections of one client that wait for a call. The lock is held for as long as it takes to push or pop one.
#[derive(Default)]
pub(super) struct Idle(Mutex<State>);

#[derive(Default)]
struct State {
    hosts: HashMap<Host, Connections, foldhash::fast::RandomState>,
    /// Counts the looks at who waits, which spares the clock.
    looks: u32,
    /// Whether there is a task that looks.
    is_watched: bool,
}

#[derive(Default)]
struct Connections {
    /// The one used last is used next, so that those too many grow old.
    lines: Vec<Waiting<Box<Line>>>,
    shared: Option<Waiting<Shared>>,
    dialling: Arc<tokio::sync::Mutex<()>>,
}

struct Waiting<T> {
    what: T,
    /// The count of looks when it was used.
    since: u32,
}

// === impl Host ===

impl Host {
    /// Returns where a URL leads; `None` when it has no host.
    pub(super) fn of(url: &Uri) -> Option<Self> {
        Some(Self { is_tls: url.scheme() == Some(&Scheme::HTTPS), authority: url.authority()?.clone() })
    }
}

// === impl Idle ===

impl Idle {
    /// Takes a connection to a host; one that is shared stays, too.
    pub(super) fn take(&self, host: &Host) -> Option<Kept> {
        let state = &mut *self.lock();
        let connections = state.hosts.get_mut(host)?;
        if let Some(shared) = connections.shared.as_mut().filter(|shared| !shared.what.is_closed()) {
            shared.since = state.looks;
            return Some(Kept::Shared(shared.what.clone()));
        }
        connections.lines.pop().map(|line| Kept::Line(line.what))
    }

    /// Keeps a connection for the next call.
    pub(super) fn keep(self: &Arc<Self>, host: Host, line: Box<Line>) {
        let mut state = self.lock();
        self.watch(&mut state);
        let since = state.looks;
        let lines = &mut state.hosts.entry(host).or_default().lines;
        if lines.len() < MAX_IDLE {
            lines.push(Waiting { what: line, since });
        } else {
            line.close();
        }
    }

    /// Shares a connection, and returns the one to use: where two were made at once, one is enough.
    pub(super) fn share(self: &Arc<Self>, host: &Host, made: Shared) -> Shared {
        let mut state = self.lock();
        self.watch(&mut state);
        let since = state.looks;
        let shared = &mut state.hosts.entry(host.clone()).or_default().shared;
        if let Some(other) = shared.as_ref().filter(|other| !other.what.is_closed()) {
            return other.what.clone();
        }
        *shared = Some(Waiting { what: made.clone(), since });
        made
    }

    /// Returns what is held by whoever makes a connection that others will share.
    pub(super) fn dialling(&self, host: &Host) -> Arc<tokio::sync::Mutex<()>> {
        self.lock().hosts.entry(host.clone()).or_default().dialling.clone()
    }

    /// Has somebody look at who waits, for as long as somebody does.
    fn watch(self: &Arc<Self>, state: &mut State) {
        if !std::mem::replace(&mut state.is_watched, true) {
            tokio::spawn(look(Arc::downgrade(self)));
        }
    }

    /// Drops connections that nobody has used for long, and those that were closed at their other end. Tells whether there are
    /// others.
    pub(super) fn look(&self) -> bool {
        let state = &mut *self.lock();
        state.looks = state.looks.wrapping_add(1);
        let looks = state.looks;
        let is_old = |since: u32| looks.wrapping_sub(since) > MAX_LOOKS;
        state.hosts.retain(|_, connections| {
            for mut waiting in std::mem::take(&mut connections.lines) {
                if is_old(waiting.since) {
                    waiting.what.close();
                } else if waiting.what.is_there() {
                    connections.lines.push(waiting);
                }
            }
            connections.shared.take_if(|shared| is_old(shared.since) || shared.what.is_closed());
            let is_dialled = Arc::strong_count(&connections.dialling) > 1;
            !connections.lines.is_empty() || connections.shared.is_some() || is_dialled
        });
        state.is_watched = !state.hosts.is_empty();
        state.is_watched
    }

    /// Returns how many connections to a host there are that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self, host: &Host) -> usize {
        let state = self.lock();
        state.hosts.get(host).map_or(0, |it| it.lines.len() + usize::from(it.shared.is_some()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn look(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !idle.upgrade().is_some_and(|idle| idle.look()) {
            return;
        }
    }
}
