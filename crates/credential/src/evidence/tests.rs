//! Attacks on statements and checkpoints, and what must go on being taken.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate_model::attestations::{Envelope, STATEMENT_PAYLOAD, Statement};
use tollgate_model::evidence::EvidenceKey;

use super::attestations::{VerifyStatementError, sign, verify};
use super::checkpoints::{Checkpoint, SignedCheckpoint, VerifyCheckpointError, origin, split};
use super::envelopes::{self, OpenEnvelopeError};
use super::keys::{EvidenceKeys, EvidenceSigner, ParseKeysError};
use crate::tests::Counter;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn signer() -> EvidenceSigner {
    EvidenceSigner::generate(&Counter::default()).expect("a key")
}

/// Returns a key as it is stored: it signs from January on, and was retired when one is given.
fn stored(signer: &EvidenceSigner, retired_at: Option<&str>) -> EvidenceKey {
    EvidenceKey {
        kid: signer.kid().to_owned(),
        public_jwk: signer.public_jwk().expect("a public half"),
        sealed_private: None,
        created_at: at("2026-01-01T00:00:00Z"),
        retired_at: retired_at.map(at),
    }
}

fn keys(signer: &EvidenceSigner) -> EvidenceKeys {
    EvidenceKeys::stored(&[stored(signer, None)]).expect("keys")
}

fn statement(changes: Value) -> Statement {
    let mut predicate = json!({
        "attestation": "att_00000000000070008000000000000001", "realm": "default", "environment": "prod",
        "deployment": "dep_00000000000070008000000000000001", "operation": "deploy",
        "admittedAt": "2026-06-01T12:00:00Z", "verdict": "admitted", "policyVersion": "1.1",
        "demanded": { "external-api-access": "api-key" },
        "switches": { "externalApi": true, "internalApi": false, "apiKey": true, "jwt": false, "basicAuth": false },
        "loginFlow": false, "waivers": [],
        "by": { "user": "admin", "source": "127.0.0.1", "requestId": "req_1" },
        "journal": { "entries": 17, "hash": "00" },
    });
    for (name, value) in changes.as_object().expect("changes") {
        predicate[name] = value.clone();
    }
    serde_json::from_value(json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": "orders@1.0", "digest": { "sha256": "ab" } }],
        "predicateType": "urn:tollgate:attestation:admission:v1",
        "predicate": predicate,
    }))
    .expect("a statement")
}

fn signed(signer: &EvidenceSigner) -> Envelope {
    sign(signer, &statement(json!({}))).expect("signs")
}

/// Signs a text as if it were a statement.
fn sealed(signer: &EvidenceSigner, payload: &str) -> Envelope {
    envelopes::seal(signer, STATEMENT_PAYLOAD, payload.as_bytes()).expect("signs")
}

#[test]
fn a_statement_that_was_signed_is_taken_and_says_who_signed() {
    let signer = signer();
    let (envelope, keys) = (signed(&signer), keys(&signer));
    let verified = verify(&envelope, &keys).expect("verifies");
    assert_eq!(verified.statement, statement(json!({})));
    assert_eq!((verified.signers[0].kid(), verified.others), (signer.kid(), 0));
    // DSSE demands the URL-safe alphabet to be taken, too.
    let mut url_safe = envelope;
    for text in [&mut url_safe.payload, &mut url_safe.signatures[0].sig] {
        *text = URL_SAFE.encode(STANDARD.decode(&*text).expect("base64"));
    }
    assert!(verify(&url_safe, &keys).is_ok());
}

