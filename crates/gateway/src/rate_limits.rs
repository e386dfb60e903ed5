//! Rate limits: the generic cell rate algorithm (GCRA), one counter per deployment and caller.
//!
//! A limit of 60 a minute gives one call back every second and lets 60 come at once. Of each limit one number is
//! kept: the time at which the caller would have all its calls back (the "theoretical arrival time"). A call moves
//! it by `interval / limit`, and is refused when that would put it further ahead of now than the interval.
//!
//! A caller that is refused is not charged, and a call must fit all limits before any of them is charged.
//!
//! Memory is bounded, so that counters can be forgotten. Callers without credentials have a memory of their own: whoever
//! comes from ever new addresses pushes out addresses, and never the quota of a consumer.

use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use tollgate_model::ids::{BasicAuthId, CertificateId, ConsumerId, DeploymentId, KeyId};
use tollgate_model::triggers::{Interval, Limit};

use crate::bounded::BoundedMap;

const SHARDS: usize = 64;
const MAX_LIMITS: usize = 5;
const NANOS: u64 = 1_000_000_000;
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Whose calls are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    Consumer(ConsumerId),
    Key(KeyId),
    Certificate(CertificateId),
    BasicAuth(BasicAuthId),
    Address(IpAddr),
}

/// The theoretical arrival times of a caller's limits, in nanoseconds since 1970.
type Arrivals = [u64; MAX_LIMITS];

type Shard = BoundedMap<(DeploymentId, Caller), Arrivals>;

/// The counters of all callers.
#[derive(Debug)]
pub(crate) struct RateLimits {
    hasher: RandomState,
    /// Of consumers and credentials, which nobody can make up.
    known: Vec<Mutex<Shard>>,
    addresses: Vec<Mutex<Shard>>,
}

/// What the limits say of one call.
#[derive(Debug)]
pub(crate) struct Decision {
    /// Seconds to wait, rounded up, when the call is refused.
    pub(crate) retry_after: Option<u64>,
    states: Vec<LimitState>,
}

#[derive(Debug)]
struct LimitState {
    limit: Limit,
    remaining: u64,
    /// Seconds until all calls are back, rounded up.
    reset: u64,
}

// === impl Caller ===

impl Caller {
    /// Returns the caller for an address. All of an IPv6 /64 is one caller, since one subscriber holds it whole.
    pub(crate) fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

// === impl RateLimits ===

impl RateLimits {
    /// Returns counters that hold about `capacity` callers with credentials, and as many addresses.
    pub(crate) fn new(capacity: usize) -> Self {
        let shards = || (0..SHARDS).map(|_| Mutex::new(BoundedMap::new(capacity / SHARDS))).collect();
        Self { hasher: RandomState::new(), known: shards(), addresses: shards() }
    }

    /// Counts a call, if it fits all limits.
    pub(crate) fn charge(
        &self,
        deployment: DeploymentId,
        caller: Caller,
        limits: &[Limit],
        now: Timestamp,
    ) -> Decision {
        self.decide(deployment, caller, limits, now, true)
    }

    /// Tells what [`RateLimits::charge`] would say, and counts nothing.
    pub(crate) fn look(
        &self,
        deployment: DeploymentId,
        caller: Caller,
        limits: &[Limit],
        now: Timestamp,
    ) -> Decision {
        self.decide(deployment, caller, limits, now, false)
    }

    fn decide(
        &self,
        deployment: DeploymentId,
        caller: Caller,
        limits: &[Limit],
        now: Timestamp,
        counts: bool,
    ) -> Decision {
        let now = u64::try_from(now.as_nanosecond()).unwrap_or_default();
        let key = (deployment, caller);
        let index = usize::try_from(self.hasher.hash_one(key)).unwrap_or_default() % SHARDS;
        let shards = if matches!(caller, Caller::Address(_)) { &self.addresses } else { &self.known };
        let Some(shard) = shards.get(index) else {
            return Decision { retry_after: None, states: Vec::new() };
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if !counts {
            let mut arrivals = shard.get(&key).copied().unwrap_or_default();
            return charge(&mut arrivals, limits, now);
        }
        let mut arrivals = shard.remove(&key).unwrap_or_default();
        let decision = charge(&mut arrivals, limits, now);
        shard.insert(key, arrivals);
        decision
    }
}

/// Charges limits; `now` is in nanoseconds since 1970.
fn charge(arrivals: &mut Arrivals, limits: &[Limit], now: u64) -> Decision {
    let interval = |limit: &Limit| limit.interval.seconds() * NANOS;
    let cost = |limit: &Limit| (interval(limit) / u64::from(limit.limit.get())).max(1);
    // A clock that was set back, or a limit that was made smaller, must not lock a caller out for longer than the
    // interval.
    let start = |arrival: u64, limit: &Limit| arrival.clamp(now, now + interval(limit));
    let wait = limits
        .iter()
        .zip(arrivals.iter())
        .map(|(limit, arrival)| (start(*arrival, limit) + cost(limit)).saturating_sub(now + interval(limit)))
        .max()
        .unwrap_or_default();
    let states = limits
        .iter()
        .zip(arrivals.iter_mut())
        .map(|(limit, arrival)| {
            let ahead = start(*arrival, limit) + if wait == 0 { cost(limit) } else { 0 };
            *arrival = ahead;
            let owed = ahead - now;
            let remaining = interval(limit).saturating_sub(owed) / cost(limit);
            LimitState { limit: *limit, remaining, reset: owed.div_ceil(NANOS) }
        })
        .collect();
    Decision { retry_after: (wait > 0).then(|| wait.div_ceil(NANOS)), states }
}

// === impl Decision ===

impl Decision {
    /// Says how many calls are left, by limit.
    pub(crate) fn words(&self) -> String {
        let left = self.states.iter().map(|LimitState { limit, remaining, .. }| {
            format!("{remaining} of {} a {}", limit.limit, interval_name(limit.interval))
        });
        left.collect::<Vec<_>>().join(", ")
    }

