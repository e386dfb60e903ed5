//! What is known of an upstream: which of its targets is next, which are ill, how much may be tried again.
//!
//! One value belongs to one step of one deployment, so that nothing is looked up and no pipeline, let alone a realm,
//! learns of another's upstreams. All of it is atomics: calls never wait for each other here. Time is an argument, in
//! milliseconds of any clock that never goes back.
//!
//! A target that failed so often in a row is not called for a while. Whoever comes first after that puts the end of the
//! while off again and calls it: a success makes the target well, a failure changes nothing, and a call that is given up
//! is followed by another when the while is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use tollgate_model::steps::UpstreamSettings;

/// What a retry costs, in calls.
const RETRY_COST: u32 = 5;
/// Most that is saved for retries, in calls: ten of them.
const MAX_SAVED: u32 = 10 * RETRY_COST;

/// What is known of the upstream of a step.
#[derive(Debug)]
pub struct Upstream {
    targets: Vec<Target>,
    /// Counts calls; their share of the weights follows from it.
    turn: AtomicU32,
    in_flight: AtomicU32,
    saved: AtomicU32,
    settings: Settings,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    max_concurrent: u32,
    retries: u32,
    failures: u32,
    open_ms: u64,
}

#[derive(Debug)]
struct Target {
    /// The sum of the weights up to this one.
    weight_until: u32,
    failures: AtomicU32,
    /// Until when it is not called; 0 while it is well.
    closed_until: AtomicU64,
}

/// A place among the calls of an upstream; given back when it is dropped.
#[derive(Debug)]
pub struct Entered(Arc<Upstream>);

/// The targets that one call has tried.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried(u32);

// === impl Upstream ===

impl Upstream {
    /// Returns an upstream with targets of these weights, all well.
    pub fn new(weights: &[u32], settings: &UpstreamSettings) -> Arc<Self> {
        let mut sum = 0;
        let targets = weights
            .iter()
            .map(|weight| {
                sum += weight;
                Target { weight_until: sum, failures: AtomicU32::new(0), closed_until: AtomicU64::new(0) }
            })
            .collect();
        Arc::new(Self {
            targets,
            turn: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            saved: AtomicU32::new(MAX_SAVED),
            settings: Settings {
                max_concurrent: settings.max_concurrent.get(),
                retries: settings.retries.get(),
                failures: settings.breaker.failures.get(),
                open_ms: settings.breaker.open_ms.get().into(),
            },
        })
    }

    /// Takes a place for a call; `None` when there are as many calls as there may be.
    pub fn enter(self: &Arc<Self>) -> Option<Entered> {
        if self.in_flight.fetch_add(1, Relaxed) >= self.settings.max_concurrent {
            self.in_flight.fetch_sub(1, Relaxed);
            return None;
        }
        let _ = self.saved.fetch_update(Relaxed, Relaxed, |saved| (saved < MAX_SAVED).then_some(saved + 1));
        Some(Entered(self.clone()))
    }

    /// Returns how often a call may be tried again.
    pub fn retries(&self) -> u32 {
        self.settings.retries
    }

    /// Takes a retry out of what was saved for them.
    pub fn may_retry(&self) -> bool {
        self.saved.fetch_update(Relaxed, Relaxed, |saved| saved.checked_sub(RETRY_COST)).is_ok()
    }

    /// Chooses a target by weight, of those that are well; one that was not tried yet if there is any.
    ///
    /// `None` when none is well.
    pub fn choose(&self, now_ms: u64, tried: &mut Tried) -> Option<usize> {
        let sum = self.targets.last().map_or(1, |last| last.weight_until);
        let turn = if self.targets.len() == 1 { 0 } else { self.turn.fetch_add(1, Relaxed) % sum };
        let first = self.targets.iter().position(|target| turn < target.weight_until).unwrap_or_default();
        let every = || (first..self.targets.len()).chain(0..first);
        let chosen = every()
            .filter(|index| !tried.contains(*index))
            .chain(every().filter(|index| tried.contains(*index)))
            .find(|index| {
                self.targets.get(*index).is_some_and(|it| it.takes(now_ms, self.settings.open_ms))
            })?;
        tried.0 |= bit(chosen);
        Some(chosen)
    }

    /// Notes how a call of a target went.
    pub fn note(&self, target: usize, is_well: bool, now_ms: u64) {
        let Some(target) = self.targets.get(target) else { return };
        if is_well {
            // Mostly nothing changes, and what is only read stays in the caches of all cores.
            if target.failures.load(Relaxed) != 0 {
                target.failures.store(0, Relaxed);
            }
            if target.closed_until.load(Relaxed) != 0 {
                target.closed_until.store(0, Relaxed);
            }
        } else if target.failures.fetch_add(1, Relaxed).saturating_add(1) >= self.settings.failures {
            target.failures.store(self.settings.failures, Relaxed);
            target.closed_until.store(now_ms.saturating_add(self.settings.open_ms).max(1), Relaxed);
        }
    }
}

