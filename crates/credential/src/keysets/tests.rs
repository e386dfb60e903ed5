use proptest::prelude::*;

use super::*;
use crate::tests::Counter;

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("in range")
}

fn set_of(environment: &str, algorithm: Algorithm, state: SigningKeyState) -> KeySet {
    let key = PrivateKey::generate(algorithm, &Counter::default()).expect("makes");
    let kid = key.make_kid(&Counter::default()).expect("random");
    KeySet::new(
        format!("urn:tollgate:default:{environment}"),
        format!("urn:tollgate:default:{environment}:pipelines"),
        vec![KeySetKey::new(kid, key, state)],
    )
}

fn set(algorithm: Algorithm) -> KeySet {
    set_of("test", algorithm, SigningKeyState::Active)
}

fn issue(set: &KeySet, claims: Value) -> String {
    let scopes = [Scope::parse("catalog:read").expect("a scope"), Scope::parse("a:b").expect("a scope")];
    let Value::Object(claims) = claims else { panic!("claims are an object") };
    let request = TokenRequest { subject: "con_1", scopes: &scopes, expires_in_ms: 900_000, claims };
    set.sign(request, at(NOW), &Counter::default()).expect("signs")
}

/// Signs whatever header and payload an attacker who has the key's owner's help could want.
fn forge(set: &KeySet, header: &dyn std::fmt::Display, payload: &str) -> String {
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload));
    let signature = set.keys[0].key.sign(signed.as_bytes()).expect("signs");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn header(set: &KeySet) -> Value {
    json!({ "alg": set.keys[0].key.algorithm().as_str(), "kid": set.keys[0].kid, "typ": "at+jwt" })
}

fn payload() -> Value {
    json!({ "iss": "urn:tollgate:default:test", "aud": "urn:tollgate:default:test:pipelines", "sub": "con_1", "jti": "j",
        "iat": NOW, "exp": NOW + 900, "scope": "catalog:read" })
}

#[test]
fn a_token_says_what_was_asked_and_nothing_that_a_flow_smuggles_in() {
    for algorithm in Algorithm::ALL {
        let set = set(algorithm);
        let token = issue(
            &set,
            json!({ "user": "ana", "sub": "con_other", "exp": 9_999_999_999_i64, "iss": "me",
            "scope": "admin", "aud": "all", "jti": "mine", "iat": 0, "nbf": 0, "client_id": "x" }),
        );
        let claims = set.verify(&token, at(NOW)).expect("good");
        assert_eq!((claims.subject.as_str(), claims.expires_at, claims.issued_at), ("con_1", NOW + 900, NOW));
        assert!(claims.has_scope(&Scope::parse("a:b").expect("a scope")));
        for other in ["admin", "a:", "catalog:read a:b"] {
            assert!(!Scope::parse(other).is_ok_and(|scope| claims.has_scope(&scope)), "{other}");
        }
        assert_ne!(claims.jti, "mine");
        let all = claims.into_all().expect("they can be read");
        assert_eq!((&all["user"], &all["iss"]), (&json!("ana"), &json!("urn:tollgate:default:test")));
    }
}

#[test]
fn claims_over_four_kibibytes_are_an_error() {
    let claims = Map::from_iter([("x".to_owned(), Value::from("y".repeat(4096)))]);
    let request = TokenRequest { subject: "con_1", scopes: &[], expires_in_ms: 1000, claims };
    assert_eq!(
        set(Algorithm::Es256).sign(request, at(NOW), &Counter::default()),
        Err(SignTokenError::TooLarge)
    );
}

#[test]
fn time_is_checked_with_thirty_seconds_of_leeway() {
    let set = set(Algorithm::Es256);
    let token = issue(&set, json!({}));
    for (now, verdict) in [
        (NOW - 31, Some(VerifyTokenError::NotYetValid)),
        (NOW - 30, None),
        (NOW + 929, None),
        (NOW + 930, Some(VerifyTokenError::Expired)),
        (NOW + 1_000_000, Some(VerifyTokenError::Expired)),
    ] {
        assert_eq!(set.verify(&token, at(now)).err(), verdict, "{now}");
    }
}

