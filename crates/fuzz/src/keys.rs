//! API keys, as callers present them and as they leak.

use std::sync::LazyLock;

use tollgate_credential::keys::{IssuedKey, PresentedKey};
use tollgate_credential::leaks::{self, LeakKind, Scanner};
use tollgate_credential::user_tokens::{self, IssuedUserToken};
use tollgate_model::names::EnvironmentName;
use tollgate_testkit::SeededRandom;

pub(crate) const WORDS: &[&str] = &[
    "{key}", "{token}", "tg_", "tg_test_", "tgu_", "dGdf", "dGd1X", "RnX", "0Z1", "_", "-", "\0", "\n",
    "test",
];

/// A good key of `test`, and a good token of a user.
static GOOD: LazyLock<(String, String)> = LazyLock::new(|| {
    let random = SeededRandom::new(1);
    let key = IssuedKey::generate(&EnvironmentName::test(), &random).expect("random");
    let token = IssuedUserToken::generate(&random).expect("random");
    (key.plain.expose_secret().to_owned(), token.expose_secret().to_owned())
});

/// Puts the good ones in the place of `{key}` and `{token}`, so that no corpus holds any.
fn filled(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len() + 64);
    let mut rest = input;
    while let Some((first, more)) = rest.split_first() {
        if let Some(more) = rest.strip_prefix(b"{key}") {
            out.extend_from_slice(GOOD.0.as_bytes());
            rest = more;
        } else if let Some(more) = rest.strip_prefix(b"{token}") {
            out.extend_from_slice(GOOD.1.as_bytes());
            rest = more;
        } else {
            out.push(*first);
            rest = more;
        }
    }
    out
}

/// A key that begins like ours is taken only when its shape, environment and checksum are right; and whoever looks for
/// leaks finds exactly those.
pub(crate) fn key(input: &[u8]) {
    let text = filled(input);
    let test = EnvironmentName::test();
    let taken = PresentedKey::parse(&text, &test);
    if text.starts_with(b"tg_") {
        let mut scanner = Scanner::new();
        let mut found = scanner.push(&text);
        found.extend(scanner.finish());
        let whole = found.iter().any(|(spot, leak)| {
            let of_test = LeakKind::ApiKey { environment: test.clone() };
            spot.offset == 0 && leak.kind == of_test && text.len() == "tg_test_".len() + 38
        });
        assert_eq!(taken.is_ok(), whole, "the gateway and the scan disagree");
    } else if taken.is_ok() {
        assert!((16..=256).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic));
    }
    if let Ok(text) = std::str::from_utf8(&text) {
        assert_eq!(taken.is_ok(), IssuedKey::import(text, &test).is_ok(), "an import that no call could use");
        if let Some(digest) = user_tokens::digest(text) {
            assert!(text.starts_with("tgu_") && text.len() == 50, "{digest}");
        }
    }
    if let Ok(taken) = taken {
        assert!(format!("{taken:?}").len() < 24, "a key is shown");
    }
}

/// Looking for leaks finds the same whatever the pieces, and what it hides is hidden for good.
pub(crate) fn leaks(input: &[u8]) {
    let (size, text) = input.split_first().map_or((1, input), |(size, text)| (usize::from(*size) + 1, text));
    let text = filled(text);
    let scan = |size: usize| {
        let mut scanner = Scanner::new();
        let mut all: Vec<_> = text.chunks(size).flat_map(|piece| scanner.push(piece)).collect();
        all.extend(scanner.finish());
        all
    };
    let all = scan(text.len().max(1));
    assert_eq!(all, scan(size));
    for (spot, leak) in &all {
        assert!(spot.offset < text.len() as u64 && spot.line >= 1 && spot.column >= 1);
        assert!(leak.mask.contains('…') && leak.mask.len() <= 3 + 63 + 1 + "…".len() + 4, "{}", leak.mask);
    }
    let shown = leaks::redact(&String::from_utf8_lossy(&text));
    for good in [&GOOD.0, &GOOD.1] {
        assert!(!shown.contains(good.as_str()), "a key is shown");
    }
}
