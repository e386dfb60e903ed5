//! What is known of an upstream: which of its targets is next, which are ill, how much may be tried again.
//!
//! One value belongs to one step of one deployment, so that nothing is looked up and no pipeline, let alone a realm,
//! learns of another's upstreams. All of it is atomics: calls never wait for each other here. Time is an argument, in
//! milliseconds of any clock that never goes back.
//!
//! A call fails before its answer begins, or the answer breaks off later, and each is counted in a row of its own: an
//! answer that begins well says nothing of how it will end, and a stream that goes on for hours must not count as nothing
//! until then. Only an answer that came whole ends both rows.
//!
//! A target that failed so often in a row is not called for a while. Whoever comes first after that puts the end of the
//! while off again and calls it: a success makes the target well, a failure changes nothing, and a call that is given up
//! is followed by another when the while is over. Where answers broke off, a success is a whole answer, or one that has
//! been coming for as long as the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use tollgate_model::steps::UpstreamSettings;

/// What a retry costs, in calls.
const RETRY_COST: u32 = 5;
/// Most that is saved for retries, in calls: ten of them.
const MAX_SAVED: u32 = 10 * RETRY_COST;

/// What is known of the upstream of a step.
#[derive(Debug)]
pub struct Upstream {
    targets: Vec<Target>,
    /// The sum of all weights.
    sum: u32,
    /// How far two calls that follow one another stand apart among the weights, when all targets are well.
    stride: u32,
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
    weight: u32,
    /// Calls in a row whose answer did not begin, or was none.
    failures: AtomicU32,
    /// Answers in a row that broke off.
    cut_off: AtomicU32,
    /// Until when it is not called; 0 while it is well.
    closed_until: AtomicU64,
    /// An answer has begun since it was closed, and none failed after that.
    answers: AtomicBool,
}

/// A place among the calls of an upstream; given back when it is dropped.
#[derive(Debug)]
pub struct Entered(Arc<Upstream>);

/// The targets that one call has tried.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried(u32);

/// What was heard of a target that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The head of an answer.
    Begun,
    /// The end of an answer.
    Whole,
    /// No answer, or one that says that it does not work.
    Failed,
    /// An answer that broke off.
    CutOff,
}

// === impl Upstream ===

