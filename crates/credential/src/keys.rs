//! API keys: what a caller presents, and what we keep of it.
//!
//! A key is `tg_<environment>_`, 32 base62 characters (190 bits) and 6 of checksum. The shape lets secret scanners find
//! a leaked key, tells the environment before any look-up, and refuses junk without one. Keys imported from other
//! systems keep their own shape.

use std::fmt;

use aws_lc_rs::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_model::names::EnvironmentName;
use tollgate_model::sources::{Random, RandomError};
use zeroize::Zeroizing;

use crate::text;

pub(crate) const RANDOM_LEN: usize = 32;
const IMPORTED_LEN: std::ops::RangeInclusive<usize> = 16..=256;

/// A key as its holder presents it; lives only between the socket and [`PresentedKey::digest`].
pub struct PresentedKey<'a>(&'a [u8]);

/// SHA-256 of a key: the only form that is stored, compared or indexed.
///
/// A key that we made has 190 random bits, so its plain hash can't be searched backwards. An imported one has what the
/// system that made it gave it: a guessable key stays guessable for whoever has its hash. Looking a key up by its
/// digest in a map tells a caller nothing about other keys, because nobody can choose a digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest([u8; 32]);

/// A key in plain; exists only while it is made and shown once.
pub struct PlainKey(Zeroizing<String>);

/// A new key.
#[derive(Debug)]
pub struct IssuedKey {
    /// The key itself, to be shown once.
    pub plain: PlainKey,
    /// What is stored.
    pub digest: KeyDigest,
    /// Its last four characters, to recognise it by.
    pub hint: String,
}

/// Why a text is no key of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// Not the shape of a key.
    #[error("this has not the shape of an API key")]
    Shape,
    /// A key of another environment.
    #[error("this is an API key of another environment")]
    Environment,
    /// The checksum does not match: mistyped or made up.
    #[error("this API key is mistyped: its last characters do not fit the rest")]
    Checksum,
}

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key digest is 64 lower-case hexadecimal digits")]
pub struct ParseDigestError;

// === impl PresentedKey ===

impl<'a> PresentedKey<'a> {
    /// Parses the value of the `apikey` header.
    ///
    /// # Errors
    ///
    /// [`ParseKeyError`], by variant. What begins with `tg_` must be one of ours for this environment; anything else is
    /// an imported key: 16 to 256 visible ASCII characters.
    pub fn parse(input: &'a [u8], environment: &EnvironmentName) -> Result<Self, ParseKeyError> {
        let Some(rest) = input.strip_prefix(b"tg_") else {
            let visible = input.iter().all(u8::is_ascii_graphic);
            return if visible && IMPORTED_LEN.contains(&input.len()) {
                Ok(Self(input))
            } else {
                Err(ParseKeyError::Shape)
            };
        };
        let mut parts = rest.splitn(2, |byte| *byte == b'_');
        let (Some(named), Some(secret)) = (parts.next(), parts.next()) else {
            return Err(ParseKeyError::Shape);
        };
        if secret.len() != RANDOM_LEN + text::CHECKSUM_LEN || !text::is_alphanumeric(secret) {
            return Err(ParseKeyError::Shape);
        }
        if named != environment.as_str().as_bytes() {
            return Err(ParseKeyError::Environment);
        }
        if text::has_checksum(input) { Ok(Self(input)) } else { Err(ParseKeyError::Checksum) }
    }

    /// Returns the digest, by which the key is known.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(self.0)
    }
}

/// Returns what may be shown of a text that was sent as a key: of a whole key of ours the environment and the last four
/// characters, by which lists show it, too; of anything else its length alone, since it may be a secret of another kind.
pub fn shown(input: &[u8]) -> String {
    let ours = || {
        let text = std::str::from_utf8(input).ok()?;
        let environment = EnvironmentName::parse(text.strip_prefix("tg_")?.split_once('_')?.0).ok()?;
        PresentedKey::parse(input, &environment).ok()?;
        Some(format!("tg_{environment}_…{}", text.get(text.len().checked_sub(4)?..)?))
    };
    ours().unwrap_or_else(|| match input.len() {
        1 => "1 byte".to_owned(),
        len => format!("{len} bytes"),
    })
}

impl fmt::Debug for PresentedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedKey(…)")
    }
}

// === impl KeyDigest ===

impl KeyDigest {
    pub(crate) fn of(secret: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
        Self(out)
    }

    /// Takes the bytes of a digest that was made before.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Parses 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`ParseDigestError`] for anything else.
    pub fn from_hex(input: &str) -> Result<Self, ParseDigestError> {
        let nibble = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(ParseDigestError),
        };
        let (pairs, []) = input.as_bytes().as_chunks::<2>() else { return Err(ParseDigestError) };
        if pairs.len() != 32 {
            return Err(ParseDigestError);
        }
        let mut out = [0; 32];
        for (byte, [high, low]) in out.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(out))
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for KeyDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_hex(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

// === impl PlainKey ===

impl PlainKey {
    /// Returns the secret, for the one answer that shows it.
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PlainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainKey(…)")
    }
}

// === impl IssuedKey ===

impl IssuedKey {
    /// Makes a new key for an environment.
    ///
    /// # Errors
    ///
    /// [`RandomError`] when the system gives no randomness.
    pub fn generate(environment: &EnvironmentName, random: &dyn Random) -> Result<Self, RandomError> {
        Ok(Self::keep(text::generate(&format!("tg_{environment}_"), RANDOM_LEN, random)?))
    }

    /// Takes over a key that another system made.
    ///
    /// # Errors
    ///
    /// [`ParseKeyError`] when the gateway would not take the text for a key of this environment.
    pub fn import(input: &str, environment: &EnvironmentName) -> Result<Self, ParseKeyError> {
        PresentedKey::parse(input.as_bytes(), environment)?;
        Ok(Self::keep(Zeroizing::new(input.to_owned())))
    }

