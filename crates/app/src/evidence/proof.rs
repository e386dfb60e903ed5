//! Whether the journal is whole: its chain, and every checkpoint that is kept or given.
//!
//! The chain shows edits within the journal. It cannot show that the end was cut off, or that all of it was written anew:
//! what is left is a chain as good as any. A checkpoint says, signed, where the chain was at a time. So each must lie on
//! it. One that does not names the first entry that is missing or differs.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_credential::evidence::checkpoints::{
    Checkpoint, ParseCheckpointError, SignedCheckpoint, VerifyCheckpointError, origin,
};
use tollgate_credential::evidence::keys::EvidenceKeys;
use tollgate_model::evidence::LossStatement;
use tollgate_model::hex::hex;
use tollgate_model::next_steps::NextStep;
use tollgate_store::{JournalReport, VerifyJournalError};

use super::Evidence;
use super::checkpoints::{KeptCheckpoint, key_of};
use crate::access::{Op, Permission};
use crate::errors::{Error, ErrorKind};
use crate::judging::away;

/// Where checkpoints come from that stand in the store.
const DATABASE: &str = "the database";

/// What verifying the journal showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    /// The chain, when it is right by itself.
    pub chain: Option<JournalReport>,
    /// What is wrong; `None` when the journal is whole.
    pub fault: Option<Fault>,
    /// How many checkpoints fit.
    pub fitting: usize,
    /// The newest that fits.
    pub newest: Option<KeptCheckpoint>,
    /// What the checkpoint says that was given.
    pub given: Option<KeptCheckpoint>,
    /// Losses that somebody answered for.
    pub losses: Vec<LossStatement>,
    /// What is not wrong and should be known.
    pub remarks: Vec<String>,
}

/// What is wrong with the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The first entry that is missing or wrong, where that can be told.
    pub seq: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// All that was found; [`Proof`] is what is told of it.
pub(super) struct Examined {
    pub(super) proof: Proof,
    /// What checkpoints show that no loss explains; `None` when they show nothing.
    pub(super) lost: Option<Lost>,
    /// Whether there is more wrong than entries that are gone.
    pub(super) tampered: Option<Fault>,
    pub(super) origin: String,
}

/// Entries that are gone or others by now.
pub(super) struct Lost {
    /// So many entries are those that were there.
    pub(super) kept_entries: u64,
    pub(super) kept_hash: [u8; 32],
    /// So many there were.
    pub(super) seen_entries: u64,
    /// How many checkpoints cannot be verified.
    pub(super) unverifiable: u64,
}

/// A checkpoint as it was found.
struct Found {
    note: String,
    /// Where, for people.
    places: BTreeSet<String>,
    signed: Result<SignedCheckpoint, ParseCheckpointError>,
    /// Whether it stands in the store under the key of another.
    misplaced: bool,
    given: bool,
}

/// How a checkpoint stands to the journal.
enum Standing {
    Fits(String),
    /// It is no checkpoint that this server made.
    Forged(String),
    /// It is not on the chain.
    Off {
        unverifiable: bool,
    },
}

/// What checkpoints are compared with.
struct Chain {
    origin: String,
    entries: u64,
    hashes: BTreeMap<u64, [u8; 32]>,
    keys: EvidenceKeys,
}

// === impl Evidence ===

impl Evidence {
    /// Recomputes the whole chain of the journal, and checks every checkpoint that is kept, and the one given.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when what is given is no checkpoint; [`ErrorKind::Unavailable`] when something can't be
    /// read.
    pub async fn verify(&self, op: &Op, given: Option<&str>) -> Result<Proof, Error> {
        op.demand(Permission::AuditRead)?;
        Ok(self.examine(given).await?.proof)
    }

