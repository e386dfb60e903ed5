//! Rate limits: the generic cell rate algorithm (GCRA), one counter per API and caller.
//!
//! A limit of 60 a minute gives one call back every second and lets 60 come at once. Of each limit one moment is
//! kept: the time at which the caller would have all its calls back (the "theoretical arrival time"). A call moves
//! it by `interval / limit`, and is refused when that would put it further ahead of now than the interval. What a
//! nanosecond cannot hold of `interval / limit` is kept as a fraction, so that nothing is lost to rounding.
//!
//! A caller that is refused is not charged, and a call must fit all limits before any of them is charged.
//!
//! An API is a pipeline in an environment: all its routes, all majors that are deployed, and whatever is deployed in its
//! place draw from the same moments. What is kept is a share of the interval, so that majors with limits of their own
//! can share it (decision 0044).
//!
//! Memory is bounded, so that counters can be forgotten. Callers without credentials have a memory of their own: whoever
//! comes from ever new addresses pushes out addresses, and never the quota of a consumer.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, OnceLock, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use tollgate_model::ids::{ConsumerId, CredentialId};
use tollgate_model::triggers::{Interval, Limit};
use tollgate_snapshot::{ApiId, IdHasher, shard_of};

use crate::bounded::BoundedMap;

const SHARDS: usize = 64;
/// Intervals that a limit can have, each with a moment of its own.
const INTERVALS: usize = 5;
/// Longest value of a field of ours: for each interval a name, two numbers of 20 digits and what stands between them.
const FIELD_BYTES: usize = INTERVALS * 64;
const NANOS: u64 = 1_000_000_000;
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Whose calls are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    Consumer(ConsumerId),
    Credential(CredentialId),
    Address(IpAddr),
}

/// A theoretical arrival time: nanoseconds since 1970, and a fraction of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Arrival {
    nanos: u64,
    /// Invariant: counted in parts of which the limit it was counted for makes a nanosecond, and less than one.
    part: u32,
}

/// The arrival times of a caller, by interval.
type Arrivals = [Arrival; INTERVALS];

type Shard<S> = BoundedMap<(ApiId, Caller), Arrivals, S>;

/// The counters of all callers.
#[derive(Debug)]
pub(crate) struct RateLimits {
    /// Of consumers and credentials, which nobody can make up.
    known: Vec<Mutex<Shard<IdHasher>>>,
    /// Whoever calls chooses the address, and could choose many that fall together.
    addresses: Vec<Mutex<Shard<RandomState>>>,
    hasher: RandomState,
}

/// What the limits say of one call.
#[derive(Debug)]
pub(crate) struct Decision {
    /// Seconds to wait, rounded up, when the call is refused.
    pub(crate) retry_after: Option<u64>,
    states: States,
}

/// In a place of their own each: a call makes one of these, without an allocation.
type States = [Option<LimitState>; INTERVALS];

#[derive(Debug, Clone, Copy)]
struct LimitState {
    limit: Limit,
    remaining: u64,
    /// Seconds until all calls are back, rounded up.
    reset: u64,
}

/// A field's value while it is written.
#[derive(Debug)]
struct FieldText {
    bytes: [u8; FIELD_BYTES],
    len: usize,
}

// === impl Caller ===

impl Caller {
    /// Returns the caller for an address. All of an IPv6 /64 is one caller, since one subscriber holds it whole.
    pub(crate) fn address(address: IpAddr) -> Self {
        Self::Address(subscriber(address))
    }
}

/// Returns who has an address: all of an IPv6 /64 is one subscriber's.
pub(crate) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

// === impl RateLimits ===

