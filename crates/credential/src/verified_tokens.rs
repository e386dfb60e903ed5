//! Remembers which tokens were verified, so that one that repeats costs no second verification of its signature.
//!
//! What is remembered is one fact: "this key made this signature of these bytes". That never stops being true, so there is
//! nothing that the memory could outlive. Whether the key still counts, whose the token is, what it allows, when it ends
//! and whether it was revoked is asked anew on each call, of the snapshot of that call: see [`crate::keysets::KeySet`]. What
//! the token says is remembered apart (`read_tokens`): it never changes either.
//!
//! ```text
//! fact = HMAC-SHA256(secret of this process, fingerprint of the key ‖ the whole token)
//!
//! sets:  [ fact | fact | empty | empty ]   the fact's first bits choose the set,
//!        [ fact | empty | empty | empty ]  its next bits the place that is given up when the set is full
//! ```
//!
//! A fact is the output of a keyed function of 256 bits whose key only this process has. So nobody can make two tokens
//! with one fact, or choose where a token goes; what is kept tells nothing of tokens; and how long a comparison takes tells
//! nothing that anybody could use (it takes the same time anyway). It covers the token letter by letter, signature
//! included: another encoding of a signature is another token, which is verified by itself.
//!
//! Reading and writing take no lock. A fact is four words, written one by one without order. A reader may see words of
//! two facts; that these are together the fact of a third token is as unlikely as a forged HMAC, so nothing needs to order
//! them.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::{digest, hmac};
use tollgate_model::sources::Random;

use crate::read_tokens::{Mark, ReadTokens};

/// Places in a set: a fact is looked for in these only.
const WAYS: usize = 4;
/// For so many tokens whose signature is remembered it is remembered what one of them says.
const READ_PART: usize = 8;

/// Names a key by what it verifies with; equal for equal keys, whatever their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFingerprint(pub(crate) [u8; 32]);

/// That a key made the signature of a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fact([u64; 4]);

/// A place for a fact; empty while it is zero.
type Way = [AtomicU64; 4];

/// The memory: bounded, and given up where it is full.
pub struct VerifiedTokens {
    /// `None` when nothing is remembered.
    secret: Option<hmac::Key>,
    sets: Box<[[Way; WAYS]]>,
    /// What tokens say, apart: that takes twenty times as much.
    pub(crate) read: ReadTokens,
}

// === impl KeyFingerprint ===

impl KeyFingerprint {
    /// Takes the fingerprint of a public key, as the members of its JWK, and the algorithm that it is used with: one key
    /// under two algorithms is two keys here.
    pub(crate) fn of(algorithm: &str, members: &serde_json::Value) -> Self {
        let text = format!("{algorithm} {members}");
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }
}

// === impl VerifiedTokens ===

impl VerifiedTokens {
    /// Remembers up to `capacity` tokens, rounded up to a power of two, of 32 bytes each; nothing when it is 0 or the
    /// system gives no randomness.
    pub fn new(capacity: usize, random: &dyn Random) -> Self {
        let mut secret = [0; 32];
        if capacity == 0 || random.fill(&mut secret).is_err() {
            return Self::none();
        }
        let sets = capacity.div_ceil(WAYS).next_power_of_two();
        Self {
            secret: Some(hmac::Key::new(hmac::HMAC_SHA256, &secret)),
            sets: (0..sets).map(|_| Default::default()).collect(),
            read: ReadTokens::new(capacity.div_ceil(READ_PART)),
        }
    }

    /// Remembers nothing.
    pub fn none() -> Self {
        Self { secret: None, sets: Box::default(), read: ReadTokens::new(0) }
    }

