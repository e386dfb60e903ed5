//! What all contenders are given: the same keys, tokens, and an upstream.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tollgate_credential::keys::IssuedKey;
use tollgate_credential::keysets::{KeySet, KeySetKey, TokenRequest};
use tollgate_credential::private_keys::PrivateKey;
use tollgate_model::keysets::{Algorithm, SigningKeyState};
use tollgate_model::names::EnvironmentName;
use tollgate_model::sources::{Random, RandomError};
use tollgate_model::triggers::Scope;

use crate::bare;
use crate::credentials::{Bad, Job, Pair};
use crate::process::Process;

/// API keys that are known.
pub(crate) const KEYS: usize = 10_000;
/// Keys that are used, each with a token.
pub(crate) const PAIRS: usize = 1_000;
/// Tokens for the job in which each is used once.
pub(crate) const NEW_TOKENS: usize = 20_000;
/// Consumers, who have the same number of keys each.
pub(crate) const CONSUMERS: usize = 100;
/// The issuer of tokens that the others verify.
pub(crate) const ISSUER: &str = "urn:bench:test";
/// The secret of HS256 tokens that the others verify: text, since HAProxy takes no other.
pub(crate) const SECRET: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";

/// Before the DER of a P-256 point (RFC 5480): algorithm and curve.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The system's randomness.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemRandom;

/// What all contenders are given.
pub(crate) struct Ground {
    directory: TempDir,
    /// Keys and whose they are.
    pub(crate) keys: Vec<(String, String)>,
    es256: KeySet,
    hs256: KeySet,
    other: KeySet,
    jwk: Value,
    pub(crate) envoy: PathBuf,
    /// Answers like the floor.
    pub(crate) upstream: SocketAddr,
    _upstream: Process,
}

// === impl SystemRandom ===

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        aws_lc_rs::rand::fill(buffer).map_err(|_| RandomError)
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real servers, which read the real clock")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

// === impl Ground ===

impl Ground {
    pub(crate) fn prepare(envoy: &str) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("tollgate-bench-")?;
        let environment = EnvironmentName::test();
        let mut keys = Vec::with_capacity(KEYS);
        for n in 0..KEYS {
            let issued = IssuedKey::generate(&environment, &SystemRandom)?;
            keys.push((issued.plain.expose_secret().to_owned(), format!("consumer-{}", n % CONSUMERS)));
        }
        let key = PrivateKey::generate(Algorithm::Es256, &SystemRandom)?;
        let jwk = key.public_jwk("k1").context("ES256 has a public half")?;
        let set = |issuer: &str, key| {
            let keys = vec![KeySetKey::new("k1".to_owned(), key, SigningKeyState::Active)];
            KeySet::new(issuer.to_owned(), "bench".to_owned(), keys)
        };
        let again = PrivateKey::from_bytes(Algorithm::Es256, &key.to_bytes()?)?;
        let secret = PrivateKey::from_bytes(Algorithm::Hs256, SECRET.as_bytes())?;
        let (es256, other, hs256) = (set(ISSUER, key), set("urn:bench:other", again), set(ISSUER, secret));
        let (upstream_process, upstream) = bare::start(&directory, "upstream", &["floor"])?;
        let ground = Self {
            directory,
            keys,
            es256,
            hs256,
            other,
            jwk,
            envoy: PathBuf::from(envoy),
            upstream,
            _upstream: upstream_process,
        };
        ground.write("public.pem", &ground.pem()?)?;
        let map: String = ground.keys.iter().map(|(key, owner)| format!("{key} {owner}\n")).collect();
        ground.write("keys.map", &map)?;
        Ok(ground)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.path(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// Returns the key set of the others.
    pub(crate) fn jwks(&self, job: Job) -> String {
        let secret = BASE64_URL_SAFE_NO_PAD.encode(SECRET);
        let key = match job.algorithm() {
            Some(Algorithm::Hs256) => json!({ "kty": "oct", "alg": "HS256", "kid": "k1", "k": secret }),
            _ => self.jwk.clone(),
        };
        json!({ "keys": [key] }).to_string()
    }

    fn pem(&self) -> anyhow::Result<String> {
        let mut der = P256.to_vec();
        der.push(4);
        for part in ["x", "y"] {
            let part = self.jwk.get(part).and_then(Value::as_str).context("a JWK of P-256")?;
            der.extend(BASE64_URL_SAFE_NO_PAD.decode(part)?);
        }
        let text = BASE64_STANDARD.encode(der);
        let lines: Vec<String> =
            text.as_bytes().chunks(64).map(|it| String::from_utf8_lossy(it).into_owned()).collect();
        Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
    }

    fn token(&self, set: &KeySet, owner: &str, at: Timestamp) -> anyhow::Result<String> {
        let scopes = [Scope::parse("catalog:read").map_err(anyhow::Error::msg)?];
        let claims = Map::from_iter([("user".to_owned(), Value::from("portal"))]);
        let request = TokenRequest { subject: owner, scopes: &scopes, expires_in_ms: 7_200_000, claims };
        Ok(set.sign(request, at, &SystemRandom)?)
    }

    fn set(&self, job: Job) -> &KeySet {
        if job.algorithm() == Some(Algorithm::Hs256) { &self.hs256 } else { &self.es256 }
    }

    /// Makes the credentials that the others take.
    pub(crate) fn pairs(&self, job: Job) -> anyhow::Result<Vec<Pair>> {
        let count = if job.uses_each_token_once() { NEW_TOKENS } else { PAIRS };
        let keys = self.keys.iter().step_by(KEYS / PAIRS).cycle().take(count);
        keys.map(|(key, owner)| {
            let token =
                if job.has_token() { self.token(self.set(job), owner, now())? } else { String::new() };
            Ok(Pair { key: key.clone(), token })
        })
        .collect()
    }

    /// Makes the credentials that the others must refuse.
    pub(crate) fn bad(&self, job: Job) -> anyhow::Result<Vec<(Bad, Pair)>> {
        let (key, owner) = self.keys.first().context("there are keys")?;
        if !job.has_token() {
            return Bad::of_keys(key, "");
        }
        let day_ago = now() - jiff::SignedDuration::from_hours(24);
        let good = self.token(self.set(job), owner, now())?;
        let mut bad = Bad::of_keys(key, &good)?;
        bad.extend(Bad::of_tokens(key, &good)?);
        bad.push((Bad::ExpiredToken, Pair::new(key, &self.token(self.set(job), owner, day_ago)?)));
        if job.algorithm() == Some(Algorithm::Es256) {
            bad.push((Bad::OtherIssuer, Pair::new(key, &self.token(&self.other, owner, now())?)));
        }
        Ok(bad)
    }
}
