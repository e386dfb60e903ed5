//! DSSE v1: what is signed is the pre-authentication encoding (PAE) of the payload and its type.
//!
//! Every signature by a key that is known must be right, and there must be one; signatures by other keys are left to
//! whoever knows those keys. `keyid` is a hint in DSSE; here it chooses among the keys that the verifier trusts, and
//! nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::Value;
use tollgate_model::attestations::{Envelope, EnvelopeSignature};

use super::keys::{EvidenceKeys, EvidenceSigner, PublicKey};
use super::strict_json;
use crate::private_keys::MakeKeyError;

/// Longest envelope that is read, in bytes.
pub const MAX_ENVELOPE_BYTES: u64 = 1 << 20;

/// Most signatures that an envelope may have.
const MAX_SIGNATURES: usize = 16;

/// Why an envelope was refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenEnvelopeError {
    /// It is longer than any that is made.
    #[error("it is longer than {MAX_ENVELOPE_BYTES} bytes")]
    TooLong,
    /// It is no JSON, or has a member twice.
    #[error("it is no JSON that can be read in one way only")]
    Json(#[source] serde_json::Error),
    /// It lacks a member, or one is of the wrong type.
    #[error("it is no DSSE envelope")]
    NotAnEnvelope(#[source] serde_json::Error),
    /// The payload is of another type than expected.
    #[error("its payload is `{0}`, not `{1}`")]
    PayloadType(String, &'static str),
    /// A part is no base64, or has bits left over.
    #[error("its {0} is not in base64")]
    Base64(&'static str),
    /// Nobody signed, or far too many.
    #[error("it has {0} signatures")]
    Count(usize),
    /// No signature is by a key that is known.
    #[error("it is signed by {0}, which is none of the keys given")]
    UnknownKey(String),
    /// Two signatures say to be of one key.
    #[error("it has two signatures of key {0}")]
    Twice(String),
    /// A signature does not fit.
    #[error("the signature of key {0} does not fit: it was altered, or somebody else signed")]
    Signature(String),
}

/// What an envelope holds, and who vouches for it.
#[derive(Debug)]
pub struct Opened<'k> {
    /// The payload.
    pub payload: Vec<u8>,
    /// The keys whose signatures fit; at least one.
    pub signers: Vec<&'k PublicKey>,
    /// How many signatures are by keys that are not known.
    pub others: usize,
}

/// Signs a payload.
///
/// # Errors
///
/// [`MakeKeyError`] when the library can't sign.
pub fn seal(signer: &EvidenceSigner, payload_type: &str, payload: &[u8]) -> Result<Envelope, MakeKeyError> {
    let signature = signer.sign(&pre_authentication_encoding(payload_type, payload))?;
    Ok(Envelope {
        payload: STANDARD.encode(payload),
        payload_type: payload_type.to_owned(),
        signatures: vec![EnvelopeSignature {
            keyid: signer.kid().to_owned(),
            sig: STANDARD.encode(signature),
        }],
    })
}

/// Parses an envelope; nothing is verified yet.
///
/// # Errors
///
/// [`OpenEnvelopeError`] when it is none.
pub fn parse(bytes: &[u8]) -> Result<Envelope, OpenEnvelopeError> {
    if bytes.len() as u64 > MAX_ENVELOPE_BYTES {
        return Err(OpenEnvelopeError::TooLong);
    }
    let value: Value = strict_json::parse(bytes).map_err(OpenEnvelopeError::Json)?;
    serde_json::from_value(value).map_err(OpenEnvelopeError::NotAnEnvelope)
}

/// Verifies an envelope and returns its payload.
///
/// # Errors
///
/// [`OpenEnvelopeError`] unless a known key signed exactly this.
pub fn open<'k>(
    envelope: &Envelope,
    payload_type: &'static str,
    keys: &'k EvidenceKeys,
) -> Result<Opened<'k>, OpenEnvelopeError> {
    if envelope.payload_type != payload_type {
        let found = envelope.payload_type.chars().take(80).collect();
        return Err(OpenEnvelopeError::PayloadType(found, payload_type));
    }
    let payload = decode(&envelope.payload, "payload")?;
    let count = envelope.signatures.len();
    if !(1..=MAX_SIGNATURES).contains(&count) {
        return Err(OpenEnvelopeError::Count(count));
    }
    let signed = pre_authentication_encoding(payload_type, &payload);
    let mut signers: Vec<&PublicKey> = Vec::new();
    for EnvelopeSignature { keyid, sig } in &envelope.signatures {
        let Some(key) = keys.get(keyid) else { continue };
        if signers.iter().any(|other| other.kid() == keyid) {
            return Err(OpenEnvelopeError::Twice(keyid.clone()));
        }
        if !key.verifies(&signed, &decode(sig, "signature")?) {
            return Err(OpenEnvelopeError::Signature(keyid.clone()));
        }
        signers.push(key);
    }
    if signers.is_empty() {
        let names: Vec<String> =
            envelope.signatures.iter().map(|it| format!("key `{}`", cut(&it.keyid))).collect();
        return Err(OpenEnvelopeError::UnknownKey(names.join(", ")));
    }
    Ok(Opened { payload, others: count - signers.len(), signers })
}

/// DSSE's PAE: `DSSEv1 LENGTH TYPE LENGTH PAYLOAD`, lengths in bytes.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut encoded = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    encoded.extend_from_slice(payload);
    encoded
}

/// Decodes base64 with the alphabet of either; DSSE demands both to be taken. Padding and the bits left over must be as
/// they are written.
fn decode(text: &str, what: &'static str) -> Result<Vec<u8>, OpenEnvelopeError> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|_| OpenEnvelopeError::Base64(what))
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_one_of_the_specification() {
        // The example of the DSSE protocol.
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        assert_eq!(pre_authentication_encoding("", b""), b"DSSEv1 0  0 ");
    }
}