#[test]
fn every_attack_on_a_token_has_its_refusal() {
    use VerifyTokenError as E;
    let set = set(Algorithm::Es256);
    let good = forge(&set, &header(&set), &payload().to_string());
    assert!(set.verify(&good, at(NOW)).is_ok(), "the forger's tools work");

    let with_header = |change: Value| {
        let mut header = header(&set);
        header.as_object_mut().expect("object").extend(change.as_object().expect("object").clone());
        forge(&set, &header, &payload().to_string())
    };
    let with_payload = |change: Value| {
        let mut payload = payload();
        payload.as_object_mut().expect("object").extend(change.as_object().expect("object").clone());
        forge(&set, &header(&set), &payload.to_string())
    };
    let without = |member: &str| {
        let mut payload = payload();
        payload.as_object_mut().expect("object").remove(member);
        forge(&set, &header(&set), &payload.to_string())
    };
    let number = |name: &str, number: &str| {
        let (text, value) = (payload().to_string(), payload()[name].to_string());
        let text = text.replacen(&format!("\"{name}\":{value}"), &format!("\"{name}\":{number}"), 1);
        forge(&set, &header(&set), &text)
    };
    let beside = |value: &str| {
        let text = payload().to_string().replacen('{', &format!("{{\"x\":{value},"), 1);
        forge(&set, &header(&set), &text)
    };
    assert!(
        set.verify(&beside("[1e300,{\"a\":\"\\ud83d\\ude00\"}]"), at(NOW)).is_ok(),
        "what can be read is"
    );
    let signed = |token: &str| token.rsplit_once('.').expect("parts").0.to_owned();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"at+jwt"}"#);
    let payload_part = good.split('.').nth(1).expect("a part").to_owned();

    // The classic: the public key, which everybody has, used as an HMAC secret.
    let public = set.jwks(at(NOW))["keys"][0].to_string();
    let confused = {
        let header = json!({ "alg": "HS256", "kid": set.keys[0].kid, "typ": "at+jwt" });
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), payload_part);
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let duplicate =
        forge(&set, &header(&set), &payload().to_string().replacen('{', "{\"sub\":\"con_2\",", 1));

    let header_twice = |member: &str| {
        let text = header(&set).to_string().replacen('{', &format!("{{{member},{member},"), 1);
        forge(&set, &text, &payload().to_string())
    };

    for (attack, token, refusal) in [
        ("nothing", String::new(), E::Malformed),
        ("two parts", signed(&good), E::Malformed),
        ("four parts", format!("{good}.x"), E::Malformed),
        ("alg none", format!("{none}.{payload_part}."), E::UnknownKey),
        ("no signature", format!("{}.", signed(&good)), E::Signature),
        ("alg none with a known kid", with_header(json!({ "alg": "none" })), E::Algorithm),
        ("HMAC with the public key", confused, E::Algorithm),
        ("another algorithm", with_header(json!({ "alg": "ES384" })), E::Algorithm),
        ("another key", with_header(json!({ "kid": "other" })), E::UnknownKey),
        ("no key", with_header(json!({ "kid": null })), E::UnknownKey),
        (
            "its own key",
            with_header(json!({ "kid": "x", "jwk": set.jwks(at(NOW))["keys"][0] })),
            E::UnknownKey,
        ),
        ("a critical extension", with_header(json!({ "crit": ["b64"], "b64": false })), E::Header),
        ("a critical extension of nothing", with_header(json!({ "crit": null })), E::Header),
        ("an id token", with_header(json!({ "typ": "JWT" })), E::Header),
        ("no type", with_header(json!({ "typ": null })), E::Header),
        ("another issuer", with_payload(json!({ "iss": "urn:tollgate:default:prod" })), E::Issuer),
        (
            "another audience",
            with_payload(json!({ "aud": "urn:tollgate:default:prod:pipelines" })),
            E::Audience,
        ),
        (
            "many audiences",
            with_payload(json!({ "aud": ["urn:tollgate:default:test:pipelines"] })),
            E::Audience,
        ),
        ("no end", without("exp"), E::Malformed),
        ("no beginning", without("iat"), E::Malformed),
        ("no id", without("jti"), E::Malformed),
        ("no subject", without("sub"), E::Malformed),
        ("an end in words", with_payload(json!({ "exp": "tomorrow" })), E::Malformed),
        ("an end as text", number("exp", "\"1800000900\""), E::Malformed),
        ("an end with a fraction", number("exp", "1800000900.5"), E::Malformed),
        ("an end as a power", number("exp", "1.8e9"), E::Malformed),
        ("an end beyond numbers", number("exp", "99999999999999999999999"), E::Malformed),
        ("an end that is true", number("exp", "true"), E::Malformed),
        ("a list as an end", number("exp", "[1800000900]"), E::Malformed),
        ("a negative end", number("exp", "-1"), E::Expired),
        ("a beginning in words", number("iat", "\"0\""), E::Malformed),
        ("a path as kid", with_header(json!({ "kid": "../../../../dev/null" })), E::UnknownKey),
        ("SQL as kid", with_header(json!({ "kid": "k1' UNION SELECT 'x" })), E::UnknownKey),
        ("a list as kid", with_header(json!({ "kid": [set.keys[0].kid] })), E::Malformed),
        (
            "a place for its keys",
            {
                let other = super::tests::set(Algorithm::Es256);
                let mut named = header(&set);
                let places = json!({ "jku": "https://evil.example/k", "x5u": "https://evil.example/c", "x5c": ["AAAA"] });
                named.as_object_mut().expect("object").extend(places.as_object().expect("object").clone());
                forge(&other, &named, &payload().to_string())
            },
            E::Signature,
        ),
        ("a nested token", forge(&set, &header(&set), &good), E::Malformed),
        (
            "deflated claims",
            {
                let mut zipped = header(&set);
                zipped["zip"] = json!("DEF");
                // Raw deflate of `{}`.
                let body = [0xab, 0xae, 0x05, 0x00];
                let signed = format!(
                    "{}.{}",
                    URL_SAFE_NO_PAD.encode(zipped.to_string()),
                    URL_SAFE_NO_PAD.encode(body)
                );
                let signature = set.keys[0].key.sign(signed.as_bytes()).expect("signs");
                format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
            },
            E::Malformed,
        ),
        ("white space", good.replacen('.', ". ", 1), E::Signature),
        ("a line end", format!("{good}\n"), E::Malformed),
        ("expired", with_payload(json!({ "exp": NOW - 31 })), E::Expired),
        ("an end before all time", with_payload(json!({ "exp": i64::MIN })), E::Expired),
        ("issued tomorrow", with_payload(json!({ "iat": NOW + 86_400 })), E::NotYetValid),
        ("valid tomorrow", with_payload(json!({ "nbf": NOW + 86_400 })), E::NotYetValid),
        ("a claim twice", duplicate, E::Malformed),
        // In claims that no check asks for: taken here, such a token would be refused by who reads all of them.
        ("a number beyond all numbers", beside("2000000E701"), E::Malformed),
        ("such a number within a claim", beside("{\"a\":[1,-1e999]}"), E::Malformed),
        ("half a character", beside("\"\\ud800\""), E::Malformed),
        ("half a character in a name", beside("{\"\\udfff\":1}"), E::Malformed),
        (
            "nested deeper than readers go",
            beside(&format!("{}{}", "[".repeat(200), "]".repeat(200))),
            E::Malformed,
        ),
        ("a header that is read twice", header_twice("\"kid\":\"other\""), E::Malformed),
        ("a header that is not read, twice", header_twice("\"x\":1"), E::Malformed),
        ("no object", forge(&set, &header(&set), "[1]"), E::Malformed),
        ("a bomb", forge(&set, &header(&set), &"[".repeat(10_000)), E::Malformed),
        ("too long", format!("{}.{}", signed(&good), "A".repeat(20_000)), E::Malformed),
        ("padding", format!("{good}=="), E::Malformed),
        (
            "another key's signature",
            {
                let other = super::tests::set(Algorithm::Es256);
                let other = forge(&other, &header(&set), &payload().to_string());
                format!("{}.{}", signed(&good), other.rsplit_once('.').expect("parts").1)
            },
            E::Signature,
        ),
    ] {
        assert_eq!(set.verify(&token, at(NOW)).err(), Some(refusal), "{attack}");
    }
}