    /// Adds `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let (mut policy, mut state) = (String::new(), String::new());
        for LimitState { limit, remaining, reset } in &self.states {
            let name = interval_name(limit.interval);
            let comma = if policy.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(policy, "{comma}\"{name}\";q={};w={}", limit.limit, limit.interval.seconds());
            let _ = write!(state, "{comma}\"{name}\";r={remaining};t={reset}");
        }
        for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
}

fn interval_name(interval: Interval) -> &'static str {
    match interval {
        Interval::Second => "second",
        Interval::Minute => "minute",
        Interval::Hour => "hour",
        Interval::Day => "day",
        Interval::Month => "month",
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limit(interval: Interval, limit: u32) -> Limit {
        Limit { interval, limit: NonZeroU32::new(limit).expect("not zero") }
    }

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millisecond).expect("in range")
    }

    fn ids(n: u8) -> (DeploymentId, Caller) {
        (DeploymentId::new(at(0), [n; 10]), Caller::Consumer(ConsumerId::new(at(0), [n; 10])))
    }

    #[test]
    fn a_burst_up_to_the_limit_passes_and_calls_come_back_one_by_one() {
        let limits = [limit(Interval::Minute, 60)];
        let (rate, (deployment, caller)) = (RateLimits::new(1_000), ids(1));
        let call = |ms| rate.charge(deployment, caller, &limits, at(ms)).retry_after;
        assert!((0..60).all(|_| call(0).is_none()));
        assert_eq!(call(0), Some(1));
        assert_eq!(call(999), Some(1), "a refused call costs nothing");
        assert_eq!(call(1_000), None);
        assert_eq!(call(1_000), Some(1));
    }

    #[test]
    fn a_call_must_fit_all_limits_and_is_charged_to_none_otherwise() {
        let limits = [limit(Interval::Second, 2), limit(Interval::Hour, 3)];
        let (rate, (deployment, caller)) = (RateLimits::new(1_000), ids(1));
        let call = |ms| rate.charge(deployment, caller, &limits, at(ms)).retry_after;
        assert_eq!([call(0), call(0), call(0), call(2_000)], [None, None, Some(1), None]);
        assert_eq!(call(2_000), Some(1_198), "the hour's calls are used up");
    }

    #[test]
    fn a_look_says_what_a_call_would_hear_and_costs_nothing() {
        let limits = [limit(Interval::Minute, 2)];
        let (rate, (deployment, caller)) = (RateLimits::new(1_000), ids(1));
        for left in [1, 0] {
            for _ in 0..10 {
                let look = rate.look(deployment, caller, &limits, at(0));
                assert_eq!(look.words(), format!("{left} of 2 a minute"));
            }
            assert_eq!(rate.charge(deployment, caller, &limits, at(0)).retry_after, None);
        }
        for _ in 0..10 {
            assert_eq!(rate.look(deployment, caller, &limits, at(0)).retry_after, Some(30));
        }
    }

    #[test]
    fn callers_and_deployments_are_counted_apart() {
        let limits = [limit(Interval::Day, 1)];
        let rate = RateLimits::new(1_000);
        let ((first, alice), (second, bob)) = (ids(1), ids(2));
        for (deployment, caller) in [(first, alice), (first, bob), (second, alice)] {
            assert_eq!(rate.charge(deployment, caller, &limits, at(0)).retry_after, None);
            assert!(rate.charge(deployment, caller, &limits, at(0)).retry_after.is_some());
        }
    }

    #[test]
    fn a_flood_of_addresses_makes_no_consumer_forgotten() {
        let limits = [limit(Interval::Month, 1)];
        let (rate, (deployment, caller)) = (RateLimits::new(SHARDS), ids(1));
        assert_eq!(rate.charge(deployment, caller, &limits, at(0)).retry_after, None);
        for n in 0..10_000_u32 {
            let address = Caller::address(IpAddr::V4(n.into()));
            rate.charge(deployment, address, &limits, at(0));
        }
        assert!(rate.charge(deployment, caller, &limits, at(0)).retry_after.is_some());
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out_for_longer_than_the_interval() {
        let limits = [limit(Interval::Second, 1)];
        let (rate, (deployment, caller)) = (RateLimits::new(1_000), ids(1));
        let call = |ms| rate.charge(deployment, caller, &limits, at(ms)).retry_after;
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
        let (rate, (deployment, caller)) = (RateLimits::new(1_000), ids(1));
        let mut headers = HeaderMap::new();
        rate.charge(deployment, caller, &limits, at(0)).write(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"minute\";q=600;w=60, \"day\";q=10000;w=86400");
        assert_eq!(headers["ratelimit"], "\"minute\";r=599;t=1, \"day\";r=9999;t=9");
    }
}
