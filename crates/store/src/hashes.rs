//! The hash chain of the journal: what an entry's hash is made of, so that a copy of the journal can be verified by
//! whoever holds it, without a store.
//!
//! Entries are written in format 2:
//!
//! ```text
//! hash    = SHA-256("tollgate-journal-2" ‖ previous hash ‖ number ‖ content)
//! content = SHA-256(realm ‖ time ‖ actor ‖ source ‖ action ‖ request id ‖ reason
//!                   ‖ outcome ‖ kind ‖ key ‖ detail ‖ SHA-256(mutations))
//! ```
//!
//! Hashes are 32 bytes, zeros before the first entry; the number is 8 bytes, big-endian; each text is its length in bytes
//! (8 bytes, big-endian) and its UTF-8, so that no two entries have the same encoding. The time is RFC 3339 in UTC, and
//! detail and mutations are JSON, all exactly as stored. Kind and key name what a refused attempt was aimed at.
//!
//! The mutations are hashed by themselves: they hold digests and sealed secrets, and an entry can be verified without
//! them. So is the content: an entry that somebody must not see can be a link in the chain that they verify.
//!
//! Entries in format 1 were written before there were outcomes: their hash is SHA-256 over `tollgate-journal-1`, the
//! previous hash, the number, and then, each with its length, realm, time, actor, source, action, request id, reason and
//! mutations.

use aws_lc_rs::digest::{Context, SHA256, digest};

/// SHA-256.
pub type Hash = [u8; 32];

/// What the hash of an entry in format 2 is made of, besides its place in the chain.
#[derive(Debug, Clone, Copy)]
pub struct HashedEntry<'a> {
    /// The realm.
    pub realm: &'a str,
    /// The time, RFC 3339 in UTC.
    pub at: &'a str,
    /// The actor.
    pub actor: &'a str,
    /// The source.
    pub source: &'a str,
    /// The action.
    pub action: &'a str,
    /// The request id.
    pub request_id: &'a str,
    /// The reason.
    pub reason: &'a str,
    /// The outcome.
    pub outcome: &'a str,
    /// Kind of what a refused attempt was aimed at; may be empty.
    pub about_kind: &'a str,
    /// Its key; may be empty.
    pub about_key: &'a str,
    /// The detail as JSON; may be empty.
    pub detail: &'a str,
    /// SHA-256 of the mutations as JSON.
    pub mutations_hash: Hash,
}

// === impl HashedEntry ===

impl HashedEntry<'_> {
    /// Returns the hash of all that the entry says.
    pub fn content(&self) -> Hash {
        let mut context = Context::new(&SHA256);
        let texts = [
            self.realm,
            self.at,
            self.actor,
            self.source,
            self.action,
            self.request_id,
            self.reason,
            self.outcome,
            self.about_kind,
            self.about_key,
            self.detail,
        ];
        texts.into_iter().for_each(|text| update(&mut context, text));
        context.update(&self.mutations_hash);
        finish(context)
    }
}

/// Returns the hash of an entry in format 2, from that of its content and its place in the chain.
pub fn link(previous: &Hash, seq: u64, content: &Hash) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(b"tollgate-journal-2");
    context.update(previous);
    context.update(&seq.to_be_bytes());
    context.update(content);
    finish(context)
}

/// Returns the hash of an entry in format 1.
pub(crate) fn link_format_1(previous: &Hash, seq: u64, texts: [&str; 8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(b"tollgate-journal-1");
    context.update(previous);
    context.update(&seq.to_be_bytes());
    texts.into_iter().for_each(|text| update(&mut context, text));
    finish(context)
}

/// Returns the SHA-256 of a text.
pub fn hash_text(text: &str) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

/// Reads 64 lower-case hexadecimal digits.
pub fn from_hex(text: &str) -> Option<Hash> {
    let mut bytes = Hash::default();
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |c: u8| char::from(c).to_digit(16).filter(|_| !c.is_ascii_uppercase());
        *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    }
    Some(bytes)
}

fn update(context: &mut Context, text: &str) {
    context.update(&(text.len() as u64).to_be_bytes());
    context.update(text.as_bytes());
}

fn finish(context: Context) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
