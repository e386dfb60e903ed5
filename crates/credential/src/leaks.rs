//! Finds API keys and user tokens that stand where they should not: in files, histories, dumps.
//!
//! A key is known by its prefix, its alphabet and its checksum, so nothing that was made up is found (one in four
//! thousand million texts of the right shape has the right checksum by chance). What stands around it does not matter:
//! quotes, an escaped `\n` in front, binary data. It is found as it is, as UTF-16, and in base64, as secrets of
//! Kubernetes hold it, at each of the three alignments.
//!
//! Found keys leave this module masked and as digests only.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, Input};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tollgate_model::names::EnvironmentName;
use zeroize::Zeroizing;

use crate::keys::{KeyDigest, RANDOM_LEN as KEY_LEN};
use crate::text::{self, CHECKSUM_LEN};
use crate::user_tokens;

mod scanner;

pub use scanner::{Scanner, Spot};

/// Longest key: the prefix, an environment of 63 characters, and what follows.
const LONGEST: usize = 3 + 63 + 1 + KEY_LEN + CHECKSUM_LEN;
/// Most bytes that are read of base64, line breaks and indents in it included.
const BASE64_WINDOW: usize = 256;
/// What a piece of input must hold at least for the longest key in any of the encodings.
const WINDOW: usize = 512;
const _: () = assert!(2 * LONGEST + 8 < WINDOW && (LONGEST + 2).div_ceil(3) * 4 < BASE64_WINDOW);

/// A key or token that was found; never its plain form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// What it is.
    pub kind: LeakKind,
    /// What it looks like with all that is secret left out: `tg_prod_…nMx1`.
    pub mask: String,
    /// By which a server knows it.
    pub digest: KeyDigest,
    /// How it is written.
    pub encoding: Encoding,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeakKind {
    /// A consumer's API key.
    ApiKey {
        /// Where it works.
        environment: EnvironmentName,
    },
    /// A user's API token for the management API.
    UserToken,
}

/// How a found key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// Two bytes a character.
    Utf16,
    /// Base64 of a text that holds it.
    Base64,
}

/// What a key begins with, in one of the encodings; `skip` is how many bytes of its base64 stand before.
struct Anchor {
    bytes: &'static [u8],
    encoding: Encoding,
    skip: usize,
}

/// `tg_` and `tgu_`. In base64 three bytes are four characters, so that there are three ways to write them: with no,
/// one or two bytes before them in their group. What is left of the characters that do not depend on the neighbours
/// is looked for.
const ANCHORS: [Anchor; 10] = [
    Anchor::new(b"tg_", Encoding::Plain, 0),
    Anchor::new(b"tgu_", Encoding::Plain, 0),
    Anchor::new(b"t\0g\0_", Encoding::Utf16, 0),
    Anchor::new(b"t\0g\0u\0_", Encoding::Utf16, 0),
    Anchor::new(b"dGdf", Encoding::Base64, 0),
    Anchor::new(b"dGd1X", Encoding::Base64, 0),
    Anchor::new(b"RnX", Encoding::Base64, 1),
    Anchor::new(b"RndV", Encoding::Base64, 1),
    Anchor::new(b"0Z1", Encoding::Base64, 2),
    Anchor::new(b"0Z3Vf", Encoding::Base64, 2),
];

static SEARCH: LazyLock<AhoCorasick> = LazyLock::new(|| {
    // Ten short literals: this cannot be too large to build.
    AhoCorasick::builder()
        .match_kind(aho_corasick::MatchKind::LeftmostFirst)
        .build(ANCHORS.iter().map(|anchor| anchor.bytes))
        .unwrap_or_else(|error| unreachable!("ten literals: {error}"))
});

/// Base64 that was cut out of a longer text: no padding, and the last bits may belong to what follows.
const CUT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// A leak in a piece of bytes.
struct Found {
    start: usize,
    end: usize,
    leak: Leak,
}

