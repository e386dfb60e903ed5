//! Refused attempts: written to the journal, and never so many that they fill it.
//!
//! An attempt of somebody who is signed in is an entry of its own, stored before they are answered, up to
//! [`DURABLE_PER_MINUTE`] a minute for each. What exceeds that, and all of those who are not signed in, waits in memory,
//! counted: the same of one actor from one source is one entry when [`Refusals::flush`] writes them, every few seconds.
//! Whoever tries so much, or from so many places, that even these are too many is counted without being told apart. So
//! the journal grows by a bounded number of entries a minute, memory is bounded too, and nothing is lost uncounted, not
//! even while the store is away.
//!
//! What is recorded are attempts that authority refused: nobody knows who it is, or they may not, or a policy forbids it.
//! Of changes also those that clashed with what there was. Input that is not valid is no attempt at anything: it is not
//! recorded, and no part of any input is.

mod waiting;

pub use waiting::Waiting;

use tollgate_model::environments::Realm;
use tollgate_model::ids::RequestId;
use tollgate_model::objects::{Kind, keys};
use tollgate_store::{About, CommitError, Refusal, RefusedAttempt};

use crate::App;
use crate::access::{Actor, Op};
use crate::errors::{Error, ErrorKind};

/// Refusals of one user that are entries of their own, in a minute.
const DURABLE_PER_MINUTE: u32 = 60;

/// Most characters that are kept of a text that a caller chose.
const MAX_TEXT: usize = 200;

/// The record of refused attempts.
pub struct Refusals(pub(crate) App);

/// What somebody attempted, as far as it is known without what they sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempt {
    /// What, as `noun.verb`: the action that the journal would name.
    pub action: String,
    /// How it was asked for: method and path of the operation, with placeholders for names.
    pub operation: String,
    /// In which environment.
    pub environment: Option<String>,
    /// Kind and key of what it was aimed at.
    pub about: Option<(Kind, String)>,
    /// Whether it would have changed something.
    pub changes: bool,
}

/// How an attempt was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which way.
    pub kind: ErrorKind,
    /// The code of the problem.
    pub code: &'static str,
    /// Kind and key of what it was about, if the refusal knows better than the attempt.
    pub about: Option<(Kind, String)>,
    /// Whether the journal has been told of it, or need not be.
    pub journaled: bool,
    /// Whether whoever attempted it must not know that it was refused: to them there is no such object.
    pub concealed: bool,
}

// === impl Attempt ===

impl Attempt {
    /// Returns what is aimed at by an action: the object that stands in the path, by the names and values of its
    /// parameters in their order.
    pub fn at<'a>(
        action: String,
        operation: String,
        changes: bool,
        parameters: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let (mut environment, mut key) = (None, Vec::new());
        for (name, value) in parameters.filter(|(name, _)| *name != "realm") {
            if name == "environment" {
                environment = Some(value.to_owned());
            }
            key.push(value);
        }
        let kind = match action.split('.').next().unwrap_or_default() {
            "policy" => Some(Kind::Policies),
            "shadow" => Some(Kind::ShadowPolicies),
            "token" => Some(Kind::TokenRevocation),
            noun => Kind::parse(noun),
        };
        let about = kind.map(|kind| (kind, key.join("/")));
        Self { action, operation, environment, about, changes }
    }
}

// === impl Refused ===

impl From<&Error> for Refused {
    fn from(error: &Error) -> Self {
        let about = error.about.as_deref().cloned();
        let (kind, code) =
            if error.concealing { (ErrorKind::Forbidden, "forbidden") } else { (error.kind, error.code) };
        Self { kind, code, about, journaled: error.journaled, concealed: error.concealing }
    }
}