    pub(super) async fn examine(&self, given: Option<&str>) -> Result<Examined, Error> {
        if let Some(Err(error)) = given.map(SignedCheckpoint::parse) {
            let message = format!("this is no checkpoint: {error}");
            return Err(Error::new(ErrorKind::Invalid, "invalid", message)
                .hint("give the text of a checkpoint whole, as it was made")
                .next(NextStep::MakeCheckpoint));
        }
        let mut remarks = Vec::new();
        // Read before the chain is: the journal only grows, so that all of them must fit.
        let found = self.collect(given, &mut remarks).await?;
        let (report, mut tampered) = match self.0.store().verify_journal().await {
            Ok(report) => (Some(report), None),
            Err(VerifyJournalError::Broken { seq, what }) => (None, Some(Fault { seq: Some(seq), what })),
            Err(VerifyJournalError::Read(error)) => return Err(error.into()),
        };
        let losses = self.stored_losses().await?;
        let mut numbers: BTreeSet<u64> = losses.iter().flatten().map(|loss| loss.kept_entries).collect();
        numbers.extend(found.iter().filter_map(|it| it.signed.as_ref().ok()).map(|it| it.checkpoint.entries));
        numbers.insert(1);
        let mut hashes = self.0.store().hashes_at(numbers).await?;
        hashes.extend(report.map(|report| (report.entries, report.head_hash)));
        let chain = Chain {
            origin: hashes.get(&1).map(origin).unwrap_or_default(),
            entries: match &report {
                Some(report) => report.entries,
                None => self.0.store().head().await?,
            },
            hashes,
            keys: self.0.public_evidence_keys().await?,
        };
        let losses = chain.check_losses(losses, &mut tampered);
        // There can be many signatures.
        away(move || Ok(chain.judge(found, report, losses, tampered, remarks))).await
    }

    /// Returns every checkpoint that is kept, and the one given.
    async fn collect(&self, given: Option<&str>, remarks: &mut Vec<String>) -> Result<Vec<Found>, Error> {
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        let mut add = |note: &str, place: &str, key: Option<&str>| {
            let it = found.entry(note.to_owned()).or_insert_with(|| Found {
                note: note.to_owned(),
                places: BTreeSet::new(),
                signed: SignedCheckpoint::parse(note),
                misplaced: false,
                given: given == Some(note),
            });
            it.places.insert(place.to_owned());
            let own = it.signed.as_ref().ok().map(|it| key_of(&it.checkpoint));
            it.misplaced |= key.is_some_and(|key| own.as_deref() != Some(key));
        };
        let file = self.0.checkpoint_file().await;
        let mut in_file = BTreeSet::new();
        if let Some((name, read)) = file {
            let (notes, torn) = read?;
            if torn > 0 {
                remarks.push(format!(
                    "{name} holds {torn} pieces that are no whole checkpoint, as a loss of power leaves them"
                ));
            }
            for note in notes {
                in_file.extend(SignedCheckpoint::parse(&note).map(|it| key_of(&it.checkpoint)));
                add(&note, &name, None);
            }
        }
        let records = self.0.store().checkpoints().await.map_err(Error::unavailable)?;
        let keys: BTreeSet<&String> = records.iter().map(|record| &record.key).collect();
        let gone = in_file.iter().filter(|key| !keys.contains(key)).count();
        if gone > 0 {
            remarks.push(format!("{gone} checkpoints of the file are not in the database: it was restored, or they were deleted"));
        }
        for record in &records {
            add(&record.body, DATABASE, Some(&record.key));
        }
        if let Some(note) = given {
            add(note, "the file given", None);
        }
        Ok(found.into_values().collect())
    }
}

// === impl Chain ===