impl RateLimits {
    /// Returns counters that hold about `capacity` callers with credentials, and as many addresses.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { known: shards(capacity), addresses: shards(capacity), hasher: RandomState::new() }
    }

    /// Counts a call, if it fits all limits.
    pub(crate) fn charge(&self, api: ApiId, caller: Caller, limits: &[Limit], now: Timestamp) -> Decision {
        self.decide(api, caller, limits, now, true)
    }

    /// Tells what [`RateLimits::charge`] would say, and counts nothing.
    pub(crate) fn look(&self, api: ApiId, caller: Caller, limits: &[Limit], now: Timestamp) -> Decision {
        self.decide(api, caller, limits, now, false)
    }

    fn decide(&self, api: ApiId, caller: Caller, limits: &[Limit], now: Timestamp, counts: bool) -> Decision {
        let now = u64::try_from(now.as_nanosecond()).unwrap_or_default();
        let key = (api, caller);
        let id = match caller {
            Caller::Address(_) => {
                let shard = usize::try_from(self.hasher.hash_one(key)).unwrap_or_default();
                return decide_in(&self.addresses, shard, key, limits, now, counts);
            }
            Caller::Consumer(id) => id.as_u128(),
            Caller::Credential(id) => id.as_u128(),
        };
        decide_in(&self.known, shard_of::<SHARDS>(id), key, limits, now, counts)
    }
}

fn shards<S: BuildHasher + Default>(capacity: usize) -> Vec<Mutex<Shard<S>>> {
    (0..SHARDS).map(|_| Mutex::new(BoundedMap::new(capacity / SHARDS))).collect()
}

fn decide_in<S: BuildHasher + Default>(
    shards: &[Mutex<Shard<S>>],
    shard: usize,
    key: (ApiId, Caller),
    limits: &[Limit],
    now: u64,
    counts: bool,
) -> Decision {
    let Some(shard) = shards.get(shard % SHARDS) else {
        return Decision { retry_after: None, states: States::default() };
    };
    let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
    if counts {
        shard.change(key, |arrivals| charge(arrivals, limits, now))
    } else {
        charge(&mut shard.get(&key).copied().unwrap_or_default(), limits, now)
    }
}

/// Charges limits; `now` is in nanoseconds since 1970.
fn charge(arrivals: &mut Arrivals, limits: &[Limit], now: u64) -> Decision {
    let wait = limits
        .iter()
        .map(|limit| {
            let arrival = arrivals.get(slot(limit.interval)).copied().unwrap_or_default();
            let after = arrival.start(limit, now).after_a_call(limit);
            let latest = now + interval_nanos(limit);
            after.nanos.saturating_sub(latest) + u64::from(after.nanos >= latest && after.part > 0)
        })
        .max()
        .unwrap_or_default();
    let mut states = States::default();
    for (limit, state) in limits.iter().zip(&mut states) {
        let arrival = arrivals.get(slot(limit.interval)).copied().unwrap_or_default().start(limit, now);
        let arrival = if wait == 0 { arrival.after_a_call(limit) } else { arrival };
        if let Some(kept) = arrivals.get_mut(slot(limit.interval)) {
            *kept = arrival;
        }
        let owed = arrival.nanos - now;
        let reset = (owed + u64::from(arrival.part > 0)).div_ceil(NANOS);
        *state = Some(LimitState { limit: *limit, remaining: remaining(limit, owed, arrival.part), reset });
    }
    Decision { retry_after: (wait > 0).then(|| wait.div_ceil(NANOS)), states }
}

/// Returns how many calls fit into what is left of an interval: `floor((interval - owed) * limit / interval)`.
fn remaining(limit: &Limit, owed: u64, part: u32) -> u64 {
    let (interval, calls) = (interval_nanos(limit), u64::from(limit.limit.get()));
    let left = interval.saturating_sub(owed);
    match left.checked_mul(calls) {
        Some(product) => product.saturating_sub(part.into()) / interval,
        None => {
            let product = (u128::from(left) * u128::from(calls)).saturating_sub(part.into());
            u64::try_from(product / u128::from(interval)).unwrap_or(u64::MAX)
        }
    }
}

fn interval_nanos(limit: &Limit) -> u64 {
    limit.interval.seconds() * NANOS
}

/// Returns the place of an interval among a caller's arrival times.
fn slot(interval: Interval) -> usize {
    match interval {
        Interval::Second => 0,
        Interval::Minute => 1,
        Interval::Hour => 2,
        Interval::Day => 3,
        Interval::Month => 4,
    }
}

// === impl Arrival ===

