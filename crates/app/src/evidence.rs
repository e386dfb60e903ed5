//! Evidence: the keys that sign it, checkpoints of the journal, and losses that somebody answered for.
//!
//! All of it belongs to the whole server and is kept in realm `default`, whatever realm the caller works in: there is one
//! journal.

mod checkpoints;
mod losses;
mod proof;

pub use checkpoints::{CheckpointFile, KeptCheckpoint};
pub use proof::{Fault, Proof};
pub use tollgate_credential::evidence::checkpoints::Checkpoint;
pub use tollgate_model::evidence::{EvidenceKey, LossStatement};

pub(crate) use checkpoints::KeptCheckpoints;

use jiff::Timestamp;
use serde_json::Value;
use tollgate_credential::evidence::keys::{EvidenceKeys, EvidenceSigner, LEEWAY};
use tollgate_model::attestations::JournalPosition;
use tollgate_model::hex::hex;
use tollgate_model::names::RealmName;
use tollgate_model::next_steps::NextStep;
use tollgate_snapshot::contexts;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission};
use crate::changes::{Draft, overtaken};
use crate::errors::{Error, ErrorKind};

/// Use cases of evidence.
pub struct Evidence(pub(crate) App);

// === impl Evidence ===

impl Evidence {
    /// Returns the published keys, as a JWK set: they are for everybody.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`].
    pub async fn published(&self) -> Result<Value, Error> {
        Ok(EvidenceKeys::published(&self.0.evidence_keys().await?))
    }

    /// Returns the keys in the order of their making; private parts are sealed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn keys(&self, op: &Op) -> Result<Vec<EvidenceKey>, Error> {
        op.demand_server(Permission::EvidenceKeyRead)?;
        self.0.evidence_keys().await
    }

    /// Makes the first key when there is none, as each start of the process does. Safe when several processes start at
    /// once: one of them makes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn initialise(&self, op: &Op) -> Result<(), Error> {
        op.demand_server(Permission::EvidenceKeyUpdate)?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let mut draft = Draft::new(op, "evidence-key.create").realm(RealmName::default());
            // Read before the keys are: whoever makes one at the same moment overtakes this.
            self.0.take_turn(&RealmName::default(), &mut draft).await?;
            if self.0.evidence_keys().await?.iter().any(|key| key.retired_at.is_none()) {
                return Ok(());
            }
            draft.put(&self.0.make_evidence_key(op.now)?.0, Expect::Absent)?;
            if self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(());
            }
        }
        Err(overtaken())
    }

    /// Makes a new key the one that signs. Those before stay published for ever, with the time in which they signed;
    /// their private halves are deleted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`]; [`ErrorKind::PreconditionFailed`] when somebody rotates at the same moment.
    pub async fn rotate(&self, op: &Op) -> Result<EvidenceKey, Error> {
        op.demand_server(Permission::EvidenceKeyUpdate)?;
        let realm = RealmName::default();
        let mut draft = Draft::new(op, "evidence-key.rotate").realm(realm.clone());
        self.0.take_turn(&realm, &mut draft).await?;
        for Stored { value: mut key, revision } in self.0.all::<EvidenceKey>(&realm, "").await? {
            if key.retired_at.is_none() {
                key.retired_at = Some(op.now);
                key.sealed_private = None;
                draft.put(&key, Expect::Revision(revision))?;
            }
        }
        let (key, _) = self.0.make_evidence_key(op.now)?;
        draft.put(&key, Expect::Absent)?;
        self.0.commit(op, draft).await?;
        Ok(key)
    }
}

// === impl App ===

impl App {
    /// Returns every key in the order of their making.
    pub(crate) async fn evidence_keys(&self) -> Result<Vec<EvidenceKey>, Error> {
        let stored = self.all::<EvidenceKey>(&RealmName::default(), "").await?;
        let mut keys: Vec<EvidenceKey> = stored.into_iter().map(|stored| stored.value).collect();
        // The one that signs comes last, also where two were made in one moment.
        keys.sort_by_cached_key(|key| (key.created_at, key.retired_at.is_none(), key.kid.clone()));
        Ok(keys)
    }

    /// Makes a key that signs; nothing is stored yet.
    pub(crate) fn make_evidence_key(&self, now: Timestamp) -> Result<(EvidenceKey, EvidenceSigner), Error> {
        let signer = EvidenceSigner::generate(self.random()).map_err(Error::unavailable)?;
        let bytes = signer.to_bytes().map_err(Error::internal)?;
        let sealed = self.0.master.seal(&contexts::evidence_key(signer.kid()), &bytes, self.random())?;
        let key = EvidenceKey {
            kid: signer.kid().to_owned(),
            public_jwk: signer.public_jwk().ok_or_else(|| Error::internal("a key without a public half"))?,
            sealed_private: Some(sealed),
            created_at: now,
            retired_at: None,
        };
        Ok((key, signer))
    }

    /// Returns the key that signs at this time, with its revision.
    ///
    /// Whatever must be signed is not done without it, nor with a clock by which nobody would believe the signature.
    pub(crate) async fn evidence_signer(&self, now: Timestamp) -> Result<Stored<EvidenceSigner>, Error> {
        let keys = self.all::<EvidenceKey>(&RealmName::default(), "").await?;
        let active = keys.iter().find(|stored| stored.value.retired_at.is_none());
        let sealed = active.and_then(|active| Some((active, active.value.sealed_private.as_ref()?)));
        let Some((Stored { value: key, revision }, sealed)) = sealed else {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "unavailable",
                "there is no key to sign evidence with",
            )
            .hint("restart the server, which makes one, or make one now")
            .next(NextStep::RotateEvidenceKey));
        };
        if now.saturating_add(LEEWAY).is_ok_and(|late| late < key.created_at) {
            let message =
                format!("the key that signs evidence was made at {}, and it is {now} only", key.created_at);
            return Err(Error::new(ErrorKind::Unavailable, "unavailable", message)
                .hint("set the clock of the server, or make a new key")
                .next(NextStep::RotateEvidenceKey));
        }
        let bytes = self.0.master.open(&contexts::evidence_key(&key.kid), sealed).map_err(Error::internal)?;
        let signer = EvidenceSigner::from_bytes(&bytes).map_err(Error::internal)?;
        // Another key under this name would sign what nobody can verify.
        if signer.kid() != key.kid {
            return Err(Error::internal("an evidence key is not the one that it says"));
        }
        Ok(Stored { value: signer, revision: *revision })
    }

    /// Returns the end of the journal.
    pub(crate) async fn journal_position(&self) -> Result<JournalPosition, Error> {
        let (entries, hash) = self.store().head_hash().await?;
        Ok(JournalPosition { entries, hash: hex(&hash) })
    }
}
