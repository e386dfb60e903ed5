//! Failed attempts to sign in, and how long whoever made them has to wait.
//!
//! Failures are counted three ways: by user and source (guessing one password), by source (password spraying: one
//! source tries many users), and by user over all sources (guessing from many machines). Each count has some failures
//! free; from then on the wait doubles with every failure, up to [`LONGEST_WAIT`]. Nothing is locked for good: after
//! [`FORGOTTEN_AFTER`] without a failure a count begins anew. While somebody has to wait their password is not looked
//! at, so that waiting attempts cost nothing and tell nothing.
//!
//! The counts of a source and of a user can be driven up by others. Whoever signs in from a source from which they
//! signed in before ([`super::known_sources`]) is held up by the count of the two alone, which only that source raises.
//!
//! Users that do not exist are counted like those that do: an attacker sees no difference. Everything is in memory,
//! bounded, and each process counts for itself: writing counts down would let anybody write to the store at will, or,
//! if it were done for existing users alone, tell those from others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::errors::{Error, ErrorKind};

/// Failures that cost no wait, by user and source.
const FREE_OF_PAIR: u32 = 5;
/// Failures that cost no wait, by user over all sources.
const FREE_OF_USER: u32 = 10;
/// Failures that cost no wait, by source: many people may share one.
const FREE_OF_SOURCE: u32 = 20;
/// Longest wait after a failure, in seconds.
const LONGEST_WAIT: i64 = 15 * 60;
/// When a count begins anew.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// Most counts of each kind; when more come, those with the fewest failures are forgotten.
const REMEMBERED: usize = 10_000;
/// Longest part of a made-up name or source that is kept, in characters.
const KEPT_CHARACTERS: usize = 64;

/// Failed attempts, in memory only.
#[derive(Default)]
pub(super) struct BackOff(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    pairs: Table,
    sources: Table,
    users: Table,
}

#[derive(Default)]
struct Table(HashMap<String, Count>);

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    /// Attempts that have not ended: many at once must not be more than one after the other.
    running: u32,
    /// When the last failure was.
    last: Timestamp,
}

/// An attempt that may be made. Dropped without being settled, as when the caller hangs up, it counts as a failure.
pub(super) struct Attempt<'a> {
    back_off: &'a BackOff,
    user: String,
    source: String,
    now: Timestamp,
    settled: bool,
}

/// An attempt that may not be made yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) seconds: u16,
    /// Whether the failures may be those of others, so that a known source is not held up.
    pub(super) of_others: bool,
}

// === impl BackOff ===

impl BackOff {
    /// Begins an attempt, unless there were too many; from a known source the failures of others do not count.
    pub(super) fn begin(
        &self,
        user: &str,
        source: &str,
        source_is_known: bool,
        now: Timestamp,
    ) -> Result<Attempt<'_>, Wait> {
        let (user, source) = (shortened(user), source_of(source));
        let mut counts = self.lock();
        let by_pair = counts.pairs.wait(&pair(&user, &source), FREE_OF_PAIR, now);
        let by_user = counts.users.wait(&user, FREE_OF_USER, now);
        let by_source = counts.sources.wait(&source, FREE_OF_SOURCE, now);
        if let Some(seconds) = by_pair {
            return Err(Wait { seconds, of_others: false });
        }
        if let Some(seconds) = by_user.max(by_source).filter(|_| !source_is_known) {
            return Err(Wait { seconds, of_others: true });
        }
        for (table, key) in counts.each(&user, &source) {
            table.begin(key, now);
        }
        drop(counts);
        Ok(Attempt { back_off: self, user, source, now, settled: false })
    }

    /// No code panics while it holds the lock, so what a poisoned one guards is whole.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Attempt ===

impl Attempt<'_> {
    /// Says that everything that was shown is right: the failures of this user from this source are forgotten. Those
    /// that may be of others are not, or an attacker could wash off their own with an account of their own.
    pub(super) fn succeed(mut self) {
        self.settled = true;
        let mut counts = self.back_off.lock();
        counts.pairs.0.remove(&pair(&self.user, &self.source));
        counts.users.end(&self.user);
        counts.sources.end(&self.source);
    }

    /// Says that nothing wrong was shown, and not all that is needed; or that it could not be told.
    pub(super) fn leave_open(mut self) {
        self.settled = true;
        let mut counts = self.back_off.lock();
        for (table, key) in counts.each(&self.user, &self.source) {
            table.end(&key);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let mut counts = self.back_off.lock();
            for (table, key) in counts.each(&self.user, &self.source) {
                table.fail(&key, self.now);
            }
        }
    }
}

// === impl Wait ===

impl From<Wait> for Error {
    fn from(wait: Wait) -> Self {
        let message = "there were too many failed attempts, so signing in is paused for a moment";
        Self::new(ErrorKind::TooMany, "too-many-logins", message)
            .retry_after(wait.seconds)
            .hint(format!("wait {} s, then try again; nothing is locked for good", wait.seconds))
    }
}

// === impl Counts ===