impl Arrival {
    /// Returns the time that the next call is counted from. A clock that was set back, or a limit that was made smaller,
    /// must not lock a caller out for longer than the interval.
    fn start(self, limit: &Limit, now: u64) -> Self {
        let latest = Self { nanos: now + interval_nanos(limit), part: 0 };
        // A fraction that was counted for a larger limit is rounded up.
        let whole =
            if self.part < limit.limit.get() { self } else { Self { nanos: self.nanos + 1, part: 0 } };
        whole.clamp(Self { nanos: now, part: 0 }, latest)
    }

    /// Adds `interval / limit`.
    fn after_a_call(self, limit: &Limit) -> Self {
        let (interval, calls) = (interval_nanos(limit), u64::from(limit.limit.get()));
        let part = u64::from(self.part) + interval % calls;
        Self {
            nanos: self.nanos + interval / calls + part / calls,
            part: u32::try_from(part % calls).unwrap_or_default(),
        }
    }
}

// === impl Decision ===

impl Decision {
    /// Says how many calls are left, by limit.
    pub(crate) fn words(&self) -> String {
        let left = self.states.iter().flatten().map(|LimitState { limit, remaining, .. }| {
            format!("{remaining} of {} a {}", limit.limit, limit.interval.name())
        });
        left.collect::<Vec<_>>().join(", ")
    }

    /// Adds `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers). The first is kept in `policy`: it
    /// says the same of each call to an endpoint.
    pub(crate) fn write(&self, policy: &OnceLock<HeaderValue>, headers: &mut HeaderMap) {
        headers.insert(RATE_LIMIT_POLICY, policy.get_or_init(|| self.policy()).clone());
        let mut state = FieldText::default();
        for (n, LimitState { limit, remaining, reset }) in self.states.iter().flatten().enumerate() {
            state.name(n, limit.interval);
            state.parameter(b"\";r=", *remaining);
            state.parameter(b";t=", *reset);
        }
        headers.insert(RATE_LIMIT, state.value());
    }

    fn policy(&self) -> HeaderValue {
        let mut policy = FieldText::default();
        for (n, LimitState { limit, .. }) in self.states.iter().flatten().enumerate() {
            policy.name(n, limit.interval);
            policy.parameter(b"\";q=", limit.limit.get().into());
            policy.parameter(b";w=", limit.interval.seconds());
        }
        policy.value()
    }
}

// === impl FieldText ===

impl FieldText {
    fn add(&mut self, bytes: &[u8]) {
        if let Some(free) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            free.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn name(&mut self, place: usize, interval: Interval) {
        self.add(if place > 0 { b", \"" } else { b"\"" });
        self.add(interval.name().as_bytes());
    }

    fn parameter(&mut self, name: &[u8], number: u64) {
        self.add(name);
        self.add(itoa::Buffer::new().format(number).as_bytes());
    }

    fn value(&self) -> HeaderValue {
        let text = HeaderValue::from_bytes(self.bytes.get(..self.len).unwrap_or_default());
        text.expect("names of ours, numbers and signs make a field")
    }
}

impl Default for FieldText {
    fn default() -> Self {
        Self { bytes: [0; FIELD_BYTES], len: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;
    use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};

    use super::*;

    fn limit(interval: Interval, limit: u32) -> Limit {
        Limit { interval, limit: NonZeroU32::new(limit).expect("not zero") }
    }

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millisecond).expect("in range")
    }

    fn ids(n: u8) -> (ApiId, Caller) {
        let pipeline = PipelineName::parse(&format!("api-{n}")).expect("a name");
        let api = ApiId::of(&RealmName::default(), &EnvironmentName::test(), &pipeline);
        (api, Caller::Consumer(ConsumerId::new(at(0), [n; 10])))
    }

    /// The algorithm in fractions that are never rounded: how far ahead of now each limit is, in nanoseconds times the
    /// limit.
    #[derive(Default)]
    struct Exact {
        arrivals: Vec<u128>,
    }