#[test]
fn a_token_of_another_environment_is_refused_even_under_the_same_key() {
    let test = set(Algorithm::Hs256);
    let bytes = test.keys[0].key.to_bytes().expect("writes");
    let key = PrivateKey::from_bytes(Algorithm::Hs256, &bytes).expect("reads");
    let prod = KeySet::new(
        "urn:tollgate:default:prod".to_owned(),
        "urn:tollgate:default:prod:pipelines".to_owned(),
        vec![KeySetKey::new(test.keys[0].kid.clone(), key, SigningKeyState::Active)],
    );
    assert_eq!(prod.verify(&issue(&test, json!({})), at(NOW)).err(), Some(VerifyTokenError::Issuer));
}

#[test]
fn a_retiring_key_verifies_until_its_end_and_a_revoked_one_not_at_all() {
    let active = set(Algorithm::Es256);
    let token = issue(&active, json!({}));
    let (kid, bytes) = (active.keys[0].kid.clone(), active.keys[0].key.to_bytes().expect("writes"));
    let with = |state| {
        let key = PrivateKey::from_bytes(Algorithm::Es256, &bytes).expect("reads");
        KeySet::new(
            active.issuer.clone(),
            active.audience.clone(),
            vec![KeySetKey::new(kid.clone(), key, state)],
        )
    };
    let retiring = with(SigningKeyState::Retiring { until: at(NOW + 60) });
    assert!(retiring.verify(&token, at(NOW + 59)).is_ok());
    assert_eq!(retiring.verify(&token, at(NOW + 60)).err(), Some(VerifyTokenError::UnknownKey));
    let request = TokenRequest { subject: "con_1", scopes: &[], expires_in_ms: 1000, claims: Map::new() };
    assert_eq!(retiring.sign(request, at(NOW), &Counter::default()), Err(SignTokenError::NoActiveKey));
    assert_eq!(retiring.jwks(at(NOW))["keys"].as_array().map(Vec::len), Some(1));
    let revoked = with(SigningKeyState::Revoked { at: at(NOW) });
    assert_eq!(revoked.verify(&token, at(NOW)).err(), Some(VerifyTokenError::UnknownKey));
    assert_eq!(revoked.jwks(at(NOW)), json!({ "keys": [] }));
}

