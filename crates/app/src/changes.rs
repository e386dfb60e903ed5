//! One change: what it is based on, what it writes, and who makes it.

use tokio::sync::{Mutex, MutexGuard};
use tollgate_model::consumers::Consumer;
use tollgate_model::environments::Realm;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::objects::{Kind, Object, keys};
use tollgate_store::{Change, CommitError, Expect, Guard, Mutation, Page, Stored};

use crate::App;
use crate::access::Op;
use crate::change_requests::{Leave, Subject};
use crate::errors::Error;

/// Objects read at once.
const PAGE: u32 = 500;

/// How often a decision is made because what it was based on changed meanwhile.
const ATTEMPTS: usize = 5;

/// The attempts at one decision.
///
/// One that was overtaken waits for its turn among the others of this process, and no new one begins meanwhile: so of
/// many that come together each is overtaken about once, and not most of them until they give up. Not to be nested.
pub(crate) struct Attempts<'a> {
    turns: &'a Mutex<()>,
    made: usize,
    turn: Option<MutexGuard<'a, ()>>,
}

/// A change being put together.
#[derive(Clone)]
pub(crate) struct Draft {
    realm: RealmName,
    action: String,
    reason: String,
    guards: Vec<Guard>,
    mutations: Vec<Mutation>,
    /// What of the protected it may write.
    leave: &'static [Subject],
}

// === impl Attempts ===

impl Attempts<'_> {
    /// Begins the next attempt; `false` when there were enough.
    pub(crate) async fn next(&mut self) -> bool {
        if self.turn.is_none() {
            let turn = self.turns.lock().await;
            self.turn = Some(turn).filter(|_| self.made > 0);
        }
        self.made += 1;
        self.made <= ATTEMPTS
    }
}

// === impl Draft ===

impl Draft {
    pub(crate) fn new(op: &Op, action: &str) -> Self {
        Self {
            realm: op.realm.clone(),
            action: action.to_owned(),
            reason: String::new(),
            guards: Vec::new(),
            mutations: Vec::new(),
            leave: &[],
        }
    }

    /// Lets it write what four eyes protect, as long as the realm's settings are those that were looked at.
    pub(crate) fn with(mut self, leave: &Leave) -> Self {
        self.leave = leave.subjects();
        if let Some(revision) = leave.realm_revision() {
            let key = keys::realm(&self.realm);
            self.guard(Kind::Realm, key, Expect::Revision(revision));
        }
        self
    }

    /// Returns the newest revision of what it was based on: whoever changes any of that, or makes it anew, makes this
    /// number a greater one. That it has leave is no part of that.
    pub(crate) fn base(&self) -> u64 {
        let guarded = self.guards.iter().filter(|guard| guard.kind != Kind::Realm).map(|guard| guard.expect);
        let written = self.mutations.iter().map(|mutation| mutation.expect);
        let revision = |expect| match expect {
            Expect::Revision(revision) => Some(revision),
            _ => None,
        };
        guarded.chain(written).filter_map(revision).max().unwrap_or_default()
    }

    pub(crate) fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    pub(crate) fn realm(mut self, realm: RealmName) -> Self {
        self.realm = realm;
        self
    }

    pub(crate) fn guard(&mut self, kind: Kind, key: impl Into<String>, expect: Expect) {
        self.guards.push(Guard { realm: None, kind, key: key.into(), expect });
    }

    /// As [`Draft::guard`], for what belongs to another realm than what is changed.
    pub(crate) fn guard_in(&mut self, realm: &RealmName, kind: Kind, key: impl Into<String>, expect: Expect) {
        self.guards.push(Guard { realm: Some(realm.clone()), kind, key: key.into(), expect });
    }

    /// Writes an object.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Internal`] when four eyes protect objects of its kind and the use case has no leave:
    /// a fault of ours, and nothing is written.
    pub(crate) fn put<T: Object>(&mut self, object: &T, expect: Expect) -> Result<(), Error> {
        if let Some(subject) = Subject::of(T::KIND)
            && !self.leave.contains(&subject)
        {
            return Err(Error::internal(format!("`{}` writes {} without leave", self.action, T::KIND)));
        }
        self.write(object, expect)
    }

