mod algorithms;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tollgate_model::keysets::Algorithm;
use tollgate_model::triggers::Scope;

use super::*;
use crate::private_keys::PrivateKey;
use crate::tests::Counter;

const NOW: i64 = 1_800_000_000;

fn key(algorithm: Algorithm) -> PrivateKey {
    PrivateKey::generate(algorithm, &Counter::default()).expect("makes")
}

fn settings(change: &Value) -> IssuerSettings {
    let mut settings = json!({ "issuer": "https://login.example", "audience": "orders",
        "algorithms": ["ES256", "RS256", "EdDSA"], "consumer": { "claim": "azp" } });
    settings.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
    serde_json::from_value(settings).expect("settings")
}

fn payload() -> Value {
    json!({ "iss": "https://login.example", "aud": "orders", "sub": "u1", "azp": "shop", "jti": "j1",
        "iat": NOW, "exp": NOW + 600, "scope": "catalog:read a:b" })
}

fn with(base: &Value, change: &Value) -> Value {
    let mut base = base.clone();
    base.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
    base
}

fn token(key: &PrivateKey, header: &Value, payload: &str) -> String {
    signed_by(|signed| key.sign(signed).expect("signs"), header, payload)
}

fn signed_by(sign: impl FnOnce(&[u8]) -> Vec<u8>, header: &Value, payload: &str) -> String {
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn header(key: &PrivateKey) -> Value {
    json!({ "alg": key.algorithm().as_str(), "kid": "k1", "typ": "at+jwt" })
}

fn keys(jwks: &[Value]) -> Result<IssuerKeys, ParseIssuerKeysError> {
    IssuerKeys::parse(json!({ "keys": jwks }).to_string().as_bytes())
}

fn verdict(
    token: &str,
    settings: &IssuerSettings,
    keys: &IssuerKeys,
    memory: &VerifiedTokens,
) -> Result<Claims, VerifyTokenError> {
    let now = Timestamp::from_second(NOW).expect("in range");
    let demands = TokenDemands { settings, max_lifetime_ms: 3_600_000, now };
    OpenedToken::open(token)?.verify(demands, keys, memory)
}

#[test]
fn every_attack_on_a_token_of_an_issuer_has_its_refusal() {
    use VerifyTokenError as E;
    let (ours, other) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let jwk = ours.public_jwk("k1").expect("public");
    let keys = keys(std::slice::from_ref(&jwk)).expect("keys");
    let (settings, memory) = (settings(&json!({})), VerifiedTokens::new(64, &Counter::default()));
    let good = token(&ours, &header(&ours), &payload().to_string());
    assert!(verdict(&good, &settings, &keys, &memory).is_ok(), "the forger's tools work");
    let head = |change: Value| token(&ours, &with(&header(&ours), &change), &payload().to_string());
    let body = |change: Value| token(&ours, &header(&ours), &with(&payload(), &change).to_string());
    let raw = |text: String| token(&ours, &header(&ours), &text);
    let number = |name: &str, number: &str| {
        let text = payload().to_string();
        let value = payload()[name].to_string();
        raw(text.replacen(&format!("\"{name}\":{value}"), &format!("\"{name}\":{number}"), 1))
    };
    let without = |name: &str| {
        let mut payload = payload();
        payload.as_object_mut().expect("an object").shift_remove(name);
        raw(payload.to_string())
    };
    let hmac = |secret: &[u8], kid: &str| {
        let header = json!({ "alg": "HS256", "kid": kid, "typ": "at+jwt" });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(payload().to_string())
        );
        let tag = aws_lc_rs::hmac::sign(
            &aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret),
            signed.as_bytes(),
        );
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let (signed, signature) = good.rsplit_once('.').expect("parts");
    let by_other = token(&other, &header(&other), &payload().to_string());
    for (attack, token, refusal) in [
        ("alg none", head(json!({ "alg": "none" })), E::Algorithm),
        ("alg none, capitals", head(json!({ "alg": "nOnE" })), E::Algorithm),
        ("no signature", format!("{signed}."), E::Signature),
        ("the public key as an HMAC secret", hmac(jwk.to_string().as_bytes(), "k1"), E::Algorithm),
        ("an empty HMAC secret", hmac(b"", "k1"), E::Algorithm),
        ("an algorithm that is not listed", head(json!({ "alg": "PS256" })), E::Algorithm),
        ("a listed algorithm that is not the key's", head(json!({ "alg": "RS256" })), E::UnknownKey),
        ("another key", head(json!({ "kid": "k2" })), E::UnknownKey),
        ("a path as kid", head(json!({ "kid": "../../../../dev/null" })), E::UnknownKey),
        ("SQL as kid", head(json!({ "kid": "k1' UNION SELECT 'x" })), E::UnknownKey),
        ("a list as kid", head(json!({ "kid": ["k1"] })), E::Malformed),
        (
            "its own key",
            {
                let jwk = other.public_jwk("k1").expect("public");
                token(&other, &with(&header(&other), &json!({ "jwk": jwk })), &payload().to_string())
            },
            E::Signature,
        ),
        (
            "a place for its keys",
            token(
                &other,
                &with(
                    &header(&other),
                    &json!({ "jku": "https://evil.example/k",
            "x5u": "https://evil.example/c", "x5c": ["AAAA"] }),
                ),
                &payload().to_string(),
            ),
            E::Signature,
        ),
        ("a critical extension", head(json!({ "crit": ["exp"], "exp": 1 })), E::Header),
        ("an empty critical list", head(json!({ "crit": [] })), E::Header),
        ("an ID token", head(json!({ "typ": "JWT" })), E::Header),
        ("no type", head(json!({ "typ": null })), E::Header),
        ("a signature of another", by_other, E::Signature),
        ("a nested token", raw(good.clone()), E::Malformed),
        ("deflated claims", head(json!({ "zip": "DEF" })).replacen('.', ".x", 1), E::Malformed),
        ("another issuer", body(json!({ "iss": "https://login.example/" })), E::Issuer),
        ("an issuer in capitals", body(json!({ "iss": "https://LOGIN.example" })), E::Issuer),
        ("another audience", body(json!({ "aud": "billing" })), E::Audience),
        ("audiences of others", body(json!({ "aud": ["billing", "orders "] })), E::Audience),
        ("no audience", without("aud"), E::Audience),
        ("a claim twice", raw(payload().to_string().replacen('{', "{\"azp\":\"admin\",", 1)), E::Malformed),
        ("no end", without("exp"), E::Malformed),
        ("no beginning", without("iat"), E::Malformed),
        ("no subject", without("sub"), E::Malformed),
        ("no id", without("jti"), E::Malformed),
        ("an empty id", body(json!({ "jti": "" })), E::Malformed),
        ("an id that nobody could revoke", body(json!({ "jti": "x".repeat(257) })), E::Malformed),
        ("a line end in its id", body(json!({ "jti": "j1\n" })), E::Malformed),
        ("an end in words", number("exp", "\"1800000600\""), E::Malformed),
        ("an end with a fraction", number("exp", "1800000600.5"), E::Malformed),
        ("an end as a power", number("exp", "1.8e9"), E::Malformed),
        ("an end beyond numbers", number("exp", "99999999999999999999999"), E::Malformed),
        ("an end that lies before all time", number("exp", "-1"), E::Expired),
        ("an end that is true", number("exp", "true"), E::Malformed),
        ("a beginning in words", number("iat", "\"0\""), E::Malformed),
        ("a list as an end", number("exp", "[1800000600]"), E::Malformed),
        ("expired", body(json!({ "exp": NOW - 30 })), E::Expired),
        ("issued tomorrow", body(json!({ "iat": NOW + 86_400, "exp": NOW + 86_500 })), E::NotYetValid),
        ("valid tomorrow", body(json!({ "nbf": NOW + 86_400 })), E::NotYetValid),
        ("a life that is too long", body(json!({ "exp": NOW + 3_601 })), E::Lifetime),
        ("a life without end", number("exp", "9223372036854775807"), E::Lifetime),
        ("a life begun long ago", body(json!({ "iat": i64::MIN })), E::Lifetime),
        ("padding", format!("{good}="), E::Malformed),
        ("white space", format!("{signed} .{signature}"), E::Malformed),
        ("a line end", format!("{good}\n"), E::Malformed),
        ("the other base64", good.replace(['-', '_'], "+"), E::Malformed),
        ("four parts", format!("{good}.x"), E::Malformed),
        ("nothing", String::new(), E::Malformed),
    ] {
        if token != good {
            assert_eq!(verdict(&token, &settings, &keys, &memory).err(), Some(refusal), "{attack}");
        }
    }
    assert!(memory.len() >= 1);
}

