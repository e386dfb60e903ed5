//! Refused attempts that are not written yet: counted, in bounded memory.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tollgate_model::ids::RequestId;
use tollgate_model::names::RealmName;
use tollgate_store::{About, Refusal, RefusedAttempt};

use super::DURABLE_PER_MINUTE;

/// Entries in a minute for what one actor attempts beyond [`DURABLE_PER_MINUTE`], and for all who are not signed in.
const APART_PER_MINUTE: u32 = 60;
/// Most entries that wait at once, while the store is away.
const MOST_WAITING: usize = 2_000;
/// Most actors whose entries of the last minute are counted.
const MOST_ACTORS: usize = 2_000;
/// Most pairs of actor and code that are counted without being told apart further.
const MOST_UNTOLD: usize = 500;
/// Most sources that are counted in each of these.
const MOST_SOURCES: usize = 1_000;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Stands for what is not told apart.
const ANY: &str = "*";

/// What waits, and what each actor has had of the current minute.
#[derive(Default)]
pub struct Waiting(Mutex<State>);

#[derive(Default)]
struct State {
    taken: Taken,
    actors: HashMap<String, Minute>,
}

/// What is taken out to be written.
#[derive(Default)]
pub(super) struct Taken {
    apart: HashMap<Same, Counted>,
    untold: HashMap<(String, String), Untold>,
}

/// What makes attempts the same: realm, actor, source, action and code.
type Same = (RealmName, String, String, String, String);

/// Several of the same.
struct Counted {
    first: RefusedAttempt,
    count: u64,
    first_at: Timestamp,
    last_at: Timestamp,
}

/// Attempts that are not told apart, of one actor and code.
struct Untold {
    count: u64,
    first_at: Timestamp,
    last_at: Timestamp,
    sources: HashSet<String>,
    more_sources: bool,
}

/// What an actor had of a minute.
struct Minute {
    since: Timestamp,
    durable: u32,
    apart: u32,
}

// === impl Waiting ===

impl Waiting {
    /// Takes one from an actor's entries of their own in this minute; `false` when there is none left.
    pub(super) fn may_write(&self, actor: &str, now: Timestamp) -> bool {
        let mut state = self.lock();
        let minute = state.minute(actor, now);
        minute.durable += 1;
        minute.durable <= DURABLE_PER_MINUTE
    }

    /// Counts an attempt that is to be written later.
    pub(super) fn add(&self, attempt: RefusedAttempt) {
        let mut state = self.lock();
        let code = attempt.refusal.code.clone();
        let same = (
            attempt.realm.clone(),
            attempt.actor.clone(),
            attempt.source.clone(),
            attempt.action.clone(),
            code.clone(),
        );
        if let Some(counted) = state.taken.apart.get_mut(&same) {
            return counted.add(attempt);
        }
        let full = state.taken.apart.len() >= MOST_WAITING;
        let minute = state.minute(&attempt.actor, attempt.at);
        minute.apart += 1;
        if minute.apart <= APART_PER_MINUTE && !full {
            let (first_at, last_at) = (attempt.at, attempt.at);
            state.taken.apart.insert(same, Counted { first: attempt, count: 1, first_at, last_at });
        } else {
            state.taken.add_untold(attempt.actor, code, Untold::of(attempt.source, attempt.at));
        }
    }

    /// Takes everything out that waits.
    pub(super) fn take(&self) -> Taken {
        std::mem::take(&mut self.lock().taken)
    }

    /// Puts back what could not be written; returns how many attempts wait by now.
    pub(super) fn put_back(&self, taken: Taken) -> u64 {
        let mut state = self.lock();
        let newer = std::mem::replace(&mut state.taken, taken);
        for (same, counted) in newer.apart {
            state.taken.merge(same, counted);
        }
        for ((actor, code), untold) in newer.untold {
            state.taken.add_untold(actor, code, untold);
        }
        state.taken.count()
    }

    /// No code panics while it holds the lock, so what a poisoned one guards is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// Returns what an actor has had of this minute.
    fn minute(&mut self, actor: &str, now: Timestamp) -> &mut Minute {
        let is_over = |minute: &Minute| now.duration_since(minute.since).abs() >= MINUTE;
        if self.actors.len() >= MOST_ACTORS {
            self.actors.retain(|_, minute| !is_over(minute));
        }
        // With that many at once, those who come now share one minute.
        let actor =
            if self.actors.len() >= MOST_ACTORS && !self.actors.contains_key(actor) { ANY } else { actor };
        let minute =
            self.actors.entry(actor.to_owned()).or_insert(Minute { since: now, durable: 0, apart: 0 });
        if is_over(minute) {
            *minute = Minute { since: now, durable: 0, apart: 0 };
        }
        minute
    }
}