    fn keep(plain: Zeroizing<String>) -> Self {
        let hint = plain.get(plain.len() - 4..).unwrap_or_default().to_owned();
        Self { digest: KeyDigest::of(plain.as_bytes()), hint, plain: PlainKey(plain) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::Counter;

    fn key(environment: &EnvironmentName) -> IssuedKey {
        IssuedKey::generate(environment, &Counter::default()).expect("random")
    }

    #[test]
    fn a_key_has_the_documented_shape() {
        let issued = key(&EnvironmentName::test());
        let plain = issued.plain.expose_secret();
        assert!(plain.starts_with("tg_test_"), "{plain}");
        assert_eq!(plain.len(), "tg_test_".len() + 32 + 6);
        assert!(plain.ends_with(&issued.hint) && issued.hint.len() == 4);
        let presented =
            PresentedKey::parse(plain.as_bytes(), &EnvironmentName::test()).expect("its own shape");
        assert_eq!(presented.digest(), issued.digest);
        assert_eq!(KeyDigest::from_hex(&issued.digest.to_string()), Ok(issued.digest));
    }

    #[test]
    fn a_key_is_refused_by_shape_in_another_environment() {
        let issued = key(&EnvironmentName::test());
        let error = PresentedKey::parse(issued.plain.expose_secret().as_bytes(), &EnvironmentName::prod());
        assert_eq!(error.err(), Some(ParseKeyError::Environment));
        let renamed = issued.plain.expose_secret().replacen("test", "prod", 1);
        assert_eq!(
            PresentedKey::parse(renamed.as_bytes(), &EnvironmentName::prod()).err(),
            Some(ParseKeyError::Checksum)
        );
    }

    #[test]
    fn keys_of_other_systems_keep_their_shape_but_cannot_pose_as_ours() {
        let test = EnvironmentName::test();
        assert!(IssuedKey::import("sk-live-0123456789abcdef", &test).is_ok());
        for bad in [
            "short",
            "has a space in it!!",
            "tg_test_short",
            "tg_prod_0123456789",
            &"x".repeat(257),
            "schlüssel-0123456789",
        ] {
            assert!(IssuedKey::import(bad, &test).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn of_a_key_the_ends_are_shown_and_of_anything_else_the_length() {
        let issued = key(&EnvironmentName::test());
        let plain = issued.plain.expose_secret();
        assert_eq!(shown(plain.as_bytes()), format!("tg_test_…{}", issued.hint));
        let mistyped = format!("{}x", &plain[..plain.len() - 1]);
        for (other, length) in [
            (mistyped.as_str(), "46 bytes"),
            ("hunter2", "7 bytes"),
            ("sk-live-0123456789abcdef", "24 bytes"),
            ("tg_", "3 bytes"),
            ("tg_Test_x", "9 bytes"),
            ("ü", "2 bytes"),
            ("", "0 bytes"),
            ("x", "1 byte"),
        ] {
            assert_eq!(shown(other.as_bytes()), length, "{other}");
        }
    }

    /// Whoever guesses a key character by character, and measures how long each is looked for, must learn nothing: only
    /// digests are compared, and which of them are alike nobody can choose.
    #[test]
    fn how_near_a_key_is_to_a_good_one_shows_in_nothing_that_is_compared() {
        let test = EnvironmentName::test();
        let good = "sk-live-0123456789abcdef0123456789abcdef";
        let imported = IssuedKey::import(good, &test).expect("a key");
        let mut closest = 0;
        for at in 8..good.len() {
            for to in ('0'..='9').chain('a'..='z').filter(|to| !good[at..].starts_with(*to)) {
                let mut near = good.to_owned();
                near.replace_range(at..=at, to.encode_utf8(&mut [0; 4]));
                // One character is wrong; or all that follow are not known yet.
                for guess in [near.clone(), near[..=at].to_owned()] {
                    let Ok(presented) = PresentedKey::parse(guess.as_bytes(), &test) else { continue };
                    let (found, stored) = (presented.digest(), imported.digest);
                    let differs = found.0.iter().zip(stored.0).position(|(found, stored)| *found != stored);
                    closest = closest.max(differs.expect("another digest"));
                }
            }
        }
        assert!(closest <= 2, "{closest} bytes of 32 are alike");
    }

    #[test]
    fn debug_hides_the_key() {
        let issued = key(&EnvironmentName::test());
        let secret = issued.plain.expose_secret();
        let presented = PresentedKey(secret.as_bytes());
        let shown = format!("{issued:?} {presented:?}");
        assert!(!shown.contains(secret) && !shown.contains("tg_test_"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_changed_character_is_refused(at in 0..46_usize, to in "[0-9A-Za-z_]") {
            let test = EnvironmentName::test();
            let issued = key(&test);
            let mut changed = issued.plain.expose_secret().to_owned();
            prop_assume!(changed.get(at..=at) != Some(to.as_str()));
            changed.replace_range(at..=at, &to);
            // A changed prefix makes it a key of another system, which no index holds.
            if let Ok(presented) = PresentedKey::parse(changed.as_bytes(), &test) {
                prop_assert!(!changed.starts_with("tg_"));
                prop_assert_ne!(presented.digest(), issued.digest);
            }
        }

        #[test]
        fn parsing_never_panics(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = PresentedKey::parse(&input, &EnvironmentName::test());
            let mut ours = b"tg_test_".to_vec();
            ours.extend(&input);
            prop_assert!(PresentedKey::parse(&ours, &EnvironmentName::test()).is_err() || input.len() == 38);
        }
    }
}