#[test]
fn the_type_is_that_of_an_access_token_unless_the_settings_take_any() {
    let ours = key(Algorithm::Es256);
    let keys = keys(&[ours.public_jwk("k1").expect("public")]).expect("keys");
    let verdict = |settings: &IssuerSettings, typ: &Value, payload: &Value| {
        let token = token(&ours, &with(&header(&ours), &json!({ "typ": typ })), &payload.to_string());
        verdict(&token, settings, &keys, &VerifiedTokens::none()).err()
    };
    let (strict, any) = (settings(&json!({})), settings(&json!({ "accessTokensOnly": false })));
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "application/AT+jwt"] {
        assert_eq!(verdict(&strict, &json!(typ), &payload()), None, "{typ}");
    }
    for typ in [
        json!("JWT"),
        json!(""),
        json!(null),
        json!("at+jwt "),
        json!("at"),
        json!("jwt+at"),
        json!("text/at+jwt"),
        json!("at+jwt; charset=utf-8"),
        json!("id_token+jwt"),
    ] {
        assert_eq!(verdict(&strict, &typ, &payload()), Some(VerifyTokenError::Header), "{typ}");
        assert_eq!(verdict(&any, &typ, &payload()), None, "{typ}");
    }
    let bare = json!({ "iss": "https://login.example", "aud": "orders", "iat": NOW, "exp": NOW + 600 });
    assert_eq!(verdict(&strict, &json!("at+jwt"), &bare), Some(VerifyTokenError::Malformed));
    assert_eq!(verdict(&any, &json!("at+jwt"), &bare), None);
    let expired = with(&bare, &json!({ "exp": NOW - 31 }));
    assert_eq!(
        verdict(&any, &json!("JWT"), &expired),
        Some(VerifyTokenError::Expired),
        "all else is checked"
    );
}