impl Chain {
    /// Returns the losses that are genuine; the first that is not is a fault.
    fn check_losses(
        &self,
        losses: Vec<Result<LossStatement, String>>,
        tampered: &mut Option<Fault>,
    ) -> Vec<LossStatement> {
        let mut genuine = Vec::new();
        for loss in losses {
            let checked = loss.and_then(|loss| {
                let none = (loss.kept_entries == 0).then_some(&[0; 32]);
                let kept = self.hashes.get(&loss.kept_entries).or(none);
                let fits = loss.origin == self.origin && kept.is_some_and(|hash| hex(hash) == loss.kept_hash);
                if fits { Ok(loss) } else { Err("is not of this journal".to_owned()) }
            });
            match checked {
                Ok(loss) => genuine.push(loss),
                Err(what) => {
                    let what = format!("a loss that was accepted {what}");
                    tampered.get_or_insert(Fault { seq: None, what });
                }
            }
        }
        genuine
    }

    fn standing(&self, found: &Found) -> Standing {
        let signed = match &found.signed {
            Ok(signed) => signed,
            Err(error) => return Standing::Forged(error.to_string()),
        };
        if found.misplaced {
            return Standing::Forged("it stands in the place of another".to_owned());
        }
        let checkpoint = &signed.checkpoint;
        let on_chain = checkpoint.origin == self.origin
            && self.hashes.get(&checkpoint.entries) == Some(&checkpoint.hash);
        match signed.verify(&self.keys) {
            Ok(key) if on_chain => Standing::Fits(key.kid().to_owned()),
            Ok(_) => Standing::Off { unverifiable: false },
            // Its key may have gone with the entries that it speaks of.
            Err(VerifyCheckpointError::UnknownKey) if !on_chain => Standing::Off { unverifiable: true },
            Err(error) => Standing::Forged(error.to_string()),
        }
    }

    fn judge(
        self,
        found: Vec<Found>,
        report: Option<JournalReport>,
        losses: Vec<LossStatement>,
        mut tampered: Option<Fault>,
        mut remarks: Vec<String>,
    ) -> Examined {
        let mut fitting: Vec<KeptCheckpoint> = Vec::new();
        let mut off: Vec<(&Found, &Checkpoint, bool)> = Vec::new();
        let (mut given, mut explained) = (None, 0_usize);
        for it in &found {
            match (self.standing(it), &it.signed) {
                (Standing::Fits(kid), Ok(signed)) => {
                    let kept =
                        KeptCheckpoint { checkpoint: signed.checkpoint.clone(), kid, note: it.note.clone() };
                    if it.given {
                        given = Some(kept.clone());
                    }
                    fitting.push(kept);
                }
                (Standing::Off { unverifiable }, Ok(signed)) => {
                    let checkpoint = &signed.checkpoint;
                    // What somebody brings from outside is told whatever was accepted here.
                    if !it.given && losses.iter().any(|loss| explains(loss, checkpoint, unverifiable)) {
                        explained += 1;
                    } else {
                        off.push((it, checkpoint, unverifiable));
                    }
                }
                (Standing::Forged(what), _) => {
                    let what = format!("{} is forged or damaged: {what}", it.describe());
                    tampered.get_or_insert(Fault { seq: None, what });
                }
                (_, Err(_)) => {}
            }
        }
        if explained > 0 {
            remarks.push(format!(
                "{explained} checkpoints are of entries that were lost, for which somebody answered"
            ));
        }
        // The same state of the journal is kept by several processes, each in its own words.
        fitting.sort_by_key(|kept| (kept.checkpoint.entries, kept.checkpoint.at));
        let newest = fitting.last().cloned();
        fitting.dedup_by_key(|kept| kept.checkpoint.entries);
        if fitting.is_empty() && off.is_empty() {
            remarks.push("no checkpoint is kept: nothing tells whether the end was cut off".to_owned());
        }
        let lost = self.lost(&off, &fitting);
        let lost_fault = lost
            .as_ref()
            .map(|lost| Fault { seq: Some(lost.kept_entries + 1), what: self.say(lost, &off, &losses) });
        let fault = match (&tampered, lost_fault) {
            (Some(tampered), Some(lost)) if tampered.seq.is_none_or(|seq| lost.seq < Some(seq)) => {
                remarks.push(tampered.what.clone());
                Some(lost)
            }
            (Some(tampered), lost) => {
                remarks.extend(lost.map(|lost| lost.what));
                Some(tampered.clone())
            }
            (None, lost) => lost,
        };
        let proof = Proof { chain: report, fault, fitting: fitting.len(), newest, given, losses, remarks };
        Examined { proof, lost, tampered, origin: self.origin }
    }

