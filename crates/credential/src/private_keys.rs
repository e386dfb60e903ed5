//! Signing keys: make, keep, sign, verify (RFC 7515, 7517, 7518, 8037).

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tollgate_model::keysets::Algorithm;
use tollgate_model::sources::{Random, RandomError};
use zeroize::Zeroizing;

use crate::read_tokens::Mark;
use crate::verified_tokens::KeyFingerprint;

/// A key that signs and verifies tokens with one algorithm.
///
/// The public half is parsed once, so that a verification only verifies.
pub struct PrivateKey {
    kind: Kind,
    /// `None` for HS256, whose verification costs no more than remembering one.
    fingerprint: Option<KeyFingerprint>,
}

#[expect(clippy::large_enum_variant, reason = "a key set holds a handful")]
enum Kind {
    Es256(Box<EcdsaKeyPair>, ParsedPublicKey),
    EdDsa(Box<Ed25519KeyPair>, ParsedPublicKey),
    Rs256(Box<RsaKeyPair>, ParsedPublicKey),
    Hs256(hmac::Key, Zeroizing<Vec<u8>>),
}

/// Why a key could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MakeKeyError {
    /// The system gives no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The bytes are no key of this algorithm.
    #[error("these bytes are no private key of this algorithm")]
    Invalid,
}

// === impl PrivateKey ===