    fn write<T: Object>(&mut self, object: &T, expect: Expect) -> Result<(), Error> {
        self.mutations.push(Mutation::put(object, expect).map_err(Error::internal)?);
        Ok(())
    }

    /// Makes sure that an environment is there still: what was put into one that is gone would be there again with the
    /// next one of its name.
    pub(crate) fn guard_environment(&mut self, environment: &EnvironmentName) {
        self.guard(Kind::Environment, keys::environment(environment), Expect::Exists);
    }

    /// Makes sure that a consumer is there, and that nobody deletes it at the same moment: whoever deletes it has
    /// listed its credentials by a revision that this change makes an old one.
    pub(crate) fn hold_consumer(&mut self, consumer: &Stored<Consumer>) -> Result<(), Error> {
        self.put(&consumer.value, Expect::Revision(consumer.revision))
    }

    /// Makes whoever reads the realm at the same moment take turns; it stays as it is.
    pub(crate) fn hold_realm(&mut self, realm: &Stored<Realm>) -> Result<(), Error> {
        self.write(&realm.value, Expect::Revision(realm.revision))
    }

    pub(crate) fn delete<T: Object>(&mut self, key: impl Into<String>, expect: Expect) {
        self.mutations.push(Mutation::delete::<T>(key.into(), expect));
    }
}

// === impl App ===

