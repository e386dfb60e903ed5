//! Tokens: taken apart, verified, and compared with a second reading.
//!
//! The first byte of an input decides what the rest is: a token as it is, or header and claims (two lines) that are
//! signed as the key would, so that what stands behind a good signature is looked at too.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;
use tollgate_credential::keysets::{KeySet, KeySetKey, LEEWAY_SECONDS};
use tollgate_credential::private_keys::PrivateKey;
use tollgate_credential::tokens::decode_unverified;
use tollgate_model::keysets::{Algorithm, SigningKeyState};

pub(crate) const WORDS: &[&str] = &[
    "\"alg\":\"HS256\"",
    "\"alg\":\"none\"",
    "\"kid\":\"k1\"",
    "\"typ\":\"at+jwt\"",
    "\"typ\":\"JWT\"",
    "\"crit\":[]",
    "\"b64\":false",
    "\"exp\":2000000000",
    "\"iat\":1700000000",
    "\"nbf\":",
    "\"iss\":\"issuer\"",
    "\"aud\":\"audience\"",
    "\"aud\":[\"audience\"]",
    "\"sub\":\"s\"",
    "\"jti\":\"j\"",
    "\"scope\":\"a b\"",
    "1e309",
    "-1",
    "null",
    "\\u0061",
    "{",
    "}",
    ",",
    "\n",
    ".",
    "=",
];

const SECRET: [u8; 32] = [7; 32];

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let key = PrivateKey::from_bytes(Algorithm::Hs256, &SECRET).expect("32 bytes");
    let key = KeySetKey::new("k1".to_owned(), key, SigningKeyState::Active);
    KeySet::new("issuer".to_owned(), "audience".to_owned(), vec![key])
});

pub(crate) fn run(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let token = if mode.is_multiple_of(2) {
        let Ok(token) = std::str::from_utf8(rest) else { return };
        token.to_owned()
    } else {
        let mut lines = rest.splitn(2, |byte| *byte == b'\n');
        let mut part = || URL_SAFE_NO_PAD.encode(lines.next().unwrap_or_default());
        let signed = format!("{}.{}", part(), part());
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    };
    let now = Timestamp::from_second(1_800_000_000).expect("in range");
    let verified = KEYS.verify(&token, now);
    let Ok(claims) = verified else { return };
    // Whatever is taken can be taken apart, is signed by the key, and says of itself what we read in it.
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("a token of {} parts", parts.len()) };
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("canonical base64url");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
    let signed = format!("{header}.{payload}");
    assert!(hmac::verify(&key, signed.as_bytes(), &signature).is_ok(), "taken without a signature");
    let read = |part: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("canonical")).expect("JSON")
    };
    let (header, payload) = (read(header), read(payload));
    assert_eq!((&header["alg"], &header["kid"]), (&Value::from("HS256"), &Value::from("k1")));
    assert!(header.get("crit").is_none() && payload["iss"] == "issuer", "{header} {payload}");
    let audience = &payload["aud"];
    let for_us =
        audience == "audience" || audience.as_array().is_some_and(|all| all.contains(&"audience".into()));
    assert!(for_us, "{audience}");
    let expires = payload["exp"].as_f64().expect("a number");
    assert!(expires > (now.as_second() - LEEWAY_SECONDS) as f64 - 1.0, "{expires}");
    assert_eq!(claims.into_all().map(Value::Object), Some(payload));
    assert!(decode_unverified(&token).is_some());
}