impl Refused {
    /// Tells whether the journal keeps it.
    fn counts(&self, changes: bool) -> bool {
        match self.kind {
            ErrorKind::Unauthenticated | ErrorKind::Forbidden | ErrorKind::TooMany => true,
            ErrorKind::Conflict | ErrorKind::PreconditionFailed | ErrorKind::Refused => changes,
            ErrorKind::NotFound | ErrorKind::Invalid | ErrorKind::Unavailable | ErrorKind::Internal => false,
        }
    }
}

// === impl Refusals ===

impl Refusals {
    /// Records that an attempt was refused, if the journal keeps such: whoever serves it calls this before they answer.
    ///
    /// Never fails: what cannot be written now is counted and written later. Once polled, the attempt is not lost when
    /// the future is dropped.
    pub async fn record(&self, op: &Op, attempt: Attempt, refused: Refused) {
        if refused.journaled || !refused.counts(attempt.changes) {
            return;
        }
        self.write(op, attempt, refused, String::new()).await;
    }

    /// Records a refusal whose reason can be told in words of ours.
    pub(crate) async fn record_reason(&self, op: &Op, attempt: Attempt, error: &mut Error, reason: String) {
        self.write(op, attempt, Refused::from(&*error), reason).await;
        error.journaled = true;
    }

    async fn write(&self, op: &Op, attempt: Attempt, refused: Refused, reason: String) {
        let entry = RefusedAttempt {
            realm: op.realm.clone(),
            actor: cut(&op.actor.name),
            source: cut(&op.source),
            action: attempt.action,
            request_id: op.request_id.to_string(),
            reason,
            at: op.now,
            about: refused.about.or(attempt.about).map(|(kind, key)| About { kind, key: cut(&key) }),
            refusal: Refusal {
                operation: attempt.operation,
                environment: attempt.environment.as_deref().map(cut),
                ..Refusal::new(refused.code)
            },
        };
        // How long an answer takes must not tell what it conceals: nothing is written for it now.
        if is_nobody(op) || refused.concealed || !self.0.0.refusals.may_write(&entry.actor, op.now) {
            self.0.0.refusals.add(entry);
            return;
        }
        // In a task of its own: a caller that hangs up must not keep their attempt out of the journal.
        let app = self.0.clone();
        let written = tokio::spawn(async move {
            if let Err(error) = Refusals(app.clone()).append(vec![entry.clone()]).await {
                warn(&error, 1);
                app.0.refusals.add(entry);
            }
        });
        let _ = written.await;
    }

    /// Writes what waits, as of now. Returns how many attempts wait still: all, when the store is away.
    pub async fn flush(&self) -> u64 {
        let now = self.0.0.clock.now();
        let taken = self.0.0.refusals.take();
        if taken.is_empty() {
            return 0;
        }
        let id = match self.0.id_bytes() {
            Ok(bytes) => RequestId::new(now, bytes),
            Err(_) => RequestId::new(now, [0; 10]),
        };
        match self.append(taken.entries(now, id)).await {
            Ok(()) => 0,
            Err(error) => {
                warn(&error, taken.count());
                self.0.0.refusals.put_back(taken)
            }
        }
    }

    /// Appends entries, in realms that there are: an attempt at one that there is not concerns the whole server.
    async fn append(&self, mut entries: Vec<RefusedAttempt>) -> Result<(), Error> {
        for entry in &mut entries {
            let realm = &entry.realm;
            if self.0.store().get::<Realm>(realm, &keys::realm(realm)).await?.is_none() {
                entry.realm = tollgate_model::names::RealmName::default();
            }
        }
        self.0.store().journal_refused(entries).await.map_err(|error: CommitError| Error::from(error))?;
        Ok(())
    }
}

/// Tells whether it is not known who acts.
fn is_nobody(op: &Op) -> bool {
    op.actor.user.is_none() && op.actor.name == Actor::nobody().name
}

fn warn(error: &Error, attempts: u64) {
    tracing::warn!(%error, attempts, "refused attempts could not be written to the journal: they are kept, and counted");
}

/// Makes a text that a caller chose fit to be kept.
fn cut(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}