impl App {
    /// Returns the attempts at a decision that is made again when it was overtaken.
    pub(crate) fn attempts(&self) -> Attempts<'_> {
        Attempts { turns: &self.0.turns, made: 0, turn: None }
    }

    /// Commits a change in the name of `op`; returns the revision that it gave to what it wrote.
    pub(crate) async fn commit(&self, op: &Op, draft: Draft) -> Result<u64, CommitError> {
        let change = Change {
            realm: draft.realm,
            actor: op.actor.name.clone(),
            source: op.source.clone(),
            action: draft.action,
            request_id: op.request_id.to_string(),
            reason: draft.reason,
            at: op.now,
            guards: draft.guards,
            mutations: draft.mutations,
        };
        Ok(self.store().commit(change).await?.seq)
    }

    /// Commits a change that was decided on what was read; `None` when that changed meanwhile, so that the decision is
    /// to be made again.
    pub(crate) async fn commit_decided(&self, op: &Op, draft: Draft) -> Result<Option<u64>, Error> {
        match self.commit(op, draft).await {
            Ok(revision) => Ok(Some(revision)),
            Err(CommitError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Commits a change that was made with leave; `None` when the realm was written since its settings were looked at, so
    /// that they are to be looked at again.
    pub(crate) async fn commit_with_leave(&self, op: &Op, draft: Draft) -> Result<Option<u64>, Error> {
        match self.commit(op, draft).await {
            Ok(revision) => Ok(Some(revision)),
            Err(CommitError::Conflict { kind: Kind::Realm, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Commits a change that creates something; `taken` is the answer when it exists already.
    pub(crate) async fn create(
        &self,
        op: &Op,
        draft: Draft,
        taken: impl FnOnce() -> Error,
    ) -> Result<u64, Error> {
        self.commit(op, draft).await.map_err(|error| match error {
            CommitError::Conflict { expected: Expect::Absent, .. } => taken(),
            error => error.into(),
        })
    }

    /// Returns every object of a kind whose key begins with `prefix`.
    pub(crate) async fn all<T: Object>(
        &self,
        realm: &RealmName,
        prefix: &str,
    ) -> Result<Vec<Stored<T>>, Error> {
        let mut all: Vec<Stored<T>> = Vec::new();
        loop {
            let after = all.last().map(|stored| stored.value.key());
            let page = Page { prefix: prefix.to_owned(), after, limit: PAGE };
            let items = self.store().list::<T>(realm, &page).await?;
            let last = items.len() < PAGE as usize;
            all.extend(items);
            if last {
                return Ok(all);
            }
        }
    }
}

/// Says that every attempt at a decision was overtaken.
pub(crate) fn overtaken() -> Error {
    Error::conflict("changing", "what this depends on changes faster than it can be decided")
        .hint("try again in a moment")
}

/// Refuses when the caller read another revision of an object than there is, or one where there is none.
///
/// # Errors
///
/// As when it is committed.
pub(crate) fn check_if_match<T: Object>(
    key: impl Into<String>,
    stored: Option<&Stored<T>>,
    if_match: Option<u64>,
) -> Result<(), Error> {
    let found = stored.map(|stored| stored.revision);
    match if_match {
        Some(said) if found != Some(said) => {
            let expected = Expect::Revision(said);
            Err(CommitError::Conflict { kind: T::KIND, key: key.into(), expected, found }.into())
        }
        _ => Ok(()),
    }
}

/// Returns what a change of an object expects: the revision that was read.
///
/// # Errors
///
/// As [`check_if_match`].
pub(crate) fn expect_read<T: Object>(stored: &Stored<T>, if_match: Option<u64>) -> Result<Expect, Error> {
    check_if_match(stored.value.key(), Some(stored), if_match)?;
    Ok(Expect::Revision(stored.revision))
}

/// Returns what a change of an object expects: what the caller said, else the revision that was read.
pub(crate) fn expect<T>(stored: &Stored<T>, if_match: Option<u64>) -> Expect {
    Expect::Revision(if_match.unwrap_or(stored.revision))
}

/// As [`expect`], for an object that need not be there yet.
pub(crate) fn expect_or_absent<T>(stored: Option<&Stored<T>>, if_match: Option<u64>) -> Expect {
    if_match.or(stored.map(|stored| stored.revision)).map_or(Expect::Absent, Expect::Revision)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tollgate_model::environments::RealmSettings;
    use tollgate_model::ids::RequestId;
    use tollgate_model::policies::{Policies, PolicyVersion};
    use tollgate_model::waivers::Waiver;

    use super::*;
    use crate::access::Actor;
    use crate::errors::ErrorKind;

    #[test]
    fn what_four_eyes_protect_is_written_with_leave_or_not_at_all() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let op = Op {
            actor: Actor::system(),
            source: "test".to_owned(),
            request_id: RequestId::new(now, [0; 10]),
            now,
            realm: RealmName::default(),
        };
        let realm = Realm { name: op.realm.clone(), created_at: now, settings: RealmSettings::default() };
        let policies = Policies::initial(&BTreeSet::from([EnvironmentName::test()]));
        let version = PolicyVersion {
            policies: policies.clone(),
            created_at: now,
            created_by: "ann".to_owned(),
            reason: String::new(),
            approved_by: None,
        };
        let waiver: Waiver = serde_json::from_value(serde_json::json!({
            "id": tollgate_model::ids::WaiverId::new(now, [0; 10]), "pipeline": "shop", "environment": "test",
            "policy": "external-api-access", "code": "missing-jwt", "until": now, "reason": "a test",
            "createdAt": now, "createdBy": "ann",
        }))
        .expect("a waiver");
        let put = |draft: &mut Draft| {
            [
                draft.put(&realm, Expect::Any).err(),
                draft.put(&policies, Expect::Any).err(),
                draft.put(&version, Expect::Any).err(),
                draft.put(&waiver, Expect::Any).err(),
            ]
            .map(|error| error.map(|error| error.kind))
        };
        let mut without = Draft::new(&op, "test");
        assert_eq!(put(&mut without), [Some(ErrorKind::Internal); 4]);
        assert!(without.mutations.is_empty());
        // The leave to make a realm is not one to waive.
        let mut making = Draft::new(&op, "test").with(&Leave::of_new_realm());
        assert_eq!(put(&mut making), [None, None, None, Some(ErrorKind::Internal)]);
    }
}
