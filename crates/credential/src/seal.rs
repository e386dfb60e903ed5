//! Secrets at rest: AES-256-GCM under a master key, bound to the place where they are kept. And stamps, which show that
//! what is at rest was written by somebody who holds that key: HMAC-SHA-256 under a key that HKDF (RFC 5869) derives.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tollgate_model::sources::{Random, RandomError};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
/// Length of a stamp in bytes.
pub const STAMP_LEN: usize = 32;

/// The key under which account values and private signing keys are sealed.
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// A stamp in the making, over bytes as they come.
pub struct Stamp(hmac::Context);

/// A text that is no master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a master key is 32 bytes in base64: 44 characters, as `openssl rand -base64 32` prints")]
pub struct ParseMasterKeyError;

/// A sealed secret that did not open: another master key, another place, or changed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed secret does not open under this master key")]
pub struct OpenSealError;

// === impl MasterKey ===

impl MasterKey {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`RandomError`] when the system gives no randomness.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(bytes.as_mut_slice())?;
        Ok(Self(bytes))
    }

    /// Parses the base64 form; white space around it is not part of it.
    ///
    /// # Errors
    ///
    /// [`ParseMasterKeyError`] when it is not 32 bytes.
    pub fn parse(input: &str) -> Result<Self, ParseMasterKeyError> {
        let bytes = Zeroizing::new(STANDARD.decode(input.trim()).map_err(|_| ParseMasterKeyError)?);
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return Err(ParseMasterKeyError);
        }
        key.copy_from_slice(&bytes);
        Ok(Self(key))
    }

    /// Returns the base64 form, for the file that keeps it.
    pub fn expose_secret(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }

    /// Seals a secret for a place; it opens only there.
    ///
    /// The result is base64 of a version byte, a random nonce, and the ciphertext with its tag.
    ///
    /// # Errors
    ///
    /// [`RandomError`] when the system gives no randomness.
    pub fn seal(&self, context: &str, secret: &[u8], random: &dyn Random) -> Result<String, RandomError> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce)?;
        let mut ciphertext = secret.to_vec();
        self.cipher()
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                cipher.seal_in_place_append_tag(nonce, Aad::from(context), &mut ciphertext).ok()
            })
            .ok_or(RandomError)?;
        let mut sealed = vec![VERSION];
        sealed.extend(nonce);
        sealed.append(&mut ciphertext);
        Ok(STANDARD.encode(sealed))
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    ///
    /// [`OpenSealError`] when the master key, the place or a byte is another.
    pub fn open(&self, context: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, OpenSealError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| OpenSealError)?;
        let Some((&VERSION, rest)) = bytes.split_first() else { return Err(OpenSealError) };
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(OpenSealError)?;
        let mut plain = Zeroizing::new(ciphertext.to_vec());
        let cipher = self.cipher().ok_or(OpenSealError)?;
        let len = cipher
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut plain)
            .map_err(|_| OpenSealError)?
            .len();
        plain.truncate(len);
        Ok(plain)
    }

    /// Begins a stamp, which only holders of the master key can make. Stamps of different purposes have nothing in common.
    ///
    /// # Panics
    ///
    /// Never: HKDF gives as many bytes as HMAC-SHA-256 takes.
    pub fn stamp(&self, purpose: &str) -> Stamp {
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, b"tollgate-stamp").extract(self.0.as_slice());
        let info = [purpose.as_bytes()];
        let key =
            key.expand(&info, hmac::HMAC_SHA256).expect("one block of SHA-256 is not too much to ask for");
        Stamp(hmac::Context::with_key(&key.into()))
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, self.0.as_slice()).ok().map(LessSafeKey::new)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

// === impl Stamp ===

impl Stamp {
    /// Takes further bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the stamp.
    pub fn finish(self) -> [u8; STAMP_LEN] {
        let mut stamp = [0; STAMP_LEN];
        stamp.copy_from_slice(self.0.sign().as_ref());
        stamp
    }

    /// Tells whether this is the stamp, in constant time.
    pub fn fits(self, stamp: &[u8]) -> bool {
        verify_slices_are_equal(&self.finish(), stamp).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Counter;

    #[test]
    fn a_secret_opens_only_under_its_key_in_its_place_and_unchanged() {
        let random = Counter::default();
        let (key, other) =
            (MasterKey::generate(&random).expect("random"), MasterKey::generate(&random).expect("random"));
        let sealed = key.seal("default/prod/portal", b"hunter2", &random).expect("random");
        assert_eq!(key.open("default/prod/portal", &sealed).expect("opens").as_slice(), b"hunter2");
        assert!(key.open("default/test/portal", &sealed).is_err(), "moved to another place");
        assert!(other.open("default/prod/portal", &sealed).is_err(), "another key");
        let bytes = STANDARD.decode(&sealed).expect("base64");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(key.open("default/prod/portal", &STANDARD.encode(changed)).is_err(), "byte {at} changed");
        }
        for junk in ["", "AQ==", "????"] {
            assert!(key.open("default/prod/portal", junk).is_err());
        }
        assert_ne!(
            sealed,
            key.seal("default/prod/portal", b"hunter2", &random).expect("random"),
            "a nonce came twice"
        );
    }

    #[test]
    fn a_stamp_fits_what_it_was_made_over_for_its_purpose_under_its_key() {
        let random = Counter::default();
        let (key, other) =
            (MasterKey::generate(&random).expect("random"), MasterKey::generate(&random).expect("random"));
        let begun = |key: &MasterKey, purpose: &str, parts: &[&str]| {
            let mut stamp = key.stamp(purpose);
            parts.iter().for_each(|part| stamp.update(part.as_bytes()));
            stamp
        };
        let stamp = begun(&key, "snapshot", &["a state"]).finish();
        assert!(begun(&key, "snapshot", &["a ", "state"]).fits(&stamp));
        assert!(!begun(&key, "snapshot", &["another state"]).fits(&stamp));
        assert!(!begun(&key, "log", &["a state"]).fits(&stamp), "made for something else");
        assert!(!begun(&other, "snapshot", &["a state"]).fits(&stamp), "another key");
        assert!(!begun(&key, "snapshot", &["a state"]).fits(&stamp[..31]), "a part of it");
        assert!(!begun(&key, "snapshot", &["a state"]).fits(&[]));
    }

    #[test]
    fn a_master_key_reads_back_and_hides_itself() {
        let key = MasterKey::generate(&Counter::default()).expect("random");
        let text = key.expose_secret();
        assert_eq!(MasterKey::parse(&format!("{}\n", *text)).expect("reads").0, key.0);
        assert!(!format!("{key:?}").contains(text.as_str()));
        for bad in ["", "AAAA", "not base64 at all, not base64 at all, not ba"] {
            assert!(MasterKey::parse(bad).is_err());
        }
    }
}