#[test]
fn what_was_altered_after_signing_is_refused() {
    let (signer, other) = (signer(), signer());
    let (good, keys) = (signed(&signer), keys(&signer));
    let altered = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = good.clone();
        change(&mut envelope);
        verify(&envelope, &keys).map(|_| ()).expect_err("was taken").to_string()
    };
    let elsewhere = serde_json::to_vec(&statement(json!({ "environment": "test" }))).expect("JSON");
    assert!(altered(&|it| it.payload = STANDARD.encode(&elsewhere)).contains("does not fit"));
    assert!(altered(&|it| it.payload_type = "application/json".to_owned()).contains("its payload is"));
    let by_other = signed(&other).signatures[0].clone();
    // Another's signature under our name, and under its own.
    assert!(altered(&|it| it.signatures[0].sig = by_other.sig.clone()).contains("does not fit"));
    assert!(altered(&|it| it.signatures[0] = by_other.clone()).contains("none of the keys"));
    assert!(altered(&|it| it.signatures[0].keyid = String::new()).contains("none of the keys"));
    assert!(altered(&|it| it.signatures.clear()).contains("0 signatures"));
    assert!(altered(&|it| it.signatures = vec![by_other.clone(); 17]).contains("17 signatures"));
    // A second signature of the same key, and one of ours that does not fit beside one that does.
    assert!(altered(&|it| it.signatures.push(it.signatures[0].clone())).contains("two signatures"));
    for text in ["", "AAAA", "????", "AA==AA=="] {
        altered(&|it| it.signatures[0].sig = text.to_owned());
        altered(&|it| it.payload = text.to_owned());
    }
    // Without padding, with bits left over, with white space.
    let payload = serde_json::to_string(&statement(json!({}))).expect("JSON");
    for end in ["", " ", "  "] {
        let envelope = sealed(&signer, &(payload.clone() + end));
        assert!(verify(&envelope, &keys).is_ok());
        if let Some(stripped) = envelope.payload.strip_suffix('=') {
            let cut = Envelope { payload: stripped.trim_end_matches('=').to_owned(), ..envelope.clone() };
            assert!(verify(&cut, &keys).is_err());
            let (head, last) =
                stripped.trim_end_matches('=').split_at(stripped.trim_end_matches('=').len() - 1);
            let next = char::from(last.as_bytes()[0] + 1);
            let padding = "=".repeat(envelope.payload.len() - head.len() - 1);
            let left_over = Envelope { payload: format!("{head}{next}{padding}"), ..envelope.clone() };
            assert!(verify(&left_over, &keys).is_err());
        }
        let spaced = Envelope { payload: format!("{}\n", envelope.payload), ..envelope };
        assert!(verify(&spaced, &keys).is_err());
    }
}

#[test]
fn a_signature_beside_ours_by_a_key_that_is_not_known_is_counted_and_proves_nothing() {
    let (signer, other) = (signer(), signer());
    let mut envelope = signed(&signer);
    envelope.signatures.insert(0, signed(&other).signatures[0].clone());
    let keys_of_ours = keys(&signer);
    let verified = verify(&envelope, &keys_of_ours).expect("verifies");
    assert_eq!((verified.signers.len(), verified.others), (1, 1));
    // Whoever knows both keys demands that both fit.
    let both = EvidenceKeys::stored(&[stored(&signer, None), stored(&other, None)]).expect("keys");
    assert_eq!(verify(&envelope, &both).expect("verifies").signers.len(), 2);
    envelope.signatures[0].sig = envelope.signatures[1].sig.clone();
    assert!(verify(&envelope, &both).is_err());
}

#[test]
fn what_is_signed_must_be_one_statement_of_an_admission_that_reads_in_one_way() {
    let signer = signer();
    let keys = keys(&signer);
    let good = serde_json::to_string(&statement(json!({}))).expect("JSON");
    let refused =
        |payload: &str| verify(&sealed(&signer, payload), &keys).map(|_| ()).expect_err("was taken");
    let twice =
        good.replacen("\"environment\":\"prod\"", "\"environment\":\"prod\",\"environment\":\"test\"", 1);
    assert_ne!(twice, good);
    assert!(matches!(refused(&twice), VerifyStatementError::Json(_)));
    let cut = good.get(..good.len() - 1).expect("ASCII");
    assert!(matches!(refused(cut), VerifyStatementError::Json(_)));
    for (from, to) in
        [("in-toto.io/Statement/v1", "in-toto.io/Statement/v0.1"), ("admission:v1", "admission:v2")]
    {
        assert!(matches!(refused(&good.replace(from, to)), VerifyStatementError::Type { .. }));
    }
    let subject = "{\"name\":\"orders@1.0\",\"digest\":{\"sha256\":\"ab\"}}";
    for subjects in
        ["[]", &format!("[{subject},{subject}]"), "[{\"name\":\"x\",\"digest\":{\"sha1\":\"ab\"}}]"]
    {
        let payload = good.replace(&format!("[{subject}]"), subjects);
        assert!(matches!(refused(&payload), VerifyStatementError::Subjects(_)), "{payload}");
    }
    assert!(matches!(refused("{}"), VerifyStatementError::Type { .. }));
    // What a later version says besides is passed over, as in-toto demands.
    let more = good.replacen('{', "{\"later\":1,", 1);
    assert!(verify(&sealed(&signer, &more), &keys).is_ok());
}

