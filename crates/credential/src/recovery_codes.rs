//! Recovery codes: each stands in for a second factor once, when the device with the authenticator app is lost.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use tollgate_model::ids::UserId;
use tollgate_model::sources::{Random, RandomError};
use zeroize::Zeroizing;

use crate::keys::KeyDigest;

/// How many codes a user gets.
pub const RECOVERY_CODES: usize = 10;

/// 32 digits without those that are taken for others when they are read from paper.
const DIGITS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// 80 bits: what is kept of a code is a fast hash, which must not be searched backwards.
const LEN: usize = 16;
const GROUP: usize = 4;

/// A new recovery code.
pub struct RecoveryCode {
    plain: Zeroizing<String>,
    /// What is stored.
    pub digest: KeyDigest,
}

/// Returns the digest of a presented code of a user, by which it is known; `None` when it has not the shape of one.
///
/// Case, spaces and hyphens are not part of a code.
pub fn digest(presented: &str, user: UserId) -> Option<KeyDigest> {
    let digits = presented.chars().filter(|c| !matches!(c, ' ' | '-')).map(|c| c.to_ascii_lowercase());
    // One more than a code has tells that there are too many.
    let digits = Zeroizing::new(digits.take(LEN + 1).collect::<String>());
    let well_formed = digits.len() == LEN && digits.bytes().all(|byte| DIGITS.contains(&byte));
    well_formed.then(|| digest_of(&digits, user))
}

/// Returns where among stored digests one stands; every one is compared, each in constant time.
pub fn position(stored: &[String], presented: &KeyDigest) -> Option<usize> {
    let presented = presented.to_string();
    let mut found = None;
    for (index, digest) in stored.iter().enumerate() {
        if verify_slices_are_equal(digest.as_bytes(), presented.as_bytes()).is_ok() {
            found = Some(index);
        }
    }
    found
}

/// Bound to the user, so that a digest is of no use in the place of another's.
fn digest_of(digits: &str, user: UserId) -> KeyDigest {
    KeyDigest::of(Zeroizing::new(format!("tollgate-recovery-code-1/{user}/{digits}")).as_bytes())
}

// === impl RecoveryCode ===

impl RecoveryCode {
    /// Makes a code of a user.
    ///
    /// # Errors
    ///
    /// [`RandomError`] when the system gives no randomness.
    pub fn generate(user: UserId, random: &dyn Random) -> Result<Self, RandomError> {
        let mut bytes = Zeroizing::new([0; LEN]);
        random.fill(bytes.as_mut_slice())?;
        let digit = |byte: &u8| DIGITS.get(usize::from(byte & 31)).copied().map_or('a', char::from);
        let digits = Zeroizing::new(bytes.iter().map(digit).collect::<String>());
        let mut plain = Zeroizing::new(String::with_capacity(LEN + LEN / GROUP));
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && index % GROUP == 0 {
                plain.push('-');
            }
            plain.push(digit);
        }
        Ok(Self { digest: digest_of(&digits, user), plain })
    }

    /// Returns the secret, for the one answer that shows it.
    pub fn expose_secret(&self) -> &str {
        &self.plain
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(…)")
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::tests::Counter;

    #[test]
    fn a_code_is_known_however_it_is_typed_and_only_as_its_user_s() {
        let (ann, bob) =
            (UserId::new(Timestamp::UNIX_EPOCH, [1; 10]), UserId::new(Timestamp::UNIX_EPOCH, [2; 10]));
        let random = Counter::default();
        let codes: Vec<_> = (0..3).map(|_| RecoveryCode::generate(ann, &random).expect("random")).collect();
        let stored: Vec<_> = codes.iter().map(|code| code.digest.to_string()).collect();
        let plain = codes[1].expose_secret();
        assert_eq!(plain.split('-').map(str::len).collect::<Vec<_>>(), [4; 4], "{plain}");
        for typed in [plain.to_owned(), plain.replace('-', ""), plain.to_uppercase().replace('-', " ")] {
            assert_eq!(position(&stored, &digest(&typed, ann).expect("a code")), Some(1), "{typed}");
            assert_eq!(position(&stored, &digest(&typed, bob).expect("a code")), None);
        }
        for junk in ["", "123456", &plain[1..], &format!("{plain}a"), &plain.replace('-', "_")] {
            assert!(digest(junk, ann).is_none(), "{junk}");
        }
        assert!(!format!("{:?}", codes[1]).contains(plain));
    }
}
