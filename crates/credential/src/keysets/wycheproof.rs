//! The JSON Web Signature vectors of Project Wycheproof.
//!
//! Two things of the gateway verify signatures: the keys of an environment's own tokens, and those of issuers outside. Each
//! vector is run through whichever of them takes its key, through both where both do. No vector has a `typ` or claims, so
//! that the whole of a verification refuses even the valid ones: they are run through its parts that check shape, key,
//! algorithm and signature, and the whole is only asked to refuse.

use std::collections::BTreeSet;

use tollgate_model::issuers::IssuerAlgorithm;

use super::*;
use crate::issuers::{IssuerKeys, ParseIssuerKeysError};

/// Vectors whose `result` is a mistake, each with our answer.
///
/// - 367 (`invalidBase64Padding`, invalid) is, byte for byte, the valid vector 357: the padding that it is named after
///   is not in it.
/// - 373 (`InvalidCharacterInsertedInPayload`, valid) carries the signature of `VGVzdA` over the payload `VGVzdA?`. A
///   signature covers the text as sent (RFC 7515 section 5.2), and `?` is no base64url: taking it would mean to skip
///   characters, so that one token has many spellings.
const MISTAKEN: [(u64, bool); 2] = [(367, true), (373, false)];

/// Vectors whose key says `"alg": "ES521"`. There is no such algorithm: that of P-521 is `ES512` (RFC 7518 section 3.4), as
/// the headers of the same vectors say. As they stand, their keys are none, which is shown; then that one member is repaired,
/// so that their signatures are verified, too.
const MISSPELT: [u64; 2] = [347, 351];

fn verify(key: &PrivateKey, token: &str) -> Result<(), VerifyTokenError> {
    let parts = tokens::split(token).ok_or(VerifyTokenError::Malformed)?;
    let header = read_header(parts.header)?;
    check_algorithm(&header, key)?;
    check_signature(&parts, key)?;
    tokens::decode(parts.payload).map(drop).ok_or(VerifyTokenError::Malformed)
}

fn verify_as_issuers(keys: &IssuerKeys, token: &str) -> Result<(), VerifyTokenError> {
    let parts = tokens::split(token).ok_or(VerifyTokenError::Malformed)?;
    let header = read_header(parts.header)?;
    keys.key_of(&header, &BTreeSet::from(IssuerAlgorithm::ALL))?.check_signature(&parts)?;
    tokens::decode(parts.payload).map(drop).ok_or(VerifyTokenError::Malformed)
}

fn published(jwk: &Value) -> Result<IssuerKeys, ParseIssuerKeysError> {
    IssuerKeys::parse(json!({ "keys": [jwk] }).to_string().as_bytes())
}

#[test]
fn every_vector_is_answered_as_it_says() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../tests/wycheproof/jws.json")).expect("the file is JSON");
    let (mut run, mut accepted, mut without_key) = (0, Vec::new(), Vec::new());
    for group in vectors["testGroups"].as_array().expect("groups") {
        let (private, mut public) = (&group["private"], group["public"].clone());
        let tests = group["tests"].as_array().expect("tests");
        let id = |test: &Value| test["tcId"].as_u64().expect("an id");
        if tests.iter().any(|test| MISSPELT.contains(&id(test))) {
            assert_eq!((&public["alg"], published(&public).is_err()), (&json!("ES521"), true));
            public["alg"] = json!("ES512");
        }
        let (own, of_issuer) = (PrivateKey::from_jwk(private), published(&public).ok());
        for test in tests {
            let (id, token) = (id(test), test["jws"].as_str().expect("a token"));
            let mistaken = MISTAKEN.iter().find(|(mistaken, _)| *mistaken == id);
            let is_valid = mistaken.map_or(test["result"] == "valid", |(_, answer)| *answer);
            let outcomes: Vec<_> = [
                own.as_ref().map(|key| verify(key, token)),
                of_issuer.as_ref().map(|keys| verify_as_issuers(keys, token)),
            ]
            .into_iter()
            .flatten()
            .collect();
            for outcome in &outcomes {
                assert_eq!(outcome.is_ok(), is_valid, "{id} {}: {outcome:?}", test["comment"]);
            }
            if outcomes.is_empty() {
                // A key that verifies nothing refuses everything.
                assert!(!is_valid && public["use"] == "enc", "{id}: a key that should be read");
                without_key.push(id);
            }
            accepted.extend(is_valid.then_some(id));
            run += 1;
        }
        let Some(key) = own else { continue };
        let kid = private["kid"].as_str().expect("a kid").to_owned();
        let key = KeySetKey::new(kid, key, SigningKeyState::Active);
        let set = KeySet::new("urn:a".to_owned(), "urn:b".to_owned(), vec![key]);
        for test in tests {
            let token = test["jws"].as_str().expect("a token");
            let verified = set.verify(token, Timestamp::UNIX_EPOCH);
            assert!(verified.is_err(), "{} passed as a token of ours", test["tcId"]);
        }
    }
    assert_eq!(vectors["numberOfTests"], run);
    assert_eq!(
        accepted,
        [1, 18, 33, 345, 347, 348, 349, 351, 352, 357, 359, 367, 377],
        "all else is refused"
    );
    assert_eq!(without_key, [353, 354], "they are for encryption");
}

#[test]
fn the_vector_named_after_its_padding_has_none() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../tests/wycheproof/jws.json")).expect("the file is JSON");
    let groups = vectors["testGroups"].as_array().expect("groups");
    let tests: Vec<_> = groups.iter().flat_map(|group| group["tests"].as_array().expect("tests")).collect();
    let token = |id: u64| tests.iter().find(|test| test["tcId"] == id).map(|test| &test["jws"]);
    assert_eq!(token(367), token(357));
    assert!(token(357).is_some());
}