// === impl Target ===

impl Target {
    fn takes(&self, now_ms: u64, open_ms: u64) -> bool {
        match self.closed_until.load(Relaxed) {
            0 => true,
            until if until > now_ms => false,
            // One call tries it; the others see it closed until that is known.
            until => {
                let next = now_ms.saturating_add(open_ms).max(1);
                self.closed_until.compare_exchange(until, next, Relaxed, Relaxed).is_ok()
            }
        }
    }
}

// === impl Tried ===

impl Tried {
    fn contains(self, target: usize) -> bool {
        self.0 & bit(target) != 0
    }
}

fn bit(target: usize) -> u32 {
    u32::try_from(target).ok().and_then(|shift| 1_u32.checked_shl(shift)).unwrap_or_default()
}

// === impl Entered ===

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn upstream(weights: &[u32], settings: serde_json::Value) -> Arc<Upstream> {
        Upstream::new(weights, &serde_json::from_value(settings).expect("settings"))
    }

    fn choose(upstream: &Upstream, now_ms: u64) -> Option<usize> {
        upstream.choose(now_ms, &mut Tried::default())
    }

    #[test]
    fn targets_have_their_share_of_the_calls() {
        let upstream = upstream(&[3, 1, 2], json!({}));
        let mut calls = [0; 3];
        for _ in 0..600 {
            calls[choose(&upstream, 0).expect("all are well")] += 1;
        }
        assert_eq!(calls, [300, 100, 200]);
    }

    #[test]
    fn a_target_that_fails_again_and_again_is_left_alone_and_then_tried_by_one_call() {
        let upstream = upstream(&[1], json!({ "breaker": { "failures": 3, "openMs": 1000 } }));
        for _ in 0..2 {
            upstream.note(0, false, 10);
        }
        assert_eq!(choose(&upstream, 10), Some(0), "two of three");
        upstream.note(0, true, 10);
        (0..3).for_each(|_| upstream.note(0, false, 20));
        assert_eq!((choose(&upstream, 21), choose(&upstream, 1_019)), (None, None));
        assert_eq!((choose(&upstream, 1_020), choose(&upstream, 1_020)), (Some(0), None), "one tries");
        upstream.note(0, false, 1_500);
        assert_eq!((choose(&upstream, 2_499), choose(&upstream, 2_500)), (None, Some(0)), "still ill");
        assert_eq!(
            (choose(&upstream, 3_499), choose(&upstream, 3_500)),
            (None, Some(0)),
            "a call was given up"
        );
        upstream.note(0, true, 3_501);
        assert_eq!((choose(&upstream, 3_501), choose(&upstream, 3_501)), (Some(0), Some(0)), "well again");
        upstream.note(0, false, 3_502);
        assert_eq!(choose(&upstream, 3_502), Some(0), "counted anew");
    }

    #[test]
    fn the_others_get_the_calls_of_a_target_that_is_ill_and_a_retry_goes_elsewhere() {
        let upstream = upstream(&[1, 1], json!({ "breaker": { "failures": 1 } }));
        let mut tried = Tried::default();
        let first = upstream.choose(0, &mut tried).expect("well");
        let second = upstream.choose(0, &mut tried).expect("well");
        assert_ne!(first, second);
        assert!(upstream.choose(0, &mut tried).is_some(), "again, when all were tried");
        upstream.note(0, false, 0);
        assert!((0..10).all(|_| choose(&upstream, 1) == Some(1)));
        upstream.note(1, false, 1);
        assert_eq!(choose(&upstream, 2), None);
    }

    #[test]
    fn calls_at_once_are_bounded() {
        let upstream = upstream(&[1], json!({ "maxConcurrent": 2 }));
        let first = upstream.enter().expect("free");
        let _second = upstream.enter().expect("free");
        assert!(upstream.enter().is_none());
        drop(first);
        assert!(upstream.enter().is_some());
    }

    #[test]
    fn retries_are_a_fifth_of_the_calls_and_ten() {
        let upstream = upstream(&[1], json!({ "retries": 3 }));
        let spend = || (0..100).filter(|_| upstream.may_retry()).count();
        assert_eq!(spend(), 10);
        (0..20).for_each(|_| drop(upstream.enter()));
        assert_eq!(spend(), 4);
    }
}
