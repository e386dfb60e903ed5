//! What is kept of refused calls, so that somebody can be told why they were refused.
//!
//! Only refusals cost anything here, and a flood of them little: whether one is kept is decided first, by allowances that
//! fill up again with time, and only then are its words made. There is an allowance for the process, one for each
//! deployment, one for each source, and one for each source at a deployment, so that whoever floods one pipeline uses up
//! what is kept of it and leaves the others theirs. What was not kept is counted by realm and minute.
//!
//! The last refusals are in memory; whoever writes them down takes them from here. What is not taken before its place is
//! needed counts as not kept.
//!
//! A refusal belongs to the realm of the deployment that its path reached, else to the realm that its path names, else to
//! the only realm that there is. With several realms, a call that names none belongs to nobody, and nothing is kept.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tollgate_model::explanations::Refusal;
use tollgate_model::ids::{DeploymentId, RequestId};
use tollgate_model::names::RealmName;
use tollgate_snapshot::Snapshot;

use crate::access_line::method_name;
use crate::bounded::BoundedMap;
use crate::explain::{cut, fault, reached, realm_of_path, reports_of_refusal, scope_of, sent};
use crate::gateway::{ListenerId, Received, Record};
use crate::problem::Problem;
use crate::rate_limits::Caller;
use crate::why::About;

/// Refusals in memory.
const CAPACITY: usize = 10_000;

/// Allowances in memory, of each generation.
const ALLOWANCES: usize = 20_000;

/// Longest path that is kept.
const MAX_PATH_CHARS: usize = 256;

/// Longest code that is kept: the author of a flow may have chosen it.
pub(crate) const MAX_CODE_CHARS: usize = 64;

/// Refusals not kept, by realm and minute since 1970.
pub type DroppedRefusals = BTreeMap<RealmName, BTreeMap<i64, u64>>;

/// The last refusals.
#[derive(Debug)]
pub struct Refusals {
    inner: Mutex<Inner>,
    capacity: usize,
}

/// What was taken to be written down.
#[derive(Debug, Default)]
pub struct TakenRefusals {
    /// Refusals with their realms, oldest first.
    pub refusals: Vec<(RealmName, Arc<Refusal>)>,
    /// What was not kept since the last time.
    pub dropped: DroppedRefusals,
}

/// A call that was refused.
pub(crate) struct Refused<'a> {
    pub(crate) listener: &'a ListenerId,
    pub(crate) received: &'a Received<'a>,
    pub(crate) snapshot: Option<&'a Snapshot>,
    pub(crate) record: &'a Record,
    pub(crate) problem: &'a Problem,
}

#[derive(Debug)]
struct Inner {
    ring: VecDeque<(RealmName, Arc<Refusal>)>,
    /// How many at the end of the ring were not taken yet.
    waiting: usize,
    allowances: BoundedMap<Share, i64>,
    dropped: DroppedRefusals,
}

/// Who shares an allowance. `None` stands for no deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Share {
    All,
    Deployment(Option<DeploymentId>),
    Source(IpAddr),
    SourceAt(IpAddr, Option<DeploymentId>),
}

// === impl Share ===

impl Share {
    /// Returns how many are kept at once, and after how many milliseconds there is room for one more.
    fn allowance(self) -> (i64, i64) {
        match self {
            Self::All => (1_000, 2_000),
            Self::Source(_) => (500, 4_000),
            Self::Deployment(_) => (300, 8_000),
            Self::SourceAt(..) => (100, 20_000),
        }
    }
}

// === impl Refusals ===

impl Refusals {
    /// Returns a place without a refusal.
    pub fn new() -> Self {
        Self::holding(CAPACITY)
    }

    fn holding(capacity: usize) -> Self {
        let inner = Inner {
            ring: VecDeque::new(),
            waiting: 0,
            allowances: BoundedMap::new(ALLOWANCES),
            dropped: DroppedRefusals::new(),
        };
        Self { inner: Mutex::new(inner), capacity }
    }

    /// Keeps what is needed to explain a refusal, if there is room for it.
    pub(crate) fn note(&self, refused: &Refused<'_>) {
        let Some(realm) = realm_of(refused) else { return };
        let (now, deployment) =
            (refused.received.now, refused.record.endpoint.as_ref().map(|it| it.deployment));
        if self.admit(&realm, deployment, refused.received.remote, now) {
            self.push(realm, Arc::new(refusal(refused)), self.capacity);
        }
    }

    /// Takes up to `limit` refusals that were not taken before, and the counts of what was not kept.
    pub fn take(&self, limit: usize) -> TakenRefusals {
        let mut inner = self.lock();
        let start = inner.ring.len().saturating_sub(inner.waiting);
        let refusals: Vec<_> = inner.ring.iter().skip(start).take(limit).cloned().collect();
        inner.waiting -= refusals.len();
        TakenRefusals { refusals, dropped: std::mem::take(&mut inner.dropped) }
    }

