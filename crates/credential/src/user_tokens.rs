//! API tokens of users of the management API: `tgu_`, 40 base62 characters, 6 of checksum.

use std::fmt;

use tollgate_model::sources::{Random, RandomError};
use zeroize::Zeroizing;

use crate::keys::KeyDigest;
use crate::text;

const PREFIX: &str = "tgu_";
pub(crate) const RANDOM_LEN: usize = 40;

/// A new API token of a user.
pub struct IssuedUserToken {
    plain: Zeroizing<String>,
    /// What is stored.
    pub digest: KeyDigest,
}

/// Returns the digest of a presented token, by which it is known; `None` when it has not the shape of one.
pub fn digest(presented: &str) -> Option<KeyDigest> {
    text::is_well_formed(presented.as_bytes(), PREFIX, RANDOM_LEN)
        .then(|| KeyDigest::of(presented.as_bytes()))
}

// === impl IssuedUserToken ===

impl IssuedUserToken {
    /// Makes a token.
    ///
    /// # Errors
    ///
    /// [`RandomError`] when the system gives no randomness.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        let plain = text::generate(PREFIX, RANDOM_LEN, random)?;
        Ok(Self { digest: KeyDigest::of(plain.as_bytes()), plain })
    }

    /// Returns the secret, for the one answer that shows it.
    pub fn expose_secret(&self) -> &str {
        &self.plain
    }
}

impl fmt::Debug for IssuedUserToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IssuedUserToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Counter;

    #[test]
    fn a_token_is_known_by_its_digest_and_junk_is_refused_by_shape() {
        let issued = IssuedUserToken::generate(&Counter::default()).expect("random");
        let plain = issued.expose_secret();
        assert_eq!(digest(plain), Some(issued.digest));
        assert!(!format!("{issued:?}").contains(plain));
        for bad in ["", "tgu_", &plain[1..], &plain[..plain.len() - 1], &plain.replacen("tgu_", "tgx_", 1)] {
            assert_eq!(digest(bad), None, "{bad}");
        }
    }
}
