//! Addresses that keep sending bad credentials.
//!
//! An address may send so many bad credentials at once, and gets one attempt back every second; a password counts more,
//! because checking it costs more. Beyond that, further bad ones are answered 429 and the connection is closed.
//!
//! Passwords are counted apart from what was made by a machine: a flood of made-up keys must not keep those out who share its
//! address and have a password.
//!
//! Good credentials always work, whatever else comes from their address: behind one address there may be a whole company.
//! So an API key and a token are looked at all the same, which costs next to nothing, and only the answer to a bad one
//! changes. A password is slow to check; from an address that is over its bound it is looked at only if it was right
//! before, or when the address has an attempt left again. What was good once and is not any more (an expired token, a
//! revoked key) is no guess and is not counted: whoever holds it must learn that it has ended.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::bounded::BoundedMap;
use crate::rate_limits::subscriber;

const SHARDS: usize = 16;
/// Addresses that are remembered, in each of two generations.
const ADDRESSES: usize = 100_000;
/// After which time an attempt is given back.
const ATTEMPT: Duration = Duration::from_secs(1);

/// What a bad credential counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guess {
    /// An API key or a token: checking it is cheap, and guessing it hopeless.
    Made,
    /// A password.
    Password,
}

/// When the guesses of an address will all be forgotten, in nanoseconds since 1970, by [`Guess`].
type ForgottenAt = [u64; 2];

/// How many bad credentials came from each address, as the time at which all will be forgotten (see
/// [`crate::rate_limits`]).
#[derive(Debug)]
pub(crate) struct BadCredentials {
    hasher: RandomState,
    shards: Vec<Mutex<BoundedMap<IpAddr, ForgottenAt>>>,
    /// How far ahead of now that time may be, in nanoseconds.
    bound: u64,
}

// === impl Guess ===

impl Guess {
    fn attempts(self) -> u64 {
        match self {
            Self::Made => 1,
            Self::Password => 5,
        }
    }

    /// Returns the place of its count.
    fn place(self) -> usize {
        match self {
            Self::Made => 0,
            Self::Password => 1,
        }
    }
}

// === impl BadCredentials ===

impl BadCredentials {
    /// An address may send `attempts` bad credentials before it is over its bound.
    pub(crate) fn new(attempts: u32) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(BoundedMap::new(ADDRESSES / SHARDS))).collect();
        Self {
            hasher: RandomState::new(),
            shards,
            bound: u64::from(attempts).saturating_mul(attempt_nanos()),
        }
    }

    /// Returns the seconds after which an address has an attempt left; `None` when it has one now.
    pub(crate) fn wait(&self, address: IpAddr, guess: Guess, now: Timestamp) -> Option<u64> {
        let address = subscriber(address);
        let shard = self.shard(address)?;
        let known = shard.lock().unwrap_or_else(PoisonError::into_inner).get(&address).copied()?;
        let forgotten_at = known.get(guess.place()).copied()?;
        let free_at = forgotten_at.saturating_add(attempt_nanos()).saturating_sub(self.bound);
        let wait = free_at.saturating_sub(nanos(now));
        // A clock that was set back locks nobody out for longer than the bound.
        (wait > 0).then(|| wait.min(self.bound).div_ceil(1_000_000_000))
    }

    /// Counts a bad credential.
    pub(crate) fn note(&self, address: IpAddr, guess: Guess, now: Timestamp) {
        let (address, now) = (subscriber(address), nanos(now));
        let Some(shard) = self.shard(address) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = now.saturating_add(self.bound);
        shard.change(address, |known| {
            let Some(forgotten_at) = known.get_mut(guess.place()) else { return };
            let before = (*forgotten_at).clamp(now, latest);
            *forgotten_at = before.saturating_add(guess.attempts() * attempt_nanos()).min(latest);
        });
    }

    fn shard(&self, address: IpAddr) -> Option<&Mutex<BoundedMap<IpAddr, ForgottenAt>>> {
        let index = usize::try_from(self.hasher.hash_one(address)).unwrap_or_default() % SHARDS;
        self.shards.get(index)
    }
}

fn attempt_nanos() -> u64 {
    u64::try_from(ATTEMPT.as_nanos()).unwrap_or(u64::MAX)
}

fn nanos(now: Timestamp) -> u64 {
    u64::try_from(now.as_nanosecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("in range")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_gets_its_attempts_back_one_by_one_however_long_it_went_on() {
        let (bad, it) = (BadCredentials::new(10), address("192.0.2.1"));
        let wait = |second| bad.wait(it, Guess::Made, at(second));
        for _ in 0..10 {
            assert_eq!(wait(0), None);
            bad.note(it, Guess::Made, at(0));
        }
        for _ in 0..1_000 {
            assert_eq!(wait(0), Some(1));
            bad.note(it, Guess::Made, at(0));
        }
        assert_eq!(wait(1), None);
        bad.note(it, Guess::Made, at(5));
        bad.note(it, Guess::Made, at(5));
        (0..4).for_each(|_| bad.note(it, Guess::Made, at(5)));
        assert_eq!((wait(5), wait(6)), (Some(1), None));
        assert_eq!(bad.wait(address("192.0.2.2"), Guess::Made, at(0)), None);
    }

    #[test]
    fn passwords_count_more_and_apart() {
        let (bad, it) = (BadCredentials::new(10), address("192.0.2.1"));
        let waits = |second| [Guess::Made, Guess::Password].map(|guess| bad.wait(it, guess, at(second)));
        (0..1_000).for_each(|_| bad.note(it, Guess::Made, at(0)));
        assert_eq!(waits(0), [Some(1), None]);
        bad.note(it, Guess::Password, at(0));
        assert_eq!(waits(0), [Some(1), None]);
        bad.note(it, Guess::Password, at(0));
        assert_eq!(waits(0), [Some(1), Some(1)], "two of five each");
        assert_eq!(waits(1), [None, None]);
    }

    #[test]
    fn all_of_an_ipv6_subscriber_is_one_and_so_are_both_spellings_of_an_ipv4_address() {
        for (one, other) in [("2001:db8::1", "2001:db8::ffff:9"), ("192.0.2.1", "::ffff:192.0.2.1")] {
            let bad = BadCredentials::new(1);
            bad.note(address(one), Guess::Made, at(0));
            assert_eq!(bad.wait(address(other), Guess::Made, at(0)), Some(1), "{one}");
        }
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out_for_longer_than_the_bound() {
        let (bad, it) = (BadCredentials::new(5), address("192.0.2.1"));
        bad.note(it, Guess::Password, at(3_600));
        assert_eq!(bad.wait(it, Guess::Password, at(0)), Some(5));
        bad.note(it, Guess::Password, at(0));
        assert_eq!(bad.wait(it, Guess::Password, at(1)), None);
    }
}
