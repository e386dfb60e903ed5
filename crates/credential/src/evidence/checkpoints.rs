//! Checkpoints: "the journal has so many entries, and this is the hash of the last one, at this time", signed.
//!
//! A checkpoint is a text of the form of C2SP `tlog-checkpoint`, signed as C2SP `signed-note`:
//!
//! ```text
//! tollgate/journal/9f86d081884c7d659a2feaa0c55ad015      the journal: from the hash of its first entry
//! 18                                                     how many entries
//! 7Rl6ojscGmxgPzYGu9Rz1fnzS6dm0PI3HMm6n/jNA+Q=           hash of the last one, in base64
//! time 2026-11-24T20:24:17Z                              when
//!
//! — tollgate/journal/9f86d081884c7d659a2feaa0c55ad015 KEYID+SIGNATURE in base64
//! ```
//!
//! (The remarks on the right are none of it.) The hash is that of the journal's chain, not the root of a Merkle tree:
//! tools for transparency logs read the text and verify the signature, and have no use for the hash. The name of the
//! key is the origin line. A key id is the first four bytes of SHA-256 over the name, a line feed, a byte 1 (Ed25519) and
//! the public key.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use tollgate_model::hex::hex;

use super::keys::{EvidenceKeys, EvidenceSigner, OutOfTime, PublicKey};
use crate::private_keys::MakeKeyError;

/// Longest checkpoint that is read, in bytes.
pub const MAX_CHECKPOINT_BYTES: usize = 64 << 10;

/// What a line with a signature begins with.
const SIGNATURE_MARK: &str = "\u{2014} ";

/// Most signatures that are looked at.
const MAX_SIGNATURES: usize = 16;

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which journal, as [`origin`] names it.
    pub origin: String,
    /// How many entries it has.
    pub entries: u64,
    /// Hash of the last one.
    pub hash: [u8; 32],
    /// When.
    pub at: Timestamp,
}

/// A checkpoint with its signatures, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What it says.
    pub checkpoint: Checkpoint,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    name: String,
    key_id: [u8; 4],
    bytes: Vec<u8>,
}

/// Why a text is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseCheckpointError {
    /// It is longer than any that is made.
    #[error("it is longer than {MAX_CHECKPOINT_BYTES} bytes")]
    TooLong,
    /// A line is missing or not as it must be.
    #[error("{0}")]
    Line(&'static str),
}

/// Why a checkpoint was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyCheckpointError {
    /// No signature is by a key that is known.
    #[error("it is signed by none of the keys that are known")]
    UnknownKey,
    /// A signature does not fit.
    #[error("its signature does not fit key {0}: it was altered, or somebody else signed")]
    Signature(String),
    /// Its key did not sign then.
    #[error(transparent)]
    Time(#[from] OutOfTime),
}

/// Returns the name of a journal: none other begins with an entry of this hash.
pub fn origin(first_entry: &[u8; 32]) -> String {
    let (begin, _) = first_entry.split_at(16);
    format!("tollgate/journal/{}", hex(begin))
}

// === impl Checkpoint ===

impl Checkpoint {
    /// Returns what is signed.
    fn text(&self) -> String {
        let Self { origin, entries, hash, at } = self;
        format!("{origin}\n{entries}\n{}\ntime {at}\n", STANDARD.encode(hash))
    }

    /// Signs it; returns the text to be kept.
    ///
    /// # Errors
    ///
    /// [`MakeKeyError`] when the library can't sign.
    pub fn sign(&self, signer: &EvidenceSigner) -> Result<String, MakeKeyError> {
        let text = self.text();
        let mut signature = key_id(&self.origin, signer.public()).to_vec();
        signature.extend(signer.sign(text.as_bytes())?);
        Ok(format!("{text}\n{SIGNATURE_MARK}{} {}\n", self.origin, STANDARD.encode(signature)))
    }
}

// === impl SignedCheckpoint ===

