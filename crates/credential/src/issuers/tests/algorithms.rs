//! Algorithms of issuers: each is taken with its own keys and signatures, and with no other's (RFC 8725 sections 2.1, 3.1).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA3_384_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P521_SHA256_FIXED_SIGNING, ECDSA_P521_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair,
    RsaPssSaltLength, RsaSignatureEncoding,
};
use tollgate_testkit::IssuerKeyPair;

use super::*;

/// Settings in which these algorithms count.
fn listing(algorithms: &[IssuerAlgorithm]) -> IssuerSettings {
    settings(&json!({ "algorithms": algorithms }))
}

/// The public JWK of a key, which names an algorithm or none.
fn jwk(key: &IssuerKeyPair, kid: &str, alg: Option<IssuerAlgorithm>) -> Value {
    let named = alg.map_or(json!({}), |alg| json!({ "alg": alg }));
    with(&with(&key.jwk(), &json!({ "kid": kid, "use": "sig" })), &named)
}

/// A token whose header says an algorithm, with a signature of whatever kind.
fn saying(said: IssuerAlgorithm, kid: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    signed_by(sign, &json!({ "alg": said, "kid": kid, "typ": "at+jwt" }), &payload().to_string())
}

fn is_rsa(key: &IssuerKeyPair) -> bool {
    key.jwk()["kty"] == "RSA"
}

#[test]
fn a_token_of_each_algorithm_is_taken_and_remembered() {
    for key in IssuerKeyPair::of_every_algorithm() {
        let algorithm = key.algorithm();
        let (memory, token) = (VerifiedTokens::new(8, &Counter::default()), key.token("k1", &payload()));
        for alg in [Some(algorithm), None] {
            let keys = keys(&[jwk(&key, "k1", alg)]).expect("keys");
            for settings in [listing(&[algorithm]), listing(&IssuerAlgorithm::ALL)] {
                let claims = verdict(&token, &settings, &keys, &memory).expect("good");
                assert_eq!((claims.subject.as_str(), claims.jti.as_str()), ("u1", "j1"));
                assert!(claims.has_scope(&Scope::parse("a:b").expect("a scope")));
                assert_eq!(memory.len(), 1, "{algorithm}");
            }
            let others: Vec<_> = IssuerAlgorithm::ALL.into_iter().filter(|it| *it != algorithm).collect();
            assert_eq!(
                verdict(&token, &listing(&others), &keys, &memory),
                Err(VerifyTokenError::Algorithm),
                "{algorithm} is taken where it is not listed"
            );
        }
    }
}

#[test]
fn no_token_is_taken_under_another_algorithm_than_that_of_its_key() {
    use VerifyTokenError as E;
    let all = listing(&IssuerAlgorithm::ALL);
    let memory = VerifiedTokens::new(64, &Counter::default());
    for key in IssuerKeyPair::of_every_algorithm() {
        let algorithm = key.algorithm();
        let named = keys(&[jwk(&key, "k1", Some(algorithm))]).expect("keys");
        let bare = keys(&[jwk(&key, "k1", None)]).expect("keys");
        for other in IssuerAlgorithm::ALL.into_iter().filter(|it| *it != algorithm) {
            // One algorithm said, the other used.
            let confused = saying(other, "k1", |signed| key.sign(signed));
            assert_eq!(
                verdict(&confused, &all, &named, &memory),
                Err(E::UnknownKey),
                "{algorithm} as {other}"
            );
            let of_one_kind = key.with(other);
            let refusal = if of_one_kind.is_some() { E::Signature } else { E::UnknownKey };
            assert_eq!(verdict(&confused, &all, &bare, &memory), Err(refusal), "{algorithm} as {other}");
            // A key whose set names an algorithm that is not of its kind is none.
            let renamed = keys(&[jwk(&key, "k1", Some(other))]);
            let Some(of_one_kind) = of_one_kind else {
                assert_eq!(renamed.err(), Some(ParseIssuerKeysError::NoneUsable), "{algorithm} as {other}");
                continue;
            };
            // The same RSA key, honestly, with another hash or padding than the set names; without a name the list decides.
            let honest = of_one_kind.token("k1", &payload());
            assert_eq!(verdict(&honest, &all, &named, &memory), Err(E::UnknownKey), "{other} by {algorithm}");
            assert_eq!(verdict(&honest, &listing(&[algorithm]), &bare, &memory), Err(E::Algorithm));
            assert!(verdict(&honest, &all, &renamed.expect("keys"), &memory).is_ok(), "{other}");
            // What is remembered of a key with one algorithm is nothing of it with another.
            assert_eq!(verdict(&honest, &all, &named, &memory), Err(E::UnknownKey), "{other} by {algorithm}");
        }
    }
}

