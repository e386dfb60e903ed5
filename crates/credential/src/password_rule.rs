//! What a new password must keep to, in the spirit of NIST SP 800-63B: length instead of composition, and none that an
//! attacker tries first.

use std::fmt;

use crate::passwords::Password;

/// Fewest characters of a new password.
pub const MIN_CHARACTERS: usize = 12;

/// Fewest different characters: fewer are a key held down, or two.
const MIN_DIFFERENT: usize = 5;

/// Longest piece of a password of which the whole may be repetitions.
const MAX_PERIOD: usize = 4;

/// What passwords are made of that are tried first. A password is refused when nothing is left of it but a few
/// characters once these are taken away.
const COMMON: &[&str] = &[
    "0123456789",
    "1234567890",
    "123456789",
    "12345678",
    "1234567",
    "123456",
    "12345",
    "1234",
    "9876543210",
    "987654321",
    "1q2w3e4r5t6y",
    "1q2w3e4r",
    "1qaz2wsx3edc",
    "1qaz2wsx",
    "abcdefghijkl",
    "abcdefgh",
    "abcdef",
    "abc123",
    "abcd",
    "administrator",
    "admin",
    "asdfghjkl",
    "asdfgh",
    "changeme",
    "changeit",
    "correcthorsebatterystaple",
    "default",
    "dragon",
    "football",
    "baseball",
    "gateway",
    "guest",
    "hunter2",
    "iloveyou",
    "letmein",
    "login",
    "master",
    "monkey",
    "passphrase",
    "passwort",
    "password",
    "passw0rd",
    "p@ssw0rd",
    "p@ssword",
    "pa55word",
    "princess",
    "qwertyuiop",
    "qwertzuiop",
    "qwerty",
    "qwertz",
    "azertyuiop",
    "azerty",
    "zxcvbnm",
    "root",
    "secret",
    "service",
    "shadow",
    "spring",
    "summer",
    "autumn",
    "winter",
    "sunshine",
    "superman",
    "system",
    "temporary",
    "test",
    "tollgate",
    "trustno1",
    "user",
    "welcome",
    "whatever",
];

/// Most characters that may be left of a common password.
const LEFT_OVER: usize = 5;

/// Why a password was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Too few characters.
    #[error("the new password is too short: it has fewer than {MIN_CHARACTERS} characters")]
    Short,
    /// The name of its user stands in it.
    #[error("the new password contains the name of its user")]
    Name,
    /// It is one of those that are tried first.
    #[error("the new password is one of those that attackers try first")]
    Common,
    /// The same few characters over and over.
    #[error("the new password repeats itself")]
    Repetitive,
}

/// Tells whether a user may take a new password.
///
/// # Errors
///
/// [`WeakPassword`], by variant.
pub fn check(password: &Password, user: &str) -> Result<(), WeakPassword> {
    let characters: Vec<char> = password.expose_secret().chars().collect();
    if characters.len() < MIN_CHARACTERS {
        return Err(WeakPassword::Short);
    }
    let lower = zeroize::Zeroizing::new(password.expose_secret().to_lowercase());
    // A name of one or two letters stands in many good passwords.
    if user.chars().count() >= 3 && lower.contains(&user.to_lowercase()) {
        return Err(WeakPassword::Name);
    }
    let different: std::collections::BTreeSet<char> = lower.chars().collect();
    let repeats = (1..=MAX_PERIOD).any(|period| {
        let shifted = characters.iter().skip(period);
        characters.iter().zip(shifted).all(|(one, other)| one == other)
    });
    if different.len() < MIN_DIFFERENT || repeats {
        return Err(WeakPassword::Repetitive);
    }
    let mut rest = zeroize::Zeroizing::new(lower.chars().filter(|c| !c.is_whitespace()).collect::<String>());
    let mut found = false;
    for common in COMMON {
        if rest.contains(common) {
            found = true;
            rest = zeroize::Zeroizing::new(rest.replace(common, ""));
        }
    }
    if found && rest.chars().count() <= LEFT_OVER { Err(WeakPassword::Common) } else { Ok(()) }
}

/// The rule in words, for whoever chooses a password.
pub struct PasswordRule;

impl fmt::Display for PasswordRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "take at least {MIN_CHARACTERS} characters, without your name: four or five words that do not belong together \
             are good"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_long_and_not_one_that_is_tried_first() {
        let said = |text: &str| check(&Password::parse(text).expect("a password"), "ann").err();
        for good in [
            "correct horse battery",
            "tranquil otter bicycle",
            "XkqV9zr3TmwB",
            "пароль-что-надо",
            "密码密码不是这样的好吗今天",
            "my monkey rides at noon",
        ] {
            assert_eq!(said(good), None, "{good}");
        }
        for (bad, why) in [
            ("short", WeakPassword::Short),
            ("elevenchars", WeakPassword::Short),
            ("äöüäöüäöüäö", WeakPassword::Short),
            ("I am Ann of the hill", WeakPassword::Name),
            ("password1234", WeakPassword::Common),
            ("Password2026!", WeakPassword::Common),
            ("Welcome12345!", WeakPassword::Common),
            ("qwertyuiop123", WeakPassword::Common),
            ("correct horse battery staple", WeakPassword::Common),
            ("admin admin admin", WeakPassword::Common),
            ("aaaaaaaaaaaaaaa", WeakPassword::Repetitive),
            ("abababababab", WeakPassword::Repetitive),
            ("xyzwxyzwxyzw", WeakPassword::Repetitive),
        ] {
            assert_eq!(said(bad), Some(why), "{bad}");
        }
        let al = check(&Password::parse("personal calendar").expect("a password"), "al");
        assert_eq!(al, Ok(()), "a short name stands in many words");
    }

    #[test]
    fn a_password_that_we_make_up_keeps_to_the_rule() {
        let random = crate::tests::Counter::default();
        for _ in 0..50 {
            assert_eq!(check(&Password::generate(&random).expect("random"), "admin"), Ok(()));
        }
    }
}