// === impl Taken ===

impl Taken {
    pub(super) fn is_empty(&self) -> bool {
        self.apart.is_empty() && self.untold.is_empty()
    }

    /// Returns how many attempts these are.
    pub(super) fn count(&self) -> u64 {
        let apart = self.apart.values().map(|counted| counted.count);
        apart.chain(self.untold.values().map(|untold| untold.count)).sum()
    }

    /// Returns the entries to write, in the order of the first attempts. They are of the time when they are written, so
    /// that the times in the journal stay in order; when the attempts were is in the detail.
    pub(super) fn entries(&self, now: Timestamp, request_id: RequestId) -> Vec<RefusedAttempt> {
        let mut entries: Vec<(Timestamp, RefusedAttempt)> = Vec::new();
        for counted in self.apart.values() {
            let mut entry = counted.first.clone();
            entry.at = now;
            entry.refusal.count = counted.count;
            entry.refusal.first_at = Some(counted.first_at);
            entry.refusal.last_at = Some(counted.last_at);
            entries.push((counted.first_at, entry));
        }
        for ((actor, code), untold) in &self.untold {
            let refusal = Refusal {
                count: untold.count,
                first_at: Some(untold.first_at),
                last_at: Some(untold.last_at),
                sources: Some(untold.sources.len() as u64),
                more_sources: untold.more_sources,
                ..Refusal::new(code.as_str())
            };
            let entry = RefusedAttempt {
                realm: RealmName::default(),
                actor: actor.clone(),
                source: ANY.to_owned(),
                action: ANY.to_owned(),
                request_id: request_id.to_string(),
                reason: String::new(),
                at: now,
                about: None,
                refusal,
            };
            entries.push((untold.first_at, entry));
        }
        entries.sort_by(|(one, a), (other, b)| {
            let order = |at: &Timestamp, it: &RefusedAttempt| {
                (*at, it.request_id.clone(), it.source.clone(), it.action.clone(), it.refusal.code.clone())
            };
            order(one, a).cmp(&order(other, b))
        });
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    fn merge(&mut self, same: Same, newer: Counted) {
        let full = self.apart.len() >= MOST_WAITING;
        match self.apart.get_mut(&same) {
            Some(counted) => {
                counted.add(newer.first);
                counted.count += newer.count - 1;
                counted.last_at = counted.last_at.max(newer.last_at);
            }
            None if !full => drop(self.apart.insert(same, newer)),
            None => {
                let (_, actor, source, _, code) = same;
                let mut untold = Untold::of(source, newer.first_at);
                (untold.count, untold.last_at) = (newer.count, newer.last_at);
                self.add_untold(actor, code, untold);
            }
        }
    }

    fn add_untold(&mut self, actor: String, code: String, more: Untold) {
        let mut key = (actor, code);
        if self.untold.len() >= MOST_UNTOLD && !self.untold.contains_key(&key) {
            // There are a few dozen codes.
            ANY.clone_into(&mut key.0);
        }
        match self.untold.get_mut(&key) {
            Some(untold) => untold.add(more),
            None => drop(self.untold.insert(key, more)),
        }
    }
}

// === impl Counted ===

impl Counted {
    /// Counts one more; what it says of its object and environment stays only if it is the same for all.
    fn add(&mut self, attempt: RefusedAttempt) {
        self.count += 1;
        self.first_at = self.first_at.min(attempt.at);
        self.last_at = self.last_at.max(attempt.at);
        let (mine, other) = (&mut self.first.about, attempt.about);
        if *mine != other {
            let kind = mine.as_ref().map(|about| about.kind);
            *mine = kind
                .filter(|kind| other.is_some_and(|other| other.kind == *kind))
                .map(|kind| About { kind, key: String::new() });
        }
        let refusal = &mut self.first.refusal;
        if refusal.environment != attempt.refusal.environment {
            refusal.environment = None;
        }
        if self.first.reason != attempt.reason {
            self.first.reason.clear();
        }
    }
}

// === impl Untold ===

impl Untold {
    fn of(source: String, at: Timestamp) -> Self {
        Self { count: 1, first_at: at, last_at: at, sources: HashSet::from([source]), more_sources: false }
    }

    fn add(&mut self, more: Self) {
        self.count += more.count;
        self.first_at = self.first_at.min(more.first_at);
        self.last_at = self.last_at.max(more.last_at);
        self.more_sources |= more.more_sources;
        for source in more.sources {
            if self.sources.len() < MOST_SOURCES {
                self.sources.insert(source);
            } else {
                self.more_sources |= !self.sources.contains(&source);
            }
        }
    }
}
