//! Remembers what tokens of login flows say, so that one that repeats is not decoded and parsed again.
//!
//! It is found by a mark that no other token can have, once the signature is known to be good: the fact of
//! [`crate::verified_tokens`], or of an HS256 token its signature, which only whoever has the secret can make and which covers
//! all that the token says. What is remembered is what the token says, and nothing of what that means: issuer, audience,
//! times, whose it is and what was revoked is looked at on each call.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::tokens::{self, All, Claims, OwnClaims, Scopes};

/// Longer claims are parsed each time: memory is bounded by so many bytes of JSON a place, and about as much beside.
const MAX_JSON_BYTES: usize = 1_024;

/// What no other token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) [u8; 32]);

/// What a token says of itself.
#[derive(Debug)]
pub(crate) struct ReadToken {
    mark: Option<Mark>,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) issued_at: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    pub(crate) not_before: Option<Option<i64>>,
    /// Whether it names itself and whose it is.
    pub(crate) is_named: bool,
    /// What it says to those who take it, once it has been checked.
    pub(crate) claims: Arc<Claims>,
}

/// The memory: a place for each of many marks, given up to the next that falls there.
pub(crate) struct ReadTokens(Box<[ArcSwapOption<ReadToken>]>);

// === impl ReadToken ===

impl ReadToken {
    fn parse(payload: &str, mark: Option<Mark>) -> Option<Self> {
        let json = tokens::json(payload)?;
        let own: OwnClaims<'_> = serde_json::from_str(&json).ok()?;
        let OwnClaims { issued_at, expires_at, not_before, .. } = own;
        let text = |claim: Option<std::borrow::Cow<'_, str>>| claim.map(std::borrow::Cow::into_owned);
        let (issuer, audience) = (text(own.issuer), text(own.audience));
        let (subject, jti) = (text(own.subject), text(own.jti));
        let is_named = subject.is_some() && jti.is_some();
        let scopes = Scopes::Text(text(own.scope).unwrap_or_default());
        let claims = Claims {
            subject: subject.unwrap_or_default(),
            jti: jti.unwrap_or_default(),
            issued_at: issued_at.unwrap_or_default(),
            expires_at: expires_at.unwrap_or_default(),
            scopes,
            all: All::Json(json),
        };
        let claims = Arc::new(claims);
        Some(Self { mark, issuer, audience, issued_at, expires_at, not_before, is_named, claims })
    }
}

// === impl ReadTokens ===

impl ReadTokens {
    /// Has so many places, rounded up to a power of two; 0 remembers nothing.
    pub(crate) fn new(places: usize) -> Self {
        let places = if places == 0 { 0 } else { places.next_power_of_two() };
        Self((0..places).map(|_| ArcSwapOption::empty()).collect())
    }

    /// Returns what the token of a mark says, whose signature is good; `None` when it says nothing that can be read.
    pub(crate) fn read(&self, payload: &str, mark: Option<Mark>) -> Option<Arc<ReadToken>> {
        let place = mark.and_then(|mark| self.place(&mark));
        if let Some(known) = place.and_then(|place| place.load_full()).filter(|known| known.mark == mark) {
            return Some(known);
        }
        let read = Arc::new(ReadToken::parse(payload, mark)?);
        if let Some(place) = place.filter(|_| payload.len() <= MAX_JSON_BYTES / 3 * 4) {
            place.store(Some(read.clone()));
        }
        Some(read)
    }

    fn place(&self, mark: &Mark) -> Option<&ArcSwapOption<ReadToken>> {
        let first = u64::from_be_bytes(*mark.0.first_chunk()?);
        let places = u64::try_from(self.0.len()).ok()?;
        self.0.get(usize::try_from(first.checked_rem(places)?).ok()?)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.iter().filter(|place| place.load().is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn payload(subject: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{subject}","jti":"j"}}"#))
    }

    fn subject(tokens: &ReadTokens, says: &str, mark: Option<Mark>) -> String {
        tokens.read(&payload(says), mark).expect("it can be read").claims.subject.clone()
    }

    #[test]
    fn what_a_mark_stands_for_is_read_once() {
        let tokens = ReadTokens::new(8);
        let mark = |n| Some(Mark([n; 32]));
        assert_eq!(subject(&tokens, "ana", mark(1)), "ana");
        // Another payload under the same mark cannot be: it shows that the memory answered.
        assert_eq!(subject(&tokens, "other", mark(1)), "ana");
        // The same place, and another mark.
        let mut near = [1; 32];
        near[31] = 2;
        assert_eq!(subject(&tokens, "bob", Some(Mark(near))), "bob");
        assert_eq!(subject(&tokens, "eve", mark(1)), "eve", "its place was given up");
        assert_eq!(subject(&tokens, "zoe", None), "zoe");
        assert_eq!(subject(&tokens, "kim", None), "kim", "without a mark nothing is remembered");
    }

    #[test]
    fn memory_is_bounded_by_places_and_by_length() {
        let tokens = ReadTokens::new(5);
        for n in 0..=255 {
            subject(&tokens, "ana", Some(Mark([n; 32])));
        }
        assert_eq!(tokens.len(), 8);
        let tokens = ReadTokens::new(8);
        subject(&tokens, &"a".repeat(MAX_JSON_BYTES), Some(Mark([1; 32])));
        assert_eq!(tokens.len(), 0);
        assert_eq!(subject(&ReadTokens::new(0), "ana", Some(Mark([1; 32]))), "ana");
    }

    #[test]
    fn what_cannot_be_read_is_not_remembered() {
        let tokens = ReadTokens::new(8);
        for payload in ["", "e30x", "W10", "eyJzdWIiOjEsInN1YiI6Mn0"] {
            assert!(tokens.read(payload, Some(Mark([1; 32]))).is_none(), "{payload}");
        }
        assert_eq!(tokens.len(), 0);
    }
}