#[test]
fn a_token_that_repeats_is_not_verified_twice_and_one_that_was_not_verified_is() {
    let memory = VerifiedTokens::new(64, &Counter::default());
    for (algorithm, remembered) in
        [(Algorithm::Es256, 1), (Algorithm::EdDsa, 1), (Algorithm::Rs256, 1), (Algorithm::Hs256, 0)]
    {
        let memory = VerifiedTokens::new(64, &Counter::default());
        let set = set(algorithm);
        let token = issue(&set, json!({}));
        let first = set.verify_remembering(&token, at(NOW), &memory);
        assert_eq!(memory.len(), remembered, "{algorithm}");
        assert_eq!(set.verify_remembering(&token, at(NOW), &memory), first);
        assert_eq!(set.verify(&token, at(NOW)), first);
    }
    // What no key signed passes only because the test writes it into the memory: so the memory is what answered.
    let set = set(Algorithm::Es256);
    let (signed, _) =
        issue(&set, json!({})).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("parts");
    let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([1; 64]));
    assert_eq!(set.verify_remembering(&forged, at(NOW), &memory), Err(VerifyTokenError::Signature));
    assert_eq!(memory.len(), 0, "what is refused is not remembered");
    let key = set.keys[0].key.fingerprint().expect("one");
    memory.learn(&memory.fact(key, &forged).expect("one"));
    assert!(set.verify_remembering(&forged, at(NOW), &memory).is_ok());
}