impl Counts {
    fn each(&mut self, user: &str, source: &str) -> [(&mut Table, String); 3] {
        [
            (&mut self.pairs, pair(user, source)),
            (&mut self.users, user.to_owned()),
            (&mut self.sources, source.to_owned()),
        ]
    }
}

// === impl Table ===

impl Table {
    /// Returns how many seconds are to be waited, if any.
    fn wait(&mut self, key: &str, free: u32, now: Timestamp) -> Option<u16> {
        let count = self.0.get_mut(key)?;
        // A clock that was set back must not make the wait longer.
        count.last = count.last.min(now);
        if now.duration_since(count.last) >= FORGOTTEN_AFTER {
            count.failures = 0;
        }
        if let Some(over) = count.failures.checked_sub(free) {
            // Sixteen doublings are more than the longest wait, and no more fit for ever.
            let wait = (1_i64 << over.min(16)).min(LONGEST_WAIT);
            let left = SignedDuration::from_secs(wait) - now.duration_since(count.last);
            if left.is_positive() {
                let seconds = left.as_secs() + i64::from(left.subsec_nanos() > 0);
                return Some(u16::try_from(seconds).unwrap_or(u16::MAX));
            }
        }
        let in_turn = count.running > 0 && count.failures.saturating_add(count.running) >= free;
        in_turn.then_some(1)
    }

    fn begin(&mut self, key: String, now: Timestamp) {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&key) {
            self.make_room(now);
        }
        let count = self.0.entry(key).or_insert(Count { failures: 0, running: 0, last: now });
        count.running = count.running.saturating_add(1);
    }

    fn fail(&mut self, key: &str, now: Timestamp) {
        if let Some(count) = self.0.get_mut(key) {
            count.running = count.running.saturating_sub(1);
            count.failures = count.failures.saturating_add(1);
            count.last = now;
        }
    }

    fn end(&mut self, key: &str) {
        if let Some(count) = self.0.get_mut(key) {
            count.running = count.running.saturating_sub(1);
            if count.failures == 0 && count.running == 0 {
                self.0.remove(key);
            }
        }
    }

    /// Forgets what is over, else an eighth of all: what failed least and longest ago. Made-up names so make room for
    /// each other, and not for the count of somebody who is attacked.
    fn make_room(&mut self, now: Timestamp) {
        self.0.retain(|_, count| count.running > 0 || now.duration_since(count.last) < FORGOTTEN_AFTER);
        if self.0.len() < REMEMBERED {
            return;
        }
        let mut idle: Vec<_> = self.0.iter().filter(|(_, count)| count.running == 0).collect();
        idle.sort_by_key(|(_, count)| (count.failures, count.last));
        let gone: Vec<String> = idle.into_iter().take(REMEMBERED / 8).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.0.remove(&key);
        }
    }
}

/// Returns what counts as one source: an IPv4 address, or the half of an IPv6 address that a provider gives to one
/// customer, who can choose the other half anew for every attempt (RFC 6177).
pub(super) fn source_of(source: &str) -> String {
    match source.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => address.to_string(),
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Err(_) => shortened(source),
    }
}

