//! Regular expressions of `matches`.
//!
//! Making one costs far more than matching with it, up to a tenth of a second by the library's own limits, and
//! an expression may match each of thousands of values. So patterns are small, those that stand in the pipeline are
//! checked when it is saved, and each thread keeps the ones that it used last.

use std::cell::RefCell;

use regex::{Regex, RegexBuilder};

/// Largest compiled pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 2 << 20;
/// Patterns that a thread keeps.
const KEPT: usize = 16;

thread_local! {
    /// The patterns used last, the latest at the end.
    static LATEST: RefCell<Vec<Regex>> = const { RefCell::new(Vec::new()) };
}

/// Makes a pattern.
///
/// # Errors
///
/// A sentence for the author.
pub(crate) fn parse(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_PATTERN_BYTES)
        .dfa_size_limit(MAX_PATTERN_BYTES)
        .nest_limit(50)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                "a pattern of matches is too large: repeat less, or write `[0-9A-Za-z_]` for `\\w`".to_owned()
            }
            error => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                format!("a pattern of matches is no regular expression: {reason}")
            }
        })
}

/// Tells whether a pattern is found in a text; `None` when the pattern is none.
pub(crate) fn is_match(text: &str, pattern: &str) -> Option<bool> {
    LATEST.with_borrow_mut(|latest| {
        let regex = match latest.iter().rposition(|kept| kept.as_str() == pattern) {
            Some(at) => latest.remove(at),
            None => parse(pattern).ok()?,
        };
        let found = regex.is_match(text);
        if latest.len() >= KEPT {
            latest.remove(0);
        }
        latest.push(regex);
        Some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_small_and_kept_in_bounds() {
        assert_eq!(is_match("ana@shop.example", r"^[\w.+-]+@[\w-]+\.[\w.]+$"), Some(true));
        assert!(parse(r"\w{1000}").is_err_and(|error| error.contains("too large")));
        assert!(parse("(").is_err_and(|error| error.contains("unclosed group")));
        for i in 0..=2 * KEPT {
            assert_eq!(is_match("x", &format!("^{i}$")), Some(false));
        }
        assert_eq!(LATEST.with_borrow(Vec::len), KEPT);
    }
}