#[test]
fn what_is_remembered_outlives_nothing() {
    use VerifyTokenError as E;
    // Of HS256 no signature is remembered, and what the token says is.
    for (algorithm, signatures) in [(Algorithm::Es256, 1), (Algorithm::Hs256, 0)] {
        let memory = VerifiedTokens::new(64, &Counter::default());
        let active = set(algorithm);
        let token = issue(&active, json!({}));
        let (kid, bytes) = (active.keys[0].kid.clone(), active.keys[0].key.to_bytes().expect("writes"));
        let with = |kid: &str, issuer: &str, audience: &str, state| {
            let key = PrivateKey::from_bytes(algorithm, &bytes).expect("reads");
            let keys = vec![KeySetKey::new(kid.to_owned(), key, state)];
            KeySet::new(issuer.to_owned(), audience.to_owned(), keys)
        };
        let (issuer, audience) = (active.issuer.as_str(), active.audience.as_str());
        assert!(active.verify_remembering(&token, at(NOW), &memory).is_ok());
        let verdict = |set: &KeySet, now| set.verify_remembering(&token, at(now), &memory).err();
        assert_eq!(verdict(&active, NOW + 929), None);
        assert_eq!(verdict(&active, NOW + 930), Some(E::Expired));
        assert_eq!(verdict(&active, NOW - 31), Some(E::NotYetValid), "the clock was set back");
        let retiring = with(&kid, issuer, audience, SigningKeyState::Retiring { until: at(NOW + 60) });
        assert_eq!(verdict(&retiring, NOW + 59), None);
        assert_eq!(verdict(&retiring, NOW + 60), Some(E::UnknownKey));
        let revoked = with(&kid, issuer, audience, SigningKeyState::Revoked { at: at(NOW) });
        assert_eq!(verdict(&revoked, NOW), Some(E::UnknownKey));
        let active_as = |kid, issuer, audience| with(kid, issuer, audience, SigningKeyState::Active);
        assert_eq!(verdict(&active_as("another", issuer, audience), NOW), Some(E::UnknownKey));
        assert_eq!(verdict(&active_as(&kid, "urn:other", audience), NOW), Some(E::Issuer));
        assert_eq!(verdict(&active_as(&kid, issuer, "urn:other"), NOW), Some(E::Audience));
        // Another key under the id that the token names.
        let random = Counter::default();
        random.fill(&mut [0; 64]).expect("random");
        let other = PrivateKey::generate(algorithm, &random).expect("makes");
        let other = KeySetKey::new(kid.clone(), other, SigningKeyState::Active);
        let other = KeySet::new(issuer.to_owned(), audience.to_owned(), vec![other]);
        assert_eq!(verdict(&other, NOW), Some(E::Signature));
        assert_eq!((memory.len(), memory.read.len()), (signatures, 1));
    }
}

#[test]
fn another_spelling_of_a_remembered_signature_is_another_token() {
    // The order of P-256 (FIPS 186-5): with (r, s), (r, n - s) is a signature of the same bytes, too.
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (set, memory) = (set(Algorithm::Es256), VerifiedTokens::new(64, &Counter::default()));
    let token = issue(&set, json!({}));
    assert!(set.verify_remembering(&token, at(NOW), &memory).is_ok());
    let (signed, signature) = token.rsplit_once('.').expect("parts");
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    for other in [
        format!("{signed}.{signature}="),
        format!("{signed}.{signature}A"),
        format!("{signed}. {signature}"),
        format!("{signed}.{}", signature.replace(['-', '_'], "+")),
        format!("{signed}.{}", &signature[..signature.len() - 1]),
    ] {
        if other != token {
            assert!(set.verify_remembering(&other, at(NOW), &memory).is_err(), "{other}");
        }
    }
    for bit in 0..512 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let flipped = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bytes));
        assert_eq!(
            set.verify_remembering(&flipped, at(NOW), &memory),
            Err(VerifyTokenError::Signature),
            "{bit}"
        );
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(memory.len(), 1);
    let mut borrow = 0;
    for index in (0..32).rev() {
        let difference = i16::from(ORDER[index]) - i16::from(bytes[32 + index]) - borrow;
        borrow = i16::from(difference < 0);
        bytes[32 + index] = difference.rem_euclid(256).try_into().expect("a byte");
    }
    let mirrored = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bytes));
    assert!(set.verify_remembering(&mirrored, at(NOW), &memory).is_ok(), "as good, and verified by itself");
    assert_eq!(memory.len(), 2);
}

proptest! {
    #[test]
    fn one_changed_character_anywhere_is_refused(at_ in 0..500_usize, to in "[A-Za-z0-9_.=-]") {
        let set = set(Algorithm::EdDsa);
        let mut token = issue(&set, json!({ "user": "ana" }));
        let at_ = at_ % token.len();
        prop_assume!(token.get(at_..=at_) != Some(to.as_str()));
        token.replace_range(at_..=at_, &to);
        prop_assert!(set.verify(&token, at(NOW)).is_err());
    }

    #[test]
    fn verifying_never_panics(token in "\\PC{0,80}", parts in "[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,90}") {
        let set = set(Algorithm::Hs256);
        prop_assert!(set.verify(&token, at(NOW)).is_err());
        prop_assert!(set.verify(&parts, at(NOW)).is_err());
        let _ = tokens::decode_unverified(&token);
    }
}