#[test]
fn two_keys_that_are_published_both_count_and_one_that_is_gone_does_not() {
    let (old, new) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let jwk = |key: &PrivateKey, kid: &str| key.public_jwk(kid).expect("public");
    let (settings, memory) = (settings(&json!({})), VerifiedTokens::new(8, &Counter::default()));
    let by = |key: &PrivateKey, kid: &str| {
        token(key, &with(&header(key), &json!({ "kid": kid })), &payload().to_string())
    };
    let (of_old, of_new) = (by(&old, "old"), by(&new, "new"));
    let overlap = keys(&[jwk(&old, "old"), jwk(&new, "new")]).expect("keys");
    for token in [&of_old, &of_new] {
        assert!(verdict(token, &settings, &overlap, &memory).is_ok());
    }
    assert_eq!(memory.len(), 2);
    let after = keys(&[jwk(&new, "new")]).expect("keys");
    assert_eq!(verdict(&of_old, &settings, &after, &memory).err(), Some(VerifyTokenError::UnknownKey));
    assert!(verdict(&of_new, &settings, &after, &memory).is_ok());
    // Another key under the id of one whose token is remembered.
    let swapped = keys(&[jwk(&old, "new")]).expect("keys");
    assert_eq!(verdict(&of_new, &settings, &swapped, &memory).err(), Some(VerifyTokenError::Signature));
}

#[test]
fn scopes_are_read_from_the_claim_that_was_named_and_no_element_smuggles_in_two() {
    let ours = key(Algorithm::Es256);
    let keys = keys(&[ours.public_jwk("k1").expect("public")]).expect("keys");
    let settings = settings(&json!({ "scopesClaim": "scp" }));
    let has = |scp: Value, scope: &str| {
        let token = token(&ours, &header(&ours), &with(&payload(), &json!({ "scp": scp })).to_string());
        let claims = verdict(&token, &settings, &keys, &VerifiedTokens::none()).expect("good");
        claims.has_scope(&Scope::parse(scope).expect("a scope"))
    };
    assert!(has(json!(["read", "write"]), "write") && has(json!("read write"), "write"));
    assert!(!has(json!(["read admin"]), "admin"), "one element is one scope");
    assert!(!has(json!(["read"]), "catalog:read"), "`scope` is not the claim");
    for nothing in [json!(null), json!({ "read": true }), json!([["read"]]), json!(1)] {
        assert!(!has(nothing, "read"));
    }
}

#[test]
fn the_consumer_is_who_the_settings_say_and_nobody_else() {
    let claims = |azp: Value| Claims {
        subject: "u".to_owned(),
        jti: String::new(),
        issued_at: 0,
        expires_at: 0,
        scopes: Scopes::of(None),
        all: All::Members(Map::from_iter([("azp".to_owned(), azp)])),
    };
    let of = |consumer: Value, azp: Value| {
        let consumer: TokenConsumer = serde_json::from_value(consumer).expect("a rule");
        consumer_of(&consumer, &claims(azp)).map(str::to_owned)
    };
    assert_eq!(of(json!({ "name": "shop" }), json!("x")).as_deref(), Some("shop"));
    assert_eq!(of(json!({ "claim": "azp" }), json!("shop")).as_deref(), Some("shop"));
    let listed = json!({ "claim": "azp", "values": { "client-1": "shop" } });
    assert_eq!(of(listed.clone(), json!("client-1")).as_deref(), Some("shop"));
    assert_eq!(of(listed, json!("shop")), None, "only what is listed counts");
    assert_eq!(of(json!({ "claim": "client_id" }), json!("shop")), None);
    assert_eq!(of(json!({ "claim": "azp" }), json!(["shop"])), None);
}