    /// Works out what is gone, from checkpoints that are not on the chain.
    fn lost(&self, off: &[(&Found, &Checkpoint, bool)], fitting: &[KeptCheckpoint]) -> Option<Lost> {
        let fork = |checkpoint: &Checkpoint| {
            if checkpoint.origin != self.origin {
                return 0;
            }
            if checkpoint.entries > self.entries {
                return self.entries;
            }
            // It differs there; it did not at the one before that fits.
            let before = fitting.iter().map(|kept| kept.checkpoint.entries);
            before.filter(|entries| *entries < checkpoint.entries).max().unwrap_or_default()
        };
        let kept_entries = off.iter().map(|(_, checkpoint, _)| fork(checkpoint)).min()?;
        Some(Lost {
            kept_entries,
            kept_hash: self.hashes.get(&kept_entries).copied().unwrap_or_default(),
            seen_entries: off.iter().map(|(_, checkpoint, _)| checkpoint.entries).max().unwrap_or_default(),
            unverifiable: off.iter().filter(|(_, _, unverifiable)| *unverifiable).count() as u64,
        })
    }

    /// Says what checkpoints show.
    fn say(&self, lost: &Lost, off: &[(&Found, &Checkpoint, bool)], losses: &[LossStatement]) -> String {
        let told = off.iter().max_by_key(|(_, checkpoint, _)| checkpoint.entries);
        let Some((found, checkpoint, unverifiable)) = told else { return String::new() };
        let mut said = if checkpoint.origin != self.origin {
            format!("it is not the first entry that {} is of", found.describe())
        } else if checkpoint.entries > self.entries && lost.kept_entries == self.entries {
            format!("it is missing: {} says that there were {}", found.describe(), checkpoint.entries)
        } else {
            format!("it, or one after it, is not the one that was there: {} says so", found.describe())
        };
        if *unverifiable {
            said.push_str(
                "; the key that signed is not known here: it went with the entries, or somebody forged this",
            );
        }
        if off.len() > 1 {
            said.push_str(&format!("; {} checkpoints do not fit in all", off.len()));
        }
        if let Some(loss) = losses.iter().find(|loss| explains(loss, checkpoint, *unverifiable)) {
            let LossStatement { accepted_at, accepted_by, reason, .. } = loss;
            said.push_str(&format!("; {accepted_by} answered for this loss at {accepted_at}: {reason}"));
        }
        said
    }
}

/// Tells whether a loss that was accepted accounts for a checkpoint that is not on the chain.
///
/// A checkpoint that cannot be verified proves nothing; it is accounted for when some were when the loss was accepted.
fn explains(loss: &LossStatement, checkpoint: &Checkpoint, unverifiable: bool) -> bool {
    let before = checkpoint.at <= loss.accepted_at;
    match unverifiable {
        true => before && loss.unverifiable > 0,
        false => before && checkpoint.origin == loss.origin && checkpoint.entries > loss.kept_entries,
    }
}

// === impl Found ===

impl Found {
    /// Names it for people: what it is of, when it was made, and where it is kept.
    fn describe(&self) -> String {
        let places: Vec<&str> = self.places.iter().map(String::as_str).collect();
        let places = places.join(" and ");
        match &self.signed {
            Ok(SignedCheckpoint { checkpoint: Checkpoint { entries, at, .. }, .. }) => {
                format!("the checkpoint of {entries} entries, {at}, in {places}")
            }
            Err(_) => format!("a checkpoint in {places}"),
        }
    }
}
