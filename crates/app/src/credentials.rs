//! What several credentials share: hashing off the serving threads, expiry, and finding a consumer.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tollgate_credential::passwords::{self, Password};
use tollgate_model::consumers::Consumer;
use tollgate_model::environments::{Environment, Realm};
use tollgate_model::ids::ConsumerId;
use tollgate_model::names::{ConsumerName, EnvironmentName, RealmName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_store::Stored;

use crate::App;
use crate::changes::Draft;
use crate::errors::Error;

/// Longest time that an old key works beside its successor.
pub(crate) const MAX_OVERLAP_SECONDS: u32 = 365 * 24 * 3600;

impl App {
    /// Hashes a password where it blocks nobody; a bounded number at once.
    pub(crate) async fn hash_password(&self, password: Password) -> Result<String, Error> {
        let app = self.clone();
        self.slowly(move || passwords::hash(&password, app.random())).await?.map_err(Error::unavailable)
    }

    /// Verifies a password likewise; takes as long when there is no hash.
    pub(crate) async fn verify_password(
        &self,
        password: Password,
        stored: Option<String>,
    ) -> Result<bool, Error> {
        self.slowly(move || passwords::verify(&password, stored.as_deref())).await
    }

    /// Does slow work away from the serving threads, a bounded number at once. Work that has begun goes on when the
    /// future is dropped, and keeps its place until it is done: callers that hang up at once make room for nobody.
    async fn slowly<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let place = Arc::clone(&self.0.passwords).acquire_owned().await.map_err(Error::internal)?;
        let running = tokio::task::spawn_blocking(move || {
            let _held = place;
            work()
        });
        running.await.map_err(Error::internal)
    }

    /// Returns an environment, or an error that names those that exist.
    pub(crate) async fn environment(
        &self,
        realm: &RealmName,
        name: &EnvironmentName,
    ) -> Result<Environment, Error> {
        if let Some(stored) = self.store().get::<Environment>(realm, &keys::environment(name)).await? {
            return Ok(stored.value);
        }
        let known: Vec<_> = self.all::<Environment>(realm, "").await?;
        let known: Vec<_> = known.iter().map(|stored| format!("`{}`", stored.value.name)).collect();
        Err(Error::not_found(format!("realm `{realm}` has no environment `{name}`"))
            .hint(format!("it has {}", known.join(", "))))
    }

    /// Makes changes whose outcome must be unique in an environment take turns: of two that are decided at the same
    /// moment the second finds the realm written, and is decided again. Call it before the look at what exists.
    ///
    /// It writes the realm, not the environment, because gateways build nothing from it.
    pub(crate) async fn take_turn(&self, realm: &RealmName, draft: &mut Draft) -> Result<(), Error> {
        let stored = self.store().get::<Realm>(realm, &keys::realm(realm)).await?.ok_or_else(|| {
            Error::not_found(format!("there is no realm `{realm}`"))
                .hint("see the realms")
                .next(NextStep::ListRealms)
        })?;
        draft.hold_realm(&stored)
    }

    /// Returns a consumer by name.
    pub(crate) async fn consumer(
        &self,
        realm: &RealmName,
        environment: &EnvironmentName,
        name: &ConsumerName,
    ) -> Result<Stored<Consumer>, Error> {
        self.environment(realm, environment).await?;
        self.store().get::<Consumer>(realm, &keys::consumer(environment, name)).await?.ok_or_else(|| {
            Error::not_found(format!("there is no consumer `{name}` in {environment}"))
                .hint("see those that exist")
                .next(NextStep::ListConsumers { environment: environment.clone() })
        })
    }

    /// Returns a consumer by id.
    pub(crate) async fn consumer_by_id(
        &self,
        realm: &RealmName,
        environment: &EnvironmentName,
        id: ConsumerId,
    ) -> Result<Stored<Consumer>, Error> {
        let prefix = format!("{environment}/");
        let mut found = self.store().with_handle::<Consumer>(realm, &prefix, &id.to_string()).await?;
        found.pop().ok_or_else(|| {
            Error::not_found("the consumer of this credential no longer exists").hint("make a new consumer")
        })
    }
}

/// Refuses an expiry that has passed.
pub(crate) fn check_expiry(expires_at: Option<Timestamp>, now: Timestamp) -> Result<(), Error> {
    match expires_at {
        Some(at) if at <= now => {
            Err(Error::invalid(format!("the expiry {at} has passed")).hint("give a time to come, or none"))
        }
        _ => Ok(()),
    }
}

/// Returns the end of an overlap that begins now.
pub(crate) fn overlap_end(now: Timestamp, seconds: u32) -> Result<Timestamp, Error> {
    if seconds > MAX_OVERLAP_SECONDS {
        return Err(Error::invalid("an overlap is at most 365 days").hint("give fewer seconds"));
    }
    now.checked_add(SignedDuration::from_secs(seconds.into())).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tollgate_credential::seal::MasterKey;
    use tollgate_store::Store;
    use tollgate_testkit::{FixedClock, SeededRandom, wait_until};

    use super::*;
    use crate::PASSWORDS_AT_ONCE;

    #[tokio::test]
    async fn a_caller_that_hangs_up_keeps_its_place_until_the_work_is_done() {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("t.db").display());
        let store = Store::open(&url).await.expect("opens");
        let random = Arc::new(SeededRandom::new(1));
        let master = Arc::new(MasterKey::generate(random.as_ref()).expect("a key"));
        let app = App::new(store, master, Arc::new(FixedClock::default()), random);
        let (begun, begins) = mpsc::channel();
        let mut gates = Vec::new();
        for _ in 0..PASSWORDS_AT_ONCE {
            let (gate, opened) = mpsc::channel::<()>();
            let begun = begun.clone();
            let work = move || {
                begun.send(()).expect("the test waits for it");
                // Ends when the test drops the gate.
                let _ = opened.recv();
            };
            let mut running = Box::pin(app.slowly(work));
            // Polled until the work runs, then dropped, as when a caller hangs up.
            wait_until("the work", Duration::from_secs(30), async || {
                let _ = poll_once(running.as_mut()).await;
                begins.try_recv().is_ok()
            })
            .await;
            drop(running);
            gates.push(gate);
        }
        assert_eq!(app.0.passwords.available_permits(), 0, "more passwords than that are hashed at once");
        drop(gates);
        wait_until("the places", Duration::from_secs(30), async || {
            app.0.passwords.available_permits() == PASSWORDS_AT_ONCE
        })
        .await;
    }

    /// Polls a future once.
    async fn poll_once<F: Future + Unpin>(future: F) -> bool {
        tokio::select! { biased; _ = future => true, () = std::future::ready(()) => false }
    }
}