#[test]
fn of_a_key_set_only_what_can_verify_is_kept() {
    let (ec, rsa) = (key(Algorithm::Es256), key(Algorithm::Rs256));
    let jwk = |key: &PrivateKey, change: Value| with(&key.public_jwk("k1").expect("public"), &change);
    for (what, set) in [
        ("nothing", vec![]),
        ("a symmetric key", vec![json!({ "kty": "oct", "kid": "k1", "k": "AAAA", "alg": "HS256" })]),
        ("a key for encryption", vec![jwk(&ec, json!({ "use": "enc" }))]),
        ("a key that only signs", vec![jwk(&ec, json!({ "key_ops": ["sign"] }))]),
        ("a key of another algorithm", vec![jwk(&ec, json!({ "alg": "ES384" }))]),
        ("a point that is not on the curve", vec![jwk(&ec, json!({ "y": URL_SAFE_NO_PAD.encode([1; 32]) }))]),
        ("half a point", vec![jwk(&ec, json!({ "y": "AAAA" }))]),
        ("an RSA key of 1024 bits", vec![jwk(&rsa, json!({ "n": URL_SAFE_NO_PAD.encode([0xff; 128]) }))]),
        ("an RSA key of 2047 bits", vec![jwk(&rsa, json!({ "n": modulus(0x7f, 256) }))]),
        ("an RSA key of 8193 bits", vec![jwk(&rsa, json!({ "n": modulus(1, 1025) }))]),
        ("an RSA key that begins with zero", vec![jwk(&rsa, json!({ "n": modulus(0, 257) }))]),
        ("an RSA key for encryption", vec![jwk(&rsa, json!({ "alg": "RSA-OAEP-256" }))]),
        ("an RSA key on a curve", vec![jwk(&rsa, json!({ "crv": "P-256" }))]),
        ("an RSA exponent of one", vec![jwk(&rsa, json!({ "e": "AQ" }))]),
        ("a curve that is not offered", vec![jwk(&ec, json!({ "crv": "secp256k1" }))]),
        ("no key at all", vec![json!("k1"), json!(null)]),
    ] {
        assert_eq!(keys(&set).err(), Some(ParseIssuerKeysError::NoneUsable), "{what}");
    }
    assert_eq!(keys(&vec![json!({}); 101]).err(), Some(ParseIssuerKeysError::TooMany));
    for junk in [&b""[..], b"[]", b"{}", b"{\"keys\":{}}", b"<html>", &[0xff]] {
        assert_eq!(IssuerKeys::parse(junk).err(), Some(ParseIssuerKeysError::NoSet));
    }
    for modulus in [modulus(0x80, 256), modulus(0xff, 1024)] {
        assert!(keys(&[jwk(&rsa, json!({ "n": modulus }))]).is_ok(), "of 2048 and 8192 bits");
    }
    // Two keys of one name and one algorithm are one, the first.
    let set = keys(&[jwk(&rsa, json!({})), jwk(&ec, json!({})), jwk(&key(Algorithm::Es256), json!({}))])
        .expect("keys");
    assert_eq!(format!("{set:?}"), "[(Some(\"k1\"), Rs256), (Some(\"k1\"), Es256)]");
}

/// An odd number of so many bytes.
fn modulus(first: u8, bytes: usize) -> String {
    let mut modulus = vec![0xff; bytes];
    modulus[0] = first;
    URL_SAFE_NO_PAD.encode(modulus)
}

#[test]
fn without_an_id_the_key_must_be_the_only_one_that_it_could_be() {
    let (one, two) = (key(Algorithm::Es256), key(Algorithm::Es256));
    let nameless = token(&one, &json!({ "alg": "ES256", "typ": "at+jwt" }), &payload().to_string());
    let (settings, memory) = (settings(&json!({})), VerifiedTokens::none());
    let first = one.public_jwk("a").expect("public");
    let alone = keys(std::slice::from_ref(&first)).expect("keys");
    assert!(verdict(&nameless, &settings, &alone, &memory).is_ok());
    let both = keys(&[first, two.public_jwk("b").expect("public")]).expect("keys");
    assert_eq!(verdict(&nameless, &settings, &both, &memory), Err(VerifyTokenError::UnknownKey));
}
