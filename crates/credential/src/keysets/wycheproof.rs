//! The JSON Web Signature vectors of Project Wycheproof.
//!
//! Their headers have no `typ` and their payloads are not claims, so that [`KeySet::verify`] refuses even the valid
//! ones. They are run through its parts that check shape, algorithm and signature; the whole is only asked to refuse.

use super::*;

/// Vectors whose `result` is a mistake, each with our answer.
///
/// - 367 (`invalidBase64Padding`, invalid) is, byte for byte, the valid vector 357: the padding that it is named after
///   is not in it.
/// - 373 (`InvalidCharacterInsertedInPayload`, valid) carries the signature of `VGVzdA` over the payload `VGVzdA?`. A
///   signature covers the text as sent (RFC 7515 section 5.2), and `?` is no base64url: taking it would mean to skip
///   characters, so that one token has many spellings.
const MISTAKEN: [(u64, bool); 2] = [(367, true), (373, false)];

fn verify(key: &PrivateKey, token: &str) -> Result<Vec<u8>, VerifyTokenError> {
    let parts = tokens::split(token).ok_or(VerifyTokenError::Malformed)?;
    let header = read_header(parts.header)?;
    check_algorithm(&header, key)?;
    check_signature(&parts, key)?;
    tokens::decode(parts.payload).ok_or(VerifyTokenError::Malformed)
}

#[test]
fn every_vector_is_answered_as_it_says() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../tests/wycheproof/jws.json")).expect("the file is JSON");
    let now = Timestamp::UNIX_EPOCH;
    let (mut run, mut accepted, mut not_offered) = (0, 0, 0);
    for group in vectors["testGroups"].as_array().expect("groups") {
        let jwk = &group["private"];
        // Without a key there is nothing to accept with: P-521, and keys for encryption, which name no algorithm.
        let key = PrivateKey::from_jwk(jwk);
        for test in group["tests"].as_array().expect("tests") {
            let (id, token) = (test["tcId"].as_u64().expect("an id"), test["jws"].as_str().expect("a token"));
            let is_valid = MISTAKEN
                .iter()
                .find(|(mistaken, _)| *mistaken == id)
                .map_or(test["result"] == "valid", |(_, answer)| *answer);
            run += 1;
            let Some(key) = &key else {
                assert!(jwk["use"] == "enc" || jwk["crv"] == "P-521", "{id}: a key that should be read");
                not_offered += 1;
                continue;
            };
            let outcome = verify(key, token);
            assert_eq!(outcome.is_ok(), is_valid, "{id} {}: {outcome:?}", test["comment"]);
            accepted += usize::from(outcome.is_ok());
        }
        let Some(key) = key else { continue };
        let kid = jwk["kid"].as_str().expect("a kid").to_owned();
        let key = KeySetKey::new(kid, key, SigningKeyState::Active);
        let set = KeySet::new("urn:a".to_owned(), "urn:b".to_owned(), vec![key]);
        for test in group["tests"].as_array().expect("tests") {
            let token = test["jws"].as_str().expect("a token");
            assert!(set.verify(token, now).is_err(), "{} passed as a token of ours", test["tcId"]);
        }
    }
    assert_eq!(vectors["numberOfTests"], run);
    assert_eq!((accepted, not_offered), (11, 4), "all else is refused");
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