#[test]
fn a_key_of_another_curve_verifies_nothing_whatever_it_is_called() {
    let curves = [IssuerAlgorithm::Es256, IssuerAlgorithm::Es384, IssuerAlgorithm::Es512];
    for key in curves.map(IssuerKeyPair::generate) {
        for other in curves.into_iter().filter(|it| *it != key.algorithm()) {
            let curve = IssuerKeyPair::generate(other).jwk()["crv"].clone();
            let moved = with(&jwk(&key, "k1", None), &json!({ "crv": curve }));
            for alg in [json!({}), json!({ "alg": key.algorithm() }), json!({ "alg": other })] {
                assert_eq!(
                    keys(&[with(&moved, &alg)]).err(),
                    Some(ParseIssuerKeysError::NoneUsable),
                    "{} on {curve}, {alg}",
                    key.algorithm()
                );
            }
        }
        // Both coordinates have the length of the curve's field (RFC 7518 section 6.2.1.2), and the point is on the curve.
        let x = URL_SAFE_NO_PAD.decode(key.jwk()["x"].as_str().expect("a text")).expect("base64url");
        let mut beside = x.clone();
        *beside.last_mut().expect("a byte") ^= 1;
        for wrong in
            [x[1..].to_vec(), [&[0], x.as_slice()].concat(), vec![0; x.len()], vec![0xff; x.len()], beside]
        {
            let wrong = with(&jwk(&key, "k1", None), &json!({ "x": URL_SAFE_NO_PAD.encode(wrong) }));
            assert_eq!(keys(&[wrong]).err(), Some(ParseIssuerKeysError::NoneUsable), "{}", key.algorithm());
        }
    }
    let misspelt = with(&IssuerKeyPair::generate(IssuerAlgorithm::Es512).jwk(), &json!({ "alg": "ES521" }));
    assert_eq!(keys(&[misspelt]).err(), Some(ParseIssuerKeysError::NoneUsable));
}

#[test]
fn a_signature_has_one_form() {
    let memory = VerifiedTokens::new(64, &Counter::default());
    for key in IssuerKeyPair::of_every_algorithm() {
        let algorithm = key.algorithm();
        let (settings, keys) = (listing(&[algorithm]), keys(&[jwk(&key, "k1", None)]).expect("keys"));
        let refused = |what: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
            let token = saying(algorithm, "k1", |signed| change(key.sign(signed)));
            let verdict = verdict(&token, &settings, &keys, &memory);
            assert_eq!(verdict, Err(VerifyTokenError::Signature), "{algorithm}: {what}");
        };
        assert!(verdict(&key.token("k1", &payload()), &settings, &keys, &memory).is_ok());
        refused("nothing", &|_| Vec::new());
        refused("cut off", &|it| it[..it.len() - 1].to_vec());
        refused("cut off in front", &|it| it[1..].to_vec());
        refused("half of it", &|it| it[..it.len() / 2].to_vec());
        refused("a zero after it", &|it| [it.as_slice(), &[0]].concat());
        refused("a zero before it", &|it| [&[0], it.as_slice()].concat());
        refused("nothing but zeros", &|it| vec![0; it.len()]);
        refused("nothing but ones", &|it| vec![0xff; it.len()]);
        refused("its halves swapped", &|it| [&it[it.len() / 2..], &it[..it.len() / 2]].concat());
        refused("twice", &|it| it.repeat(2));
        for at in [0, 1] {
            refused("a bit turned", &|mut it| {
                let at = at * (it.len() - 1);
                it[at] ^= 1;
                it
            });
        }
        if !is_rsa(&key) {
            refused("r is zero", &|it| [&vec![0; it.len() / 2], &it[it.len() / 2..]].concat());
            refused("s is zero", &|it| [&it[..it.len() / 2], &vec![0; it.len() / 2]].concat());
            // As some systems write fixed lengths: each half one byte longer, or without its leading zeros.
            refused("longer halves", &|it| [&[0], &it[..it.len() / 2], &[0], &it[it.len() / 2..]].concat());
            refused("shorter halves", &|it| [&it[1..it.len() / 2], &it[it.len() / 2 + 1..]].concat());
        }
    }
}

