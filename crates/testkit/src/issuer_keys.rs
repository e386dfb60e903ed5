//! Keys of issuers outside: one for each algorithm that they may sign with.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair, RsaSignatureEncoding,
};
use serde_json::{Value, json};
use tollgate_model::issuers::IssuerAlgorithm;

/// A key pair of an issuer, and the algorithm that it signs with.
pub struct IssuerKeyPair {
    algorithm: IssuerAlgorithm,
    pair: Pair,
}

enum Pair {
    /// With the name of its curve.
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static RsaSignatureEncoding),
}

/// How an algorithm signs.
enum Signs {
    Ec(&'static EcdsaSigningAlgorithm, &'static str),
    Ed,
    Rsa(&'static RsaSignatureEncoding),
}

// === impl IssuerKeyPair ===

impl IssuerKeyPair {
    /// Makes a key for an algorithm; an RSA key has 2048 bits.
    ///
    /// # Panics
    ///
    /// When there is no randomness.
    pub fn generate(algorithm: IssuerAlgorithm) -> Self {
        let pair = match Signs::with(algorithm) {
            Signs::Ec(signs, curve) => Pair::Ec(EcdsaKeyPair::generate(signs).expect("randomness"), curve),
            Signs::Ed => Pair::Ed(Ed25519KeyPair::generate().expect("randomness")),
            Signs::Rsa(signs) => {
                Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("randomness"), signs)
            }
        };
        Self { algorithm, pair }
    }

    /// Makes a key for each algorithm; those of RSA are one key.
    pub fn of_every_algorithm() -> Vec<Self> {
        let mut keys: Vec<Self> = Vec::new();
        for algorithm in IssuerAlgorithm::ALL {
            let same = keys.iter().find_map(|key| key.with(algorithm));
            keys.push(same.unwrap_or_else(|| Self::generate(algorithm)));
        }
        keys
    }

    /// Returns the same key for another algorithm; `None` when it cannot sign with that.
    ///
    /// # Panics
    ///
    /// When the key cannot be read again.
    pub fn with(&self, algorithm: IssuerAlgorithm) -> Option<Self> {
        match (&self.pair, Signs::with(algorithm)) {
            (Pair::Rsa(..), Signs::Rsa(signs)) => {
                let pair = RsaKeyPair::from_pkcs8(&self.pkcs8()).expect("the library reads its own keys");
                Some(Self { algorithm, pair: Pair::Rsa(pair, signs) })
            }
            _ => None,
        }
    }

    /// Returns the algorithm that it signs with.
    pub fn algorithm(&self) -> IssuerAlgorithm {
        self.algorithm
    }

    /// Returns the private key as PKCS #8.
    ///
    /// # Panics
    ///
    /// When the library can't write the key.
    pub fn pkcs8(&self) -> Vec<u8> {
        let written = match &self.pair {
            Pair::Ec(pair, _) => pair.to_pkcs8v1().map(|it| it.as_ref().to_vec()),
            Pair::Ed(pair) => pair.to_pkcs8v1().map(|it| it.as_ref().to_vec()),
            Pair::Rsa(pair, _) => pair.as_der().map(|it: Pkcs8V1Der<'_>| it.as_ref().to_vec()),
        };
        written.expect("the library writes its own keys")
    }

    /// Returns the members of the public JWK that make the key, without `kid`, `use` and `alg` (RFC 7518 section 6, RFC 8037).
    pub fn jwk(&self) -> Value {
        match &self.pair {
            Pair::Ec(pair, curve) => {
                let point = pair.public_key().as_ref();
                let coordinates = point.get(1..).unwrap_or_default();
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
            }
            Pair::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key()) })
            }
            Pair::Rsa(pair, _) => {
                let public = pair.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                json!({ "kty": "RSA", "n": base64url(n.big_endian_without_leading_zero()),
                    "e": base64url(e.big_endian_without_leading_zero()) })
            }
        }
    }

    /// Returns the public JWK as issuers publish it, with `kid`, `use` and `alg`.
    pub fn public_jwk(&self, kid: &str) -> Value {
        let mut jwk = self.jwk();
        if let Some(members) = jwk.as_object_mut() {
            let said = [("kid", json!(kid)), ("use", json!("sig")), ("alg", json!(self.algorithm))];
            members.extend(said.map(|(name, value)| (name.to_owned(), value)));
        }
        jwk
    }

    /// Signs a message.
    ///
    /// # Panics
    ///
    /// When the key does not sign.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair, _) => pair.sign(&random, message).expect("signs").as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair, signs) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*signs, &random, message, &mut signature).expect("signs");
                signature
            }
        }
    }

    /// Issues a token with these claims, whose header says `alg`, `kid` and `typ: at+jwt`.
    pub fn token(&self, kid: &str, claims: &Value) -> String {
        let header = json!({ "alg": self.algorithm, "kid": kid, "typ": "at+jwt" });
        let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", base64url(signature))
    }
}

// === impl Signs ===

impl Signs {
    fn with(algorithm: IssuerAlgorithm) -> Self {
        match algorithm {
            IssuerAlgorithm::Es256 => Self::Ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
            IssuerAlgorithm::Es384 => Self::Ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
            IssuerAlgorithm::Es512 => Self::Ec(&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521"),
            IssuerAlgorithm::EdDsa => Self::Ed,
            IssuerAlgorithm::Ps256 => Self::Rsa(&RSA_PSS_SHA256),
            IssuerAlgorithm::Ps384 => Self::Rsa(&RSA_PSS_SHA384),
            IssuerAlgorithm::Ps512 => Self::Rsa(&RSA_PSS_SHA512),
            IssuerAlgorithm::Rs256 => Self::Rsa(&RSA_PKCS1_SHA256),
            IssuerAlgorithm::Rs384 => Self::Rsa(&RSA_PKCS1_SHA384),
            IssuerAlgorithm::Rs512 => Self::Rsa(&RSA_PKCS1_SHA512),
        }
    }
}

/// base64url without padding (RFC 4648 section 5).
fn base64url(bytes: impl AsRef<[u8]>) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.as_ref().chunks(3) {
        let bits = chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let letter = ALPHABET.get(bits >> (18 - 6 * place) & 63).copied().unwrap_or_default();
            text.push(letter.into());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_that_of_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("\u{3ff}", "z78")]
        {
            assert_eq!(base64url(bytes), text);
        }
    }
}