impl PrivateKey {
    /// Makes a key: P-256, Ed25519, RSA of 2048 bits, or 32 random bytes.
    ///
    /// # Errors
    ///
    /// [`MakeKeyError::Random`] when the system gives no randomness.
    pub fn generate(algorithm: Algorithm, random: &dyn Random) -> Result<Self, MakeKeyError> {
        let bytes = match algorithm {
            Algorithm::Es256 => {
                let pair =
                    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| RandomError)?;
                Zeroizing::new(pair.to_pkcs8v1().map_err(|_| MakeKeyError::Invalid)?.as_ref().to_vec())
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::generate().map_err(|_| RandomError)?;
                Zeroizing::new(pair.to_pkcs8().map_err(|_| MakeKeyError::Invalid)?.as_ref().to_vec())
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| RandomError)?;
                let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> =
                    pair.as_der().map_err(|_| MakeKeyError::Invalid)?;
                Zeroizing::new(der.as_ref().to_vec())
            }
            Algorithm::Hs256 => {
                let mut bytes = Zeroizing::new(vec![0; 32]);
                random.fill(&mut bytes)?;
                bytes
            }
        };
        Self::from_bytes(algorithm, &bytes)
    }

    /// Reads what [`PrivateKey::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`MakeKeyError::Invalid`] when the bytes are no key of this algorithm.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, MakeKeyError> {
        let invalid = |_| MakeKeyError::Invalid;
        let kind = match algorithm {
            Algorithm::Es256 => {
                let pair =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes).map_err(invalid)?;
                let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
                    .map_err(invalid)?;
                Kind::Es256(Box::new(pair), public)
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(bytes).map_err(invalid)?;
                let public = ParsedPublicKey::new(&ED25519, pair.public_key().as_ref()).map_err(invalid)?;
                Kind::EdDsa(Box::new(pair), public)
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(bytes).map_err(invalid)?;
                let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())
                    .map_err(invalid)?;
                Kind::Rs256(Box::new(pair), public)
            }
            Algorithm::Hs256 if bytes.len() >= 32 => {
                Kind::Hs256(hmac::Key::new(hmac::HMAC_SHA256, bytes), Zeroizing::new(bytes.to_vec()))
            }
            Algorithm::Hs256 => return Err(MakeKeyError::Invalid),
        };
        let mut key = Self { kind, fingerprint: None };
        key.fingerprint =
            key.public_members().map(|members| KeyFingerprint::of(key.algorithm().as_str(), &members));
        Ok(key)
    }

    /// Returns the private key to be sealed: PKCS #8, or the bytes of an HMAC key.
    ///
    /// # Errors
    ///
    /// [`MakeKeyError::Invalid`] when the library can't write the key.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, MakeKeyError> {
        let invalid = |_| MakeKeyError::Invalid;
        Ok(match &self.kind {
            Kind::Es256(pair, _) => Zeroizing::new(pair.to_pkcs8v1().map_err(invalid)?.as_ref().to_vec()),
            Kind::EdDsa(pair, _) => Zeroizing::new(pair.to_pkcs8().map_err(invalid)?.as_ref().to_vec()),
            Kind::Rs256(pair, _) => {
                let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(invalid)?;
                Zeroizing::new(der.as_ref().to_vec())
            }
            Kind::Hs256(_, bytes) => bytes.clone(),
        })
    }

    /// Returns the only algorithm that this key is used with.
    pub fn algorithm(&self) -> Algorithm {
        match &self.kind {
            Kind::Es256(..) => Algorithm::Es256,
            Kind::EdDsa(..) => Algorithm::EdDsa,
            Kind::Rs256(..) => Algorithm::Rs256,
            Kind::Hs256(..) => Algorithm::Hs256,
        }
    }

    /// Returns the public JWK with its `kid`, `alg` and `use`; `None` for HS256, which has no public half.
    pub fn public_jwk(&self, kid: &str) -> Option<Value> {
        let mut jwk = self.public_members()?;
        let fields = jwk.as_object_mut()?;
        fields.insert("kid".to_owned(), kid.into());
        fields.insert("alg".to_owned(), self.algorithm().as_str().into());
        fields.insert("use".to_owned(), "sig".into());
        Some(jwk)
    }

    /// Makes a key id: the JWK thumbprint (RFC 7638), or random characters for HS256.
    ///
    /// # Errors
    ///
    /// [`RandomError`] when the system gives no randomness.
    pub fn make_kid(&self, random: &dyn Random) -> Result<String, RandomError> {
        if let Some(jwk) = self.public_members() {
            return Ok(thumbprint(&jwk));
        }
        let mut bytes = [0; 16];
        random.fill(&mut bytes)?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Returns the public half of an Ed25519 key, and its thumbprint.
    pub(crate) fn ed25519_public(&self) -> Option<([u8; 32], String)> {
        let Kind::EdDsa(pair, _) = &self.kind else { return None };
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some((public, Self::ed25519_thumbprint(&public)))
    }

    /// Returns the thumbprint of an Ed25519 key by its public half.
    pub(crate) fn ed25519_thumbprint(public: &[u8; 32]) -> String {
        thumbprint(&json!({ "crv": "Ed25519", "kty": "OKP", "x": URL_SAFE_NO_PAD.encode(public) }))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, MakeKeyError> {
        let rng = rand::SystemRandom::new();
        let invalid = |_| MakeKeyError::Invalid;
        Ok(match &self.kind {
            Kind::Es256(pair, _) => pair.sign(&rng, message).map_err(invalid)?.as_ref().to_vec(),
            Kind::EdDsa(pair, _) => pair.try_sign(message).map_err(invalid)?.as_ref().to_vec(),
            Kind::Rs256(pair, _) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &rng, message, &mut signature).map_err(invalid)?;
                signature
            }
            Kind::Hs256(key, _) => hmac::sign(key, message).as_ref().to_vec(),
        })
    }

    /// Names the public half and its algorithm; `None` for HS256.
    pub(crate) fn fingerprint(&self) -> Option<&KeyFingerprint> {
        self.fingerprint.as_ref()
    }

    /// Returns what tells a token of HS256 from every other, of its signature, which is known to be good: it covers all that
    /// the token says, and only whoever has the secret can make it. Signatures of other algorithms can be made anew, or be
    /// turned into others, by anybody.
    pub(crate) fn mark(&self, signature: &[u8]) -> Option<Mark> {
        match self.kind {
            Kind::Hs256(..) => signature.try_into().ok().map(Mark),
            Kind::Es256(..) | Kind::EdDsa(..) | Kind::Rs256(..) => None,
        }
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            Kind::Es256(_, public) | Kind::EdDsa(_, public) | Kind::Rs256(_, public) => {
                public.verify_sig(message, signature).is_ok()
            }
            Kind::Hs256(key, _) => hmac::verify(key, message, signature).is_ok(),
        }
    }

    /// The members that a thumbprint covers, in their order (RFC 7638 section 3.2, RFC 8037 section 2).
    fn public_members(&self) -> Option<Value> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.kind {
            Kind::Es256(pair, _) => {
                let (x, y) = pair.public_key().as_ref().strip_prefix(&[4])?.split_at_checked(32)?;
                Some(json!({ "crv": "P-256", "kty": "EC", "x": encode(x), "y": encode(y) }))
            }
            Kind::EdDsa(pair, _) => {
                Some(json!({ "crv": "Ed25519", "kty": "OKP", "x": encode(pair.public_key().as_ref()) }))
            }
            Kind::Rs256(pair, _) => {
                let public = pair.public_key();
                let exponent = encode(public.exponent().big_endian_without_leading_zero());
                let modulus = encode(public.modulus().big_endian_without_leading_zero());
                Some(json!({ "e": exponent, "kty": "RSA", "n": modulus }))
            }
            Kind::Hs256(..) => None,
        }
    }
}