#[test]
fn an_ecdsa_signature_in_der_or_over_another_hash_is_refused() {
    let of = |key: &IssuerKeyPair, signs: &'static EcdsaSigningAlgorithm| {
        let pair = EcdsaKeyPair::from_pkcs8(signs, &key.pkcs8()).expect("a key");
        move |signed: &[u8]| pair.sign(&SystemRandom::new(), signed).expect("signs").as_ref().to_vec()
    };
    let es256: &[&'static EcdsaSigningAlgorithm] = &[&ECDSA_P256_SHA256_ASN1_SIGNING];
    let es384: &[&'static EcdsaSigningAlgorithm] =
        &[&ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P384_SHA3_384_FIXED_SIGNING];
    let es512: &[&'static EcdsaSigningAlgorithm] = &[
        &ECDSA_P521_SHA512_ASN1_SIGNING,
        &ECDSA_P521_SHA256_FIXED_SIGNING,
        &ECDSA_P521_SHA384_FIXED_SIGNING,
    ];
    let memory = VerifiedTokens::none();
    for (algorithm, others) in
        [(IssuerAlgorithm::Es256, es256), (IssuerAlgorithm::Es384, es384), (IssuerAlgorithm::Es512, es512)]
    {
        let key = IssuerKeyPair::generate(algorithm);
        let keys = keys(&[jwk(&key, "k1", Some(algorithm))]).expect("keys");
        for other in others {
            let token = saying(algorithm, "k1", of(&key, other));
            assert_eq!(
                verdict(&token, &listing(&[algorithm]), &keys, &memory),
                Err(VerifyTokenError::Signature),
                "{other:?}"
            );
        }
    }
}

#[test]
fn a_salt_of_another_length_than_the_hash_is_refused() {
    const SALTS: [(IssuerAlgorithm, RsaSignatureEncoding, RsaSignatureEncoding); 3] = [
        (
            IssuerAlgorithm::Ps256,
            RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(0)),
            RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(20)),
        ),
        (
            IssuerAlgorithm::Ps384,
            RSA_PSS_SHA384.with_pss_salt_length(RsaPssSaltLength::Custom(0)),
            RSA_PSS_SHA384.with_pss_salt_length(RsaPssSaltLength::Custom(32)),
        ),
        (
            IssuerAlgorithm::Ps512,
            RSA_PSS_SHA512.with_pss_salt_length(RsaPssSaltLength::Custom(0)),
            RSA_PSS_SHA512.with_pss_salt_length(RsaPssSaltLength::Max),
        ),
    ];
    static ENCODINGS: [(IssuerAlgorithm, RsaSignatureEncoding, RsaSignatureEncoding); 3] = SALTS;
    let memory = VerifiedTokens::none();
    let first = IssuerKeyPair::generate(IssuerAlgorithm::Ps256);
    let pair = RsaKeyPair::from_pkcs8(&first.pkcs8()).expect("a key");
    for (algorithm, none, other) in &ENCODINGS {
        let keys = keys(&[jwk(&first, "k1", Some(*algorithm))]).expect("keys");
        for encoding in [none, other] {
            let token = saying(*algorithm, "k1", |signed| {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), signed, &mut signature).expect("signs");
                signature
            });
            let verdict = verdict(&token, &listing(&[*algorithm]), &keys, &memory);
            assert_eq!(verdict, Err(VerifyTokenError::Signature), "{algorithm}, {encoding:?}");
        }
    }
}

#[test]
fn people_are_told_an_rsa_key_without_alg_once_for_each_algorithm_that_is_listed() {
    let (rsa, ec) =
        (IssuerKeyPair::generate(IssuerAlgorithm::Rs256), IssuerKeyPair::generate(IssuerAlgorithm::Es512));
    let set = keys(&[
        jwk(&rsa, "bare", None),
        jwk(&rsa, "named", Some(IssuerAlgorithm::Ps512)),
        jwk(&ec, "curve", None),
    ]);
    let set = set.expect("keys");
    let told = |listed: &[IssuerAlgorithm]| {
        let settings = listing(listed);
        let names =
            set.names(&settings.algorithms).map(|(kid, it)| format!("{} {it}", kid.unwrap_or_default()));
        names.collect::<Vec<_>>()
    };
    // What is said is told, so that a key which no token can be verified with shows.
    assert_eq!(told(&[IssuerAlgorithm::Es256]), ["named PS512", "curve ES512"]);
    assert_eq!(
        told(&[IssuerAlgorithm::Rs256, IssuerAlgorithm::Rs512]),
        ["bare RS256", "bare RS512", "named PS512", "curve ES512"]
    );
}