/// Returns a text with every key in it masked, for names and messages that are shown.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for found in find(text.as_bytes()) {
        if let (true, Some(before)) = (found.start >= done, text.get(done..found.start)) {
            out.push_str(before);
            out.push_str(&found.leak.mask);
            done = found.end;
        }
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// Finds every key, in the order in which they begin.
fn find(bytes: &[u8]) -> Vec<Found> {
    let mut all = Vec::new();
    let mut from = 0;
    // Begins anew one byte further, so that no anchor hides another that it overlaps.
    while let Some(hit) = SEARCH.find(Input::new(bytes).range(from..)) {
        from = hit.start() + 1;
        let anchor = ANCHORS.get(hit.pattern().as_usize());
        all.extend(anchor.and_then(|anchor| anchor.found_at(bytes, hit.start())));
    }
    // Base64 begins before its anchor.
    all.sort_by_key(|found| found.start);
    all
}

/// Reads a key at the beginning of some bytes; also returns how long it is.
fn key_at(bytes: &[u8]) -> Option<(Leak, usize)> {
    let (prefix_len, random_len, environment) = if bytes.starts_with(b"tgu_") {
        (4, user_tokens::RANDOM_LEN, None)
    } else {
        let named = bytes.strip_prefix(b"tg_")?;
        let len = named.iter().take(64).position(|byte| *byte == b'_')?;
        let name = std::str::from_utf8(named.get(..len)?).ok()?;
        (3 + len + 1, KEY_LEN, Some(EnvironmentName::parse(name).ok()?))
    };
    let len = prefix_len + random_len + CHECKSUM_LEN;
    let key = bytes.get(..len)?;
    let prefix = std::str::from_utf8(key.get(..prefix_len)?).ok()?;
    if !text::is_well_formed(key, prefix, random_len) {
        return None;
    }
    let end = std::str::from_utf8(key.get(len - 4..)?).ok()?;
    let mask = format!("{prefix}…{end}");
    let kind = match environment {
        Some(environment) => LeakKind::ApiKey { environment },
        None => LeakKind::UserToken,
    };
    Some((Leak { kind, mask, digest: KeyDigest::of(key), encoding: Encoding::Plain }, len))
}

// === impl Anchor ===

impl Anchor {
    const fn new(bytes: &'static [u8], encoding: Encoding, skip: usize) -> Self {
        Self { bytes, encoding, skip }
    }

    fn found_at(&self, bytes: &[u8], at: usize) -> Option<Found> {
        let (mut leak, start, end) = match self.encoding {
            Encoding::Plain => {
                let (leak, len) = key_at(bytes.get(at..)?)?;
                (leak, at, at + len)
            }
            Encoding::Utf16 => {
                let plain = utf16(bytes.get(at..)?);
                let (leak, len) = key_at(&plain)?;
                (leak, at, at + 2 * len - 1)
            }
            Encoding::Base64 => {
                // The group of four characters that the key begins in.
                let start = at.checked_sub([0, 2, 3].get(self.skip).copied()?)?;
                let (plain, ends) = base64(bytes.get(start..)?);
                let (leak, len) = key_at(plain.get(self.skip..)?)?;
                // The last character that holds a bit of the key.
                let last = ((self.skip + len) * 8).div_ceil(6) - 1;
                (leak, start, start + ends.get(last)?)
            }
        };
        leak.encoding = self.encoding;
        Some(Found { start, end, leak })
    }
}

/// Takes every other byte, as long as those between are zero.
fn utf16(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(LONGEST));
    for pair in bytes.chunks(2).take(LONGEST) {
        let [byte, rest @ ..] = pair else { break };
        plain.push(*byte);
        if rest != [0] {
            break;
        }
    }
    plain
}

/// Decodes what of base64 stands at the beginning, in either alphabet, over line breaks and indents; also returns
/// where each of its characters ends.
fn base64(bytes: &[u8]) -> (Zeroizing<Vec<u8>>, Vec<usize>) {
    let mut characters = Zeroizing::new(Vec::with_capacity(BASE64_WINDOW));
    let mut ends = Vec::with_capacity(BASE64_WINDOW);
    for (at, byte) in bytes.iter().take(BASE64_WINDOW).enumerate() {
        match byte {
            b'-' => characters.push(b'+'),
            b'_' => characters.push(b'/'),
            b'+' | b'/' => characters.push(*byte),
            byte if byte.is_ascii_alphanumeric() => characters.push(*byte),
            byte if byte.is_ascii_whitespace() => continue,
            _ => break,
        }
        ends.push(at + 1);
    }
    if characters.len() % 4 == 1 {
        characters.pop();
    }
    (Zeroizing::new(CUT_BASE64.decode(characters.as_slice()).unwrap_or_default()), ends)
}

#[cfg(test)]
mod tests;