impl SignedCheckpoint {
    /// Parses a text; only what [`Checkpoint::sign`] writes is taken, and lines with further signatures.
    ///
    /// # Errors
    ///
    /// [`ParseCheckpointError`] naming what is missing.
    pub fn parse(note: &str) -> Result<Self, ParseCheckpointError> {
        let wrong = ParseCheckpointError::Line;
        if note.len() > MAX_CHECKPOINT_BYTES {
            return Err(ParseCheckpointError::TooLong);
        }
        let (text, signatures) = note.split_once("\n\n").ok_or(wrong("there is no empty line in it"))?;
        let lines: Vec<&str> = text.split('\n').collect();
        let [origin, entries, hash, time] = lines.as_slice() else {
            return Err(wrong("it has not the four lines: origin, number of entries, hash, time"));
        };
        let checkpoint = Checkpoint {
            origin: Some(*origin).filter(|it| is_name(it)).ok_or(wrong("its origin is no name"))?.to_owned(),
            entries: entries.parse().map_err(|_| wrong("its number of entries is none"))?,
            hash: STANDARD
                .decode(hash)
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or(wrong("its hash is not 32 bytes in base64"))?,
            at: time
                .strip_prefix("time ")
                .and_then(|time| time.parse().ok())
                .ok_or(wrong("its last line is no `time`"))?,
        };
        // Another spelling of the same would not be what was signed.
        if checkpoint.text().strip_suffix('\n') != Some(text) {
            return Err(wrong("it is not written as checkpoints are"));
        }
        let lines = signatures.strip_suffix('\n').ok_or(wrong("it does not end with a whole line"))?;
        let signatures: Vec<Signature> = lines
            .split('\n')
            .map(Signature::parse)
            .collect::<Option<_>>()
            .ok_or(wrong("a signature is malformed"))?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(wrong("it has too many signatures"));
        }
        Ok(Self { checkpoint, signatures })
    }

    /// Verifies the signature. Signatures of other names and keys, as of witnesses, are passed over.
    ///
    /// # Errors
    ///
    /// [`VerifyCheckpointError`] unless a known key signed exactly this, in its time.
    pub fn verify<'k>(&self, keys: &'k EvidenceKeys) -> Result<&'k PublicKey, VerifyCheckpointError> {
        let Checkpoint { origin, at, .. } = &self.checkpoint;
        let text = self.checkpoint.text();
        let mut signer = None;
        for signature in self.signatures.iter().filter(|it| it.name == *origin) {
            let of = |key: &&PublicKey| key_id(origin, key.bytes()) == signature.key_id;
            let Some(key) = keys.iter().find(of) else { continue };
            if !key.verifies(text.as_bytes(), &signature.bytes) {
                return Err(VerifyCheckpointError::Signature(key.kid().to_owned()));
            }
            key.check_time(*at)?;
            signer = signer.or(Some(key));
        }
        signer.ok_or(VerifyCheckpointError::UnknownKey)
    }
}

// === impl Signature ===

impl Signature {
    fn parse(line: &str) -> Option<Self> {
        let (name, base64) = line.strip_prefix(SIGNATURE_MARK)?.split_once(' ')?;
        let bytes = STANDARD.decode(base64).ok()?;
        let (key_id, bytes) = bytes.split_first_chunk::<4>()?;
        is_name(name).then(|| Self { name: name.to_owned(), key_id: *key_id, bytes: bytes.to_vec() })
    }
}

/// Splits a file of checkpoints, one after the other with an empty line between; also returns how many pieces are
/// none, such as one that was being written when the machine lost power.
pub fn split(file: &str) -> (Vec<String>, usize) {
    let (mut notes, mut torn) = (Vec::new(), 0);
    let mut note = String::new();
    for line in file.split_inclusive('\n') {
        // An empty line ends a note that has a signature; the one before the signatures does not.
        let signed = note.contains(&format!("\n\n{SIGNATURE_MARK}"));
        let begins = line.starts_with("tollgate/journal/") && !note.is_empty();
        if (line == "\n" && signed) || begins {
            close(&mut note, &mut notes, &mut torn);
        }
        if line != "\n" || !note.is_empty() {
            note.push_str(line);
        }
    }
    close(&mut note, &mut notes, &mut torn);
    (notes, torn)
}

fn close(note: &mut String, notes: &mut Vec<String>, torn: &mut usize) {
    let note = std::mem::take(note);
    if note.trim().is_empty() {
        return;
    }
    let whole = note.contains(&format!("\n\n{SIGNATURE_MARK}")) && note.ends_with('\n');
    if whole { notes.push(note) } else { *torn += 1 }
}

/// A name of `signed-note`: not empty, without white space and `+`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '+')
}

pub(super) fn key_id(name: &str, public: &[u8; 32]) -> [u8; 4] {
    let mut context = Context::new(&SHA256);
    for part in [name.as_bytes(), b"\n\x01", public] {
        context.update(part);
    }
    let mut id = [0; 4];
    id.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    id
}
