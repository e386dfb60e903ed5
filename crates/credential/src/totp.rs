//! Time-based one-time passwords (RFC 6238): HMAC-SHA-1, six digits, steps of 30 seconds, as every authenticator app
//! has them.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use jiff::Timestamp;
use tollgate_model::sources::{Random, RandomError};
use zeroize::Zeroizing;

/// Length of a secret: that of the hash (RFC 4226, section 4).
const SECRET_LEN: usize = 20;
const STEP_SECONDS: i64 = 30;
const DIGITS: usize = 6;
/// How many steps a clock may be off, either way.
const WINDOW: u64 = 1;
/// RFC 4648, section 6.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A secret that a server and an authenticator app share.
pub struct TotpSecret(Zeroizing<[u8; SECRET_LEN]>);

/// Bytes that are no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a TOTP secret is 20 bytes long")]
pub struct ParseTotpSecretError;

// === impl TotpSecret ===

impl TotpSecret {
    /// Makes a secret.
    ///
    /// # Errors
    ///
    /// [`RandomError`] when the system gives no randomness.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        let mut bytes = Zeroizing::new([0; SECRET_LEN]);
        random.fill(bytes.as_mut_slice())?;
        Ok(Self(bytes))
    }

    /// Takes the bytes that were kept.
    ///
    /// # Errors
    ///
    /// [`ParseTotpSecretError`] when there are more or fewer than those of a secret.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseTotpSecretError> {
        bytes.try_into().map(|bytes| Self(Zeroizing::new(bytes))).map_err(|_| ParseTotpSecretError)
    }

    /// Returns the bytes, to be sealed.
    pub fn expose_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Returns the form that people type: base32 without padding.
    pub fn expose_base32(&self) -> Zeroizing<String> {
        Zeroizing::new(base32(self.0.as_slice()))
    }

    /// Returns the form that authenticator apps scan: `otpauth://totp/ISSUER:ACCOUNT?secret=…`.
    ///
    /// Issuer and account must be made of letters, digits, `-`, `.` and `_`, as names are.
    pub fn expose_uri(&self, issuer: &str, account: &str) -> Zeroizing<String> {
        let secret = self.expose_base32();
        Zeroizing::new(format!(
            "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}",
            *secret
        ))
    }

    /// Returns the step of which a code is, when it is one that may be used now: of the step of `now` or one beside it,
    /// and later than `last_step`. A code is compared with that of every step in constant time.
    pub fn verify(&self, code: &str, now: Timestamp, last_step: u64) -> Option<u64> {
        let current = step_of(now);
        let mut found = None;
        for step in current.saturating_sub(WINDOW)..=current.saturating_add(WINDOW) {
            let matches = verify_slices_are_equal(self.code(step).as_bytes(), code.as_bytes()).is_ok();
            if matches & (step > last_step) {
                found = Some(step);
            }
        }
        found
    }

    /// Returns the code of a time, as an authenticator app shows it.
    pub fn code_at(&self, now: Timestamp) -> Zeroizing<String> {
        self.code(step_of(now))
    }

    /// HOTP (RFC 4226, section 5.3) of the number of a step.
    fn code(&self, step: u64) -> Zeroizing<String> {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.0.as_slice());
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let bytes = tag.as_ref();
        let offset = usize::from(bytes.last().copied().unwrap_or_default() & 0x0f);
        let word = bytes.get(offset..).and_then(<[u8]>::first_chunk::<4>).copied().unwrap_or_default();
        let number = (u32::from_be_bytes(word) & 0x7fff_ffff) % 1_000_000;
        Zeroizing::new(format!("{number:0DIGITS$}"))
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(…)")
    }
}

/// Returns the number of the step that a time lies in; 0 before 1970.
fn step_of(now: Timestamp) -> u64 {
    u64::try_from(now.as_second() / STEP_SECONDS).unwrap_or_default()
}

/// Writes bytes as base32 without padding.
fn base32(bytes: &[u8]) -> String {
    let digit = |value: u16| BASE32.get(usize::from(value & 31)).copied().map_or('A', char::from);
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0_u16, 0_u32);
    for byte in bytes {
        held = (held << 8) | u16::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(digit(held >> bits));
        }
        // What is left are fewer than five bits.
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(digit(held << (5 - bits)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Counter;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    /// The secret of RFC 6238, appendix B.
    fn rfc() -> TotpSecret {
        TotpSecret::from_bytes(b"12345678901234567890").expect("20 bytes")
    }

    #[test]
    fn the_codes_are_those_of_rfc_6238() {
        // Appendix B, the rows of SHA1; of its eight digits the last six.
        for (second, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(*rfc().code_at(at(second)), code, "{second}");
            assert_eq!(rfc().verify(code, at(second), 0), Some(step_of(at(second))));
        }
        // RFC 4226, appendix D.
        for (step, code) in (0..).zip(["755224", "287082", "359152", "969429", "338314", "254676"]) {
            assert_eq!(*rfc().code(step), code, "{step}");
        }
    }

    #[test]
    fn a_code_holds_one_step_to_either_side_and_no_further() {
        let (secret, step) = (rfc(), 1_000_000_u64);
        let code = secret.code(step);
        let now = |step: u64| at(i64::try_from(step).expect("small") * STEP_SECONDS);
        for (off, holds) in [(-2_i64, false), (-1, true), (0, true), (1, true), (2, false)] {
            let found = secret.verify(&code, now(step.saturating_add_signed(off)), 0);
            assert_eq!(found, holds.then_some(step), "{off}");
        }
    }

    #[test]
    fn a_code_is_taken_once_and_none_of_an_earlier_step_after_it() {
        let (secret, now) = (rfc(), at(30_000_000));
        let step = step_of(now);
        assert_eq!(secret.verify(&secret.code(step), now, step), None, "again");
        assert_eq!(secret.verify(&secret.code(step - 1), now, step), None, "an earlier one");
        assert_eq!(secret.verify(&secret.code(step + 1), now, step), Some(step + 1));
        let back = at(30_000_000 - 90);
        assert_eq!(secret.verify(&secret.code(step_of(back)), back, step), None, "the clock was set back");
    }

    #[test]
    fn what_is_no_code_is_none() {
        for junk in ["", "1", "28708", "2870822", "287O82", "287 082", "ⅠⅡ"] {
            assert_eq!(rfc().verify(junk, at(59), 0), None, "{junk}");
        }
    }

    #[test]
    fn a_secret_is_shown_as_base32_and_as_a_uri_and_hidden_otherwise() {
        // RFC 4648, section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        let text = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        assert_eq!(*rfc().expose_base32(), text);
        assert_eq!(
            *rfc().expose_uri("Tollgate", "ann"),
            format!(
                "otpauth://totp/Tollgate:ann?secret={text}&issuer=Tollgate&algorithm=SHA1&digits=6&period=30"
            )
        );
        let made = TotpSecret::generate(&Counter::default()).expect("random");
        assert_eq!(format!("{made:?}"), "TotpSecret(…)");
        assert!(TotpSecret::from_bytes(b"short").is_err());
    }
}