    /// Returns the fact that a key made the signature of a token; `None` when nothing is remembered.
    pub(crate) fn fact(&self, key: &KeyFingerprint, token: &str) -> Option<Fact> {
        let mut context = hmac::Context::with_key(self.secret.as_ref()?);
        context.update(&key.0);
        context.update(token.as_bytes());
        let tag = context.sign();
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(tag.as_ref().as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        Some(Fact(words))
    }

    /// Tells whether a fact was learnt and not given up since.
    pub(crate) fn knows(&self, fact: &Fact) -> bool {
        let Some(set) = self.set(fact) else { return false };
        set.iter().fold(false, |known, way| {
            let differs =
                way.iter().zip(fact.0).fold(0, |differs, (word, fact)| differs | (load(word) ^ fact));
            known | (differs == 0)
        })
    }

    /// Learns a fact, in place of another when its set is full.
    pub(crate) fn learn(&self, fact: &Fact) {
        let Some(set) = self.set(fact) else { return };
        let is_empty = |way: &&Way| way.iter().all(|word| load(word) == 0);
        let [_, second, ..] = fact.0;
        let given_up = usize::try_from(second % WAYS as u64).unwrap_or_default();
        if let Some(way) = set.iter().find(is_empty).or_else(|| set.get(given_up)) {
            way.iter().zip(fact.0).for_each(|(word, fact)| word.store(fact, Ordering::Relaxed));
        }
    }

    fn set(&self, fact: &Fact) -> Option<&[Way; WAYS]> {
        let [first, ..] = fact.0;
        let sets = u64::try_from(self.sets.len()).ok()?;
        self.sets.get(usize::try_from(first.checked_rem(sets)?).ok()?)
    }
}

// === impl Fact ===

impl Fact {
    /// Returns what tells the token from every other, once its signature is known to be good.
    pub(crate) fn mark(&self) -> Mark {
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *bytes = word.to_be_bytes();
        }
        Mark(bytes)
    }
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

impl std::fmt::Debug for VerifiedTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifiedTokens({} places)", self.sets.len() * WAYS)
    }
}

#[cfg(test)]
impl VerifiedTokens {
    /// Counts the places that are taken.
    pub(crate) fn len(&self) -> usize {
        self.sets.iter().flatten().filter(|way| way.iter().any(|word| load(word) != 0)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Counter, Dry};

    const KEY: KeyFingerprint = KeyFingerprint([1; 32]);

    fn fact(memory: &VerifiedTokens, key: KeyFingerprint, token: &str) -> Fact {
        memory.fact(&key, token).expect("something is remembered")
    }

    #[test]
    fn a_fact_is_of_one_key_one_token_and_one_process() {
        let memory = VerifiedTokens::new(64, &Counter::default());
        memory.learn(&fact(&memory, KEY, "a.b.c"));
        assert!(memory.knows(&fact(&memory, KEY, "a.b.c")));
        for other in ["a.b.d", "a.b.", "a.b.cc", "a.b.c=", "A.b.c"] {
            assert!(!memory.knows(&fact(&memory, KEY, other)), "{other}");
        }
        assert!(!memory.knows(&fact(&memory, KeyFingerprint([2; 32]), "a.b.c")));
        let random = Counter::default();
        let _ = random.fill(&mut [0; 32]);
        let other = VerifiedTokens::new(64, &random);
        assert!(!memory.knows(&fact(&other, KEY, "a.b.c")), "the secret is the process's own");
    }

    #[test]
    fn a_flood_of_tokens_takes_no_more_memory_and_makes_nothing_known() {
        let memory = VerifiedTokens::new(100, &Counter::default());
        for n in 0..10_000 {
            memory.learn(&fact(&memory, KEY, &format!("flood.{n}")));
        }
        assert!(memory.len() <= 128);
        assert!(!memory.knows(&fact(&memory, KEY, "a.b.c")));
        let last = fact(&memory, KEY, "last");
        memory.learn(&last);
        assert!(memory.knows(&last), "a full memory learns");
    }

    #[test]
    fn without_room_or_randomness_nothing_is_remembered() {
        for memory in [
            VerifiedTokens::none(),
            VerifiedTokens::new(0, &Counter::default()),
            VerifiedTokens::new(9, &Dry),
        ] {
            assert!(memory.fact(&KEY, "a.b.c").is_none());
        }
    }

    #[test]
    fn debug_tells_nothing_of_the_secret() {
        assert_eq!(format!("{:?}", VerifiedTokens::new(5, &Counter::default())), "VerifiedTokens(8 places)");
    }
}