#[cfg(test)]
impl PrivateKey {
    /// Reads a private JWK; `None` for an algorithm that is not offered, and for a key that is not there to sign.
    ///
    /// For test vectors only: no key comes to Tollgate as a JWK.
    pub(crate) fn from_jwk(jwk: &Value) -> Option<Self> {
        let algorithm = Algorithm::ALL.into_iter().find(|it| jwk["alg"] == it.as_str())?;
        let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().expect("a member")).ok();
        let pkcs8 = |der: aws_lc_rs::encoding::Pkcs8V1Der<'_>| der.as_ref().to_vec();
        let bytes = match algorithm {
            Algorithm::Es256 => {
                let point = [vec![4], member("x")?, member("y")?].concat();
                let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_private_key_and_public_key(signing, &member("d")?, &point);
                pair.expect("a key pair").to_pkcs8v1().expect("writes").as_ref().to_vec()
            }
            Algorithm::Rs256 => {
                // RSAPrivateKey (RFC 8017 appendix A.1.2): the version, then the members of the JWK in this order.
                let mut sequence = vec![2, 1, 0];
                for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
                    let unsigned = [vec![0], member(name)?].concat();
                    sequence.extend(der(2, &unsigned[usize::from(unsigned[1] < 0x80)..]));
                }
                let pair = RsaKeyPair::from_der(&der(0x30, &sequence)).expect("a key pair");
                pkcs8(pair.as_der().expect("writes"))
            }
            Algorithm::Hs256 => member("k")?,
            Algorithm::EdDsa => return None,
        };
        Self::from_bytes(algorithm, &bytes).ok()
    }
}

#[cfg(test)]
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = match u16::try_from(content.len()).expect("short").to_be_bytes() {
        [0, short @ ..0x80] => vec![short],
        [0, long] => vec![0x81, long],
        [high, low] => vec![0x82, high, low],
    };
    [&[tag][..], &length, content].concat()
}

/// JWK thumbprint with SHA-256 (RFC 7638) of a key's required members, which stand in lexicographic order.
fn thumbprint(members: &Value) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.to_string().as_bytes()))
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, …)", self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RsaPublicKeyComponents, UnparsedPublicKey};

    use super::*;
    use crate::tests::Counter;

    #[test]
    fn the_thumbprint_is_the_one_of_rfc_8037() {
        let jwk =
            json!({ "crv": "Ed25519", "kty": "OKP", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
        assert_eq!(thumbprint(&jwk), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn what_a_kept_key_signs_its_published_half_verifies() {
        let bytes = |jwk: &Value, member: &str| {
            URL_SAFE_NO_PAD.decode(jwk[member].as_str().expect("a member")).expect("base64url")
        };
        for algorithm in Algorithm::ALL {
            let made = PrivateKey::generate(algorithm, &Counter::default()).expect("makes");
            let kept =
                PrivateKey::from_bytes(algorithm, &made.to_bytes().expect("writes")).expect("reads back");
            let signature = kept.sign(b"message").expect("signs");
            assert!(made.verifies(b"message", &signature), "{algorithm}");
            assert!(!made.verifies(b"massage", &signature), "{algorithm}");
            let Some(jwk) = made.public_jwk("k1") else {
                assert_eq!(algorithm, Algorithm::Hs256);
                continue;
            };
            let verified = match algorithm {
                Algorithm::Es256 => {
                    let point = [vec![4], bytes(&jwk, "x"), bytes(&jwk, "y")].concat();
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(b"message", &signature)
                }
                Algorithm::EdDsa => {
                    UnparsedPublicKey::new(&ED25519, bytes(&jwk, "x")).verify(b"message", &signature)
                }
                _ => RsaPublicKeyComponents { n: bytes(&jwk, "n"), e: bytes(&jwk, "e") }.verify(
                    &RSA_PKCS1_2048_8192_SHA256,
                    b"message",
                    &signature,
                ),
            };
            assert!(verified.is_ok(), "{algorithm}: the published key does not verify");
            let text = jwk.to_string();
            assert!(jwk["d"].is_null() && jwk["k"].is_null(), "a private member is published: {text}");
        }
    }

    #[test]
    fn debug_hides_the_key_and_junk_is_none() {
        let key = PrivateKey::generate(Algorithm::Hs256, &Counter::default()).expect("makes");
        assert_eq!(format!("{key:?}"), "PrivateKey(HS256, …)");
        for algorithm in Algorithm::ALL {
            assert!(PrivateKey::from_bytes(algorithm, b"junk").is_err());
        }
    }
}
