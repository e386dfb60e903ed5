//! Base62 texts with a checksum: what API keys and user tokens are made of.

use tollgate_model::sources::{Random, RandomError};
use zeroize::Zeroizing;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Length of the checksum in characters.
pub(crate) const CHECKSUM_LEN: usize = 6;

/// Makes `prefix`, `len` random base62 characters, and the checksum of both.
///
/// Each character carries log2(62) = 5.95 bits: bytes from 248 up are thrown away, so that none is likelier.
pub(crate) fn generate(
    prefix: &str,
    len: usize,
    random: &dyn Random,
) -> Result<Zeroizing<String>, RandomError> {
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + len + CHECKSUM_LEN));
    text.push_str(prefix);
    let mut bytes = Zeroizing::new([0_u8; 64]);
    let mut left = len;
    while left > 0 {
        random.fill(bytes.as_mut_slice())?;
        for byte in bytes.iter().filter(|byte| **byte < 248).take(left) {
            text.push(digit(u32::from(*byte) % 62));
            left -= 1;
        }
    }
    let checksum = checksum(text.as_bytes());
    text.extend(checksum.iter().map(|byte| char::from(*byte)));
    Ok(text)
}

/// Tells whether a text is `prefix`, `len` base62 characters and the right checksum.
pub(crate) fn is_well_formed(text: &[u8], prefix: &str, len: usize) -> bool {
    let Some(rest) = text.strip_prefix(prefix.as_bytes()) else { return false };
    rest.len() == len + CHECKSUM_LEN && is_alphanumeric(rest) && has_checksum(text)
}

/// Tells whether bytes are letters and digits, without a branch for each of them.
pub(crate) fn is_alphanumeric(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |all, byte| all & byte.is_ascii_alphanumeric())
}

/// Tells whether a text ends in the checksum of what stands before it.
pub(crate) fn has_checksum(text: &[u8]) -> bool {
    text.split_last_chunk::<CHECKSUM_LEN>().is_some_and(|(body, sum)| checksum(body) == *sum)
}

/// CRC-32 (IEEE) in base62, padded with zeros.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut value = crc32fast::hash(bytes);
    let mut out = [b'0'; CHECKSUM_LEN];
    for place in out.iter_mut().rev() {
        *place = u8::try_from(digit(value % 62)).unwrap_or(b'0');
        value /= 62;
    }
    out
}

fn digit(value: u32) -> char {
    ALPHABET.get(value as usize).copied().map_or('0', char::from)
}