#[test]
fn a_statement_from_outside_the_time_of_its_key_is_refused() {
    let signer = signer();
    let set = EvidenceKeys::stored(&[stored(&signer, Some("2026-07-01T00:00:00Z"))]).expect("keys");
    let said = |time: &str| {
        let envelope = sign(&signer, &statement(json!({ "admittedAt": time }))).expect("signs");
        verify(&envelope, &set).map(|_| ()).map_err(|error| error.to_string())
    };
    // The clocks of servers may be minutes apart.
    for good in
        ["2025-12-31T23:56:00Z", "2026-01-01T00:00:00Z", "2026-06-30T00:00:00Z", "2026-07-01T00:04:59Z"]
    {
        assert_eq!(said(good), Ok(()), "{good}");
    }
    for bad in ["2025-12-31T23:54:00Z", "2026-07-01T00:05:01Z"] {
        let error = said(bad).expect_err("was taken");
        assert!(error.contains("signed from 2026-01-01T00:00:00Z until 2026-07-01T00:00:00Z"), "{error}");
    }
}

#[test]
fn a_set_of_keys_is_taken_only_as_it_was_published() {
    let signer = signer();
    let published = EvidenceKeys::published(&[stored(&signer, Some("2026-07-01T00:00:00Z"))]);
    let parse = |set: &Value| EvidenceKeys::parse(set.to_string().as_bytes());
    let key = parse(&published).expect("keys");
    let key = key.get(signer.kid()).expect("the key");
    assert_eq!(
        (key.not_before(), key.retired_at()),
        (at("2026-01-01T00:00:00Z"), Some(at("2026-07-01T00:00:00Z")))
    );
    let with = |member: &str, value: Value| {
        let mut set = published.clone();
        set["keys"][0][member] = value;
        parse(&set).map(|_| ()).map_err(|error| error.to_string())
    };
    for (member, value) in [
        ("kid", json!("other")),
        ("x", json!("AAAA")),
        ("x", json!(1)),
        ("alg", json!("ES256")),
        ("use", json!("enc")),
        ("d", json!("c2VjcmV0")),
        ("notBefore", json!("yesterday")),
        ("notBefore", Value::Null),
        ("retiredAt", json!(7)),
        // Not ours to verify with: nothing is left then.
        ("kty", json!("oct")),
        ("crv", json!("X25519")),
    ] {
        assert!(with(member, value.clone()).is_err(), "{member}: {value}");
    }
    let mut two = published.clone();
    two["keys"] = json!([published["keys"][0], published["keys"][0]]);
    assert!(matches!(parse(&two), Err(ParseKeysError::Key { position: 2, .. })));
    // A key of another type beside ours is passed over, also under our key's name.
    two["keys"][0] = json!({ "kty": "oct", "k": published["keys"][0]["x"], "kid": signer.kid() });
    let set = parse(&two).expect("keys");
    assert!(verify(&signed(&signer), &set).is_ok());
    for text in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[]}", "{\"keys\":[],\"keys\":[]}"] {
        assert!(EvidenceKeys::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn an_envelope_is_json_with_every_member_once_and_not_endless() {
    let signer = signer();
    let text = serde_json::to_string(&signed(&signer)).expect("JSON");
    assert!(envelopes::parse(text.as_bytes()).is_ok());
    let twice = text.replacen('{', "{\"payload\":\"e30=\",", 1);
    assert!(matches!(envelopes::parse(twice.as_bytes()), Err(OpenEnvelopeError::Json(_))));
    for end in 0..text.len() {
        assert!(envelopes::parse(&text.as_bytes()[..end]).is_err(), "cut at {end}");
    }
    let long = format!("{text}{}", " ".repeat(10 << 20));
    assert!(matches!(envelopes::parse(long.as_bytes()), Err(OpenEnvelopeError::TooLong)));
    for other in ["[]", "{}", "null", "{\"payload\":1,\"payloadType\":\"\",\"signatures\":[]}"] {
        assert!(
            matches!(envelopes::parse(other.as_bytes()), Err(OpenEnvelopeError::NotAnEnvelope(_))),
            "{other}"
        );
    }
}

#[test]
fn no_key_that_signs_shows_its_private_half() {
    let signer = signer();
    let shown = format!("{signer:?}");
    assert_eq!(shown, format!("EvidenceSigner({}, …)", signer.kid()));
    assert!(signer.public_jwk().expect("a JWK").get("d").is_none());
}

fn checkpoint(entries: u64) -> Checkpoint {
    Checkpoint { origin: origin(&[1; 32]), entries, hash: [7; 32], at: at("2026-06-01T12:00:00.5Z") }
}

fn note(signer: &EvidenceSigner, entries: u64) -> String {
    checkpoint(entries).sign(signer).expect("signs")
}

fn check(note: &str, keys: &EvidenceKeys) -> Result<Checkpoint, String> {
    let signed = SignedCheckpoint::parse(note).map_err(|error| error.to_string())?;
    signed.verify(keys).map_err(|error| error.to_string())?;
    Ok(signed.checkpoint)
}

#[test]
fn a_checkpoint_has_the_form_of_a_signed_note_and_reads_back() {
    let signer = signer();
    let note = note(&signer, 18);
    let lines: Vec<&str> = note.lines().collect();
    assert_eq!(lines[0], "tollgate/journal/01010101010101010101010101010101");
    assert_eq!(
        lines[1..5],
        ["18", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "time 2026-06-01T12:00:00.5Z", ""]
    );
    assert!(lines[5].starts_with("— tollgate/journal/01010101010101010101010101010101 "));
    assert_eq!(check(&note, &keys(&signer)), Ok(checkpoint(18)));
    // A witness's signature beside ours is passed over.
    let witnessed = format!("{note}— witness.example/w {}\n", STANDARD.encode([9; 76]));
    assert_eq!(check(&witnessed, &keys(&signer)), Ok(checkpoint(18)));
}

#[test]
fn the_key_id_is_the_one_of_signed_note() {
    // The example of golang.org/x/mod/sumdb/note: its key, and the first bytes of its signature.
    let key = STANDARD.decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").expect("base64");
    let public: [u8; 32] = key[1..].try_into().expect("32 bytes");
    assert_eq!(super::checkpoints::key_id("PeterNeumann", &public), [0xc7, 0x4f, 0x20, 0xa3]);
}

#[test]
fn a_forged_checkpoint_is_refused() {
    let (signer, other) = (signer(), signer());
    let (good, older, keys) = (note(&signer, 25), note(&signer, 18), keys(&signer));
    let signature = |note: &str| note.split_once("\n\n").expect("a note").1.to_owned();
    let text = |note: &str| note.split_once("\n\n").expect("a note").0.to_owned();
    assert_eq!(
        SignedCheckpoint::parse(&note(&other, 25)).expect("a note").verify(&keys).map(|_| ()),
        Err(VerifyCheckpointError::UnknownKey)
    );
    // Another number, another hash, another time; the signature of an older one, and of another key's, under this text.
    for (from, to) in
        [("\n25\n", "\n24\n"), ("\nBwcH", "\nBwcI"), ("12:00:00.5Z", "12:00:01.5Z"), ("/0101", "/0102")]
    {
        let forged = good.replacen(from, to, 1);
        assert_ne!(forged, good);
        check(&forged, &keys).expect_err(&forged);
    }
    check(&format!("{}\n\n{}", text(&good), signature(&older)), &keys).expect_err("replayed signature");
    check(&format!("{}\n\n{}", text(&good), signature(&note(&other, 25))), &keys)
        .expect_err("another's signature");
    check(&format!("{good}{}", signature(&older)), &keys).expect_err("one fits, one does not");
    // Other spellings of the same.
    for (from, to) in [
        ("\n25\n", "\n025\n"),
        ("\n25\n", "\n+25\n"),
        ("time 2026-06-01T12:00:00.5Z", "time 2026-06-01T12:00:00.50Z"),
        ("time 2026-06-01T12:00:00.5Z\n", "time 2026-06-01T12:00:00.5Z\nmore\n"),
        ("time 2026-06-01T12:00:00.5Z\n", ""),
        ("\n25\n", "\r\n25\r\n"),
    ] {
        check(&good.replacen(from, to, 1), &keys).expect_err(to);
    }
    for end in 0..good.len() {
        if let Some(cut) = good.get(..end) {
            assert!(check(cut, &keys).is_err(), "cut at {end}");
        }
    }
    assert!(check(&"x".repeat(10 << 20), &keys).is_err());
}

#[test]
fn a_file_of_checkpoints_is_read_around_what_is_torn() {
    let signer = signer();
    let notes = [note(&signer, 1), note(&signer, 2), note(&signer, 3)];
    let [one, two, three] = &notes;
    assert_eq!(split(""), (vec![], 0));
    assert_eq!(split(&format!("{one}\n{two}\n{three}\n")), (notes.to_vec(), 0));
    assert_eq!(split(&format!("{one}{two}{three}")), (notes.to_vec(), 0));
    for end in (1..two.len()).filter(|end| two.is_char_boundary(*end)) {
        let torn = format!("{one}\n{}\n\n{three}\n", &two[..end]);
        let (read, torn_pieces) = split(&torn);
        assert!(read.contains(one) && read.contains(three), "{torn}");
        // All but the last line feed is a whole note, too.
        assert_eq!(read.len() + torn_pieces, 3, "{torn}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever byte of a signed statement flips: it is refused, or it says the same.
    #[test]
    fn no_flipped_byte_of_an_envelope_goes_unnoticed(position in any::<prop::sample::Index>(), flip in 1_u8..) {
        let signer = signer();
        let keys = keys(&signer);
        let mut bytes = serde_json::to_vec(&signed(&signer)).expect("JSON");
        let position = position.index(bytes.len());
        bytes[position] ^= flip;
        if let Ok(envelope) = envelopes::parse(&bytes)
            && let Ok(verified) = verify(&envelope, &keys)
        {
            prop_assert_eq!(verified.statement, statement(json!({})));
        }
    }

    /// Whatever byte of the payload or of the signature flips, it is refused.
    #[test]
    fn no_flipped_byte_of_payload_or_signature_is_taken(
        in_payload in any::<bool>(), position in any::<prop::sample::Index>(), flip in 1_u8..,
    ) {
        let signer = signer();
        let mut envelope = signed(&signer);
        let text = if in_payload { &mut envelope.payload } else { &mut envelope.signatures[0].sig };
        let mut bytes = STANDARD.decode(&*text).expect("base64");
        let position = position.index(bytes.len());
        bytes[position] ^= flip;
        *text = STANDARD.encode(bytes);
        prop_assert!(verify(&envelope, &keys(&signer)).is_err());
    }

    /// Whatever byte of a checkpoint flips, it is refused.
    #[test]
    fn no_flipped_byte_of_a_checkpoint_is_taken(position in any::<prop::sample::Index>(), flip in 1_u8..) {
        let signer = signer();
        let mut bytes = note(&signer, 1234).into_bytes();
        let position = position.index(bytes.len());
        bytes[position] ^= flip;
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert!(check(&text, &keys(&signer)).is_err(), "{text}");
        }
    }

    /// No text makes a parser panic.
    #[test]
    fn parsers_take_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,200}") {
        let _ = (envelopes::parse(&bytes), EvidenceKeys::parse(&bytes), SignedCheckpoint::parse(&text), split(&text));
    }
}