    impl Exact {
        /// Counts a call; tells the remaining calls of each limit, or how many nanoseconds to wait.
        fn charge(&mut self, limits: &[Limit], now: u64) -> Result<Vec<u128>, u128> {
            self.arrivals.resize(limits.len(), 0);
            let number = |limit: &Limit| u128::from(limit.limit.get());
            let interval = |limit: &Limit| u128::from(interval_nanos(limit));
            let now = u128::from(now);
            let after: Vec<u128> = limits
                .iter()
                .zip(&self.arrivals)
                .map(|(limit, arrival)| (*arrival).max(now * number(limit)) + interval(limit))
                .collect();
            let wait = limits.iter().zip(&after).map(|(limit, after)| {
                let latest = (now + interval(limit)) * number(limit);
                after.saturating_sub(latest).div_ceil(number(limit))
            });
            match wait.max() {
                Some(0) | None => {
                    self.arrivals = after;
                    let left = |(limit, arrival): (&Limit, &u128)| {
                        ((now + interval(limit)) * number(limit) - arrival) / interval(limit)
                    };
                    Ok(limits.iter().zip(&self.arrivals).map(left).collect())
                }
                Some(wait) => Err(wait),
            }
        }
    }

    proptest! {
        #[test]
        fn limits_are_exact_to_the_nanosecond(
            numbers in proptest::collection::vec(1_u32..2_000_000, 1..=5),
            pauses in proptest::collection::vec(
                prop_oneof![Just(0_u64), 0..3_u64, 0..2_000_000_000_u64, 0..100_000_000_000_000_u64],
                1..400,
            ),
            small in any::<bool>(),
        ) {
            let all = [Interval::Second, Interval::Minute, Interval::Hour, Interval::Day, Interval::Month];
            let number = |n: u32| if small { n % 7 + 1 } else { n };
            let limits: Vec<Limit> =
                all.into_iter().zip(numbers).map(|(interval, n)| limit(interval, number(n))).collect();
            let (mut arrivals, mut exact) = (Arrivals::default(), Exact::default());
            let mut now = 1_700_000_000_000_000_000;
            for pause in pauses {
                now += pause;
                let expected = exact.charge(&limits, now);
                let found = charge(&mut arrivals, &limits, now);
                match expected {
                    Ok(left) => {
                        prop_assert_eq!(found.retry_after, None);
                        let found: Vec<u128> = found.states.iter().flatten().map(|it| it.remaining.into()).collect();
                        prop_assert_eq!(found, left);
                    }
                    Err(wait) => {
                        let seconds = u64::try_from(wait.div_ceil(NANOS.into())).expect("fits");
                        prop_assert_eq!(found.retry_after, Some(seconds));
                        // A nanosecond before its time a call is refused, and at its time it is not.
                        let wait = u64::try_from(wait).expect("fits");
                        prop_assert!(charge(&mut arrivals.clone(), &limits, now + wait - 1).retry_after.is_some());
                        prop_assert!(charge(&mut arrivals.clone(), &limits, now + wait).retry_after.is_none());
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_deployed_anew_with_another_limit_goes_on_with_the_share_that_is_used() {
        let (rate, (api, caller)) = (RateLimits::new(1_000), ids(1));
        let call = |limits: &[Limit]| rate.charge(api, caller, limits, at(0));
        for _ in 0..5 {
            assert_eq!(call(&[limit(Interval::Minute, 10)]).retry_after, None);
        }
        let next = [limit(Interval::Hour, 100), limit(Interval::Minute, 4)];
        assert_eq!(call(&next).words(), "99 of 100 a hour, 1 of 4 a minute");
        assert_eq!(call(&next).retry_after, None);
        assert_eq!(call(&next).retry_after, Some(15));
        assert_eq!(call(&[limit(Interval::Minute, 10)]).retry_after, Some(6));
    }

    #[test]
    fn a_burst_up_to_the_limit_passes_and_calls_come_back_one_by_one() {
        let limits = [limit(Interval::Minute, 60)];
        let (rate, (api, caller)) = (RateLimits::new(1_000), ids(1));
        let call = |ms| rate.charge(api, caller, &limits, at(ms)).retry_after;
        assert!((0..60).all(|_| call(0).is_none()));
        assert_eq!(call(0), Some(1));
        assert_eq!(call(999), Some(1), "a refused call costs nothing");
        assert_eq!(call(1_000), None);
        assert_eq!(call(1_000), Some(1));
    }

    #[test]
    fn a_call_must_fit_all_limits_and_is_charged_to_none_otherwise() {
        let limits = [limit(Interval::Second, 2), limit(Interval::Hour, 3)];
        let (rate, (api, caller)) = (RateLimits::new(1_000), ids(1));
        let call = |ms| rate.charge(api, caller, &limits, at(ms)).retry_after;
        assert_eq!([call(0), call(0), call(0), call(2_000)], [None, None, Some(1), None]);
        assert_eq!(call(2_000), Some(1_198), "the hour's calls are used up");
    }

    #[test]
    fn calls_that_come_at_once_get_what_the_limits_say_and_not_one_more() {
        let limits = [limit(Interval::Second, 1_000), limit(Interval::Day, 1_500)];
        let (rate, (api, caller)) = (RateLimits::new(1_000), ids(1));
        let passed = |ms| {
            let passed = std::sync::atomic::AtomicU32::new(0);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..1_000 {
                            let passes = rate.charge(api, caller, &limits, at(ms)).retry_after.is_none();
                            passed.fetch_add(passes.into(), std::sync::atomic::Ordering::Relaxed);
                        }
                    });
                }
            });
            passed.into_inner()
        };
        assert_eq!([passed(0), passed(1_000), passed(2_000)], [1_000, 500, 0]);
    }

