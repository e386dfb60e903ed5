//! An authenticator app.

use aws_lc_rs::hmac;
use jiff::Timestamp;

/// Returns the code (RFC 6238, SHA-1, 6 digits, 30 seconds) that an app shows at a time for a secret in base32.
///
/// # Panics
///
/// When the secret is not base32.
pub fn totp_code(secret: &str, at: Timestamp) -> String {
    let mut bits = String::new();
    for digit in secret.trim_end_matches('=').chars() {
        let value = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(digit).expect("a digit of base32");
        bits.push_str(&format!("{value:05b}"));
    }
    let bytes = bits.as_bytes().chunks_exact(8);
    let secret: Vec<u8> =
        bytes.map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit == b'1'))).collect();
    let step = u64::try_from(at.as_second()).expect("after 1970") / 30;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let offset = usize::from(tag.as_ref().last().expect("20 bytes") & 0xf);
    let word = tag.as_ref().iter().skip(offset).take(4);
    let number = word.fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_shows_the_codes_of_rfc_6238() {
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for (second, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(totp_code(secret, Timestamp::from_second(second).expect("in range")), code);
        }
    }
}