/// A line break stands in neither of the two, so that no two pairs are written alike.
fn pair(user: &str, source: &str) -> String {
    format!("{user}\n{source}")
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(KEPT_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("in range")
    }

    fn fail(back_off: &BackOff, user: &str, source: &str, now: Timestamp) {
        drop(
            back_off
                .begin(user, source, false, now)
                .unwrap_or_else(|wait| panic!("{user} {source}: {wait:?}")),
        );
    }

    fn wait(back_off: &BackOff, user: &str, source: &str, known: bool, now: Timestamp) -> Option<u16> {
        match back_off.begin(user, source, known, now) {
            Ok(attempt) => {
                attempt.leave_open();
                None
            }
            Err(wait) => Some(wait.seconds),
        }
    }

    #[test]
    fn the_wait_doubles_up_to_a_quarter_of_an_hour_and_is_never_for_good() {
        let back_off = BackOff::default();
        for _ in 0..FREE_OF_PAIR {
            fail(&back_off, "ann", "10.0.0.1", at(0));
        }
        let mut now = 0;
        for expected in [1, 2, 4, 8, 16] {
            assert_eq!(wait(&back_off, "ann", "10.0.0.1", false, at(now)), Some(expected));
            assert_eq!(wait(&back_off, "ann", "10.0.0.1", false, at(now + i64::from(expected) - 1)), Some(1));
            now += i64::from(expected);
            fail(&back_off, "ann", "10.0.0.1", at(now));
        }
        for n in 0..100 {
            now += LONGEST_WAIT;
            fail(&back_off, "ann", "10.0.0.1", at(now));
            let waits = wait(&back_off, "ann", "10.0.0.1", false, at(now));
            assert!(n < 5 || waits == Some(900), "{n}: {waits:?}");
        }
        now += 3600;
        for _ in 0..FREE_OF_PAIR {
            fail(&back_off, "ann", "10.0.0.1", at(now));
        }
        assert_eq!(
            wait(&back_off, "ann", "10.0.0.1", false, at(now)),
            Some(1),
            "an hour later it begins anew"
        );
    }

    #[test]
    fn one_source_that_tries_many_users_has_to_wait_whatever_user_comes_next() {
        let back_off = BackOff::default();
        for n in 0..FREE_OF_SOURCE {
            fail(&back_off, &format!("user{n}"), "10.0.0.1", at(0));
        }
        assert_eq!(wait(&back_off, "another", "10.0.0.1", false, at(0)), Some(1));
        assert_eq!(wait(&back_off, "another", "10.0.0.2", false, at(0)), None);
        assert_eq!(wait(&back_off, "another", "10.0.0.1", true, at(0)), None, "a known source of this user");
    }

    #[test]
    fn many_sources_that_try_one_user_have_to_wait_and_a_known_source_has_not() {
        let back_off = BackOff::default();
        for n in 0..FREE_OF_USER {
            fail(&back_off, "ann", &format!("10.0.1.{n}"), at(0));
        }
        assert_eq!(wait(&back_off, "ann", "10.0.2.1", false, at(0)), Some(1));
        assert_eq!(wait(&back_off, "ann", "10.0.2.1", true, at(0)), None);
        assert_eq!(wait(&back_off, "bob", "10.0.2.1", false, at(0)), None);
        for _ in 0..FREE_OF_PAIR {
            drop(back_off.begin("ann", "10.0.2.1", true, at(0)).map_err(|wait| panic!("{wait:?}")));
        }
        assert!(wait(&back_off, "ann", "10.0.2.1", true, at(0)).is_some(), "its own failures hold it up");
    }

    #[test]
    fn an_ipv6_customer_is_one_source_whatever_address_it_takes() {
        assert_eq!(source_of("2001:db8:1:2::1"), source_of("2001:db8:1:2:ffff:eeee:dddd:cccc"));
        assert_ne!(source_of("2001:db8:1:2::1"), source_of("2001:db8:1:3::1"));
        assert_eq!(source_of("::ffff:10.0.0.1"), "10.0.0.1");
        let back_off = BackOff::default();
        for n in 0..FREE_OF_SOURCE {
            fail(&back_off, &format!("user{n}"), &format!("2001:db8:1:2::{n:x}"), at(0));
        }
        assert_eq!(wait(&back_off, "another", "2001:db8:1:2:9999::", false, at(0)), Some(1));
    }

    #[test]
    fn many_attempts_at_once_are_no_more_than_one_after_the_other() {
        let back_off = BackOff::default();
        let running: Vec<_> =
            (0..FREE_OF_PAIR).map(|_| back_off.begin("ann", "10.0.0.1", false, at(0))).collect();
        assert!(running.iter().all(Result::is_ok));
        assert_eq!(wait(&back_off, "ann", "10.0.0.1", false, at(0)), Some(1));
        for attempt in running.into_iter().flatten() {
            attempt.leave_open();
        }
        assert_eq!(wait(&back_off, "ann", "10.0.0.1", false, at(0)), None, "none of them failed");
    }

    #[test]
    fn a_success_forgets_the_failures_of_its_user_and_source_and_no_others() {
        let back_off = BackOff::default();
        for n in 0..FREE_OF_SOURCE - 1 {
            fail(&back_off, &format!("user{n}"), "10.0.0.1", at(0));
        }
        let own = back_off.begin("mallory", "10.0.0.1", false, at(0));
        own.map(Attempt::succeed).unwrap_or_else(|wait| panic!("{wait:?}"));
        fail(&back_off, "user99", "10.0.0.1", at(0));
        assert_eq!(wait(&back_off, "another", "10.0.0.1", false, at(0)), Some(1));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_wait_longer_and_forgets_no_failure() {
        let back_off = BackOff::default();
        for _ in 0..FREE_OF_PAIR {
            fail(&back_off, "ann", "10.0.0.1", at(0));
        }
        assert_eq!(wait(&back_off, "ann", "10.0.0.1", false, at(-86_400)), Some(1));
        assert_eq!(wait(&back_off, "ann", "10.0.0.1", false, at(-86_399)), None);
    }

    #[test]
    fn made_up_names_and_sources_take_bounded_memory_and_push_no_attacked_user_out() {
        let back_off = BackOff::default();
        for n in 0..FREE_OF_USER {
            fail(&back_off, "ann", &format!("10.9.0.{n}"), at(0));
        }
        let long = "x".repeat(100_000);
        for n in 0..3 * REMEMBERED {
            fail(
                &back_off,
                &format!("{n}{long}"),
                &format!("2001:db8:{:x}:{:x}::1", n / 60_000, n % 60_000),
                at(1),
            );
        }
        let counts = back_off.lock();
        for table in [&counts.pairs, &counts.users, &counts.sources] {
            assert!(table.0.len() <= REMEMBERED, "{}", table.0.len());
            assert!(table.0.keys().all(|key| key.len() <= 2 * KEPT_CHARACTERS + 1));
        }
        assert_eq!(counts.users.0.get("ann").map(|count| count.failures), Some(FREE_OF_USER));
    }
}