    #[test]
    fn a_look_says_what_a_call_would_hear_and_costs_nothing() {
        let limits = [limit(Interval::Minute, 2)];
        let (rate, (api, caller)) = (RateLimits::new(1_000), ids(1));
        for left in [1, 0] {
            for _ in 0..10 {
                let look = rate.look(api, caller, &limits, at(0));
                assert_eq!(look.words(), format!("{left} of 2 a minute"));
            }
            assert_eq!(rate.charge(api, caller, &limits, at(0)).retry_after, None);
        }
        for _ in 0..10 {
            assert_eq!(rate.look(api, caller, &limits, at(0)).retry_after, Some(30));
        }
    }

    #[test]
    fn callers_and_apis_are_counted_apart() {
        let limits = [limit(Interval::Day, 1)];
        let rate = RateLimits::new(1_000);
        let ((first, alice), (second, bob)) = (ids(1), ids(2));
        for (api, caller) in [(first, alice), (first, bob), (second, alice)] {
            assert_eq!(rate.charge(api, caller, &limits, at(0)).retry_after, None);
            assert!(rate.charge(api, caller, &limits, at(0)).retry_after.is_some());
        }
    }

    #[test]
    fn a_flood_of_addresses_makes_no_consumer_forgotten() {
        let limits = [limit(Interval::Month, 1)];
        let (rate, (api, caller)) = (RateLimits::new(SHARDS), ids(1));
        assert_eq!(rate.charge(api, caller, &limits, at(0)).retry_after, None);
        for n in 0..10_000_u32 {
            let address = Caller::address(IpAddr::V4(n.into()));
            rate.charge(api, address, &limits, at(0));
        }
        assert!(rate.charge(api, caller, &limits, at(0)).retry_after.is_some());
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out_for_longer_than_the_interval() {
        let limits = [limit(Interval::Second, 1)];
        let (rate, (api, caller)) = (RateLimits::new(1_000), ids(1));
        let call = |ms| rate.charge(api, caller, &limits, at(ms)).retry_after;
        assert_eq!(call(3_600_000), None);
        assert_eq!(call(0), Some(1));
        assert_eq!(call(1_000), None);
    }

    #[test]
    fn one_ipv6_subscriber_is_one_caller() {
        let caller = |text: &str| Caller::address(text.parse().expect("an address"));
        assert_eq!(caller("2001:db8::1"), caller("2001:db8::ffff:1"));
        assert_ne!(caller("2001:db8::1"), caller("2001:db8:0:1::1"));
        assert_eq!(caller("::ffff:192.0.2.1"), caller("192.0.2.1"));
    }

    #[test]
    fn headers_tell_quota_and_state() {
        let limits = [limit(Interval::Minute, 600), limit(Interval::Day, 10_000)];
        let (rate, (api, caller)) = (RateLimits::new(1_000), ids(1));
        let mut headers = HeaderMap::new();
        rate.charge(api, caller, &limits, at(0)).write(&OnceLock::new(), &mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"minute\";q=600;w=60, \"day\";q=10000;w=86400");
        assert_eq!(headers["ratelimit"], "\"minute\";r=599;t=1, \"day\";r=9999;t=9");
    }
}
