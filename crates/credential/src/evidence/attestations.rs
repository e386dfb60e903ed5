//! Signing and verifying the statement of an admission.

use tollgate_model::attestations::{
    ADMISSION_PREDICATE, Envelope, STATEMENT_PAYLOAD, STATEMENT_TYPE, Statement,
};

use super::envelopes::{self, OpenEnvelopeError};
use super::keys::{EvidenceKeys, EvidenceSigner, OutOfTime, PublicKey};
use super::strict_json;
use crate::private_keys::MakeKeyError;

/// A statement whose signature fits.
#[derive(Debug)]
pub struct VerifiedStatement<'k> {
    /// What it says.
    pub statement: Statement,
    /// Who vouches for it: keys that signed at the time that it says to be of.
    pub signers: Vec<&'k PublicKey>,
    /// How many signatures are by keys that are not known.
    pub others: usize,
}

/// Why a statement was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignStatementError {
    /// It cannot be written as JSON.
    #[error("the statement cannot be written")]
    Write(#[from] serde_json::Error),
    /// The library can't sign.
    #[error(transparent)]
    Sign(#[from] MakeKeyError),
}

/// Why a statement was refused.
#[derive(Debug, thiserror::Error)]
pub enum VerifyStatementError {
    /// The envelope does not open.
    #[error(transparent)]
    Envelope(#[from] OpenEnvelopeError),
    /// What is signed is no JSON, or has a member twice.
    #[error("what is signed is no JSON that can be read in one way only")]
    Json(#[source] serde_json::Error),
    /// What is signed is another kind of statement.
    #[error("its {member} is `{found}`, not `{expected}`")]
    Type {
        /// `_type` or `predicateType`.
        member: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// What is signed is no statement of an admission.
    #[error("what is signed is no statement of an admission")]
    Statement(#[source] serde_json::Error),
    /// It is not about one pipeline version.
    #[error("it has {0} subjects, and an admission has one, with a sha256 digest")]
    Subjects(usize),
    /// Its key did not sign then.
    #[error(transparent)]
    Time(#[from] OutOfTime),
}

/// Signs a statement.
///
/// # Errors
///
/// [`SignStatementError`].
pub fn sign(signer: &EvidenceSigner, statement: &Statement) -> Result<Envelope, SignStatementError> {
    Ok(envelopes::seal(signer, STATEMENT_PAYLOAD, &serde_json::to_vec(statement)?)?)
}

/// Verifies an envelope with a statement of an admission in it.
///
/// # Errors
///
/// [`VerifyStatementError`] unless a known key signed exactly this, in its time, and it is such a statement.
pub fn verify<'k>(
    envelope: &Envelope,
    keys: &'k EvidenceKeys,
) -> Result<VerifiedStatement<'k>, VerifyStatementError> {
    let opened = envelopes::open(envelope, STATEMENT_PAYLOAD, keys)?;
    let value = strict_json::parse(&opened.payload).map_err(VerifyStatementError::Json)?;
    for (member, expected) in [("_type", STATEMENT_TYPE), ("predicateType", ADMISSION_PREDICATE)] {
        let found = value.get(member).and_then(serde_json::Value::as_str).unwrap_or_default();
        if found != expected {
            let found = found.chars().take(80).collect();
            return Err(VerifyStatementError::Type { member, found, expected });
        }
    }
    let statement: Statement = serde_json::from_value(value).map_err(VerifyStatementError::Statement)?;
    match statement.subject.as_slice() {
        [only] if only.digest.contains_key("sha256") => {}
        subjects => return Err(VerifyStatementError::Subjects(subjects.len())),
    }
    for signer in &opened.signers {
        signer.check_time(statement.predicate.admitted_at)?;
    }
    Ok(VerifiedStatement { statement, signers: opened.signers, others: opened.others })
}
