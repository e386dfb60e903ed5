//! Password checks, which are slow on purpose: away from the threads that serve calls, and only some at once.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use tokio::sync::Semaphore;
use tollgate_credential::passwords::{self, Password};
use tollgate_flow::Overloaded;
use tollgate_model::sources::Random;

use crate::bounded::BoundedMap;

/// Successful checks remembered.
const REMEMBERED: usize = 10_000;

/// Runs password checks and remembers the ones that succeeded.
///
/// What is remembered is the fact "this password fits this stored hash", which never changes; whether a credential with
/// that hash still exists is asked of the snapshot first, on every call. It is kept as an HMAC under a key that only
/// this process has, so that memory holds neither passwords nor anything that could be searched for them elsewhere.
/// Failures are not remembered: guessing stays slow.
pub(crate) struct PasswordChecks {
    /// Checks that run or wait.
    places: Arc<Semaphore>,
    /// Checks that run.
    workers: Arc<Semaphore>,
    /// How many of each there are.
    total: PasswordLoad,
    /// `None` when the system gave no randomness; then nothing is remembered.
    memory: Option<Memory>,
}

/// How many password checks there are at a moment, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PasswordLoad {
    pub(crate) running: usize,
    pub(crate) waiting: usize,
}

struct Memory {
    key: hmac::Key,
    known: Mutex<BoundedMap<[u8; 32], ()>>,
}

// === impl PasswordChecks ===

impl PasswordChecks {
    /// At most `workers` checks run and `waiting` more wait; further ones are turned away.
    pub(crate) fn new(workers: usize, waiting: usize, random: &dyn Random) -> Self {
        let mut secret = [0; 32];
        let memory = random.fill(&mut secret).is_ok().then(|| Memory {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            known: Mutex::new(BoundedMap::new(REMEMBERED)),
        });
        Self {
            places: Arc::new(Semaphore::new(workers + waiting)),
            workers: Arc::new(Semaphore::new(workers)),
            total: PasswordLoad { running: workers, waiting },
            memory,
        }
    }

    /// Returns how many checks run and wait. The two are read one after the other, so that a check that begins between
    /// may be counted as either.
    pub(crate) fn load(&self) -> PasswordLoad {
        let PasswordLoad { running, waiting } = self.total;
        let held = (running + waiting).saturating_sub(self.places.available_permits());
        let running = running.saturating_sub(self.workers.available_permits());
        PasswordLoad { running, waiting: held.saturating_sub(running) }
    }

    /// Tells whether a password is known to fit a stored hash; takes as long when there is no hash.
    pub(crate) fn remembers(&self, password: &Password, stored: Option<&str>) -> bool {
        let stored = stored.unwrap_or_default();
        self.memory.as_ref().is_some_and(|memory| memory.knows(memory.fact(password, stored)))
    }

    /// Tells whether a password fits a stored hash; as slow when there is no hash.
    pub(crate) async fn verify(
        &self,
        password: Password,
        stored: Option<String>,
    ) -> Result<bool, Overloaded> {
        if self.remembers(&password, stored.as_deref()) {
            return Ok(true);
        }
        let fact = self.memory.as_ref().zip(stored.as_deref()).map(|(memory, stored)| {
            let fact = memory.fact(&password, stored);
            (memory, fact)
        });
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.run(move || {
            // The receiver is gone when the caller hung up.
            let _ = sender.send(passwords::verify(&password, stored.as_deref()));
        })
        .await?;
        let fits = receiver.await.map_err(|_| Overloaded)?;
        if let Some((memory, fact)) = fact.filter(|_| fits) {
            memory.learn(fact);
        }
        Ok(fits)
    }

    /// Runs slow work. Work that has begun goes on when the future is dropped, and keeps its place until it is done.
    pub(crate) async fn run(&self, work: impl FnOnce() + Send + 'static) -> Result<(), Overloaded> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Overloaded)?;
        let worker = self.workers.clone().acquire_owned().await.map_err(|_| Overloaded)?;
        let running = tokio::task::spawn_blocking(move || {
            let _held = (place, worker);
            work();
        });
        running.await.map_err(|_| Overloaded)
    }
}

// === impl Memory ===

impl Memory {
    fn fact(&self, password: &Password, stored: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(stored.len() as u64).to_be_bytes());
        context.update(stored.as_bytes());
        context.update(password.expose_secret().as_bytes());
        let mut fact = [0; 32];
        fact.copy_from_slice(context.sign().as_ref());
        fact
    }

    fn knows(&self, fact: [u8; 32]) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = known.remove(&fact).is_some();
        if is_known {
            known.insert(fact, ());
        }
        is_known
    }

    fn learn(&self, fact: [u8; 32]) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(fact, ());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tollgate_testkit::SeededRandom;

    use super::*;

    fn password(text: &str) -> Password {
        Password::parse(text).expect("a password")
    }

    #[tokio::test]
    async fn a_success_is_remembered_for_its_hash_and_its_password_only() {
        let checks = PasswordChecks::new(1, 1, &SeededRandom::new(1));
        let stored = passwords::hash(&password("right"), &SeededRandom::new(1)).expect("hashes");
        let memory = checks.memory.as_ref().expect("there was randomness");
        assert_eq!(checks.verify(password("right"), Some(stored.clone())).await, Ok(true));
        assert!(memory.knows(memory.fact(&password("right"), &stored)));
        // No worker is left: only what is remembered is still answered.
        let _all = checks.places.clone().try_acquire_many_owned(2).expect("none runs");
        assert_eq!(checks.verify(password("right"), Some(stored.clone())).await, Ok(true));
        assert_eq!(checks.verify(password("wrong"), Some(stored.clone())).await, Err(Overloaded));
        assert_eq!(checks.verify(password("right"), Some(stored.replace('=', "-"))).await, Err(Overloaded));
        assert_eq!(checks.verify(password("right"), None).await, Err(Overloaded));
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered() {
        let checks = PasswordChecks::new(1, 1, &SeededRandom::new(1));
        let stored = passwords::hash(&password("right"), &SeededRandom::new(1)).expect("hashes");
        assert_eq!(checks.verify(password("wrong"), Some(stored.clone())).await, Ok(false));
        assert_eq!(checks.verify(password("wrong"), Some(stored)).await, Ok(false));
        assert_eq!(checks.verify(password("wrong"), None).await, Ok(false));
    }

    #[tokio::test]
    async fn work_beyond_the_waiting_room_is_turned_away() {
        let checks = Arc::new(PasswordChecks::new(1, 1, &SeededRandom::new(1)));
        let (release, gate) = mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let running = tokio::spawn({
            let checks = checks.clone();
            let work = move || {
                let _ = begin.send(());
                let _ = gate.recv();
            };
            async move { checks.run(work).await }
        });
        begun.await.expect("the first runs");
        let waiting = tokio::spawn({
            let checks = checks.clone();
            async move { checks.run(|| ()).await }
        });
        while checks.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(checks.run(|| ()).await, Err(Overloaded));
        release.send(()).expect("the first runs");
        assert_eq!(running.await.expect("no panic"), Ok(()));
        assert_eq!(waiting.await.expect("no panic"), Ok(()));
    }
}