impl Upstream {
    /// Returns an upstream with targets of these weights, all well.
    pub fn new(weights: &[u32], settings: &UpstreamSettings) -> Arc<Self> {
        let sum = weights.iter().sum();
        Arc::new(Self {
            targets: weights.iter().map(|weight| Target::new(*weight)).collect(),
            sum,
            stride: stride(sum),
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
        // A further try of a call takes no turn of another one.
        let turn = match (self.targets.len(), tried.0) {
            (1, _) => 0,
            (_, 0) => self.turn.fetch_add(1, Relaxed),
            _ => self.turn.load(Relaxed),
        };
        let chosen = self
            .choose_among(turn, now_ms, |index| !tried.contains(index))
            .or_else(|| self.choose_among(turn, now_ms, |index| tried.contains(index)))?;
        tried.0 |= bit(chosen);
        Some(chosen)
    }

    /// Chooses by weight among some targets. What an ill one does not get the others share by their weights.
    fn choose_among(&self, turn: u32, now_ms: u64, among: impl Fn(usize) -> bool) -> Option<usize> {
        let mut lost = 0;
        loop {
            let open = || {
                let all = self.targets.iter().enumerate();
                all.filter(|(index, target)| {
                    among(*index) && lost & bit(*index) == 0 && target.may_take(now_ms)
                })
            };
            let sum: u32 = open().map(|(_, target)| target.weight).sum();
            if sum == 0 {
                return None;
            }
            let stride = if sum == self.sum { self.stride } else { stride(sum) };
            // Such a number is below the sum, which is one.
            let place = u64::from(turn) * u64::from(stride) % u64::from(sum);
            let mut until = 0;
            let (index, target) = open().find(|(_, target)| {
                until += u64::from(target.weight);
                place < until
            })?;
            if target.takes(now_ms, self.settings) {
                return Some(index);
            }
            // Another call tries it.
            lost |= bit(index);
        }
    }

    /// Notes what was heard of a target.
    pub fn note(&self, target: usize, heard: Heard, now_ms: u64) {
        let Some(target) = self.targets.get(target) else { return };
        match heard {
            Heard::Begun => target.begun(self.settings),
            Heard::Whole => target.well(),
            Heard::Failed => target.failed(&target.failures, self.settings, now_ms),
            Heard::CutOff => target.failed(&target.cut_off, self.settings, now_ms),
        }
    }
}

/// Returns how far apart the places of calls that follow one another are, so that each target's calls are spread out and
/// every place comes once: the golden section of the sum, or the next number that has no factor in common with it.
fn stride(sum: u32) -> u32 {
    let golden = u32::try_from(u64::from(sum) * 618 / 1_000).unwrap_or_default().max(1);
    let gcd = |mut a: u32, mut b: u32| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (golden..).find(|stride| gcd(*stride, sum) == 1).unwrap_or(1)
}

// === impl Target ===

impl Target {
    fn new(weight: u32) -> Self {
        Self {
            weight,
            failures: AtomicU32::new(0),
            cut_off: AtomicU32::new(0),
            closed_until: AtomicU64::new(0),
            answers: AtomicBool::new(false),
        }
    }

    /// Tells whether it is well, or may be tried.
    fn may_take(&self, now_ms: u64) -> bool {
        self.closed_until.load(Relaxed) <= now_ms
    }

    fn takes(&self, now_ms: u64, settings: Settings) -> bool {
        match self.closed_until.load(Relaxed) {
            0 => true,
            until if until > now_ms => false,
            // The answer to the call that tried it has been coming since.
            _ if self.answers.load(Relaxed) => {
                self.well();
                true
            }
            // One call tries it; the others see it closed until that is known.
            until => {
                let next = now_ms.saturating_add(settings.open_ms).max(1);
                self.closed_until.compare_exchange(until, next, Relaxed, Relaxed).is_ok()
            }
        }
    }

    fn begun(&self, settings: Settings) {
        clear(&self.failures);
        if self.closed_until.load(Relaxed) == 0 {
            return;
        }
        if self.cut_off.load(Relaxed) < settings.failures {
            self.open();
        } else {
            self.answers.store(true, Relaxed);
        }
    }

    fn well(&self) {
        clear(&self.failures);
        clear(&self.cut_off);
        self.open();
    }

    fn open(&self) {
        if self.closed_until.load(Relaxed) != 0 {
            self.answers.store(false, Relaxed);
            self.closed_until.store(0, Relaxed);
        }
    }

    fn failed(&self, row: &AtomicU32, settings: Settings, now_ms: u64) {
        let is_last = |count: u32| count.saturating_add(1) >= settings.failures;
        // No more than the bound, so that the count never wraps.
        let count =
            row.fetch_update(Relaxed, Relaxed, |count| Some(count.saturating_add(1).min(settings.failures)));
        if count.is_ok_and(is_last) {
            self.answers.store(false, Relaxed);
            self.closed_until.store(now_ms.saturating_add(settings.open_ms).max(1), Relaxed);
        }
    }
}

/// Sets a count to zero. Mostly it is, and what is only read stays in the caches of all cores.
fn clear(count: &AtomicU32) {
    if count.load(Relaxed) != 0 {
        count.store(0, Relaxed);
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

    /// Calls by target, of so many.
    fn shares<const TARGETS: usize>(upstream: &Upstream, calls: usize, now_ms: u64) -> [u32; TARGETS] {
        let mut shares = [0; TARGETS];
        for _ in 0..calls {
            shares[choose(upstream, now_ms).expect("one is well")] += 1;
        }
        shares
    }

    #[test]
    fn targets_have_their_share_of_the_calls() {
        for weights in [[3, 1, 2], [1, 1, 1], [100, 1, 99], [1, 1, 100]] {
            let upstream = upstream(&weights, json!({}));
            let sum: u32 = weights.iter().sum();
            for _ in 0..3 {
                assert_eq!(shares(&upstream, sum as usize, 0), weights);
            }
        }
    }

    #[test]
    fn the_calls_of_a_target_are_spread_over_all_calls() {
        let upstream = upstream(&[90, 10], json!({}));
        for _ in 0..10 {
            let [_, few] = shares(&upstream, 20, 0);
            assert!((1..=3).contains(&few), "{few} of 20, where 2 are its share");
        }
    }

    #[test]
    fn what_an_ill_target_does_not_get_the_others_share_by_their_weights() {
        let upstream = upstream(&[60, 10, 20, 10], json!({ "breaker": { "failures": 1, "openMs": 1000 } }));
        upstream.note(0, Heard::Failed, 0);
        assert_eq!(shares(&upstream, 400, 1), [0, 100, 200, 100]);
        // A second try is for those that were not tried, by weight: here a third of them each.
        let mut second = [0; 4];
        for _ in 0..400 {
            let mut tried = Tried::default();
            upstream.choose(1, &mut tried).expect("well");
            second[upstream.choose(1, &mut tried).expect("well")] += 1;
        }
        assert!(second[0] == 0 && second[1..].iter().all(|it| (125..=142).contains(it)), "{second:?}");
        upstream.note(2, Heard::Failed, 1);
        assert_eq!(shares(&upstream, 40, 2), [0, 20, 0, 20]);
    }

    #[test]
    fn a_target_that_fails_again_and_again_is_left_alone_and_then_tried_by_one_call() {
        let upstream = upstream(&[1], json!({ "breaker": { "failures": 3, "openMs": 1000 } }));
        for _ in 0..2 {
            upstream.note(0, Heard::Failed, 10);
        }
        assert_eq!(choose(&upstream, 10), Some(0), "two of three");
        upstream.note(0, Heard::Begun, 10);
        (0..3).for_each(|_| upstream.note(0, Heard::Failed, 20));
        assert_eq!((choose(&upstream, 21), choose(&upstream, 1_019)), (None, None));
        assert_eq!((choose(&upstream, 1_020), choose(&upstream, 1_020)), (Some(0), None), "one tries");
        upstream.note(0, Heard::Failed, 1_500);
        assert_eq!((choose(&upstream, 2_499), choose(&upstream, 2_500)), (None, Some(0)), "still ill");
        assert_eq!(
            (choose(&upstream, 3_499), choose(&upstream, 3_500)),
            (None, Some(0)),
            "a call was given up"
        );
        upstream.note(0, Heard::Begun, 3_501);
        assert_eq!((choose(&upstream, 3_501), choose(&upstream, 3_501)), (Some(0), Some(0)), "well again");
        upstream.note(0, Heard::Failed, 3_502);
        assert_eq!(choose(&upstream, 3_502), Some(0), "counted anew");
    }

    #[test]
    fn answers_that_begin_well_and_break_off_are_failures_in_a_row() {
        let upstream = upstream(&[1], json!({ "breaker": { "failures": 3, "openMs": 1000 } }));
        let call = |end, now_ms| {
            upstream.note(0, Heard::Begun, now_ms);
            upstream.note(0, end, now_ms);
        };
        (0..2).for_each(|_| call(Heard::CutOff, 0));
        call(Heard::Whole, 0);
        (0..2).for_each(|_| call(Heard::CutOff, 0));
        assert_eq!(choose(&upstream, 0), Some(0), "a whole one was between them");
        call(Heard::CutOff, 0);
        assert_eq!(choose(&upstream, 999), None);
        // The head of an answer does not tell that it will come whole.
        assert_eq!(choose(&upstream, 1_000), Some(0));
        upstream.note(0, Heard::Begun, 1_001);
        assert_eq!(choose(&upstream, 1_999), None);
        upstream.note(0, Heard::CutOff, 1_999);
        assert_eq!((choose(&upstream, 2_998), choose(&upstream, 2_999)), (None, Some(0)));
        upstream.note(0, Heard::Begun, 3_000);
        upstream.note(0, Heard::Whole, 3_001);
        assert_eq!((choose(&upstream, 3_001), choose(&upstream, 3_001)), (Some(0), Some(0)), "well again");
        // One that does not end, but has been coming for as long as others waited, is as good.
        (0..3).for_each(|_| call(Heard::CutOff, 4_000));
        assert_eq!(choose(&upstream, 5_000), Some(0));
        upstream.note(0, Heard::Begun, 5_001);
        assert_eq!(choose(&upstream, 5_999), None);
        assert_eq!((choose(&upstream, 6_000), choose(&upstream, 6_000)), (Some(0), Some(0)));
    }

    #[test]
    fn of_all_calls_that_come_at_the_same_moment_one_tries_an_ill_target() {
        let upstream = upstream(&[1], json!({ "breaker": { "failures": 1, "openMs": 1 } }));
        upstream.note(0, Heard::Failed, 0);
        let (callers, rounds) = (4, 20_000);
        let (round, done) = (AtomicU64::new(0), AtomicU64::new(0));
        let tries: Vec<AtomicU32> = (0..rounds).map(|_| AtomicU32::new(0)).collect();
        // They wait for each other awake, so that they ask as much at once as the machine lets them.
        std::thread::scope(|scope| {
            for _ in 0..callers {
                scope.spawn(|| {
                    for (now_ms, tries) in (0..).zip(&tries) {
                        while round.load(Relaxed) < now_ms {
                            std::hint::spin_loop();
                            std::thread::yield_now();
                        }
                        tries.fetch_add(u32::from(choose(&upstream, now_ms).is_some()), Relaxed);
                        if done.fetch_add(1, Relaxed) + 1 == callers * (now_ms + 1) {
                            round.store(now_ms + 1, Relaxed);
                        }
                    }
                });
            }
        });
        let tries: Vec<_> = tries.iter().map(|it| it.load(Relaxed)).collect();
        assert_eq!(tries[0], 0, "it is closed");
        assert!(tries[1..].iter().all(|it| *it == 1), "more than one, or none");
    }

    #[test]
    fn the_others_get_the_calls_of_a_target_that_is_ill_and_a_retry_goes_elsewhere() {
        let upstream = upstream(&[1, 1], json!({ "breaker": { "failures": 1 } }));
        let mut tried = Tried::default();
        let first = upstream.choose(0, &mut tried).expect("well");
        let second = upstream.choose(0, &mut tried).expect("well");
        assert_ne!(first, second);
        assert!(upstream.choose(0, &mut tried).is_some(), "again, when all were tried");
        upstream.note(0, Heard::Failed, 0);
        assert!((0..10).all(|_| choose(&upstream, 1) == Some(1)));
        upstream.note(1, Heard::Failed, 1);
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