    /// Returns a refusal of a realm that is still in memory.
    pub fn find(&self, realm: &RealmName, id: RequestId) -> Option<Arc<Refusal>> {
        let inner = self.lock();
        let found = inner.ring.iter().rev().find(|(of, refusal)| refusal.request_id == id && of == realm);
        found.map(|(_, refusal)| refusal.clone())
    }

    /// Returns the refusals of a realm that are still in memory, newest first.
    pub fn recent(&self, realm: &RealmName) -> Vec<Arc<Refusal>> {
        let inner = self.lock();
        inner.ring.iter().rev().filter(|(of, _)| of == realm).map(|(_, refusal)| refusal.clone()).collect()
    }

    /// Charges the allowances, if all of them have room; else counts that one was not kept.
    fn admit(
        &self,
        realm: &RealmName,
        deployment: Option<DeploymentId>,
        remote: IpAddr,
        now: Timestamp,
    ) -> bool {
        let source = match Caller::address(remote) {
            Caller::Address(source) => source,
            _ => remote,
        };
        let shares = [
            Share::All,
            Share::Deployment(deployment),
            Share::Source(source),
            Share::SourceAt(source, deployment),
        ];
        let now_ms = now.as_millisecond();
        let mut inner = self.lock();
        // As in a rate limit, what is kept is the time at which all would be allowed again.
        let next = shares.map(|share| {
            let (burst, every_ms) = share.allowance();
            let full_at = inner.allowances.remove(&share);
            // A clock that was set back must not keep a share empty for longer than it takes to fill.
            let held = full_at.unwrap_or_default().clamp(now_ms, now_ms + burst * every_ms);
            (share, full_at.map(|_| held), held + every_ms, held + every_ms - now_ms <= burst * every_ms)
        });
        let admitted = next.iter().all(|(.., has_room)| *has_room);
        for (share, held, next, _) in next {
            // What is used stays in memory, also while it is refused.
            if let Some(value) = if admitted { Some(next) } else { held } {
                inner.allowances.insert(share, value);
            }
        }
        if !admitted {
            inner.drop_one(realm, now);
        }
        admitted
    }

    fn push(&self, realm: RealmName, refusal: Arc<Refusal>, capacity: usize) {
        let mut inner = self.lock();
        inner.ring.push_back((realm, refusal));
        inner.waiting += 1;
        if inner.ring.len() > capacity
            && let Some((realm, oldest)) = inner.ring.pop_front()
            && inner.waiting > inner.ring.len()
        {
            inner.waiting = inner.ring.len();
            inner.drop_one(&realm, oldest.at);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Refusals {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Inner ===

impl Inner {
    fn drop_one(&mut self, realm: &RealmName, at: Timestamp) {
        let minute = at.as_second().div_euclid(60);
        // Without an allocation once there is an entry: this is what a flood pays.
        if let Some(count) = self.dropped.get_mut(realm).and_then(|minutes| minutes.get_mut(&minute)) {
            *count += 1;
        } else {
            *self.dropped.entry(realm.clone()).or_default().entry(minute).or_default() += 1;
        }
    }
}

/// Returns whose a refusal is.
pub(crate) fn realm_of(refused: &Refused<'_>) -> Option<RealmName> {
    if let Some(endpoint) = &refused.record.endpoint {
        return Some(endpoint.realm.clone());
    }
    let snapshot = refused.snapshot?;
    let mut realms = snapshot.realms();
    match (realms.next(), realms.next()) {
        (Some(only), None) => Some(only.clone()),
        _ => {
            let named = realm_of_path(refused.received.parts.uri.path())?;
            snapshot.realms().any(|realm| *realm == named).then_some(named)
        }
    }
}

fn refusal(refused: &Refused<'_>) -> Refusal {
    let Refused { listener, received, snapshot, record, problem } = refused;
    let sent = sent(received.parts);
    let about = About {
        sent: &sent,
        scope: scope_of(*snapshot, record),
        route: record.route.as_deref(),
        now: received.now,
    };
    Refusal {
        request_id: received.request_id,
        at: received.now,
        environment: listener.environment.clone(),
        exposure: listener.exposure,
        method: method_name(&received.parts.method).to_owned(),
        path: shown_path(received.parts.uri.path()),
        remote: received.remote,
        status: problem.status().as_u16(),
        code: cut(problem.code(), MAX_CODE_CHARS),
        reached: reached(record, Some(problem)),
        revision: snapshot.map(|snapshot| snapshot.seq).unwrap_or_default(),
        checks: reports_of_refusal(fault(problem, record, &about), record),
        sent,
    }
}

/// Returns a path as it is kept: cut, and without a segment that looks like a key or a token in the wrong place.
pub(crate) fn shown_path(path: &str) -> String {
    let looks_secret = |segment: &str| {
        segment.len() >= 16 && ["tg_", "tgu_", "eyJ"].iter().any(|start| segment.contains(start))
    };
    let segments = path.split('/').map(|segment| if looks_secret(segment) { "…" } else { segment });
    cut(&segments.collect::<Vec<_>>().join("/"), MAX_PATH_CHARS)
}

#[cfg(test)]
mod tests;
