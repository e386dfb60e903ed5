//! Judging ahead: what a change makes to be judged anew is judged when the change is seen, not when somebody asks.
//!
//! It asks the question that pages ask, so that nothing is known here that a question would not find by itself; a page that
//! comes earlier waits for what is under way, and does the rest. Realms that are there when the process starts are read
//! then; of others, those that somebody asked about are kept up to date.

use std::time::Duration;

use tokio::sync::watch;

use crate::App;
use crate::errors::Error;

/// Shortest time between two looks: many changes in a row are caught up with together.
const PAUSE: Duration = Duration::from_millis(250);

/// How long to wait when the store is out of reach.
const AGAIN: Duration = Duration::from_secs(2);

/// Most realms that are read ahead at the start; each holds the versions that run in memory.
const AT_START: usize = 32;

// === impl App ===

impl App {
    /// Judges ahead until `shutdown` turns true or its sender is dropped.
    pub async fn judge_ahead(&self, mut shutdown: watch::Receiver<bool>) {
        tokio::select! {
            () = self.keep_judging() => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }

    async fn keep_judging(&self) {
        let mut head = self.store().watch();
        while let Err(error) = self.take_up_realms().await {
            tracing::debug!(%error, "nothing is judged ahead");
            tokio::time::sleep(AGAIN).await;
        }
        loop {
            head.mark_unchanged();
            for realm in self.0.standings.realms() {
                // A realm that is gone, or broken, keeps no other from being judged; whoever asks about it is told why.
                if let Err(error) = self.standings_of(&realm, self.0.clock.now()).await {
                    tracing::debug!(%realm, %error, "not judged ahead");
                }
            }
            tokio::time::sleep(PAUSE).await;
            if head.changed().await.is_err() {
                return;
            }
        }
    }

    /// Makes room for the realms that are there, as if somebody had asked about them.
    async fn take_up_realms(&self) -> Result<(), Error> {
        for realm in self.store().realms().await?.into_iter().take(AT_START) {
            self.0.standings.slot(&realm.value.name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tollgate_credential::seal::MasterKey;
    use tollgate_model::environments::Realm;
    use tollgate_model::names::EnvironmentName;
    use tollgate_model::policies::{AccessPolicy, PolicyName};
    use tollgate_store::{Change, Expect, Mutation, Store};
    use tollgate_testkit::{FixedClock, SeededRandom};

    use super::*;
    use crate::access::Op;
    use crate::policies::{PolicyEdit, PolicyValues};

    /// Makes a realm that has no policies and cannot be judged.
    async fn break_a_realm(store: &Store, op: &Op) {
        let broken = json!({ "name": "broken", "createdAt": op.now });
        let broken: Realm = serde_json::from_value(broken).expect("a realm");
        let change = Change {
            realm: broken.name.clone(),
            actor: op.actor.name.clone(),
            source: op.source.clone(),
            action: "test".to_owned(),
            request_id: op.request_id.to_string(),
            reason: String::new(),
            at: op.now,
            guards: Vec::new(),
            mutations: vec![Mutation::put(&broken, Expect::Absent).expect("fits")],
        };
        store.commit(change).await.expect("stored");
    }

    #[tokio::test]
    async fn what_is_kept_follows_the_journal_though_nobody_asks_and_another_realm_is_broken() {
        let dir = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", dir.path().join("t.db").display());
        let store = Store::open(&url).await.expect("opens");
        let random = Arc::new(SeededRandom::new(7));
        let master = Arc::new(MasterKey::generate(random.as_ref()).expect("random"));
        let app = App::new(store.clone(), master, Arc::new(FixedClock::default()), random);
        let op = app.system_op().expect("random");
        app.realms().initialise(&op).await.expect("a realm");
        break_a_realm(&store, &op).await;
        let slot = app.0.standings.slot(&op.realm);
        let kept =
            async || slot.lock().await.as_ref().map(|it| (it.seq, it.policies().value.version().to_string()));
        assert_eq!(kept().await, None);

        let (stop, shutdown) = watch::channel(false);
        let judging = app.clone();
        let task = tokio::spawn(async move { judging.judge_ahead(shutdown).await });
        let until = async |wanted: &str| {
            let wanted = Some((store.head().await.expect("reads"), wanted.to_owned()));
            let deadline = Duration::from_secs(60);
            tollgate_testkit::wait_until("it was judged", deadline, async || kept().await == wanted).await;
        };
        until("1.0").await;
        let edit = PolicyEdit::Set(PolicyValues {
            policy: PolicyName::Access(AccessPolicy::ExternalApiAccess),
            environments: [(EnvironmentName::test(), json!("any"))].into(),
            partial: true,
            condition: None,
            message: None,
            fix: None,
        });
        app.policies().set(&op, &edit, "", None).await.expect("saved");
        until("1.1").await;
        stop.send_replace(true);
        task.await.expect("ends");
    }
}
